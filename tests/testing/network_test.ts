import { assert, assertEquals } from "@std/assert";
import { Program, programTest } from "../helpers.ts";
import { seededRun } from "./seeded_run.ts";

Deno.test("SimulatedNetwork: the same plan and seed give the same run", async () => {
  const one = await seededRun();
  assert(one.length > 0);
  assertEquals(await seededRun(), one);
  assert(await seededRun(2) !== one, "another seed gives another run");
});

programTest(
  "SimulatedNetwork: a run is the same in another process",
  async () => {
    const args = ["run", "tests/testing/seeded_run.ts"];
    await using program = new Program(Deno.execPath(), args);
    const { stdout } = await program.ended();
    assertEquals(stdout.trim(), await seededRun());
  },
);

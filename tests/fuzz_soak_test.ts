/** A short run of `deno task fuzz` and of `deno task soak`. */
import { assertEquals, assertMatch } from "@std/assert";
import { fuzz } from "./fuzz.ts";
import { ENGINE, netTest } from "./helpers.ts";
import { soak } from "./soak.ts";

netTest("fuzz: a short run finds nothing", async () => {
  const done = await fuzz({ seed: 1, count: 500, ms: 60_000, engine: ENGINE });
  assertMatch(done, /^500 inputs for each of 14 decoders, 500 datagrams/);
});

netTest("soak: a short run finds nothing", async () => {
  const { lines, faults } = await soak(1000, ENGINE);
  assertEquals(faults, [], lines.join("\n"));
});

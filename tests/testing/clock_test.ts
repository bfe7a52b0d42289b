/** The clock of programs on a simulated network. */
import { assertEquals, assertRejects } from "@std/assert";
import { SimulatedNetwork } from "../../lib/testing/mod.ts";

Deno.test("clock: timers and intervals are called at their times, in order", async () => {
  const network = new SimulatedNetwork();
  const { now, setTimeout, setInterval, clearInterval } = network.clock;
  const calls: Array<[string, number]> = [];
  const note = (name: string) => void calls.push([name, now()]);
  setTimeout(note, 30, "once");
  const ticks = setInterval(note, 20, "tick");
  setTimeout(note, 0, "soon");
  setTimeout(note, undefined, "next");
  setTimeout(note, -5, "past");
  await network.runFor(50);
  clearInterval(ticks);
  await network.runFor(50);
  assertEquals(calls, [
    ["soon", 0],
    ["next", 0],
    ["past", 0],
    ["tick", 20],
    ["once", 30],
    ["tick", 40],
  ]);
  assertEquals(network.timers, 0);
});

Deno.test("clock: what was cleared is not called, in its own callback too", async () => {
  const network = new SimulatedNetwork();
  const { clock } = network;
  let calls = 0;
  const never = clock.setTimeout(() => calls += 100, 10).unref();
  clock.clearTimeout(never);
  clock.clearTimeout(never);
  clock.clearTimeout(undefined);
  const ticks = clock.setInterval(() => {
    if (++calls === 3) clock.clearInterval(ticks);
  }, 0);
  await network.runFor(100);
  assertEquals([calls, network.timers], [3, 0]);
});

Deno.test("clock: an error of a callback ends the run, and an interval continues", async () => {
  const network = new SimulatedNetwork();
  const { clock } = network;
  let calls = 0;
  const ticks = clock.setInterval(() => {
    if (++calls === 1) throw new Error("first");
  }, 10);
  await assertRejects(() => network.runFor(20), Error, "first");
  await network.runFor(25);
  assertEquals(calls, 3);
  clock.clearInterval(ticks);
});

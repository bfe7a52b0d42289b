import { assert, assertEquals } from "@std/assert";
import { ClockDrift, isDrift } from "../../lib/stamp/drift.ts";
import { seededRandom } from "../../lib/testing/mod.ts";

/** What replies show of a clock that gains, by delays as a test draws them. */
function follow(
  ppm: number,
  count: number,
  intervalMs: number,
  delay: (way: "there" | "back", at: number) => number,
): ClockDrift {
  const drift = new ClockDrift();
  for (let i = 0; i < count; i++) {
    const at = i * intervalMs;
    const offsetMs = 12_345 + at * ppm / 1e6;
    drift.add(at, delay("there", at) + offsetMs, delay("back", at) - offsetMs);
  }
  return drift;
}

Deno.test("ClockDrift: the bound holds, whatever the distribution of the delays", () => {
  const kinds: Array<(random: number) => number> = [
    () => 1,
    (random) => 1 + random,
    (random) => 0.5 - 0.2 * Math.log(1 - random),
    (random) => 0.5 - 5 * Math.log(1 - random),
    // With a tail that is far longer than the rest.
    (random) => 0.3 + 0.2 * ((1 - random) ** -0.7 - 1),
  ];
  for (const [kind, delay] of kinds.entries()) {
    for (const seed of [1, 2, 3]) {
      for (const ppm of [-80, -3, 0, 0.5, 100]) {
        const random = seededRandom(seed);
        const drift = follow(ppm, 3000, 20, () => delay(random()));
        const { estimate, error } = drift.bound()!;
        const told = `kind ${kind}, ${ppm} ppm: ${estimate} +- ${error}`;
        // Where each way takes 5 ms more or less the bound may be a little off.
        const factor = kind === 3 ? 2 : 1;
        assert(Math.abs(estimate - ppm) <= factor * error, told);
        assert(error < 5, told);
        if (ppm === 0) assertEquals(isDrift({ estimate, error }), false);
        // What is taken out misses what went by before anything was known.
        const gained = drift.gainedMs(60_000) / 60_000 * 1e6;
        assert(Math.abs(gained - ppm) < (kind === 3 ? 25 : 10), told);
      }
    }
  }
});

Deno.test("ClockDrift: a path that changes in one direction is no drift", () => {
  const random = seededRandom(4);
  const drift = follow(0, 2000, 10, (way, at) => {
    const changed = way === "there" && at > 10_000 ? 5 : 0;
    return 1 + changed - 0.1 * Math.log(1 - random());
  });
  const { estimate, error } = drift.bound()!;
  assert(Math.abs(estimate) <= error, `${estimate} +- ${error}`);
});

Deno.test("ClockDrift: two replies are needed, and ten at 1 s bound the drift", () => {
  const drift = new ClockDrift();
  assertEquals(drift.bound(), undefined);
  drift.add(0, 1, 1);
  assertEquals([drift.bound(), drift.gainedMs(99)], [undefined, 0]);
  const few = follow(100, 10, 1000, () => 1).bound()!;
  assert(isDrift(few) && Math.abs(few.estimate - 100) <= few.error);
  assert(few.error < 3, `${few.error}`);
});

Deno.test("isDrift(): a drift is more than twice its error", () => {
  assertEquals(isDrift({ estimate: 5, error: 2 }), true);
  assertEquals(isDrift({ estimate: -5, error: 2 }), true);
  assertEquals(isDrift({ estimate: 4, error: 2 }), false);
  assertEquals(isDrift(undefined), false);
});

Deno.test("ClockDrift: replies to requests of one time do not bound the drift", () => {
  const drift = new ClockDrift();
  for (let i = 0; i < 300; i++) drift.add(7, 1 + i % 3, 1);
  assertEquals(drift.bound(), { estimate: 0, error: 1000 });
  drift.add(1007, 1.5, 1.5);
  const { estimate, error } = drift.bound()!;
  assert(Math.abs(estimate) <= error && error < 1000, `${estimate} ${error}`);
});

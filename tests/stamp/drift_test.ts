import { assert, assertEquals } from "@std/assert";
import { ClockDrift, isDrift } from "../../lib/stamp/drift.ts";
import { seededRandom } from "../../lib/testing/mod.ts";

/** The delay of a datagram that is sent at this share of the run. */
type Delay = (share: number) => number;
/** Delays of both directions. */
type Path = (random: () => number) => [there: Delay, back: Delay];

/** The drift of a clock that gains, from delays as a test draws them. */
function follow(
  ppm: number,
  count: number,
  intervalMs: number,
  [there, back]: [Delay, Delay],
): ClockDrift {
  const drift = new ClockDrift();
  for (let i = 0; i < count; i++) {
    const at = i * intervalMs;
    const offsetMs = 12_345 + at * ppm / 1e6;
    const share = i / count;
    drift.add(at, there(share) + offsetMs, back(share) - offsetMs);
  }
  return drift;
}

const exponential = (random: () => number, mean: number) =>
  -mean * Math.log(1 - random());

/** The same kind of delay in both directions. */
const alike = (make: (random: () => number) => Delay): Path => (random) => [
  make(random),
  make(random),
];

/** A queue whose length is a random walk, of this size at the end of a run. */
const walk = (sizeMs: number) =>
  alike((random) => {
    let [length, last] = [exponential(random, sizeMs / 10), 0];
    return (share) => {
      // The sum of 12 random numbers is nearly normal.
      let normal = -6;
      for (let i = 0; i < 12; i++) normal += random();
      length = Math.abs(length + normal * sizeMs * Math.sqrt(share - last));
      last = share;
      return 0.3 + length + exponential(random, 0.02);
    };
  });

/** Delays without any drift of a clock. */
const PATHS: Record<string, Path> = {
  constant: () => [() => 1, () => 1],
  uniform: alike((random) => () => 1 + random()),
  queues: alike((random) => () => 0.5 + exponential(random, 0.2)),
  "long queues": alike((random) => () => 0.5 + exponential(random, 5)),
  scheduler: alike((random) => () =>
    0.05 + exponential(random, 0.02) + (random() < 0.3 ? 4 : 0)
  ),
  gamma: alike((random) => () => {
    let sum = 2;
    for (let i = 0; i < 8; i++) sum += exponential(random, 1);
    return sum;
  }),
  "heavy tail": alike((random) => () =>
    0.3 + 0.2 * ((1 - random()) ** -0.7 - 1)
  ),
  walk: walk(3),
  "long walk": walk(30),
  "load rises": (random) => [
    (share) => 0.5 + 5 * share + exponential(random, 0.2),
    () => 0.5 + exponential(random, 0.2),
  ],
  "load falls": (random) => [
    () => 0.5 + exponential(random, 0.2),
    (share) => 0.5 + exponential(random, 5.2 - 5 * share),
  ],
  "longer route": (random) => [
    (share) => 1 + (share > 0.5 ? 5 : 0) + exponential(random, 0.1),
    () => 1 + exponential(random, 0.1),
  ],
  "shorter route": (random) => [
    (share) => 6 - (share > 0.5 ? 5 : 0) + exponential(random, 0.1),
    () => 1 + exponential(random, 0.1),
  ],
};

Deno.test("ClockDrift: noise is no drift, whatever its distribution", () => {
  for (const [name, path] of Object.entries(PATHS)) {
    for (const [count, intervalMs] of [[250, 250], [620, 100]] as const) {
      for (let seed = 1; seed <= 100; seed++) {
        const bound = follow(0, count, intervalMs, path(seededRandom(seed)))
          .bound();
        assert(bound !== undefined, `${name} carries a bound`);
        const { estimate, error } = bound;
        const found = `${name}, seed ${seed}: ${estimate} +- ${error}`;
        assertEquals(isDrift(bound), false, found);
        assert(Math.abs(estimate) <= 1.5 * error, found);
      }
    }
  }
});

Deno.test("ClockDrift: drifts of 5, 20 and 100 ppm are found in ten minutes", () => {
  const names = ["constant", "uniform", "queues", "long queues"];
  names.push("scheduler", "heavy tail", "load falls", "shorter route");
  for (const name of names) {
    for (const ppm of [5, -20, 100]) {
      const path = PATHS[name]!(seededRandom(ppm + 200));
      const drift = follow(ppm, 6000, 100, path);
      const bound = drift.bound();
      const found = `${name}, ${ppm} ppm: ${bound?.estimate} +- `;
      assert(isDrift(bound), found);
      assert(Math.abs(bound.estimate - ppm) <= bound.error, found);
      assert(bound.error < 0.2 * Math.abs(ppm), found + bound.error);
      // The line that delays are corrected by has the same slope.
      const line = drift.line(600_000);
      const slope = line(1e6) - line(0);
      assert(Math.abs(slope - ppm) <= 1.2 * bound.error, `${slope}, ${found}`);
    }
  }
});

Deno.test("ClockDrift: a drift needs 200 replies and a minute, or 100,000 replies", () => {
  const bound = (count: number, intervalMs: number) =>
    follow(100, count, intervalMs, PATHS.constant!(Math.random)).bound();
  assertEquals(new ClockDrift().bound(), undefined);
  assertEquals([bound(199, 1000), bound(300, 190)], [undefined, undefined]);
  for (const [count, intervalMs] of [[210, 300], [110_000, 0.1]] as const) {
    const few = bound(count, intervalMs);
    assert(isDrift(few) && Math.abs(few.estimate - 100) <= few.error);
  }
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
  assertEquals([drift.bound(), drift.gainedMs(99)], [undefined, 0]);
});

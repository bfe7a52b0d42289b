import { assert, assertEquals } from "@std/assert";
import { aboveMinimum, summarize } from "../../lib/stats/statistics.ts";
import { OneWayVariation } from "../../lib/stamp/one_way_variation.ts";
import { seededRandom } from "../../lib/testing/mod.ts";

/** The PDV that is found, and that of the delays themselves. */
function pdvs(ppm: number, count: number, intervalMs: number) {
  const random = seededRandom(3);
  const variation = new OneWayVariation();
  const [there, back]: number[][] = [[], []];
  const offsetMs = 5e9;
  for (let i = 0; i < count; i++) {
    const at = 777 + i * intervalMs;
    const delays = [0, 1].map(() => 0.5 - 0.1 * Math.log(1 - random()));
    there!.push(delays[0]!);
    back!.push(delays[1]!);
    const aheadMs = offsetMs + at * ppm / 1e6;
    variation.add(at, delays[0]! + aheadMs, delays[1]! - aheadMs);
  }
  const truth = [there!, back!].map((all) => aboveMinimum(summarize(all)!));
  return { variation, truth };
}

Deno.test("OneWayVariation: PDV is without the drift, in short runs and in long ones", () => {
  for (const ppm of [0, 100, -30]) {
    for (const [count, intervalMs] of [[7000, 10], [130_000, 1]] as const) {
      const { variation, truth } = pdvs(ppm, count, intervalMs);
      const found = [variation.forwardPdvMs!, variation.backwardPdvMs!];
      for (const [i, { median, p99, min }] of found.entries()) {
        const figures = `${ppm} ppm, ${count}: ${median} and ${p99}`;
        const { median: is, p99: worst } = truth[i]!;
        assertEquals(min, 0);
        // What a bound on the drift leaves over such a run.
        assert(Math.abs(median - is) < 0.005, `${figures} of ${is}`);
        assert(Math.abs(p99 - worst) < 0.005, `${figures} of ${worst}`);
      }
      const { estimate, error } = variation.drift!;
      assert(Math.abs(estimate - ppm) <= error, `${ppm}: ${estimate} ${error}`);
    }
  }
});

Deno.test("OneWayVariation: no figures without a reply, and those of one are 0", () => {
  const variation = new OneWayVariation();
  assertEquals([variation.forwardPdvMs, variation.drift], [
    undefined,
    undefined,
  ]);
  variation.add(5, 7, 8);
  assertEquals([variation.forwardPdvMs?.max, variation.backwardPdvMs?.max], [
    0,
    0,
  ]);
});

Deno.test("OneWayVariation: figures can be read at any time", () => {
  const variation = new OneWayVariation();
  const random = seededRandom(9);
  for (let i = 0; i < 101_000; i++) {
    variation.add(i, 1 + random(), 1 + random());
    if (i === 100_050) {
      assert(Math.abs(variation.forwardPdvMs!.median - 0.5) < 0.01);
    }
  }
  assert(Math.abs(variation.backwardPdvMs!.median - 0.5) < 0.01);
  assert(Math.abs(variation.forwardPdvMs!.max - 1) < 0.01);
});

Deno.test("OneWayVariation: steps of the clock are in no PDV, in short runs and in long ones", () => {
  // Kept replies, replies in a histogram, and both, before and after steps.
  for (const [count, stepAt] of [[900, 300], [5000, 700], [230_000, 120_000]]) {
    const random = seededRandom(count!);
    const variation = new OneWayVariation();
    const delays: number[] = [];
    for (let i = 0; i < count!; i++) {
      const [there, back] = [0, 1].map(() => 2 - 0.5 * Math.log(1 - random()));
      const aheadMs = i < stepAt! ? 100 : i < 1.5 * stepAt! ? -7e6 : 40;
      delays.push(there!);
      variation.add(i, there! + aheadMs, back! - aheadMs);
      // Figures that are read in between change nothing.
      if (i === stepAt! + 10) assert(variation.forwardPdvMs!.max > 0);
    }
    assertEquals(variation.clockSteps, 2, `${count}`);
    const truth = aboveMinimum(summarize(delays))!;
    const found = variation.forwardPdvMs!;
    for (const name of ["mean", "median", "p99", "max", "stddev"] as const) {
      const [is, was] = [found[name], truth[name]];
      // The least delays of each part differ a little.
      assert(
        Math.abs(is - was) < 0.01 + was / 200,
        `${count}: ${name} ${is} ${was}`,
      );
    }
  }
});

import { assert, assertEquals } from "@std/assert";
import { Histogram } from "../lib/histogram.ts";
import { summarize } from "../lib/statistics.ts";
import { seededRandom } from "../lib/testing.ts";

Deno.test("a histogram agrees with the exact figures to a thousandth, over nine decades", () => {
  const random = seededRandom(7);
  for (const size of [1, 2, 3, 10, 999, 20_000]) {
    const histogram = new Histogram();
    const values = Array.from({ length: size }, () => 10 ** (9 * random() - 5));
    for (const value of values) histogram.add(value);
    const { p999, ...found } = histogram.summary()!;
    const exact = summarize(values)!;
    for (
      const name of ["p90", "p99", "mean", "stddev", "min", "max"] as const
    ) {
      const error = Math.abs(found[name] - exact[name]);
      assert(error <= exact[name] / 1000 + 1e-6, `${size} ${name}`);
    }
    const sorted = values.sort((a, b) => a - b);
    const nearest = sorted[Math.ceil(0.999 * size) - 1]!;
    assert(Math.abs(p999 - nearest) <= nearest / 1000 + 1e-6, `${size} p999`);
    const middle = sorted[Math.ceil(size / 2) - 1]!;
    assert(Math.abs(found.median - middle) <= middle / 1000 + 1e-6);
  }
});

Deno.test("a histogram takes 0, what is below, and what is too much", () => {
  const histogram = new Histogram();
  assertEquals(histogram.summary(), undefined);
  for (const value of [-1, 0, NaN]) histogram.add(value);
  assertEquals(histogram.summary()!.max, 0);
  histogram.add(1e12);
  const { median, max } = histogram.summary()!;
  assertEquals([histogram.count, median, max], [4, 0, 1e12]);
  histogram.clear();
  assertEquals([histogram.count, histogram.summary()], [0, undefined]);
  histogram.add(5);
  const { min, mean, stddev } = histogram.summary()!;
  assertEquals([min, mean, stddev], [5, 5, 0]);
});

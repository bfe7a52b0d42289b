import { assert, assertEquals } from "@std/assert";
import { Distribution } from "../../lib/stats/distribution.ts";
import { summarize } from "../../lib/stats/statistics.ts";
import { seededRandom } from "../../lib/testing/mod.ts";

function collect(values: Iterable<number>): Distribution {
  const distribution = new Distribution();
  for (const value of values) distribution.add(value);
  return distribution;
}

Deno.test("Distribution is exact for the first values", () => {
  const values = [0.5, -1, 3, 2, -0.25];
  const distribution = collect(values);
  assertEquals(distribution.summary(), summarize(values));
  assertEquals(distribution.tail(), { ...summarize(values)!, p999: 3 });
  assertEquals([distribution.isExact, distribution.count], [true, 5]);
  assertEquals(distribution.max, 3);
});

Deno.test("Distribution of nothing has no figures", () => {
  const distribution = new Distribution();
  assertEquals(distribution.summary(), undefined);
  assertEquals(distribution.max, undefined);
  assertEquals(distribution.bins(5), []);
});

Deno.test("Distribution of very many stays within 0.2 % of the truth", () => {
  const random = seededRandom(3);
  // Positive, as delays are, and of either sign, as their differences are.
  for (const shift of [0.01, -2]) {
    const values = Array.from(
      { length: 250_000 },
      () => shift + 4 * random() ** 3,
    );
    const distribution = collect(values);
    const truth = summarize(values)!;
    const found = distribution.summary()!;
    assertEquals([distribution.isExact, distribution.count], [false, 250_000]);
    assertEquals([found.min, found.max], [truth.min, truth.max]);
    for (const key of ["mean", "stddev"] as const) {
      assert(Math.abs(found[key] - truth[key]) < 1e-9, key);
    }
    for (const key of ["median", "p90", "p99"] as const) {
      const error = Math.abs(found[key] - truth[key]);
      assert(error <= 0.002 * Math.abs(truth[key]) + 1e-5, `${key}: ${error}`);
    }
  }
});

Deno.test("bins() count every value once, exact or not", () => {
  const few = collect([0, 1, 2, 3, 4, 5, 6, 7, 8, 10]).bins(5);
  assertEquals(few.map(({ count }) => count), [2, 2, 2, 2, 2]);
  assertEquals([few[0]!.from, few[4]!.to], [0, 10]);
  const many = collect(Array.from({ length: 200_000 }, (_, i) => i / 1000));
  const counts = many.bins(4).map(({ count }) => count);
  assertEquals(counts.reduce((a, b) => a + b), 200_000);
  for (const count of counts) {
    assert(Math.abs(count - 50_000) < 200, `${counts}`);
  }
});

Deno.test("bins() of equal values have them all", () => {
  const counts = collect([1, 1, 1]).bins(3).map(({ count }) => count);
  assertEquals(counts.reduce((a, b) => a + b), 3);
});

Deno.test("Distribution that keeps nothing is right to a thousandth from the first value on", () => {
  const random = seededRandom(11);
  for (const size of [1, 2, 3, 10, 999, 20_000]) {
    const values = Array.from({ length: size }, () => 10 ** (9 * random() - 5));
    const distribution = new Distribution(0);
    assertEquals(distribution.tail(), undefined);
    for (const value of values) distribution.add(value);
    assertEquals(distribution.isExact, false);
    const { p999, ...found } = distribution.tail()!;
    const exact = summarize(values)!;
    assertEquals([found.min, found.max], [exact.min, exact.max]);
    for (const name of ["p90", "p99", "mean", "stddev"] as const) {
      const error = Math.abs(found[name] - exact[name]);
      assert(error <= exact[name] / 1000 + 1e-6, `${size} ${name}`);
    }
    const sorted = values.sort((a, b) => a - b);
    for (const [share, value] of [[0.999, p999], [0.5, found.median]]) {
      const nearest = sorted[Math.ceil(share! * size) - 1]!;
      assert(Math.abs(value! - nearest) <= nearest / 1000 + 1e-6, `${share}`);
    }
  }
});

Deno.test("a relative Distribution is right to a thousandth of what is above the least", () => {
  const random = seededRandom(5);
  // A clock that is a year ahead, and delays of less than a millisecond.
  const offset = 365 * 86_400_000;
  const values = Array.from({ length: 150_000 }, () => offset + random() ** 4);
  const distribution = new Distribution(undefined, true);
  for (const value of values) distribution.add(value);
  const [truth, found] = [summarize(values)!, distribution.summary()!];
  assertEquals(distribution.isExact, false);
  for (const key of ["median", "p90", "p99"] as const) {
    const [above, expected] = [found[key] - found.min, truth[key] - truth.min];
    assert(
      Math.abs(above - expected) <= 0.001 * expected + 1e-5,
      `${key}: ${above} instead of ${expected}`,
    );
  }
});

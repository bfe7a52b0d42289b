import { assert, assertEquals } from "@std/assert";
import { Distribution } from "../../lib/stats/distribution.ts";
import { summarize } from "../../lib/stats/statistics.ts";
import { seededRandom } from "../../lib/testing/mod.ts";

function collect(values: Iterable<number>): Distribution {
  const distribution = new Distribution();
  for (const value of values) distribution.add(value);
  return distribution;
}

/** The nearest rank, by sorting all values. */
function nearest(values: number[], share: number): number {
  const sorted = values.toSorted((a, b) => a - b);
  return sorted[Math.ceil(share * values.length) - 1]!;
}

Deno.test("Distribution: every figure of up to 1,000 values is exact", () => {
  const random = seededRandom(1);
  for (const size of [1, 2, 5, 999, 1000]) {
    const values = Array.from({ length: size }, () => 9 * random() ** 4 - 1);
    const distribution = collect(values);
    const truth = summarize(values)!;
    assertEquals(distribution.summary(), truth);
    const p999 = nearest(values, 0.999);
    assertEquals(distribution.tail(), { ...truth, p999 });
    assertEquals([distribution.isExact, distribution.count], [true, size]);
    assertEquals(distribution.max, truth.max);
  }
});

Deno.test("Distribution.add(): a value with a number of times counts as often", () => {
  const random = seededRandom(2);
  for (const most of [3, 500]) {
    const [once, often] = [new Distribution(), new Distribution()];
    for (let i = 0; i < 100; i++) {
      const [value, times] = [random(), 1 + Math.floor(most * random())];
      often.add(value, times);
      for (let j = 0; j < times; j++) once.add(value);
    }
    assertEquals([often.count, often.isExact], [once.count, most === 3]);
    const [found, truth] = [often.tail()!, once.tail()!];
    for (const [key, value] of Object.entries(truth)) {
      const difference = Math.abs(found[key as keyof typeof found] - value);
      assert(difference < 1e-9, `${key}: ${difference}`);
    }
  }
});

Deno.test("Distribution: without values there are no figures", () => {
  const distribution = new Distribution();
  assertEquals(distribution.summary(), undefined);
  assertEquals(distribution.max, undefined);
  assertEquals(distribution.bins(5), []);
});

Deno.test("Distribution: figures of 250,000 values of either sign are within 0.2 %", () => {
  const random = seededRandom(3);
  // Positive values, like delays, and values of both signs, like their
  // differences.
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

Deno.test("Distribution.bins(): every value is counted once, exact or not", () => {
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

Deno.test("Distribution.bins(): equal values are all counted", () => {
  const counts = collect([1, 1, 1]).bins(3).map(({ count }) => count);
  assertEquals(counts.reduce((a, b) => a + b), 3);
});

Deno.test("Distribution: quantiles of more than 1,000 values are right to 0.1 %", () => {
  const random = seededRandom(11);
  for (const size of [1001, 1002, 20_000]) {
    const values = Array.from({ length: size }, () => 10 ** (9 * random() - 5));
    const distribution = collect(values);
    assertEquals(distribution.isExact, false);
    const found = distribution.tail()!;
    const exact = summarize(values)!;
    assertEquals([found.min, found.max], [exact.min, exact.max]);
    for (const name of ["mean", "stddev"] as const) {
      assert(Math.abs(found[name] / exact[name] - 1) < 1e-9, `${size} ${name}`);
    }
    for (
      const [name, share] of [
        ["median", 0.5],
        ["p90", 0.9],
        ["p99", 0.99],
        ["p999", 0.999],
      ] as const
    ) {
      const truth = nearest(values, share);
      const error = Math.abs(found[name] - truth);
      assert(error <= truth / 1000 + 1e-6, `${size} ${name}: ${error}`);
    }
  }
});

Deno.test("Distribution: relative quantiles are right to 0.1 % of the distance from the minimum", () => {
  const random = seededRandom(5);
  // A clock that is a year ahead, and delays of less than a millisecond.
  const offset = 365 * 86_400_000;
  const values = Array.from({ length: 150_000 }, () => offset + random() ** 4);
  const distribution = new Distribution({ isRelative: true });
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

Deno.test("Distribution.addAll(): figures are those of all values, shifted", () => {
  const random = seededRandom(5);
  for (
    const [first, second] of [[300, 400], [800, 900], [5000, 10], [9, 9000]]
  ) {
    const all = new Distribution({ isRelative: true });
    const values: number[] = [];
    for (const [part, count] of [first, second].entries()) {
      const some = new Distribution({ isRelative: true });
      for (let i = 0; i < count!; i++) {
        const value = 50 * part + 7 * random();
        some.add(value);
        values.push(value - 3);
      }
      all.addAll(some, -3);
    }
    const { min, mean, median, p90, max, stddev } = all.summary()!;
    const truth = summarize(values)!;
    assertEquals([min, max], [truth.min, truth.max]);
    assertEquals(all.count, first! + second!);
    for (
      const [is, was] of [[mean, truth.mean], [median, truth.median], [
        p90,
        truth.p90,
      ], [stddev, truth.stddev]]
    ) {
      assert(Math.abs(is! - was!) < 0.1, `${is} instead of ${was}`);
    }
    if (values.length <= 1000) assertEquals(all.summary(), truth);
  }
});

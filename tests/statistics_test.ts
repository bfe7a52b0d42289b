import { assertEquals } from "@std/assert";
import {
  aboveMinimum,
  Jitter,
  Reordering,
  summarize,
} from "../lib/statistics.ts";

Deno.test("summarize() gives exact figures, whatever the order", () => {
  assertEquals(summarize([4, 2, 4, 4, 5, 5, 7, 9]), {
    min: 2,
    mean: 5,
    median: 4.5,
    p90: 9,
    p99: 9,
    max: 9,
    stddev: 2,
  });
  assertEquals(summarize([3, 1, 2])?.median, 2);
});

Deno.test("summarize() of one value is that value", () => {
  assertEquals(summarize([0.5]), {
    min: 0.5,
    mean: 0.5,
    median: 0.5,
    p90: 0.5,
    p99: 0.5,
    max: 0.5,
    stddev: 0,
  });
});

Deno.test("summarize() takes the nearest rank for p99", () => {
  const sample = Array.from({ length: 200 }, (_, i) => i + 1);
  assertEquals(summarize(sample)?.p99, 198);
});

Deno.test("summarize() of nothing is undefined, not 0 and not NaN", () => {
  assertEquals(summarize([]), undefined);
});

Deno.test("a packet is reordered if a later one came before it (RFC 4737)", () => {
  const reordering = new Reordering();
  // The example of the RFC's section 3.3: 4 and 5 after 6.
  const reordered = [0, 1, 2, 3, 6, 4, 5, 7, 7, 10, 9, 11]
    .filter((sequence) => reordering.isReordered(sequence));
  assertEquals(reordered, [4, 5, 7, 9]);
});

Deno.test("jitter moves by a sixteenth of each difference in transit (RFC 3550)", () => {
  const jitter = new Jitter();
  jitter.add(100);
  assertEquals(jitter.value, undefined);
  jitter.add(116);
  assertEquals(jitter.value, 1);
  jitter.add(99);
  assertEquals(jitter.value, 1 + (17 - 1) / 16);
  jitter.add(99);
  assertEquals(jitter.value, 2 - 2 / 16);
});

Deno.test("what is above the minimum is so in every figure but the deviation", () => {
  const summary = {
    min: 2,
    mean: 5,
    median: 4,
    p90: 9,
    p99: 10,
    max: 11,
    stddev: 3,
  };
  assertEquals(aboveMinimum(summary), {
    ...{ min: 0, mean: 3, median: 2, p90: 7, p99: 8, max: 9, stddev: 3 },
  });
});

import { assertEquals } from "@std/assert";
import { summarize } from "../lib/statistics.ts";

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

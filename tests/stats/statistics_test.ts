import { assertEquals } from "@std/assert";
import {
  aboveMinimum,
  Jitter,
  Reordering,
  summarize,
} from "../../lib/stats/statistics.ts";

Deno.test("summarize(): gives exact figures, whatever the order", () => {
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

Deno.test("summarize(): of one value is that value", () => {
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

Deno.test("summarize(): takes the nearest rank for p99", () => {
  const sample = Array.from({ length: 200 }, (_, i) => i + 1);
  assertEquals(summarize(sample)?.p99, 198);
});

Deno.test("summarize(): of nothing is undefined, not 0 and not NaN", () => {
  assertEquals(summarize([]), undefined);
});

Deno.test("Reordering: as in RFC 4737, section 3.3", () => {
  const reordered = (arrivals: number[]) => {
    const reordering = new Reordering(16);
    return arrivals.filter((seq) => reordering.isReordered(seq));
  };
  // Compared with the next expected number, not with the previous one.
  assertEquals(reordered([1, 4, 2, 3]), [2, 3]);
  // The examples of appendix B: 10 is early, so 5 to 9 are reordered.
  assertEquals(reordered([1, 2, 3, 10, 4, 5, 6, 7, 8, 9, 11]), [
    4,
    5,
    6,
    7,
    8,
    9,
  ]);
  assertEquals(reordered([1, 2, 3, 5, 6, 7, 8, 4, 9]), [4]);
  assertEquals(reordered([0, 1, 3, 4]), []);
});

Deno.test("Reordering: the extent is as in RFC 4737, section 4.2, with bounded memory", () => {
  const extent = (arrivals: number[]) => {
    const reordering = new Reordering(8);
    for (const seq of arrivals) reordering.isReordered(seq);
    return reordering.extent;
  };
  assertEquals(extent([0, 1, 2]), undefined);
  // The examples of appendix B: extents of 1 to 6, and of 4.
  assertEquals(extent([1, 2, 3, 10, 4, 5, 6, 7, 8, 9, 11]), {
    max: 6,
    mean: 3.5,
  });
  assertEquals(extent([1, 2, 3, 5, 6, 7, 8, 4, 9]), { max: 4, mean: 4 });
  // 20 and 21 are lost.
  const start = Array.from({ length: 19 }, (_, i) => i);
  assertEquals(extent([...start, 22, 23, 19, 24]), { max: 2, mean: 2 });
});

Deno.test("Jitter: as in RFC 3550, appendix A.8", () => {
  const jitter = new Jitter();
  assertEquals(jitter.value, undefined);
  jitter.add(10);
  assertEquals(jitter.value, undefined);
  jitter.add(26);
  assertEquals(jitter.value, 1);
  jitter.add(26);
  assertEquals(jitter.value, 1 - 1 / 16);
});

Deno.test("aboveMinimum(): the minimum is subtracted from every figure but the deviation", () => {
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

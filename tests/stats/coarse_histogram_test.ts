import { assert, assertEquals } from "@std/assert";
import {
  CoarseHistogram,
  coarseValues,
} from "../../lib/stats/coarse_histogram.ts";

Deno.test("CoarseHistogram: a value is right to 1.1 %", () => {
  for (const value of [0, 0.001, 0.0123, 1, 55.5, 1234, 86_400_000]) {
    const histogram = new CoarseHistogram();
    histogram.add(value);
    const [[found, count], ...rest] = coarseValues(histogram.take()) as [
      [number, number],
    ];
    assert(Math.abs(found - value) <= 0.011 * value, `${found}`);
    assertEquals([count, rest.length], [1, 0]);
  }
});

Deno.test("CoarseHistogram: texts are merged, and a taken one begins anew", () => {
  const histogram = new CoarseHistogram();
  assertEquals(coarseValues(histogram.take()), []);
  for (const value of [1, 1, 5]) histogram.add(value);
  const text = histogram.take();
  assertEquals(histogram.take(), "");
  histogram.merge(text);
  histogram.merge(`${text} ${text}`);
  const counts = coarseValues(histogram.take()).map(([, count]) => count);
  assertEquals(counts, [6, 3]);
});

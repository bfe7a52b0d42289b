import { assert, assertEquals } from "@std/assert";
import { Histogram } from "../../lib/stats/histogram.ts";
import { seededRandom } from "../../lib/testing/mod.ts";

Deno.test("Histogram: values are found by rank, to a thousandth, over nine decades", () => {
  const random = seededRandom(7);
  for (const size of [1, 2, 3, 10, 999, 20_000]) {
    const histogram = new Histogram();
    const values = Array.from({ length: size }, () => 10 ** (9 * random() - 5));
    for (const value of values) histogram.add(value);
    values.sort((a, b) => a - b);
    for (let rank = 1; rank <= size; rank += Math.ceil(size / 100)) {
      const error = Math.abs(histogram.atRank(rank) - values[rank - 1]!);
      assert(error <= values[rank - 1]! / 1000 + 1e-6, `${size}: ${rank}`);
    }
    assertEquals(histogram.count, size);
  }
});

Deno.test("Histogram: 0 counts, and a larger value counts as the largest", () => {
  const histogram = new Histogram();
  for (const value of [0, 0, 1e12]) histogram.add(value);
  assertEquals([histogram.atRank(1), histogram.atRank(2)], [0, 0]);
  const days = histogram.atRank(3) / 86_400_000;
  assert(days > 52 && days < 53, `${days}`);
});

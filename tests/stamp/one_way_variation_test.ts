import { assert, assertEquals } from "@std/assert";
import { aboveMinimum, summarize } from "../../lib/stats/statistics.ts";
import { Ways } from "../../lib/stamp/one_way_variation.ts";
import { seededRandom } from "../../lib/testing/mod.ts";

/** The PDV that is found, and that of the delays themselves. */
function pdvs(ppm: number, count: number, intervalMs: number) {
  const random = seededRandom(3);
  const ways = new Ways();
  const [there, back]: number[][] = [[], []];
  const offsetMs = 5e9;
  for (let i = 0; i < count; i++) {
    const at = 777 + i * intervalMs;
    const delays = [0, 1].map(() => 0.5 - 0.1 * Math.log(1 - random()));
    there!.push(delays[0]!);
    back!.push(delays[1]!);
    const aheadMs = offsetMs + at * ppm / 1e6;
    ways.add(at, delays[0]! + aheadMs, delays[1]! - aheadMs);
  }
  const truth = [there!, back!].map((all) => aboveMinimum(summarize(all)!));
  return { ways, truth };
}

Deno.test("PDV of either way has no drift in it, in short runs and in long ones", () => {
  for (const ppm of [0, 100, -30]) {
    for (const [count, intervalMs] of [[2000, 10], [130_000, 1]] as const) {
      const { ways, truth } = pdvs(ppm, count, intervalMs);
      const found = [ways.forwardPdvMs!, ways.backwardPdvMs!];
      for (const [i, { median, p99, min }] of found.entries()) {
        const told = `${ppm} ppm, ${count}: ${median} and ${p99}`;
        const { median: is, p99: worst } = truth[i]!;
        assertEquals(min, 0);
        // What a bound on the drift leaves over such a run.
        assert(Math.abs(median - is) < 0.005, `${told} of ${is}`);
        assert(Math.abs(p99 - worst) < 0.005, `${told} of ${worst}`);
      }
      const { estimate, error } = ways.drift!;
      assert(Math.abs(estimate - ppm) <= error, `${ppm}: ${estimate} ${error}`);
    }
  }
});

Deno.test("Ways of nothing have no figures, and of one all are 0", () => {
  const ways = new Ways();
  assertEquals([ways.forwardPdvMs, ways.drift], [undefined, undefined]);
  ways.add(5, 7, 8);
  assertEquals([ways.forwardPdvMs?.max, ways.backwardPdvMs?.max], [0, 0]);
});

Deno.test("figures may be asked for at any time", () => {
  const ways = new Ways();
  const random = seededRandom(9);
  for (let i = 0; i < 101_000; i++) {
    ways.add(i, 1 + random(), 1 + random());
    if (i === 100_050) assert(Math.abs(ways.forwardPdvMs!.median - 0.5) < 0.01);
  }
  assert(Math.abs(ways.backwardPdvMs!.median - 0.5) < 0.01);
  assert(Math.abs(ways.forwardPdvMs!.max - 1) < 0.01);
});

import { assertEquals, assertThrows } from "@std/assert";
import { MAX_RTT, missedBounds } from "../../lib/cli/thresholds.ts";
import { FIGURES } from "../../lib/cli/show/columns.ts";
import { Distribution } from "../../lib/stats/distribution.ts";
import { summarize } from "../../lib/stats/statistics.ts";

const parseMaxRtt = MAX_RTT.parse;
const RTTS = {
  ...summarize([1, 5])!,
  min: 1,
  mean: 2.5,
  median: 2,
  p90: 3,
  p99: 4,
  p999: 4.5,
  max: 5,
  stddev: 1,
};

Deno.test("MAX_RTT: a bound for the largest RTT, or for a named figure", () => {
  assertEquals(parseMaxRtt("20ms"), { figure: "max", ms: 20 });
  assertEquals(parseMaxRtt("1"), { figure: "max", ms: 1000 });
  assertEquals(parseMaxRtt("p99.9=1.5ms"), { figure: "p99.9", ms: 1.5 });
  assertEquals(parseMaxRtt("median=0"), { figure: "median", ms: 0 });
  for (
    const wrong of ["", "p99", "p98=1", "=1", "p99=", "p99=x", "toString=1"]
  ) {
    assertThrows(() => parseMaxRtt(wrong), SyntaxError);
  }
});

Deno.test("missedBounds(): names the missed bound, and the difference", () => {
  const judged = { lossPercent: 10.5, rttMs: RTTS };
  assertEquals(missedBounds(undefined, undefined, judged), []);
  assertEquals(missedBounds(10.5, { figure: "max", ms: 5 }, judged), []);
  assertEquals(missedBounds(10, { figure: "p99", ms: 3.5 }, judged), [
    "--max-loss 10: 10.5% is lost, 0.5% too much",
    "--max-rtt p99=3.5ms: it is 4.000 ms, 0.500 ms too long",
  ]);
  for (
    const [figure, ms] of [
      ["min", 1],
      ["mean", 2.5],
      ["median", 2],
      ["p50", 2],
      ["p90", 3],
      ["p99.9", 4.5],
    ] as const
  ) {
    assertEquals(missedBounds(undefined, { figure, ms }, judged), [], figure);
    const less = { figure, ms: ms - 0.5 };
    assertEquals(missedBounds(undefined, less, judged).length, 1, figure);
  }
});

Deno.test("missedBounds(): digits enough to see that the bound is missed", () => {
  const loss = (lossPercent: number, bound: number) =>
    missedBounds(bound, undefined, { lossPercent })[0]!.replace(/.*: /, "");
  assertEquals(loss(0.0012, 0.001), "0.0012% is lost, 0.0002% too much");
  assertEquals(loss(0.00104, 0.001), "0.00104% is lost, 0.00004% too much");
  assertEquals(loss(0.0001, 0), "0.0001% is lost, 0.0001% too much");
  assertEquals(loss(33.334, 33.33), "33.334% is lost, 0.004% too much");
  assertEquals(loss(99.999, 50), "99.99% is lost, 50% too much");
  assertEquals(loss(100 / 3, 10), "33.33% is lost, 23.33% too much");
  const max = { figure: "max", ms: 5 } as const;
  const rttMs = { ...RTTS, max: 5.00004 };
  assertEquals(missedBounds(undefined, max, { rttMs }), [
    "--max-rtt max=5ms: it is 5.00004 ms, 0.00004 ms too long",
  ]);
});

Deno.test("missedBounds(): unknown loss meets its bound, an unknown RTT does not", () => {
  assertEquals(missedBounds(0, undefined, { lossPercent: undefined }), []);
  const bound = { figure: "p99.9", ms: 1 } as const;
  const { p999: _, ...withoutTail } = RTTS;
  for (const rttMs of [undefined, withoutTail]) {
    assertEquals(missedBounds(undefined, bound, { rttMs }), [
      "--max-rtt p99.9=1ms: no such RTT is known",
    ]);
  }
});

Deno.test("FIGURES: every figure of a summary has a name for lines and thresholds", () => {
  const distribution = new Distribution();
  distribution.add(1);
  assertEquals(Object.keys(distribution.tail()!), Object.values(FIGURES));
});

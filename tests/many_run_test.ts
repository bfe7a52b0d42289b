import { assertEquals } from "@std/assert";
import { type Row, sorted, tableLines } from "../lib/cli/many_run.ts";
import { largestAnswered, type Probe } from "../lib/cli/mtu_run.ts";

const RTT = { min: 1, mean: 2, median: 2, p90: 3, p99: 3, max: 3, stddev: 0 };

function row(label: string, lossPercent: number, median?: number): Row {
  const rttMs = median === undefined ? undefined : { ...RTT, median };
  return { label, sent: 4, received: 2, lossPercent, rttMs };
}

Deno.test("a table has the least loss first, then the shortest RTT", () => {
  const unknown = { ...row("unknown", 0), error: "no such name" };
  const rows = [
    unknown,
    row("lost", 100),
    row("slow", 0, 9),
    row("half", 50, 1),
    row("fast", 0, 2),
    row("none", 0),
  ];
  assertEquals(sorted(rows).map(({ label }) => label), [
    "fast",
    "slow",
    "none",
    "half",
    "lost",
    "unknown",
  ]);
  assertEquals(
    tableLines([row("fast", 0, 2), row("lost", 100), unknown]),
    [
      "             sent  received      loss       min    median       p99       max  (rtt in ms)",
      "fast            4         2        0%     1.000     2.000     3.000     3.000",
      "lost            4         2      100%       n/a       n/a       n/a       n/a",
      "unknown  no such name",
    ].join("\n"),
  );
});

/** A path that takes payloads up to a size, and tells it or not. */
function path(limit: number, hintOf: (size: number) => number | undefined) {
  const tried: number[] = [];
  const probe = (size: number): Promise<Probe> => {
    tried.push(size);
    const isAnswered = size <= limit;
    const hint = isAnswered ? undefined : hintOf(size);
    return Promise.resolve({ size, isAnswered, hint });
  };
  return { tried, probe };
}

Deno.test("the largest payload is found, whatever the path says of it", async () => {
  for (const limit of [1, 2, 571, 572, 1472, 65_506, 65_507]) {
    const silent = path(limit, () => undefined);
    assertEquals(await largestAnswered(65_507, silent.probe), limit);
    assertEquals(silent.tried.length <= 20, true, `${silent.tried}`);
    const wrong = path(limit, () => 70_000);
    assertEquals(await largestAnswered(65_507, wrong.probe), limit);
    const low = path(limit, () => 1);
    assertEquals(await largestAnswered(65_507, low.probe), limit);
  }
  // One hop says 1,472, the next one 572.
  const honest = path(572, (size) => size > 1472 ? 1472 : 572);
  assertEquals(await largestAnswered(65_507, honest.probe), 572);
  assertEquals(honest.tried, [1, 65_507, 1472, 572, 573]);
  const closed = path(0, () => undefined);
  assertEquals(await largestAnswered(65_507, closed.probe), undefined);
});

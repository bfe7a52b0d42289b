import { assertEquals } from "@std/assert";
import { lossLines, timeOf } from "../../lib/cli/show/loss.ts";
import { Books } from "../../lib/stats/books.ts";
import type { Outage } from "../../lib/stats/loss_periods.ts";
import { TIME_ORIGIN } from "../../lib/testing/mod.ts";

const NONE = {
  ...new Books({ capacity: 1, timeoutMs: 1, size: 0 }).summary(),
  startedAt: TIME_ORIGIN,
};

type Counts = Parameters<typeof lossLines>[0];

function linesOf(counts: Partial<Counts>): string[] {
  return lossLines({ ...NONE, ...counts });
}

Deno.test("lossLines(): none if all is well, whatever else is counted", () => {
  assertEquals(linesOf({}), []);
  const others = { duplicates: 1, late: 0, foreign: 2, pending: 3 };
  assertEquals(linesOf({ sent: 9, received: 6, ...others }), []);
});

Deno.test("lossLines(): how many are missing, why, and in how many loss periods", () => {
  const lines = (counts: Partial<Counts>) =>
    linesOf({ lossPeriods: 1, longestLossPeriod: 1, ...counts });
  assertEquals(lines({ lost: 1 }), [
    "1 missing: 1 unanswered; in one loss period",
  ]);
  assertEquals(lines({ unsent: 2 }), [
    "2 missing: 2 refused by this system; in one loss period",
  ]);
  assertEquals(lines({ lost: 30, rejected: 30 }), [
    "30 missing: 30 rejected by the network; in one loss period",
  ]);
  const all = { lost: 10, rejected: 3, unsent: 4, kernelDrops: 5 };
  assertEquals(lines({ ...all, lossPeriods: 3, longestLossPeriod: 7 }), [
    "14 missing: 4 refused by this system, 3 rejected by the network, " +
    "5 dropped by this machine's full receive buffer, 2 unanswered; " +
    "in 3 loss periods, the longest of 7",
  ]);
  // Copies may be among the drops.
  assertEquals(lines({ lost: 5, rejected: 3, kernelDrops: 9 }), [
    "5 missing: 3 rejected by the network, " +
    "2 dropped by this machine's full receive buffer; in one loss period",
  ]);
  assertEquals(lines({ lost: 2, kernelDrops: 9 }), [
    "2 missing: 2 dropped by this machine's full receive buffer; in one loss period",
  ]);
});

Deno.test("lossLines(): outages by the wall clock, the first five and their number", () => {
  const outage: Outage = {
    ...{ fromMs: 1000, toMs: 3500, datagrams: 25, unsent: 0 },
  };
  const lines = (...outages: Outage[]) =>
    linesOf({ outageCount: outages.length, outages });
  assertEquals(lines(outage), [
    `outage from ${timeOf(TIME_ORIGIN + 1000)} to ` +
    `${timeOf(TIME_ORIGIN + 3500)} (2.5 s): 25 datagrams`,
  ]);
  assertEquals(timeOf(TIME_ORIGIN + 1000), "2023-11-14T22:13:21.000Z");
  assertEquals(lines({ ...outage, toMs: undefined, unsent: 5 }), [
    `outage from ${timeOf(TIME_ORIGIN + 1000)} until the end: ` +
    "25 datagrams, 5 of them refused by this system",
  ]);
  const many = Array<Outage>(8).fill(outage);
  assertEquals([lines(...many).length, lines(...many).at(-1)], [
    6,
    "further outages: 3",
  ]);
  assertEquals(lines(...many.slice(3)).length, 5);
  assertEquals(lines(...many.slice(2)).length, 6);
});

Deno.test("lossLines(): the reports, and their number", () => {
  const reasons = [
    { reason: "Network is unreachable", count: 9 },
    { reason: "192.0.2.1 reports: no route", count: 1 },
  ];
  assertEquals(linesOf({ reasons }), [
    "reports: 9 x Network is unreachable, 1 x 192.0.2.1 reports: no route",
  ]);
});

Deno.test("lossLines(): standstills of this program, and the sends that it skipped", () => {
  const longestStall = { fromMs: 500, ms: 1499.6 };
  const at = timeOf(TIME_ORIGIN + 500);
  assertEquals(linesOf({ stalls: 1, stalledMs: 1499.6, longestStall }), [
    `this program stood still once, 1500 ms in all, the longest 1500 ms from ${at}`,
  ]);
  assertEquals(
    linesOf({ stalls: 2, stalledMs: 1700, longestStall, skipped: 3 }),
    [
      `this program stood still 2 times, 1700 ms in all, the longest 1500 ms from ${at}`,
      "3 sends were due while this program stood still or was too slow, and were skipped",
    ],
  );
});

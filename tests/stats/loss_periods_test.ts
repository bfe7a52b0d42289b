import { assertEquals } from "@std/assert";
import { LossPeriods } from "../../lib/stats/loss_periods.ts";
import { seededRandom } from "../../lib/testing/mod.ts";

const OUTCOMES = { ".": "received", x: "lost", u: "unsent" } as const;

/** The structure of datagrams sent an interval apart: received, lost, unsent. */
function structureOf(outcomes: string, intervalMs = 10) {
  const periods = new LossPeriods();
  for (const [i, outcome] of [...outcomes].entries()) {
    periods.add(i * intervalMs, OUTCOMES[outcome as keyof typeof OUTCOMES]);
  }
  return periods.structure();
}

Deno.test("LossPeriods: runs of consecutive losses, and the longest of them", () => {
  const table: Array<[string, number, number]> = [
    ["", 0, 0],
    ["....", 0, 0],
    ["x", 1, 1],
    [".x.xx.", 2, 2],
    ["xx..u", 2, 2],
    ["xux.x", 2, 3],
  ];
  for (const [outcomes, lossPeriods, longestLossPeriod] of table) {
    assertEquals(
      structureOf(outcomes),
      {
        lossPeriods,
        longestLossPeriod,
        outageCount: 0,
        outageMs: 0,
        outages: [],
      },
      outcomes,
    );
  }
});

Deno.test("LossPeriods: an outage is 10 datagrams, or two or more and a second", () => {
  const outagesOf = (outcomes: string, intervalMs: number) =>
    structureOf(outcomes, intervalMs).outages;
  assertEquals(outagesOf(`.${"x".repeat(9)}.`, 10), []);
  const ten = { fromMs: 10, toMs: 110, datagrams: 10, unsent: 0 };
  assertEquals(outagesOf(`.${"x".repeat(10)}.`, 10), [ten]);
  // From the first lost one until the next answered one was sent.
  assertEquals(outagesOf(".xx.", 499), []);
  assertEquals(outagesOf(".xx.", 500), [
    { fromMs: 500, toMs: 1500, datagrams: 2, unsent: 0 },
  ]);
  assertEquals(outagesOf(".x.", 5000), [], "one datagram is no outage");
  assertEquals(outagesOf(".xuux.", 500), [
    { fromMs: 500, toMs: 2500, datagrams: 4, unsent: 2 },
  ]);
});

Deno.test("LossPeriods: an outage at the end is open, and closes if an answer follows", () => {
  const periods = new LossPeriods();
  periods.add(0, "received");
  for (let ms = 100; ms < 1000; ms += 100) periods.add(ms, "lost");
  assertEquals(periods.structure().outages, [], "9 datagrams within 0.8 s");
  assertEquals(periods.latest, undefined);
  periods.add(1000, "unsent");
  const open = { fromMs: 100, toMs: undefined, datagrams: 10, unsent: 1 };
  const { outages, outageCount } = periods.structure();
  assertEquals([outages, outageCount], [[open], 1]);
  periods.add(1100, "lost");
  assertEquals(outages, [open], "a structure does not change later");
  periods.add(1200, "received");
  const ended = periods.structure();
  const only = { fromMs: 100, toMs: 1200, datagrams: 11, unsent: 1 };
  assertEquals([ended.outages, ended.outageCount], [[only], 1]);
  periods.add(1300, "lost");
  assertEquals([periods.latest, periods.structure().outageMs], [only, 1100]);
});

Deno.test("LossPeriods: the first 100 outages are kept, and all are counted", () => {
  const { outages, outageCount, outageMs, lossPeriods } = structureOf(
    `.${"x".repeat(10)}`.repeat(150),
  );
  assertEquals([outageCount, lossPeriods, outages.length], [150, 150, 100]);
  assertEquals(outageMs, 149 * 100 + 90, "the last one lasts");
  assertEquals(outages.at(-1), {
    fromMs: 99 * 110 + 10,
    toMs: 100 * 110,
    datagrams: 10,
    unsent: 0,
  });
});

Deno.test("LossPeriods: the structure is that of a search through all outcomes", () => {
  const random = seededRandom(28);
  for (let round = 0; round < 200; round++) {
    // Losses in bursts of any length, at any interval.
    const [start, end] = [random() * 0.5, random()];
    const intervalMs = 1 + Math.floor(random() * 400);
    let isBad = false;
    const outcomes = Array.from({ length: 200 }, () => {
      isBad = isBad ? random() >= end : random() < start;
      return !isBad ? "." : random() < 0.3 ? "u" : "x";
    }).join("");
    const periods = [...outcomes.matchAll(/[xu]+/g)];
    const outages = periods.map(({ 0: { length }, 0: text, index }) => {
      const next = index + length;
      return {
        fromMs: index * intervalMs,
        toMs: next < outcomes.length ? next * intervalMs : undefined,
        datagrams: length,
        unsent: text.replaceAll("x", "").length,
      };
    }).filter(({ fromMs, toMs = 199 * intervalMs, datagrams }) =>
      datagrams >= 10 || datagrams > 1 && toMs - fromMs >= 1000
    );
    assertEquals(structureOf(outcomes, intervalMs), {
      lossPeriods: periods.length,
      longestLossPeriod: Math.max(0, ...periods.map(([text]) => text.length)),
      outageCount: outages.length,
      outageMs: outages
        .map(({ fromMs, toMs = 199 * intervalMs }) => toMs - fromMs)
        .reduce((sum, ms) => sum + ms, 0),
      outages,
    }, `round ${round}: ${outcomes}`);
  }
});

import { assert, assertEquals, assertMatch } from "@std/assert";
import { plotSvg, plotText } from "../../lib/cli/show/plot.ts";
import { csvOf, Samples } from "../../lib/cli/show/samples.ts";
import type { Sample } from "../../lib/stats/sample.ts";
import { seededRandom } from "../../lib/testing/mod.ts";
import { readTest, ROOT } from "../helpers.ts";

/** A sample of a datagram; without an RTT it is lost. */
function sampleOf(
  seq: number,
  sentMs: number,
  rttMs?: number,
  others: Partial<Sample> = {},
): Sample {
  return {
    seq,
    outcome: rttMs === undefined ? "lost" : "received",
    ...{ dueMs: sentMs, sentMs, sentAt: 1000 + sentMs, rttMs },
    ...{ clock: "program", attempts: 1, size: 16, localPort: 50_000 },
    target: { hostname: "192.0.2.1", port: 7 },
    ...others,
  };
}

function samplesOf(rtts: Array<number | undefined>) {
  const samples = new Samples();
  for (const [seq, rttMs] of rtts.entries()) {
    samples.add(sampleOf(seq, 10 * seq, rttMs));
  }
  return samples;
}

function runOf(rtts: Array<number | undefined>, label = "a") {
  return { label, samples: samplesOf(rtts) };
}

Deno.test("Samples: kept in order, up to a limit; the rest is counted", () => {
  const samples = new Samples(3000);
  for (let i = 0; i < 3005; i++) {
    samples.add(sampleOf(i, i, i % 2 === 0 ? i / 2 : undefined));
  }
  assertEquals([samples.length, samples.leftOut], [3000, 5]);
  const all = [...samples];
  const rest = { attempts: 1, why: "" };
  const [last, lost] = [all[2998], all[2999]];
  const received = { seq: 2998, atMs: 2998, rttMs: 1499, ...rest };
  assertEquals(last, { ...received, outcome: "received" });
  const missing = { seq: 2999, atMs: 2999, rttMs: NaN, ...rest };
  assertEquals(lost, { ...missing, outcome: "lost" });
});

Deno.test("Samples: the texts of 99 errors are kept, and the rest are other", () => {
  const samples = new Samples();
  for (let i = 0; i < 300; i++) {
    const error = new Error(`error ${i % 150}`);
    samples.add(sampleOf(i, i, undefined, { error }));
  }
  const whys = [...samples].map(({ why }) => why);
  assertEquals([whys[0], whys[97], whys[247]], [
    "error 0",
    "error 97",
    "error 97",
  ]);
  assertEquals([whys[149], whys[299]], ["other", "other"]);
  assert(new Set(whys).size <= 100);
});

Deno.test("csvOf(): a line for each sample: when it was sent, its outcome, and why", () => {
  const samples = samplesOf([1.5, undefined]);
  const error = new Error('no "route", here');
  samples.add(sampleOf(2, 20, undefined, { outcome: "unsent", error }));
  samples.add(sampleOf(3, 30, undefined, { outcome: "received", attempts: 2 }));
  samples.add(sampleOf(4, 40.25, undefined, { outcome: "pending" }));
  const runs = [{ label: "[::1]:7", samples }];
  assertEquals([...csvOf(runs)].join("").split("\n"), [
    "run,seq,at_ms,rtt_ms,time,outcome,attempts,why",
    "[::1]:7,0,0.000000,1.500000,1970-01-01T00:00:01.000Z,received,1,",
    "[::1]:7,1,10.000000,,1970-01-01T00:00:01.010Z,lost,1,",
    '[::1]:7,2,20.000000,,1970-01-01T00:00:01.020Z,unsent,1,"no ""route"", here"',
    "[::1]:7,3,30.000000,,1970-01-01T00:00:01.030Z,received,2,",
    "[::1]:7,4,40.250000,,1970-01-01T00:00:01.040Z,pending,1,",
    "",
  ]);
  const many = [{ label: "a", samples: samplesOf(new Array(10_000).fill(1)) }];
  const parts = [...csvOf(many)];
  assert(parts.length > 3, `${parts.length} parts`);
  assertEquals(parts.join("").split("\n").length, 10_002);
});

Deno.test("plotText(): as wide as the terminal, with marks for losses", () => {
  const text = plotText([runOf([1, 1, 2, undefined, 10])], 40);
  assertEquals(text.split("\n"), [
    "a",
    "      p99 ┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄• ████",
    "     9.19",
    "     8.31",
    "     7.44",
    "     6.56",
    "     5.69",
    "     4.81",
    "     3.94",
    "     3.06",
    "     2.19           •          ████",
    "      p50 •┄┄┄┄•┄┄┄┄┄┄┄┄┄┄┄┄┄┄ ████████",
    "    0.438",
    "     lost                x",
    "          0 s       0.02 s    0.04 s",
    "      UTC 00:00:01.000 00:00:01.020",
    "1970-01-01T00:00:01.000Z, 4 received, 1",
    "lost (20%)",
    "min 1.000, median 1.500, p90 10.000,",
    "p99 10.000, p99.9 10.000, max 10.000 ms",
  ]);
});

Deno.test("plotText(): the bars take a fifth of the width", () => {
  for (const [width, bar] of [[20, 8], [40, 8], [100, 20]]) {
    const text = plotText([runOf([1, 1, 2])], width!);
    const bars = text.split("\n").map((line) => line.match(/█*$/)![0].length);
    assertEquals(Math.max(...bars), bar);
  }
});

/** The numbers of an attribute or a command in a path. */
function countIn(svg: string, pattern: RegExp): number {
  return [...svg.matchAll(pattern)].length;
}

readTest("plotSvg(): equals the reviewed picture byte by byte", async () => {
  const samples = new Samples();
  const random = seededRandom(1);
  // Columns of few and of many RTTs are drawn differently.
  for (let i = 0; i < 30; i++) {
    samples.add(sampleOf(i, 100 * i, 1 + random()));
  }
  for (let i = 30; i < 3000; i++) {
    const rttMs = random() < 0.01 ? undefined : 1 + random() ** 3;
    samples.add(sampleOf(i, 3000 + i / 3, rttMs));
  }
  const file = new URL("tests/golden/rtt.svg", ROOT);
  const svg = plotSvg([{ label: "192.0.2.1:7", samples }]);
  assertEquals(svg, await Deno.readTextFile(file));
});

Deno.test("plotSvg(): draws any number of samples in bounded size", () => {
  const few = plotSvg([runOf([1, 2, undefined, 3], "a<b>")]);
  assertMatch(few, /^<svg xmlns="http:\/\/www\.w3\.org\/2000\/svg"/);
  assertMatch(few, /RTT of a&#60;b&#62;</);
  assertMatch(few, /1970-01-01T00:00:01\.000Z, 3 received, 1 lost \(25%\)/);
  const rtts = /class="rtt"[^>]* d="([^"]*)"/.exec(few)![1]!;
  assertEquals(countIn(rtts, /M/g), 3);
  const lost = /class="lost" d="([^"]*)"/.exec(few)![1]!;
  assertEquals(countIn(lost, /M/g), 1);
  assertMatch(few, /prefers-color-scheme: dark/);
  const many = new Samples();
  for (let i = 0; i < 200_000; i++) {
    many.add(sampleOf(i, i, i % 3 === 0 ? undefined : 1 + i % 100));
  }
  const svg = plotSvg([{ label: "many", samples: many }]);
  assert(svg.length < 100_000, `${svg.length} characters`);
  assertMatch(svg, /133333 received, 66667 lost \(33\.33%\)/);
  assertEquals(countIn(svg, /NaN|Infinity/g), 0);
});

Deno.test("plotSvg(), plotText(): no samples, or losses alone", () => {
  for (const rtts of [[], [undefined], [undefined, undefined], [0], [5]]) {
    const run = runOf(rtts);
    const svg = plotSvg([run]);
    assertEquals(countIn(svg, /NaN|Infinity/g), 0, svg);
    assertEquals(countIn(plotText([run], 60), /NaN|Infinity/g), 0);
  }
  assertMatch(plotSvg([runOf([])]), /0 received, 0 lost \(n\/a\)/);
  // Received after a retransmission, so that the RTT is not known.
  const unknown = new Samples();
  unknown.add(sampleOf(0, 0, undefined, { outcome: "received", attempts: 2 }));
  const svg = plotSvg([{ label: "a", samples: unknown }]);
  assertMatch(svg, /1 received, 0 lost \(0%\)/);
  assertEquals(countIn(svg, /NaN|Infinity/g), 0, svg);
});

Deno.test("plotSvg(): far outliers make the scale logarithmic", () => {
  const flat = plotSvg([runOf([1, 2, 3])]);
  const spread = plotSvg([runOf([1, 1, 1, 500])]);
  assertEquals(flat.includes("logarithmic"), false);
  assertEquals(spread.includes("logarithmic"), true);
  assertMatch(spread, />100</);
});

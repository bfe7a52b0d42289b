import { assert, assertEquals, assertMatch } from "@std/assert";
import { plotSvg, plotText } from "../../lib/cli/show/plot.ts";
import { csvOf, Samples } from "../../lib/cli/show/samples.ts";
import { seededRandom } from "../../lib/testing/mod.ts";
import { readTest, ROOT } from "../helpers.ts";

const NOW = new Date(0);

function samplesOf(rtts: Array<number | undefined>, timeoutMs = 1000) {
  const samples = new Samples(timeoutMs);
  for (const [seq, rttMs] of rtts.entries()) samples.add(seq, 10 * seq, rttMs);
  return samples;
}

Deno.test("Samples: kept in order, up to a limit; the rest is counted", () => {
  const samples = new Samples(100, 3000);
  for (let i = 0; i < 3005; i++) {
    samples.add(i, i, i % 2 === 0 ? i / 2 : undefined);
  }
  assertEquals([samples.length, samples.leftOut], [3000, 5]);
  const all = [...samples];
  assertEquals(all[2998], { seq: 2998, atMs: 2998, rttMs: 1499 });
  assertEquals(all[2999], { seq: 2999, atMs: 2999, rttMs: NaN });
});

Deno.test("Samples: an event is a sample at the time of its send", () => {
  const samples = new Samples(100);
  samples.onEvent({ type: "reply", seq: 0 }, 5, 25);
  samples.onEvent({ type: "lost", seq: 1 }, undefined, 130);
  samples.onEvent({ type: "error", seq: 2 }, undefined, 40);
  samples.onEvent({ type: "late", seq: 1 }, undefined, 150);
  samples.onEvent({ type: "duplicate", seq: 0 }, undefined, 150);
  samples.onEvent({ type: "interval" }, undefined, 150);
  assertEquals([...samples], [
    { seq: 0, atMs: 20, rttMs: 5 },
    { seq: 1, atMs: 30, rttMs: NaN },
    { seq: 2, atMs: 40, rttMs: NaN },
  ]);
});

Deno.test("csvOf(): a line for each sample, without an RTT if it is lost", () => {
  const runs = [{ label: "[::1]:7", samples: samplesOf([1.5, undefined]) }];
  assertEquals(
    [...csvOf(runs)].join(""),
    "run,seq,at_ms,rtt_ms\n[::1]:7,0,0.000000,1.500000\n[::1]:7,1,10.000000,\n",
  );
  const many = [{ label: "a", samples: samplesOf(new Array(10_000).fill(1)) }];
  const parts = [...csvOf(many)];
  assert(parts.length > 3, `${parts.length} parts`);
  assertEquals(parts.join("").split("\n").length, 10_002);
});

Deno.test("plotText(): as wide as the terminal, with marks for losses", () => {
  const text = plotText(samplesOf([1, 1, 2, undefined, 10]), 40);
  assertEquals(
    text,
    [
      "     10.1                    • ████",
      "     9.19",
      "     8.31",
      "     7.44",
      "     6.56",
      "     5.69",
      "     4.81",
      "     3.94",
      "     3.06",
      "     2.19           •          ████",
      "     1.31 •    •               ████████",
      "    0.438",
    ].join("\n") + text.slice(text.indexOf("\n     lost")),
  );
  assertMatch(
    text,
    /\n {5}lost {16}x\n {7}ms over 0\.0 s: 4 received, 1 lost\n/,
  );
  for (const line of text.split("\n").slice(0, 13)) assert(line.length <= 40);
});

Deno.test("plotText(): the bars take a fifth of the width", () => {
  for (const [width, bar] of [[20, 8], [40, 8], [100, 20]]) {
    const text = plotText(samplesOf([1, 1, 2]), width!);
    const bars = text.split("\n").map((line) => line.match(/█*$/)![0].length);
    assertEquals(Math.max(...bars), bar);
  }
});

/** The numbers of an attribute or a command in a path. */
function countIn(svg: string, pattern: RegExp): number {
  return [...svg.matchAll(pattern)].length;
}

readTest("plotSvg(): equals the reviewed picture byte by byte", async () => {
  const samples = new Samples(1000);
  const random = seededRandom(1);
  // Columns of few and of many RTTs are drawn differently.
  for (let i = 0; i < 30; i++) samples.add(i, 100 * i, 1 + random());
  for (let i = 30; i < 3000; i++) {
    const rttMs = random() < 0.01 ? undefined : 1 + random() ** 3;
    samples.add(i, 3000 + i / 3, rttMs);
  }
  const file = new URL("tests/golden/rtt.svg", ROOT);
  const svg = plotSvg("192.0.2.1:7", samples, NOW);
  assertEquals(svg, await Deno.readTextFile(file));
});

Deno.test("plotSvg(): draws any number of samples in bounded size", () => {
  const few = plotSvg("a<b>", samplesOf([1, 2, undefined, 3]), NOW);
  assertMatch(few, /^<svg xmlns="http:\/\/www\.w3\.org\/2000\/svg"/);
  assertMatch(few, /RTT of a&#60;b&#62;</);
  assertMatch(few, /1970-01-01T00:00:00\.000Z, 3 received, 1 lost \(25%\)/);
  const rtts = /class="rtt"[^>]* d="([^"]*)"/.exec(few)![1]!;
  assertEquals(countIn(rtts, /M/g), 3);
  const lost = /class="lost" d="([^"]*)"/.exec(few)![1]!;
  assertEquals(countIn(lost, /M/g), 1);
  assertMatch(few, /prefers-color-scheme: dark/);
  const many = new Samples(1000);
  for (let i = 0; i < 200_000; i++) {
    many.add(i, i, i % 3 === 0 ? undefined : 1 + i % 100);
  }
  const svg = plotSvg("many", many, NOW);
  assert(svg.length < 100_000, `${svg.length} characters`);
  assertMatch(svg, /133333 received, 66667 lost \(33\.33%\)/);
  assertEquals(countIn(svg, /NaN|Infinity/g), 0);
});

Deno.test("plotSvg(), plotText(): no samples, or losses alone", () => {
  for (const rtts of [[], [undefined], [undefined, undefined], [0], [5]]) {
    const samples = samplesOf(rtts);
    const svg = plotSvg("a", samples, NOW);
    assertEquals(countIn(svg, /NaN|Infinity/g), 0, svg);
    assertEquals(countIn(plotText(samples, 60), /NaN|Infinity/g), 0);
  }
  assertMatch(plotSvg("a", samplesOf([]), NOW), /0 received, 0 lost \(n\/a\)/);
});

Deno.test("plotSvg(): far outliers make the scale logarithmic", () => {
  const flat = plotSvg("a", samplesOf([1, 2, 3]), NOW);
  const spread = plotSvg("a", samplesOf([1, 1, 1, 500]), NOW);
  assertEquals(flat.includes("logarithmic"), false);
  assertEquals(spread.includes("logarithmic"), true);
  assertMatch(spread, />100</);
});

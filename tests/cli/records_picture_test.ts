/** Pictures of records, which represent many datagrams each, on a given axis. */
import { assert, assertEquals, assertMatch } from "@std/assert";
import {
  type Axis,
  columnsOf,
  type PicturePoint,
  type PictureRun,
} from "../../lib/cli/show/picture.ts";
import { plotSvg, sparkSvg } from "../../lib/cli/show/plot.ts";
import type { Outage } from "../../lib/stats/loss_periods.ts";

const MINUTE = 60_000;
/** Minutes of 08:50 to 09:50. */
const FROM = Date.UTC(2026, 10, 28, 8, 50);
const HOUR: Axis = { from: FROM, to: FROM + 60 * MINUTE, stepMs: MINUTE };

function runOf(points: PicturePoint[], outages: Outage[] = []): PictureRun {
  const samples = Object.assign(points, { startedAt: FROM, leftOut: 0 });
  return { label: "<a>", samples, outages };
}

/** A point in the middle of a minute. */
function pointOf(minute: number, rttMs: number, times: number): PicturePoint {
  const outcome = Number.isNaN(rttMs) ? "lost" : "received";
  return { atMs: (minute + 0.5) * MINUTE, rttMs, outcome, times };
}

function outageOf(from: number, to?: number): Outage {
  const toMs = to === undefined ? undefined : to * MINUTE;
  return { fromMs: from * MINUTE, toMs, datagrams: 60, unsent: 0 };
}

/** The paths of a kind, and the places where their strokes begin. */
function pathsOf(svg: string, kind: string) {
  const found = svg.matchAll(RegExp(`<path class="${kind}" d="([^"]*)"`, "g"));
  const paths = [...found].map(([, d]) => d!);
  const starts = paths.flatMap((d) =>
    [...d.matchAll(/M([\d.]+)/g)].map(([, x]) => Number(x))
  );
  return { paths, starts };
}

Deno.test("plotSvg(): a record is a column as wide as its time, with the weight of its datagrams", () => {
  const svg = plotSvg([
    runOf([pointOf(0, 1, 90), pointOf(0, 5, 9), pointOf(30, NaN, 1)]),
  ], HOUR);
  // The plot begins at 76 and is 640 wide, 10.7 for each minute.
  assertEquals(pathsOf(svg, "range").starts, [81.3]);
  assertEquals(pathsOf(svg, "rtt").starts, [81.3]);
  assertEquals(pathsOf(svg, "lost").starts, [401.3, 68]);
  assertMatch(svg, /path\.range \{ stroke-width: 10\.7;/);
  assertMatch(svg, /08:50:00\.000Z, 99 received, 1 lost \(1%\)</);
  assertMatch(
    svg,
    /min 1\.000, median 1\.000, p90 1\.000, p99 5\.000,/,
  );
  // The second bar has a tenth of the first.
  assertMatch(svg, /class="bar" d="M[\d.]+ [\d.]+h150v.*M[\d.]+ [\d.]+h15v/);
});

Deno.test("plotSvg(): an axis of records has round times of the clock, and dates", () => {
  const textsOf = (axis: Axis) => {
    const svg = plotSvg([runOf([pointOf(0, 1, 1)])], axis);
    const texts = [...svg.matchAll(/<text [^>]*>([^<]*)</g)];
    return texts.map(([, text]) => text!)
      .filter((text) => /^(\d\d:\d\d|\d{4}-.{5})$/.test(text));
  };
  const clocks = textsOf(HOUR).filter((text) => text.length === 5);
  assertEquals(clocks.join(" "), "08:50 09:00 09:10 09:20 09:30 09:40 09:50");
  assertEquals(textsOf(HOUR)[1], "2026-11-28");
  const from = FROM - 31 * 86_400_000;
  const month = { from, to: FROM, stepMs: 3_600_000 };
  assertEquals(
    textsOf(month).filter((text) => text.length === 10),
    ["10-29", ...["03", "08", "13", "18", "23", "28"].map((day) => `11-${day}`)]
      .map((date) => `2026-${date}`),
  );
});

Deno.test("plotSvg(): outages of records are given, clipped to the axis, and last until its end", () => {
  const outages = [outageOf(-30, 6), outageOf(30, 33), outageOf(54)];
  const svg = plotSvg([runOf([pointOf(10, 1, 60)], outages)], HOUR);
  assertEquals(
    pathsOf(svg, "outage").paths.map((d) =>
      [...d.matchAll(/[MH]([\d.]+)/g)].map(([, x]) => Number(x))
    ),
    [[76, 140], [396, 428], [652, 716]],
  );
  assertMatch(svg, /60 received, 0 lost \(0%\), 3 outages</);
  // Without any, many lost datagrams of a record are none.
  const lossy = plotSvg([runOf([pointOf(1, NaN, 60)])], HOUR);
  assertEquals(pathsOf(lossy, "outage").paths, []);
});

Deno.test("sparkSvg(): range and median of RTTs, outages, and loss by its share", () => {
  const points = [pointOf(0, 1, 6), pointOf(0, 10, 4)];
  points.push(pointOf(1, 10, 5), pointOf(1, NaN, 5), pointOf(59, NaN, 9));
  const svg = sparkSvg(runOf(points, [outageOf(58)]), HOUR);
  assertMatch(svg, /^<svg [^>]* width="160" height="32"/);
  assertMatch(svg, /<title>RTTs of &#60;a&#62;<\/title>/);
  assertEquals(svg.match(/<text/), null);
  assertMatch(svg, /prefers-color-scheme: dark/);
  assertEquals(pathsOf(svg, "range").starts, [1.3, 4]);
  // 10.5 ms at the top, 1, and 0 at the bottom, 25.
  assertMatch(
    pathsOf(svg, "range").paths[0]!,
    /^M1\.3 22\.7V2\.1M4 2\.1V2\.1$/,
  );
  const medians = [...pathsOf(svg, "rtt").paths[0]!.matchAll(/ ([\d.]+)v-2/g)]
    .map(([, y]) => Math.round(Number(y)));
  assertEquals(medians, [24, 3]);
  assertEquals(pathsOf(svg, "lost").paths, ["M4 32v-4M158.7 32v-6"]);
  assertEquals(pathsOf(svg, "outage").paths, ["M154.7 0h5.3v32h-5.3z"]);
  for (const few of [[], [pointOf(0, 0, 1)], [pointOf(3, NaN, 1)]]) {
    assertEquals(/NaN|Infinity/.exec(sparkSvg(runOf(few), HOUR)), null);
    assertEquals(/NaN|Infinity/.exec(plotSvg([runOf(few)], HOUR)), null);
  }
});

Deno.test("columnsOf(): as many columns as records, or several records in each", () => {
  const columns = (records: number) =>
    columnsOf({ from: 0, to: records * MINUTE, stepMs: MINUTE }, 640);
  assertEquals([0, 1, 60, 640].map(columns), [1, 1, 60, 640]);
  assertEquals([641, 744, 1440].map(columns), [321, 372, 480]);
  assert([...Array(3000).keys()].every((records) => columns(records) <= 640));
});

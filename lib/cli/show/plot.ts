/**
 * RTTs over time as a picture, the lost datagrams marked, and how they are
 * distributed beside it: as SVG, or for a terminal. Pure.
 *
 * @module
 */
import { lossPercentOf } from "../../stats/counts.ts";
import { Distribution } from "../../stats/distribution.ts";
import { figuresOf, figuresText } from "./columns.ts";
import { lossText } from "./format.ts";
import type { Samples } from "./samples.ts";

/** The picture as one SVG file, in light and dark as its reader has it. */
export function plotSvg(label: string, samples: Samples, now: Date): string {
  const picture = pictureOf(samples, COLUMNS, BARS);
  const { received, lost, scale, columns, bars, fromMs, toMs } = picture;
  const y = (ms: number) => round(BOTTOM - scale.heightOf(ms) * HEIGHT);
  const x = (column: number) => round(LEFT + column * WIDTH / COLUMNS);
  const parts = scale.ticks().flatMap((ms) => [
    `<line class="grid" x1="${LEFT}" x2="${RIGHT}" y1="${y(ms)}" y2="${
      y(ms)
    }"/>`,
    textAt(LEFT - 6, y(ms) + 4, tickText(ms), "end"),
  ]);
  for (const share of [0, 0.25, 0.5, 0.75, 1]) {
    const seconds = tickText((fromMs + share * (toMs - fromMs)) / 1000);
    const at = LEFT + share * WIDTH;
    parts.push(textAt(at, BOTTOM + 32, `${seconds} s`, "middle"));
  }
  // One path for each kind of mark, however many there are.
  let [ranges, dots, losses] = ["", "", ""];
  for (const [i, column] of columns.entries()) {
    const { min, max, lost, received } = column;
    const at = `M${x(i + 0.5)} `;
    const all = `${at}${round(y(min) + 1)}V${round(y(max) - 1)}`;
    if (received > MANY) {
      // All of them lightly, and the middle half on top of that.
      ranges += all;
      const [from, to] = [0.25, 0.75]
        .map((share) => BOTTOM - heightAt(column, share) * HEIGHT);
      dots += `${at}${round(from! + 1)}V${round(to! - 1)}`;
    } else if (received > 0) dots += all;
    const tall = 3 + 9 * lost / (lost + received);
    if (lost > 0) losses += `${at}${BOTTOM + 16}v${round(-tall)}`;
  }
  const thick = received > COLUMNS / 2 ? 2 : 4;
  parts.push(
    `<path class="range" d="${ranges}"/>`,
    `<path class="rtt" stroke-width="${thick}" d="${dots}"/>`,
    `<path class="lost" d="${losses}"/>`,
  );
  const most = Math.max(1, ...bars);
  const step = HEIGHT / BARS;
  for (const [i, count] of bars.entries()) {
    if (count === 0) continue;
    const wide = round(Math.max(1, count / most * BAR_WIDTH));
    const place = `x="${BARS_LEFT}" y="${round(BOTTOM - (i + 1) * step)}"`;
    const size = `width="${wide}" height="${round(step - 1)}"`;
    parts.push(`<rect class="bar" ${place} ${size}/>`);
  }
  const loss = lossText(lossPercentOf({ received, lost, unsent: 0 }));
  const counts = `${received} received, ${lost} lost (${loss})`;
  const middle = (TOP + BOTTOM) / 2;
  return `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 960 420" role="img">
<title>RTTs of ${escape(label)}</title>
<style>
svg { background: #fff; color: #222; font: 12px system-ui, sans-serif; }
text { fill: currentColor; }
.title { font-size: 15px; font-weight: 600; }
.grid { stroke: #8884; }
.rtt { stroke: #1f77b4; stroke-linecap: round; fill: none; }
.range { stroke: #1f77b4; stroke-opacity: 0.25; fill: none; }
.lost { stroke: #d62728; stroke-width: 2; fill: none; }
.bar { fill: #1f77b4; }
@media (prefers-color-scheme: dark) {
svg { background: #16181c; color: #ddd; }
.rtt, .range { stroke: #6db3f2; }
.bar { fill: #6db3f2; }
.lost { stroke: #ff6b6b; }
}
</style>
<text class="title" x="${LEFT}" y="22">RTT of ${escape(label)}</text>
${textAt(LEFT, 40, `${now.toISOString()}, ${counts}`)}
${textAt(LEFT, 56, figures(picture))}
${parts.join("\n")}
${textAt(LEFT - 6, BOTTOM + 16, "lost", "end")}
${textAt(BARS_LEFT, BOTTOM + 16, "how many of each")}
<text x="14" y="${middle}" text-anchor="middle" transform="rotate(-90 14 ${middle})">RTT in ms${
    scale.isLog ? ", logarithmic" : ""
  }</text>
</svg>
`;
}

function textAt(x: number, y: number, text: string, anchor?: string): string {
  const attribute = anchor === undefined ? "" : ` text-anchor="${anchor}"`;
  return `<text x="${x}" y="${y}"${attribute}>${text}</text>`;
}

/** The picture for a terminal of `width` columns. */
export function plotText(samples: Samples, width: number): string {
  const barWidth = Math.max(8, Math.floor(width / 5));
  const plotWidth = Math.max(10, width - barWidth - 12);
  const picture = pictureOf(samples, plotWidth, ROWS);
  const { columns, bars, scale, fromMs, toMs, received, lost } = picture;
  const most = Math.max(1, ...bars);
  const lines = bars.map((count, row) => {
    const [from, to] = [row / ROWS, (row + 1) / ROWS];
    const cells = columns.map(({ min, max }) =>
      scale.heightOf(min) < to && scale.heightOf(max) >= from ? "•" : " "
    ).join("");
    const wide = count === 0 ? 0 : Math.max(1, count / most * barWidth);
    const bar = "█".repeat(Math.round(wide));
    const middle = tickText(scale.rttAt((from + to) / 2));
    return `${middle.padStart(9)} ${cells} ${bar}`.trimEnd();
  }).reverse();
  const marks = columns.map(({ lost }) => lost > 0 ? "x" : " ").join("");
  const losses = lost === 0 ? [] : [`${"lost".padStart(9)} ${marks.trimEnd()}`];
  const seconds = `${((toMs - fromMs) / 1000).toFixed(1)} s`;
  return [
    ...lines,
    ...losses,
    `${"ms".padStart(9)} over ${seconds}: ${received} received, ${lost} lost`,
    `${" ".repeat(10)}${figures(picture)}`,
  ].join("\n");
}

type Picture = ReturnType<typeof pictureOf>;
type Column = Picture["columns"][number];

/** All that is drawn, in a number of columns and of bars. */
function pictureOf(samples: Samples, columnCount: number, barCount: number) {
  const distribution = new Distribution();
  let [fromMs, toMs] = samples.length === 0 ? [0, 0] : [Infinity, -Infinity];
  for (const { atMs, rttMs } of samples) {
    fromMs = Math.min(fromMs, atMs);
    toMs = Math.max(toMs, atMs);
    if (!Number.isNaN(rttMs)) distribution.add(rttMs);
  }
  const scale = scaleFor(distribution);
  const columns = Array.from({ length: columnCount }, () => ({
    ...{ min: Infinity, max: -Infinity, lost: 0, received: 0 },
    /** Numbers of RTTs in each row, from the lowest up. */
    rows: new Uint32Array(COLUMN_ROWS),
  }));
  /** Numbers of RTTs in each bar, from the lowest up. */
  const bars = new Array<number>(barCount).fill(0);
  const partOf = (share: number, count: number) =>
    Math.min(count - 1, Math.floor(share * count));
  let [received, lost] = [0, 0];
  for (const { atMs, rttMs, outcome } of samples) {
    if (outcome === "pending") continue;
    const share = (atMs - fromMs) / (toMs - fromMs || 1);
    const column = columns[partOf(share, columnCount)]!;
    if (outcome !== "received") {
      column.lost++;
      lost++;
      continue;
    }
    received++;
    if (Number.isNaN(rttMs)) continue;
    column.received++;
    column.min = Math.min(column.min, rttMs);
    column.max = Math.max(column.max, rttMs);
    const height = scale.heightOf(rttMs);
    bars[partOf(height, barCount)]!++;
    column.rows[partOf(height, COLUMN_ROWS)]!++;
  }
  return { columns, bars, fromMs, toMs, scale, received, lost, distribution };
}

/** The height below which a share of a column's RTTs are, from 0 to 1. */
function heightAt({ rows, received }: Column, share: number): number {
  let [below, row] = [0, 0];
  while (row < rows.length - 1 && below + rows[row]! < share * received) {
    below += rows[row++]!;
  }
  return (row + 0.5) / rows.length;
}

/**
 * RTTs as heights from 0 to 1: linear from 0 where that shows all, logarithmic
 * where few are far above the rest.
 */
function scaleFor(distribution: Distribution) {
  const { min, median, max } = distribution.summary() ??
    { min: 0, median: 0, max: 1 };
  const isLog = min > 0 && max > LOG_FROM * median;
  const [low, high] = isLog ? [min / 1.1, max * 1.1] : [0, max * 1.05 || 1];
  return {
    isLog,
    heightOf: (ms: number) =>
      isLog ? Math.log(ms / low) / Math.log(high / low) : ms / high,
    rttAt: (height: number) =>
      isLog ? low * (high / low) ** height : height * high,
    /** Round values to write beside it. */
    ticks: () => isLog ? powersOf(low, high) : stepsOf(high),
  };
}

function powersOf(low: number, high: number): number[] {
  const ticks: number[] = [];
  for (let power = 10 ** Math.floor(Math.log10(low)); power <= high;) {
    for (const factor of [1, 2, 5]) ticks.push(factor * power);
    power *= 10;
  }
  return ticks.filter((ms) => ms >= low && ms <= high);
}

function stepsOf(high: number): number[] {
  const power = 10 ** Math.floor(Math.log10(high / 5));
  const step = [1, 2, 5, 10].map((factor) => factor * power)
    .find((step) => step >= high / 5)!;
  const count = Math.floor(high / step) + 1;
  return Array.from({ length: count }, (_, i) => i * step);
}

function figures({ distribution }: Picture): string {
  const summary = distribution.tail();
  if (summary === undefined) return "no RTT is known";
  return figuresText(figuresOf(summary, "mean", "stddev"));
}

function tickText(ms: number): string {
  return `${Number(ms.toPrecision(3))}`;
}

function round(value: number): number {
  return Number(value.toFixed(1));
}

function escape(text: string): string {
  return text.replace(/[&<>"]/g, (mark) => `&#${mark.charCodeAt(0)};`);
}

const LOG_FROM = 20;
const COLUMNS = 640;
const BARS = 40;
const COLUMN_ROWS = 150;
/** The largest number of RTTs that a column draws as one range. */
const MANY = 8;
const ROWS = 12;
const LEFT = 70;
const WIDTH = 640;
const RIGHT = LEFT + WIDTH;
const TOP = 70;
const BOTTOM = 370;
const HEIGHT = BOTTOM - TOP;
const BARS_LEFT = RIGHT + 30;
const BAR_WIDTH = 190;

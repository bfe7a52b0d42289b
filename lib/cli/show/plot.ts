/**
 * RTTs over time as a picture, the lost datagrams marked, and how they are
 * distributed beside it: as SVG, or for a terminal. Pure.
 *
 * @module
 */
import { Distribution } from "../../stats/distribution.ts";
import { milliseconds, percent } from "./format.ts";
import type { Sample, Samples } from "./samples.ts";

/** What of the samples falls into one column of the picture. */
interface Column {
  min: number;
  max: number;
  lost: number;
  received: number;
  /** How many RTTs are in each row, from the lowest up. */
  rows: Uint32Array;
}

/** All that is drawn, whatever it is drawn with. */
interface Picture {
  columns: Column[];
  /** How many RTTs are in each row, from the lowest up. */
  bars: number[];
  fromMs: number;
  toMs: number;
  scale: Scale;
  received: number;
  lost: number;
  distribution: Distribution;
}

/** RTTs as heights from 0 to 1. */
interface Scale {
  isLog: boolean;
  min: number;
  max: number;
  heightOf(ms: number): number;
  /** Round values to write beside it. */
  ticks(): number[];
}

/** The picture as one SVG file, in light and dark as its reader has it. */
export function plotSvg(label: string, samples: Samples, now: Date): string {
  const picture = pictureOf(samples, COLUMNS, BARS);
  const { received, lost, scale, columns, bars, fromMs, toMs } = picture;
  const y = (ms: number) => round(BOTTOM - scale.heightOf(ms) * HEIGHT);
  const x = (column: number) => round(LEFT + column * WIDTH / COLUMNS);
  const parts: string[] = [];
  for (const ms of scale.ticks()) {
    parts.push(
      `<line class="grid" x1="${LEFT}" x2="${RIGHT}" y1="${y(ms)}" y2="${
        y(ms)
      }"/>`,
      `<text x="${LEFT - 6}" y="${y(ms) + 4}" text-anchor="end">${
        tickText(ms)
      }</text>`,
    );
  }
  for (const share of [0, 0.25, 0.5, 0.75, 1]) {
    const at = LEFT + share * WIDTH;
    const seconds = (fromMs + share * (toMs - fromMs)) / 1000;
    parts.push(
      `<text x="${at}" y="${BOTTOM + 32}" text-anchor="middle">${
        Number(seconds.toPrecision(3))
      } s</text>`,
    );
  }
  // One path for each kind, whatever their number.
  const [ranges, dots, losses]: string[][] = [[], [], []];
  for (const [i, column] of columns.entries()) {
    const { min, max, lost, received } = column;
    const [top, bottom] = [round(y(max) - 1), round(y(min) + 1)];
    const at = `M${x(i + 0.5)} `;
    if (received > MANY) {
      // All of them lightly, and the middle half on top of that.
      ranges!.push(`${at}${bottom}V${top}`);
      const [low, high] = [heightAt(column, 0.25), heightAt(column, 0.75)];
      const [from, to] = [low, high].map((share) => BOTTOM - share * HEIGHT);
      dots!.push(`${at}${round(from! + 1)}V${round(to! - 1)}`);
    } else if (received > 0) dots!.push(`${at}${bottom}V${top}`);
    if (lost > 0) {
      const tall = 3 + 9 * lost / (lost + received);
      losses!.push(`M${x(i + 0.5)} ${BOTTOM + 16}v${round(-tall)}`);
    }
  }
  parts.push(`<path class="range" d="${ranges!.join("")}"/>`);
  const thick = received > COLUMNS / 2 ? 2 : 4;
  parts.push(
    `<path class="rtt" stroke-width="${thick}" d="${dots!.join("")}"/>`,
  );
  parts.push(`<path class="lost" d="${losses!.join("")}"/>`);
  const most = Math.max(1, ...bars);
  const step = HEIGHT / BARS;
  for (const [i, count] of bars.entries()) {
    if (count === 0) continue;
    const wide = round(Math.max(1, count / most * BAR_WIDTH));
    const top = round(BOTTOM - (i + 1) * step);
    parts.push(
      `<rect class="bar" x="${BARS_LEFT}" y="${top}" width="${wide}" height="${
        round(step - 1)
      }"/>`,
    );
  }
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
<text x="${LEFT}" y="40">${
    escape(now.toISOString())
  }, ${received} received, ${lost} lost (${
    received + lost === 0 ? "n/a" : percent(100 * lost / (received + lost))
  })</text>
<text x="${LEFT}" y="56">${escape(figures(picture))}</text>
${parts.join("\n")}
<text x="${LEFT - 6}" y="${BOTTOM + 16}" text-anchor="end">lost</text>
<text x="${BARS_LEFT}" y="${BOTTOM + 16}">how many of each</text>
<text x="14" y="${
    (TOP + BOTTOM) / 2
  }" text-anchor="middle" transform="rotate(-90 14 ${
    (TOP + BOTTOM) / 2
  })">RTT in ms${scale.isLog ? ", logarithmic" : ""}</text>
</svg>
`;
}

/** The picture for a terminal of so many columns. */
export function plotText(samples: Samples, width: number): string {
  const barWidth = Math.max(8, Math.floor(width / 5));
  const plotWidth = Math.max(10, width - barWidth - 12);
  const picture = pictureOf(samples, plotWidth, ROWS);
  const { columns, bars, scale, fromMs, toMs, received, lost } = picture;
  const most = Math.max(1, ...bars);
  const lines = bars.map((count, row) => {
    const [from, to] = [row / ROWS, (row + 1) / ROWS];
    const cells = columns.map(({ min, max, received }) => {
      if (received === 0) return " ";
      const [low, high] = [scale.heightOf(min), scale.heightOf(max)];
      return low < to && high >= from ? "•" : " ";
    });
    const wide = count === 0 ? 0 : Math.max(1, count / most * barWidth);
    const middle = scaleAt(scale, (from + to) / 2);
    return `${tickText(middle).padStart(9)} ${cells.join("")} ${
      "█".repeat(Math.round(wide))
    }`.trimEnd();
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

function pictureOf(
  samples: Samples,
  columnCount: number,
  barCount: number,
): Picture {
  const distribution = new Distribution(0);
  let [fromMs, toMs, lost] = [Infinity, -Infinity, 0];
  for (const { atMs, rttMs } of samples) {
    if (atMs < fromMs) fromMs = atMs;
    if (atMs > toMs) toMs = atMs;
    if (Number.isNaN(rttMs)) lost++;
    else distribution.add(rttMs);
  }
  if (samples.length === 0) [fromMs, toMs] = [0, 0];
  const scale = scaleFor(distribution);
  const columns = Array.from(
    { length: columnCount },
    () => ({
      min: Infinity,
      max: -Infinity,
      lost: 0,
      received: 0,
      rows: new Uint32Array(COLUMN_ROWS),
    }),
  );
  const bars = new Array<number>(barCount).fill(0);
  const span = toMs - fromMs || 1;
  for (const sample of samples) {
    const place = (sample.atMs - fromMs) / span * columnCount;
    const column = columns[Math.min(columnCount - 1, Math.floor(place))]!;
    addTo(column, sample);
    if (Number.isNaN(sample.rttMs)) continue;
    const height = scale.heightOf(sample.rttMs);
    bars[Math.min(barCount - 1, Math.floor(height * barCount))]!++;
    const row = Math.floor(height * COLUMN_ROWS);
    column.rows[Math.min(COLUMN_ROWS - 1, row)]!++;
  }
  const received = samples.length - lost;
  return { columns, bars, fromMs, toMs, scale, received, lost, distribution };
}

function addTo(column: Column, { rttMs }: Sample): void {
  if (Number.isNaN(rttMs)) {
    column.lost++;
    return;
  }
  column.received++;
  if (rttMs < column.min) column.min = rttMs;
  if (rttMs > column.max) column.max = rttMs;
}

/** The height below which a share of a column's RTTs are, from 0 to 1. */
function heightAt({ rows, received }: Column, share: number): number {
  let [below, row] = [0, 0];
  while (row < rows.length - 1 && below + rows[row]! < share * received) {
    below += rows[row++]!;
  }
  return (row + 0.5) / rows.length;
}

/** From 0 where that shows all; logarithmic where few are far above the rest. */
function scaleFor(distribution: Distribution): Scale {
  const { min, median, max } = distribution.summary() ??
    { min: 0, median: 0, max: 1 };
  const isLog = min > 0 && max > LOG_FROM * median;
  const [low, high] = isLog ? [min / 1.1, max * 1.1] : [0, max * 1.05 || 1];
  const heightOf = (ms: number) =>
    isLog
      ? Math.log(ms / low) / Math.log(high / low)
      : (ms - low) / (high - low);
  return {
    isLog,
    min: low,
    max: high,
    heightOf,
    ticks: () => ticksOf(low, high, isLog),
  };
}

function scaleAt({ isLog, min, max }: Scale, height: number): number {
  return isLog ? min * (max / min) ** height : min + height * (max - min);
}

function ticksOf(low: number, high: number, isLog: boolean): number[] {
  const ticks: number[] = [];
  if (isLog) {
    for (
      let power = Math.floor(Math.log10(low));
      10 ** power <= high;
      power++
    ) {
      for (const factor of [1, 2, 5]) ticks.push(factor * 10 ** power);
    }
    return ticks.filter((ms) => ms >= low && ms <= high);
  }
  const rough = high / 5;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((factor) => factor * power)
    .find((step) => step >= rough)!;
  for (let i = 0; i * step <= high; i++) ticks.push(i * step);
  return ticks;
}

function figures({ distribution }: Picture): string {
  const summary = distribution.tail();
  if (summary === undefined) return "no RTT is known";
  const { min, median, p90, p99, p999, max } = summary;
  const values = [min, median, p90, p99, p999, max].map(milliseconds);
  return `min/median/p90/p99/p99.9/max = ${values.join("/")} ms`;
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
/** More RTTs than are drawn one by one. */
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

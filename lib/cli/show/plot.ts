/**
 * A picture of runs, as SVG or for a terminal: RTTs over time, outages, and what
 * is missing; the distribution of the RTTs beside it. Pure.
 *
 * @module
 */
import { printable } from "../../encoding.ts";
import { figuresOf } from "./columns.ts";
import { milliseconds, present } from "./format.ts";
import { outageLine } from "./loss.ts";
import {
  type Axis,
  columnsOf,
  heightAt,
  numberText,
  type Panel,
  type Picture,
  pictureOf,
  type PictureRun,
  timeTicks,
} from "./picture.ts";

/**
 * The picture as one SVG file, in light and dark as its reader has it; of records
 * if there is an axis, each as wide as its time.
 */
export function plotSvg(runs: readonly PictureRun[], axis?: Axis): string {
  const columnCount = axis === undefined ? COLUMNS : columnsOf(axis, COLUMNS);
  const picture = pictureOf(runs, columnCount, BARS, axis);
  const height = runs.length === 1 ? 300 : 160;
  const panelHeight = TOP + height + ROW * picture.missing.length + 60;
  const panels = picture.panels.map((panel, i) => {
    const kind = panel.counts.received > COLUMNS / 2 ? "many" : "few";
    const parts = panelSvg(picture, panel, height).join("\n");
    const place = `translate(0 ${i * panelHeight})`;
    return `<g class="${kind}" transform="${place}">\n${parts}\n</g>\n`;
  });
  const whole = runs.length * panelHeight;
  const size = `viewBox="0 0 960 ${whole}" width="960" height="${whole}"`;
  const names = runs.map(({ label }) => escape(label)).join(", ");
  return `<svg xmlns="http://www.w3.org/2000/svg" ${size} role="img">
<title>RTTs of ${names}</title>
<style>
svg { background: #fff; color: #222; font: 12px system-ui, sans-serif; }
text { fill: currentColor; }
path { stroke: currentColor; fill: none; }
.title { font-size: 15px; font-weight: 600; }
.grid { color: #8884; }
.rtt, .range, .bar { color: #1f77b4; }
.rtt { stroke-linecap: round; stroke-width: 2; }
.few .rtt { stroke-width: 4; }
.range { stroke-opacity: 0.25; }
.percentile { color: #e8590c; stroke-dasharray: 6 3; }
.bar, .outage { fill: currentColor; stroke: none; }
.outage { fill-opacity: 0.2; }
.outage, .lost { color: #d62728; }
.rejected { color: #a35200; }
.unsent { color: #8250df; }
.lost, .rejected, .unsent { stroke-width: 1.5; }
${
    axis === undefined
      ? ""
      : recordStyle(WIDTH / columnCount)
  }@media (prefers-color-scheme: dark) {
svg { background: #16181c; color: #ddd; }
.rtt, .range, .bar { color: #6db3f2; }
.percentile { color: #ffd43b; }
.outage, .lost { color: #ff6b6b; }
.rejected { color: #ffb454; }
.unsent { color: #c9a5ff; }
}
</style>
${panels.join("")}</svg>
`;
}

/** The style of records: strokes that touch each other, and outages above them. */
function recordStyle(width: number): string {
  return `path.rtt, path.range { stroke-width: ${
    round(width)
  }; stroke-linecap: butt; }
.outage { fill-opacity: 0.4; stroke: currentColor; }
`;
}

/** A small picture of records: range and median of RTTs, outages, loss below. */
export function sparkSvg(run: PictureRun, axis: Axis): string {
  const [width, bottom, height] = [160, 25, 32];
  const count = columnsOf(axis, width);
  const { scale, panels: [panel] } = pictureOf([run], count, 1, axis);
  const { columns, outages } = panel!;
  const yOf = (share: number) => round(bottom - share * (bottom - 1));
  let [range, rtt, lost, outage] = ["", "", "", ""];
  for (const { from, to } of outages) {
    const wide = Math.max(1, round((to - from) * width));
    outage += `M${round(from * width)} 0h${wide}v${height}h${-wide}z`;
  }
  for (const [i, column] of columns.entries()) {
    const { min, max, measured, received, settled } = column;
    const at = `M${round((i + 0.5) * width / count)} `;
    if (measured > 0) {
      const [low, high] = [min, max].map((ms) => yOf(scale.heightOf(ms)));
      range += `${at}${low}V${high}`;
      rtt += `${at}${round(yOf(heightAt(column, 0.5)) + 1)}v-2`;
    }
    const size = round(2 + 4 * (1 - received / settled));
    if (received < settled) lost += `${at}${height}v${-size}`;
  }
  return `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${width} ${height}" width="${width}" height="${height}" role="img">
<title>RTTs of ${escape(run.label)}</title>
<style>
path { fill: none; stroke-width: ${round(width / count)}; }
.rtt, .range { stroke: #1f77b4; }
.range { stroke-opacity: 0.35; }
.lost { stroke: #d62728; }
.outage { fill: #d62728; fill-opacity: 0.5; }
@media (prefers-color-scheme: dark) {
.rtt, .range { stroke: #6db3f2; }
.lost { stroke: #ff6b6b; }
.outage { fill: #ff6b6b; }
}
</style>
<path class="outage" d="${outage}"/>
<path class="range" d="${range}"/>
<path class="rtt" d="${rtt}"/>
<path class="lost" d="${lost}"/>
</svg>
`;
}

/** The elements of one panel, whose plot is `height` high. */
function panelSvg(picture: Picture, panel: Panel, height: number): string[] {
  const { scale, missing } = picture;
  const { columns, bars, outages, startedAt, summary } = panel;
  const bottom = TOP + height;
  const yOf = (share: number) => round(bottom - share * height);
  const y = (ms: number) => yOf(scale.heightOf(ms));
  const x = (share: number) => round(LEFT + share * WIDTH);
  const rowAt = (row: number) => bottom + 16 + ROW * row;
  const axis = rowAt(missing.length) + 8;
  const tickCount = picture.axis === undefined ? TIME_TICKS : DATE_TICKS;
  const name = shortened(printable(panel.label), NAME_CHARS);
  const middle = TOP + height / 2;
  const unit = scale.isLog ? "RTT in ms, logarithmic" : "RTT in ms";
  const parts = [
    textAt(LEFT, 22, `RTT of ${name}`, ' class="title"'),
    textAt(LEFT, 40, panel.line),
    textAt(LEFT, 56, figures(panel)),
    textAt(BARS_LEFT, bottom + 16, "distribution"),
    textAt(14, middle, unit, `${MIDDLE} transform="rotate(-90 14 ${middle})"`),
    ...outages.map((outage) => {
      const [from, to] = [x(outage.from), x(outage.to)];
      const d = `M${from} ${TOP}V${bottom}H${Math.max(from + 2, to)}V${TOP}z`;
      const title = escape(outageLine(outage, startedAt));
      return `<path class="outage" d="${d}"><title>${title}</title></path>`;
    }),
  ];
  // One path for each kind of mark, however many there are.
  const paths = {
    ...{ grid: "", range: "", rtt: "", percentile: "", bar: "" },
    ...{ lost: "", rejected: "", unsent: "" },
  };
  for (const ms of scale.ticks()) {
    paths.grid += `M${LEFT} ${y(ms)}H${RIGHT}`;
    parts.push(textAt(LEFT - 6, y(ms) + 4, numberText(ms), END));
  }
  parts.push(textAt(8, axis + 16, "UTC"));
  for (const { share, texts } of timeTicks(picture, tickCount)) {
    paths.grid += `M${x(share)} ${TOP}V${axis - 14}`;
    parts.push(textAt(x(share), axis, texts[0], MIDDLE));
    parts.push(textAt(x(share), axis + 16, texts[1], MIDDLE));
  }
  for (const [i, column] of columns.entries()) {
    const at = `M${x((i + 0.5) / columns.length)} `;
    const all = `${at}${round(y(column.min) + 1)}V${round(y(column.max) - 1)}`;
    if (column.measured > MANY) {
      // All of them lightly, and the middle half on top of that.
      paths.range += all;
      const [from, to] = [0.25, 0.75].map((part) =>
        yOf(heightAt(column, part))
      );
      paths.rtt += `${at}${round(from! + 1)}V${round(to! - 1)}`;
    } else if (column.measured > 0) paths.rtt += all;
    for (const [row, kind] of missing.entries()) {
      const share = column[kind] / column.settled;
      if (share > 0) paths[kind] += at + (rowAt(row) - 4) + markOf(kind, share);
    }
  }
  for (const [row, kind] of missing.entries()) {
    const mark = `M${LEFT - 8} ${rowAt(row) - 4}${markOf(kind, 1)}`;
    parts.push(`<path class="${kind}" d="${mark}"/>`);
    parts.push(textAt(LEFT - 16, rowAt(row), kind, END));
  }
  if (summary !== undefined) {
    const [at50, at99] = [y(summary.median), y(summary.p99)];
    paths.percentile = `M${LEFT} ${at50}H${RIGHT}M${LEFT} ${at99}H${RIGHT}`;
    const above = Math.min(at99, at50 - 14);
    const [p50, p99] = [summary.median, summary.p99].map(numberText);
    parts.push(textAt(RIGHT + 6, at50 + 4, `p50 ${p50}`));
    parts.push(textAt(RIGHT + 6, above + 4, `p99 ${p99}`));
  }
  const thick = round(height / BARS - 1);
  for (const [i, count] of bars.entries()) {
    const wide = round(Math.max(1, count / Math.max(...bars) * BAR_WIDTH));
    if (count === 0) continue;
    const at = `M${BARS_LEFT} ${yOf((i + 1) / BARS)}`;
    paths.bar += `${at}h${wide}v${thick}h${-wide}z`;
  }
  const drawn = Object.entries(paths)
    .map(([kind, d]) => `<path class="${kind}" d="${d}"/>`);
  return [...drawn, ...parts];
}

/** A mark around a point, whose size grows with a share from 0 to 1. */
function markOf(kind: Picture["missing"][number], share: number): string {
  const half = Math.round(2 + 3 * share);
  const size = 2 * half;
  return {
    lost: `m0 ${-half}v${size}`,
    rejected: `m${-half} ${-half}l${size} ${size}m0 ${-size}l${-size} ${size}`,
    unsent: `m${-half} ${-half}h${size}v${size}h${-size}z`,
  }[kind];
}

function textAt(x: number, y: number, text: string, attributes = ""): string {
  return `<text x="${x}" y="${y}"${attributes}>${escape(text)}</text>`;
}

/** The picture for a terminal of `width` columns, each run below the last. */
export function plotText(runs: readonly PictureRun[], width: number): string {
  const barWidth = Math.max(8, Math.floor(width / 5));
  const plotWidth = Math.max(10, width - barWidth - 12);
  const picture = pictureOf(runs, plotWidth, ROWS);
  const ticks = timeTicks(picture, Math.max(2, plotWidth / TICK_CHARS));
  const [times, clocks] = ([0, 1] as const).map((line) =>
    ticks.reduce((row, tick) => {
      const longer = `${row.padEnd(tick.share * plotWidth)} ${
        tick.texts[line]
      }`;
      return longer.length > width - 9 ? row : longer;
    }, "").slice(1)
  );
  return picture.panels.map((panel) =>
    [
      shortened(printable(panel.label), width),
      ...panelText(picture, panel, barWidth),
      rowOf("", times!),
      rowOf("UTC", clocks!),
      ...wrapped(panel.line, width),
      ...wrapped(figures(panel), width),
    ].map((line) => line.trimEnd()).join("\n")
  ).join("\n\n");
}

/** The RTTs of one panel from the longest down, then what is missing. */
function panelText(
  { scale, missing }: Picture,
  { columns, bars, summary }: Panel,
  barWidth: number,
): string[] {
  const most = Math.max(1, ...bars);
  const rows = bars.map((count, row) => {
    const [from, to] = [row / ROWS, (row + 1) / ROWS];
    const isIn = (ms = NaN) =>
      scale.heightOf(ms) >= from && scale.heightOf(ms) < to;
    const levels = present([
      isIn(summary?.median) && "p50",
      isIn(summary?.p99) && "p99",
    ]);
    const empty = levels.length > 0 ? "┄" : " ";
    const cells = columns.map(({ min, max }) =>
      scale.heightOf(min) < to && scale.heightOf(max) >= from ? "•" : empty
    ).join("");
    const wide = count === 0 ? 0 : Math.max(1, count / most * barWidth);
    const middle = numberText(scale.rttAt((from + to) / 2));
    const bar = "█".repeat(Math.round(wide));
    return rowOf(levels.join(" ") || middle, `${cells} ${bar}`);
  }).reverse();
  for (const kind of ["outage", ...missing] as const) {
    const marks = columns.map((column) => column[kind] > 0 ? "x" : " ").join(
      "",
    );
    if (marks.trim() !== "") rows.push(rowOf(kind, marks));
  }
  return rows;
}

function rowOf(head: string, cells: string): string {
  return `${head.padStart(9)} ${cells}`;
}

/** The lines of a text, broken at spaces. */
function wrapped(text: string, width: number): string[] {
  return text.match(RegExp(`\\S.{0,${width - 2}}(?= |$)`, "g")) ?? [];
}

function figures({ summary }: Panel): string {
  if (summary === undefined) return "no RTT is known";
  const texts = figuresOf(summary, "mean", "stddev")
    .map(([name, ms]) => `${name} ${milliseconds(ms)}`);
  return `${texts.join(", ")} ms`;
}

/** A name of at most `length` characters; its end, which has the port, is kept. */
function shortened(name: string, length: number): string {
  const half = Math.floor((length - 1) / 2);
  return name.length <= length
    ? name
    : `${name.slice(0, half)}…${name.slice(-half)}`;
}

function round(value: number): number {
  return Number(value.toFixed(1));
}

/** A text in XML, without the control characters that it may not have. */
function escape(text: string): string {
  return printable(text)
    .replace(/[&<>"]/g, (mark) => `&#${mark.charCodeAt(0)};`);
}

const COLUMNS = 640;
const BARS = 40;
/** The largest number of RTTs that a column draws as one range. */
const MANY = 8;
const ROWS = 12;
const TIME_TICKS = 6;
const DATE_TICKS = 7;
/** The characters of a tick's text, and a space. */
const TICK_CHARS = 13;
const NAME_CHARS = 64;
const LEFT = 76;
const WIDTH = 640;
const RIGHT = LEFT + WIDTH;
const TOP = 70;
/** The height of a row of marks. */
const ROW = 14;
const BARS_LEFT = RIGHT + 80;
const BAR_WIDTH = 150;
const MIDDLE = ' text-anchor="middle"';
const END = ' text-anchor="end"';

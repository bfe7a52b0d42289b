/**
 * The contents of a picture of runs, whatever draws it: a panel for each run, all
 * of one scale and one axis of time. Pure.
 *
 * @module
 */
import { Distribution, type TailSummary } from "../../stats/distribution.ts";
import { LossPeriods, type Outage } from "../../stats/loss_periods.ts";
import type { Outcome } from "../../stats/sample.ts";
import { type Columns, COUNT, countsOf, LOST, RARE, rare } from "./columns.ts";
import { timeOf } from "./loss.ts";

/** The outcomes that have marks of their own below the RTTs. */
const MISSING = ["lost", "rejected", "unsent"] as const;

/** One datagram, or several of one time, RTT and outcome. */
export interface PicturePoint {
  /** The time since the first send, in milliseconds. */
  atMs: number;
  /** NaN if it has none. */
  rttMs: number;
  outcome: Outcome;
  /** The number of datagrams, 1 by default. */
  times?: number;
}

/** A run as far as a picture shows it: datagram by datagram, or as records. */
export interface PictureRun {
  label: string;
  samples: Iterable<PicturePoint> & {
    /** The number of points. */
    readonly length: number;
    /** The first send by the wall clock, as Unix time in milliseconds. */
    readonly startedAt: number;
    /** Datagrams without a point. */
    readonly leftOut: number;
  };
  /** Found from the points if undefined. */
  outages?: readonly Outage[];
}

/** The axis of time of records, in Unix time and whole steps, in milliseconds. */
export interface Axis {
  from: number;
  to: number;
  /** The duration of a record. */
  stepMs: number;
}

export type Picture = ReturnType<typeof pictureOf>;
export type Panel = Picture["panels"][number];

/**
 * All that is drawn, each run in a number of columns and of bars: over the time of
 * all runs, or over that of an axis.
 */
export function pictureOf(
  runs: readonly PictureRun[],
  columnCount: number,
  barCount: number,
  axis?: Axis,
) {
  const read = runs.map(readRun);
  const known = read.filter(({ samples }) => samples.length > 0);
  const startedAt = axis?.from ??
    Math.min(...known.map(({ startedAt }) => startedAt));
  const ends = known.map(({ startedAt, endMs }) => startedAt + endMs);
  const endedAt = axis?.to ?? Math.max(...ends);
  const spanMs = Math.max(0, endedAt - startedAt);
  const scale = scaleFor(read.flatMap(({ summary }) => summary ?? []));
  const partOf = (share: number, count: number) =>
    Math.min(count - 1, Math.max(0, Math.floor(share * count)));
  const panels = read.map((run) => {
    const shareOf = (atMs: number) =>
      (run.startedAt + atMs - startedAt) / (spanMs || 1);
    const columns = Array.from({ length: columnCount }, () => ({
      ...{ min: Infinity, max: -Infinity, measured: 0, outage: 0 },
      ...{ received: 0, lost: 0, rejected: 0, unsent: 0, settled: 0 },
      /** Numbers of RTTs in each row, from the lowest up. */
      rows: new Uint32Array(COLUMN_ROWS),
    }));
    /** Numbers of RTTs in each bar, from the lowest up. */
    const bars = new Array<number>(barCount).fill(0);
    for (const { atMs, rttMs, outcome, times = 1 } of run.samples) {
      if (outcome === "pending") continue;
      const column = columns[partOf(shareOf(atMs), columnCount)]!;
      column[outcome] += times;
      column.settled += times;
      if (Number.isNaN(rttMs)) continue;
      column.measured += times;
      column.min = Math.min(column.min, rttMs);
      column.max = Math.max(column.max, rttMs);
      const height = scale.heightOf(rttMs);
      bars[partOf(height, barCount)]! += times;
      column.rows[partOf(height, COLUMN_ROWS)]! += times;
    }
    const lastMs = axis === undefined ? run.endMs : axis.to - run.startedAt;
    const outages = run.outages.map((outage) => {
      const [from, to] = [outage.fromMs, outage.toMs ?? lastMs]
        .map((atMs) => Math.min(1, Math.max(0, shareOf(atMs)))) as [
          number,
          number,
        ];
      const last = partOf(to, columnCount);
      for (let i = partOf(from, columnCount); i <= last; i++) {
        columns[i]!.outage++;
      }
      return { ...outage, from, to };
    });
    return { ...run, columns, bars, outages };
  });
  /** The outcomes that occur. */
  const missing = MISSING.filter((kind) =>
    read.some(({ counts }) => counts[kind] > 0)
  );
  return { panels, startedAt, spanMs, scale, missing, axis };
}

/** The number of columns of whole records, at most `most`. */
export function columnsOf({ from, to, stepMs }: Axis, most: number): number {
  const records = Math.max(1, Math.ceil((to - from) / stepMs));
  return Math.ceil(records / Math.ceil(records / most));
}

/** The figures of one run. */
function readRun({ label, samples, outages: known }: PictureRun) {
  const distribution = new Distribution();
  const periods = new LossPeriods();
  const counts = { received: 0, lost: 0, rejected: 0, unsent: 0, pending: 0 };
  let [withoutRtt, endMs] = [0, 0];
  for (const { atMs, rttMs, outcome, times = 1 } of samples) {
    counts[outcome] += times;
    endMs = Math.max(endMs, atMs);
    if (!Number.isNaN(rttMs)) distribution.add(rttMs, times);
    else if (outcome === "received") withoutRtt += times;
    if (outcome === "pending") continue;
    periods.add(atMs, outcome === "rejected" ? "lost" : outcome);
  }
  const { startedAt, leftOut } = samples;
  const { outages, outageCount } = known === undefined
    ? periods.structure()
    : { outages: known, outageCount: known.length };
  const lost = counts.lost + counts.rejected;
  const facts = { ...counts, lost, withoutRtt, outageCount, leftOut };
  const start = samples.length === 0 ? "" : `${timeOf(startedAt)}, `;
  return {
    ...{ label, samples, startedAt, endMs, counts, outages },
    line: start + countsOf(COUNTS, facts),
    summary: distribution.tail(),
  };
}

const COUNTS: Columns<
  Record<Outcome | "outageCount" | "withoutRtt" | "leftOut", number>
> = {
  received: COUNT,
  lost: LOST,
  unsent: {},
  rejected: RARE,
  pending: RARE,
  outageCount: rare("outages"),
  withoutRtt: rare("without an RTT"),
  leftOut: rare("left out"),
};

/** The height below which a share of a column's RTTs are, from 0 to 1. */
export function heightAt(
  { rows, measured }: Panel["columns"][number],
  share: number,
): number {
  let [below, row] = [0, 0];
  while (row < rows.length - 1 && below + rows[row]! < share * measured) {
    below += rows[row++]!;
  }
  return (row + 0.5) / rows.length;
}

/**
 * RTTs as heights from 0 to 1: linear from 0 where that shows all, logarithmic
 * where few are far above the rest, or one run is far above another.
 */
function scaleFor(summaries: TailSummary[]) {
  const min = Math.min(...summaries.map(({ min }) => min));
  const median = Math.min(...summaries.map(({ median }) => median));
  const max = Math.max(0, ...summaries.map(({ max }) => max));
  const isLog = min > 0 && max > LOG_FROM * median;
  const [low, high] = isLog ? [min / 1.1, max * 1.1] : [0, max * 1.05 || 1];
  return {
    isLog,
    heightOf: (ms: number) =>
      isLog ? Math.log(ms / low) / Math.log(high / low) : ms / high,
    rttAt: (height: number) =>
      isLog ? low * (high / low) ** height : height * high,
    /** Round values to write beside it, no more than some twenty. */
    ticks: () => isLog ? powersOf(low, high) : multiplesOf(high),
  };
}

function powersOf(low: number, high: number): number[] {
  const ticks: number[] = [];
  const factors = high / low < 2000 ? [1, 2, 5] : [1];
  for (let power = 10 ** Math.floor(Math.log10(low)); power <= high;) {
    for (const factor of factors) ticks.push(factor * power);
    power *= 10;
  }
  return ticks.filter((ms) => ms >= low && ms <= high);
}

function multiplesOf(high: number): number[] {
  const step = roundAbove(high / 5);
  const count = Math.floor(high / step) + 1;
  return Array.from({ length: count }, (_, i) => i * step);
}

/** The least of 1, 2, 5, 10, 20 ... that is not below a value. */
function roundAbove(value: number): number {
  const power = 10 ** Math.floor(Math.log10(value));
  return [1, 2, 5, 10].map((factor) => factor * power)
    .find((step) => step >= value)!;
}

/**
 * Round times, at most `count` and one, with their places from 0 to 1 and two texts:
 * the time since the start and the wall clock's; on an axis of records the wall
 * clock's and the date. In UTC.
 */
export function timeTicks({ startedAt, spanMs, axis }: Picture, count: number) {
  const step = TIME_STEPS.find((step) => step >= spanMs / count) ??
    DAY * roundAbove(spanMs / count / DAY);
  const [unitMs, unit] = UNITS.findLast(([ms]) => step >= ms) ?? UNITS[0]!;
  if (startedAt === Infinity) return [];
  const first = axis === undefined
    ? 0
    : step * Math.ceil(startedAt / step) - startedAt;
  const length = spanMs >= step ? Math.floor((spanMs - first) / step) + 1 : 1;
  return Array.from({ length }, (_, i) => {
    const atMs = first + i * step;
    const time = new Date(startedAt + atMs).toISOString();
    const clock = time.slice(11, step < 1000 ? 23 : 19);
    return {
      share: atMs / (spanMs || 1),
      texts: axis === undefined
        ? [`${numberText(atMs / unitMs)} ${unit}`, clock] as const
        : [clock.slice(0, 5), time.slice(0, 10)] as const,
    };
  });
}

/** A number to three significant digits. */
export function numberText(value: number): string {
  return `${Number(value.toPrecision(3))}`;
}

const DAY = 86_400_000;
const UNITS: ReadonlyArray<readonly [number, string]> = [
  [1000, "s"],
  [60_000, "min"],
  [3_600_000, "h"],
  [DAY, "d"],
];
const TIME_STEPS = [
  ...[1, 2, 5, 10, 20, 50, 100, 200, 500],
  ...[1, 2, 5, 10, 30].map((seconds) => seconds * 1000),
  ...[1, 2, 5, 10, 30].map((minutes) => minutes * 60_000),
  ...[1, 2, 6, 12].map((hours) => hours * 3_600_000),
];
const LOG_FROM = 20;
const COLUMN_ROWS = 150;

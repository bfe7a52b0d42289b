/**
 * The contents of a picture of runs, whatever draws it: a panel for each run, all
 * of one scale and one axis of time. Pure.
 *
 * @module
 */
import { Distribution, type TailSummary } from "../../stats/distribution.ts";
import { LossPeriods } from "../../stats/loss_periods.ts";
import type { Outcome } from "../../stats/sample.ts";
import { type Columns, COUNT, countsOf, LOST, RARE, rare } from "./columns.ts";
import { timeOf } from "./loss.ts";
import type { RecordedRun } from "./samples.ts";

/** The outcomes that have marks of their own below the RTTs. */
const MISSING = ["lost", "rejected", "unsent"] as const;

export type Picture = ReturnType<typeof pictureOf>;
export type Panel = Picture["panels"][number];

/** All that is drawn, each run in a number of columns and of bars. */
export function pictureOf(
  runs: readonly RecordedRun[],
  columnCount: number,
  barCount: number,
) {
  const read = runs.map(readRun);
  const known = read.filter(({ samples }) => samples.length > 0);
  const startedAt = Math.min(...known.map(({ startedAt }) => startedAt));
  const ends = known.map(({ startedAt, endMs }) => startedAt + endMs);
  const spanMs = Math.max(0, Math.max(...ends) - startedAt);
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
    for (const { atMs, rttMs, outcome } of run.samples) {
      if (outcome === "pending") continue;
      const column = columns[partOf(shareOf(atMs), columnCount)]!;
      column[outcome]++;
      column.settled++;
      if (Number.isNaN(rttMs)) continue;
      column.measured++;
      column.min = Math.min(column.min, rttMs);
      column.max = Math.max(column.max, rttMs);
      const height = scale.heightOf(rttMs);
      bars[partOf(height, barCount)]!++;
      column.rows[partOf(height, COLUMN_ROWS)]!++;
    }
    const outages = run.outages.map((outage) => {
      const from = shareOf(outage.fromMs);
      const to = shareOf(outage.toMs ?? run.endMs);
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
  return { panels, startedAt, spanMs, scale, missing };
}

/** The figures of one run. */
function readRun({ label, samples }: RecordedRun) {
  const distribution = new Distribution();
  const periods = new LossPeriods();
  const counts = { received: 0, lost: 0, rejected: 0, unsent: 0, pending: 0 };
  let [withoutRtt, endMs] = [0, 0];
  for (const { atMs, rttMs, outcome } of samples) {
    counts[outcome]++;
    endMs = Math.max(endMs, atMs);
    if (!Number.isNaN(rttMs)) distribution.add(rttMs);
    else if (outcome === "received") withoutRtt++;
    if (outcome === "pending") continue;
    periods.add(atMs, outcome === "rejected" ? "lost" : outcome);
  }
  const { startedAt, leftOut } = samples;
  const { outages, outageCount } = periods.structure();
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
 * Round times since the start, at most `count` and one, with their places from 0 to
 * 1; as text, and by the wall clock in UTC.
 */
export function timeTicks({ startedAt, spanMs }: Picture, count: number) {
  const step = TIME_STEPS.find((step) => step >= spanMs / count) ??
    DAY * roundAbove(spanMs / count / DAY);
  const [unitMs, unit] = UNITS.findLast(([ms]) => step >= ms) ?? UNITS[0]!;
  const length = spanMs >= step ? Math.floor(spanMs / step) + 1 : 1;
  if (startedAt === Infinity) return [];
  return Array.from({ length }, (_, i) => ({
    share: i * step / (spanMs || 1),
    since: `${numberText(i * step / unitMs)} ${unit}`,
    clock: new Date(startedAt + i * step).toISOString()
      .slice(11, step < 1000 ? 23 : 19),
  }));
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

/** Goals: ratios of interleaved rounds, and the verdicts that they carry. Pure. */
import { summarize } from "../../lib/stats/statistics.ts";

/** The figures of one program in one round. */
export interface Measured {
  repliesPerSecond: number;
  lost: number;
  wrong: number;
  medianUs: number | null;
  /** The processor time of a reply, where it is known. */
  cpuUs?: number | null;
}

/** Our program beside another one. */
export interface Goal {
  name: string;
  /** Our speed is at least, or our cost at most, `limit` times the other's. */
  figure: "speed" | "cost";
  by: "wall clock" | "processor time";
  limit: number;
}

/** The rounds of both programs; those of one index were neighbours. */
export interface Rounds {
  ours: Measured[];
  theirs: Measured[];
}

/** The median ratio of the rounds, and its confidence interval of 95 %. */
export interface Ratio {
  median: number;
  low: number;
  high: number;
}

export type Verdict = "met" | "not met" | "too noisy to tell";

/** The outcome for a goal, with the ratio by the other clock where it is known. */
export interface Outcome extends Goal, Ratio {
  verdict: Verdict;
  other: Ratio | null;
  rounds: Rounds;
}

/** Judges the rounds of a goal. */
export function judge(goal: Goal, rounds: Rounds): Outcome {
  const { figure, by, limit } = goal;
  const ratio = ratioOf(rounds, figure, by);
  const other = ratioOf(rounds, figure, otherClock(by));
  const isMore = figure === "speed";
  const { low, high } = ratio;
  let verdict: Verdict = "too noisy to tell";
  if (isMore ? low >= limit : high <= limit) verdict = "met";
  else if (isMore ? high < limit : low > limit) verdict = "not met";
  return {
    ...goal,
    ...ratio,
    verdict,
    other: Number.isFinite(other.median) ? other : null,
    rounds,
  };
}

/** The line of an outcome. */
export function verdictLine(outcome: Outcome): string {
  const { name, figure, by, limit, verdict, other } = outcome;
  const goal = `${figure === "speed" ? "at least" : "at most"} ${limit}`;
  return [
    `${verdict}: ${name}: ${figure} ${shown(outcome)} by ${by}`,
    `goal ${goal}`,
    ...(other === null ? [] : [`by ${otherClock(by)} ${shown(other)}`]),
  ].join("; ");
}

/** Compares an outcome with that of an earlier run, by both clocks: one line. */
export function comparison(
  now: Outcome,
  earlier: Outcome | undefined,
): { line: string; isChanged: boolean } {
  if (earlier === undefined) {
    return { line: "not in the earlier run", isChanged: false };
  }
  const parts = [`earlier ${compared(now, earlier)}`];
  if (now.other !== null && earlier.other !== null) {
    const clock = otherClock(now.by);
    parts.push(`by ${clock} ${compared(now.other, earlier.other)}`);
  }
  return {
    line: parts.join("; "),
    isChanged: parts[0]!.endsWith(CHANGED),
  };
}

/** A ratio of an earlier run, and whether this run confirms it. */
function compared(now: Ratio, earlier: Ratio): string {
  const change = now.median / earlier.median - 1;
  const overlaps = now.low <= earlier.high && earlier.low <= now.high;
  const word = Math.abs(change) <= NEAR
    ? "confirmed"
    : overlaps
    ? "too noisy to tell"
    : CHANGED;
  const percent = `${change < 0 ? "" : "+"}${(100 * change).toFixed(0)} %`;
  return `${shown(earlier)}, ${percent}: ${word}`;
}

function otherClock(by: Goal["by"]): Goal["by"] {
  return by === "wall clock" ? "processor time" : "wall clock";
}

function ratioOf(
  { ours, theirs }: Rounds,
  figure: Goal["figure"],
  by: Goal["by"],
): Ratio {
  const cost = ({ repliesPerSecond, cpuUs }: Measured) =>
    by === "wall clock" ? 1e6 / repliesPerSecond : cpuUs ?? NaN;
  const costs = ours.map((own, i) => cost(own) / cost(theirs[i]!));
  const ratios = costs
    .map((ratio) => figure === "cost" ? ratio : 1 / ratio)
    .toSorted((a, b) => a - b);
  const at = rankOf(ratios.length);
  return {
    median: summarize(ratios)?.median ?? NaN,
    low: ratios[at] ?? NaN,
    high: ratios.at(-1 - at) ?? NaN,
  };
}

/**
 * The number of the smallest ratios, and of the largest, outside of the confidence
 * interval of the median: each ratio lies above the true median with probability
 * one half. Of fewer than six the interval is the whole range.
 */
export function rankOf(count: number): number {
  let rank = 0;
  let ways = 1;
  let below = 1;
  while (rank < count) {
    ways *= (count - rank) / (rank + 1);
    below += ways;
    if (2 * below / 2 ** count > 1 - CONFIDENCE) break;
    rank++;
  }
  return rank;
}

function shown({ median, low, high }: Ratio): string {
  return `${median.toFixed(2)} (${low.toFixed(2)} … ${high.toFixed(2)})`;
}

const CONFIDENCE = 0.95;
const CHANGED = "changed";
/** The largest change of a ratio that confirms an earlier run. */
const NEAR = 0.1;

/**
 * The search for the largest rate: its tries, and the verdict on each. Pure.
 *
 * @module
 */
import type { LoadResult } from "../../client/load.ts";
import { LOAD } from "../../client/load_options.ts";
import type { Interval } from "../../stats/books.ts";
import { durationText, lossText, timeText } from "./format.ts";
import type { Step } from "./loaded.ts";

/** The bounds of a search for a rate, and the length of its tries. */
export interface SearchPlan {
  maxRate: number;
  /** The length of each try. */
  stepMs: number;
  /** The percentage of loss that is no reason to try less. */
  maxLoss: number;
}

/** The figures of a search before it begins. */
export function searchBounds({ maxRate, stepMs, maxLoss }: SearchPlan) {
  const count = Math.min(MAX_COUNT, 300 / (maxLoss || 1));
  const wantedMs = Math.max(LONG * stepMs, 1000 * count / maxRate);
  const longMs = Math.min(wantedMs, LOAD.durationMs.max!);
  const least = Math.min(maxRate, Math.ceil(1000 * count / longMs));
  const first = Math.min(maxRate, Math.max(FIRST_RATE, least));
  return {
    longMs,
    least,
    first,
    maxTries: Math.ceil(Math.log2(maxRate / first)) + MAX_NARROWED,
    /** Of fewer datagrams the loss would not be seen. */
    tryMs: (rate: number) =>
      Math.min(longMs, Math.max(stepMs, 1000 * count / rate)),
  };
}

/** The longest time of a search. */
export function searchMs(plan: SearchPlan, timeoutMs: number): number {
  const { maxTries, tryMs, first, longMs } = searchBounds(plan);
  return 2 * (maxTries * (tryMs(first) + timeoutMs) +
    (MAX_LONG + 1) * (longMs + timeoutMs));
}

/**
 * Searches for the largest rate that is not too high, to 2 %: doubled from a low one,
 * then by bisection, with the rate of the replies as the first guess. The result is the
 * last try if that passed: a long one, as a short one may pass on saved tokens.
 */
export async function* searchRate(
  plan: SearchPlan,
  tryOne: (rate: number, ms: number) => Promise<Step>,
): AsyncGenerator<Step, void> {
  const { maxRate: max } = plan;
  const { least, first, longMs, maxTries, tryMs } = searchBounds(plan);
  /** A short outage fails one try, and not two. */
  async function* tried(rate: number, ms = tryMs(rate)) {
    let step = await tryOne(rate, ms);
    yield step;
    if (step.why !== undefined) yield step = await tryOne(rate, ms);
    return step;
  }
  let [low, high, next, isGuess] = [0, Infinity, first, false];
  for (let tries = 0; tries < maxTries; tries++) {
    const { why, received, receivedPerSecond = 0 } = yield* tried(next);
    if (received === 0) return;
    if (why === undefined) low = next;
    else high = next;
    const isNarrow = high - low <= 1 || low >= high * (1 - PRECISION);
    if (low >= max || isNarrow || high <= least) break;
    const guess = why === undefined
      ? isGuess ? low / (1 - PRECISION) : 0
      : receivedPerSecond;
    isGuess = why !== undefined && guess > low && guess < high;
    const middle = high === Infinity ? 2 * low : (low + high) / 2;
    next = Math.ceil(guess > low && guess < high ? guess : middle);
    next = Math.min(next, max, Math.ceil(high) - 1);
    if (low === 0) next = least;
  }
  if (low >= max && tryMs(low) >= longMs) return;
  for (let tries = 0; tries < MAX_LONG && low >= least; tries++) {
    const { why, received, lastPerSecond } = yield* tried(low, longMs);
    if (why === undefined || received === 0) return;
    const below = (1 - PRECISION) * low;
    low = Math.floor(Math.min(below, lastPerSecond ?? below));
  }
}

/** Why a search found no rate, by its last try. */
export function noRate({ received, rate, lossPercent, durationMs, why }: Step) {
  if (received === 0) return "the server no longer answers";
  return lossPercent
    ? `loss at every rate: ${lossText(lossPercent)} at ${rate} a second, ` +
      `in ${durationText(durationMs)} (a longer --duration tries less)`
    : why;
}

/**
 * Why a rate is too high, if it is: by loss, or by a queue that grew from the first to
 * the last quarter of the try, and was not seen to be full.
 */
export function tooHigh(
  { lossPercent = 0, kernelDrops = 0, sentPerSecond, rate }:
    & Pick<LoadResult, "lossPercent" | "kernelDrops" | "sentPerSecond">
    & { rate: number },
  quarters: Array<Pick<Interval, "rttMs">>,
  maxLoss: number,
): string | undefined {
  if (sentPerSecond !== undefined && sentPerSecond < MIN_REACHED * rate) {
    return `too high: this machine sent ${Math.round(sentPerSecond)} a second`;
  }
  if (lossPercent > maxLoss) {
    const place = kernelDrops > 0 ? ` (${kernelDrops} in this machine)` : "";
    return `too high: more than ${maxLoss}% is lost${place}`;
  }
  const [first, , , last] = quarters;
  const grownMs = (last?.rttMs?.median ?? 0) - (first?.rttMs?.median ?? 0);
  return grownMs > GROWN_MS
    ? `too high: the queue grew by ${timeText(grownMs)}`
    : undefined;
}

const FIRST_RATE = 100;
const PRECISION = 0.02;
/** The most tries after the rate was doubled, and long ones. */
const MAX_NARROWED = 12;
const MAX_LONG = 5;
/** The length of a long try, in tries. */
const LONG = 5;
/** The most datagrams that a try needs. */
const MAX_COUNT = 3000;
const MIN_REACHED = 0.98;
/** Growth of the median in three quarters of a try that is no jitter. */
const GROWN_MS = 10;

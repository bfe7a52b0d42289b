/**
 * The drift of a reflector's clock against this one, from the replies. Pure.
 *
 * Half of the difference of the forward and the backward delay, by both clocks, is the
 * offset of the reflector's clock. Its error is at most half of the difference between
 * the RTT and the least forward and backward delays together, while the path stays the
 * same. So any two replies bound the drift between them, and all pairs together bound
 * it closely; of each stretch of time only the fastest reply is kept. If bounds
 * contradict each other, the error of all replies is taken to be larger.
 *
 * The least delays are not known. They are taken to be as far below the fastest reply
 * as twice the median of the stretches is above it: with less, noise appears as drift.
 *
 * @module
 */

/** The drift of one clock against another. */
export interface DriftBound {
  /** Drift in millionths. */
  estimate: number;
  /** Largest error of the estimate, in millionths. */
  error: number;
}

/** Estimates the drift of a clock. */
export class ClockDrift {
  readonly #stretches: Stretch[] = [];
  /** The number of replies of a stretch, and that of the last one. */
  #each = 1;
  #inLast = 0;
  /** The error of each reply besides that of its RTT. */
  #slackMs = READING_MS;
  /** The drift to correct for: a line, bent after each stretch. */
  #from = 0;
  #ahead = 0;
  #slope = 0;

  /**
   * Adds a reply: when its request was sent, in milliseconds, and the delays to the
   * reflector and back, by both clocks.
   */
  add(at: number, forwardMs: number, backwardMs: number): void {
    const rttMs = forwardMs + backwardMs;
    const aheadMs = (forwardMs - backwardMs) / 2;
    const reply = { at, rttMs, aheadMs, forwardMs, backwardMs };
    const last = this.#stretches.at(-1);
    if (last !== undefined && this.#inLast < this.#each) {
      this.#inLast++;
      this.#stretches[this.#stretches.length - 1] = better(last, reply);
      return;
    }
    // The drift after a stretch is known when the next one begins.
    this.#bend(at);
    if (this.#stretches.length === MAX_STRETCHES) this.#merge();
    this.#stretches.push(reply);
    this.#inLast = 1;
  }

  /** The drift, as far as it is known; undefined with too few replies for a bound. */
  bound(): DriftBound | undefined {
    const replies = this.#stretches;
    const count = (replies.length - 1) * this.#each + this.#inLast;
    if (count < MIN_REPLIES) return undefined;
    const ms = replies.at(-1)!.at - replies[0]!.at;
    if (ms < MIN_MS && count < MANY_REPLIES) return undefined;
    for (let tries = 0; tries < MAX_TRIES; tries++) {
      const [low, high] = this.#range();
      if (low <= high) {
        return { estimate: 5e5 * (low + high), error: 5e5 * (high - low) };
      }
      this.#slackMs *= 2;
    }
    return undefined;
  }

  /** The least and the largest drift, in milliseconds per millisecond. */
  #range(): [low: number, high: number] {
    const replies = this.#stretches;
    // Within one stretch there is next to no drift.
    const sums = replies
      .map(({ forwardMs, backwardMs }) => forwardMs + backwardMs)
      .sort((a, b) => a - b);
    const [fastest, median] = [sums[0]!, sums[sums.length >> 1]!];
    const leastMs = fastest - 2 * (median - fastest);
    const errorOf = ({ rttMs }: Stretch) =>
      (rttMs - leastMs) / 2 + this.#slackMs;
    let [low, high] = [-MAX_DRIFT, MAX_DRIFT];
    for (let j = 1; j < replies.length; j++) {
      const later = replies[j]!;
      const error = errorOf(later);
      for (let i = 0; i < j; i++) {
        const earlier = replies[i]!;
        const ms = later.at - earlier.at;
        if (ms <= 0) continue;
        const gained = later.aheadMs - earlier.aheadMs;
        const errors = error + errorOf(earlier);
        low = Math.max(low, (gained - errors) / ms);
        high = Math.min(high, (gained + errors) / ms);
      }
    }
    return [low, high];
  }

  /** The accumulated drift at a time, by the replies until then. */
  gainedMs(at: number): number {
    return this.#ahead + (at - this.#from) * this.#slope;
  }

  /** The accumulated drift at any time, by the replies until `at`. */
  line(at: number): (at: number) => number {
    const [gainedMs, slope] = [this.gainedMs(at), this.#slope];
    return (other) => gainedMs + (other - at) * slope;
  }

  #bend(at: number): void {
    // More replies may contradict each other less.
    this.#slackMs = Math.max(READING_MS, this.#slackMs / 2);
    const bound = this.bound();
    this.#ahead = this.gainedMs(at);
    this.#from = at;
    if (bound !== undefined) {
      this.#slope = isDrift(bound) ? bound.estimate / 1e6 : 0;
    }
  }

  /** Merges pairs of stretches. */
  #merge(): void {
    const replies = this.#stretches.splice(0);
    for (let i = 0; i + 1 < replies.length; i += 2) {
      this.#stretches.push(better(replies[i]!, replies[i + 1]!));
    }
    this.#each *= 2;
  }
}

/** The faster of two replies, with the least delays of both. */
function better(first: Stretch, second: Stretch): Stretch {
  return {
    ...(first.rttMs <= second.rttMs ? first : second),
    forwardMs: Math.min(first.forwardMs, second.forwardMs),
    backwardMs: Math.min(first.backwardMs, second.backwardMs),
  };
}

/** Whether a clock drifts by more than twice the error. */
export function isDrift(bound: DriftBound | undefined): bound is DriftBound {
  return bound !== undefined && Math.abs(bound.estimate) > 2 * bound.error;
}

/** The fastest reply of a stretch of time, and the least delays of each direction. */
interface Stretch {
  at: number;
  rttMs: number;
  aheadMs: number;
  forwardMs: number;
  backwardMs: number;
}

/** Beyond any clock: twice the most that a system corrects one by. */
export const MAX_DRIFT = 0.001;
/** Even, for merging in pairs. */
const MAX_STRETCHES = 128;
/** The error of reading two clocks one after the other. */
const READING_MS = 0.005;
/** Fewer replies, or less time, carry no drift; the time matters little with many. */
const MIN_REPLIES = 200;
const MIN_MS = 60_000;
const MANY_REPLIES = 100_000;
/** An error of up to 20 s. */
const MAX_TRIES = 12;

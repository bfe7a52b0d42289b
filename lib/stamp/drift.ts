/**
 * How much faster the clock of a reflector runs, from the replies themselves. Pure.
 *
 * Half of what the way there takes longer than the way back, by both clocks, is how
 * far the reflector's clock is ahead. That is wrong by half of what a reply took
 * longer than the fastest ways there and back together, at most, if the path stays
 * what it is. So any two replies bound the drift between them, and all pairs together
 * bound it closely; of each stretch of time only the fastest reply is kept. Where the
 * bounds contradict each other, replies may be wrong by more.
 *
 * @module
 */

/** How fast one clock gains on another, and by how much that may be wrong. */
export interface DriftBound {
  /** Drift in millionths. */
  estimate: number;
  /** Largest error of the estimate, in millionths. */
  error: number;
}

/** Follows the drift of a clock. */
export class ClockDrift {
  readonly #stretches: Stretch[] = [];
  /** How many replies a stretch has, and how many the last one has so far. */
  #each = 1;
  #inLast = 0;
  /** By how much each reply may be wrong besides. */
  #slackMs = READING_MS;
  /** What is taken out: a line, which is bent whenever more is known. */
  #from = 0;
  #ahead = 0;
  #slope = 0;

  /**
   * Takes down a reply; times are in milliseconds.
   *
   * @param at When its request was sent.
   * @param forwardMs What the way there took, by both clocks.
   * @param backwardMs What the way back took.
   */
  add(at: number, forwardMs: number, backwardMs: number): void {
    const reply = {
      at,
      rttMs: forwardMs + backwardMs,
      aheadMs: (forwardMs - backwardMs) / 2,
      forwardMs,
      backwardMs,
    };
    const last = this.#stretches.at(-1);
    if (last !== undefined && this.#inLast < this.#each) {
      this.#inLast++;
      this.#stretches[this.#stretches.length - 1] = better(last, reply);
      return;
    }
    // What a stretch has found is known when the next one begins.
    this.#bend(at);
    if (this.#stretches.length === MAX_STRETCHES) this.#merge();
    this.#stretches.push(reply);
    this.#inLast = 1;
  }

  /** The drift, as far as it is known; undefined with fewer than two replies. */
  bound(): DriftBound | undefined {
    if (this.#stretches.length < 2) return undefined;
    for (let tries = 0; tries < MAX_TRIES; tries++) {
      const [low, high] = this.#range();
      if (low <= high) {
        return { estimate: 5e5 * (low + high), error: 5e5 * (high - low) };
      }
      this.#slackMs *= 2;
    }
    return undefined;
  }

  /** The least and the most that the clock may gain in a millisecond. */
  #range(): [low: number, high: number] {
    const replies = this.#stretches;
    // Within one stretch there is next to no drift.
    const [first, second] = replies
      .map(({ forwardMs, backwardMs }) => forwardMs + backwardMs)
      .sort((a, b) => a - b);
    // As much faster than the fastest as that is than the next one.
    const fastestMs = 2 * first! - second!;
    const errorOf = ({ rttMs }: Stretch) =>
      (rttMs - fastestMs) / 2 + this.#slackMs;
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

  /** How much the clock has gained at a time by what was known then. */
  gainedMs(at: number): number {
    return this.#ahead + (at - this.#from) * this.#slope;
  }

  /** The same as a line through what is known at a time, for any other time. */
  line(at: number): (at: number) => number {
    const [gainedMs, slope] = [this.gainedMs(at), this.#slope];
    return (other) => gainedMs + (other - at) * slope;
  }

  #bend(at: number): void {
    // With more replies less may be needed.
    this.#slackMs = Math.max(READING_MS, this.#slackMs / 2);
    const bound = this.bound();
    this.#ahead = this.gainedMs(at);
    this.#from = at;
    if (bound !== undefined) {
      this.#slope = isDrift(bound) ? bound.estimate / 1e6 : 0;
    }
  }

  /** Makes one of each two stretches. */
  #merge(): void {
    const replies = this.#stretches.splice(0);
    for (let i = 0; i + 1 < replies.length; i += 2) {
      this.#stretches.push(better(replies[i]!, replies[i + 1]!));
    }
    this.#each *= 2;
  }
}

/** The faster one of two, with the fastest ways of both. */
function better(first: Stretch, second: Stretch): Stretch {
  return {
    ...(first.rttMs <= second.rttMs ? first : second),
    forwardMs: Math.min(first.forwardMs, second.forwardMs),
    backwardMs: Math.min(first.backwardMs, second.backwardMs),
  };
}

/** Whether a clock is known to drift at all, with some room for doubt. */
export function isDrift(bound: DriftBound | undefined): bound is DriftBound {
  return bound !== undefined && Math.abs(bound.estimate) > 2 * bound.error;
}

/** The fastest reply of a stretch of time, and the fastest ways there and back. */
interface Stretch {
  at: number;
  rttMs: number;
  aheadMs: number;
  forwardMs: number;
  backwardMs: number;
}

/** More than any clock, and twice what a system corrects one by at most. */
const MAX_DRIFT = 0.001;
/** Even, so that each has another one to be merged with. */
const MAX_STRETCHES = 128;
/** What reading two clocks one after the other may add. */
const READING_MS = 0.005;
/** Up to 20 s. */
const MAX_TRIES = 12;

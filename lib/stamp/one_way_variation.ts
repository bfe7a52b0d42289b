/**
 * How the delays of the way there and of the way back vary, for which the clocks of
 * both ends need not agree: what they are apart is in all delays, and what one gains
 * on the other is taken out. Pure.
 *
 * @module
 */
import { Distribution } from "../stats/distribution.ts";
import { Growing } from "../base/growing.ts";
import { aboveMinimum, summarize, type Summary } from "../stats/statistics.ts";
import { ClockDrift, type DriftBound, isDrift } from "./drift.ts";

/** The delays of either way, and the drift in them. */
export class OneWayVariation {
  readonly #drift = new ClockDrift();
  readonly #forward = new Distribution(0, true);
  readonly #backward = new Distribution(0, true);
  /** When each of the first requests was sent, and both delays. */
  #kept: Growing | undefined = new Growing(FIELDS * MAX_KEPT);
  #count = 0;
  /** How many of those have gone into the distributions; and by which line. */
  #moved = 0;
  #gainedMs: (at: number) => number = () => 0;

  /**
   * Takes down a reply; times are in milliseconds.
   *
   * @param at When its request was sent.
   * @param forwardMs What the way there took, by both clocks.
   * @param backwardMs What the way back took.
   */
  add(at: number, forwardMs: number, backwardMs: number): void {
    this.#drift.add(at, forwardMs, backwardMs);
    if (++this.#count > MAX_KEPT) {
      if (this.#count === MAX_KEPT + 1) this.#gainedMs = this.#drift.line(at);
      this.#collect(forwardMs, backwardMs, this.#drift.gainedMs(at));
      // A few at a time, so that no reply takes longer than the others.
      this.#move(MOVED_EACH);
      return;
    }
    for (const one of [at, forwardMs, backwardMs]) this.#kept!.push(one);
  }

  /** The drift, as far as it is known. */
  get drift(): DriftBound | undefined {
    return this.#drift.bound();
  }

  /** PDV of the way there (RFC 5481, section 4.2), without what the drift makes. */
  get forwardPdvMs(): Summary | undefined {
    return this.#pdv(1, -1, this.#forward);
  }

  /** The same of the way back. */
  get backwardPdvMs(): Summary | undefined {
    return this.#pdv(2, 1, this.#backward);
  }

  #collect(forwardMs: number, backwardMs: number, gainedMs: number): void {
    this.#forward.add(forwardMs - gainedMs);
    this.#backward.add(backwardMs + gainedMs);
  }

  /** Moves so many of those that are kept into the distributions. */
  #move(count: number): void {
    const kept = this.#kept;
    if (kept === undefined) return;
    const end = Math.min(this.#moved + count, MAX_KEPT);
    for (; this.#moved < end; this.#moved++) {
      const start = FIELDS * this.#moved;
      const gainedMs = this.#gainedMs(kept.at(start));
      this.#collect(kept.at(start + 1), kept.at(start + 2), gainedMs);
    }
    if (this.#moved === MAX_KEPT) this.#kept = undefined;
  }

  /** Exactly while all are kept, else by what was known when each came. */
  #pdv(field: number, sign: number, otherwise: Distribution) {
    if (this.#count > MAX_KEPT) {
      this.#move(Infinity);
      return above(otherwise.summary());
    }
    const kept = this.#kept!;
    const { drift } = this;
    const slope = isDrift(drift) ? sign * drift.estimate / 1e6 : 0;
    const delays = new Float64Array(this.#count);
    for (let i = 0; i < delays.length; i++) {
      const at = kept.at(FIELDS * i) - kept.at(0);
      delays[i] = kept.at(FIELDS * i + field) + slope * at;
    }
    return above(summarize(delays));
  }
}

function above(summary: Summary | undefined): Summary | undefined {
  return summary && aboveMinimum(summary);
}

const FIELDS = 3;
const MAX_KEPT = 100_000;
const MOVED_EACH = 8;

/**
 * How the delays of the way there and of the way back vary, for which the clocks of
 * both ends need not agree: what they are apart is in all delays, and what one gains
 * on the other is taken out. Pure.
 *
 * @module
 */
import { Distribution } from "../distribution.ts";
import { aboveMinimum, summarize, type Summary } from "../statistics.ts";
import { ClockDrift, type DriftBound, isDrift } from "./drift.ts";

/** The delays of either way, and the drift in them. */
export class Ways {
  readonly #drift = new ClockDrift();
  readonly #forward = new Distribution(0, true);
  readonly #backward = new Distribution(0, true);
  /** When each of the first requests was sent, and both delays. */
  #kept: Float64Array<ArrayBuffer> | undefined = new Float64Array(
    new ArrayBuffer(0, { maxByteLength: 8 * FIELDS * MAX_KEPT }),
  );
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
    const start = FIELDS * this.#count++;
    if (this.#count > MAX_KEPT) {
      if (this.#count === MAX_KEPT + 1) this.#gainedMs = this.#drift.line(at);
      this.#collect(forwardMs, backwardMs, this.#drift.gainedMs(at));
      // A few at a time, so that no reply takes longer than the others.
      this.#move(MOVED_EACH);
      return;
    }
    const kept = this.#kept!;
    // It grows where it is, since an array that grows is copied.
    if (start === kept.length) {
      const room = Math.min(this.#count + PIECE, MAX_KEPT);
      kept.buffer.resize(8 * FIELDS * room);
    }
    kept[start] = at;
    kept[start + 1] = forwardMs;
    kept[start + 2] = backwardMs;
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
      const [at, forwardMs, backwardMs] = kept.subarray(FIELDS * this.#moved);
      this.#collect(forwardMs!, backwardMs!, this.#gainedMs(at!));
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
      const at = kept[FIELDS * i]! - kept[0]!;
      delays[i] = kept[FIELDS * i + field]! + slope * at;
    }
    return above(summarize(delays));
  }
}

function above(summary: Summary | undefined): Summary | undefined {
  return summary && aboveMinimum(summary);
}

const FIELDS = 3;
const MAX_KEPT = 100_000;
const PIECE = 512;
const MOVED_EACH = 8;

/**
 * Delay variation of each direction, for which the clocks of both ends need not
 * agree: their offset is in all delays, and their drift is taken out. Pure.
 *
 * @module
 */
import { Distribution } from "../stats/distribution.ts";
import { aboveMinimum, summarize, type Summary } from "../stats/statistics.ts";
import { ClockDrift, type DriftBound, isDrift } from "./drift.ts";

/** The delays of both directions, and the drift in them. */
export class OneWayVariation {
  readonly #drift = new ClockDrift();
  readonly #forward = new Distribution({ isRelative: true });
  readonly #backward = new Distribution({ isRelative: true });
  /** Of the first replies: when the request was sent, and both delays. */
  #kept: Float64Array | undefined = new Float64Array(FIELDS * MAX_KEPT);
  #count = 0;
  /** The number of those that are in the distributions, without drift by this line. */
  #moved = 0;
  #gainedMs: (at: number) => number = () => 0;

  /**
   * Adds a reply: when its request was sent, in milliseconds, and the delays to the
   * reflector and back, by both clocks.
   */
  add(at: number, forwardMs: number, backwardMs: number): void {
    this.#drift.add(at, forwardMs, backwardMs);
    const place = FIELDS * this.#count++;
    if (this.#count <= MAX_KEPT) {
      const kept = this.#kept!;
      kept[place] = at;
      kept[place + 1] = forwardMs;
      kept[place + 2] = backwardMs;
      return;
    }
    if (this.#count === MAX_KEPT + 1) this.#gainedMs = this.#drift.line(at);
    this.#collect(forwardMs, backwardMs, this.#drift.gainedMs(at));
    // A few at a time, so that no reply takes longer than the others.
    this.#move(MOVED_EACH);
  }

  /** The drift, as far as it is known. */
  get drift(): DriftBound | undefined {
    return this.#drift.bound();
  }

  /** PDV to the reflector (RFC 5481, section 4.2), without the clocks' drift. */
  get forwardPdvMs(): Summary | undefined {
    return this.#pdv(1, -1, this.#forward);
  }

  /** PDV back from the reflector, without the clocks' drift. */
  get backwardPdvMs(): Summary | undefined {
    return this.#pdv(2, 1, this.#backward);
  }

  #collect(forwardMs: number, backwardMs: number, gainedMs: number): void {
    this.#forward.add(forwardMs - gainedMs);
    this.#backward.add(backwardMs + gainedMs);
  }

  /** Moves up to `count` of the first replies into the distributions. */
  #move(count: number): void {
    const kept = this.#kept;
    if (kept === undefined) return;
    const end = Math.min(this.#moved + count, MAX_KEPT);
    for (; this.#moved < end; this.#moved++) {
      const place = FIELDS * this.#moved;
      const gainedMs = this.#gainedMs(kept[place]!);
      this.#collect(kept[place + 1]!, kept[place + 2]!, gainedMs);
    }
    if (this.#moved === MAX_KEPT) this.#kept = undefined;
  }

  /** Exact while all replies are kept, else by the drift known at each one. */
  #pdv(field: number, sign: number, distribution: Distribution) {
    if (this.#count > MAX_KEPT) {
      this.#move(Infinity);
      return aboveMinimum(distribution.summary());
    }
    const kept = this.#kept!;
    const { drift } = this;
    const slope = isDrift(drift) ? sign * drift.estimate / 1e6 : 0;
    const delays = new Float64Array(this.#count);
    for (let i = 0; i < delays.length; i++) {
      const at = kept[FIELDS * i]! - kept[0]!;
      delays[i] = kept[FIELDS * i + field]! + slope * at;
    }
    return aboveMinimum(summarize(delays));
  }
}

const FIELDS = 3;
/** By the drift that is known after fewer, delays would be off by 0.03 ms. */
const MAX_KEPT = 100_000;
const MOVED_EACH = 8;

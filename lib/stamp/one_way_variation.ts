/**
 * Delay variation of each direction, for which the clocks of both ends need not
 * agree: their offset is in all delays, and their drift is taken out. Pure.
 *
 * No delay is negative, so each reply bounds the offset, and bounds that exclude each
 * other prove that a clock was set. Delays after such a step are relative to the least
 * one after it.
 *
 * @module
 */
import { Distribution } from "../stats/distribution.ts";
import { aboveMinimum, Jitter, type Summary } from "../stats/statistics.ts";
import { ClockDrift, type DriftBound, isDrift, MAX_DRIFT } from "./drift.ts";

/** The delays of both directions, and the offset, the drift and the steps in them. */
export class OneWayVariation {
  /** The number of times that the reflector's clock was set. */
  clockSteps = 0;
  /** The offset since then, from the reply with the smallest RTT, and its error. */
  clockOffsetMs: { estimate: number; error: number } | undefined;
  forwardJitter = new Jitter();
  backwardJitter = new Jitter();
  #drift = new ClockDrift();
  /** Delays of both directions since the last step, without drift. */
  #current = [makeDelays(), makeDelays()];
  /** Those before, less the least one between two steps. */
  readonly #earlier = [makeDelays(), makeDelays()];
  /** Of the first replies since a step: when the request was sent, and both delays. */
  #kept: Float64Array | undefined = new Float64Array(FIELDS * MAX_KEPT);
  #count = 0;
  /** The number of those that are in the distributions, without drift by this line. */
  #moved = 0;
  #gainedMs: (at: number) => number = () => 0;
  /** When the first request since a step was sent. */
  #since = -Infinity;
  /** Bounds of the offset, and the time that they are of. */
  #low = -Infinity;
  #high = Infinity;
  #boundAt = 0;

  /**
   * Adds a reply: when its request was sent, in milliseconds, and the delays to the
   * reflector and back, by both clocks.
   */
  add(at: number, forwardMs: number, backwardMs: number): void {
    // The reflector may have read its clock before it was set.
    if (at < this.#since) return;
    if (this.#isStep(at, forwardMs, backwardMs)) {
      this.#restart(at);
      [this.#low, this.#high] = [-backwardMs, forwardMs];
    }
    const error = (forwardMs + backwardMs) / 2;
    if (error < (this.clockOffsetMs?.error ?? Infinity)) {
      this.clockOffsetMs = { estimate: (forwardMs - backwardMs) / 2, error };
    }
    this.forwardJitter.add(forwardMs);
    this.backwardJitter.add(backwardMs);
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

  /** The drift since the last step, as far as it is known. */
  get drift(): DriftBound | undefined {
    return this.#drift.bound();
  }

  /** PDV to the reflector (RFC 5481, section 4.2), without the clocks' drift. */
  get forwardPdvMs(): Summary | undefined {
    return this.#pdv(FORWARD);
  }

  /** PDV back from the reflector, without the clocks' drift. */
  get backwardPdvMs(): Summary | undefined {
    return this.#pdv(BACKWARD);
  }

  /** Whether bounds exclude those before, however the clock drifts; narrows them. */
  #isStep(at: number, forwardMs: number, backwardMs: number): boolean {
    const driftMs = MAX_DRIFT * Math.abs(at - this.#boundAt);
    this.#boundAt = at;
    this.#low = Math.max(this.#low - driftMs, -backwardMs);
    this.#high = Math.min(this.#high + driftMs, forwardMs);
    return this.#low > this.#high + RESOLUTION_MS;
  }

  /** Begins anew after a step. */
  #restart(at: number): void {
    for (const way of [FORWARD, BACKWARD]) this.#earlier[way] = this.#all(way);
    this.#current = [makeDelays(), makeDelays()];
    this.clockSteps++;
    this.clockOffsetMs = undefined;
    this.forwardJitter = new Jitter();
    this.backwardJitter = new Jitter();
    this.#drift = new ClockDrift();
    this.#kept ??= new Float64Array(FIELDS * MAX_KEPT);
    this.#count = this.#moved = 0;
    this.#since = at;
  }

  #collect(forwardMs: number, backwardMs: number, gainedMs: number): void {
    this.#current[FORWARD]!.add(forwardMs - gainedMs);
    this.#current[BACKWARD]!.add(backwardMs + gainedMs);
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

  /** By the drift of all replies while they are kept, else as known at each one. */
  #delays(way: number): Distribution {
    if (this.#count > MAX_KEPT) {
      this.#move(Infinity);
      return this.#current[way]!;
    }
    const kept = this.#kept!;
    const { drift } = this;
    const ppm = isDrift(drift) ? drift.estimate : 0;
    const slope = (way === FORWARD ? -ppm : ppm) / 1e6;
    const delays = makeDelays();
    for (let place = 0; place < FIELDS * this.#count; place += FIELDS) {
      const at = kept[place]! - kept[0]!;
      delays.add(kept[place + 1 + way]! + slope * at);
    }
    return delays;
  }

  /** All delays, less the least one between two steps. */
  #all(way: number): Distribution {
    const delays = this.#delays(way);
    const all = makeDelays();
    all.addAll(this.#earlier[way]!, 0);
    all.addAll(delays, -(delays.summary()?.min ?? 0));
    return all;
  }

  #pdv(way: number): Summary | undefined {
    const all = this.clockSteps > 0 ? this.#all(way) : this.#delays(way);
    return aboveMinimum(all.summary());
  }
}

const makeDelays = () => new Distribution({ isRelative: true });

const FIELDS = 3;
const FORWARD = 0;
const BACKWARD = 1;
/** By the drift that is known after fewer, delays would be off by 0.03 ms. */
const MAX_KEPT = 100_000;
const MOVED_EACH = 8;
/** The resolution of a reflector's clock; a smaller step is not seen. */
const RESOLUTION_MS = 1;

/**
 * Delay variation of each direction, for which the clocks of both ends need not
 * agree: their offset is in all delays, and their drift is taken out. Pure.
 *
 * Each reply bounds the offset of the reflector's clock, since no delay is negative.
 * Bounds that exclude each other prove that the clock was set. The delays after such
 * a step are relative to the least one after it.
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
  /** Delays without drift since the last step, by field. */
  #current = makeDirections();
  /** Those before, less the least one between two steps. */
  readonly #earlier = makeDirections();
  /** Of the first replies since a step: when the request was sent, and both delays. */
  #kept: Float64Array | undefined = new Float64Array(FIELDS * MAX_KEPT);
  #count = 0;
  /** The number of those that are in the distributions, without drift by this line. */
  #moved = 0;
  #gainedMs: Line = () => 0;
  /** When the first request since a step was sent. */
  #since = -Infinity;
  /** Bounds of the offset at a time. */
  #bounds = { at: 0, low: -Infinity, high: Infinity };

  /**
   * Adds a reply: when its request was sent, in milliseconds, and the delays to the
   * reflector and back, by both clocks.
   */
  add(at: number, forwardMs: number, backwardMs: number): void {
    // The reflector may have read its clock before it was set.
    if (at < this.#since) return;
    if (this.#isStep(at, forwardMs, backwardMs)) this.#restart(at);
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
      kept[place + FORWARD] = forwardMs;
      kept[place + BACKWARD] = backwardMs;
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

  /** Whether the bounds of a reply exclude those before, however the clock drifts. */
  #isStep(at: number, forwardMs: number, backwardMs: number): boolean {
    const { at: before, low, high } = this.#bounds;
    const driftMs = MAX_DRIFT * Math.abs(at - before);
    const bounds = {
      at,
      low: Math.max(low - driftMs, -backwardMs),
      high: Math.min(high + driftMs, forwardMs),
    };
    const isStep = bounds.low > bounds.high + RESOLUTION_MS;
    this.#bounds = isStep ? { at, low: -backwardMs, high: forwardMs } : bounds;
    return isStep;
  }

  /** Begins anew after a step. */
  #restart(at: number): void {
    for (const field of [FORWARD, BACKWARD] as const) {
      this.#earlier[field] = this.#all(field);
    }
    this.#current = makeDirections();
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
    this.#current[FORWARD].add(forwardMs - gainedMs);
    this.#current[BACKWARD].add(backwardMs + gainedMs);
  }

  /** Moves up to `count` of the first replies into the distributions. */
  #move(count: number): void {
    const kept = this.#kept;
    if (kept === undefined) return;
    const end = Math.min(this.#moved + count, MAX_KEPT);
    for (; this.#moved < end; this.#moved++) {
      const place = FIELDS * this.#moved;
      const gainedMs = this.#gainedMs(kept[place]!);
      this.#collect(kept[place + FORWARD]!, kept[place + BACKWARD]!, gainedMs);
    }
    if (this.#moved === MAX_KEPT) this.#kept = undefined;
  }

  /** Delays without drift, by all replies while they are kept, else by those before. */
  #delays(field: Field): Distribution {
    if (this.#count > MAX_KEPT) {
      this.#move(Infinity);
      return this.#current[field];
    }
    const kept = this.#kept!;
    const { drift } = this;
    const ppm = isDrift(drift) ? drift.estimate : 0;
    const slope = (field === FORWARD ? -1 : 1) * ppm / 1e6;
    const delays = new Distribution({ isRelative: true });
    for (let place = 0; place < FIELDS * this.#count; place += FIELDS) {
      const at = kept[place]! - kept[0]!;
      delays.add(kept[place + field]! + slope * at);
    }
    return delays;
  }

  /** All delays, less the least one between two steps. */
  #all(field: Field): Distribution {
    const all = new Distribution({ isRelative: true });
    all.addAll(this.#earlier[field], 0);
    const delays = this.#delays(field);
    all.addAll(delays, -(delays.summary()?.min ?? 0));
    return all;
  }

  #pdv(field: Field): Summary | undefined {
    const all = this.clockSteps > 0 ? this.#all(field) : this.#delays(field);
    return aboveMinimum(all.summary());
  }
}

/** The accumulated drift at a time. */
type Line = (at: number) => number;
type Field = typeof FORWARD | typeof BACKWARD;

function makeDirections(): Record<Field, Distribution> {
  return {
    [FORWARD]: new Distribution({ isRelative: true }),
    [BACKWARD]: new Distribution({ isRelative: true }),
  };
}

const FIELDS = 3;
const FORWARD = 1;
const BACKWARD = 2;
/** By the drift that is known after fewer, delays would be off by 0.03 ms. */
const MAX_KEPT = 100_000;
const MOVED_EACH = 8;
/** The resolution of a reflector's clock; a smaller step is not seen. */
const RESOLUTION_MS = 1;

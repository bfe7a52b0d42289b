/**
 * A sample of any size in memory that never grows, at a price per value that
 * never changes.
 *
 * @module
 */
import type { Summary } from "./statistics.ts";

/** A summary with the percentile that load tests look at. */
export type TailSummary = Summary & {
  /** The smallest value that at least 99.9 % of the sample do not exceed. */
  p999: number;
};

/**
 * Counts values in milliseconds, from 0 to 52 days, in steps of at most a
 * thousandth of the value, and of a nanosecond at least (as HDR histograms do).
 * The least, the largest and the mean are exact; quantiles are right to 0.1 %.
 */
export class Histogram {
  /** Made for the first value. */
  #counts = NONE;
  #count = 0;
  #min = Infinity;
  #max = -Infinity;
  #mean = 0;
  #squares = 0;

  /** How many values there are. */
  get count(): number {
    return this.#count;
  }

  /** Adds a value; one below 0 counts as 0. */
  add(value: number): void {
    if (!(value > 0)) value = 0;
    if (this.#counts === NONE) {
      this.#counts = new Uint32Array(STEPS + OCTAVES * STEPS / 2);
    }
    this.#count++;
    if (value < this.#min) this.#min = value;
    if (value > this.#max) this.#max = value;
    // Welford's algorithm, for a sum of squares that loses no digits.
    const difference = value - this.#mean;
    this.#mean += difference / this.#count;
    this.#squares += difference * (value - this.#mean);
    this.#counts[stepOf(value * NS_PER_MS)]!++;
  }

  /** Forgets all values. */
  clear(): void {
    if (this.#count > 0) this.#counts.fill(0);
    this.#count = this.#mean = this.#squares = 0;
    this.#min = Infinity;
    this.#max = -Infinity;
  }

  /** The figures; undefined if there is no value. */
  summary(): TailSummary | undefined {
    if (this.#count === 0) return undefined;
    const at = (share: number) =>
      this.atRank(Math.max(1, Math.ceil(share * this.#count)));
    return {
      min: this.#min,
      mean: this.#mean,
      median: at(0.5),
      p90: at(0.9),
      p99: at(0.99),
      p999: at(0.999),
      max: this.#max,
      stddev: Math.sqrt(this.#squares / this.#count),
    };
  }

  /** The nth value, counted from 1 for the least one. */
  atRank(rank: number): number {
    const counts = this.#counts;
    let step = -1;
    for (let below = 0; below < rank;) below += counts[++step]!;
    const value = middleOf(step) / NS_PER_MS;
    return Math.min(Math.max(value, this.#min), this.#max);
  }
}

/** Which step a number of nanoseconds is in. */
function stepOf(ns: number): number {
  if (ns < STEPS) return ns | 0;
  if (ns >= MAX_NS) ns = MAX_NS - 1;
  const exponent = ns < 2 ** 31
    ? 31 - Math.clz32(ns)
    : 52 - Math.clz32(ns / 2 ** 21);
  const octave = exponent - STEP_BITS + 1;
  return octave * STEPS / 2 + Math.floor(ns / 2 ** octave);
}

/** The number of nanoseconds in the middle of a step. */
function middleOf(step: number): number {
  if (step < STEPS) return step;
  const octave = Math.floor(step / (STEPS / 2)) - 1;
  return (step - octave * STEPS / 2 + 0.5) * 2 ** octave;
}

const NONE = new Uint32Array(0);
const NS_PER_MS = 1e6;
/** Each octave but the lowest has half as many steps. */
const STEP_BITS = 10;
const STEPS = 1 << STEP_BITS;
const OCTAVES = 42;
const MAX_NS = 2 ** (STEP_BITS + OCTAVES);

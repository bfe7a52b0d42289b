/**
 * A sample of any size in bounded memory, with a stated error.
 *
 * @module
 */
import { Histogram } from "./histogram.ts";
import { summarize, type Summary, summaryOf } from "./statistics.ts";

/** The number of values from one up to, but not including, another. */
export interface Bin {
  /** The lower bound, in milliseconds. */
  from: number;
  /** The upper bound, in milliseconds; the last bin includes it. */
  to: number;
  /** The number of values. */
  count: number;
}

/** A summary with the percentile that load tests look at. */
export type TailSummary = Summary & {
  /** The smallest value that at least 99.9 % of the sample do not exceed. */
  p999: number;
};

/**
 * Collects values in milliseconds. Up to {@linkcode MAX_EXACT} of them are kept,
 * and all figures are exact. Of more, quantiles are those of a histogram,
 * right to 0.1 %; count, minimum, maximum, mean and deviation stay exact.
 */
export class Distribution {
  /** The values while all are kept. */
  #kept: number[] | undefined = [];
  readonly #isRelative: boolean;
  /** The zero of the histograms. */
  #base = 0;
  /** Distances of the values below the base, and of all others. */
  readonly #below = new Histogram();
  readonly #above = new Histogram();
  /** The number of values. */
  count = 0;
  #min = Infinity;
  #max = -Infinity;
  /** The mean of the values' distances from the first value. */
  #first = 0;
  #mean = 0;
  #squares = 0;

  /**
   * Makes an empty distribution. If `isRelative`, the error of quantiles is 0.1 % of their
   * distance from about the smallest value instead of from 0: for values with an offset.
   */
  constructor({ isRelative = false }: { isRelative?: boolean } = {}) {
    this.#isRelative = isRelative;
  }

  /** The largest value; undefined if there is none. */
  get max(): number | undefined {
    return this.count === 0 ? undefined : this.#max;
  }

  /** Whether quantiles are exact. */
  get isExact(): boolean {
    return this.#kept !== undefined;
  }

  /** Adds a value, `times` times. */
  add(value: number, times = 1): void {
    if (this.#kept !== undefined && this.count + times > MAX_EXACT) {
      this.#beginHistograms();
    }
    this.count += times;
    this.#min = Math.min(this.#min, value);
    this.#max = Math.max(this.#max, value);
    // Welford's algorithm, for a sum of squares that loses no digits.
    if (this.count === times) this.#first = value;
    const above = value - this.#first;
    const difference = above - this.#mean;
    this.#mean += times * difference / this.count;
    this.#squares += times * difference * (above - this.#mean);
    if (this.#kept === undefined) this.#record(value, times);
    else for (let i = 0; i < times; i++) this.#kept.push(value);
  }

  /** Adds the values of another distribution plus a number; more than 1,000 to 0.1 %. */
  addAll(other: Distribution, plus: number): void {
    for (const value of other.#kept ?? []) this.add(value + plus);
    if (other.#kept !== undefined) return;
    const add = (value: number, times: number) =>
      this.add(other.#clamped(other.#base + value) + plus, times);
    for (const [value, times] of other.#below.values()) add(-value, times);
    for (const [value, times] of other.#above.values()) add(value, times);
    this.#min = Math.min(this.#min, other.#min + plus);
    this.#max = Math.max(this.#max, other.#max + plus);
  }

  /** The figures; undefined if there is no value. */
  summary(): Summary | undefined {
    if (this.#kept !== undefined) return summarize(this.#kept);
    const moments = {
      min: this.#min,
      mean: this.#first + this.#mean,
      max: this.#max,
      stddev: Math.sqrt(this.#squares / this.count),
    };
    return summaryOf(moments, (share) => this.#quantile(share));
  }

  /** The figures, with p99.9; undefined if there is no value. */
  tail(): TailSummary | undefined {
    const summary = this.summary();
    if (summary === undefined) return undefined;
    const { max, stddev, ...others } = summary;
    return { ...others, p999: this.#quantile(0.999), max, stddev };
  }

  /** The number of values in each of `steps` equal steps from min to max. */
  bins(steps: number): Bin[] {
    if (this.count === 0) return [];
    const width = (this.#max - this.#min) / steps || 1;
    const edges = [...Array(steps).keys()].map((i) => this.#min + i * width);
    const below = edges.map((edge) => this.#countBelow(edge));
    return edges.map((from, i) => ({
      from,
      to: from + width,
      count: (below[i + 1] ?? this.count) - below[i]!,
    }));
  }

  #countBelow(edge: number): number {
    if (this.#kept !== undefined) {
      return this.#kept.filter((value) => value < edge).length;
    }
    let [low, high] = [0, this.count];
    while (low < high) {
      const middle = (low + high + 1) >> 1;
      if (this.#atRank(middle) < edge) low = middle;
      else high = middle - 1;
    }
    return low;
  }

  #quantile(share: number): number {
    return this.#atRank(Math.max(1, Math.ceil(share * this.count)));
  }

  /** The nth value, counted from 1 for the smallest. */
  #atRank(rank: number): number {
    if (this.#kept !== undefined) {
      return Float64Array.from(this.#kept).sort()[rank - 1]!;
    }
    const below = this.#below.count;
    const value = rank <= below
      ? -this.#below.atRank(below - rank + 1)
      : this.#above.atRank(rank - below);
    return this.#clamped(this.#base + value);
  }

  #clamped(value: number): number {
    return Math.min(Math.max(value, this.#min), this.#max);
  }

  /** Moves the values that were kept into the histograms. */
  #beginHistograms(): void {
    if (this.#isRelative && this.count > 0) this.#base = this.#min;
    for (const value of this.#kept!) this.#record(value, 1);
    this.#kept = undefined;
  }

  #record(value: number, times: number): void {
    const distance = value - this.#base;
    if (distance < 0) this.#below.add(-distance, times);
    else this.#above.add(distance, times);
  }
}

/** The largest sample whose quantiles are exact. */
const MAX_EXACT = 1000;

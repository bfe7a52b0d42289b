/**
 * A sample that may go on for ever: exact at first, then in bounded memory.
 *
 * @module
 */
import { Growing } from "../base/growing.ts";
import { Histogram } from "./histogram.ts";
import { summarize, type Summary } from "./statistics.ts";

/** How many values are from one up to, but not including, another. */
export interface Bin {
  /** The lower bound, in milliseconds. */
  from: number;
  /** The upper bound, in milliseconds; the last bin includes it. */
  to: number;
  /** How many. */
  count: number;
}

/** A summary with the percentile that load tests look at. */
export type TailSummary = Summary & {
  /** The smallest value that at least 99.9 % of the sample do not exceed. */
  p999: number;
};

/**
 * Collects values in milliseconds. The first of them are kept, and all figures
 * are exact; beyond that the quantiles come from histograms and are right to
 * 0.1 %, and the others stay exact. The histograms begin long before that, so that
 * no value takes longer than the others.
 */
export class Distribution {
  #kept: Growing | undefined;
  readonly #maxExact: number;
  readonly #isRelative: boolean;
  /** What the histograms take for 0, once they have begun. */
  #base: number | undefined;
  /** Of what is below that, without its sign; and of all else. */
  readonly #below = new Histogram();
  readonly #above = new Histogram();
  #count = 0;
  #min = Infinity;
  #max = -Infinity;
  /** The mean of what values are above the first. */
  #first = 0;
  #mean = 0;
  #squares = 0;

  /**
   * Makes an empty one.
   *
   * @param maxExact How many values are kept; with 0 each costs the same from
   * the first on.
   * @param isRelative Whether quantiles are to be right to 0.1 % of how far they
   * are from about the least value, instead of from 0: for values that have an
   * offset in common, however large.
   */
  constructor(maxExact = MAX_EXACT, isRelative = false) {
    this.#maxExact = maxExact;
    this.#isRelative = isRelative;
    this.#kept = maxExact === 0 ? undefined : new Growing(maxExact);
  }

  /** How many values there are. */
  get count(): number {
    return this.#count;
  }

  /** The largest value; undefined if there is none. */
  get max(): number | undefined {
    return this.#count === 0 ? undefined : this.#max;
  }

  /** Whether the quantiles are exact. */
  get isExact(): boolean {
    return this.#kept !== undefined;
  }

  /** Adds a value. */
  add(value: number): void {
    this.#count++;
    this.#min = Math.min(this.#min, value);
    this.#max = Math.max(this.#max, value);
    // Welford's algorithm, for a sum of squares that loses no digits.
    if (this.#count === 1) this.#first = value;
    const above = value - this.#first;
    const difference = above - this.#mean;
    this.#mean += difference / this.#count;
    this.#squares += difference * (above - this.#mean);
    if (this.#base !== undefined) this.#record(value, this.#base);
    this.#kept?.push(value);
    if (this.#count === Math.min(BASE_AFTER, this.#maxExact || 1)) {
      const base = this.#base = this.#isRelative ? this.#min : 0;
      for (const one of this.#kept?.slice() ?? [value]) {
        this.#record(one, base);
      }
    }
    if (this.#count >= this.#maxExact) this.#kept = undefined;
  }

  /** The figures; undefined if there is no value. */
  summary(): Summary | undefined {
    const values = this.#kept?.slice();
    if (values !== undefined) return summarize(values);
    if (this.#count === 0) return undefined;
    return {
      min: this.#min,
      mean: this.#first + this.#mean,
      median: this.#quantile(0.5),
      p90: this.#quantile(0.9),
      p99: this.#quantile(0.99),
      max: this.#max,
      stddev: Math.sqrt(this.#squares / this.#count),
    };
  }

  /** The figures, with p99.9; undefined if there is no value. */
  tail(): TailSummary | undefined {
    const summary = this.summary();
    if (summary === undefined) return undefined;
    const { max, stddev, ...others } = summary;
    return { ...others, p999: this.#quantile(0.999), max, stddev };
  }

  /** How many values are in each of so many equal steps from min to max. */
  bins(steps: number): Bin[] {
    if (this.#count === 0) return [];
    const width = (this.#max - this.#min) / steps || 1;
    const edges = Array.from(
      { length: steps },
      (_, i) => this.#min + i * width,
    );
    const below = edges.map((edge) => this.#countBelow(edge));
    return edges.map((from, i) => ({
      from,
      to: from + width,
      count: (below[i + 1] ?? this.#count) - below[i]!,
    }));
  }

  #countBelow(edge: number): number {
    const values = this.#kept?.slice();
    if (values !== undefined) {
      return values.filter((value) => value < edge).length;
    }
    let [low, high] = [0, this.#count];
    while (low < high) {
      const middle = (low + high + 1) >> 1;
      if (this.#quantile(middle / this.#count) < edge) low = middle;
      else high = middle - 1;
    }
    return low;
  }

  #quantile(share: number): number {
    const rank = Math.max(1, Math.ceil(share * this.#count));
    const values = this.#kept?.slice();
    if (values !== undefined) return values.sort()[rank - 1]!;
    const below = this.#below.count;
    const value = rank <= below
      ? -this.#below.atRank(below - rank + 1)
      : this.#above.atRank(rank - below);
    return Math.min(Math.max(this.#base! + value, this.#min), this.#max);
  }

  #record(value: number, base: number): void {
    if (value < base) this.#below.add(base - value);
    else this.#above.add(value - base);
  }
}

/** How many values are waited for, to know about the least one. */
const BASE_AFTER = 100;

const MAX_EXACT = 100_000;

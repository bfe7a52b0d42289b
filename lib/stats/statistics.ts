/**
 * Summaries of samples, jitter and reordering. Pure.
 *
 * @module
 */

/** A sample's figures, in the unit of the sample. */
export interface Summary {
  /** The smallest. */
  min: number;
  /** The arithmetic mean. */
  mean: number;
  /** The middle value, or the mean of the two in the middle. */
  median: number;
  /** The smallest value that at least 90 % of the sample do not exceed. */
  p90: number;
  /** The smallest value that at least 99 % of the sample do not exceed. */
  p99: number;
  /** The largest. */
  max: number;
  /** The standard deviation of the population, which `ping` calls mdev. */
  stddev: number;
}

/**
 * Sums up a sample, exactly.
 *
 * @param sample The values, in any order.
 * @returns The figures; undefined for an empty sample.
 *
 * @example
 * ```ts
 * import { summarize } from "@roundtrip/udp/stamp";
 * import { assertEquals } from "@std/assert";
 *
 * assertEquals(summarize([1, 3])?.mean, 2);
 * assertEquals(summarize([]), undefined);
 * ```
 */
export function summarize(sample: ArrayLike<number>): Summary | undefined {
  const sorted = Float64Array.from(sample).sort();
  const count = sorted.length;
  if (count === 0) return undefined;
  const mean = sorted.reduce((sum, value) => sum + value, 0) / count;
  const squares = sorted.reduce((sum, value) => sum + (value - mean) ** 2, 0);
  const middle = count >> 1;
  const moments = {
    min: sorted[0]!,
    mean,
    max: sorted[count - 1]!,
    stddev: Math.sqrt(squares / count),
  };
  const median = count % 2 === 1
    ? sorted[middle]!
    : (sorted[middle - 1]! + sorted[middle]!) / 2;
  const quantile = (share: number) => sorted[Math.ceil(share * count) - 1]!;
  return summaryOf(moments, quantile, median);
}

/** Makes a summary: the list of quantiles, whatever they are computed from. */
export function summaryOf(
  { min, mean, max, stddev }: Pick<Summary, "min" | "mean" | "max" | "stddev">,
  quantile: (share: number) => number,
  median = quantile(0.5),
): Summary {
  const [p90, p99] = [quantile(0.9), quantile(0.99)];
  return { min, mean, median, p90, p99, max, stddev };
}

/** Interarrival jitter (RFC 3550, section 6.4.1 and appendix A.8). */
export class Jitter {
  /** The current jitter; undefined before the second packet. */
  value: number | undefined;
  #transit: number | undefined;

  /** Adds a packet's transit time, in order of arrival; any clock will do. */
  add(transit: number): void {
    if (this.#transit !== undefined) {
      const difference = Math.abs(transit - this.#transit);
      this.value ??= 0;
      this.value += (difference - this.value) / 16;
    }
    this.#transit = transit;
  }
}

/** Reordering of packets (RFC 4737, sections 3.3 and 4.2). */
export class Reordering {
  /** By sequence modulo its length: the place of a packet, 0 if it is reordered or lost. */
  readonly #places: Float64Array;
  #nextExpected = 0;
  #place = 0;
  #count = 0;
  #sum = 0;
  #max = 0;

  /** Packets may be overtaken by fewer later sequences than `capacity`. */
  constructor(capacity: number) {
    this.#places = new Float64Array(capacity);
  }

  /** Whether a packet is reordered; called in order of arrival, without copies. */
  isReordered(sequence: number): boolean {
    const places = this.#places;
    const place = ++this.#place;
    if (sequence >= this.#nextExpected) {
      while (this.#nextExpected < sequence) {
        places[this.#nextExpected++ % places.length] = 0;
      }
      places[this.#nextExpected++ % places.length] = place;
      return false;
    }
    let later = sequence + 1;
    while (places[later % places.length] === 0) later++;
    const extent = place - places[later % places.length]!;
    this.#count++;
    this.#sum += extent;
    this.#max = Math.max(this.#max, extent);
    return true;
  }

  /** For each reordered packet, the packets since the first one that overtook it. */
  get extent(): { max: number; mean: number } | undefined {
    if (this.#count === 0) return undefined;
    return { max: this.#max, mean: this.#sum / this.#count };
  }
}

/**
 * Each value less the smallest, of this sample or of a larger one: PDV, if the values
 * are delays (RFC 5481).
 */
export function aboveMinimum(
  summary: Summary | undefined,
  min = summary?.min ?? 0,
): Summary | undefined {
  if (summary === undefined) return undefined;
  const { stddev } = summary;
  const entries = Object.entries<number>({ ...summary });
  const above = entries.map(([name, value]) => [name, value - min]);
  return { ...Object.fromEntries(above), stddev };
}

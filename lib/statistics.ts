/**
 * Numbers out of samples. Pure.
 *
 * @module
 */

/** A sample's figures, in the unit of the sample. */
export interface Summary {
  /** The smallest. */
  min: number;
  /** The arithmetic mean. */
  mean: number;
  /** The middle one, or the mean of the two in the middle. */
  median: number;
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
 * @returns The figures, or undefined if nothing was measured.
 *
 * @example
 * ```ts
 * import { summarize } from "@roundtrip/udp";
 * import { assertEquals } from "@std/assert";
 *
 * assertEquals(summarize([1, 3])?.mean, 2);
 * assertEquals(summarize([]), undefined);
 * ```
 */
export function summarize(sample: readonly number[]): Summary | undefined {
  const sorted = Float64Array.from(sample).sort();
  const count = sorted.length;
  if (count === 0) return undefined;
  const mean = sorted.reduce((sum, value) => sum + value, 0) / count;
  const squares = sorted.reduce((sum, value) => sum + (value - mean) ** 2, 0);
  const middle = count >> 1;
  return {
    min: sorted[0]!,
    mean,
    median: count % 2 === 1
      ? sorted[middle]!
      : (sorted[middle - 1]! + sorted[middle]!) / 2,
    p99: sorted[Math.ceil(0.99 * count) - 1]!,
    max: sorted[count - 1]!,
    stddev: Math.sqrt(squares / count),
  };
}

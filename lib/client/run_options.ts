/**
 * The options that all runs have, for help without the rest of it.
 *
 * @module
 */
import * as option from "../base/options.ts";
import type { Sample } from "../stats/sample.ts";

/** Options of all runs. */
export interface RunOptions {
  /**
   * The length of the intervals that are events of the run, in milliseconds, 1 to
   * 86,400,000 (a day).
   *
   * @default {no intervals; 1000 of a load}
   */
  reportMs?: number | undefined;
  /**
   * Called for each datagram once it is settled, and at the end for those that are
   * pending.
   */
  onSample?: ((sample: Sample) => void) | undefined;
}

/** The table of {@linkcode RunOptions}. */
export const RUN = {
  reportMs: option.time(1),
  onSample: option.callback(),
} satisfies option.Table<RunOptions>;

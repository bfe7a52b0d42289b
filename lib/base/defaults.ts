/**
 * Defaults, apart from the code that they are for: a program that only shows
 * them in its help loads nothing else.
 *
 * @module
 */

/** The defaults of `MeasureOptions`. */
export const MEASURE_DEFAULTS = {
  count: 10,
  intervalMs: 1000,
  timeoutMs: 1000,
  ssid: 0,
  ptp: false,
  mayBlock: false,
  needsSsid: false,
  clock: "auto",
} as const;

/** Who times a round trip, see `MeasureOptions`. */
export type Clock = "auto" | "kernel" | "program";

/** All clocks. */
export const CLOCKS: readonly Clock[] = ["auto", "kernel", "program"];

/** The defaults of `LoadOptions`. */
export const LOAD_DEFAULTS = {
  durationMs: 10_000,
  size: 64,
  timeoutMs: 1000,
  reportMs: 1000,
  mayBlock: false,
} as const;

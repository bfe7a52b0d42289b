/**
 * Counts of values by size, in memory that never grows, at a constant cost per
 * value.
 *
 * @module
 */

/**
 * Counts values in milliseconds, from 0 to 52 days, in steps of at most a
 * thousandth of the value, and of a nanosecond at least (as HDR histograms do).
 */
export class Histogram {
  /** Allocated for the first value. */
  #counts = NONE;
  /** The number of values. */
  count = 0;

  /** Adds a value of 0 or more, this number of times. */
  add(value: number, times = 1): void {
    if (this.#counts === NONE) {
      this.#counts = new Uint32Array(STEPS + OCTAVES * STEPS / 2);
    }
    this.count += times;
    this.#counts[stepOf(value * NS_PER_MS)]! += times;
  }

  /** The values to within their steps, and the number of each. */
  *values(): Iterable<[value: number, times: number]> {
    for (const [step, times] of this.#counts.entries()) {
      if (times > 0) yield [middleOf(step) / NS_PER_MS, times];
    }
  }

  /** The nth value to within its step, counted from 1 for the smallest. */
  atRank(rank: number): number {
    const counts = this.#counts;
    let step = -1;
    for (let below = 0; below < rank;) below += counts[++step]!;
    return middleOf(step) / NS_PER_MS;
  }
}

/** The step of a number of nanoseconds. */
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
/** The lowest octave has 1,024 steps, each other one half of them. */
const STEP_BITS = 10;
const STEPS = 1 << STEP_BITS;
const OCTAVES = 42;
const MAX_NS = 2 ** (STEP_BITS + OCTAVES);

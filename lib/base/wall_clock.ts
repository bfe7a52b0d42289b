/**
 * The wall clock on top of a monotonic one: where it is set, that is followed. Pure.
 *
 * @module
 */

/** The state of the wall clock. */
export interface ClockState {
  /** Whether it is kept right, for instance by NTP. */
  synchronized: boolean;
  /** By how much it may be wrong, in milliseconds. */
  maxErrorMs: number;
}

/**
 * When a monotonic clock was 0, by a wall clock that may be set: a Unix time.
 *
 * @param origin That time at the start, in milliseconds.
 * @param now The monotonic clock, in milliseconds.
 * @param wallNow The wall clock, in whole milliseconds.
 */
export function wallOrigin(
  origin: number,
  now: () => number,
  wallNow: () => number,
): () => number {
  let checkedAt = now();
  return () => {
    const time = now();
    if (time - checkedAt < CHECK_MS) return origin;
    checkedAt = time;
    // The wall clock is read in whole milliseconds, rounded down.
    const aheadMs = wallNow() - (origin + time);
    if (aheadMs < -MAX_BEHIND_MS || aheadMs > MAX_AHEAD_MS) {
      origin += aheadMs + 0.5;
    }
    return origin;
  };
}

/**
 * The offset of a wall clock, read to a fraction of a microsecond, from a monotonic one,
 * in milliseconds. Both can only be read one after the other, and the time between the
 * reads adds to it: so the least one counts, until the clock is set.
 */
export function clockOffset(
  now: () => number,
  wallNow: () => number,
): () => number {
  let leastMs = Infinity;
  const read = () => {
    const before = now();
    return wallNow() - before;
  };
  return () => {
    let ms = read();
    for (let i = 0; i < MAX_READS && ms > leastMs + SET_MS; i++) {
      ms = Math.min(ms, read());
    }
    const wasSet = ms > leastMs + SET_MS;
    leastMs = wasSet ? ms : Math.min(ms, leastMs);
    return leastMs;
  };
}

const CHECK_MS = 100;
/** Beyond the effect of rounding down, and the time between two reads. */
const MAX_BEHIND_MS = 2;
const MAX_AHEAD_MS = 1;
/** More than passes between two reads, of which one at least is not disturbed. */
const SET_MS = 0.05;
const MAX_READS = 4;

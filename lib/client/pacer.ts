/**
 * The schedule of a run, and the times that it waits for. Pure.
 *
 * @module
 */

/**
 * A schedule by number: each datagram is due at a multiple of the interval, so
 * that lateness does not add up. Pure.
 */
export class Pacer {
  #skippedMs = 0;
  readonly #eachMs: number;

  /** Makes a schedule of `perInterval` datagrams per interval. */
  constructor(intervalMs: number, perInterval = 1) {
    this.#eachMs = intervalMs / perInterval;
  }

  /** The time from the first datagram until this one is due. */
  dueMs(seq: number): number {
    return seq * this.#eachMs + this.#skippedMs;
  }

  /** The wait for a datagram, `elapsedMs` after the first one was due. */
  waitMs(elapsedMs: number, seq: number): number {
    return Math.max(0, this.dueMs(seq) - elapsedMs);
  }

  /**
   * Skips what was due while the program stood still, or was too slow, instead of
   * sending it in a burst: if a datagram is later than 100 ms, it and all others
   * are due that much later. Gives the number of sends that were skipped.
   */
  skip(elapsedMs: number, seq: number): number {
    const behindMs = elapsedMs - this.dueMs(seq);
    if (behindMs <= STALL_MS) return 0;
    const count = this.#eachMs === 0 ? 0 : Math.floor(behindMs / this.#eachMs);
    this.#skippedMs += this.#eachMs === 0 ? behindMs : count * this.#eachMs;
    return count;
  }
}

/** The wait for copies: three round trips, at least 20 ms; none after none. Pure. */
export function lingerMs(longestMs: number, maxMs: number): number {
  return longestMs === 0
    ? 0
    : Math.min(Math.max(3 * longestMs, MIN_LINGER_MS), maxMs);
}

/** Lateness that is a standstill, and is not caught up with. */
export const STALL_MS = 100;
/** The longest time that a datagram lives on its path (RFC 9293, section 3.4.2). */
export const MAX_LATE_MS = 120_000;
const MIN_LINGER_MS = 20;

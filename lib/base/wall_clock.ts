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

/** When a monotonic clock was 0, by a wall clock that may be set. */
export class WallClock {
  readonly #now: () => number;
  readonly #wallNow: () => number;
  #origin: number;
  #checkedAt: number;

  /**
   * Makes a clock.
   *
   * @param origin The Unix time at which the monotonic clock was 0, in
   * milliseconds.
   * @param now The monotonic clock, in milliseconds.
   * @param wallNow The wall clock, in whole milliseconds.
   */
  constructor(origin: number, now: () => number, wallNow: () => number) {
    this.#origin = origin;
    this.#now = now;
    this.#wallNow = wallNow;
    this.#checkedAt = now();
  }

  /** The Unix time at which the monotonic clock would have been 0. */
  get origin(): number {
    const now = this.#now();
    if (now - this.#checkedAt < CHECK_MS) return this.#origin;
    this.#checkedAt = now;
    // The wall clock is read in whole milliseconds, cut off.
    const aheadMs = this.#wallNow() - (this.#origin + now);
    if (aheadMs < -MAX_BEHIND_MS || aheadMs > MAX_AHEAD_MS) {
      this.#origin += aheadMs + 0.5;
    }
    return this.#origin;
  }
}

/**
 * The offset of a wall clock from a monotonic one. Both can only be read one after
 * the other, and the time between the reads adds to it: so the least one counts, until
 * the clock is set.
 */
export class ClockOffset {
  readonly #now: () => number;
  readonly #wallNow: () => number;
  #leastMs = Infinity;

  /**
   * Makes the offset of a clock from another, both in milliseconds.
   *
   * @param now The monotonic clock.
   * @param wallNow The wall clock, to a fraction of a microsecond.
   */
  constructor(now: () => number, wallNow: () => number) {
    this.#now = now;
    this.#wallNow = wallNow;
  }

  /** The offset, in milliseconds. */
  get ms(): number {
    let ms = this.#read();
    for (let i = 0; i < MAX_READS && ms > this.#leastMs + SET_MS; i++) {
      ms = Math.min(ms, this.#read());
    }
    const wasSet = ms > this.#leastMs + SET_MS;
    this.#leastMs = wasSet ? ms : Math.min(ms, this.#leastMs);
    return this.#leastMs;
  }

  #read(): number {
    const now = this.#now();
    return this.#wallNow() - now;
  }
}

const CHECK_MS = 100;
/** Beyond what cutting off makes, and what passes between two reads. */
const MAX_BEHIND_MS = 2;
const MAX_AHEAD_MS = 1;
/** More than passes between two reads, of which one at least is not disturbed. */
const SET_MS = 0.05;
const MAX_READS = 4;

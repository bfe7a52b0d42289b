/**
 * When a socket may wait for datagrams in the thread itself, which is as fast as
 * C but keeps everything else waiting too: only while datagrams arrive so fast
 * that the wait is short, and only in a process that does nothing else. Pure.
 *
 * @module
 */

/** Decides by the latest batches, waits and turns; times in milliseconds. */
export class Pace {
  /** Whether others than this socket were at work in the last turn. */
  wasUsed = false;
  #batches = 0;
  #datagrams = 0;
  #gapsMs = 0;
  #isFast = false;
  #quietUntil = 0;

  /** Counts a batch of datagrams, received `gapMs` after the one before. */
  onBatch(gapMs: number, count: number): void {
    this.#gapsMs += gapMs;
    this.#datagrams += count;
    if (++this.#batches < STREAK) return;
    this.#isFast = this.#gapsMs < this.#datagrams * FAST_MS;
    this.#begin();
  }

  #begin(): void {
    this.#gapsMs = 0;
    this.#datagrams = 0;
    this.#batches = 0;
  }

  /** The time to work before the event loop has a turn. */
  turnMs(now: number): number {
    return this.mayWait(now) && !this.wasUsed ? LONE_TURN_MS : TURN_MS;
  }

  /** Whether to wait in the thread itself for the next datagram. */
  mayWait(now: number): boolean {
    return this.#isFast && now >= this.#quietUntil;
  }

  /** A wait in the thread has ended without a datagram. */
  onTimeout(now: number): void {
    this.#isFast = false;
    this.#begin();
    this.#quietUntil = now + QUIET_MS;
  }

  /** The event loop had a turn, which others used or not. */
  onTurn(now: number, isUsed: boolean): void {
    // One use may be chance; others at work use the next turn too.
    if (isUsed && this.wasUsed) this.#quietUntil = now + QUIET_MS;
    this.wasUsed = isUsed;
  }
}

/** The batches that are judged together, and the gap of 8,000 datagrams a second. */
const STREAK = 8;
const FAST_MS = 1 / 8;
/**
 * No wait for this long after one that timed out, so that such waits take 1 % of the
 * time at most, and after turns that others used.
 */
const QUIET_MS = 20;
/** A turn costs some 50 us, which is much only where nobody else needs it. */
export const TURN_MS = 1;
const LONE_TURN_MS = 4;

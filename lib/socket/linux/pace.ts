/**
 * When a socket may wait for datagrams in the thread itself, which is as fast as
 * C but keeps everything else waiting too: only while datagrams come so fast
 * that the wait is short, and only in a process that does nothing else. Pure.
 *
 * @module
 */

/** Decides by what a socket went through so far; times in milliseconds. */
export class Pace {
  #batches = 0;
  #datagrams = 0;
  #gapsMs = 0;
  #isFast = false;
  #quietUntil = 0;
  #penaltyMs = MIN_PENALTY_MS;
  #waits = 0;
  #wasUsed = false;

  /** Whether others than this socket were at work in the last turn. */
  get wasUsed(): boolean {
    return this.#wasUsed;
  }

  /** So many datagrams were received, so long after what came before. */
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

  /** How long to work before the event loop has a turn. */
  turnMs(now: number): number {
    return this.mayWait(now) && !this.#wasUsed ? LONE_TURN_MS : TURN_MS;
  }

  /** Whether to wait in the thread itself for what comes next. */
  mayWait(now: number): boolean {
    return this.#isFast && now >= this.#quietUntil;
  }

  /** A wait in the thread has ended, with something to receive or in vain. */
  onWait(now: number, isInVain: boolean): void {
    if (!isInVain) {
      if (++this.#waits % FORGIVEN === 0) this.#penaltyMs = MIN_PENALTY_MS;
      return;
    }
    this.#isFast = false;
    this.#begin();
    this.#quietUntil = now + this.#penaltyMs;
    this.#penaltyMs = Math.min(2 * this.#penaltyMs, MAX_PENALTY_MS);
  }

  /** The event loop had a turn, which others used or not. */
  onTurn(now: number, isUsed: boolean): void {
    // Once may be chance; who is at work is so in the next turn too.
    if (isUsed && this.#wasUsed) this.#quietUntil = now + BUSY_MS;
    this.#wasUsed = isUsed;
  }
}

/** What so many receives bring is fast if it is 8,000 a second and more. */
const STREAK = 8;
const FAST_MS = 1 / 8;
/** After a wait in vain there is none for so long; twice that the next time. */
const MIN_PENALTY_MS = 5;
const MAX_PENALTY_MS = 100;
/** After so many waits that were not in vain the penalty is the first again. */
const FORGIVEN = 64;
/** A turn costs some 50 us, which is much only where nobody else needs it. */
export const TURN_MS = 1;
const LONE_TURN_MS = 4;
/** Who was at work once is expected to be again for so long. */
const BUSY_MS = 20;

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
  #gapsMs = 0;
  #isFast = false;
  #quietUntil = 0;
  #penaltyMs = MIN_PENALTY_MS;
  #waits = 0;
  /** Whether more than this socket was at work in the last turn. */
  #wasBusy = false;

  /** Whether datagrams come so fast that waiting here may pay. */
  get isFast(): boolean {
    return this.#isFast;
  }

  /** Something was received, so long after what came before. */
  onBatch(gapMs: number): void {
    this.#gapsMs += gapMs;
    if (++this.#batches < STREAK) return;
    this.#isFast = this.#gapsMs < STREAK_MS;
    this.#gapsMs = 0;
    this.#batches = 0;
  }

  /** How long to work before the event loop has a turn. */
  turnMs(now: number): number {
    return this.mayWait(now) && !this.#wasBusy ? LONE_TURN_MS : TURN_MS;
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
    this.#batches = 0;
    this.#gapsMs = 0;
    this.#quietUntil = now + this.#penaltyMs;
    this.#penaltyMs = Math.min(2 * this.#penaltyMs, MAX_PENALTY_MS);
  }

  /** The event loop had a turn, in which so much processor time was used. */
  onTurn(now: number, usedMs: number): void {
    const isBusy = usedMs > IDLE_TURN_MS;
    // Once may be chance; who is at work is so in the next turn too.
    if (isBusy && this.#wasBusy) this.#quietUntil = now + BUSY_MS;
    this.#wasBusy = isBusy;
  }
}

/** So many receives within so long are fast: 8,000 a second and more. */
const STREAK = 8;
const STREAK_MS = 1;
/** After a wait in vain there is none for so long; twice that the next time. */
const MIN_PENALTY_MS = 5;
const MAX_PENALTY_MS = 100;
/** After so many waits that were not in vain the penalty is the first again. */
const FORGIVEN = 64;
/** A turn costs up to 100 us, which is much only where nobody else needs it. */
const TURN_MS = 1;
const LONE_TURN_MS = 8;
/** A turn in which nothing but this socket is at work takes less. */
const IDLE_TURN_MS = 0.2;
/** Who was at work once is expected to be again for so long. */
const BUSY_MS = 20;

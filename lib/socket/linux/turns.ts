/**
 * Turns: the shares of the thread that a busy socket yields to all else in the
 * process.
 *
 * @module
 */
import type { Libc } from "./libc.ts";

/** The turns of one socket; times in milliseconds. */
export class Turns {
  readonly pace: Pace;
  readonly now: () => number;
  readonly #libc: Pick<Libc, "otherThread" | "threadMs">;
  readonly #isClient: boolean;
  /** When the event loop had its last turn, and timers their last round. */
  #turnAt = 0;
  #roundAt = 0;
  /** The time until which turns wait for no other thread. */
  #roundsUntil = 0;
  #wasSlow = false;
  #isEnded = false;

  /** Makes the turns of a socket, which may be a client's, with one peer. */
  constructor(
    libc: Pick<Libc, "otherThread" | "threadMs">,
    now: () => number,
    isClient: boolean,
  ) {
    this.#libc = libc;
    this.now = now;
    this.#isClient = isClient;
    this.pace = new Pace(isClient ? 0 : SPARE_MS);
  }

  /** Whether a turn is due when a batch has been handed out. */
  isDue(now: number): boolean {
    return now - this.#turnAt > this.pace.turnMs(now);
  }

  /** Whether a turn is due in the middle of a batch, or before another wait. */
  isPressing(now: number): boolean {
    const most = this.#isClient ? CLIENT_TURN_MS : TURN_MS;
    return now - this.#turnAt > Math.min(most, this.pace.turnMs(now));
  }

  /**
   * Whether a turn is due before a wait. While others are at work, all that has
   * arrived by the end of their turn is received at once: woken for each datagram,
   * they would get less done. Before a wait in the thread itself a turn costs the
   * least, since the peers are at work meanwhile.
   */
  isBeforeWait(): boolean {
    const now = this.now();
    return this.pace.wasUsed ||
      this.pace.mayWait(now) && this.isPressing(now);
  }

  /** Whether timers have waited for a round for the longest time allowed. */
  isRoundDue(now: number): boolean {
    return now - this.#roundAt > TURN_MS;
  }

  /** Notes that the event loop has polled everything. */
  begin(now: number): void {
    this.#turnAt = this.#roundAt = now;
  }

  /** Ends all turns, as the socket is closed. */
  end(): void {
    this.#isEnded = true;
  }

  /** Lets timers and microtasks run, and more of them in further rounds. */
  async round(count = 1): Promise<void> {
    await new Promise<void>((resolve) => {
      const next = () => {
        if (--count > 0 && !this.#isEnded) setImmediate(next);
        else resolve();
      };
      setImmediate(next);
    });
    this.#roundAt = this.now();
  }

  /**
   * Yields to all that waits for input or time, while they use it, for as long as
   * this socket may work.
   */
  async take(): Promise<void> {
    const start = this.now();
    let isUsed = false;
    for (let from = this.#libc.threadMs(); !this.#isEnded;) {
      // Turns of a client are mostly used for requests on its own socket; and a
      // load at a set rate never waits, so that no other thread may run.
      const byRounds = this.#isClient || this.now() < this.#roundsUntil;
      await (byRounds ? this.round(LONE_ROUNDS) : this.#pollRuntime());
      const to = this.#libc.threadMs();
      const isMore = to - from >= (byRounds ? ROUNDS_USED_MS : USED_MS);
      isUsed ||= isMore;
      if (!isMore || byRounds || this.#roundAt - start > TURN_MS) break;
      from = to;
    }
    const now = this.now();
    this.begin(now);
    this.pace.onTurn(now, isUsed);
  }

  /**
   * Has Deno's runtime poll for input and timers, which it does when it waits for
   * another thread, and run their callbacks.
   */
  async #pollRuntime(): Promise<void> {
    const start = this.now();
    await this.#libc.otherThread();
    await this.round();
    // On one processor a loop that never waits keeps the other thread from running.
    const isSlow = this.#roundAt - start > SLOW_MS;
    // One slow wait may be chance; after a time of rounds it is not.
    if (isSlow && this.#wasSlow) {
      this.#roundsUntil = this.#roundAt + BY_ROUNDS_MS;
    }
    this.#wasSlow = isSlow;
  }
}

/**
 * When a socket may wait for datagrams in the thread itself, which is as fast as C
 * but keeps everything else waiting too: only while datagrams arrive so fast that
 * the wait is short, and only in a process that does nothing else. Pure.
 */
export class Pace {
  /** Whether others than this socket were at work in the last turn. */
  wasUsed = false;
  #batches = 0;
  #datagrams = 0;
  #gapsMs = 0;
  #isFast = false;
  #quietUntil = 0;

  /** Waits in vain are forgiven for as long as their time of quiet is `spareMs`. */
  constructor(readonly spareMs = SPARE_MS) {}

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

  /** The time to work before a turn of the event loop. */
  turnMs(now: number): number {
    return this.mayWait(now) && !this.wasUsed ? LONE_TURN_MS : TURN_MS;
  }

  /** Whether to wait in the thread itself for the next datagram. */
  mayWait(now: number): boolean {
    return this.#isFast && now >= this.#quietUntil;
  }

  /** A wait in the thread has ended without a datagram. */
  onTimeout(now: number): void {
    this.#quietUntil = Math.max(this.#quietUntil, now - this.spareMs) +
      QUIET_MS;
    if (this.mayWait(now)) return;
    this.#isFast = false;
    this.#begin();
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
 * No wait for this long after turns that others used, and for each wait that timed
 * out, so that such waits take 1 % of the time at most. A server is allowed a few in a
 * row, since a busy peer stalls now and then.
 */
const QUIET_MS = 20;
const SPARE_MS = 200;
/** A turn costs some 50 us, which is much only where nobody else needs it. */
const TURN_MS = 1;
const LONE_TURN_MS = 4;
/** The longest work of a client in a batch, as its requests wait for the turn. */
const CLIENT_TURN_MS = 2;
/** Without a wait for another thread Deno polls in every 61st round. */
const LONE_ROUNDS = 64;
/** The processor time of a turn that nobody else uses, at most. */
const USED_MS = 0.05;
const ROUNDS_USED_MS = 0.2;
/** A slow wait for the other thread, and the time without another one. */
const SLOW_MS = 0.5;
const BY_ROUNDS_MS = 50;

/**
 * How a socket that has much to do shares its thread: when all else in the process
 * has a turn of the event loop, and for how long.
 *
 * @module
 */
import type { Libc } from "./libc.ts";
import { Pace, TURN_MS } from "./pace.ts";

/** The turns of one socket; times in milliseconds. */
export class Turns {
  readonly pace = new Pace();
  readonly #libc: Pick<Libc, "otherThread" | "threadMs">;
  readonly #now: () => number;
  readonly #isClient: boolean;
  /** The event loop had its last turn then, and timers their last round. */
  #turnAt = 0;
  #roundAt = 0;
  /** Until then a turn waits for no other thread. */
  #roundsUntil = 0;
  #isEnded = false;

  /**
   * Makes the turns.
   *
   * @param libc The C library.
   * @param now A clock.
   * @param isClient Whether the socket has one peer, which it asks.
   */
  constructor(
    libc: Pick<Libc, "otherThread" | "threadMs">,
    now: () => number,
    isClient: boolean,
  ) {
    this.#libc = libc;
    this.#now = now;
    this.#isClient = isClient;
  }

  /** Whether a turn is due when a batch has been handed out. */
  isDue(now: number): boolean {
    return now - this.#turnAt > this.pace.turnMs(now);
  }

  /** Whether one is due in the middle of a batch, and before another wait. */
  isPressing(now: number): boolean {
    const most = this.#isClient ? CLIENT_TURN_MS : TURN_MS;
    return now - this.#turnAt > Math.min(most, this.pace.turnMs(now));
  }

  /** Whether timers have waited for a round as long as they may. */
  isRoundDue(now: number): boolean {
    return now - this.#roundAt > TURN_MS;
  }

  /** The event loop has looked at everything. */
  begin(now: number): void {
    this.#turnAt = this.#roundAt = now;
  }

  /** The socket is closed: no turn goes on for its sake. */
  end(): void {
    this.#isEnded = true;
  }

  /** Lets timers run, and all settle that waits for nothing but microtasks. */
  async round(): Promise<void> {
    await new Promise<void>((resolve) => setImmediate(() => resolve()));
    this.#roundAt = this.#now();
  }

  /**
   * Lets all have a turn that waits for input or for time: while they use it, for
   * as long as this socket may work.
   */
  async take(): Promise<void> {
    const start = this.#now();
    let isUsed = false;
    for (let from = this.#libc.threadMs(); !this.#isEnded;) {
      // What a client's turns are used for is mostly to ask on its socket; and a
      // load at a set rate never waits, so that no other thread may run.
      const byRounds = this.#isClient || this.#now() < this.#roundsUntil;
      await (byRounds ? this.#rounds(LONE_ROUNDS) : this.#pollRuntime());
      const to = this.#libc.threadMs();
      const isMore = to - from >= (byRounds ? ROUNDS_USED_MS : USED_MS);
      isUsed ||= isMore;
      if (!isMore || byRounds || this.#roundAt - start > TURN_MS) break;
      from = to;
    }
    const now = this.#now();
    this.begin(now);
    this.pace.onTurn(now, isUsed);
  }

  /**
   * Has Deno's runtime look for input and at the time, which it does when it waits
   * for another thread, and lets run what that wakes.
   */
  async #pollRuntime(): Promise<void> {
    const start = this.#now();
    await this.#libc.otherThread();
    await this.#rounds(ROUNDS);
    // On one processor a loop that never waits keeps the other thread from running.
    if (this.#roundAt - start > SLOW_MS) {
      this.#roundsUntil = this.#roundAt + BY_ROUNDS_MS;
    }
  }

  async #rounds(count: number): Promise<void> {
    for (let i = 0; i < count && !this.#isEnded; i++) await this.round();
  }
}

/** The longest work of a client in a batch; its requests would wait for a turn else. */
const CLIENT_TURN_MS = 2;
const ROUNDS = 2;
/** Where no other thread is waited for, Deno looks in every 61st round. */
const LONE_ROUNDS = 64;
/** What nobody else uses takes less of the processor, mostly. */
const USED_MS = 0.05;
const ROUNDS_USED_MS = 0.2;
/** Who waited so long for the other thread does not do so again for a while. */
const SLOW_MS = 0.5;
const BY_ROUNDS_MS = 50;

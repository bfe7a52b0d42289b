/**
 * What a series of requests and a measurement have in common: they run while
 * they are iterated, send on a schedule, and end at a deadline, by an abort,
 * when they are stopped, or when nothing is left to wait for.
 *
 * @module
 */
import { formatAddress, type UdpAddress } from "../address.ts";
import { TimeoutError } from "../base/errors.ts";
import { EventQueue } from "../base/event_queue.ts";
import type { Runtime } from "../socket/runtime.ts";
import { type Ends, type NamedEnds, resolveEnds } from "./target.ts";
import { follow, type Readings, UDP } from "../base/telemetry.ts";

/** How many, how often, until when. */
export interface Schedule {
  count: number;
  intervalMs: number;
  deadlineMs: number | undefined;
  signal: AbortSignal | undefined;
}

/** The part of a run that knows what is sent, and what became of it. */
export interface Sender {
  /** How many datagrams it has sent. */
  readonly sent: number;
  /** Sends the next datagram, which is due. */
  send(): void;
  /** The deadline has come. */
  giveUp(): void;
  /** Closes its sockets and cancels its timers. */
  close(): Promise<void>;
  /** What it has counted, for OpenTelemetry. */
  readings(): Readings;
}

/** A run, which begins when it is iterated. */
export class Run<E, S extends Sender> implements AsyncIterable<E> {
  readonly schedule: Schedule;
  readonly #runtime: Runtime;
  readonly #named: NamedEnds;
  readonly #start: (ends: Ends) => S;
  readonly #pacer: Pacer;
  readonly #queue = new EventQueue<E>();
  #hasBegun = false;
  #ends: Ends | undefined;
  #sender: S | undefined;
  #startedAt: number | undefined;
  #endedAt: number | undefined;
  #isLingering = false;
  #cancelNext = () => {};

  /**
   * Prepares a run.
   *
   * @param schedule When to send, and when to end.
   * @param named Both ends; their names are resolved when the run begins.
   * @param runtime Sockets, names and time.
   * @param start Opens what the run sends with.
   */
  constructor(
    schedule: Schedule,
    named: NamedEnds,
    runtime: Runtime,
    start: (ends: Ends) => S,
  ) {
    this.schedule = schedule;
    this.#named = named;
    this.#runtime = runtime;
    this.#start = start;
    this.#pacer = new Pacer(schedule.intervalMs);
  }

  /** Whom it asks; undefined until the names are resolved. */
  get target(): UdpAddress | undefined {
    return this.#ends?.target;
  }

  /** What it sends with; undefined until the names are resolved. */
  get sender(): S | undefined {
    return this.#sender;
  }

  /** Since the first send, without the wait for copies at the end. */
  get durationMs(): number {
    const now = this.#runtime.now();
    return (this.#endedAt ?? now) - (this.#startedAt ?? this.#endedAt ?? now);
  }

  /** When the datagram is due that comes after `count` others. */
  dueAt(count: number): number {
    return this.#startedAt! + this.#pacer.dueMs(count);
  }

  /** Hands an event to the iteration. */
  push(event: E): void {
    this.#queue.push(event);
  }

  /** Ends the iteration after the events that wait, with an error if given. */
  end(failure?: { error: unknown }): void {
    this.#endedAt ??= this.#runtime.now();
    this.#queue.end(failure);
  }

  /**
   * Has the next datagram sent when it is due, by one of the timers.
   *
   * @param timer Which one.
   * @param pause What the exact one does instead of keeping a processor busy.
   */
  sendNext(
    timer: "after" | "afterExactly",
    pause?: (leftMs: number) => void,
  ): void {
    const elapsedMs = this.#runtime.now() - this.#startedAt!;
    const waitMs = this.#pacer.waitMs(elapsedMs, this.#sender!.sent);
    // A timer is late by a millisecond or two: what is due already does not wait
    // for another one, so that short intervals are kept in the mean.
    const next = waitMs === 0 ? "afterExactly" : timer;
    this.#cancelNext = this.#runtime[next](waitMs, () => this.#send(), pause);
  }

  /** All is answered or given up: what comes now is no part of the duration. */
  conclude(): void {
    this.#endedAt ??= this.#runtime.now();
  }

  /**
   * All is answered or given up. Listens on for copies, then ends.
   *
   * @param longestMs The longest round trip; 0 if there is no point in waiting.
   * @param maxMs The longest wait.
   */
  linger(longestMs: number, maxMs: number): void {
    if (this.#isLingering) return;
    this.#isLingering = true;
    this.conclude();
    const waitMs = lingerMs(longestMs, maxMs);
    this.#cancelNext = this.#runtime.after(waitMs, () => this.end());
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<E> {
    if (this.#hasBegun) {
      throw new TypeError("Cannot iterate a second time: start another run");
    }
    this.#hasBegun = true;
    const { signal, deadlineMs } = this.schedule;
    signal?.throwIfAborted();
    const abort = () => this.end({ error: signal!.reason });
    signal?.addEventListener("abort", abort);
    const cancelDeadline = deadlineMs === undefined
      ? () => {}
      : this.#runtime.after(deadlineMs, () => this.#meetDeadline(deadlineMs));
    let unfollow = () => {};
    try {
      // Looking up a name cannot be cancelled, but it need not be waited for.
      this.#ends = await Promise.race([
        resolveEnds(this.#named, this.#runtime),
        this.#queue.whenEnded,
      ]) ?? undefined;
      if (this.#ends !== undefined && !this.#queue.ended) {
        const sender = this.#sender = this.#start(this.#ends);
        if (this.#named.telemetry) {
          unfollow = follow(UDP, () => sender.readings());
        }
        this.#startedAt = this.#runtime.now();
        this.#send();
      }
      yield* this.#queue;
    } finally {
      this.end();
      signal?.removeEventListener("abort", abort);
      cancelDeadline();
      this.#cancelNext();
      unfollow();
      await this.#sender?.close();
    }
  }

  #send(): void {
    if (!this.#queue.ended) this.#sender!.send();
  }

  #meetDeadline(deadlineMs: number): void {
    this.#sender?.giveUp();
    this.end(
      this.#sender === undefined
        ? {
          error: new TimeoutError(
            `Cannot ask ${
              formatAddress(this.#named.target)
            }: its name was not resolved within ${deadlineMs} ms`,
            { attempts: 0, foreign: 0 },
          ),
        }
        : undefined,
    );
  }
}

/** When to send: each datagram at a multiple of the interval. Pure. */
export class Pacer {
  readonly #intervalMs: number;
  #skippedMs = 0;

  constructor(intervalMs: number) {
    this.#intervalMs = intervalMs;
  }

  /** How long after the first the datagram is due that follows `count` others. */
  dueMs(count: number): number {
    return count * this.#intervalMs + this.#skippedMs;
  }

  /**
   * How long to wait before the next datagram. Lateness does not add up; but
   * what was missed for long, as when the machine slept, is skipped, so that it
   * is not sent in a burst.
   *
   * @param elapsedMs Since the first datagram was due.
   * @param count How many have been sent.
   */
  waitMs(elapsedMs: number, count: number): number {
    const behindMs = elapsedMs - this.dueMs(count);
    if (behindMs > MAX_CATCH_UP_MS) this.#skippedMs += behindMs;
    return Math.max(0, -behindMs);
  }
}

/** How long to listen for copies: three round trips, at least 20 ms. Pure. */
export function lingerMs(longestMs: number, maxMs: number): number {
  return longestMs === 0
    ? 0
    : Math.min(Math.max(3 * longestMs, MIN_LINGER_MS), maxMs);
}

const MAX_CATCH_UP_MS = 100;
const MIN_LINGER_MS = 20;

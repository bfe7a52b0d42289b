/**
 * The life of a run: names are resolved, a workload sends on a schedule, and
 * the run ends by its count, a deadline, an abort or `stop()`. Series, load,
 * gather and measurement are workloads.
 *
 * @module
 */
import { formatAddress, type UdpAddress } from "../address.ts";
import { TimeoutError } from "../base/errors.ts";
import { EventQueue } from "../base/event_queue.ts";
import type {
  DatagramSocket,
  OpenOptions,
  Receiver,
} from "../socket/contract.ts";
import type { Runtime } from "../socket/runtime.ts";
import { type Ends, type NamedEnds, resolveEnds } from "./target.ts";
import { type ClientFigures, NO_OBSERVER, observeClient } from "./telemetry.ts";

/** The number of datagrams, their times, and the end. */
export interface Schedule {
  count: number;
  intervalMs: number;
  /** Datagrams per interval; 1 if undefined. */
  perInterval?: number | undefined;
  /** Whether all that became due in a long stall is sent after it. */
  catchesUp?: boolean | undefined;
  deadlineMs?: number | undefined;
  /** Whether the thread may sleep in the socket until a datagram is due. */
  mayBlock?: boolean | undefined;
  signal: AbortSignal | undefined;
}

/** Sends the datagrams of a run, and keeps their outcomes. */
export interface Workload<S extends ClientFigures> {
  /** The number of datagrams sent. */
  readonly sent: number;
  /** Resolves the names, where a run has more than one target. */
  resolve?(): Promise<Ends>;
  /** Opens the socket for the first send. */
  open?(): void;
  /** Sends all that is due, and schedules the next call. */
  send(): void;
  /** Settles unanswered datagrams at the deadline. */
  giveUp?(): void;
  /** Cancels its timers, and closes sockets that the run does not own. */
  close(): Promise<void> | void;
  /** The current public figures; the run knows `eventsDropped`. */
  summary(): S;
}

type Timer = "after" | "afterExactly";

/** A run; it begins when it is iterated, which can be done once. */
export class Run<E, S extends ClientFigures> implements AsyncIterable<E> {
  readonly #pacer: Pacer;
  readonly #queue = new EventQueue<E>();
  #hasBegun = false;
  #ends: Ends | undefined;
  #socket: DatagramSocket | undefined;
  #socketClosed: Promise<void> | undefined;
  #startedAt: number | undefined;
  #endedAt: number | undefined;
  #isLingering = false;
  #observer = NO_OBSERVER;
  #cancelNext = () => {};

  /** Prepares a run; opens nothing. */
  constructor(
    readonly schedule: Schedule,
    readonly named: NamedEnds,
    readonly runtime: Runtime,
    readonly workload: Workload<S>,
  ) {
    this.#pacer = new Pacer(
      schedule.intervalMs,
      schedule.perInterval,
      schedule.catchesUp ? Infinity : undefined,
    );
  }

  /** The resolved target; undefined before. */
  get target(): UdpAddress | undefined {
    return this.#ends?.target;
  }

  /** Both ends; only once the names are resolved. */
  get ends(): Ends {
    return this.#ends!;
  }

  /** Replaces both ends by others of the same names. */
  set ends(ends: Ends) {
    this.#ends = ends;
  }

  /** Whether events and sends are over. */
  get ended(): boolean {
    return this.#queue.ended;
  }

  /** The time of the first send; 0 before. */
  get startedAt(): number {
    return this.#startedAt ?? 0;
  }

  /** From the first send to the last outcome, without the wait for copies. */
  get durationMs(): number {
    const now = this.runtime.now();
    return (this.#endedAt ?? now) - (this.#startedAt ?? this.#endedAt ?? now);
  }

  /** The drops of the system for want of buffer; undefined where unknown. */
  get kernelDrops(): number | undefined {
    return this.#socket?.kernelDrops();
  }

  /** Looks a last time at the drops of the socket, which is about to be closed. */
  lookAtDrops(): void {
    this.#socket?.kernelDrops();
  }

  /** The members that all runs show their callers, and those of one kind. */
  handle<Own extends object>(own: Own): RunHandle<E, S> & Own {
    const [target, workload] = [() => this.target, this.workload];
    return Object.assign({
      get target() {
        return target();
      },
      get sent() {
        return workload.sent;
      },
      summary: () => ({
        ...workload.summary(),
        eventsDropped: this.#queue.dropped,
      }),
      stop: () => this.end(),
      [Symbol.asyncIterator]: () => this[Symbol.asyncIterator](),
    }, own);
  }

  /** Opens the socket of the run, which closes with it. */
  open(
    options: Omit<OpenOptions, "hostname" | "port">,
    receiver: Receiver,
  ): DatagramSocket {
    const socket = this.runtime.open({ ...this.#ends!.local, ...options });
    this.#socketClosed = socket.start(receiver)
      .catch((error) => this.end({ error }));
    return this.#socket = socket;
  }

  /** The time at which a datagram is due. */
  dueAt(seq: number): number {
    return this.startedAt + this.#pacer.dueMs(seq);
  }

  /** Passes an event with its payload to the iteration. */
  push(event: E, payloadBytes?: number): void {
    this.#queue.push(event, payloadBytes);
  }

  /** Reports an RTT to the observer. */
  measured(rttMs: number): void {
    this.#observer.rtt(rttMs);
  }

  /** Ends the iteration after the queued events, with an error if given. */
  end(failure?: { error: unknown }): void {
    this.conclude();
    this.#queue.end(failure);
  }

  /**
   * Calls the workload when a datagram is due, by a timer; `late` is that of one which
   * is due already. A system timer adds a millisecond or two; without it short intervals
   * are kept in the mean.
   */
  sendNext(seq: number, timer: Timer, late: Timer = "afterExactly"): void {
    this.#cancelNext();
    const elapsedMs = this.runtime.now() - this.startedAt;
    const waitMs = this.#pacer.waitMs(elapsedMs, seq);
    const socket = this.#socket;
    const pause = this.schedule.mayBlock && socket?.sleep !== undefined
      ? (leftMs: number) => socket.sleep!(leftMs)
      : undefined;
    const next = waitMs === 0 ? late : timer;
    this.#cancelNext = this.runtime[next](waitMs, () => this.#send(), pause);
  }

  /** All is settled: later events are not part of the duration. */
  conclude(): void {
    this.#endedAt ??= this.runtime.now();
  }

  /** All is settled: receives copies for {@linkcode lingerMs}, then ends. */
  linger(longestMs: number, maxMs: number): void {
    if (this.#isLingering) return;
    this.#isLingering = true;
    this.conclude();
    const waitMs = lingerMs(longestMs, maxMs);
    this.#cancelNext = this.runtime.after(waitMs, () => this.end());
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
      : this.runtime.after(deadlineMs, () => this.#meetDeadline(deadlineMs));
    const workload = this.workload;
    try {
      // A look-up cannot be cancelled, but the end does not wait for it.
      this.#ends = await Promise.race([
        workload.resolve?.() ?? resolveEnds(this.named, this.runtime),
        this.#queue.whenEnded,
      ]) ?? undefined;
      if (this.#ends !== undefined && !this.ended) {
        workload.open?.();
        this.#observer = observeClient(
          this.named.options.telemetry,
          () => workload.summary(),
        );
        this.#startedAt = this.runtime.now();
        this.#send();
      }
      yield* this.#queue;
    } finally {
      this.end();
      signal?.removeEventListener("abort", abort);
      cancelDeadline();
      this.#cancelNext();
      this.#observer.end();
      await workload.close();
      this.#socket?.close();
      await this.#socketClosed;
    }
  }

  #send(): void {
    if (!this.ended) this.workload.send();
  }

  #meetDeadline(deadlineMs: number): void {
    if (this.#ends !== undefined) {
      this.workload.giveUp?.();
      return this.end();
    }
    const target = formatAddress(this.named.target);
    const error = new TimeoutError(
      `Cannot send to ${target}: its name was not resolved within ${deadlineMs} ms`,
      { attempts: 0, foreign: 0 },
    );
    this.end({ error });
  }
}

/**
 * A run. It sends while it is iterated, which can be done once, and closes its
 * sockets when the iteration ends, is left, or throws.
 */
export interface RunHandle<Event, Summary> extends AsyncIterable<Event> {
  /** The server's address; undefined until the iteration has resolved the name. */
  readonly target: UdpAddress | undefined;
  /** The current number of datagrams sent, retransmissions not counted. */
  readonly sent: number;
  /** The current figures. */
  summary(): Summary;
  /** Ends the iteration soon; unanswered datagrams stay `pending`. */
  stop(): void;
}

/**
 * A schedule by number: each datagram is due at a multiple of the interval, so
 * that lateness does not add up. Pure.
 */
export class Pacer {
  #skippedMs = 0;

  /**
   * Makes a schedule of `perInterval` datagrams per interval. A lateness of more than
   * `maxCatchUpMs`, as when the machine slept, is skipped instead of sent in a burst.
   */
  constructor(
    readonly intervalMs: number,
    readonly perInterval = 1,
    readonly maxCatchUpMs: number = MAX_CATCH_UP_MS,
  ) {}

  /** The time from the first datagram until this one is due. */
  dueMs(seq: number): number {
    return seq * this.intervalMs / this.perInterval + this.#skippedMs;
  }

  /** The wait for a datagram, `elapsedMs` after the first one was due. */
  waitMs(elapsedMs: number, seq: number): number {
    const behindMs = elapsedMs - this.dueMs(seq);
    if (behindMs > this.maxCatchUpMs) this.#skippedMs += behindMs;
    return Math.max(0, -behindMs);
  }
}

/** The wait for copies: three round trips, at least 20 ms; none after none. Pure. */
export function lingerMs(longestMs: number, maxMs: number): number {
  return longestMs === 0
    ? 0
    : Math.min(Math.max(3 * longestMs, MIN_LINGER_MS), maxMs);
}

const MAX_CATCH_UP_MS = 100;
const MIN_LINGER_MS = 20;

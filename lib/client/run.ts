/**
 * The life of a run: names are resolved, a workload sends on a schedule, and
 * the run ends by its count, a deadline, an abort or `stop()`. Series, load,
 * gather and measurement are workloads.
 *
 * @module
 */
import { formatAddress, type UdpAddress } from "../address.ts";
import { TimeoutError } from "./reply.ts";
import { EventQueue } from "../base/event_queue.ts";
import type {
  Datagram,
  DatagramSocket,
  OpenOptions,
  Receiver,
} from "../socket/contract.ts";
import type { Runtime } from "../socket/runtime.ts";
import { lingerMs, Pacer, STALL_MS } from "./pacer.ts";
import { type Ends, type NamedEnds, resolveEnds } from "./target.ts";
import { type Books, type Interval, isEmpty } from "../stats/books.ts";
import { type ClientFigures, NO_OBSERVER, observeClient } from "./telemetry.ts";

/** The number of datagrams, their times, and the end. */
export interface Schedule {
  count: number;
  intervalMs: number;
  /** Datagrams per interval; 1 if undefined. */
  perInterval?: number | undefined;
  deadlineMs?: number | undefined;
  /** The time after the first send in which datagrams are sent, if it is bounded. */
  sendMs?: number | undefined;
  /** The length of an interval of the report. */
  reportMs?: number | undefined;
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
  /** Its record of all datagrams; a gathering has none. */
  readonly books?: Books;
  /** Sends all that is due, and schedules the next call. */
  send(): void;
  /** A datagram of the books timed out. */
  onLost?(seq: number): void;
  /** Concludes the run if all is settled. */
  check?(): void;
  /** Cancels its timers, and closes sockets that the run does not own, at the end. */
  close?(): Promise<void> | void;
  /** The current public figures; the run knows `eventsDropped`. */
  summary(): S;
  /** Figures for an observer beyond the counts of the books. */
  figures?(): ClientFigures;
}

type Timer = "after" | "afterExactly";

/** A run; it begins when it is iterated, which can be done once. */
export class Run<E, S extends ClientFigures> implements AsyncIterable<E> {
  readonly #pacer: Pacer;
  readonly #queue = new EventQueue<E>();
  /** Whether it was iterated. */
  hasBegun = false;
  #ends: Ends | undefined;
  #socket: DatagramSocket | undefined;
  #socketClosed: Promise<void> | undefined;
  #closed: Promise<void> | void = undefined;
  #startedAt: number | undefined;
  #endedAt: number | undefined;
  #isLingering = false;
  #observer = NO_OBSERVER;
  #cancelNext = () => {};
  #cancelBeat = () => {};
  #cancelCatchUp = () => {};
  #intervals = 0;
  #skipped = 0;
  #deadlineAt = Infinity;
  /** When the next send is due. */
  #sendAt = Infinity;
  /** When it last ran. */
  #awakeAt = 0;
  /** Whether received datagrams may have waited in the socket. */
  #isCatchingUp = false;

  /** Prepares a run; opens nothing. */
  constructor(
    readonly schedule: Schedule,
    readonly named: NamedEnds,
    readonly runtime: Runtime,
    readonly workload: Workload<S>,
  ) {
    this.#pacer = new Pacer(schedule.intervalMs, schedule.perInterval);
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

  /** The figures for an observer: those that cost no look at all RTTs. */
  figures(): ClientFigures {
    const { workload } = this;
    return workload.figures?.() ?? workload.books?.summary() ??
      workload.summary();
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
    if (this.ended) return;
    this.conclude();
    this.workload.books?.end();
    this.#endInterval(true);
    // A closed socket has the drops that it was asked for last.
    this.#socket?.kernelDrops();
    // What arrives from now on is no part of the run.
    this.#socket?.close();
    this.#closed = this.workload.close?.();
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
    const wakeAt = this.startedAt + elapsedMs + waitMs;
    this.#sendAt = wakeAt;
    const send = () => {
      this.#look(wakeAt);
      this.#sendAt = Infinity;
      this.#send();
    };
    this.#cancelNext = this.runtime[next](waitMs, send, pause);
  }

  /**
   * Skips sends that are so late that they would leave in a burst, and counts them,
   * unless they are late because others were unanswered.
   */
  skipLate(seq: number, now = this.runtime.now(), isCounted = true): void {
    this.#look();
    const skipped = this.#pacer.skip(now - this.startedAt, seq);
    if (isCounted) this.#countSkipped(seq, skipped);
  }

  /** Counts all sends that are left, since their time is over. */
  skipRest(seq: number): void {
    this.#look();
    this.#countSkipped(seq, Infinity);
  }

  /**
   * Counts sends that are skipped for good. Without a bound on the time, skipped
   * datagrams of a `count` are sent later, and are not counted.
   */
  #countSkipped(seq: number, count: number): void {
    const { schedule } = this;
    const { intervalMs, perInterval = 1 } = schedule;
    const sendMs = Math.min(
      schedule.sendMs ?? Infinity,
      schedule.deadlineMs ?? Infinity,
    );
    if (sendMs === Infinity && schedule.count < Infinity) return;
    const due = Math.ceil(sendMs * perInterval / intervalMs);
    const left = Math.min(schedule.count, due) - seq - this.#skipped;
    const skipped = Math.max(0, Math.min(count, left));
    this.#skipped += skipped;
    this.workload.books?.count("skipped", skipped);
  }

  /**
   * Records a standstill of this program, if it runs much later than it was due to:
   * for a send, for `dueAt`, or for the next beat. What it receives next may have
   * arrived meanwhile.
   */
  #look(dueAt = Infinity): void {
    const now = this.runtime.now();
    const beatAt = this.#awakeAt + BEAT_MS;
    const wantedAt = Math.min(dueAt, this.#sendAt, beatAt);
    const from = Math.max(wantedAt, this.#awakeAt);
    this.#awakeAt = now;
    if (now - from <= STALL_MS) return;
    this.workload.books?.stalled(from, now - from);
    this.#isCatchingUp = true;
    const end = () => this.#isCatchingUp = false;
    this.#cancelCatchUp();
    this.#cancelCatchUp = this.runtime.after(CATCH_UP_MS, end);
    this.#socket?.drain?.().then(end).catch((error) => this.end({ error }));
  }

  /**
   * When a datagram arrived, as far as that is known: the time at which it was read,
   * unless it may have waited for this program to wake. By the kernel's time all that
   * arrived before it has been read, so what had timed out by then is lost.
   */
  arrivalOf({ receivedAt, arrivedAt }: Datagram): number | undefined {
    if (receivedAt - this.#awakeAt > BEAT_MS + STALL_MS) this.#look();
    // The kernel's clock may have been set meanwhile.
    if (arrivedAt !== undefined) this.#expire(Math.min(receivedAt, arrivedAt));
    return this.#isCatchingUp ? arrivedAt : receivedAt;
  }

  /** Takes for lost what had timed out at a time. */
  #expire(at: number): void {
    const { workload } = this;
    if (workload.books!.nextLossAt(at) > at) return;
    for (const seq of workload.books!.expire(at)) workload.onLost?.(seq);
  }

  /**
   * Times out datagrams, ends intervals, and looks for standstills. A datagram is
   * lost only after the socket has been read empty.
   */
  async #beat(wakeAt: number): Promise<void> {
    this.#look(wakeAt);
    const { books } = this.workload;
    const now = this.runtime.now();
    if (books === undefined || this.ended) return;
    if (this.#socket !== undefined && books.nextLossAt(now) <= now) {
      await this.#socket.drain?.();
      if (this.ended) return;
      this.#expire(now);
    }
    if (now >= this.#nextIntervalAt) this.#endInterval();
    this.workload.check?.();
    if (!this.ended) this.#nextBeat();
  }

  #nextBeat(): void {
    const now = this.runtime.now();
    const wakeAt = Math.max(
      now,
      Math.min(
        now + BEAT_MS,
        this.#nextIntervalAt,
        this.#socket === undefined
          ? Infinity
          : this.workload.books!.nextLossAt(now),
      ),
    );
    this.#cancelBeat = this.runtime.after(
      wakeAt - now,
      () => void this.#beat(wakeAt).catch((error) => this.end({ error })),
    );
  }

  get #nextIntervalAt(): number {
    const { reportMs = Infinity } = this.schedule;
    return this.startedAt + (this.#intervals + 1) * reportMs;
  }

  /** Ends the current interval; the last one is an event if it has anything. */
  #endInterval(isLast = false): void {
    const { books } = this.workload;
    const { reportMs } = this.schedule;
    if (books === undefined || reportMs === undefined) return;
    if (this.#startedAt === undefined) return;
    const now = this.runtime.now();
    this.#intervals = Math.floor((now - this.startedAt) / reportMs);
    const interval = books.endInterval(now);
    if (!isLast || !isEmpty(interval)) this.push(interval as E & Interval);
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
    if (this.hasBegun) {
      throw new TypeError("Cannot iterate a second time: start another run");
    }
    this.hasBegun = true;
    const { signal, deadlineMs } = this.schedule;
    signal?.throwIfAborted();
    const abort = () => this.end({ error: signal!.reason });
    signal?.addEventListener("abort", abort);
    this.#deadlineAt = this.runtime.now() + (deadlineMs ?? Infinity);
    const cancelDeadline = deadlineMs === undefined
      ? () => {}
      : this.runtime.after(deadlineMs, () => this.#meetDeadline());
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
          () => this.figures(),
          this.schedule.count === 1,
        );
        const now = this.#startedAt = this.#awakeAt = this.runtime.now();
        const { books } = this.workload;
        books?.begin(now, this.runtime.timeOrigin + now, this.target!);
        if (books !== undefined) this.#nextBeat();
        this.#send();
      }
      yield* this.#queue;
    } finally {
      this.end();
      signal?.removeEventListener("abort", abort);
      cancelDeadline();
      this.#cancelNext();
      this.#cancelBeat();
      this.#cancelCatchUp();
      this.#observer.end();
      await this.#closed;
      await this.#socketClosed;
    }
  }

  #send(): void {
    if (this.ended) return;
    // After a standstill the timer of the deadline may be the later one.
    if (this.runtime.now() >= this.#deadlineAt) this.#meetDeadline();
    else this.workload.send();
  }

  #meetDeadline(): void {
    const { count, deadlineMs } = this.schedule;
    if (this.#startedAt !== undefined) {
      const { books } = this.workload;
      this.#look();
      if (books !== undefined && books.next < count) {
        this.skipLate(books.next, this.#deadlineAt);
      }
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

const BEAT_MS = 100;
/** The time to read what waited in the sockets, at most. */
const CATCH_UP_MS = 20;

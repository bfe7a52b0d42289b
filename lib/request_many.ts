/**
 * The client, again and again: a series of requests and what became of each.
 *
 * @module
 */
import { formatAddress, type UdpAddress } from "./address.ts";
import { requireInteger, requireMs, TimeoutError } from "./errors.ts";
import {
  Exchange,
  type ExchangeEvents,
  planRequest,
  type RequestOptions,
  type RequestPlan,
  type UdpReply,
} from "./request.ts";
import { EventQueue } from "./event_queue.ts";
import { LazyRun, type Run, type Schedule } from "./run.ts";
import type { Runtime } from "./runtime.ts";
import { summarize, type Summary } from "./statistics.ts";

/** Options of {@linkcode requestMany}. */
export interface RequestManyOptions extends RequestOptions {
  /**
   * How many datagrams to send, 1 to 1,000,000,000. Retransmissions come on
   * top.
   *
   * @default {1}
   */
  count?: number;
  /**
   * From one datagram to the next, in milliseconds, up to one day, whether or
   * not a reply has come. With 0, each goes out when the one before is answered
   * or given up.
   *
   * @default {1000}
   */
  intervalMs?: number;
  /**
   * The whole series ends after so many milliseconds, from 1 to 86,400,000 (a
   * day); what is not answered by then is lost.
   *
   * @default {no deadline}
   */
  deadlineMs?: number;
}

/** What became of one datagram of a series; `seq` counts them from 0. */
export type SeriesEvent =
  | { type: "reply"; seq: number; reply: UdpReply }
  | { type: "lost"; seq: number; error: TimeoutError }
  | { type: "late"; seq: number }
  | { type: "duplicate"; seq: number }
  | { type: "error"; seq: number; error: unknown };

/** A series so far, or at its end. `sent` is `received + lost + pending`. */
export interface SeriesSummary {
  /** Datagrams sent, retransmissions not counted. */
  sent: number;
  /** Datagrams answered in time. */
  received: number;
  /** Datagrams given up, or not sent for an error; late ones are among them. */
  lost: number;
  /** Datagrams that may still be answered. */
  pending: number;
  /** Of those answered or lost; undefined when there are none. */
  lossPercent: number | undefined;
  /** Replies beyond one for each datagram that was sent for a `seq`. */
  duplicates: number;
  /** Datagrams whose reply came after they were given up. */
  late: number;
  /** Datagrams sent again since no reply came. */
  retransmissions: number;
  /** Datagrams that came in and are no replies. */
  foreign: number;
  /** Datagrams that the system failed to send or to receive for. */
  errors: number;
  /** Since the first send, in milliseconds. */
  durationMs: number;
  /** Of replies without a retransmission; undefined when there are none. */
  rttMs: Summary | undefined;
}

/**
 * A series of requests. It runs while it is iterated, which can be done once,
 * and ends its sockets when the iteration ends, is left, or throws.
 */
export interface Series extends AsyncIterable<SeriesEvent> {
  /** Whom it asks; undefined until the iteration has begun. */
  readonly target: UdpAddress | undefined;
  /** The counts and times so far. */
  summary(): SeriesSummary;
  /** Ends the iteration soon; unanswered datagrams stay `pending`. */
  stop(): void;
}

/**
 * Sends a series of datagrams and tells what became of each.
 *
 * Each datagram has a socket and port of its own for as long as the series
 * runs (the last 256 at least), so that a late reply is never taken for the
 * answer to a later datagram, even where all replies are alike. At most 256 are
 * unanswered at a time; beyond that the next one waits. When all is answered or
 * given up, a series of more than one listens on for duplicates: three times the
 * longest RTT, 20 ms at least and `timeoutMs` at most.
 *
 * @param address Whom to ask, as for {@linkcode request}.
 * @param payload What to send each time.
 * @param options How many, how often, and those of {@linkcode request}.
 * @returns The series; iterate it to run it. The iteration throws what
 * {@linkcode request} throws, apart from {@linkcode TimeoutError} and errors of
 * sending, which are events, and throws `signal.reason` when aborted.
 * @throws {RangeError} If a number among the options is out of range.
 *
 * @example
 * ```ts
 * import { requestMany, serve } from "@roundtrip/udp";
 * import { assertEquals } from "@std/assert";
 *
 * await using server = serve({}, () => "pong");
 * const series = requestMany(server.addr, "ping", { count: 3, intervalMs: 10 });
 * for await (const event of series) assertEquals(event.type, "reply");
 * assertEquals(series.summary().received, 3);
 * ```
 */
export function requestMany(
  address: UdpAddress | string,
  payload: Uint8Array | string,
  options: RequestManyOptions = {},
): Series {
  const { count = 1, intervalMs = 1000, deadlineMs, signal } = options;
  requireInteger("count", count, 1, 1_000_000_000);
  requireMs("intervalMs", intervalMs);
  if (deadlineMs !== undefined) requireMs("deadlineMs", deadlineMs, 1);
  const schedule = { count, intervalMs, deadlineMs, signal };
  return new RequestSeries(
    () => planRequest(address, payload, options),
    (plan) => new SeriesRun(plan, schedule),
    signal,
  );
}

class RequestSeries extends LazyRun<SeriesEvent, SeriesRun> implements Series {
  summary(): SeriesSummary {
    return this.run?.summary() ?? structuredClone(NOTHING_YET);
  }
}

/** A running series: its sockets, its timers, its counts. */
class SeriesRun implements Run<SeriesEvent> {
  readonly plan: RequestPlan;
  readonly #schedule: Schedule;
  readonly #runtime: Runtime;
  readonly #counts = structuredClone(NOTHING_YET);
  readonly #rttsMs: number[] = [];
  readonly #unanswered = new Map<number, Exchange>();
  /** Answered or given up, oldest first, and open for what is late or double. */
  readonly #settled = new Set<Exchange>();
  #cancelDeadline = () => {};
  #cancelNext = () => {};
  readonly #queue = new EventQueue<SeriesEvent>();
  #firstSendAt = 0;
  #nextSendAt = 0;
  /** The next send waits for an unanswered one to settle. */
  #held = false;
  #endedAt: number | undefined;

  constructor(plan: RequestPlan, schedule: Schedule) {
    this.plan = plan;
    this.#schedule = schedule;
    this.#runtime = plan.runtime;
  }

  async *events(): AsyncGenerator<SeriesEvent> {
    const { signal, deadlineMs } = this.#schedule;
    const abort = () => this.end({ error: signal!.reason });
    signal?.addEventListener("abort", abort);
    try {
      this.#firstSendAt = this.#nextSendAt = this.#runtime.now();
      if (deadlineMs !== undefined) {
        this.#cancelDeadline = this.#runtime.after(
          deadlineMs,
          () => this.#meetDeadline(),
        );
      }
      this.#send();
      yield* this.#queue;
    } finally {
      this.end();
      signal?.removeEventListener("abort", abort);
      this.#cancelDeadline();
      this.#cancelNext();
      await Promise.all([...this.#exchanges()].map((one) => one.close()));
    }
  }

  summary(): SeriesSummary {
    const counts = { ...this.#counts };
    for (const exchange of this.#exchanges()) addCounts(counts, exchange);
    const judged = counts.received + counts.lost;
    return {
      ...counts,
      pending: counts.sent - judged,
      lossPercent: judged === 0 ? undefined : 100 * counts.lost / judged,
      durationMs: (this.#endedAt ?? this.#runtime.now()) - this.#firstSendAt,
      rttMs: summarize(this.#rttsMs),
    };
  }

  end(failure?: { error: unknown }): void {
    this.#endedAt ??= this.#runtime.now();
    this.#queue.end(failure);
  }

  /** Sends the next datagram, and sees to the one after it. */
  #send(): void {
    if (this.#queue.ended) return;
    this.#held = this.#unanswered.size >= MAX_OPEN;
    if (this.#held) return;
    const seq = this.#counts.sent++;
    const exchange = new Exchange(this.plan, this.#eventsOf(seq));
    this.#unanswered.set(seq, exchange);
    this.#closeOldest();
    try {
      exchange.start();
    } catch (error) {
      return this.end({ error });
    }
    if (this.#counts.sent < this.#schedule.count) this.#scheduleNext();
  }

  #scheduleNext(): void {
    const { intervalMs } = this.#schedule;
    this.#held = intervalMs === 0;
    if (this.#held) return;
    // From when this one was due, so that lateness does not add up; from now,
    // if a whole interval was missed, so that there is no burst.
    const now = this.#runtime.now();
    this.#nextSendAt = Math.max(this.#nextSendAt + intervalMs, now);
    const waitMs = this.#nextSendAt - now;
    this.#cancelNext = this.#runtime.after(waitMs, () => this.#send());
  }

  #eventsOf(seq: number): ExchangeEvents {
    return {
      onReply: (reply: UdpReply) => {
        this.#counts.received++;
        if (reply.rttMs !== undefined) this.#rttsMs.push(reply.rttMs);
        this.#settle({ type: "reply", seq, reply });
      },
      onTimeout: (error: TimeoutError) => {
        this.#counts.lost++;
        this.#settle({ type: "lost", seq, error });
      },
      onError: (error: unknown) => {
        this.#counts.lost++;
        this.#counts.errors++;
        this.#settle({ type: "error", seq, error });
      },
      onLate: () => {
        this.#counts.late++;
        this.#queue.push({ type: "late", seq });
      },
      onDuplicate: () => {
        this.#counts.duplicates++;
        this.#queue.push({ type: "duplicate", seq });
      },
    };
  }

  #settle(event: SeriesEvent): void {
    this.#queue.push(event);
    const exchange = this.#unanswered.get(event.seq)!;
    this.#unanswered.delete(event.seq);
    this.#settled.add(exchange);
    if (this.#held) {
      this.#send();
    } else if (
      this.#counts.sent === this.#schedule.count && this.#unanswered.size === 0
    ) {
      this.#endedAt = this.#runtime.now();
      this.#cancelNext = this.#runtime.after(
        this.#lingerMs(),
        () => this.end(),
      );
    }
  }

  #lingerMs(): number {
    if (this.#schedule.count === 1 || this.#rttsMs.length === 0) return 0;
    const longest = this.#rttsMs.reduce((a, b) => Math.max(a, b));
    return Math.min(Math.max(3 * longest, MIN_LINGER_MS), this.plan.timeoutMs);
  }

  #meetDeadline(): void {
    for (const [seq, { attempts, foreign }] of this.#unanswered) {
      this.#counts.lost++;
      const error = new TimeoutError(
        `No reply from ${formatAddress(this.plan.target)} by the deadline`,
        { attempts, foreign },
      );
      this.#queue.push({ type: "lost", seq, error });
    }
    this.end();
  }

  /** Keeps the sockets bounded, by those that have nothing to wait for. */
  #closeOldest(): void {
    if (this.#unanswered.size + this.#settled.size <= MAX_OPEN) return;
    const [oldest] = this.#settled;
    this.#settled.delete(oldest!);
    oldest!.close();
    addCounts(this.#counts, oldest!);
  }

  *#exchanges(): Generator<Exchange> {
    yield* this.#unanswered.values();
    yield* this.#settled;
  }
}

function addCounts(counts: SeriesSummary, exchange: Exchange): void {
  counts.retransmissions += Math.max(0, exchange.attempts - 1);
  counts.foreign += exchange.foreign;
}

const MAX_OPEN = 256;
const MIN_LINGER_MS = 20;

const NOTHING_YET: SeriesSummary = {
  sent: 0,
  received: 0,
  lost: 0,
  pending: 0,
  lossPercent: undefined,
  duplicates: 0,
  late: 0,
  retransmissions: 0,
  foreign: 0,
  errors: 0,
  durationMs: 0,
  rttMs: undefined,
};

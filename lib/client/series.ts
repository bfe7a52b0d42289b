/**
 * A series of requests, and the outcome of each.
 *
 * @module
 */
import type { UdpAddress } from "../address.ts";
import * as option from "../base/options.ts";
import type { PayloadInit } from "../base/payload.ts";
import { RecentMap } from "../base/recent_map.ts";
import {
  Exchange,
  type ExchangeListener,
  planRequest,
  REQUEST,
  type RequestOptions,
  type RequestPlan,
} from "./exchange.ts";
import type { TimeoutError, UdpReply } from "./reply.ts";
import { MAX_LATE_MS } from "./pacer.ts";
import { Run, type RunHandle, type Schedule, type Workload } from "./run.ts";
import { RUN, type RunOptions } from "./run_options.ts";
import { Books, type Interval } from "../stats/books.ts";
import type { RunCounts } from "../stats/counts.ts";
import type { TailSummary } from "../stats/distribution.ts";

/** Options of {@linkcode requestMany}. */
export interface RequestManyOptions<Decoded = unknown>
  extends RequestOptions<Decoded>, RunOptions {
  /**
   * The number of datagrams, 1 to 1,000,000,000, or Infinity for a series that
   * only `stop()`, a deadline or a signal ends. Retransmissions are extra.
   *
   * @default {1}
   */
  count?: number | undefined;
  /**
   * From one datagram to the next, in milliseconds, 0 to 86,400,000 (a day),
   * answered or not. With 0, each is sent when the one before is answered or
   * timed out.
   *
   * @default {1000}
   */
  intervalMs?: number | undefined;
  /**
   * The duration after which the series ends, in milliseconds, 1 to 86,400,000
   * (a day), the time to resolve names included; those in flight are `pending`.
   *
   * @default {no deadline}
   */
  deadlineMs?: number | undefined;
  /**
   * The most sockets that are open at a time, 2 to 256: those of unanswered
   * datagrams, and of settled ones, for their late replies and copies. Beyond it the
   * next datagram waits, and the oldest settled one is closed.
   *
   * @default {256}
   */
  maxSockets?: number | undefined;
}

/** The most datagrams that are unanswered at a time. */
export const MAX_OPEN = 256;

/** The table of {@linkcode RequestManyOptions}. */
export const SERIES = {
  ...REQUEST,
  ...RUN,
  retries: option.dependent(REQUEST.retries),
  count: option.orInfinity(option.integer(1, 1_000_000_000, 1)),
  intervalMs: option.time(0, 1000),
  deadlineMs: option.time(1),
  maxSockets: option.integer(2, MAX_OPEN, MAX_OPEN),
} satisfies option.Table<RequestManyOptions>;

/** The defaults of {@linkcode RequestManyOptions}. */
export const SERIES_DEFAULTS = option.defaultsOf(SERIES);

/** The outcome of one datagram of a series; `seq` counts them from 0. */
export type SeriesEvent<Decoded = unknown> =
  | { type: "reply"; seq: number; reply: UdpReply<Decoded> }
  | { type: "lost"; seq: number; error: TimeoutError }
  | { type: "late"; seq: number }
  | { type: "duplicate"; seq: number }
  | { type: "error"; seq: number; error: unknown }
  | Interval;

/** The figures of a series. */
export interface SeriesSummary extends RunCounts {
  /**
   * Datagrams that were sent later than due, as `maxSockets` were unanswered: then
   * `intervalMs` was not kept.
   */
  heldBack: number;
  /** Since the first send, in milliseconds. */
  durationMs: number;
  /**
   * Round-trip times of replies without a retransmission; undefined when there
   * are none. Quantiles of more than 1,000 are right to 0.1 %.
   */
  rttMs: TailSummary | undefined;
}

/** A series of requests. */
export type Series<Decoded = unknown> = RunHandle<
  SeriesEvent<Decoded>,
  SeriesSummary
>;

/**
 * Sends a series of datagrams and gives the outcome of each.
 *
 * Each datagram has a port of its own, which none of the next 4,096, or of the next
 * two minutes, uses again, so that a late reply is never taken for the answer to one of
 * them, even where all replies are alike; the sockets of the last `maxSockets` are
 * open. At most that many are unanswered at a time; beyond that the next one waits. When all are settled, a
 * series of more than one still receives duplicates: for three times the longest
 * RTT, at least 20 ms and at most `timeoutMs`.
 *
 * Events wait until they are iterated, up to 16 MiB of them: a slow consumer does
 * not slow the series down, and further events are `eventsDropped`.
 *
 * @param address The server, as for {@linkcode request}.
 * @param payload The payload; bytes must not change while the series runs. A
 * function makes them for each datagram from its `seq` and the number of the
 * attempt, 1 at first.
 * @param options Count, interval, and those of {@linkcode request}.
 * @returns The series; iterate it to run it. The iteration throws errors of
 * resolving, binding and opening sockets, `signal.reason` when aborted,
 * and a TypeError when it is begun a second time. A {@linkcode TimeoutError}
 * and errors of sending are events.
 * @throws {RangeError} If a number among the options is out of range, or the
 * payload too large.
 * @throws {SyntaxError} If the address does not parse.
 * @throws {TypeError} If an option is unknown or of a wrong type, the payload is
 * neither bytes nor text, or the address cannot be asked.
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
export function requestMany<Decoded = undefined>(
  address: UdpAddress | string,
  payload: PayloadInit | ((seq: number, attempt: number) => PayloadInit),
  options: RequestManyOptions<Decoded> = {},
): Series<Decoded> {
  return seriesOf(address, payload, options).handle({}) as Series<Decoded>;
}

/** The run of a series, for callers that read its books. */
export function seriesOf<Decoded>(
  address: UdpAddress | string,
  payload: PayloadInit | ((seq: number, attempt: number) => PayloadInit),
  options: RequestManyOptions<Decoded>,
): Run<SeriesEvent, SeriesSummary> {
  const values = option.readAll("requestMany", SERIES, options);
  const { count, localPort } = values;
  // A series measures the path, whose loss a retransmission would hide.
  const usual = count === 1 ? SERIES.retries.default : 0;
  const retries = values.retries ?? usual;
  if (count > 1 && localPort !== 0) {
    throw new RangeError(
      `'localPort' must be 0, as each datagram of a series has a port of its own: current value is ${localPort}`,
    );
  }
  const plan = planRequest(
    "requestMany()",
    address,
    typeof payload === "function"
      ? (attempt, seq) => payload(seq, attempt)
      : payload,
    { ...values, retries },
  );
  return new SeriesWorkload(plan, values).run;
}

/** The exchanges of a series. */
class SeriesWorkload implements Workload<SeriesSummary> {
  readonly run: Run<SeriesEvent, SeriesSummary>;
  readonly books: Books;
  #heldBack = 0;
  /**
   * Unanswered exchanges, and settled ones that are open for late replies and copies,
   * oldest first. A Map or Set would keep closed ones alive, see `Client.#renew`.
   */
  readonly #unanswered: Exchange[] = [];
  readonly #over: Exchange[] = [];
  /** Ports of closed exchanges, to which their late replies may arrive. */
  readonly #usedPorts: RecentMap<number, true>;
  /** The next send waits until an unanswered datagram is settled. */
  #held = false;
  /** The number of sockets that may be open. */
  #maxSockets: number;

  constructor(
    readonly plan: RequestPlan,
    readonly options: Schedule & RunOptions & { maxSockets: number },
  ) {
    const { count, intervalMs, maxSockets } = options;
    this.#maxSockets = maxSockets;
    this.run = new Run(options, plan.ends, plan.runtime, this);
    // With an interval of 0 each waits for the one before.
    const perMs = 1 / (intervalMs || 1);
    const lateCount = Math.ceil(MAX_LATE_MS * perMs);
    this.#usedPorts = new RecentMap(Math.min(MAX_USED_PORTS, 2 * lateCount));
    // Each wait for a reply is at most twice the one before.
    const lifeMs = plan.timeoutMs * 2 ** (plan.retries + 1);
    const followers = MAX_OPEN + Math.ceil(lifeMs * perMs);
    this.books = new Books({
      capacity: Math.min(count, MAX_REMEMBERED, followers),
      timeoutMs: plan.timeoutMs,
      size: plan.ends.payloadBytes,
      onSample: options.onSample,
    });
  }

  get sent(): number {
    return this.books.sent;
  }

  summary(): SeriesSummary {
    return {
      ...this.books.summary(),
      heldBack: this.#heldBack,
      durationMs: this.run.durationMs,
      rttMs: this.books.rtts.tail(),
    };
  }

  send(): void {
    const { count, intervalMs } = this.run.schedule;
    const wasHeld = this.#held;
    const maxSockets = this.#maxSockets;
    this.#held = this.#unanswered.length >= maxSockets || !this.books.hasRoom;
    if (this.#held) {
      if (!wasHeld) this.#heldBack++;
      return;
    }
    const now = this.run.runtime.now();
    if (intervalMs > 0) this.run.skipLate(this.books.next, now, !wasHeld);
    const isDue = intervalMs > 0 && this.books.next > 0;
    const dueAt = isDue ? this.run.dueAt(this.books.next) : now;
    const seq = this.books.add(dueAt, now);
    const listener = this.#listenerOf(seq);
    const exchange = new Exchange(this.plan, this.run.ends, listener, seq);
    this.#unanswered.push(exchange);
    // Bounds the number of sockets.
    if (this.#unanswered.length + this.#over.length > maxSockets) {
      this.#closeOne();
    }
    try {
      this.#start(exchange);
    } catch (error) {
      this.books.refused(seq, error);
      return this.run.end({ error });
    }
    if (this.books.next === count) return;
    if (intervalMs === 0) this.#held = true;
    else this.run.sendNext(this.books.next, "after");
  }

  async close(): Promise<void> {
    const all = [...this.#unanswered, ...this.#over];
    await Promise.all(all.map((one) => one.close()));
  }

  #start(exchange: Exchange): void {
    const isUsed = (port: number) => this.#usedPorts.get(port) === true;
    try {
      exchange.start(isUsed);
    } catch (error) {
      // Too many sockets may be open: those of settled exchanges can go.
      if (this.#over.length === 0) throw error;
      const open = this.#unanswered.length + this.#over.length;
      this.#maxSockets = Math.max(2, open - SPARE_SOCKETS);
      const closed = this.#over.map((one) => one.close());
      while (this.#over.length > 0) this.#closeOne();
      Promise.all(closed)
        .then(() => this.run.ended || exchange.start(isUsed))
        .catch((error) => exchange.listener.onError(error));
    }
  }

  #listenerOf(seq: number): ExchangeListener {
    const { books } = this;
    const attemptsOf = () => {
      const { attempts, localPort } = this.#exchangeOf(seq);
      books.localPort = localPort;
      return attempts;
    };
    return {
      onSent: () => books.taken(seq),
      onRetransmit: () => books.count("retransmissions"),
      onRefused: (error) => books.report(error),
      onForeign: () => books.count("foreign"),
      onReply: (reply: UdpReply) => {
        // Its RTT would contain the standstill in which it may have arrived.
        if (this.run.arrivalOf(reply) === undefined) reply.rttMs = undefined;
        books.replied(seq);
        books.measured(seq, reply.rttMs, attemptsOf());
        if (reply.rttMs !== undefined) this.run.measured(reply.rttMs);
        this.#conclude({ type: "reply", seq, reply });
      },
      onMoved: (ends) => {
        this.run.ends = ends;
      },
      onTimeout: (error: TimeoutError) => {
        if (error.cause !== undefined) books.report(error.cause);
        books.lose(seq, error.cause, attemptsOf());
        this.#conclude({ type: "lost", seq, error });
      },
      onError: (error: unknown) => {
        books.refused(seq, error, attemptsOf());
        this.#conclude({ type: "error", seq, error });
      },
      onLate: () => {
        books.count("late");
        this.run.push({ type: "late", seq });
      },
      onDuplicate: () => {
        books.count("duplicates");
        this.run.push({ type: "duplicate", seq });
      },
    };
  }

  /** A datagram is settled: the next one may have waited for it. */
  #conclude(event: SeriesEvent & { seq: number }): void {
    const isReply = event.type === "reply";
    this.run.push(event, isReply ? event.reply.data.length : 0);
    const exchange = this.#exchangeOf(event.seq);
    this.#unanswered.splice(this.#unanswered.indexOf(exchange), 1);
    this.#over.push(exchange);
    const { count } = this.run.schedule;
    if (this.#held) return this.send();
    if (this.books.next < count || this.#unanswered.length > 0) return;
    const longestMs = count === 1 ? 0 : this.books.rtts.max ?? 0;
    this.run.linger(longestMs, this.plan.timeoutMs);
  }

  /** Closes the oldest settled exchange. */
  #closeOne(): void {
    const oldest = this.#over.shift()!;
    this.#usedPorts.set(oldest.localPort, true);
    oldest.close();
  }

  #exchangeOf(seq: number): Exchange {
    return this.#unanswered.find((one) => one.seq === seq)!;
  }
}

const MAX_USED_PORTS = 8192;
/** Sockets that close while others open. */
const SPARE_SOCKETS = 4;
/** The number of datagrams that may follow an unanswered one. */
const MAX_REMEMBERED = 1 << 14;

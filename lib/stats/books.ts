/**
 * The books of a run: one record of each datagram from its send until it is
 * settled, and the counts, RTTs, intervals and loss structure of all. Series,
 * load and measurement keep no others. Pure; in bounded memory.
 *
 * @module
 */
import type { UdpAddress } from "../address.ts";
import { errorMessage, isPortClosed } from "../base/errors.ts";
import {
  lossPercentOf,
  NO_COUNTS,
  type PartCounts,
  type Reason,
  type RunCounts,
} from "./counts.ts";
import { Distribution, type TailSummary } from "./distribution.ts";
import { LossPeriods, type Outage } from "./loss_periods.ts";
import type { Outcome, Sample } from "./sample.ts";

/** The counts of a part of a run; those of all parts add up to the result. */
export interface Interval extends PartCounts {
  /** Distinguishes it from the other events of a run. */
  type: "interval";
  /** Begin of the part, since the first send, in milliseconds. */
  fromMs: number;
  /** End of the part, since the first send, in milliseconds. */
  toMs: number;
  /** RTTs of its replies; undefined without any. */
  rttMs: TailSummary | undefined;
}

/** Whether nothing happened in an interval. */
export function isEmpty(
  { type: _, fromMs: __, toMs: ___, rttMs: ____, ...counts }: Interval,
): boolean {
  return Object.values(counts).every((count) => count === 0);
}

/** Two intervals as one, whose RTTs are not known. */
export function joined(one: Interval, next: Interval): Interval {
  const sums = (Object.keys(NO_COUNTS) as Array<keyof PartCounts>)
    .map((name) => [name, one[name] + next[name]]);
  const { fromMs } = one;
  return { ...next, ...Object.fromEntries(sums), fromMs, rttMs: undefined };
}

/** The kind of a reply to a datagram of the run. */
export type ReplyKind = "received" | "late" | "duplicate";

/** The options of the books of a run. */
export interface BooksPlan {
  /** The number of latest datagrams that are remembered. */
  capacity: number;
  /** The loss threshold, from the send. */
  timeoutMs: number;
  /** The bytes of a payload. */
  size: number;
  /** Receives the sample of each datagram once it is settled. */
  onSample?: ((sample: Sample) => void) | undefined;
}

/** The books of one run. Datagrams are numbered from 0. */
export class Books {
  readonly rtts = new Distribution();
  /** The RTTs of the current interval. */
  #part = new Distribution();
  readonly #plan: BooksPlan;
  readonly #counts: PartCounts = { ...NO_COUNTS };
  readonly #periods = new LossPeriods((outage) => this.onOutage(outage));
  readonly #reasons = new Map<string, number>();
  /** The end of the last standstill. */
  #awakeAt = 0;
  #longestStall: RunCounts["longestStall"];
  #intervalStart = { ms: 0, counts: NO_COUNTS };
  /** The record of each datagram, by its number modulo the capacity. */
  readonly #state: Uint8Array;
  readonly #dueAt: Float64Array;
  readonly #sentAt: Float64Array;
  /** The clock's time of the first send, and the Unix time then. */
  #origin = 0;
  #startedAt: number | undefined;
  #target: UdpAddress = NOBODY;
  /** The number of the next datagram, and of the oldest that is not settled. */
  #next = 0;
  #oldest = 0;
  /** Takes each outage once it has ended. */
  onOutage: (outage: Outage) => void = () => {};
  /** The port that datagrams are sent from, where all have one. */
  localPort = 0;

  constructor(plan: BooksPlan) {
    this.#plan = plan;
    const { capacity } = plan;
    this.#state = new Uint8Array(capacity);
    this.#dueAt = new Float64Array(capacity);
    this.#sentAt = new Float64Array(capacity);
  }

  /** Begins at the first send, by the clock of all methods and by the wall clock. */
  begin(now: number, unixMs: number, target: UdpAddress): void {
    this.#origin = now;
    this.#startedAt = unixMs;
    this.#target = target;
  }

  /** The number of the next datagram. */
  get next(): number {
    return this.#next;
  }

  /** The number of datagrams that are not settled. */
  get open(): number {
    const { received, lost, unsent } = this.#counts;
    return this.#next - received - lost - unsent;
  }

  /** The number of datagrams that the system took. */
  get sent(): number {
    return this.#counts.sent;
  }

  /** The number of settled replies. */
  get received(): number {
    return this.#counts.received;
  }

  /** Whether another datagram can be remembered. */
  get hasRoom(): boolean {
    return this.#next - this.#oldest < this.#plan.capacity;
  }

  /** Adds the next datagram, which is handed to the system; gives its number. */
  add(dueAt: number, sentAt: number): number {
    const seq = this.#next++;
    if (seq === 0) {
      // Times count from here.
      this.#startedAt! += sentAt - this.#origin;
      this.#origin = dueAt = sentAt;
    }
    const at = seq % this.#plan.capacity;
    this.#state[at] = QUEUED;
    this.#dueAt[at] = dueAt;
    this.#sentAt[at] = sentAt;
    return seq;
  }

  /** The system has taken a datagram. */
  taken(seq: number): void {
    const at = seq % this.#plan.capacity;
    // Its reply may have been faster.
    if (this.#state[at] !== QUEUED || !this.isRemembered(seq)) return;
    this.#state[at] = IN_FLIGHT;
    this.#counts.sent++;
    // It waited in this program during a standstill.
    if (this.#sentAt[at]! < this.#awakeAt) this.#sentAt[at] = this.#awakeAt;
  }

  /** The system has refused a datagram; one that it had taken is lost. */
  refused(seq: number, error: unknown, attempts = 1): void {
    if (!this.isOpen(seq)) return;
    this.report(error);
    if (this.#state[seq % this.#plan.capacity] === IN_FLIGHT) {
      return this.lose(seq, undefined, attempts);
    }
    this.#close(seq, UNSENT);
    this.#counts.unsent++;
    this.#give(seq, "unsent", undefined, attempts, error);
    this.#advance();
  }

  /** Counts a reply to a datagram that is remembered, and settles it if it is the first. */
  replied(seq: number): ReplyKind {
    const state = this.#state[seq % this.#plan.capacity];
    if (state === LOST) {
      this.#state[seq % this.#plan.capacity] = LATE;
      this.#counts.late++;
      return "late";
    }
    if (!this.isOpen(seq)) {
      this.#counts.duplicates++;
      return "duplicate";
    }
    this.#close(seq, RECEIVED);
    this.#counts.received++;
    return "received";
  }

  /** Adds the RTT of a datagram that was received; undefined for unknown. */
  measured(
    seq: number,
    rttMs: number | undefined,
    attempts = 1,
    clock: Sample["clock"] = "program",
  ): void {
    if (rttMs !== undefined) {
      this.rtts.add(rttMs);
      this.#part.add(rttMs);
    }
    this.#give(seq, "received", rttMs, attempts, undefined, clock);
    this.#advance();
  }

  /** A datagram is lost; `report` is that of the network, if it rejected it. */
  lose(seq: number, report?: unknown, attempts = 1): void {
    if (!this.isOpen(seq)) return;
    this.#close(seq, LOST);
    this.#counts.lost++;
    const isRejected = report !== undefined;
    if (isRejected) this.#counts.rejected++;
    const outcome = isRejected ? "rejected" : "lost";
    this.#give(seq, outcome, undefined, attempts, report);
    this.#advance();
  }

  /**
   * The earliest time at which a datagram can be lost. One that the system has not
   * taken yet is not in flight.
   */
  nextLossAt(now: number): number {
    const at = this.oldest % this.#plan.capacity;
    const isInFlight = this.#oldest < this.#next &&
      this.#state[at] === IN_FLIGHT;
    return (isInFlight ? this.#sentAt[at]! : now) + this.#plan.timeoutMs;
  }

  /** The datagrams in flight, in sending order, whose time was over at `now`; each is lost. */
  *expire(now: number): Generator<number> {
    const { capacity, timeoutMs } = this.#plan;
    for (let seq = this.#oldest; seq < this.#next; seq++) {
      const at = seq % capacity;
      if (this.#state[at] !== IN_FLIGHT) continue;
      if (this.#sentAt[at]! + timeoutMs > now) return;
      this.lose(seq);
      yield seq;
    }
  }

  /** Whether a datagram is one of the latest, which are remembered. */
  isRemembered(seq: number): boolean {
    return seq >= 0 && seq < this.#next &&
      seq >= this.#next - this.#plan.capacity;
  }

  /** Whether a datagram is not settled. */
  isOpen(seq: number): boolean {
    const state = this.#state[seq % this.#plan.capacity]!;
    return this.isRemembered(seq) && (state === QUEUED || state === IN_FLIGHT);
  }

  /** The oldest datagram that is not settled; the next one if there is none. */
  get oldest(): number {
    this.#advance();
    return this.#oldest;
  }

  /** When a datagram that is remembered was sent. */
  sentAt(seq: number): number {
    return this.#sentAt[seq % this.#plan.capacity]!;
  }

  /** When a datagram that is remembered was due. */
  dueAt(seq: number): number {
    return this.#dueAt[seq % this.#plan.capacity]!;
  }

  /** Adds to a count that is of no datagram of the run. */
  count(
    name: "foreign" | "late" | "duplicates" | "retransmissions" | "skipped",
    by = 1,
  ): void {
    this.#counts[name] += by;
  }

  /** Adds a report of the system or of the network; the words are the system's own. */
  report(error: unknown): void {
    const cause = (error as Error | null)?.cause ?? error;
    const reason = isPortClosed(cause) ? "closed port" : errorMessage(cause);
    const isNew = !this.#reasons.has(reason);
    const key = isNew && this.#reasons.size >= MAX_REASONS ? "other" : reason;
    this.#reasons.set(key, (this.#reasons.get(key) ?? 0) + 1);
  }

  /** Adds a standstill of this program. */
  stalled(from: number, ms: number): void {
    this.#awakeAt = from + ms;
    this.#counts.stalls++;
    this.#counts.stalledMs += ms;
    if (ms > (this.#longestStall?.ms ?? 0)) {
      this.#longestStall = { fromMs: from - this.#origin, ms };
    }
  }

  /**
   * Ends the run: what is in flight is pending, with what the system takes as the
   * sockets close.
   */
  end(): void {
    for (let seq = this.#oldest; seq < this.#next; seq++) {
      this.taken(seq);
      if (!this.isOpen(seq)) continue;
      this.#state[seq % this.#plan.capacity] = PENDING;
      this.#give(seq, "pending", undefined, 1);
    }
    this.#advance(true);
  }

  /** Ends an interval at a time. */
  endInterval(now: number): Interval {
    const { ms: fromMs, counts: before } = this.#intervalStart;
    const counts = { ...this.#counts };
    const toMs = Math.max(fromMs, now - this.#origin);
    const rttMs = this.#part.tail();
    this.#part = new Distribution();
    this.#intervalStart = { ms: toMs, counts };
    const names = Object.keys(counts) as Array<keyof PartCounts>;
    const gained = names.map((name) => [name, counts[name] - before[name]]);
    return {
      type: "interval",
      fromMs,
      toMs,
      ...Object.fromEntries(gained) as PartCounts,
      rttMs,
    };
  }

  /** The latest outage, which may last. */
  get latestOutage(): Outage | undefined {
    return this.#periods.latest;
  }

  /** All counts; the run has that of events. */
  summary(): RunCounts {
    const { sent, received, lost } = this.#counts;
    const reasons = [...this.#reasons]
      .map(([reason, count]): Reason => ({ reason, count }))
      .sort((a, b) => b.count - a.count);
    return {
      ...this.#counts,
      pending: sent - received - lost,
      lossPercent: lossPercentOf(this.#counts),
      ...this.#periods.structure(),
      reasons,
      eventsDropped: 0,
      startedAt: this.#startedAt,
      longestStall: this.#longestStall,
    };
  }

  #close(seq: number, state: number): void {
    const at = seq % this.#plan.capacity;
    if (this.#state[at] === QUEUED) {
      if (state !== UNSENT) this.#counts.sent++;
    }
    this.#state[at] = state;
  }

  /** Passes the datagrams behind which all are settled to the loss structure. */
  #advance(hasEnded = false): void {
    const { capacity } = this.#plan;
    for (; this.#oldest < this.#next; this.#oldest++) {
      const at = this.#oldest % capacity;
      const state = this.#state[at]!;
      if (state <= PENDING) {
        if (hasEnded) continue;
        return;
      }
      const outcome = state === RECEIVED
        ? "received"
        : state === UNSENT
        ? "unsent"
        : "lost";
      this.#periods.add(this.#sentAt[at]! - this.#origin, outcome);
    }
  }

  #give(
    seq: number,
    outcome: Outcome,
    rttMs: number | undefined,
    attempts: number,
    error?: unknown,
    clock: Sample["clock"] = "program",
  ): void {
    const { onSample, size } = this.#plan;
    if (onSample === undefined) return;
    const sentMs = this.sentAt(seq) - this.#origin;
    onSample({
      seq,
      outcome,
      dueMs: this.dueAt(seq) - this.#origin,
      sentMs,
      sentAt: this.#startedAt! + sentMs,
      rttMs,
      clock,
      attempts,
      size,
      target: this.#target,
      localPort: this.localPort,
      ...error === undefined ? {} : { error },
    });
  }
}

const NOBODY: UdpAddress = { hostname: "0.0.0.0", port: 0 };
const MAX_REASONS = 50;
/** The states of a datagram. */
const QUEUED = 1;
const IN_FLIGHT = 2;
const PENDING = 3;
const RECEIVED = 4;
const LOST = 5;
const LATE = 6;
const UNSENT = 7;

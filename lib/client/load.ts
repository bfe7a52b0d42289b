/**
 * Load: numbered datagrams to an echo, at a rate that nothing slows down (open
 * loop), or with a constant number in flight (closed loop).
 *
 * @module
 */
import type { UdpAddress } from "../address.ts";
import { isPortClosed } from "../base/errors.ts";
import * as option from "../base/options.ts";
import { Distribution, type TailSummary } from "../stats/distribution.ts";
import {
  NO_COUNTS,
  type PartCounts,
  type RunCounts,
  withLoss,
} from "../stats/counts.ts";
import { runtimeOf } from "../socket/runtime.ts";
import {
  type Datagram,
  type DatagramSocket,
  MAX_PAYLOAD,
  type Receiver,
  type SendErrorListener,
} from "../socket/contract.ts";
import { LOAD, type LoadOptions } from "./load_options.ts";
import { Run, type RunHandle, type Workload } from "./run.ts";
import { checkEnds, comesFrom, type NamedEnds } from "./target.ts";

/** The counts of a part of a run; those of all parts add up to the result. */
export interface LoadInterval extends PartCounts {
  /** Distinguishes it from the events of other runs. */
  type: "interval";
  /** Begin of the part, since the first send, in milliseconds. */
  fromMs: number;
  /** End of the part, since the first send, in milliseconds. */
  toMs: number;
  /** Datagrams that the system refused to send; they are not among `sent`. */
  errors: number;
  /** RTTs of the replies; undefined without any. */
  rttMs: TailSummary | undefined;
}

/** The result of a load. */
export interface LoadResult extends RunCounts {
  /** Datagrams that the system refused to send; they are not among `sent`. */
  errors: number;
  /** Reports of a closed port. */
  portClosed: number;
  /**
   * Receives that failed, on the linux engine also since the network says that
   * it cannot deliver a datagram, which then is among the lost.
   */
  receiveErrors: number;
  /**
   * Echoes that this machine dropped, since its receive buffer was full; they
   * are among the lost. Undefined where that is not known.
   */
  kernelDrops: number | undefined;
  /** From the first send to the last one, in milliseconds. */
  durationMs: number;
  /** Datagrams sent a second, within `durationMs`; undefined if that is 0. */
  sentPerSecond: number | undefined;
  /** Datagrams echoed a second, within `durationMs`; undefined if that is 0. */
  receivedPerSecond: number | undefined;
  /** Bits of their payload: `sentPerSecond` times 8 times the size. */
  sentBitsPerSecond: number | undefined;
  /** Bits of their payload: `receivedPerSecond` times 8 times the size. */
  receivedBitsPerSecond: number | undefined;
  /**
   * RTTs, with `rate` since a datagram was due, so that a client that falls behind
   * hides nothing (coordinated omission), with `window` since it was sent.
   * Undefined below 8 bytes.
   */
  rttMs: TailSummary | undefined;
  /** With `rate`: delays of sends after they were due, else undefined. */
  sendErrorMs: TailSummary | undefined;
}

/** A load; its iteration gives an interval each `reportMs`. */
export type Load = RunHandle<LoadInterval, LoadResult>;

/**
 * Loads a server that echoes, with numbered datagrams: at a rate that nothing
 * slows down (`rate`, an open loop), or with a number of them in flight (`window`,
 * a closed loop). Each echo is attributed to its datagram by that number, so the
 * result has loss, duplicates, late echoes and the distribution of the RTTs, in
 * bounded memory, its quantiles to 0.1 %.
 *
 * The first run of a process measures Deno's compiler too: let a short one
 * precede it.
 *
 * @param address Address of the server: `"HOST:PORT"`, `"[IPV6]:PORT"`, or a host
 * and a port. A name is resolved once, when the iteration begins.
 * @param options The rate or the window, and the length of the run.
 * @returns The run, which begins when it is iterated.
 * @throws {RangeError} If a number is out of range.
 * @throws {SyntaxError} If the address does not parse.
 * @throws {TypeError} If an option is unknown or of a wrong type, there is not
 * one of `rate` and `window`, or nothing can be sent to the address. The
 * iteration throws it if it is the second one; and the error of the system if
 * the name does not resolve or no socket opens, and the reason of `signal`.
 *
 * @example At a rate
 * ```ts
 * import { echo, load, serve } from "@roundtrip/udp";
 * import { assertEquals } from "@std/assert";
 *
 * await using server = serve({ port: 0 }, echo());
 * const run = load(server.addr, { rate: 1000, count: 100 });
 * for await (const { toMs, received } of run) console.log(toMs, received);
 * const { sent, received, lost, pending } = run.summary();
 * assertEquals([sent, received + lost + pending], [100, 100]);
 * ```
 */
export function load(address: UdpAddress | string, options: LoadOptions): Load {
  const values = option.readAll("load", LOAD, options);
  const { rate, window, count, size } = values;
  if ((rate === undefined) === (window === undefined)) {
    throw new TypeError("There must be one of 'rate' and 'window'");
  }
  const usualMs = count === Infinity ? LOAD.durationMs.default : Infinity;
  const durationMs = values.durationMs ?? usualMs;
  const ends = checkEnds(address, values, size);
  const loader = new Loader(ends, { ...values, durationMs });
  return loader.run.handle({});
}

type LoadPlan = option.Values<typeof LOAD> & { durationMs: number };

/** The datagrams in flight, and the counts of a load. */
class Loader implements Workload<LoadResult>, Receiver, SendErrorListener {
  readonly run: Run<LoadInterval, LoadResult>;
  /** The number of datagrams to send. */
  readonly #count: number;
  /** Distinguishes the echoes of this run from other datagrams. */
  readonly #cookie: number;
  readonly #payload: Uint8Array<ArrayBuffer>;
  /** The due time or send time of the latest datagrams, and their states. */
  readonly #times = new Float64Array(RING);
  readonly #states = new Uint8Array(RING);
  readonly #rtts = new Distribution();
  readonly #sendErrors = new Distribution();
  /** The RTTs of the current interval. */
  #part = new Distribution();
  #socket: DatagramSocket | undefined;
  #isSending = true;
  #willContinue = false;
  #lastSentAt = 0;
  /** The number of the next datagram, and of the oldest in flight. */
  #next = 0;
  #oldest = 0;
  /** The counts; `sent` and `lost` follow from others, see `#counts()`. */
  readonly #own = { ...NO_COUNTS, portClosed: 0, receiveErrors: 0 };
  /** Echoes received before the last send. */
  #receivedInTime = 0;
  #timedOut = 0;
  #partAt = { ms: 0, counts: this.#counts() };
  #cancelLook = () => {};

  constructor(ends: NamedEnds, readonly plan: LoadPlan) {
    const runtime = runtimeOf(plan);
    const { rate = Infinity, count, durationMs, mayBlock, signal } = plan;
    // A rate counts from due times, so that a stalled client hides nothing.
    const pace = { intervalMs: 1000, perInterval: plan.rate, catchesUp: true };
    const schedule = { ...pace, count, mayBlock, signal };
    this.run = new Run(schedule, ends, runtime, this);
    this.#count = Math.min(count, Math.ceil(durationMs * rate / 1000));
    this.#cookie = Math.floor(runtime.random() * 2 ** 32);
    this.#payload = this.#newPayload();
  }

  get sent(): number {
    return this.#next - this.#own.errors;
  }

  summary(): LoadResult {
    const counts = this.#counts();
    const durationMs = this.#lastSentAt - this.run.startedAt;
    const perSecond = (count: number) =>
      durationMs > 0 ? count / durationMs * 1000 : undefined;
    // N datagrams have N - 1 intervals between the first and the last.
    const sentPerSecond = perSecond(Math.max(0, counts.sent - 1));
    const receivedPerSecond = perSecond(this.#receivedInTime);
    const bits = (each: number | undefined) =>
      each === undefined ? undefined : each * this.plan.size * 8;
    return {
      ...withLoss(counts),
      kernelDrops: this.run.kernelDrops,
      durationMs,
      sentPerSecond,
      receivedPerSecond,
      sentBitsPerSecond: bits(sentPerSecond),
      receivedBitsPerSecond: bits(receivedPerSecond),
      rttMs: this.#rtts.tail(),
      sendErrorMs: this.#sendErrors.tail(),
    };
  }

  open(): void {
    const { target: peer } = this.run.ends;
    const options = { maxDatagramBytes: MAX_PAYLOAD, peer, isBusy: true };
    this.#socket = this.run.open(options, this);
    this.#lookSoon();
  }

  close(): void {
    this.#cancelLook();
    this.run.lookAtDrops();
  }

  /** Sends the datagrams that are due, or that the window has room for. */
  send(): void {
    if (!this.#isSending || this.run.ended) return;
    const now = this.run.runtime.now();
    const { rate, durationMs } = this.plan;
    if (now - this.run.startedAt < durationMs) {
      if (rate === undefined) this.#fillWindow(now);
      else this.#sendDue(now);
      if (this.#next < this.#count) return;
    }
    this.#isSending = false;
    this.#endIfDone();
  }

  #sendDue(now: number): void {
    const upTo = Math.min(this.#count, this.#next + MAX_BURST);
    while (this.#next < upTo) {
      const dueAt = this.run.dueAt(this.#next);
      if (dueAt > now) break;
      this.#sendErrors.add(now - dueAt);
      this.#sendOne(dueAt, now);
    }
    if (this.#next === this.#count) return;
    // Datagrams that have arrived are read before the next burst.
    const { sleep } = this.#socket!;
    const isLate = this.run.dueAt(this.#next) <= this.run.runtime.now();
    if (isLate) this.#socket!.sleep?.(0);
    this.run.sendNext(
      this.#next,
      "afterExactly",
      sleep === undefined ? "after" : "afterExactly",
    );
  }

  #fillWindow(now: number): void {
    const open = this.#next - this.#own.received - this.#timedOut;
    const upTo = Math.min(this.#next + this.plan.window! - open, this.#count);
    while (this.#next < upTo) this.#sendOne(now, now);
  }

  #sendOne(since: number, now: number): void {
    const seq = this.#next++;
    if (seq - this.#oldest >= RING) this.#timeOut(this.#oldest++);
    const slot = seq % RING;
    this.#times[slot] = since;
    this.#states[slot] = IN_FLIGHT;
    this.#lastSentAt = now;
    // A payload that the socket does not copy must not change in flight.
    const payload = this.#socket!.copiesReplies
      ? this.#payload
      : this.#newPayload();
    if (payload.length >= NUMBERS_BYTES) writeWord(payload, 4, seq);
    this.#socket!.post(payload, this.run.ends.target, this);
  }

  #newPayload(): Uint8Array<ArrayBuffer> {
    const payload = new Uint8Array(this.plan.size);
    if (payload.length >= NUMBERS_BYTES) writeWord(payload, 0, this.#cookie);
    return payload;
  }

  #endIfDone(): void {
    if (this.#isSending) return;
    if (this.#own.received + this.#timedOut < this.#next) return;
    this.#endInterval();
    this.run.end();
  }

  #lookSoon(): void {
    this.#cancelLook = this.run.runtime.after(LOOK_MS, () => this.#look());
  }

  /** Times out datagrams, and ends an interval that is over. */
  #look(): void {
    if (this.run.ended) return;
    const now = this.run.runtime.now();
    const { timeoutMs, window } = this.plan;
    while (this.#oldest < this.#next) {
      const slot = this.#oldest % RING;
      if (this.#states[slot] === IN_FLIGHT) {
        if (this.#times[slot]! + timeoutMs > now) break;
        this.#timeOut(this.#oldest);
      }
      this.#oldest++;
    }
    if (now - this.run.startedAt - this.#partAt.ms >= this.plan.reportMs) {
      this.#endInterval();
    }
    if (window !== undefined) this.send();
    this.#endIfDone();
    if (!this.run.ended) this.#lookSoon();
  }

  #timeOut(seq: number): void {
    const slot = seq % RING;
    if (this.#states[slot] !== IN_FLIGHT) return;
    this.#states[slot] = TIMED_OUT;
    this.#timedOut++;
    this.#report(seq, undefined);
  }

  #endInterval(): void {
    const before = this.#partAt;
    const ms = this.run.runtime.now() - this.run.startedAt;
    const counts = this.#counts();
    const since = (name: keyof typeof counts) =>
      counts[name] - before.counts[name];
    this.run.push({
      type: "interval",
      fromMs: before.ms,
      toMs: ms,
      sent: since("sent"),
      received: since("received"),
      lost: since("lost"),
      duplicates: since("duplicates"),
      late: since("late"),
      errors: since("errors"),
      rttMs: this.#part.tail(),
    });
    this.#partAt = { ms, counts };
    this.#part = new Distribution();
  }

  #counts() {
    const lost = Math.max(0, this.#timedOut - this.#own.errors);
    return { ...this.#own, sent: this.sent, lost };
  }

  onDatagram(datagram: Datagram): void {
    const { remoteAddr, receivedAt, data } = datagram;
    const isOurs = comesFrom(remoteAddr, this.run.ends.target) &&
      data.length === this.plan.size &&
      (data.length < NUMBERS_BYTES || readWord(data, 0) === this.#cookie);
    const seq = !isOurs
      ? -1
      : data.length < NUMBERS_BYTES
      ? this.#firstInFlight()
      : readWord(data, 4);
    this.#socket!.release(datagram);
    if (seq < 0 || seq >= this.#next) this.#own.foreign++;
    else this.#answered(seq, receivedAt);
    this.#continueSoon();
  }

  /** Once for all datagrams that are received together. */
  #continueSoon(): void {
    if (this.#willContinue) return;
    this.#willContinue = true;
    queueMicrotask(() => {
      this.#willContinue = false;
      this.send();
      this.#endIfDone();
    });
  }

  #answered(seq: number, receivedAt: number): void {
    const slot = seq % RING;
    // Older ones are forgotten, and timed out before.
    const state = seq <= this.#next - RING - 1 ? TIMED_OUT : this.#states[slot];
    if (state === ANSWERED) this.#own.duplicates++;
    else if (state === TIMED_OUT) this.#own.late++;
    else {
      this.#states[slot] = ANSWERED;
      this.#own.received++;
      if (this.#isSending && !this.run.ended) this.#receivedInTime++;
      if (this.plan.size < NUMBERS_BYTES) return;
      const rttMs = receivedAt - this.#times[slot]!;
      this.#report(seq, rttMs);
      this.run.measured(rttMs);
      this.#rtts.add(rttMs);
      this.#part.add(rttMs);
    }
  }

  #report(seq: number, rttMs: number | undefined): void {
    const { onSample } = this.plan;
    onSample?.(seq, this.#times[seq % RING]! - this.run.startedAt, rttMs);
  }

  /** The datagram that an echo without a number counts for; -1 for none. */
  #firstInFlight(): number {
    while (
      this.#oldest < this.#next &&
      this.#states[this.#oldest % RING] !== IN_FLIGHT
    ) this.#oldest++;
    return this.#oldest < this.#next ? this.#oldest : -1;
  }

  onReceiveError(error: unknown): void {
    if (isPortClosed(error)) this.#own.portClosed++;
    else this.#own.receiveErrors++;
  }

  onSendError(error: unknown): void {
    // The report is about an earlier datagram; this one is in flight.
    if (isPortClosed(error)) this.#own.portClosed++;
    else this.#own.errors++;
  }
}

function writeWord(bytes: Uint8Array, at: number, word: number): void {
  bytes[at] = word >>> 24;
  bytes[at + 1] = word >>> 16;
  bytes[at + 2] = word >>> 8;
  bytes[at + 3] = word;
}

function readWord(bytes: Uint8Array, at: number): number {
  return (bytes[at]! << 24 | bytes[at + 1]! << 16 | bytes[at + 2]! << 8 |
    bytes[at + 3]!) >>> 0;
}

/** The states of a datagram. */
const IN_FLIGHT = 1;
const ANSWERED = 2;
const TIMED_OUT = 3;
/** The number of the run, and that of the datagram. */
const NUMBERS_BYTES = 8;
/** The number of datagrams remembered. */
const RING = 1 << 20;
/** The number sent before received datagrams are read. */
const MAX_BURST = 256;
const LOOK_MS = 20;

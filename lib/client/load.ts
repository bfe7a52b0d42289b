/**
 * Load: numbered datagrams to an echo or a reflector, at a rate independent of the echoes (open
 * loop), or with a constant number in flight (closed loop).
 *
 * @module
 */
import type { UdpAddress } from "../address.ts";
import { isPortClosed } from "../base/errors.ts";
import * as option from "../base/options.ts";
import { Distribution, type TailSummary } from "../stats/distribution.ts";
import { Books, type Interval } from "../stats/books.ts";
import type { RunCounts } from "../stats/counts.ts";
import { runtimeOf } from "../socket/runtime.ts";
import {
  type Datagram,
  type DatagramSocket,
  MAX_PAYLOAD,
  type Receiver,
  type SendListener,
} from "../socket/contract.ts";
import { LOAD, type LoadOptions } from "./load_options.ts";
import { STALL_MS } from "./pacer.ts";
import { Run, type RunHandle, type Workload } from "./run.ts";
import { checkEnds, comesFrom, type NamedEnds } from "./target.ts";

/** The result of a load. */
export interface LoadResult extends RunCounts {
  /**
   * Echoes that this machine dropped, since its receive buffer was full; they
   * are among the lost. Undefined where that is not known.
   */
  kernelDrops: number | undefined;
  /** From the first send to the last one, in milliseconds. */
  durationMs: number;
  /** Datagrams sent a second, within `durationMs`; undefined if that is 0. */
  sentPerSecond: number | undefined;
  /**
   * Echoes a second, from the first to the last, or within `durationMs` if that is
   * longer; undefined with fewer than two.
   */
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
export type Load = RunHandle<Interval, LoadResult>;

/**
 * Loads a server that echoes, or with a `size` of 44 and more a STAMP Session-Reflector,
 * with numbered datagrams: at a rate that does not depend on the echoes (`rate`, an open
 * loop), or with a number of them in flight (`window`, a closed loop). Each echo is attributed to its datagram by that number, so the
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

/** The sends and the echoes of a load. */
class Loader implements Workload<LoadResult>, Receiver {
  readonly run: Run<Interval, LoadResult>;
  readonly books: Books;
  /** The number of datagrams to send. */
  readonly #count: number;
  /** Distinguishes the echoes of this run from other datagrams. */
  readonly #cookie: number;
  readonly #payload: Uint8Array<ArrayBuffer>;
  readonly #sendErrors = new Distribution();
  #socket: DatagramSocket | undefined;
  #isSending = true;
  #willContinue = false;
  #lastSentAt = 0;
  #firstEchoAt = 0;
  #lastEchoAt = 0;

  constructor(ends: NamedEnds, readonly plan: LoadPlan) {
    const runtime = runtimeOf(plan);
    const { rate = Infinity, count, durationMs, timeoutMs, size } = plan;
    const { mayBlock, signal, reportMs, onSample } = plan;
    const pace = { intervalMs: 1000, perInterval: plan.rate };
    const sendMs = durationMs;
    const schedule = { ...pace, count, sendMs, mayBlock, signal, reportMs };
    this.run = new Run(schedule, ends, runtime, this);
    // Room for those in flight, and as many whose echo may be late or doubled.
    const inFlight = plan.window ?? Math.ceil(rate * timeoutMs / 1000);
    const total = Math.min(count, Math.ceil(durationMs * rate / 1000));
    const capacity = Math.min(
      Math.max(MIN_REMEMBERED, 2 * inFlight),
      Math.max(1, total),
      MAX_REMEMBERED,
    );
    this.books = new Books({ capacity, timeoutMs, size, onSample });
    this.#count = total;
    this.#cookie = Math.floor(runtime.random() * 2 ** 32);
    this.#payload = this.#newPayload();
  }

  get sent(): number {
    return this.books.sent;
  }

  summary(): LoadResult {
    const counts = this.books.summary();
    const durationMs = this.#lastSentAt - this.run.startedAt;
    // N datagrams have N - 1 intervals between the first and the last.
    const perSecond = (count: number, ms: number) =>
      ms > 0 ? Math.max(0, count - 1) / ms * 1000 : undefined;
    const sentPerSecond = perSecond(counts.sent, durationMs);
    const echoingMs = Math.max(
      this.#lastEchoAt - this.#firstEchoAt,
      counts.received > 1 ? durationMs : 0,
    );
    const receivedPerSecond = perSecond(counts.received, echoingMs);
    const bits = (each: number | undefined) =>
      each === undefined ? undefined : each * this.plan.size * 8;
    return {
      ...counts,
      kernelDrops: this.run.kernelDrops,
      durationMs,
      sentPerSecond,
      receivedPerSecond,
      sentBitsPerSecond: bits(sentPerSecond),
      receivedBitsPerSecond: bits(receivedPerSecond),
      rttMs: this.books.rtts.tail(),
      sendErrorMs: this.#sendErrors.tail(),
    };
  }

  open(): void {
    const { target: peer } = this.run.ends;
    this.#socket = this.run.open({
      maxDatagramBytes: MAX_PAYLOAD,
      peer,
      isBusy: true,
      // The time of arrival in a standstill; a tenth of the speed at full load.
      packetInfo: (this.plan.rate ?? Infinity) <= MAX_TIMED_RATE,
    }, this);
    this.books.localPort = this.#socket.addr.port;
  }

  /** Sends the datagrams that are due, or that the window has room for. */
  send(): void {
    if (!this.#isSending || this.run.ended) return;
    const now = this.run.runtime.now();
    const endsAt = this.run.startedAt + this.plan.durationMs;
    const { books } = this;
    const hasRate = this.plan.rate !== undefined;
    if (!hasRate && now < endsAt) this.#fillWindow(now);
    else if (hasRate && now > endsAt + STALL_MS) this.run.skipRest(books.next);
    else if (hasRate) this.#sendDue(Math.min(now, endsAt), now);
    const dueAt = hasRate ? this.run.dueAt(books.next) : now;
    this.#isSending = books.next < this.#count &&
      Math.max(dueAt, now - STALL_MS) < endsAt;
    if (!this.#isSending) return this.check();
    if (!hasRate) return;
    // Datagrams that have arrived are read before the next burst.
    const { sleep } = this.#socket!;
    if (dueAt <= this.run.runtime.now()) this.#socket!.sleep?.(0);
    this.run.sendNext(
      books.next,
      "afterExactly",
      sleep === undefined ? "after" : "afterExactly",
    );
  }

  #sendDue(until: number, now: number): void {
    const { books } = this;
    this.run.skipLate(books.next, until);
    const upTo = Math.min(this.#count, books.next + MAX_BURST);
    while (books.next < upTo && books.hasRoom) {
      const dueAt = this.run.dueAt(books.next);
      if (dueAt > until) return;
      this.#sendErrors.add(now - dueAt);
      this.#sendOne(dueAt, now);
    }
  }

  #fillWindow(now: number): void {
    const { books } = this;
    const upTo = Math.min(
      books.next + this.plan.window! - books.open,
      this.#count,
    );
    while (books.next < upTo && books.hasRoom) this.#sendOne(now, now);
  }

  #sendOne(dueAt: number, now: number): void {
    const seq = this.books.add(dueAt, now);
    this.#lastSentAt = now;
    // A payload that the socket does not copy must not change in flight.
    const payload = this.#socket!.copiesReplies
      ? this.#payload
      : this.#newPayload();
    writeWord(payload, 4, seq);
    const posted = new Posted(this.books, seq);
    this.#socket!.post(payload, this.run.ends.target, posted);
  }

  #newPayload(): Uint8Array<ArrayBuffer> {
    const payload = new Uint8Array(this.plan.size);
    writeWord(payload, 0, this.#cookie);
    // The multiplier of an error estimate, which may not be 0.
    if (payload.length >= REFLECTED_BYTES) payload[13] = 1;
    return payload;
  }

  /** Ends the run if all is settled; else fills the window. */
  check(): void {
    if (this.run.ended) return;
    if (!this.#isSending) {
      if (this.books.open === 0) this.run.end();
    } else if (this.plan.rate === undefined) this.send();
  }

  onDatagram(datagram: Datagram): void {
    const { remoteAddr, receivedAt, data } = datagram;
    const { books } = this;
    const arrivedAt = this.run.arrivalOf(datagram);
    const at = readWord(data, 0) === this.#cookie ? 0 : REFLECTED_AT;
    const isOurs = comesFrom(remoteAddr, this.run.ends.target) &&
      data.length === this.plan.size && readWord(data, at) === this.#cookie;
    const seq = isOurs ? numberOf(readWord(data, at + 4), books.next - 1) : -1;
    this.#socket!.release(datagram);
    if (seq < 0) books.count("foreign");
    else if (!books.isRemembered(seq)) books.count("late");
    else this.#echoed(seq, receivedAt, arrivedAt);
    this.#continueSoon();
  }

  #echoed(
    seq: number,
    receivedAt: number,
    arrivedAt: number | undefined,
  ): void {
    const { books } = this;
    if (books.replied(seq) !== "received") return;
    if (books.received === 1) this.#firstEchoAt = receivedAt;
    this.#lastEchoAt = receivedAt;
    // From due times, a client that falls behind hides nothing.
    const rttMs = arrivedAt !== undefined
      ? arrivedAt - books.dueAt(seq)
      : undefined;
    books.measured(seq, rttMs);
    if (rttMs !== undefined) this.run.measured(rttMs);
  }

  /** Once for all datagrams that are received together. */
  #continueSoon(): void {
    if (this.#willContinue) return;
    this.#willContinue = true;
    queueMicrotask(() => {
      this.#willContinue = false;
      this.send();
      this.check();
    });
  }

  onReceiveError(error: unknown): void {
    this.books.report(error);
  }
}

/** A datagram until the system has taken or refused it. */
class Posted implements SendListener {
  constructor(readonly books: Books, readonly seq: number) {}

  onSent(): void {
    this.books.taken(this.seq);
  }

  onSendError(error: unknown): void {
    // The report is about an earlier datagram; this one is in flight.
    if (!isPortClosed(error)) return this.books.refused(this.seq, error);
    this.books.report(error);
    this.books.taken(this.seq);
  }
}

/** The latest number, up to the last one, that ends in these 32 bits; else negative. */
export function numberOf(word: number, last: number): number {
  return last - ((last - word) >>> 0);
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

/** Where a STAMP reply has the first 14 bytes of its request, and its least length. */
const REFLECTED_AT = 24;
const REFLECTED_BYTES = 44;
/** The number of datagrams remembered. */
const MIN_REMEMBERED = 1 << 20;
const MAX_REMEMBERED = 1 << 23;
/** The number sent before received datagrams are read. */
const MAX_BURST = 256;
const MAX_TIMED_RATE = 20_000;

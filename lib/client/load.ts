/**
 * The client under load: numbered datagrams to an echo, at a rate that nothing
 * slows down (open loop), or so many in flight (closed loop).
 *
 * @module
 */
import type { UdpAddress } from "../address.ts";
import { Distribution, type TailSummary } from "../stats/distribution.ts";
import { isPortClosed } from "../base/errors.ts";
import * as option from "../base/options.ts";
import { EventQueue } from "../base/event_queue.ts";
import { type Runtime, runtimeOf } from "../socket/runtime.ts";
import {
  type Datagram,
  type DatagramSocket,
  MAX_PAYLOAD,
  type Receiver,
  type SendErrorListener,
} from "../socket/contract.ts";
import { LOAD, type LoadOptions } from "./load_options.ts";
import { checkEnds, comesFrom, type NamedEnds, resolveEnds } from "./target.ts";
import {
  clientCounts,
  type Count,
  follow,
  recordRtt,
  UDP,
} from "../base/telemetry.ts";

export type { LoadOptions } from "./load_options.ts";

/** The defaults of {@linkcode LoadOptions}. */
export const LOAD_DEFAULTS = {
  durationMs: 10_000,
  size: 64,
  timeoutMs: 1000,
  reportMs: 1000,
  mayBlock: false,
} as const;

/** The counts of a part of a run; those of all parts add up to the result. */
export interface LoadInterval {
  /** Distinguishes it from the events of other runs. */
  type: "interval";
  /** Begin of the part, since the first send, in milliseconds. */
  fromMs: number;
  /** End of the part, since the first send, in milliseconds. */
  toMs: number;
  /** Datagrams sent. */
  sent: number;
  /** Datagrams answered in time. */
  received: number;
  /** Datagrams not answered within `timeoutMs`. */
  lost: number;
  /** Replies beyond one for each datagram. */
  duplicates: number;
  /** Lost datagrams whose reply arrived after all. */
  late: number;
  /** Datagrams that the system refused to send. */
  errors: number;
  /** RTTs of the replies; undefined without any. */
  rttMs: TailSummary | undefined;
}

/** The result of a load. `sent` is `received + lost + pending`. */
export interface LoadResult {
  /** Datagrams that the system took. */
  sent: number;
  /** Datagrams echoed within `timeoutMs`. */
  received: number;
  /** Datagrams not echoed within `timeoutMs`; late ones are among them. */
  lost: number;
  /** Datagrams that may still be echoed. */
  pending: number;
  /** `lost` in percent of `received + lost`; undefined if that is 0. */
  lossPercent: number | undefined;
  /** Echoes beyond one for each datagram. */
  duplicates: number;
  /** Lost datagrams whose echo arrived after all. */
  late: number;
  /** Received datagrams that are no echo of this run. */
  foreign: number;
  /** Datagrams that the system refused; they are not among `sent`. */
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

/**
 * A load. It runs while it is iterated, which can be done once and gives an
 * interval each `reportMs`, and closes its socket when the iteration ends, is
 * left, or throws.
 */
export interface Load extends AsyncIterable<LoadInterval> {
  /** Address of the server; undefined until the iteration has resolved the name. */
  readonly target: UdpAddress | undefined;
  /** Number of datagrams sent so far. */
  readonly sent: number;
  /** The result so far. */
  result(): LoadResult;
  /** Ends the run; what is unanswered stays `pending`. */
  stop(): void;
}

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
 * const { sent, received, lost, pending } = run.result();
 * assertEquals([sent, received + lost + pending], [100, 100]);
 * ```
 */
export function load(
  address: UdpAddress | string,
  options: LoadOptions,
): Load {
  const values = option.readAll("load", LOAD, options);
  const { rate, window, count, size } = values;
  if ((rate === undefined) === (window === undefined)) {
    throw new TypeError("There must be one of 'rate' and 'window'");
  }
  const usualMs = count === Infinity ? LOAD.durationMs.default : Infinity;
  const durationMs = values.durationMs ?? usualMs;
  const ends = checkEnds(address, values, size);
  const run = new Loader(ends, runtimeOf(values), { ...values, durationMs });
  return {
    get target() {
      return run.target;
    },
    get sent() {
      return run.sent;
    },
    result: () => run.result(),
    stop: () => run.end(),
    [Symbol.asyncIterator]: () => run.iterate(),
  };
}

type Plan = option.Values<typeof LOAD> & { durationMs: number };

class Loader implements Receiver, SendErrorListener {
  target: UdpAddress | undefined;
  readonly #ends: NamedEnds;
  readonly #runtime: Runtime;
  readonly #plan: Plan;
  readonly #queue = new EventQueue<LoadInterval>();
  /** Tells the echoes of this run from what else there is. */
  readonly #cookie = crypto.getRandomValues(new Uint32Array(1))[0]!;
  readonly #payload: Uint8Array<ArrayBuffer>;
  /** When each of the latest datagrams was sent, or due, and what became of it. */
  readonly #times = new Float64Array(RING);
  readonly #states = new Uint8Array(RING);
  readonly #rtts = new Distribution();
  readonly #sendErrors = new Distribution();
  /** The RTTs since the last interval was told. */
  #part = new Distribution();
  #socket: DatagramSocket | undefined;
  #hasBegun = false;
  #isSending = false;
  #willGoOn = false;
  #startedAt = 0;
  #lastSentAt = 0;
  /** How many were sent, the number of the next one; and the oldest in flight. */
  #next = 0;
  #oldest = 0;
  #received = 0;
  /** When something was received last, or sent to break a silence. */
  #heardAt = 0;
  #brokenAt = 0;
  /** The shortest RTT. */
  #leastMs = Infinity;
  /** Of these, those that came before the last send. */
  #receivedInTime = 0;
  #givenUp = 0;
  #duplicates = 0;
  #late = 0;
  #foreign = 0;
  #errors = 0;
  #portClosed = 0;
  #receiveErrors = 0;
  #partAt = { ms: 0, counts: this.#counts() };
  /** Once the socket is about to be closed. */
  #cancelTick = () => {};
  #cancelLook = () => {};

  constructor(ends: NamedEnds, runtime: Runtime, plan: Plan) {
    this.#ends = ends;
    this.#runtime = runtime;
    this.#plan = plan;
    this.#payload = this.#newPayload();
  }

  end(failure?: { error: unknown }): void {
    this.#isSending = false;
    this.#cancelTick();
    this.#cancelLook();
    this.#queue.end(failure);
  }

  get sent(): number {
    return this.#next - this.#errors;
  }

  result(): LoadResult {
    const { sent } = this;
    const lost = Math.max(0, this.#givenUp - this.#errors);
    const judged = this.#received + lost;
    const durationMs = this.#lastSentAt - this.#startedAt;
    const perSecond = (count: number) =>
      durationMs > 0 ? count / durationMs * 1000 : undefined;
    // Between the first and the last there is one less than there are of them.
    const sentPerSecond = perSecond(Math.max(0, sent - 1));
    const receivedPerSecond = perSecond(this.#receivedInTime);
    const bits = (each: number | undefined) =>
      each === undefined ? undefined : each * this.#plan.size * 8;
    return {
      sent,
      received: this.#received,
      lost,
      pending: sent - judged,
      lossPercent: judged === 0 ? undefined : 100 * lost / judged,
      duplicates: this.#duplicates,
      late: this.#late,
      foreign: this.#foreign,
      errors: this.#errors,
      portClosed: this.#portClosed,
      receiveErrors: this.#receiveErrors,
      kernelDrops: this.#socket?.kernelDrops(),
      durationMs,
      sentPerSecond,
      receivedPerSecond,
      sentBitsPerSecond: bits(sentPerSecond),
      receivedBitsPerSecond: bits(receivedPerSecond),
      rttMs: this.#rtts.tail(),
      sendErrorMs: this.#sendErrors.tail(),
    };
  }

  async *iterate(): AsyncGenerator<LoadInterval> {
    if (this.#hasBegun) {
      throw new TypeError("Cannot run a load a second time: start another one");
    }
    this.#hasBegun = true;
    const { signal } = this.#plan;
    signal?.throwIfAborted();
    const abort = () => this.end({ error: signal!.reason });
    signal?.addEventListener("abort", abort);
    let finished: Promise<void> | undefined;
    let unfollow = () => {};
    try {
      const ends = await Promise.race([
        resolveEnds(this.#ends, this.#runtime),
        this.#queue.whenEnded,
      ]);
      if (ends !== undefined && !this.#queue.ended) {
        this.target = ends.target;
        this.#socket = this.#runtime.open({
          ...ends.local,
          maxDatagramBytes: MAX_PAYLOAD,
          peer: ends.target,
          isBusy: true,
        });
        finished = this.#socket.start(this)
          .catch((error) => this.end({ error }));
        if (ends.telemetry) {
          unfollow = follow(UDP, () => ({ counts: this.#readings() }));
        }
        this.#begin();
      }
      yield* this.#queue;
    } finally {
      this.end();
      signal?.removeEventListener("abort", abort);
      unfollow();
      this.#socket?.close();
      await finished;
    }
  }

  #begin(): void {
    this.#isSending = true;
    this.#startedAt = this.#lastSentAt = this.#runtime.now();
    this.#look();
    this.#send();
  }

  /** Sends what is due, or what there is room for in the window. */
  #send(): void {
    if (!this.#isSending) return;
    const { rate, count, durationMs } = this.#plan;
    const now = this.#runtime.now();
    if (now - this.#startedAt >= durationMs) return this.#stopSending();
    if (rate === undefined) this.#fillWindow(now);
    else {
      const due = Math.floor((now - this.#startedAt) * rate / 1000) + 1;
      const upTo = Math.min(due, count, this.#next + MAX_BURST);
      while (this.#next < upTo) {
        const dueAt = this.#dueAt(this.#next);
        this.#sendErrors.add(Math.max(0, now - dueAt));
        this.#sendOne(dueAt, now);
      }
      this.#sendNextAt(Math.min(
        this.#dueAt(this.#next),
        this.#startedAt + durationMs,
      ));
    }
    if (this.#next >= count) this.#stopSending();
  }

  #dueAt(seq: number): number {
    return this.#startedAt + seq * 1000 / this.#plan.rate!;
  }

  #sendNextAt(at: number): void {
    this.#cancelTick();
    const waitMs = at - this.#runtime.now();
    const send = () => this.#send();
    const socket = this.#socket!;
    if (waitMs > 0) {
      const pause = this.#plan.mayBlock && socket.sleep !== undefined
        ? (leftMs: number) => socket.sleep!(leftMs)
        : undefined;
      this.#cancelTick = this.#runtime.afterExactly(waitMs, send, pause);
    } else if (socket.sleep === undefined) {
      // Whoever is behind lets in what has come before the next burst.
      this.#cancelTick = this.#runtime.after(0, send);
    } else {
      socket.sleep(0);
      this.#cancelTick = this.#runtime.afterExactly(0, send);
    }
  }

  #fillWindow(now: number): void {
    const { window, count } = this.#plan;
    const open = this.#next - this.#received - this.#givenUp;
    const upTo = Math.min(this.#next + window! - open, count);
    while (this.#next < upTo) this.#sendOne(now, now);
  }

  #sendOne(since: number, now: number): void {
    const seq = this.#next++;
    if (seq - this.#oldest >= RING) this.#giveUp(this.#oldest++);
    const slot = seq % RING;
    this.#times[slot] = since;
    this.#states[slot] = IN_FLIGHT;
    this.#lastSentAt = now;
    // What the socket does not copy must not change while it is on its way.
    const payload = this.#socket!.copiesReplies
      ? this.#payload
      : this.#newPayload();
    if (payload.length >= HEADER_BYTES) writeWord(payload, 4, seq);
    this.#socket!.post(payload, this.target!, this);
  }

  #newPayload(): Uint8Array<ArrayBuffer> {
    const payload = new Uint8Array(this.#plan.size);
    if (payload.length >= HEADER_BYTES) writeWord(payload, 0, this.#cookie);
    return payload;
  }

  #stopSending(): void {
    this.#isSending = false;
    this.#cancelTick();
    this.#endIfDone();
  }

  #endIfDone(): void {
    if (this.#isSending) return;
    if (this.#received + this.#givenUp < this.#next) return;
    this.#tellInterval();
    this.end();
  }

  /** Now and then: gives up what is late, and tells of the last second. */
  #look(): void {
    const now = this.#runtime.now();
    const { timeoutMs, window } = this.#plan;
    while (this.#oldest < this.#next) {
      const slot = this.#oldest % RING;
      if (this.#states[slot] === IN_FLIGHT) {
        if (this.#times[slot]! + timeoutMs > now) break;
        this.#giveUp(this.#oldest);
      }
      this.#oldest++;
    }
    if (now - this.#startedAt - this.#partAt.ms >= this.#plan.reportMs) {
      this.#tellInterval();
    }
    if (window !== undefined) {
      this.#send();
      this.#breakSilence(now);
    }
    this.#endIfDone();
    if (this.#queue.ended) return;
    this.#cancelLook = this.#runtime.after(LOOK_MS, () => this.#look());
  }

  /**
   * A server may keep its answers for a moment to see whether we send without
   * them, as a loop of two servers would not (ours does): one more shows it.
   */
  #breakSilence(now: number): void {
    if (
      !this.#isSending || this.#received === 0 ||
      this.#next >= this.#plan.count || now - this.#brokenAt < SILENCE_MS ||
      now - this.#heardAt < Math.max(SILENCE_MS, 3 * this.#leastMs)
    ) return;
    this.#brokenAt = now;
    this.#sendOne(now, now);
  }

  #giveUp(seq: number): void {
    const slot = seq % RING;
    if (this.#states[slot] !== IN_FLIGHT) return;
    this.#states[slot] = GIVEN_UP;
    this.#givenUp++;
    this.#tellSample(seq, undefined);
  }

  #tellInterval(): void {
    const before = this.#partAt;
    const ms = this.#runtime.now() - this.#startedAt;
    const counts = this.#counts();
    const since = (name: keyof typeof counts) =>
      counts[name] - before.counts[name];
    this.#queue.push({
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

  #readings(): Count[] {
    return clientCounts({ ...this.#counts(), foreign: this.#foreign });
  }

  #counts() {
    return {
      sent: this.#next - this.#errors,
      received: this.#received,
      lost: Math.max(0, this.#givenUp - this.#errors),
      duplicates: this.#duplicates,
      late: this.#late,
      errors: this.#errors,
    };
  }

  onDatagram(datagram: Datagram): void {
    const { remoteAddr, receivedAt, data } = datagram;
    const isOurs = comesFrom(remoteAddr, this.target!) &&
      data.length === this.#plan.size &&
      (data.length < HEADER_BYTES || readWord(data, 0) === this.#cookie);
    const seq = !isOurs
      ? -1
      : data.length < HEADER_BYTES
      ? this.#firstInFlight()
      : readWord(data, 4);
    this.#socket!.release(datagram);
    if (seq < 0 || seq >= this.#next) this.#foreign++;
    else this.#answered(seq, receivedAt);
    this.#goOnSoon();
  }

  /** Once for all datagrams that come together. */
  #goOnSoon(): void {
    if (this.#willGoOn) return;
    this.#willGoOn = true;
    queueMicrotask(() => {
      this.#willGoOn = false;
      this.#send();
      this.#endIfDone();
    });
  }

  #answered(seq: number, receivedAt: number): void {
    const slot = seq % RING;
    // Older ones are not remembered, but were given up when they were forgotten.
    const state = seq <= this.#next - RING - 1 ? GIVEN_UP : this.#states[slot];
    if (state === ANSWERED) this.#duplicates++;
    else if (state === GIVEN_UP) this.#late++;
    else {
      this.#states[slot] = ANSWERED;
      this.#received++;
      this.#heardAt = receivedAt;
      if (this.#isSending) this.#receivedInTime++;
      if (this.#plan.size < HEADER_BYTES) return;
      const rttMs = receivedAt - this.#times[slot]!;
      this.#tellSample(seq, rttMs);
      if (this.#ends.telemetry) recordRtt(rttMs);
      if (rttMs < this.#leastMs) this.#leastMs = rttMs;
      this.#rtts.add(rttMs);
      this.#part.add(rttMs);
    }
  }

  #tellSample(seq: number, rttMs: number | undefined): void {
    const { onSample } = this.#plan;
    onSample?.(seq, this.#times[seq % RING]! - this.#startedAt, rttMs);
  }

  /** Which one an echo without a number is taken for; -1 for none. */
  #firstInFlight(): number {
    while (
      this.#oldest < this.#next &&
      this.#states[this.#oldest % RING] !== IN_FLIGHT
    ) this.#oldest++;
    return this.#oldest < this.#next ? this.#oldest : -1;
  }

  onReceiveError(error: unknown): void {
    if (isPortClosed(error)) this.#portClosed++;
    else this.#receiveErrors++;
  }

  onSendError(error: unknown): void {
    // About an earlier datagram, and this one is on its way.
    if (isPortClosed(error)) this.#portClosed++;
    else this.#errors++;
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

/** What became of a datagram. */
const IN_FLIGHT = 1;
const ANSWERED = 2;
const GIVEN_UP = 3;
/** A number that tells the run, and one that tells the datagram. */
const HEADER_BYTES = 8;
/** How many datagrams are remembered. */
const RING = 1 << 20;
/** How many are sent before what has come is looked at. */
const MAX_BURST = 256;
const LOOK_MS = 20;
const SILENCE_MS = 100;

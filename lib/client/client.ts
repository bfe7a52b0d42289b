/**
 * The client that `connect()` opens: requests in flight, their replies and their
 * time-outs.
 *
 * @module
 */
import type { UdpAddress } from "../address.ts";
import { isPortClosed, mayPass, sendError } from "../base/errors.ts";
import * as option from "../base/options.ts";
import { type PayloadInit, payloadOf } from "../base/payload.ts";
import { EventQueue } from "../base/event_queue.ts";
import { RecentMap } from "../base/recent_map.ts";
import type {
  DatagramSocket,
  Receiver,
  SendListener,
} from "../socket/contract.ts";
import { type Datagram, OwnedDatagram } from "../socket/datagram.ts";
import {
  type Payload,
  type RequestPlan,
  timeoutError,
  waitMsOf,
} from "./exchange.ts";
import { Pending, type PendingPlan } from "./pending.ts";
import { checkReplies, incomplete, type OptionalReplies } from "./replies.ts";
import { replyOf, type UdpReply } from "./reply.ts";
import { comesFrom, type Ends, maxPayload, requireFit } from "./target.ts";
import { type ClientObserver, observeClient } from "./telemetry.ts";
import {
  CLIENT_REQUEST,
  type ClientRequestOptions,
  type ClientStats,
  type Key,
  type UdpClient,
  type Unclaimed,
} from "./udp_client.ts";

/** The client that `connect()` opens. */
export class Client implements UdpClient, Receiver {
  readonly addr: UdpAddress;
  readonly remoteAddr: UdpAddress;
  readonly #plan: RequestPlan;
  readonly #socket: DatagramSocket;
  readonly #finished: Promise<void>;
  readonly #keyOf: ((data: Uint8Array) => Key | undefined) | undefined;
  readonly #maxInFlight: number;
  readonly #forget: () => void;
  readonly #stats: ClientStats = {
    requests: 0,
    answered: 0,
    lost: 0,
    errors: 0,
    sent: 0,
    retransmissions: 0,
    late: 0,
    duplicates: 0,
    unmatched: 0,
    dropped: 0,
    foreign: 0,
  };
  /** Requests in flight, by their keys. */
  #inFlight = new Map<Key | undefined, Pending>();
  /** Insertions left until the map is replaced, see `#renew`. */
  #insertsLeft = LEAST_RENEWED;
  /** Requests that are not sent yet, oldest first. */
  readonly #waiting = new Set<Pending>();
  /** The count for further replies to the latest requests, by their keys. */
  readonly #settled = new RecentMap<Key, "duplicates" | "late">(MAX_SETTLED);
  readonly #unclaimed = new EventQueue<Unclaimed>();
  readonly #observer: ClientObserver;
  readonly #maxBytes: number;
  #timerAt = Infinity;
  #cancelTimer = () => {};
  #failure: { error: unknown } | undefined;

  constructor(
    plan: RequestPlan,
    { target, local }: Ends,
    keyOf: ((data: Uint8Array) => Key | undefined) | undefined,
    maxInFlight: number,
  ) {
    const { signal } = plan;
    this.#plan = plan;
    this.#keyOf = keyOf;
    this.#maxInFlight = maxInFlight;
    this.#socket = plan.runtime.open({
      ...local,
      maxDatagramBytes: plan.maxDatagramBytes,
      peer: target,
      isBusy: true,
    });
    this.addr = this.#socket.addr;
    this.#maxBytes = maxPayload(target.hostname);
    this.remoteAddr = Object.freeze({ ...target });
    const abort = () => this.#end(signal!.reason);
    signal?.addEventListener("abort", abort);
    this.#observer = observeClient(plan.telemetry, () => {
      const stats = this.stats();
      // Its `sent` includes retransmissions.
      const { answered: received, errors: unsent } = stats;
      return { ...stats, retransmissions: 0, received, unsent };
    });
    this.#forget = () => signal?.removeEventListener("abort", abort);
    this.#finished = this.#socket.start(this)
      .catch((error) => this.#end(error));
  }

  request(
    payload: Payload,
    options?: ClientRequestOptions & OptionalReplies,
  ): Promise<never> {
    const { promise, resolve, reject } = Promise.withResolvers<
      UdpReply | UdpReply[]
    >();
    let pending: Pending;
    let own: option.Values<typeof CLIENT_REQUEST> | undefined;
    try {
      if (this.#failure !== undefined) throw this.#failure.error;
      if (options !== undefined) {
        own = option.readAll("UdpClient.request", CLIENT_REQUEST, options);
        checkReplies(own);
      }
      own?.signal?.throwIfAborted();
      pending = new Pending(
        this,
        typeof payload === "function"
          ? payload
          : payloadOf(payload, "request()"),
        own === undefined ? this.#plan : this.#planOf(own),
        resolve,
        reject,
      );
    } catch (error) {
      return Promise.reject(error);
    }
    const signal = own?.signal;
    if (signal !== undefined) {
      const abort = () => this.#settle(pending, { error: signal.reason });
      signal.addEventListener("abort", abort);
      const forget = () => signal.removeEventListener("abort", abort);
      promise.then(forget, forget);
    }
    this.#stats.requests++;
    if (this.#inFlight.size < this.#maxInFlight && this.#waiting.size === 0) {
      this.#transmit(pending);
    } else this.#waiting.add(pending);
    // By the options one reply or several, see the contract.
    return promise as Promise<never>;
  }

  send(payload: PayloadInit): Promise<void> {
    const sending = this.#send(payload);
    sending.catch(() => this.#stats.errors++);
    return sending;
  }

  async #send(payload: PayloadInit): Promise<void> {
    if (this.#failure !== undefined) throw this.#failure.error;
    const bytes = payloadOf(payload, "send()");
    requireFit(bytes.length, this.#maxBytes);
    this.#stats.sent++;
    try {
      await this.#socket.send(bytes, this.remoteAddr);
    } catch (error) {
      throw sendError(error, this.remoteAddr);
    }
  }

  stats(): ClientStats {
    return { ...this.#stats, dropped: this.#unclaimed.dropped };
  }

  close(): Promise<void> {
    this.#end(new Deno.errors.Interrupted("The client was closed"));
    return this.#finished;
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  [Symbol.asyncIterator](): AsyncIterator<Unclaimed> {
    return this.#unclaimed[Symbol.asyncIterator]();
  }

  onDatagram(datagram: Datagram): void {
    try {
      this.#take(datagram);
    } finally {
      this.#socket.release(datagram);
    }
  }

  onReceiveError(
    error: unknown,
    unsent: readonly SendListener[] = [],
  ): void {
    if (!this.#socket.reportsClosedPort) return;
    const others = new Set(unsent);
    for (const pending of [...this.#inFlight.values()]) {
      if (others.has(pending)) continue;
      pending.report = error;
      if (isPortClosed(error)) this.#timeOut(pending);
    }
    this.#sendWaiting();
  }

  /** A datagram of a request could not be sent. */
  sendFailed(pending: Pending, error: unknown): void {
    if (isPortClosed(error)) return this.onReceiveError(error);
    pending.report = error;
    if (!mayPass(error) || pending.attempts > pending.plan.retries) {
      this.#settle(pending, { error: sendError(error, this.remoteAddr) });
    }
  }

  /** The plan of a request: its own options, and the client's. */
  #planOf(own: option.Values<typeof CLIENT_REQUEST>): PendingPlan {
    return {
      replies: own.replies,
      missing: own.missing,
      timeoutMs: own.timeoutMs ?? this.#plan.timeoutMs,
      retries: own.retries ?? this.#plan.retries,
      match: own.match ?? this.#plan.match,
    };
  }

  #take(datagram: Datagram): void {
    const { data, remoteAddr } = datagram;
    if (!comesFrom(remoteAddr, this.remoteAddr)) {
      this.#stats.foreign++;
      return;
    }
    let key: Key | undefined;
    try {
      key = this.#keyOf?.(data);
    } catch {
      // A datagram that the user's function cannot read is no reply.
    }
    // The function may have closed the client.
    if (this.#failure !== undefined) return;
    const isKeyed = this.#keyOf === undefined || key !== undefined;
    const pending = isKeyed ? this.#inFlight.get(key) : undefined;
    if (pending !== undefined && this.#answer(pending, datagram)) return;
    const settled = key === undefined ? undefined : this.#settled.get(key);
    if (pending === undefined && settled !== undefined) {
      this.#stats[settled]++;
      return;
    }
    this.#stats.unmatched++;
    this.#unclaimed.push(new OwnedDatagram(datagram), data.length);
  }

  /** Takes a datagram as a reply, if it is one; returns whether it is over. */
  #answer(pending: Pending, datagram: Datagram): boolean {
    let reply: UdpReply | undefined;
    let isLast = true;
    try {
      const { remoteAddr } = this;
      const { attempts, sentAt, plan } = pending;
      reply = replyOf(datagram, plan.match, { remoteAddr, attempts, sentAt });
      if (reply !== undefined && !pending.isSettled) {
        isLast = pending.completes(reply);
      }
    } catch (error) {
      this.#settle(pending, { error });
    }
    // An abort or a close within `match` or `replies` has settled it.
    if (pending.isSettled) return true;
    if (reply === undefined) return false;
    if (reply.rttMs !== undefined) this.#observer.rtt(reply.rttMs);
    if (!isLast) {
      pending.deadline = this.#plan.runtime.now() + pending.plan.timeoutMs;
      this.#checkAt(pending.deadline);
      return true;
    }
    this.#stats.answered++;
    if (pending.key !== undefined) {
      this.#settled.set(pending.key, "duplicates");
    }
    this.#remove(pending);
    pending.resolve(pending.replies ?? reply);
    this.#sendWaiting();
    return true;
  }

  #sendWaiting(): void {
    for (const pending of this.#waiting) {
      if (this.#inFlight.size >= this.#maxInFlight) return;
      this.#waiting.delete(pending);
      this.#transmit(pending);
    }
  }

  #transmit(pending: Pending): void {
    const { runtime } = this.#plan;
    pending.attempts++;
    let payload: Uint8Array;
    try {
      payload = pending.bytes();
      requireFit(payload.length, this.#maxBytes);
      const key = this.#keyOf?.(payload);
      // An abort or a close within one of the two functions.
      if (this.#failure !== undefined) throw this.#failure.error;
      if (pending.isSettled) return;
      if (this.#keyOf !== undefined && !isKey(key)) {
        throw new TypeError(
          `'key()' must give a number or a string of a request: it gave ${typeof key}`,
        );
      }
      // The payload of another attempt may have another key.
      if (pending.attempts > 1) this.#vacate(pending);
      if (this.#inFlight.has(key)) {
        throw new TypeError(
          `A request with the key ${key} is in flight already: give each request a key of its own, such as a new id`,
        );
      }
      pending.key = key;
      this.#inFlight.set(key, pending);
      if (--this.#insertsLeft === 0) this.#renew();
    } catch (error) {
      return this.#settle(pending, { error });
    }
    this.#stats.sent++;
    if (pending.attempts > 1) this.#stats.retransmissions++;
    pending.sentAt = runtime.now();
    const { plan: { timeoutMs, retries }, attempts } = pending;
    pending.deadline = pending.sentAt +
      waitMsOf(timeoutMs, retries, attempts, runtime);
    this.#checkAt(pending.deadline);
    this.#socket.post(payload, this.remoteAddr, pending);
  }

  /**
   * Moves the requests in flight to a new map. V8 links each former table of a
   * map to the next, so that one old dead table keeps all later ones alive, with
   * their requests, until the next full collection.
   */
  #renew(): void {
    this.#inFlight = new Map(this.#inFlight);
    this.#insertsLeft = Math.max(LEAST_RENEWED, 4 * this.#inFlight.size);
  }

  /** One timer serves all deadlines; it fires for the next one. */
  #checkAt(deadline: number): void {
    if (deadline >= this.#timerAt || this.#failure !== undefined) return;
    this.#cancelTimer();
    this.#timerAt = deadline;
    const waitMs = Math.max(0, deadline - this.#plan.runtime.now());
    this.#cancelTimer = this.#plan.runtime.after(
      waitMs,
      () => void this.#check().catch((error) => this.#end(error)),
    );
  }

  async #check(): Promise<void> {
    const now = this.#plan.runtime.now();
    // The timer may be late, with the replies in the socket.
    await this.#socket.drain?.();
    if (this.#failure !== undefined) return;
    this.#timerAt = Infinity;
    let next = Infinity;
    for (const pending of [...this.#inFlight.values()]) {
      if (pending.deadline > now) next = Math.min(next, pending.deadline);
      else if (pending.isSettled) continue;
      else if (pending.isRetried) this.#transmit(pending);
      else this.#timeOut(pending);
    }
    this.#sendWaiting();
    // At most once per millisecond, for deadlines that are close together.
    if (next < Infinity) this.#checkAt(Math.max(next, now + 1));
  }

  #timeOut(pending: Pending): void {
    if (pending.key !== undefined) this.#settled.set(pending.key, "late");
    const { remoteAddr } = this;
    const { attempts, report, replies, plan } = pending;
    this.#stats.lost++;
    this.#remove(pending);
    const error = timeoutError([remoteAddr], attempts, 0, report);
    pending.reject(
      incomplete(error, replies, plan.replies, remoteAddr),
    );
  }

  #settle(pending: Pending, { error }: { error: unknown }): void {
    if (pending.isSettled) return;
    this.#stats.errors++;
    if (pending.key !== undefined) this.#settled.set(pending.key, "late");
    this.#remove(pending);
    this.#waiting.delete(pending);
    pending.reject(error);
    // Later: a signal may end the next waiting requests too.
    queueMicrotask(() => this.#sendWaiting());
  }

  /** Removes a request that is settled. */
  #remove(pending: Pending): void {
    pending.isSettled = true;
    this.#vacate(pending);
  }

  #vacate(pending: Pending): void {
    if (this.#inFlight.get(pending.key) === pending) {
      this.#inFlight.delete(pending.key);
    }
  }

  #end(error: unknown): void {
    if (this.#failure !== undefined) return;
    this.#failure = { error };
    this.#forget();
    this.#cancelTimer();
    this.#socket.close();
    const all = [...this.#inFlight.values(), ...this.#waiting];
    this.#inFlight.clear();
    this.#waiting.clear();
    for (const pending of all) {
      pending.isSettled = true;
      pending.reject(error);
    }
    this.#observer.end();
    const isClosed = error instanceof Deno.errors.Interrupted;
    this.#unclaimed.end(isClosed ? undefined : { error });
  }
}

function isKey(key: unknown): key is Key {
  return typeof key === "string" ||
    typeof key === "number" && !Number.isNaN(key);
}

const MAX_SETTLED = 4096;
const LEAST_RENEWED = 1024;

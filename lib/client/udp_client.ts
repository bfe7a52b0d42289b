/**
 * One socket to one server, and any number of requests in flight on it.
 *
 * @module
 */
import type { UdpAddress } from "../address.ts";
import { encode } from "../encoding.ts";
import { isPortClosed, mayPass } from "../base/errors.ts";
import * as option from "../base/options.ts";
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
  replyOf,
  REQUEST,
  type RequestOptions,
  type RequestPlan,
  timeoutError,
  type UdpReply,
  waitMsOf,
} from "./exchange.ts";
import { comesFrom, type Ends, maxPayload, requireFit } from "./target.ts";
import { type ClientObserver, observeClient } from "./telemetry.ts";

/** The key that a reply shares with its request, and with no other. */
export type Key = number | string;

/** Options of a request on a {@linkcode UdpClient}. */
export type ClientRequestOptions<Decoded = unknown> = Pick<
  RequestOptions<Decoded>,
  "timeoutMs" | "retries" | "match" | "signal"
>;

/** The table of {@linkcode ClientRequestOptions}; the client has the defaults. */
export const CLIENT_REQUEST = {
  timeoutMs: option.dependent(REQUEST.timeoutMs),
  retries: option.dependent(REQUEST.retries),
  match: option.dependent(REQUEST.match),
  signal: REQUEST.signal,
} satisfies option.Table<ClientRequestOptions>;

/** A datagram that no request was waiting for. */
export type Unclaimed = Datagram;

/** The counts of a client. */
export interface ClientStats {
  /** Requests made. */
  requests: number;
  /** Requests answered. */
  answered: number;
  /** Requests that timed out, or whose port was reported closed. */
  lost: number;
  /** Requests that failed or were aborted. */
  errors: number;
  /** Datagrams sent, those of `send` and retransmissions included. */
  sent: number;
  /** Datagrams retransmitted. */
  retransmissions: number;
  /** Replies to requests that had timed out or failed. */
  late: number;
  /** Further replies to requests that had been answered. */
  duplicates: number;
  /** Datagrams from the server that no request waited for. */
  unmatched: number;
  /** Unmatched datagrams that were not iterated in time. */
  dropped: number;
  /** Datagrams from other addresses. */
  foreign: number;
}

/** One socket, and the requests on it. */
export interface UdpClient extends AsyncDisposable, AsyncIterable<Unclaimed> {
  /** The local address. */
  readonly addr: UdpAddress;
  /** The server's address. */
  readonly remoteAddr: UdpAddress;
  /**
   * Sends a request and gives its reply, as the function {@linkcode request}
   * does; time-outs and retries count from the first send.
   *
   * @param payload The payload.
   * @param options Time-out, retransmissions, `match` and signal.
   * @returns The reply. Rejects with a {@linkcode TimeoutError} if none arrives,
   * with the system's error if sending fails, and with `Deno.errors.Interrupted`
   * if the client is closed.
   */
  request<Decoded = unknown>(
    payload: Payload,
    options?: ClientRequestOptions<Decoded>,
  ): Promise<UdpReply<Decoded>>;
  /**
   * Sends a datagram without waiting for a reply.
   *
   * @returns Rejects with the system's error.
   */
  send(payload: Uint8Array | string): Promise<void>;
  /** A snapshot of the counts. */
  stats(): ClientStats;
  /** Closes the socket, and rejects all requests in flight or waiting. */
  close(): Promise<void>;
}

/** A request until it is settled. */
class Pending implements SendListener {
  attempts = 0;
  key: Key | undefined;
  sentAt = 0;
  /** The time at which it is retransmitted or times out. */
  deadline = Infinity;

  constructor(
    readonly client: Client,
    /** The bytes, or the function that makes them for each attempt. */
    readonly payload: Uint8Array | ((attempt: number) => Uint8Array | string),
    readonly plan: Pick<RequestPlan, "timeoutMs" | "retries" | "match">,
    readonly resolve: (reply: UdpReply) => void,
    readonly reject: (error: unknown) => void,
  ) {}

  onSendError(error: unknown): void {
    this.client.sendFailed(this, error);
  }
}

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
  #untaken = 0;
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

  request<Decoded = unknown>(
    payload: Payload,
    options?: ClientRequestOptions<Decoded>,
  ): Promise<UdpReply<Decoded>> {
    const { promise, resolve, reject } = Promise.withResolvers<UdpReply>();
    let pending: Pending;
    let own: option.Values<typeof CLIENT_REQUEST> | undefined;
    try {
      if (this.#failure !== undefined) throw this.#failure.error;
      if (options !== undefined) {
        own = option.readAll("UdpClient.request", CLIENT_REQUEST, options);
      }
      own?.signal?.throwIfAborted();
      pending = new Pending(
        this,
        typeof payload === "function" ? payload : encode(payload),
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
    return promise as Promise<UdpReply<Decoded>>;
  }

  async send(payload: Uint8Array | string): Promise<void> {
    if (this.#failure !== undefined) throw this.#failure.error;
    const bytes = encode(payload);
    requireFit(bytes.length, this.#maxBytes);
    this.#stats.sent++;
    await this.#socket.send(bytes, this.remoteAddr);
  }

  stats(): ClientStats {
    return { ...this.#stats };
  }

  close(): Promise<void> {
    this.#end(new Deno.errors.Interrupted("The client was closed"));
    return this.#finished;
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<Unclaimed> {
    for await (const datagram of this.#unclaimed) {
      this.#untaken--;
      yield datagram;
    }
  }

  onDatagram(datagram: Datagram): void {
    try {
      this.#take(datagram);
    } finally {
      this.#socket.release(datagram);
    }
  }

  onReceiveError(error: unknown): void {
    // A connected socket gets reports about its peer only.
    if (!isPortClosed(error) || !this.#socket.isConnected) return;
    for (const pending of [...this.#inFlight.values()]) {
      this.#timeOut(pending, error);
    }
    this.#sendWaiting();
  }

  /** A datagram of a request could not be sent. */
  sendFailed(pending: Pending, error: unknown): void {
    if (isPortClosed(error)) this.onReceiveError(error);
    else if (!mayPass(error) || pending.attempts > pending.plan.retries) {
      this.#settle(pending, { error });
    }
  }

  /** The plan of a request: its own options, and the client's. */
  #planOf(own: option.Values<typeof CLIENT_REQUEST>): Pending["plan"] {
    return {
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
    const isKeyed = this.#keyOf === undefined || key !== undefined;
    const pending = isKeyed ? this.#inFlight.get(key) : undefined;
    if (pending !== undefined && this.#answer(pending, datagram)) return;
    const settled = key === undefined ? undefined : this.#settled.get(key);
    if (pending === undefined && settled !== undefined) {
      this.#stats[settled]++;
      return;
    }
    this.#stats.unmatched++;
    if (this.#untaken >= MAX_UNTAKEN) {
      this.#stats.dropped++;
      return;
    }
    this.#untaken++;
    this.#unclaimed.push(new OwnedDatagram(datagram));
  }

  /** Settles a request by a datagram; returns whether it is settled. */
  #answer(pending: Pending, datagram: Datagram): boolean {
    let reply: UdpReply | undefined;
    try {
      const { remoteAddr } = this;
      const { attempts, sentAt, plan } = pending;
      reply = replyOf(datagram, plan.match, { remoteAddr, attempts, sentAt });
    } catch (error) {
      this.#settle(pending, { error });
      return true;
    }
    if (reply === undefined) return false;
    this.#stats.answered++;
    if (reply.rttMs !== undefined) this.#observer.rtt(reply.rttMs);
    if (pending.key !== undefined) {
      this.#settled.set(pending.key, "duplicates");
    }
    this.#remove(pending);
    pending.resolve(reply);
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
      payload = typeof pending.payload === "function"
        ? encode(pending.payload(pending.attempts))
        : pending.payload;
      requireFit(payload.length, this.#maxBytes);
      const key = this.#keyOf?.(payload);
      if (this.#keyOf !== undefined && key === undefined) {
        throw new TypeError(
          "'key()' must give a number or a string of a request",
        );
      }
      // The payload of another attempt may have another key.
      if (pending.attempts > 1) this.#remove(pending);
      if (this.#inFlight.has(key)) {
        throw new TypeError(
          `A request with the key ${key} is in flight already`,
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
    if (deadline >= this.#timerAt) return;
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
    await this.#socket.readEmpty();
    if (this.#failure !== undefined) return;
    this.#timerAt = Infinity;
    let next = Infinity;
    for (const pending of [...this.#inFlight.values()]) {
      if (pending.deadline > now) next = Math.min(next, pending.deadline);
      else if (pending.attempts <= pending.plan.retries) {
        this.#transmit(pending);
      } else this.#timeOut(pending, undefined);
    }
    this.#sendWaiting();
    // At most once per millisecond, for deadlines that are close together.
    if (next < Infinity) this.#checkAt(Math.max(next, now + 1));
  }

  #timeOut(pending: Pending, portClosed: unknown): void {
    if (pending.key !== undefined) this.#settled.set(pending.key, "late");
    const { attempts } = pending;
    this.#stats.lost++;
    this.#remove(pending);
    pending.reject(timeoutError(this.remoteAddr, attempts, 0, portClosed));
  }

  #settle(pending: Pending, { error }: { error: unknown }): void {
    this.#stats.errors++;
    if (pending.key !== undefined) this.#settled.set(pending.key, "late");
    this.#remove(pending);
    this.#waiting.delete(pending);
    pending.reject(error);
    // Later: a signal may end the next waiting requests too.
    queueMicrotask(() => this.#sendWaiting());
  }

  #remove(pending: Pending): void {
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
    for (const pending of all) pending.reject(error);
    this.#observer.end();
    const isClosed = error instanceof Deno.errors.Interrupted;
    this.#unclaimed.end(isClosed ? undefined : { error });
  }
}

const MAX_SETTLED = 4096;
const LEAST_RENEWED = 1024;
const MAX_UNTAKEN = 1024;

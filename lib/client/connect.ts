/**
 * The client that asks one server many times: one socket, and any number of
 * requests in flight on it.
 *
 * @module
 */
import type { UdpAddress } from "../address.ts";
import { encode } from "../encoding.ts";
import { isPortClosed } from "../base/errors.ts";
import * as option from "../base/options.ts";
import { EventQueue } from "../base/event_queue.ts";
import {
  EXCHANGE,
  type Payload,
  planRequest,
  replyOf,
  REQUEST,
  type RequestOptions,
  type RequestPlan,
  timeoutError,
  type UdpReply,
  waitMsOf,
} from "./exchange.ts";
import { RecentMap } from "../base/recent_map.ts";
import type {
  DatagramSocket,
  Receiver,
  SendErrorListener,
} from "../socket/contract.ts";
import { type Datagram, OwnedDatagram } from "../socket/datagram.ts";
import {
  comesFrom,
  type Ends,
  maxPayload,
  requireFit,
  resolveEnds,
} from "./target.ts";
import { clientCounts, follow, recordRtt, UDP } from "../base/telemetry.ts";

/** What a reply has in common with its request, and with no other. */
export type Key = number | string;

/** Options of {@linkcode connect}. */
export interface ConnectOptions
  extends Omit<RequestOptions, "match" | "signal"> {
  /**
   * Gives what a request and its reply have in common and no other request in
   * flight has, such as the id of a DNS message. It is called with the payloads
   * of both; `undefined` is for datagrams that are no reply. Without it one
   * request is in flight at a time, and the others wait.
   *
   * It is no protection: the port stays the same, so that ids that can be guessed
   * can be forged (RFC 5452). `request` has a new port each time.
   */
  key?: ((data: Uint8Array) => Key | undefined) | undefined;
  /**
   * How many requests may be in flight, 1 to 65,536; the others wait in order.
   *
   * @default {256}
   */
  maxInFlight?: number | undefined;
  /** Closes the client when aborted. */
  signal?: AbortSignal | undefined;
}

/** The table of {@linkcode ConnectOptions}. */
export const CONNECT = {
  ...EXCHANGE,
  key: option.callback(),
  maxInFlight: option.integer(1, 65_536, 256),
} satisfies option.Table<ConnectOptions>;

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

/** What a client has counted so far. */
export interface ClientStats {
  /** Requests that were made. */
  requests: number;
  /** Requests that were answered. */
  answered: number;
  /** Datagrams sent, those of `send` and those sent again included. */
  sent: number;
  /** Datagrams sent again. */
  retransmissions: number;
  /** Replies to requests that had been given up. */
  late: number;
  /** Further replies to requests that had been answered. */
  duplicates: number;
  /** Datagrams from the server that no request waited for. */
  unmatched: number;
  /** Of these, how many were left out as nobody iterated them in time. */
  dropped: number;
  /** Datagrams from elsewhere. */
  foreign: number;
}

/** One socket, and the requests on it. */
export interface UdpClient extends AsyncDisposable, AsyncIterable<Unclaimed> {
  /** The local address. */
  readonly addr: UdpAddress;
  /** Whom it asks. */
  readonly remoteAddr: UdpAddress;
  /**
   * Sends a request and gives its reply, as the function {@linkcode request}
   * does; time-outs and retries count from the first send.
   *
   * @param payload What to send.
   * @param options How long to wait, how often to send again.
   * @returns The reply. Rejects with a {@linkcode TimeoutError} if none comes,
   * with the system's error if sending fails, and with `Deno.errors.Interrupted`
   * if the client is closed.
   */
  request<Decoded = unknown>(
    payload: Payload,
    options?: ClientRequestOptions<Decoded>,
  ): Promise<UdpReply<Decoded>>;
  /**
   * Sends a datagram that nothing is expected for.
   *
   * @returns Rejects with the system's error.
   */
  send(payload: Uint8Array | string): Promise<void>;
  /** A snapshot of the counts. */
  stats(): ClientStats;
  /** Closes the socket, and rejects all that is in flight or waits. */
  close(): Promise<void>;
}

/**
 * Opens a socket for many requests to one server.
 *
 * Iterated, the client gives what the server sends and no request waits for, up
 * to 1,024 of them until they are taken; what is more is counted as `dropped`.
 *
 * @param address Whom to ask, as for `request`.
 * @param options What tells replies apart, how many are in flight, and the
 * defaults of its requests.
 * @returns The client, once a name is resolved.
 * @throws {RangeError} If a number is out of range.
 * @throws {SyntaxError} If the address does not parse.
 * @throws {TypeError} If an option is unknown or of a wrong type, or the
 * address cannot be asked.
 * @throws {Deno.errors.NotFound} If the name does not resolve.
 *
 * @example
 * ```ts
 * import { connect, serve } from "@roundtrip/udp";
 * import { assertEquals } from "@std/assert";
 *
 * await using server = serve((data) => data);
 * await using client = await connect(server.addr, { key: (data) => data[0] });
 * const replies = await Promise.all(
 *   [1, 2, 3].map((id) => client.request(new Uint8Array([id, 7]))),
 * );
 * assertEquals(replies.map(({ data }) => data[0]), [1, 2, 3]);
 * ```
 */
export async function connect(
  address: UdpAddress | string,
  options: ConnectOptions = {},
): Promise<UdpClient> {
  const values = option.readAll("connect", CONNECT, options);
  const { key, maxInFlight, signal } = values;
  const plan = planRequest(address, "", values);
  signal?.throwIfAborted();
  const ends = await resolveEnds(plan.ends, plan.runtime);
  signal?.throwIfAborted();
  return new Client(
    plan,
    ends,
    key,
    key === undefined ? 1 : maxInFlight,
    signal,
  );
}

/** A request, from when it is made until it is settled. */
class Pending implements SendErrorListener {
  attempts = 0;
  key: Key | undefined;
  sentAt = 0;
  /** When it is sent again, or given up. */
  deadline = Infinity;
  readonly #client: Client;

  constructor(
    client: Client,
    /** The bytes, or what makes them for each attempt. */
    readonly payload: Uint8Array | ((attempt: number) => Uint8Array | string),
    readonly plan: Pick<RequestPlan, "timeoutMs" | "retries" | "match">,
    readonly resolve: (reply: UdpReply) => void,
    readonly reject: (error: unknown) => void,
  ) {
    this.#client = client;
  }

  onSendError(error: unknown): void {
    this.#client.sendFailed(this, error);
  }
}

class Client implements UdpClient, Receiver {
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
    sent: 0,
    retransmissions: 0,
    late: 0,
    duplicates: 0,
    unmatched: 0,
    dropped: 0,
    foreign: 0,
  };
  /** Those in flight, by their keys. */
  #inFlight = new Map<Key | undefined, Pending>();
  /** How many more it takes before another map takes its place. */
  #insertsLeft = LEAST_RENEWED;
  /** Those that wait for their turn, oldest first. */
  readonly #waiting = new Set<Pending>();
  /** What became of the latest requests, by their keys. */
  readonly #settled = new RecentMap<Key, "duplicates" | "late">(MAX_SETTLED);
  readonly #unclaimed = new EventQueue<Unclaimed>();
  #untaken = 0;
  /** Requests given up, and those that failed. */
  #lost = 0;
  #failed = 0;
  readonly #isCounted: boolean;
  readonly #unfollow: () => void;
  readonly #maxBytes: number;
  #timerAt = Infinity;
  #cancelTimer = () => {};
  #failure: { error: unknown } | undefined;

  constructor(
    plan: RequestPlan,
    { target, local, telemetry }: Ends,
    keyOf: ((data: Uint8Array) => Key | undefined) | undefined,
    maxInFlight: number,
    signal: AbortSignal | undefined,
  ) {
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
    this.#isCounted = telemetry;
    this.#unfollow = !telemetry ? () => {} : follow(UDP, () => ({
      counts: clientCounts({
        ...this.#stats,
        received: this.#stats.answered,
        lost: this.#lost,
        errors: this.#failed,
      }),
    }));
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
    requireFit(bytes.length, this.remoteAddr.hostname);
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
    // Of a connected socket: it is about this server, and about what it was sent.
    if (!isPortClosed(error) || !this.#socket.isConnected) return;
    for (const pending of [...this.#inFlight.values()]) {
      this.#giveUp(pending, error);
    }
    this.#sendWaiting();
  }

  /** A datagram of a request could not be sent. */
  sendFailed(pending: Pending, error: unknown): void {
    if (isPortClosed(error)) this.onReceiveError(error);
    else this.#settle(pending, { error });
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
      // What the user's function cannot read is no reply.
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

  /** Whether a datagram is the reply to a request, or ends it by an error. */
  #answer(pending: Pending, datagram: Datagram): boolean {
    let reply: UdpReply | undefined;
    try {
      const { attempts, sentAt, plan } = pending;
      reply = replyOf(datagram, plan.match, {
        remoteAddr: this.remoteAddr,
        attempts,
        sentAt,
      });
    } catch (error) {
      this.#settle(pending, { error });
      return true;
    }
    if (reply === undefined) return false;
    this.#stats.answered++;
    if (reply.rttMs !== undefined && this.#isCounted) recordRtt(reply.rttMs);
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
      if (payload.length > this.#maxBytes) {
        requireFit(payload.length, this.remoteAddr.hostname);
      }
      const key = this.#keyOf?.(payload);
      if (this.#keyOf !== undefined && key === undefined) {
        throw new TypeError(
          "'key()' must give a number or a string of a request",
        );
      }
      // What is made anew for each attempt may have another one.
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
    pending.deadline = pending.sentAt + waitMsOf(timeoutMs, retries, attempts);
    this.#checkAt(pending.deadline);
    this.#socket.post(payload, this.remoteAddr, pending);
  }

  /**
   * Moves those in flight to a new map. V8 links each table that a map had to the
   * next one, so that one dead table that has grown old keeps all later ones
   * alive, with every request that was in them, until the next full collection.
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
    this.#cancelTimer = this.#plan.runtime.after(waitMs, () => this.#check());
  }

  #check(): void {
    this.#timerAt = Infinity;
    const now = this.#plan.runtime.now();
    let next = Infinity;
    for (const pending of [...this.#inFlight.values()]) {
      if (pending.deadline > now) next = Math.min(next, pending.deadline);
      else if (pending.attempts <= pending.plan.retries) {
        this.#transmit(pending);
      } else this.#giveUp(pending, undefined);
    }
    this.#sendWaiting();
    // Not for each of many that follow each other closely.
    if (next < Infinity) this.#checkAt(Math.max(next, now + 1));
  }

  #giveUp(pending: Pending, portClosed: unknown): void {
    if (pending.key !== undefined) this.#settled.set(pending.key, "late");
    const { attempts } = pending;
    this.#lost++;
    const error = timeoutError(this.remoteAddr, attempts, 0, portClosed);
    this.#remove(pending);
    pending.reject(error);
  }

  #settle(pending: Pending, { error }: { error: unknown }): void {
    this.#failed++;
    if (pending.key !== undefined) this.#settled.set(pending.key, "late");
    this.#remove(pending);
    this.#waiting.delete(pending);
    pending.reject(error);
    // Not at once: a signal may end those that wait next too.
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
    this.#unfollow();
    const isClosed = error instanceof Deno.errors.Interrupted;
    this.#unclaimed.end(isClosed ? undefined : { error });
  }
}

const MAX_SETTLED = 4096;
const LEAST_RENEWED = 1024;
const MAX_UNTAKEN = 1024;

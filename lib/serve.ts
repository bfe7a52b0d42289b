/**
 * The server: one loop that hands each datagram to a handler and sends what it
 * returns.
 *
 * @module
 */
import { canonicalHostname, isLocalhost, type UdpAddress } from "./address.ts";
import { encode } from "./encoding.ts";
import {
  requireInteger,
  requireMs,
  requireOptions,
  requireSignal,
  requireType,
} from "./errors.ts";
import {
  checkGuardOptions,
  Guard,
  type GuardOptions,
  type Refusal,
  REFUSALS,
} from "./guard.ts";
import { LoopWatch, noLoops } from "./loop_watch.ts";
import { type Engine, type Runtime, runtimeOf } from "./runtime.ts";
import {
  type Datagram,
  type DatagramSocket,
  MAX_PAYLOAD,
  type Receiver,
} from "./socket.ts";

/** What a handler gets of a datagram besides its payload. */
export interface DatagramInfo {
  /** Where it came from. An IPv4-mapped peer is shown as IPv4. */
  readonly remoteAddr: UdpAddress;
}

/** A payload to answer with, text as UTF-8; `undefined` or `null` is silence. */
export type Reply = Uint8Array | string | null | undefined | void;

/**
 * Makes the reply to one datagram.
 *
 * The bytes of `data` belong to the server, which receives the next datagrams
 * into them once the handler has settled and its reply is sent: keep them with
 * `data.slice()`. Returning `data`, or a part of it, is an echo without a copy.
 * A returned array must not be changed before it is sent; best not at all.
 */
export type Handler = (
  data: Uint8Array<ArrayBuffer>,
  info: DatagramInfo,
) => Reply | Promise<Reply>;

/** Options of {@linkcode serve}. */
export interface ServeOptions {
  /**
   * The local IP address or host name to bind; `::` takes IPv4 and IPv6.
   *
   * @default {"127.0.0.1"}
   */
  hostname?: string | undefined;
  /**
   * The local port, 0 to 65,535; 0 takes any that is free.
   *
   * @default {0}
   */
  port?: number | undefined;
  /**
   * Longer datagrams are dropped whole and counted, never cut. 1 to 65,527
   * bytes.
   *
   * @default {65527}
   */
  maxDatagramBytes?: number | undefined;
  /**
   * How many datagrams may be in the handler at once, or with a reply that the
   * system has not taken yet, 1 to 65,536. What comes above that is dropped and
   * counted. On the linux engine replies on their way out do not count, since
   * they take no more memory.
   *
   * @default {256}
   */
  maxInFlight?: number | undefined;
  /**
   * How long a handler may take, in milliseconds, 1 to 86,400,000 (a day).
   * After that its datagram counts as unanswered, with an error, and a reply
   * that still comes is not sent: handlers that never settle cannot fill
   * `maxInFlight` for good, nor hold up `shutdown()`.
   *
   * @default {10000}
   */
  handlerTimeoutMs?: number | undefined;
  /**
   * Limits on who is answered, and with how much; `false` answers everyone and
   * anything, loops included. The handler gets every datagram: only an answer
   * is withheld.
   *
   * @default {{}}
   */
  guard?: GuardOptions | false | undefined;
  /**
   * Called for each datagram that the guard leaves unanswered, and why.
   *
   * @default {() => undefined}
   */
  onRefuse?: ((reason: Refusal, info: DatagramInfo) => void) | undefined;
  /**
   * Shuts down after so many replies, and takes no more datagrams than it may
   * still answer. 1 to 1,000,000,000.
   *
   * @default {no limit}
   */
  maxReplies?: number | undefined;
  /** Closes the server at once when aborted, without waiting for handlers. */
  signal?: AbortSignal | undefined;
  /** Called with the bound address before `serve` returns. */
  onListen?: ((addr: UdpAddress) => void) | undefined;
  /**
   * Called for everything that goes wrong while the server goes on: a handler
   * that throws or rejects or returns something that is no reply, a reply that
   * cannot be sent, and, without `info`, a failed receive or a fast path that
   * the system refuses and that is turned off. For a handler that throws or
   * rejects, what it returns is the reply.
   *
   * @default {() => undefined}
   */
  onError?:
    | ((error: unknown, info?: DatagramInfo) => Reply | Promise<Reply>)
    | undefined;
  /**
   * How sockets are made, see {@linkcode Engine}.
   *
   * @default {"deno"}
   */
  engine?: Engine | undefined;
  /**
   * Whether to share the port with other servers that do (SO_REUSEPORT), on the
   * linux engine: the kernel spreads the peers over them.
   *
   * @default {false}
   */
  reusePort?: boolean | undefined;
  /**
   * Sockets and time; for tests.
   *
   * @default {runtimeFor(engine)}
   */
  runtime?: Runtime | undefined;
}

/** The defaults of {@linkcode ServeOptions}. */
export const SERVE_DEFAULTS = {
  hostname: "127.0.0.1",
  port: 0,
  maxDatagramBytes: MAX_PAYLOAD,
  maxInFlight: 256,
  handlerTimeoutMs: 10_000,
  reusePort: false,
} as const;

/**
 * What a server has counted so far. `received` is the sum of `replied`,
 * `unanswered`, all of `dropped` and `refused`, `errors.send`, and what is still
 * in flight.
 */
export interface ServerStats {
  /** Datagrams that came in. */
  received: number;
  /** Replies that were sent. */
  replied: number;
  /** Datagrams whose handler gave no reply, by choice or by failing. */
  unanswered: number;
  /** Datagrams that no handler's reply was sent for, and why. */
  dropped: {
    /** Longer than `maxDatagramBytes`. */
    tooLong: number;
    /** More than `maxInFlight` at once. */
    overload: number;
    /** Came, or was still with its handler, when the server closed. */
    closing: number;
  };
  /** Datagrams whose answer the guard withheld, and why. */
  refused: Record<Refusal, number>;
  /** What went wrong, while the server went on. */
  errors: {
    /** Handlers that threw, rejected, took too long, or returned no reply. */
    handler: number;
    /** Replies that could not be sent. */
    send: number;
    /** Receives that failed. */
    receive: number;
  };
}

/** A running server. */
export interface UdpServer extends AsyncDisposable {
  /** The bound address, the port never 0. */
  readonly addr: UdpAddress;
  /**
   * Resolves when the server has closed; rejects with the system's error if
   * receiving fails for good.
   */
  readonly finished: Promise<void>;
  /**
   * Stops taking datagrams, waits for the handlers at work and their replies,
   * then closes. Every call returns the same promise.
   */
  shutdown(): Promise<void>;
  /** A snapshot of the counts. */
  stats(): ServerStats;
  /** Lets the server keep the process alive, as it does at first. */
  ref(): void;
  /** Lets the process end while the server is running. */
  unref(): void;
}

/**
 * Answers UDP datagrams, on 127.0.0.1 at any port that is free unless options
 * say otherwise, which come first: `serve(options, handler)`.
 *
 * The library never prints: without `onError`, errors are only counted.
 *
 * @param handler Makes the reply to each datagram.
 * @returns The running server.
 * @throws {RangeError} If a number among the options is out of range.
 * @throws {TypeError} If an option, or the handler, is of a wrong type.
 * @throws {Deno.errors.NotFound} If `hostname` is a name that does not resolve.
 * @throws {Deno.errors.AddrInUse} If the port is taken.
 * @throws {Deno.errors.AddrNotAvailable} If `hostname` is not this machine's.
 * @throws {Deno.errors.NotCapable} Without permission to use the address.
 * @throws {Deno.errors.NotSupported} If Deno runs without its unstable net API.
 *
 * @example
 * ```ts
 * import { request, serve } from "@roundtrip/udp";
 * import { assertEquals } from "@std/assert";
 *
 * await using server = serve({ port: 0 }, (data) => data);
 * const reply = await request(server.addr, "ping");
 * assertEquals(reply.data, new TextEncoder().encode("ping"));
 * ```
 */
export function serve(handler: Handler): UdpServer;
/**
 * Answers UDP datagrams, as {@linkcode serve} with a handler alone does, with
 * options.
 *
 * @param options Where to listen, and the limits.
 * @param handler Makes the reply to each datagram.
 * @returns The running server.
 */
export function serve(options: ServeOptions, handler: Handler): UdpServer;
export function serve(
  ...args: [Handler] | [ServeOptions, Handler]
): UdpServer {
  const [options, handler] = args.length > 1
    ? args as [ServeOptions, Handler]
    : [{} as ServeOptions, args[0] as Handler];
  requireOptions("options", options);
  const {
    hostname = SERVE_DEFAULTS.hostname,
    port = SERVE_DEFAULTS.port,
    maxDatagramBytes = SERVE_DEFAULTS.maxDatagramBytes,
    maxInFlight = SERVE_DEFAULTS.maxInFlight,
    handlerTimeoutMs = SERVE_DEFAULTS.handlerTimeoutMs,
    reusePort = SERVE_DEFAULTS.reusePort,
    guard = {},
    maxReplies = Infinity,
    signal,
    onListen = () => {},
    onError = () => undefined,
    onRefuse = () => {},
  } = options;
  requireSignal(signal);
  requireType("hostname", "string", hostname);
  requireInteger("port", port, 0, 65_535);
  requireInteger("maxDatagramBytes", maxDatagramBytes, 1, MAX_PAYLOAD);
  requireInteger("maxInFlight", maxInFlight, 1, 65_536);
  requireMs("handlerTimeoutMs", handlerTimeoutMs, 1);
  requireType("reusePort", "boolean", reusePort);
  if (maxReplies !== Infinity) {
    requireInteger("maxReplies", maxReplies, 1, 1_000_000_000);
  }
  if (guard !== false) checkGuardOptions(guard);
  requireType("handler", "function", handler);
  requireType("onListen", "function", onListen);
  requireType("onError", "function", onError);
  requireType("onRefuse", "function", onRefuse);
  const runtime = runtimeOf(options);
  signal?.throwIfAborted();
  const open = (hostname: string) =>
    runtime.open({
      hostname,
      port,
      maxDatagramBytes,
      isServer: true,
      reusePort,
    });
  const socket = isLocalhost(hostname)
    ? openLocalhost(open)
    : open(canonicalHostname(hostname));
  try {
    onListen(socket.addr);
  } catch (error) {
    socket.close();
    throw error;
  }
  return new Server(socket, {
    handler,
    onError,
    maxInFlight,
    maxReplies,
    handlerTimeoutMs,
    onRefuse,
    runtime,
    signal,
    guard: guard === false ? undefined : new Guard(guard, socket.addr, runtime),
  });
}

/** Where a client looks for it first, whatever the order of the hosts file. */
function openLocalhost(
  open: (hostname: string) => DatagramSocket,
): DatagramSocket {
  try {
    return open("127.0.0.1");
  } catch (error) {
    // The permission may be for the name.
    if (error instanceof Deno.errors.NotCapable) return open("localhost");
    throw error;
  }
}

interface ServerOptions {
  handler: Handler;
  onError: NonNullable<ServeOptions["onError"]>;
  maxInFlight: number;
  maxReplies: number;
  handlerTimeoutMs: number;
  guard: Guard | undefined;
  onRefuse: NonNullable<ServeOptions["onRefuse"]>;
  runtime: Runtime;
  signal: AbortSignal | undefined;
}

class Server implements UdpServer, Receiver {
  readonly addr: UdpAddress;
  readonly finished: Promise<void>;
  readonly #socket: DatagramSocket;
  readonly #options: ServerOptions;
  readonly #loops: LoopWatch<{ datagram: Datagram; payload: Uint8Array }>;
  readonly #isNoLoop: ((data: Uint8Array) => boolean) | undefined;
  readonly #stats = noStats();
  /** Datagrams with an asynchronous handler, and until when it may take. */
  readonly #waiting = new Map<Pending, number>();
  #cancelCheck: (() => void) | undefined;
  /** Datagrams whose handler has not settled. */
  #atWork = 0;
  /** Replies that the system has neither taken nor refused yet. */
  #unsent = 0;
  #draining = false;
  #closed = false;

  constructor(socket: DatagramSocket, options: ServerOptions) {
    this.#socket = socket;
    this.#options = options;
    this.#isNoLoop = noLoops.get(options.handler);
    this.#loops = new LoopWatch({
      now: () => options.runtime.now(),
      after: (ms, callback) => options.runtime.after(ms, callback),
      send: ({ datagram, payload }) => this.#send(datagram, payload),
      drop: ({ datagram }) => this.#withhold(datagram, "loop"),
    });
    this.addr = socket.addr;
    const close = () => this.#close();
    options.signal?.addEventListener("abort", close);
    this.finished = socket.start(this).finally(() => {
      this.#closed = true;
      this.#cancelCheck?.();
      this.#loops.release();
      options.signal?.removeEventListener("abort", close);
    });
    // By `onListen`, before there was anyone to hear of it.
    if (options.signal?.aborted) close();
  }

  shutdown(): Promise<void> {
    this.#draining = true;
    this.#loops.release();
    // Closing first would lose the replies: Deno cannot stop a receive in any
    // other way than by closing the socket.
    this.#closeIfDrained();
    return this.finished;
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.shutdown();
  }

  stats(): ServerStats {
    return structuredClone(this.#stats);
  }

  ref(): void {
    this.#socket.ref();
  }

  unref(): void {
    this.#socket.unref();
  }

  onDatagram(datagram: Datagram): void {
    const { maxReplies } = this.#options;
    this.#stats.received++;
    if (
      this.#draining || this.#closed ||
      this.#stats.replied + this.#atWork + this.#unsent >= maxReplies
    ) {
      this.#stats.dropped.closing++;
      return this.#socket.release(datagram);
    }
    if (this.isFull()) {
      this.#stats.dropped.overload++;
      return this.#socket.release(datagram);
    }
    const info = { remoteAddr: datagram.remoteAddr };
    this.#atWork++;
    let reply: Reply | Promise<Reply>;
    try {
      reply = this.#options.handler(datagram.data, info);
    } catch (error) {
      reply = this.#handlerFailed(error, info);
    }
    // The usual case, without a promise.
    if (reply instanceof Uint8Array) this.#answer(datagram, reply);
    else if (!isPromiseLike(reply)) this.#respond(datagram, reply, info);
    else this.#whenSettled({ datagram }, reply, info);
  }

  isFull(): boolean {
    const unsent = this.#socket.copiesReplies ? 0 : this.#unsent;
    const held = this.#atWork + unsent - this.#loops.kept;
    return held >= this.#options.maxInFlight;
  }

  onTooLong(): void {
    this.#stats.received++;
    this.#stats.dropped.tooLong++;
  }

  onReplied(count: number): void {
    this.#stats.replied += count;
    if (this.#stats.replied >= this.#options.maxReplies) this.#draining = true;
    this.#unsent -= count;
    this.#closeIfDrained();
  }

  onReplyError(error: unknown, remoteAddr: UdpAddress, count: number): void {
    this.#stats.errors.send += count;
    this.#report(error, { remoteAddr });
    this.#unsent -= count;
    this.#closeIfDrained();
  }

  onNotice(notice: Error): void {
    this.#report(notice);
  }

  onReceiveError(error: unknown): void {
    this.#stats.errors.receive++;
    this.#report(error);
  }

  async #whenSettled(
    pending: Pending,
    settled: PromiseLike<Reply>,
    info: DatagramInfo,
  ): Promise<void> {
    const { runtime, handlerTimeoutMs } = this.#options;
    this.#waiting.set(pending, runtime.now() + handlerTimeoutMs);
    this.#cancelCheck ??= runtime.after(
      handlerTimeoutMs,
      () => this.#checkWaiting(),
    );
    let reply: Reply;
    try {
      reply = await settled;
    } catch (error) {
      if (pending.datagram === undefined) return;
      reply = await this.#handlerFailed(error, info);
    }
    const { datagram } = pending;
    this.#waiting.delete(pending);
    if (datagram !== undefined) this.#respond(datagram, reply, info);
  }

  /** Gives up on handlers that take too long. One timer serves them all. */
  #checkWaiting(): void {
    const { runtime, handlerTimeoutMs } = this.#options;
    this.#cancelCheck = undefined;
    for (const [pending, deadline] of this.#waiting) {
      const leftMs = deadline - runtime.now();
      if (leftMs > 0) {
        this.#cancelCheck = runtime.after(leftMs, () => this.#checkWaiting());
        return;
      }
      const { remoteAddr } = this.#giveUp(pending);
      this.#handlerFailed(
        new Error(`Handler has not settled within ${handlerTimeoutMs} ms`),
        { remoteAddr },
      );
      this.#stats.unanswered++;
      this.#done();
    }
  }

  /**
   * Waits no more for a handler. It may still use the buffer, so that another
   * takes its place; and the promise, which may never settle, keeps neither.
   */
  #giveUp(pending: Pending): Datagram {
    const datagram = pending.datagram!;
    pending.datagram = undefined;
    this.#waiting.delete(pending);
    this.#socket.abandon(datagram);
    return datagram;
  }

  /** Sends what a handler returned, if it is a reply. */
  #respond(datagram: Datagram, reply: unknown, info: DatagramInfo): void {
    if (typeof reply === "string") reply = encode(reply);
    if (reply instanceof Uint8Array) return this.#answer(datagram, reply);
    if (reply !== undefined && reply !== null) {
      this.#handlerFailed(
        new TypeError(
          `Cannot reply as the handler must return a Uint8Array, a string, null or undefined: it returned ${typeof reply}`,
        ),
        info,
      );
    }
    this.#stats.unanswered++;
    this.#socket.release(datagram);
    this.#done();
  }

  #answer(datagram: Datagram, payload: Uint8Array): void {
    const { data, remoteAddr } = datagram;
    const { guard } = this.#options;
    const refusal = guard?.admit(remoteAddr) ??
      guard?.permit(remoteAddr, data, payload);
    if (refusal !== undefined) return this.#withhold(datagram, refusal);
    const isKept = guard !== undefined && !this.#draining &&
      !this.#isNoLoop?.(data) &&
      this.#loops.hasToWait(remoteAddr, datagram.receivedAt);
    // A copy, since a handler may use its array again by then.
    if (isKept) this.#loops.keep({ datagram, payload: payload.slice() });
    else this.#send(datagram, payload);
  }

  #send(datagram: Datagram, payload: Uint8Array): void {
    if (this.#closed) {
      this.#stats.dropped.closing++;
      return this.#done();
    }
    this.#atWork--;
    this.#unsent++;
    this.#socket.reply(datagram, payload);
  }

  /** Sends no answer, though the handler made one. */
  #withhold(datagram: Datagram, reason: Refusal): void {
    this.#refuse(reason, { remoteAddr: datagram.remoteAddr });
    this.#socket.release(datagram);
    this.#done();
  }

  #refuse(reason: Refusal, info: DatagramInfo): void {
    this.#stats.refused[reason]++;
    try {
      const returned: unknown = this.#options.onRefuse(reason, info);
      // An async function is no mistake, and what it rejects with is no crash.
      if (isPromiseLike(returned)) {
        Promise.resolve(returned).catch((error) => this.#report(error, info));
      }
    } catch (error) {
      this.#report(error, info);
    }
  }

  /** What `onError` makes of a handler's error; its own errors end here. */
  #handlerFailed(error: unknown, info: DatagramInfo): Reply | Promise<Reply> {
    this.#stats.errors.handler++;
    return this.#report(error, info);
  }

  #report(error: unknown, info?: DatagramInfo): Reply | Promise<Reply> {
    try {
      const reply = this.#options.onError(error, info);
      return isPromiseLike(reply)
        ? Promise.resolve(reply).catch(() => undefined)
        : reply;
    } catch {
      return undefined;
    }
  }

  /** A datagram gets no reply. */
  #done(): void {
    this.#atWork--;
    this.#closeIfDrained();
  }

  #closeIfDrained(): void {
    if (this.#draining && this.#atWork + this.#unsent === 0) this.#close();
  }

  #close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#socket.close();
    // What their handlers still make of them is not sent.
    for (const pending of this.#waiting.keys()) {
      this.#giveUp(pending);
      this.#stats.dropped.closing++;
      this.#atWork--;
    }
  }
}

/** A datagram with an asynchronous handler; none once that is given up. */
interface Pending {
  datagram: Datagram | undefined;
}

/** What a server has counted that has just begun. */
export function noStats(): ServerStats {
  return {
    received: 0,
    replied: 0,
    unanswered: 0,
    dropped: { tooLong: 0, overload: 0, closing: 0 },
    refused: Object.fromEntries(
      REFUSALS.map((reason) => [reason, 0]),
    ) as Record<Refusal, number>,
    errors: { handler: 0, send: 0, receive: 0 },
  };
}

/** Whether a value is to be awaited, which never throws: `then` may. */
function isPromiseLike(value: unknown): value is PromiseLike<Reply> {
  try {
    return typeof (value as PromiseLike<Reply> | null)?.then === "function";
  } catch {
    return true;
  }
}

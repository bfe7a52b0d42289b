/**
 * The client: one datagram, its retransmissions, and its reply.
 *
 * @module
 */
import {
  canonicalHostname,
  formatAddress,
  ipVersion,
  isWildcard,
  parseAddress,
  type UdpAddress,
} from "./address.ts";
import { encode } from "./encoding.ts";
import {
  isRefusal,
  MAX_MS,
  requireInteger,
  requireMs,
  TimeoutError,
} from "./errors.ts";
import {
  type Engine,
  resolveHost,
  type Runtime,
  runtimeFor,
} from "./runtime.ts";
import {
  type Datagram,
  type DatagramSocket,
  MAX_PAYLOAD_IPV4,
  MAX_PAYLOAD_IPV6,
  type Receiver,
} from "./socket.ts";

/** Options of {@linkcode request}. */
export interface RequestOptions {
  /**
   * How long to wait for the reply before the first retransmission, in
   * milliseconds, from 1 to 86,400,000 (a day). The wait doubles with each retransmission (RFC
   * 8085, section 3.1.1), up to a minute or this value, the larger.
   *
   * @default {1000}
   */
  timeoutMs?: number;
  /**
   * How often to send again when no reply comes, 0 to 100.
   *
   * @default {2}
   */
  retries?: number;
  /**
   * The local IP address or host name to send from.
   *
   * @default {"0.0.0.0" or "::", as the target is}
   */
  localHostname?: string;
  /**
   * Longer datagrams are ignored, never cut. 1 to 65,527 bytes.
   *
   * @default {65527}
   */
  maxDatagramBytes?: number;
  /** Says whether a datagram is the reply; what is not is ignored. */
  match?: (data: Uint8Array) => boolean;
  /** Gives up when aborted; the promise rejects with its reason. */
  signal?: AbortSignal;
  /**
   * How sockets are made, see {@linkcode Engine}.
   *
   * @default {"deno"}
   */
  engine?: Engine;
  /**
   * Sockets, names and time; for tests.
   *
   * @default {runtimeFor(engine)}
   */
  runtime?: Runtime;
}

/** A reply. */
export interface UdpReply {
  /** The payload; the caller's own. */
  data: Uint8Array<ArrayBuffer>;
  /** Where it came from: the address that was asked. */
  remoteAddr: UdpAddress;
  /**
   * The round-trip time in milliseconds, from just before the send until the
   * reply was read. Undefined after a retransmission, since nobody can say
   * which of the datagrams was answered (Karn's algorithm, RFC 8085, section
   * 3.1.1).
   */
  rttMs: number | undefined;
  /** How many times the datagram was sent. */
  attempts: number;
}

/**
 * Sends a datagram and gives the reply.
 *
 * Each request has a socket and port of its own, and only what comes from the
 * address that it asked is a reply.
 *
 * @param address Whom to ask: an address, or `"HOST:PORT"`. A name is resolved
 * once; of its addresses, IPv4 is preferred unless `localHostname` is IPv6.
 * @param payload 0 to 65,507 bytes (IPv6: 65,527); text is sent as UTF-8. Bytes
 * are lent until the promise settles.
 * @param options How long to wait, how often to send again.
 * @returns The reply.
 * @throws {TimeoutError} If no reply comes. A closed port looks like loss, but
 * on the linux engine: there the error comes at once, and its `cause` says so.
 * @throws {RangeError} If the payload is too large for UDP, or a number is out
 * of range.
 * @throws {SyntaxError} If the address does not parse.
 * @throws {TypeError} If the address cannot be asked: a wildcard, or IPv6 from
 * an IPv4 `localHostname`.
 * @throws {Deno.errors.NotFound} If the name does not resolve.
 * @throws {Error} The system's error if binding or sending fails, untouched.
 *
 * @example
 * ```ts
 * import { request, serve } from "@roundtrip/udp";
 * import { assert, assertEquals } from "@std/assert";
 *
 * await using server = serve({}, () => "pong");
 * const reply = await request(server.addr, "ping", { timeoutMs: 500 });
 * assertEquals(new TextDecoder().decode(reply.data), "pong");
 * assert(reply.attempts > 1 || reply.rttMs! > 0);
 * ```
 */
export async function request(
  address: UdpAddress | string,
  payload: Uint8Array | string,
  options: RequestOptions = {},
): Promise<UdpReply> {
  const { signal } = options;
  signal?.throwIfAborted();
  const { promise: aborted, reject: abort } = Promise.withResolvers<never>();
  aborted.catch(() => {}); // It may come when nobody waits any more.
  const onAbort = () => abort(signal!.reason);
  signal?.addEventListener("abort", onAbort);
  let exchange: Exchange | undefined;
  try {
    // Looking up a name cannot be cancelled, but it need not be waited for.
    const plan = await Promise.race([
      planRequest(address, payload, options),
      aborted,
    ]);
    const { promise, resolve, reject } = Promise.withResolvers<UdpReply>();
    exchange = new Exchange(plan, {
      onReply: resolve,
      onTimeout: reject,
      onError: reject,
    });
    exchange.start();
    return await Promise.race([promise, aborted]);
  } finally {
    signal?.removeEventListener("abort", onAbort);
    await exchange?.close();
  }
}

/** A request with its options checked and its names resolved. */
export interface RequestPlan {
  target: UdpAddress;
  payload: Uint8Array;
  localHostname: string;
  timeoutMs: number;
  retries: number;
  maxDatagramBytes: number;
  match: (data: Uint8Array) => boolean;
  runtime: Runtime;
}

/** Checks the options of a request, and resolves its names once. */
export async function planRequest(
  address: UdpAddress | string,
  payload: Uint8Array | string,
  options: RequestOptions,
): Promise<RequestPlan> {
  const {
    timeoutMs = 1000,
    retries = 2,
    localHostname,
    maxDatagramBytes = MAX_PAYLOAD_IPV6,
    match = () => true,
    engine = "deno",
    runtime = runtimeFor(engine),
  } = options;
  requireMs("timeoutMs", timeoutMs, 1);
  requireInteger("retries", retries, 0, 100);
  requireInteger("maxDatagramBytes", maxDatagramBytes, 1, MAX_PAYLOAD_IPV6);
  const asked = typeof address === "string" ? parseAddress(address) : address;
  requireInteger("port", asked.port, 1, 65_535);
  const { target, local } = await resolveEnds(asked, localHostname, runtime);
  const bytes = encode(payload);
  const isIPv4 = ipVersion(target.hostname) === 4;
  const max = isIPv4 ? MAX_PAYLOAD_IPV4 : MAX_PAYLOAD_IPV6;
  if (bytes.length > max) {
    throw new RangeError(
      `Cannot send ${bytes.length} bytes in one datagram: UDP over ${
        isIPv4 ? "IPv4" : "IPv6"
      } takes at most ${max}`,
    );
  }
  return {
    target,
    payload: bytes,
    localHostname: local,
    timeoutMs,
    retries,
    maxDatagramBytes,
    match,
    runtime,
  };
}

/** The IP addresses of both ends, of one IP version. */
async function resolveEnds(
  asked: UdpAddress,
  localHostname: string | undefined,
  runtime: Runtime,
): Promise<{ target: UdpAddress; local: string }> {
  // Whichever end is written as an IP address decides for the other.
  const askedVersion = ipVersion(canonicalHostname(asked.hostname));
  let local = localHostname === undefined
    ? undefined
    : await resolveHost(localHostname, runtime, askedVersion ?? 4);
  const localVersion = local === undefined ? undefined : ipVersion(local);
  const hostname = await resolveHost(
    asked.hostname,
    runtime,
    localVersion ?? 4,
  );
  const target = { hostname, port: asked.port };
  if (isWildcard(hostname)) {
    throw new TypeError(
      `Cannot ask ${formatAddress(target)}: it stands for all addresses of ` +
        `a machine; ask one of them, such as ${
          hostname === "::" ? "[::1]" : "127.0.0.1"
        }`,
    );
  }
  local ??= ipVersion(hostname) === 4 ? "0.0.0.0" : "::";
  // An IPv6 wildcard socket reaches IPv4 too.
  if (ipVersion(local) !== ipVersion(hostname) && local !== "::") {
    throw new TypeError(
      `Cannot ask ${formatAddress(target)} from ${local}: ` +
        "both ends must be IPv4, or both IPv6",
    );
  }
  return { target, local };
}

/** What becomes of an {@linkcode Exchange}. */
export interface ExchangeEvents {
  /** The first reply, in time. */
  onReply(reply: UdpReply): void;
  /** No reply in time. */
  onTimeout(error: TimeoutError): void;
  /** The system failed to send or receive; the exchange is over. */
  onError(error: unknown): void;
  /** The first reply, after the timeout. */
  onLate?(): void;
  /** More replies than datagrams were sent. */
  onDuplicate?(): void;
}

/** One request on a socket of its own, which stays open until it is closed. */
export class Exchange implements Receiver {
  readonly #plan: RequestPlan;
  readonly #events: ExchangeEvents;
  readonly #peer: string;
  #socket: DatagramSocket | undefined;
  #finished = Promise.resolve();
  #cancelTimer = () => {};
  #settled = false;
  #sentAt = 0;
  #replies = 0;
  #refusal: unknown;
  /** How many times the datagram was sent. */
  attempts = 0;
  /** Datagrams that are no reply: from elsewhere, or `match` says so. */
  foreign = 0;

  constructor(plan: RequestPlan, events: ExchangeEvents) {
    this.#plan = plan;
    this.#events = events;
    // The zone says by which interface to send; a reply does not carry it.
    this.#peer = plan.target.hostname.replace(/%.*/, "");
  }

  /** Opens the socket and sends; throws the system's error. */
  start(): void {
    const { runtime, localHostname, maxDatagramBytes, target } = this.#plan;
    const socket = runtime.open({
      hostname: localHostname,
      port: 0,
      maxDatagramBytes,
      peer: target,
    });
    this.#socket = socket;
    this.#finished = socket.start(this).catch((error) => this.#fail(error));
    this.#send(socket);
  }

  /** Ends it, whatever its state; resolves when its socket is closed. */
  close(): Promise<void> {
    this.#settled = true;
    this.#cancelTimer();
    this.#socket?.close();
    return this.#finished;
  }

  onDatagram(datagram: Datagram): void {
    const { remoteAddr } = datagram;
    const { target, match, runtime } = this.#plan;
    const now = runtime.now();
    try {
      if (
        remoteAddr.port !== target.port ||
        remoteAddr.hostname !== this.#peer || !match(datagram.data)
      ) {
        this.foreign++;
        return;
      }
      this.#replies++;
      if (!this.#settled) {
        this.#settle();
        this.#events.onReply({
          data: datagram.data.slice(),
          remoteAddr: target,
          rttMs: this.attempts === 1 ? now - this.#sentAt : undefined,
          attempts: this.attempts,
        });
      } else if (this.#replies > this.attempts) this.#events.onDuplicate?.();
      else if (this.#replies === 1) this.#events.onLate?.();
    } catch (error) {
      this.#fail(error);
    } finally {
      this.#socket!.release(datagram);
    }
  }

  onReceiveError(error: unknown): void {
    if (!isRefusal(error) || this.#settled) return;
    this.#refusal = error;
    // Of an unconnected socket a hint, not a verdict (RFC 8085, section 5.2):
    // the wait goes on. A connected one is told of this very peer.
    if (this.#socket!.isConnected) this.#timeOut();
  }

  #send(socket: DatagramSocket): void {
    const { target, payload, runtime } = this.#plan;
    this.attempts++;
    this.#cancelTimer = runtime.after(this.#waitMs(), () => {
      if (this.attempts <= this.#plan.retries) this.#send(socket);
      else this.#timeOut();
    });
    this.#sentAt = runtime.now();
    socket.send(payload, target).catch((error) => {
      // The answer to an earlier datagram, told at the next one.
      if (isRefusal(error)) this.onReceiveError(error);
      else this.#fail(error);
    });
  }

  /** How long to wait for an answer to the datagram that is now being sent. */
  #waitMs(): number {
    const { timeoutMs, retries } = this.#plan;
    const doubled = timeoutMs * 2 ** (this.attempts - 1);
    const waitMs = Math.min(doubled, Math.max(timeoutMs, MAX_BACKOFF_MS));
    // Jitter keeps clients that lost together from resending together; the
    // wait after the last datagram needs none.
    const jitter = this.attempts <= retries ? Math.random() * MAX_JITTER : 0;
    return Math.min(waitMs * (1 + jitter), MAX_MS);
  }

  #timeOut(): void {
    this.#settle();
    const { attempts, foreign } = this;
    const ignored = foreign === 0
      ? ""
      : `; ${foreign} datagrams that are no reply to it were ignored`;
    this.#events.onTimeout(
      new TimeoutError(
        `No reply from ${formatAddress(this.#plan.target)} to ${
          attempts === 1 ? "1 datagram" : `${attempts} datagrams`
        }: ${
          this.#refusal === undefined
            ? "lost on the way, a closed port, or a silent server"
            : "the system reports a closed port"
        }${ignored}`,
        { attempts, foreign, cause: this.#refusal },
      ),
    );
  }

  #fail(error: unknown): void {
    if (this.#settled) return;
    this.#settle();
    this.#events.onError(error);
  }

  #settle(): void {
    this.#settled = true;
    this.#cancelTimer();
  }
}

const MAX_BACKOFF_MS = 60_000;
const MAX_JITTER = 0.1;

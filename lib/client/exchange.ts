/**
 * One request on a socket of its own: its options, its retransmissions, and
 * what comes back.
 *
 * @module
 */
import { formatAddress, type UdpAddress } from "../address.ts";
import { encode } from "../encoding.ts";
import { errorMessage, isPortClosed, TimeoutError } from "../base/errors.ts";
import * as option from "../base/options.ts";
import { type Runtime, runtimeOf } from "../socket/runtime.ts";
import {
  type DatagramSocket,
  MAX_PAYLOAD,
  type Receiver,
} from "../socket/contract.ts";
import {
  type Datagram,
  DatagramFacts,
  OwnedDatagram,
} from "../socket/datagram.ts";
import {
  checkEnds,
  comesFrom,
  type Ends,
  type NamedEnds,
  ORIGIN,
  type OriginOptions,
  requireFit,
} from "./target.ts";
import { recordRtt } from "../base/telemetry.ts";

/**
 * What a request sends: bytes, text as UTF-8, or a function that makes them for
 * each datagram, so that ids and times in them are right. It is called just
 * before each send with its number: 1, and with `retries` 2 and so on.
 */
export type Payload =
  | Uint8Array
  | string
  | ((attempt: number) => Uint8Array | string);

/** The facts of a datagram that may be a reply. */
export type ReplyInfo = Readonly<DatagramFacts>;

/** Options of {@linkcode request}. */
export interface RequestOptions<Decoded = unknown> extends OriginOptions {
  /**
   * How long to wait for the reply before the first retransmission, in
   * milliseconds, from 1 to 86,400,000 (a day). The wait doubles with each
   * retransmission (RFC 8085, section 3.1.1), up to a minute or this value, the
   * larger.
   *
   * @default {1000}
   */
  timeoutMs?: number | undefined;
  /**
   * How often to send again when no reply comes, 0 to 100. In a series of more
   * than one datagram the default is 0, so that its loss is the path's.
   *
   * @default {2}
   */
  retries?: number | undefined;
  /**
   * Longer datagrams are ignored, never cut. 1 to 65,527 bytes.
   *
   * @default {65527}
   */
  maxDatagramBytes?: number | undefined;
  /**
   * Says whether a datagram is the reply, by `true` or by what it decodes to,
   * which the reply then has as its `value`. What gives `false`, `null` or
   * `undefined` is ignored.
   */
  match?:
    | ((
      data: Uint8Array<ArrayBuffer>,
      info: ReplyInfo,
    ) => Decoded | boolean | null | undefined)
    | undefined;
  /** Gives up when aborted; the promise rejects with its reason. */
  signal?: AbortSignal | undefined;
}

/** The options of every request. */
export const EXCHANGE = {
  ...ORIGIN,
  timeoutMs: option.time(1, 1000),
  retries: option.integer(0, 100, 2),
  maxDatagramBytes: option.integer(1, MAX_PAYLOAD, MAX_PAYLOAD),
  signal: option.SIGNAL,
} satisfies option.Table<Omit<RequestOptions, "match">>;

/** The table of {@linkcode RequestOptions}. */
export const REQUEST = {
  ...EXCHANGE,
  match: option.callback(anything),
} satisfies option.Table<RequestOptions>;

/** A reply. */
export interface UdpReply<Decoded = unknown> extends Datagram {
  /** The address that was asked. */
  readonly remoteAddr: UdpAddress;
  /**
   * The round-trip time in milliseconds, from just before the send until the
   * reply was read. Undefined after a retransmission, since nobody can say
   * which of the datagrams was answered (Karn's algorithm, RFC 8085, section
   * 3.1.1).
   */
  rttMs: number | undefined;
  /** How many times the datagram was sent. */
  attempts: number;
  /**
   * When the datagram was sent last, by the clock of `performance.now()`, in
   * milliseconds.
   */
  sentAt: number;
  /** What `match` returned, unless that was `true`. */
  value: Decoded | undefined;
  /**
   * The payload as text.
   *
   * @throws {TypeError} If it is not UTF-8.
   */
  text(): string;
}

/** A request whose options have been checked. */
export interface RequestPlan {
  ends: NamedEnds;
  /** Makes the payload of a datagram. */
  payload: (attempt: number, seq: number) => Uint8Array | string;
  timeoutMs: number;
  retries: number;
  maxDatagramBytes: number;
  match: NonNullable<RequestOptions["match"]>;
  runtime: Runtime;
}

/**
 * The plan of a request with checked options; opens nothing.
 *
 * @throws {RangeError} If the payload is too large.
 * @throws {SyntaxError} If the address does not parse.
 * @throws {TypeError} If the address cannot be asked.
 */
export function planRequest(
  address: UdpAddress | string,
  payload: Uint8Array | string | RequestPlan["payload"],
  options:
    & option.Values<typeof EXCHANGE>
    & Partial<option.Values<typeof REQUEST>>,
): RequestPlan {
  const { timeoutMs, retries, maxDatagramBytes, match = anything } = options;
  const made = typeof payload === "function" ? undefined : encode(payload);
  // The size of what is made later is checked when it is made.
  const ends = checkEnds(address, options, made?.length ?? 0);
  return {
    ends,
    payload: made === undefined
      ? payload as RequestPlan["payload"]
      : () => made,
    timeoutMs,
    retries,
    maxDatagramBytes,
    match,
    runtime: runtimeOf(options),
  };
}

/** Who is called as an {@linkcode Exchange} goes on. */
export interface ExchangeListener {
  /** A reply came in time; returns whether it waits for another one. */
  onReply(reply: UdpReply): boolean | void;
  /** No reply came in time. */
  onTimeout(error: TimeoutError): void;
  /** The system failed to send or receive; the exchange is over. */
  onError(error: unknown): void;
  /** The first reply came after the time-out. */
  onLate?(): void;
  /** There are more replies than datagrams that were sent. */
  onDuplicate?(): void;
}

/** One request. Its socket stays open until {@linkcode Exchange.close}. */
export class Exchange implements Receiver {
  readonly #plan: RequestPlan;
  readonly #ends: Ends;
  readonly #listener: ExchangeListener;
  readonly #seq: number;
  #socket: DatagramSocket | undefined;
  #finished = Promise.resolve();
  #cancelTimer = () => {};
  /** Answered, given up or failed: nothing is waited for any more. */
  #isOver = false;
  #sentAt = 0;
  #replies = 0;
  /** What the system or the network says of a datagram of ours. */
  #report: unknown;
  /** Where the first datagram came from that is no reply. */
  #foreignFrom: UdpAddress | undefined;
  /** How many times the datagram was sent. */
  attempts = 0;
  /** Datagrams that are no reply: from elsewhere, or `match` says so. */
  foreign = 0;

  constructor(
    plan: RequestPlan,
    ends: Ends,
    listener: ExchangeListener,
    seq = 0,
  ) {
    this.#plan = plan;
    this.#ends = ends;
    this.#listener = listener;
    this.#seq = seq;
  }

  /** How many of the datagrams were answered, late or not. */
  get answered(): number {
    return Math.min(this.#replies, this.attempts);
  }

  /** Opens the socket and sends; throws the system's error. */
  start(): void {
    const { runtime, maxDatagramBytes } = this.#plan;
    const { target, local } = this.#ends;
    const socket = runtime.open({
      ...local,
      maxDatagramBytes,
      peer: target,
    });
    this.#socket = socket;
    this.#finished = socket.start(this).catch((error) => this.#fail(error));
    this.#send(socket);
  }

  /** Ends it, whatever its state; resolves when its socket is closed. */
  close(): Promise<void> {
    this.#end();
    this.#socket?.close();
    return this.#finished;
  }

  onDatagram(datagram: Datagram): void {
    const { match } = this.#plan;
    const { target } = this.#ends;
    try {
      const reply = comesFrom(datagram.remoteAddr, target)
        ? replyOf(datagram, match, {
          remoteAddr: { ...target },
          attempts: this.attempts,
          sentAt: this.#sentAt,
        })
        : undefined;
      if (reply === undefined) {
        this.foreign++;
        this.#foreignFrom ??= { ...datagram.remoteAddr };
        return;
      }
      this.#replies++;
      if (!this.#isOver) {
        if (reply.rttMs !== undefined && this.#ends.telemetry) {
          recordRtt(reply.rttMs);
        }
        this.#end();
        if (this.#listener.onReply(reply)) this.#waitForMore();
      } else if (this.#replies > this.attempts) this.#listener.onDuplicate?.();
      else if (this.#replies === 1) this.#listener.onLate?.();
    } catch (error) {
      this.#fail(error);
    } finally {
      this.#socket!.release(datagram);
    }
  }

  onReceiveError(error: unknown): void {
    const { isConnected } = this.#socket!;
    if (this.#isOver || !(isConnected || isPortClosed(error))) return;
    this.#report = error;
    // Of an unconnected socket a hint, not a verdict (RFC 8085, section 5.2):
    // the wait goes on. A connected one only hears of this very peer.
    if (isConnected) this.#timeOut();
  }

  #send(socket: DatagramSocket): void {
    const { runtime } = this.#plan;
    this.attempts++;
    let payload: Uint8Array;
    try {
      payload = encode(this.#plan.payload(this.attempts, this.#seq));
      requireFit(payload.length, this.#ends.target.hostname);
    } catch (error) {
      // Not within the call that started it, as no other error comes there.
      return queueMicrotask(() => this.#fail(error));
    }
    const { timeoutMs, retries } = this.#plan;
    const waitMs = waitMsOf(timeoutMs, retries, this.attempts);
    this.#cancelTimer = runtime.after(waitMs, () => {
      if (this.attempts <= this.#plan.retries) this.#send(socket);
      else this.#timeOut();
    });
    this.#sentAt = runtime.now();
    socket.send(payload, this.#ends.target).catch((error) => {
      // The answer to an earlier datagram, which comes with the next send.
      if (isPortClosed(error)) this.onReceiveError(error);
      else this.#fail(error);
    });
  }

  /** Once a reply has come, the others are not asked for again. */
  #waitForMore(): void {
    this.#isOver = false;
    const { runtime, timeoutMs } = this.#plan;
    this.#cancelTimer = runtime.after(timeoutMs, () => this.#timeOut());
  }

  #timeOut(): void {
    this.#end();
    const { target } = this.#ends;
    const { attempts, foreign } = this;
    this.#listener.onTimeout(
      timeoutError(target, attempts, foreign, this.#report, this.#foreignFrom),
    );
  }

  #fail(error: unknown): void {
    if (this.#isOver) return;
    this.#end();
    this.#listener.onError(error);
  }

  #end(): void {
    this.#isOver = true;
    this.#cancelTimer();
  }
}

/** How long to wait for an answer to a datagram that is sent for the nth time. */
export function waitMsOf(
  timeoutMs: number,
  retries: number,
  attempts: number,
): number {
  // Most are answered the first time, and a power takes long.
  const waitMs = attempts === 1 ? timeoutMs : Math.min(
    timeoutMs * 2 ** (attempts - 1),
    Math.max(timeoutMs, MAX_BACKOFF_MS),
  );
  // Jitter keeps clients that lost together from resending together; the wait
  // after the last datagram needs none.
  const jitter = attempts <= retries ? Math.random() * MAX_JITTER : 0;
  return Math.min(waitMs * (1 + jitter), option.MAX_MS);
}

/** The error of a request that was not answered, with all that is known. */
export function timeoutError(
  target: UdpAddress,
  attempts: number,
  foreign: number,
  report: unknown,
  foreignFrom?: UdpAddress,
): TimeoutError {
  const why = report === undefined
    ? "lost on the way, a closed port, or a silent server"
    : isPortClosed(report)
    ? "the system reports a closed port"
    : errorMessage(report);
  const from = foreignFrom && formatAddress(foreignFrom);
  const ignored = foreign === 0
    ? ""
    : foreign === 1
    ? `; 1 other datagram came, from ${from}, and was ignored`
    : `; ${foreign} other datagrams came, the first from ${from}, and were ignored`;
  return new TimeoutError(
    `No reply from ${formatAddress(target)} to ${
      attempts === 1 ? "1 datagram" : `${attempts} datagrams`
    }: ${why}${ignored}`,
    { attempts, foreign, cause: report },
  );
}

/**
 * The reply that a datagram is, as `match` has it; undefined if it is none.
 *
 * @throws {TypeError} If `match` returns a promise; what else `match` throws.
 */
export function replyOf(
  datagram: Datagram,
  match: RequestPlan["match"],
  request: Pick<UdpReply, "remoteAddr" | "attempts" | "sentAt">,
): UdpReply | undefined {
  // The socket's own bytes, as most of what is refused need not be copied.
  const value = match === anything ||
    match(datagram.data, new DatagramFacts(datagram));
  if (value === false || value === null || value === undefined) return;
  if (value !== true) requireNoPromise(value);
  return new Reply(datagram, request, value === true ? undefined : value);
}

/** A reply whose `text` is made when it is asked for, and stands alone then. */
class Reply extends OwnedDatagram implements UdpReply {
  readonly rttMs: number | undefined;
  readonly attempts: number;
  readonly sentAt: number;

  constructor(
    datagram: Datagram,
    { remoteAddr, attempts, sentAt }: Parameters<typeof replyOf>[2],
    readonly value: unknown,
  ) {
    super(datagram);
    this.remoteAddr = remoteAddr;
    this.rttMs = attempts === 1 ? this.receivedAt - sentAt : undefined;
    this.attempts = attempts;
    this.sentAt = sentAt;
  }

  get text(): () => string {
    return () => STRICT_UTF8.decode(this.data);
  }
}

/** What takes every datagram for a reply. */
function anything(): boolean {
  return true;
}

/** A promise, of an async function, would always count as a reply. */
function requireNoPromise(value: unknown): void {
  if (typeof (value as PromiseLike<unknown> | undefined)?.then !== "function") {
    return;
  }
  throw new TypeError("'match()' must not return a promise");
}

const STRICT_UTF8 = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });
const MAX_BACKOFF_MS = 60_000;
const MAX_JITTER = 0.1;

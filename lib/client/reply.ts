/**
 * A reply: a received datagram, and the facts of the request that it answers; and
 * the error of a request without one.
 *
 * @module
 */
import type { UdpAddress } from "../address.ts";
import {
  copyOf,
  type Datagram,
  DatagramFacts,
  OwnedDatagram,
} from "../socket/datagram.ts";

/** The facts of a datagram that may be a reply. */
export type ReplyInfo = Readonly<DatagramFacts>;

/** Decides whether a datagram is the reply, see `match` of a request. */
export type Match = (
  data: Uint8Array<ArrayBuffer>,
  info: ReplyInfo,
) => unknown;

/** A reply. */
export interface UdpReply<Decoded = unknown> extends Datagram {
  /** The address that was asked. */
  readonly remoteAddr: UdpAddress;
  /**
   * The round-trip time in milliseconds, from just before the send until the
   * reply was read. Undefined after a retransmission, since it is not known
   * which of the datagrams was answered (Karn's algorithm, RFC 8085, section
   * 3.1.1).
   */
  rttMs: number | undefined;
  /** The number of times the datagram was sent. */
  attempts: number;
  /**
   * The time of the last send, by the clock of `performance.now()`, in
   * milliseconds.
   */
  sentAt: number;
  /** The value returned by `match`; undefined if that was `true`, or without it. */
  value: Decoded extends true ? undefined : Decoded;
  /**
   * The payload as text.
   *
   * @throws {TypeError} If it is not UTF-8.
   */
  text(): string;
}

/** The facts about a request without a reply. */
export interface TimeoutErrorOptions extends ErrorOptions {
  /** The number of times the datagram was sent. */
  attempts: number;
  /** Received datagrams that were no reply, and were ignored. */
  foreign: number;
  /**
   * The replies received, of a request for several.
   *
   * @default {none}
   */
  replies?: readonly UdpReply[] | undefined;
}

/**
 * No reply was received in time. UDP cannot distinguish a lost request from a lost
 * reply, a closed port or a silent server. If the system reports a closed port, or the
 * network that it rejects the datagram, that error is the `cause`.
 *
 * It is this library's own: neither `Deno.errors.TimedOut` nor the `DOMException`
 * of the same name, which `AbortSignal.timeout()` gives as its reason.
 *
 * @example
 * ```ts
 * import { TimeoutError } from "@roundtrip/udp";
 * import { assertEquals } from "@std/assert";
 *
 * const error = new TimeoutError("No reply", { attempts: 3, foreign: 0 });
 * assertEquals(error.attempts, 3);
 * ```
 */
export class TimeoutError extends Error {
  // An assignment would throw where `Error.prototype` is frozen.
  /** The name of the class. */
  override readonly name = "TimeoutError";
  /** The number of times the datagram was sent. */
  readonly attempts: number;
  /** Received datagrams that were no reply, and were ignored. */
  readonly foreign: number;
  /** The replies received, if not all of `replies` were; else none. */
  readonly replies: readonly UdpReply[];

  /** Makes the error. */
  constructor(message: string, options: TimeoutErrorOptions) {
    super(message, options);
    this.attempts = options.attempts;
    this.foreign = options.foreign;
    this.replies = options.replies ?? [];
  }
}

/**
 * Makes a reply of a datagram that `match` accepts; else gives undefined. Throws the
 * errors of `match`, and a TypeError if it returns a promise.
 */
export function replyOf(
  datagram: Datagram,
  match: Match,
  request: Pick<UdpReply, "remoteAddr" | "attempts" | "sentAt">,
): UdpReply | undefined {
  // A copy, as a value may be a view of it.
  const value = match === anything ||
    match(copyOf(datagram.data), new DatagramFacts(datagram));
  if (value === false || value === null || value === undefined) return;
  if (typeof (value as PromiseLike<unknown>).then === "function") {
    throw new TypeError("'match()' must not return a promise");
  }
  return new ReceivedReply(
    datagram,
    request,
    value === true ? undefined : value,
  );
}

/** A reply; its `text` is bound to it, so that it can be passed on alone. */
class ReceivedReply extends OwnedDatagram implements UdpReply {
  rttMs: number | undefined;
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

/** Accepts every datagram as a reply. */
export function anything(): boolean {
  return true;
}

const STRICT_UTF8 = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

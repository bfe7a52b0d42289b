/**
 * The handler of a server, the facts that it gets about a datagram, and the traits
 * of this library's own handlers.
 *
 * @module
 */
import { bytesOf, type PayloadInit, wrongBytes } from "../base/payload.ts";
import type { ReplyOptions } from "../socket/contract.ts";
import type { DatagramFacts } from "../socket/datagram.ts";
import type { Readings } from "../base/telemetry.ts";

/** The facts about a datagram that a handler gets beside its payload. */
export interface DatagramInfo extends Readonly<DatagramFacts> {
  /**
   * The bytes left for answers to this datagram by `guard.maxAmplification`, all
   * of its answers together: Infinity where there is no limit, 0 where none
   * would be sent. After the handler has settled it is 0.
   */
  readonly maxReplyBytes: number;
  /**
   * Sends an answer now, beside the one that the handler returns; as often as
   * the guard allows, and counted in `stats().pushed`. It needs no `this`.
   *
   * @param payload The answer, text as UTF-8; bytes are copied.
   * @returns Whether it is in flight; `false` if the guard refused it, or there is
   * no room.
   * @throws {TypeError} If it is neither bytes nor text, or the handler has
   * settled already.
   */
  readonly reply: (payload: PayloadInit) => boolean;
  /**
   * Lifts `guard.maxAmplification` for the further answers to this datagram. Call
   * it when the datagram proves that its sender receives at `remoteAddr`, as one that returns a token of 64 unpredictable bits or more
   * from an earlier reply does (RFC 9000, section 8.1). It needs no `this`.
   */
  readonly validated: () => void;
}

/** A payload to answer with, text as UTF-8; `undefined` or `null` is silence. */
export type Reply = PayloadInit | null | undefined | void;

/**
 * Makes the reply to one datagram.
 *
 * `data` is a copy owned by the handler, unless the server was started with
 * `lend: true`: then its bytes are owned by the server, which receives the
 * next datagrams into them once the handler has settled and its reply is sent.
 * A returned array must not be changed before it is sent.
 *
 * A protocol that can distinguish a reply from a request (DNS by its QR bit, NTP by its
 * mode) returns nothing to a reply: no guard ends loops as well.
 */
export type Handler = (
  data: Uint8Array<ArrayBuffer>,
  info: DatagramInfo,
) => Reply | Promise<Reply>;

/** Facts about a handler of this library, for the server that calls it. */
export interface HandlerTraits {
  /** It keeps nothing of its data, so that it can borrow the socket's. */
  readonly borrows?: true;
  /** The reply that it gives to every datagram. */
  readonly fixedReply?: Uint8Array;
  /** Whether a datagram is a request that cannot be part of a loop. */
  isNoLoop?(data: Uint8Array): boolean;
  /** The options of its replies. */
  readonly departure?: Departure;
  /** Called when the reply that it has just returned is refused. */
  onRefused?(): void;
  /** Its own counts, for telemetry. */
  readings?(): Readings;
}

/** The options of a handler's replies, as they leave. */
export interface Departure {
  /** Whether a server applies `last()`; false inside a user's wrapper. */
  isAsked: boolean;
  /** The options of the reply that was returned last. */
  last(): ReplyOptions;
}

const TRAITS = new WeakMap<Handler, HandlerTraits>();
const NO_TRAITS: HandlerTraits = {};

/** The traits of a handler; none for a user's. */
export function traitsOf(handler: Handler): HandlerTraits {
  return TRAITS.get(handler) ?? NO_TRAITS;
}

/** Gives a handler traits: of its own, or those of the handler that it wraps. */
export function withTraits(handler: Handler, traits: HandlerTraits): Handler {
  TRAITS.set(handler, traits);
  return handler;
}

/** The bytes of the value that a handler returned; undefined for silence. */
export function replyBytes(reply: unknown): Uint8Array | undefined {
  if (reply === undefined || reply === null) return undefined;
  const bytes = bytesOf(reply);
  if (bytes !== undefined) return bytes;
  throw wrongBytes("The handler must return", ", null or undefined", reply);
}

/**
 * What a handler is, what it is told of a datagram, and what the handlers of this
 * library tell the server of themselves.
 *
 * @module
 */
import type { ReplyOptions } from "../socket/contract.ts";
import type { DatagramFacts } from "../socket/datagram.ts";
import type { Readings } from "../base/telemetry.ts";

/** What a handler gets of a datagram besides its payload. */
export interface DatagramInfo extends Readonly<DatagramFacts> {
  /**
   * How many bytes the answer may have by `guard.maxAmplification`, all answers
   * to this datagram together: Infinity where there is no limit, 0 where none
   * would be sent. After the handler has settled it is 0.
   */
  readonly maxReplyBytes: number;
  /**
   * Sends an answer now, beside the one that the handler returns; as often as
   * the guard allows, and counted in `stats().pushed`. It needs no `this`.
   *
   * @param payload The answer, text as UTF-8; bytes are copied.
   * @returns Whether it is on its way; `false` if the guard refused it, or there
   * is no room.
   * @throws {TypeError} If it is neither bytes nor text, or the handler has
   * settled already.
   */
  readonly reply: (payload: Uint8Array | string) => boolean;
  /**
   * Lifts `guard.maxAmplification` for the further answers to this datagram. Call
   * it when the datagram proves that its sender receives what is sent to
   * `remoteAddr`, as one that returns a token of 64 unpredictable bits or more
   * from an earlier reply does (RFC 9000, section 8.1). It needs no `this`.
   */
  readonly validated: () => void;
}

/** A payload to answer with, text as UTF-8; `undefined` or `null` is silence. */
export type Reply = Uint8Array | string | null | undefined | void;

/**
 * Makes the reply to one datagram.
 *
 * `data` is a copy that belongs to the handler, unless the server was started
 * with `lend: true`: then its bytes belong to the server, which receives the
 * next datagrams into them once the handler has settled and its reply is sent.
 * A returned array must not be changed before it is sent; best not at all.
 *
 * A protocol that can tell a reply from a request (DNS by its QR bit, NTP by its
 * mode) returns nothing to a reply: no guard ends loops as well.
 */
export type Handler = (
  data: Uint8Array<ArrayBuffer>,
  info: DatagramInfo,
) => Reply | Promise<Reply>;

/**
 * Handlers that tell, by their content, requests that cannot be part of a loop:
 * answers to these are not counted as a loop's.
 */
export const noLoops: WeakMap<Handler, (data: Uint8Array) => boolean> =
  new WeakMap();

/**
 * What is called when the guard withholds the answer that a handler has just
 * returned, for handlers that count what leaves.
 */
export const withholding: WeakMap<Handler, () => void> = new WeakMap();

/** What a handler says of how its replies leave. */
export interface Departing {
  /** Whether a server asks: not where another handler calls this one. */
  isAsked: boolean;
  /** Of the reply that it has just returned. */
  last(): ReplyOptions;
}

/** Handlers that write the time of sending into their replies. */
export const departing: WeakMap<Handler, Departing> = new WeakMap();

/** Handlers that keep nothing of their data: they are lent it without a copy. */
export const borrowers: WeakSet<Handler> = new WeakSet();

/** Handlers that count something themselves. */
export const metered: WeakMap<Handler, () => Readings> = new WeakMap();

/** Has a handler that calls another one taken for that one. */
export function standFor(handler: Handler, original: Handler): void {
  for (const known of [noLoops, withholding, departing, metered] as const) {
    const value = known.get(original);
    // deno-lint-ignore no-explicit-any -- each map takes what it gave
    if (value !== undefined) known.set(handler, value as any);
  }
  if (borrowers.has(original)) borrowers.add(handler);
}

/**
 * One request: a datagram, and its reply or replies.
 *
 * @module
 */
import type { UdpAddress } from "../address.ts";
import * as option from "../base/options.ts";
import { payloadOf } from "../base/payload.ts";
import {
  Exchange,
  type Payload,
  planRequest,
  REQUEST,
  type RequestOptions,
} from "./exchange.ts";
import {
  checkReplies,
  incomplete,
  isWhole,
  type OptionalReplies,
  REPLIES,
  type RepliesOptions,
} from "./replies.ts";
import type { UdpReply } from "./reply.ts";
import { resolveEnds } from "./target.ts";
import { observeRequest } from "./telemetry.ts";

/** The table of all options of {@linkcode request}. */
export const REQUEST_OPTIONS = { ...REQUEST, ...REPLIES };

/**
 * Sends a datagram and gives several replies, in the order of their arrival.
 *
 * @param address The server.
 * @param payload The payload.
 * @param options The number of replies or their end, beside all others.
 * @returns The replies.
 * @throws {TimeoutError} If not all arrive; its `replies` are those that did.
 *
 * @example
 * ```ts
 * import { request, serve } from "@roundtrip/udp";
 * import { assertEquals } from "@std/assert";
 *
 * await using server = serve((_, { reply }) => {
 *   reply("one");
 *   reply("two");
 *   return "END";
 * });
 * const replies = await request(server.addr, "all", {
 *   replies: (reply) => reply.text() === "END",
 * });
 * assertEquals(replies.length, 3);
 * ```
 */
export function request<Decoded = undefined>(
  address: UdpAddress | string,
  payload: Payload,
  options: RequestOptions<Decoded> & RepliesOptions<Decoded>,
): Promise<UdpReply<Decoded>[]>;
/**
 * Sends a datagram and gives the reply.
 *
 * Each request has a socket and port of its own, and accepts only datagrams from
 * the server's address.
 *
 * @param address The server: an address, or `"HOST:PORT"`. A name is resolved
 * once. Of its addresses those of IPv4 are first, unless `localHostname` is IPv6;
 * those without a route or a permission are left out, and the next one is used if a
 * send fails or, on the linux engine, an address is reported unreachable or its
 * port closed. The reply's `remoteAddr` is the one that was used.
 * @param payload 0 to 65,507 bytes (IPv6: 65,527); text is sent as UTF-8. Bytes
 * must not change until the promise settles, since they may be retransmitted; a
 * function makes them for each send.
 * @param options Time-out, retransmissions, the local end.
 * @returns The reply.
 * @throws {TimeoutError} If no reply arrives. A closed port looks like loss,
 * except on the linux engine: it rejects at once there. Any other report of the
 * network, and a send that fails and may work later, are kept as the `cause`.
 * @throws {RangeError} If the payload is too large for UDP, or a number is out
 * of range.
 * @throws {SyntaxError} If the address does not parse.
 * @throws {TypeError} If an option is unknown or of a wrong type, the payload is
 * neither bytes nor text, or the address cannot be asked: a wildcard, or IPv6 from an
 * IPv4 `localHostname`.
 * @throws {Deno.errors.NotFound} If the name does not resolve.
 * @throws {Error} The system's error if binding fails, or each send, with the
 * address and the remedy in its message.
 *
 * @example
 * ```ts
 * import { request, serve } from "@roundtrip/udp";
 * import { assert, assertEquals } from "@std/assert";
 *
 * await using server = serve({}, () => "pong");
 * const reply = await request(server.addr, "ping", { timeoutMs: 500 });
 * assertEquals(reply.text(), "pong");
 * assert(reply.attempts > 1 || reply.rttMs! > 0);
 * ```
 */
export function request<Decoded = undefined>(
  address: UdpAddress | string,
  payload: Payload,
  options?: RequestOptions<Decoded>,
): Promise<UdpReply<Decoded>>;
/**
 * Sends a datagram and gives the reply, or several where `replies` is given.
 *
 * @param address The server.
 * @param payload The payload.
 * @param options All options.
 * @returns The reply or the replies.
 */
export function request<Decoded = undefined>(
  address: UdpAddress | string,
  payload: Payload,
  options: RequestOptions<Decoded> & OptionalReplies<Decoded>,
): Promise<UdpReply<Decoded> | UdpReply<Decoded>[]>;
export async function request(
  address: UdpAddress | string,
  payload: Payload,
  options: RequestOptions & OptionalReplies = {},
): Promise<UdpReply | UdpReply[]> {
  const values = option.readAll("request", REQUEST_OPTIONS, options);
  const { replies: wanted, missing, signal } = values;
  checkReplies(values);
  const plan = planRequest("request()", address, payload, values);
  signal?.throwIfAborted();
  const { promise: aborted, reject: abort } = Promise.withResolvers<never>();
  aborted.catch(() => {}); // An abort may follow the last wait.
  let exchange: Exchange | undefined;
  const onAbort = () => {
    abort(signal!.reason);
    // At once, as a payload's function may have aborted it.
    exchange?.close();
  };
  signal?.addEventListener("abort", onAbort);
  let failure: { error: unknown } | undefined;
  const replies: UdpReply[] = [];
  if (missing !== undefined) {
    const { payload: first } = plan;
    plan.hasMissing = true;
    plan.payload = (attempt, seq) =>
      replies.length === 0
        ? first(attempt, seq)
        : payloadOf(missing(replies), "request()", "return");
  }
  const observe = observeRequest(plan.telemetry);
  try {
    // A look-up cannot be cancelled, but the end does not wait for it.
    const ends = await Promise.race([
      resolveEnds(plan.ends, plan.runtime),
      aborted,
    ]);
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    exchange = new Exchange(plan, ends, {
      onReply: (reply) => {
        replies.push(reply);
        try {
          if (wanted === undefined || isWhole(replies, wanted)) resolve();
          else return true;
        } catch (error) {
          reject(error);
        }
      },
      onTimeout: (error) =>
        reject(incomplete(error, replies, wanted, plan.ends.target)),
      onError: reject,
    });
    exchange.start();
    await Promise.race([promise, aborted]);
    return wanted === undefined ? replies[0]! : replies;
  } catch (error) {
    failure = { error };
    throw error;
  } finally {
    const { attempts = 0, foreign = 0 } = exchange ?? {};
    observe({ attempts, foreign, replies, failure });
    signal?.removeEventListener("abort", onAbort);
    await exchange?.close();
  }
}

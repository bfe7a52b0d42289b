/**
 * The client: one datagram, and its reply.
 *
 * @module
 */
import { formatAddress, type UdpAddress } from "../address.ts";
import { TimeoutError } from "../base/errors.ts";
import * as option from "../base/options.ts";
import {
  Exchange,
  type Payload,
  planRequest,
  REQUEST,
  type RequestOptions,
  type RequestPlan,
  type UdpReply,
} from "./exchange.ts";
import { resolveEnds } from "./target.ts";
import {
  beginSpan,
  clientCounts,
  type Count,
  count,
  NO_SPAN,
} from "../base/telemetry.ts";

/** The option of a {@linkcode request} whose answer has several datagrams. */
export interface RepliesOptions<Decoded = unknown> {
  /**
   * How many datagrams the answer has, 1 to 65,536, or a function that is given
   * each reply as it comes and returns whether it is the last one. Once the
   * first has come nothing is sent again, and each of the others may take
   * `timeoutMs`.
   */
  replies: number | ((reply: UdpReply<Decoded>) => boolean);
}

const COUNT = option.integer(1, 65_536);

/** The table of {@linkcode RequestOptions} and {@linkcode RepliesOptions}. */
export const REPLIES = {
  ...REQUEST,
  replies: option.custom<RepliesOptions["replies"]>(
    `${COUNT.words} or a function`,
    (value) => typeof value === "function" ? undefined : COUNT.judge(value),
    undefined,
    COUNT,
  ),
} satisfies option.Table<RequestOptions & Partial<RepliesOptions>>;

/**
 * Sends a datagram and gives the reply.
 *
 * Each request has a socket and port of its own, and only what comes from the
 * address that it asked is a reply.
 *
 * @param address Whom to ask: an address, or `"HOST:PORT"`. A name is resolved
 * once; of its addresses, IPv4 is preferred unless `localHostname` is IPv6.
 * @param payload 0 to 65,507 bytes (IPv6: 65,527); text is sent as UTF-8. Bytes
 * must not change until the promise settles, since they may be sent again; a
 * function makes them anew for each send.
 * @param options How long to wait, how often to send again.
 * @returns The reply.
 * @throws {TimeoutError} If no reply comes. A closed port looks like loss,
 * except on the linux engine: there the error comes at once, and its `cause`
 * says so.
 * @throws {RangeError} If the payload is too large for UDP, or a number is out
 * of range.
 * @throws {SyntaxError} If the address does not parse.
 * @throws {TypeError} If an option is unknown or of a wrong type, or the
 * address cannot be asked: a wildcard, or IPv6 from an IPv4 `localHostname`.
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
 * assertEquals(reply.text(), "pong");
 * assert(reply.attempts > 1 || reply.rttMs! > 0);
 * ```
 */
export function request<Decoded = unknown>(
  address: UdpAddress | string,
  payload: Payload,
  options?: RequestOptions<Decoded>,
): Promise<UdpReply<Decoded>>;
/**
 * Sends a datagram and gives all datagrams of the answer, in the order in which
 * they came; `match` and `replies` may sort and count them.
 *
 * @param address Whom to ask.
 * @param payload What to send.
 * @param options What makes the answer whole, beside all else.
 * @returns The replies.
 * @throws {TimeoutError} If not all come.
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
export function request<Decoded = unknown>(
  address: UdpAddress | string,
  payload: Payload,
  options: RequestOptions<Decoded> & RepliesOptions<Decoded>,
): Promise<UdpReply<Decoded>[]>;
export async function request<Decoded = unknown>(
  address: UdpAddress | string,
  payload: Payload,
  options: RequestOptions<Decoded> & Partial<RepliesOptions<Decoded>> = {},
): Promise<UdpReply<Decoded> | UdpReply<Decoded>[]> {
  const values = option.readAll("request", REPLIES, options);
  const { replies: wanted, signal } = values;
  const plan = planRequest(address, payload, values);
  signal?.throwIfAborted();
  const { promise: aborted, reject: abort } = Promise.withResolvers<never>();
  aborted.catch(() => {}); // It may come when nobody waits any more.
  const onAbort = () => abort(signal!.reason);
  signal?.addEventListener("abort", onAbort);
  let exchange: Exchange | undefined;
  let failure: { error: unknown } | undefined;
  const { telemetry } = plan.ends;
  const span = telemetry ? beginSpan("roundtrip request", "client") : NO_SPAN;
  try {
    // Looking up a name cannot be cancelled, but it need not be waited for.
    const ends = await Promise.race([
      resolveEnds(plan.ends, plan.runtime),
      aborted,
    ]);
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    const replies: UdpReply<Decoded>[] = [];
    exchange = new Exchange(plan, ends, {
      onReply: (reply) => {
        replies.push(reply as UdpReply<Decoded>);
        try {
          if (isWhole(replies, wanted)) resolve();
          else return true;
        } catch (error) {
          reject(error);
        }
      },
      onTimeout: (error) =>
        reject(
          replies.length === 0
            ? error
            : incomplete(error, replies.length, plan),
        ),
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
    span.set("roundtrip.attempts", attempts);
    span.end(failure);
    if (telemetry) count(...countsOf(attempts, foreign, failure?.error));
    signal?.removeEventListener("abort", onAbort);
    await exchange?.close();
  }
}

/** What one request adds to the counts of the process. */
function countsOf(sent: number, foreign: number, error: unknown): Count[] {
  const isLost = error instanceof TimeoutError;
  return clientCounts({
    sent,
    foreign,
    received: error === undefined ? 1 : 0,
    lost: isLost ? 1 : 0,
    errors: error !== undefined && !isLost ? 1 : 0,
  });
}

/** Whether the last reply makes an answer whole. */
function isWhole<Decoded>(
  replies: UdpReply<Decoded>[],
  wanted: RepliesOptions<Decoded>["replies"] = 1,
): boolean {
  const { length } = replies;
  if (typeof wanted === "number") return length >= wanted;
  if (wanted(replies[length - 1]!)) return true;
  if (length < COUNT.max!) return false;
  throw new Error(
    `${length} replies came, and 'replies()' took none as the last`,
  );
}

/** What a time-out says when a part of the answer has come. */
function incomplete(
  { attempts, foreign, cause }: TimeoutError,
  count: number,
  { ends, timeoutMs }: RequestPlan,
): TimeoutError {
  const came = count === 1 ? "1 reply came" : `${count} replies came`;
  return new TimeoutError(
    `Only ${came} from ${
      formatAddress(ends.target)
    }, and no other within ${timeoutMs} ms`,
    { attempts, foreign, cause },
  );
}

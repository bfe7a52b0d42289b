/**
 * The client: one datagram, and its reply.
 *
 * @module
 */
import type { UdpAddress } from "./address.ts";
import {
  Exchange,
  type Payload,
  planRequest,
  type RequestOptions,
  type UdpReply,
} from "./exchange.ts";
import { resolveEnds } from "./target.ts";

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
 * @throws {TypeError} If an option is of a wrong type, or the address cannot be
 * asked: a wildcard, or IPv6 from an IPv4 `localHostname`.
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
export async function request<Decoded = unknown>(
  address: UdpAddress | string,
  payload: Payload,
  options: RequestOptions<Decoded> = {},
): Promise<UdpReply<Decoded>> {
  const plan = planRequest(address, payload, options);
  const { signal } = options;
  signal?.throwIfAborted();
  const { promise: aborted, reject: abort } = Promise.withResolvers<never>();
  aborted.catch(() => {}); // It may come when nobody waits any more.
  const onAbort = () => abort(signal!.reason);
  signal?.addEventListener("abort", onAbort);
  let exchange: Exchange | undefined;
  try {
    // Looking up a name cannot be cancelled, but it need not be waited for.
    const ends = await Promise.race([
      resolveEnds(plan.ends, plan.runtime),
      aborted,
    ]);
    const { promise, resolve, reject } = Promise.withResolvers<UdpReply>();
    exchange = new Exchange(plan, ends, {
      onReply: resolve,
      onTimeout: reject,
      onError: reject,
    });
    exchange.start();
    return await Promise.race([promise, aborted]) as UdpReply<Decoded>;
  } finally {
    signal?.removeEventListener("abort", onAbort);
    await exchange?.close();
  }
}

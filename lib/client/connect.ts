/**
 * Opens a client that has many requests in flight to one server.
 *
 * @module
 */
import type { UdpAddress } from "../address.ts";
import * as option from "../base/options.ts";
import { EXCHANGE, planRequest, type RequestOptions } from "./exchange.ts";
import { resolveEnds } from "./target.ts";
import { Client } from "./client.ts";
import type { Key, UdpClient } from "./udp_client.ts";

/** Options of {@linkcode connect}. */
export interface ConnectOptions extends Omit<RequestOptions, "match"> {
  /**
   * Gives the key that a request shares with its reply and with no other request
   * in flight, such as the id of a DNS message. It is called with the payloads of
   * both; `undefined` is for datagrams that are no reply. Without it one request
   * is in flight at a time, and the others wait.
   *
   * It is no protection: the port stays the same, so that an id that can be
   * guessed can be forged (RFC 5452). `request` has a new port each time.
   */
  key?: ((data: Uint8Array) => Key | undefined) | undefined;
  /**
   * The number of requests in flight, 1 to 65,536; the others wait in order.
   *
   * @default {256}
   */
  maxInFlight?: number | undefined;
}

/** The table of {@linkcode ConnectOptions}. */
export const CONNECT = {
  ...EXCHANGE,
  key: option.callback(),
  maxInFlight: option.integer(1, 65_536, 256),
} satisfies option.Table<ConnectOptions>;

/**
 * Opens a socket for many requests to one server.
 *
 * Iterated, the client gives the server's datagrams that no request waits for. Up to
 * 16 MiB of unread ones are kept, 512 bytes being counted for each beside its payload;
 * further ones are counted as `dropped`.
 *
 * @param address The server, as for `request`.
 * @param options The key of replies, the number in flight, and the defaults of
 * the requests.
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
  const plan = planRequest("connect()", address, "", values);
  signal?.throwIfAborted();
  const ends = await resolveEnds(plan.ends, plan.runtime);
  signal?.throwIfAborted();
  return new Client(plan, ends, key, key === undefined ? 1 : maxInFlight);
}

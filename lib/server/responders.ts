/**
 * Handlers for {@linkcode serve} that are needed again and again.
 *
 * @module
 */
import { type PayloadInit, payloadOf } from "../base/payload.ts";
import { type Handler, withTraits } from "./handler.ts";

/**
 * Answers every datagram with the same reply. A datagram that has the bytes of
 * that reply is refused by the server's guard (`ownReply`).
 *
 * @param reply The reply; text is sent as UTF-8.
 * @returns The handler.
 * @throws {TypeError} If the reply is neither bytes nor text.
 *
 * @example
 * ```ts
 * import { fixedReply, request, serve } from "@roundtrip/udp";
 * import { assertEquals } from "@std/assert";
 *
 * await using server = serve({}, fixedReply("Hello UDP Client"));
 * const { data } = await request(server.addr, "Hello UDP Server");
 * assertEquals(new TextDecoder().decode(data), "Hello UDP Client");
 * ```
 */
export function fixedReply(reply: PayloadInit): Handler {
  const bytes = new Uint8Array(payloadOf(reply, "fixedReply()"));
  return withTraits(() => bytes, { borrows: true, fixedReply: bytes });
}

/**
 * Answers every datagram with its own payload (RFC 862), without a copy.
 *
 * @returns The handler.
 *
 * @example
 * ```ts
 * import { echo, request, serve } from "@roundtrip/udp";
 * import { assertEquals } from "@std/assert";
 *
 * await using server = serve({}, echo());
 * const { data } = await request(server.addr, "ping");
 * assertEquals(new TextDecoder().decode(data), "ping");
 * ```
 */
export function echo(): Handler {
  return withTraits((data) => data, { borrows: true });
}

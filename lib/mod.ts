/**
 * UDP requests and replies: {@linkcode serve} answers datagrams,
 * {@linkcode request} sends one and gives the reply, {@linkcode requestMany}
 * sends a series and gives what became of each, {@linkcode measure} measures
 * the path to a STAMP reflector.
 *
 * Needs Deno's unstable net API: `"unstable": ["net"]` in `deno.json`, or
 * `--unstable-net`; and `--allow-net`.
 *
 * @example
 * ```ts
 * import { request, serve } from "@roundtrip/udp";
 * import { assertEquals } from "@std/assert";
 *
 * await using server = serve({ port: 0 }, () => "Hello UDP Client");
 * const reply = await request(server.addr, "Hello UDP Server");
 * assertEquals(new TextDecoder().decode(reply.data), "Hello UDP Client");
 * ```
 *
 * @module
 */
export {
  canonicalHostname,
  formatAddress,
  ipVersion,
  isLoopback,
  isWildcard,
  parseAddress,
  parsePort,
  type UdpAddress,
} from "./address.ts";
export type { Bin } from "./distribution.ts";
export {
  bytesLiteral,
  decode,
  encode,
  parseHex,
  repeatTo,
  textOrHex,
} from "./encoding.ts";
export { TimeoutError, type TimeoutErrorOptions } from "./errors.ts";
export type {
  Payload,
  ReplyInfo,
  RequestOptions,
  UdpReply,
} from "./exchange.ts";
export {
  gather,
  type Gathering,
  type GatherOptions,
  type GatherSummary,
} from "./gather.ts";
export type { Membership } from "./groups.ts";
export type { GuardOptions, Refusal } from "./guard.ts";
export { request } from "./request.ts";
export {
  requestMany,
  type RequestManyOptions,
  type Series,
  type SeriesEvent,
  type SeriesSummary,
} from "./request_many.ts";
export { echo, fixedReply } from "./responders.ts";
export {
  denoRuntime,
  type Engine,
  type Runtime,
  runtimeFor,
} from "./runtime.ts";
export { serve, type ServeOptions } from "./serve.ts";
export type {
  DatagramInfo,
  Handler,
  Hooks,
  Reply,
  ServerStats,
  UdpServer,
} from "./server.ts";
export type {
  Datagram,
  DatagramSocket,
  OpenOptions,
  Receiver,
} from "./socket.ts";
export {
  measure,
  type MeasureEvent,
  type Measurement,
  type MeasureOptions,
  type MeasureResult,
} from "./stamp/measure.ts";
export {
  decodeReflector,
  decodeSender,
  elapsedMs,
  encodeReflector,
  encodeSender,
  type ErrorEstimate,
  type ReflectorPacket,
  type SenderPacket,
  STAMP_BYTES,
  STAMP_PORT,
  type Timestamp,
  timestampOf,
} from "./stamp/packet.ts";
export {
  type ReflectorOptions,
  type ReflectorStats,
  type StampReflector,
  stampReflector,
} from "./stamp/reflector.ts";
export type { Sample, SessionResult } from "./stamp/sender_session.ts";
export { summarize, type Summary } from "./statistics.ts";

/**
 * UDP requests and replies: {@linkcode serve} answers datagrams,
 * {@linkcode request} sends one and returns the reply, {@linkcode requestMany}
 * sends a series and reports each outcome, {@linkcode gather} collects the
 * replies of many peers, {@linkcode connect} has many requests in flight on one
 * socket, {@linkcode load} measures an echo under load, and
 * {@linkcode openSocket} is for all else.
 *
 * `@roundtrip/udp/stamp` measures paths, `/address` and `/encoding` convert text,
 * and `/testing` is a network in memory.
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
 * assertEquals(reply.text(), "Hello UDP Client");
 * ```
 *
 * @module
 */
import "./base/deno.ts";

export { formatAddress, parseAddress, type UdpAddress } from "./address.ts";
export type {
  ClientRequestOptions,
  ClientStats,
  Key,
  UdpClient,
  Unclaimed,
} from "./client/udp_client.ts";
export { connect, type ConnectOptions } from "./client/connect.ts";
export type { PayloadInit } from "./base/payload.ts";
export type { Payload, RequestOptions } from "./client/exchange.ts";
export {
  type ReplyInfo,
  TimeoutError,
  type TimeoutErrorOptions,
  type UdpReply,
} from "./client/reply.ts";
export {
  gather,
  type Gathering,
  type GatherOptions,
  type GatherSummary,
} from "./client/gather.ts";
export { type Load, load, type LoadResult } from "./client/load.ts";
export type { LoadOptions } from "./client/load_options.ts";
export type { RunHandle } from "./client/run.ts";
export type { RunOptions } from "./client/run_options.ts";
export type { Interval } from "./stats/books.ts";
export type { PartCounts, Reason, RunCounts } from "./stats/counts.ts";
export type { LossStructure, Outage } from "./stats/loss_periods.ts";
export type { Outcome, Sample } from "./stats/sample.ts";
export type { TailSummary } from "./stats/distribution.ts";
export type { GuardOptions, Refusal } from "./server/guard.ts";
export type { Datagram, DatagramFacts } from "./socket/datagram.ts";
export {
  openSocket,
  type SocketOptions,
  type SocketStats,
  type UdpSocket,
} from "./socket/open_socket.ts";
export type { BindOptions } from "./socket/bind_options.ts";
export type { GroupMember } from "./socket/memberships.ts";
export type { Endpoint, Outgoing, PushOptions } from "./socket/outbox.ts";
export type { OptionalReplies, RepliesOptions } from "./client/replies.ts";
export { request } from "./client/request.ts";
export {
  requestMany,
  type RequestManyOptions,
  type Series,
  type SeriesEvent,
  type SeriesSummary,
} from "./client/series.ts";
export { echo, fixedReply } from "./server/responders.ts";
export type { Engine, Runtime, RuntimeOptions } from "./socket/runtime.ts";
export type { ClockState } from "./base/wall_clock.ts";
export { serve, type ServeOptions } from "./server/serve.ts";
export {
  type SessionEnd,
  Sessions,
  type SessionsOptions,
} from "./server/sessions.ts";
export type { DatagramInfo, Handler, Reply } from "./server/handler.ts";
export type { Hooks, ServerStats, UdpServer } from "./server/udp_server.ts";
export type { GroupSendOptions, SendOptions } from "./socket/contract.ts";
export type { OriginOptions } from "./client/target.ts";
export type { Summary } from "./stats/statistics.ts";

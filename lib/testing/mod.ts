/**
 * A network in memory, with a clock of its own, for the tests of services: loss,
 * duplicates and delays follow a plan, and no test waits for real time.
 *
 * @example
 * ```ts
 * import { request, serve } from "@roundtrip/udp";
 * import { SimulatedNetwork } from "@roundtrip/udp/testing";
 * import { assertEquals } from "@std/assert";
 *
 * // The first datagram is lost, all others take 20 ms.
 * const network = new SimulatedNetwork(({ index }) => index === 0 ? [] : [20]);
 * const { runtime } = network;
 * const server = serve({ hostname: "192.0.2.9", runtime }, () => "pong");
 * const reply = await network.run(request(server.addr, "ping", { runtime }));
 * assertEquals([reply.text(), reply.attempts], ["pong", 2]);
 * await server.shutdown();
 * ```
 *
 * @module
 */
import "../base/deno.ts";
import type { UdpAddress } from "../address.ts";
import type { DatagramInfo } from "../server/handler.ts";
import { CLIENT_HOST } from "./network.ts";
import { ADDRESS } from "./socket.ts";

/**
 * The info for a handler that a test calls itself.
 *
 * @param remoteAddr The source of the datagram.
 * @returns The info; its `reply` does nothing, and there is no limit.
 * @throws {TypeError} If it is no address.
 */
export function infoOf(remoteAddr: UdpAddress): DatagramInfo {
  ADDRESS.read(remoteAddr, "remoteAddr");
  return {
    remoteAddr,
    localAddr: { hostname: CLIENT_HOST, port: 20001 },
    receivedAt: 0,
    maxReplyBytes: Infinity,
    reply: () => true,
    validated: () => {},
  };
}

export {
  CLIENT_HOST,
  DEFAULT_SEED,
  LATENCY_MS,
  type Passing,
  type Plan,
  type Planned,
  seededRandom,
  SimulatedNetwork,
  TIME_ORIGIN,
} from "./network.ts";
export { SimulatedSocket } from "./socket.ts";
export { type Clock, type TimerKind, Timers } from "./clock.ts";
export type { Interface, Membership } from "../socket/multicast.ts";
export type { DatagramInfo } from "../server/handler.ts";
export type { Runtime } from "../socket/runtime.ts";
export type { ClockState } from "../base/wall_clock.ts";
export type {
  Datagram,
  DatagramSocket,
  GroupSendOptions,
  OpenOptions,
  Receiver,
  ReplyOptions,
  SendListener,
  SendOptions,
} from "../socket/contract.ts";
export type { UdpAddress } from "../address.ts";

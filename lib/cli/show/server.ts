/**
 * How the server shows what it does: lines for people, objects for JSON. Pure.
 *
 * @module
 */
import { formatAddress, type UdpAddress } from "../../address.ts";
import { bytesLiteral, textOrHex } from "../../encoding.ts";
import {
  type GuardLimits,
  type Refusal,
  REFUSAL_WORDS,
} from "../../server/guard.ts";
import { DEFAULT_ENGINE, type Engine } from "../../socket/runtime.ts";
import type { ServerStats } from "../../server/udp_server.ts";
import type { ReflectorStats } from "../../stamp/reflector.ts";
import { counted } from "./format.ts";

/** All that a server has counted; it sends nothing unasked. */
export interface ServerCounts {
  server: Omit<ServerStats, "pushed">;
  reflector?: ReflectorStats | undefined;
}

/** The two lines of the server for one datagram. */
export function exchangeLines(
  data: Uint8Array,
  { hostname, port }: UdpAddress,
): string {
  return `Message from Client:${bytesLiteral(data)}\n` +
    `Client IP Address:("${hostname}", ${port})`;
}

/** The server's JSON object for one datagram. */
export function exchangeJson(
  data: Uint8Array,
  { hostname, port }: UdpAddress,
  time: Date,
): Record<string, unknown> {
  return {
    type: "request",
    time,
    hostname,
    port,
    size: data.length,
    ...textOrHex(data),
  };
}

/** The server's first line, with its limits, and its engine if it is not the usual one. */
export function listeningLine(
  addr: UdpAddress,
  { rateLimit }: GuardLimits,
  engine: Engine,
): string {
  const suffix = engine === DEFAULT_ENGINE ? "" : ` (${engine} engine)`;
  const limit = rateLimit === 0
    ? ""
    : `, at most ${rateLimit} answers a second to a /24 or /56`;
  return `UDP server up and listening on ${
    formatAddress(addr)
  }${limit}${suffix}`;
}

/** Why a datagram was refused, and what there is to do about it. */
export function refusalLine(
  reason: Refusal,
  remote: UdpAddress,
): string {
  const remedy = REMEDIES[reason] ?? "";
  return `refused ${formatAddress(remote)}: ${REFUSAL_WORDS[reason]}${remedy}`;
}

/** A datagram was dropped, as more came than can be worked on. */
export function overloadLine(remote: UdpAddress): string {
  return `dropped a datagram from ${
    formatAddress(remote)
  }: more come than are answered`;
}

/** The server's counts in one line; what is 0 and unusual is left out. */
export function statsLine(
  { server: stats, reflector }: ServerCounts,
): string {
  const { received, replied, unanswered, dropped, refused, errors } = stats;
  return [
    `${received} received`,
    `${replied} replied`,
    ...counted(unanswered, "unanswered"),
    ...counted(reflector?.malformed ?? 0, "malformed"),
    ...counted(reflector?.corrupt ?? 0, "corrupt"),
    ...counted(reflector?.unauthentic ?? 0, "unauthentic"),
    ...counted(reflector?.returned ?? 0, "returned by a reflector"),
    ...counted(stats.kernelDrops ?? 0, "dropped by the system"),
    ...counted(dropped.tooLong, "dropped as too long"),
    ...counted(dropped.overload, "dropped in overload"),
    ...counted(dropped.closing, "dropped while closing"),
    ...Object.entries(refused).flatMap(([reason, count]) =>
      counted(count, `refused (${reason})`)
    ),
    ...counted(errors.handler, "handler errors"),
    ...counted(errors.send, "send errors"),
    ...counted(errors.receive, "receive errors"),
  ].join(", ");
}

/** The server's counts as an object. */
export function statsJson(
  type: "interval" | "summary",
  { server, reflector }: ServerCounts,
  time: Date,
): Record<string, unknown> {
  const { kernelDrops = null } = server;
  return { type, time, ...server, kernelDrops, stamp: reflector };
}

/** What was counted since an earlier look; what goes up and down is as it is. */
export function since<T extends object>(now: T, before: T): T {
  return Object.fromEntries(
    Object.entries(now).map(([name, value]) => {
      const earlier = (before as Record<string, unknown>)[name];
      if (LEVELS.has(name) || earlier === undefined) return [name, value];
      return [
        name,
        typeof value === "number"
          ? value - (earlier as number)
          : value && since(value as object, earlier as object),
      ];
    }),
  ) as T;
}

/** The server's line for one packet of a STAMP sender. */
export function packetLine(data: Uint8Array, remote: UdpAddress): string {
  return `STAMP request from ${formatAddress(remote)}, ${data.length} bytes`;
}

const REMEDIES: Partial<Record<Refusal, string>> = {
  amplification: " (--max-amplification)",
  rate: " (--rate-limit)",
};

const LEVELS: ReadonlySet<string> = new Set(["inFlight", "sessions"]);

/**
 * The server: the columns of its counts, and its lines. Pure.
 *
 * @module
 */
import { formatAddress, type UdpAddress } from "../../address.ts";
import * as guard from "../../server/guard.ts";
import { DEFAULT_ENGINE, type Engine } from "../../socket/runtime.ts";
import type { ServerStats } from "../../server/udp_server.ts";
import type { ReflectorStats } from "../../stamp/reflector.ts";
import * as column from "./columns.ts";
import { payloadText } from "./format.ts";

/** All counts of a server; the program pushes nothing. */
export interface ServerCounts {
  server: Omit<ServerStats, "pushed">;
  reflector?: ReflectorStats | undefined;
  /** Events that were left out, as stdout is read too slowly. */
  eventsDropped: number;
}

/** The counts as one object. */
type ServerRow =
  & ServerCounts["server"]
  & Pick<ServerCounts, "eventsDropped">
  & { stamp: ReflectorStats | undefined };

const STATS: column.Columns<ServerRow> = {
  received: column.COUNT,
  replied: column.COUNT,
  unanswered: column.RARE,
  dropped: {
    columns: {
      tooLong: column.rare("dropped as too long"),
      overload: column.rare("dropped in overload"),
      closing: column.rare("dropped while closing"),
    } satisfies column.Columns<ServerRow["dropped"]>,
  },
  kernelDrops: column.rare("dropped by the system"),
  refused: {
    columns: Object.fromEntries(
      guard.REFUSALS.map((reason) => [reason, {
        ...column.rare(`refused (${reason})`),
        docs: guard.REFUSAL_WORDS[reason],
      }]),
    ),
  },
  bytes: {},
  inFlight: column.rare("in flight"),
  errors: {
    columns: {
      handler: column.rare("handler errors"),
      send: column.rare("send errors"),
      receive: column.rare("receive errors"),
    } satisfies column.Columns<ServerRow["errors"]>,
  },
  eventsDropped: {
    ...column.DROPPED,
    docs: "`request` objects or lines left out, as stdout is read too slowly",
  },
  stamp: {
    docs: "the counts of the reflector, with `--stamp`",
    optional: true,
    columns: {
      // All that is not refused or dropped later is among `replied`.
      reflected: {},
      malformed: column.RARE,
      corrupt: column.RARE,
      unauthentic: column.RARE,
      unprovisioned: column.RARE,
      returned: column.rare("returned by a reflector"),
      sessions: {},
    } satisfies column.Columns<ReflectorStats>,
  },
};

const ADDRESS = { hostname: { docs: "IP address" }, port: { docs: "port" } };

export const SERVER_EVENTS: column.EventColumns = {
  listening: {
    ...ADDRESS,
    maxAmplification: { docs: "`--max-amplification`, 0 for no limit" },
    rateLimit: { docs: "`--rate-limit`, 0 for no limit" },
    engine: { docs: "`deno` or `linux`" },
  },
  request: { ...ADDRESS, ...column.PAYLOAD },
  interval: STATS,
  summary: STATS,
};

/** The two lines of the server for one datagram. */
export function exchangeLines(
  data: Uint8Array,
  { hostname, port }: UdpAddress,
): string {
  return `Message from Client:${payloadText(data)}\n` +
    `Client IP Address:("${hostname}", ${port})`;
}

/** The server's JSON object for one datagram. */
export function exchangeJson(
  data: Uint8Array,
  { hostname, port }: UdpAddress,
  time: Date,
): Record<string, unknown> {
  return { type: "request", time, hostname, port, ...column.payloadOf(data) };
}

/** The server's first line: its address, its limits, an engine that is not the usual one. */
export function listeningLine(
  addr: UdpAddress,
  { rateLimit }: guard.GuardLimits,
  engine: Engine,
): string {
  const suffix = engine === DEFAULT_ENGINE ? "" : ` (${engine} engine)`;
  const limit = rateLimit === 0
    ? ""
    : `, at most ${rateLimit} answers a second to a /24 or /56`;
  const address = formatAddress(addr);
  return `UDP server up and listening on ${address}${limit}${suffix}`;
}

/** The reason of a refusal, with the flag that sets the limit. */
export function refusalLine(reason: guard.Refusal, remote: UdpAddress): string {
  const words = guard.REFUSAL_WORDS[reason] + (REMEDIES[reason] ?? "");
  return `refused ${formatAddress(remote)}: ${words}`;
}

/** The peer whose datagram was dropped, since too many are being answered. */
export function overloadLine(remote: UdpAddress): string {
  const peer = formatAddress(remote);
  return `dropped a datagram from ${peer}: more arrive than are answered`;
}

/** The counts in one line; unusual ones only if they are not 0. */
export function statsLine(counts: ServerCounts): string {
  return column.countsOf(STATS, rowOf(counts));
}

export function statsJson(
  type: "interval" | "summary",
  counts: ServerCounts,
  time: Date,
): Record<string, unknown> {
  return { type, time, ...column.objectOf(STATS, rowOf(counts)) };
}

function rowOf(counts: ServerCounts): ServerRow {
  const { server, reflector: stamp, eventsDropped } = counts;
  return { ...server, stamp, eventsDropped };
}

/** The counts since an earlier snapshot; levels, which rise and fall, as they are. */
export function since<T extends object>(now: T, before: T): T {
  return combined(
    now,
    before,
    (count, earlier = 0, name) =>
      count === undefined || LEVELS.has(name) ? count : count - earlier,
  );
}

/** The counts of two servers together. */
export function sumOf<T extends object>(one: T, other: T): T {
  return combined(one, other, (a = 0, b = 0) => a + b);
}

type Counts = Record<string, unknown>;
type Count = number | undefined;

/** Two objects of one shape, number by number, where one of them has it. */
function combined<T extends object>(
  one: T,
  other: T,
  combine: (a: Count, b: Count, name: string) => Count,
): T {
  const result = { ...other, ...one } as Counts;
  for (const name of Object.keys(result)) {
    const [a, b] = [(one as Counts)[name], (other as Counts)[name]];
    const known = a ?? b;
    if (typeof known === "number") {
      result[name] = combine(a as Count, b as Count, name);
    } else if (known) result[name] = combined(a ?? {}, b ?? {}, combine);
  }
  return result as T;
}

/** The server's line for one packet of a STAMP sender. */
export function packetLine(data: Uint8Array, remote: UdpAddress): string {
  return `STAMP request from ${formatAddress(remote)}, ${data.length} bytes`;
}

const REMEDIES: Partial<Record<guard.Refusal, string>> = {
  amplification: " (--max-amplification)",
  rate: " (--rate-limit)",
};

const LEVELS: ReadonlySet<string> = new Set(["inFlight", "sessions"]);

/**
 * The flags of `server.ts`, and the plan that they make together. Pure.
 *
 * @module
 */
import { parsePort } from "../address.ts";
import { errorMessage } from "../base/errors.ts";
import { checkGroups, hostnameFor } from "../socket/multicast.ts";
import { GUARD_DEFAULTS } from "../server/guard.ts";
import { DEFAULT_ENGINE } from "../socket/runtime.ts";
import { SERVE_DEFAULTS } from "../server/serve.ts";
import { MAX_PAYLOAD } from "../socket/contract.ts";
import { STAMP_PORT } from "../stamp/packet.ts";
import { encode } from "../encoding.ts";
import {
  COMMON_FLAGS,
  decimal,
  duration,
  ENGINE_FLAG,
  type Flags,
  type Given,
  host,
  integer,
  TIMESTAMPS_FLAG,
  UsageError,
} from "./flags.ts";
import type { Help } from "./main.ts";
import type { ServerPlan } from "./runs/server.ts";

const DEFAULTS = { port: 20_001, reply: "Hello UDP Client" };

/** All flags. */
export const SERVER_FLAGS = {
  host: {
    group: "Where to listen",
    value: "HOST",
    parse: host,
    help:
      `the address to bind; :: takes IPv4 and IPv6 (${SERVE_DEFAULTS.hostname})`,
  },
  port: {
    short: "p",
    group: "Where to listen",
    value: "PORT",
    parse: parsePort,
    help: `the port to bind; 0 takes any that is free (${DEFAULTS.port})`,
  },
  group: {
    group: "Where to listen",
    rare: true,
    value: "ADDR[,…]",
    parse: (text: string) => text.split(","),
    help: "hear multicast groups too, on 0.0.0.0 or ::",
  },
  interface: {
    group: "Where to listen",
    rare: true,
    value: "NAME",
    parse: String,
    help: "by which interface: its name, or an address of its",
  },
  reply: {
    short: "r",
    group: "What to answer",
    value: "TEXT",
    parse: replyText,
    help: `answer each datagram with this text ("${DEFAULTS.reply}")`,
  },
  echo: {
    group: "What to answer",
    help: "answer each datagram with its own payload",
  },
  stamp: {
    group: "What to answer",
    help: `reflect STAMP packets (RFC 8762), at port ${STAMP_PORT}`,
  },
  stateless: {
    group: "With --stamp",
    rare: true,
    help: "return the sender's sequence",
  },
  "key-file": {
    group: "With --stamp",
    rare: true,
    value: "FILE",
    parse: String,
    help: "authenticated packets only: lines of [SSID|HOST] HEX",
  },
  ssid: {
    group: "With --stamp",
    rare: true,
    value: "LIST",
    parse: parseSsids,
    help: "sessions with one of these SSIDs only",
  },
  "rate-limit": {
    group: "Whom to answer",
    value: "N",
    parse: integer(0, 1_000_000_000),
    help:
      `answers a second to a /24 or /56; 0: any (${GUARD_DEFAULTS.rateLimit}; on loopback 0)`,
  },
  "max-amplification": {
    group: "Whom to answer",
    value: "X",
    parse: decimal(1000),
    help:
      `answer's bytes to the request's; 0: any (${GUARD_DEFAULTS.maxAmplification}; on loopback 0)`,
  },
  count: {
    short: "c",
    group: "How long to run",
    value: "N",
    parse: integer(1, 1_000_000_000),
    help: "exit after N replies",
  },
  quiet: { short: "q", group: "What to show", help: "show no datagrams" },
  json: { group: "What to show", help: "print one JSON object a line" },
  timestamps: TIMESTAMPS_FLAG,
  report: {
    group: "What to show",
    rare: true,
    value: "TIME",
    parse: duration(100),
    help: "tell each time what has been counted since the last",
  },
  engine: ENGINE_FLAG,
  workers: {
    group: "The engine",
    rare: true,
    value: "N",
    parse: integer(1, 256),
    help: "serve with N threads on one port, on the linux engine (1)",
  },
  ...COMMON_FLAGS,
} satisfies Flags;

const INTRO = `Answers UDP datagrams.
Usage: deno task server [flags]`;

const NOTES =
  `Ctrl-C lets the answers that are being made go out, and prints the counts; a
second one ends the server at once. SIGUSR2 shows the counts so far. Exit codes: 0 stopped; 2 an error.`;

/** What `--help` says. */
export const SERVER_HELP: Help = {
  flags: SERVER_FLAGS,
  intro: INTRO,
  notes: NOTES,
};

/**
 * The plan that the flags make.
 *
 * @throws {UsageError} If flags do not go together.
 */
export function planServer(
  given: Given<typeof SERVER_FLAGS>,
  positionals: string[],
): ServerPlan {
  if (positionals.length > 0) {
    throw new UsageError(
      `Unexpected argument '${positionals[0]}': the address goes behind --host`,
    );
  }
  const modes = [given.echo, given.stamp, given.reply !== undefined];
  if (modes.filter(Boolean).length > 1) {
    throw new UsageError("--echo, --stamp and --reply exclude each other");
  }
  const ofStamp = [
    ...["key-file", "ssid"] as const,
    ...(given.stateless ? ["stateless"] as const : []),
  ].find((name) => given[name] !== undefined);
  if (ofStamp !== undefined && !given.stamp) {
    throw new UsageError(`--${ofStamp} needs --stamp`);
  }
  const { workers = 1 } = given;
  const engine = given.engine ?? (workers > 1 ? "linux" : DEFAULT_ENGINE);
  if (workers > 1 && engine === "deno") {
    throw new UsageError("--workers needs --engine linux");
  }
  if (workers > 1 && given.count !== undefined) {
    throw new UsageError("--workers and --count exclude each other");
  }
  const { group: groups = [] } = given;
  let hostname: string;
  try {
    checkGroups(groups, given.interface);
    hostname = hostnameFor(groups, given.host, SERVE_DEFAULTS.hostname);
  } catch (error) {
    throw new UsageError(`--group: ${errorMessage(error)}`);
  }
  return {
    hostname,
    groups,
    interface: given.interface,
    port: given.port ?? (given.stamp ? STAMP_PORT : DEFAULTS.port),
    answer: given.stamp ? "stamp" : given.echo ? "echo" : "reply",
    reply: given.reply ?? DEFAULTS.reply,
    stateless: given.stateless,
    ssids: given.ssid,
    guard: {
      rateLimit: given["rate-limit"],
      maxAmplification: given["max-amplification"],
    },
    engine,
    workers,
    maxReplies: given.count,
    quiet: given.quiet,
    json: given.json,
    timestamps: given.timestamps,
  };
}

function parseSsids(text: string): number[] {
  return text.split(",").map(integer(0, 65_535));
}

function replyText(text: string): string {
  const { length } = encode(text);
  if (length > MAX_PAYLOAD) {
    throw new SyntaxError(
      `a reply of ${length} bytes fits no datagram: UDP takes at most ${MAX_PAYLOAD}`,
    );
  }
  return text;
}

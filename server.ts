/**
 * The server: answers UDP datagrams, and shows each of them.
 *
 * @module
 */
import { formatAddress, parsePort } from "./lib/address.ts";
import {
  complain,
  EXIT_OK,
  LineWriter,
  note,
  onInterrupt,
  run,
  Throttle,
  VERSION_LINE,
} from "./lib/cli.ts";
import {
  COMMON_FLAGS,
  decimal,
  ENGINE_FLAG,
  type Flags,
  host,
  integer,
  parseFlags,
  usage,
  UsageError,
} from "./lib/flags.ts";
import { guardLimits } from "./lib/guard.ts";
import {
  errorMessage,
  exchangeJson,
  exchangeLines,
  listeningLine,
  refusalLine,
  statsLine,
} from "./lib/report.ts";
import { stampReflector } from "./lib/reflector.ts";
import { packetLine } from "./lib/report_stamp.ts";
import { echo, fixedReply } from "./lib/responders.ts";
import { STAMP_PORT } from "./lib/stamp.ts";
import { type Handler, serve } from "./lib/serve.ts";

const DEFAULTS = { host: "127.0.0.1", port: 20_001, reply: "Hello UDP Client" };

const FLAGS = {
  host: {
    value: "HOST",
    parse: host,
    help: `the address to bind; :: takes IPv4 and IPv6 (${DEFAULTS.host})`,
  },
  port: {
    short: "p",
    value: "PORT",
    parse: parsePort,
    help: `the port to bind; 0 takes any that is free (${DEFAULTS.port})`,
  },
  reply: {
    short: "r",
    value: "TEXT",
    parse: String,
    help: `what to answer each datagram with ("${DEFAULTS.reply}")`,
  },
  echo: { help: "answer each datagram with its own payload" },
  stamp: { help: "reflect STAMP packets (RFC 8762), at port 862" },
  stateless: { help: "with --stamp, return the sender's sequence" },
  "rate-limit": {
    value: "N",
    parse: integer(0, 1_000_000_000),
    help:
      `answers a second to a /24 or /56; 0 is no limit (100, on loopback 0)`,
  },
  "max-amplification": {
    value: "X",
    parse: decimal(1000),
    help:
      "answer with at most X times the bytes of a request; 0 is no limit (3)",
  },
  engine: ENGINE_FLAG,
  count: {
    short: "c",
    value: "N",
    parse: integer(1, 1_000_000_000),
    help: "exit after N replies",
  },
  quiet: { short: "q", help: "show no datagrams" },
  json: { help: "one JSON object a line" },
  ...COMMON_FLAGS,
} satisfies Flags;

async function main(args: string[]): Promise<number> {
  const { given, positionals } = parseFlags(FLAGS, args);
  const out = new LineWriter();
  if (given.help || given.version) {
    out.write(given.help ? usage(FLAGS, USAGE) : VERSION_LINE);
    await out.flush();
    return EXIT_OK;
  }
  if (positionals.length > 0) {
    throw new UsageError(`'${positionals[0]}' is no flag: bind with --host`);
  }
  const modes = [given.echo, given.stamp, given.reply !== undefined];
  if (modes.filter(Boolean).length > 1) {
    throw new UsageError("--echo, --stamp and --reply exclude each other");
  }
  if (given.stateless && !given.stamp) {
    throw new UsageError("--stateless needs --stamp");
  }

  const reflector = given.stamp
    ? stampReflector({ stateless: given.stateless })
    : undefined;
  const answer = reflector ??
    (given.echo ? echo() : fixedReply(given.reply ?? DEFAULTS.reply));
  const lines = given.stamp ? packetLine : exchangeLines;
  const shown: Handler = (data, info) => {
    // The reply first: a reflector tells how long it took.
    const reply = answer(data, info);
    out.write(
      given.json
        ? JSON.stringify(exchangeJson(data, info.remoteAddr))
        : lines(data, info.remoteAddr),
    );
    return reply;
  };
  const log = new Throttle((message) => complain("server", message));
  const guard = {
    ...(given["rate-limit"] !== undefined &&
      { rateLimit: given["rate-limit"] }),
    ...(given["max-amplification"] !== undefined &&
      { maxAmplification: given["max-amplification"] }),
  };
  const server = serve({
    hostname: given.host ?? DEFAULTS.host,
    port: given.port ?? (given.stamp ? STAMP_PORT : DEFAULTS.port),
    guard,
    engine: given.engine ?? "deno",
    ...(given.count !== undefined && { maxReplies: given.count }),
    onListen: (addr) => {
      const limits = guardLimits(guard, addr);
      out.write(
        given.json
          ? JSON.stringify({ type: "listening", ...addr, ...limits })
          : listeningLine(addr, limits.rateLimit),
      );
    },
    onRefuse: (reason, info) => log.say(reason, refusalLine(reason, info)),
    onError: (error, info) => {
      const peer = info === undefined
        ? ""
        : `${formatAddress(info.remoteAddr)}: `;
      log.say("error", peer + errorMessage(error));
    },
  }, given.quiet ? answer : shown);
  onInterrupt(() => server.shutdown());
  try {
    await server.finished;
  } finally {
    const stats = server.stats();
    const stamp = reflector && { stamp: reflector.stats() };
    if (given.json) {
      out.write(JSON.stringify({ type: "summary", ...stats, ...stamp }));
    }
    await out.flush();
    if (!given.json) note(statsLine(stats, stamp?.stamp));
  }
  return EXIT_OK;
}

const USAGE = `Answers UDP datagrams.

Usage: deno task server [options]`;

if (import.meta.main) await run("server", main);

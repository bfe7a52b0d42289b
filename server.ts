/**
 * The server: answers UDP datagrams, and shows each of them.
 *
 * @module
 */
import { parsePort } from "./lib/address.ts";
import {
  complain,
  EXIT_OK,
  LineWriter,
  note,
  onInterrupt,
  run,
  Throttle,
  VERSION_LINE,
} from "./lib/cli/main.ts";
import {
  COMMON_FLAGS,
  decimal,
  ENGINE_FLAG,
  type Flags,
  type Given,
  host,
  integer,
  parseFlags,
  usage,
  UsageError,
} from "./lib/cli/flags.ts";
import { statsLine } from "./lib/cli/series_lines.ts";
import {
  listeningText,
  runServer,
  type ServerOutput,
  type ServerPlan,
} from "./lib/cli/server_run.ts";
import { runWorkers } from "./lib/cli/worker_pool.ts";
import { STAMP_PORT } from "./lib/stamp/packet.ts";

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
  workers: {
    value: "N",
    parse: integer(1, 256),
    help: "serve with N threads on one port, on the linux engine (1)",
  },
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

  const { workers = 1 } = given;
  if (workers > 1 && given.engine === undefined) given.engine = "linux";
  if (workers > 1 && given.engine === "deno") {
    throw new UsageError("--workers needs --engine linux");
  }
  if (workers > 1 && given.count !== undefined) {
    throw new UsageError("--workers and --count exclude each other");
  }

  const log = new Throttle((message) => complain("server", message));
  const plan = planOf(given);
  const output: ServerOutput = {
    line: (text) => out.write(text),
    log: (kind, message) => log.say(kind, message),
    listening: (addr) => out.write(listeningText(plan, addr)),
  };
  const server = workers === 1
    ? runServer(plan, output)
    : await runWorkers(plan, workers, output);
  onInterrupt(() => server.shutdown());
  try {
    await server.finished;
  } finally {
    const { server: stats, reflector } = server.counts();
    if (given.json) {
      const stamp = reflector && { stamp: reflector };
      out.write(JSON.stringify({ type: "summary", ...stats, ...stamp }));
    }
    await out.flush();
    if (!given.json) note(statsLine(stats, reflector));
  }
  return EXIT_OK;
}

function planOf(given: Given<typeof FLAGS>): ServerPlan {
  return {
    hostname: given.host ?? DEFAULTS.host,
    port: given.port ?? (given.stamp ? STAMP_PORT : DEFAULTS.port),
    answer: given.stamp ? "stamp" : given.echo ? "echo" : "reply",
    reply: given.reply ?? DEFAULTS.reply,
    stateless: given.stateless,
    guard: {
      ...(given["rate-limit"] !== undefined &&
        { rateLimit: given["rate-limit"] }),
      ...(given["max-amplification"] !== undefined &&
        { maxAmplification: given["max-amplification"] }),
    },
    engine: given.engine ?? "deno",
    reusePort: false,
    maxReplies: given.count,
    quiet: given.quiet,
    json: given.json,
  };
}

const USAGE = `Answers UDP datagrams.

Usage: deno task server [options]`;

if (import.meta.main) await run("server", main);

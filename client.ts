/**
 * The client: sends UDP datagrams, and shows what comes back.
 *
 * @module
 */
import { parseAddress, parsePort, type UdpAddress } from "./lib/address.ts";
import {
  complain,
  EXIT_OK,
  EXIT_UNANSWERED,
  LineWriter,
  onInterrupt,
  run,
  VERSION_LINE,
} from "./lib/cli/main.ts";
import {
  COMMON_FLAGS,
  decimal,
  duration,
  ENGINE_FLAG,
  type Flags,
  type Given,
  host,
  integer,
  NO_PORT,
  parseFlags,
  usage,
  UsageError,
} from "./lib/cli/flags.ts";
import { bytesLiteral, encode, parseHex, repeatTo } from "./lib/encoding.ts";
import {
  eventJson,
  eventLine,
  replyLine,
  summaryJson,
  summaryLines,
} from "./lib/cli/series_lines.ts";
import { request } from "./lib/request.ts";
import {
  requestMany,
  type SeriesEvent,
  type SeriesSummary,
} from "./lib/request_many.ts";
import { echo } from "./lib/responders.ts";
import { serve } from "./lib/serve.ts";
import { STAMP_PORT } from "./lib/stamp/packet.ts";
import { MAX_PAYLOAD_IPV6 } from "./lib/socket.ts";

const DEFAULTS = {
  host: "127.0.0.1",
  port: 20_001,
  message: "Hello UDP Server",
};

const FLAGS = {
  port: {
    short: "p",
    value: "PORT",
    parse: parsePort,
    help: `the port to ask, if HOST names none (${DEFAULTS.port})`,
  },
  message: {
    short: "m",
    value: "TEXT",
    parse: String,
    help: `what to send; - reads stdin to its end ("${DEFAULTS.message}")`,
  },
  hex: { value: "HEX", parse: parseHex, help: "what to send, as hex digits" },
  size: {
    short: "s",
    value: "BYTES",
    parse: integer(0, MAX_PAYLOAD_IPV6),
    help: "repeat or cut what is sent to so many bytes",
  },
  count: {
    short: "c",
    value: "N",
    parse: integer(0, 1_000_000_000),
    help: "how many datagrams to send (1; with --stamp 10, and 0 for no end)",
  },
  interval: {
    short: "i",
    value: "TIME",
    parse: duration(0),
    help: "from one datagram to the next; 0 waits for each answer (1s)",
  },
  timeout: {
    short: "W",
    value: "TIME",
    parse: duration(1),
    help: "how long to wait for a reply; doubles with each retry (1s)",
  },
  retries: {
    value: "N",
    parse: integer(0, 100),
    help: "how often to send again what is not answered (2)",
  },
  deadline: {
    short: "w",
    value: "TIME",
    parse: duration(1),
    help: "end after so long, whatever is still unanswered",
  },
  engine: ENGINE_FLAG,
  bind: { short: "B", value: "HOST", parse: host, help: "send from here" },
  expect: {
    value: "TEXT",
    parse: String,
    help: "exit with 1 if a reply is not this",
  },
  stamp: { help: "measure the path to a STAMP reflector, at port 862" },
  histogram: { help: "with --stamp, draw how the RTTs are distributed" },
  "max-loss": {
    value: "PERCENT",
    parse: decimal(100),
    help: "exit with 1 if more is lost",
  },
  quiet: { short: "q", help: "show no replies, only the summary" },
  json: { help: "one JSON document at the end" },
  "json-stream": { help: "one JSON object a line as things happen" },
  ...COMMON_FLAGS,
} satisfies Flags;

type Options = Given<typeof FLAGS>;

async function main(args: string[]): Promise<number> {
  const { given, positionals } = parseFlags(FLAGS, args);
  const out = new LineWriter();
  if (given.help || given.version) {
    out.write(given.help ? usage(FLAGS, USAGE) : VERSION_LINE);
    await out.flush();
    return EXIT_OK;
  }
  checkTogether(given);
  const asked = parseTarget(given, positionals);
  if (given.stamp) return await stamp(given, asked, out);
  const series = requestMany(asked, await readPayload(given), {
    ...(given.count !== undefined && { count: given.count }),
    ...(given.interval !== undefined && { intervalMs: given.interval }),
    ...(given.timeout !== undefined && { timeoutMs: given.timeout }),
    ...(given.retries !== undefined && { retries: given.retries }),
    ...(given.deadline !== undefined && { deadlineMs: given.deadline }),
    ...(given.bind !== undefined && { localHostname: given.bind }),
    ...(given.engine !== undefined && { engine: given.engine }),
  });
  onInterrupt(() => series.stop());
  if (given.count !== undefined && given.count > 1) await warmUp();

  const report = reporter(given, out);
  const expected = given.expect === undefined
    ? undefined
    : encode(given.expect);
  let unexpected = 0;
  let failure: unknown;
  for await (const event of series) {
    report.event(event);
    if (event.type === "error") failure = event.error;
    if (event.type !== "reply" || expected === undefined) continue;
    const { data } = event.reply;
    if (equalBytes(data, expected)) continue;
    unexpected++;
    complain(
      "client",
      `--expect ${bytesLiteral(expected)}: the reply is ${bytesLiteral(data)}`,
    );
  }
  const summary = series.summary();
  report.end(series.target ?? asked, summary, unexpected);
  await out.flush();
  if (summary.received === 0 && failure !== undefined) throw failure;
  return exitCode(given, summary, unexpected);
}

/** `--stamp`, which loads its own code so that the rest starts faster. */
async function stamp(
  given: Options,
  asked: UdpAddress,
  out: LineWriter,
): Promise<number> {
  const { runStamp } = await import("./lib/cli/stamp_run.ts");
  const { count, interval, size, timeout, deadline, bind, engine } = given;
  const options = {
    ...(count !== undefined && { count: count === 0 ? Infinity : count }),
    ...(interval !== undefined && { intervalMs: interval }),
    ...(size !== undefined && { size }),
    ...(timeout !== undefined && { timeoutMs: timeout }),
    ...(deadline !== undefined && { deadlineMs: deadline }),
    ...(bind !== undefined && { localHostname: bind }),
    ...(engine !== undefined && { engine }),
  };
  const { quiet, json, histogram, "json-stream": jsonStream } = given;
  const output = { quiet, json, jsonStream, histogram };
  const result = await runStamp(asked, options, output, out);
  return exitCode(given, result, 0);
}

/** Refuses flags that do not go together. */
function checkTogether(given: Options): void {
  const notStamp = ["message", "hex", "retries", "expect"] as const;
  const clash = notStamp.find((name) => given[name] !== undefined);
  if (given.stamp && clash !== undefined) {
    throw new UsageError(`--stamp and --${clash} exclude each other`);
  }
  if (given.histogram && !given.stamp) {
    throw new UsageError("--histogram needs --stamp");
  }
  if (given.count === 0 && !given.stamp) {
    throw new UsageError("--count: 0, for no end, needs --stamp");
  }
  if (given.interval === 0 && given.stamp) {
    throw new UsageError("--interval: 0 is too short for --stamp");
  }
  if (given.hex !== undefined && given.message !== undefined) {
    throw new UsageError("--hex and --message exclude each other");
  }
  if (given.json && given["json-stream"]) {
    throw new UsageError("--json and --json-stream exclude each other");
  }
}

function parseTarget(given: Options, positionals: string[]): UdpAddress {
  if (positionals.length > 1) {
    throw new UsageError(
      `'${positionals[1]}' is one HOST too many: the client asks one`,
    );
  }
  const [text = DEFAULTS.host] = positionals;
  try {
    const { hostname, port } = parseAddress(text, NO_PORT);
    if (port !== NO_PORT && given.port !== undefined && port !== given.port) {
      throw new SyntaxError(`'${text}' has another port than --port`);
    }
    const usual = given.stamp ? STAMP_PORT : DEFAULTS.port;
    const asked = port === NO_PORT ? given.port ?? usual : port;
    if (asked === 0) throw new SyntaxError("nobody can be asked at port 0");
    return { hostname, port: asked };
  } catch (error) {
    if (!(error instanceof SyntaxError)) throw error;
    throw new UsageError(`HOST[:PORT]: ${error.message}`);
  }
}

async function readPayload(given: Options): Promise<Uint8Array> {
  const payload = given.hex ??
    (given.message === "-"
      ? await readStdin()
      : encode(given.message ?? DEFAULTS.message));
  return given.size === undefined ? payload : repeatTo(payload, given.size);
}

/** All of stdin, or as much as shows that it is too large for a datagram. */
async function readStdin(): Promise<Uint8Array> {
  const chunks: Uint8Array[] = [];
  let size = 0;
  for await (const chunk of Deno.stdin.readable) {
    chunks.push(chunk);
    size += chunk.length;
    if (size > MAX_PAYLOAD_IPV6) {
      throw new UsageError(
        "--message -: stdin is too large for a datagram: UDP takes at most 65507 bytes",
      );
    }
  }
  return new Uint8Array(await new Blob(chunks as BlobPart[]).arrayBuffer());
}

/**
 * The first exchanges of a process take milliseconds that are the compiler's,
 * not the network's: these three, with ourselves, are not measured.
 */
async function warmUp(): Promise<void> {
  try {
    await using server = serve({}, echo());
    for (let i = 0; i < 3; i++) {
      await request(server.addr, "", { timeoutMs: 100, retries: 0 });
    }
  } catch {
    // Without a loopback to use, the first times are what they are.
  }
}

interface Reporter {
  event(event: SeriesEvent): void;
  end(target: UdpAddress, summary: SeriesSummary, unexpected: number): void;
}

function reporter(given: Options, out: LineWriter): Reporter {
  if (given.json || given["json-stream"]) return jsonReporter(given, out);
  if (given.count !== undefined && given.count > 1) {
    return {
      event: (event) => given.quiet || out.write(eventLine(event)),
      end: (target, summary) => out.write(summaryLines(target, summary)),
    };
  }
  return {
    event(event) {
      if (event.type === "lost") complain("client", event.error.message);
      if (event.type !== "reply" || given.quiet) return;
      out.write(replyLine(event.reply.data));
    },
    end: () => {},
  };
}

function jsonReporter(given: Options, out: LineWriter): Reporter {
  const replies: unknown[] = [];
  return {
    event(event) {
      if (given.quiet) return;
      const { type, ...reply } = eventJson(event);
      if (given["json-stream"]) out.write(JSON.stringify({ type, ...reply }));
      else if (type === "reply") replies.push(reply);
    },
    end(target, summary, unexpected) {
      const facts = { ...summaryJson(target, summary), unexpected };
      const whole = given["json-stream"]
        ? { type: "summary", ...facts }
        : { ...facts, ...(!given.quiet && { replies }) };
      out.write(JSON.stringify(whole));
    },
  };
}

function exitCode(
  given: Options,
  { received, lossPercent = 0 }: Pick<
    SeriesSummary,
    "received" | "lossPercent"
  >,
  unexpected: number,
): number {
  if (received === 0 || unexpected > 0) return EXIT_UNANSWERED;
  const maxLoss = given["max-loss"] ?? 100;
  return lossPercent > maxLoss ? EXIT_UNANSWERED : EXIT_OK;
}

function equalBytes(a: Uint8Array, b: Uint8Array): boolean {
  return a.length === b.length && a.every((byte, i) => byte === b[i]);
}

const USAGE = `Sends UDP datagrams and shows what comes back.

Usage: deno task client [options] [HOST[:PORT]]

HOST is a name or an IP address (${DEFAULTS.host}); IPv6 with a port is written
[IPV6]:PORT. A TIME is in seconds, or has a unit: 200ms, 1s, 1m.
Exit codes: 0 answered; 1 no answer, a wrong one, or too much loss; 2 an error.`;

if (import.meta.main) await run("client", main);

/**
 * The flags of `client.ts`, and what they mean together. Pure.
 *
 * @module
 */
import { parseAddress, parsePort, type UdpAddress } from "../address.ts";
import { parseHex } from "../encoding.ts";
import { LOAD_DEFAULTS, MEASURE_DEFAULTS } from "../defaults.ts";
import { errorMessage } from "../errors.ts";
import type { LoadOptions } from "../load.ts";
import { SERIES_DEFAULTS } from "../request_many.ts";
import { DEFAULT_ENGINE } from "../runtime.ts";
import { MAX_PAYLOAD } from "../socket.ts";
import { STAMP_PORT } from "../stamp/packet.ts";
import { EXPECT_FLAGS, parsePattern } from "./expect.ts";
import {
  COMMON_FLAGS,
  decimal,
  duration,
  durationText,
  ENGINE_FLAG,
  type Flags,
  type Given,
  hostAndPort,
  integer,
  NO_PORT,
  TIMESTAMPS_FLAG,
  UsageError,
} from "./flags.ts";
import type { Help } from "./main.ts";
import type { ReportOptions } from "./reporter.ts";
import { parseMaxRtt } from "./thresholds.ts";

/** What is asked, and with what, where nothing else is given. */
export const CLIENT_DEFAULTS = {
  host: "127.0.0.1",
  port: 20_001,
  message: "Hello UDP Server",
};

/** All flags. */
export const CLIENT_FLAGS = {
  port: {
    short: "p",
    group: "Where to",
    value: "PORT",
    parse: parsePort,
    help: `the port to ask, if HOST names none (${CLIENT_DEFAULTS.port})`,
  },
  bind: {
    short: "B",
    group: "How it leaves",
    rare: true,
    value: "HOST[:PORT]",
    parse: hostAndPort,
    help: "send from this address of this machine, or from an interface's",
  },
  "source-port": {
    group: "How it leaves",
    rare: true,
    value: "PORT",
    parse: integer(1, 65_535),
    help: "send from this port; a series has one for each datagram",
  },
  interface: {
    group: "How it leaves",
    rare: true,
    value: "NAME",
    parse: String,
    help: "send by this interface only (linux engine; for groups any)",
  },
  ttl: {
    group: "How it leaves",
    rare: true,
    value: "N",
    parse: integer(1, 255),
    help: "the TTL or hop limit (linux engine)",
  },
  dscp: {
    group: "How it leaves",
    rare: true,
    value: "N",
    parse: parseDscp,
    help: "the DSCP, 0 to 63, or EF, CS3, AF41 … (linux engine)",
  },
  "dont-fragment": {
    group: "How it leaves",
    rare: true,
    help: "forbid routers to cut it (linux engine)",
  },
  all: {
    group: "Where to",
    rare: true,
    help: "show every answer: of a group, a broadcast address, or many HOSTs",
  },
  message: {
    short: "m",
    group: "What to send",
    value: "TEXT",
    parse: String,
    help: `this text; - sends stdin ("${CLIENT_DEFAULTS.message}")`,
  },
  hex: {
    group: "What to send",
    rare: true,
    value: "HEX",
    parse: parseHex,
    help: "these bytes, as hex digits",
  },
  size: {
    short: "s",
    group: "What to send",
    value: "BYTES",
    parse: parseSizes,
    help: "repeated or cut to so many bytes; A..B:STEP tries each",
  },
  "find-mtu": {
    group: "What to send",
    rare: true,
    help: "find the largest payload that is not cut (linux engine)",
  },
  stamp: {
    group: "What to send",
    help: `STAMP packets, to measure the path, to port ${STAMP_PORT}`,
  },
  ssid: {
    group: "What to send",
    rare: true,
    value: "N",
    parse: integer(0, 65_535),
    help: "with --stamp, the session's identifier (RFC 8972)",
  },
  ptp: {
    group: "What to send",
    rare: true,
    help: "with --stamp, timestamps in PTP's format",
  },
  "key-file": {
    group: "What to send",
    rare: true,
    value: "FILE",
    parse: String,
    help: "with --stamp, authenticated packets, by a key as hex",
  },
  count: {
    short: "c",
    group: "How often, how long to wait",
    value: "N",
    parse: integer(0, 1_000_000_000),
    help:
      `how many datagrams, 0 for no end (${SERIES_DEFAULTS.count}; --stamp: ${MEASURE_DEFAULTS.count})`,
  },
  interval: {
    short: "i",
    group: "How often, how long to wait",
    value: "TIME",
    parse: duration(0),
    help: `from one to the next; 0 waits for each answer (${
      durationText(SERIES_DEFAULTS.intervalMs)
    })`,
  },
  rate: {
    group: "How often, how long to wait",
    rare: true,
    value: "N",
    parse: decimal(10_000_000),
    help:
      "load an echo with N a second; what that does to a network is yours to answer for (RFC 8085)",
  },
  window: {
    group: "How often, how long to wait",
    rare: true,
    value: "N",
    parse: integer(1, 65_536),
    help: "load an echo with N in flight",
  },
  duration: {
    group: "How often, how long to wait",
    rare: true,
    value: "TIME",
    parse: duration(1),
    help: `with --rate or --window, for so long (${
      durationText(LOAD_DEFAULTS.durationMs)
    })`,
  },
  timeout: {
    short: "W",
    group: "How often, how long to wait",
    value: "TIME",
    parse: duration(1),
    help: `how long to wait for a reply; doubles with retries (${
      durationText(SERIES_DEFAULTS.timeoutMs)
    })`,
  },
  retries: {
    group: "How often, how long to wait",
    rare: true,
    value: "N",
    parse: integer(0, 100),
    help:
      `how often to send again unanswered (${SERIES_DEFAULTS.retries}; in a series 0)`,
  },
  deadline: {
    short: "w",
    group: "How often, how long to wait",
    rare: true,
    value: "TIME",
    parse: duration(1),
    help: "end after so long, whatever is still unanswered",
  },
  expect: {
    group: "What counts as failure",
    value: "TEXT",
    parse: String,
    help: "exit with 1 if a reply is not this text",
  },
  "expect-hex": {
    group: "What counts as failure",
    rare: true,
    value: "HEX",
    parse: parseHex,
    help: "the same of bytes",
  },
  "expect-part": {
    group: "What counts as failure",
    rare: true,
    value: "TEXT",
    parse: String,
    help: "the same of a part of it",
  },
  "expect-pattern": {
    group: "What counts as failure",
    rare: true,
    value: "REGEXP",
    parse: parsePattern,
    help: "the same of a regular expression",
  },
  "max-loss": {
    group: "What counts as failure",
    value: "PERCENT",
    parse: decimal(100),
    help: "exit with 1 if more is lost",
  },
  "max-rtt": {
    group: "What counts as failure",
    rare: true,
    value: "[FIGURE=]TIME",
    parse: parseMaxRtt,
    help:
      "exit with 1 if an RTT is longer; or the mean, median, p90, p99, p99.9",
  },
  "expect-replies": {
    group: "What counts as failure",
    rare: true,
    value: "N",
    parse: integer(1, 1_000_000),
    help: "with --all, exit with 1 if fewer answer",
  },
  quiet: {
    short: "q",
    group: "What to show",
    help: "show no replies, only the summary of a series",
  },
  json: { group: "What to show", help: "print one JSON document" },
  "json-stream": {
    group: "What to show",
    rare: true,
    help: "print one JSON object a line as things happen",
  },
  "show-hex": {
    group: "What to show",
    rare: true,
    help: "show replies as hex digits",
  },
  timestamps: TIMESTAMPS_FLAG,
  report: {
    group: "What to show",
    rare: true,
    value: "TIME",
    parse: duration(100),
    help: "tell each time what has happened since the last",
  },
  plot: {
    group: "What to show",
    rare: true,
    value: "FILE",
    parse: String,
    help: "draw the RTTs over time as SVG; - draws on the terminal",
  },
  csv: {
    group: "What to show",
    rare: true,
    value: "FILE",
    parse: String,
    help: "write each datagram's RTT; - writes to stdout",
  },
  histogram: {
    group: "What to show",
    rare: true,
    help: "with --stamp, draw how the RTTs are distributed",
  },
  engine: ENGINE_FLAG,
  ...COMMON_FLAGS,
} satisfies Flags;

/** What was given on the command line. */
export type ClientFlags = Given<typeof CLIENT_FLAGS>;

const INTRO = `Sends UDP datagrams and shows what comes back.
Usage: deno task client [flags] [HOST[:PORT]… | HOST PORT]`;

const NOTES =
  `HOST is a name or an IP address (${CLIENT_DEFAULTS.host}); IPv6 with a port is written
[IPV6]:PORT. Several are asked at once, and compared. A TIME is in seconds, or has a unit: 200ms, 1s, 1m.
SIGUSR2 shows how things stand. With several targets 1 if any of them fails.
Exit codes: 0 answered; 1 no answer, a wrong one, or too much loss; 2 an error.`;

/** What `--help` says. */
export const CLIENT_HELP: Help = {
  flags: CLIENT_FLAGS,
  intro: INTRO,
  notes: NOTES,
};

/**
 * Refuses flags that do not go together.
 *
 * @throws {UsageError} Which names them.
 */
export function checkClientFlags(given: ClientFlags): void {
  const notStamp = [
    ...["message", "hex", "retries"] as const,
    ...EXPECT_FLAGS,
    ...(given["find-mtu"] ? ["find-mtu"] as const : []),
  ];
  const clash = notStamp.find((name) => given[name] !== undefined);
  if (given.stamp && clash !== undefined) {
    throw new UsageError(`--stamp and --${clash} exclude each other`);
  }
  checkLoadFlags(given);
  checkExpectFlags(given);
  checkDepartureFlags(given);
  checkMtuFlags(given);
  const oneByOne = [
    ...["count", "interval", "deadline", "max-loss", "max-rtt"] as const,
    ...["report", "plot", "csv"] as const,
  ];
  const other = given.stamp
    ? "stamp"
    : oneByOne.find((name) => given[name] !== undefined);
  if (given.all && other !== undefined) {
    throw new UsageError(`--all and --${other} exclude each other`);
  }
  if (given["expect-replies"] !== undefined && !given.all) {
    throw new UsageError("--expect-replies needs --all");
  }
  const ofStamp = [
    ...["ssid", "key-file"] as const,
    ...(given.ptp ? ["ptp"] as const : []),
  ].find((name) => given[name] !== undefined);
  if (ofStamp !== undefined && !given.stamp) {
    const flag = ofStamp;
    throw new UsageError(`--${flag} needs --stamp`);
  }
  if (given.histogram && !given.stamp) {
    throw new UsageError("--histogram needs --stamp");
  }
  if (given.interval === 0 && given.stamp) {
    throw new UsageError("--interval: 0 is too short for --stamp");
  }
  if (given.all && (given.size?.length ?? 1) > 1) {
    throw new UsageError("--all and a --size of many exclude each other");
  }
  if (given.plot !== undefined && (given.size?.length ?? 1) > 1) {
    throw new UsageError("--plot and a --size of many exclude each other");
  }
  for (const name of ["plot", "csv"] as const) {
    if (given[name] === "-" && (given.json || given["json-stream"])) {
      throw new UsageError(`--${name} - and --json exclude each other`);
    }
  }
  if (given.csv === "-" && given.plot === "-") {
    throw new UsageError("--csv - and --plot - exclude each other");
  }
  if (given.hex !== undefined && given.message !== undefined) {
    throw new UsageError("--hex and --message exclude each other");
  }
  if (given.json && given["json-stream"]) {
    throw new UsageError("--json and --json-stream exclude each other");
  }
}

/** One reply cannot be held against two of them. */
function checkExpectFlags(given: ClientFlags): void {
  const [one, other] = EXPECT_FLAGS.filter((name) => given[name] !== undefined);
  if (other === undefined) return;
  throw new UsageError(`--${one} and --${other} exclude each other`);
}

/** What Deno has no way to set is said before anything is sent. */
function checkDepartureFlags(given: ClientFlags): void {
  const { engine = DEFAULT_ENGINE, bind, interface: name, all } = given;
  const needing = [
    ...["ttl", "dscp"] as const,
    ...(given["dont-fragment"] ? ["dont-fragment"] as const : []),
    ...(all ? [] : ["interface"] as const),
  ].find((flag) => given[flag] !== undefined);
  if (needing !== undefined && engine === "deno") {
    throw new UsageError(
      `--${needing} needs --engine linux, which 'deno task client-linux' has: Deno has no way to set it`,
    );
  }
  if (all && name !== undefined && bind !== undefined) {
    throw new UsageError("--interface and --bind exclude each other");
  }
  const port = sourcePortOf(given);
  const isSeries = given.count !== undefined && given.count !== 1;
  const keepsPort = given.stamp || given.rate !== undefined ||
    given.window !== undefined;
  if (port !== undefined && isSeries && !keepsPort) {
    throw new UsageError(
      "--source-port and --count exclude each other, as each datagram of a series has a port of its own: --window 1 and --stamp keep one",
    );
  }
}

/** The port to send from: `--source-port`, or that of `--bind`. */
export function sourcePortOf(given: ClientFlags): number | undefined {
  const { bind, "source-port": port } = given;
  if (bind === undefined || bind.port === NO_PORT) return port;
  if (port === undefined || port === bind.port) return bind.port;
  throw new UsageError("--bind has another port than --source-port");
}

function checkMtuFlags(given: ClientFlags): void {
  if (!given["find-mtu"]) return;
  if ((given.engine ?? DEFAULT_ENGINE) === "deno") {
    throw new UsageError(
      "--find-mtu needs --engine linux, which 'deno task client-linux' has: Deno cannot forbid routers to cut datagrams",
    );
  }
  const others = [
    ...["count", "interval", "deadline", "size", "rate", "window"] as const,
    ...["retries", "max-loss", "max-rtt", "report", "plot", "csv"] as const,
    ...EXPECT_FLAGS,
  ];
  const clash = others.find((name) => given[name] !== undefined) ??
    (given.all ? "all" : undefined);
  if (clash !== undefined) {
    throw new UsageError(`--find-mtu and --${clash} exclude each other`);
  }
}

function checkLoadFlags(given: ClientFlags): void {
  const { rate, window } = given;
  if (rate === undefined && window === undefined) {
    if (given.duration === undefined) return;
    throw new UsageError("--duration needs --rate or --window");
  }
  const mode = rate === undefined ? "window" : "rate";
  if (rate !== undefined && window !== undefined) {
    throw new UsageError("--rate and --window exclude each other");
  }
  if (rate !== undefined && rate < 0.001) {
    throw new UsageError(`--rate: '${rate}' is too small: write 0.001 or more`);
  }
  const others = [
    ...["message", "hex", "retries", "interval", "deadline"] as const,
    ...EXPECT_FLAGS,
    ...(given.all ? ["all"] as const : []),
    ...(given.stamp && mode === "window" ? ["stamp"] as const : []),
  ];
  const clash = others.find((name) => given[name] !== undefined);
  if (clash !== undefined) {
    throw new UsageError(`--${mode} and --${clash} exclude each other`);
  }
}

/**
 * Whom to ask, one at least.
 *
 * @throws {UsageError} If one does not parse, or there is more than one where
 * there can be one only.
 */
export function parseTargets(
  given: ClientFlags,
  positionals: string[],
): UdpAddress[] {
  const [host, port] = positionals;
  // As nc has it.
  if (positionals.length === 2 && !given.all && /^\d+$/.test(port!)) {
    return [parseTarget({ ...given, port: portOf(given, port!) }, host!)];
  }
  if (positionals.length > 1) {
    const clash = LONE_FLAGS.find((name) => given[name] !== undefined) ??
      (given["find-mtu"] ? "find-mtu" : undefined);
    if (clash !== undefined) {
      throw new UsageError(
        `Unexpected argument '${
          positionals[1]
        }': with --${clash} the client takes one HOST`,
      );
    }
  }
  const texts = positionals.length > 0 ? positionals : [CLIENT_DEFAULTS.host];
  return texts.map((text) => parseTarget(given, text));
}

function portOf(given: ClientFlags, text: string): number {
  try {
    const port = parsePort(text);
    if (given.port === undefined || given.port === port) return port;
    throw new SyntaxError(`'${text}' is another port than --port`);
  } catch (error) {
    throw new UsageError(`HOST PORT: ${errorMessage(error)}`);
  }
}

function parseTarget(given: ClientFlags, text: string): UdpAddress {
  try {
    const { hostname, port } = parseAddress(text, NO_PORT);
    if (port !== NO_PORT && given.port !== undefined && port !== given.port) {
      throw new SyntaxError(`'${text}' has another port than --port`);
    }
    const usual = given.stamp ? STAMP_PORT : CLIENT_DEFAULTS.port;
    const asked = port === NO_PORT ? given.port ?? usual : port;
    if (asked === 0) throw new SyntaxError("nobody can be asked at port 0");
    return { hostname, port: asked };
  } catch (error) {
    if (!(error instanceof SyntaxError)) throw error;
    throw new UsageError(`HOST[:PORT]: ${error.message}`);
  }
}

/** The options that all ways to ask have in common, but for the origin. */
export function commonOptions(given: ClientFlags) {
  return {
    intervalMs: given.interval,
    timeoutMs: given.timeout,
    retries: given.retries,
    deadlineMs: given.deadline,
  };
}

/** The options of a load. */
export function loadOptions(
  given: ClientFlags,
  size: number = LOAD_DEFAULTS.size,
): LoadOptions {
  const { count, rate, window, timeout } = given;
  return {
    rate,
    window,
    // 0 is for no end, unless there is a duration.
    count: count === 0 ? undefined : count,
    durationMs: given.duration ?? (count === 0 ? Infinity : undefined),
    size,
    timeoutMs: timeout,
  };
}

/** How often and how long `--stamp` sends: `--rate` and `--duration` say it too. */
export function paceOf({ rate, duration, interval, count }: ClientFlags) {
  const intervalMs = rate === undefined ? interval : 1000 / rate;
  const wanted = duration === undefined
    ? count
    : count ?? Math.max(1, Math.round(duration / intervalMs!));
  return { intervalMs, count: wanted === 0 ? Infinity : wanted };
}

/** How the run is to be shown. */
export function reportOptions(given: ClientFlags): ReportOptions {
  const format = given.json
    ? "json"
    : given["json-stream"]
    ? "json-stream"
    : "text";
  // Who writes hex, or asks for it, reads it too.
  const hasHex = given["show-hex"] ||
    (format !== "text" &&
      (given.hex !== undefined || given["expect-hex"] !== undefined));
  return {
    format,
    quiet: given.quiet,
    hasHex,
    timestamps: given.timestamps,
    // Who says how many, be it one, wants to know how it went.
    isSeries: given.count !== undefined,
    reportMs: given.report,
  };
}

/** With these there can be one target only. */
const LONE_FLAGS = ["rate", "window", "plot", "source-port"] as const;

/**
 * Reads a size, or `FROM..TO:STEP` for many.
 *
 * @throws {SyntaxError} If it is neither.
 */
function parseSizes(text: string): number[] {
  const match = /^(\d+)\.\.(\d+)(?::(\d+))?$/.exec(text);
  if (match === null) return [integer(0, MAX_PAYLOAD)(text)];
  const [from, to, step] = match.slice(1).map((digits) => Number(digits ?? 1));
  if (from! > to! || to! > MAX_PAYLOAD || step === 0) {
    throw new SyntaxError(
      `'${text}' is not FROM..TO:STEP, such as 64..1400:64, up to ${MAX_PAYLOAD}`,
    );
  }
  const count = Math.floor((to! - from!) / step!) + 1;
  if (count > MAX_SIZES) {
    throw new SyntaxError(
      `'${text}' has ${count} sizes: ${MAX_SIZES} are the most`,
    );
  }
  return Array.from({ length: count }, (_, i) => from! + i * step!);
}

/**
 * Reads a DSCP by its number, or by its name (RFC 2474, 2597, 3246, 8622).
 *
 * @throws {SyntaxError} If it is neither.
 */
function parseDscp(text: string): number {
  const name = text.toUpperCase();
  const match = /^(?:CS([0-7])|AF([1-4])([1-3]))$/.exec(name);
  if (match !== null) {
    const [, selector, row, column] = match.map(Number);
    return match[1] === undefined ? 8 * row! + 2 * column! : 8 * selector!;
  }
  if (name === "EF") return 46;
  if (name === "LE") return 1;
  if (/^\d+$/.test(text) && Number(text) <= 63) return Number(text);
  throw new SyntaxError(
    `'${text}' is not a DSCP: a number from 0 to 63, or a name such as EF, CS3 or AF41`,
  );
}

const MAX_SIZES = 1000;

/**
 * What the flags of `client.ts` mean together. Pure.
 *
 * @module
 */
import { parseAddress, parsePort, type UdpAddress } from "../address.ts";
import { errorMessage } from "../base/errors.ts";
import { LOAD_DEFAULTS, type LoadOptions } from "../client/load.ts";
import { DEFAULT_ENGINE } from "../socket/runtime.ts";
import { STAMP_PORT } from "../stamp/packet.ts";
import { CLIENT_DEFAULTS, type ClientFlags } from "./client_flags.ts";
import { EXPECT_FLAGS } from "./expect.ts";
import { NO_PORT, UsageError } from "./flags.ts";
import type { ReportOptions } from "./show/reporter.ts";

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
    ...["ssid", "key-file", "extensions", "reply-dscp", "clock"] as const,
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

/**
 * The plan of `client.ts`: its arguments, checked and typed, defaults included.
 * Pure.
 *
 * @module
 */
import { parsePort, type UdpAddress } from "../address.ts";
import { errorMessage } from "../base/errors.ts";
import type { GatherOptions } from "../client/gather.ts";
import {
  LOAD,
  LOAD_DEFAULTS,
  type LoadOptions,
} from "../client/load_options.ts";
import type { RequestOptions } from "../client/exchange.ts";
import { type RequestManyOptions, SERIES_DEFAULTS } from "../client/series.ts";
import type { OriginOptions } from "../client/target.ts";
import type { TraceOptions } from "../client/trace/trace.ts";
import { encode } from "../encoding.ts";
import {
  MEASURE,
  MEASURE_DEFAULTS,
  type MeasureOptions,
  STAMP_PORT,
} from "../stamp/measure_options.ts";
import {
  CLIENT,
  CLIENT_DEFAULTS,
  LOADED_DEFAULTS,
  TRACE_COUNT,
} from "./client_flags.ts";
import * as flag from "./flags.ts";
import type { LoadedOptions } from "./runs/loaded.ts";
import type { FindRateOptions } from "./runs/loaded.ts";
import type { ReportOptions } from "./show/reporter.ts";
import type { MaxRtt } from "./thresholds.ts";

/** The part of a plan that all modes have. */
interface CommonPlan {
  /** One at least. */
  targets: UdpAddress[];
  /** The version of the address of a name; undefined for any. */
  version: 4 | 6 | undefined;
  /** One at least: a sweep has many; undefined leaves the size to the payload. */
  sizes: Array<number | undefined>;
  report: ReportOptions;
  /** Files for the samples, `-` for stdout; undefined for none. */
  plot: string | undefined;
  csv: string | undefined;
  maxLoss: number | undefined;
  maxRtt: MaxRtt | undefined;
  minReplies: number;
}

/** A payload of the user's. */
type Payload = Uint8Array | "stdin";

/** Options with a time-out; `localHostname` may be the name of an interface. */
type Options<O> = O & { timeoutMs: number };

/** The plan of `--watch`: a file has the rest. */
export interface WatchPlan {
  mode: "watch";
  path: string;
  history: string | undefined;
  isStream: boolean;
  engine: string;
}

/** The plan of runs. */
export type ClientPlan =
  & CommonPlan
  & (
    | {
      mode: "request";
      payload: Payload;
      options: Options<RequestManyOptions>;
    }
    | { mode: "gather"; payload: Payload; options: Options<GatherOptions> }
    | { mode: "load"; options: Options<LoadOptions> }
    | { mode: "find-mtu"; options: Options<RequestOptions> }
    | { mode: "loaded"; options: Options<LoadedOptions> }
    | { mode: "find-rate"; options: Options<FindRateOptions> }
    | {
      mode: "trace";
      payload: Payload | undefined;
      options: Options<TraceOptions>;
    }
    | {
      mode: "stamp";
      options: Options<MeasureOptions>;
      keyFile: string | undefined;
      histogram: boolean;
    }
  );

export type PlanOf<Mode extends ClientPlan["mode"]> = Extract<
  ClientPlan,
  { mode: Mode }
>;

type ClientCommand = flag.Command<
  typeof CLIENT.flags,
  keyof typeof CLIENT.modes
>;

const FLAGS: flag.Flags = CLIENT.flags;

/** The payload where the user gives none. */
export const USUAL_PAYLOAD = encode(CLIENT_DEFAULTS.message);

/** Makes the plan of a command line, or the text that `--help` asks for. */
export function planClient(
  args: string[],
): ClientPlan | WatchPlan | flag.Text {
  const command = flag.parseCommand(CLIENT, args);
  if (flag.isText(command)) return command;
  refuse(command);
  const { given, mode } = command;
  if (mode === "watch") {
    const { watch, history, "json-stream": isStream, engine } = given;
    if (command.positionals.length > 0) {
      throw new flag.UsageError(
        `Unexpected argument '${
          command.positionals[0]
        }': the file of --watch has the targets`,
      );
    }
    return { mode, path: watch!, history, isStream, engine };
  }
  const common: CommonPlan = {
    targets: targetsOf(command),
    version: given.ipv4 ? 4 : given.ipv6 ? 6 : undefined,
    sizes: given.size ?? [mode === "load" ? LOAD_DEFAULTS.size : undefined],
    report: reportOf(command),
    plot: given.plot,
    csv: given.csv,
    // With --find-rate it is the aim, and no condition.
    maxLoss: mode === "find-rate" ? undefined : given["max-loss"],
    maxRtt: given["max-rtt"],
    minReplies: given["expect-replies"],
  };
  const { count, rate, window, duration, retries } = given;
  const shared = { ...originOf(command), timeoutMs: given.timeout };
  const { interval = SERIES_DEFAULTS.intervalMs } = given;
  const schedule = {
    intervalMs: interval,
    deadlineMs: given.deadline,
    count: (count ?? SERIES_DEFAULTS.count) || Infinity,
  };
  switch (mode) {
    case "request": {
      // In a sweep each size is a series, whose loss is the path's.
      const isSweep = common.sizes.length > 1;
      const again = { retries: retries ?? (isSweep ? 0 : undefined) };
      const options = { ...shared, ...schedule, ...again };
      return { ...common, mode, payload: payloadOf(command), options };
    }
    case "gather": {
      const options = { ...shared, retries, interface: given.interface };
      return { ...common, mode, payload: payloadOf(command), options };
    }
    case "load": {
      const durationMs = duration ?? (count === 0 ? Infinity : undefined);
      const ends = { count: count || undefined, durationMs };
      return { ...common, mode, options: { ...shared, rate, window, ...ends } };
    }
    case "find-mtu":
      return { ...common, mode, options: shared };
    case "loaded": {
      const { intervalMs, durationMs } = LOADED_DEFAULTS;
      const options = {
        ...shared,
        ...{ rate, window, isStamp: given.stamp },
        intervalMs: given.interval ?? intervalMs,
        durationMs: duration ?? durationMs,
      };
      return { ...common, mode, options };
    }
    case "find-rate": {
      const { maxRate, stepMs, maxLoss } = LOADED_DEFAULTS;
      const options = {
        ...shared,
        maxRate: rate ?? maxRate,
        stepMs: duration ?? stepMs,
        maxLoss: given["max-loss"] ?? maxLoss,
      };
      return { ...common, mode, options };
    }
    case "trace": {
      const { flows, message, hex } = given;
      const isOwn = message === undefined && hex === undefined;
      const payload = isOwn ? undefined : payloadOf(command);
      const wanted = (count ?? TRACE_COUNT) || Infinity;
      const options = { ...shared, ...schedule, count: wanted, flows };
      return { ...common, mode, payload, options };
    }
    case "stamp": {
      const intervalMs = rate === undefined ? interval : 1000 / rate;
      const most = duration && Math.max(1, Math.round(duration / intervalMs));
      const wanted = count ?? (most ? 0 : MEASURE_DEFAULTS.count);
      const { ssid, ptp, extensions, clock, histogram } = given;
      const options = {
        ...shared,
        ...schedule,
        intervalMs,
        count: Math.min(wanted || Infinity, most ?? Infinity),
        ...{ ssid, ptp, extensions, clock, replyDscp: given["reply-dscp"] },
        // The client does nothing else.
        mayBlock: true,
      };
      const keyFile = given["key-file"];
      return { ...common, mode, keyFile, histogram, options };
    }
  }
}

/** Refuses values that do not go together; the table of flags has the rest. */
function refuse({ given, names, mode, label }: ClientCommand): void {
  const { csv, plot, all } = given;
  const format = given.json ? "json" : given["json-stream"] && "json-stream";
  const isSweep = (given.size?.length ?? 1) > 1;
  if (mode !== "load" && given["max-rtt"]?.figure === "p99.9") {
    throw flag.meaningless("max-rtt p99.9", label, ["--rate", "--window"]);
  }
  const exclusive: Array<[unknown, string, string]> = [
    [isSweep && all, "--all", "a --size of many"],
    [isSweep && plot, "--plot", "a --size of many"],
    [isSweep && mode === "loaded", label, "a --size of many"],
    [isSweep && mode === "find-rate", label, "a --size of many"],
    [mode === "stamp" && given.rate && given.interval, "--rate", "--interval"],
    [csv === "-" && format, "--csv -", `--${format}`],
    [plot === "-" && format, "--plot -", `--${format}`],
    [csv === "-" && plot === csv, "--csv -", "--plot -"],
    [all && names.has("interface") && given.bind, "--interface", "--bind"],
    [isSweep && given.trace, "--trace", "a --size of many"],
  ];
  const broken = exclusive.find(([isBroken]) => isBroken);
  if (broken !== undefined) throw flag.exclusive(broken[1], broken[2]);
  const hasPace = mode === "stamp" || mode === "loaded";
  if (hasPace && given.interval === 0) {
    throw new flag.UsageError(`--interval: 0 is too short for ${label}`);
  }
  const [size = Infinity] = given.size ?? [];
  const least = given.stamp ? MEASURE.size.min! : LOAD.size.min!;
  if ((mode === "loaded" || mode === "find-rate") && size < least) {
    throw new flag.UsageError(
      `--size: ${size} is too short for ${label}: it needs ${least} bytes`,
    );
  }
  if (mode === "loaded" && sourcePortOf(given) !== undefined) {
    const own = given["source-port"] === undefined
      ? "bind HOST:PORT"
      : "source-port";
    throw flag.meaningless(own, label);
  }
  if (mode === "find-rate" && given["max-loss"] === 100) {
    throw new flag.UsageError(
      "--max-loss: 100 bounds no rate: --find-rate needs less than 100",
    );
  }
  const last = (sourcePortOf(given) ?? 0) + given.flows - 1;
  if (last > 65_535) {
    throw new flag.UsageError(
      `--flows: the last source port would be ${last}: 65535 is the largest`,
    );
  }
  const isSeries = mode === "request" && (given.count ?? 1) !== 1;
  if (isSeries && sourcePortOf(given) !== undefined) {
    throw new flag.UsageError(
      "--source-port and --count exclude each other, as each datagram of a series has a port of its own: --window 1 and --stamp keep one",
    );
  }
}

function targetsOf(command: ClientCommand): UdpAddress[] {
  const { given, names, positionals } = command;
  const [host, second] = positionals;
  // As nc has it.
  if (positionals.length === 2 && !given.all && /^\d+$/.test(second!)) {
    return [targetOf(command, host!, second)];
  }
  const lone = [...names].find((name) => FLAGS[name]!.oneHost);
  if (positionals.length > 1 && lone !== undefined) {
    throw new flag.UsageError(
      `Unexpected argument '${second}': with --${lone} the client takes one HOST`,
    );
  }
  const usual = given.ipv6 ? CLIENT_DEFAULTS.ipv6 : CLIENT_DEFAULTS.host;
  const texts = positionals.length > 0 ? positionals : [usual];
  return texts.map((text) => targetOf(command, text));
}

function targetOf(
  { given }: ClientCommand,
  text: string,
  second?: string,
): UdpAddress {
  const usual = given.stamp ? STAMP_PORT : flag.USUAL_PORT;
  try {
    const [, bare] = /^\w+:\/\/([^/]*)/.exec(text) ?? [];
    if (bare) throw new SyntaxError(`'${text}' is a URL: write ${bare}`);
    if (second === undefined && /^\d{1,5}$/.test(text)) {
      throw new SyntaxError(
        `'${text}' is a port: write ${CLIENT_DEFAULTS.host}:${text}`,
      );
    }
    const first = flag.HOST_AND_PORT.parse(text);
    const { hostname } = first;
    const own = second === undefined ? first.port : parsePort(second);
    if (first.port !== own && first.port !== flag.NO_PORT) {
      throw new SyntaxError(`'${text}' has another port than '${second}'`);
    }
    const { port = own } = given;
    if (own !== flag.NO_PORT && own !== port) {
      throw new SyntaxError(
        `'${second ?? text}' has another port than --port ${port}`,
      );
    }
    if (port === 0) throw new SyntaxError("no server has port 0");
    return { hostname, port: port === flag.NO_PORT ? usual : port };
  } catch (error) {
    const place = second === undefined ? "HOST[:PORT]" : "HOST PORT";
    throw new flag.UsageError(`${place}: ${errorMessage(error)}`);
  }
}

/** The local port: that of `--source-port`, or of `--bind`. */
function sourcePortOf(
  { bind, "source-port": port }: ClientCommand["given"],
): number | undefined {
  if (bind === undefined || bind.port === flag.NO_PORT) return port;
  if (port === undefined || port === bind.port) return bind.port;
  throw new flag.UsageError("--bind has another port than --source-port");
}

function originOf({ given, mode }: ClientCommand): OriginOptions {
  const { bind, ttl, dscp, engine } = given;
  return {
    localHostname: bind?.hostname,
    localPort: sourcePortOf(given),
    ttl,
    trafficClass: dscp === undefined ? undefined : dscp << 2,
    dontFragment: given["dont-fragment"] || undefined,
    device: mode === "gather" ? undefined : given.interface,
    engine,
  };
}

function payloadOf(
  { given: { message, hex } }: ClientCommand,
): Payload {
  if (message === "-") return "stdin";
  return hex ?? (message === undefined ? USUAL_PAYLOAD : encode(message));
}

function reportOf({ given, names }: ClientCommand): ReportOptions {
  const { json, "json-stream": stream } = given;
  const format = json ? "json" : stream ? "json-stream" : "text";
  // Payloads given as hex are shown as hex.
  const hasHex = given["show-hex"] || format !== "text" &&
      (names.has("hex") || names.has("expect-hex"));
  return {
    format,
    quiet: given.quiet,
    hasHex,
    timestamps: given.timestamps,
    // A count, even of one, asks for the summary.
    isSeries: given.count !== undefined,
    reportMs: given.report,
    expected: given.expect ?? given["expect-hex"] ?? given["expect-part"] ??
      given["expect-pattern"],
  };
}

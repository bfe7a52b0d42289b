/**
 * The flags of `client.ts`: one entry for each. Pure.
 *
 * @module
 */
import { parseHex } from "../encoding.ts";
import { LOAD } from "../client/load_options.ts";
import { SERIES } from "../client/series.ts";
import { ORIGIN } from "../client/target.ts";
import { MAX_PAYLOAD, PEER } from "../socket/contract.ts";
import { CLOCKS, MEASURE, STAMP_PORT } from "../stamp/measure_options.ts";
import { EXTENSION_NAMES } from "../stamp/tlv.ts";
import { EXPECTATIONS } from "./expect.ts";
import * as flag from "./flags.ts";
import { MAX_RTT, MAX_RTT_FIGURES } from "./thresholds.ts";

/** The host and the payload where no other is given. */
export const CLIENT_DEFAULTS = {
  host: "127.0.0.1",
  ipv6: "::1",
  message: "Hello UDP Server",
};

/** Defaults of the modes that fill the path. */
export const LOADED_DEFAULTS = {
  /** The largest that every path of IPv6 takes: an MTU of 1,280. */
  size: 1232,
  /** As of a voice call. */
  intervalMs: 20,
  durationMs: 10_000,
  /** Of one rate of `--find-rate`. */
  stepMs: 1000,
  maxRate: 100_000,
  maxLoss: 1,
};

/** The probes to each hop. */
export const TRACE_COUNT = 3;

/** The modes of the client, with the flags that choose them. */
export const CLIENT_MODES = {
  "find-mtu": ["find-mtu"],
  "find-rate": ["find-rate"],
  loaded: ["loaded"],
  trace: ["trace"],
  gather: ["all"],
  stamp: ["stamp"],
  load: ["rate", "window"],
  watch: ["watch"],
  request: "plain requests",
} as const;

/** Modes that send the user's payload, and show replies. */
const PAYLOADS = ["request", "gather"] as const;
/** Modes that send it. */
const SENDERS = [...PAYLOADS, "trace"] as const;
/** Modes that send datagram after datagram. */
const RUNS = ["request", "load", "stamp"] as const;
const STAMP = ["stamp"] as const;
/** Modes that fill the path. */
const FILLING = ["loaded", "find-rate"] as const;
const NOT_MTU = [...RUNS, ...FILLING, "gather"] as const;
/** All but `--watch`, whose file has the flags of its targets. */
const ANY = [...NOT_MTU, "find-mtu", "trace"] as const;
const WATCH = ["watch"] as const;

const DSCP = { value: "N", parse: parseDscp };

/** A percentage, with or without its sign. */
const PERCENT: flag.Kind<number> = {
  ...flag.decimal(0, 100, "PERCENT"),
  parse: (text) => flag.decimal(0, 100).parse(text.replace(/%$/, "")),
};

export const CLIENT_FLAGS = {
  ...flag.group({ group: "Target", modes: ANY }, {
    port: {
      short: "p",
      kind: flag.number(PEER.port, "PORT"),
      usual: `${flag.USUAL_PORT}; --stamp: ${STAMP_PORT}`,
      help: "port of a HOST without one",
      everyday: true,
    },
    ipv4: { short: "4", help: "use an IPv4 address of HOST" },
    ipv6: {
      short: "6",
      help: "use an IPv6 address of HOST",
      excludes: ["ipv4"],
    },
    all: {
      help: "show every answer of a group, broadcast or HOSTs",
      modes: ["gather"],
    },
  }),
  ...flag.group({ group: "Source and path", modes: ANY }, {
    bind: {
      short: "B",
      kind: flag.HOST_AND_PORT,
      help: "local address, or the interface that has it",
    },
    "source-port": {
      kind: flag.number(PEER.port, "PORT"),
      help: "local port; a series has one for each datagram",
      oneHost: true,
    },
    interface: {
      kind: flag.text("NAME"),
      help: "outgoing interface (linux engine; with --all any)",
      linux: [...RUNS, ...FILLING, "find-mtu", "trace"],
    },
    ttl: {
      kind: flag.number(ORIGIN.ttl),
      help: "TTL or hop limit (linux engine)",
      linux: ANY,
    },
    dscp: {
      kind: DSCP,
      help: "DSCP, 0 to 63, or EF, CS3, AF41 … (linux engine)",
      linux: ANY,
    },
    "dont-fragment": {
      help: "forbid fragmentation (linux engine)",
      modes: NOT_MTU,
      linux: ANY,
    },
  }),
  ...flag.group({ group: "Payload", modes: PAYLOADS }, {
    message: {
      short: "m",
      kind: flag.text(),
      usual: `"${CLIENT_DEFAULTS.message}"`,
      help: "send this text; - for stdin",
      everyday: true,
      modes: SENDERS,
    },
    hex: {
      kind: { value: "HEX", parse: parseHex },
      help: "send these bytes, as hex digits",
      excludes: ["message"],
      modes: SENDERS,
    },
    size: {
      short: "s",
      kind: { value: "BYTES", parse: parseSizes },
      help: "repeat or truncate to this; A..B:STEP tries each",
      everyday: true,
      modes: [...NOT_MTU, "trace"],
    },
    stamp: {
      help: "send STAMP packets, to measure the path each way",
      everyday: true,
      modes: [...STAMP, "loaded"],
    },
    "find-mtu": {
      help: "largest payload without fragments (linux engine)",
      modes: ["find-mtu"],
      linux: ANY,
      oneHost: true,
    },
    trace: {
      help: "list the hops of the path (linux engine)",
      everyday: true,
      modes: ["trace"],
      linux: ANY,
      oneHost: true,
    },
    flows: {
      kind: flag.integer(1, 64),
      default: 1,
      help: "flows of --trace, each with its own port",
      modes: ["trace"],
    },
  }),
  ...flag.group({ group: "With --stamp", modes: STAMP }, {
    ssid: {
      kind: flag.number(MEASURE.ssid),
      default: MEASURE.ssid.default,
      help: "session identifier, RFC 8972",
    },
    ptp: { help: "timestamps in PTP's format" },
    "key-file": flag.SHARED_FLAGS["key-file"],
    extensions: {
      kind: {
        value: "LIST",
        parse: parseExtensions,
        choices: ["all", ...EXTENSION_NAMES],
      },
      help: "extensions, or all (RFC 8972; docs/measuring.md)",
    },
    "reply-dscp": { kind: DSCP, help: "DSCP that replies should have" },
    clock: {
      kind: flag.oneOf(CLOCKS),
      default: MEASURE.clock.default,
      help: `clock for RTTs: ${CLOCKS.join(", ")}`,
    },
    histogram: {
      help: "draw the distribution of RTTs",
      excludes: ["json", "json-stream"],
    },
  }),
  ...flag.group({ group: "Schedule", modes: ANY }, {
    count: {
      short: "c",
      kind: flag.number({ ...SERIES.count, min: 0 }),
      usual:
        `${SERIES.count.default}; --stamp: ${MEASURE.count.default}; --trace: ${TRACE_COUNT}`,
      help: "datagrams, 0: no end",
      everyday: true,
      modes: [...RUNS, "trace"],
    },
    interval: {
      short: "i",
      kind: flag.number(SERIES.intervalMs),
      usual: flag.duration(0).show!(SERIES.intervalMs.default),
      help: "between datagrams; 0 waits for each answer",
      everyday: true,
      modes: ["request", "stamp", "loaded", "trace"],
      needs: { flag: "count", modes: ["request"] },
    },
    rate: {
      kind: flag.number(LOAD.rate),
      help: "load an echo with N datagrams a second (RFC 8085)",
      modes: ["load", "stamp", ...FILLING],
      oneHost: true,
    },
    window: {
      kind: flag.number(LOAD.window),
      help: "load an echo with N datagrams in flight",
      modes: ["load", "loaded"],
      excludes: ["rate"],
      oneHost: true,
    },
    loaded: {
      help: "fill the path; RTTs idle and under load",
      modes: ["loaded"],
      oneHost: true,
    },
    "find-rate": {
      help:
        `load at rising rates, up to --max-loss (${LOADED_DEFAULTS.maxLoss}%)`,
      modes: ["find-rate"],
      oneHost: true,
    },
    duration: {
      kind: flag.number(LOAD.durationMs),
      usual: `${
        flag.duration(0).show!(LOAD.durationMs.default)
      }; --find-rate: 1s a try`,
      help: "length of the run",
      modes: ["load", "stamp", ...FILLING],
    },
    timeout: {
      short: "W",
      kind: flag.number(SERIES.timeoutMs),
      default: SERIES.timeoutMs.default,
      help: "time-out for a reply; doubles with retries",
      everyday: true,
    },
    retries: {
      kind: flag.number(SERIES.retries),
      usual: `${SERIES.retries.default}; in a series 0`,
      help: "retransmissions if unanswered",
      modes: PAYLOADS,
    },
    deadline: {
      short: "w",
      kind: flag.number(SERIES.deadlineMs),
      help: "end after this time, answered or not",
      modes: ["request", "stamp", "trace"],
    },
  }),
  ...flag.group({ group: "Failure", modes: PAYLOADS }, {
    expect: {
      kind: EXPECTATIONS.text,
      help: "exit with 1 if a reply is not this text",
      everyday: true,
    },
    "expect-hex": {
      kind: EXPECTATIONS.hex,
      help: "exit with 1 if a reply is not these bytes",
      excludes: ["expect"],
    },
    "expect-part": {
      kind: EXPECTATIONS.part,
      help: "exit with 1 if a reply lacks this text",
      excludes: ["expect", "expect-hex"],
    },
    "expect-pattern": {
      kind: EXPECTATIONS.pattern,
      help: "exit with 1 if a reply does not match",
      excludes: ["expect", "expect-hex", "expect-part"],
    },
    "max-loss": {
      kind: PERCENT,
      help: "exit with 1 if more is lost",
      everyday: true,
      modes: [...RUNS, ...FILLING],
    },
    "max-rtt": {
      kind: MAX_RTT,
      help: "exit with 1 if the maximum, or FIGURE, is longer",
      modes: [...RUNS, "loaded"],
    },
    "expect-replies": {
      kind: flag.integer(1, 1_000_000),
      default: 1,
      help: "exit with 1 if fewer arrive, with --all",
      modes: ["gather"],
    },
  }),
  ...flag.group({ group: "Output", modes: ANY }, {
    quiet: {
      short: "q",
      help: "show no replies, only the summary of a series",
      everyday: true,
    },
    json: { help: "print one JSON document", everyday: true },
    "json-stream": {
      help: "print one JSON object a line",
      modes: [...ANY, ...WATCH],
      excludes: ["json"],
    },
    "show-hex": { help: "show replies as hex digits", modes: PAYLOADS },
    timestamps: {
      ...flag.SHARED_FLAGS.timestamps,
      modes: NOT_MTU,
      needs: { flag: "report", modes: ["load"] },
      excludes: ["json", "json-stream"],
    },
    report: { ...flag.SHARED_FLAGS.report, modes: RUNS },
    plot: {
      kind: flag.text("FILE"),
      help: "draw RTTs over time as SVG; - on the terminal",
      modes: [...RUNS, "loaded"],
    },
    csv: {
      kind: flag.text("FILE"),
      help: "write each datagram as CSV; - on stdout",
      modes: [...RUNS, "loaded"],
    },
  }),
  ...flag.group({ group: "Watch", modes: WATCH }, {
    watch: {
      kind: flag.text("FILE"),
      help: "watch the targets of a file: page, metrics",
    },
    history: {
      kind: flag.text("FILE"),
      help: "keep two days of minutes and a month of hours",
    },
  }),
  engine: flag.SHARED_FLAGS.engine,
  ...flag.COMMON_FLAGS,
};

const SERVER_ALONE = "the server's address stands alone: HOST:PORT";

export const CLIENT = {
  flags: CLIENT_FLAGS,
  modes: CLIENT_MODES,
  foreign: {
    "-n": "-c N sends N datagrams",
    "-l": "'deno task server' answers datagrams",
    "-u": "it always uses UDP",
    "--host": SERVER_ALONE,
    "--server": SERVER_ALONE,
    "--target": SERVER_ALONE,
    "--data": "--message TEXT",
    "--payload": "--message TEXT",
    "--text": "--message TEXT",
    "-I": "--interface NAME, or --bind ADDRESS",
    "-t": "--ttl N",
    "--retry": "did you mean --retries?",
    "--traceroute": "did you mean --trace?",
  },
  name: "client",
  summary: "Sends UDP datagrams and shows the replies.",
  synopsis: "[flags] [HOST[:PORT]… | HOST PORT]",
  examples: {
    Target: "-p 20001 localhost",
    "Source and path": "-B 127.0.0.2",
    Payload: "-m ping -s 1400",
    "With --stamp": "--stamp --ptp",
    Schedule: "-c 5 -i 200ms",
    Failure: "-c 100 -i 10ms --max-loss 1",
    Output: "-c 5 --json",
    Watch: "--watch targets.json",
    Engine: "--engine auto",
    Help: "--help man | man -l -",
  },
  exits: {
    0: "answered",
    1: "not, or not as expected",
    2: "error",
    130: "Ctrl-C twice",
  },
  notes:
    `HOST is a name or an IP address (${CLIENT_DEFAULTS.host}); IPv6 with a port is written
[IPV6]:PORT. Several HOSTs are sent to at once and compared; any failure counts.
A TIME is in seconds, or has a unit: 200ms, 1s, 1m, 1h.
FIGURE is ${MAX_RTT_FIGURES.join(", ")}.
A load may harm a network: its sender is responsible (RFC 8085).
SIGUSR2 shows the status.`,
};

/** Reads a size, or `FROM..TO:STEP` for many. */
function parseSizes(text: string): number[] {
  const match = /^(\d+)\.\.(\d+)(?::(\d+))?$/.exec(text);
  if (match === null) return [flag.integer(0, MAX_PAYLOAD).parse(text)];
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

/** Reads a DSCP by its number, or by its name (RFC 2474, 2597, 3246, 8622). */
function parseDscp(text: string): number {
  const name = text.toUpperCase();
  const match = /^(?:CS([0-7])|AF([1-4])([1-3]))$/.exec(name);
  if (match !== null) {
    const [, selector, row, column] = match.map(Number);
    return match[1] === undefined ? 8 * row! + 2 * column! : 8 * selector!;
  }
  if (name === "EF") return 46;
  if (name === "LE") return 1;
  if (/^\d+$/.test(text) && Number(text) <= MEASURE.replyDscp.max!) {
    return Number(text);
  }
  throw new SyntaxError(
    `'${text}' is not a DSCP: a number from 0 to ${MEASURE.replyDscp.max}, or a name such as EF, CS3 or AF41`,
  );
}

const MAX_SIZES = 1000;

/** Reads the names of STAMP's extensions, or `all`. */
function parseExtensions(text: string) {
  if (text === "all") return [...EXTENSION_NAMES];
  return flag.listOf(flag.oneOf(EXTENSION_NAMES)).parse(text);
}

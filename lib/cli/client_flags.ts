/**
 * The flags of `client.ts`. Pure.
 *
 * @module
 */
import { parsePort } from "../address.ts";
import { parseHex } from "../encoding.ts";
import { LOAD_DEFAULTS } from "../client/load.ts";
import { SERIES_DEFAULTS } from "../client/series.ts";
import { MAX_PAYLOAD } from "../socket/contract.ts";
import { MEASURE_DEFAULTS } from "../stamp/measure.ts";
import { STAMP_PORT } from "../stamp/packet.ts";
import { CLOCKS } from "../stamp/sender.ts";
import { type Extension, EXTENSION_NAMES } from "../stamp/tlv.ts";
import { parsePattern } from "./expect.ts";
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
  oneOf,
  TIMESTAMPS_FLAG,
} from "./flags.ts";
import type { Help } from "./main.ts";
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
    group: "With --stamp",
    rare: true,
    value: "N",
    parse: integer(0, 65_535),
    help: "the session's identifier (RFC 8972)",
  },
  ptp: {
    group: "With --stamp",
    rare: true,
    help: "timestamps in PTP's format",
  },
  "key-file": {
    group: "With --stamp",
    rare: true,
    value: "FILE",
    parse: String,
    help: "authenticated packets, by a key as hex",
  },
  extensions: {
    group: "With --stamp",
    rare: true,
    value: "LIST",
    parse: parseExtensions,
    help: "what else to ask: all, or a list (docs/measuring.md has the names)",
  },
  "reply-dscp": {
    group: "With --stamp",
    rare: true,
    value: "N",
    parse: parseDscp,
    help: "the DSCP that replies are to have",
  },
  clock: {
    group: "With --stamp",
    rare: true,
    value: "NAME",
    parse: (text: string) => oneOf(CLOCKS, text),
    help: `who times: ${CLOCKS.join(", ")} (${MEASURE_DEFAULTS.clock})`,
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
    group: "With --stamp",
    rare: true,
    help: "draw how the RTTs are distributed",
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

/**
 * Reads which extensions of STAMP to ask for.
 *
 * @throws {SyntaxError} If one of them is none.
 */
function parseExtensions(text: string): Extension[] {
  if (text === "all") return [...EXTENSION_NAMES];
  return text.split(",").map((name) => oneOf(EXTENSION_NAMES, name));
}

const MAX_SIZES = 1000;

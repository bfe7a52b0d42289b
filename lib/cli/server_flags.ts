/**
 * The flags of `server.ts`, one entry for each, and the plan that they make. Pure.
 *
 * @module
 */
import { encode } from "../encoding.ts";
import { errorMessage } from "../base/errors.ts";
import { GUARD, type GuardOptions } from "../server/guard.ts";
import { SERVE } from "../server/serve.ts";
import { MAX_PAYLOAD } from "../socket/contract.ts";
import { checkGroups, hostnameFor } from "../socket/multicast.ts";
import { MEASURE } from "../stamp/measure_options.ts";
import { STAMP_PORT } from "../stamp/measure_options.ts";
import * as flag from "./flags.ts";
import type { Keys } from "./key_file.ts";

const STAMP = ["stamp"] as const;

/** The modes of the server, with the flags that choose them. */
export const SERVER_MODES = {
  stamp: STAMP,
  echo: ["echo"],
  reply: "a fixed reply",
} as const;

export const SERVER_FLAGS = {
  ...flag.group({ group: "Address" }, {
    host: {
      kind: flag.HOST,
      usual: SERVE.hostname.default,
      help: "address to bind; :: takes IPv4 and IPv6",
      everyday: true,
    },
    port: {
      short: "p",
      kind: flag.number(SERVE.port, "PORT"),
      usual: `${flag.USUAL_PORT}; --stamp: ${STAMP_PORT}`,
      help: "port to bind, 0: any free one",
      everyday: true,
    },
    group: {
      kind: flag.listOf(flag.text(), "ADDR[,…]"),
      help: "multicast groups to join: [SOURCE@]ADDR[%NAME]",
    },
    interface: {
      kind: flag.text("NAME"),
      help: "interface for the groups: name or address",
      needs: { flag: "group" },
    },
  }),
  ...flag.group({ group: "Answer" }, {
    reply: {
      short: "r",
      kind: { ...flag.text(), parse: parseReply },
      default: "Hello UDP Client",
      help: "answer with this text",
      everyday: true,
      excludes: ["echo", "stamp"],
      modes: ["reply"],
    },
    echo: {
      help: "answer with the payload of the datagram",
      everyday: true,
      excludes: ["stamp"],
      modes: ["echo"],
    },
    stamp: {
      help: "reflect STAMP packets (RFC 8762)",
      everyday: true,
      modes: STAMP,
    },
  }),
  ...flag.group({ group: "With --stamp", modes: STAMP }, {
    stateless: { help: "return the sender's sequence" },
    "key-file": flag.SHARED_FLAGS["key-file"],
    ssid: {
      kind: flag.listOf(flag.number(MEASURE.ssid)),
      help: "sessions with one of these SSIDs only",
    },
  }),
  ...flag.group({ group: "Limits" }, {
    "rate-limit": {
      kind: flag.number(GUARD.rateLimit),
      usual: `${GUARD.rateLimit.default}; loopback 0`,
      help: "answers/s per /24 or /56, 0: any",
      everyday: true,
    },
    "max-amplification": {
      kind: flag.number(GUARD.maxAmplification, "X"),
      usual: `${GUARD.maxAmplification.default}; loopback 0`,
      help: "answer/request bytes, 0: any",
      everyday: true,
    },
    "no-loop-guard": { help: "do not probe peers for loops" },
    count: {
      short: "c",
      kind: flag.number(SERVE.maxReplies),
      help: "exit after N replies",
      everyday: true,
    },
  }),
  ...flag.group({ group: "Output" }, {
    quiet: { short: "q", help: "show no datagrams", everyday: true },
    json: { help: "print one JSON object a line", everyday: true },
    timestamps: { ...flag.SHARED_FLAGS.timestamps, excludes: ["json"] },
    report: flag.SHARED_FLAGS.report,
  }),
  engine: flag.SHARED_FLAGS.engine,
  workers: {
    group: "Engine",
    kind: flag.integer(1, 256),
    default: 1,
    help: "threads on one port, on the linux engine",
  },
  ...flag.COMMON_FLAGS,
};

export const SERVER = {
  flags: SERVER_FLAGS,
  modes: SERVER_MODES,
  foreign: {
    "-4": "--host 0.0.0.0 takes IPv4",
    "-6": "--host :: takes IPv6 and IPv4",
    "-b": "--host ADDRESS",
    "-d": "it stays in the foreground: a service manager or '&' puts it behind",
    "-l": "it always listens",
    "-u": "it always uses UDP",
    "--address": "--host ADDRESS",
    "--hostname": "--host ADDRESS",
    "--listen": "--host ADDRESS and --port N",
    "--message": "--reply TEXT",
    "-n": "-c N exits after N replies",
    "--bind": "the address goes behind --host",
  },
  name: "server",
  summary: "Answers UDP datagrams.",
  synopsis: "[flags]",
  examples: {
    Address: "--host 0.0.0.0 -p 7007",
    Answer: "--echo",
    "With --stamp": "--stamp --ssid 1,2",
    Limits: "--host 0.0.0.0 --rate-limit 100",
    Output: "-q --report 10s",
    Engine: "--engine auto",
    Help: "--help man | man -l -",
  },
  exits: { 0: "stopped", 2: "error", 130: "Ctrl-C twice" },
  notes:
    `Ctrl-C lets pending answers finish, and prints the counts; a second one ends the
server at once. SIGUSR2 prints the counts.`,
};

/** A command line, checked: data only, so that a worker can receive it. */
export type ServerPlan = Exclude<ReturnType<typeof planServer>, flag.Text>;

/** Makes the plan of a command line, or the text that `--help` asks for. */
export function planServer(args: string[]) {
  const command = flag.parseCommand(SERVER, args);
  if (flag.isText(command)) return command;
  const { given, names, mode, positionals } = command;
  if (positionals.length > 0) {
    const [first] = positionals;
    throw new flag.UsageError(
      `Unexpected argument '${first}': ${placeOf(first!)}`,
    );
  }
  const { workers, group: groups = [], quiet, json, timestamps } = given;
  const engine = workers > 1 && !names.has("engine") ? "linux" : given.engine;
  if (workers > 1 && engine === "deno") {
    throw new flag.UsageError("--workers needs --engine linux");
  }
  // Each worker would answer each datagram to a group.
  const alone = ["count", "group"].find((name) => names.has(name));
  if (workers > 1 && alone) throw flag.exclusive("--workers", `--${alone}`);
  let hostname: string;
  try {
    checkGroups(groups, given.interface);
    hostname = hostnameFor(groups, given.host, SERVE.hostname.default);
  } catch (error) {
    throw new flag.UsageError(`--group: ${errorMessage(error)}`);
  }
  const guard: GuardOptions = {
    rateLimit: given["rate-limit"],
    maxAmplification: given["max-amplification"],
    loops: !given["no-loop-guard"],
  };
  const common = {
    hostname,
    port: given.port ?? (mode === "stamp" ? STAMP_PORT : flag.USUAL_PORT),
    groups,
    interface: given.interface,
    guard,
    maxReplies: given.count,
    reportMs: given.report,
    ...{ quiet, json, timestamps, engine, workers },
  };
  if (mode === "echo") return { ...common, mode };
  if (mode === "reply") return { ...common, mode, reply: given.reply };
  const { stateless, ssid: ssids, "key-file": keyFile } = given;
  // The keys in the file, once it is read.
  const keys = undefined as Keys | undefined;
  return { ...common, mode, stateless, ssids, keyFile, keys };
}

/** The flags behind which an argument belongs. */
function placeOf(text: string): string {
  if (/^\d+$/.test(text)) return "a port goes behind --port";
  try {
    const { hostname, port } = flag.HOST_AND_PORT.parse(text);
    if (port !== flag.NO_PORT) return `write --host ${hostname} --port ${port}`;
  } catch {
    // It is no address either.
  }
  return "the address goes behind --host";
}

function parseReply(text: string): string {
  const { length } = encode(text);
  if (length <= MAX_PAYLOAD) return text;
  throw new SyntaxError(
    `a reply of ${length} bytes fits no datagram: UDP takes at most ${MAX_PAYLOAD}`,
  );
}

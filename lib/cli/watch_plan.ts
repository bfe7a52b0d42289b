/**
 * The file of `client --watch`: targets, described by the client's own flags.
 *
 * @module
 */
import {
  formatAddress,
  parseAddress,
  parseNetwork,
  type UdpAddress,
} from "../address.ts";
import { errorMessage } from "../base/errors.ts";
import * as option from "../base/options.ts";
import { planClient, type PlanOf } from "./client_plan.ts";
import { CLIENT_FLAGS } from "./client_flags.ts";
import { duration, type Flag, isText } from "./flags.ts";

/** One target, checked. */
export interface WatchTarget {
  name: string;
  labels: Record<string, string>;
  /** The time for which a state lasts before it is reported. */
  holdMs: number;
  plan: TargetPlan;
  /** Its description in the file: equal for a target that has not changed. */
  source: string;
}

export type TargetPlan = PlanOf<"request"> | PlanOf<"stamp">;

/** Flags of the client by their long names, as in `{"message": "ping"}`. */
type Flags = Record<string, unknown>;

/** The file, checked. */
export interface WatchFile {
  listen: UdpAddress;
  keepDays: number;
  targets: WatchTarget[];
  modules: Record<string, Flags>;
  probe: Required<ProbeLimits>;
  /** The engine of all sockets. */
  engine: string;
}

/** The bounds of `/probe`. */
interface ProbeLimits {
  networks?: readonly string[];
  ports?: readonly number[];
  atOnce?: number;
  perSecond?: number;
}

const PROBE = {
  networks: option.list(option.text(), []),
  ports: option.list(option.integer(1, 65_535), []),
  atOnce: option.integer(1, 1000, 10),
  perSecond: option.real(0.01, 10_000, 10),
} satisfies option.Table<ProbeLimits>;

/** The members of the file; `maxRate` is in datagrams a second. */
const FILE = {
  listen: option.text("127.0.0.1:9320"),
  maxRate: option.real(0.001, 100_000, 100),
  keepDays: option.integer(1, 3660, 31),
  modules: option.object<Record<string, Flags>>(),
  targets: option.list(option.object<Flags>(), []),
  probe: option.object<ProbeLimits>(),
};

/** A flag as the file has it: `true` for one without a value. */
const FLAG = option.custom<string | number | boolean>(
  "a string, a number or true",
  (value) =>
    ["string", "number", "boolean"].includes(typeof value)
      ? undefined
      : TypeError,
);

/** The flags of the client that describe a target, or a module of `/probe`. */
const FLAGS = Object.fromEntries([
  ...["bind", "clock", "dont-fragment", "dscp", "expect", "expect-hex"],
  ...["expect-part", "expect-pattern", "extensions", "hex", "interface"],
  ...["interval", "ipv4", "ipv6", "key-file", "max-loss", "max-rtt"],
  ...["message", "port", "ptp", "reply-dscp", "retries", "size", "ssid"],
  ...["stamp", "timeout", "ttl"],
].map((name) => [name, FLAG]));

const MODULE = { ...FLAGS, count: option.integer(1, 1000, 1) };

/** The members of a target. */
export const TARGET = {
  ...FLAGS,
  name: option.text(),
  address: option.text(),
  labels: option.object<Record<string, string>>(),
  hold: option.text("10s"),
  module: option.text(),
};

/** The file of a path, or its mistakes, each with its place. */
export async function readWatchFile(
  path: string,
  engine: string,
): Promise<WatchFile | string[]> {
  const { state } = await Deno.permissions.request({ name: "read", path });
  if (state !== "granted") {
    return [`Deno may not read it, run with --allow-read=${path}`];
  }
  try {
    // A pipe would be waited for.
    if (!(await Deno.stat(path)).isFile) return ["it is no regular file"];
    return parseWatchFile(await Deno.readTextFile(path), engine);
  } catch (error) {
    return [errorMessage(error)];
  }
}

/** Checks the text of a file; a mistake in its outline is thrown. */
export function parseWatchFile(
  text: string,
  engine: string,
): WatchFile | string[] {
  const given = option.readAll("the file", FILE, JSON.parse(text), "the file");
  const { maxRate, keepDays, modules = {} } = given;
  const mistakes: string[] = [];
  const attempt = <T>(place: string, read: () => T): T | undefined => {
    try {
      return read();
    } catch (error) {
      mistakes.push(`${place}: ${errorMessage(error)}`);
      return undefined;
    }
  };
  const listen = attempt("listen", () => parseAddress(given.listen));
  const probe = attempt("probe", () => {
    const limits = option.readAll("probe", PROBE, given.probe ?? {}, "probe");
    limits.networks.forEach(parseNetwork);
    return limits;
  });
  for (const [name, module] of Object.entries(modules)) {
    attempt(`modules.${name}`, () => planOfModule(module, "name", engine));
  }
  const names = new Map<string, string>();
  const targets = given.targets.flatMap((target, i) => {
    const place = `targets[${i}]`;
    const read = attempt(place, () => targetOf(target, modules, engine));
    if (read === undefined) return [];
    const first = names.get(read.name);
    if (first !== undefined) {
      mistakes.push(`${place}: '${read.name}' is the name of ${first} too`);
    }
    names.set(read.name, place);
    return [read];
  });
  const rate = targets
    .map(({ plan }) => 1000 / plan.options.intervalMs!)
    .reduce((sum, each) => sum + each, 0);
  if (rate > maxRate) {
    mistakes.push(
      `targets: they send ${Number(rate.toPrecision(3))} datagrams a second ` +
        `together: 'maxRate', now ${maxRate}, must allow that`,
    );
  }
  if (given.targets.length + Object.keys(modules).length === 0) {
    mistakes.push("'targets' is empty: there is nothing to watch");
  }
  return mistakes.length > 0 || listen === undefined || probe === undefined
    ? mistakes
    : { listen, keepDays, targets, modules, probe, engine };
}

function targetOf(
  target: Flags,
  modules: Record<string, Flags>,
  engine: string,
): WatchTarget {
  const { address, module, labels = {}, hold, name, ...flags } = option
    .readAll("a target", TARGET, target, "the target");
  if (address === undefined) throw new TypeError("it has no 'address'");
  if (module !== undefined && !Object.hasOwn(modules, module)) {
    throw new RangeError(`'module': there is no module '${module}'`);
  }
  const { count: _, ...shared } = module === undefined ? {} : modules[module]!;
  for (const [key, value] of Object.entries(labels)) {
    if (
      !/^[a-zA-Z_]\w*$/.test(key) || /^(__|target$|le$|roundtrip_)/.test(key)
    ) {
      throw new RangeError(`'labels': '${key}' cannot be the name of a label`);
    }
    if (typeof value !== "string") {
      throw new TypeError(`'labels': the value of '${key}' must be a string`);
    }
  }
  const own = Object.entries(flags).filter(([, value]) => value !== undefined);
  const all = { ...shared, ...Object.fromEntries(own) };
  const plan = planOf(all, address, engine, 0);
  const { intervalMs = 1000, timeoutMs } = plan.options;
  if (timeoutMs / intervalMs > MAX_UNANSWERED) {
    throw new RangeError(
      `'timeout' must be at most ${MAX_UNANSWERED} times 'interval'`,
    );
  }
  if (name !== undefined && (/^$|\p{Cc}/u.test(name) || !name.isWellFormed())) {
    throw new RangeError("'name' must be a text without control characters");
  }
  return {
    name: name ?? formatAddress(plan.targets[0]!),
    labels,
    holdMs: duration(0).parse(hold),
    plan,
    source: JSON.stringify([labels, hold, address, all]),
  };
}

/** The plan of a probe by a module. */
export function planOfModule(
  module: Flags,
  address: string,
  engine: string,
): TargetPlan {
  const { count, ...flags } = option.readAll("a module", MODULE, module, "it");
  return planOf(flags, address, engine, count);
}

/** The plan of a run by the client's flags; a `count` of 0 has no end. */
function planOf(
  flags: Flags,
  address: string,
  engine: string,
  count: number,
): TargetPlan {
  const args = [`--engine=${engine}`, `--count=${count}`];
  for (const [name, value] of Object.entries(flags)) {
    if (value === undefined || value === false) continue;
    if (value === true && "kind" in FLAG_TABLE[name]!) {
      throw new TypeError(`'${name}' needs a value, not true`);
    }
    args.push(value === true ? `--${name}` : `--${name}=${value}`);
  }
  const plan = planClient([...args, "--", address]);
  if (isText(plan) || plan.mode !== "request" && plan.mode !== "stamp") {
    throw new TypeError("only requests and STAMP can be watched");
  }
  if (plan.options.intervalMs === 0 || plan.sizes.length > 1) {
    throw new RangeError("'interval' must not be 0, 'size' not a sweep");
  }
  if (plan.mode === "request" && plan.payload === "stdin") {
    throw new RangeError("'message' - means stdin: give it as 'hex', 2d");
  }
  return plan;
}

const FLAG_TABLE: Readonly<Record<string, Flag>> = CLIENT_FLAGS;
const MAX_UNANSWERED = 250;

/**
 * Command lines, parsed by the table of a program's flags: values and refusals.
 * Pure.
 *
 * @module
 */
import { parseArgs } from "@std/cli/parse-args";
import { parseAddress, type UdpAddress } from "../address.ts";
import { type Facts, MAX_MS } from "../base/options.ts";
import { DEFAULT_ENGINE, ENGINES } from "../socket/runtime.ts";
import { remedyFor } from "./near_miss.ts";
import type { Flag, Flags, Kind, Program } from "./usage.ts";

export type * from "./usage.ts";

/** A mistake on the command line; the message names the flag. */
export class UsageError extends Error {
  override name = "UsageError";
}

/** The values of all flags: `undefined` for one without value and default. */
export type Given<F extends Flags> = {
  [Name in keyof F]: F[Name] extends { kind: Kind<infer T> }
    ? F[Name] extends { default: unknown } ? T : T | undefined
    : boolean;
};

/** A command line that is right as far as the table of flags shows. */
export interface Command<F extends Flags, Mode extends string> {
  mode: Mode;
  /** The mode for messages: the flag that chose it, or its name. */
  label: string;
  given: Given<F>;
  names: ReadonlySet<string>;
  positionals: string[];
}

const SHELLS = ["bash", "zsh", "fish"] as const;

export const COMMON_FLAGS = group({ group: "Help", everyday: true }, {
  help: { short: "h", help: "show this text; --help all shows every flag" },
  version: { short: "V", help: "show the version" },
  completions: {
    kind: oneOf(SHELLS, "SHELL"),
    help: "print completions for bash, zsh or fish",
    everyday: false,
  },
});

export const SHARED_FLAGS = {
  engine: {
    group: "Engine",
    kind: oneOf(ENGINES),
    default: DEFAULT_ENGINE,
    help: `socket engine: ${ENGINES.join(", ")}`,
  },
  "key-file": {
    kind: text("FILE"),
    help: "authenticated packets: lines of [SSID|HOST] HEX",
  },
  report: {
    kind: duration(100),
    help: "print the counts of each interval of this length",
  },
  timestamps: {
    short: "D",
    help: "begin lines with the time (seconds since 1970)",
  },
} satisfies Flags;

/** Gives flags the properties that they share, such as the heading of a group. */
export function group<
  const Shared extends Partial<Flag>,
  const F extends Flags,
>(
  shared: Shared,
  flags: F & { [Name in keyof F]: Only<keyof Flag, F[Name]> },
): { [Name in keyof F]: F[Name] & Omit<Shared, keyof F[Name]> } {
  const entries = Object.entries<Flag>(flags)
    .map(([name, flag]) => [name, { ...shared, ...flag }]);
  return Object.fromEntries(entries);
}

/** No properties but those named: a misspelled one is a type error. */
type Only<Known, T> = { [Key in Exclude<keyof T, Known>]: never };

/** A text that the arguments ask for, in place of a run; a run does not load it. */
export type Text = Promise<string>;

export function isText(plan: object): plan is Text {
  return plan instanceof Promise;
}

/**
 * Parses the command line of a program, or gives the text that `--help`,
 * `--version` or `--completions` asks for.
 *
 * @throws {UsageError} If a flag is unknown, its value wrong, means nothing in the
 * mode, or is ruled out by another.
 */
export function parseCommand<F extends Flags, Mode extends string>(
  program: Program<F, Mode> & { flags: Flags<NoInfer<Mode>, keyof F> },
  args: string[],
): Command<F, Mode> | Text {
  const { flags, modes, foreign } = program;
  // `client help` is as common as `client --help`.
  const [first, ...rest] = args;
  const { given, names, positionals } = parseFlags(
    flags,
    first === "help" ? ["--help", ...rest] : args,
    foreign,
  );
  if (names.has("help")) {
    if (positionals.includes("man")) {
      return import("./man.ts").then(({ manPage }) => manPage(program));
    }
    const isFull = positionals.includes("all");
    return import("./usage.ts").then(({ usage }) => usage(program, isFull));
  }
  const { completions: shell } = given as Given<typeof COMMON_FLAGS>;
  if (shell !== undefined) {
    return import("./completions.ts").then((module) =>
      module.completions(program, shell)
    );
  }
  if (names.has("version")) {
    return import("./man.ts").then(({ NAME_AND_VERSION }) => NAME_AND_VERSION);
  }
  const chooses = (mode: Mode) =>
    typeof modes[mode] === "string"
      ? modes[mode]
      : modes[mode].filter((name) => names.has(name)).map(spelled)[0];
  const mode = (Object.keys(modes) as Mode[]).find(chooses)!;
  const label = chooses(mode)!;
  for (const name of names) {
    const { excludes = [], needs, modes: own = [mode], linux } = flags[name]!;
    const other = excludes.find((other) => names.has(other));
    if (other !== undefined) throw exclusive(`--${name}`, `--${other}`);
    const needed = (needs?.modes ?? own).includes(mode) && needs?.flag;
    if (needed && !names.has(needed)) {
      const { value } = flags[needed]!.kind ?? { value: "" };
      throw new UsageError(
        `--${name} needs --${needed} with ${label}: add --${needed} ${value}`,
      );
    }
    if (linux?.includes(mode) && given.engine === "deno") {
      throw new UsageError(
        `--${name} needs --engine linux, which 'deno task client-linux' has`,
      );
    }
    if (own.includes(mode)) continue;
    const isChoice = Object.values(modes).flat().includes(name);
    const others = own.flatMap((mode) => {
      const flags = modes[mode as Mode];
      return typeof flags === "string" ? flags : flags.map(spelled);
    });
    throw meaningless(name, label, isChoice ? undefined : others);
  }
  return { mode, label, given, names, positionals };
}

export function exclusive(one: string, other: string): UsageError {
  return new UsageError(`${one} and ${other} exclude each other`);
}

/** The refusal of a flag that has no effect beside others. */
export function meaningless(
  name: string,
  label: string,
  others: readonly string[] = [],
): UsageError {
  const list = others.join(", ").replace(/, ([^,]*)$/, " and $1");
  const suffix = list === "" ? "" : `: it is for ${list}`;
  return new UsageError(`--${name} means nothing with ${label}${suffix}`);
}

/** Parses flags by themselves; a `UsageError` names one that is wrong. */
export function parseFlags<F extends Flags>(
  flags: F,
  args: string[],
  foreign: Program<F, string>["foreign"] = {},
): Pick<Command<F, string>, "given" | "names" | "positionals"> {
  const unreadable = args.find((arg) => arg.includes("\ufffd"));
  if (unreadable !== undefined) {
    throw new UsageError(`'${unreadable}' is not UTF-8: give bytes as --hex`);
  }
  const all = Object.entries(flags);
  const parsed = parseArgs(spellOut(flags, args, foreign), {
    boolean: all.filter(([, { kind }]) => !kind).map(([name]) => name),
    string: ["_", ...all.filter(([, { kind }]) => kind).map(([name]) => name)],
  }) as Record<string, unknown>;
  const names = new Set(
    Object.keys(flags).filter((name) => (parsed[name] ?? false) !== false),
  );
  const given = all.map(([name, { kind, default: value }]) => {
    if (!kind) return [name, names.has(name)];
    return [name, names.has(name) ? valueOf(name, kind, parsed[name]) : value];
  });
  return {
    given: Object.fromEntries(given),
    names,
    positionals: (parsed._ as Array<string | number>).map(String),
  };
}

/**
 * Writes short flags as long ones, a flag with its value as one argument, and what
 * is no flag behind the others: `-qp 7 true` as `--quiet --port=7 -- true`. A
 * parser then takes any value as it is: an empty one, one that begins with a dash,
 * the dash that means stdin; and nothing for the value of a flag without one.
 */
function spellOut(
  flags: Flags,
  args: string[],
  foreign: Readonly<Record<string, string>>,
): string[] {
  const long: string[] = [];
  const positionals: string[] = [];
  const rest = args.values();
  for (const arg of rest) {
    if (arg === "--") {
      positionals.push(...rest);
      break;
    }
    if (!/^-./s.test(arg)) {
      positionals.push(arg);
      continue;
    }
    const parts = arg.startsWith("--")
      ? [arg]
      : letters(flags, arg.slice(1), foreign);
    for (const part of parts) {
      const [head, ...value] = part.split("=");
      const name = head!.slice(2);
      if (!Object.hasOwn(flags, name)) {
        throw unknown(head!, Object.keys(flags).map(spelled), foreign);
      }
      const { kind } = flags[name]!;
      if (name === "help") {
        // `--help=all` is as common as `--help all`.
        long.push(head!);
        positionals.push(...value);
        continue;
      }
      if (!kind && value.length > 0) {
        throw new UsageError(`${head} takes no value`);
      }
      if (!kind || value.length > 0) {
        long.push(part);
        continue;
      }
      const next = rest.next().value;
      if (next === undefined) {
        throw new UsageError(`${head} needs a value: ${head} ${kind.value}`);
      }
      long.push(`${head}=${next}`);
    }
  }
  return [...long, "--", ...positionals];
}

/** Short flags as long ones; the rest behind one with a value is its value. */
function letters(
  flags: Flags,
  text: string,
  foreign: Readonly<Record<string, string>>,
): string[] {
  if (text === "") return [];
  const word = text.split("=")[0]!;
  if (word.length > 1 && Object.hasOwn(flags, word)) {
    throw new UsageError(`unknown flag -${word}: did you mean --${word}?`);
  }
  const [letter, rest] = [text[0]!, text.slice(1)];
  const entry = Object.entries(flags).find(([, { short }]) => short === letter);
  if (entry === undefined) {
    const known = Object.values(flags).map(({ short }) => `-${short}`);
    throw unknown(`-${letter}`, known, foreign);
  }
  const [name, { kind }] = entry;
  if (!kind) return [`--${name}`, ...letters(flags, rest, foreign)];
  return [rest === "" ? `--${name}` : `--${name}=${rest}`];
}

function unknown(...parts: Parameters<typeof remedyFor>): UsageError {
  const remedy = remedyFor(...parts);
  return new UsageError(`unknown flag ${parts[0]}${remedy && `: ${remedy}`}`);
}

function valueOf(name: string, kind: Kind<unknown>, text: unknown): unknown {
  try {
    return kind.parse(String(text));
  } catch (error) {
    if (!(error instanceof SyntaxError)) throw error;
    throw new UsageError(`--${name}: ${error.message}`);
  }
}

const spelled = (name: string) => `--${name}`;

/** Makes a kind of number, with a range. */
const numberOf =
  (words: string, syntax: RegExp) =>
  (min: number, max: number, value = "N"): Kind<number> => ({
    value,
    parse(text) {
      const number = Number(text);
      if (syntax.test(text) && number >= min && number <= max) return number;
      throw new SyntaxError(`'${text}' is not ${words} from ${min} to ${max}`);
    },
  });

export const integer = numberOf("a whole number", /^\d+$/);

export const decimal = numberOf("a number", /^(\d+\.?\d*|\.\d+)$/);

/** A number in the range of an option of the library. */
export function number(
  { kind, min = 0, max = Infinity, unit }: Facts,
  value = "N",
): Kind<number> {
  if (unit === " ms") return duration(min);
  return (kind === "integer" ? integer : decimal)(min, max, value);
}

/**
 * A time in milliseconds, of at least `minMs` and at most a day. A bare number
 * is seconds, as for `ping`.
 */
export function duration(minMs: number): Kind<number> {
  return {
    value: "TIME",
    parse(text) {
      const match = /^(\d+\.?\d*|\.\d+)(ms|s|m|h|)$/.exec(text);
      const ms = match === null ? NaN : Number(match[1]) * UNIT_MS[match[2]!]!;
      if (!(ms >= minMs && ms <= MAX_MS)) {
        throw new SyntaxError(
          `'${text}' is not a time from ${minMs}ms to a day, such as 0.5, 200ms, 1s, 1m or 1h`,
        );
      }
      return ms;
    },
    show: (ms) => ms >= 1000 && ms % 1000 === 0 ? `${ms / 1000}s` : `${ms}ms`,
  };
}

export function text(value = "TEXT"): Kind<string> {
  return { value, parse: String, show: (text) => `"${text}"` };
}

/** One of a few names. */
export function oneOf<T extends string>(
  known: readonly T[],
  value = "NAME",
): Kind<T> {
  return {
    value,
    choices: known,
    parse(text) {
      const found = known.find((name) => name === text);
      if (found !== undefined) return found;
      throw new SyntaxError(`'${text}' is not one of ${known.join(", ")}`);
    },
  };
}

/** Values of one kind, with commas between them. */
export function listOf<T>({ parse }: Kind<T>, value = "LIST"): Kind<T[]> {
  return { value, parse: (text) => text.split(",").map((part) => parse(part)) };
}

/** An IP address or a name, with a port or {@linkcode NO_PORT}. */
export const HOST_AND_PORT: Kind<UdpAddress> = {
  value: "HOST[:PORT]",
  parse: (text) => parseAddress(text, NO_PORT),
};

/** An IP address or a name, without a port. */
export const HOST: Kind<string> = {
  value: "HOST",
  parse(text) {
    const { hostname, port } = parseAddress(text, NO_PORT);
    if (port === NO_PORT) return hostname;
    throw new SyntaxError(`'${text}' has a port: only the host belongs here`);
  },
};

/** The port of this program's server, where no other is given. */
export const USUAL_PORT = 20_001;
/** A port that no address has. */
export const NO_PORT = -1;
const UNIT_MS: Record<string, number> = {
  ms: 1,
  s: 1000,
  m: 60_000,
  h: 3_600_000,
  "": 1000,
};

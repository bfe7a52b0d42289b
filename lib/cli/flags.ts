/**
 * Flags of a command line: from strings to typed values in one step, every
 * mistake named. Pure.
 *
 * @module
 */
import { parseArgs } from "@std/cli/parse-args";
import { parseAddress, type UdpAddress } from "../address.ts";
import { MAX_MS } from "../base/options.ts";
import { DEFAULT_ENGINE, type Engine, ENGINES } from "../socket/runtime.ts";

/** A mistake on the command line; the message names the flag. */
export class UsageError extends Error {
  override name = "UsageError";
}

/** A flag that is on or off. */
export interface Switch {
  short?: string;
  /** The heading that it stands under in the usage text. */
  group?: string;
  help: string;
  /** Whether few people need it: then only `--help all` shows it. */
  rare?: boolean;
}

/** A flag with a value; `parse` throws a `SyntaxError` that says what is wrong. */
export interface ValueFlag<T> extends Switch {
  /** What the usage text calls the value. */
  value: string;
  parse: (text: string) => T;
}

/** The flags of a program, by their long names. */
export type Flags = Record<string, Switch | ValueFlag<unknown>>;

/** What was given: `undefined` for a value that was not. */
export type Given<F extends Flags> = {
  [Name in keyof F]: F[Name] extends ValueFlag<infer T> ? T | undefined
    : boolean;
};

/** The flags that every program has. */
export const COMMON_FLAGS = {
  help: {
    short: "h",
    group: "Help",
    help: "show this text; --help all shows every flag",
  },
  version: { short: "V", group: "Help", help: "show the version" },
} satisfies Flags;

/** Whether lines have the time before them. */
export const TIMESTAMPS_FLAG: Switch = {
  short: "D",
  group: "What to show",
  rare: true,
  help: "begin each line with the time, in seconds since 1970",
};

/** How sockets are made, see {@linkcode Engine}. */
export const ENGINE_FLAG: ValueFlag<Engine> = {
  group: "The engine",
  rare: true,
  value: "NAME",
  parse: (text) => oneOf(ENGINES, text),
  help: `how sockets are made: ${ENGINES.join(", ")} (${DEFAULT_ENGINE})`,
};

/**
 * Parses a command line.
 *
 * @throws {UsageError} If a flag is unknown, or its value missing or wrong.
 */
export function parseFlags<F extends Flags>(
  flags: F,
  args: string[],
): { given: Given<F>; positionals: string[] } {
  const unreadable = args.find((arg) => arg.includes("\ufffd"));
  if (unreadable !== undefined) {
    throw new UsageError(
      `'${unreadable}' is not UTF-8: give bytes as --hex`,
    );
  }
  const names = Object.keys(flags);
  const parsed = parseArgs([...spellOut(flags, args)], {
    boolean: names.filter((name) => !("value" in flags[name]!)),
    string: ["_", ...names.filter((name) => "value" in flags[name]!)],
    unknown: (arg, key) => {
      // Without a key it is a positional.
      if (key !== undefined) {
        throw new UsageError(`unknown flag ${arg.split("=", 1)[0]}`);
      }
    },
  }) as Record<string, unknown>;
  const given = names.map((name) => {
    const flag = flags[name]!;
    const value = parsed[name];
    const isText = "parse" in flag && typeof value === "string";
    return [name, isText ? parseValue(name, flag, value) : value];
  });
  return {
    given: Object.fromEntries(given) as Given<F>,
    positionals: (parsed._ as Array<string | number>).map(String),
  };
}

/**
 * Writes short flags as long ones, and a flag with its value as one argument:
 * `-qp 7` as `--quiet --port=7`. A parser then takes any value as it is: an
 * empty one, one that begins with a dash, the dash that stands for stdin.
 */
function* spellOut(flags: Flags, args: string[]): Generator<string> {
  const rest = args.values();
  for (const arg of rest) {
    if (arg === "--") {
      yield arg;
      return yield* rest;
    }
    if (!/^-./s.test(arg)) {
      yield arg;
      continue;
    }
    const parts = arg.startsWith("--") ? [arg] : letters(flags, arg.slice(1));
    for (const part of parts) {
      const [head, ...value] = part.split("=");
      const name = head!.slice(2);
      const flag = Object.hasOwn(flags, name) ? flags[name]! : undefined;
      if (flag !== undefined && "value" in flag && value.length === 0) {
        const next = rest.next().value;
        if (next === undefined) {
          throw new UsageError(`${head} needs a value: ${head} ${flag.value}`);
        }
        yield `${head}=${next}`;
      } else if (flag !== undefined && !("value" in flag) && value.length > 0) {
        throw new UsageError(`${head} takes no value`);
      } else yield part;
    }
  }
}

/** Short flags as long ones; what follows one that takes a value is its value. */
function letters(flags: Flags, text: string): string[] {
  if (text === "") return [];
  const [letter, rest] = [text[0]!, text.slice(1)];
  const entry = Object.entries(flags).find(([, { short }]) => short === letter);
  if (entry === undefined) throw new UsageError(`unknown flag -${letter}`);
  const [name, flag] = entry;
  if (!("value" in flag)) return [`--${name}`, ...letters(flags, rest)];
  return [rest === "" ? `--${name}` : `--${name}=${rest}`];
}

function parseValue(
  name: string,
  flag: ValueFlag<unknown>,
  text: string,
): unknown {
  try {
    return flag.parse(text);
  } catch (error) {
    if (!(error instanceof SyntaxError)) throw error;
    throw new UsageError(`--${name}: ${error.message}`);
  }
}

/** The text behind `--help`: the flags in groups, the rare ones left out. */
export function usage(flags: Flags, intro: string): string {
  const everyday = Object.entries(flags).filter(([, { rare }]) => !rare);
  return `${intro}\n${list(Object.fromEntries(everyday))}`;
}

/** The text behind `--help all`. */
export function fullUsage(flags: Flags, intro: string, notes: string): string {
  return `${intro}\n${list(flags)}\n${notes}`;
}

function list(flags: Flags): string {
  const heads = new Map(
    Object.entries(flags).map(([name, flag]) => {
      const short = flag.short === undefined ? "    " : `-${flag.short}, `;
      const value = "value" in flag ? ` ${flag.value}` : "";
      return [flag, `  ${short}--${name}${value}`];
    }),
  );
  const width = Math.max(...[...heads.values()].map((head) => head.length)) + 2;
  const groups = Map.groupBy(heads, ([{ group = "Flags" }]) => group);
  return [...groups].flatMap(([group, heads]) => [
    `${group}:`,
    ...heads.map(([{ help }, head]) => head.padEnd(width) + help),
  ]).join("\n");
}

/** For {@linkcode ValueFlag.parse}: an integer from `min` to `max`. */
export function integer(min: number, max: number): (text: string) => number {
  return (text) => {
    const value = Number(text);
    if (!/^\d+$/.test(text) || value < min || value > max) {
      throw new SyntaxError(
        `'${text}' is not a whole number from ${min} to ${max}`,
      );
    }
    return value;
  };
}

/**
 * For {@linkcode ValueFlag.parse}: an IP address or a name, with or without a
 * port, which is {@linkcode NO_PORT} where there is none.
 */
export function hostAndPort(text: string): UdpAddress {
  return parseAddress(text, NO_PORT);
}

/** For {@linkcode ValueFlag.parse}: an IP address or a name, without a port. */
export function host(text: string): string {
  const { hostname, port } = parseAddress(text, NO_PORT);
  if (port === NO_PORT) return hostname;
  throw new SyntaxError(`'${text}' has a port: only the host belongs here`);
}

/** For {@linkcode ValueFlag.parse}: one of a few names. */
export function oneOf<T extends string>(known: readonly T[], text: string): T {
  const found = known.find((name) => name === text);
  if (found !== undefined) return found;
  throw new SyntaxError(`'${text}' is not one of ${known.join(", ")}`);
}

/** For {@linkcode ValueFlag.parse}: a number from 0 to `max`. */
export function decimal(max: number): (text: string) => number {
  return (text) => {
    if (!/^(\d+\.?\d*|\.\d+)$/.test(text) || Number(text) > max) {
      throw new SyntaxError(`'${text}' is not a number from 0 to ${max}`);
    }
    return Number(text);
  };
}

/**
 * For {@linkcode ValueFlag.parse}: a time in milliseconds, of at least `minMs`
 * and at most a day. A bare number is seconds, as for `ping`.
 */
export function duration(minMs: number): (text: string) => number {
  return (text) => {
    const match = /^(\d+\.?\d*|\.\d+)(ms|s|m|)$/.exec(text);
    const ms = match === null ? NaN : Number(match[1]) * UNIT_MS[match[2]!]!;
    if (!(ms >= minMs && ms <= MAX_MS)) {
      throw new SyntaxError(
        `'${text}' is not a time from ${minMs}ms to a day, such as 0.5, 200ms, 1s or 1m`,
      );
    }
    return ms;
  };
}

/** A time as a flag takes it, for the usage text: `1s`, `200ms`. */
export function durationText(ms: number): string {
  return ms >= 1000 && ms % 1000 === 0 ? `${ms / 1000}s` : `${ms}ms`;
}

/** A port that no address has. */
export const NO_PORT = -1;
const UNIT_MS: Record<string, number> = { ms: 1, s: 1000, m: 60_000, "": 1000 };

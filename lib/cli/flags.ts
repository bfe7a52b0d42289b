/**
 * Flags of a command line: from strings to typed values in one step, every
 * mistake named. Pure.
 *
 * @module
 */
import { parseArgs } from "@std/cli/parse-args";
import { parseAddress } from "../address.ts";
import type { Engine } from "../runtime.ts";

/** A mistake on the command line; the message names the flag. */
export class UsageError extends Error {
  override name = "UsageError";
}

/** A flag that is on or off. */
export interface Switch {
  short?: string;
  help: string;
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
  help: { short: "h", help: "show this text" },
  version: { short: "V", help: "show the version" },
} satisfies Flags;

/** How sockets are made, see {@linkcode Engine}. */
export const ENGINE_FLAG: ValueFlag<Engine> = {
  value: "NAME",
  parse: engine,
  help: "deno, linux (recvmmsg through FFI), or auto (deno)",
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
  const names = Object.keys(flags);
  const takesValue = (name: string) => "value" in flags[name]!;
  const parsed = parseArgs(joinValues(flags, args), {
    boolean: names.filter((name) => !takesValue(name)),
    string: ["_", ...names.filter(takesValue)],
    unknown: (arg, key) => {
      // Without a key it is a positional.
      if (key !== undefined) throw unknownFlag(arg);
    },
  }) as Record<string, unknown>;
  const given: Record<string, unknown> = {};
  for (const name of names) {
    const flag = flags[name]!;
    const value = parsed[name];
    given[name] = "parse" in flag && typeof value === "string"
      ? parseValue(name, flag, value)
      : value;
  }
  return {
    given: given as Given<F>,
    positionals: (parsed._ as Array<string | number>).map(String),
  };
}

/** The text behind `--help`. */
export function usage(flags: Flags, intro: string): string {
  const heads = Object.entries(flags).map(([name, flag]) => {
    const short = flag.short === undefined ? "    " : `-${flag.short}, `;
    return `  ${short}--${name}${"value" in flag ? ` ${flag.value}` : ""}`;
  });
  const width = Math.max(...heads.map((head) => head.length)) + 2;
  const helps = Object.values(flags).map((flag) => flag.help);
  const lines = heads.map((head, i) => head.padEnd(width) + helps[i]);
  return `${intro}\n\nOptions:\n${lines.join("\n")}`;
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

/** For {@linkcode ValueFlag.parse}: an IP address or a name, without a port. */
export function host(text: string): string {
  const { hostname, port } = parseAddress(text, NO_PORT);
  if (port === NO_PORT) return hostname;
  throw new SyntaxError(`'${text}' has a port: only the host belongs here`);
}

function engine(text: string): Engine {
  if (text === "auto" || text === "deno" || text === "linux") return text;
  throw new SyntaxError(`'${text}' is not deno, linux or auto`);
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
    if (!(ms >= minMs && ms <= DAY_MS)) {
      throw new SyntaxError(
        `'${text}' is not a time from ${minMs}ms to a day, such as 0.5, 200ms, 1s or 1m`,
      );
    }
    return ms;
  };
}

/**
 * Writes each flag as `--name=value` or `--name`, the one form that leaves no
 * doubt to any parser: a value may then be empty, or begin with a dash, or be
 * the lone dash that stands for stdin.
 */
function joinValues(flags: Flags, args: string[]): string[] {
  const byShort = new Map(
    Object.entries(flags).map(([name, { short }]) => [short, name]),
  );
  const joined: string[] = [];
  const rest = args.values();
  const withValue = (name: string, inline: string | undefined) => {
    const value = inline ?? rest.next().value;
    if (value === undefined) {
      const { value } = flags[name] as ValueFlag<unknown>;
      throw new UsageError(`--${name} needs a value: --${name} ${value}`);
    }
    joined.push(`--${name}=${value}`);
  };
  for (const arg of rest) {
    if (arg === "--") return [...joined, arg, ...rest];
    if (!arg.startsWith("-") || arg === "-") {
      joined.push(arg);
      continue;
    }
    if (arg.startsWith("--")) {
      const [, name, inline] = /^--([^=]*)(?:=(.*))?$/s.exec(arg)!;
      const flag = Object.hasOwn(flags, name!) ? flags[name!] : undefined;
      if (flag === undefined) throw unknownFlag(`--${name}`);
      if ("value" in flag) withValue(name!, inline);
      else if (inline === undefined) joined.push(arg);
      else throw new UsageError(`--${name} takes no value`);
      continue;
    }
    for (let i = 1; i < arg.length; i++) {
      const name = byShort.get(arg[i]);
      if (name === undefined) throw unknownFlag(`-${arg[i]}`);
      if (!("value" in flags[name]!)) {
        joined.push(`--${name}`);
        continue;
      }
      const inline = arg.slice(i + 1);
      withValue(name, inline === "" ? undefined : inline);
      break;
    }
  }
  return joined;
}

function unknownFlag(arg: string): UsageError {
  return new UsageError(`unknown flag ${arg}`);
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

/** A port that no address has. */
export const NO_PORT = -1;
const UNIT_MS: Record<string, number> = { ms: 1, s: 1000, m: 60_000, "": 1000 };
const DAY_MS = 86_400_000;

/**
 * Stands in for `@std/cli/parse-args` where JSR cannot be reached: the part
 * that roundtrip uses. Delete `links` from `deno.json` and the real package
 * takes its place.
 *
 * @module
 */

/** The flags that {@linkcode parseArgs} knows. */
export interface ParseOptions {
  /** Flags without a value: `false` when they are not given. */
  boolean?: readonly string[];
  /** Flags with a value, which stays a string; `_` for the positionals. */
  string?: readonly string[];
}

/**
 * Parses `args`, known flags only: `--name`, or `--name=value`; of a flag given
 * twice the last value counts. What is no flag, or follows `--`, is listed under `_`.
 */
export function parseArgs(
  args: string[],
  { boolean = [] }: ParseOptions = {},
): Record<string, unknown> & { _: Array<string | number> } {
  const end = args.includes("--") ? args.indexOf("--") : args.length;
  const flags: Record<string, unknown> = {};
  const positionals: string[] = [];
  for (const arg of args.slice(0, end)) {
    const [, name, value = true] = /^--(.+?)(?:=(.*))?$/s.exec(arg) ?? [];
    if (name === undefined) positionals.push(arg);
    else flags[name] = value;
  }
  const ungiven = Object.fromEntries(boolean.map((name) => [name, false]));
  return { ...ungiven, ...flags, _: [...positionals, ...args.slice(end + 1)] };
}

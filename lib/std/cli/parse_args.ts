/**
 * Stands in for `@std/cli/parse-args` where JSR cannot be reached: the part
 * that roundtrip uses, over `node:util`. Delete `links` from `deno.json` and
 * the real package takes its place.
 *
 * @module
 */
import { parseArgs as nodeParseArgs } from "node:util";

/** The flags that {@linkcode parseArgs} knows. */
export interface ParseOptions {
  /** Flags without a value: `false` when they are not given. */
  boolean?: readonly string[];
  /** Flags with a value, which stays a string; `_` for the positionals. */
  string?: readonly string[];
}

/** Parses `args`, of known flags only; what is no flag is listed under `_`. */
export function parseArgs(
  args: string[],
  { boolean = [], string = [] }: ParseOptions = {},
): Record<string, unknown> & { _: Array<string | number> } {
  const flags = string.filter((name) => name !== "_");
  const { values, positionals } = nodeParseArgs({
    args,
    strict: false,
    allowPositionals: true,
    options: Object.fromEntries([
      ...boolean.map((name) => [name, { type: "boolean" as const }] as const),
      ...flags.map((name) => [name, { type: "string" as const }] as const),
    ]),
  });
  const ungiven = Object.fromEntries(boolean.map((name) => [name, false]));
  return { ...ungiven, ...values, _: positionals };
}

/**
 * Stands in for `@std/cli/parse-args` where JSR cannot be reached: the part
 * that roundtrip uses, over `node:util`. Delete `links` from `deno.json` and
 * the real package takes its place.
 *
 * @module
 */
import { parseArgs as nodeParseArgs } from "node:util";

/** What {@linkcode parseArgs} is told of the flags. */
export interface ParseOptions {
  /** Flags without a value: `false` when they are not given. */
  boolean?: readonly string[];
  /** Flags with a value, which stays a string; `_` for the positionals. */
  string?: readonly string[];
  /** Called for each flag that is neither; `false` leaves it out. */
  unknown?: (arg: string, key?: string, value?: unknown) => unknown;
}

/** Parses `args`; what is no flag is listed under `_`. */
export function parseArgs(
  args: string[],
  { boolean = [], string = [], unknown = () => true }: ParseOptions = {},
): Record<string, unknown> & { _: Array<string | number> } {
  const flags = string.filter((name) => name !== "_");
  const { values, positionals, tokens } = nodeParseArgs({
    args,
    strict: false,
    allowPositionals: true,
    tokens: true,
    options: Object.fromEntries([
      ...boolean.map((name) => [name, { type: "boolean" as const }] as const),
      ...flags.map((name) => [name, { type: "string" as const }] as const),
    ]),
  });
  const parsed: Record<string, unknown> & { _: string[] } = { _: positionals };
  for (const name of boolean) parsed[name] = false;
  for (const token of tokens) {
    if (token.kind !== "option") continue;
    const known = boolean.includes(token.name) || flags.includes(token.name);
    if (known || unknown(token.rawName, token.name, token.value) !== false) {
      parsed[token.name] = values[token.name];
    }
  }
  return parsed;
}

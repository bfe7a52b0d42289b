/**
 * Stands in for `@std/fmt/colors` where JSR cannot be reached: the part that
 * roundtrip uses, over `node:util`. Delete `links` from `deno.json` and the
 * real package takes its place.
 *
 * @module
 */
import { styleText } from "node:util";

/** `text` in red, unless `NO_COLOR` is set. */
export function red(text: string): string {
  return style("red", text);
}

/** `text` in bold, unless `NO_COLOR` is set. */
export function bold(text: string): string {
  return style("bold", text);
}

function style(format: "red" | "bold", text: string): string {
  return Deno.noColor
    ? text
    : styleText(format, text, { validateStream: false });
}

/**
 * Stands in for `@std/fmt/colors` where JSR cannot be reached: the part that
 * roundtrip uses. Delete `links` from `deno.json` and the real package takes
 * its place.
 *
 * @module
 */

/** `text` in red, unless `NO_COLOR` is set. */
export function red(text: string): string {
  return style(31, 39, text);
}

/** `text` in bold, unless `NO_COLOR` is set. */
export function bold(text: string): string {
  return style(1, 22, text);
}

function style(on: number, off: number, text: string): string {
  return Deno.noColor ? text : `\x1b[${on}m${text}\x1b[${off}m`;
}

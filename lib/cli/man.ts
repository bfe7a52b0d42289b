/**
 * The manual page of a program, from the table of its flags. Pure.
 *
 * @module
 */
import config from "../../deno.json" with { type: "json" };
import { type Described, type Flag, helpOf } from "./usage.ts";

/** The answer to `--version`. */
export const NAME_AND_VERSION = `roundtrip ${config.version}`;

/** Makes the page for the program's installed name, in roff's `man` macros. */
export function manPage(
  { name, summary, synopsis, flags, examples, exits, notes }: Described,
): string {
  const command = `roundtrip-${name}`;
  const groups = Map.groupBy(
    Object.entries<Flag>(flags),
    ([, { group }]) => group!,
  );
  const options = [...groups].flatMap(([group, flags]) => [
    `.SS ${escaped(group)}`,
    ...flags.flatMap(([name, flag]) => [
      ".TP",
      [...flag.short === undefined ? [] : [`-${flag.short}`], `--${name}`]
        .map((name) => `\\fB${escaped(name)}\\fR`).join(", ") +
      (flag.kind ? ` \\fI${escaped(flag.kind.value)}\\fR` : ""),
      escaped(helpOf(flag)),
    ]),
  ]);
  return [
    `.TH ${escaped(command.toUpperCase())} 1 "" "${NAME_AND_VERSION}"`,
    ".SH NAME",
    `${escaped(command)} \\- ${escaped(summary)}`,
    ".SH SYNOPSIS",
    `.B ${escaped(command)}`,
    escaped(synopsis),
    ".SH OPTIONS",
    ...options,
    ".SH NOTES",
    ...notes.split("\n").map(escaped),
    ".SH EXIT STATUS",
    ...Object.entries(exits)
      .flatMap(([code, meaning]) => [".TP", code, escaped(meaning)]),
    ".SH EXAMPLES",
    ".nf",
    ...[...groups.keys()]
      .map((group) => escaped(`${command} ${examples[group]}`)),
    ".fi",
  ].join("\n");
}

/** Text that roff takes as it is, at the begin of a line too. */
function escaped(text: string): string {
  return text.replaceAll("\\", "\\e").replaceAll("-", "\\-")
    .replaceAll("…", "...").replace(/^(?=[.'])/, "\\&");
}

/**
 * Numbers, times and events as text and in JSON. Pure.
 *
 * @module
 */
import { bytesLiteral, printable } from "../../encoding.ts";
import { errorMessage } from "../../base/errors.ts";

/** Milliseconds, to the microsecond, or to this number of digits. */
export function milliseconds(ms: number, digits = 3): string {
  return ms.toFixed(digits);
}

/** A time with its unit, if it is known. */
export function timeText(ms: number | undefined): string {
  return ms === undefined ? "n/a" : `${milliseconds(ms)} ms`;
}

/** A duration in one unit: `35 s`, `2.5 h`. */
export function durationText(ms: number): string {
  const units = [[86_400, "d"], [3600, "h"], [60, "min"], [1, "s"]] as const;
  const [unit, word] = units.find(([unit]) => ms >= 2000 * unit) ?? units[3];
  const value = Math.max(0, ms / 1000 / unit);
  return `${Number(value.toFixed(value < 10 ? 1 : 0))} ${word}`;
}

/** A wall clock's time as `ping -D` shows it, in seconds since 1970. */
export function clockText(ms: number): string {
  return `[${(ms / 1000).toFixed(3)}]`;
}

/** A percentage, to two places, or to this number of digits. */
export function percent(value: number, digits = 2): string {
  // Neither all nor nothing unless it is: 99.999 % is not shown as 100 %.
  const least = 10 ** -digits;
  const shown = value > 0 && value < 100
    ? Math.min(Math.max(value, least), 100 - least)
    : value;
  return `${shown.toFixed(digits).replace(/\.?0+$/, "")}%`;
}

/** A number rounded to six places: a time in ms to the nanosecond. */
export function rounded(value: number): number {
  return Number(value.toFixed(6));
}

/** A percentage of loss, which may be unknown. */
export function lossText(lossPercent: number | undefined): string {
  return lossPercent === undefined ? "n/a" : percent(lossPercent);
}

/**
 * Rows of cells as a table, each column as wide as its cells. The first column
 * has labels; columns beyond the width follow below, with the labels again.
 */
export function tableLines(rows: string[][], columns = COLUMNS): string[] {
  const [labelled = 0, ...widths] = (rows[0] ?? []).map((_, i) =>
    Math.max(...rows.map((row) => row[i]!.length))
  );
  const lines: string[] = [];
  let [from, to] = [0, 0];
  while (from < widths.length) {
    let width = labelled;
    do width += GAP + widths[to++]!; while (
      to < widths.length && width + GAP + widths[to]! <= columns
    );
    for (const [label = "", ...cells] of rows) {
      const shown = cells.slice(from, to)
        .map((cell, i) => cell.padStart(GAP + widths[from + i]!));
      lines.push(label.padEnd(labelled) + shown.join(""));
    }
    from = to;
  }
  return lines;
}

/**
 * Wraps lines that are longer than `columns`, with an indent. A number stays with
 * the word behind it, figures with their names if they fit, a time with its word.
 */
export function wrap(text: string, columns: number): string {
  return text.split("\n").map((line) => {
    if (line.length <= columns) return line;
    const [first = "", ...parts] = line.split(/(?<!\d|\btime) (?![=(])/);
    const lines = [first];
    for (const part of parts) {
      const longer = `${lines.at(-1)} ${part}`;
      if (longer.length <= columns) lines.splice(-1, 1, longer);
      else lines.push(`  ${part}`);
    }
    return lines.join("\n");
  }).join("\n");
}

/** The lines whose condition holds. */
export function present(lines: Array<string | false | undefined>): string[] {
  return lines.filter((line) => typeof line === "string");
}

/**
 * A value as JSON in one line, safe to print on a terminal: the control
 * characters that JSON leaves as they are, line separators and the marks that
 * change the direction of text are escaped.
 */
export function json(value: unknown): string {
  return printable(JSON.stringify(value));
}

/**
 * A payload in about 1 KiB of text, with the number of bytes that are left out: as a
 * literal, or as hex.
 */
export function payloadText(data: Uint8Array, hasHex = false): string {
  let shown = data.subarray(0, MAX_SHOWN_CHARS);
  while (true) {
    const text = hasHex ? shown.toHex() : bytesLiteral(shown);
    const more = data.length - shown.length;
    if (text.length <= MAX_SHOWN_CHARS + QUOTES_CHARS) {
      return more === 0 ? text : `${text} and ${more} more bytes`;
    }
    shown = shown.subarray(0, shown.length / 2);
  }
}

/** An event without figures of its own as a line: `seq=2 late`. */
export function eventText(
  { type, seq, error }: { type: string; seq: number; error?: unknown },
): string {
  const why = error === undefined ? "" : `: ${errorMessage(error)}`;
  return `seq=${seq} ${type}${why}`;
}

/** The width of a page without a terminal. */
export const COLUMNS = 80;
const GAP = 2;
const MAX_SHOWN_CHARS = 1024;
const QUOTES_CHARS = 'b""'.length;

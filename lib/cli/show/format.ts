/**
 * How numbers are shown, to people and in JSON. Pure.
 *
 * @module
 */
import { printable, textOrHex } from "../../encoding.ts";
import { errorMessage } from "../../base/errors.ts";
import type { Summary } from "../../stats/statistics.ts";

/** `[N what]`, or nothing for 0. */
export function counted(count: number, what: string): string[] {
  return count === 0 ? [] : [`${count} ${what}`];
}

/** Milliseconds, to the microsecond. */
export function milliseconds(ms: number): string {
  return ms.toFixed(3);
}

/** A wall clock's time as `ping -D` shows it, in seconds since 1970. */
export function clockText(ms: number): string {
  return `[${(ms / 1000).toFixed(3)}]`;
}

/** A percentage, to two places. */
export function percent(value: number): string {
  // Neither all nor nothing unless it is: 99.999 % is not shown as 100 %.
  const shown = value > 0 && value < 100
    ? Math.min(Math.max(value, 0.01), 99.99)
    : value;
  return `${Number(shown.toFixed(2))}%`;
}

/** To the nanosecond, which is finer than any clock at hand. */
export function rounded(value: number): number {
  return Number(value.toFixed(6));
}

/** A percentage of loss, which may be unknown. */
export function lossText(lossPercent: number | undefined): string {
  return lossPercent === undefined ? "n/a" : percent(lossPercent);
}

/** For JSON, where what is unknown is `null`. */
export function orNull(value: number | undefined): number | null {
  return value === undefined ? null : rounded(value);
}

/** For JSON: a summary, or `null` if nothing was measured. */
export function summaryOrNull(
  summary: Summary | undefined,
): Record<string, number> | null {
  if (summary === undefined) return null;
  return Object.fromEntries(
    Object.entries(summary).map(([name, value]) => [name, rounded(value)]),
  );
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
 * A payload for JSON: text if it is that, else hex; with hex always there for
 * who sends hex, so that no answer looks otherwise than its neighbours.
 */
export function payloadJson(
  payload: Uint8Array,
  hasHex: boolean,
): Record<string, string> {
  const shown = textOrHex(payload);
  return hasHex ? { hex: payload.toHex(), ...shown } : shown;
}

/** What became of a datagram, where there is no more to say of it. */
export interface PlainEvent {
  type: string;
  seq: number;
  error?: unknown;
}

/** An event as a line, in the form that all have: `seq=2 late`. */
export function eventText({ type, seq, error }: PlainEvent): string {
  const why = error === undefined ? "" : `: ${errorMessage(error)}`;
  return `seq=${seq} ${type}${why}`;
}

/** An event as an object. */
export function eventObject(event: PlainEvent): Record<string, unknown> {
  const { seq, error } = event;
  return error === undefined ? { seq } : { seq, error: errorMessage(error) };
}

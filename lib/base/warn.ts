/**
 * Warnings of a server on stderr, unless its owner handles them. Nothing else in the
 * library writes anything.
 *
 * @module
 */
import { printable } from "../encoding.ts";
import { textOf } from "./errors.ts";

/**
 * Writes a line on stderr, after those in the queue. A slow reader, or none, delays
 * nothing: lines that do not fit are left out, and counted.
 */
export function warn(text: string): void {
  if (waiting.length >= MAX_WAITING) {
    leftOut++;
    return;
  }
  waiting.push(text);
  if (waiting.length === 1) writeAll().catch(() => {});
}

async function writeAll(): Promise<void> {
  while (waiting.length > 0) {
    let bytes = ENCODER.encode(`${waiting[0]}\n`);
    try {
      while (bytes.length > 0) {
        bytes = bytes.subarray(await Deno.stderr.write(bytes));
      }
    } catch {
      // Nobody reads it: there is no better place to say so.
    }
    waiting.shift();
    if (waiting.length === 0 && leftOut > 0) {
      waiting.push(`roundtrip: ${leftOut} warnings left out`);
      leftOut = 0;
    }
  }
}

/**
 * Writes messages of each kind once a second at most, with the number of those left out
 * in between. Pure.
 */
export function throttle(
  write: (message: string, kind: string) => void,
  now: () => number = () => performance.now(),
): (kind: string, message: string | (() => string)) => void {
  const kinds = new Map<string, { at: number; more: number }>();
  return (kind, message) => {
    if (!kinds.has(kind) && kinds.size >= MAX_KINDS) kind = OTHERS;
    const last = kinds.get(kind);
    const at = now();
    if (last !== undefined && at - last.at < 1000) {
      last.more++;
      return;
    }
    const more = last?.more ?? 0;
    const text = typeof message === "string" ? message : message();
    write(more === 0 ? text : `${text} (and ${more} more)`, kind);
    kinds.set(kind, { at, more: 0 });
  };
}

/**
 * An error with its stack. Control characters, which a datagram may have put into it,
 * are escaped. Never throws, whatever was thrown.
 */
export function describeError(error: unknown): string {
  return printable(textOf(() => {
    const stack = error instanceof Error ? error.stack : undefined;
    return typeof stack === "string" ? stack : error;
  }));
}

const waiting: string[] = [];
let leftOut = 0;

const ENCODER = new TextEncoder();
const MAX_WAITING = 32;
/** An error's name, which is a kind, may be anything. */
const MAX_KINDS = 64;
const OTHERS = "others";

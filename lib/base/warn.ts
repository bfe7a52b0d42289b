/**
 * What a server says on stderr where its owner has not asked to be told
 * otherwise. This is the one place where the library writes anything.
 *
 * @module
 */
import { printable } from "../encoding.ts";

/**
 * Writes lines on stderr, after all that waits there. Whoever reads slowly, or
 * not at all, holds up nothing: what does not fit is left out, and counted.
 */
export function warn(text: string): void {
  if (waiting.length >= MAX_WAITING) {
    leftOut++;
    return;
  }
  waiting.push(text);
  if (waiting.length === 1) writeAll();
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
 * Messages that may come by the thousand: each kind is written once a second at
 * most, with how many more there were in the meantime. Pure.
 */
export class Throttle {
  readonly #write: (message: string, kind: string) => void;
  readonly #now: () => number;
  readonly #kinds = new Map<string, { at: number; more: number }>();

  constructor(
    write: (message: string, kind: string) => void,
    now: () => number = () => performance.now(),
  ) {
    this.#write = write;
    this.#now = now;
  }

  /** Writes the message, unless one of its kind was written just now. */
  say(kind: string, message: string | (() => string)): void {
    if (!this.#kinds.has(kind) && this.#kinds.size >= MAX_KINDS) kind = OTHERS;
    const last = this.#kinds.get(kind);
    const now = this.#now();
    if (last !== undefined && now - last.at < 1000) {
      last.more++;
      return;
    }
    const more = last?.more ?? 0;
    const text = typeof message === "string" ? message : message();
    this.#write(more === 0 ? text : `${text} (and ${more} more)`, kind);
    this.#kinds.set(kind, { at: now, more: 0 });
  }
}

/**
 * An error as a developer wants to see it, with where it was thrown. Bytes of a
 * datagram that are in it must not command the terminal: what controls one is
 * escaped. Never throws, whatever was thrown.
 */
export function describeError(error: unknown): string {
  let text: string;
  try {
    text = error instanceof Error ? error.stack ?? error.message : `${error}`;
  } catch {
    text = "a value that cannot be shown";
  }
  return printable(text);
}

const waiting: string[] = [];
let leftOut = 0;

const ENCODER = new TextEncoder();
const MAX_WAITING = 32;
/** An error's name, which is a kind, may be anything. */
const MAX_KINDS = 64;
const OTHERS = "others";

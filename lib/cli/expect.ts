/**
 * What a reply must be: `--expect` and its kind. Pure.
 *
 * @module
 */
import { bytesLiteral, encode, equalBytes } from "../encoding.ts";

/** A flag that says what a reply must be. */
export interface Expectation {
  /** The flag with its value, as a complaint names it. */
  readonly flag: string;
  holds(data: Uint8Array): boolean;
  /** The reply that does not hold, in the form of what was expected. */
  show(data: Uint8Array): string;
}

/** The values of the flags, of which one at most is given. */
export interface ExpectFlags {
  expect: string | undefined;
  "expect-hex": Uint8Array | undefined;
  "expect-part": string | undefined;
  "expect-pattern": RegExp | undefined;
}

/** The names of the flags. */
export const EXPECT_FLAGS = [
  "expect",
  "expect-hex",
  "expect-part",
  "expect-pattern",
] as const;

/** What the flags expect of every reply; undefined if nothing. */
export function expectationOf(given: ExpectFlags): Expectation | undefined {
  const { expect, "expect-hex": hex, "expect-part": part } = given;
  const pattern = given["expect-pattern"];
  if (expect !== undefined) {
    const bytes = encode(expect);
    return {
      flag: `--expect ${bytesLiteral(bytes)}`,
      holds: (data) => equalBytes(data, bytes),
      show: bytesLiteral,
    };
  }
  if (hex !== undefined) {
    return {
      flag: `--expect-hex ${hex.toHex()}`,
      holds: (data) => equalBytes(data, hex),
      show: (data) => data.toHex(),
    };
  }
  if (part !== undefined) {
    const bytes = encode(part);
    return {
      flag: `--expect-part ${bytesLiteral(bytes)}`,
      holds: (data) => includes(data, bytes),
      show: bytesLiteral,
    };
  }
  if (pattern !== undefined) {
    return {
      flag: `--expect-pattern ${pattern.source}`,
      holds: (data) => pattern.test(LENIENT_UTF8.decode(data)),
      show: bytesLiteral,
    };
  }
}

/**
 * Reads a regular expression.
 *
 * @throws {SyntaxError} If it is none.
 */
export function parsePattern(text: string): RegExp {
  try {
    return new RegExp(text, "u");
  } catch (error) {
    throw new SyntaxError(
      `'${text}' is not a pattern: ${(error as Error).message}`,
    );
  }
}

function includes(data: Uint8Array, part: Uint8Array): boolean {
  for (let at = 0; at + part.length <= data.length; at++) {
    if (equalBytes(data.subarray(at, at + part.length), part)) return true;
  }
  return false;
}

const LENIENT_UTF8 = new TextDecoder();

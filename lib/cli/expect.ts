/**
 * Conditions on replies: `--expect` and its kinds. Pure.
 *
 * @module
 */
import { bytesLiteral, encode, equalBytes, parseHex } from "../encoding.ts";

/** A condition that every reply must meet. */
export interface Expectation {
  /** The flag with its value, for messages. */
  readonly flag: string;
  holds(data: Uint8Array): boolean;
  /** A reply in the form of the flag's value. */
  show(data: Uint8Array): string;
}

/** Reads each kind of condition; a `SyntaxError` says what is wrong. */
export const EXPECTATIONS = {
  text(text: string): Expectation {
    const bytes = encode(text);
    return {
      flag: `--expect ${bytesLiteral(bytes)}`,
      holds: (data) => equalBytes(data, bytes),
      show: bytesLiteral,
    };
  },
  hex(text: string): Expectation {
    const bytes = parseHex(text);
    return {
      flag: `--expect-hex ${bytes.toHex()}`,
      holds: (data) => equalBytes(data, bytes),
      show: (data) => data.toHex(),
    };
  },
  part(text: string): Expectation {
    const bytes = encode(text);
    return {
      flag: `--expect-part ${bytesLiteral(bytes)}`,
      holds: (data) => includes(data, bytes),
      show: bytesLiteral,
    };
  },
  pattern(text: string): Expectation {
    const pattern = parsePattern(text);
    return {
      flag: `--expect-pattern ${pattern.source}`,
      holds: (data) => pattern.test(LENIENT_UTF8.decode(data)),
      show: bytesLiteral,
    };
  },
};

function parsePattern(text: string): RegExp {
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

/**
 * Conditions on replies: `--expect` and its kinds. Pure.
 *
 * @module
 */
import { encode, equalBytes, parseHex } from "../encoding.ts";
import type { Kind } from "./flags.ts";
import { payloadText } from "./show/format.ts";

/** A condition that every reply must meet. */
export interface Expectation {
  /** The flag with its value, for messages. */
  readonly flag: string;
  holds(data: Uint8Array): boolean;
  /** A reply in the form of the flag's value. */
  show(data: Uint8Array): string;
}

/** The kinds of conditions; a `SyntaxError` names the fault of a value. */
export const EXPECTATIONS = {
  text: kindOf("--expect", "TEXT", encode, payloadText, equalBytes),
  hex: kindOf("--expect-hex", "HEX", parseHex, toHex, equalBytes),
  part: kindOf("--expect-part", "TEXT", encode, payloadText, includes),
  pattern: {
    value: "REGEXP",
    parse(text: string): Expectation {
      const pattern = parsePattern(text);
      return {
        flag: `--expect-pattern ${pattern.source}`,
        holds: (data) => pattern.test(LENIENT_UTF8.decode(data)),
        show: payloadText,
      };
    },
  },
};

/** A condition that compares replies with bytes. */
function kindOf(
  flag: string,
  value: string,
  read: (text: string) => Uint8Array,
  show: (data: Uint8Array) => string,
  compare: (data: Uint8Array, bytes: Uint8Array) => boolean,
): Kind<Expectation> {
  const parse = (text: string) => {
    const bytes = read(text);
    const holds = (data: Uint8Array) => compare(data, bytes);
    return { flag: `${flag} ${show(bytes)}`, holds, show };
  };
  return { value, parse };
}

function toHex(data: Uint8Array): string {
  return payloadText(data, true);
}

function parsePattern(text: string): RegExp {
  try {
    return new RegExp(text, "u");
  } catch (error) {
    const reason = (error as Error).message;
    throw new SyntaxError(`'${text}' is not a pattern: ${reason}`);
  }
}

function includes(data: Uint8Array, part: Uint8Array): boolean {
  for (let at = 0; at + part.length <= data.length; at++) {
    if (equalBytes(data.subarray(at, at + part.length), part)) return true;
  }
  return false;
}

const LENIENT_UTF8 = new TextDecoder();

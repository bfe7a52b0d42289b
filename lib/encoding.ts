/**
 * Payloads as text: UTF-8, hex, and the bytes literal `b"..."`. Pure.
 *
 * @module
 */

/**
 * The bytes of a payload: text as UTF-8, bytes unchanged.
 *
 * @param payload Text or bytes.
 * @returns The bytes; the array itself if it was one.
 *
 * @example
 * ```ts
 * import { encode } from "@roundtrip/udp/encoding";
 * import { assertEquals } from "@std/assert";
 *
 * assertEquals(encode("hé"), new Uint8Array([0x68, 0xc3, 0xa9]));
 * ```
 */
export function encode(payload: string): Uint8Array<ArrayBuffer>;
/** Text as UTF-8, bytes unchanged. */
export function encode(payload: string | Uint8Array): Uint8Array;
export function encode(payload: string | Uint8Array): Uint8Array {
  return typeof payload === "string" ? ENCODER.encode(payload) : payload;
}

/**
 * The text of a payload, if it is text.
 *
 * @param payload The bytes.
 * @returns The text, or undefined if the bytes are not valid UTF-8.
 *
 * @example
 * ```ts
 * import { decode } from "@roundtrip/udp/encoding";
 * import { assertEquals } from "@std/assert";
 *
 * assertEquals(decode(new Uint8Array([0x68, 0x69])), "hi");
 * assertEquals(decode(new Uint8Array([0xff])), undefined);
 * ```
 */
export function decode(payload: Uint8Array): string | undefined {
  try {
    return DECODER.decode(payload);
  } catch {
    return undefined;
  }
}

/**
 * A payload for JSON: `text` when it is valid UTF-8, else `hex`.
 *
 * @param payload The bytes.
 * @returns An object with exactly one of the two keys.
 *
 * @example
 * ```ts
 * import { textOrHex } from "@roundtrip/udp/encoding";
 * import { assertEquals } from "@std/assert";
 *
 * assertEquals(textOrHex(new Uint8Array([0x68, 0x69])), { text: "hi" });
 * assertEquals(textOrHex(new Uint8Array([0xff])), { hex: "ff" });
 * ```
 */
export function textOrHex(
  payload: Uint8Array,
): { text: string } | { hex: string } {
  const text = decode(payload);
  return text === undefined ? { hex: payload.toHex() } : { text };
}

/** Whether two payloads have the same bytes. */
export function equalBytes(a: Uint8Array, b: Uint8Array): boolean {
  if (a.length !== b.length) return false;
  for (let i = 0; i < a.length; i++) if (a[i] !== b[i]) return false;
  return true;
}

/**
 * Escapes characters that command a terminal or change the way text is read: control
 * characters but for the line feed, line separators, and the marks of the direction of
 * text.
 *
 * @param text Any text.
 * @returns The same, with such a character as `\u` and its four hex digits.
 *
 * @example
 * ```ts
 * import { printable } from "@roundtrip/udp/encoding";
 * import { assertEquals } from "@std/assert";
 *
 * assertEquals(printable("\x1b[2J"), "\\u001b[2J");
 * ```
 */
export function printable(text: string): string {
  return text.replace(
    UNSAFE_REGEXP,
    (char) => `\\u${char.charCodeAt(0).toString(16).padStart(4, "0")}`,
  );
}

/** C0 but for the line feed, DEL, C1, separators, bidirectional controls. */
const UNSAFE_REGEXP =
  // deno-lint-ignore no-control-regex
  /[\0-\x09\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]/g;

/**
 * Reads bytes written in hex, such as `48656c6c6f`, `0x4865` or `48 65 6c`.
 *
 * @param text Pairs of hex digits; a leading `0x` and white space or colons
 * between pairs are allowed.
 * @returns The bytes.
 * @throws {SyntaxError} If anything else is in it, or a digit is left over.
 *
 * @example
 * ```ts
 * import { parseHex } from "@roundtrip/udp/encoding";
 * import { assertEquals } from "@std/assert";
 *
 * assertEquals(parseHex("0x00 ff"), new Uint8Array([0x00, 0xff]));
 * ```
 */
export function parseHex(text: string): Uint8Array {
  const pairs = text.trim().replace(/^0x/i, "").split(/[\s:]+/);
  if (!pairs.every((pair) => /^(?:[0-9a-f]{2})*$/i.test(pair))) {
    throw new SyntaxError(`'${text}' is not pairs of hex digits`);
  }
  return Uint8Array.fromHex(pairs.join(""));
}

/**
 * A payload repeated, or cut, to a size; zeros if there is nothing to repeat.
 *
 * @param payload The bytes.
 * @param size The size in bytes.
 * @returns A new array.
 *
 * @example
 * ```ts
 * import { repeatTo } from "@roundtrip/udp/encoding";
 * import { assertEquals } from "@std/assert";
 *
 * assertEquals(repeatTo(new Uint8Array([1, 2]), 3), new Uint8Array([1, 2, 1]));
 * ```
 */
export function repeatTo(payload: Uint8Array, size: number): Uint8Array {
  const sized = new Uint8Array(size);
  if (payload.length === 0) return sized;
  for (let at = 0; at < size; at += payload.length) {
    sized.set(payload.subarray(0, size - at), at);
  }
  return sized;
}

/**
 * Writes a payload as the bytes literal that Python would show, always in
 * double quotes: printable ASCII as it is, `\\`, `\"`, `\t`, `\n`, `\r`, and
 * `\xNN` for every other byte.
 *
 * @param payload The bytes.
 * @returns The literal.
 *
 * @example
 * ```ts
 * import { bytesLiteral } from "@roundtrip/udp/encoding";
 * import { assertEquals } from "@std/assert";
 *
 * assertEquals(bytesLiteral(new Uint8Array([0x68, 0x69, 0x0a, 0xff])), 'b"hi\\n\\xff"');
 * ```
 */
export function bytesLiteral(payload: Uint8Array): string {
  let literal = 'b"';
  for (const byte of payload) literal += LITERALS[byte];
  return literal + '"';
}

const ENCODER = new TextEncoder();
// A byte order mark is part of the payload: ignoreBOM leaves it in.
const DECODER = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

const ESCAPES: Record<string, string> = {
  "\\": "\\\\",
  '"': '\\"',
  "\t": "\\t",
  "\n": "\\n",
  "\r": "\\r",
};

/** The 256 bytes as they are written within a literal. */
const LITERALS: readonly string[] = Array.from({ length: 256 }, (_, byte) => {
  const char = String.fromCharCode(byte);
  if (char in ESCAPES) return ESCAPES[char]!;
  const isPrintable = byte >= 0x20 && byte <= 0x7e;
  return isPrintable ? char : `\\x${byte.toString(16).padStart(2, "0")}`;
});

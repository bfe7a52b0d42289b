/**
 * The one check of payloads that callers and their functions give. Pure.
 *
 * @module
 */
import { encode } from "../encoding.ts";
import { oneLine, textOf } from "./errors.ts";

/**
 * A payload: text, sent as UTF-8, or the bytes of an array of any type, a
 * `DataView` or an `ArrayBuffer`, as in the body of `fetch`. A bare
 * `SharedArrayBuffer` is refused; a view of one is accepted.
 */
export type PayloadInit = string | ArrayBuffer | ArrayBufferView;

/**
 * The bytes of a payload.
 *
 * @param owner The function that takes it, for the message.
 * @param verb Whether it was given, or returned by a function that makes it.
 * @throws {TypeError} If it is neither bytes nor text, or its buffer was transferred.
 */
export function payloadOf(
  payload: unknown,
  owner: string,
  verb: "be" | "return" = "be",
): Uint8Array {
  const bytes = bytesOf(payload);
  if (bytes !== undefined) return bytes;
  const what = verb === "be" ? "payload" : "payload's function";
  throw wrongBytes(`The ${what} of ${owner} must ${verb}`, "", payload);
}

/** The error of a value that is neither bytes nor text. */
export function wrongBytes(
  subject: string,
  others: string,
  value: unknown,
): TypeError {
  return oneLine(
    new TypeError(
      `${subject} a string, a typed array, a DataView or an ArrayBuffer${others}: current value is ${
        kindOf(value)
      }`,
    ),
  );
}

/**
 * The bytes of a payload, undefined for a value that is neither bytes nor text, or
 * whose buffer was transferred. It runs no code of the value: a
 * proxy of an array counts as no bytes, and those of a subclass, such as Node's Buffer, are copied.
 */
export function bytesOf(value: unknown): Uint8Array | undefined {
  if (typeof value === "string") return encode(value);
  const isBytes = CLASS_OF.call(value) === "Uint8Array";
  const bytes = value as Uint8Array;
  // The constructor, as `Object.getPrototypeOf` costs 23 ns.
  const isPlain = isBytes && bytes.constructor === Uint8Array &&
    !Object.hasOwn(bytes, "length");
  if (isPlain && bytes.length > 0) return bytes;
  try {
    if (isBytes) {
      const copy = new Uint8Array(bytes);
      return isPlain ? bytes : copy;
    }
    if (ArrayBuffer.isView(value)) {
      return new Uint8Array(value.buffer, value.byteOffset, value.byteLength);
    }
    // Throws for all other values.
    LENGTH_OF.call(value);
    return new Uint8Array(value as ArrayBuffer);
  } catch {
    return undefined;
  }
}

/** The type of a value that is no payload, in a few words. */
function kindOf(value: unknown): string {
  if (typeof value !== "object" || value === null) {
    return value === null ? "null" : typeof value;
  }
  const tag = textOf(() => Object.prototype.toString.call(value).slice(8, -1));
  const isUnreadable = ArrayBuffer.isView(value) || tag === "ArrayBuffer";
  return isUnreadable ? `${tag}, transferred or resized` : tag.slice(0, 40);
}

/** The class of a typed array, undefined for all other values. */
const CLASS_OF: (this: unknown) => string | undefined = Object
  .getOwnPropertyDescriptor(
    Object.getPrototypeOf(Uint8Array.prototype),
    Symbol.toStringTag,
  )!.get!;

/** The length of an `ArrayBuffer`. */
const LENGTH_OF: (this: unknown) => number = Object
  .getOwnPropertyDescriptor(ArrayBuffer.prototype, "byteLength")!.get!;

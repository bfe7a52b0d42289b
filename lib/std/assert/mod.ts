/**
 * Stands in for `@std/assert` where JSR cannot be reached: the part that
 * roundtrip uses, over `node:assert`. Delete `links` from `deno.json` and the
 * real package takes its place.
 *
 * @module
 */
import nodeAssert from "node:assert/strict";

// deno-lint-ignore no-explicit-any
type ErrorClass<E extends Error> = abstract new (...args: any[]) => E;

/** Fails unless `expr` is truthy. */
export function assert(expr: unknown, msg = ""): asserts expr {
  nodeAssert.ok(expr, msg);
}

/** Fails unless both are deeply equal. */
export function assertEquals<T>(actual: T, expected: T, msg?: string): void {
  nodeAssert.deepStrictEqual(actual, expected, msg);
}

/** Fails unless `actual` contains `expected`. */
export function assertStringIncludes(
  actual: string,
  expected: string,
  msg = `Expected actual: "${actual}" to contain: "${expected}"`,
): void {
  nodeAssert.ok(actual.includes(expected), msg);
}

/** Fails unless `actual` matches `expected`. */
export function assertMatch(
  actual: string,
  expected: RegExp,
  msg?: string,
): void {
  nodeAssert.match(actual, expected, msg);
}

/** Fails unless `fn` throws an error of that class; gives the error. */
export function assertThrows<E extends Error>(
  fn: () => unknown,
  ErrorClass: ErrorClass<E>,
  msgIncludes = "",
  msg?: string,
): E {
  let thrown: unknown;
  nodeAssert.throws(() => {
    try {
      fn();
    } catch (error) {
      thrown = error;
      throw error;
    }
  }, msg);
  return checked(thrown, ErrorClass, msgIncludes, msg);
}

/** Fails unless `fn` rejects with an error of that class; gives the error. */
export async function assertRejects<E extends Error>(
  fn: () => PromiseLike<unknown>,
  ErrorClass: ErrorClass<E>,
  msgIncludes = "",
  msg?: string,
): Promise<E> {
  let thrown: unknown;
  await nodeAssert.rejects(async () => {
    try {
      await fn();
    } catch (error) {
      thrown = error;
      throw error;
    }
  }, msg);
  return checked(thrown, ErrorClass, msgIncludes, msg);
}

function checked<E extends Error>(
  error: unknown,
  ErrorClass: ErrorClass<E>,
  msgIncludes: string,
  msg?: string,
): E {
  nodeAssert.ok(
    error instanceof ErrorClass,
    msg ?? `Expected ${ErrorClass.name}, got ${error}`,
  );
  assertStringIncludes(error.message, msgIncludes, msg);
  return error;
}

/**
 * The check that Deno runs the library, at its import: in Node and Bun nothing
 * of it works.
 *
 * @module
 */
import { oneLine } from "./errors.ts";

if (!("Deno" in globalThis)) {
  throw oneLine(
    new Error("roundtrip needs Deno 2.9 or newer: https://deno.com"),
  );
}

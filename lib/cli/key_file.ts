/**
 * `--key-file`: keys of STAMP's authenticated mode. Other users of a machine can
 * read its command lines, but not this file.
 *
 * @module
 */
import { canonicalHostname } from "../address.ts";
import { parseHex } from "../encoding.ts";
import { errorMessage } from "../base/errors.ts";
import type { StampKey } from "../stamp/auth.ts";

/** Keys by sender: an SSID, an address, or `*` for all. */
export type Keys = Map<string, Uint8Array>;

/** Reads a file that nobody but its owner may read. */
export async function readKeys(path: string): Promise<Keys> {
  const { state } = await Deno.permissions.request({ name: "read", path });
  if (state !== "granted") {
    throw new Deno.errors.NotCapable(
      `--key-file ${path}: Deno may not read it, run with --allow-read=${path}`,
    );
  }
  try {
    const { mode } = await Deno.stat(path);
    if (mode !== null && (mode & OTHERS) !== 0) {
      throw new Error("other users can read it: run chmod 600");
    }
    return parseKeys(await Deno.readTextFile(path));
  } catch (error) {
    throw new Error(`--key-file ${path}: ${errorMessage(error)}`);
  }
}

/** Parses lines of `KEY`, `SSID KEY` or `ADDRESS KEY`, with keys as hex digits. */
export function parseKeys(text: string): Keys {
  const keys: Keys = new Map();
  for (const [i, line] of text.split("\n").entries()) {
    const words = line.replace(/#.*/, "").trim().split(/\s+/);
    if (words[0] === "") continue;
    const [whose, key] = words.length === 1 ? ["*", words[0]!] : words;
    try {
      if (words.length > 2) throw new SyntaxError("more than two words");
      const bytes = parseHex(key!);
      if (bytes.length < 16) {
        throw new SyntaxError("a key needs at least 16 bytes");
      }
      const name = /^\d+$/.test(whose!)
        ? String(Number(whose))
        : whose === "*"
        ? whose
        : canonicalHostname(whose!);
      keys.set(name, bytes);
    } catch (error) {
      throw new SyntaxError(`line ${i + 1}: ${errorMessage(error)}`);
    }
  }
  if (keys.size === 0) throw new SyntaxError("the file has no key");
  return keys;
}

/** Finds the key of a sender: by its address, its SSID, or `*`. */
export function keyOf(keys: Keys): Exclude<StampKey, Uint8Array> {
  return ({ ssid, remoteAddr }) =>
    keys.get(remoteAddr.hostname) ?? keys.get(`${ssid}`) ?? keys.get("*");
}

/** The permission bits of the group and of all others. */
const OTHERS = 0o077;

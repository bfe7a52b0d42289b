/**
 * `--key-file`: keys of STAMP's authenticated mode. Other users of a machine can
 * read its command lines, but not this file.
 *
 * @module
 */
import { canonicalHostname, ipVersion } from "../address.ts";
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
    using file = await Deno.open(path);
    // Of the open file: by now the path may name another one.
    const { mode } = await file.stat();
    if (mode !== null && (mode & OTHERS) !== 0) {
      throw new Error("other users can read it: run chmod 600");
    }
    return parseKeys(await new Response(file.readable).text());
  } catch (error) {
    throw new Error(`--key-file ${path}: ${errorMessage(error)}`);
  }
}

/**
 * Parses lines of `KEY`, `SSID KEY` or `ADDRESS KEY`, with keys as hex digits. An
 * error contains no word of the line: any of them may be a key.
 */
export function parseKeys(text: string): Keys {
  const keys: Keys = new Map();
  for (const [i, line] of text.split("\n").entries()) {
    const words = line.replace(/#.*/, "").trim().split(/\s+/);
    if (words[0] === "") continue;
    const fault = (reason: string) =>
      new SyntaxError(`line ${i + 1}: ${reason}`);
    if (words.length > 2) throw fault("more than two words");
    const [whose, key] = words.length === 1 ? ["*", words[0]!] : words;
    const name = senderOf(whose!);
    if (name === undefined) {
      throw fault("before the key is no SSID (0 to 65535), IP address or *");
    }
    let bytes: Uint8Array;
    try {
      bytes = parseHex(key!);
    } catch {
      throw fault("the key is not pairs of hex digits");
    }
    if (bytes.length < 16) throw fault("a key needs at least 16 bytes");
    keys.set(name, bytes);
  }
  if (keys.size === 0) throw new SyntaxError("the file has no key");
  return keys;
}

/** The name of a sender as `keyOf` looks it up, undefined if it can match none. */
function senderOf(text: string): string | undefined {
  if (text === "*") return text;
  if (/^\d+$/.test(text)) {
    return Number(text) <= MAX_SSID ? `${Number(text)}` : undefined;
  }
  const hostname = canonicalHostname(text);
  return ipVersion(hostname) === undefined ? undefined : hostname;
}

/** Finds the key of a sender: by its address, its SSID, or `*`. */
export function keyOf(keys: Keys): Exclude<StampKey, Uint8Array> {
  return ({ ssid, remoteAddr }) =>
    keys.get(remoteAddr.hostname) ?? keys.get(`${ssid}`) ?? keys.get("*");
}

/** The permission bits of the group and of all others. */
const OTHERS = 0o077;
const MAX_SSID = 65_535;

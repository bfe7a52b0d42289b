/**
 * What `client` is to send.
 *
 * @module
 */
import { encode, repeatTo } from "../encoding.ts";
import { MAX_PAYLOAD } from "../socket/contract.ts";
import { CLIENT_DEFAULTS, type ClientFlags } from "./client_flags.ts";
import { UsageError } from "./flags.ts";
import { complain } from "./output.ts";

/** The payload that the flags ask for; with `--message -` all of stdin. */
export async function readPayload(given: ClientFlags): Promise<Uint8Array> {
  if (given.hex !== undefined) return given.hex;
  if (given.message === "-") return await readStdin();
  return encode(given.message ?? CLIENT_DEFAULTS.message);
}

/** A payload, repeated or cut to a size if there is one. */
export function sized(
  payload: Uint8Array,
  size: number | undefined,
): Uint8Array {
  return size === undefined ? payload : repeatTo(payload, size);
}

/**
 * Whoever pipes something into the client would want to know that it is not sent.
 * Said at the end: what it takes to know loads for longer than an answer takes.
 */
export async function noteUnread(
  { message, hex, stamp, rate, window }: ClientFlags,
): Promise<void> {
  const isOther = stamp || rate !== undefined || window !== undefined;
  if (isOther || message !== undefined || hex !== undefined) return;
  if (Deno.stdin.isTerminal()) return;
  // A closed stdin has no state.
  const { fstatSync } = await import("node:fs");
  try {
    const stdin = fstatSync(0);
    if (!stdin.isFIFO() && !stdin.isFile()) return;
  } catch {
    return;
  }
  complain("client", "stdin is not sent: -m - sends it");
}

/** All of stdin, or as much as shows that it is too large for a datagram. */
async function readStdin(): Promise<Uint8Array> {
  const chunks: Uint8Array<ArrayBuffer>[] = [];
  let size = 0;
  for await (const chunk of Deno.stdin.readable) {
    chunks.push(chunk);
    size += chunk.length;
    if (size > MAX_PAYLOAD) {
      throw new UsageError(
        `--message -: stdin is too large for a datagram: UDP takes at most ${MAX_PAYLOAD} bytes`,
      );
    }
  }
  return new Uint8Array(await new Blob(chunks).arrayBuffer());
}

/**
 * What `client` is to send.
 *
 * @module
 */
import { encode, repeatTo } from "../encoding.ts";
import { MAX_PAYLOAD } from "../socket.ts";
import { CLIENT_DEFAULTS, type ClientFlags } from "./client_flags.ts";
import { UsageError } from "./flags.ts";

/** The payload that the flags ask for; with `--message -` all of stdin. */
export async function readPayload(given: ClientFlags): Promise<Uint8Array> {
  const payload = given.hex ??
    (given.message === "-"
      ? await readStdin()
      : encode(given.message ?? CLIENT_DEFAULTS.message));
  return given.size === undefined ? payload : repeatTo(payload, given.size);
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

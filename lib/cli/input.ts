/**
 * The payload of the client, from its plan or from stdin.
 *
 * @module
 */
import { MAX_PAYLOAD } from "../socket/contract.ts";
import {
  type ClientPlan,
  type PayloadPlan,
  USUAL_PAYLOAD,
} from "./client_plan.ts";
import { UsageError } from "./flags.ts";
import { complain } from "./output.ts";

/** Reads the payload of a plan. */
export async function readPayload(
  { payload }: PayloadPlan,
): Promise<Uint8Array> {
  return payload === "stdin" ? await readStdin() : payload;
}

/**
 * Warns a user who pipes data into a client that does not send it. Called at the
 * end: the check loads modules for longer than an answer takes.
 */
export async function noteUnread(plan: ClientPlan): Promise<void> {
  if (!("payload" in plan) || plan.payload !== USUAL_PAYLOAD) return;
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

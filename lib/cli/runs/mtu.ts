/**
 * `client --find-mtu`: the largest payload that arrives unfragmented.
 *
 * @module
 */
import { formatAddress, ipVersion, type UdpAddress } from "../../address.ts";
import { errorMessage, TimeoutError } from "../../base/errors.ts";
import { request } from "../../client/request.ts";
import type { RequestOptions } from "../../client/exchange.ts";
import { maxPayload } from "../../client/target.ts";
import { json } from "../show/format.ts";
import { onStop } from "../main.ts";
import { complain, type LineWriter } from "../output.ts";
import type { ReportOptions } from "../show/reporter.ts";
import type { RunOutcome } from "../thresholds.ts";

/** The outcome of a size. */
export interface Probe {
  size: number;
  isAnswered: boolean;
  /** The size of the reply. */
  replyBytes?: number | undefined;
  /** The reason for no answer. */
  why?: string | undefined;
  /** The largest payload by the report of the network. */
  hint?: number | undefined;
}

/**
 * Finds the largest size that is answered, from 1 to `max`, if all that are
 * smaller are answered too.
 *
 * @param max The largest size.
 * @param probe Tries a size.
 * @returns The size; undefined if the smallest is not answered.
 */
export async function largestAnswered(
  max: number,
  probe: (size: number) => Promise<Probe>,
): Promise<number | undefined> {
  if (!(await probe(1)).isAnswered) return undefined;
  let [low, high] = [1, max + 1];
  let [next, isHint] = [max, false];
  while (high - low > 1) {
    const { size, isAnswered, hint } = await probe(next);
    if (isAnswered) low = size;
    else high = size;
    // The size that the network reports is next, and then one byte more.
    const reported = isAnswered ? isHint ? size + 1 : 0 : hint ?? 0;
    const isUsable = reported > low && reported < high;
    isHint = !isAnswered && isUsable;
    next = isUsable ? reported : Math.floor((low + high) / 2);
  }
  return low;
}

/** Finds the size, and shows each try. */
export async function runMtu(
  target: UdpAddress,
  options: RequestOptions,
  report: ReportOptions,
  out: LineWriter,
): Promise<RunOutcome & { sent: number }> {
  const stopping = new AbortController();
  const forget = onStop(out, () => stopping.abort());
  const probes: Probe[] = [];
  let remote = target;
  let sent = 0;
  const probe = async (size: number): Promise<Probe> => {
    let found: Probe = { size, isAnswered: false };
    for (let tries = 0; tries < MAX_TRIES && !found.isAnswered; tries++) {
      sent++;
      try {
        const reply = await request(remote, new Uint8Array(size), {
          ...options,
          retries: 0,
          dontFragment: true,
          signal: stopping.signal,
        });
        remote = reply.remoteAddr;
        const { length } = reply.data;
        found = { size, isAnswered: true, replyBytes: length };
      } catch (error) {
        if (stopping.signal.aborted) throw error;
        const { cause, mtu } = reasonOf(error);
        const headers = HEADER_BYTES[ipVersion(remote.hostname) ?? 4];
        const hint = mtu === undefined ? undefined : mtu - headers;
        found = { size, isAnswered: false, why: cause, hint };
        // A report of the network needs no second try.
        if (mtu !== undefined) break;
      }
    }
    probes.push(found);
    if (report.format === "text" && !report.quiet) out.write(probeLine(found));
    if (report.format === "json-stream" && !report.quiet) {
      out.write(json({ type: "probe", time: new Date(), ...probeJson(found) }));
    }
    return found;
  };
  try {
    const max = maxPayload(target.hostname);
    const payloadBytes = await largestAnswered(max, probe);
    const headers = HEADER_BYTES[ipVersion(remote.hostname) ?? 4];
    const mtu = payloadBytes === undefined ? undefined : payloadBytes + headers;
    const isEcho = probes.some(({ size, replyBytes }) =>
      size === payloadBytes && replyBytes === size
    );
    const facts = {
      target: formatAddress(remote),
      payloadBytes: payloadBytes ?? null,
      mtu: mtu ?? null,
      isEcho,
    };
    if (report.format !== "text") {
      const document = report.format === "json"
        ? { ...facts, ...report.quiet ? {} : { probes: probes.map(probeJson) } }
        : { type: "summary", time: new Date(), ...facts };
      if (report.label === undefined || report.format === "json-stream") {
        out.writeResult(json(document));
      } else report.label.collect(document);
    } else if (payloadBytes === undefined) {
      complain(
        "client",
        `No answer from ${facts.target} to 1 byte: ${probes[0]!.why}`,
      );
    } else {
      const limit = isEcho ? "" : "; the replies are shorter";
      out.writeResult(
        `${facts.target}: largest unfragmented payload ${payloadBytes} bytes to the server, MTU ${mtu}${limit}`,
      );
    }
    await out.flush();
    const received = payloadBytes === undefined ? 0 : 1;
    return { sent, received, unexpected: 0 };
  } finally {
    forget();
  }
}

function probeLine({ size, isAnswered, why }: Probe): string {
  return `${size} ${size === 1 ? "byte" : "bytes"}: ${
    isAnswered ? "answered" : `no answer: ${why}`
  }`;
}

function probeJson({ size, isAnswered, why, replyBytes }: Probe) {
  return {
    size,
    isAnswered,
    replyBytes: replyBytes ?? null,
    why: why ?? null,
  };
}

/** The cause of a failure, and the MTU that the network reports. */
function reasonOf(error: unknown): { cause: string; mtu: number | undefined } {
  const inner = error instanceof TimeoutError && error.cause !== undefined
    ? error.cause
    : error;
  const { mtu } = inner as { mtu?: number };
  const cause = inner instanceof TimeoutError
    ? `not within the time, ${MAX_TRIES} times`
    : errorMessage(inner);
  if (mtu === undefined && !(error instanceof TimeoutError)) throw error;
  return { cause, mtu };
}

/** IP and UDP headers. */
const HEADER_BYTES = { 4: 28, 6: 48 };
const MAX_TRIES = 3;

/**
 * `client --find-mtu`: the largest payload that arrives unfragmented.
 *
 * @module
 */
import type { UdpAddress } from "../../address.ts";
import { errorMessage } from "../../base/errors.ts";
import { TimeoutError } from "../../client/reply.ts";
import { request } from "../../client/request.ts";
import type { RequestOptions } from "../../client/exchange.ts";
import { maxPayload } from "../../client/target.ts";
import { headersOf } from "../../server/guard.ts";
import { complain, type LineWriter } from "../output.ts";
import { only } from "../show/columns.ts";
import { type ReportOptions, showRun, type View } from "../show/reporter.ts";
import type { RunOutcome } from "../thresholds.ts";

/** The outcome of a size. */
export interface Probe {
  type: "probe";
  size: number;
  isAnswered: boolean;
  replyBytes?: number;
  why?: string;
  /** The largest payload by the report of the network. */
  hint?: number | undefined;
}

/** The outcome of a search. */
interface MtuResult {
  target: string;
  payloadBytes: number | undefined;
  mtu: number | undefined;
  /** Whether the reply to the largest size was as large. */
  isEcho: boolean;
}

const MTU_VIEW: View<Probe, MtuResult> = {
  list: "probes",
  events: { probe: only("size", "isAnswered", "replyBytes", "why") },
  result: only("target", "payloadBytes", "mtu", "isEcho"),
  line({ size, isAnswered, why }) {
    const outcome = isAnswered ? "answered" : `no answer: ${why}`;
    return `${size} ${size === 1 ? "byte" : "bytes"}: ${outcome}`;
  },
  lines({ target, payloadBytes, mtu, isEcho }) {
    if (payloadBytes === undefined) return "";
    const limit = isEcho ? "" : "; the replies are shorter";
    return `${target}: largest unfragmented payload ${payloadBytes} bytes to the server, MTU ${mtu}${limit}`;
  },
};

/**
 * Searches for the largest size that is answered, from 1 to `max`, if all that
 * are smaller are answered too: the last of the tries that is answered.
 */
export async function* searchSizes(
  max: number,
  probe: (size: number) => Promise<Probe>,
): AsyncGenerator<Probe> {
  let [low, high] = [0, max + 1];
  let [next, isHint] = [1, false];
  while (high - low > 1) {
    const tried = await probe(next);
    yield tried;
    const { size, isAnswered, hint } = tried;
    if (isAnswered) low = size;
    else high = size;
    // The size that the network reports is next, and then one byte more.
    const reported = isAnswered ? isHint ? size + 1 : 0 : hint ?? 0;
    const isUsable = reported > low && reported < high;
    isHint = !isAnswered && isUsable;
    const middle = Math.floor((low + high) / 2);
    next = isUsable ? reported : size === 1 ? max : middle;
  }
}

/** Finds the size, shows each try, and gives the result. */
export async function runMtu(
  target: UdpAddress,
  options: RequestOptions,
  report: ReportOptions,
  out: LineWriter,
): Promise<RunOutcome> {
  const stopping = new AbortController();
  const probes: Probe[] = [];
  const probe = async (size: number): Promise<Probe> => {
    let found: Probe = { type: "probe", size, isAnswered: false };
    for (let tries = 0; tries < MAX_TRIES && !found.isAnswered; tries++) {
      run.sent++;
      try {
        const reply = await request(run.target, new Uint8Array(size), {
          ...options,
          retries: 0,
          dontFragment: true,
          signal: stopping.signal,
        });
        run.target = reply.remoteAddr;
        const replyBytes = reply.data.length;
        found = { type: "probe", size, isAnswered: true, replyBytes };
      } catch (error) {
        if (stopping.signal.aborted) throw error;
        const { why, mtu } = reasonOf(error);
        found = { ...found, why, hint: mtu && mtu - headersOf(run.target) };
        // A report of the network needs no second try.
        if (mtu !== undefined) break;
      }
    }
    probes.push(found);
    return found;
  };
  const run = {
    target,
    sent: 0,
    stop: () => stopping.abort(),
    [Symbol.asyncIterator]: () =>
      searchSizes(maxPayload(target.hostname), probe),
  };
  const result = (target: string) => {
    const answered = probes.filter(({ isAnswered }) => isAnswered);
    // No size is tried after a larger one that is answered.
    const { size, replyBytes } = answered.at(-1) ?? {};
    return {
      target,
      sent: run.sent,
      received: answered.length,
      payloadBytes: size,
      mtu: size && size + headersOf(run.target),
      isEcho: size !== undefined && size === replyBytes,
    };
  };
  const ended = await showRun(run, target, result, MTU_VIEW, report, out);
  if (ended.received === 0 && report.format === "text") {
    const why = probes[0]!.why;
    complain("client", `No answer from ${ended.target} to 1 byte: ${why}`);
  }
  return ended;
}

/** The reason of a failure, and the MTU that the network reports. */
function reasonOf(error: unknown): { why: string; mtu: number | undefined } {
  // The report of the network, or the system's error of the send.
  const { cause = error } = error as { cause?: unknown };
  const { mtu, code } = cause as { mtu?: number; code?: unknown };
  if (code === "ENOBUFS") return { why: DROPPED, mtu };
  if (mtu === undefined && !(error instanceof TimeoutError)) throw error;
  const why = cause instanceof TimeoutError
    ? `not within the time, ${MAX_TRIES} times`
    : errorMessage(cause);
  return { why, mtu };
}

const DROPPED = "the link dropped it, as its next hop has a smaller MTU";
const MAX_TRIES = 3;

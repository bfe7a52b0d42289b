/**
 * `client --find-mtu`: the largest payload that arrives unfragmented.
 *
 * @module
 */
import { ipVersion, type UdpAddress } from "../../address.ts";
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
  /** Whether neither a reply nor a report arrived. */
  isSilent?: boolean;
  dontFragment?: boolean;
}

/** The outcome of a search. */
interface MtuResult {
  target: string;
  payloadBytes: number | undefined;
  /** The MTU of the path; undefined if the limit is the server's, or not found. */
  mtu: number | undefined;
  mtuAtLeast: number | undefined;
  /** Whether the reply to the largest size was as large. */
  isEcho: boolean;
  /** Whether a signal ended the search. */
  isStopped: boolean;
}

const PROBE_KEYS = [
  ...["size", "dontFragment", "isAnswered", "replyBytes", "why"] as const,
];

const MTU_VIEW: View<Probe, MtuResult> = {
  list: "probes",
  events: { probe: only(...PROBE_KEYS) },
  result: only(
    ...["target", "payloadBytes", "mtu", "mtuAtLeast", "isEcho"] as const,
    "isStopped",
  ),
  line({ size, isAnswered, why, dontFragment }) {
    const outcome = isAnswered ? "answered" : `no answer: ${why}`;
    const form = dontFragment ? "" : " in fragments";
    return `${size} ${size === 1 ? "byte" : "bytes"}${form}: ${outcome}`;
  },
  lines({ target, payloadBytes, mtu, mtuAtLeast, isEcho, isStopped }) {
    if (payloadBytes === undefined) return "";
    if (isStopped) {
      return `${target}: stopped; ${payloadBytes} bytes are answered, MTU at least ${mtuAtLeast}`;
    }
    if (mtu === undefined) {
      return `${target}: the server answers at most ${payloadBytes} bytes; the path's MTU is unknown (at least ${mtuAtLeast})`;
    }
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
  const probe = async (size: number, dontFragment = true): Promise<Probe> => {
    const tried = { type: "probe", size, dontFragment } as const;
    let found: Probe = { ...tried, isAnswered: false };
    for (let tries = 0; tries < MAX_TRIES && !found.isAnswered; tries++) {
      run.sent++;
      try {
        const reply = await request(run.target, new Uint8Array(size), {
          ...options,
          retries: 0,
          dontFragment,
          signal: stopping.signal,
        });
        run.target = reply.remoteAddr;
        const replyBytes = reply.data.length;
        found = { ...tried, isAnswered: true, replyBytes };
      } catch (error) {
        if (stopping.signal.aborted) throw error;
        const { mtu, ...reason } = reasonOf(error);
        const hint = mtu && mtu - headersOf(run.target);
        found = { ...tried, isAnswered: false, ...reason, hint };
        // A report of the network needs no second try.
        if (mtu !== undefined) break;
      }
    }
    probes.push(found);
    return found;
  };
  /** The largest size that is answered with don't-fragment. */
  const largest = () =>
    probes.findLast((probe) => probe.isAnswered && probe.dontFragment);
  let isServerLimit = false;
  let isStopped = false;
  async function* search(): AsyncGenerator<Probe> {
    yield* searchSizes(maxPayload(target.hostname), probe);
    const { size } = largest() ?? {};
    const beyond = probes.find((probe) => probe.size === (size ?? 0) + 1);
    if (size === undefined || !beyond?.isSilent) return;
    if (ipVersion(run.target.hostname) === 6) {
      // Routers fragment no IPv6, and each path takes this much (RFC 8200).
      isServerLimit = beyond.size + headersOf(run.target) <= MIN_IPV6_MTU;
      return;
    }
    const fragmented = await probe(beyond.size, false);
    isServerLimit = !fragmented.isAnswered;
    yield fragmented;
  }
  const run = {
    target,
    sent: 0,
    stop: () => stopping.abort(),
    async *[Symbol.asyncIterator](): AsyncGenerator<Probe> {
      try {
        yield* search();
      } catch (error) {
        if (!stopping.signal.aborted) throw error;
        isStopped = true;
      }
    },
  };
  const result = (target: string) => {
    const { size, replyBytes } = largest() ?? {};
    const mtuAtLeast = size && size + headersOf(run.target);
    return {
      target,
      sent: run.sent,
      received: probes.filter(({ isAnswered }) => isAnswered).length,
      payloadBytes: size,
      mtu: isServerLimit || isStopped ? undefined : mtuAtLeast,
      isStopped,
      mtuAtLeast,
      isEcho: size !== undefined && size === replyBytes,
    };
  };
  const ended = await showRun(run, target, result, MTU_VIEW, report, out);
  if (ended.received === 0 && report.format === "text") {
    const why = probes[0]?.why ?? "stopped before its time was over";
    complain("client", `No answer from ${ended.target} to 1 byte: ${why}`);
  }
  return ended;
}

/** The reason of a failure, and the MTU that the network reports. */
function reasonOf(error: unknown) {
  // The report of the network, or the system's error of the send.
  const { cause = error } = error as { cause?: unknown };
  const { mtu, code } = cause as { mtu?: number; code?: unknown };
  if (code === "ENOBUFS") return { why: DROPPED, mtu, isSilent: false };
  if (mtu === undefined && !(error instanceof TimeoutError)) throw error;
  const isSilent = cause instanceof TimeoutError;
  const why = isSilent
    ? `not within the time, ${MAX_TRIES} times`
    : errorMessage(cause);
  return { why, mtu, isSilent };
}

const DROPPED = "the link dropped it, as its next hop has a smaller MTU";
const MAX_TRIES = 3;
const MIN_IPV6_MTU = 1280;

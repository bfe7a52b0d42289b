/**
 * The observer of clients for OpenTelemetry: reads their public figures each
 * second and at their end, and takes their RTTs.
 *
 * @module
 */
import { lightTimer } from "../base/light_timer.ts";
import { TimeoutError } from "./reply.ts";
import type { PartCounts } from "../stats/counts.ts";
import {
  beginSpan,
  count,
  follow,
  type Level,
  type Readings,
  recordRtt,
  UDP,
} from "../base/telemetry.ts";

/** The public figures of a client that are exported. */
export interface ClientFigures extends Partial<PartCounts> {
  outageCount?: number | undefined;
  outageMs?: number | undefined;
  lostUp?: number | undefined;
  lostDown?: number | undefined;
  lostUnattributed?: number | undefined;
  forwardJitterMs?: number | undefined;
  backwardJitterMs?: number | undefined;
  clockOffsetMs?: { estimate: number } | undefined;
}

/** The observer of one client. */
export interface ClientObserver {
  /** Takes an RTT. */
  rtt(rttMs: number): void;
  /** Reads the figures a last time. */
  end(): void;
}

/** Observes nothing. */
export const NO_OBSERVER: ClientObserver = { rtt() {}, end() {} };

/**
 * Observes a client, if it is switched on; a client of a lone datagram after its first
 * reply, or a second, since Deno loads its telemetry for longer than a reply on
 * loopback takes.
 */
export function observeClient(
  isOn: boolean,
  figures: () => ClientFigures,
  isLone = false,
): ClientObserver {
  if (!isOn) return NO_OBSERVER;
  const observe = () => follow(UDP, () => readingsOf(figures()));
  if (!isLone) return { rtt: recordRtt, end: observe() };
  const early: number[] = [];
  let end: (() => void) | undefined;
  const begin = () => {
    end ??= observe();
    for (const rttMs of early.splice(0)) recordRtt(rttMs);
  };
  let cancel = lightTimer(1000, begin);
  return {
    rtt(rttMs) {
      if (end !== undefined) return recordRtt(rttMs);
      if (early.push(rttMs) > 1) return;
      cancel();
      cancel = lightTimer(0, begin);
    },
    end() {
      cancel();
      begin();
      end!();
    },
  };
}

/** The outcome of one request. */
interface RequestOutcome {
  attempts: number;
  foreign: number;
  replies: readonly { rttMs: number | undefined }[];
  failure: { error: unknown } | undefined;
}

/** Begins the span of a request; the function that it returns takes the outcome. */
export function observeRequest(isOn: boolean): (_: RequestOutcome) => void {
  if (!isOn) return () => {};
  const span = beginSpan("roundtrip request", "client");
  return ({ attempts, foreign, replies, failure }) => {
    span.set("roundtrip.attempts", attempts);
    span.end(failure);
    for (const { rttMs } of replies) {
      if (rttMs !== undefined) recordRtt(rttMs);
    }
    const outcome = failure === undefined
      ? "received"
      : failure.error instanceof TimeoutError
      ? "lost"
      : "unsent";
    const figures = { sent: attempts, foreign, [outcome]: 1 };
    count(...readingsOf(figures).counts);
  };
}

/** The figures by the names that they are exported by. */
export function readingsOf(figures: ClientFigures, isUp?: boolean): Readings {
  const { sent = 0, retransmissions = 0 } = figures;
  const { forwardJitterMs, backwardJitterMs, clockOffsetMs } = figures;
  const level = (
    name: Level["name"],
    value: number | undefined,
    direction?: string,
  ): Level => ({
    name,
    value,
    ...direction && { attributes: { "roundtrip.direction": direction } },
  });
  const seconds = (ms: number | undefined) =>
    ms === undefined ? undefined : ms / 1000;
  return {
    counts: [
      { name: "roundtrip.client.sent", value: sent + retransmissions },
      ...OUTCOMES.map((outcome) => ({
        name: "roundtrip.client.datagrams" as const,
        attributes: { "roundtrip.outcome": outcome },
        value: figures[outcome],
      })),
      { name: "roundtrip.client.outages", value: figures.outageCount },
      {
        name: "roundtrip.client.stall_time",
        value: seconds(figures.stalledMs),
      },
      {
        name: "roundtrip.client.outage_time",
        value: seconds(figures.outageMs),
      },
    ],
    levels: [
      level("roundtrip.client.up", isUp === undefined ? isUp : Number(isUp)),
      level("roundtrip.stamp.lost", figures.lostUp, "up"),
      level("roundtrip.stamp.lost", figures.lostDown, "down"),
      level("roundtrip.stamp.lost", figures.lostUnattributed, "unattributed"),
      level("roundtrip.stamp.jitter", seconds(forwardJitterMs), "forward"),
      level("roundtrip.stamp.jitter", seconds(backwardJitterMs), "backward"),
      level("roundtrip.stamp.clock_offset", seconds(clockOffsetMs?.estimate)),
    ],
  };
}

const OUTCOMES = [
  "received",
  "lost",
  "unsent",
  "duplicates",
  "late",
  "foreign",
] as const satisfies ReadonlyArray<keyof PartCounts>;

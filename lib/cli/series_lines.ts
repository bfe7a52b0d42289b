/**
 * How results are shown: lines for people, objects for JSON. Pure.
 *
 * @module
 */
import { formatAddress, type UdpAddress } from "../address.ts";
import { bytesLiteral, textOrHex } from "../encoding.ts";
import type { SeriesEvent, SeriesSummary } from "../request_many.ts";
import type { Refusal } from "../guard.ts";
import type { ReflectorStats } from "../stamp/reflector.ts";
import type { DatagramInfo, ServerStats } from "../serve.ts";
import type { Summary } from "../statistics.ts";

/** The two lines of the server for one datagram. */
export function exchangeLines(
  data: Uint8Array,
  { hostname, port }: UdpAddress,
): string {
  return `Message from Client:${bytesLiteral(data)}\n` +
    `Client IP Address:("${hostname}", ${port})`;
}

/** The server's JSON object for one datagram. */
export function exchangeJson(
  data: Uint8Array,
  { hostname, port }: UdpAddress,
): Record<string, unknown> {
  return {
    type: "request",
    hostname,
    port,
    size: data.length,
    ...textOrHex(data),
  };
}

/** The server's first line; limits are named where there are some. */
export function listeningLine(addr: UdpAddress, rateLimit: number): string {
  const limit = rateLimit === 0
    ? ""
    : `, at most ${rateLimit} answers a second to a /24 or /56`;
  return `UDP server up and listening on ${formatAddress(addr)}${limit}`;
}

/** Why a datagram was refused, and what there is to do about it. */
export function refusalLine(
  reason: Refusal,
  { remoteAddr }: DatagramInfo,
): string {
  return `refused ${formatAddress(remoteAddr)}: ${REFUSAL_LINES[reason]}`;
}

/** The server's counts in one line; what is 0 and unusual is left out. */
export function statsLine(
  stats: ServerStats,
  reflector?: ReflectorStats,
): string {
  const { received, replied, unanswered, dropped, refused, errors } = stats;
  return [
    `${received} received`,
    `${replied} replied`,
    ...counted(unanswered, "unanswered"),
    ...counted(reflector?.malformed ?? 0, "malformed"),
    ...counted(reflector?.returned ?? 0, "returned by a reflector"),
    ...counted(dropped.tooLong, "dropped as too long"),
    ...counted(dropped.overload, "dropped in overload"),
    ...counted(dropped.closing, "dropped while closing"),
    ...Object.entries(refused).flatMap(([reason, count]) =>
      counted(count, `refused (${reason})`)
    ),
    ...counted(errors.handler, "handler errors"),
    ...counted(errors.send, "send errors"),
    ...counted(errors.receive, "receive errors"),
  ].join(", ");
}

/** The client's line for the reply to a lone datagram. */
export function replyLine(data: Uint8Array): string {
  return `Message from Server ${bytesLiteral(data)}`;
}

/** The client's line for one event of a series. */
export function eventLine(event: SeriesEvent): string {
  const seq = `seq=${event.seq}`;
  switch (event.type) {
    case "reply": {
      const { data, rttMs, attempts } = event.reply;
      const time = rttMs === undefined
        ? `time=n/a attempts=${attempts}`
        : `time=${milliseconds(rttMs)} ms`;
      return `${replyLine(data)} ${seq} ${time}`;
    }
    case "lost":
      return `No reply ${seq} attempts=${event.error.attempts}${
        event.error.cause === undefined ? "" : " (closed port)"
      }`;
    case "late":
      return `Late reply ${seq}`;
    case "duplicate":
      return `Duplicate reply ${seq}`;
    case "error":
      return `Error ${seq} ${errorMessage(event.error)}`;
  }
}

/** The client's JSON object for one event of a series. */
export function eventJson(event: SeriesEvent): Record<string, unknown> {
  const { type, seq } = event;
  switch (event.type) {
    case "reply": {
      const { data, rttMs, attempts } = event.reply;
      return {
        type,
        seq,
        rttMs: rttMs === undefined ? null : rounded(rttMs),
        attempts,
        size: data.length,
        ...textOrHex(data),
      };
    }
    case "lost":
      return {
        type,
        seq,
        attempts: event.error.attempts,
        refused: event.error.cause !== undefined,
      };
    case "error":
      return { type, seq, error: errorMessage(event.error) };
    default:
      return { type, seq };
  }
}

/** The client's closing lines, laid out as `ping` does. */
export function summaryLines(
  target: UdpAddress,
  summary: SeriesSummary,
): string {
  const { sent, received, duplicates, late, lossPercent, rttMs } = summary;
  const counts = [
    `${sent} sent`,
    `${received} received`,
    `${duplicates} duplicates`,
    `${late} late`,
    ...counted(summary.retransmissions, "retransmissions"),
    ...counted(summary.pending, "pending"),
    ...counted(summary.foreign, "foreign"),
    ...counted(summary.errors, "errors"),
    `${lossPercent === undefined ? "n/a" : percent(lossPercent)} loss`,
    `time ${Math.round(summary.durationMs)} ms`,
  ];
  const lines = [
    `--- ${formatAddress(target)} statistics ---`,
    counts.join(", "),
  ];
  if (rttMs !== undefined) {
    const { min, mean, max, stddev } = rttMs;
    const times = [min, mean, max, stddev].map(milliseconds).join("/");
    lines.push(`rtt min/avg/max/mdev = ${times} ms`);
  }
  return lines.join("\n");
}

/** The client's summary for JSON: every key always there, `null` for unknown. */
export function summaryJson(
  target: UdpAddress,
  summary: SeriesSummary,
): Record<string, unknown> {
  const { lossPercent, durationMs, rttMs, ...counts } = summary;
  return {
    target: formatAddress(target),
    ...counts,
    lossPercent: lossPercent === undefined ? null : rounded(lossPercent),
    durationMs: rounded(durationMs),
    rttMs: rttMs === undefined ? null : roundedSummary(rttMs),
  };
}

/** The message of an error, in one line. */
export function errorMessage(error: unknown): string {
  const message = error instanceof Error ? error.message : String(error);
  return message.replace(/\s*\n\s*/g, " ");
}

const REFUSAL_LINES: Record<Refusal, string> = {
  amplification:
    "the answer is too large for its request (--max-amplification)",
  rate: "too many answers a second to its network (--rate-limit)",
  self: "it comes from the server's own address and port",
  port: "it comes from a port whose service may answer in turn",
  source: "it comes from an address that no host can have",
  ownReply: "it is this server's own reply",
  loop: "the same payload, over and over: it may be another server's reply",
};

/** `[N what]`, or nothing for 0. */
export function counted(count: number, what: string): string[] {
  return count === 0 ? [] : [`${count} ${what}`];
}

/** Milliseconds, to the microsecond. */
export function milliseconds(ms: number): string {
  return ms.toFixed(3);
}

/** A percentage, to two places. */
export function percent(value: number): string {
  // Neither all nor nothing unless it is: 99.999 % is not shown as 100 %.
  const shown = value > 0 && value < 100
    ? Math.min(Math.max(value, 0.01), 99.99)
    : value;
  return `${Number(shown.toFixed(2))}%`;
}

/** To the nanosecond, which is finer than any clock at hand. */
export function rounded(value: number): number {
  return Number(value.toFixed(6));
}

/** A summary whose figures are {@linkcode rounded}. */
export function roundedSummary(summary: Summary): Summary {
  const { min, mean, median, p90, p99, max, stddev } = summary;
  return {
    min: rounded(min),
    mean: rounded(mean),
    median: rounded(median),
    p90: rounded(p90),
    p99: rounded(p99),
    max: rounded(max),
    stddev: rounded(stddev),
  };
}

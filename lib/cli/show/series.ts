/**
 * How a series is shown: lines for people, objects for JSON. Pure.
 *
 * @module
 */
import { formatAddress, type UdpAddress } from "../../address.ts";
import { bytesLiteral } from "../../encoding.ts";
import { errorMessage, isPortClosed } from "../../base/errors.ts";
import type { SeriesEvent, SeriesSummary } from "../../client/series.ts";
import {
  counted,
  eventObject,
  eventText,
  lossText,
  milliseconds,
  orNull,
  payloadJson,
  rounded,
  summaryOrNull,
} from "./format.ts";

/** The client's line for the reply to a lone datagram. */
export function replyLine(data: Uint8Array, hasHex = false): string {
  return `Message from Server ${
    hasHex ? `hex ${data.toHex()}` : bytesLiteral(data)
  }`;
}

/** The client's line for one event of a series. */
export function eventLine(event: SeriesEvent, hasHex = false): string {
  const seq = `seq=${event.seq}`;
  switch (event.type) {
    case "reply": {
      const { data, rttMs, attempts } = event.reply;
      const time = rttMs === undefined
        ? `time=n/a attempts=${attempts}`
        : `time=${milliseconds(rttMs)} ms`;
      return `${replyLine(data, hasHex)} ${seq} ${time}`;
    }
    case "lost": {
      const { attempts } = event.error;
      const { cause } = event.error;
      const why = isPortClosed(cause)
        ? " (closed port)"
        : cause === undefined
        ? ""
        : ` (${errorMessage(cause)})`;
      return `${seq} lost attempts=${attempts}${why}`;
    }
    default:
      return eventText(event);
  }
}

/** What JSON says of one event of a series; with hex on demand. */
export function eventJson(
  event: SeriesEvent,
  hasHex: boolean,
): Record<string, unknown> {
  const { seq } = event;
  switch (event.type) {
    case "reply": {
      const { data, rttMs, attempts } = event.reply;
      return {
        seq,
        rttMs: orNull(rttMs),
        attempts,
        size: data.length,
        ...payloadJson(data, hasHex),
      };
    }
    case "lost": {
      const { attempts, cause } = event.error;
      const portClosed = isPortClosed(cause);
      const rejection = cause === undefined || portClosed
        ? null
        : errorMessage(cause);
      return { seq, attempts, portClosed, rejection };
    }
    default:
      return eventObject(event);
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
    ...(summary.retransmissions === 0 ? [`${lossText(lossPercent)} loss`] : [
      `${lossText(lossPercent)} of exchanges failed`,
      `${lossText(summary.datagramLossPercent)} of datagrams lost`,
    ]),
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
  const { lossPercent, datagramLossPercent, durationMs, rttMs, ...counts } =
    summary;
  return {
    target: formatAddress(target),
    ...counts,
    lossPercent: orNull(lossPercent),
    datagramLossPercent: orNull(datagramLossPercent),
    durationMs: rounded(durationMs),
    rttMs: summaryOrNull(rttMs),
  };
}

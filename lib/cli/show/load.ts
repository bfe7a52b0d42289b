/**
 * What `client --rate` and `client --window` say. Pure.
 *
 * @module
 */
import { formatAddress, type UdpAddress } from "../../address.ts";
import type { TailSummary } from "../../stats/distribution.ts";
import type {
  LoadInterval,
  LoadOptions,
  LoadResult,
} from "../../client/load.ts";
import {
  counted,
  lossText,
  milliseconds,
  orNull,
  rounded,
  summaryOrNull,
} from "./format.ts";

/** The closing lines. */
export function loadLines(
  target: UdpAddress,
  { rate, window, size }: LoadOptions,
  result: LoadResult,
): string {
  const asked = rate === undefined
    ? `${window} in flight`
    : `${rate} a second asked for`;
  const counts = [
    `${result.sent} sent`,
    `${result.received} received`,
    `${result.lost} lost (${lossText(result.lossPercent)})`,
    `${result.duplicates} duplicates`,
    `${result.late} late`,
    ...counted(result.pending, "pending"),
    ...counted(result.foreign, "foreign"),
    ...counted(result.errors, "errors"),
    ...counted(result.portClosed, "reports of a closed port"),
    ...counted(result.receiveErrors, "receive errors"),
    ...counted(result.kernelDrops ?? 0, "dropped by this machine"),
    `time ${Math.round(result.durationMs)} ms`,
  ];
  return [
    `--- ${formatAddress(target)} load statistics: ${size} bytes, ${asked} ---`,
    counts.join(", "),
    `sent ${rateText(result.sentPerSecond, result.sentBitsPerSecond)}, ` +
    `received ${
      rateText(result.receivedPerSecond, result.receivedBitsPerSecond)
    }`,
    ...summaryLine("rtt", result.rttMs),
    ...summaryLine("send error", result.sendErrorMs),
  ].join("\n");
}

/** The result for JSON: every key always there, `null` for unknown. */
export function loadJson(
  target: UdpAddress,
  { rate, window, size }: LoadOptions,
  result: LoadResult,
): Record<string, unknown> {
  const { rttMs, sendErrorMs, ...numbers } = result;
  return {
    target: formatAddress(target),
    rate: rate ?? null,
    window: window ?? null,
    size,
    ...Object.fromEntries(
      Object.entries(numbers).map(([key, value]) => [key, orNull(value)]),
    ),
    rttMs: summaryOrNull(rttMs),
    sendErrorMs: summaryOrNull(sendErrorMs),
  };
}

/** A part of it for JSON. */
export function intervalJson(
  { fromMs, toMs, sent, received, lost, rttMs }: LoadInterval,
): Record<string, unknown> {
  return {
    fromMs: rounded(fromMs),
    toMs: rounded(toMs),
    sent,
    received,
    lost,
    rttMs: summaryOrNull(rttMs),
  };
}

/** A part of it in one line. */
export function intervalLine(
  { fromMs, toMs, sent, received, lost, rttMs }: LoadInterval,
): string {
  const second = (toMs - fromMs) / 1000 || 1;
  const rtt = rttMs === undefined
    ? ""
    : `, rtt ${milliseconds(rttMs.median)} ms in the median`;
  return `${Math.round(toMs / 1000)} s: ${
    Math.round(sent / second)
  } a second sent, ${
    Math.round(received / second)
  } received, ${lost} lost${rtt}`;
}

/** What its user would want to know of a run, besides what it measured. */
export function loadWarnings(
  { rate }: LoadOptions,
  result: LoadResult,
): string[] {
  const { sentPerSecond, received, foreign, kernelDrops = 0 } = result;
  // Of few datagrams a single late one is no rule.
  const isBehind = (result.sendErrorMs?.p99 ?? 0) > BEHIND_MS;
  const found: string[] = [];
  if (
    rate !== undefined && isBehind && sentPerSecond !== undefined &&
    sentPerSecond < 0.995 * rate
  ) {
    found.push(
      `this machine was too slow for --rate ${rate}: it reached ${
        Math.round(sentPerSecond)
      } a second`,
    );
  }
  if (kernelDrops > 0) {
    found.push(
      `${kernelDrops} echoes are lost in this machine, not on the path: it was too slow to read them`,
    );
  }
  if (received === 0 && foreign > 0) {
    found.push(
      "what came back is no echo: --rate and --window need a server that echoes (server --echo)",
    );
  }
  return found;
}

function rateText(
  perSecond: number | undefined,
  bitsPerSecond: number | undefined,
): string {
  return perSecond === undefined || bitsPerSecond === undefined
    ? "n/a"
    : `${Math.round(perSecond)} a second (${bits(bitsPerSecond)})`;
}

function bits(perSecond: number): string {
  const units = ["bit/s", "kbit/s", "Mbit/s", "Gbit/s"];
  let unit = 0;
  while (perSecond >= 1000 && unit < units.length - 1) {
    perSecond /= 1000;
    unit++;
  }
  return `${Number(perSecond.toPrecision(4))} ${units[unit]}`;
}

function summaryLine(name: string, summary: TailSummary | undefined): string[] {
  if (summary === undefined) return [];
  const { min, mean, median, p90, p99, p999, max } = summary;
  const values = [min, mean, median, p90, p99, p999, max].map(milliseconds);
  return [`${name} min/mean/median/p90/p99/p99.9/max = ${values.join("/")} ms`];
}

const BEHIND_MS = 50;

/**
 * Loads: their columns and their lines. Pure.
 *
 * @module
 */
import type { LoadResult } from "../../client/load.ts";
import type { Interval } from "../../stats/books.ts";
import type { LoadOptions } from "../../client/load_options.ts";
import * as column from "./columns.ts";
import { present } from "./format.ts";
import { lossLines, silenceLine } from "./loss.ts";
import type { View } from "./reporter.ts";

/** A load, and the rate, window and size that were asked for. */
export type LoadRow =
  & { target: string }
  & Pick<LoadOptions, "rate" | "window" | "size">
  & LoadResult;

export const LOAD_COLUMNS: column.Columns<LoadRow> = {
  target: column.TARGET,
  rate: { docs: "`--rate`" },
  window: { docs: "`--window`" },
  size: { docs: "bytes of each datagram" },
  sent: column.COUNT,
  received: column.COUNT,
  lost: column.LOST,
  unsent: {},
  lossPercent: {},
  duplicates: column.COUNT,
  late: column.COUNT,
  ...column.RUN_COUNTS,
  kernelDrops: column.KERNEL_DROPS,
  eventsDropped: column.DROPPED,
  durationMs: column.DURATION,
  ...column.only("sentPerSecond", "receivedPerSecond"),
  ...column.only("sentBitsPerSecond", "receivedBitsPerSecond"),
  rttMs: { label: "rtt" },
  sendErrorMs: { label: "send error" },
  ...column.LOSS_COLUMNS,
};

/** A load; its events are intervals, which all views show alike. */
export const LOAD_VIEW: View<Interval, LoadRow> = {
  list: "intervals",
  events: { interval: column.EVENTS.interval },
  result: LOAD_COLUMNS,
  line: column.intervalLine,
  lines: loadLines,
  warnings: loadWarnings,
  // Of foreign datagrams there is a warning.
  silence: (result) => result.foreign > 0 ? undefined : silenceLine(result),
};

function loadLines(result: LoadRow): string {
  const { target, rate, window, size } = result;
  const asked = rate === undefined
    ? `${window} in flight`
    : `${rate} a second asked for`;
  const head = `${target} load statistics: ${size} bytes, ${asked}`;
  const sent = rateText(result.sentPerSecond, result.sentBitsPerSecond);
  const { receivedPerSecond, receivedBitsPerSecond } = result;
  const received = rateText(receivedPerSecond, receivedBitsPerSecond);
  return [
    column.closingLines(head, LOAD_COLUMNS, result),
    ...lossLines(result),
    `sent ${sent}, received ${received}`,
    ...column.timesOf(LOAD_COLUMNS, result).map(({ label, summary }) =>
      `${label} ${column.figuresText(column.figuresOf(summary, "stddev"))}`
    ),
  ].join("\n");
}

/** Warnings about a load: where its figures are not those of the path. */
export function loadWarnings(
  { rate = 0, sentPerSecond = rate, sendErrorMs, ...counts }: LoadRow,
): string[] {
  const { received, foreign, skipped, stalls, unsent } = counts;
  // Of few datagrams a single late one is no rule.
  const isBehind = (sendErrorMs?.p99 ?? 0) > BEHIND_MS || skipped > 0;
  const reached = Math.round(sentPerSecond);
  return present([
    isBehind && stalls + unsent === 0 && sentPerSecond < 0.995 * rate &&
    `this machine was too slow for --rate ${rate}: it reached ${reached} a second`,
    received === 0 && foreign > 0 &&
    "the replies are no echoes: --rate and --window need a server that echoes (server --echo)",
  ]);
}

/** A rate in datagrams and in bits of payload. */
export function rateText(perSecond = NaN, bitsPerSecond = NaN): string {
  if (Number.isNaN(perSecond + bitsPerSecond)) return "n/a";
  const units = ["bit/s", "kbit/s", "Mbit/s", "Gbit/s"];
  while (bitsPerSecond >= 1000 && units.length > 1) {
    bitsPerSecond /= 1000;
    units.shift();
  }
  const bits = `${Number(bitsPerSecond.toPrecision(4))} ${units[0]}`;
  const count = Number(perSecond.toFixed(perSecond < 100 ? 1 : 0));
  return `${count} a second (${bits})`;
}

const BEHIND_MS = 50;

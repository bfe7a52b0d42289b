/**
 * The closing lines about loss: how many datagrams, when, and why. Pure.
 *
 * @module
 */
import { datagrams, SILENCE } from "../../client/exchange.ts";
import type { RunCounts } from "../../stats/counts.ts";
import type { Outage } from "../../stats/loss_periods.ts";
import { present } from "./format.ts";

/** The verdict on a run, its outages, and the reasons; nothing if all is well. */
export function lossLines(
  counts: RunCounts & { kernelDrops?: number | undefined },
): string[] {
  const { lost, unsent, rejected, startedAt, outages, outageCount } = counts;
  const { stalls, stalledMs, skipped, longestStall, reasons } = counts;
  const missing = lost + unsent;
  const dropped = Math.min(counts.kernelDrops ?? 0, lost - rejected);
  const parts = [
    `${unsent} refused by this system`,
    `${rejected} rejected by the network`,
    `${dropped} dropped by this machine's full receive buffer`,
    `${lost - rejected - dropped} unanswered`,
  ].filter((part) => !part.startsWith("0 "));
  const { lossPeriods, longestLossPeriod } = counts;
  const periods = lossPeriods === 1
    ? "in one loss period"
    : `in ${lossPeriods} loss periods, the longest of ${longestLossPeriod}`;
  const further = outageCount - MAX_SHOWN;
  return present([
    missing > 0 && `${missing} missing: ${parts.join(", ")}; ${periods}`,
    ...outages.slice(0, MAX_SHOWN).map((outage) =>
      outageLine(outage, startedAt!)
    ),
    further > 0 && `further outages: ${further}`,
    reasons.length > 0 &&
    `reports: ${
      reasons.map(({ reason, count }) => `${count} x ${reason}`).join(", ")
    }`,
    longestStall !== undefined &&
    `this program stood still ${times(stalls)}, ${Math.round(stalledMs)} ms ` +
      `in all, the longest ${Math.round(longestStall.ms)} ms from ` +
      timeOf(startedAt! + longestStall.fromMs),
    skipped > 0 &&
    `${skipped} sends were due while this program stood still or was too slow, and were skipped`,
  ]);
}

/** The likely reasons of a run in which nothing was received, if it is one. */
export function silenceLine(
  { target, received, lost, foreign, reasons }:
    & Pick<RunCounts, "received" | "lost" | "foreign" | "reasons">
    & { target: string },
): string | undefined {
  if (received > 0 || lost === 0) return undefined;
  const why = reasons.length > 0
    ? reasons[0]!.reason
    : foreign > 0
    ? `${foreign} datagrams arrived that are no replies`
    : SILENCE;
  return `No reply from ${target} to ${datagrams(lost)}: ${why}`;
}

/** An outage of a run that started at a Unix time in milliseconds. */
export function outageLine(
  { fromMs, toMs, datagrams, unsent }: Outage,
  startedAt: number,
): string {
  const at = (ms: number) => timeOf(startedAt + ms);
  const span = toMs === undefined
    ? `from ${at(fromMs)} until the end`
    : `from ${at(fromMs)} to ${at(toMs)} (${seconds(toMs - fromMs)})`;
  const refused = unsent > 0
    ? `, ${unsent} of them refused by this system`
    : "";
  return `outage ${span}: ${datagrams} datagrams${refused}`;
}

/** The wall clock's time by RFC 3339, to the millisecond. */
export function timeOf(unixMs: number): string {
  return new Date(unixMs).toISOString();
}

function seconds(ms: number): string {
  return `${Number((ms / 1000).toPrecision(3))} s`;
}

function times(count: number): string {
  return count === 1 ? "once" : `${count} times`;
}

const MAX_SHOWN = 5;

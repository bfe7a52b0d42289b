/**
 * Measurements: their columns and their lines. Pure.
 *
 * @module
 */
import { formatAddress } from "../../address.ts";
import type { Bin } from "../../stats/distribution.ts";
import type { Reported } from "../../stamp/ask.ts";
import { isDrift } from "../../stamp/drift.ts";
import type {
  MeasureEvent,
  MeasureResult,
} from "../../stamp/session_result.ts";
import type { Timestamp } from "../../stamp/packet.ts";
import * as column from "./columns.ts";
import {
  eventText,
  milliseconds,
  present,
  tableLines,
  timeText,
} from "./format.ts";
import { lossLines, silenceLine } from "./loss.ts";
import type { View } from "./reporter.ts";

export type StampResult = MeasureResult & { target: string };

const REPORTED: column.Column<Reported | undefined> = {
  json: (reported) => reported && reportedJson(reported),
};

export const STAMP_COLUMNS: column.Columns<StampResult> = {
  target: column.TARGET,
  sent: column.COUNT,
  received: column.COUNT,
  lost: column.LOST,
  unsent: {},
  ...column.only("lossPercent", "lostUp", "lostDown", "lostUnattributed"),
  duplicates: column.COUNT,
  ...column.only("duplicatesUp", "duplicatesDown"),
  reordered: column.COUNT,
  ...column.only("reorderedUp", "reorderedDown", "reorderingExtent"),
  late: column.COUNT,
  ...column.RUN_COUNTS,
  kernelDrops: column.KERNEL_DROPS,
  eventsDropped: column.DROPPED,
  durationMs: column.DURATION,
  ...column.only("exact", "kernelTimed"),
  rttMs: { label: "rtt" },
  seenMs: { label: "rtt as seen" },
  reflectorMs: { label: "reflector" },
  ipdvMs: { label: "ipdv" },
  pdvMs: { label: "pdv" },
  forwardPdvMs: { label: "pdv forward" },
  backwardPdvMs: { label: "pdv backward" },
  forwardDelayMs: { label: "delay forward" },
  backwardDelayMs: { label: "delay back" },
  sendErrorMs: { label: "send error" },
  ...column.only("forwardJitterMs", "backwardJitterMs", "oneWayErrorMs"),
  ...column.only("impossibleTimestamps", "clockSteps"),
  ...column.only("clockOffsetMs", "clockDriftPpm", "returnsSsid"),
  reported: REPORTED,
  ...column.LOSS_COLUMNS,
};

export const STAMP_EVENTS: column.EventColumns = {
  reply: {
    seq: column.SEQ,
    ...column.only("rttMs", "clock", "seenMs", "reflectorMs"),
    ...column.only("forwardMs", "backwardMs", "sendErrorMs", "reordered"),
    reported: { ...REPORTED, optional: true },
  },
  lost: { seq: column.SEQ },
  ...column.EVENTS,
};

/** A measurement, each event in a line, with a histogram of `bins` if there are any. */
export function stampView(
  bins: () => Bin[] = () => [],
): View<MeasureEvent, StampResult> {
  return {
    list: "samples",
    events: STAMP_EVENTS,
    result: STAMP_COLUMNS,
    facts: (event) => event.type === "reply" ? event.sample : event,
    line: measureLine,
    silence: silenceLine,
    lines: (result, columns) =>
      [resultLines(result, columns), ...histogramLines(bins(), columns)].join(
        "\n",
      ),
  };
}

function measureLine(event: MeasureEvent): string {
  if (event.type === "interval") return column.intervalLine(event);
  if (event.type !== "reply") return eventText(event);
  const { rttMs, reflectorMs, reordered } = event.sample;
  const [rtt, reflector] = [rttMs, reflectorMs].map(timeText);
  const suffix = reordered ? " reordered" : "";
  return `seq=${event.seq} rtt=${rtt} reflector=${reflector}${suffix}`;
}

function resultLines(result: StampResult, columns?: number): string {
  const { target, lost, lostUp, lostDown, lostUnattributed } = result;
  const [up, down, either] = [lostUp, lostDown, lostUnattributed].map(orNa);
  return [
    column.closingLines(`${target} STAMP statistics`, STAMP_COLUMNS, result),
    ...lost > 0 ? [`lost up ${up}, down ${down}, unattributed ${either}`] : [],
    ...lossLines(result),
    ...orderLines(result),
    ...table(result, columns),
    ...clockLines(result),
    ...reportedLines(result),
  ].join("\n");
}

/** Copies and reordering by direction, where there are any and these are known. */
function orderLines(result: StampResult): string[] {
  const { duplicates, duplicatesUp, duplicatesDown } = result;
  const { reorderedUp, reorderedDown, reorderingExtent: extent } = result;
  return present([
    duplicates > 0 && duplicatesUp !== undefined &&
    `duplicates up ${duplicatesUp}, down ${duplicatesDown}`,
    extent &&
    `reordered up ${orNa(reorderedUp)}, down ${orNa(reorderedDown)}, ` +
      `by ${extent.max} replies at most`,
  ]);
}

/** The distribution of the RTTs: a line for each bin, of this width. */
function histogramLines(bins: Bin[], columns = 80): string[] {
  const barChars = Math.max(1, Math.min(BAR_CHARS, columns - COUNT_CHARS));
  const most = Math.max(...bins.map(({ count }) => count));
  return bins.map(({ from, to, count }) => {
    const span = [from, to].map((ms) => milliseconds(ms).padStart(10));
    const bar = "#".repeat(Math.ceil(barChars * count / most));
    const size = `${count}`.padStart(8);
    return `${span.join(" -")} ms ${size} ${bar}`.trimEnd();
  });
}

/** The reflector's report, with addresses and timestamps as text. */
function reportedJson({ location, followUp, ...others }: Reported): object {
  return {
    ...location && {
      location: {
        remoteAddr: formatAddress(location.remoteAddr),
        localAddr: formatAddress(location.localAddr),
      },
    },
    ...followUp && {
      followUp: { ...followUp, timestamp: dateText(followUp.timestamp) },
    },
    ...others,
  };
}

/** A timestamp by RFC 3339, to the nanosecond. */
function dateText({ seconds, nanoseconds }: Timestamp): string {
  const whole = new Date(1000 * seconds).toISOString().slice(0, 19);
  const fraction = `${Math.round(nanoseconds)}`.padStart(9, "0");
  return `${whole}.${fraction}Z`;
}

function table(result: StampResult, columns?: number): string[] {
  const rows = column.timesOf(STAMP_COLUMNS, result)
    .map(({ label, summary }) => ({ label, all: column.figuresOf(summary) }));
  if (rows.length === 0) return [];
  const unit = result.exact ? "ms (exact)" : "ms (to 0.1 %)";
  return tableLines([
    [unit, ...rows[0]!.all.map(([name]) => name)],
    ...rows.map(({ label, all }) => [
      label,
      ...all.map(([, ms]) => milliseconds(ms)),
    ]),
  ], columns);
}

function clockLines(result: StampResult): string[] {
  const { kernelTimed, received, forwardJitterMs, backwardJitterMs } = result;
  const { oneWayErrorMs, clockOffsetMs, clockDriftPpm } = result;
  const { impossibleTimestamps, clockSteps } = result;
  const timed = kernelTimed === received ? "all" : kernelTimed;
  return present([
    kernelTimed > 0 && `rtt by the kernel's clock (${timed} of ${received})`,
    forwardJitterMs !== undefined && backwardJitterMs !== undefined &&
    `jitter forward ${timeText(forwardJitterMs)}, ` +
      `backward ${timeText(backwardJitterMs)}`,
    oneWayErrorMs !== undefined &&
    `one-way delays within ${timeText(oneWayErrorMs)}, ` +
      "by both clocks' own estimates",
    oneWayErrorMs === undefined && clockOffsetMs !== undefined &&
    "one-way delay n/a: the clocks are not known to be synchronized; " +
      `the reflector's is ${timeText(clockOffsetMs.estimate)} ahead, ` +
      `within ${timeText(clockOffsetMs.error)}`,
    impossibleTimestamps > 0 &&
    `the reflector's timestamps are impossible: in ${impossibleTimestamps} of ` +
      `${received} replies one is 0, or their difference no part of the round trip`,
    clockSteps > 0 &&
    `the reflector's clock was set (steps: ${clockSteps}); ` +
      "its offset and drift are those since the last step",
    isDrift(clockDriftPpm) &&
    `the reflector's clock gains ${milliseconds(clockDriftPpm.estimate)} ` +
      `ppm, within ${milliseconds(clockDriftPpm.error)} ppm; ` +
      "pdv forward and backward are corrected for it",
  ]);
}

/** The reflector's last report, and the extensions that are missing in it. */
function reportedLines({ reported, returnsSsid }: StampResult): string[] {
  const report: Partial<Reported> = reported ?? {};
  const { location, timestampInfo, directMeasurement, classOfService } = report;
  const { followUp, unsupported = [], discarded = [] } = report;
  return present([
    returnsSsid === false &&
    "the reflector does not return the SSID: it does not know RFC 8972",
    location &&
    `seen by the reflector as ${formatAddress(location.remoteAddr)}, ` +
      `received at ${formatAddress(location.localAddr)}`,
    timestampInfo &&
    `the reflector's clock is synchronized by ${timestampInfo.synchronizedBy}; ` +
      `T2 is taken by ${timestampInfo.receiveStampedBy}, ` +
      `T3 by ${timestampInfo.sendStampedBy}`,
    directMeasurement &&
    `by the reflector's counts ${directMeasurement.received} of ` +
      `${directMeasurement.sent} requests arrived, ` +
      `${directMeasurement.transmitted} were answered`,
    classOfService &&
    `requests arrived with DSCP ${classOfService.dscp} and ECN ` +
      `${classOfService.ecn}, replies with DSCP ` +
      orNa(classOfService.replyDscp) +
      (classOfService.isPermitted
        ? ""
        : ", since the reflector refused another"),
    followUp &&
    `reply ${followUp.sequence} left at ${dateText(followUp.timestamp)} ` +
      `by ${followUp.stampedBy}`,
    unsupported.length > 0 &&
    `not supported by the reflector: ${unsupported.join(", ")}`,
    discarded.length > 0 &&
    `discarded, as not intact: ${discarded.join(", ")}`,
  ]);
}

function orNa(value: number | undefined): string {
  return value === undefined ? "n/a" : `${value}`;
}

const BAR_CHARS = 40;
/** The characters of a line before its bar. */
const COUNT_CHARS = 35;

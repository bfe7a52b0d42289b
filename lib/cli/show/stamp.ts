/**
 * How a measurement is shown: lines for people, objects for JSON. Pure.
 *
 * @module
 */
import { formatAddress, type UdpAddress } from "../../address.ts";
import type { Bin } from "../../stats/distribution.ts";
import type { Told } from "../../stamp/ask.ts";
import { isDrift } from "../../stamp/drift.ts";
import type { MeasureEvent, MeasureResult } from "../../stamp/measure.ts";
import type { Timestamp } from "../../stamp/packet.ts";
import type { Summary } from "../../stats/statistics.ts";
import {
  counted,
  eventObject,
  eventText,
  lossText,
  milliseconds,
  orNull,
  rounded,
  summaryOrNull,
} from "./format.ts";

/** The client's line for one event. */
export function measureLine(event: MeasureEvent): string {
  const seq = `seq=${event.seq}`;
  switch (event.type) {
    case "reply": {
      const { rttMs, reflectorMs, reordered } = event.sample;
      const reflector = reflectorMs === undefined
        ? "n/a"
        : `${milliseconds(reflectorMs)} ms`;
      return `${seq} rtt=${milliseconds(rttMs)} ms reflector=${reflector}${
        reordered ? " reordered" : ""
      }`;
    }
    default:
      return eventText(event);
  }
}

/** What JSON says of one event. */
export function measureJson(event: MeasureEvent): Record<string, unknown> {
  const { seq } = event;
  switch (event.type) {
    case "reply": {
      const { reordered, reflectorMs, ...times } = event.sample;
      return {
        seq,
        rttMs: rounded(times.rttMs),
        clock: times.clock,
        seenMs: rounded(times.seenMs),
        reflectorMs: orNull(reflectorMs),
        forwardMs: rounded(times.forwardMs),
        backwardMs: rounded(times.backwardMs),
        sendErrorMs: rounded(times.sendErrorMs),
        reordered,
        ...times.told && { told: toldJson(times.told) },
      };
    }
    default:
      return eventObject(event);
  }
}

/** The client's closing lines. */
export function resultLines(target: UdpAddress, result: MeasureResult): string {
  const directions = result.lost === 0 ? [] : [
    `lost up ${orNa(result.lostUp)}, down ${orNa(result.lostDown)}, ` +
    `unattributed ${orNa(result.lostUnattributed)}`,
  ];
  const counts = [
    `${result.sent} sent`,
    `${result.received} received`,
    `${result.lost} lost (${lossText(result.lossPercent)})`,
    `${result.duplicates} duplicates`,
    `${result.reordered} reordered`,
    `${result.late} late`,
    ...counted(result.pending, "pending"),
    ...counted(result.foreign, "foreign"),
    ...counted(result.errors, "errors"),
    ...counted(result.portClosed, "reports of a closed port"),
    ...counted(result.kernelDrops ?? 0, "dropped by this machine"),
    `time ${Math.round(result.durationMs)} ms`,
  ];
  return [
    `--- ${formatAddress(target)} STAMP statistics ---`,
    counts.join(", "),
    ...directions,
    ...table(result),
    ...clockLines(result),
    ...toldLines(result),
  ].join("\n");
}

/** How the RTTs are distributed. */
export function histogramLines(bins: Bin[]): string {
  const most = Math.max(...bins.map(({ count }) => count));
  return bins.map(({ from, to, count }) => {
    const bar = "#".repeat(Math.ceil(BAR_CHARS * count / most));
    return `${column(from)} -${column(to)} ms ${`${count}`.padStart(8)} ${bar}`
      .trimEnd();
  }).join("\n");
}

/** The result for JSON: every key always there, `null` for unknown. */
export function resultJson(
  target: UdpAddress,
  result: MeasureResult,
): Record<string, unknown> {
  const { clockOffsetMs, clockDriftPpm } = result;
  return {
    target: formatAddress(target),
    sent: result.sent,
    received: result.received,
    lost: result.lost,
    pending: result.pending,
    lossPercent: orNull(result.lossPercent),
    lostUp: result.lostUp ?? null,
    lostDown: result.lostDown ?? null,
    lostUnattributed: result.lostUnattributed ?? null,
    duplicates: result.duplicates,
    reordered: result.reordered,
    late: result.late,
    foreign: result.foreign,
    errors: result.errors,
    portClosed: result.portClosed,
    kernelDrops: orNull(result.kernelDrops),
    durationMs: rounded(result.durationMs),
    exact: result.exact,
    kernelTimed: result.kernelTimed,
    ...Object.fromEntries(
      SUMMARIES.map(([key]) => [key, summaryOrNull(result[key])]),
    ),
    forwardJitterMs: orNull(result.forwardJitterMs),
    backwardJitterMs: orNull(result.backwardJitterMs),
    oneWayErrorMs: orNull(result.oneWayErrorMs),
    clockOffsetMs: clockOffsetMs === undefined ? null : {
      estimate: rounded(clockOffsetMs.estimate),
      error: rounded(clockOffsetMs.error),
    },
    clockDriftPpm: clockDriftPpm === undefined ? null : {
      estimate: rounded(clockDriftPpm.estimate),
      error: rounded(clockDriftPpm.error),
    },
    returnsSsid: result.returnsSsid ?? null,
    told: result.told === undefined ? null : toldJson(result.told),
  };
}

/** What the reflector told, with addresses and times as text. */
function toldJson({ location, followUp, ...told }: Told) {
  return {
    ...location && {
      location: {
        remoteAddr: formatAddress(location.remoteAddr),
        localAddr: formatAddress(location.localAddr),
      },
    },
    ...followUp && {
      followUp: { ...followUp, timestamp: timeText(followUp.timestamp) },
    },
    ...told,
  };
}

/** A moment as RFC 3339 has it, to the nanosecond. */
function timeText({ seconds, nanoseconds }: Timestamp): string {
  const whole = new Date(1000 * seconds).toISOString().slice(0, 19);
  const fraction = `${Math.round(nanoseconds)}`.padStart(9, "0");
  return `${whole}.${fraction}Z`;
}

function table(result: MeasureResult): string[] {
  const rows = SUMMARIES.flatMap(([key, name]) => {
    const summary = result[key];
    if (summary === undefined) return [];
    return [
      name.padEnd(NAME_CHARS) + COLUMNS.map((c) => column(summary[c])).join(""),
    ];
  });
  if (rows.length === 0) return [];
  const head = COLUMNS.map((name) => name.padStart(COLUMN_CHARS)).join("");
  const quantiles = result.exact ? "exact" : "quantiles to 0.1 %";
  return [`${"ms".padEnd(NAME_CHARS)}${head}  (${quantiles})`, ...rows];
}

function clockLines(result: MeasureResult): string[] {
  const { forwardJitterMs, backwardJitterMs, clockOffsetMs, clockDriftPpm } =
    result;
  const lines: string[] = [];
  const { kernelTimed, received } = result;
  if (kernelTimed > 0) {
    const share = kernelTimed === received ? "all" : `${kernelTimed}`;
    lines.push(`rtt by the kernel's clock (${share} of ${received})`);
  }
  if (forwardJitterMs !== undefined && backwardJitterMs !== undefined) {
    lines.push(
      `jitter forward ${milliseconds(forwardJitterMs)} ms, ` +
        `backward ${milliseconds(backwardJitterMs)} ms`,
    );
  }
  if (result.oneWayErrorMs !== undefined) {
    lines.push(
      `one-way delays hold if the clocks do: both say to ${
        milliseconds(result.oneWayErrorMs)
      } ms together`,
    );
  } else if (clockOffsetMs !== undefined) {
    const { estimate, error } = clockOffsetMs;
    lines.push(
      "one-way delay n/a: the clocks are not known to agree; the reflector's is " +
        `${milliseconds(estimate)} ms ahead, give or take ${
          milliseconds(error)
        } ms`,
    );
  }
  if (isDrift(clockDriftPpm)) {
    const { estimate, error } = clockDriftPpm;
    lines.push(
      `the reflector's clock gains ${
        milliseconds(estimate)
      } ppm, give or take ${
        milliseconds(error)
      }, which is taken out of pdv forward and backward`,
    );
  }
  return lines;
}

/** What the reflector told last, and what it did not. */
function toldLines({ told, returnsSsid }: MeasureResult): string[] {
  const lines = returnsSsid === false
    ? ["the reflector does not return the SSID: it does not know RFC 8972"]
    : [];
  if (told === undefined) return lines;
  const { location, timestampInfo, directMeasurement, classOfService } = told;
  const { followUp, unsupported, discarded } = told;
  if (location !== undefined) {
    const { remoteAddr, localAddr } = location;
    lines.push(
      `seen by the reflector as ${formatAddress(remoteAddr)}, asked at ${
        formatAddress(localAddr)
      }`,
    );
  }
  if (timestampInfo !== undefined) {
    const { synchronizedBy, receiveStampedBy, sendStampedBy } = timestampInfo;
    lines.push(
      `the reflector's clock is kept right by ${synchronizedBy}; received by ${receiveStampedBy}, sent by ${sendStampedBy}`,
    );
  }
  if (directMeasurement !== undefined) {
    const { sent, received, transmitted } = directMeasurement;
    lines.push(
      `by the reflector's counts ${received} of ${sent} came, and ${transmitted} were answered`,
    );
  }
  if (classOfService !== undefined) {
    const { dscp, ecn, isPermitted, replyDscp } = classOfService;
    lines.push(
      `requests arrived with DSCP ${dscp} and ECN ${ecn}, replies with DSCP ${
        orNa(replyDscp)
      }${isPermitted ? "" : ", since the reflector refused another"}`,
    );
  }
  if (followUp !== undefined) {
    const { sequence, timestamp, stampedBy } = followUp;
    lines.push(
      `reply ${sequence} left at ${timeText(timestamp)} by ${stampedBy}`,
    );
  }
  if (unsupported.length > 0) {
    lines.push(`not supported by the reflector: ${unsupported.join(", ")}`);
  }
  if (discarded.length > 0) {
    lines.push(`discarded, as not intact: ${discarded.join(", ")}`);
  }
  return lines;
}

function column(value: number): string {
  return milliseconds(value).padStart(COLUMN_CHARS);
}

function orNa(value: number | undefined): string {
  return value === undefined ? "n/a" : `${value}`;
}

const SUMMARIES = [
  ["rttMs", "rtt"],
  ["seenMs", "rtt as seen"],
  ["reflectorMs", "reflector"],
  ["ipdvMs", "ipdv"],
  ["pdvMs", "pdv"],
  ["forwardPdvMs", "pdv forward"],
  ["backwardPdvMs", "pdv backward"],
  ["forwardDelayMs", "delay forward"],
  ["backwardDelayMs", "delay back"],
  ["sendErrorMs", "send error"],
] as const;

const COLUMNS: ReadonlyArray<keyof Summary> = [
  "min",
  "mean",
  "median",
  "p90",
  "p99",
  "max",
  "stddev",
];

const NAME_CHARS = 13;
const COLUMN_CHARS = 10;
const BAR_CHARS = 40;

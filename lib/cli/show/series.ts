/**
 * Series and gathered replies: their columns and their lines. Pure.
 *
 * @module
 */
import { formatAddress } from "../../address.ts";
import { errorMessage, isPortClosed } from "../../base/errors.ts";
import { SILENCE } from "../../client/exchange.ts";
import type { TimeoutError, UdpReply } from "../../client/reply.ts";
import type { GatherSummary } from "../../client/gather.ts";
import {
  MAX_OPEN,
  type SeriesEvent,
  type SeriesSummary,
} from "../../client/series.ts";
import * as column from "./columns.ts";
import { lossLines, silenceLine } from "./loss.ts";
import {
  eventText,
  lossText,
  payloadText,
  present,
  timeText,
} from "./format.ts";
import type { View } from "./reporter.ts";

/** A series, and the number of its unexpected replies. */
export interface SeriesResult extends SeriesSummary {
  target: string;
  unexpected: number;
}

const UNEXPECTED = { docs: "replies that are not `--expect`" };

export const SERIES_COLUMNS: column.Columns<SeriesResult> = {
  target: column.TARGET,
  sent: column.COUNT,
  received: column.COUNT,
  lost: {},
  unsent: column.RARE,
  duplicates: column.COUNT,
  late: column.COUNT,
  ...column.RUN_COUNTS,
  eventsDropped: column.DROPPED,
  heldBack: {},
  lossPercent: {
    text: (value, { retransmissions }) =>
      lossText(value) + (retransmissions ? " of exchanges failed" : " loss"),
  },
  durationMs: column.DURATION,
  rttMs: {},
  unexpected: UNEXPECTED,
  ...column.LOSS_COLUMNS,
};

export const SERIES_EVENTS: column.EventColumns = {
  reply: { seq: column.SEQ, rttMs: {}, attempts: {}, ...column.PAYLOAD },
  lost: {
    seq: column.SEQ,
    attempts: {},
    portClosed: { docs: "whether the system reports a closed port" },
    rejection: { docs: "another report of the network about the datagram" },
  },
  ...column.EVENTS,
};

/** A series, each event in a line. */
export function seriesView(hasHex = false): View<SeriesEvent, SeriesResult> {
  return {
    list: "replies",
    events: SERIES_EVENTS,
    result: SERIES_COLUMNS,
    facts: (event) => seriesFacts(event, hasHex),
    line: (event) => eventLine(event, hasHex),
    lines: seriesLines,
    silence: silenceLine,
    warnings: ({ heldBack, sent, durationMs }) => {
      const each = timeText(durationMs / Math.max(1, sent - 1));
      return present([
        heldBack > 0 &&
        `--interval was not kept, as ${MAX_OPEN} datagrams were unanswered ${heldBack} times: it was ${each} in the mean (--rate keeps any)`,
      ]);
    },
  };
}

/** One datagram: its reply alone on stdout, all else on stderr. */
export function singleView(hasHex = false): View<SeriesEvent, SeriesResult> {
  return {
    ...seriesView(hasHex),
    line: (event) =>
      event.type === "reply" ? replyLine(event.reply.data, hasHex) : undefined,
    // Without a reply there is nothing else to report.
    note: (event) => event.type === "lost" ? event.error.message : undefined,
    lines: () => "",
    silence: () => undefined,
    progress: ({ target, retransmissions, received, lost }) =>
      retransmissions > 0 && received + lost === 0
        ? `no reply from ${target} yet, retransmissions: ${retransmissions}`
        : undefined,
    warnings: ({ target, pending }) =>
      pending > 0 ? [`No reply from ${target} before the end of the run`] : [],
  };
}

function seriesFacts(event: SeriesEvent, hasHex: boolean): object {
  if (event.type === "lost") return { ...event, ...lossFacts(event.error) };
  if (event.type !== "reply") return event;
  const { rttMs, attempts, data } = event.reply;
  return { seq: event.seq, rttMs, attempts, ...column.payloadOf(data, hasHex) };
}

function lossFacts({ attempts, cause }: TimeoutError) {
  const portClosed = isPortClosed(cause);
  const isRejected = cause !== undefined && !portClosed;
  const rejection = isRejected ? errorMessage(cause) : undefined;
  return { attempts, portClosed, rejection };
}

/** The client's line for the reply to a lone datagram. */
export function replyLine(data: Uint8Array, hasHex = false): string {
  const form = hasHex ? "hex " : "";
  return `Message from Server ${form}${payloadText(data, hasHex)}`;
}

function eventLine(event: SeriesEvent, hasHex: boolean): string {
  if (event.type === "reply") {
    const { data, rttMs, attempts } = event.reply;
    const suffix = rttMs === undefined ? ` attempts=${attempts}` : "";
    const line = `${replyLine(data, hasHex)} seq=${event.seq}`;
    return `${line} time=${timeText(rttMs)}${suffix}`;
  }
  if (event.type === "interval") return column.intervalLine(event);
  if (event.type !== "lost") return eventText(event);
  const { attempts, portClosed, rejection } = lossFacts(event.error);
  const why = portClosed ? "closed port" : rejection;
  const suffix = why === undefined ? "" : ` (${why})`;
  return `seq=${event.seq} lost attempts=${attempts}${suffix}`;
}

/** The closing lines, laid out as those of `ping`. */
function seriesLines(result: SeriesResult): string {
  const { target, rttMs } = result;
  const head = `${target} statistics`;
  const lines = column.closingLines(head, SERIES_COLUMNS, result);
  return [lines, ...lossLines(result), ...rttLines(rttMs)].join("\n");
}

/** The RTTs as `ping` shows them, and their percentiles. */
function rttLines(rttMs: SeriesResult["rttMs"]): string[] {
  if (rttMs === undefined) return [];
  const figures = column.pingFigures(rttMs, ["mdev", rttMs.stddev]);
  const others = ["min", "mean", "max", "stddev"];
  const percentiles = column.figuresOf(rttMs, ...others);
  return [figures, percentiles].map((all) => `rtt ${column.figuresText(all)}`);
}

export interface GatherResult extends GatherSummary {
  targets: string[];
  unexpected: number;
}

export const GATHER_COLUMNS: column.Columns<GatherResult> = {
  targets: { docs: "addresses that were asked" },
  sent: column.COUNT,
  received: column.COUNT,
  duplicates: column.COUNT,
  foreign: column.RARE,
  unsent: column.RARE,
  unanswered: {
    json: (targets) => targets.map(formatAddress),
    docs:
      "the addresses of a list that have not answered, as text; of a group or broadcast none",
  },
  eventsDropped: column.DROPPED,
  unexpected: UNEXPECTED,
};

export const GATHER_EVENTS: column.EventColumns = {
  reply: {
    hostname: { docs: "IP address of the server" },
    port: { docs: "port of the server" },
    rttMs: {},
    ...column.PAYLOAD,
  },
};

export type GatherEvent = { type: "reply"; reply: UdpReply };

/** Gathered replies, each in a line. */
export function gatherView(hasHex = false): View<GatherEvent, GatherResult> {
  return {
    list: "replies",
    events: GATHER_EVENTS,
    result: GATHER_COLUMNS,
    facts({ reply: { remoteAddr, rttMs, data } }) {
      return { ...remoteAddr, rttMs, ...column.payloadOf(data, hasHex) };
    },
    line({ reply: { data, remoteAddr, rttMs } }) {
      const from = formatAddress(remoteAddr);
      return `${replyLine(data, hasHex)} from ${from} time=${timeText(rttMs)}`;
    },
    lines(result) {
      const head = `${result.targets.join(", ")} statistics`;
      return column.closingLines(head, GATHER_COLUMNS, result);
    },
    silence({ targets, received, unanswered }) {
      const silent = unanswered.map(formatAddress);
      if (received > 0 && silent.length === 0) return undefined;
      const names = silent.length > 0 ? silent : targets;
      const shown = names.slice(0, MAX_NAMES).join(", ");
      const further = names.length - MAX_NAMES;
      const others = further > 0 ? ` and ${further} more` : "";
      const why = received === 0 ? `: ${SILENCE}` : "";
      return `No reply from ${shown}${others}${why}`;
    },
  };
}

const MAX_NAMES = 20;

/**
 * A run as it is shown while it lasts and at its end: as text, as one JSON
 * document, or as a stream of JSON objects.
 *
 * @module
 */
import { formatAddress, type UdpAddress } from "../../address.ts";
import { errorMessage } from "../../base/errors.ts";
import { lightTimer } from "../../base/light_timer.ts";
import * as column from "./columns.ts";
import { clockText, json, wrap } from "./format.ts";
import { onAsk } from "../main.ts";
import { complain, type LineWriter, note, stderr } from "../output.ts";
import type { UdpReply } from "../../client/reply.ts";
import type { RunHandle } from "../../client/run.ts";
import type { Expectation } from "../expect.ts";
import { type Interval, joined } from "../../stats/books.ts";
import type { Reason } from "../../stats/counts.ts";
import type { Sample } from "../../stats/sample.ts";
import { Silence } from "./silence.ts";

/** The format and the extent of a report. */
export interface ReportOptions {
  format: "text" | "json" | "json-stream";
  /** Whether to leave out the events, and print only the result. */
  quiet: boolean;
  /** Whether all payloads are shown as hex, and not only those that are no text. */
  hasHex?: boolean | undefined;
  timestamps?: boolean | undefined;
  /** Whether a lone datagram is shown as a series is: with its time, and summed up. */
  isSeries?: boolean | undefined;
  /** The length of intervals; undefined for none. */
  reportMs?: number | undefined;
  /** One of several runs: the head of its lines, the first keys of its objects. */
  label?: Label | undefined;
  /** Takes each sample, for a picture or a file. */
  onSample?: ((sample: Sample) => void) | undefined;
  /** The condition on replies: failures are complained of, and counted. */
  expected?: Expectation | undefined;
  /** Ends the run, with its result; a run that begins later sends nothing. */
  stopping?: AbortSignal | undefined;
}

/** The name of one of several runs. */
export interface Label {
  text: string;
  facts: Record<string, unknown>;
  /** Whether its closing lines are shown. */
  hasLines: boolean;
  /** Takes the document, where there is one for all. */
  collect(document: Record<string, unknown>): void;
}

/** An event of any kind of run. */
export interface RunEvent {
  type: string;
  seq?: number;
  error?: unknown;
  reply?: Pick<UdpReply, "rttMs" | "data" | "remoteAddr">;
}

/** The events `E` and the result `R` of one kind of run: columns and lines. */
export interface View<E, R> {
  /** The list of events in a document; `replies` has no other events. */
  list: "replies" | "samples" | "intervals" | "probes" | "steps";
  events: column.EventColumns;
  result: column.Columns<R>;
  /** The values of an event's columns, where they are not its own. */
  facts?(event: E): object;
  /** An event as a line; undefined for none. */
  line(event: E): string | undefined;
  /** The line of an event on stderr, however quiet the report is. */
  note?(event: E): string | undefined;
  /** The result as lines, its tables of this width; "" for none. */
  lines(result: R, columns?: number): string;
  /** The lines of the result on stderr, in each format. */
  warnings?(result: R): string[];
  /** The line on stderr about a result without replies, beside text. */
  silence?(result: R): string | undefined;
  /** The line on a terminal's stderr while a reply is awaited. */
  progress?(result: R): string | undefined;
}

export interface Reporter<E, R> {
  /** Shows an event; returns false if it is left out, for want of a reader. */
  event(event: E): boolean;
  /**
   * Shows the result: on demand as `interim`, at the end as `summary`; after an error
   * of the run (`failed`) as JSON only. JSON has the error.
   */
  result(
    type: "interim" | "summary" | "failed",
    result: R,
    error?: unknown,
  ): void;
}

type MakeReporter = <E extends RunEvent, R>(
  view: View<E, R>,
  report: ReportOptions,
  out: LineWriter,
) => Reporter<E, R>;

function isInterval(event: RunEvent): event is Interval {
  return event.type === "interval";
}

const textReporter: MakeReporter = (view, report, out) => {
  const { timestamps, label, reportMs } = report;
  const headed = (line: string) => {
    const labelled = label === undefined ? line : `${label.text}: ${line}`;
    return timestamps ? `${clockText(Date.now())} ${labelled}` : labelled;
  };
  return {
    event(event) {
      if (isInterval(event) && reportMs === undefined) return true;
      const line = view.line(event);
      if (!line) return true;
      // In a file an event is one line.
      const width = isInterval(event) && out.isTerminal
        ? out.columns
        : Infinity;
      return out.write(wrap(headed(line), width));
    },
    result(type, result) {
      if (type === "failed") return;
      if (type === "summary" && label?.hasLines === false) return;
      const lines = linesOf(view, result, out);
      if (lines !== "") out.writeResult(lines);
    },
  };
};

const streamReporter: MakeReporter = (view, { label }, out) => {
  const line = (type: string, facts: Record<string, unknown>) =>
    json({ type, time: new Date(), ...label?.facts, ...facts });
  return {
    event(event) {
      return out.write(line(event.type, eventObject(view, event)));
    },
    result(type, result, error) {
      const name = type === "failed" ? "summary" : type;
      const facts = column.objectOf(view.result, result);
      out.writeResult(line(name, { ...facts, ...failureOf(error) }));
    },
  };
};

/**
 * The document. Its list is first and is written as it grows, in bounded memory;
 * of several runs there is one document, and each is collected.
 */
const documentReporter: MakeReporter = (view, { quiet, label }, out) => {
  const listed: unknown[] = [];
  const intervals: unknown[] = [];
  let hasBegun = false;
  return {
    event(event) {
      const isListed = isInterval(event)
        ? view.list === "intervals"
        : view.list !== "replies" || event.type === "reply";
      if (!isListed && !isInterval(event)) return true;
      // Samples are replies, late ones, copies and losses.
      const type = view.list === "samples" ? { type: event.type } : {};
      const object = { ...type, time: new Date(), ...eventObject(view, event) };
      if (isListed && label === undefined) {
        const head = hasBegun ? "," : `{"${view.list}":[\n`;
        const isWritten = out.write(head + json(object));
        hasBegun ||= isWritten;
        return isWritten;
      }
      const kept = isListed ? listed : intervals;
      return kept.length < MAX_KEPT && kept.push(object) > 0;
    },
    result(type, result, error) {
      // There is one document on stdout.
      if (type === "interim") return note(linesOf(view, result, stderr));
      const rest = {
        ...column.objectOf(view.result, result),
        ...failureOf(error),
        ...intervals.length === 0 ? {} : { intervals },
      };
      if (hasBegun) {
        hasBegun = false;
        return out.writeResult(`],${json(rest).slice(1)}`);
      }
      const list = quiet ? {} : { [view.list]: listed };
      const document = { ...label?.facts, ...list, ...rest };
      if (label === undefined) out.writeResult(json(document));
      else label.collect(document);
    },
  };
};

export const REPORTERS: Record<ReportOptions["format"], MakeReporter> = {
  text: textReporter,
  json: documentReporter,
  "json-stream": streamReporter,
};

function linesOf<E, R>(view: View<E, R>, result: R, out: LineWriter): string {
  return wrap(view.lines(result, out.columns), out.columns);
}

function failureOf(error: unknown): { error?: string } {
  return error === undefined ? {} : { error: errorMessage(error) };
}

function eventObject<E extends RunEvent, R>(
  { events, facts }: View<E, R>,
  event: E,
): Record<string, unknown> {
  const values = isInterval(event) ? event : facts?.(event) ?? event;
  return column.objectOf<object>(events[event.type]!, values);
}

/**
 * Iterates a run to its end, or until `stopping`, and shows it.
 *
 * @param asked The server's address, until the run has resolved its name.
 * @param result Gives the result at any time, of the server's address and the
 * number of unexpected replies.
 * @throws The error of the run, or if nothing was received that of a failed send.
 */
export async function showRun<
  E extends RunEvent,
  Shown,
  R extends Shown & {
    received: number;
    eventsDropped?: number;
    sent?: number;
    reasons?: readonly Reason[];
  },
>(
  run: Omit<RunHandle<E, unknown>, "summary">,
  asked: UdpAddress,
  result: (target: string, unexpected: number) => R,
  view: View<E, Shown>,
  report: ReportOptions,
  out: LineWriter,
): Promise<R> {
  const reporter = REPORTERS[report.format](view, report, out);
  const { label } = report;
  let [unexpected, leftOut] = [0, 0];
  const current = () => result(formatAddress(run.target ?? asked), unexpected);
  const show = (type: "interim" | "summary" | "failed", error?: unknown) => {
    const ended = current();
    if (ended.eventsDropped !== undefined) ended.eventsDropped += leftOut;
    out.status("");
    reporter.result(type, ended, error);
    return ended;
  };
  const judge = ({ reply }: RunEvent) => {
    const { expected } = report;
    if (!reply || !expected || expected.holds(reply.data)) return;
    unexpected++;
    // A run of many servers has no target.
    const from = run.target ? "" : ` of ${formatAddress(reply.remoteAddr)}`;
    const shown = expected.show(reply.data);
    complain("client", `${expected.flag}: the reply${from} is ${shown}`);
  };
  const silence = new Silence();
  const say = (line: string | undefined) => line && note(`client: ${line}`);
  // One line is too little for several runs, for one datagram, and is no JSON.
  const hasStatus = report.format === "text" && report.label === undefined &&
    (view.list !== "replies" || report.isSeries);
  let progress: string | undefined;
  const look = () => {
    const now = current();
    const shown = view.progress?.(now);
    if (stderr.isTerminal && shown !== progress) say(progress = shown);
    say(silence.look(performance.now(), now.received));
    if (hasStatus && out.isTerminal) {
      out.status(column.countsOf(view.result, now).slice(0, out.columns - 1));
    }
  };
  let stopLooking = () => {};
  const looking = () => {
    look();
    stopLooking = lightTimer(LOOK_MS, looking);
  };
  // Sizes that are too large have no reply.
  if (view.list !== "probes") stopLooking = lightTimer(LOOK_MS, looking);
  const stop = () => run.stop();
  report.stopping?.addEventListener("abort", stop);
  if (report.stopping?.aborted) stop();
  const forgetAsk = onAsk(() => void show("interim"));
  let hasEnded = false;
  let held: Interval | undefined;
  try {
    let failure: unknown;
    for await (const event of run) {
      if (event.type === "error") failure = event.error;
      const isAsked = isInterval(event) && report.reportMs !== undefined;
      const isWanted = isAsked || !report.quiet;
      if (isInterval(event)) {
        // If it is left out, its counts are added to the next one.
        const interval = held === undefined ? event : joined(held, event);
        const isShown = !isWanted || reporter.event({ ...event, ...interval });
        held = isShown ? undefined : interval;
      } else if (isWanted && !reporter.event(event)) leftOut++;
      const problem = report.format === "text" && view.note?.(event);
      if (problem) complain("client", problem);
      judge(event);
    }
    if (held !== undefined) leftOut++;
    const { received, sent, reasons = [] } = current();
    if (received > 0) failure = undefined;
    else if (sent === 0 && reasons.length > 0 && failure === undefined) {
      const target = formatAddress(run.target ?? asked);
      failure = new Error(`Cannot send to ${target}: ${reasons[0]!.reason}`);
    }
    // Else a status could follow the last line.
    stopLooking();
    const ended = show("summary", failure);
    hasEnded = true;
    await out.flush();
    for (const line of view.warnings?.(ended) ?? []) complain("client", line);
    // Of a sweep a size may be too large.
    const hasReason = report.format === "text" && label?.hasLines !== false;
    const silent = hasReason && view.silence?.(ended);
    if (silent && failure === undefined) complain("client", silent);
    if (failure !== undefined) throw failure;
    return ended;
  } catch (error) {
    stopLooking();
    if (!hasEnded) show("failed", error);
    await out.flush();
    throw error;
  } finally {
    report.stopping?.removeEventListener("abort", stop);
    forgetAsk();
  }
}

const LOOK_MS = 500;
/** The most events that wait in memory for a document. */
const MAX_KEPT = 100_000;

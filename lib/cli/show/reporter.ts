/**
 * How a series or a measurement is reported while it runs and at its end: as
 * text, as one JSON document, or as a stream of JSON objects.
 *
 * @module
 */
import type { UdpAddress } from "../../address.ts";
import { clockText, json } from "./format.ts";
import { onAsk, onStop } from "../main.ts";
import { type LineWriter, note } from "../output.ts";
import type { Samples } from "./samples.ts";
import {
  type Interval,
  intervalJson,
  intervalLine,
  RunTally,
  Silence,
} from "./tally.ts";

/** What is printed, and how. */
export interface ReportOptions {
  format: "text" | "json" | "json-stream";
  /** Whether to leave out the events, and print only what comes at the end. */
  quiet: boolean;
  /** Whether payloads are shown as hex, and not only where they must. */
  hasHex?: boolean | undefined;
  /** Whether each line begins with the time. */
  timestamps?: boolean | undefined;
  /** Whether a lone datagram is shown as a series is: with its time, and summed up. */
  isSeries?: boolean | undefined;
  /** How often to tell of what has happened since the last time. */
  reportMs?: number | undefined;
  /** One of many runs: what its lines begin with, and its objects have. */
  label?: Label | undefined;
  /** Where samples are kept for a picture or a file. */
  samples?: Samples | undefined;
}

/** How one of many runs is told from the others. */
export interface Label {
  text: string;
  facts: Record<string, unknown>;
  /** Whether its closing lines are shown. */
  hasLines: boolean;
  /** Takes the document, where there is one for all. */
  collect(document: Record<string, unknown>): void;
}

/** How the events `E` and the result `R` of one kind of run are shown. */
export interface View<E, R> {
  /** An event as a line for people; undefined for none. */
  line(event: E): string | undefined;
  /** An event as an object, without its type. */
  json(event: E): Record<string, unknown>;
  /** Whether the document lists an event, as `listKey`. */
  isListed(event: E): boolean;
  listKey: string;
  /** The RTT that an event tells of. */
  rttOf(event: E): number | undefined;
  /** A line that shows how things stand, if it is not the usual one. */
  status?: (() => string) | undefined;
  /** The result as lines for people; "" for none. */
  lines(target: UdpAddress, result: R): string;
  /** The result as an object. */
  resultJson(target: UdpAddress, result: R): Record<string, unknown>;
}

/** Where the events and the result of a run go. */
export interface Reporter<E, R> {
  event(event: E): void;
  /** Shows how things stand, after so many datagrams were sent. */
  status(sent: number): void;
  /** Whether anything has happened since the last interval. */
  hasPart(sent: number): boolean;
  /** An interval is over. */
  interval(ms: number, sent: number): void;
  /** Somebody asks how things stand. */
  soFar(target: UdpAddress, result: R): void;
  end(target: UdpAddress, result: R): void;
  /** Whether a document has begun, which must be ended. */
  readonly hasBegun?: boolean;
}

/** Makes the reporter that the options ask for. */
export function makeReporter<E extends { type: string }, R>(
  view: View<E, R>,
  report: ReportOptions,
  out: LineWriter,
): Reporter<E, R> {
  const tally = new RunTally();
  const show = showing(view, report, out);
  const startedAt = performance.now();
  return {
    event(event) {
      const rttMs = view.rttOf(event);
      tally.add(event.type, rttMs);
      report.samples?.onEvent(event, rttMs, performance.now() - startedAt);
      if (!report.quiet) show.event(event);
    },
    status(sent) {
      // One line is too little for many runs, and is no JSON.
      if (report.format !== "text" || report.label !== undefined) return;
      out.status(view.status?.() ?? tally.status(sent));
    },
    hasPart: (sent) => tally.hasPart(sent),
    interval: (ms, sent) => show.interval(tally.take(ms, sent)),
    soFar: (target, result) => show.soFar(target, result),
    get hasBegun() {
      return show.hasBegun ?? false;
    },
    end(target, result) {
      out.status("");
      show.end(target, result);
    },
  };
}

/** The part of a reporter that knows a format. */
type Showing<E, R> =
  & Pick<Reporter<E, R>, "event" | "soFar" | "end" | "hasBegun">
  & { interval(interval: Interval): void };

function showing<E extends { type: string }, R>(
  view: View<E, R>,
  { format, quiet, timestamps, reportMs, label }: ReportOptions,
  out: LineWriter,
): Showing<E, R> {
  const stamped = (line: string) => {
    const labelled = label === undefined ? line : `${label.text}: ${line}`;
    return timestamps ? `${clockText(Date.now())} ${labelled}` : labelled;
  };
  const object = (type: string, facts: Record<string, unknown>) =>
    json({ type, time: new Date(), ...label?.facts, ...facts });
  switch (format) {
    case "text":
      return {
        event(event) {
          const line = view.line(event);
          if (line !== undefined) out.write(stamped(line));
        },
        interval: (interval) =>
          out.writeResult(stamped(intervalLine(interval))),
        soFar(target, result) {
          const lines = view.lines(target, result);
          if (lines !== "") out.writeResult(lines);
        },
        end(target, result) {
          if (label?.hasLines ?? true) this.soFar(target, result);
        },
      };
    case "json-stream":
      return {
        event: (event) => out.write(object(event.type, view.json(event))),
        interval: (interval) =>
          out.writeResult(object("interval", intervalJson(interval))),
        soFar: (target, result) =>
          out.writeResult(object("interim", view.resultJson(target, result))),
        end: (target, result) =>
          out.writeResult(object("summary", view.resultJson(target, result))),
      };
    case "json": {
      const [listed, intervals]: unknown[][] = [[], []];
      // The list comes first, and is written as it grows, in bounded memory; but of
      // many runs there is one document.
      const isOwn = label === undefined;
      let hasBegun = false;
      const head = () => hasBegun ? "," : `{"${view.listKey}":[\n`;
      return {
        event(event) {
          if (!view.isListed(event)) return;
          const object = { time: new Date(), ...view.json(event) };
          if (isOwn) out.writeResult(head() + json(object));
          else listed!.push(object);
          hasBegun = true;
        },
        get hasBegun() {
          return isOwn && hasBegun;
        },
        interval: (interval) =>
          intervals!.push({ time: new Date(), ...intervalJson(interval) }),
        // There is one document on stdout.
        soFar: (target, result) => note(view.lines(target, result)),
        end(target, result) {
          const list = quiet ? {} : { [view.listKey]: listed };
          const facts = {
            ...view.resultJson(target, result),
            ...reportMs === undefined || intervals!.length === 0
              ? {}
              : { intervals },
          };
          if (label !== undefined) {
            label.collect({ ...label.facts, ...list, ...facts });
          } else if (!hasBegun) out.writeResult(json({ ...list, ...facts }));
          else out.writeResult(`],${json(facts).slice(1)}`);
        },
      };
    }
  }
}

/** A run that can be iterated and stopped. */
export interface Followed<E> extends AsyncIterable<E> {
  readonly target: UdpAddress | undefined;
  /** How many datagrams were sent so far. */
  readonly sent: number;
  stop(): void;
}

/**
 * Iterates a run to its end, or until a signal, and reports it.
 *
 * @param run The run.
 * @param asked Whom it asks, until it has resolved the name.
 * @param result Gives what came of it.
 * @param reporter Where it is reported.
 * @param out Where the lines go.
 * @param reportMs How often to end an interval, if the run itself has none.
 * @throws What the run throws, and what the system said of a datagram that could
 * not be sent if nothing was received.
 */
export async function follow<
  E extends { type: string; error?: unknown },
  R extends { received: number },
>(
  run: Followed<E>,
  asked: UdpAddress,
  result: () => R,
  reporter: Reporter<E, R>,
  out: LineWriter,
  reportMs?: number | undefined,
): Promise<R> {
  const forget = onStop(out, () => run.stop());
  const forgetAsk = onAsk(() => {
    reporter.soFar(run.target ?? asked, result());
  });
  const startedAt = performance.now();
  const silence = new Silence(startedAt);
  const say = (line: string | undefined) => line && note(`client: ${line}`);
  const timers = [
    setInterval(() => {
      say(silence.look(performance.now()));
      if (out.isTerminal) reporter.status(run.sent);
    }, LOOK_MS),
  ];
  const endInterval = () =>
    reporter.interval(performance.now() - startedAt, run.sent);
  if (reportMs !== undefined) timers.push(setInterval(endInterval, reportMs));
  let failure: unknown;
  let hasEnded = false;
  try {
    for await (const event of run) {
      if (event.type === "error") failure = event.error;
      if (event.type === "reply") say(silence.heard(performance.now()));
      reporter.event(event);
    }
    if (reportMs !== undefined && reporter.hasPart(run.sent)) endInterval();
    const ended = result();
    reporter.end(run.target ?? asked, ended);
    await out.flush();
    hasEnded = true;
    if (ended.received === 0 && failure !== undefined) throw failure;
    return ended;
  } catch (error) {
    if (reporter.hasBegun && !hasEnded) {
      reporter.end(run.target ?? asked, result());
      await out.flush();
    }
    throw error;
  } finally {
    for (const timer of timers) clearInterval(timer);
    forget();
    forgetAsk();
  }
}

const LOOK_MS = 500;

/**
 * How a series or a measurement is reported while it runs and at its end: as
 * text, as one JSON document, or as a stream of JSON objects.
 *
 * @module
 */
import type { UdpAddress } from "../address.ts";
import { json } from "./format.ts";
import { onAsk, onStop } from "./main.ts";
import { type LineWriter, note } from "./output.ts";

/** What is printed, and how. */
export interface ReportOptions {
  format: "text" | "json" | "json-stream";
  /** Whether to leave out the events, and print only what comes at the end. */
  quiet: boolean;
  /** Whether payloads are in JSON as hex too, and not only where they must. */
  hasHex?: boolean;
}

/** How the events `E` and the result `R` of one kind of run are shown. */
export interface View<E, R> {
  /** An event as a line for people; undefined for none. */
  line(event: E): string | undefined;
  /** An event as an object. */
  json(event: E): Record<string, unknown>;
  /** What the document lists of an event, as `listKey`; undefined for nothing. */
  listed(event: E): Record<string, unknown> | undefined;
  listKey: string;
  /** A line that shows how things stand; "" for none. */
  status(): string;
  /** The result as lines for people; "" for none. */
  lines(target: UdpAddress, result: R): string;
  /** The result as an object. */
  resultJson(target: UdpAddress, result: R): Record<string, unknown>;
}

/** Where the events and the result of a run go. */
export interface Reporter<E, R> {
  event(event: E): void;
  /** Somebody asks how things stand. */
  soFar(target: UdpAddress, result: R): void;
  end(target: UdpAddress, result: R): void;
}

/** Makes the reporter that the options ask for. */
export function makeReporter<E, R>(
  view: View<E, R>,
  { format, quiet }: ReportOptions,
  out: LineWriter,
): Reporter<E, R> {
  switch (format) {
    case "text":
      return {
        event(event) {
          const line = quiet ? undefined : view.line(event);
          if (line !== undefined) out.write(line);
          if (out.isTerminal) out.status(view.status());
        },
        soFar(target, result) {
          const lines = view.lines(target, result);
          if (lines !== "") out.writeResult(lines);
        },
        end(target, result) {
          out.status("");
          this.soFar(target, result);
        },
      };
    case "json-stream":
      return {
        event: (event) => quiet || out.write(json(view.json(event))),
        soFar(target, result) {
          const facts = view.resultJson(target, result);
          out.writeResult(json({ type: "interim", ...facts }));
        },
        end(target, result) {
          const facts = view.resultJson(target, result);
          out.writeResult(json({ type: "summary", ...facts }));
        },
      };
    case "json": {
      const listed: unknown[] = [];
      return {
        event(event) {
          const object = quiet ? undefined : view.listed(event);
          if (object !== undefined) listed.push(object);
        },
        // There is one document on stdout.
        soFar: (target, result) => note(view.lines(target, result)),
        end(target, result) {
          const facts = view.resultJson(target, result);
          const list = quiet ? {} : { [view.listKey]: listed };
          out.writeResult(json({ ...facts, ...list }));
        },
      };
    }
  }
}

/** A run that can be iterated and stopped. */
export interface Followed<E> extends AsyncIterable<E> {
  readonly target: UdpAddress | undefined;
  stop(): void;
}

/**
 * Iterates a run to its end, or until a signal, and reports it.
 *
 * @param run The run.
 * @param asked Whom it asks, until it has resolved the name.
 * @param result Gives what came of it.
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
): Promise<R> {
  const forget = onStop(out, () => run.stop());
  const forgetAsk = onAsk(() => {
    reporter.soFar(run.target ?? asked, result());
  });
  let failure: unknown;
  try {
    for await (const event of run) {
      if (event.type === "error") failure = event.error;
      reporter.event(event);
    }
    const ended = result();
    reporter.end(run.target ?? asked, ended);
    await out.flush();
    if (ended.received === 0 && failure !== undefined) throw failure;
    return ended;
  } finally {
    forget();
    forgetAsk();
  }
}

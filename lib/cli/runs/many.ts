/**
 * `client` with several targets, or several sizes: a run of each, and a table of
 * their results.
 *
 * @module
 */
import { formatAddress, type UdpAddress } from "../../address.ts";
import { errorMessage } from "../../base/errors.ts";
import type { Summary } from "../../stats/statistics.ts";
import { json, lossText, milliseconds } from "../show/format.ts";
import { complain, type LineWriter } from "../output.ts";
import type { ReportOptions } from "../show/reporter.ts";
import type { Samples } from "../show/samples.ts";
import type { RunOutcome } from "../thresholds.ts";

/** The outcome of a target; undefined if its run failed. */
export interface Answer {
  /** Its name where there are several. */
  label: string | undefined;
  outcome: RunOutcome | undefined;
}

/** Runs one target with one size. */
export type Ask = (
  target: UdpAddress,
  size: number | undefined,
  report: ReportOptions,
) => Promise<RunOutcome>;

/** One line of the table. */
export interface Row {
  label: string;
  sent: number;
  received: number;
  lossPercent: number | undefined;
  rttMs: Summary | undefined;
  /** The error of a run that failed. */
  error?: string;
}

/** Runs all targets at once, and the sizes of each in turn. */
export async function runMany(
  targets: UdpAddress[],
  sizes: Array<number | undefined>,
  ask: Ask,
  report: ReportOptions,
  out: LineWriter,
  samplesOf: (label: string) => Samples | undefined = () => undefined,
): Promise<Answer[]> {
  const isSweep = sizes.length > 1;
  const answers: Answer[] = [];
  const rows: Row[] = [];
  const documents: Array<Record<string, unknown>> = [];
  const askOne = async (
    target: UdpAddress,
    size: number | undefined,
    place: number,
  ) => {
    const facts = {
      target: formatAddress(target),
      ...isSweep ? { size } : {},
    };
    const text = [
      ...(targets.length > 1 ? [facts.target] : []),
      ...(isSweep ? [`${size} bytes`] : []),
    ].join(" ");
    const label = {
      text,
      facts,
      hasLines: !isSweep,
      collect: (document: Record<string, unknown>) => {
        documents[place] = document;
      },
    };
    try {
      const samples = samplesOf(text);
      const outcome = await ask(target, size, { ...report, label, samples });
      answers[place] = { label: text, outcome };
      rows[place] = { ...rowOf(outcome), label: text };
    } catch (error) {
      const message = errorMessage(error);
      complain("client", `${text}: ${message}`);
      answers[place] = { label: text, outcome: undefined };
      rows[place] = { ...NO_ANSWER, label: text, error: message };
      documents[place] = { ...facts, error: message };
    }
  };
  await Promise.all(targets.map(async (target, i) => {
    for (const [j, size] of sizes.entries()) {
      await askOne(target, size, i * sizes.length + j);
    }
  }));
  if (report.format === "text") {
    out.writeResult(tableLines(isSweep ? rows : sorted(rows)));
  } else if (report.format === "json") {
    out.writeResult(json({ runs: documents }));
  }
  await out.flush();
  return answers;
}

/** The table. */
export function tableLines(rows: Row[]): string {
  const width = Math.max(...rows.map(({ label }) => label.length));
  const columns = ["sent", "received", "loss", "min", "median", "p99", "max"];
  const line = (label: string, cells: string[]) =>
    label.padEnd(width) + cells.map((cell) => cell.padStart(10)).join("");
  return [
    line("", columns) + "  (rtt in ms)",
    ...rows.map(({ label, sent, received, lossPercent, rttMs, error }) =>
      error === undefined
        ? line(label, [
          `${sent}`,
          `${received}`,
          lossText(lossPercent),
          ...(["min", "median", "p99", "max"] as const).map((figure) =>
            rttMs === undefined ? "n/a" : milliseconds(rttMs[figure])
          ),
        ])
        : `${label.padEnd(width)}  ${error}`
    ),
  ].join("\n");
}

/** Sorts by loss, then by RTT, with failed runs at the end. */
export function sorted(rows: Row[]): Row[] {
  const rank = ({ error, lossPercent = 100, rttMs }: Row) => [
    error === undefined ? 0 : 1,
    lossPercent,
    rttMs?.median ?? Infinity,
  ];
  return rows.toSorted((a, b) => {
    const [x, y] = [rank(a), rank(b)];
    const differing = x.findIndex((value, i) => value !== y[i]);
    return differing < 0 ? 0 : x[differing]! < y[differing]! ? -1 : 1;
  });
}

function rowOf(outcome: RunOutcome & Partial<Row>): Omit<Row, "label"> {
  const { sent = 0, received, lossPercent, rttMs } = outcome;
  return { sent, received, lossPercent, rttMs };
}

const NO_ANSWER: Omit<Row, "label"> = {
  sent: 0,
  received: 0,
  lossPercent: undefined,
  rttMs: undefined,
};

/**
 * `client` with several targets, or several sizes: a run of each, and a table of
 * their results.
 *
 * @module
 */
import { formatAddress, type UdpAddress } from "../../address.ts";
import { errorMessage } from "../../base/errors.ts";
import {
  json,
  lossText,
  milliseconds,
  tableLines,
  wrap,
} from "../show/format.ts";
import { complain, type LineWriter } from "../output.ts";
import type { ReportOptions } from "../show/reporter.ts";
import type { Sample } from "../../stats/sample.ts";
import type { RunOutcome } from "../thresholds.ts";

export interface Ended {
  /** Its name where there are several. */
  label?: string;
  /** Undefined if the run failed. */
  outcome?: RunOutcome;
  error?: string;
}

export type RunOne = (
  target: UdpAddress,
  size: number | undefined,
  report: ReportOptions,
) => Promise<RunOutcome>;

/** Runs all targets at once, and the sizes of each in turn. */
export async function runMany(
  targets: UdpAddress[],
  sizes: Array<number | undefined>,
  runOne: RunOne,
  report: ReportOptions,
  out: LineWriter,
  recordOf: (label: string) => ((sample: Sample) => void) | undefined = () =>
    undefined,
): Promise<Ended[]> {
  const isSweep = sizes.length > 1;
  const ends: Ended[] = [];
  const documents: Array<Record<string, unknown>> = [];
  const runAt = async (place: number, address: UdpAddress, size?: number) => {
    const target = formatAddress(address);
    const facts = isSweep ? { target, size } : { target };
    const step = targets.length > 1
      ? `${target} ${size} bytes`
      : `${size} bytes`;
    const text = isSweep ? step : target;
    const collect = (document: Record<string, unknown>) => {
      documents[place] = document;
    };
    const label = { text, facts, hasLines: !isSweep, collect };
    try {
      const onSample = recordOf(text);
      const outcome = await runOne(address, size, {
        ...report,
        label,
        onSample,
      });
      ends[place] = { label: text, outcome };
    } catch (thrown) {
      const error = errorMessage(thrown);
      complain("client", `${text}: ${error}`);
      ends[place] = { label: text, error };
      documents[place] ??= { ...facts, error };
    }
  };
  await Promise.all(targets.map(async (target, i) => {
    for (const [j, size] of sizes.entries()) {
      if (j > 0 && report.stopping?.aborted) return;
      await runAt(i * sizes.length + j, target, size);
    }
  }));
  // Without the places of sizes that were not tried.
  const ended = Object.values(ends);
  if (report.format === "text") {
    const shown = isSweep ? ended : sorted(ended);
    const { columns } = out;
    out.writeResult(wrap(comparisonLines(shown, columns), columns));
  } else if (report.format === "json") {
    out.writeResult(json({ runs: Object.values(documents) }));
  }
  await out.flush();
  return ended;
}

/** A table of the runs, and below it the errors of those that failed. */
export function comparisonLines(ends: Ended[], columns?: number): string {
  const head = ["rtt in ms", "sent", "received", "loss", ...SHOWN_FIGURES];
  const rows = ends.flatMap(({ label = "", outcome }) => {
    if (outcome === undefined) return [];
    const { sent, received, lossPercent, rttMs } = outcome;
    const times = SHOWN_FIGURES.map((figure) =>
      rttMs === undefined ? "n/a" : milliseconds(rttMs[figure])
    );
    return [[label, `${sent}`, `${received}`, lossText(lossPercent), ...times]];
  });
  const errors = ends.flatMap(({ label, error }) =>
    error === undefined ? [] : [`${label}: ${error}`]
  );
  return [...tableLines([head, ...rows], columns), ...errors].join("\n");
}

/** Sorts by loss, then by RTT, with failed runs at the end. */
export function sorted(ends: Ended[]): Ended[] {
  const rank = ({ outcome }: Ended) => [
    outcome === undefined ? 1 : 0,
    outcome?.lossPercent ?? 100,
    outcome?.rttMs?.median ?? Infinity,
  ];
  return ends.toSorted((a, b) => {
    const [x, y] = [rank(a), rank(b)];
    const differing = x.findIndex((value, i) => value !== y[i]);
    return differing < 0 ? 0 : x[differing]! < y[differing]! ? -1 : 1;
  });
}

const SHOWN_FIGURES = ["min", "median", "p99", "max"] as const;

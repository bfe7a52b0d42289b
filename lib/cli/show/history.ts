/**
 * A part of a target's history: the counts of a minute or an hour, and a coarse
 * histogram of its RTTs. Pure.
 *
 * @module
 */
import type { TargetOutage } from "../watch_state.ts";
import type { Interval } from "../../stats/books.ts";
import type { PartCounts } from "../../stats/counts.ts";
import { CoarseHistogram, coarseValues } from "../../stats/coarse_histogram.ts";
import type { Axis, PicturePoint, PictureRun } from "./picture.ts";

/** The counts of a part that are kept. */
export const KEPT = [
  ...["sent", "received", "lost", "rejected", "unsent"] as const,
  ...["late", "duplicates"] as const,
];

/** A part. */
export interface Part extends Pick<PartCounts, typeof KEPT[number]> {
  /** The start of its minute or hour, as Unix time in milliseconds. */
  at: number;
  /** Its histogram, as the text of a `CoarseHistogram`. */
  rtts: string;
}

/** The counts of an interval that has just ended, by the wall clock as it is now. */
export function partOf(interval: Interval): Omit<Part, "rtts"> {
  const middle = Date.now() - (interval.toMs - interval.fromMs) / 2;
  const at = middle - middle % MINUTE_MS;
  const counts = KEPT.map((name) => [name, interval[name]]);
  return { at, ...Object.fromEntries(counts) };
}

/** Parts as one. */
export function joined(parts: readonly Part[]): Part {
  const rtts = new CoarseHistogram();
  for (const part of parts) rtts.merge(part.rtts);
  const sums = KEPT.map((name) =>
    [name, parts.reduce((sum, part) => sum + part[name], 0)] as const
  );
  return { ...parts[0]!, ...Object.fromEntries(sums), rtts: rtts.take() };
}

/** The parts of a target as a picture draws them. */
export function pictureRunOf(
  label: string,
  parts: readonly Part[],
  outages: readonly TargetOutage[],
  { from, stepMs }: Axis,
): PictureRun {
  const steps = Map.groupBy(parts, ({ at }) => at - at % stepMs);
  const samples: PicturePoint[] = [...steps].flatMap(([at, parts]) => {
    const part = joined(parts);
    const atMs = at - from + stepMs / 2;
    const missing = (["lost", "rejected", "unsent"] as const)
      .map((outcome): PicturePoint => ({
        atMs,
        rttMs: NaN,
        outcome,
        times: part[outcome] - (outcome === "lost" ? part.rejected : 0),
      }));
    const answered = coarseValues(part.rtts)
      .map(([rttMs, times]): PicturePoint => ({
        ...{ atMs, rttMs, times },
        outcome: "received",
      }));
    return [...answered, ...missing.filter(({ times }) => times! > 0)];
  });
  return {
    label,
    samples: Object.assign(samples, { startedAt: from, leftOut: 0 }),
    outages: outages.map(({ fromMs, toMs, datagrams }) => ({
      fromMs: fromMs - from,
      toMs: toMs && toMs - from,
      datagrams,
      unsent: 0,
    })),
  };
}

export const MINUTE_MS = 60_000;
export const HOUR_MS = 3_600_000;

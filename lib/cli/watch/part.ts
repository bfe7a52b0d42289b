/**
 * A part of a target's history: the counts of a minute or an hour, and a coarse
 * histogram of its RTTs. Pure.
 *
 * @module
 */
import type { Outage } from "../../stats/loss_periods.ts";
import type { Interval } from "../../stats/books.ts";
import type { PartCounts } from "../../stats/counts.ts";
import type { Distribution } from "../../stats/distribution.ts";
import type { Axis, PicturePoint, PictureRun } from "../show/picture.ts";

/** The counts of a part that are kept. */
export const KEPT = [
  ...["sent", "received", "lost", "rejected", "unsent"] as const,
  ...["late", "duplicates"] as const,
];

/** A part. */
export interface Part extends Pick<PartCounts, typeof KEPT[number]> {
  /** The start of its minute or hour, as Unix time in milliseconds. */
  at: number;
  /** Its histogram, by {@linkcode Rtts}. */
  rtts: string;
}

/** The counts of an interval that has just ended, by the wall clock as it is now. */
export function partOf(interval: Interval): Omit<Part, "rtts"> {
  const middle = Date.now() - (interval.toMs - interval.fromMs) / 2;
  const at = middle - middle % MINUTE_MS;
  const counts = KEPT.map((name) => [name, interval[name]]);
  return { at, ...Object.fromEntries(counts) };
}

/** An outage by the wall clock: Unix times in milliseconds. */
export type DatedOutage = Pick<Outage, "fromMs" | "toMs" | "datagrams">;

/** A histogram of RTTs: 32 steps an octave, so that a value is right to 1.1 %. */
export class Rtts {
  readonly #counts = new Map<number, number>();

  /** Adds an RTT. */
  add(rttMs: number): void {
    this.#count(Math.round(STEPS * Math.log2(rttMs * NS_PER_MS + 1)), 1);
  }

  /** Adds the RTTs of a part. */
  merge(rtts: string): void {
    for (const [step, count] of entries(rtts)) this.#count(step, count);
  }

  /** Gives its text, pairs of a step and a count, and begins anew. */
  take(): string {
    const text = [...this.#counts].map((pair) => pair.join(":")).join(" ");
    this.#counts.clear();
    return text;
  }

  #count(step: number, count: number): void {
    this.#counts.set(step, (this.#counts.get(step) ?? 0) + count);
  }
}

/** Adds the RTTs of parts to a distribution. */
export function addRtts(all: Distribution, parts: Iterable<Part>): void {
  for (const { rtts } of parts) {
    for (const [step, count] of entries(rtts)) all.add(rttOf(step), count);
  }
}

/** The parts of a target as a picture draws them. */
export function pictureRunOf(
  label: string,
  parts: readonly Part[],
  outages: readonly DatedOutage[],
  { from, stepMs }: Axis,
): PictureRun {
  const samples: PicturePoint[] = parts.flatMap((part) => {
    const atMs = part.at - from + stepMs / 2;
    const missing = (["lost", "rejected", "unsent"] as const)
      .map((outcome): PicturePoint => ({
        atMs,
        rttMs: NaN,
        outcome,
        times: part[outcome] - (outcome === "lost" ? part.rejected : 0),
      }));
    const answered = entries(part.rtts).map(([step, times]): PicturePoint => ({
      atMs,
      rttMs: rttOf(step),
      outcome: "received",
      times,
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

/** The pairs of a step and a count. */
function entries(rtts: string): Array<[number, number]> {
  return rtts.split(" ").flatMap((pair) => {
    const [step, count] = pair.split(":").map(Number);
    return count === undefined ? [] : [[step!, count]];
  });
}

function rttOf(step: number): number {
  return (2 ** (step / STEPS) - 1) / NS_PER_MS;
}

export const MINUTE_MS = 60_000;
export const HOUR_MS = 3_600_000;
const STEPS = 32;
const NS_PER_MS = 1e6;

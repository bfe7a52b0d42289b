/**
 * The samples of a run, one for each datagram, kept for a picture or a file. Pure.
 *
 * @module
 */
import { errorMessage } from "../../base/errors.ts";
import type { Outcome, Sample } from "../../stats/sample.ts";

/** A sample as far as it is kept. */
export interface SamplePoint {
  seq: number;
  outcome: Outcome;
  /** When it was sent, since the first send, in milliseconds. */
  atMs: number;
  /** NaN if it has none. */
  rttMs: number;
  attempts: number;
  /** The error or the report, "" for none. */
  why: string;
}

/** Samples of consecutive numbers; the outcome is 0 where there is none yet. */
interface Chunk {
  atMs: Float64Array;
  rttMs: Float64Array;
  outcome: Uint8Array;
  attempts: Uint16Array;
  why: Uint8Array;
}

/** The first samples of a run, in the order of their numbers. */
export class Samples implements Iterable<SamplePoint> {
  /** Chunks are never moved, as that would stall the run. */
  readonly #chunks: Chunk[] = [];
  readonly #whys: string[] = ["", "other"];
  /** The number of samples. */
  length = 0;
  /** The first send by the wall clock, as Unix time in milliseconds. */
  startedAt = 0;
  /** Samples beyond the limit. */
  leftOut = 0;

  /** Makes an empty collection for the first `limit` datagrams. */
  constructor(readonly limit: number = MAX_SAMPLES) {}

  /** Adds a sample. */
  add(
    { seq, outcome, sentMs, sentAt, rttMs = NaN, attempts, error }: Sample,
  ): void {
    // Whole, without the rounding error of the difference.
    this.startedAt = Math.round(sentAt - sentMs);
    if (seq >= this.limit) {
      this.leftOut++;
      return;
    }
    this.length++;
    const chunk = this.#chunks[Math.floor(seq / CHUNK)] ??= {
      atMs: new Float64Array(CHUNK),
      rttMs: new Float64Array(CHUNK),
      outcome: new Uint8Array(CHUNK),
      attempts: new Uint16Array(CHUNK),
      why: new Uint8Array(CHUNK),
    };
    const at = seq % CHUNK;
    chunk.atMs[at] = sentMs;
    chunk.rttMs[at] = rttMs;
    chunk.outcome[at] = OUTCOMES.indexOf(outcome);
    chunk.attempts[at] = attempts;
    chunk.why[at] = error === undefined ? 0 : this.#codeOf(errorMessage(error));
  }

  /** The number of each text; few errors differ. */
  #codeOf(why: string): number {
    const found = this.#whys.indexOf(why);
    if (found >= 0) return found;
    if (this.#whys.length <= MAX_WHYS) return this.#whys.push(why) - 1;
    return OTHER;
  }

  *[Symbol.iterator](): Generator<SamplePoint> {
    for (const [i, chunk] of this.#chunks.entries()) {
      if (chunk === undefined) continue;
      for (let at = 0; at < CHUNK; at++) {
        const code = chunk.outcome[at]!;
        if (code === 0) continue;
        yield {
          seq: i * CHUNK + at,
          outcome: OUTCOMES[code] as Outcome,
          atMs: chunk.atMs[at]!,
          rttMs: chunk.rttMs[at]!,
          attempts: chunk.attempts[at]!,
          why: this.#whys[chunk.why[at]!]!,
        };
      }
    }
  }
}

/** The samples of a run. */
export interface RecordedRun {
  label: string;
  samples: Samples;
}

/** The samples of all runs as lines of CSV, in parts of bounded size. */
export function* csvOf(runs: Iterable<RecordedRun>): Generator<string> {
  let part = "run,seq,at_ms,rtt_ms,time,outcome,attempts,why\n";
  for (const { label, samples } of runs) {
    const { startedAt } = samples;
    const run = quoted(label);
    for (const { seq, atMs, rttMs, outcome, attempts, why } of samples) {
      const rtt = Number.isNaN(rttMs) ? "" : rttMs.toFixed(6);
      const time = new Date(startedAt + atMs).toISOString();
      part += `${run},${seq},${atMs.toFixed(6)},${rtt},` +
        `${time},${outcome},${attempts},${quoted(why)}\n`;
      if (part.length < PART_CHARS) continue;
      yield part;
      part = "";
    }
  }
  yield part;
}

/** A text as a field of CSV (RFC 4180). */
function quoted(text: string): string {
  return /[",\n\r]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}

const OUTCOMES: readonly (Outcome | "")[] = [
  "",
  "received",
  "lost",
  "rejected",
  "unsent",
  "pending",
];
const CHUNK = 4096;
const MAX_WHYS = 100;
const OTHER = 1;
/** 200 MB of them. */
export const MAX_SAMPLES = 10_000_000;
const PART_CHARS = 1 << 16;

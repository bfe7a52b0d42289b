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

/** The samples of a run, in the order in which they became known. */
export class Samples implements Iterable<SamplePoint> {
  /** Three numbers for each, and three small ones. */
  #values = new Float64Array(3 * FIRST_ROOM);
  #codes = new Uint16Array(3 * FIRST_ROOM);
  readonly #whys: string[] = ["", "other"];
  readonly #limit: number;
  length = 0;
  /** The first send by the wall clock, as Unix time in milliseconds. */
  startedAt = 0;
  /** Samples beyond the limit. */
  leftOut = 0;

  /** Makes an empty collection for `limit` samples. */
  constructor(limit = 10_000_000) {
    this.#limit = limit;
  }

  /** Adds a sample. */
  add(
    { seq, outcome, sentMs, sentAt, rttMs = NaN, attempts, error }: Sample,
  ): void {
    this.startedAt = sentAt - sentMs;
    if (this.length === this.#limit) {
      this.leftOut++;
      return;
    }
    const at = 3 * this.length++;
    if (at === this.#values.length) {
      const [values, codes] = [this.#values, this.#codes];
      this.#values = new Float64Array(2 * at);
      this.#values.set(values);
      this.#codes = new Uint16Array(2 * at);
      this.#codes.set(codes);
    }
    this.#values.set([seq, sentMs, rttMs], at);
    const why = error === undefined ? 0 : this.#codeOf(errorMessage(error));
    this.#codes.set([OUTCOMES.indexOf(outcome), attempts, why], at);
  }

  /** The number of each text; few errors differ. */
  #codeOf(why: string): number {
    const found = this.#whys.indexOf(why);
    if (found >= 0) return found;
    if (this.#whys.length <= MAX_WHYS) return this.#whys.push(why) - 1;
    return OTHER;
  }

  *[Symbol.iterator](): Generator<SamplePoint> {
    for (let i = 0; i < this.length; i++) {
      const [seq, atMs, rttMs] = this.#values.subarray(3 * i, 3 * i + 3);
      const [outcome, attempts, why] = this.#codes.subarray(3 * i, 3 * i + 3);
      yield {
        seq: seq!,
        outcome: OUTCOMES[outcome!]!,
        atMs: atMs!,
        rttMs: rttMs!,
        attempts: attempts!,
        why: this.#whys[why!]!,
      };
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
    for (const { seq, atMs, rttMs, outcome, attempts, why } of samples) {
      const rtt = Number.isNaN(rttMs) ? "" : rttMs.toFixed(6);
      const time = new Date(startedAt + atMs).toISOString();
      part += `${label},${seq},${atMs.toFixed(6)},${rtt},` +
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

const OUTCOMES: readonly Outcome[] = [
  "received",
  "lost",
  "rejected",
  "unsent",
  "pending",
];
const FIRST_ROOM = 1024;
const MAX_WHYS = 100;
const OTHER = 1;
const PART_CHARS = 1 << 16;

/**
 * Samples of a run, one for each datagram, kept for a picture or a file. Pure.
 *
 * @module
 */

/** The outcome of one datagram. */
export interface SamplePoint {
  seq: number;
  /** When it was sent, since the run began, in milliseconds. */
  atMs: number;
  /** NaN if it is lost. */
  rttMs: number;
}

/** The samples of a run, in the order in which they became known. */
export class Samples implements Iterable<SamplePoint> {
  /** Three numbers for each. */
  #values = new Float64Array(3 * 1024);
  readonly #timeoutMs: number;
  readonly #limit: number;
  length = 0;
  /** Samples beyond the limit. */
  leftOut = 0;

  /** Makes an empty collection for `limit` samples; those lost count after `timeoutMs`. */
  constructor(timeoutMs: number, limit = 10_000_000) {
    this.#timeoutMs = timeoutMs;
    this.#limit = limit;
  }

  /** Adds a datagram; one without an RTT is lost. */
  add(seq: number, atMs: number, rttMs = NaN): void {
    if (this.length === this.#limit) {
      this.leftOut++;
      return;
    }
    const at = 3 * this.length++;
    if (at === this.#values.length) {
      const grown = new Float64Array(2 * at);
      grown.set(this.#values);
      this.#values = grown;
    }
    this.#values.set([seq, atMs, rttMs], at);
  }

  /** Adds the sample of an event, if it has one. */
  onEvent(
    { type, seq }: { type: string; seq?: number | undefined },
    rttMs: number | undefined,
    nowMs: number,
  ): void {
    if (seq === undefined) return;
    if (rttMs !== undefined) this.add(seq, nowMs - rttMs, rttMs);
    else if (type === "lost" || type === "error") {
      const sinceMs = type === "lost" ? this.#timeoutMs : 0;
      this.add(seq, Math.max(0, nowMs - sinceMs), undefined);
    }
  }

  *[Symbol.iterator](): Generator<SamplePoint> {
    for (let i = 0; i < this.length; i++) {
      const [seq, atMs, rttMs] = this.#values.subarray(3 * i, 3 * i + 3);
      yield { seq: seq!, atMs: atMs!, rttMs: rttMs! };
    }
  }
}

/**
 * The samples of all runs as lines of CSV, in parts of bounded size; lost ones
 * have no RTT.
 */
export function* csvOf(
  runs: Iterable<{ label: string; samples: Iterable<SamplePoint> }>,
): Generator<string> {
  let part = "run,seq,at_ms,rtt_ms\n";
  for (const { label, samples } of runs) {
    for (const { seq, atMs, rttMs } of samples) {
      const rtt = Number.isNaN(rttMs) ? "" : rttMs.toFixed(6);
      part += `${label},${seq},${atMs.toFixed(6)},${rtt}\n`;
      if (part.length < PART_CHARS) continue;
      yield part;
      part = "";
    }
  }
  yield part;
}

const PART_CHARS = 1 << 16;

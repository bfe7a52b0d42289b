/**
 * Counts of a run as it happens: for the status line, and for each interval of
 * `--report`. Pure.
 *
 * @module
 */
import { Distribution } from "../../stats/distribution.ts";
import type { Interval } from "./columns.ts";

/** Counts of a part of a run. */
export class Tally {
  readonly #from: { ms: number; sent: number };
  readonly #counts = {
    received: 0,
    lost: 0,
    duplicates: 0,
    late: 0,
    errors: 0,
  };
  readonly #rtts = new Distribution();

  /** Begins a part at a time since the run began, after `sent` datagrams. */
  constructor(ms = 0, sent = 0) {
    this.#from = { ms, sent };
  }

  /** Counts an event by its type; unknown types are ignored. */
  add(type: string, rttMs: number | undefined): void {
    const counts = this.#counts;
    if (type === "reply") counts.received++;
    if (type === "lost" || type === "error") counts.lost++;
    if (type === "error") counts.errors++;
    if (type === "late") counts.late++;
    if (type === "duplicate") counts.duplicates++;
    if (rttMs !== undefined) this.#rtts.add(rttMs);
  }

  /** The part up to a moment; parameters as of the constructor. */
  upTo(ms: number, sent: number): Interval {
    return {
      fromMs: this.#from.ms,
      toMs: ms,
      sent: sent - this.#from.sent,
      ...this.#counts,
      rttMs: this.#rtts.tail(),
    };
  }
}

export function isEmpty(
  { sent, received, lost, duplicates, late }: Interval,
): boolean {
  return sent + received + lost + duplicates + late === 0;
}

/** Reports that the server stopped answering, and that it answers again, once each. */
export class Silence {
  #since = 0;
  #isReported = false;

  /** Takes note of a reply; gives the report that is due. */
  heard(now: number): string | undefined {
    const silentMs = now - this.#since;
    this.#since = now;
    if (!this.#isReported) return undefined;
    this.#isReported = false;
    return `a reply again, after ${Math.round(silentMs / 1000)} s`;
  }

  /** Takes note of the time; gives the report that is due. */
  look(now: number): string | undefined {
    if (this.#isReported || now - this.#since < SILENT_MS) return undefined;
    this.#isReported = true;
    return `no reply for ${SILENT_MS / 1000} s`;
  }
}

const SILENT_MS = 10_000;

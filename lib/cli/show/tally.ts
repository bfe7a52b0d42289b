/**
 * What became of datagrams, counted as it happens: for the status line, and for
 * each interval of `--report`. Pure.
 *
 * @module
 */
import { Distribution } from "../../stats/distribution.ts";
import { lossText, milliseconds, summaryOrNull } from "./format.ts";

/** Counts of one interval, or of all so far. */
export class Tally {
  received = 0;
  lost = 0;
  duplicates = 0;
  late = 0;
  errors = 0;
  // Without exact values, so that a look at them sorts nothing.
  readonly rtts = new Distribution(0);

  /** Counts an event by its type; others than those known count for nothing. */
  add(type: string, rttMs: number | undefined): void {
    if (type === "reply") this.received++;
    if (type === "lost" || type === "error") this.lost++;
    if (type === "error") this.errors++;
    if (type === "late") this.late++;
    if (type === "duplicate") this.duplicates++;
    if (rttMs !== undefined) this.rtts.add(rttMs);
  }

  /** Of those answered or lost; undefined when there are none. */
  get lossPercent(): number | undefined {
    const judged = this.received + this.lost;
    return judged === 0 ? undefined : 100 * this.lost / judged;
  }
}

/** The counts of a run: all so far, and since the last interval was told. */
export class RunTally {
  readonly total = new Tally();
  #part = new Tally();
  #partFrom = { ms: 0, sent: 0 };

  /** Counts an event. */
  add(type: string, rttMs: number | undefined): void {
    this.total.add(type, rttMs);
    this.#part.add(type, rttMs);
  }

  /** A line that shows how things stand. */
  status(sent: number): string {
    const { lossPercent, rtts } = this.total;
    const median = rtts.tail()?.median;
    const rtt = median === undefined
      ? "no reply yet"
      : `rtt ${milliseconds(median)} ms in the median`;
    return `${sent} sent, ${lossText(lossPercent)} loss, ${rtt}`;
  }

  /** Whether there is anything to tell since the last interval. */
  hasPart(sent: number): boolean {
    const { received, lost, duplicates, late } = this.#part;
    const events = received + lost + duplicates + late;
    return events > 0 || sent > this.#partFrom.sent;
  }

  /**
   * Ends an interval, and begins the next one.
   *
   * @param ms Since the run began.
   * @param sent Datagrams sent since then.
   */
  take(ms: number, sent: number): Interval {
    const part = this.#part;
    const interval = {
      fromMs: this.#partFrom.ms,
      toMs: ms,
      sent: sent - this.#partFrom.sent,
      part,
    };
    this.#part = new Tally();
    this.#partFrom = { ms, sent };
    return interval;
  }
}

/** A part of a run. */
export interface Interval {
  fromMs: number;
  toMs: number;
  sent: number;
  part: Tally;
}

/** The line about an interval. */
export function intervalLine({ fromMs, toMs, sent, part }: Interval): string {
  const counts = [
    `${sent} sent`,
    `${part.received} received`,
    `${lossText(part.lossPercent)} loss`,
    ...part.late === 0 ? [] : [`${part.late} late`],
    ...part.duplicates === 0 ? [] : [`${part.duplicates} duplicates`],
  ];
  const rtt = part.rtts.tail();
  if (rtt !== undefined) {
    const times = [rtt.min, rtt.mean, rtt.max].map(milliseconds).join("/");
    counts.push(`rtt min/avg/max = ${times} ms`);
  }
  return `${seconds(fromMs)} to ${seconds(toMs)} s: ${counts.join(", ")}`;
}

/** The JSON object for an interval. */
export function intervalJson(
  { fromMs, toMs, sent, part }: Interval,
): Record<string, unknown> {
  return {
    fromMs: Math.round(fromMs),
    toMs: Math.round(toMs),
    sent,
    received: part.received,
    lost: part.lost,
    duplicates: part.duplicates,
    late: part.late,
    errors: part.errors,
    rttMs: summaryOrNull(part.rtts.tail()),
  };
}

/**
 * Notices when nobody answers for a while, and when somebody does again. Each is
 * said once.
 */
export class Silence {
  #since: number;
  #isTold = false;

  constructor(now: number) {
    this.#since = now;
  }

  /** A reply came; gives what there is to say. */
  heard(now: number): string | undefined {
    const silentMs = now - this.#since;
    this.#since = now;
    if (!this.#isTold) return undefined;
    this.#isTold = false;
    return `an answer again, after ${Math.round(silentMs / 1000)} s`;
  }

  /** Time went by; gives what there is to say. */
  look(now: number): string | undefined {
    if (this.#isTold || now - this.#since < SILENT_MS) return undefined;
    this.#isTold = true;
    return `nobody has answered for ${SILENT_MS / 1000} s`;
  }
}

function seconds(ms: number): string {
  return (ms / 1000).toFixed(1);
}

const SILENT_MS = 10_000;

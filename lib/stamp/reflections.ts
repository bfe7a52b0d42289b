/**
 * The numbers that a reflector gave to the requests of a STAMP Session-Sender, its
 * restarts, and loss by direction. Pure.
 *
 * @module
 */
import type { PartCounts } from "../stats/counts.ts";
import {
  type Ambiguity,
  DirectionCount,
  type Directions,
  MAX_GAP,
} from "./directions.ts";

/** Records the number of each reply, and derives loss by direction. */
export class Reflections {
  readonly #capacity: number;
  /** By sequence modulo capacity: the number of the first reply, or NaN. */
  readonly #number: Float64Array;
  /** The run of the reflector that number is of. */
  readonly #run: Uint32Array;
  /** The largest number when the request was sent, and its run. */
  readonly #floor: Float64Array;
  readonly #floorRun: Uint32Array;
  /** The number of requests sent when this one was taken for lost; 0 if it was not. */
  readonly #lostAt: Uint32Array;
  #sent = 0;
  /** By number modulo capacity: a received number plus one, its run and its request. */
  readonly #seen: Float64Array;
  readonly #seenRun: Uint32Array;
  readonly #seenBy: Float64Array;
  readonly #ambiguity: Ambiguity = {
    hasCopies: false,
    isReordered: false,
    hasRestarted: false,
  };
  /** The count of requests that are not remembered any more. */
  readonly #settled = new DirectionCount(this.#ambiguity);
  /** Restarts of the reflector, and the largest number since the last one. */
  #runs = 0;
  #highest = -1;
  /** The last request that was answered. */
  #lastAnswered = -1;
  /** Whether some number differs from the sequence of its request. */
  #isCounting = false;
  /** Timestamps of closing probes in order, and the numbers of their replies. */
  readonly #probes: bigint[] = [];
  readonly #closing = new Map<number, number>();
  /** The counts that the reflector reported for a closing probe. */
  #counts: { sent: number; received: number } | undefined;

  /** Makes an empty record, for this number of latest requests. */
  constructor(capacity: number) {
    this.#capacity = capacity;
    this.#number = new Float64Array(capacity);
    this.#run = new Uint32Array(capacity);
    this.#floor = new Float64Array(capacity);
    this.#floorRun = new Uint32Array(capacity);
    this.#lostAt = new Uint32Array(capacity);
    this.#seen = new Float64Array(capacity);
    this.#seenRun = new Uint32Array(capacity);
    this.#seenBy = new Float64Array(capacity);
  }

  /** Adds the next request, and forgets the oldest one. */
  onSent(seq: number): void {
    if (seq >= this.#capacity) {
      this.#settle(this.#settled, seq - this.#capacity);
    }
    const at = seq % this.#capacity;
    this.#number[at] = NaN;
    this.#floor[at] = this.#highest;
    this.#floorRun[at] = this.#runs;
    this.#lostAt[at] = 0;
    this.#sent = seq + 1;
  }

  /** Takes a request for lost; its reply may still arrive. */
  onLost(seq: number): void {
    this.#lostAt[seq % this.#capacity] = this.#sent;
  }

  /** Adds the number of a reply to a request. */
  onNumber(number: number, seq: number): void {
    if (number !== seq) this.#isCounting = true;
    const at = seq % this.#capacity;
    const place = number % this.#capacity;
    const isNew = Number.isNaN(this.#number[at]!);
    // After a restart a number is repeated, or below those received before the request
    // was sent, or far above all others.
    const isRestart =
      this.#isSeen(number, this.#runs) && this.#seenBy[place] !== seq ||
      this.#floorRun[at] === this.#runs && number <= this.#floor[at]! ||
      this.#isFarAbove(number);
    if (isNew && seq > this.#lastAnswered && isRestart) {
      this.#runs++;
      this.#highest = -1;
      this.#ambiguity.hasRestarted = true;
    }
    this.#seen[place] = number + 1;
    this.#seenRun[place] = this.#runs;
    this.#seenBy[place] = seq;
    if (isNew) {
      this.#number[at] = number;
      this.#run[at] = this.#runs;
      if (number < this.#highest || seq < this.#lastAnswered) {
        this.#ambiguity.isReordered = true;
      }
    } else if (this.#number[at] !== number) this.#ambiguity.hasCopies = true;
    this.#highest = Math.max(this.#highest, number);
    this.#lastAnswered = Math.max(this.#lastAnswered, seq);
  }

  /**
   * Whether a closing probe could attribute loss: a request after those that are
   * measured, sent when none is in flight. All closing probes have the same sequence.
   * A reflector that counts gives each another number; the first number shows how many
   * of the last requests reached it.
   */
  get wantsProbe(): boolean {
    if (this.#counts !== undefined) return false;
    // Two replies with one number show that the reflector keeps no state.
    return this.#closing.size < (this.#isCounting ? 1 : 2);
  }

  /** Adds a closing probe. */
  onProbeSent(timestamp: bigint): void {
    this.#probes.push(timestamp);
  }

  /**
   * Adds the number of a reply to a closing probe, by the probe's sequence and timestamp.
   * Returns whether all probes before it were answered; undefined if it was not sent.
   */
  onProbe(
    number: number,
    sequence: number,
    timestamp: bigint,
  ): boolean | undefined {
    const which = this.#probes.indexOf(timestamp);
    if (which < 0) return undefined;
    if (!this.#closing.has(which)) this.#closing.set(which, number);
    if (number !== sequence) this.#isCounting = true;
    return this.#closing.size === which + 1;
  }

  /** Sets the counts that the reflector reported for a closing probe. */
  onCounts(sent: number, received: number): void {
    this.#counts = { sent, received };
  }

  /**
   * Loss by direction, from gaps in the numbers. A reflector whose numbers are always
   * the sequences of the requests may keep no state: then loss is attributed by its
   * reported counts only.
   */
  whereLost(
    sent: number,
    counts: Pick<PartCounts, "lost" | "late" | "duplicates">,
  ): Directions | undefined {
    const { duplicates } = counts;
    const lost = counts.lost - counts.late;
    if (lost === 0) return { up: 0, down: 0, unattributed: 0 };
    if (!this.#isCounting) return this.#byCounts(lost, duplicates > 0);
    const count = this.#settled.clone();
    const first = Math.max(0, sent - this.#capacity);
    for (let seq = first; seq < sent; seq++) this.#settle(count, seq);
    const open = count.total();
    return this.#closed(count, open) ?? open;
  }

  /**
   * Loss by direction from the reported counts (RFC 8972, section 4.5). Undefined
   * without them, or if they may include copies.
   */
  #byCounts(lost: number, hasDuplicates: boolean): Directions | undefined {
    if (this.#counts === undefined || hasDuplicates) return undefined;
    const up = this.#counts.sent - this.#counts.received;
    const down = lost - up;
    return up < 0 || down < 0 ? undefined : { up, down, unattributed: 0 };
  }

  /** Loss by direction with a closing probe, if that attributes more. */
  #closed(count: DirectionCount, open: Directions): Directions | undefined {
    const [which] = [...this.#closing.keys()].sort((a, b) => a - b);
    if (which === undefined || this.#lastAnswered < 0) return undefined;
    const number = this.#closing.get(which)!;
    if (number < this.#highest || this.#isFarAbove(number)) return undefined;
    // Probes lost before it are missing too, but are no requests: loss is attributed
    // only if all of it is in one direction.
    const run = this.#runs;
    for (let i = 0; i < which; i++) count.lost(run, this.#sent);
    const isSeen = (number: number) => this.#isSeen(number, run);
    count.answered(this.#sent + which, number, run, isSeen);
    const { up, down, unattributed } = count.total();
    if (which === 0) return { up, down, unattributed };
    if (unattributed >= open.unattributed) return undefined;
    if (down === open.down) return { up: up - which, down, unattributed };
    if (up === open.up) return { up, down: down - which, unattributed };
    return undefined;
  }

  /** Adds a request to a count, as answered or lost. */
  #settle(count: DirectionCount, seq: number): void {
    const at = seq % this.#capacity;
    const number = this.#number[at]!;
    if (!Number.isNaN(number)) {
      const run = this.#run[at]!;
      count.answered(seq, number, run, (n) => this.#isSeen(n, run));
    } else if (this.#lostAt[at]! > 0) {
      const floorRun = this.#floor[at]! < 0 ? -1 : this.#floorRun[at]!;
      count.lost(floorRun, this.#lostAt[at]!);
    }
  }

  /** Whether a number is that of a session that was resumed. */
  #isFarAbove(number: number): boolean {
    return this.#highest >= 0 && number - this.#highest > MAX_GAP;
  }

  #isSeen(number: number, run: number): boolean {
    const place = number % this.#capacity;
    return this.#seen[place] === number + 1 && this.#seenRun[place] === run;
  }
}

/**
 * What a STAMP Session-Sender knows of its reflector's numbers: which request was
 * given which, when the reflector began anew, and where requests were lost. Pure.
 *
 * @module
 */
import {
  type Ambiguity,
  DirectionCount,
  type Directions,
  MAX_GAP,
} from "./directions.ts";

/** Keeps account of the numbers that a reflector gave to requests. */
export class Reflections {
  readonly #capacity: number;
  /** By the sequence modulo the capacity: the number of the first reply, or NaN. */
  readonly #number: Float64Array;
  /** In which of the reflector's runs it was. */
  readonly #run: Uint32Array;
  /** The largest number when the request was sent, and the run then. */
  readonly #floor: Float64Array;
  readonly #floorRun: Uint32Array;
  /** How many requests were sent when it was taken for lost; 0 if it was not. */
  readonly #lostAt: Uint32Array;
  #sent = 0;
  /**
   * By the number modulo the capacity: the number that was seen, plus one, in which
   * run, and to which request.
   */
  readonly #seen: Float64Array;
  readonly #seenRun: Uint32Array;
  readonly #seenBy: Float64Array;
  readonly #ambiguity: Ambiguity = {
    hasCopies: false,
    isReordered: false,
    hasRestarted: false,
  };
  /** Where those were lost that are remembered no more. */
  readonly #settled = new DirectionCount(this.#ambiguity);
  /** How often the reflector began anew, and the largest number since then. */
  #runs = 0;
  #highest = -1;
  /** The latest request that was answered. */
  #lastAnswered = -1;
  /** Some number differs from its request's. */
  #isCounting = false;
  /** When closing probes were sent, and the numbers of replies by that order. */
  readonly #probes: bigint[] = [];
  readonly #closing = new Map<number, number>();
  /** What the reflector says of a session behind which nothing is under way. */
  #counts: { sent: number; received: number } | undefined;

  /**
   * Makes an account.
   *
   * @param capacity How many of the latest requests are remembered.
   */
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

  /** The next request is sent, and the oldest one remembered no more. */
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

  /** A request is taken for lost; a reply may still arrive. */
  onLost(seq: number): void {
    this.#lostAt[seq % this.#capacity] = this.#sent;
  }

  /** A reply with this number came, to that request. */
  onNumber(number: number, seq: number): void {
    if (number !== seq) this.#isCounting = true;
    const at = seq % this.#capacity;
    const place = number % this.#capacity;
    const isNew = Number.isNaN(this.#number[at]!);
    // A reflector that begins anew gives a number again; or one that is below those
    // received before the request was sent; or one far above all others.
    const isAnew =
      this.#isSeen(number, this.#runs) && this.#seenBy[place] !== seq ||
      this.#floorRun[at] === this.#runs && number <= this.#floor[at]! ||
      this.#isFarAbove(number);
    if (isNew && seq > this.#lastAnswered && isAnew) {
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
   * Whether a closing probe could tell where something was lost: a request beyond
   * those that are measured, sent when nothing is under way any more. All of them
   * have the same sequence. A reflector that counts gives each another number; and
   * the first number tells how much of the end reached it.
   */
  get wantsProbe(): boolean {
    if (this.#counts !== undefined) return false;
    // Two replies of one number: the reflector keeps no state.
    if (!this.#isCounting && this.#closing.size > 1) return false;
    return !this.#isCounting || this.#closing.size === 0;
  }

  /** A closing probe is sent. */
  onProbeSent(timestamp: bigint): void {
    this.#probes.push(timestamp);
  }

  /**
   * A reply with this number came, to a closing probe if one has this timestamp.
   *
   * @param sequence The probe's own.
   * @returns Undefined if none has; else whether those before it were answered too.
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

  /** The reflector says how many of so many requests it has received. */
  onCounts(sent: number, received: number): void {
    this.#counts = { sent, received };
  }

  /**
   * Loss on the way there and back, from gaps in the numbers. A reflector whose
   * numbers are always those of the requests may keep no state: then nothing can be
   * said but what it says itself.
   *
   * @param sent How many requests were sent.
   * @param lost How many were lost, of which no reply came later.
   * @param hasDuplicates Whether replies came twice.
   */
  whereLost(
    sent: number,
    lost: number,
    hasDuplicates: boolean,
  ): Directions | undefined {
    if (lost === 0) return { up: 0, down: 0, unattributed: 0 };
    if (!this.#isCounting) return this.#byCounts(lost, hasDuplicates);
    const count = this.#settled.clone();
    const first = Math.max(0, sent - this.#capacity);
    for (let seq = first; seq < sent; seq++) this.#settle(count, seq);
    const open = count.total();
    return this.#closed(count, open) ?? open;
  }

  /**
   * Loss on each way by what the reflector says that it has received (RFC 8972,
   * section 4.5). Undefined if it does not say, or if copies may be among that.
   */
  #byCounts(lost: number, hasDuplicates: boolean): Directions | undefined {
    if (this.#counts === undefined || hasDuplicates) return undefined;
    const up = this.#counts.sent - this.#counts.received;
    const down = lost - up;
    return up < 0 || down < 0 ? undefined : { up, down, unattributed: 0 };
  }

  /** What a closing probe adds, if it adds something that is certain. */
  #closed(count: DirectionCount, open: Directions): Directions | undefined {
    const [which] = [...this.#closing.keys()].sort((a, b) => a - b);
    if (which === undefined || this.#lastAnswered < 0) return undefined;
    const number = this.#closing.get(which)!;
    if (number < this.#highest || this.#isFarAbove(number)) return undefined;
    // Probes that were lost before it are missing too, and no requests: what is
    // missing is told only if all of it is on one way.
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

  /** Says of a request where it is. */
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

  #isFarAbove(number: number): boolean {
    return this.#highest >= 0 && number - this.#highest > MAX_GAP;
  }

  #isSeen(number: number, run: number): boolean {
    const place = number % this.#capacity;
    return this.#seen[place] === number + 1 && this.#seenRun[place] === run;
  }
}

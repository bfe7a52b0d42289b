/**
 * Loss by direction, from the numbers that a reflector gives to requests. Pure.
 *
 * A reflector that counts gives each request that reaches it the next number, copies
 * included. So of the requests missing between two that were answered, as many were
 * lost down as numbers are missing between theirs, and the others up.
 * Unattributed are requests before the first answered one or after the last one,
 * those around a restart of the reflector, those where copies may have taken numbers,
 * and those that may have been reordered beyond the first or the last number.
 *
 * @module
 */

/** Numbers of lost requests by direction. */
export interface Directions {
  up: number;
  down: number;
  unattributed: number;
}

/** Facts that make numbers ambiguous. */
export interface Ambiguity {
  /** Whether a request was reflected twice, with two numbers. */
  hasCopies: boolean;
  /** Whether a request or a reply was overtaken by a later one. */
  isReordered: boolean;
  /** Whether the numbers of the reflector restarted. */
  hasRestarted: boolean;
}

/** The counts of a stretch without a restart of the reflector. */
interface Stretch {
  /** Requests missing between the first answered and the last. */
  missing: number;
  /** Numbers missing between theirs. */
  gaps: number;
  /** Missing requests that were sent before a reply of this run was received. */
  early: number;
  /** Requests missing before the first one answered. */
  before: number;
  /**
   * The latest missing requests: for each the number of requests sent when it was
   * taken for lost, unless a later one of those was answered.
   */
  late: number[];
  /** The number of requests at the start of `late` that are not late any more. */
  settled: number;
  /** The smallest number, below which numbers may have been given to any request. */
  lowest: number;
}

/** Counts lost requests by direction, added in the order in which they were sent. */
export class DirectionCount {
  readonly #ambiguity: Ambiguity;
  /** The counts of the stretches before this one. */
  #closed: Directions = { up: 0, down: 0, unattributed: 0 };
  #stretch: Stretch | undefined;
  #hasClosed = false;
  /** Requests missing since the last one answered, as `late` of a stretch. */
  #missing: number[] = [];
  #early = 0;
  /** The current run of the reflector, and its largest number. */
  #epoch = -1;
  #highest = -1;

  /** Makes an empty count; the facts may change later. */
  constructor(ambiguity: Ambiguity) {
    this.#ambiguity = ambiguity;
  }

  /**
   * Adds a lost request: the run of the last number received before it was sent, -1
   * without one, and the number of requests sent when it was taken for lost.
   */
  lost(epoch: number, sent: number): void {
    this.#missing.push(sent);
    if (epoch !== this.#epoch) this.#early++;
  }

  /**
   * Adds an answered request: its sequence, the number of its reply, and the run of the
   * reflector, of which `isSeen` finds received numbers.
   */
  answered(
    seq: number,
    number: number,
    epoch: number,
    isSeen: (number: number) => boolean,
  ): void {
    const stretch = this.#stretch;
    if (stretch === undefined || epoch !== this.#epoch) {
      this.#closed = this.#withStretch();
      this.#hasClosed = stretch !== undefined;
      this.#stretch = {
        missing: 0,
        gaps: 0,
        early: 0,
        before: this.#missing.length,
        late: this.#missing,
        settled: 0,
        lowest: number,
      };
      this.#epoch = epoch;
      this.#highest = number;
    } else {
      const between = (low: number, high: number) => {
        if (high - low > MAX_GAP) return Infinity;
        let unseen = 0;
        for (let i = low + 1; i < high; i++) if (!isSeen(i)) unseen++;
        return unseen;
      };
      stretch.gaps += between(this.#highest, number) +
        between(number, stretch.lowest);
      stretch.lowest = Math.min(stretch.lowest, number);
      stretch.missing += this.#missing.length;
      for (const sent of this.#missing) stretch.late.push(sent);
      stretch.early += this.#early;
      this.#highest = Math.max(this.#highest, number);
    }
    this.#missing = [];
    this.#early = 0;
    const current = this.#stretch!;
    while (current.late[current.settled]! <= seq) current.settled++;
    if (2 * current.settled > current.late.length) {
      current.late.splice(0, current.settled);
      current.settled = 0;
    }
  }

  /** The counts; requests after the last one answered are unattributed. */
  total(): Directions {
    const sum = this.#withStretch();
    return { ...sum, unattributed: sum.unattributed + this.#missing.length };
  }

  /** A copy that can be added to. */
  clone(): DirectionCount {
    const copy = new DirectionCount(this.#ambiguity);
    copy.#closed = this.#closed;
    copy.#stretch = this.#stretch &&
      { ...this.#stretch, late: [...this.#stretch.late] };
    copy.#missing = [...this.#missing];
    copy.#early = this.#early;
    copy.#hasClosed = this.#hasClosed;
    copy.#epoch = this.#epoch;
    copy.#highest = this.#highest;
    return copy;
  }

  /** The counts, those of the current stretch included. */
  #withStretch(): Directions {
    const closed = this.#closed;
    if (this.#stretch === undefined) return closed;
    const { gaps, early, before, lowest, late, settled } = this.#stretch;
    let { missing } = this.#stretch;
    let { unattributed } = closed;
    const { hasCopies, isReordered, hasRestarted } = this.#ambiguity;
    // A reply numbered 0 shows that nothing was reflected before.
    if (lowest === 0 && !this.#hasClosed) missing += before;
    else unattributed += before;
    // Each request that was reflected has a number: the others were lost up,
    let up = Math.max(0, missing - gaps);
    // except those that may have overtaken the first one answered, or been overtaken by
    // the last one.
    up -= Math.min(up, Math.min(early, lowest) + late.length - settled);
    // Missing numbers may be those of copies.
    let down = hasCopies || gaps > missing ? 0 : gaps;
    // The run of a number is then not clear.
    if (hasRestarted && (isReordered || hasCopies)) up = down = 0;
    unattributed += missing - up - down;
    return { up: closed.up + up, down: closed.down + down, unattributed };
  }
}

/** More numbers than can be missing between those of two replies. */
export const MAX_GAP = 1 << 20;

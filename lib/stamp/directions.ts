/**
 * Where requests and replies were lost, from the numbers that a reflector gives to
 * what it reflects. Pure.
 *
 * A reflector that counts gives each request that reaches it the next number, and
 * a copy of one too. So of the requests missing between two that were answered as
 * many were lost on the way back as there are numbers missing between theirs.
 * What that does not tell is told as unattributed: requests before the first
 * answered or after the last one, those around a restart of the reflector, those
 * where copies may have taken numbers as well, and those that may have been overtaken.
 *
 * @module
 */

/** Requests lost, by where. */
export interface Directions {
  up: number;
  down: number;
  unattributed: number;
}

/** What makes numbers say less. */
export interface Ambiguity {
  /** Some request was reflected twice, under two numbers. */
  hasCopies: boolean;
  /** Some request reached the reflector after a later one. */
  isReordered: boolean;
  /** The reflector has begun anew. */
  hasRestarted: boolean;
}

/** What is known of a stretch without a restart of the reflector. */
interface Stretch {
  /** Requests missing between the first answered and the last. */
  missing: number;
  /** Numbers missing between theirs. */
  gaps: number;
  /** Of the missing requests those sent before a reply of this run was received. */
  early: number;
  /** Requests missing before the first one answered. */
  before: number;
  /** Of the missing requests the latest, by the requests sent when each was lost. */
  late: number[];
  /** The smallest number, below which nobody knows what was reflected. */
  lowest: number;
}

/** Takes requests in the order in which they were sent, and says where they are. */
export class DirectionCount {
  readonly #ambiguity: Ambiguity;
  #up = 0;
  #down = 0;
  #unattributed = 0;
  #stretch: Stretch | undefined;
  /** Whether a stretch before this one is accounted for. */
  #hasClosed = false;
  /** Requests missing since the last one answered, by those sent when each was lost. */
  #missing: number[] = [];
  #early = 0;
  /** The run of the reflector, and its largest number so far. */
  #epoch = -1;
  #highest = -1;

  /**
   * Makes an empty count.
   *
   * @param ambiguity What may change later, and then counts for all.
   */
  constructor(ambiguity: Ambiguity) {
    this.#ambiguity = ambiguity;
  }

  /**
   * A request was not answered.
   *
   * @param epoch The run of the latest number received before it was sent; -1 if none
   * was.
   * @param sent How many requests were sent when it was taken for lost.
   */
  lost(epoch: number, sent: number): void {
    this.#missing.push(sent);
    if (epoch !== this.#epoch) this.#early++;
  }

  /**
   * A request was answered, by a reflector in its nth run.
   *
   * @param seq Its sequence.
   * @param number What the reply is numbered.
   * @param epoch The run.
   * @param isSeen Whether some reply has a number.
   */
  answered(
    seq: number,
    number: number,
    epoch: number,
    isSeen: (number: number) => boolean,
  ): void {
    const stretch = this.#stretch;
    if (stretch === undefined || epoch !== this.#epoch) {
      if (stretch !== undefined) this.#close(stretch);
      this.#stretch = {
        missing: 0,
        gaps: 0,
        early: 0,
        before: this.#missing.length,
        late: this.#missing,
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
    const { late } = this.#stretch!;
    const settled = late.findIndex((sent) => sent > seq);
    late.splice(0, settled < 0 ? late.length : settled);
  }

  /** All so far; those after the last one answered are unattributed. */
  total(): Directions {
    const sum = this.clone();
    if (sum.#stretch !== undefined) sum.#close(sum.#stretch);
    const unattributed = sum.#unattributed + sum.#missing.length;
    return { up: sum.#up, down: sum.#down, unattributed };
  }

  /** The same, to go on with. */
  clone(): DirectionCount {
    const copy = new DirectionCount(this.#ambiguity);
    copy.#up = this.#up;
    copy.#down = this.#down;
    copy.#unattributed = this.#unattributed;
    copy.#stretch = this.#stretch &&
      { ...this.#stretch, late: [...this.#stretch.late] };
    copy.#missing = [...this.#missing];
    copy.#early = this.#early;
    copy.#hasClosed = this.#hasClosed;
    copy.#epoch = this.#epoch;
    copy.#highest = this.#highest;
    return copy;
  }

  #close({ missing, gaps, early, before, lowest, late }: Stretch): void {
    const { hasCopies, isReordered, hasRestarted } = this.#ambiguity;
    // Who begins with 0, and whose 0 was seen, has reflected nothing before.
    if (lowest === 0 && !this.#hasClosed) missing += before;
    else this.#unattributed += before;
    this.#hasClosed = true;
    // A request that was reflected has a number at least: the others are lost up.
    let up = Math.max(0, missing - gaps);
    // Except for requests that overtook the first one answered, or were overtaken by
    // the last one.
    up -= Math.min(up, Math.min(early, lowest) + late.length);
    // Numbers of copies, of no request that is missing.
    let down = hasCopies || gaps > missing ? 0 : gaps;
    // Which run of the reflector a number is of has to be clear.
    if (hasRestarted && (isReordered || hasCopies)) up = down = 0;
    this.#up += up;
    this.#down += down;
    this.#unattributed += missing - up - down;
  }
}

/** More numbers than can be missing between those of two replies. */
export const MAX_GAP = 1 << 20;

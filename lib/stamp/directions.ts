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
  /** Of the missing requests those between neighbouring numbers. */
  certainUp: number;
  /** Requests missing before the first one answered. */
  before: number;
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
  /** Missing since the last one answered. */
  #missing = 0;
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

  /** A request was not answered. */
  lost(): void {
    this.#missing++;
  }

  /**
   * A request was answered, by a reflector in its nth run.
   *
   * @param number What the reply is numbered.
   * @param epoch The run.
   * @param isSeen Whether some reply has a number.
   */
  answered(
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
        certainUp: 0,
        before: this.#missing,
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
      const gaps = between(this.#highest, number);
      stretch.gaps += between(number, stretch.lowest);
      stretch.lowest = Math.min(stretch.lowest, number);
      stretch.missing += this.#missing;
      stretch.gaps += gaps;
      if (gaps === 0) stretch.certainUp += this.#missing;
      this.#highest = Math.max(this.#highest, number);
    }
    this.#missing = 0;
  }

  /**
   * All so far; what comes after the last one answered is unattributed.
   *
   * @param isClosed Whether the last one was sent when nothing else was under way.
   */
  total(isClosed = false): Directions {
    const sum = new DirectionCount(this.#ambiguity);
    sum.#up = this.#up;
    sum.#down = this.#down;
    sum.#unattributed = this.#unattributed + this.#missing;
    sum.#hasClosed = this.#hasClosed;
    if (this.#stretch !== undefined) {
      sum.#close(this.#stretch, isClosed);
    }
    return { up: sum.#up, down: sum.#down, unattributed: sum.#unattributed };
  }

  /** The same, to go on with. */
  clone(): DirectionCount {
    const copy = new DirectionCount(this.#ambiguity);
    copy.#up = this.#up;
    copy.#down = this.#down;
    copy.#unattributed = this.#unattributed;
    copy.#stretch = this.#stretch && { ...this.#stretch };
    copy.#missing = this.#missing;
    copy.#hasClosed = this.#hasClosed;
    copy.#epoch = this.#epoch;
    copy.#highest = this.#highest;
    return copy;
  }

  #close(
    { missing, gaps, certainUp, before, lowest }: Stretch,
    isClosed = false,
  ): void {
    const { hasCopies, isReordered, hasRestarted } = this.#ambiguity;
    // Which run of the reflector a number is of has to be clear.
    const isClear = !hasCopies && !(hasRestarted && isReordered);
    // Who begins with 0, and whose 0 was seen, has reflected nothing before, unless
    // the first requests were overtaken.
    const isFirst = lowest === 0 && !this.#hasClosed && !isReordered;
    if (isFirst) this.#up += before;
    else this.#unattributed += before;
    this.#hasClosed = true;
    if (isClear && gaps <= missing) {
      // Numbers below the smallest and above the largest may be of requests that
      // were overtaken.
      const beyond = isClosed ? lowest : Infinity;
      const unknown = isReordered ? Math.min(beyond, missing - gaps) : 0;
      this.#down += gaps;
      this.#up += missing - gaps - unknown;
      this.#unattributed += unknown;
    } else {
      // Numbers are missing that no missing request had: those of copies.
      const up = isReordered ? 0 : certainUp;
      this.#up += up;
      this.#unattributed += missing - up;
    }
  }
}

/** More numbers than can be missing between those of two replies. */
export const MAX_GAP = 1 << 20;

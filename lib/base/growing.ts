/**
 * Numbers in memory that grows where it is: an array that grows is copied, which
 * takes the longer the more there are. Pure.
 *
 * @module
 */

/** A list of numbers, up to so many. */
export class Growing {
  readonly #numbers: Float64Array<ArrayBuffer>;
  readonly #most: number;
  #count = 0;

  /** Makes an empty list that has room for `most` numbers in the end. */
  constructor(most: number) {
    this.#most = most;
    this.#numbers = new Float64Array(
      new ArrayBuffer(0, { maxByteLength: 8 * most }),
    );
  }

  /** Adds a number; there must be room for it. */
  push(value: number): void {
    if (this.#count === this.#numbers.length) {
      const room = Math.min(this.#count + PIECE, this.#most);
      this.#numbers.buffer.resize(8 * room);
    }
    this.#numbers[this.#count++] = value;
  }

  /** The number at a place. */
  at(place: number): number {
    return this.#numbers[place]!;
  }

  /** A copy of all. */
  slice(): Float64Array<ArrayBuffer> {
    return this.#numbers.slice(0, this.#count);
  }
}

const PIECE = 512;

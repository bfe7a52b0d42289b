/**
 * A map of bounded size whose least recently used entries give way. Pure.
 *
 * @module
 */

/**
 * Two generations: what is used moves to the young one, and when that is full
 * the old one goes as a whole. Every operation costs the same, however many
 * entries there are, and between half of `maxSize` and `maxSize` of the latest
 * are kept.
 */
export class RecentMap<K, V> {
  readonly #generationSize: number;
  #young = new Map<K, V>();
  #old = new Map<K, V>();

  constructor(maxSize: number) {
    this.#generationSize = Math.ceil(maxSize / 2);
  }

  /** How many entries there are. */
  get size(): number {
    return this.#young.size + this.#old.size;
  }

  /** Whether it is so full that entries that are not used are soon forgotten. */
  get isCrowded(): boolean {
    return this.#old.size > 0;
  }

  /** The value of a key, which then counts as used. */
  get(key: K): V | undefined {
    const value = this.#young.get(key);
    if (value !== undefined) return value;
    const kept = this.#old.get(key);
    if (kept === undefined) return undefined;
    this.#old.delete(key);
    this.set(key, kept);
    return kept;
  }

  /** Adds an entry, or replaces it. */
  set(key: K, value: V): void {
    if (this.#young.size >= this.#generationSize) {
      this.#old = this.#young;
      this.#young = new Map();
    }
    this.#young.set(key, value);
  }
}

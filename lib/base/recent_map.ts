/**
 * A map of bounded size, whose least recently used entries are evicted. Pure.
 *
 * @module
 */

/**
 * Two generations: an entry that is used moves to the young one, and a full
 * young generation replaces the old one as a whole. Every operation costs the
 * same, however many entries there are, and between half of `maxSize` and
 * `maxSize` of the latest are kept.
 */
export class RecentMap<K, V> {
  readonly #generationSize: number;
  #young = new Map<K, V>();
  #old = new Map<K, V>();

  constructor(maxSize: number) {
    this.#generationSize = Math.ceil(maxSize / 2);
  }

  /** The number of entries. */
  get size(): number {
    return this.#young.size + this.#old.size;
  }

  /** The value of a key, which then counts as used. */
  get(key: K): V | undefined {
    const value = this.#young.get(key);
    if (value !== undefined) return value;
    const old = this.#old.get(key);
    if (old === undefined) return undefined;
    this.#old.delete(key);
    this.set(key, old);
    return old;
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

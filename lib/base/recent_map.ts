/**
 * Maps of bounded size, whose least recently used entries are forgotten. Pure.
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

  /** Whether entries that are not used are forgotten soon. */
  get isCrowded(): boolean {
    return this.#old.size > 0;
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

  /** Removes an entry; returns its value. */
  take(key: K): V | undefined {
    const value = this.#young.get(key) ?? this.#old.get(key);
    if (value === undefined) return undefined;
    this.#young.delete(key);
    this.#old.delete(key);
    return value;
  }
}

/**
 * A segmented LRU map: new entries are on probation and replace each other;
 * one that is used again moves to the protected half, out of their reach. Keys
 * that a flood of forged senders brings, each once, never evict a known peer.
 */
export class SegmentedMap<K, V> {
  readonly #probation: RecentMap<K, V>;
  readonly #protected: RecentMap<K, V>;

  constructor(maxSize: number) {
    this.#probation = new RecentMap(maxSize / 2);
    this.#protected = new RecentMap(maxSize / 2);
  }

  /** The number of entries. */
  get size(): number {
    return this.#probation.size + this.#protected.size;
  }

  /** Whether a new entry is forgotten soon unless it is used again. */
  get isCrowded(): boolean {
    return this.#probation.isCrowded;
  }

  /** The value of a key, which is protected from then on. */
  get(key: K): V | undefined {
    const known = this.#protected.get(key);
    if (known !== undefined) return known;
    const value = this.#probation.take(key);
    if (value !== undefined) this.#protected.set(key, value);
    return value;
  }

  /** Adds an entry whose key {@linkcode SegmentedMap.get} did not find. */
  add(key: K, value: V): void {
    this.#probation.set(key, value);
  }
}

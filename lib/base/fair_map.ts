/**
 * A map of bounded size that groups of entries share fairly. Pure.
 *
 * @module
 */

/**
 * A segmented LRU map with longest queue drop. A proven entry moves from the
 * probation segment to the protected one; only the least recently used entry of
 * the largest group in the probation segment is evicted. So a group can evict no
 * entries of smaller groups, and new entries none that were proven. Every operation
 * takes the same time, however many entries there are.
 */
export class FairMap<V> {
  readonly #entries = new Map<string, Entry<V>>();
  readonly #probation = new Segment<V>();
  readonly #protected = new Segment<V>();

  constructor(readonly maxSize: number) {}

  /** The number of entries. */
  get size(): number {
    return this.#entries.size;
  }

  /** Whether the next new entry evicts another one. */
  get isFull(): boolean {
    return this.size >= this.maxSize;
  }

  /** The value of a key; only {@linkcode FairMap.set} counts as use. */
  get(key: string): V | undefined {
    return this.#entries.get(key)?.value;
  }

  /**
   * Adds an entry, or replaces its value; an entry stays in its first group. A known one
   * is protected only if it `isProven`: in use for a while, and no newcomer. Returns the
   * value that was evicted, if any.
   */
  set(key: string, group: string, value: V, isProven = true): V | undefined {
    const known = this.#entries.get(key);
    if (known === undefined) {
      const entry = new Entry(key, group, value);
      this.#entries.set(key, entry);
      this.#probation.add(entry);
      if (this.size <= this.maxSize) return undefined;
      const evicted = this.#probation.take();
      this.#entries.delete(evicted.key);
      return evicted.value;
    }
    known.value = value;
    if (!isProven) return undefined;
    if (known.segment === this.#protected) this.#protected.touch(known);
    else {
      known.segment!.delete(known);
      this.#protected.add(known);
      if (this.#protected.size > PROTECTED_SHARE * this.maxSize) {
        this.#probation.add(this.#protected.take());
      }
    }
    return undefined;
  }
}

/** A member of a doubly linked ring; alone it is a ring of its own. */
export class Link {
  previous: Link = this;
  next: Link = this;

  /** Moves to the end of another ring, by its head. */
  join(head: Link): void {
    this.leave();
    this.previous = head.previous;
    this.next = head;
    head.previous.next = this;
    head.previous = this;
  }

  leave(): void {
    this.previous.next = this.next;
    this.next.previous = this.previous;
    this.previous = this.next = this;
  }
}

class Entry<V> extends Link {
  segment: Segment<V> | undefined;
  /** The ring of its group in the segment. */
  ring: Link = this;

  constructor(
    readonly key: string,
    readonly group: string,
    public value: V,
  ) {
    super();
  }
}

/** The entries of a group in a segment, the least recently used first. */
class Group extends Link {
  readonly entries = new Link();
  size = 0;
}

class Segment<V> {
  size = 0;
  readonly #groups = new Map<string, Group>();
  /** Groups by their size, the least recently used first; none of size 0. */
  readonly #bySize = [new Link()];

  add(entry: Entry<V>): void {
    let group = this.#groups.get(entry.group);
    if (group === undefined) {
      this.#groups.set(entry.group, group = new Group());
    }
    entry.segment = this;
    entry.ring = group.entries;
    entry.join(entry.ring);
    this.size++;
    this.#resize(group, 1);
  }

  /** Makes an entry the most recently used of its group. */
  touch(entry: Entry<V>): void {
    entry.join(entry.ring);
  }

  delete(entry: Entry<V>): void {
    const group = this.#groups.get(entry.group)!;
    entry.leave();
    this.size--;
    this.#resize(group, -1);
    if (group.size === 0) this.#groups.delete(entry.group);
  }

  /** Removes the least recently used entry of the largest group. */
  take(): Entry<V> {
    const largest = this.#bySize.at(-1)!.next as Group;
    const entry = largest.entries.next as Entry<V>;
    this.delete(entry);
    return entry;
  }

  #resize(group: Group, by: 1 | -1): void {
    group.size += by;
    group.leave();
    if (group.size > 0) group.join(this.#bySize[group.size] ??= new Link());
    while (this.#bySize.length > 1 && isAlone(this.#bySize.at(-1)!)) {
      this.#bySize.pop();
    }
  }
}

function isAlone(link: Link): boolean {
  return link.next === link;
}

/**
 * The age from which the entry of a peer counts as proven: in a flood of forged
 * sources new entries evict each other sooner.
 */
export const PROOF_MS = 1000;
/** The rest is always left to new entries. */
const PROTECTED_SHARE = 3 / 4;

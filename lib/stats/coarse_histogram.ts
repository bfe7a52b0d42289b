/**
 * A histogram that is small as text: for a history of many. Pure.
 *
 * @module
 */

/** Counts values in milliseconds in 32 steps an octave: each is right to 1.1 %. */
export class CoarseHistogram {
  readonly #counts = new Map<number, number>();

  /** Adds a value of 0 or more. */
  add(value: number): void {
    this.#count(Math.round(STEPS * Math.log2(value * NS_PER_MS + 1)), 1);
  }

  /** Adds the values of a text. */
  merge(text: string): void {
    for (const [step, count] of pairsOf(text)) this.#count(step, count);
  }

  /** Its text: pairs of a step and a count. */
  get text(): string {
    return [...this.#counts].map((pair) => pair.join(":")).join(" ");
  }

  /** Gives its text, and begins anew. */
  take(): string {
    const { text } = this;
    this.#counts.clear();
    return text;
  }

  #count(step: number, count: number): void {
    this.#counts.set(step, (this.#counts.get(step) ?? 0) + count);
  }
}

/** The values of a text, and the number of each. Several texts may be joined by spaces. */
export function coarseValues(
  text: string,
): Array<[value: number, count: number]> {
  return pairsOf(text).map(([step, count]) => {
    const value = (2 ** (step / STEPS) - 1) / NS_PER_MS;
    return [value, count];
  });
}

function pairsOf(text: string): Array<[step: number, count: number]> {
  return text.split(" ").flatMap((pair) => {
    const [step, count] = pair.split(":").map(Number);
    return count === undefined ? [] : [[step!, count]];
  });
}

const STEPS = 32;
const NS_PER_MS = 1e6;

/**
 * The structure of loss: periods of consecutive losses (RFC 3357), and the outages
 * among them. Pure.
 *
 * @module
 */

/**
 * A loss period of 10 datagrams or more, or of two or more that lasted a second.
 * Times are in milliseconds since the first send.
 */
export interface Outage {
  /** When the first of its datagrams was sent, or refused. */
  fromMs: number;
  /** When the next answered datagram was sent; undefined if none was until the end. */
  toMs: number | undefined;
  /** Its datagrams. */
  datagrams: number;
  /** Those of them that this machine's system refused to send. */
  unsent: number;
}

/** The structure of a run's loss. */
export interface LossStructure {
  /** Loss periods: runs of consecutive datagrams without a reply (RFC 3357). */
  lossPeriods: number;
  /** Datagrams of the longest loss period. */
  longestLossPeriod: number;
  /** The number of outages. */
  outageCount: number;
  /** Their duration together, in milliseconds. */
  outageMs: number;
  /** The first 100 outages. */
  outages: readonly Outage[];
}

/** Finds loss periods among the outcomes of datagrams, added in sending order. */
export class LossPeriods {
  #periods = 0;
  #longest = 0;
  #count = 0;
  readonly #outages: Outage[] = [];
  #current: Outage | undefined;
  #lastMs = 0;
  #outageMs = 0;
  #latest: Outage | undefined;

  /** Calls back with each outage once it has ended. */
  constructor(readonly onOutage: (outage: Outage) => void = () => {}) {}

  /** Adds the next datagram that is settled. */
  add(sentMs: number, outcome: "received" | "lost" | "unsent"): void {
    if (outcome === "received") {
      if (this.#current !== undefined) this.#close(sentMs);
      return;
    }
    if (this.#current === undefined) {
      this.#periods++;
      this.#current = {
        fromMs: sentMs,
        toMs: undefined,
        datagrams: 0,
        unsent: 0,
      };
    }
    this.#current.datagrams++;
    if (outcome === "unsent") this.#current.unsent++;
    this.#longest = Math.max(this.#longest, this.#current.datagrams);
    this.#lastMs = sentMs;
  }

  /** The structure of all that was added. */
  structure(): LossStructure {
    const open = this.#open;
    const shown = open ? [...this.#outages, { ...open }] : this.#outages;
    return {
      lossPeriods: this.#periods,
      longestLossPeriod: this.#longest,
      outageCount: this.#count + (open ? 1 : 0),
      outageMs: this.#outageMs + (open ? this.#lastMs - open.fromMs : 0),
      outages: shown.slice(0, MAX_OUTAGES),
    };
  }

  /** The latest outage, which may last. */
  get latest(): Outage | undefined {
    return this.#open ?? this.#latest;
  }

  /** The outage that lasts. */
  get #open(): Outage | undefined {
    const open = this.#current;
    return open && isOutage(open, this.#lastMs) ? open : undefined;
  }

  #close(toMs: number): void {
    const ended = { ...this.#current!, toMs };
    this.#current = undefined;
    if (!isOutage(ended, toMs)) return;
    this.#count++;
    this.#outageMs += toMs - ended.fromMs;
    this.#latest = ended;
    this.onOutage(ended);
    if (this.#outages.length < MAX_OUTAGES) this.#outages.push(ended);
  }
}

function isOutage({ fromMs, datagrams }: Outage, toMs: number): boolean {
  return datagrams >= MIN_DATAGRAMS || datagrams > 1 && toMs - fromMs >= MIN_MS;
}

/** At random loss of a third, one such period in 60,000 datagrams. */
const MIN_DATAGRAMS = 10;
const MIN_MS = 1000;
const MAX_OUTAGES = 100;

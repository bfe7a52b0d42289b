/**
 * The time of a simulated network: its timers, the clock of programs, and the work
 * outside of the network that time waits for.
 *
 * @module
 */
import { AsyncLocalStorage } from "node:async_hooks";
import { setImmediate } from "node:timers";

/**
 * A clock for programs, in place of `performance.now()` and the global functions of
 * the same names. None needs `this`. The shortest time of an interval is 1 ms;
 * `ref()` and `unref()` of a timer do nothing.
 */
export interface Clock extends
  Pick<
    typeof globalThis,
    "setTimeout" | "clearTimeout" | "setInterval" | "clearInterval"
  > {
  /** The time of the network, in milliseconds. */
  now(): number;
}

/**
 * The purpose of a timer: of a program, of a program that does not wait for it, or
 * the arrival of a datagram.
 */
export type TimerKind = "awaited" | "background" | "flight";

/** A callback that is due. */
interface Timer {
  at: number;
  callback: () => void;
  kind: TimerKind;
  /** The datagram whose handler has set it. */
  owner: object | undefined;
}

/** The timers of a network, and the handlers and the work that time waits for. */
export class Timers {
  /** The time, in milliseconds. */
  now = 0;
  /** The number of datagrams that were handled and not handed back. */
  held = 0;
  /** The clock of programs. */
  readonly clock: Clock = this.#clock();
  #queue: Timer[] = [];
  /** The datagram whose handler runs, across its `await`. */
  readonly #owner = new AsyncLocalStorage<object | undefined>();
  /** Datagrams whose handlers have not settled. */
  readonly #handled = new Set<object>();
  #outside = 0;

  /** The number of timers that are no arrivals. */
  get size(): number {
    return this.#queue.filter(({ kind }) => kind !== "flight").length;
  }

  /** Calls back once; returns a function that cancels. */
  after(ms: number, callback: () => void, kind: TimerKind): () => void {
    const owner = this.#owner.getStore();
    const timer = { at: this.now + ms, callback, kind, owner };
    // Stable: of two timers due at once, the first made goes first.
    const next = this.#queue.findIndex(({ at }) => at > timer.at);
    this.#queue.splice(next === -1 ? this.#queue.length : next, 0, timer);
    return () => {
      this.#queue = this.#queue.filter((other) => other !== timer);
    };
  }

  /** Calls back before all timers that are set, one call after the other. */
  next(callbacks: Array<() => void>): void {
    if (callbacks.length === 0) return;
    const common = { at: this.now, kind: "flight", owner: undefined } as const;
    this.#queue.unshift(
      ...callbacks.map((callback) => ({ ...common, callback })),
    );
  }

  /** Advances to the next timer, and calls it back; false if there is none. */
  advance(): boolean {
    const timer = this.#queue.shift();
    if (timer === undefined) return false;
    this.now = timer.at;
    // As with real timers, those that the callback sets have the same owner.
    if (timer.owner === undefined) timer.callback();
    else this.#owner.run(timer.owner, timer.callback);
    return true;
  }

  /** Calls the handler of a datagram, which is at work until `settle()`. */
  handle(datagram: object, handler: () => void): void {
    this.held++;
    this.#handled.add(datagram);
    this.#owner.run(datagram, handler);
  }

  /** Notes that a datagram was handed back: its handler has settled. */
  settle(datagram: object): void {
    this.held--;
    this.#handled.delete(datagram);
  }

  /** Has time wait until a promise has settled. */
  async outside<T>(work: PromiseLike<T>): Promise<T> {
    this.#outside++;
    try {
      return await work;
    } finally {
      this.#outside--;
    }
  }

  /**
   * Waits until all that can happen at this instant has happened.
   *
   * @param patienceMs The longest wait for handlers, in milliseconds of real time.
   * @param isOver Whether to wait no longer.
   * @returns Whether all handlers have settled that wait for no timer.
   */
  async quiet(patienceMs: number, isOver: () => boolean): Promise<boolean> {
    await new Promise<void>((resolve) => setImmediate(() => resolve()));
    let until: number | undefined;
    while (!isOver()) {
      const handled = this.#waitedFor();
      if (this.#outside === 0 && handled.length === 0) break;
      until ??= performance.now() + patienceMs;
      if (this.#outside === 0 && performance.now() >= until) {
        // No later call waits for them.
        for (const datagram of handled) this.#handled.delete(datagram);
        return false;
      }
      await new Promise<void>((resolve) => setTimeout(resolve, 1));
    }
    return true;
  }

  /** Datagrams whose handlers have not settled, and have set no timer to wait for. */
  #waitedFor(): object[] {
    if (this.#handled.size === 0) return [];
    const awaited = this.#queue.filter(({ kind }) => kind === "awaited");
    const owners = new Set(awaited.map(({ owner }) => owner));
    return [...this.#handled].filter((datagram) => !owners.has(datagram));
  }

  #clock(): Clock {
    const cancels = new Map<unknown, () => void>();
    const setter = (isRepeated: boolean) =>
    (
      callback: (...args: unknown[]) => void,
      ms = 0,
      ...args: unknown[]
    ) => {
      const id = { ref: () => id, unref: () => id, hasRef: () => true };
      const start = () => {
        const waitMs = Math.max(ms, isRepeated ? 1 : 0);
        cancels.set(id, this.after(waitMs, fire, "awaited"));
      };
      const fire = () => {
        cancels.delete(id);
        if (isRepeated) start();
        callback(...args);
      };
      start();
      return id;
    };
    const clear = (id: unknown) => {
      cancels.get(id)?.();
      cancels.delete(id);
    };
    return {
      now: () => this.now,
      setTimeout: setter(false) as unknown as Clock["setTimeout"],
      clearTimeout: clear,
      setInterval: setter(true) as unknown as Clock["setInterval"],
      clearInterval: clear,
    };
  }
}

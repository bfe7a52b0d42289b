/**
 * A run that consists of several runs, one after the other or at once.
 *
 * @module
 */
import type { UdpAddress } from "../address.ts";
import type { RunHandle } from "../client/run.ts";
import type { RunCounts } from "../stats/counts.ts";

/** The counts that parts add up. */
export type Counts = Pick<
  RunCounts,
  "sent" | "received" | "lost" | "foreign" | "reasons"
>;

/** Iterates runs, stops them together, and adds up their counts. */
export class Parts {
  /** The address of the server, once a part has resolved its name. */
  target: UdpAddress | undefined;
  isStopped = false;
  readonly #all: Array<RunHandle<unknown, Counts>> = [];
  #wake = () => {};

  /** Iterates a part to its end. */
  async complete<E>(
    run: RunHandle<E, Counts>,
    take: (event: E) => void = () => {},
  ): Promise<void> {
    this.#all.push(run);
    if (this.isStopped) run.stop();
    for await (const event of run) take(event);
    this.target ??= run.target;
  }

  /** Waits, at most until the parts are stopped. */
  async pause(ms: number): Promise<void> {
    const { promise, resolve } = Promise.withResolvers<void>();
    const timer = setTimeout(resolve, ms);
    this.#wake = resolve;
    await promise;
    clearTimeout(timer);
  }

  /** Ends all parts, each later one before it sends. */
  stop(): void {
    this.isStopped = true;
    for (const run of this.#all) run.stop();
    this.#wake();
  }

  counts(): Counts {
    const all = this.#all.map((run) => run.summary());
    const sum = (key: Exclude<keyof Counts, "reasons">) =>
      all.reduce((total, counts) => total + counts[key], 0);
    return {
      sent: sum("sent"),
      received: sum("received"),
      lost: sum("lost"),
      foreign: sum("foreign"),
      reasons: all.flatMap(({ reasons }) => reasons),
    };
  }

  /** The whole as a run, with the events of a generator. */
  handle<E>(events: () => AsyncGenerator<E>) {
    // deno-lint-ignore no-this-alias
    const parts = this;
    return {
      get target() {
        return parts.target;
      },
      get sent() {
        return parts.counts().sent;
      },
      stop: () => parts.stop(),
      async *[Symbol.asyncIterator](): AsyncGenerator<E> {
        try {
          for await (const event of events()) {
            if (parts.isStopped) return;
            yield event;
          }
        } finally {
          for (const run of parts.#all) run.stop();
        }
      },
    };
  }
}

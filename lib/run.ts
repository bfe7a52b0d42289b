/**
 * What a series of requests and a measurement have in common: they run while
 * they are iterated.
 *
 * @module
 */
import type { UdpAddress } from "./address.ts";
import type { RequestPlan } from "./request.ts";

/** How many, how often, until when. */
export interface Schedule {
  count: number;
  intervalMs: number;
  deadlineMs: number | undefined;
  signal: AbortSignal | undefined;
}

/** A run under way. */
export interface Run<Event> {
  readonly plan: RequestPlan;
  /** Runs, and tells what happens; cleans up when it is left. */
  events(): AsyncGenerator<Event>;
  /** Ends the run soon. */
  end(): void;
}

/** Plans, when the iteration begins, and then runs. */
export class LazyRun<Event, R extends Run<Event>>
  implements AsyncIterable<Event> {
  readonly #plan: () => Promise<RequestPlan>;
  readonly #start: (plan: RequestPlan) => R;
  readonly #signal: AbortSignal | undefined;
  #run: R | undefined;
  #stopped = false;

  constructor(
    plan: () => Promise<RequestPlan>,
    start: (plan: RequestPlan) => R,
    signal: AbortSignal | undefined,
  ) {
    this.#plan = plan;
    this.#start = start;
    this.#signal = signal;
  }

  /** The run, once it is planned. */
  get run(): R | undefined {
    return this.#run;
  }

  get target(): UdpAddress | undefined {
    return this.#run?.plan.target;
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<Event> {
    this.#signal?.throwIfAborted();
    const plan = await this.#plan();
    this.#signal?.throwIfAborted();
    if (this.#stopped) return;
    this.#run = this.#start(plan);
    yield* this.#run.events();
  }

  stop(): void {
    this.#stopped = true;
    this.#run?.end();
  }
}

/**
 * A queue of events from callbacks to an iteration.
 *
 * @module
 */

/** Iterates pushed events in order until the end or a failure. */
export class EventQueue<T> {
  #events: T[] = [];
  #wake = () => {};
  #failure: { error: unknown } | undefined;
  readonly #end = Promise.withResolvers<void>();
  /** Whether further events are refused. */
  ended = false;
  /** Resolves when further events are refused. */
  readonly whenEnded = this.#end.promise;

  /** Adds an event, unless the queue has ended. */
  push(event: T): void {
    if (this.ended) return;
    this.#events.push(event);
    this.#wake();
  }

  /** Ends the iteration after the queued events, with an error if given. */
  end(failure?: { error: unknown }): void {
    this.#failure ??= failure;
    this.ended = true;
    this.#end.resolve();
    this.#wake();
  }

  /** All events; can be iterated once. */
  async *[Symbol.asyncIterator](): AsyncGenerator<T> {
    while (true) {
      const events = this.#events;
      this.#events = [];
      yield* events;
      if (this.#events.length > 0) continue;
      if (this.#failure !== undefined) throw this.#failure.error;
      if (this.ended) return;
      await new Promise<void>((resolve) => this.#wake = resolve);
    }
  }
}

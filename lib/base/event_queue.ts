/**
 * A queue of events from callbacks to an iteration, in bounded memory.
 *
 * @module
 */

/** Iterates pushed events in order until the end or a failure. */
export class EventQueue<T> {
  #events: T[] = [];
  /** Of the events that are not iterated, payloads included. */
  #bytes = 0;
  #wake = () => {};
  #failure: { error: unknown } | undefined;
  readonly #end = Promise.withResolvers<void>();
  /** Whether further events are refused. */
  ended = false;
  /** Events left out, as `MAX_BYTES` of earlier ones had not been iterated. */
  dropped = 0;
  /** Resolves when further events are refused. */
  readonly whenEnded = this.#end.promise;

  /** Adds an event with its payload, unless the queue has ended or is full. */
  push(event: T, payloadBytes = 0): void {
    if (this.ended) return;
    if (this.#bytes + EVENT_BYTES + payloadBytes > MAX_BYTES) {
      this.dropped++;
      return;
    }
    this.#bytes += EVENT_BYTES + payloadBytes;
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
      const [events, bytes] = [this.#events, this.#bytes];
      this.#events = [];
      yield* events;
      this.#bytes -= bytes;
      if (this.#events.length > 0) continue;
      if (this.#failure !== undefined) throw this.#failure.error;
      if (this.ended) return;
      await new Promise<void>((resolve) => this.#wake = resolve);
    }
  }
}

const MAX_BYTES = 1 << 24;
/** An event as measured, without its payload. */
const EVENT_BYTES = 512;

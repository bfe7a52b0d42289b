/**
 * A queue of events from callbacks to their readers, in bounded memory.
 *
 * @module
 */

/** Gives pushed events, each once and in order, until the end or a failure. */
export class EventQueue<T> {
  /** Unread events, the latest last; and earlier ones, the first last. */
  #arrived: Array<{ event: T; bytes: number }> = [];
  #next: Array<{ event: T; bytes: number }> = [];
  /** Of all unread events, payloads included. */
  #bytes = 0;
  readonly #readers = new Set<PromiseWithResolvers<T | undefined>>();
  #failure: { error: unknown } | undefined;
  readonly #end = Promise.withResolvers<void>();
  /** Whether further events are refused. */
  ended = false;
  /** Events left out, as `MAX_BYTES` of earlier ones were unread. */
  dropped = 0;
  /** Resolves when further events are refused. */
  readonly whenEnded = this.#end.promise;

  /** Adds an event with its payload, unless the queue has ended or is full. */
  push(event: T, payloadBytes = 0): void {
    if (this.ended) return;
    const [reader] = this.#readers;
    if (reader !== undefined) {
      this.#readers.delete(reader);
      return reader.resolve(event);
    }
    const bytes = EVENT_BYTES + payloadBytes;
    if (this.#bytes + bytes > MAX_BYTES) {
      this.dropped++;
      return;
    }
    this.#bytes += bytes;
    this.#arrived.push({ event, bytes });
  }

  /** Ends the reading after the queued events, with an error if given. */
  end(failure?: { error: unknown }): void {
    this.#failure ??= failure;
    this.ended = true;
    this.#end.resolve();
    for (const reader of this.#readers) {
      if (failure === undefined) reader.resolve(undefined);
      else reader.reject(failure.error);
    }
    this.#readers.clear();
  }

  /**
   * Takes the first event, or waits for the next one; undefined after the end. Rejects
   * with the reason of the signal, and takes no event then.
   */
  async take(signal?: AbortSignal): Promise<T | undefined> {
    signal?.throwIfAborted();
    if (this.#next.length === 0) {
      this.#next = this.#arrived.reverse();
      this.#arrived = [];
    }
    const first = this.#next.pop();
    if (first !== undefined) {
      this.#bytes -= first.bytes;
      return first.event;
    }
    if (this.#failure !== undefined) throw this.#failure.error;
    if (this.ended) return undefined;
    const reader = Promise.withResolvers<T | undefined>();
    this.#readers.add(reader);
    const abort = () => {
      this.#readers.delete(reader);
      reader.reject(signal!.reason);
    };
    signal?.addEventListener("abort", abort);
    return await reader.promise.finally(() =>
      signal?.removeEventListener("abort", abort)
    );
  }

  /** The events until the end. */
  async *[Symbol.asyncIterator](): AsyncGenerator<T> {
    let event: T | undefined;
    while ((event = await this.take()) !== undefined) yield event;
  }
}

const MAX_BYTES = 1 << 24;
/** An event as measured, without its payload. */
const EVENT_BYTES = 512;

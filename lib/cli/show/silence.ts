/**
 * The report that a server stopped answering. Pure.
 *
 * @module
 */

/** Reports that the server stopped answering, and that it answers again, once each. */
export class Silence {
  #since: number | undefined;
  #received = 0;
  #isReported = false;

  /** Takes note of the time and of the replies until then; gives the report that is due. */
  look(now: number, received: number): string | undefined {
    this.#since ??= now;
    const silentMs = now - this.#since;
    if (received > this.#received) {
      this.#received = received;
      this.#since = now;
      if (!this.#isReported) return undefined;
      this.#isReported = false;
      return `a reply again, after ${Math.round(silentMs / 1000)} s`;
    }
    if (this.#isReported || silentMs < SILENT_MS) return undefined;
    this.#isReported = true;
    return `no reply for ${SILENT_MS / 1000} s`;
  }
}

const SILENT_MS = 10_000;

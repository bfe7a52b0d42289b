/**
 * One thread of Deno's pool that polls for all sockets with nothing to do: the
 * pool is small, and clients have many sockets.
 *
 * @module
 */
import { EFD_CLOEXEC, EFD_NONBLOCK, POLLFD_BYTES, POLLIN } from "./layout.ts";
import type { Libc, Memory } from "./libc.ts";

/** Waits until there is something to receive, for any number of sockets. */
export class Poller {
  readonly #libc: Libc;
  readonly #waiting = new Map<number, () => void>();
  readonly #wakeFd: number;
  readonly #counter: Memory;
  /** The poll under way, and of what; there is none while nothing waits. */
  #poll: Promise<unknown> | undefined;
  #polled: number[] = [];

  constructor(libc: Libc) {
    this.#libc = libc;
    this.#counter = libc.allocate(8);
    this.#wakeFd = libc.eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  }

  /** Until there is something to receive, or the wait is cancelled. */
  readable(fd: number): Promise<void> {
    return new Promise((resolve) => {
      this.#waiting.set(fd, resolve);
      if (this.#poll === undefined) this.#pollAll();
      else this.#wake();
    });
  }

  /** Ends a wait; resolves when the descriptor is in no poll any more. */
  async cancel(fd: number): Promise<void> {
    this.#waiting.get(fd)?.();
    this.#waiting.delete(fd);
    if (!this.#polled.includes(fd)) return;
    this.#wake();
    await this.#poll;
  }

  async #pollAll(): Promise<void> {
    while (this.#waiting.size > 0) {
      const fds = [this.#wakeFd, ...this.#waiting.keys()];
      const pollfds = this.#libc.allocate(fds.length * POLLFD_BYTES);
      fds.forEach((fd, i) => pollfds.u32.set([fd, POLLIN], 2 * i));
      // Safety: `pollfds` is used after the call, so it outlives the call.
      this.#poll = this.#libc.poll(pollfds, fds.length, -1);
      this.#polled = fds;
      await this.#poll;
      this.#polled = [];
      this.#libc.readCounter(this.#wakeFd, this.#counter);
      fds.forEach((fd, i) => {
        const isReady = pollfds.u32[2 * i + 1]! >>> 16 !== 0;
        if (!isReady || i === 0) return;
        this.#waiting.get(fd)?.();
        this.#waiting.delete(fd);
      });
    }
    this.#poll = undefined;
  }

  #wake(): void {
    this.#counter.u32.set([1, 0]);
    this.#libc.writeCounter(this.#wakeFd, this.#counter);
  }
}

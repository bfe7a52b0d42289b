/**
 * Waits for sockets with nothing to do: one thread of Deno's pool, in one
 * epoll_wait, for all of them.
 *
 * @module
 */
import { check, type Descriptor } from "./descriptor.ts";
import * as sys from "./layout.ts";
import type { EpollEvent, Libc, Memory } from "./libc.ts";

/**
 * The waits of all sockets of a thread. The system itself adds a descriptor that is
 * armed during the wait, and removes one that is closed.
 */
export class Poller {
  readonly #libc: Libc;
  readonly #own: (fd: number) => Descriptor;
  readonly #event: Memory;
  readonly #sockets = new Map<number, Waiter>();
  #epoll: Descriptor | undefined;
  /** The current wait. */
  #wait: Promise<void> | undefined;
  /** One call of epoll_wait, the latest. */
  #round: Promise<EpollEvent[]> | undefined;
  /** The timer of a pause, in which the process may end. */
  #gap: number | undefined;
  #gapAt = 0;

  /** Makes a poller of which `own` has Deno own the epoll instance, once open. */
  constructor(libc: Libc, own: (fd: number) => Descriptor) {
    this.#libc = libc;
    this.#own = own;
    this.#event = libc.allocate(16);
  }

  /**
   * Adds a socket, a wait for which keeps the process alive or not. It is watched
   * only during waits, since each datagram of a watched socket costs more.
   */
  add(fd: number, keepsAlive: () => boolean): void {
    const libc = this.#libc;
    this.#epoll ??= this.#own(check(libc, libc.epollCreate(sys.EPOLL_CLOEXEC)));
    this.#sockets.set(fd, {
      keepsAlive,
      isWatched: false,
      retry: undefined,
      input: undefined,
      room: undefined,
    });
  }

  /** Resolves when there is something to receive, or the wait is ended. */
  async readable(fd: number): Promise<void> {
    const socket = this.#sockets.get(fd);
    if (socket === undefined) return;
    socket.input ??= Promise.withResolvers();
    this.#arm(fd, socket);
    await socket.input.promise;
  }

  /** Resolves when the send buffer has room, or the wait is ended. */
  async writable(fd: number): Promise<void> {
    const socket = this.#sockets.get(fd);
    if (socket === undefined) return;
    socket.room ??= Promise.withResolvers();
    this.#arm(fd, socket);
    await socket.room.promise;
  }

  /** Ends the wait for something to receive, which is known to be there. */
  endReadable(fd: number): void {
    const socket = this.#sockets.get(fd);
    if (socket !== undefined) end(socket, sys.EPOLLIN);
  }

  /** Ends the waits for a socket, and has the thread look at all sockets again. */
  wake(fd: number): void {
    const socket = this.#sockets.get(fd);
    if (socket === undefined) return;
    end(socket, sys.EPOLLIN | sys.EPOLLOUT);
    // There is nearly always room to send, and it is reported at once.
    if (this.#wait !== undefined) this.#watch(fd, socket, sys.EPOLLOUT);
  }

  /** Applies a change of `keepsAlive` of a socket. */
  refresh(fd: number): void {
    const socket = this.#sockets.get(fd);
    if (socket === undefined) return;
    if (!socket.keepsAlive()) this.wake(fd);
    else if (this.#gap !== undefined) Deno.refTimer(this.#gap);
  }

  /** Removes a socket, which must stay open until the promise resolves. */
  async remove(fd: number): Promise<void> {
    const socket = this.#sockets.get(fd);
    if (socket === undefined) return;
    this.wake(fd);
    // The thread must not be left waiting for nothing.
    const others = [...this.#sockets.values()].some(isWaiting);
    // Not for all of its waits: other sockets may begin more meanwhile.
    if (!others) await this.#round;
    if (socket.isWatched) this.#control(sys.EPOLL_CTL_DEL, fd, 0);
    this.#sockets.delete(fd);
    if (this.#sockets.size > 0) return;
    this.#epoll?.close();
    this.#epoll = undefined;
  }

  #arm(fd: number, socket: Waiter): void {
    const { input, room } = socket;
    const events = (input ? sys.EPOLLIN : 0) | (room ? sys.EPOLLOUT : 0);
    if (!this.#watch(fd, socket, events)) {
      // Memory may be short for a while: then the waits end as if by an event.
      socket.retry ??= setTimeout(
        () => end(socket, sys.EPOLLIN | sys.EPOLLOUT),
        RETRY_MS,
      ) as unknown as number;
      return;
    }
    this.#wait ??= this.#waitForAll();
  }

  async #waitForAll(): Promise<void> {
    const waiting = () => [...this.#sockets.values()].filter(isWaiting);
    for (let all = waiting(); all.length > 0; all = waiting()) {
      const isAlive = all.some(({ keepsAlive }) => keepsAlive());
      const waitMs = isAlive ? MAX_WAIT_MS : UNREF_WAIT_MS;
      const { fd: epoll } = this.#epoll!;
      this.#round = this.#libc.epollWait(epoll, waitMs);
      for (const { fd, events } of await this.#round) {
        const socket = this.#sockets.get(fd);
        if (socket === undefined) continue;
        this.#control(sys.EPOLL_CTL_DEL, fd, 0);
        socket.isWatched = false;
        end(socket, events);
        if (isWaiting(socket)) this.#arm(fd, socket);
      }
      if (!isAlive) await this.#letEnd();
    }
    // At once, not when the promise has resolved: a socket whose wait has just
    // ended may wait again by then.
    this.#wait = undefined;
  }

  /** Pauses now and then, so that nothing of ours keeps the process alive. */
  async #letEnd(): Promise<void> {
    const now = performance.now();
    if (now - this.#gapAt < UNREF_WAIT_MS / 2) return;
    await new Promise<void>((resolve) => {
      this.#gap = setTimeout(resolve, 0) as unknown as number;
      Deno.unrefTimer(this.#gap);
    });
    this.#gap = undefined;
    this.#gapAt = performance.now();
  }

  /** Whether the system watches the socket from now on. */
  #watch(fd: number, socket: Waiter, events: number): boolean {
    const operation = socket.isWatched ? sys.EPOLL_CTL_MOD : sys.EPOLL_CTL_ADD;
    const result = this.#control(operation, fd, events | sys.EPOLLONESHOT);
    socket.isWatched ||= result === 0;
    return result === 0;
  }

  #control(operation: number, fd: number, events: number): number {
    const { u32 } = this.#event;
    u32[0] = events;
    u32[sys.EPOLL_DATA_WORD] = fd;
    const { fd: epoll } = this.#epoll!;
    return this.#libc.epollControl(epoll, operation, fd, this.#event);
  }
}

/** A socket, and its waits for something to receive and for room to send. */
interface Waiter {
  keepsAlive: () => boolean;
  isWatched: boolean;
  /** The timer that replaces a watch that the system refused. */
  retry: number | undefined;
  input: PromiseWithResolvers<void> | undefined;
  room: PromiseWithResolvers<void> | undefined;
}

function isWaiting({ input, room }: Waiter): boolean {
  return input !== undefined || room !== undefined;
}

/** Ends the waits for these events; an error ends all. */
function end(socket: Waiter, events: number): void {
  clearTimeout(socket.retry);
  socket.retry = undefined;
  if (events !== sys.EPOLLOUT) {
    socket.input?.resolve();
    socket.input = undefined;
  }
  if (events !== sys.EPOLLIN) {
    socket.room?.resolve();
    socket.room = undefined;
  }
}

/**
 * The longest wait: in a worker, the time that its thread may survive it when it is
 * terminated.
 */
const MAX_WAIT_MS = "WorkerGlobalScope" in globalThis ? 1000 : 60_000;
const RETRY_MS = 10;
/** The longest delay of the exit by an unreferenced socket. */
const UNREF_WAIT_MS = 250;

/**
 * Waits for sockets with nothing to do: one thread of Deno's pool, in one
 * epoll_wait, for all of them.
 *
 * @module
 */
import type { Descriptor } from "./descriptor.ts";
import {
  EPOLL_CLOEXEC,
  EPOLL_CTL_ADD,
  EPOLL_CTL_DEL,
  EPOLL_CTL_MOD,
  EPOLL_DATA_WORD,
  EPOLLIN,
  EPOLLONESHOT,
  EPOLLOUT,
} from "./layout.ts";
import { errorOf } from "./errno.ts";
import type { EpollEvent, Libc, Memory } from "./libc.ts";

/**
 * The waits of all sockets of a thread. A descriptor that is armed while the
 * wait is under way joins it, and one that is closed leaves it, both by the
 * system's doing.
 */
export class Poller {
  readonly #libc: Libc;
  readonly #own: (fd: number) => Descriptor;
  readonly #event: Memory;
  readonly #sockets = new Map<number, Waiter>();
  #epoll: Descriptor | undefined;
  /** The wait under way. */
  #wait: Promise<void> | undefined;
  /** One call of epoll_wait, the latest. */
  #round: Promise<EpollEvent[]> | undefined;
  /** The timer that lets the process end if nothing else keeps it alive. */
  #gap: number | undefined;
  #gapAt = 0;

  /**
   * Makes a poller; opens nothing.
   *
   * @param libc The C library.
   * @param own Has Deno own the descriptor of the epoll instance.
   */
  constructor(libc: Libc, own: (fd: number) => Descriptor) {
    this.#libc = libc;
    this.#own = own;
    this.#event = libc.allocate(16);
  }

  /**
   * Takes a socket in. It is watched only while it is waited for, since each
   * datagram costs more where somebody watches.
   *
   * @param fd Its descriptor.
   * @param keepsAlive Whether a wait for it keeps the process alive.
   */
  add(fd: number, keepsAlive: () => boolean): void {
    this.#epoll ??= this.#own(this.#check(
      this.#libc.epollCreate(EPOLL_CLOEXEC),
    ));
    this.#sockets.set(fd, {
      keepsAlive,
      isWatched: false,
      retry: undefined,
      onReadable: undefined,
      onWritable: undefined,
    });
  }

  /** Until there is something to receive, or the wait is ended. */
  readable(fd: number): Promise<void> {
    return new Promise((resolve) => {
      const socket = this.#sockets.get(fd);
      if (socket === undefined) return resolve();
      socket.onReadable = both(socket.onReadable, resolve);
      this.#arm(fd, socket);
    });
  }

  /** Until the send buffer has room, or the wait is ended. */
  writable(fd: number): Promise<void> {
    return new Promise((resolve) => {
      const socket = this.#sockets.get(fd);
      if (socket === undefined) return resolve();
      socket.onWritable = both(socket.onWritable, resolve);
      this.#arm(fd, socket);
    });
  }

  /** Ends the wait for something to receive, which somebody has seen. */
  endReadable(fd: number): void {
    const socket = this.#sockets.get(fd);
    if (socket !== undefined) end(socket, EPOLLIN);
  }

  /** Ends the waits for a socket, and has the thread look at all anew. */
  wake(fd: number): void {
    const socket = this.#sockets.get(fd);
    if (socket === undefined) return;
    end(socket, EPOLLIN | EPOLLOUT);
    // Room to send is there nearly always, which is reported at once.
    if (this.#wait !== undefined) this.#watch(fd, socket, EPOLLOUT);
  }

  /** Whether the process is kept alive has changed for a socket. */
  refresh(fd: number): void {
    const socket = this.#sockets.get(fd);
    if (socket === undefined) return;
    if (!socket.keepsAlive()) this.wake(fd);
    else if (this.#gap !== undefined) Deno.refTimer(this.#gap);
  }

  /** Lets a socket go, which must stay open until the promise resolves. */
  async remove(fd: number): Promise<void> {
    const socket = this.#sockets.get(fd);
    if (socket === undefined) return;
    this.wake(fd);
    // The thread must not be left waiting for nothing.
    const others = [...this.#sockets.values()].some(isWaiting);
    // Not for all of its waits: other sockets may ask for more meanwhile.
    if (!others) await this.#round;
    if (socket.isWatched) this.#control(EPOLL_CTL_DEL, fd, 0);
    this.#sockets.delete(fd);
    if (this.#sockets.size > 0) return;
    this.#epoll?.close();
    this.#epoll = undefined;
  }

  #arm(fd: number, socket: Waiter): void {
    const { onReadable, onWritable } = socket;
    const events = (onReadable ? EPOLLIN : 0) | (onWritable ? EPOLLOUT : 0);
    if (!this.#watch(fd, socket, events)) {
      // Memory may be short for a while: then it is as if something had come.
      socket.retry ??= setTimeout(
        () => end(socket, EPOLLIN | EPOLLOUT),
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
        this.#control(EPOLL_CTL_DEL, fd, 0);
        socket.isWatched = false;
        end(socket, events);
        if (isWaiting(socket)) this.#arm(fd, socket);
      }
      if (!isAlive) await this.#letEnd();
    }
    // At once, not when the promise has resolved: who was just told that there
    // is something may wait for more by then.
    this.#wait = undefined;
  }

  /** A moment in which nothing of ours keeps the process alive, now and then. */
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
    const operation = socket.isWatched ? EPOLL_CTL_MOD : EPOLL_CTL_ADD;
    const result = this.#control(operation, fd, events | EPOLLONESHOT);
    socket.isWatched ||= result === 0;
    return result === 0;
  }

  #control(operation: number, fd: number, events: number): number {
    const { u32 } = this.#event;
    u32[0] = events;
    u32[EPOLL_DATA_WORD] = fd;
    return this.#libc.epollControl(
      this.#epoll!.fd,
      operation,
      fd,
      this.#event,
    );
  }

  #check(result: number): number {
    if (result < 0) throw errorOf(this.#libc.errno());
    return result;
  }
}

/** A socket, and who waits for it. */
interface Waiter {
  keepsAlive: () => boolean;
  isWatched: boolean;
  /** The timer that takes the place of a watch that could not be had. */
  retry: number | undefined;
  onReadable: (() => void) | undefined;
  onWritable: (() => void) | undefined;
}

function isWaiting({ onReadable, onWritable }: Waiter): boolean {
  return onReadable !== undefined || onWritable !== undefined;
}

/** Calls both, where there is another one that waits. */
function both(
  first: (() => void) | undefined,
  second: () => void,
): () => void {
  if (first === undefined) return second;
  return () => {
    first();
    second();
  };
}

/** Ends the waits for what has come up: an error ends them all. */
function end(socket: Waiter, events: number): void {
  clearTimeout(socket.retry);
  socket.retry = undefined;
  if (events !== EPOLLOUT) {
    socket.onReadable?.();
    socket.onReadable = undefined;
  }
  if (events !== EPOLLIN) {
    socket.onWritable?.();
    socket.onWritable = undefined;
  }
}

/**
 * A thread that is left behind by a worker that was terminated ends after so
 * long; until then it costs nothing.
 */
const MAX_WAIT_MS = 1000;
const RETRY_MS = 10;
/** So long does a process go on that only a socket without `ref` is left of. */
const UNREF_WAIT_MS = 250;

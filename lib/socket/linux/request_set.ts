/**
 * Waits for the replies of single requests, each on a socket of its own: one epoll
 * instance for all of them, with the memory for one receive and one send.
 *
 * A reply mostly follows its request at once: so the set looks for it in a short wait
 * of the thread itself, and has another thread wait only when replies are slow, or
 * none is expected.
 *
 * @module
 */
import type { UdpAddress } from "../../address.ts";
import { check, type Descriptor, numberZone } from "./descriptor.ts";
import * as sys from "./layout.ts";
import type { Libc, Memory } from "./libc.ts";
import { ReceiveBatch } from "./receive_batch.ts";
import { SendBatch } from "./send_batch.ts";
import { MAX_PAYLOAD } from "../contract.ts";

/** A socket of a set. */
export interface Member {
  /** Receives what there is, with the reports that are among the events. */
  take(events: number): void;
}

/** The sockets of the requests of a thread. */
export class RequestSet {
  readonly in: ReceiveBatch;
  readonly #out: SendBatch;
  /** The destination in the batch, and the length of its struct sockaddr. */
  #lastTo: UdpAddress | undefined;
  #lastFamily = 0;
  #nameLength = 0;
  readonly #libc: Libc;
  readonly #epoll: number;
  readonly #now: () => number;
  readonly #event: Memory;
  readonly #events: Memory;
  readonly #pollfds: Memory;
  readonly #time: Memory;
  /** By descriptor. */
  readonly #members: Array<Member | undefined> = [];
  #open = 0;
  /** Members that keep the process alive. */
  #alive = 0;
  /** The sockets of requests whose replies may arrive within a short wait. */
  #expected: number[] = [];
  /** The end of the last wait in this thread that had a reply. */
  #workedAt = 0;
  /** The waits in this thread, one after the other, that had no reply. */
  #misses = 0;
  /** No such wait until then. */
  #quietUntil = 0;
  /** The wait of the other thread. */
  #wait: Promise<void> | undefined;
  /** The timer of a look, or of the begin of that wait. */
  #timer: number | undefined;

  /** Makes a set of which `own` has Deno own the epoll instance. */
  constructor(
    libc: Libc,
    own: (fd: number) => Descriptor,
    now: () => number = () => performance.now(),
  ) {
    this.#libc = libc;
    this.#now = now;
    this.#epoll = own(check(libc, libc.epollCreate(sys.EPOLL_CLOEXEC))).fd;
    this.in = new ReceiveBatch(libc, MAX_PAYLOAD + 1, ROOM);
    this.#out = new SendBatch(libc, MAX_SEND_BYTES, false);
    this.#event = libc.allocate(16);
    this.#events = libc.allocate(
      4 * sys.MAX_EPOLL_EVENTS * sys.EPOLL_EVENT_WORDS,
    );
    this.#pollfds = libc.allocate(MAX_EXPECTED * sys.POLLFD_BYTES);
    this.#time = libc.allocate(sys.TIMESPEC_BYTES);
  }

  /** Adds a socket, which keeps the process alive. */
  add(fd: number, member: Member): void {
    check(this.#libc, this.#control(sys.EPOLL_CTL_ADD, fd, sys.EPOLLIN));
    this.#members[fd] = member;
    this.#open++;
    this.#alive++;
    this.#watch(false);
  }

  /** Removes a socket, which must stay open until the promise resolves. */
  async remove(fd: number, isAlive: boolean): Promise<void> {
    this.#members[fd] = undefined;
    this.#open--;
    if (isAlive) this.#alive--;
    // The system removes it when it is closed.
    if (this.#alive === 0) await this.#release(fd);
  }

  /** Has a socket keep the process alive, or not. */
  refresh(fd: number, isAlive: boolean): void {
    this.#alive += isAlive ? 1 : -1;
    if (this.#alive === 0) this.#release(fd).catch(reportError);
    else if (this.#timer !== undefined) Deno.refTimer(this.#timer);
  }

  /** Waits for the reply to a request that was sent, once all others were sent. */
  expect(fd: number): void {
    if (this.#members[fd] === undefined || this.#isQuiet) {
      return this.#watch(this.#isQuiet);
    }
    if (this.#expected.length === MAX_EXPECTED) return;
    if (this.#expected.push(fd) === 1) setImmediate(this.#waitHere);
  }

  /**
   * Sends a datagram without waiting; the number of datagrams sent, or a failure. The
   * same `to` each time is the fastest.
   */
  send(
    fd: number,
    family: number,
    payload: Uint8Array,
    to: UdpAddress,
  ): number {
    const out = this.#out;
    out.clear();
    out.hasRoom(payload.length);
    if (to !== this.#lastTo || family !== this.#lastFamily) {
      this.#lastTo = undefined;
      const numbered = numberZone(this.#libc, to);
      const name = out.ownName(0);
      this.#nameLength = sys.encodeSockaddr(numbered, family, name);
      this.#lastTo = to;
      this.#lastFamily = family;
    }
    out.add(payload, out.namePointer(0), this.#nameLength, to);
    return out.send(fd, 0, 1);
  }

  /** Receives what the system has for all sockets. */
  look(): void {
    const { u32 } = this.#events;
    const most = sys.MAX_EPOLL_EVENTS;
    const count = this.#libc.epollLook(this.#epoll, this.#events, most);
    for (let i = 0; i < count; i++) {
      const at = i * sys.EPOLL_EVENT_WORDS;
      const fd = u32[at + sys.EPOLL_DATA_WORD]!;
      const events = u32[at]!;
      if (events & sys.EPOLLOUT) {
        this.#control(sys.EPOLL_CTL_MOD, fd, sys.EPOLLIN);
      }
      this.#members[fd]?.take(events);
    }
  }

  #waitHere = (): void => {
    const fds = this.#expected;
    const { u32 } = this.#pollfds;
    fds.forEach((fd, i) => u32.set([fd, sys.POLLIN], 2 * i));
    this.#time.u32[2] = 1e6 * WAIT_MS;
    const ready = this.#libc.ppoll(this.#pollfds, fds.length, this.#time);
    const now = this.#workedAt = this.#now();
    if (ready <= 0) {
      // One may be chance.
      if (++this.#misses >= MAX_MISSES) this.#quietUntil = now + QUIET_MS;
      this.#expected = [];
      return this.#watch(true);
    }
    this.#misses = 0;
    const events = fds.map((_, i) => u32[2 * i + 1]! >>> 16);
    this.#expected = fds.filter((_, i) => events[i] === 0);
    if (this.#expected.length > 0) setImmediate(this.#waitHere);
    fds.forEach((fd, i) => {
      if (events[i] !== 0) this.#members[fd]?.take(events[i]!);
    });
  };

  get #isQuiet(): boolean {
    return this.#now() < this.#quietUntil;
  }

  /** Has the other thread wait: now, or once no request has been sent for a while. */
  #watch(isNow: boolean): void {
    if (this.#wait !== undefined || this.#open === 0) return;
    if (isNow && this.#alive > 0) {
      this.#stop();
      this.#wait = this.#waitAway();
    } else if (this.#timer === undefined) {
      this.#timer = setTimeout(this.#begin, IDLE_MS) as unknown as number;
      if (this.#alive === 0) Deno.unrefTimer(this.#timer);
    }
  }

  #begin = (): void => {
    this.#timer = undefined;
    // Late replies, and those to sockets that let the process end.
    this.look();
    this.#watch(this.#now() - this.#workedAt > IDLE_MS);
  };

  async #waitAway(): Promise<void> {
    await this.#libc.epollWait(this.#epoll, MAX_WAIT_MS);
    this.#wait = undefined;
    this.look();
    this.#watch(this.#isQuiet);
  }

  #stop(): void {
    clearTimeout(this.#timer);
    this.#timer = undefined;
  }

  /** Ends what keeps the process alive: there is room to send on this socket. */
  async #release(fd: number): Promise<void> {
    this.#stop();
    if (this.#wait !== undefined) {
      this.#control(sys.EPOLL_CTL_MOD, fd, sys.EPOLLIN | sys.EPOLLOUT);
      await this.#wait;
    } else this.#watch(false);
  }

  #control(operation: number, fd: number, events: number): number {
    const { u32 } = this.#event;
    u32[0] = events;
    u32[sys.EPOLL_DATA_WORD] = fd;
    return this.#libc.epollControl(this.#epoll, operation, fd, this.#event);
  }
}

/** A receive of a single reply then reports that there is no other. */
const ROOM = 2;
const MAX_SEND_BYTES = 1 << 17;
/** The replies that are waited for together. */
const MAX_EXPECTED = 64;
/** The longest wait in the thread itself, and the time without another one. */
const WAIT_MS = 0.2;
const QUIET_MS = 20;
const MAX_MISSES = 2;
/** The time without a reply after which the other thread waits. */
const IDLE_MS = 5;
/** In a worker the time that its thread may survive it. */
const MAX_WAIT_MS = "WorkerGlobalScope" in globalThis ? 1000 : 60_000;

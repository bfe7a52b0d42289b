/**
 * {@linkcode DatagramSocket} over recvmmsg and sendmmsg, for servers,
 * `openSocket()` and clients with many requests: one call moves up to 64 messages,
 * and with UDP_GRO and UDP_SEGMENT each of them up to 64 datagrams of one flow.
 * This file receives and waits; `delivery.ts` hands out, `send_queue.ts` sends.
 *
 * @module
 */
import {
  ipVersion,
  isMulticast,
  isWildcard,
  type UdpAddress,
} from "../../address.ts";
import { isReport, joinError } from "../../base/errors.ts";
import type {
  Datagram,
  DatagramSocket,
  OpenOptions,
  Receiver,
  ReplyOptions,
  SendListener,
} from "../contract.ts";
import { PACKET_INFO } from "./cmsg.ts";
import { Delivery } from "./delivery.ts";
import {
  addressOf,
  backlogOf,
  growBuffers,
  kernelDrops,
  numberZone,
  sendGroupsBy,
  setMembership,
  setReceiveBuffer,
  type SocketDescriptor,
  trySet,
} from "./descriptor.ts";
import type { Membership } from "../multicast.ts";
import type { NetAccess } from "../net_access.ts";
import { EAGAIN, EBADF, EINTR, errorOf } from "./errno.ts";
import { keepErrors, keepStamps, takeEntries } from "./error_queue.ts";
import * as sys from "./layout.ts";
import { type BatchDatagram, ReceiveBatch } from "./receive_batch.ts";
import { clockOffset } from "../../base/wall_clock.ts";
import type { Libc, Memory } from "./libc.ts";
import type { Poller } from "./poller.ts";
import { SendQueue } from "./send_queue.ts";
import { Turns } from "./turns.ts";

/** A socket whose system calls are those of `libc`. */
export class LinuxSocket implements DatagramSocket {
  readonly addr: UdpAddress;
  readonly reportsClosedPort: boolean;
  readonly copiesReplies = true;
  readonly stampsSends: boolean;
  readonly #libc: Libc;
  readonly #access: NetAccess | undefined;
  readonly #poller: Poller;
  readonly #bound: SocketDescriptor;
  /** Whether the system gives the destination of each datagram. */
  readonly #knowsLocal: boolean;
  readonly #in: ReceiveBatch;
  readonly #delivery: Delivery;
  readonly #queue: SendQueue;
  /** The lead of the wall clock, by which the kernel stamps, over ours. */
  readonly #clockOffset: () => number;
  readonly #turns: Turns;
  #memberships: readonly Membership[];
  readonly #pollfd: Memory;
  readonly #wait: Memory;
  #receiver: Receiver = { onDatagram: (datagram) => this.release(datagram) };
  /** When the last batch was finished. */
  #workedAt = 0;
  /** The notice for the receiver, once there is one. */
  #notice: Error | undefined;
  #drops: number | undefined;
  /** The end of the drain, after this number of messages at most. */
  #drain: PromiseWithResolvers<void> | undefined;
  #undrained = 0;
  #started = false;
  #closed = false;
  #released: Promise<void> | undefined;
  #keepsAlive = true;
  #hasSlept = false;

  constructor(
    bound: SocketDescriptor,
    options: OpenOptions,
    libc: Libc,
    poller: Poller,
    access: NetAccess | undefined,
    now: () => number = () => performance.now(),
    room = 1,
  ) {
    this.#libc = libc;
    this.#access = access;
    this.#poller = poller;
    this.#clockOffset = clockOffset(now, () => libc.realtimeMs());
    this.#bound = bound;
    const { fd, family } = bound;
    const { maxDatagramBytes, receiveBufferBytes, packetInfo } = options;
    this.reportsClosedPort = options.peer !== undefined;
    this.#turns = new Turns(libc, now, this.reportsClosedPort);
    this.addr = Object.freeze(addressOf(libc, fd));
    growBuffers(libc, fd);
    this.#memberships = [...options.memberships ?? []];
    const links = this.#memberships.map(({ index, address }) =>
      index || address
    );
    const isOnOneLink = new Set(links).size === 1;
    for (const membership of this.#memberships) {
      try {
        setMembership(libc, fd, membership, true);
        if (isOnOneLink) sendGroupsBy(libc, fd, membership);
      } catch (error) {
        throw joinError(error, membership.group);
      }
    }
    if (receiveBufferBytes !== undefined) {
      const bytes = setReceiveBuffer(libc, fd, receiveBufferBytes);
      if (bytes < receiveBufferBytes) {
        this.#notice = new Error(
          `The receive buffer has ${bytes} bytes, as the system gives no more: raise net.core.rmem_max`,
        );
      }
    }
    // A wildcard socket answers from the address of the request.
    this.#knowsLocal = isWildcard(this.addr.hostname) &&
      trySet(libc, fd, sys.IPPROTO_IP, sys.IP_PKTINFO, 1) &&
      (family === sys.AF_INET ||
        trySet(libc, fd, sys.IPPROTO_IPV6, sys.IPV6_RECVPKTINFO, 1));
    const coalesces = trySet(libc, fd, sys.SOL_UDP, sys.UDP_GRO, 1);
    this.#in = new ReceiveBatch(
      libc,
      coalesces ? MAX_COALESCED_BYTES : maxDatagramBytes + 1,
      room,
    );
    for (const [level, option] of packetInfo ? PACKET_INFO : []) {
      if (level === sys.IPPROTO_IPV6 && family !== sys.AF_INET6) continue;
      trySet(libc, fd, level, option, 1);
    }
    this.#in.setMemberships(this.#memberships);
    this.#delivery = new Delivery(
      this.#in,
      { addr: this.addr, maxDatagramBytes, packetInfo: packetInfo === true },
      this.#turns,
      this.#clockOffset,
    );
    this.stampsSends = options.stampSends === true && keepStamps(libc, bound);
    if (this.reportsClosedPort) keepErrors(libc, bound);
    this.#queue = new SendQueue(
      libc,
      poller,
      bound,
      this.#in,
      this.reportsClosedPort,
      now,
    );
    this.#pollfd = libc.allocate(sys.POLLFD_BYTES);
    this.#pollfd.u32.set([fd, sys.POLLIN]);
    this.#wait = libc.allocate(sys.TIMESPEC_BYTES);
    poller.add(fd, () => this.#keepsAlive);
  }

  async start(receiver: Receiver): Promise<void> {
    this.#receiver = this.#queue.receiver = this.#delivery.receiver = receiver;
    this.#started = true;
    try {
      // The notice precedes the first datagram.
      await null;
      if (this.#notice !== undefined && !this.#closed) {
        receiver.onNotice?.(this.#notice);
      }
      this.#workedAt = this.#turns.now();
      this.#turns.begin(this.#workedAt);
      await this.#receive();
    } finally {
      this.close();
      await this.#release();
    }
  }

  async send(
    payload: Uint8Array,
    to: UdpAddress,
    from?: UdpAddress | undefined,
  ): Promise<void> {
    if (this.#closed) throw errorOf(EBADF);
    if (ipVersion(to.hostname) === undefined) {
      throw new TypeError(
        `Cannot send to '${to.hostname}': it is no IP address`,
      );
    }
    if (to.hostname.includes("%")) to = numberZone(this.#libc, to);
    const refusal = this.#access?.refusal(to);
    if (refusal !== undefined) throw refusal;
    // A group is the source of no datagram.
    const source = from && !isMulticast(from.hostname)
      ? numberZone(this.#libc, from).hostname
      : undefined;
    this.#in.tick = this.#turns.now() >>> TICK_BITS;
    await this.#queue.send(payload, to, source, this.#knowsLocal);
  }

  post(payload: Uint8Array, to: UdpAddress, listener: SendListener): void {
    try {
      if (this.#closed) throw errorOf(EBADF);
      const refusal = this.#access?.refusal(to);
      if (refusal !== undefined) throw refusal;
      this.#queue.post(payload, to, listener);
    } catch (error) {
      queueMicrotask(() => listener.onSendError(error));
    }
  }

  reply(
    datagram: Datagram,
    payload: Uint8Array,
    options?: ReplyOptions | undefined,
  ): void {
    const answered = datagram as BatchDatagram;
    const refusal = this.#access?.refusal(answered.remoteAddr);
    if (refusal !== undefined) {
      this.#receiver.onReplyError?.(refusal, answered.remoteAddr, 1);
    } else if (answered === this.#delivery.current) {
      this.#queue.addNow(payload, answered, options);
    } else {
      this.#queue.addLater(payload, answered, options);
    }
    this.release(answered);
  }

  release(datagram: Datagram): void {
    this.#delivery.release(datagram as BatchDatagram);
  }

  abandon(datagram: Datagram): void {
    // Its buffer has left the batch.
    this.release(datagram);
  }

  setMembership(membership: Membership, isMember: boolean): Promise<void> {
    return Promise.try(() => {
      if (this.#closed) throw new Deno.errors.BadResource("Socket is closed");
      try {
        setMembership(this.#libc, this.#bound.fd, membership, isMember);
      } catch (error) {
        throw joinError(error, membership.group);
      }
      const others = this.#memberships.filter((one) => one !== membership);
      this.#memberships = isMember ? [...others, membership] : others;
      this.#in.setMemberships(this.#memberships);
    });
  }

  sleep(ms: number): void {
    if (this.#closed) return;
    const waitMs = Math.min(Math.max(0, ms - WAKE_MS), MAX_SLEEP_MS);
    if (waitMs > 0 && !this.#hasSlept) {
      this.#hasSlept = true;
      this.#libc.endWaitsOnTime();
    }
    this.#wait.u32[2] = Math.floor(1e6 * waitMs);
    const ready = this.#libc.ppoll(this.#pollfd, 1, this.#wait);
    // The poller's thread would end the wait in some later turn of the event loop.
    if (ready > 0) this.#poller.endReadable(this.#bound.fd);
  }

  kernelDrops(): number | undefined {
    if (!this.#closed) this.#drops = kernelDrops(this.#libc, this.#bound.fd);
    return this.#drops;
  }

  drain(): Promise<void> {
    if (this.#closed) return Promise.resolve();
    this.#drain ??= Promise.withResolvers();
    this.#undrained = backlogOf(this.#libc, this.#bound.fd);
    this.#poller.endReadable(this.#bound.fd);
    return this.#drain.promise;
  }

  close(): void {
    if (this.#closed) return;
    this.kernelDrops();
    this.#closed = true;
    this.#turns.end();
    this.#delivery.end();
    this.#drain?.resolve();
    this.#queue.flush();
    if (this.#started) this.#poller.wake(this.#bound.fd);
    else {
      this.#release().catch((error) => this.#receiver.onReceiveError?.(error));
    }
  }

  ref(): void {
    this.#keepsAlive = true;
    this.#poller.refresh(this.#bound.fd);
  }

  unref(): void {
    this.#keepsAlive = false;
    this.#poller.refresh(this.#bound.fd);
  }

  /**
   * Receives without waiting. When there is nothing, waits by the
   * {@linkcode Poller}, on another thread; or, while datagrams arrive fast and
   * nothing else is at work, briefly in this one. Yields to the event loop after
   * each millisecond of work.
   */
  async #receive(): Promise<void> {
    let failures = 0;
    let hasLooked = false;
    let wasFull = false;
    let hadNothing = false;
    while (!this.#closed) {
      const count = this.#in.receive(this.#bound.fd);
      if (count > 0) {
        failures = 0;
        hasLooked = hadNothing = false;
        // A client's own work on its replies does not make their arrival slow.
        const before = this.reportsClosedPort
          ? this.#workedAt
          : this.#delivery.receivedAt;
        const receivedAt = this.#queue.heardAt = this.#turns.now();
        this.#in.tick = receivedAt >>> TICK_BITS;
        // Stamps of requests precede their replies.
        if (this.stampsSends) this.#takeEntries();
        this.#turns.pace.onBatch(receivedAt - before, count);
        this.#delivery.begin(count, receivedAt);
        while (!this.#delivery.run()) {
          this.#queue.flush();
          await (this.#turns.isPressing(this.#turns.now())
            ? this.#turn()
            : this.#turns.round());
        }
        this.#queue.flush();
        this.#undrained -= count;
        if (this.#undrained <= 0) this.#endDrain();
        // A full batch may have had no room for the next message.
        if (wasFull) this.#in.grow();
        wasFull = count === this.#in.room;
        if (this.reportsClosedPort) await this.#sendNextRequests();
        const now = this.#turns.now();
        this.#workedAt = now;
        if (this.#turns.isDue(now)) await this.#turn();
        // Timers, handlers at work, and microtasks.
        else if (this.#delivery.held > 0 || this.#turns.isRoundDue(now)) {
          await this.#turns.round();
        }
        continue;
      }
      const code = this.#libc.errno();
      if (code === EAGAIN) {
        wasFull = false;
        this.#endDrain();
        // An error queue that is not empty ends each wait.
        if (this.stampsSends || hadNothing) this.#takeEntries();
        hadNothing = this.reportsClosedPort;
        if (
          !hasLooked && !this.reportsClosedPort && this.#turns.isBeforeWait()
        ) {
          hasLooked = true;
          await this.#turn();
        } else if (!this.#isReadableSoon()) await this.#idle();
        else if (this.#turns.isPressing(this.#turns.now())) {
          // A client's turns have no wait for the other thread, in which Deno polls.
          await (this.reportsClosedPort ? this.#idle() : this.#turn());
        }
      } else if (code !== EINTR) {
        const error = errorOf(code);
        if (isReport(error)) {
          this.#takeEntries(error);
          continue;
        }
        if (++failures >= MAX_RECEIVE_FAILURES) throw error;
        this.#receiver.onReceiveError?.(error);
        await this.#pause(Math.min(2 ** failures, MAX_PAUSE_MS));
      }
    }
  }

  #endDrain(): void {
    this.#drain?.resolve();
    this.#drain = undefined;
  }

  /** Reports what the error queue has, or else the error of a receive. */
  #takeEntries(error?: Error): void {
    const aheadMs = this.stampsSends ? this.#clockOffset() : 0;
    const entries = takeEntries(this.#libc, this.#bound.fd);
    const hasReport = entries.some((entry) => entry.error !== undefined);
    if (error !== undefined && !hasReport) entries.push({ error });
    for (const { stamp, error } of entries) {
      if (stamp !== undefined) {
        this.#receiver.onSent?.(stamp.index, stamp.stampMs - aheadMs);
      } else if (error !== undefined) this.#receiver.onReceiveError?.(error);
    }
  }

  /**
   * Sends a client's next requests, which follow their replies within a few
   * microtasks, together before the next wait.
   */
  async #sendNextRequests(): Promise<void> {
    for (let i = 0; i < HOPS && !this.#queue.isWaiting; i++) await null;
    this.#queue.flush();
  }

  /** Waits on another thread until there is something to receive. */
  async #idle(): Promise<void> {
    // The socket may have been closed while microtasks ran.
    if (this.#closed) return;
    const before = this.#turns.now();
    await this.#poller.readable(this.#bound.fd);
    const now = this.#turns.now();
    // In a wait of this length the event loop has polled everything.
    if (now - before > PARKED_MS) this.#turns.begin(now);
    else if (this.#turns.isPressing(now)) await this.#turn();
  }

  /** Yields to all else in the process. */
  async #turn(): Promise<void> {
    await this.#turns.take();
    // Only in a wait may the process of an unreferenced socket end.
    if (!this.#keepsAlive && !this.#queue.isBlocked && !this.#closed) {
      await this.#poller.writable(this.#bound.fd);
      this.#turns.begin(this.#turns.now());
    }
    this.#workedAt = this.#turns.now();
  }

  /** Waits in this thread, where nothing else suffers. */
  #isReadableSoon(): boolean {
    const { pace } = this.#turns;
    // Handlers at work need the event loop, and so do datagrams that wait for room.
    if (
      this.#delivery.held > 0 || this.#queue.isBlocked ||
      !pace.mayWait(this.#turns.now())
    ) return false;
    this.#wait.u32[2] = WAIT_US * 1000;
    const ready = this.#libc.ppoll(this.#pollfd, 1, this.#wait);
    if (ready === 0) pace.onTimeout(this.#turns.now());
    return ready > 0;
  }

  async #pause(ms: number): Promise<void> {
    await new Promise<void>((resolve) => {
      const timer = setTimeout(resolve, ms) as unknown as number;
      if (!this.#keepsAlive) Deno.unrefTimer(timer);
    });
  }

  /** Closes the descriptor, once, when no wait uses it any more. */
  #release(): Promise<void> {
    return this.#released ??= (async () => {
      this.#queue.close();
      await this.#poller.remove(this.#bound.fd);
      this.#bound.close();
    })();
  }
}

const MAX_COALESCED_BYTES = 65_536;
/** A tick has 1,024 ms. */
const TICK_BITS = 10;
const MAX_RECEIVE_FAILURES = 16;
const MAX_PAUSE_MS = 32;
/** The longest wait in the thread itself. */
const WAIT_US = 200;
/** The usual delay of a wake-up by the kernel, and the longest sleep. */
const WAKE_MS = 0.06;
const MAX_SLEEP_MS = 0.999;
/** A wait on the other thread in which the event loop polls everything. */
const PARKED_MS = 0.5;
/** The microtasks between a reply and the next request, at most. */
const HOPS = 8;

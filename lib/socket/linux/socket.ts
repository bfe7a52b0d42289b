/**
 * A server's {@linkcode DatagramSocket} over recvmmsg and sendmmsg: one call
 * moves up to 64 messages, and with UDP_GRO and UDP_SEGMENT each of them up to
 * 64 datagrams of one flow. This file is the way in; the way out is
 * `send_queue.ts`.
 *
 * @module
 */
import { ipVersion, isWildcard, type UdpAddress } from "../../address.ts";
import { joinError } from "../../base/errors.ts";
import type {
  Datagram,
  DatagramSocket,
  OpenOptions,
  Receiver,
  ReplyOptions,
  SendErrorListener,
} from "../contract.ts";
import { BATCH, ReceiveBatch } from "./receive_batch.ts";
import {
  addressOf,
  growBuffers,
  joinGroup,
  kernelDrops,
  requireNet,
  setReceiveBuffer,
  type SocketDescriptor,
  trySet,
} from "./descriptor.ts";
import { EAGAIN, EINTR, errorOf, REPORTS } from "./errno.ts";
import { keepStamps, takeStamps } from "./send_stamps.ts";
import {
  AF_INET,
  AF_INET6,
  IP_PKTINFO,
  IP_RECVTOS,
  IP_RECVTTL,
  IPPROTO_IP,
  IPPROTO_IPV6,
  IPV6_RECVHOPLIMIT,
  IPV6_RECVPKTINFO,
  IPV6_RECVTCLASS,
  MSG_DONTWAIT,
  POLLFD_BYTES,
  POLLIN,
  SO_TIMESTAMPNS,
  SOL_SOCKET,
  SOL_UDP,
  sourceControl,
  TIMESPEC_BYTES,
  UDP_GRO,
} from "./layout.ts";
import { Lead } from "../../base/wall_clock.ts";
import type { Libc, Memory } from "./libc.ts";
import type { Poller } from "./poller.ts";
import { SendQueue } from "./send_queue.ts";
import { Turns } from "./turns.ts";

/** A server's socket, whose system calls are those of `libc`. */
export class LinuxSocket implements DatagramSocket {
  readonly addr: UdpAddress;
  readonly isConnected: boolean;
  readonly copiesReplies = true;
  readonly stampsSends: boolean;
  readonly #libc: Libc;
  readonly #poller: Poller;
  readonly #now: () => number;
  readonly #bound: SocketDescriptor;
  readonly #maxDatagramBytes: number;
  /** Whether the system says where each datagram was sent to. */
  readonly #knowsLocal: boolean;
  readonly #in: ReceiveBatch;
  readonly #queue: SendQueue;
  readonly #turns: Turns;
  readonly #pollfd: Memory;
  readonly #wait: Memory;
  #receiver: Receiver = { onDatagram: (datagram) => this.release(datagram) };
  /** The object for all datagrams that are handed back within the call. */
  #reusable = new BatchDatagram();
  /** The datagram that the receiver is working on, and may answer now. */
  #current: BatchDatagram | undefined;
  /** Of the batch that is being handed out: how many messages it has. */
  #count = 0;
  /** Which of them is being handed out, from which byte on. */
  #message = 0;
  #at = 0;
  /** What that message was received into, and the views into it. */
  #buffer: Memory;
  #views: Uint8Array<ArrayBuffer>[] = [];
  /** Where that message was sent to. */
  #local: UdpAddress;
  /** Whether it is several datagrams that the kernel put together. */
  #isCoalesced = false;
  #receivedAt = 0;
  /** How far the wall clock, by which the kernel stamps, is ahead of ours. */
  readonly #lead: Lead;
  /** It had nothing more to do then. */
  #workedAt = 0;
  /** How many datagrams are handed out between two looks at the clock. */
  #stride = 1;
  #untilLook = 1;
  #lookedAt = 0;
  /** How many datagrams the receiver kept for longer than its call. */
  #kept = 0;
  /** What is to be told once there is somebody to tell. */
  #notice: Error | undefined;
  #started = false;
  #closed = false;
  #released: Promise<void> | undefined;
  #keepsAlive = true;
  #hasSlept = false;

  constructor(
    bound: SocketDescriptor,
    {
      maxDatagramBytes,
      receiveBufferBytes,
      memberships = [],
      packetInfo,
      stampSends,
      peer,
    }: Pick<
      OpenOptions,
      | "maxDatagramBytes"
      | "receiveBufferBytes"
      | "memberships"
      | "packetInfo"
      | "stampSends"
      | "peer"
    >,
    libc: Libc,
    poller: Poller,
    now: () => number = () => performance.now(),
  ) {
    this.#libc = libc;
    this.#poller = poller;
    this.#now = now;
    this.#lead = new Lead(now, () => libc.realtimeMs());
    this.#bound = bound;
    const { fd, family } = bound;
    this.#maxDatagramBytes = maxDatagramBytes;
    this.isConnected = peer !== undefined;
    this.#turns = new Turns(libc, now, this.isConnected);
    this.addr = this.#local = Object.freeze(addressOf(libc, fd));
    growBuffers(libc, fd);
    for (const membership of memberships) {
      try {
        joinGroup(libc, fd, membership);
      } catch (error) {
        throw joinError(error, membership.group);
      }
    }
    if (receiveBufferBytes !== undefined) {
      const bytes = setReceiveBuffer(libc, fd, receiveBufferBytes);
      if (bytes < receiveBufferBytes) this.#notice = tooSmall(bytes);
    }
    // A wildcard socket answers from the address that was asked.
    this.#knowsLocal = isWildcard(this.addr.hostname) &&
      (family === AF_INET
        ? trySet(libc, fd, IPPROTO_IP, IP_PKTINFO, 1)
        : trySet(libc, fd, IPPROTO_IPV6, IPV6_RECVPKTINFO, 1));
    const coalesces = trySet(libc, fd, SOL_UDP, UDP_GRO, 1);
    this.#in = new ReceiveBatch(
      libc,
      BATCH,
      coalesces ? MAX_COALESCED_BYTES : maxDatagramBytes + 1,
      this.isConnected,
    );
    if (packetInfo) receivePacketInfo(libc, bound);
    this.stampsSends = stampSends === true && keepStamps(libc, bound);
    this.#queue = new SendQueue(
      libc,
      poller,
      bound,
      this.#in,
      this.isConnected,
    );
    this.#buffer = this.#in.buffer(0);
    this.#pollfd = libc.allocate(POLLFD_BYTES);
    this.#pollfd.u32.set([fd, POLLIN]);
    this.#wait = libc.allocate(TIMESPEC_BYTES);
    poller.add(fd, () => this.#keepsAlive);
  }

  async start(receiver: Receiver): Promise<void> {
    this.#receiver = this.#queue.receiver = receiver;
    this.#started = true;
    try {
      // Whoever starts it gets to know of it before its first datagram.
      await null;
      if (this.#notice !== undefined) receiver.onNotice?.(this.#notice);
      this.#workedAt = this.#now();
      this.#turns.begin(this.#workedAt);
      await this.#receive();
    } finally {
      this.#closed = true;
      this.#turns.end();
      await this.#release();
    }
  }

  async send(
    payload: Uint8Array,
    to: UdpAddress,
    from?: UdpAddress | undefined,
  ): Promise<void> {
    if (this.#closed) throw new Deno.errors.BadResource("Socket is closed");
    if (ipVersion(to.hostname) === undefined) {
      throw new TypeError(
        `Cannot send to '${to.hostname}': it is no IP address`,
      );
    }
    // Who asked may be answered, as by `reply`; and for the one peer of a connected
    // socket Deno was asked.
    if (from === undefined && !this.isConnected) requireNet(to);
    const control = this.#knowsLocal && from !== undefined
      ? sourceControl(from.hostname, this.#bound.family)
      : undefined;
    await this.#queue.send(payload, to, control, this.isConnected);
  }

  post(payload: Uint8Array, to: UdpAddress, listener: SendErrorListener): void {
    // A connected socket has one peer, for which Deno was asked.
    if (!this.isConnected) requireNet(to);
    this.#queue.post(payload, to, this.isConnected, listener);
  }

  reply(
    datagram: Datagram,
    payload: Uint8Array,
    options?: ReplyOptions | undefined,
  ): void {
    const answered = datagram as BatchDatagram;
    const { data } = answered;
    if (answered === this.#current) {
      // Copies of small datagrams are as fast.
      const isInPlace = payload === data && this.#isCoalesced &&
        options === undefined;
      const memory = isInPlace ? this.#buffer : undefined;
      this.#queue.addNow(
        payload,
        memory,
        this.#at,
        this.#message,
        answered,
        options,
      );
    } else {
      const { remoteAddr, local } = answered;
      this.#queue.addLater(payload, remoteAddr, local, options);
    }
    this.release(answered);
  }

  release(datagram: Datagram): void {
    const released = datagram as BatchDatagram;
    released.isHandedOut = false;
    if (!released.isKept) return;
    released.isKept = false;
    this.#kept--;
  }

  abandon(datagram: Datagram): void {
    // Its buffer has left the batch.
    this.release(datagram);
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
    // The thread that waits for it too would tell in some turn of the event loop.
    if (ready > 0) this.#poller.endReadable(this.#bound.fd);
  }

  kernelDrops(): number | undefined {
    return this.#closed ? undefined : kernelDrops(this.#libc, this.#bound.fd);
  }

  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#turns.end();
    this.#queue.flush();
    if (this.#started) this.#poller.wake(this.#bound.fd);
    else this.#release();
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
   * Takes what is there, without waiting. When nothing is, waits by the
   * {@linkcode Poller}, on another thread; or, while datagrams come fast and
   * nothing else is at work, for a moment in this one. After each millisecond of
   * work the event loop has a turn, which lets all else in that waits.
   */
  async #receive(): Promise<void> {
    let failures = 0;
    let hasLooked = false;
    let wasFull = false;
    while (!this.#closed) {
      this.#in.prepare();
      const count = this.#libc.recvmmsg(
        this.#bound.fd,
        this.#in.headers,
        this.#in.room,
        MSG_DONTWAIT,
      );
      if (count > 0) {
        failures = 0;
        hasLooked = false;
        this.#in.received(count);
        // What a client does with its replies takes long, and is no reason to
        // think that they come slowly.
        const before = this.isConnected ? this.#workedAt : this.#receivedAt;
        this.#receivedAt = this.#now();
        // A reply is judged by when its request was sent.
        if (this.stampsSends) this.#takeStamps();
        this.#turns.pace.onBatch(this.#receivedAt - before, count);
        this.#begin(count);
        while (!this.#handOut()) {
          this.#queue.flush();
          await (this.#turns.isPressing(this.#now())
            ? this.#turn()
            : this.#turns.round());
        }
        this.#queue.flush();
        // One more would have been received too, which is known when it is.
        if (wasFull) this.#in.grow();
        wasFull = count === this.#in.room;
        if (this.isConnected) await this.#letAskAgain();
        const now = this.#now();
        this.#workedAt = now;
        if (this.#turns.isDue(now)) await this.#turn();
        // Timers, handlers at work, and what waits for a microtask.
        else if (this.#kept > 0 || this.#turns.isRoundDue(now)) {
          await this.#turns.round();
        }
        continue;
      }
      const code = this.#libc.errno();
      // What the network says of a datagram that was sent, said once.
      if (REPORTS.has(code)) this.#receiver.onReceiveError?.(errorOf(code));
      else if (code === EAGAIN) {
        wasFull = false;
        // The queue wakes the wait until it is empty.
        if (this.stampsSends) this.#takeStamps();
        // While others are at work, what has come by the end of their turn is
        // received at once: woken for each datagram, they would get less done.
        if (this.#turns.pace.wasUsed && !hasLooked && !this.isConnected) {
          hasLooked = true;
          await this.#turn();
        } else if (!this.#isReadableSoon()) await this.#idle();
      } else if (code !== EINTR) {
        const error = errorOf(code);
        if (++failures >= MAX_RECEIVE_FAILURES) throw error;
        this.#receiver.onReceiveError?.(error);
        await this.#pause(Math.min(2 ** failures, MAX_PAUSE_MS));
      }
    }
  }

  #takeStamps(): void {
    const aheadMs = this.#lead.ms;
    for (const { index, stampMs } of takeStamps(this.#libc, this.#bound.fd)) {
      this.#receiver.onSent?.(index, stampMs - aheadMs);
    }
  }

  /**
   * A client's next request follows its reply within a few microtasks: they go
   * out together, before the next wait.
   */
  async #letAskAgain(): Promise<void> {
    for (let i = 0; i < HOPS && !this.#queue.isWaiting; i++) await null;
    this.#queue.flush();
  }

  /** Waits on another thread until there is something to receive. */
  async #idle(): Promise<void> {
    // It may have been closed while microtasks ran.
    if (this.#closed) return;
    const before = this.#now();
    await this.#poller.readable(this.#bound.fd);
    const now = this.#now();
    // In so long a wait the event loop has looked at everything.
    if (now - before > PARKED_MS) this.#turns.begin(now);
    else if (this.#turns.isPressing(now)) await this.#turn();
  }

  /** Lets all else in the process have a turn. */
  async #turn(): Promise<void> {
    await this.#turns.take();
    // Only in a wait may the process of a server without `ref` end.
    if (!this.#keepsAlive && !this.#queue.isBlocked && !this.#closed) {
      await this.#poller.writable(this.#bound.fd);
      this.#turns.begin(this.#now());
    }
    this.#workedAt = this.#now();
  }

  /** Waits in this thread, where that is good for all. */
  #isReadableSoon(): boolean {
    const { pace } = this.#turns;
    // Who is at work needs the event loop, and so does who waits to send.
    if (
      this.#kept > 0 || this.#queue.isBlocked || !pace.mayWait(this.#now())
    ) return false;
    this.#wait.u32[2] = WAIT_US * 1000;
    const ready = this.#libc.ppoll(this.#pollfd, 1, this.#wait);
    const now = this.#now();
    pace.onWait(now, ready === 0);
    return ready > 0 && !this.#turns.isPressing(now);
  }

  async #pause(ms: number): Promise<void> {
    await new Promise<void>((resolve) => {
      const timer = setTimeout(resolve, ms) as unknown as number;
      if (!this.#keepsAlive) Deno.unrefTimer(timer);
    });
  }

  #begin(count: number): void {
    this.#count = count;
    this.#message = 0;
    this.#lookedAt = this.#receivedAt;
    this.#open();
  }

  /** Makes ready to hand out the next message of the batch. */
  #open(): void {
    this.#at = 0;
    if (this.#message < this.#count) {
      this.#buffer = this.#in.buffer(this.#message);
    }
  }

  /**
   * Hands out the batch from where it was left off.
   *
   * @returns Whether all is handed out; else the event loop is to have a turn,
   * or what waits for nothing but a microtask is to settle.
   */
  #handOut(): boolean {
    const batch = this.#in;
    for (; this.#message < this.#count; this.#message++, this.#open()) {
      const message = this.#message;
      const length = batch.length(message);
      if (this.#knowsLocal) {
        this.#local = batch.localAddr(message, this.addr.port) ?? this.addr;
      }
      batch.readControl(message);
      const coalesced = batch.segmentBytes;
      const segment = coalesced || length;
      this.#isCoalesced = coalesced !== 0;
      this.#views = batch.views(message, segment);
      const datagram = this.#reusable;
      datagram.remoteAddr = batch.address(message);
      datagram.localAddr = this.#local;
      datagram.receivedAt = this.#receivedAt;
      datagram.arrivedAt = batch.stampMs === undefined
        ? undefined
        : batch.stampMs - this.#lead.ms;
      datagram.ttl = batch.ttl;
      datagram.trafficClass = batch.trafficClass;
      // An empty datagram is one too.
      do {
        const size = Math.min(segment, length - this.#at);
        const mayGoOn = this.#handOutOne(size, segment);
        this.#at += size;
        if (mayGoOn) continue;
        if (this.#at >= length) {
          this.#message++;
          this.#open();
        }
        return this.#message >= this.#count;
      } while (this.#at < length);
    }
    return true;
  }

  /** Hands out a datagram; returns whether the next one may follow at once. */
  #handOutOne(size: number, segment: number): boolean {
    if (size > this.#maxDatagramBytes) {
      this.#receiver.onTooLong?.();
      return true;
    }
    const whole = this.#buffer.u8;
    // A buffer that was transferred has no length any more.
    if (whole.length === 0) {
      this.#receiver.onReceiveError?.(new Error(TRANSFERRED));
      return true;
    }
    const data = size === segment && size > 0
      ? this.#views[this.#at / segment] ??= view(whole, this.#at, size)
      : view(whole, this.#at, size);
    const datagram = this.#reusable;
    datagram.data = data;
    datagram.isHandedOut = true;
    this.#current = datagram;
    this.#receiver.onDatagram(datagram);
    this.#current = undefined;
    if (datagram.isHandedOut) {
      this.#keep(datagram);
      if (this.#receiver.isFull?.()) return false;
    }
    return --this.#untilLook > 0 || this.#look();
  }

  /** The receiver keeps a datagram for longer than the call. */
  #keep(datagram: BatchDatagram): void {
    datagram.isKept = true;
    datagram.local = this.#in.local(this.#message)?.slice();
    this.#kept++;
    // Others may follow in the same message.
    this.#reusable = new BatchDatagram(datagram);
    // The next receive goes into another buffer.
    if (this.#in.buffer(this.#message) === this.#buffer) {
      this.#in.retire(this.#message);
    }
  }

  /** Looks at the clock; returns whether there is time for more. */
  #look(): boolean {
    const now = this.#now();
    const eachMs = (now - this.#lookedAt) / this.#stride;
    this.#stride = Math.max(
      1,
      Math.min(2 * this.#stride, MAX_STRIDE, Math.floor(LOOK_MS / eachMs)),
    );
    this.#untilLook = this.#stride;
    this.#lookedAt = now;
    return !this.#turns.isRoundDue(now);
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

/** A datagram that the receiver works on. */
class BatchDatagram implements Datagram {
  data: Uint8Array<ArrayBuffer> = NOTHING;
  remoteAddr: UdpAddress;
  localAddr: UdpAddress;
  receivedAt: number;
  arrivedAt: number | undefined;
  ttl: number | undefined;
  trafficClass: number | undefined;
  isHandedOut = false;
  /** For longer than the call. */
  isKept = false;
  /** The control message that sends a reply from the address asked. */
  local: Uint8Array | undefined;

  /** One that came with the same message as another. */
  constructor(other?: BatchDatagram) {
    this.remoteAddr = other?.remoteAddr ?? NOBODY;
    this.localAddr = other?.localAddr ?? NOBODY;
    this.receivedAt = other?.receivedAt ?? 0;
    this.arrivedAt = other?.arrivedAt;
    this.ttl = other?.ttl;
    this.trafficClass = other?.trafficClass;
  }
}

/** Has the system tell of each datagram its TTL, its traffic class, and when it came. */
function receivePacketInfo(
  libc: Libc,
  { fd, family }: SocketDescriptor,
): void {
  trySet(libc, fd, SOL_SOCKET, SO_TIMESTAMPNS, 1);
  trySet(libc, fd, IPPROTO_IP, IP_RECVTTL, 1);
  trySet(libc, fd, IPPROTO_IP, IP_RECVTOS, 1);
  if (family !== AF_INET6) return;
  trySet(libc, fd, IPPROTO_IPV6, IPV6_RECVHOPLIMIT, 1);
  trySet(libc, fd, IPPROTO_IPV6, IPV6_RECVTCLASS, 1);
}

function tooSmall(bytes: number): Error {
  return new Error(
    `The receive buffer has ${bytes} bytes, as the system gives no more: raise net.core.rmem_max`,
  );
}

function view(
  { buffer }: Uint8Array<ArrayBuffer>,
  at: number,
  size: number,
): Uint8Array<ArrayBuffer> {
  return new Uint8Array(buffer, at, size);
}

const MAX_COALESCED_BYTES = 65_536;
const MAX_RECEIVE_FAILURES = 16;
const MAX_PAUSE_MS = 32;
/** The longest wait in the thread itself. */
const WAIT_US = 200;
/** How late the kernel wakes as a rule, and the longest sleep. */
const WAKE_MS = 0.06;
const MAX_SLEEP_MS = 0.999;
const PARKED_MS = 0.5;
const HOPS = 8;
const MAX_STRIDE = 32;
const LOOK_MS = 0.25;

const TRANSFERRED =
  "A datagram is lost: a handler transferred the buffer that it came in " +
  "(copy with slice() what is to be transferred)";

const NOTHING = new Uint8Array(0);
const NOBODY: UdpAddress = { hostname: "", port: 0 };

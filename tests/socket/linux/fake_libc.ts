/**
 * A C library in memory: tests set the arriving datagrams and the result of
 * each system call, and read the sent ones, decoded from the headers as by the
 * kernel.
 */
import type { NetAccess } from "../../../lib/socket/net_access.ts";
import type { UdpAddress } from "../../../lib/address.ts";
import { EAGAIN } from "../../../lib/socket/linux/errno.ts";
import { encodeControl } from "../../../lib/socket/linux/cmsg.ts";
import {
  AF_INET,
  decodeSockaddr,
  encodeSockaddr,
  EPOLLIN,
  EPOLLONESHOT,
  EPOLLOUT,
  IOVEC_LENGTH,
  IP_PKTINFO,
  IP_TOS,
  IP_TTL,
  IPPROTO_IP,
  MMSGHDR_BYTES,
  MMSGHDR_CONTROL,
  MMSGHDR_CONTROL_LENGTH,
  MMSGHDR_IOVEC,
  MMSGHDR_LENGTH,
  MMSGHDR_NAME,
  MMSGHDR_NAME_LENGTH,
  MSG_DONTWAIT,
  MSG_ERRQUEUE,
  SO_TIMESTAMPNS,
  SOL_SOCKET,
  SOL_UDP,
  UDP_GRO,
} from "../../../lib/socket/linux/layout.ts";
import type { Handler } from "../../../lib/server/handler.ts";
import type {
  EpollEvent,
  Libc,
  Memory,
} from "../../../lib/socket/linux/libc.ts";
import { Poller } from "../../../lib/socket/linux/poller.ts";
import { LinuxSocket } from "../../../lib/socket/linux/socket.ts";
import { echo } from "../../../lib/server/responders.ts";
import { denoRuntime, type Runtime } from "../../../lib/socket/runtime.ts";
import { serve, type ServeOptions } from "../../../lib/server/serve.ts";

/** One message, as one header of sendmmsg describes it. */
export interface Sent {
  /** Undefined on a connected socket. */
  to: UdpAddress | undefined;
  payload: string;
  /** The segment size, in bytes; 0 for a message without segments. */
  segmentBytes: number;
  /** The source address, if one was set. */
  source?: string;
  /** The traffic class, if one was set. */
  trafficClass?: number;
}

interface Arriving {
  from: UdpAddress;
  payload: string;
  segmentBytes: number;
  /** The destination, as reported to a wildcard socket. */
  to?: string;
  /** TTL, traffic class and the second of its arrival, if requested. */
  ttl?: number;
  trafficClass?: number;
  second?: number;
}

const PEER = "127.0.0.2";
const FD = 7;
const EPOLL_FD = 8;

export class FakeLibc implements Libc {
  /** Whether the socket is for IPv4 or for IPv6. */
  family = AF_INET;
  /** The address that the socket is bound to. */
  bound: UdpAddress = { hostname: "127.0.0.1", port: 4242 };
  /** The messages of a socket's first receive, at most. */
  room = 64;
  /** All sent messages. */
  readonly sent: Sent[] = [];
  /** Descriptors that were closed, in order. */
  readonly closed: number[] = [];
  /**
   * The results of the next calls of sendmmsg: the number of sent messages, or
   * a negative errno. Later calls send all messages.
   */
  sends: number[] = [];
  /** Negative errnos of the next calls of recvmmsg. */
  receives: number[] = [];
  /** Control messages that wait in the error queue, entry by entry. */
  readonly errorQueue: Uint8Array[] = [];
  /** Negative errnos of the next calls of epoll_ctl. */
  watches: number[] = [];
  /** The longest wait in this thread, in milliseconds. */
  readonly waits: number[] = [];
  /** Whether the waiting thread never reports a datagram. */
  isThreadAway = false;
  /** The time, in milliseconds, advanced only by tests. */
  now = 0;
  /**
   * The processor time of other work in each of the next rounds of the event
   * loop, in milliseconds; and the number of past rounds.
   */
  others: number[] = [];
  looks = 0;
  #threadMs = 0;
  /** Whether the send buffer has room, for waits for room. */
  #hasRoom = true;
  /** Socket options that the kernel refuses: level, option and errno. */
  refusedOptions: Array<[number, number, number]> = [];
  /** Socket options that were set: level, option and the bytes of the value. */
  readonly options: Array<[number, number, number[]]> = [];
  /** The kernel's value of an option, in words. */
  readonly values = new Map<number, number[]>();
  /** The state of the clock and its largest error, in microseconds. */
  clock: [state: number, maxErrorUs: bigint] = [0, 0n];
  /** The indices of the existing interfaces. */
  readonly interfaces = new Map<string, number>();
  /** The destinations that sockets may send to; undefined for all. */
  access: NetAccess | undefined;
  /** The peer of a connected socket. */
  peer: UdpAddress | undefined;
  /** The number of calls of connect(). */
  connects = 0;
  readonly #memories: Memory[] = [];
  #nextAddress = 2 ** 33;
  #errno = 0;
  #inbox: Arriving[] = [];
  /** The awaited events, and the listener of each. */
  #armed = 0;
  #wake = () => {};

  /** A runtime whose sockets use this library. */
  get runtime(): Runtime {
    const close = (fd: number) => ({ fd, close: () => this.closed.push(fd) });
    const poller = new Poller(this, close);
    const bound = { ...close(FD), family: this.family };
    return {
      ...denoRuntime,
      warn: () => {},
      open: (options) =>
        new LinuxSocket(
          { ...bound, ...options.peer && { peer: options.peer } },
          options,
          this,
          poller,
          this.access,
          () => this.now,
          this.room,
        ),
    };
  }

  /** Whether waits for room in the send buffer never end. */
  set hasRoom(hasRoom: boolean) {
    this.#hasRoom = hasRoom;
    this.#wake();
  }

  /** Datagrams arrive, in one receive; those of one message are coalesced. */
  arrive(
    ...messages: Array<
      & { host?: string; port?: number; payloads: string[]; to?: string }
      & Pick<Arriving, "ttl" | "trafficClass" | "second">
    >
  ): void {
    for (const { host = PEER, port = 9, payloads, ...more } of messages) {
      this.#inbox.push({
        from: { hostname: host, port },
        payload: payloads.join(""),
        segmentBytes: payloads.length > 1 ? payloads[0]!.length : 0,
        ...more,
      });
    }
    this.#wake();
  }

  allocate(bytes: number): Memory {
    const buffer = new ArrayBuffer(Math.ceil(bytes / 8) * 8);
    const memory = {
      u8: new Uint8Array(buffer),
      u32: new Uint32Array(buffer),
      address: this.#nextAddress,
    };
    this.#nextAddress += buffer.byteLength + 4096;
    this.#memories.push(memory);
    return memory;
  }

  /** The size of the allocated memory, in bytes. */
  get allocatedBytes(): number {
    return this.#memories.reduce((sum, { u8 }) => sum + u8.length, 0);
  }

  errno(): number {
    return this.#errno;
  }

  socket(): number {
    return FD;
  }

  bind(): number {
    return 0;
  }

  connect(_fd: number, name: Memory): number {
    this.peer = decodeSockaddr(name.u8);
    this.connects++;
    return 0;
  }

  getsockopt(
    _fd: number,
    _level: number,
    option: number,
    value: Memory,
    length: Memory,
  ): number {
    const room = length.u32[0]! / 4;
    const words = (this.values.get(option) ?? [0]).slice(0, room);
    value.u32.set(words);
    length.u32[0] = 4 * words.length;
    return 0;
  }

  getsockname(_fd: number, name: Memory): number {
    encodeSockaddr(this.bound, this.family, name.u8);
    return 0;
  }

  setsockopt(
    _fd: number,
    level: number,
    option: number,
    value: Memory,
    length: number,
  ): number {
    const refusal = this.refusedOptions.find((refused) =>
      refused[0] === level && refused[1] === option
    );
    if (refusal !== undefined) return this.#result(-refusal[2]);
    this.options.push([level, option, [...value.u8.subarray(0, length)]]);
    return 0;
  }

  recvmmsg(
    _fd: number,
    headers: Memory,
    count: number,
    flags: number,
  ): number {
    if ((flags & MSG_DONTWAIT) === 0) throw new Error("recvmmsg would wait");
    if ((flags & MSG_ERRQUEUE) !== 0) return this.#takeQueued(headers);
    const failure = this.receives.shift();
    if (failure !== undefined) return this.#result(failure);
    const arriving = this.#inbox.splice(0, count);
    if (arriving.length === 0) return this.#result(-EAGAIN);
    arriving.forEach((message, i) => this.#deliver(headers, i, message));
    return arriving.length;
  }

  sendmmsg(
    _fd: number,
    headers: Memory,
    offset: number,
    count: number,
    flags: number,
  ) {
    if ((flags & MSG_DONTWAIT) === 0) throw new Error("sendmmsg would wait");
    const result = this.#result(this.sends.shift() ?? count);
    for (let i = 0; i < result; i++) {
      this.sent.push(this.#read(headers, offset + i * MMSGHDR_BYTES));
    }
    return result;
  }

  ppoll(_fds: Memory, _count: number, timeout: Memory): number {
    this.waits.push(timeout.u32[2]! / 1e6);
    return this.#inbox.length > 0 ? 1 : 0;
  }

  epollCreate(): number {
    return EPOLL_FD;
  }

  epollControl(_epoll: number, _op: number, _fd: number, event: Memory) {
    const failure = this.watches.shift();
    if (failure !== undefined) return this.#result(failure);
    this.#armed = event.u32[0]! & ~EPOLLONESHOT;
    this.#wake();
    return 0;
  }

  epollWait(): Promise<EpollEvent[]> {
    return new Promise((resolve) => {
      this.#wake = () => {
        if (this.isThreadAway) return;
        const isReadable = this.#inbox.length > 0 || this.receives.length > 0;
        const ready = (isReadable ? EPOLLIN : 0) |
          (this.#hasRoom ? EPOLLOUT : 0);
        const events = this.#armed & ready;
        if (events === 0) return;
        this.#armed = 0;
        this.#wake = () => {};
        // A thread would report it in a later turn of the event loop.
        setImmediate(() => resolve([{ fd: FD, events }]));
      };
      this.#wake();
    });
  }

  endWaitsOnTime(): void {}

  otherThread(): Promise<void> {
    this.looks++;
    const usedMs = this.others.shift() ?? 0;
    this.now += usedMs;
    this.#threadMs += usedMs;
    return new Promise((resolve) => setImmediate(() => resolve()));
  }

  threadMs(): number {
    return this.#threadMs;
  }

  realtimeMs(): number {
    return 0;
  }

  adjtimex(timex: Memory): number {
    const [state, maxErrorUs] = this.clock;
    new DataView(timex.u8.buffer).setBigInt64(24, maxErrorUs, true);
    return this.#result(state);
  }

  interfaceIndex(name: string): number {
    return this.interfaces.get(name) ?? 0;
  }

  dup(_from: number, to: number): number {
    return to;
  }

  close(fd: number): number {
    this.closed.push(fd);
    return 0;
  }

  /** A negative number is a failure, with that errno. */
  #result(result: number): number {
    if (result >= 0) return result;
    this.#errno = -result;
    return -1;
  }

  #takeQueued(headers: Memory): number {
    const entry = this.errorQueue.shift();
    if (entry === undefined) return this.#result(-EAGAIN);
    const room = headers.u32[MMSGHDR_CONTROL_LENGTH / 4]!;
    const { memory, at } = this.#at(pointerAt(headers, MMSGHDR_CONTROL));
    memory.u8.set(entry.subarray(0, room), at);
    headers.u32[MMSGHDR_CONTROL_LENGTH / 4] = Math.min(room, entry.length);
    return 1;
  }

  #deliver(headers: Memory, index: number, message: Arriving): void {
    const at = index * MMSGHDR_BYTES;
    const iovec = this.#at(pointerAt(headers, at + MMSGHDR_IOVEC));
    const buffer = this.#at(pointerAt(iovec.memory, iovec.at));
    const bytes = new TextEncoder().encode(message.payload);
    buffer.memory.u8.set(bytes, buffer.at);
    const name = this.#at(pointerAt(headers, at + MMSGHDR_NAME));
    encodeSockaddr(message.from, this.family, name.memory.u8.subarray(name.at));
    headers.u32[(at + MMSGHDR_NAME_LENGTH) / 4] = 16;
    headers.u32[(at + MMSGHDR_LENGTH) / 4] = bytes.length;
    headers.u32[(at + MMSGHDR_CONTROL_LENGTH) / 4] = 0;
    const control = this.#at(pointerAt(headers, at + MMSGHDR_CONTROL));
    let used = 0;
    const add = (level: number, type: number, data: Uint8Array) => {
      const bytes = encodeControl(level, type, data);
      control.memory.u8.set(bytes, control.at + used);
      used += Math.ceil(bytes.length / 8) * 8;
    };
    const { to, segmentBytes, ttl, trafficClass, second } = message;
    const word = (value: number) =>
      new Uint8Array(new Uint32Array([value]).buffer);
    if (second !== undefined) {
      const time = new Uint32Array([second, 0, 250_000, 0]);
      add(SOL_SOCKET, SO_TIMESTAMPNS, new Uint8Array(time.buffer));
    }
    if (ttl !== undefined) add(IPPROTO_IP, IP_TTL, word(ttl));
    // The kernel reports it in a byte.
    if (trafficClass !== undefined) {
      add(IPPROTO_IP, IP_TOS, new Uint8Array([trafficClass]));
    }
    if (to !== undefined) {
      // The interface, the source of replies, and the destination.
      const address = to.split(".").map(Number);
      add(0, IP_PKTINFO, new Uint8Array([1, 0, 0, 0, ...address, ...address]));
    }
    if (segmentBytes > 0) add(SOL_UDP, UDP_GRO, word(segmentBytes));
    headers.u32[(at + MMSGHDR_CONTROL_LENGTH) / 4] = used;
  }

  #read(headers: Memory, at: number): Sent {
    const word = (offset: number) => headers.u32[(at + offset) / 4]!;
    const iovec = this.#at(pointerAt(headers, at + MMSGHDR_IOVEC));
    const length = iovec.memory.u32[(iovec.at + IOVEC_LENGTH) / 4]!;
    const buffer = this.#at(pointerAt(iovec.memory, iovec.at));
    const bytes = buffer.memory.u8.slice(buffer.at, buffer.at + length);
    const name = word(MMSGHDR_NAME_LENGTH) === 0
      ? undefined
      : this.#at(pointerAt(headers, at + MMSGHDR_NAME));
    return {
      to: name && decodeSockaddr(name.memory.u8, name.at),
      payload: new TextDecoder().decode(bytes),
      ...this.#readControl(headers, at),
    };
  }

  #readControl(
    headers: Memory,
    at: number,
  ): Pick<Sent, "segmentBytes" | "source" | "trafficClass"> {
    const length = headers.u32[(at + MMSGHDR_CONTROL_LENGTH) / 4]!;
    if (length === 0) return { segmentBytes: 0 };
    const place = this.#at(pointerAt(headers, at + MMSGHDR_CONTROL));
    const control = place.memory.u8.slice(place.at, place.at + length);
    const sent: Partial<Sent> & { segmentBytes: number } = { segmentBytes: 0 };
    const view = new DataView(control.buffer);
    for (let at = 0; at < length;) {
      const type = view.getUint32(at + 12, true);
      const data = at + 16;
      if (view.getUint32(at + 8, true) === SOL_UDP) {
        sent.segmentBytes = view.getUint16(data, true);
      } else if (type === IP_TOS) sent.trafficClass = control[data]!;
      else sent.source = control.subarray(data + 4, data + 8).join(".");
      at += Math.ceil(view.getUint32(at, true) / 8) * 8;
    }
    return sent;
  }

  /** The memory at an address, which must be allocated. */
  #at(address: number): { memory: Memory; at: number } {
    const memory = this.#memories.find(({ address: start, u8 }) =>
      address >= start && address < start + u8.length
    );
    if (memory === undefined) throw new Error(`No memory at ${address}`);
    return { memory, at: address - memory.address };
  }
}

function pointerAt({ u32 }: Memory, at: number): number {
  return u32[at / 4]! + u32[at / 4 + 1]! * 2 ** 32;
}

/** A socket for many datagrams. */
export const BUSY = {
  hostname: "127.0.0.1",
  port: 0,
  maxDatagramBytes: 100,
  isBusy: true,
};

/** A server on a fake C library, by default an echo, and its errors. */
export function started(
  options: ServeOptions = {},
  handler: Handler = echo(),
  room?: number,
) {
  const libc = new FakeLibc();
  libc.room = room ?? libc.room;
  const { hostname } = options;
  if (hostname !== undefined) libc.bound = { hostname, port: 4242 };
  const errors: string[] = [];
  const server = serve({
    runtime: libc.runtime,
    guard: false,
    onError: (error) => void errors.push((error as Error).message),
    ...options,
  }, handler);
  return { libc, server, errors };
}

/** Runs all pending callbacks. */
export async function idle(): Promise<void> {
  // A turn of the engine takes several rounds.
  for (let i = 0; i < 500; i++) {
    await new Promise<void>((resolve) => setImmediate(() => resolve()));
  }
}

/** A message of one datagram. */
export const one = (payload: string, port = 9) => ({
  port,
  payloads: [payload],
});
/** The payloads of the sent messages. */
export const payloads = ({ sent }: FakeLibc) =>
  sent.map(({ payload }) => payload);

/**
 * The error queue's entry of a sent datagram, half a millisecond after a
 * second.
 */
export function stamped(
  index: number,
  seconds: number,
  origin = 4,
): Uint8Array {
  const bytes = new Uint8Array(64 + 48);
  const view = new DataView(bytes.buffer);
  // Three struct timespec, of which the first is the kernel's.
  view.setUint32(0, 64, true);
  view.setInt32(8, 1, true);
  view.setInt32(12, 37, true);
  view.setUint32(16, seconds, true);
  view.setUint32(24, 500_000, true);
  view.setUint32(64, 48, true);
  view.setInt32(72, 0, true);
  view.setInt32(76, 11, true);
  bytes[80 + 4] = origin;
  view.setUint32(80 + 12, index, true);
  return bytes;
}

/**
 * The batch of one recvmmsg: headers, addresses, control messages and buffers, in
 * memory that is laid out once and used again.
 *
 * @module
 */
import type { UdpAddress } from "../../address.ts";
import { equalBytes } from "../../encoding.ts";
import { type Datagram, DatagramFacts } from "../datagram.ts";
import {
  CONTROL_BYTES,
  type ControlFacts,
  decodeControl,
  destinationBytes,
  destinationHostname,
  replySource,
} from "./cmsg.ts";
import {
  AF_INET,
  decodeSockaddr,
  IOVEC_BYTES,
  IOVEC_LENGTH,
  MMSGHDR_BYTES,
  MMSGHDR_CONTROL,
  MMSGHDR_CONTROL_LENGTH,
  MMSGHDR_IOVEC,
  MMSGHDR_IOVEC_COUNT,
  MMSGHDR_LENGTH,
  MMSGHDR_NAME,
  MMSGHDR_NAME_LENGTH,
  NAME_BYTES,
  setPointer,
} from "./layout.ts";
import type { Libc, Memory } from "./libc.ts";

/** The most messages of one call. */
export const BATCH = 64;

/** A datagram of a batch: its facts, and its place in the received message. */
export class BatchDatagram extends DatagramFacts
  implements Datagram, ControlFacts {
  data: Uint8Array<ArrayBuffer> = NOTHING;
  segmentBytes = 0;
  stampMs: number | undefined;
  destinationAt = -1;
  errorAt = -1;
  /** The message, the memory that it was received into, and the byte in that. */
  message = 0;
  memory: Memory | undefined;
  at = 0;
  isHandedOut = false;
  /** Whether the receiver holds it for longer than the call. */
  isHeld = false;
  /** A copy of {@linkcode ReceiveBatch.replySource}, while it is held. */
  source: Uint8Array | undefined;

  constructor() {
    super({ remoteAddr: NOBODY, localAddr: NOBODY, receivedAt: 0 });
  }
}

/** Headers, addresses and buffers for one recvmmsg. */
export class ReceiveBatch {
  readonly headers: Memory;
  readonly #libc: Libc;
  readonly #names: Memory;
  readonly #iovecs: Memory;
  readonly #controls: Memory;
  readonly #buffers: Memory[] = [];
  readonly #views: Array<{ size: number; list: Uint8Array<ArrayBuffer>[] }> =
    [];
  readonly #bufferBytes: number;
  readonly #addresses: AddressCache;
  readonly #size: number;
  /** The destination of the latest message. */
  #localBytes = new Uint8Array(0);
  #localAddr: UdpAddress | undefined;
  /** The number of messages that the kernel has written since it was prepared. */
  #used: number;

  /**
   * Lays out a batch.
   *
   * @param libc The C library, which allocates the memory.
   * @param size The number of messages.
   * @param bufferBytes The size of a message's buffer.
   * @param startsSmall Whether it begins with room for one message, and grows; and
   * has few peers.
   */
  constructor(
    libc: Libc,
    size: number,
    bufferBytes: number,
    startsSmall = false,
  ) {
    this.#libc = libc;
    this.#size = size;
    this.#addresses = new AddressCache(startsSmall ? 1 : CACHED_ADDRESSES);
    this.headers = libc.allocate(size * MMSGHDR_BYTES);
    this.#names = libc.allocate(size * NAME_BYTES);
    this.#iovecs = libc.allocate(size * IOVEC_BYTES);
    this.#controls = libc.allocate(size * CONTROL_BYTES);
    this.#bufferBytes = bufferBytes;
    this.#used = size;
    const { u32 } = this.headers;
    for (let i = 0; i < size; i++) {
      const at = i * MMSGHDR_BYTES;
      setPointer(u32, at + MMSGHDR_NAME, this.namePointer(i));
      setPointer(
        u32,
        at + MMSGHDR_IOVEC,
        this.#iovecs.address + i * IOVEC_BYTES,
      );
      u32[(at + MMSGHDR_IOVEC_COUNT) / 4] = 1;
      const control = this.#controls.address + i * CONTROL_BYTES;
      setPointer(u32, at + MMSGHDR_CONTROL, control);
      if (i === 0 || !startsSmall) this.retire(i);
    }
  }

  /** The number of messages that have a buffer. */
  get room(): number {
    return this.#buffers.length;
  }

  /** Doubles the room, up to the size of the batch. */
  grow(): void {
    const room = Math.min(2 * this.room, this.#size);
    for (let i = this.room; i < room; i++) this.retire(i);
  }

  /** Prepares the headers; must be called before each receive. */
  prepare(): void {
    const words = this.headers.u32;
    // The kernel has replaced the sizes by the lengths that it used.
    for (let i = 0; i < this.#used; i++) {
      const at = i * MMSGHDR_BYTES / 4;
      words[at + MMSGHDR_NAME_LENGTH / 4] = NAME_BYTES;
      words[at + MMSGHDR_CONTROL_LENGTH / 4] = CONTROL_BYTES;
    }
    this.#used = 0;
    // A handler may have transferred its buffer at any time since.
    for (let i = 0; i < this.#buffers.length; i++) {
      if (this.#buffers[i]!.u8.length === 0) this.retire(i);
    }
  }

  /** Notes the number of messages that were received. */
  received(count: number): void {
    this.#used = count;
  }

  /** Gives a message another buffer; the holders of its datagrams own the old one. */
  retire(message: number): void {
    const buffer = this.#libc.allocate(this.#bufferBytes);
    this.#buffers[message] = buffer;
    this.#views[message] = { size: -1, list: [] };
    const at = message * IOVEC_BYTES;
    setPointer(this.#iovecs.u32, at, buffer.address);
    this.#iovecs.u32[(at + IOVEC_LENGTH) / 4] = this.#bufferBytes;
  }

  /** The length of a message, in bytes. */
  length(message: number): number {
    return this.#word(message, MMSGHDR_LENGTH);
  }

  /** The length of the sender's address, in bytes. */
  nameLength(message: number): number {
    return this.#word(message, MMSGHDR_NAME_LENGTH);
  }

  /** The pointer to the sender's address. */
  namePointer(message: number): number {
    return this.#names.address + message * NAME_BYTES;
  }

  /** The sender's address; the same object again while it is remembered. */
  address(message: number): UdpAddress {
    return this.#addresses.get(this.#names, message * NAME_BYTES);
  }

  /** The buffer of a message. */
  buffer(message: number): Memory {
    return this.#buffers[message]!;
  }

  /** The views of one size into a message's buffer, kept to be used again. */
  views(message: number, size: number): Uint8Array<ArrayBuffer>[] {
    const views = this.#views[message]!;
    if (views.size !== size) {
      views.size = size;
      views.list = [];
    }
    return views.list;
  }

  /** Reads the control messages of a message. */
  readControl(message: number, facts: ControlFacts): void {
    facts.segmentBytes = 0;
    facts.stampMs = undefined;
    facts.destinationAt = -1;
    const start = message * CONTROL_BYTES / 4;
    const end = start + this.#word(message, MMSGHDR_CONTROL_LENGTH) / 4;
    if (end > start) decodeControl(this.#controls.u32, start, end, facts);
  }

  /**
   * The control message that has a reply leave from the address asked; it is
   * overwritten by the next receive.
   */
  replySource({ destinationAt }: ControlFacts): Uint8Array | undefined {
    return destinationAt === -1
      ? undefined
      : replySource(this.#controls.u8, 4 * destinationAt);
  }

  /**
   * The destination of a message, if its control messages have it; the same object
   * again while it stays the same.
   */
  localAddr(
    { destinationAt }: ControlFacts,
    port: number,
  ): UdpAddress | undefined {
    if (destinationAt === -1) return undefined;
    const bytes = destinationBytes(this.#controls.u8, 4 * destinationAt);
    if (!equalBytes(bytes, this.#localBytes)) {
      this.#localBytes = bytes.slice();
      const hostname = destinationHostname(bytes);
      this.#localAddr = Object.freeze({ hostname, port });
    }
    return this.#localAddr;
  }

  #word(message: number, offset: number): number {
    return this.headers.u32[(message * MMSGHDR_BYTES + offset) / 4]!;
  }
}

/**
 * Addresses that were decoded before, so that a datagram of a known IPv4 peer, or
 * of the latest IPv6 peer, makes no strings. Direct-mapped: bounded, and as fast
 * with any number of peers.
 */
class AddressCache {
  readonly #keys: Uint32Array;
  readonly #addresses: UdpAddress[] = [];
  readonly #mask: number;
  /** The latest IPv6 peer: its struct sockaddr_in6, and its address. */
  readonly #lastWords = new Uint32Array(SOCKADDR_IN6_WORDS);
  #lastIPv6: UdpAddress | undefined;

  /**
   * Makes a cache.
   *
   * @param size The number of addresses, a power of 2.
   */
  constructor(size: number) {
    this.#keys = new Uint32Array(2 * size);
    this.#mask = size - 1;
  }

  get({ u8, u32 }: Memory, at: number): UdpAddress {
    // The family and, in the order of the network, the port; then the host.
    const familyAndPort = u32[at / 4]!;
    const host = u32[at / 4 + 1]!;
    if ((familyAndPort & 0xffff) !== AF_INET) return this.#getIPv6(u8, u32, at);
    // Spread well where hosts, ports or both of them follow each other.
    const mixed = Math.imul(host, 0x85ebca6b) ^ familyAndPort ^
      familyAndPort >>> 16;
    const index = (Math.imul(mixed ^ mixed >>> 15, 0x9e3779b1) >>> 16) &
      this.#mask;
    const known = this.#addresses[index];
    if (
      known !== undefined && this.#keys[2 * index] === host &&
      this.#keys[2 * index + 1] === familyAndPort
    ) return known;
    // Frozen, since one object serves many datagrams and their handlers.
    const address = Object.freeze(decodeSockaddr(u8, at));
    this.#keys[2 * index] = host;
    this.#keys[2 * index + 1] = familyAndPort;
    this.#addresses[index] = address;
    return address;
  }

  #getIPv6(u8: Uint8Array, u32: Uint32Array, at: number): UdpAddress {
    const last = this.#lastWords;
    let i = 0;
    while (i < SOCKADDR_IN6_WORDS && u32[at / 4 + i] === last[i]) i++;
    if (this.#lastIPv6 === undefined || i < SOCKADDR_IN6_WORDS) {
      last.set(u32.subarray(at / 4, at / 4 + SOCKADDR_IN6_WORDS));
      this.#lastIPv6 = Object.freeze(decodeSockaddr(u8, at));
    }
    return this.#lastIPv6;
  }
}

const CACHED_ADDRESSES = 1 << 16;
const SOCKADDR_IN6_WORDS = 7;
const NOTHING = new Uint8Array(0);
const NOBODY: UdpAddress = { hostname: "", port: 0 };

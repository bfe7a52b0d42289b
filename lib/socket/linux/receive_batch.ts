/**
 * The batch of one recvmmsg.
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
import * as sys from "./layout.ts";
import type { Libc, Memory } from "./libc.ts";
import { BATCH, Messages } from "./messages.ts";

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

/** The messages of one recvmmsg, and their buffers. */
export class ReceiveBatch extends Messages {
  readonly #buffers: Array<{
    memory: Memory;
    /** Views into it, and their size. */
    views: Uint8Array<ArrayBuffer>[];
    viewBytes: number;
  }> = [];
  readonly #bufferBytes: number;
  readonly #addresses = new AddressCache();
  /** The destination of the latest message. */
  #localBytes = new Uint8Array(0);
  #localAddr: UdpAddress | undefined;
  /** The number of messages whose headers the kernel has written. */
  #used = BATCH;

  /** Lays out a batch that has room for a number of messages at first. */
  constructor(libc: Libc, bufferBytes: number, room: number) {
    super(libc, CONTROL_BYTES);
    this.#bufferBytes = bufferBytes;
    for (let i = 0; i < room; i++) this.retire(i);
  }

  /** The number of messages that have a buffer. */
  get room(): number {
    return this.#buffers.length;
  }

  /** Makes four times the room, up to the size of the batch. */
  grow(): void {
    const room = Math.min(4 * this.room, BATCH);
    for (let i = this.room; i < room; i++) this.retire(i);
  }

  /** Receives without waiting; returns the number of messages, or a failure. */
  receive(fd: number): number {
    // The kernel has replaced the sizes by the lengths that it used.
    for (let i = 0; i < this.#used; i++) {
      this.setWord(i, sys.MMSGHDR_NAME_LENGTH, sys.NAME_BYTES);
      this.setWord(i, sys.MMSGHDR_CONTROL_LENGTH, CONTROL_BYTES);
    }
    // A handler may have transferred its buffer at any time since.
    for (let i = 0; i < this.room; i++) {
      if (this.buffer(i).u8.length === 0) this.retire(i);
    }
    const { headers, room } = this;
    const count = this.libc.recvmmsg(fd, headers, room, sys.MSG_DONTWAIT);
    this.#used = Math.max(0, count);
    return count;
  }

  /** Gives a message another buffer; the holders of its datagrams own the old one. */
  retire(message: number): void {
    const memory = this.libc.allocate(this.#bufferBytes);
    this.#buffers[message] = { memory, views: [], viewBytes: -1 };
    this.setBuffer(message, memory.address, this.#bufferBytes);
  }

  /** The length of a message, in bytes. */
  length(message: number): number {
    return this.word(message, sys.MMSGHDR_LENGTH);
  }

  /** The length of the sender's address, in bytes. */
  nameLength(message: number): number {
    return this.word(message, sys.MMSGHDR_NAME_LENGTH);
  }

  /** The sender's address; the same object again while it is remembered. */
  address(message: number): UdpAddress {
    return this.#addresses.get(this.names, message * sys.NAME_BYTES);
  }

  /** The buffer of a message. */
  buffer(message: number): Memory {
    return this.#buffers[message]!.memory;
  }

  /** The views of one size into a message's buffer, kept to be used again. */
  views(message: number, size: number): Uint8Array<ArrayBuffer>[] {
    const buffer = this.#buffers[message]!;
    if (buffer.viewBytes !== size) {
      buffer.viewBytes = size;
      buffer.views = [];
    }
    return buffer.views;
  }

  /** Reads the control messages of a message. */
  readControl(message: number, facts: ControlFacts): void {
    facts.segmentBytes = 0;
    facts.stampMs = undefined;
    facts.destinationAt = -1;
    const start = message * CONTROL_BYTES / 4;
    const end = start + this.word(message, sys.MMSGHDR_CONTROL_LENGTH) / 4;
    if (end > start) decodeControl(this.controls.u32, start, end, facts);
  }

  /**
   * The control message that has a reply leave from the address asked; it is
   * overwritten by the next receive.
   */
  replySource({ destinationAt }: ControlFacts): Uint8Array | undefined {
    return destinationAt === -1
      ? undefined
      : replySource(this.controls.u8, 4 * destinationAt);
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
    const bytes = destinationBytes(this.controls.u8, 4 * destinationAt);
    if (!equalBytes(bytes, this.#localBytes)) {
      this.#localBytes = bytes.slice();
      const hostname = destinationHostname(bytes);
      this.#localAddr = Object.freeze({ hostname, port });
    }
    return this.#localAddr;
  }
}

/**
 * Addresses that were decoded before, so that a datagram of a known peer makes no
 * strings. Direct-mapped: bounded, and as fast with any number of peers. It grows
 * with their number.
 */
class AddressCache {
  #size = FIRST_ADDRESSES;
  /** A struct sockaddr_in6 each; of IPv4, the words before the padding. */
  #keys = new Uint32Array(this.#size * SOCKADDR_IN6_WORDS);
  #addresses = new Array<UdpAddress | undefined>(this.#size);
  #evicted = 0;

  get(name: Memory, at: number): UdpAddress {
    const { u8, u32 } = name;
    const first = at / 4;
    // The family and, in the order of the network, the port; then the host.
    const familyAndPort = u32[first]!;
    const isIPv4 = (familyAndPort & 0xffff) === sys.AF_INET;
    const words = isIPv4 ? SOCKADDR_IN_WORDS : SOCKADDR_IN6_WORDS;
    // Spread well where hosts, ports or both of them follow each other.
    let mixed = familyAndPort;
    for (let i = 1; i < words; i++) {
      mixed = Math.imul(mixed ^ mixed >>> 16, 0x85ebca6b) ^ u32[first + i]!;
    }
    mixed = Math.imul(mixed ^ mixed >>> 15, 0x9e3779b1) >>> 16;
    const index = mixed & this.#size - 1;
    const known = this.#addresses[index];
    const key = index * SOCKADDR_IN6_WORDS;
    if (known !== undefined) {
      let i = 0;
      while (i < words && this.#keys[key + i] === u32[first + i]) i++;
      if (i === words) return known;
      if (++this.#evicted > this.#size && this.#size < MAX_ADDRESSES) {
        this.#grow();
        return this.get(name, at);
      }
    }
    for (let i = 0; i < words; i++) this.#keys[key + i] = u32[first + i]!;
    // Frozen, since one object serves many datagrams and their handlers.
    const address = Object.freeze(sys.decodeSockaddr(u8, at));
    return this.#addresses[index] = address;
  }

  /** Begins anew with four times the size. */
  #grow(): void {
    this.#size *= 4;
    this.#keys = new Uint32Array(this.#size * SOCKADDR_IN6_WORDS);
    this.#addresses = new Array(this.#size);
    this.#evicted = 0;
  }
}

const FIRST_ADDRESSES = 1 << 6;
const MAX_ADDRESSES = 1 << 16;
const SOCKADDR_IN_WORDS = 2;
const SOCKADDR_IN6_WORDS = 7;
const NOTHING = new Uint8Array(0);
const NOBODY: UdpAddress = { hostname: "", port: 0 };

/**
 * The batch of one recvmmsg.
 *
 * @module
 */
import { isMulticast, type UdpAddress, withoutZone } from "../../address.ts";
import { equalBytes } from "../../encoding.ts";
import { type Datagram, DatagramFacts } from "../datagram.ts";
import type { Membership } from "../multicast.ts";
import {
  CONTROL_BYTES,
  type ControlFacts,
  decodeControl,
  destinationBytes,
  destinationHostname,
  destinationIndex,
  replySource,
  sourceControl,
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
  /** The destination, where the kernel gives it. */
  destination: Destination | undefined;

  constructor() {
    super({ remoteAddr: NOBODY, localAddr: NOBODY, receivedAt: 0 });
  }
}

/** An address of this machine that datagrams are sent to. */
export interface Destination {
  /** A number of its own, from 1. */
  readonly id: number;
  /** The part of a control message that it is made of. */
  readonly bytes: Uint8Array;
  readonly addr: UdpAddress;
  /** The control message that has a reply leave from it, or from its link's address. */
  readonly source: Uint8Array;
  /** Whether it is a group, by a link on which the socket has not joined it. */
  isForeign: boolean;
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
  readonly #peers = new PeerCache();
  /** The latest destinations, each at a place by its number. */
  readonly #destinations: Destination[] = Array(MAX_DESTINATIONS).fill(NOWHERE);
  #lastDestination: Destination | undefined;
  #nextId = 1;
  /** The time in units of about a second, of which 16 bits count. */
  tick = 0;
  #memberships: readonly Membership[] = [];
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

  /**
   * Writes both addresses of a message, whose control messages were read: each is the
   * same object again while it is remembered.
   */
  readAddresses(datagram: BatchDatagram, bound: UdpAddress): void {
    const destination = this.#destination(datagram, bound.port);
    const at = datagram.message * sys.NAME_BYTES;
    const latest = destination === undefined
      ? 0
      : (destination.id | this.tick << 16) >>> 0;
    datagram.remoteAddr = this.#peers.get(this.names, at, latest);
    datagram.destination = destination;
    datagram.localAddr = destination?.addr ?? bound;
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

  /** The destination of a message, if its control messages have it. */
  #destination(
    { destinationAt }: ControlFacts,
    port: number,
  ): Destination | undefined {
    if (destinationAt === -1) return undefined;
    const at = 4 * destinationAt;
    const bytes = destinationBytes(this.controls.u8, at);
    const last = this.#lastDestination;
    if (last !== undefined && equalBytes(last.bytes, bytes)) return last;
    return this.#lastDestination =
      this.#destinations.find((one) => equalBytes(one.bytes, bytes)) ??
        this.#newDestination(bytes, at, port);
  }

  #newDestination(bytes: Uint8Array, at: number, port: number): Destination {
    const id = this.#nextId;
    this.#nextId = id % 0xffff + 1;
    const hostname = destinationHostname(bytes);
    const destination = {
      id,
      bytes: bytes.slice(),
      addr: Object.freeze({ hostname, port }),
      source: replySource(this.controls.u8, at).slice(),
      isForeign: false,
    };
    destination.isForeign = this.#isForeign(destination);
    return this.#destinations[id % MAX_DESTINATIONS] = destination;
  }

  /** The kernel itself compares the link of an IPv4 group. */
  #isForeign({ bytes, addr: { hostname } }: Destination): boolean {
    if (!hostname.includes(":") || !isMulticast(hostname)) return false;
    const index = destinationIndex(bytes);
    return !this.#memberships.some((one) =>
      one.group === withoutZone(hostname) &&
      (one.index === 0 || one.index === index)
    );
  }

  /** Takes the groups that the socket is a member of from now on. */
  setMemberships(memberships: readonly Membership[]): void {
    this.#memberships = memberships;
    for (const one of this.#destinations) one.isForeign = this.#isForeign(one);
  }

  /**
   * The control message that has a datagram leave from an address; without one,
   * from that which its peer, whose struct sockaddr begins at a byte, sent to last.
   */
  sourceTo(
    memory: Memory,
    at: number,
    from: string | undefined,
    family: number,
  ): Uint8Array | undefined {
    const latest = this.#peers.destinationOf(memory, at);
    // A silent peer may not reach that address any more.
    const isFresh = (this.tick - (latest >>> 16) & 0xffff) <= MAX_AGE;
    const id = isFresh ? latest & 0xffff : 0;
    const place = this.#destinations[id % MAX_DESTINATIONS];
    const last = place?.id === id ? place : undefined;
    if (from === undefined || from === last?.addr.hostname) return last?.source;
    const known = this.#destinations.find(({ addr }) => addr.hostname === from);
    return known?.source ?? sourceControl(from, family);
  }
}

/**
 * Peers that were received from before, so that their datagrams make no strings, and
 * the destinations of their latest ones. Direct-mapped: bounded, and as fast with any
 * number of peers. It grows with their number.
 */
class PeerCache {
  #size = FIRST_PEERS;
  /** A struct sockaddr_in6 each; of IPv4, the words before the padding. */
  #keys = new Uint32Array(this.#size * SOCKADDR_IN6_WORDS);
  #addresses = new Array<UdpAddress | undefined>(this.#size);
  #destinations = new Uint32Array(this.#size);
  #evicted = 0;

  /** The address of the peer that sent to a destination, by its struct sockaddr. */
  get(name: Memory, at: number, destination: number): UdpAddress {
    const { u8, u32 } = name;
    const first = at / 4;
    const index = this.#place(u32, first);
    const isKnown = this.#isAt(index, u32, first);
    if (
      !isKnown && this.#addresses[index] !== undefined &&
      ++this.#evicted > this.#size && this.#size < MAX_PEERS
    ) {
      this.#grow();
      return this.get(name, at, destination);
    }
    if (this.#destinations[index] !== destination) {
      this.#destinations[index] = destination;
    }
    if (isKnown) return this.#addresses[index]!;
    const key = index * SOCKADDR_IN6_WORDS;
    const words = wordsOf(u32, first);
    for (let i = 0; i < words; i++) this.#keys[key + i] = u32[first + i]!;
    // Frozen, since one object serves many datagrams and their handlers.
    const address = Object.freeze(sys.decodeSockaddr(u8, at));
    return this.#addresses[index] = address;
  }

  /** The destination that a peer sent to last, and when; 0 if it is unknown. */
  destinationOf({ u32 }: Memory, at: number): number {
    const index = this.#place(u32, at / 4);
    return this.#isAt(index, u32, at / 4) ? this.#destinations[index]! : 0;
  }

  /** The place of a peer, spread well where hosts, ports or both are in a row. */
  #place(u32: Uint32Array, first: number): number {
    const words = wordsOf(u32, first);
    let mixed = u32[first]!;
    for (let i = 1; i < words; i++) {
      mixed = Math.imul(mixed ^ mixed >>> 16, 0x85ebca6b) ^ u32[first + i]!;
    }
    return (Math.imul(mixed ^ mixed >>> 15, 0x9e3779b1) >>> 16) &
      this.#size - 1;
  }

  #isAt(index: number, u32: Uint32Array, first: number): boolean {
    if (this.#addresses[index] === undefined) return false;
    const key = index * SOCKADDR_IN6_WORDS;
    const words = wordsOf(u32, first);
    let i = 0;
    while (i < words && this.#keys[key + i] === u32[first + i]) i++;
    return i === words;
  }

  /** Begins anew with four times the size. */
  #grow(): void {
    this.#size *= 4;
    this.#keys = new Uint32Array(this.#size * SOCKADDR_IN6_WORDS);
    this.#addresses = new Array(this.#size);
    this.#destinations = new Uint32Array(this.#size);
    this.#evicted = 0;
  }
}

/**
 * The words of an address: the first has the family and, in the order of the network,
 * the port; then the host.
 */
function wordsOf(u32: Uint32Array, first: number): number {
  const isIPv4 = (u32[first]! & 0xffff) === sys.AF_INET;
  return isIPv4 ? SOCKADDR_IN_WORDS : SOCKADDR_IN6_WORDS;
}

const MAX_DESTINATIONS = 64;
/** In ticks: longer than the silence of a peer that keeps a NAT's state. */
const MAX_AGE = 60;
const FIRST_PEERS = 1 << 6;
const MAX_PEERS = 1 << 16;
const SOCKADDR_IN_WORDS = 2;
const SOCKADDR_IN6_WORDS = 7;
const NOTHING = new Uint8Array(0);
const NOBODY: UdpAddress = { hostname: "", port: 0 };
const NOWHERE: Destination = {
  id: 0,
  bytes: NOTHING,
  addr: NOBODY,
  source: NOTHING,
  isForeign: false,
};

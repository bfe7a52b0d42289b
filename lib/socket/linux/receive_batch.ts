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
  readonly #peers: PeerCache;
  /** The latest destinations, each at a place by its number. */
  readonly #destinations: Destination[] = Array(MAX_DESTINATIONS).fill(NOWHERE);
  #lastDestination: Destination | undefined;
  #nextId = 1;
  #memberships: readonly Membership[] = [];
  /** The number of messages whose headers the kernel has written. */
  #used = BATCH;

  /** Lays out a batch; one that starts small has room for one message and peer. */
  constructor(libc: Libc, bufferBytes: number, startsSmall: boolean) {
    super(libc, CONTROL_BYTES);
    this.#peers = new PeerCache(startsSmall ? 1 : CACHED_PEERS);
    this.#bufferBytes = bufferBytes;
    const room = startsSmall ? 1 : BATCH;
    for (let i = 0; i < room; i++) this.retire(i);
  }

  /** The number of messages that have a buffer. */
  get room(): number {
    return this.#buffers.length;
  }

  /** Doubles the room, up to the size of the batch. */
  grow(): void {
    const room = Math.min(2 * this.room, BATCH);
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
    datagram.remoteAddr = this.#peers.get(this.names, at, destination?.id ?? 0);
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
    const id = this.#nextId++;
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
    const id = this.#peers.destinationOf(memory, at);
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
 * number of peers.
 */
class PeerCache {
  readonly #keys: Uint32Array;
  readonly #addresses: UdpAddress[] = [];
  /** The struct sockaddr_in6 of a peer of IPv6, of whose address the key is a hash. */
  readonly #words: Uint32Array[] = [];
  readonly #destinations: Uint32Array;
  readonly #mask: number;

  /** Makes a cache of a number of peers that is a power of 2. */
  constructor(size: number) {
    this.#keys = new Uint32Array(2 * size);
    this.#destinations = new Uint32Array(size);
    this.#mask = size - 1;
  }

  /** The address of the peer that sent to a destination, by its struct sockaddr. */
  get({ u8, u32 }: Memory, at: number, destination: number): UdpAddress {
    const first = at / 4;
    const index = this.#place(u32, first);
    if (this.#destinations[index] !== destination) {
      this.#destinations[index] = destination;
    }
    if (this.#isAt(index, u32, first)) return this.#addresses[index]!;
    this.#keys[2 * index] = keyOf(u32, first);
    this.#keys[2 * index + 1] = u32[first]!;
    if (!isIPv4(u32, first)) {
      this.#words[index] = u32.slice(first, first + SOCKADDR_IN6_WORDS);
    }
    // Frozen, since one object serves many datagrams and their handlers.
    return this.#addresses[index] = Object.freeze(sys.decodeSockaddr(u8, at));
  }

  /** The number of the destination that a peer sent to last; 0 if it is unknown. */
  destinationOf({ u32 }: Memory, at: number): number {
    const index = this.#place(u32, at / 4);
    return this.#isAt(index, u32, at / 4) ? this.#destinations[index]! : 0;
  }

  /** The place of a peer, spread well where hosts, ports or both are in a row. */
  #place(u32: Uint32Array, first: number): number {
    const familyAndPort = u32[first]!;
    const mixed = Math.imul(keyOf(u32, first), 0x85ebca6b) ^ familyAndPort ^
      familyAndPort >>> 16;
    return (Math.imul(mixed ^ mixed >>> 15, 0x9e3779b1) >>> 16) & this.#mask;
  }

  #isAt(index: number, u32: Uint32Array, first: number): boolean {
    if (
      this.#keys[2 * index] !== keyOf(u32, first) ||
      this.#keys[2 * index + 1] !== u32[first]
    ) return false;
    if (isIPv4(u32, first)) return true;
    const words = this.#words[index]!;
    // The second word, the flow's label, is no part of an address.
    let i = 2;
    while (i < SOCKADDR_IN6_WORDS && u32[first + i] === words[i]) i++;
    return i === SOCKADDR_IN6_WORDS;
  }
}

/** The first word has the family and, in the order of the network, the port. */
function isIPv4(u32: Uint32Array, first: number): boolean {
  return (u32[first]! & 0xffff) === sys.AF_INET;
}

/** The host of IPv4, a hash of that of IPv6. */
function keyOf(u32: Uint32Array, first: number): number {
  if (isIPv4(u32, first)) return u32[first + 1]!;
  let key = 0;
  for (let i = 2; i < SOCKADDR_IN6_WORDS; i++) {
    key = Math.imul(key, 31) + u32[first + i]!;
  }
  return key >>> 0;
}

const MAX_DESTINATIONS = 64;
const CACHED_PEERS = 1 << 16;
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

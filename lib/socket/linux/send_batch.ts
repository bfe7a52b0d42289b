/**
 * The batch of one sendmmsg: headers, addresses, control messages and payloads, in
 * memory that is laid out once and used again.
 *
 * @module
 */
import type { UdpAddress } from "../../address.ts";
import {
  SEGMENT_CONTROL_BYTES,
  segmentControl,
  SEND_CONTROL_BYTES,
  trafficClassControl,
} from "./cmsg.ts";
import {
  IOVEC_BYTES,
  IOVEC_LENGTH,
  MMSGHDR_BYTES,
  MMSGHDR_CONTROL,
  MMSGHDR_CONTROL_LENGTH,
  MMSGHDR_IOVEC,
  MMSGHDR_IOVEC_COUNT,
  MMSGHDR_NAME,
  MMSGHDR_NAME_LENGTH,
  NAME_BYTES,
  setPointer,
} from "./layout.ts";
import type { ReplyOptions, SendErrorListener } from "../contract.ts";
import type { Libc, Memory } from "./libc.ts";

/**
 * The property, besides size and destination, that datagrams of one message share:
 * the received message that they are in, their source address, or that they were
 * posted.
 */
type Origin = number | UdpAddress;

/** Called with the outcome of a datagram. */
export interface Listener extends SendErrorListener {
  /** The system has taken the datagram, which is a message of its own. */
  onSent?(): void;
}

/**
 * Headers for one sendmmsg, and the payloads: copies, or the memory that they were
 * received into.
 */
export class SendBatch {
  /** The number of queued messages, those that were sent included. */
  count = 0;
  /** The first message that was not sent. */
  first = 0;
  readonly headers: Memory;
  /** Whether the kernel can segment messages (UDP_SEGMENT). */
  segments: boolean;
  readonly #size: number;
  readonly #names: Memory;
  readonly #iovecs: Memory;
  readonly #controls: Memory;
  #payloads: Memory;
  readonly #libc: Libc;
  readonly #maxBytes: number;
  /** Whether there was no room for a payload since it was emptied. */
  #wasFull = false;
  readonly #to: UdpAddress[] = [];
  /** Of each message: the number of datagrams, their size, and their pointer. */
  readonly #datagrams: number[] = [];
  readonly #sizes: number[] = [];
  readonly #starts: number[] = [];
  /** Of each: the received message that its payload still is in; -1 for none. */
  readonly #placed: number[] = [];
  /** The memory of such a payload, which must live until it is sent. */
  readonly #held: Array<Memory | undefined> = [];
  /** Of each: the index of its first listener; -1 for a reply. */
  readonly #firstListeners: number[] = [];
  /** The listeners, one for each datagram that is no reply. */
  #listeners: Listener[] = [];
  /** The options of datagrams that have any, and the datagrams' places. */
  #options: Array<{
    message: number;
    at: number;
    length: number;
    options: ReplyOptions;
  }> = [];
  /** The latest control message for segments, and their size. */
  #cut: Uint8Array = new Uint8Array(0);
  #cutInto = 0;
  #used = 0;
  /** The origin of the last message, and the size of its last datagram. */
  #origin: Origin = NONE;
  #lastBytes = 0;
  /** The pointer to the end of the last message's payload. */
  #end = 0;

  /**
   * Lays out a batch.
   *
   * @param libc The C library, which allocates the memory.
   * @param size The number of messages.
   * @param payloadBytes The bytes of all payloads together.
   * @param segments Whether the kernel can segment messages.
   * @param startsSmall Whether it begins with little room for payloads, and grows.
   */
  constructor(
    libc: Libc,
    size: number,
    payloadBytes: number,
    segments: boolean,
    startsSmall = false,
  ) {
    this.segments = segments;
    this.#libc = libc;
    this.#size = size;
    this.#maxBytes = payloadBytes;
    this.headers = libc.allocate(size * MMSGHDR_BYTES);
    this.#names = libc.allocate(size * NAME_BYTES);
    this.#iovecs = libc.allocate(size * IOVEC_BYTES);
    this.#controls = libc.allocate(size * SEND_CONTROL_BYTES);
    this.#payloads = libc.allocate(startsSmall ? FIRST_BYTES : payloadBytes);
    const { u32 } = this.headers;
    for (let i = 0; i < size; i++) {
      const at = i * MMSGHDR_BYTES;
      setPointer(
        u32,
        at + MMSGHDR_IOVEC,
        this.#iovecs.address + i * IOVEC_BYTES,
      );
      u32[(at + MMSGHDR_IOVEC_COUNT) / 4] = 1;
      // A message without control messages has the length 0.
      const controls = this.#controls.address + i * SEND_CONTROL_BYTES;
      setPointer(u32, at + MMSGHDR_CONTROL, controls);
    }
  }

  /** Whether there is room for another message of a size. */
  hasRoom(bytes: number): boolean {
    if (this.count === 0 && bytes > this.#payloads.u8.length) this.#grow(bytes);
    return this.count < this.#size && this.hasBytes(bytes);
  }

  /** Whether there is room for more bytes of the last message. */
  hasBytes(bytes: number): boolean {
    if (this.#used + bytes <= this.#payloads.u8.length) return true;
    this.#wasFull = true;
    return false;
  }

  /** The place for the address of the next message. */
  get nextName(): Uint8Array {
    const start = this.count * NAME_BYTES;
    return this.#names.u8.subarray(start, start + NAME_BYTES);
  }

  /** The pointer to {@linkcode SendBatch.nextName}. */
  get nextNamePointer(): number {
    return this.#names.address + this.count * NAME_BYTES;
  }

  /** Points a message to an address of its own, not one of a received message. */
  ownName(message: number): Uint8Array {
    const start = message * NAME_BYTES;
    const at = message * MMSGHDR_BYTES + MMSGHDR_NAME;
    setPointer(this.headers.u32, at, this.#names.address + start);
    return this.#names.u8.subarray(start, start + NAME_BYTES);
  }

  /** The destination of a message. */
  addressOf(message: number): UdpAddress {
    return this.#to[message]!;
  }

  /** The number of datagrams in a message. */
  datagramsOf(message: number): number {
    return this.#datagrams[message]!;
  }

  /** The size of each of them, in bytes; the last one may be shorter. */
  sizeOf(message: number): number {
    return this.#sizes[message]!;
  }

  /** Sets the listener of the last message, which is one datagram so far. */
  listen(listener: Listener): void {
    this.#firstListeners[this.count - 1] = this.#listeners.length;
    this.#listeners.push(listener);
  }

  /**
   * Queues a datagram of which only a failure is reported; it shares a message with
   * others of its size to the same address.
   *
   * @param payload The bytes, which are copied.
   * @param name The pointer to the address.
   * @param nameLength The length of the address; 0 if the socket is connected.
   * @param to The same address.
   * @param listener The listener to a failure.
   */
  post(
    payload: Uint8Array,
    name: number,
    nameLength: number,
    to: UdpAddress,
    listener: SendErrorListener,
  ): void {
    if (this.extend(payload, 0, POSTED, to)) this.#listeners.push(listener);
    else {
      this.add(payload, name, nameLength, to, POSTED);
      this.listen(listener);
    }
  }

  /** The listener of the nth datagram of a message; undefined for a reply. */
  listenerOf(message: number, n: number): Listener | undefined {
    const first = this.#firstListeners[message]!;
    return first === -1 ? undefined : this.#listeners[first + n];
  }

  /** The received message that the payload still is in; -1 if it is a copy. */
  placeOf(message: number): number {
    return this.#placed[message]!;
  }

  /**
   * Queues a message whose payload is copied.
   *
   * @param payload The bytes.
   * @param name The pointer to the address.
   * @param nameLength The length of the address.
   * @param to The same address.
   * @param origin The property that others in this message must share.
   */
  add(
    payload: Uint8Array,
    name: number,
    nameLength: number,
    to: UdpAddress,
    origin: Origin = NONE,
  ): void {
    const start = this.#used;
    this.#copy(payload);
    const address = this.#payloads.address + start;
    this.#add(address, payload.length, name, nameLength, to, origin);
    this.#placed[this.count - 1] = -1;
    this.#held[this.count - 1] = undefined;
  }

  /**
   * Queues a message whose payload stays in the memory that it was received into.
   *
   * @param memory The memory.
   * @param at The byte at which the payload begins.
   * @param length The length of the payload.
   * @param name The pointer to the address.
   * @param nameLength The length of the address.
   * @param to The same address.
   * @param message The received message that it answers and is in.
   */
  addInPlace(
    memory: Memory,
    at: number,
    length: number,
    name: number,
    nameLength: number,
    to: UdpAddress,
    message: number,
  ): void {
    this.#add(memory.address + at, length, name, nameLength, to, message);
    this.#placed[this.count - 1] = message;
    this.#held[this.count - 1] = memory;
  }

  /**
   * The number of messages from the first one on that are whole: a handler may
   * have transferred the memory of an echo.
   */
  get whole(): number {
    let message = this.first;
    while (message < this.count && this.#held[message]?.u8.length !== 0) {
      message++;
    }
    return message - this.first;
  }

  #add(
    address: number,
    length: number,
    name: number,
    nameLength: number,
    to: UdpAddress,
    origin: Origin,
  ): void {
    const message = this.count++;
    const at = message * MMSGHDR_BYTES;
    const { u32 } = this.headers;
    setPointer(u32, at + MMSGHDR_NAME, name);
    u32[(at + MMSGHDR_NAME_LENGTH) / 4] = nameLength;
    u32[(at + MMSGHDR_CONTROL_LENGTH) / 4] = 0;
    this.#setBytes(message, address, length);
    this.#to[message] = to;
    this.#datagrams[message] = 1;
    this.#sizes[message] = length;
    this.#starts[message] = address;
    this.#firstListeners[message] = -1;
    this.#origin = length === 0 ? NONE : origin;
    this.#lastBytes = length;
    this.#end = address + length;
  }

  /**
   * Adds a datagram to the last message, which the kernel segments into datagrams of
   * one size; only the last one may be shorter.
   *
   * @param payload The bytes, which are copied if the last message's are.
   * @param address The pointer to them; 0 if they must be copied.
   * @param origin The property that it must share with the last message.
   * @param to The destination.
   * @returns Whether it could be added; else it needs a message of its own.
   */
  extend(
    payload: Uint8Array,
    address: number,
    origin: Origin,
    to: UdpAddress,
  ): boolean {
    const message = this.count - 1;
    const { length } = payload;
    if (origin !== this.#origin || message < this.first) return false;
    const size = this.#sizes[message]!;
    if (
      !this.segments || length === 0 || length > size ||
      this.#lastBytes !== size || this.#to[message] !== to ||
      this.#datagrams[message]! >= MAX_SEGMENTS ||
      this.#end - this.#starts[message]! + length > MAX_SEGMENTED_BYTES
    ) return false;
    if (this.#placed[message] !== -1) {
      if (address !== this.#end) return false;
    } else if (this.hasBytes(length)) {
      this.#copy(payload);
    } else return false;
    this.#end += length;
    this.#iovecs.u32[(message * IOVEC_BYTES + IOVEC_LENGTH) / 4]! += length;
    if (++this.#datagrams[message]! === 2) {
      // Most are of the size of the last one.
      if (size !== this.#cutInto) {
        this.#cutInto = size;
        this.#cut = segmentControl(size);
      }
      this.addControl(this.#cut);
    }
    this.#lastBytes = length;
    return true;
  }

  #copy(payload: Uint8Array): void {
    const { length } = payload;
    const payloads = this.#payloads.u8;
    const used = this.#used;
    // For a few bytes the call of set() takes longer than the copy.
    if (length <= SMALL_BYTES) {
      for (let i = 0; i < length; i++) payloads[used + i] = payload[i]!;
    } else payloads.set(payload, used);
    this.#used = used + length;
  }

  /** Sets the options of the datagram that was copied last. */
  setOptions(length: number, options: ReplyOptions): void {
    const message = this.count - 1;
    const { trafficClass } = options;
    if (trafficClass !== undefined) {
      const { hostname } = this.#to[message]!;
      this.addControl(trafficClassControl(trafficClass, hostname));
      this.#origin = NONE;
    }
    const at = this.#used - length;
    this.#options.push({ message, at, length, options });
  }

  /** Completes the queued payloads that have such an option. */
  complete(): void {
    const { u8 } = this.#payloads;
    for (const { message, at, length, options } of this.#options) {
      if (message < this.first) continue;
      options.complete?.(u8.subarray(at, at + length));
    }
  }

  /** Sends the last message with a control message. */
  addControl(control: Uint8Array): void {
    const message = this.count - 1;
    const at = message * MMSGHDR_BYTES;
    const { u32 } = this.headers;
    const used = u32[(at + MMSGHDR_CONTROL_LENGTH) / 4]!;
    const start = message * SEND_CONTROL_BYTES;
    this.#controls.u8.set(control, start + used);
    u32[(at + MMSGHDR_CONTROL_LENGTH) / 4] = used +
      Math.ceil(control.length / 8) * 8;
  }

  /** Makes a segmented message each of its datagrams in turn. */
  *segmentByHand(message: number): Generator<void> {
    const size = this.#sizes[message]!;
    const at = message * IOVEC_BYTES;
    const bytes = this.#iovecs.u32[(at + IOVEC_LENGTH) / 4]!;
    const start = this.#starts[message]!;
    // The control message for segments is the last one.
    const { u32 } = this.headers;
    const header = message * MMSGHDR_BYTES;
    u32[(header + MMSGHDR_CONTROL_LENGTH) / 4]! -= SEGMENT_CONTROL_BYTES;
    for (let done = 0; done < bytes; done += size) {
      this.#setBytes(message, start + done, Math.min(size, bytes - done));
      yield;
    }
  }

  /** Removes a message's control messages; returns whether it had some. */
  dropControls(message: number): boolean {
    const word = (message * MMSGHDR_BYTES + MMSGHDR_CONTROL_LENGTH) / 4;
    const { u32 } = this.headers;
    if (u32[word] === 0) return false;
    u32[word] = 0;
    return true;
  }

  /** Empties the batch. */
  clear(): void {
    this.count = this.first = 0;
    if (this.#listeners.length > 0) this.#listeners = [];
    if (this.#options.length > 0) this.#options = [];
    this.#used = 0;
    this.#origin = NONE;
    if (this.#wasFull) this.#grow(4 * this.#payloads.u8.length);
    this.#wasFull = false;
  }

  /** Replaces the memory of the payloads by more, while it is empty. */
  #grow(bytes: number): void {
    const wanted = Math.min(bytes, this.#maxBytes);
    if (wanted > this.#payloads.u8.length) {
      this.#payloads = this.#libc.allocate(wanted);
    }
  }

  #setBytes(message: number, address: number, length: number): void {
    const at = message * IOVEC_BYTES;
    setPointer(this.#iovecs.u32, at, address);
    this.#iovecs.u32[(at + IOVEC_LENGTH) / 4] = length;
  }
}

/** Origins that are no received message. */
const NONE = -1;
const POSTED = -2;
const SMALL_BYTES = 32;
const FIRST_BYTES = 4096;
/** UDP_MAX_SEGMENTS of older kernels. */
const MAX_SEGMENTS = 64;
const MAX_SEGMENTED_BYTES = 65_000;

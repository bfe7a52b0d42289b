/**
 * The batch of one sendmmsg.
 *
 * @module
 */
import type { UdpAddress } from "../../address.ts";
import type { ReplyOptions, SendListener } from "../contract.ts";
import {
  SEGMENT_CONTROL_BYTES,
  segmentControl,
  SEND_CONTROL_BYTES,
  trafficClassControl,
} from "./cmsg.ts";
import * as sys from "./layout.ts";
import type { Libc, Memory } from "./libc.ts";
import { BATCH, Messages } from "./messages.ts";
import type { BatchDatagram } from "./receive_batch.ts";

/**
 * The property, besides size and destination, that datagrams of one message share:
 * the received message that they are in, their source address, or that they were
 * posted.
 */
export type Origin = number | UdpAddress;

/** Origins that are no received message: of a message on its own, and of posts. */
const ALONE = -1;
export const POSTED = -2;

/** The place of a payload that is copied. */
export const COPIED = -1;

/** Called with the outcome of a datagram. */
export interface Listener extends SendListener {
  /** The system has taken the datagram, which is a message of its own. */
  onSent?(): void;
  /** The source that its sender chose, which no other replaces. */
  from?: string | undefined;
}

/** A queued message: one datagram, or several of one size. */
interface Queued {
  to: UdpAddress;
  datagrams: number;
  /** The size of each datagram; the last one may be shorter. */
  size: number;
  /** The pointers to the payload and to its end. */
  start: number;
  end: number;
  /** The received message that the payload still is in; -1 for a copy. */
  place: number;
  /** The memory of such a payload, which must live until it is sent. */
  held: Memory | undefined;
  /** The index of the first datagram's listener; -1 for replies. */
  listener: number;
}

/** The messages of one sendmmsg; payloads are copied, or stay where received. */
export class SendBatch extends Messages {
  /** The first message that was not sent. */
  first = 0;
  /** Whether the kernel can segment messages (UDP_SEGMENT). */
  segments: boolean;
  /** The number of messages, those that were sent included. */
  count = 0;
  /** The messages; those from `count` on are of earlier batches. */
  readonly queued: Queued[] = [];
  /** The listeners, one for each datagram that is no reply. */
  listeners: Listener[] = [];
  /** The memory for payloads, and the full ones before it. */
  #payloads: Memory;
  #full: Memory[] = [];
  readonly #maxBytes: number;
  /** The payloads that are completed when their messages leave. */
  #incomplete: Array<{
    message: number;
    payload: Uint8Array;
    options: ReplyOptions;
  }> = [];
  /** The latest control message for segments, and their size. */
  #segmentControl: Uint8Array = new Uint8Array(0);
  #segmentBytes = 0;
  #used = 0;
  /** The origin and the destination of the last message. */
  #origin: Origin = ALONE;
  #to: UdpAddress | undefined;
  /** The number of datagrams that may follow in it, and their largest size. */
  #free = 0;
  #size = 0;
  /** The byte of a received message where its next echo must be; -1 for a copy. */
  #nextAt = COPIED;

  /** Lays out a batch whose memory grows with its payloads, up to `maxBytes`. */
  constructor(libc: Libc, maxBytes: number, segments: boolean) {
    super(libc, SEND_CONTROL_BYTES);
    this.segments = segments;
    this.#maxBytes = maxBytes;
    this.#payloads = libc.allocate(FIRST_BYTES);
  }

  /** Makes room for another message of a size; returns whether there is any. */
  hasRoom(bytes: number): boolean {
    return this.count < BATCH && (this.#hasBytes(bytes) || this.#grow(bytes));
  }

  /** Whether there is room for more bytes of the last message. */
  #hasBytes(bytes: number): boolean {
    return this.#used + bytes <= this.#payloads.u8.length;
  }

  /** Points a message to its own place for the address, not to a received one. */
  ownName(message: number): Uint8Array {
    this.setPointer(message, sys.MMSGHDR_NAME, this.namePointer(message));
    const start = message * sys.NAME_BYTES;
    return this.names.u8.subarray(start, start + sys.NAME_BYTES);
  }

  /** Adds the listener of the latest datagram, as of all in its message. */
  listen(listener: Listener): void {
    const queued = this.queued[this.count - 1]!;
    if (queued.listener === -1) queued.listener = this.listeners.length;
    this.listeners.push(listener);
  }

  /**
   * Queues a message whose payload is copied. `name` points to the address `to`,
   * whose length is 0 if the socket is connected.
   */
  add(
    payload: Uint8Array,
    name: number,
    nameLength: number,
    to: UdpAddress,
    origin: Origin = ALONE,
  ): void {
    const start = this.#payloads.address + this.#used;
    this.#copy(payload);
    this.#add(start, payload.length, name, nameLength, to, origin);
  }

  /** Queues an echo, which stays in the memory that it was received into. */
  addEcho(datagram: BatchDatagram, name: number, nameLength: number): void {
    const { memory, at, data, remoteAddr, message } = datagram;
    const start = memory!.address + at;
    this.#add(start, data.length, name, nameLength, remoteAddr, message);
    const queued = this.queued[this.count - 1]!;
    queued.place = message;
    queued.held = memory;
    this.#nextAt = at + data.length;
  }

  /**
   * The number of messages from the first one on that are whole: a handler may
   * have transferred the memory of an echo.
   */
  get whole(): number {
    let message = this.first;
    while (
      message < this.count && this.queued[message]!.held?.u8.length !== 0
    ) message++;
    return message - this.first;
  }

  #add(
    start: number,
    length: number,
    name: number,
    nameLength: number,
    to: UdpAddress,
    origin: Origin,
  ): void {
    const message = this.count++;
    this.setPointer(message, sys.MMSGHDR_NAME, name);
    this.setWord(message, sys.MMSGHDR_NAME_LENGTH, nameLength);
    this.setWord(message, sys.MMSGHDR_CONTROL_LENGTH, 0);
    this.setBuffer(message, start, length);
    this.queued[message] = {
      to,
      datagrams: 1,
      size: length,
      start,
      end: start + length,
      place: -1,
      held: undefined,
      listener: -1,
    };
    this.#origin = origin;
    this.#to = to;
    this.#size = length;
    this.#nextAt = COPIED;
    this.#free = this.segments && length > 0
      ? Math.min(MAX_SEGMENTS, Math.floor(MAX_SEGMENTED_BYTES / length)) - 1
      : 0;
  }

  /**
   * Adds a datagram to the last message, which the kernel segments into datagrams of
   * one size; only the last one may be shorter.
   *
   * @param payload The bytes.
   * @param at Their place in the received message; {@linkcode COPIED}: to be copied.
   * @returns Whether it could be added; else it needs a message of its own.
   */
  extend(
    payload: Uint8Array,
    at: number,
    origin: Origin,
    to: UdpAddress,
  ): boolean {
    const { length } = payload;
    const size = this.#size;
    if (
      this.#free === 0 || at !== this.#nextAt || origin !== this.#origin ||
      length > size || length === 0 || to !== this.#to
    ) return false;
    if (at !== COPIED) this.#nextAt = at + length;
    else if (this.#hasBytes(length)) this.#copy(payload);
    else return false;
    this.#free = length === size ? this.#free - 1 : 0;
    const message = this.count - 1;
    const queued = this.queued[message]!;
    queued.end += length;
    this.extendBuffer(message, length);
    if (++queued.datagrams === 2) {
      // Most are of the size of the last one.
      if (size !== this.#segmentBytes) {
        this.#segmentBytes = size;
        this.#segmentControl = segmentControl(size);
      }
      this.addControl(this.#segmentControl);
    }
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
      const { hostname } = this.queued[message]!.to;
      this.addControl(trafficClassControl(trafficClass, hostname));
      this.#free = 0;
    }
    const payload = this.#payloads.u8.subarray(this.#used - length, this.#used);
    this.#incomplete.push({ message, payload, options });
  }

  /** Completes the queued payloads that have such an option. */
  complete(): void {
    for (const { message, payload, options } of this.#incomplete) {
      if (message >= this.first) options.complete?.(payload);
    }
  }

  /** Sends the last message with a control message. */
  addControl(control: Uint8Array): void {
    const message = this.count - 1;
    const used = this.word(message, sys.MMSGHDR_CONTROL_LENGTH);
    this.controls.u8.set(control, message * SEND_CONTROL_BYTES + used);
    const bytes = used + Math.ceil(control.length / 8) * 8;
    this.setWord(message, sys.MMSGHDR_CONTROL_LENGTH, bytes);
  }

  /** Sends messages without waiting; the number of messages sent, or a failure. */
  send(fd: number, message: number, count: number): number {
    const offset = message * sys.MMSGHDR_BYTES;
    const flags = sys.MSG_DONTWAIT;
    return this.libc.sendmmsg(fd, this.headers, offset, count, flags);
  }

  /** Makes a segmented message each of its datagrams in turn, and gives their sizes. */
  *segmentByHand(message: number): Generator<number> {
    const { size, start, end } = this.queued[message]!;
    // The control message for segments is the last one.
    const used = this.word(message, sys.MMSGHDR_CONTROL_LENGTH);
    const others = used - SEGMENT_CONTROL_BYTES;
    this.setWord(message, sys.MMSGHDR_CONTROL_LENGTH, others);
    for (let at = start; at < end; at += size) {
      const bytes = Math.min(size, end - at);
      this.setBuffer(message, at, bytes);
      yield bytes;
    }
  }

  /** Removes a message's control messages; returns whether it had some. */
  dropControls(message: number): boolean {
    const used = this.word(message, sys.MMSGHDR_CONTROL_LENGTH);
    this.setWord(message, sys.MMSGHDR_CONTROL_LENGTH, 0);
    return used !== 0;
  }

  /** Empties the batch. */
  clear(): void {
    this.count = this.first = 0;
    if (this.listeners.length > 0) this.listeners = [];
    if (this.#incomplete.length > 0) this.#incomplete = [];
    this.#used = 0;
    this.#free = 0;
    if (this.#full.length > 0) this.#full = [];
  }

  /** Begins more memory for payloads, up to the most; returns whether it could. */
  #grow(bytes: number): boolean {
    const { length } = this.#payloads.u8;
    if (length >= this.#maxBytes) return false;
    // Payloads stay where they are until they are sent.
    this.#full.push(this.#payloads);
    const wanted = Math.min(Math.max(bytes, 4 * length), this.#maxBytes);
    this.#payloads = this.libc.allocate(wanted);
    this.#used = 0;
    this.#free = 0;
    return true;
  }
}

const SMALL_BYTES = 32;
const FIRST_BYTES = 4096;
/** UDP_MAX_SEGMENTS of older kernels. */
const MAX_SEGMENTS = 64;
const MAX_SEGMENTED_BYTES = 65_000;

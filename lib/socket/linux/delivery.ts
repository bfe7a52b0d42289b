/**
 * Delivery: the datagrams of a received batch, given to the receiver one by one,
 * with pauses for all else in the process.
 *
 * @module
 */
import type { UdpAddress } from "../../address.ts";
import type { Receiver } from "../contract.ts";
import type { Memory } from "./libc.ts";
import { BatchDatagram, type ReceiveBatch } from "./receive_batch.ts";
import type { Turns } from "./turns.ts";

/** The socket whose datagrams are delivered. */
interface Source {
  addr: UdpAddress;
  maxDatagramBytes: number;
  /** Whether its datagrams have facts that one of the next may lack. */
  packetInfo: boolean;
}

/** The delivery of one socket's datagrams. */
export class Delivery {
  receiver: Receiver = { onDatagram: () => {} };
  /** The datagram that the receiver is called with, and may answer now. */
  current: BatchDatagram | undefined;
  /** The number of datagrams that the receiver holds for longer than its call. */
  held = 0;
  /** When the batch was received. */
  receivedAt = 0;
  readonly #batch: ReceiveBatch;
  readonly #source: Source;
  readonly #turns: Turns;
  readonly #clockOffset: () => number;
  /** The object for all datagrams that are handed back within the call. */
  #reusable = new BatchDatagram();
  /** The number of messages in the batch. */
  #count = 0;
  /** The message that is delivered, and the next datagram's first byte in it. */
  #message = 0;
  #at = 0;
  /** The memory that the message was received into, and the views into it. */
  #memory: Memory;
  #views: Uint8Array<ArrayBuffer>[] = [];
  /** The number of datagrams between two looks at the clock. */
  #stride = 1;
  #untilLook = 1;
  #lookedAt = 0;

  /** Prepares the delivery; the kernel stamps by a clock of the given offset. */
  constructor(
    batch: ReceiveBatch,
    source: Source,
    turns: Turns,
    clockOffset: () => number,
  ) {
    this.#batch = batch;
    this.#source = source;
    this.#turns = turns;
    this.#clockOffset = clockOffset;
    this.#memory = batch.buffer(0);
  }

  /** Begins with the first of `count` messages. */
  begin(count: number, receivedAt: number): void {
    this.#count = count;
    this.#message = this.#at = 0;
    this.receivedAt = this.#lookedAt = receivedAt;
  }

  /**
   * Delivers the rest of the batch.
   *
   * @returns Whether all is delivered. Else timers are due, or the receiver is full
   * until microtasks have run.
   */
  run(): boolean {
    while (this.#message < this.#count) {
      if (this.#at === 0 && !this.#open()) {
        this.#message++;
        continue;
      }
      const length = this.#batch.length(this.#message);
      const segment = this.#reusable.segmentBytes || length;
      let continues = true;
      // An empty datagram is one too.
      do {
        const size = Math.min(segment, length - this.#at);
        continues = this.#deliver(size, segment);
        this.#at += size;
      } while (continues && this.#at < length && this.#count > 0);
      if (this.#at >= length) {
        this.#message++;
        this.#at = 0;
      }
      if (!continues) return this.#message >= this.#count;
    }
    return true;
  }

  /** Delivers nothing more. */
  end(): void {
    this.#count = 0;
  }

  /** Takes a datagram back. */
  release(datagram: BatchDatagram): void {
    datagram.isHandedOut = false;
    if (!datagram.isHeld) return;
    datagram.isHeld = false;
    this.held--;
  }

  /** Makes the next message ready; false for one to a group that was not joined. */
  #open(): boolean {
    this.#memory = this.#batch.buffer(this.#message);
    if (this.#source.packetInfo) this.#reusable = new BatchDatagram();
    this.#describe(this.#reusable);
    const { segmentBytes } = this.#reusable;
    const segment = segmentBytes || this.#batch.length(this.#message);
    this.#views = this.#batch.views(this.#message, segment);
    return !this.#reusable.destination?.isForeign;
  }

  /** Writes the facts of the message. */
  #describe(datagram: BatchDatagram): void {
    const batch = this.#batch;
    const message = datagram.message = this.#message;
    datagram.memory = this.#memory;
    batch.readControl(message, datagram);
    batch.readAddresses(datagram, this.#source.addr);
    datagram.receivedAt = this.receivedAt;
    if (datagram.stampMs !== undefined) {
      datagram.arrivedAt = datagram.stampMs - this.#clockOffset();
    }
  }

  /** Delivers a datagram; returns whether the next one may follow at once. */
  #deliver(size: number, segment: number): boolean {
    if (size > this.#source.maxDatagramBytes) {
      this.receiver.onTooLong?.();
      return true;
    }
    const whole = this.#memory.u8;
    // A buffer that was transferred has no length any more.
    if (whole.length === 0) {
      this.receiver.onReceiveError?.(new Error(TRANSFERRED));
      return true;
    }
    const datagram = this.#reusable;
    const at = this.#at;
    datagram.data = size === segment && size > 0
      ? this.#views[at / segment] ??= new Uint8Array(whole.buffer, at, size)
      : new Uint8Array(whole.buffer, at, size);
    datagram.at = at;
    datagram.isHandedOut = true;
    this.current = datagram;
    this.receiver.onDatagram(datagram);
    this.current = undefined;
    if (datagram.isHandedOut) {
      this.#hold(datagram);
      if (this.receiver.isFull?.()) return false;
    }
    return --this.#untilLook > 0 || this.#look();
  }

  /** Leaves a datagram to the receiver, which has not handed it back. */
  #hold(datagram: BatchDatagram): void {
    datagram.isHeld = true;
    this.held++;
    // Others may follow in the same message.
    this.#reusable = new BatchDatagram();
    this.#describe(this.#reusable);
    // The next receive goes into another buffer.
    if (this.#batch.buffer(this.#message) === this.#memory) {
      this.#batch.retire(this.#message);
    }
  }

  /** Looks at the clock; returns whether there is time for more. */
  #look(): boolean {
    const now = this.#turns.now();
    const eachMs = (now - this.#lookedAt) / this.#stride;
    this.#stride = Math.max(
      1,
      Math.min(2 * this.#stride, MAX_STRIDE, Math.floor(LOOK_MS / eachMs)),
    );
    this.#untilLook = this.#stride;
    this.#lookedAt = now;
    return !this.#turns.isRoundDue(now);
  }
}

const MAX_STRIDE = 32;
const LOOK_MS = 0.25;

const TRANSFERRED =
  "A datagram is lost: a handler transferred its receive buffer " +
  "(copy with slice() before a transfer)";

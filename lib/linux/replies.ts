/**
 * A server's way out: replies that wait to go out together, by sendmmsg, and
 * what becomes of them.
 *
 * @module
 */
import type { UdpAddress } from "../address.ts";
import { MAX_PAYLOAD, type Receiver } from "../socket.ts";
import { BATCH, type ReceiveBatch, SendBatch } from "./batch.ts";
import { type SocketDescriptor, trySet } from "./descriptor.ts";
import {
  EAGAIN,
  ECONNREFUSED,
  EINTR,
  EINVAL,
  EIO,
  EMSGSIZE,
  errorOf,
} from "./errno.ts";
import {
  encodeSockaddr,
  HEADER_BYTES,
  MSG_DONTWAIT,
  SOL_UDP,
  UDP_SEGMENT,
} from "./layout.ts";
import type { Libc, Memory } from "./libc.ts";
import type { Poller } from "./poller.ts";

/** Replies of one socket. */
export class Replies {
  /** Who hears of what becomes of them. */
  receiver: Receiver = { onDatagram: () => {} };
  readonly #libc: Libc;
  readonly #poller: Poller;
  readonly #bound: SocketDescriptor;
  readonly #in: ReceiveBatch;
  readonly #out: SendBatch;
  #isBlocked = false;
  #willFlush = false;
  #closed = false;

  constructor(
    libc: Libc,
    poller: Poller,
    bound: SocketDescriptor,
    received: ReceiveBatch,
  ) {
    this.#libc = libc;
    this.#poller = poller;
    this.#bound = bound;
    this.#in = received;
    const segments = trySet(libc, bound.fd, SOL_UDP, UDP_SEGMENT, 0);
    this.#out = new SendBatch(libc, BATCH, SEND_BYTES, segments);
  }

  /** Whether some wait for room in the send buffer. */
  get isBlocked(): boolean {
    return this.#isBlocked;
  }

  /**
   * Queues the answer to a datagram of the batch that is being handed out.
   *
   * @param payload The answer.
   * @param memory What it is in if it is an echo that may be sent from where it
   * was received; undefined if it is to be copied.
   * @param at Where in that memory.
   * @param message The message that the datagram came in.
   * @param to Where it came from.
   */
  addNow(
    payload: Uint8Array,
    memory: Memory | undefined,
    at: number,
    message: number,
    to: UdpAddress,
  ): void {
    const received = this.#in;
    // What has to wait cannot wait in memory that is received into.
    if (this.#isBlocked) {
      return this.addLater(payload, to, received.local(message));
    }
    const out = this.#out;
    const { length } = payload;
    const address = memory === undefined ? 0 : memory.address + at;
    if (out.extend(payload, address, message, to)) return;
    if (!this.#hasRoom(memory === undefined ? length : 0, to, length)) return;
    if (this.#isBlocked) {
      return this.addLater(payload, to, received.local(message));
    }
    const name = received.namePointer(message);
    const bytes = received.nameLength(message);
    if (memory === undefined) out.add(payload, name, bytes, to, message);
    else out.addInPlace(memory, at, length, name, bytes, to, message);
    const local = received.local(message);
    if (local !== undefined) out.addControl(local);
  }

  /**
   * Queues an answer that is copied, and that goes out with others of the same
   * turn.
   *
   * @param payload The answer.
   * @param to Where it is sent.
   * @param local The control message that sends it from the address asked.
   */
  addLater(
    payload: Uint8Array,
    to: UdpAddress,
    local: Uint8Array | undefined,
  ): void {
    if (!this.#hasRoom(payload.length, to, payload.length)) return;
    this.#add(payload, to);
    if (local !== undefined) this.#out.addControl(local);
    if (this.#willFlush) return;
    this.#willFlush = true;
    queueMicrotask(() => {
      this.#willFlush = false;
      this.flush();
    });
  }

  /** Sends one datagram that answers nothing; throws the system's error. */
  send(payload: Uint8Array, to: UdpAddress): void {
    if (payload.length > MAX_PAYLOAD) throw errorOf(EMSGSIZE);
    this.flush();
    if (this.#out.count > 0) throw new Error(SEND_BUFFER_FULL);
    this.#add(payload, to);
    const outcome = this.#transmit();
    if (this.#out.count > 0) {
      this.#out.clear();
      throw errorOf(EAGAIN);
    }
    const [failure] = outcome.failures.splice(0);
    this.#report({ ...outcome, sent: 0 });
    if (failure !== undefined) throw failure.error;
  }

  /** Sends the replies that wait to go out together, and reports them. */
  flush(): void {
    if (this.#out.count === 0 || this.#isBlocked) return;
    const outcome = this.#transmit();
    if (this.#out.count > 0) this.#waitForRoom();
    this.#report(outcome);
  }

  /** The socket is about to be closed: what still waits is not sent. */
  close(): void {
    this.#closed = true;
    const failures: Outcome["failures"] = [];
    for (let message = this.#out.first; message < this.#out.count; message++) {
      failures.push({
        error: new Error(SEND_BUFFER_FULL),
        to: this.#out.addressOf(message),
        count: this.#out.datagramsOf(message),
      });
    }
    this.#out.clear();
    this.#report({ sent: 0, failures });
  }

  /**
   * Whether there is room for another answer, of which so many bytes are to be
   * copied. If there is none, its fate is told.
   */
  #hasRoom(copied: number, to: UdpAddress, length: number): boolean {
    if (length > MAX_PAYLOAD) {
      this.receiver.onReplyError?.(errorOf(EMSGSIZE), to, 1);
      return false;
    }
    if (!this.#out.hasRoom(copied)) this.flush();
    if (this.#out.hasRoom(copied)) return true;
    this.receiver.onReplyError?.(new Error(SEND_BUFFER_FULL), to, 1);
    return false;
  }

  #report({ sent, failures, closedPort, notice }: Outcome): void {
    if (closedPort !== undefined) this.receiver.onReceiveError?.(closedPort);
    if (notice !== undefined) this.receiver.onNotice?.(notice);
    if (sent > 0) this.receiver.onReplied?.(sent);
    for (const { error, to, count } of failures) {
      this.receiver.onReplyError?.(error, to, count);
    }
  }

  /** The send buffer is full: the rest waits, and what comes is received. */
  async #waitForRoom(): Promise<void> {
    this.#isBlocked = true;
    const out = this.#out;
    for (let message = out.first; message < out.count; message++) {
      // Nothing must be received into what an echo still lies in, nor over
      // where it goes.
      const place = out.placeOf(message);
      if (place !== -1) this.#in.retire(place);
      encodeSockaddr(
        out.addressOf(message),
        this.#bound.family,
        out.ownName(message),
      );
    }
    await this.#poller.writable(this.#bound.fd);
    this.#isBlocked = false;
    if (!this.#closed) this.flush();
  }

  /** Sends what is queued, as far as there is room in the send buffer. */
  #transmit(): Outcome {
    const out = this.#out;
    const outcome: Outcome = { sent: 0, failures: [] };
    let triedAgain = -1;
    while (out.first < out.count) {
      const { whole } = out;
      if (whole === 0) {
        const to = out.addressOf(out.first);
        const count = out.datagramsOf(out.first++);
        outcome.failures.push({ error: new Error(TRANSFERRED), to, count });
        continue;
      }
      const result = this.#libc.sendmmsg(
        this.#bound.fd,
        out.headers,
        out.first * HEADER_BYTES,
        whole,
        MSG_DONTWAIT,
      );
      if (result > 0) {
        const end = out.first + result;
        while (out.first < end) outcome.sent += out.datagramsOf(out.first++);
        continue;
      }
      const code = this.#libc.errno();
      if (code === EINTR) continue;
      if (code === EAGAIN) return outcome;
      if (code === ECONNREFUSED && triedAgain !== out.first) {
        // About an earlier datagram: this one has not been tried yet.
        triedAgain = out.first;
        outcome.closedPort = errorOf(code);
        continue;
      }
      this.#recover(out.first, code, outcome);
      out.first++;
    }
    out.clear();
    return outcome;
  }

  /** Makes the best of a message that the kernel refused as it was. */
  #recover(message: number, code: number, outcome: Outcome): void {
    const out = this.#out;
    const to = out.addressOf(message);
    const count = out.datagramsOf(message);
    // A device that cannot cut messages says EIO or EINVAL; EMSGSIZE says that
    // the datagrams do not fit this path, where the network can cut them.
    if (count === 1 || ![EIO, EINVAL, EMSGSIZE].includes(code)) {
      // What was sent to a group cannot be answered from its address: then the
      // kernel chooses.
      if (count === 1 && out.dropControls(message) && this.#sendOne(message)) {
        outcome.sent++;
      } else outcome.failures.push({ error: errorOf(code), to, count });
      return;
    }
    if (code !== EMSGSIZE && out.segments) {
      out.segments = false;
      outcome.notice = new Error(
        "Replies go out one by one from now on, which is slower: the system " +
          `refuses to cut messages (UDP_SEGMENT, ${errorOf(code).message})`,
      );
    }
    for (const _ of out.cutByHand(message)) {
      if (this.#sendOne(message)) outcome.sent++;
      else {
        const error = errorOf(this.#libc.errno());
        outcome.failures.push({ error, to, count: 1 });
      }
    }
  }

  #sendOne(message: number): boolean {
    const { headers } = this.#out;
    const offset = message * HEADER_BYTES;
    const { fd } = this.#bound;
    return this.#libc.sendmmsg(fd, headers, offset, 1, MSG_DONTWAIT) > 0;
  }

  /** Queues a message whose address and payload are copied. */
  #add(payload: Uint8Array, to: UdpAddress): void {
    const out = this.#out;
    const bytes = encodeSockaddr(to, this.#bound.family, out.nextName);
    out.add(payload, out.nextNamePointer, bytes, to);
  }
}

/** What became of the datagrams of a batch. */
interface Outcome {
  sent: number;
  failures: Array<{ error: Error; to: UdpAddress; count: number }>;
  /** The peer's port is closed, an earlier datagram says. */
  closedPort?: Error;
  /** A fast path was turned off. */
  notice?: Error;
}

const SEND_BYTES = 1 << 20;
const TRANSFERRED = "A reply is lost: a handler transferred what it is in " +
  "(copy with slice() what is to be transferred)";
const SEND_BUFFER_FULL = "The send buffer is full, and so is the queue to it";

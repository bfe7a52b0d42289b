/**
 * The send queue of a socket: replies and other datagrams, which leave together by
 * sendmmsg, and their outcomes.
 *
 * @module
 */
import type { UdpAddress } from "../../address.ts";
import {
  MAX_PAYLOAD,
  type Receiver,
  type ReplyOptions,
  type SendListener,
} from "../contract.ts";
import type { BatchDatagram, ReceiveBatch } from "./receive_batch.ts";
import {
  COPIED,
  type Listener,
  type Origin,
  POSTED,
  SendBatch,
} from "./send_batch.ts";
import { reconnect, type SocketDescriptor, trySet } from "./descriptor.ts";
import {
  EAGAIN,
  EBADF,
  EINTR,
  EINVAL,
  EIO,
  EMSGSIZE,
  ENETUNREACH,
  errorOf,
  hasMoved,
} from "./errno.ts";
import { takeErrors } from "./error_queue.ts";
import { isReport } from "../../base/errors.ts";
import * as sys from "./layout.ts";
import type { Libc } from "./libc.ts";
import type { Poller } from "./poller.ts";

/** The send queue of one socket. */
export class SendQueue {
  /** The receiver of the outcomes of replies. */
  receiver: Receiver = { onDatagram: () => {} };
  /** Whether datagrams wait for room in the send buffer. */
  isBlocked = false;
  /** Whether datagrams wait for the end of the turn. */
  isWaiting = false;
  readonly #libc: Libc;
  readonly #poller: Poller;
  readonly #bound: SocketDescriptor;
  readonly #in: ReceiveBatch;
  readonly #out: SendBatch;
  readonly #isConnected: boolean;
  readonly #now: () => number;
  /** When the peer was last heard, and the last look for another route. */
  heardAt = 0;
  #routedAt: number;
  /** Larger answers to one peer are not coalesced. */
  #maxCoalesced = ETHERNET_BYTES;
  #closed = false;

  constructor(
    libc: Libc,
    poller: Poller,
    bound: SocketDescriptor,
    received: ReceiveBatch,
    isConnected: boolean,
    now: () => number,
  ) {
    this.#libc = libc;
    this.#poller = poller;
    this.#bound = bound;
    this.#in = received;
    const segments = trySet(libc, bound.fd, sys.SOL_UDP, sys.UDP_SEGMENT, 0);
    this.#out = new SendBatch(libc, SEND_BYTES, segments);
    this.#isConnected = isConnected;
    this.#now = now;
    this.#routedAt = now();
  }

  /**
   * Queues the answer to the datagram that is being handed out: copied, unless it
   * is an echo of one of several datagrams in a message, which is sent from where
   * it was received.
   */
  addNow(
    payload: Uint8Array,
    datagram: BatchDatagram,
    options: ReplyOptions | undefined,
  ): void {
    const received = this.#in;
    const { remoteAddr: to, message } = datagram;
    // A reply must not wait in memory that is received into.
    if (this.isBlocked) {
      return this.addLater(payload, datagram, options);
    }
    const out = this.#out;
    const { length } = payload;
    // Copies of small datagrams are as fast.
    const isInPlace = payload === datagram.data && options === undefined &&
      datagram.segmentBytes !== 0;
    const at = isInPlace ? datagram.at : COPIED;
    const isAlone = isInPlace || length > this.#maxCoalesced;
    const origin = isAlone ? message : datagram.localAddr;
    // A reply with a traffic class of its own is a message of its own.
    if (
      options?.trafficClass === undefined &&
      out.extend(payload, at, origin, to)
    ) {
      if (options !== undefined) out.setOptions(length, options);
      return;
    }
    if (!this.#hasRoom(to, length, isInPlace ? 0 : length)) return;
    const name = received.namePointer(message);
    const bytes = received.nameLength(message);
    if (isInPlace) out.addEcho(datagram, name, bytes);
    else out.add(payload, name, bytes, to, origin);
    this.#depart(datagram, options, length);
  }

  /** Queues an answer that is copied, and leaves with others of the same turn. */
  addLater(
    payload: Uint8Array,
    datagram: BatchDatagram,
    options: ReplyOptions | undefined,
  ): void {
    const { length } = payload;
    const { remoteAddr: to } = datagram;
    if (!this.#hasRoom(to, length)) return;
    this.#add(payload, to);
    this.#depart(datagram, options, length);
    this.#flushSoon();
  }

  /** Sets the source of the last message, and the options of its datagram. */
  #depart(
    { destination }: BatchDatagram,
    options: ReplyOptions | undefined,
    length: number,
  ): void {
    if (destination !== undefined) this.#out.addControl(destination.source);
    if (options !== undefined) this.#out.setOptions(length, options);
  }

  /**
   * Queues a datagram that is no reply, and leaves with others of the same turn;
   * resolves when the system has taken it, rejects with its error. On a wildcard
   * socket it leaves from `from`, else from the address that its peer sent to last.
   */
  send(
    payload: Uint8Array,
    to: UdpAddress,
    from: string | undefined,
    isWildcard: boolean,
  ): Promise<void> {
    const refusal = this.#refusal(payload.length);
    if (refusal !== undefined) throw refusal;
    const out = this.#out;
    this.#add(payload, to);
    if (isWildcard) {
      const at = (out.count - 1) * sys.NAME_BYTES;
      const { family } = this.#bound;
      const control = this.#in.sourceTo(out.names, at, from, family);
      if (control !== undefined) out.addControl(control);
    }
    this.#flushSoon();
    return new Promise((onSent, onSendError) => {
      out.listen({ onSent, onSendError, from });
    });
  }

  /**
   * Queues a datagram of which only a failure is reported; it shares a message with
   * others of its size to the same address. Throws what {@linkcode send} does.
   */
  post(
    payload: Uint8Array,
    to: UdpAddress,
    listener: SendListener,
  ): void {
    const refusal = this.#refusal(payload.length);
    if (refusal !== undefined) throw refusal;
    const isAdded = this.#out.extend(payload, COPIED, POSTED, to);
    if (!isAdded) this.#add(payload, to, POSTED);
    this.#out.listen(listener);
    this.#flushSoon();
  }

  #flushSoon(): void {
    if (this.isWaiting) return;
    this.isWaiting = true;
    queueMicrotask(() => {
      this.isWaiting = false;
      this.flush();
    });
  }

  /** Sends the queue, and reports the outcomes. */
  flush(): void {
    if (this.#out.count === 0 || this.isBlocked) return;
    if (this.#isConnected) this.#lookAtRoute();
    const outcome = this.#transmit();
    if (this.#out.count > 0) {
      this.#waitForRoom().catch((error) =>
        this.receiver.onReceiveError?.(error)
      );
    }
    this.#report(outcome);
  }

  /**
   * Connects anew while the peer is silent: the route may have changed, and the kernel
   * keeps the old source address of a connected socket without an error.
   */
  #lookAtRoute(): void {
    const now = this.#now();
    if (now - Math.max(this.heardAt, this.#routedAt) < SILENT_MS) return;
    this.#routedAt = now;
    // Without a route the sends report it.
    reconnect(this.#libc, this.#bound);
  }

  /** Drops the queue, as the socket is about to be closed, and reports it. */
  close(): void {
    this.#closed = true;
    const outcome = newOutcome();
    for (let message = this.#out.first; message < this.#out.count; message++) {
      this.#failed(message, new Error(SEND_BUFFER_FULL), outcome);
    }
    this.#out.clear();
    this.#report(outcome);
  }

  /**
   * Whether there is room for another answer, of which `copied` bytes are copied.
   * If there is none, that is reported.
   */
  #hasRoom(to: UdpAddress, length: number, copied = length): boolean {
    const refusal = this.#refusal(length, copied);
    if (refusal !== undefined) this.receiver.onReplyError?.(refusal, to, 1);
    return refusal === undefined;
  }

  /** The error of a payload that cannot be queued. */
  #refusal(length: number, copied = length): Error | undefined {
    if (this.#closed) return errorOf(EBADF);
    if (length > MAX_PAYLOAD) return errorOf(EMSGSIZE);
    if (!this.#out.hasRoom(copied)) this.flush();
    if (!this.#out.hasRoom(copied)) return new Error(SEND_BUFFER_FULL);
  }

  #report(
    { sent, bytes, failures, reports, unsent, notice }: FlushOutcome,
  ): void {
    for (const report of reports) {
      this.receiver.onReceiveError?.(report, unsent);
    }
    if (notice !== undefined) this.receiver.onNotice?.(notice);
    if (sent > 0) this.receiver.onReplied?.(sent, bytes);
    for (const { error, to, count, listener } of failures) {
      if (listener !== undefined) listener.onSendError(error);
      else this.receiver.onReplyError?.(error, to, count);
    }
  }

  /** Waits until the send buffer has room; receiving continues meanwhile. */
  async #waitForRoom(): Promise<void> {
    this.isBlocked = true;
    const out = this.#out;
    for (let message = out.first; message < out.count; message++) {
      // The next receive must overwrite neither an echo's payload nor its
      // address.
      const { place, to } = out.queued[message]!;
      if (place !== -1) this.#in.retire(place);
      sys.encodeSockaddr(to, this.#bound.family, out.ownName(message));
    }
    await this.#poller.writable(this.#bound.fd);
    this.isBlocked = false;
    if (!this.#closed) this.flush();
  }

  /** Sends the queue, as far as there is room in the send buffer. */
  #transmit(): FlushOutcome {
    const out = this.#out;
    const outcome = newOutcome();
    let [tried, tries] = [-1, 0];
    out.complete();
    while (out.first < out.count) {
      const { whole } = out;
      if (whole === 0) {
        this.#failed(out.first++, new Error(TRANSFERRED), outcome);
        continue;
      }
      const result = out.send(this.#bound.fd, out.first, whole);
      if (result > 0) {
        const end = out.first + result;
        while (out.first < end) this.#taken(out.first++, outcome);
        continue;
      }
      const code = this.#libc.errno();
      if (code === EINTR) continue;
      if (code === EAGAIN) return outcome;
      const error = errorOf(code);
      const reports = takeErrors(this.#libc, this.#bound.fd);
      const hasReports = reports.length > 0;
      if (tried !== out.first) tries = 0;
      tried = out.first;
      if (!hasReports) tries++;
      if (this.#isConnected && tries === 1 && !hasReports && hasMoved(error)) {
        const errno = reconnect(this.#libc, this.#bound);
        // Without a peer its datagrams would fail one by one, too.
        if (errno !== 0) this.#failed(out.first++, errorOf(errno), outcome);
        continue;
      } else if (
        hasReports && outcome.reports.length < MAX_REPORTS ||
        tries <= this.#maxTries(code) && isReport(error)
      ) {
        // About an earlier datagram, or perhaps: then this one was not tried yet.
        if (hasReports) outcome.reports.push(...reports);
        else if (tries === 1) outcome.reports.push(error);
        const { listener } = out.queued[out.first]!;
        if (listener !== -1) outcome.unsent ??= out.listeners.slice(listener);
        continue;
      }
      // Refused again: about this datagram, and reported as its outcome.
      if (outcome.reports.at(-1)?.message === error.message) {
        outcome.reports.pop();
      }
      this.#recover(out.first, code, outcome);
      out.first++;
    }
    out.clear();
    return outcome;
  }

  /**
   * The number of times that an error without a report in the queue may be about an
   * earlier datagram: the kernel sets the error of a socket after it has queued the
   * report, which may have been taken by then.
   */
  #maxTries(code: number): number {
    if (!this.#isConnected) return code === EMSGSIZE ? 0 : 1;
    const { datagrams, size } = this.#out.queued[this.#out.first]!;
    const isSmall = datagrams === 1 && size <= MIN_PATH_BYTES;
    return code === EMSGSIZE && !isSmall ? 0 : MAX_TRIES;
  }

  /** Sends a message that the kernel refused again, by less demanding means. */
  #recover(message: number, code: number, outcome: FlushOutcome): void {
    const out = this.#out;
    const { to, datagrams, size, listener: first } = out.queued[message]!;
    if (datagrams === 1) {
      const from = first === -1 ? undefined : out.listeners[first]!.from;
      // A group's address cannot be the source of an answer, nor one that this
      // machine has no more: then the kernel chooses, unless the caller has chosen.
      if (
        from === undefined && out.dropControls(message) &&
        this.#sendOne(message)
      ) return this.#taken(message, outcome);
      const isOfSource = code === EINVAL || code === ENETUNREACH;
      const error = from !== undefined && isOfSource
        ? new Deno.errors.AddrNotAvailable(
          `Cannot send from ${from}: it is not an address of this machine, or has no route to the peer`,
        )
        : errorOf(code);
      return this.#failed(message, error, outcome);
    }
    let n = 0;
    let isChanged = false;
    let leavesAlone = false;
    for (const bytes of out.segmentByHand(message)) {
      const listener = first === -1 ? undefined : out.listeners[first + n++];
      let isSent = this.#sendOne(message);
      if (isSent) leavesAlone ||= !isChanged;
      else if (
        this.#libc.errno() !== EAGAIN && out.dropControls(message)
      ) {
        isChanged = true;
        isSent = this.#sendOne(message);
      }
      if (isSent) {
        listener?.onSent?.();
        if (listener === undefined) {
          outcome.sent++;
          outcome.bytes += bytes;
        }
        continue;
      }
      const error = errorOf(this.#libc.errno());
      outcome.failures.push({ error, to, count: 1, listener });
    }
    if (!leavesAlone) return;
    // A path with a smaller MTU gives EMSGSIZE, or EINVAL on older kernels; a device
    // that cannot segment gives EIO or EINVAL. Any other error is about these
    // datagrams.
    if (code === EMSGSIZE || (code === EINVAL && size > MIN_PATH_BYTES)) {
      this.#maxCoalesced = Math.min(this.#maxCoalesced, size - 1);
    } else if ((code === EIO || code === EINVAL) && out.segments) {
      out.segments = false;
      outcome.notice = new Error(
        "Replies are sent one by one from now on, which is slower: the system " +
          `refuses to segment messages (UDP_SEGMENT, ${errorOf(code).message})`,
      );
    }
  }

  #taken(message: number, outcome: FlushOutcome): void {
    const { listener, datagrams, start, end } = this.#out.queued[message]!;
    if (listener === -1) {
      outcome.sent += datagrams;
      outcome.bytes += end - start;
      return;
    }
    // Posts share a message, and each has its listener.
    for (let i = 0; i < datagrams; i++) {
      this.#out.listeners[listener + i]!.onSent?.();
    }
  }

  #failed(message: number, error: Error, outcome: FlushOutcome): void {
    const { queued, listeners } = this.#out;
    const { listener: first, to, datagrams: count } = queued[message]!;
    if (first === -1) return void outcome.failures.push({ error, to, count });
    for (const listener of listeners.slice(first, first + count)) {
      outcome.failures.push({ error, to, count: 1, listener });
    }
  }

  #sendOne(message: number): boolean {
    return this.#out.send(this.#bound.fd, message, 1) > 0;
  }

  /** Queues a message whose payload and address are copied. */
  #add(payload: Uint8Array, to: UdpAddress, origin?: Origin): void {
    const out = this.#out;
    const { family } = this.#bound;
    // A connected socket needs no address.
    const bytes = this.#isConnected
      ? 0
      : sys.encodeSockaddr(to, family, out.ownName(out.count));
    out.add(payload, out.namePointer(out.count), bytes, to, origin);
  }
}

/** The outcomes of the datagrams of a batch. */
interface FlushOutcome {
  /** Replies that were sent, and their bytes. */
  sent: number;
  bytes: number;
  /** Unsent replies, and unsent datagrams that have listeners. */
  failures: Array<{
    error: Error;
    to: UdpAddress;
    count: number;
    listener?: Listener | undefined;
  }>;
  /** The network's reports about earlier datagrams. */
  reports: Error[];
  /** The listeners of the datagrams that had not left before the first one. */
  unsent?: Listener[];
  /** A fast path was turned off. */
  notice?: Error;
}

function newOutcome(): FlushOutcome {
  return { sent: 0, bytes: 0, failures: [], reports: [] };
}

const SEND_BYTES = 1 << 20;
const MAX_TRIES = 4;
/** The silence after which a connected socket looks for another route. */
const SILENT_MS = 1000;
/** Reports that one flush takes. */
const MAX_REPORTS = 64;
/**
 * The payload of an Ethernet frame over IPv4. The kernel refuses segments that are
 * larger than the path's MTU, so that they would be sent one by one each time.
 */
const ETHERNET_BYTES = 1472;
/** The payload that every path takes over IPv6 (RFC 8200, section 5). */
const MIN_PATH_BYTES = 1232;
const TRANSFERRED = "A reply is lost: a handler transferred its buffer " +
  "(copy with slice() before a transfer)";
const SEND_BUFFER_FULL = "The send buffer is full, and so is the queue to it";

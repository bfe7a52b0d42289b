/**
 * The socket of a single request on the linux engine: small, as a series opens one for
 * each datagram. The system reports a closed port and other ICMP messages. It is
 * not connected: so it sees replies from other addresses, and leaves from any address
 * that the machine has by then.
 *
 * @module
 */
import type { UdpAddress } from "../../address.ts";
import { isReport, joinError } from "../../base/errors.ts";
import type {
  Datagram,
  DatagramSocket,
  OpenOptions,
  Receiver,
  ReplyOptions,
  SendListener,
} from "../contract.ts";
import type { Membership } from "../multicast.ts";
import type { NetAccess } from "../net_access.ts";
import {
  addressOf,
  kernelDrops,
  setMembership,
  type SocketDescriptor,
} from "./descriptor.ts";
import { EAGAIN, EINTR, EMSGSIZE, errorOf } from "./errno.ts";
import { keepErrors, takeErrors } from "./error_queue.ts";
import * as sys from "./layout.ts";
import type { Libc } from "./libc.ts";
import { BatchDatagram } from "./receive_batch.ts";
import type { Member, RequestSet } from "./request_set.ts";

/** A socket of a {@linkcode RequestSet}. */
export class RequestSocket implements DatagramSocket, Member {
  readonly addr: UdpAddress;
  readonly reportsClosedPort = true;
  readonly copiesReplies = false;
  readonly #libc: Libc;
  readonly #set: RequestSet;
  readonly #bound: SocketDescriptor;
  readonly #maxBytes: number;
  readonly #access: NetAccess | undefined;
  #receiver: Receiver | undefined;
  #end = Promise.withResolvers<void>();
  #hasSent = false;
  /** The latest send, while it waits for room. */
  #sending: Promise<void> | undefined;
  #failures = 0;
  #drops: number | undefined;
  #isClosed = false;
  #keepsAlive = true;

  constructor(
    libc: Libc,
    set: RequestSet,
    bound: SocketDescriptor,
    { maxDatagramBytes }: Pick<OpenOptions, "maxDatagramBytes">,
    access: NetAccess | undefined,
  ) {
    this.#libc = libc;
    this.#set = set;
    this.#bound = bound;
    this.#maxBytes = maxDatagramBytes;
    this.#access = access;
    this.addr = Object.freeze(addressOf(libc, bound.fd));
    keepErrors(libc, bound);
  }

  start(receiver: Receiver): Promise<void> {
    if (this.#isClosed) return this.#end.promise;
    this.#receiver = receiver;
    this.#set.add(this.#bound.fd, this);
    if (!this.#keepsAlive) this.#set.refresh(this.#bound.fd, false);
    return this.#end.promise;
  }

  take(events: number): void {
    let taken = 0;
    try {
      if (events & sys.EPOLLERR) this.#report();
      const { in: batch } = this.#set;
      let isMore = true;
      while (isMore && !this.#isClosed && taken < MAX_TAKEN) {
        const count = batch.receive(this.#bound.fd);
        if (count < 0) {
          isMore = this.#failed(errorOf(this.#libc.errno()));
          continue;
        }
        this.#failures = 0;
        isMore = count === batch.room;
        taken += count;
        for (let i = 0; i < count && !this.#isClosed; i++) this.#deliver(i);
      }
    } catch (error) {
      this.#close({ error });
    }
  }

  /** Takes the error of a receive; returns whether to receive again. */
  #failed(error: Error): boolean {
    const { code } = error as Error & { code: string };
    if (code === "EAGAIN") return false;
    if (code === "EINTR") return true;
    // A report is about an earlier send; a row of other failures is permanent.
    if (isReport(error)) this.#report(error);
    else if (++this.#failures >= MAX_RECEIVE_FAILURES) throw error;
    else this.#receiver!.onReceiveError?.(error);
    return true;
  }

  #deliver(message: number): void {
    const { in: batch } = this.#set;
    const length = batch.length(message);
    if (length > this.#maxBytes) return this.#receiver!.onTooLong?.();
    const datagram = new BatchDatagram();
    datagram.message = message;
    datagram.data = batch.buffer(message).u8.subarray(0, length);
    datagram.receivedAt = performance.now();
    batch.readAddresses(datagram, this.addr);
    datagram.isHandedOut = true;
    this.#receiver!.onDatagram(datagram);
    // Its holder keeps the buffer.
    if (datagram.isHandedOut) batch.retire(message);
  }

  /** Reports the network's errors about earlier datagrams, or this one. */
  #report(error?: Error): void {
    const errors = takeErrors(this.#libc, this.#bound.fd);
    if (errors.length === 0 && error !== undefined) errors.push(error);
    for (const one of errors) {
      if (!this.#isClosed) this.#receiver?.onReceiveError?.(one);
    }
  }

  send(
    payload: Uint8Array,
    to: UdpAddress,
    from: UdpAddress = this.addr,
  ): Promise<void> {
    try {
      if (from.hostname !== this.addr.hostname) {
        throw new Deno.errors.NotSupported(
          `Cannot send from ${from.hostname}: the socket of a request is bound to ${this.addr.hostname}`,
        );
      }
      // Else this send would fail with the report about an earlier one.
      if (this.#hasSent) this.#report();
      this.#hasSent = true;
      // The receiver may close the socket at a report.
      if (this.#isClosed) throw new Deno.errors.BadResource("Socket is closed");
      const refusal = this.#access?.refusal(to);
      if (refusal !== undefined) throw refusal;
      if (this.#sending === undefined && this.#give(payload, to)) {
        return Promise.resolve();
      }
      const sending = (this.#sending ?? Promise.resolve()).catch(() => {})
        .then(() => this.#giveLater(payload, to));
      this.#sending = sending;
      return sending.finally(() => {
        if (this.#sending === sending) this.#sending = undefined;
      });
    } catch (error) {
      return Promise.reject(error);
    }
  }

  /** Gives a datagram to the system; returns whether there was room for it. */
  #give(payload: Uint8Array, to: UdpAddress): boolean {
    const { fd, family } = this.#bound;
    if (this.#set.send(fd, family, payload, to) === 1) {
      this.#set.expect(fd);
      return true;
    }
    const errno = this.#libc.errno();
    if (errno === EAGAIN || errno === EINTR) return false;
    // The queue has the path's MTU.
    const [detailed = errorOf(errno)] = errno === EMSGSIZE
      ? takeErrors(this.#libc, fd, true)
      : [];
    throw detailed;
  }

  async #giveLater(payload: Uint8Array, to: UdpAddress): Promise<void> {
    do {
      await new Promise((resolve) => setTimeout(resolve, RETRY_MS));
      if (this.#isClosed) throw new Deno.errors.BadResource("Socket is closed");
    } while (!this.#give(payload, to));
  }

  post(payload: Uint8Array, to: UdpAddress, listener: SendListener): void {
    this.send(payload, to).then(
      () => listener.onSent?.(),
      (error) => listener.onSendError(error),
    );
  }

  reply(
    { remoteAddr }: Datagram,
    payload: Uint8Array,
    options?: ReplyOptions | undefined,
  ): void {
    options?.complete?.(payload);
    this.send(payload, remoteAddr).then(
      () => this.#receiver?.onReplied?.(1, payload.length),
      (error) => this.#receiver?.onReplyError?.(error, remoteAddr, 1),
    );
  }

  setMembership(membership: Membership, isMember: boolean): Promise<void> {
    return Promise.try(() => {
      if (this.#isClosed) throw new Deno.errors.BadResource("Socket is closed");
      try {
        setMembership(this.#libc, this.#bound.fd, membership, isMember);
      } catch (error) {
        throw joinError(error, membership.group);
      }
    });
  }

  release(datagram: Datagram): void {
    (datagram as BatchDatagram).isHandedOut = false;
  }

  abandon(): void {
    // The buffer has left the set, or leaves it when the receiver returns.
  }

  kernelDrops(): number | undefined {
    if (!this.#isClosed) this.#drops = kernelDrops(this.#libc, this.#bound.fd);
    return this.#drops;
  }

  async drain(): Promise<void> {
    // Not within the call.
    await null;
    this.#set.look();
  }

  close(): void {
    this.#close();
  }

  #close(failure?: { error: unknown }): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    this.#release().then(
      () => failure ? this.#end.reject(failure.error) : this.#end.resolve(),
      this.#end.reject,
    );
  }

  async #release(): Promise<void> {
    const { fd } = this.#bound;
    if (this.#receiver !== undefined) {
      await this.#set.remove(fd, this.#keepsAlive);
    }
    this.#bound.close();
  }

  ref(): void {
    this.#keepAlive(true);
  }

  unref(): void {
    this.#keepAlive(false);
  }

  #keepAlive(keepsAlive: boolean): void {
    if (this.#keepsAlive === keepsAlive || this.#isClosed) return;
    this.#keepsAlive = keepsAlive;
    if (this.#receiver !== undefined) {
      this.#set.refresh(this.#bound.fd, keepsAlive);
    }
  }
}

const MAX_RECEIVE_FAILURES = 16;
/** The datagrams of one look. */
const MAX_TAKEN = 64;
/** The time after which the send buffer may have room. */
const RETRY_MS = 1;

/**
 * A socket on a simulated network.
 *
 * @module
 */
import { formatAddress, type UdpAddress } from "../address.ts";
import { custom } from "../base/options.ts";
import { payloadOf } from "../base/payload.ts";
import type { Membership } from "../socket/multicast.ts";
import type {
  Datagram,
  DatagramSocket,
  OpenOptions,
  Receiver,
  ReplyOptions,
  SendListener,
} from "../socket/contract.ts";
import { EINVAL, errorOf } from "../socket/linux/errno.ts";
import type { Timers } from "./clock.ts";

/** The network, as its sockets use it. */
export interface Wire {
  /** The open sockets, by their addresses as text. */
  readonly sockets: Map<string, SimulatedSocket>;
  /** Whether hosts and routers report datagrams that they drop. */
  readonly icmp: boolean;
  /** Sends a datagram; throws if the system refuses it. */
  pass(
    from: UdpAddress,
    to: UdpAddress,
    payload: Uint8Array,
    sender?: SimulatedSocket,
  ): void;
}

/** An address that a test gives. */
export const ADDRESS = custom<UdpAddress>(
  "an object with hostname and port",
  (value) => {
    const { hostname, port } = (value ?? {}) as Partial<UdpAddress>;
    const isAddress = typeof hostname === "string" && Number.isInteger(port);
    return isAddress ? undefined : TypeError;
  },
);

/** The size of a receive buffer in bytes, by default. */
const BUFFER_BYTES = 212_992;
/** The bytes of a receive buffer that a datagram takes beside its payload. */
const OVERHEAD_BYTES = 768;

/** A socket on such a network. */
export class SimulatedSocket implements DatagramSocket {
  /** The bound address. */
  readonly addr: UdpAddress;
  /** Whether it has a peer, on a network with `icmp`. */
  readonly reportsClosedPort: boolean;
  /** Copies no replies. */
  readonly copiesReplies = false;
  /** Its memberships of groups. */
  readonly groups: Set<Membership> = new Set();
  /** Whether its datagrams are lost where they are larger than the MTU. */
  readonly dontFragment: boolean;
  readonly #wire: Wire;
  readonly #timers: Timers;
  readonly #maxDatagramBytes: number;
  readonly #bufferBytes: number;
  readonly #finished = Promise.withResolvers<void>();
  readonly #held = new Set<Datagram>();
  #receiver: Receiver | undefined;
  #lastRemote: UdpAddress | undefined;
  /** Deliveries that wait in the receive buffer; undefined: none has to. */
  #buffered: Array<() => void> | undefined;
  #bufferedBytes = 0;
  #drops = 0;

  /**
   * Made by the runtime of a network.
   *
   * @internal
   */
  constructor(
    wire: Wire,
    timers: Timers,
    addr: UdpAddress,
    options: OpenOptions,
  ) {
    this.#wire = wire;
    this.#timers = timers;
    this.addr = addr;
    this.reportsClosedPort = wire.icmp && options.peer !== undefined;
    this.dontFragment = options.dontFragment ?? false;
    this.#maxDatagramBytes = options.maxDatagramBytes;
    this.#bufferBytes = options.receiveBufferBytes ?? BUFFER_BYTES;
    for (const one of options.memberships ?? []) this.groups.add(one);
  }

  /** Whether it has not been closed. */
  get open(): boolean {
    return this.#wire.sockets.get(formatAddress(this.addr)) === this;
  }

  /** The number of datagrams that the owner has not handed back. */
  get held(): number {
    return this.#held.size;
  }

  /** Delivers a datagram, from any source. */
  arrive(
    payload: Uint8Array,
    remoteAddr: UdpAddress,
    localAddr: UdpAddress = this.addr,
  ): void {
    payload = payloadOf(payload, "arrive()");
    ADDRESS.read(remoteAddr, "remoteAddr");
    // One datagram to a group may have had another member close it.
    if (!this.open) return;
    if (this.#buffered !== undefined) {
      this.#bufferedBytes += payload.length + OVERHEAD_BYTES;
      if (this.#bufferedBytes > this.#bufferBytes) {
        this.#bufferedBytes -= payload.length + OVERHEAD_BYTES;
        this.#drops++;
      } else {
        this.#buffered.push(() => this.arrive(payload, remoteAddr, localAddr));
      }
      return;
    }
    if (payload.length > this.#maxDatagramBytes) {
      this.#receiver?.onTooLong?.();
      return;
    }
    const datagram = {
      data: new Uint8Array(payload),
      remoteAddr: this.#remember(remoteAddr),
      localAddr,
      receivedAt: this.#timers.now,
    };
    this.#held.add(datagram);
    this.#timers.handle(datagram, () => this.#receiver?.onDatagram(datagram));
  }

  /**
   * Stops reading, as a program that is busy does: datagrams wait in the receive
   * buffer of 212,992 bytes or `receiveBufferBytes`, each with 768 bytes beside its
   * payload. Those without room are dropped, and counted by `kernelDrops()`.
   */
  pause(): void {
    this.#buffered ??= [];
  }

  /** Reads again, first what waits in the receive buffer. */
  resume(): void {
    const buffered = this.#buffered ?? [];
    this.#buffered = undefined;
    this.#bufferedBytes = 0;
    this.#timers.next(buffered);
  }

  /** The same object for datagrams of one peer that follow each other. */
  #remember({ hostname, port }: UdpAddress): UdpAddress {
    const last = this.#lastRemote;
    if (last?.hostname === hostname && last.port === port) return last;
    return this.#lastRemote = Object.freeze({ hostname, port });
  }

  /** Reports an ICMP message about a datagram to its peer, if it takes them. */
  report(error: Error): void {
    if (this.open && this.reportsClosedPort) this.failOnce(error);
  }

  /** Has a receive fail once, after which receiving continues. */
  failOnce(error: Error): void {
    this.#receiver?.onReceiveError?.(error);
  }

  /** Has receiving fail permanently. */
  fail(error: Error): void {
    this.#wire.sockets.delete(formatAddress(this.addr));
    this.#finished.reject(error);
  }

  /** As {@linkcode DatagramSocket} has it. */
  start(receiver: Receiver): Promise<void> {
    this.#receiver = receiver;
    return this.#finished.promise;
  }

  /** As {@linkcode DatagramSocket} has it. */
  async send(payload: Uint8Array, to: UdpAddress): Promise<void> {
    if (!this.open) throw new Deno.errors.BadResource("Socket is closed");
    await Promise.resolve();
    const isIPv4 = !this.addr.hostname.includes(":");
    if (to.port === 0 || isIPv4 && to.hostname.includes(":")) {
      throw errorOf(EINVAL);
    }
    this.#wire.pass(this.addr, to, payload, this);
  }

  /** As {@linkcode DatagramSocket} has it. */
  post(payload: Uint8Array, to: UdpAddress, listener: SendListener): void {
    this.send(payload, to).then(
      () => listener.onSent?.(),
      (error) => listener.onSendError(error),
    );
  }

  /** As {@linkcode DatagramSocket} has it. */
  reply(
    datagram: Datagram,
    payload: Uint8Array,
    options?: ReplyOptions | undefined,
  ): void {
    options?.complete?.(payload);
    this.send(payload, datagram.remoteAddr).then(
      () => {
        this.release(datagram);
        this.#receiver?.onReplied?.(1, payload.length);
      },
      (error) => {
        this.release(datagram);
        this.#receiver?.onReplyError?.(error, datagram.remoteAddr, 1);
      },
    );
  }

  /** As {@linkcode DatagramSocket} has it, of datagrams from any source. */
  async setMembership(
    membership: Membership,
    isMember: boolean,
  ): Promise<void> {
    await Promise.resolve();
    if (isMember) this.groups.add(membership);
    else this.groups.delete(membership);
  }

  /** As {@linkcode DatagramSocket} has it. */
  kernelDrops(): number {
    return this.#drops;
  }

  /** As {@linkcode DatagramSocket} has it. */
  abandon(datagram: Datagram): void {
    if (!this.#held.delete(datagram)) throw new Error("Released twice");
    this.#timers.settle(datagram);
  }

  /** As {@linkcode DatagramSocket} has it. */
  release(datagram: Datagram): void {
    this.abandon(datagram);
    // A user that kept the bytes sees that they are used again.
    datagram.data.fill(0xdb);
  }

  /** As {@linkcode DatagramSocket} has it. */
  close(): void {
    if (!this.open) return;
    this.#wire.sockets.delete(formatAddress(this.addr));
    this.#finished.resolve();
  }

  /** As {@linkcode DatagramSocket} has it. */
  ref(): void {}
  /** As {@linkcode DatagramSocket} has it. */
  unref(): void {}
}

/**
 * {@linkcode DatagramSocket} over `Deno.listenDatagram`: everywhere, the
 * default.
 *
 * @module
 */
import { canonicalHostname, ipVersion, type UdpAddress } from "../address.ts";
import { bindError, isReport } from "../base/errors.ts";
import { DenoGroups } from "./deno_groups.ts";
import { dropsOf } from "./kernel_drops.ts";
import type { Membership } from "./multicast.ts";
import { limitedNet, type NetAccess, netAccess } from "./net_access.ts";
import type {
  Datagram,
  DatagramSocket,
  OpenOptions,
  Receiver,
  ReplyOptions,
  SendListener,
} from "./contract.ts";

/**
 * Binds a socket.
 *
 * @throws {Deno.errors.NotSupported} If Deno runs without its unstable net API,
 * or an option is given that Deno has no way to set.
 * @throws {Deno.errors.NotCapable} Without permission to use the address.
 * @throws {Deno.errors.AddrInUse} If the port is taken.
 * @throws {Deno.errors.AddrNotAvailable} If it is not this machine's address.
 */
export function openDenoSocket(options: OpenOptions): DatagramSocket {
  for (const [name, what] of NEEDS_LINUX) {
    if (options[name] !== undefined && options[name] !== false) {
      throw new Deno.errors.NotSupported(
        `Cannot set ${what} on the deno engine: '${name}' needs engine 'linux'`,
      );
    }
  }
  const conn = bindConn(options);
  try {
    const { maxDatagramBytes, peer } = options;
    // The user may be asked for a client's server here, and never at a send.
    if (peer !== undefined) Deno.permissions.requestSync(netAccess(peer));
    // Deno itself refuses what is denied.
    const access = limitedNet(false);
    return new DenoSocket(conn, maxDatagramBytes, access, options);
  } catch (error) {
    conn.close();
    throw error;
  }
}

/** Options that Deno has no way to set. */
const NEEDS_LINUX: ReadonlyArray<[keyof OpenOptions, string]> = [
  ["reusePort", "a shared port"],
  ["receiveBufferBytes", "the receive buffer"],
  ["ttl", "the TTL"],
  ["trafficClass", "the traffic class"],
  ["dontFragment", "don't-fragment"],
  ["device", "the interface to send by"],
];

/**
 * Binds Deno's own UDP socket; throws as {@linkcode openDenoSocket}; `shown` is
 * the address in the message.
 */
export function bindConn(
  options: UdpAddress & Pick<OpenOptions, "loopback" | "reuseAddress">,
  shown: UdpAddress = options,
): Conn {
  if (Deno.listenDatagram === undefined) {
    throw new Deno.errors.NotSupported(
      "Cannot open a UDP socket as Deno.listenDatagram is missing: " +
        `run with --unstable-net, or put "unstable": ["net"] into deno.json`,
    );
  }
  const { hostname, port, loopback = true, reuseAddress = false } = options;
  const address = { transport: "udp", hostname, port } as const;
  try {
    return Deno.listenDatagram({ ...address, loopback, reuseAddress }) as Conn;
  } catch (error) {
    throw bindError(error, shown);
  }
}

/** `Deno.DatagramConn` with two methods that it has, but not in its types. */
export type Conn = Deno.DatagramConn & { ref(): void; unref(): void };

/** `Deno.DatagramConn` as a {@linkcode DatagramSocket}. */
export class DenoSocket implements DatagramSocket {
  readonly addr: UdpAddress;
  readonly reportsClosedPort: boolean;
  readonly copiesReplies = false;
  readonly #conn: Conn;
  readonly #groups: DenoGroups;
  readonly #bufferBytes: number;
  readonly #isIPv6: boolean;
  #drops: number | undefined;
  /** Resolves when sends may begin; undefined once they may. */
  #prepared: Promise<unknown> | undefined;
  readonly #free: Slot[] = [];
  /** The last source as Deno gave it and in canonical form, frozen. */
  #lastFrom: Deno.NetAddr = NOBODY;
  #lastRemote: UdpAddress = NOBODY;
  /** The last destination as given, and as Deno takes it. */
  #lastTo: UdpAddress | undefined;
  #lastReachable: Deno.NetAddr = NOBODY;
  protected receiver: Receiver = {
    onDatagram: (datagram) => this.release(datagram),
  };
  protected closed = false;
  /** The number of receives that have ended. */
  #receives = 0;
  /** Datagrams behind the one that is being sent, in the order of the calls. */
  readonly #unsent: Unsent[] = [];
  #isSending = false;
  #hasSent = false;
  readonly #access: NetAccess | undefined;

  /**
   * Takes a bound socket.
   *
   * @param conn The socket.
   * @param maxDatagramBytes Longer datagrams are dropped whole.
   * @param access The destinations that it may send to; undefined for all.
   * @param options The groups to join, and the TTL of sends to groups.
   * @param reportsClosedPort Whether an engine reports a closed port; Deno itself does not.
   */
  constructor(
    conn: Conn,
    maxDatagramBytes: number,
    access: NetAccess | undefined,
    options?: OpenOptions,
    reportsClosedPort = false,
  ) {
    this.#conn = conn;
    this.#access = access;
    this.#groups = new DenoGroups(conn);
    this.#prepared = options && this.#groups.prepare(options);
    // start() rejects with the failure.
    this.#prepared?.then(() => {
      this.#prepared = undefined;
    }, () => {});
    this.reportsClosedPort = reportsClosedPort;
    // Deno silently truncates a datagram that does not fit: one byte more shows it.
    this.#bufferBytes = maxDatagramBytes + 1;
    const { hostname, port } = conn.addr as Deno.NetAddr;
    this.#isIPv6 = ipVersion(hostname) === 6;
    this.addr = Object.freeze({ hostname: canonicalHostname(hostname), port });
  }

  async start(receiver: Receiver): Promise<void> {
    this.receiver = receiver;
    const prepared = this.#prepared?.catch((error) => {
      // A membership of a socket that was closed meanwhile fails always.
      if (this.closed) return;
      this.close();
      throw error;
    });
    try {
      await Promise.all([this.#receive(receiver), prepared]);
    } finally {
      this.#keepSpares();
    }
  }

  async #receive(receiver: Receiver): Promise<void> {
    let failures = 0;
    // One receive at a time: several pending on one socket end in any order.
    while (!this.closed) {
      const slot = this.#free.pop() ?? this.#newSlot();
      // A handler may have transferred it to another thread.
      if (slot.buffer.length < this.#bufferBytes) {
        slot.buffer = new Uint8Array(this.#bufferBytes);
      }
      let received: [Uint8Array<ArrayBuffer>, Deno.Addr];
      try {
        received = await this.#conn.receive(slot.buffer);
      } catch (error) {
        this.#free.push(slot);
        if (this.closed) return;
        // A report is about an earlier send; most other errors pass; a row of
        // failures with nothing received between them is permanent.
        if (!isReport(error) && ++failures >= MAX_RECEIVE_FAILURES) {
          this.close();
          throw error;
        }
        receiver.onReceiveError?.(error);
        continue;
      }
      if (this.closed) return;
      this.#receives++;
      failures = 0;
      slot.data = received[0];
      if (slot.data.length === this.#bufferBytes) {
        this.#free.push(slot);
        receiver.onTooLong?.();
        continue;
      }
      this.#setFrom(slot, received[1] as Deno.NetAddr);
      slot.receivedAt = performance.now();
      receiver.onDatagram(slot);
    }
  }

  send(
    payload: Uint8Array,
    to: UdpAddress,
    from: UdpAddress = this.addr,
  ): Promise<void> {
    if (from.hostname !== this.addr.hostname) {
      const why =
        `the system chooses the source of a socket at ${this.addr.hostname}`;
      return Promise.reject(
        new Deno.errors.NotSupported(
          `Cannot send from ${from.hostname} on the deno engine, where ${why}: 'from' needs engine 'linux', or a socket bound to it`,
        ),
      );
    }
    return new Promise((onSent, onSendError) =>
      this.#queue(payload, this.#reachable(to), { onSent, onSendError })
    );
  }

  post(payload: Uint8Array, to: UdpAddress, listener: SendListener): void {
    this.#queue(payload, this.#reachable(to), listener);
  }

  #queue(payload: Uint8Array, to: Deno.NetAddr, listener: SendListener): void {
    this.#unsent.push({ payload, to, listener });
    if (!this.#isSending) this.#sendAll().catch(reportError);
  }

  /**
   * Sends one datagram at a time: of several that wait for room in the send buffer,
   * as in the first turn of a socket, Deno sends the last one first.
   */
  async #sendAll(): Promise<void> {
    this.#isSending = true;
    for (let next; (next = this.#unsent.shift()) !== undefined;) {
      await this.#give(next);
    }
    this.#isSending = false;
    this.#hasSent = true;
  }

  /** Gives a datagram to the system (and never rejects), if Deno would not prompt for its peer. */
  async #give({ payload, to, listener }: Unsent): Promise<void> {
    try {
      if (this.#prepared !== undefined) await this.#prepared;
      const refusal = this.#access?.refusal(to);
      if (refusal !== undefined) throw refusal;
      await this.#conn.send(payload, to);
    } catch (error) {
      // Never within the call; and a listener that throws does not end the queue.
      return queueMicrotask(() => listener.onSendError(error));
    }
    queueMicrotask(() => listener.onSent?.());
  }

  reply(
    datagram: Datagram,
    payload: Uint8Array,
    options?: ReplyOptions | undefined,
  ): void {
    options?.complete?.(payload);
    const slot = datagram as Slot;
    slot.replyBytes = payload.length;
    if (!this.#hasSent || this.#isSending || this.#access !== undefined) {
      return this.#queue(payload, slot.from, slot);
    }
    // Replies to several peers need no order, once the socket is writable.
    this.#conn.send(payload, slot.from).then(slot.onSent, slot.onSendError);
  }

  setMembership(membership: Membership, isMember: boolean): Promise<void> {
    return this.#groups.set(membership, isMember);
  }

  release(datagram: Datagram): void {
    this.#free.push(datagram as Slot);
  }

  abandon(): void {
    // The next receive makes another slot.
  }

  kernelDrops(): number | undefined {
    // Read at a close, the file would make that the slower the more sockets are open.
    if (this.closed || Deno.build.os !== "linux") return this.#drops;
    return this.#drops = dropsOf(this.addr, this.#isIPv6);
  }

  /**
   * Waits until nothing is received in a number of rounds of the event loop: Deno,
   * which does not report that nothing is left, polls in every 61st at the latest.
   */
  async drain(): Promise<void> {
    const start = this.#receives;
    for (let quiet = 0, before = start; quiet < QUIET_ROUNDS; quiet++) {
      await new Promise<void>((resolve) => setImmediate(() => resolve()));
      if (this.closed || this.#receives - start > MAX_DRAINED) return;
      if (this.#receives !== before) quiet = 0;
      before = this.#receives;
    }
  }

  close(): void {
    if (this.closed) return;
    this.closed = true;
    // As far as the system takes them at once.
    for (const next of this.#unsent.splice(0)) {
      this.#give(next).catch(reportError);
    }
    this.#conn.close();
  }

  ref(): void {
    this.#conn.ref();
  }

  unref(): void {
    this.#conn.unref();
  }

  #newSlot(): Slot {
    const slot: Slot = {
      buffer: spares.get(this.#bufferBytes)?.pop() ??
        new Uint8Array(this.#bufferBytes),
      data: NOTHING,
      from: NOBODY,
      remoteAddr: NOBODY,
      localAddr: this.addr,
      receivedAt: 0,
      replyBytes: 0,
      onSent: () => {
        this.#free.push(slot);
        this.receiver.onReplied?.(1, slot.replyBytes);
      },
      onSendError: (error) => {
        const { remoteAddr } = slot;
        this.#free.push(slot);
        this.receiver.onReplyError?.(error, remoteAddr, 1);
      },
    };
    return slot;
  }

  /** Leaves the buffers to the next socket: each request has a socket of its own. */
  #keepSpares(): void {
    const kept = spares.get(this.#bufferBytes) ?? [];
    for (const { buffer } of this.#free.splice(0)) {
      if (kept.length < MAX_SPARES && buffer.length > 0) kept.push(buffer);
    }
    spares.clear();
    spares.set(this.#bufferBytes, kept);
  }

  /** Sets the source: the same object for datagrams of one peer in a row. */
  #setFrom(slot: Slot, from: Deno.NetAddr): void {
    const last = this.#lastFrom;
    const { hostname, port } = from;
    if (port !== last.port || hostname !== last.hostname) {
      // Each object that Deno gives has a shape of its own, for which the optimized
      // code of all that reads it would be made anew with each peer.
      this.#lastFrom = this.#lastRemote = Object.freeze(
        { transport: "udp", hostname, port } as const,
      );
      // An IPv6 socket shows IPv4 peers as `::ffff:192.0.2.1`.
      if (this.#isIPv6 && hostname.startsWith("::ffff:")) {
        const canonical = canonicalHostname(hostname);
        this.#lastRemote = Object.freeze({ hostname: canonical, port });
      }
    }
    slot.from = this.#lastFrom;
    slot.remoteAddr = this.#lastRemote;
  }

  /** Only Linux takes a plain IPv4 address on an IPv6 socket. */
  #reachable(to: UdpAddress): Deno.NetAddr {
    if (to === this.#lastTo) return this.#lastReachable;
    this.#lastTo = to;
    let { hostname, port } = to;
    const isMapped = this.#isIPv6 && ipVersion(hostname) === 4;
    if (isMapped) hostname = `::ffff:${hostname}`;
    return this.#lastReachable = { transport: "udp", hostname, port };
  }
}

/** A receive buffer, and the objects that are made once and used for its datagrams. */
interface Slot {
  buffer: Uint8Array<ArrayBuffer>;
  data: Uint8Array<ArrayBuffer>;
  /** The source as Deno gave it, and takes it as the reply's destination. */
  from: Deno.NetAddr;
  remoteAddr: UdpAddress;
  readonly localAddr: UdpAddress;
  receivedAt: number;
  /** The size of its reply. */
  replyBytes: number;
  readonly onSent: () => void;
  readonly onSendError: (error: unknown) => void;
}

interface Unsent {
  payload: Uint8Array;
  to: Deno.NetAddr;
  listener: SendListener;
}

/** Buffers of closed sockets, of the size that was last in use. */
const spares = new Map<number, Uint8Array<ArrayBuffer>[]>();
const MAX_SPARES = 16;

const NOTHING = new Uint8Array(0);
const NOBODY: Deno.NetAddr = { transport: "udp", hostname: "0.0.0.0", port: 0 };
const MAX_RECEIVE_FAILURES = 16;
/** More datagrams than a receive buffer of Linux's usual size has room for. */
const MAX_DRAINED = 512;
/** Two polls, and the rounds from a poll to the callback. */
const QUIET_ROUNDS = 130;

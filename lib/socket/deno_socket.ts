/**
 * {@linkcode DatagramSocket} over `Deno.listenDatagram`: everywhere, the
 * default.
 *
 * @module
 */
import {
  canonicalHostname,
  formatAddress,
  ipv6Groups,
  ipVersion,
  isWildcard,
  type UdpAddress,
  withoutZone,
} from "../address.ts";
import { bindError, isReport, joinError } from "../base/errors.ts";
import type { Membership } from "./multicast.ts";
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
    const { maxDatagramBytes, isBusy, peer } = options;
    // The user may be asked for a client's server here, and never at a send.
    if (peer !== undefined) Deno.permissions.requestSync(netAccess(peer));
    const prepared = prepare(conn, options);
    return new DenoSocket(conn, maxDatagramBytes, prepared, false, isBusy);
  } catch (error) {
    conn.close();
    throw error;
  }
}

/** Whether an address may be used without a question to the user. */
export function isPermitted(address: UdpAddress): boolean {
  return Deno.permissions.querySync(netAccess(address)).state === "granted";
}

function netAccess(address: UdpAddress): Deno.NetPermissionDescriptor {
  return { name: "net", host: formatAddress(address) };
}

/** Fails without a permission for an address, where Deno would ask the user. */
export function requireNet(address: UdpAddress): void {
  if (isPermitted(address)) return;
  const host = formatAddress(address);
  throw new Deno.errors.NotCapable(
    `Requires net access to "${host}", run again with the --allow-net flag`,
  );
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

/** Joins groups and sets the multicast TTL, in the background; undefined for none. */
function prepare(
  conn: Conn,
  { memberships = [], multicastTtl }: OpenOptions,
): Promise<unknown> | undefined {
  const steps = memberships.map((membership) => join(conn, membership));
  if (multicastTtl !== undefined) {
    if (ipVersion((conn.addr as Deno.NetAddr).hostname) === 6) {
      throw new Deno.errors.NotSupported(
        "Cannot set the hop limit of IPv6 groups on the deno engine: 'multicastTtl' needs engine 'linux'",
      );
    }
    steps.push(setMulticastTtl(conn, multicastTtl));
  }
  return steps.length === 0 ? undefined : Promise.all(steps);
}

async function join(
  conn: Conn,
  { group, address, index }: Membership,
): Promise<void> {
  try {
    await (ipVersion(group) === 6
      ? conn.joinMulticastV6(group, index)
      : conn.joinMulticastV4(group, address));
  } catch (error) {
    throw joinError(error, group);
  }
}

/**
 * Sets the TTL by way of a membership, as Deno has no other. Every host is in the
 * group of all hosts, and no report is sent for it (RFC 2236, section 6).
 */
async function setMulticastTtl(conn: Conn, ttl: number): Promise<void> {
  const { hostname } = conn.addr as Deno.NetAddr;
  const address = isWildcard(hostname) ? "127.0.0.1" : hostname;
  const membership = await conn.joinMulticastV4("224.0.0.1", address);
  await membership.setTTL(ttl);
  await membership.leave();
}

/** `Deno.DatagramConn` with two methods that it has, but not in its types. */
export type Conn = Deno.DatagramConn & { ref(): void; unref(): void };

/** `Deno.DatagramConn` as a {@linkcode DatagramSocket}. */
export class DenoSocket implements DatagramSocket {
  readonly addr: UdpAddress;
  readonly isConnected: boolean;
  readonly copiesReplies = false;
  readonly #conn: Conn;
  readonly #bufferBytes: number;
  readonly #isIPv6: boolean;
  readonly #keepsDrops: boolean;
  #drops: number | undefined;
  #received = 0;
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
  #closed = false;
  /** Datagrams behind the one that is being sent, in the order of the calls. */
  readonly #unsent: Unsent[] = [];
  #isSending = false;
  #hasSent = false;
  /** The last destination that may be sent to. */
  #lastPermitted: Deno.NetAddr | undefined;
  readonly #sendsAnywhere: boolean;

  /**
   * Takes a bound socket.
   *
   * @param conn The socket.
   * @param maxDatagramBytes Longer datagrams are dropped whole.
   * @param prepared Resolves when sends may begin; rejects if they cannot.
   * @param isConnected Whether an engine has connected it; Deno itself cannot.
   * @param keepsDrops Whether a close reads the file with `kernelDrops()`.
   * @param checksNet Whether sends need the permission for their destination.
   */
  constructor(
    conn: Conn,
    maxDatagramBytes: number,
    prepared?: Promise<unknown>,
    isConnected = false,
    keepsDrops = false,
    checksNet = true,
  ) {
    this.#conn = conn;
    this.#sendsAnywhere = !checksNet ||
      Deno.permissions.querySync({ name: "net" }).state === "granted";
    this.#prepared = prepared;
    // start() rejects with the failure.
    prepared?.then(() => {
      this.#prepared = undefined;
    }, () => {});
    this.isConnected = isConnected;
    this.#keepsDrops = keepsDrops;
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
      if (this.#closed) return;
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
    while (!this.#closed) {
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
        if (this.#closed) return;
        // A report is about an earlier send; most other errors pass; a row of
        // failures with nothing received between them is permanent.
        if (!isReport(error) && ++failures >= MAX_RECEIVE_FAILURES) {
          this.close();
          throw error;
        }
        receiver.onReceiveError?.(error);
        continue;
      }
      if (this.#closed) return;
      failures = 0;
      this.#received++;
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

  send(payload: Uint8Array, to: UdpAddress): Promise<void> {
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
      if (!this.#sendsAnywhere && to !== this.#lastPermitted) requireNet(to);
      this.#lastPermitted = to;
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
    if (!this.#hasSent || this.#isSending || !this.#sendsAnywhere) {
      return this.#queue(payload, slot.from, slot);
    }
    // Replies to several peers need no order, once the socket is writable.
    this.#conn.send(payload, slot.from).then(slot.onSent, slot.onSendError);
  }

  release(datagram: Datagram): void {
    this.#free.push(datagram as Slot);
  }

  abandon(): void {
    // The next receive makes another slot.
  }

  async readEmpty(): Promise<void> {
    // A wait of a millisecond polls the socket, and the next one delivers.
    for (let looks = 0, quiet = 0; looks < MAX_LOOKS && quiet < 2; looks++) {
      const before = this.#received;
      await new Promise((resolve) => setTimeout(resolve, 1));
      quiet = this.#closed || before === this.#received ? quiet + 1 : 0;
    }
  }

  kernelDrops(): number | undefined {
    if (this.#closed || Deno.build.os !== "linux") return this.#drops;
    const path = this.#isIPv6 ? "/proc/net/udp6" : "/proc/net/udp";
    try {
      // Deno needs all permissions for files in /proc; a prompt must not appear.
      const { state } = Deno.permissions.querySync({ name: "read", path });
      this.#drops = state === "granted"
        ? findDrops(Deno.readTextFileSync(path), this.addr)
        : undefined;
    } catch {
      this.#drops = undefined;
    }
    return this.#drops;
  }

  close(): void {
    if (this.#closed) return;
    if (this.#keepsDrops) this.kernelDrops();
    this.#closed = true;
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
      onSent: () => {
        this.#free.push(slot);
        this.receiver.onReplied?.(1);
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
      this.#lastFrom = this.#lastRemote = Object.freeze(from);
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

/**
 * Finds how many datagrams the system dropped for a socket in the text of
 * Linux's /proc/net/udp or udp6. Pure.
 */
export function findDrops(
  table: string,
  { hostname, port }: UdpAddress,
): number | undefined {
  const bytes = ipVersion(hostname) === 4
    ? hostname.split(".").map(Number)
    : ipv6Groups(withoutZone(hostname)).flatMap((g) => [g >> 8, g & 255]);
  const hex = (value: number) => value.toString(16).padStart(2, "0");
  // Each four bytes of an address are written as a number of this machine.
  let address = "";
  for (let at = 0; at < bytes.length; at += 4) {
    address += bytes.slice(at, at + 4).reverse().map(hex).join("");
  }
  const local = `${address}:${port.toString(16).padStart(4, "0")}`;
  for (const line of table.split("\n")) {
    const fields = line.trim().split(/\s+/);
    if (fields[1]?.toLowerCase() === local) return Number(fields.at(-1));
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
const MAX_LOOKS = 200;

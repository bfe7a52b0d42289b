/**
 * The narrow interface between roundtrip and a UDP socket. Everything above it
 * runs unchanged on any implementation, the simulated network of the tests
 * included.
 *
 * @module
 */
import type { UdpAddress } from "../address.ts";
import * as option from "../base/options.ts";
import type { Datagram } from "./datagram.ts";
import type { Membership } from "./multicast.ts";

export { copyOf, type Datagram } from "./datagram.ts";

/** The largest UDP payload over IPv4: 65,535 less IP and UDP headers. */
export const MAX_PAYLOAD_IPV4 = 65_507;

/** The largest UDP payload over IPv6 (no jumbograms): 65,535 less UDP's 8. */
export const MAX_PAYLOAD_IPV6 = 65_527;

/** The largest UDP payload over either. */
export const MAX_PAYLOAD: number = MAX_PAYLOAD_IPV6;

/** The parts of a destination. */
export const PEER = {
  hostname: option.host(),
  port: option.integer(1, 65_535),
};

/**
 * The callbacks of a socket. After its close only the outcomes of earlier sends are
 * reported.
 */
export interface Receiver {
  /**
   * Takes a received datagram. Each must be handed back exactly once, by
   * {@linkcode DatagramSocket.release} or {@linkcode DatagramSocket.reply}; the
   * object and its bytes are the socket's own, and may be overwritten then.
   */
  onDatagram(datagram: Datagram): void;
  /**
   * Whether the next datagram would be dropped, since all room is taken. Then
   * microtasks run before it is delivered.
   */
  isFull?(): boolean;
  /** Counts a datagram that was dropped, as it was longer than `maxDatagramBytes`. */
  onTooLong?(): void;
  /** Counts replies that the system has taken to send, and their bytes. */
  onReplied?(count: number, bytes: number): void;
  /** Reports the error of `count` replies to an address. */
  onReplyError?(error: unknown, remoteAddr: UdpAddress, count: number): void;
  /**
   * Reports when the kernel gave a datagram to the network; only with
   * {@linkcode OpenOptions.stampSends}.
   *
   * @param index Its number in the order of sending, from 0.
   * @param at The time, in milliseconds, by the clock of the runtime.
   */
  onSent?(index: number, at: number): void;
  /**
   * Reports a receive that failed, or the network's report about an earlier
   * datagram; receiving continues.
   *
   * @param error The system's error.
   * @param unsent Listeners of datagrams that had not left at the report.
   */
  onReceiveError?(error: unknown, unsent?: readonly SendListener[]): void;
  /** Reports, once, that a fast path is off from now on. */
  onNotice?(notice: Error): void;
}

/** Options of one reply. */
export interface ReplyOptions {
  /** Completes the payload just before the system takes it, as by a time stamp. */
  complete?(payload: Uint8Array): void;
  /** Its traffic class, on engines that can give a single datagram one. */
  trafficClass?: number | undefined;
}

/** The callbacks of a datagram that is posted. */
export interface SendListener {
  /** The system has taken it. */
  onSent?(): void;
  /** Reports the system's error. */
  onSendError(error: unknown): void;
}

/**
 * A bound UDP socket. The tests `conformance_test.ts` and
 * `conformance_netns_test.ts` hold each promise to each kind of socket, and name
 * those that a kind cannot keep.
 *
 * Datagrams of 0 bytes to the most that UDP carries arrive unchanged; an IPv4 peer
 * of an IPv6 socket has an IPv4 address. No ICMP message, and no state of a route,
 * a link, a filter or a queue ends a socket: each is the error of one send, or a
 * report. A socket with a `peer` recovers when the machine's address or route
 * changes. Nothing on a datagram's way asks for a permission.
 */
export interface DatagramSocket {
  /** The bound address, the port never 0. */
  readonly addr: UdpAddress;
  /**
   * Whether it reports a closed port of {@linkcode OpenOptions.peer} at once, and
   * its reports are about that peer.
   */
  readonly reportsClosedPort: boolean;
  /**
   * Whether {@linkcode DatagramSocket.reply} and `post` copy the payload, so that
   * the datagram is handed back at once and a reply in flight takes none of its
   * memory.
   */
  readonly copiesReplies: boolean;
  /** Whether the kernel reports when it has sent each datagram. */
  readonly stampsSends?: boolean;
  /**
   * Starts receiving; called once.
   *
   * @returns Resolves when the socket is closed, rejects with the system's
   * error if receiving fails permanently. The socket is closed in both cases.
   */
  start(receiver: Receiver): Promise<void>;
  /**
   * Sends one datagram; rejects with the system's error. Datagrams leave in the
   * order of the calls, the first ones and those that wait for room included; those
   * of before `close()` leave.
   *
   * @param payload It must not change until the promise settles.
   * @param to The destination.
   * @param from The address that it leaves from, of a socket at the wildcard: for an
   * answer the destination of its request. Engines that cannot choose reject with
   * `Deno.errors.NotSupported`, unless it is the bound address. Without it an engine
   * that can takes the address that the peer sent to last.
   */
  send(
    payload: Uint8Array,
    to: UdpAddress,
    from?: UdpAddress | undefined,
  ): Promise<void>;
  /**
   * Sends one datagram as {@linkcode DatagramSocket.send} does, without a
   * promise: for callers that send very many, and need failures only, of which the
   * listener is never called within the call. The same `to` each time is the fastest.
   */
  post(payload: Uint8Array, to: UdpAddress, listener: SendListener): void;
  /**
   * Sends `payload` to the source of `datagram`, and hands the datagram back.
   * `payload` may be a part of `datagram.data`; it must not change until
   * {@linkcode Receiver.onReplied} or {@linkcode Receiver.onReplyError} has
   * counted it. Never throws.
   */
  reply(
    datagram: Datagram,
    payload: Uint8Array,
    options?: ReplyOptions | undefined,
  ): void;
  /**
   * Joins a group, or leaves one by the same object; rejects with the system's error,
   * or with `Deno.errors.NotSupported` where the engine knows no single sources.
   */
  setMembership(membership: Membership, isMember: boolean): Promise<void>;
  /** Hands back a datagram that gets no reply. */
  release(datagram: Datagram): void;
  /**
   * Abandons a datagram whose bytes may still be in use: the user owns them from
   * then on, and the datagram must not be handed back any more.
   */
  abandon(datagram: Datagram): void;
  /**
   * The number of datagrams that the system dropped as its receive buffer was full;
   * undefined where it is not known. Of a closed socket it is the number until then,
   * on the deno engine as of the last call before.
   */
  kernelDrops(): number | undefined;
  /**
   * Waits in this thread, which does nothing else meanwhile, until a datagram
   * arrives, or until shortly before `ms` milliseconds are over, at most 1; 0 only
   * looks. The datagram is received as soon as the caller has returned. Missing on
   * engines that cannot.
   */
  sleep?(ms: number): void;
  /**
   * Resolves when the datagrams that the system had received by the call have been
   * delivered, or the socket is closed. Missing where none can wait in the system.
   */
  drain?(): Promise<void>;
  /**
   * Closes the socket at once, also within a callback; each later send fails.
   * Closing twice does nothing.
   */
  close(): void;
  /** Lets the socket keep the process alive, as it does at first. */
  ref(): void;
  /** Lets the process end while the socket is open. */
  unref(): void;
}

/** Options of all sends of a socket, on the linux engine; the deno one refuses. */
export interface SendOptions {
  /**
   * The TTL or hop limit of datagrams to one host, 1 to 255.
   *
   * @default {the system's, mostly 64}
   */
  ttl?: number | undefined;
  /**
   * The traffic class, 0 to 255: the DSCP in the upper six bits (RFC 2474), ECN
   * in the lower two.
   *
   * @default {0}
   */
  trafficClass?: number | undefined;
  /**
   * Whether routers must not fragment datagrams: a datagram larger than the path
   * takes then fails or is lost. With false routers may (IP_PMTUDISC_DONT).
   *
   * @default {the system's choice}
   */
  dontFragment?: boolean | undefined;
  /**
   * The name of the only interface to send and receive by, against all routes
   * (SO_BINDTODEVICE).
   *
   * @default {the system's choice}
   */
  device?: string | undefined;
}

/** Options of sends to multicast groups. */
export interface GroupSendOptions {
  /**
   * The TTL or hop limit of datagrams to a multicast group, 0 to 255: 0 stays
   * on this machine, 1 on the link (RFC 1112). The deno engine sets it for IPv4
   * only.
   *
   * @default {1}
   */
  multicastTtl?: number | undefined;
  /**
   * Whether this machine's own members of a group receive datagrams to it.
   *
   * @default {true}
   */
  loopback?: boolean | undefined;
}

/** The table of {@linkcode SendOptions}. */
export const SEND_OPTIONS = {
  ttl: option.integer(1, 255),
  trafficClass: option.integer(0, 255),
  dontFragment: option.flag(),
  device: option.custom<string>(
    "the name of an interface, such as eth0",
    (value) => {
      if (typeof value !== "string") return TypeError;
      return /^[^/\s]{1,15}$/.test(value) ? undefined : RangeError;
    },
  ),
} satisfies option.Table<SendOptions>;

/** The table of {@linkcode GroupSendOptions}. */
export const GROUP_SEND_OPTIONS = {
  multicastTtl: option.integer(0, 255),
  loopback: option.flag(),
} satisfies option.Table<GroupSendOptions>;

/** The options of sends, out of others. */
export function sendOptionsOf(
  { ttl, trafficClass, dontFragment, device }: SendOptions,
): SendOptions {
  return { ttl, trafficClass, dontFragment, device };
}

/** Options of opening a socket. */
export interface OpenOptions extends SendOptions, GroupSendOptions {
  /** The local IP address or host name to bind. */
  hostname: string;
  /** The local port; 0 takes any that is free. */
  port: number;
  /** Longer datagrams are dropped whole. */
  maxDatagramBytes: number;
  /** The only peer, for engines that can connect a socket. */
  peer?: UdpAddress | undefined;
  /** Whether many datagrams are expected, so that batches pay. */
  isBusy?: boolean | undefined;
  /** Whether to share the port with other sockets that do (SO_REUSEPORT). */
  reusePort?: boolean | undefined;
  /**
   * Whether sockets with this option share the port (SO_REUSEADDR): each receives
   * datagrams to a group, one of them all others.
   */
  reuseAddress?: boolean | undefined;
  /** The size of the receive buffer, in bytes. */
  receiveBufferBytes?: number | undefined;
  /**
   * Whether datagrams have `arrivedAt`, `ttl` and `trafficClass`, if the engine
   * can.
   */
  packetInfo?: boolean | undefined;
  /** Whether the kernel reports when it has sent each datagram, if it can. */
  stampSends?: boolean | undefined;
  /** The multicast groups to join. */
  memberships?: readonly Membership[] | undefined;
}

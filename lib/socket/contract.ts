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

/** The parts of an address that is sent to. */
export const PEER = {
  hostname: option.text(),
  port: option.integer(1, 65_535),
};

/** What a socket calls when something happens to it. */
export interface Receiver {
  /**
   * Takes a received datagram. Each must be handed back exactly once, by
   * {@linkcode DatagramSocket.release} or {@linkcode DatagramSocket.reply}; the
   * object and its bytes are the socket's own, and may be overwritten then.
   */
  onDatagram(datagram: Datagram): void;
  /**
   * Whether the next datagram would be dropped, since all room is taken. What
   * only waits for a microtask then settles first.
   */
  isFull?(): boolean;
  /** A datagram was longer than `maxDatagramBytes`, and was dropped. */
  onTooLong?(): void;
  /** The system has taken `count` replies to send. */
  onReplied?(count: number): void;
  /** The system could not send `count` replies to this address. */
  onReplyError?(error: unknown, remoteAddr: UdpAddress, count: number): void;
  /**
   * The kernel has given a datagram to the network, by the clock of the runtime;
   * only with {@linkcode OpenOptions.stampSends}.
   *
   * @param index Which one, by the order of sending, from 0.
   * @param at When.
   */
  onSent?(index: number, at: number): void;
  /** Receiving failed once, and goes on. */
  onReceiveError?(error: unknown): void;
  /** From now on something works less well than it could; said once. */
  onNotice?(notice: Error): void;
}

/** How a reply is to leave, where that is more than to be sent. */
export interface ReplyOptions {
  /** Writes into the payload what is known at the last moment only. */
  complete?(payload: Uint8Array): void;
  /** Its traffic class, on engines that can give a single datagram one. */
  trafficClass?: number | undefined;
}

/** Who posts datagrams. */
export interface SendErrorListener {
  /** The system could not send the datagram. */
  onSendError(error: unknown): void;
}

/** A bound UDP socket. */
export interface DatagramSocket {
  /** The bound address, the port never 0. */
  readonly addr: UdpAddress;
  /**
   * Whether it is connected to {@linkcode OpenOptions.peer}: then the system's
   * report of a closed port is about that peer, and comes at once.
   */
  readonly isConnected: boolean;
  /**
   * Whether {@linkcode DatagramSocket.reply} and `post` copy the payload, and
   * the datagram that is answered is handed back at once, so that what is on its
   * way out takes no more memory.
   */
  readonly copiesReplies: boolean;
  /** Whether the kernel tells when it has sent each datagram. */
  readonly stampsSends?: boolean;
  /**
   * Starts receiving; called once.
   *
   * @returns Resolves when the socket is closed, rejects with the system's
   * error if receiving fails for good. The socket is closed in both cases.
   */
  start(receiver: Receiver): Promise<void>;
  /**
   * Sends one datagram. `payload` must not change until the promise settles.
   *
   * @param payload What to send.
   * @param to Where to.
   * @param from For an answer: where the datagram that it answers was sent to,
   * which is where it leaves from, if the engine can choose.
   * @returns Rejects with the system's error.
   */
  send(
    payload: Uint8Array,
    to: UdpAddress,
    from?: UdpAddress | undefined,
  ): Promise<void>;
  /**
   * Sends one datagram as {@linkcode DatagramSocket.send} does, without a
   * promise: for who sends very many, and needs to know of failures only.
   *
   * @param payload What to send; it must not change while it is on its way.
   * @param to Where to. The same object each time is the fastest.
   * @param listener Hears of the system's error, never within the call.
   */
  post(payload: Uint8Array, to: UdpAddress, listener: SendErrorListener): void;
  /**
   * Sends `payload` to where `datagram` came from, and hands the datagram
   * back. `payload` may be a part of `datagram.data`; it must not change until
   * {@linkcode Receiver.onReplied} or {@linkcode Receiver.onReplyError} has
   * counted it. Never throws.
   */
  reply(
    datagram: Datagram,
    payload: Uint8Array,
    options?: ReplyOptions | undefined,
  ): void;
  /** Hands back a datagram that gets no reply. */
  release(datagram: Datagram): void;
  /**
   * Gives up a datagram whose bytes may still be in use: they are left to who
   * uses them, and it must not be handed back any more.
   */
  abandon(datagram: Datagram): void;
  /**
   * The number of datagrams that the system has dropped, since its receive buffer
   * was full; once a socket opened with `isBusy` is closed, the number until then.
   * Undefined where it cannot be known.
   */
  kernelDrops(): number | undefined;
  /**
   * Waits in this thread, which does nothing else meanwhile, until something comes,
   * or shortly before so many milliseconds are over: 1 at most; 0 is no more than a
   * look. What has come is received as soon as the caller is done. Engines that
   * cannot have no such method.
   */
  sleep?(ms: number): void;
  /** Closes the socket at once. Closing twice does nothing. */
  close(): void;
  /** Lets the socket keep the process alive, as it does at first. */
  ref(): void;
  /** Lets the process end while the socket is open. */
  unref(): void;
}

/** How datagrams leave a socket; on the linux engine, the deno one refuses. */
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
   * Whether routers must not cut datagrams: what is larger than the path takes
   * then fails or is lost.
   *
   * @default {the system's choice}
   */
  dontFragment?: boolean | undefined;
  /**
   * The name of the only interface to send and receive by, whatever the routes
   * say (SO_BINDTODEVICE).
   *
   * @default {the system's choice}
   */
  device?: string | undefined;
}

/** How datagrams to multicast groups leave a socket. */
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
   * Whether this machine's own members of a group hear what is sent to it.
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

/** The options that say how datagrams leave, out of others. */
export function sendOptionsOf(
  { ttl, trafficClass, dontFragment, device }: SendOptions,
): SendOptions {
  return { ttl, trafficClass, dontFragment, device };
}

/** How a socket is to be opened. */
export interface OpenOptions extends SendOptions, GroupSendOptions {
  /** The local IP address or host name to bind. */
  hostname: string;
  /** The local port; 0 takes any that is free. */
  port: number;
  /** Longer datagrams are dropped whole. */
  maxDatagramBytes: number;
  /** The only peer, for engines that can connect a socket. */
  peer?: UdpAddress | undefined;
  /** Whether many datagrams are to be expected, so that batches pay. */
  isBusy?: boolean | undefined;
  /** Whether to share the port with other sockets that do (SO_REUSEPORT). */
  reusePort?: boolean | undefined;
  /**
   * Whether others that do the same may have the port too: each hears what comes
   * to a group, one of them all else (SO_REUSEADDR).
   */
  reuseAddress?: boolean | undefined;
  /** How many bytes of datagrams the system keeps until they are received. */
  receiveBufferBytes?: number | undefined;
  /**
   * Whether datagrams are to tell their TTL and traffic class, and when the kernel
   * received them, if the engine can.
   */
  packetInfo?: boolean | undefined;
  /** Whether the kernel is to say when it has sent each datagram, if it can. */
  stampSends?: boolean | undefined;
  /** The multicast groups to join. */
  memberships?: readonly Membership[] | undefined;
}

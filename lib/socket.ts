/**
 * The narrow interface between roundtrip and a UDP socket. Everything above it
 * runs unchanged on any implementation, the simulated network of the tests
 * included.
 *
 * @module
 */
import type { UdpAddress } from "./address.ts";

/** The largest UDP payload over IPv4: 65,535 less IP and UDP headers. */
export const MAX_PAYLOAD_IPV4 = 65_507;

/** The largest UDP payload over IPv6 (no jumbograms): 65,535 less UDP's 8. */
export const MAX_PAYLOAD_IPV6 = 65_527;

/**
 * A received datagram. It is lent: `data` may be overwritten as soon as the
 * datagram is given back by {@linkcode DatagramSocket.release} or its reply
 * has been sent.
 */
export interface Datagram {
  /** The payload, 0 bytes or more. */
  readonly data: Uint8Array<ArrayBuffer>;
  /** Where it came from, in canonical form. */
  readonly remoteAddr: UdpAddress;
}

/** What a socket tells its owner. */
export interface Receiver {
  /**
   * A datagram came. Each must be handed back exactly once: by
   * {@linkcode DatagramSocket.release} or {@linkcode DatagramSocket.reply}.
   */
  onDatagram(datagram: Datagram): void;
  /** A datagram was longer than `maxDatagramBytes`, and was dropped. */
  onTooLong?(): void;
  /** The reply to this datagram has been sent. */
  onReplied?(datagram: Datagram): void;
  /** The reply to this datagram could not be sent. */
  onReplyError?(error: unknown, datagram: Datagram): void;
  /** So many replies to an address, told as replied, were not sent after all. */
  onUnsent?(error: unknown, remoteAddr: UdpAddress, count: number): void;
  /** Receiving failed once, and goes on. */
  onReceiveError?(error: unknown): void;
}

/** A bound UDP socket. */
export interface DatagramSocket {
  /** The bound address, the port never 0. */
  readonly addr: UdpAddress;
  /**
   * Whether it is connected to {@linkcode OpenOptions.peer}: then a refusal is
   * about that peer, and at once.
   */
  readonly isConnected: boolean;
  /**
   * Starts receiving; called once.
   *
   * @returns Resolves when the socket is closed, rejects with the system's
   * error if receiving fails for good. The socket is closed in both cases.
   */
  start(receiver: Receiver): Promise<void>;
  /**
   * Sends one datagram. `payload` is lent until the promise settles.
   *
   * @returns Rejects with the system's error.
   */
  send(payload: Uint8Array, to: UdpAddress): Promise<void>;
  /**
   * Sends `payload` to where `datagram` came from, and hands the datagram
   * back. `payload` is lent until {@linkcode Receiver.onReplied} or
   * {@linkcode Receiver.onReplyError}; it may be a part of `datagram.data`.
   */
  reply(datagram: Datagram, payload: Uint8Array): void;
  /** Hands back a datagram that gets no reply. */
  release(datagram: Datagram): void;
  /** Closes the socket at once. Closing twice does nothing. */
  close(): void;
  /** Lets the socket keep the process alive, as it does at first. */
  ref(): void;
  /** Lets the process end while the socket is open. */
  unref(): void;
}

/** How a socket is to be opened. */
export interface OpenOptions {
  /** The local IP address or host name to bind. */
  hostname: string;
  /** The local port; 0 takes any that is free. */
  port: number;
  /** Longer datagrams are dropped whole. */
  maxDatagramBytes: number;
  /** The only peer, for engines that can connect a socket. */
  peer?: UdpAddress;
  /** Whether many datagrams are to be expected, from many peers. */
  isServer?: boolean;
  /** Whether to share the port with other sockets that do (SO_REUSEPORT). */
  reusePort?: boolean;
}

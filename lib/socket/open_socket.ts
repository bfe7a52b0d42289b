/**
 * A UDP socket itself, for protocols that are neither a server nor a client:
 * datagrams are received one by one or by a callback, and sent to any peer.
 *
 * @module
 */
import type { UdpAddress } from "../address.ts";
import { EventQueue } from "../base/event_queue.ts";
import * as option from "../base/options.ts";
import type { PayloadInit } from "../base/payload.ts";
import { BIND, bindingOf, type BindOptions } from "./bind_options.ts";
import { type Datagram, OwnedDatagram } from "./datagram.ts";
import {
  type Endpoint,
  Outbox,
  type Outgoing,
  type PushOptions,
} from "./outbox.ts";
import { type GroupOptions, Memberships } from "./memberships.ts";
import type { Runtime } from "./runtime.ts";
import {
  type DatagramSocket,
  type Receiver,
  SEND_OPTIONS,
  type SendOptions,
  sendOptionsOf,
} from "./contract.ts";
import { errorName } from "../base/errors.ts";
import { describeError, throttle } from "../base/warn.ts";

/** Options of {@linkcode openSocket}. */
export interface SocketOptions extends BindOptions, SendOptions {
  /**
   * The local IP address or host name to bind; with `groups` it is `0.0.0.0` or
   * `::`.
   *
   * @default {"0.0.0.0", or "::" with groups of IPv6}
   */
  hostname?: string | undefined;
  /**
   * Called with each error that the socket survives: a receive that fails, a
   * datagram that cannot be sent, a callback that throws.
   *
   * @default {prints the error on stderr, each kind at most once a second}
   */
  onError?: ((error: unknown) => void) | undefined;
}

/** The table of {@linkcode SocketOptions}. */
export const SOCKET = {
  hostname: option.dependent(option.host("0.0.0.0")),
  ...BIND,
  ...SEND_OPTIONS,
  onError: option.callback(),
} satisfies option.Table<SocketOptions>;

/** The counts of a socket. */
export interface SocketStats {
  /** Datagrams received. */
  received: number;
  /** Received datagrams that were dropped, by reason. */
  dropped: {
    /** Longer than `maxDatagramBytes`. */
    tooLong: number;
    /** Received while 16 MiB of others were unread, see {@linkcode UdpSocket}. */
    overload: number;
  };
  /**
   * Datagrams that the system dropped, in no other count; undefined where that
   * cannot be known.
   */
  kernelDrops: number | undefined;
  /** Datagrams that the system has taken. */
  sent: number;
  /**
   * Datagrams not sent: refused by the system, of a wrong address or payload, with
   * 4,096 others in flight, or after the close.
   */
  unsent: number;
}

/**
 * An open UDP socket. Without a callback `receive()` and `for await` read its
 * datagrams, each of which is read once. Up to 16 MiB of unread ones are kept, 512
 * bytes being counted for each beside its payload; further ones are dropped and
 * counted.
 */
export interface UdpSocket extends Endpoint, AsyncIterable<Datagram> {
  /**
   * Takes the next datagram, or waits for it. Calls that wait are served in their
   * order; an aborted one takes no datagram.
   *
   * @param options The signal that ends the wait.
   * @returns The datagram, owned by the caller. Rejects with the signal's reason; with
   * `Deno.errors.Interrupted` if the socket is closed and all datagrams are read,
   * which ends an iteration; with the system's error if receiving failed permanently.
   * @throws {TypeError} If the socket has a callback, which takes every datagram.
   */
  receive(options?: Pick<SocketOptions, "signal">): Promise<Datagram>;
  /**
   * Sends many datagrams, each with its own payload and address, no faster than
   * the system takes them. One that is wrong or fails stops none of the others.
   *
   * @param datagrams The payloads and addresses, as for `send`, each with its
   * `from` if it has one.
   * @returns The number of datagrams sent; `onError` is called for each other.
   */
  sendBatch(datagrams: Iterable<Outgoing>): Promise<number>;
  /** A snapshot of the counts. */
  stats(): SocketStats;
  /** Closes the socket at once. */
  close(): Promise<void>;
}

/**
 * Opens a UDP socket: for protocols that `serve`, `request`, `connect` and
 * `gather` do not fit. It has no guard: `serve` is better for answers to unknown
 * peers, as it limits them and ends loops.
 *
 * @param options The address to bind, and the options of sends.
 * @param onDatagram Called with each received datagram, whose bytes are a copy
 * that it owns; without it they are read by `receive()` and `for await`.
 * @returns The open socket.
 * @throws {RangeError} If a number is out of range.
 * @throws {TypeError} If an option is unknown or of a wrong type, or a group is
 * none.
 * @throws {Deno.errors.NotFound} If `hostname` is a name that does not resolve,
 * or there is no such `interface`.
 * @throws {Deno.errors.NotSupported} If the engine has no way to set an option.
 * @throws {Deno.errors.AddrInUse} If the port is taken.
 * @throws {Deno.errors.AddrNotAvailable} If `hostname` is not this machine's.
 * @throws {Deno.errors.NotCapable} Without permission to use the address.
 *
 * @example
 * ```ts
 * import { openSocket } from "@roundtrip/udp";
 * import { assertEquals } from "@std/assert";
 *
 * const local = { hostname: "127.0.0.1" };
 * await using one = openSocket(local);
 * await using two = openSocket(local);
 * await two.send("hello", one.addr);
 * const { data, remoteAddr } = await one.receive();
 * assertEquals(new TextDecoder().decode(data), "hello");
 * assertEquals(remoteAddr.port, two.addr.port);
 * ```
 */
export function openSocket(
  options: SocketOptions,
  onDatagram?: (datagram: Datagram) => void,
): UdpSocket {
  const values = option.readAll("openSocket", SOCKET, options);
  if (onDatagram !== undefined) {
    option.callback().read(onDatagram, "onDatagram");
  }
  const { binding, runtime } = bindingOf(values, SOCKET.hostname.default);
  const socket = runtime.open({ ...binding, ...sendOptionsOf(values) });
  return new OpenSocket(socket, binding, runtime, onDatagram, values);
}

class OpenSocket implements UdpSocket, Receiver {
  readonly addr: UdpAddress;
  readonly finished: Promise<void>;
  readonly #socket: DatagramSocket;
  readonly #outbox: Outbox;
  readonly #memberships: Memberships;
  readonly #onDatagram: ((datagram: Datagram) => void) | undefined;
  readonly #unread = new EventQueue<Datagram>();
  readonly #onError: (error: unknown) => void;
  #received = 0;
  #tooLong = 0;

  constructor(
    socket: DatagramSocket,
    groups: GroupOptions,
    runtime: Runtime,
    onDatagram: ((datagram: Datagram) => void) | undefined,
    { onError, signal }: SocketOptions,
  ) {
    this.#socket = socket;
    this.addr = socket.addr;
    this.#onDatagram = onDatagram;
    const warnings = throttle(
      (text) => runtime.warn(text),
      () => runtime.now(),
    );
    const print = (error: unknown) => {
      const text = () => `UDP socket: ${describeError(error)}`;
      warnings(errorName(error), text);
    };
    this.#onError = (error) => {
      Promise.try(onError ?? print, error).catch(print);
    };
    this.#outbox = new Outbox(socket, this.#onError);
    this.#memberships = new Memberships(socket, groups, runtime, this.#onError);
    const close = () => this.#close();
    signal?.addEventListener("abort", close);
    const finished = socket.start(this);
    finished.then(
      () => this.#unread.end(),
      (error) => this.#unread.end({ error }),
    );
    this.finished = finished.finally(() => {
      this.#outbox.close();
      this.#memberships.close();
      signal?.removeEventListener("abort", close);
    });
  }

  async receive(
    options: Pick<SocketOptions, "signal"> = {},
  ): Promise<Datagram> {
    const table = { signal: BIND.signal };
    const { signal } = option.readAll("receive", table, options);
    const datagram = await this.#readable().take(signal);
    if (datagram !== undefined) return datagram;
    throw new Deno.errors.Interrupted("The socket was closed");
  }

  [Symbol.asyncIterator](): AsyncIterator<Datagram> {
    return this.#readable()[Symbol.asyncIterator]();
  }

  #readable(): EventQueue<Datagram> {
    if (this.#onDatagram === undefined) return this.#unread;
    throw new TypeError(
      "Cannot receive, as 'onDatagram' of openSocket() takes every datagram: leave it out",
    );
  }

  send(
    payload: PayloadInit,
    to: UdpAddress | string,
    options?: PushOptions,
  ): Promise<void> {
    return this.#outbox.send({ payload, to }, options);
  }

  sendBatch(datagrams: Iterable<Outgoing>): Promise<number> {
    return this.#outbox.sendMany(datagrams);
  }

  join(group: string): Promise<void> {
    return this.#memberships.join(group);
  }

  leave(group: string): Promise<void> {
    return this.#memberships.leave(group);
  }

  stats(): SocketStats {
    const { sent, unsent } = this.#outbox;
    return {
      received: this.#received,
      dropped: { tooLong: this.#tooLong, overload: this.#unread.dropped },
      kernelDrops: this.#socket.kernelDrops(),
      sent,
      unsent,
    };
  }

  close(): Promise<void> {
    this.#close();
    return this.finished;
  }

  #close(): void {
    this.#outbox.close();
    this.#socket.close();
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  ref(): void {
    this.#socket.ref();
  }

  unref(): void {
    this.#socket.unref();
  }

  onDatagram(datagram: Datagram): void {
    const owned = new OwnedDatagram(datagram);
    this.#socket.release(datagram);
    this.#received++;
    if (this.#onDatagram !== undefined) {
      // An asynchronous callback may fail as well.
      Promise.try(this.#onDatagram, owned).catch(this.#onError);
    } else this.#unread.push(owned, owned.data.length);
  }

  onTooLong(): void {
    this.#received++;
    this.#tooLong++;
  }

  onReceiveError(error: unknown): void {
    this.#onError(error);
  }

  onNotice(notice: Error): void {
    this.#onError(notice);
  }
}

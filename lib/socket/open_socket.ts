/**
 * A UDP socket itself, for protocols that are neither a server nor a client:
 * datagrams are received by a callback and sent to any peer.
 *
 * @module
 */
import type { UdpAddress } from "../address.ts";
import * as option from "../base/options.ts";
import type { PayloadInit } from "../base/payload.ts";
import { BIND, bindingOf, type BindOptions } from "./bind_options.ts";
import { type Datagram, OwnedDatagram } from "./datagram.ts";
import { Outbox, type Outgoing, type PushOptions } from "./outbox.ts";
import {
  type GroupMember,
  type GroupOptions,
  Memberships,
} from "./memberships.ts";
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
  /** Datagrams given to the callback. */
  received: number;
  /** Datagrams dropped, as they were longer than `maxDatagramBytes`. */
  tooLong: number;
  /** Datagrams that the system dropped; undefined where it cannot be known. */
  kernelDrops: number | undefined;
  /** Datagrams that the system has taken. */
  sent: number;
  /** Datagrams unsent, as 4,096 were in flight or the socket was closed. */
  dropped: number;
  /** Datagrams refused by the system, or of a wrong address or payload. */
  failed: number;
}

/** An open UDP socket. */
export interface UdpSocket extends AsyncDisposable, GroupMember {
  /** The bound address, the port never 0. */
  readonly addr: UdpAddress;
  /**
   * Resolves when the socket is closed; rejects with the system's error if
   * receiving fails permanently, or a group cannot be joined.
   */
  readonly finished: Promise<void>;
  /**
   * Sends a datagram. Datagrams of one turn of the event loop leave in one system
   * call on the linux engine. At most 4,096 may be in flight. A failure is counted
   * and reported to `onError`, so that a rejection that nobody handles does not end
   * the process.
   *
   * @param payload 0 to 65,507 bytes (IPv6: 65,527), text as UTF-8. Bytes must
   * not change until the promise settles.
   * @param to An IP address and a port, or `"IP:PORT"`.
   * @param options The address that it leaves from.
   * @returns Resolves when the system has taken it; rejects with its error.
   * @throws {TypeError} If the address has a name, or the payload is neither
   * bytes nor text.
   * @throws {Deno.errors.AddrNotAvailable} If `from` is not this machine's.
   * @throws {Deno.errors.NotSupported} If the engine cannot send from there.
   * @throws {RangeError} If the port is none from 1 to 65,535.
   * @throws {SyntaxError} If the address does not parse.
   */
  send(
    payload: PayloadInit,
    to: UdpAddress | string,
    options?: PushOptions,
  ): Promise<void>;
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
  /** Lets the socket keep the process alive, as it does at first. */
  ref(): void;
  /** Lets the process end while the socket is open. */
  unref(): void;
}

/**
 * Opens a UDP socket: for protocols that `serve`, `request`, `connect` and
 * `gather` do not fit. It has no guard: `serve` is better for answers to unknown
 * peers, as it limits them and ends loops.
 *
 * @param options The address to bind, and the options of sends.
 * @param onDatagram Called with each received datagram, whose bytes are a copy
 * that it owns.
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
 * const { promise, resolve } = Promise.withResolvers<string>();
 * const local = { hostname: "127.0.0.1" };
 * await using one = openSocket(local, ({ data }) => {
 *   resolve(new TextDecoder().decode(data));
 * });
 * await using two = openSocket(local, () => {});
 * await two.send("hello", one.addr);
 * assertEquals(await promise, "hello");
 * ```
 */
export function openSocket(
  options: SocketOptions,
  onDatagram: (datagram: Datagram) => void,
): UdpSocket {
  const values = option.readAll("openSocket", SOCKET, options);
  const { onError, signal } = values;
  option.callback().read(onDatagram, "onDatagram");
  const { binding, runtime } = bindingOf(values, SOCKET.hostname.default);
  const socket = runtime.open({ ...binding, ...sendOptionsOf(values) });
  return new OpenSocket(
    socket,
    binding,
    runtime,
    onDatagram,
    onError,
    signal,
  );
}

class OpenSocket implements UdpSocket, Receiver {
  readonly addr: UdpAddress;
  readonly finished: Promise<void>;
  readonly #socket: DatagramSocket;
  readonly #outbox: Outbox;
  readonly #memberships: Memberships;
  readonly #onDatagram: (datagram: Datagram) => void;
  readonly #onError: (error: unknown) => void;
  #received = 0;
  #tooLong = 0;

  constructor(
    socket: DatagramSocket,
    groups: GroupOptions,
    runtime: Runtime,
    onDatagram: (datagram: Datagram) => void,
    onError: ((error: unknown) => void) | undefined,
    signal: AbortSignal | undefined,
  ) {
    this.#socket = socket;
    this.#outbox = new Outbox(socket, (error) => this.#onError(error));
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
    this.#memberships = new Memberships(
      socket,
      groups,
      runtime,
      (error) => this.#onError(error),
    );
    const close = () => this.#close();
    signal?.addEventListener("abort", close);
    this.finished = socket.start(this).finally(() => {
      this.#outbox.close();
      this.#memberships.close();
      signal?.removeEventListener("abort", close);
    });
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
    const { sent, dropped, failed } = this.#outbox;
    return {
      received: this.#received,
      tooLong: this.#tooLong,
      kernelDrops: this.#socket.kernelDrops(),
      sent,
      dropped,
      failed,
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
    // An asynchronous callback may fail as well.
    Promise.try(this.#onDatagram, owned).catch(this.#onError);
  }

  onTooLong(): void {
    this.#tooLong++;
  }

  onReceiveError(error: unknown): void {
    this.#onError(error);
  }

  onNotice(notice: Error): void {
    this.#onError(notice);
  }
}

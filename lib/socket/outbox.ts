/**
 * Sends that answer nothing: checked, bounded and counted.
 *
 * @module
 */
import {
  canonicalHostname,
  formatAddress,
  ipVersion,
  isWildcard,
  parseAddress,
  type UdpAddress,
} from "../address.ts";
import { errorMessage, oneLine } from "../base/errors.ts";
import * as option from "../base/options.ts";
import { type PayloadInit, payloadOf } from "../base/payload.ts";
import { type DatagramSocket, PEER } from "./contract.ts";
import type { GroupMember } from "./memberships.ts";

/** The number of datagrams that may be in flight to the system at once. */
const MAX_PENDING = 4096;

/** Options of a datagram that answers nothing. */
export interface PushOptions {
  /**
   * The address of this machine that it leaves from, such as `info.localAddr`, by
   * the socket's own port. A socket at `0.0.0.0` or `::` chooses among all
   * addresses on the linux engine; on the deno engine, which cannot, the send
   * fails with `Deno.errors.NotSupported`. The wildcard, and a group, leave it to
   * the system.
   *
   * @default {on the linux engine the address that its peer sent to last, of the
   * 65,536 latest peers; else the system's choice}
   */
  from?: Pick<UdpAddress, "hostname"> | undefined;
}

/** The table of {@linkcode PushOptions}. */
const PUSH = {
  from: option.object<Pick<UdpAddress, "hostname">>(),
} satisfies option.Table<PushOptions>;

/** Checks the options of a push. */
export function pushOptions(
  name: string,
  options: PushOptions | undefined,
): PushOptions | undefined {
  return options && option.readAll(name, PUSH, options);
}

/** A datagram to send. */
export interface Outgoing extends PushOptions {
  /** The payload, text as UTF-8. */
  payload: PayloadInit;
  /** An IP address and a port, or `"IP:PORT"`. */
  to: UdpAddress | string;
}

/** A server or a socket that is open. */
export interface Endpoint extends AsyncDisposable, GroupMember {
  /** The bound address, the port never 0. */
  readonly addr: UdpAddress;
  /**
   * Resolves when it has closed; rejects with the system's error if receiving fails
   * permanently, or a group cannot be joined.
   */
  readonly finished: Promise<void>;
  /**
   * Sends a datagram that answers nothing, past the guard of a server. Datagrams of
   * one turn of the event loop leave in one system call on the linux engine. At most
   * 4,096 may be in flight. A failure is counted and reported to `onError`, so that a
   * rejection that nobody handles does not end the process: `remoteAddr` of a
   * datagram may have port 0, or an address without a route.
   *
   * @param payload 0 to 65,507 bytes (IPv6: 65,527), text as UTF-8. Bytes must
   * not change until the promise settles.
   * @param to An IP address and a port, or `"IP:PORT"`. Names are not resolved.
   * @param options The address that it leaves from.
   * @returns Resolves when the system has taken it. Rejects with the system's
   * error, or with an `Error` if too many are in flight, or after the close.
   * @throws {TypeError} If the address has a name instead of an IP address, or
   * the payload is neither bytes nor text.
   * @throws {RangeError} If the port is none from 1 to 65,535.
   * @throws {SyntaxError} If the address does not parse.
   * @throws {Deno.errors.AddrNotAvailable} If `from` is not this machine's.
   * @throws {Deno.errors.NotSupported} If the engine cannot send from there.
   */
  send(
    payload: PayloadInit,
    to: UdpAddress | string,
    options?: PushOptions,
  ): Promise<void>;
  /** Lets it keep the process alive, as it does at first. */
  ref(): void;
  /** Lets the process end while it is open. */
  unref(): void;
}

/** The sends of one socket. */
export class Outbox {
  /** Datagrams that the system has taken. */
  sent = 0;
  /** All others: refused by the system, wrong, too many at once, after the close. */
  unsent = 0;
  /** Neither taken nor refused by the system yet. */
  pending = 0;
  readonly #socket: DatagramSocket;
  readonly #onFailure: (error: Error) => void;
  readonly #onSettled: () => void;
  #closed = false;

  /**
   * Sends by a socket; reports what `send` and `sendMany` cannot send unless the
   * socket was closed, and calls back for each datagram that is taken or refused.
   */
  constructor(
    socket: DatagramSocket,
    onFailure: (error: Error) => void,
    onSettled: () => void = () => {},
  ) {
    this.#socket = socket;
    this.#onFailure = onFailure;
    this.#onSettled = onSettled;
  }

  /** Whether a further datagram would be unsent. */
  get isFull(): boolean {
    return this.#closed || this.pending >= MAX_PENDING;
  }

  /** Refuses further sends; the owner closes the socket. */
  close(): void {
    this.#closed = true;
  }

  /**
   * Checks a datagram, and sends it; rejects with the error of either. As that is
   * counted and reported, it ends no process where nobody handles it.
   */
  send(outgoing: Outgoing, options?: PushOptions): Promise<void> {
    const sent = this.#send(outgoing, "send", options).then((failure) => {
      if (failure !== undefined) throw failure.error;
    });
    sent.catch(() => {});
    return sent;
  }

  /** Sends a datagram that is known to be right; resolves with its error. */
  async trySend(
    payload: Uint8Array,
    to: UdpAddress,
    from?: UdpAddress,
  ): Promise<{ error: unknown } | undefined> {
    if (this.isFull) {
      this.unsent++;
      const why = this.#closed
        ? "The socket is closed"
        : `${MAX_PENDING} datagrams are in flight, wait for some of them`;
      return { error: new Error(why) };
    }
    this.pending++;
    try {
      PEER.port.read(to.port, "port");
      await this.#socket.send(payload, to, from);
      this.sent++;
    } catch (error) {
      this.unsent++;
      return { error };
    } finally {
      this.pending--;
      this.#onSettled();
    }
  }

  /**
   * Sends many, no faster than the system takes them. Each that cannot be sent is
   * counted and reported, and stops none of the others.
   *
   * @returns The number of datagrams sent.
   */
  async sendMany(datagrams: Iterable<Outgoing>): Promise<number> {
    const all = listOf(datagrams, "sendBatch() takes a list of datagrams");
    let sent = 0;
    for (let at = 0; at < all.length; at += CHUNK) {
      const chunk = all.slice(at, at + CHUNK);
      const failures = await Promise.all(
        chunk.map((one) => this.#send(one, "sendBatch")),
      );
      sent += failures.filter((failure) => failure === undefined).length;
    }
    return sent;
  }

  /** Checks and sends a datagram; resolves with its error, which is reported. */
  async #send(
    outgoing: Outgoing,
    owner: string,
    options?: PushOptions,
  ): ReturnType<Outbox["trySend"]> {
    let failure: { error: unknown } | undefined;
    let prefix = "";
    try {
      const { payload, to, from = pushOptions(owner, options)?.from } = Object(
        outgoing,
      ) as Outgoing;
      const destination = destinationOf(to);
      const bytes = payloadOf(payload, `${owner}()`);
      const source = from && this.#sourceOf(from, destination);
      failure = await this.trySend(bytes, destination, source);
      if (failure === undefined) return undefined;
      prefix = `Cannot send to ${formatAddress(destination)}: `;
    } catch (error) {
      this.unsent++;
      failure = { error };
    }
    if (!this.#closed) {
      const cause = failure.error;
      const message = prefix + errorMessage(cause);
      this.#onFailure(oneLine(new Error(message, { cause })));
    }
    return failure;
  }

  /** The source that a caller chose; undefined for the system's choice. */
  #sourceOf(
    from: Pick<UdpAddress, "hostname">,
    to: UdpAddress,
  ): UdpAddress | undefined {
    const { addr } = this.#socket;
    const hostname = canonicalHostname(
      PEER.hostname.read(from.hostname, "from.hostname"),
    );
    if (hostname === addr.hostname || isWildcard(hostname)) return undefined;
    if (ipVersion(hostname) !== ipVersion(to.hostname)) {
      throw new TypeError(
        `Cannot send to ${to.hostname} from '${hostname}': both must be IPv4 addresses, or both IPv6`,
      );
    }
    if (isWildcard(addr.hostname)) return { hostname, port: addr.port };
    throw new Deno.errors.AddrNotAvailable(
      `Cannot send from ${hostname}: the socket is bound to ${addr.hostname}`,
    );
  }
}

/** A destination, which must be an IP address. */
function destinationOf(to: UdpAddress | string): UdpAddress {
  const { hostname, port }: UdpAddress = typeof to === "string"
    ? parseAddress(to)
    : Object(to);
  PEER.hostname.read(hostname, "hostname");
  if (ipVersion(hostname) === undefined) {
    throw new TypeError(
      `Cannot send to '${hostname}': it is no IP address, and names are not resolved here`,
    );
  }
  return { hostname: canonicalHostname(hostname), port };
}

/** The values of an iterable other than a text; throws a TypeError for all else. */
export function listOf<T>(values: Iterable<T>, rule: string): T[] {
  const isList = typeof values === "object" && values !== null &&
    Symbol.iterator in values;
  if (isList) return Array.from(values);
  throw new TypeError(`${rule}: current value is ${String(values)}`);
}

/** The datagrams of `sendMany` that are in flight at once. */
const CHUNK = 64;

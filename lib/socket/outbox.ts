/**
 * Sends that answer nothing: checked, bounded and counted.
 *
 * @module
 */
import {
  canonicalHostname,
  formatAddress,
  ipVersion,
  parseAddress,
  type UdpAddress,
} from "../address.ts";
import { encode } from "../encoding.ts";
import { errorMessage } from "../base/errors.ts";
import { type DatagramSocket, PEER } from "./contract.ts";

/** The number of datagrams that may be in flight to the system at once. */
const MAX_PENDING = 4096;

/** A datagram to send. */
export interface Outgoing {
  /** The payload, text as UTF-8. */
  payload: Uint8Array | string;
  /** An IP address and a port, or `"IP:PORT"`. */
  to: UdpAddress | string;
}

/** The sends of one socket. */
export class Outbox {
  /** Datagrams that the system has taken. */
  sent = 0;
  /** Unsent, as too many were in flight or the socket was closed. */
  dropped = 0;
  /** Refused by the system. */
  failed = 0;
  /** Neither taken nor refused by the system yet. */
  pending = 0;
  readonly #socket: DatagramSocket;
  readonly #onSettled: () => void;
  #closed = false;

  /** Sends by a socket; calls back for each datagram that is taken or refused. */
  constructor(socket: DatagramSocket, onSettled: () => void = () => {}) {
    this.#socket = socket;
    this.#onSettled = onSettled;
  }

  /** Whether a datagram would be dropped. */
  get isFull(): boolean {
    return this.#closed || this.pending >= MAX_PENDING;
  }

  /** Refuses further sends; the owner closes the socket. */
  close(): void {
    this.#closed = true;
  }

  /** Checks a datagram, and sends it; rejects with the error of either. */
  async send(outgoing: Outgoing): Promise<void> {
    const { payload, to } = checked(outgoing);
    const failure = await this.trySend(payload, to);
    if (failure !== undefined) throw failure.error;
  }

  /** Sends a datagram that is known to be right; resolves with its error. */
  async trySend(
    payload: Uint8Array,
    to: UdpAddress,
    from?: UdpAddress,
  ): Promise<{ error: unknown } | undefined> {
    if (this.isFull) {
      this.dropped++;
      const why = this.#closed
        ? "the socket is closed"
        : `${MAX_PENDING} datagrams are in flight, wait for some of them`;
      const error = new Error(`Cannot send to ${formatAddress(to)}: ${why}`);
      return { error };
    }
    this.pending++;
    try {
      await this.#socket.send(payload, to, from);
      this.sent++;
    } catch (error) {
      if (this.#closed) this.dropped++;
      else this.failed++;
      return { error };
    } finally {
      this.pending--;
      this.#onSettled();
    }
  }

  /**
   * Checks many, then sends them, no faster than the system takes them.
   *
   * @param datagrams The datagrams.
   * @param onFailure Called with the error of each that could not be sent.
   * @returns The number of datagrams sent.
   */
  async sendMany(
    datagrams: Iterable<Outgoing>,
    onFailure: (error: Error) => void,
  ): Promise<number> {
    const all = Array.from(datagrams, checked);
    let sent = 0;
    for (let at = 0; at < all.length; at += CHUNK) {
      const chunk = all.slice(at, at + CHUNK);
      const failures = await Promise.all(
        chunk.map(({ payload, to }) => this.trySend(payload, to)),
      );
      failures.forEach((failure, i) => {
        if (failure === undefined) sent++;
        else if (!this.#closed) {
          const to = formatAddress(chunk[i]!.to);
          const cause = failure.error;
          const message = `Cannot send to ${to}: ${errorMessage(cause)}`;
          onFailure(new Error(message, { cause }));
        }
      });
    }
    return sent;
  }
}

/** The bytes of a payload; throws a TypeError if it is neither bytes nor text. */
export function payloadOf(payload: Uint8Array | string): Uint8Array {
  if (typeof payload === "string" || payload instanceof Uint8Array) {
    return encode(payload);
  }
  throw new TypeError(
    `Cannot send as the payload must be a Uint8Array or a string: it is ${typeof payload}`,
  );
}

/** A datagram as the socket takes it; throws if it is not right. */
function checked(
  { payload, to }: Outgoing,
): { payload: Uint8Array; to: UdpAddress } {
  const bytes = payloadOf(payload);
  const { hostname, port } = typeof to === "string" ? parseAddress(to) : to;
  PEER.hostname.read(hostname, "hostname");
  if (ipVersion(hostname) === undefined) {
    throw new TypeError(
      `Cannot send to '${hostname}': it is no IP address, and names are not resolved here`,
    );
  }
  PEER.port.read(port, "port");
  return {
    payload: bytes,
    to: { hostname: canonicalHostname(hostname), port },
  };
}

/** The datagrams of `sendMany` that are in flight at once. */
const CHUNK = 64;

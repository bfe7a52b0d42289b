/**
 * A received datagram, the same from the socket to the handler and the reply.
 *
 * @module
 */
import type { UdpAddress } from "../address.ts";

/** All that is known of a received datagram besides its payload. */
export class DatagramFacts {
  /**
   * The sender's address, frozen. An IPv4-mapped peer is shown as IPv4. Datagrams
   * of one peer that follow each other have the same object.
   */
  remoteAddr!: UdpAddress;
  /**
   * The destination address; the bound address, `0.0.0.0` and `::` included, on
   * the deno engine, which does not see it.
   */
  localAddr!: UdpAddress;
  /**
   * When the program read it, in milliseconds, by the clock of
   * `performance.now()`.
   */
  receivedAt!: number;
  /**
   * When it arrived at the kernel, by the same clock; with `packetInfo` on the
   * linux engine.
   */
  arrivedAt?: number | undefined;
  /**
   * The TTL or hop limit on arrival, 0 to 255: the sender's, mostly 64, less 1 for
   * each router; with `packetInfo` on the linux engine.
   */
  ttl?: number | undefined;
  /**
   * The traffic class on arrival, 0 to 255: the DSCP in the upper six bits, ECN in
   * the lower two; with `packetInfo` on the linux engine.
   */
  trafficClass?: number | undefined;

  /** Copies the facts of a datagram, whose object the socket uses again. */
  constructor(datagram: Readonly<DatagramFacts>) {
    copyFacts(datagram, this);
  }
}

/** Copies the facts of a datagram into another object. */
export function copyFacts(
  datagram: Readonly<DatagramFacts>,
  to: DatagramFacts,
): void {
  to.remoteAddr = datagram.remoteAddr;
  to.localAddr = datagram.localAddr;
  to.receivedAt = datagram.receivedAt;
  to.arrivedAt = datagram.arrivedAt;
  to.ttl = datagram.ttl;
  to.trafficClass = datagram.trafficClass;
}

/** A received datagram. */
export interface Datagram extends Readonly<DatagramFacts> {
  /** The payload, 0 bytes or more. */
  readonly data: Uint8Array<ArrayBuffer>;
}

/** A datagram that its receiver owns: a copy, with a copy of the payload. */
export class OwnedDatagram extends DatagramFacts implements Datagram {
  readonly data: Uint8Array<ArrayBuffer>;

  constructor(datagram: Datagram) {
    super(datagram);
    this.data = copyOf(datagram.data);
  }
}

/** Copies a payload out of a buffer that the socket uses again. */
export function copyOf(
  payload: Uint8Array<ArrayBuffer>,
): Uint8Array<ArrayBuffer> {
  // For a few bytes the call of slice() takes longer than the copy.
  if (payload.length > FEW_BYTES) return payload.slice();
  const copy = new Uint8Array(payload.length);
  for (let i = 0; i < copy.length; i++) copy[i] = payload[i]!;
  return copy;
}

const FEW_BYTES = 64;

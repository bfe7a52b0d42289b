/**
 * Control messages: facts that the kernel adds to a received message and to an
 * entry of the error queue, and options of a message to send. Pure.
 *
 * A new fact of received datagrams takes its numbers, its row in
 * {@linkcode PACKET_INFO} and its case in {@linkcode decodeControl}, and a field of
 * {@linkcode DatagramFacts}.
 *
 * @module
 */
import { ipVersion } from "../../address.ts";
import type { DatagramFacts } from "../datagram.ts";
import * as sys from "./layout.ts";

/** Options, by level, that have the kernel add the facts of `packetInfo`. */
export const PACKET_INFO: ReadonlyArray<[level: number, option: number]> = [
  [sys.SOL_SOCKET, sys.SO_TIMESTAMPNS],
  [sys.IPPROTO_IP, sys.IP_RECVTTL],
  [sys.IPPROTO_IP, sys.IP_RECVTOS],
  [sys.IPPROTO_IPV6, sys.IPV6_RECVHOPLIMIT],
  [sys.IPPROTO_IPV6, sys.IPV6_RECVTCLASS],
];

/** The facts that control messages carry. */
export interface ControlFacts extends Partial<DatagramFacts> {
  /** The size of the datagrams that the kernel coalesced; 0 for a single one. */
  segmentBytes: number;
  /** The kernel's time stamp, by the wall clock, in milliseconds. */
  stampMs: number | undefined;
  /** The word at which the message with the destination begins; -1 for none. */
  destinationAt: number;
  /** The byte at which the struct sock_extended_err begins; -1 for none. */
  errorAt: number;
}

/** Reads the control messages in the words from `start` to `end` into `facts`. */
export function decodeControl(
  words: Uint32Array,
  start: number,
  end: number,
  facts: ControlFacts,
): void {
  for (let at = start; at + 4 < end;) {
    const level = words[at + 2]!;
    const type = words[at + 3]!;
    const value = words[at + 4]!;
    if (level === sys.IPPROTO_IP) {
      if (type === sys.IP_TTL) facts.ttl = value;
      else if (type === sys.IP_TOS) facts.trafficClass = value & 0xff;
      else if (type === sys.IP_PKTINFO) facts.destinationAt = at;
      else if (type === sys.IP_RECVERR) facts.errorAt = 4 * at + 16;
    } else if (level === sys.SOL_UDP) {
      if (type === sys.UDP_GRO) facts.segmentBytes = value;
    } else if (level === sys.SOL_SOCKET) {
      if (type === sys.SO_TIMESTAMPNS || type === sys.SO_TIMESTAMPING) {
        facts.stampMs = sys.stampMs(words, at + 4);
      }
    } else if (level === sys.IPPROTO_IPV6) {
      if (type === sys.IPV6_HOPLIMIT) facts.ttl = value;
      else if (type === sys.IPV6_TCLASS) facts.trafficClass = value;
      else if (type === sys.IPV6_PKTINFO) facts.destinationAt = at;
      else if (type === sys.IPV6_RECVERR) facts.errorAt = 4 * at + 16;
    }
    // Each begins at a multiple of eight bytes.
    at += Math.max(4, (words[at]! + 7 >> 3) * 2);
  }
}

/** The facts of an entry of the error queue, whose bytes begin at a word. */
export function controlFacts(control: Uint8Array): ControlFacts {
  const facts: ControlFacts = {
    segmentBytes: 0,
    stampMs: undefined,
    destinationAt: -1,
    errorAt: -1,
  };
  const length = control.length >> 2;
  const words = new Uint32Array(control.buffer, control.byteOffset, length);
  decodeControl(words, 0, length, facts);
  return facts;
}

/**
 * The destination in the message that begins at a byte: the bytes of the address, for
 * IPv4 behind the machine's own address, for IPv6 before the index of the interface.
 */
export function destinationBytes(control: Uint8Array, at: number): Uint8Array {
  return control[at + 8] === sys.IPPROTO_IP
    ? control.subarray(at + 20, at + 28)
    : control.subarray(at + 16, at + 36);
}

/** The address of {@linkcode destinationBytes}. */
export function destinationHostname(bytes: Uint8Array): string {
  return bytes.length === 8
    ? bytes.subarray(4).join(".")
    : sys.decodeIPv6(bytes, 0);
}

/** The index of the interface in {@linkcode destinationBytes} of IPv6. */
export function destinationIndex(bytes: Uint8Array): number {
  return new DataView(bytes.buffer, bytes.byteOffset).getUint32(16, true);
}

/**
 * Turns the destination of a request, in the message that begins at a byte, into
 * the source of its reply. The kernel chooses the interface, except for link-local
 * addresses.
 */
export function replySource(control: Uint8Array, at: number): Uint8Array {
  const data = at + 16;
  if (control[at + 8] === sys.IPPROTO_IP) {
    control.fill(0, data, data + 4);
    return control.subarray(at, data + 16);
  }
  if (control[data] !== 0xfe) control.fill(0, data + 16, data + 20);
  return control.subarray(at, data + 24);
}

/** A control message. */
export function encodeControl(
  level: number,
  type: number,
  data: Uint8Array,
): Uint8Array {
  const control = new Uint8Array(16 + data.length);
  new Uint32Array(control.buffer, 0, 4).set([control.length, 0, level, type]);
  control.set(data, 16);
  return control;
}

/** Has a datagram leave from an address. */
export function sourceControl(hostname: string, family: number): Uint8Array {
  const name = new Uint8Array(sys.NAME_BYTES);
  sys.encodeSockaddr({ hostname, port: 0 }, family, name);
  if (family === sys.AF_INET) {
    const data = new Uint8Array(12);
    data.set(name.subarray(4, 8), 4);
    return encodeControl(sys.IPPROTO_IP, sys.IP_PKTINFO, data);
  }
  return encodeControl(
    sys.IPPROTO_IPV6,
    sys.IPV6_PKTINFO,
    name.subarray(8, 28),
  );
}

/** Has the kernel segment a message into datagrams of one size. */
export function segmentControl(bytes: number): Uint8Array {
  const data = new Uint8Array([bytes & 0xff, bytes >> 8]);
  return encodeControl(sys.SOL_UDP, sys.UDP_SEGMENT, data);
}

/** Gives a datagram to a host a traffic class. */
export function trafficClassControl(
  trafficClass: number,
  hostname: string,
): Uint8Array {
  const data = new Uint8Array([trafficClass, 0, 0, 0]);
  return ipVersion(hostname) === 4
    ? encodeControl(sys.IPPROTO_IP, sys.IP_TOS, data)
    : encodeControl(sys.IPPROTO_IPV6, sys.IPV6_TCLASS, data);
}

/** Room for all control messages of a received message. */
export const CONTROL_BYTES = 176;
/** CMSG_SPACE of the 16 bits of UDP_SEGMENT. */
export const SEGMENT_CONTROL_BYTES = 24;
/** The source of a message, and its segments. */
export const SEND_CONTROL_BYTES = 64;

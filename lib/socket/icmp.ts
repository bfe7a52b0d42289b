/**
 * ICMP messages about probes: their meaning for a path, and the headers that they
 * quote. Pure.
 *
 * @module
 */
import { ipv6Text } from "../address.ts";
import * as sys from "./linux/layout.ts";

/**
 * The kind of an answer: the target's reply; the TTL is used up; the port is
 * closed; the datagram is too big for a link; another reason for no delivery.
 */
export type AnswerKind =
  | "reply"
  | "expired"
  | "closed"
  | "too-big"
  | "unreachable";

/** The part of an ICMP message that is about the path. */
export interface Meaning {
  kind: AnswerKind;
  /** Of `unreachable`, as `traceroute` marks it: `!N`, `!H`, `!X` or `!` and a code. */
  mark?: string;
  /** Of `too-big`; undefined where the router does not report it. */
  mtu?: number;
}

/** The meaning of an ICMP message; undefined if it is about something else. */
export function meaningOf(
  isIPv6: boolean,
  type: number,
  code: number,
  mtu: number,
): Meaning | undefined {
  const [expired, unreachable] = isIPv6 ? [3, 1] : [11, 3];
  if (type === expired) return code === 0 ? { kind: "expired" } : undefined;
  const isTooBig = isIPv6 ? type === 2 : type === 3 && code === 4;
  if (isTooBig) return { kind: "too-big", ...mtu > 0 && { mtu } };
  if (type !== unreachable) return undefined;
  const port = isIPv6 ? 4 : 3;
  if (code === port) return { kind: "closed" };
  const marks = isIPv6 ? MARKS_IPV6 : MARKS_IPV4;
  return { kind: "unreachable", mark: marks[code] ?? `!${code}` };
}

/** An ICMP message with the quoted datagram. */
export interface Quote extends Meaning {
  /** Undefined for ICMPv6, whose header the system strips. */
  from: string | undefined;
  /** The traffic class of the datagram when it reached the reporting host. */
  trafficClass: number;
  /** The destination of the datagram, and its ports. */
  to: string;
  sourcePort: number;
  port: number;
  /** The quoted part of the payload. */
  data: Uint8Array;
}

/**
 * Reads a message of a raw ICMP socket: IPv4 with its IP header, ICMPv6 without.
 * Undefined if it is malformed, or about anything but a UDP datagram.
 */
export function quoteIn(
  packet: Uint8Array,
  isIPv6: boolean,
): Quote | undefined {
  const view = new DataView(packet.buffer, packet.byteOffset, packet.length);
  try {
    const icmp = isIPv6 ? 0 : headerBytes(view, 0);
    const mtu = isIPv6 ? view.getUint32(4) : view.getUint16(icmp + 6);
    const types = [view.getUint8(icmp), view.getUint8(icmp + 1)] as const;
    const meaning = meaningOf(isIPv6, ...types, mtu);
    const ip = icmp + ICMP_BYTES;
    const udp = ip + (isIPv6 ? IPV6_BYTES : headerBytes(view, ip));
    const protocol = view.getUint8(ip + (isIPv6 ? 6 : 9));
    if (meaning === undefined || protocol !== sys.IPPROTO_UDP) return undefined;
    const end = udp + view.getUint16(udp + 4);
    return {
      ...meaning,
      from: isIPv6 ? undefined : packet.subarray(12, 16).join("."),
      trafficClass: isIPv6
        ? view.getUint16(ip) >> 4 & 0xff
        : view.getUint8(ip + 1),
      to: isIPv6
        ? ipv6Text(packet, ip + 24)
        : packet.subarray(ip + 16, ip + 20).join("."),
      sourcePort: view.getUint16(udp),
      port: view.getUint16(udp + 2),
      data: packet.subarray(udp + UDP_BYTES, end),
    };
  } catch (error) {
    // A truncated message.
    if (error instanceof RangeError) return undefined;
    throw error;
  }
}

/** The length of an IPv4 header. */
function headerBytes(view: DataView, at: number): number {
  return (view.getUint8(at) & 15) * 4;
}

const ICMP_BYTES = 8;
const IPV6_BYTES = 40;
const UDP_BYTES = 8;
const MARKS_IPV4: Record<number, string> = {
  0: "!N",
  1: "!H",
  2: "!P",
  5: "!S",
  9: "!X",
  10: "!X",
  13: "!X",
};
const MARKS_IPV6: Record<number, string> = {
  0: "!N",
  1: "!X",
  3: "!H",
  5: "!X",
  6: "!X",
};

/**
 * The memory layout of addresses and message headers in Linux, on x86-64 and arm64
 * (little-endian, 64 bits), and the numbers of its calls. Pure.
 *
 * @module
 */
import {
  ipv6Groups,
  ipv6Text,
  ipVersion,
  type UdpAddress,
  withoutZone,
  zoneOf,
} from "../../address.ts";
import { EAFNOSUPPORT, errorOf } from "./errno.ts";

/** Writes an address of memory, as a pointer, at a byte offset. */
export function setPointer(
  words: Uint32Array,
  at: number,
  address: number,
): void {
  words[at / 4] = address;
  words[at / 4 + 1] = address / 2 ** 32;
}

/** Reads a struct sockaddr_in or sockaddr_in6. */
export function decodeSockaddr(bytes: Uint8Array, at = 0): UdpAddress {
  const view = new DataView(bytes.buffer, bytes.byteOffset + at);
  const port = view.getUint16(2);
  if (view.getUint16(0, true) === AF_INET) {
    return { hostname: bytes.subarray(at + 4, at + 8).join("."), port };
  }
  return { hostname: decodeIPv6(bytes, at + 8), port };
}

/** Reads a struct in6_addr, and the number of the interface after it. */
export function decodeIPv6(bytes: Uint8Array, at: number): string {
  const hostname = ipv6Text(bytes, at);
  const view = new DataView(bytes.buffer, bytes.byteOffset + at);
  const zone = view.getUint32(16, true);
  const isLinkLocal = (view.getUint16(0) & 0xffc0) === 0xfe80;
  return isLinkLocal && zone !== 0 ? `${hostname}%${zone}` : hostname;
}

/**
 * Writes a struct sockaddr of a family, and gives its length.
 *
 * @throws {Error} EAFNOSUPPORT for an IPv6 address where the family is IPv4.
 */
export function encodeSockaddr(
  { hostname, port }: UdpAddress,
  family: number,
  bytes: Uint8Array,
): number {
  const view = new DataView(bytes.buffer, bytes.byteOffset);
  bytes.fill(0, 0, NAME_BYTES);
  view.setUint16(0, family, true);
  view.setUint16(2, port);
  const isIPv4 = ipVersion(hostname) === 4;
  if (family === AF_INET) {
    if (!isIPv4) throw errorOf(EAFNOSUPPORT);
    bytes.set(hostname.split(".").map(Number), 4);
    return 16;
  }
  if (isIPv4) {
    view.setUint16(18, 0xffff);
    bytes.set(hostname.split(".").map(Number), 20);
    return 28;
  }
  ipv6Groups(withoutZone(hostname))
    .forEach((group, i) => view.setUint16(8 + 2 * i, group));
  view.setUint32(NAME_ZONE, Number(zoneOf(hostname) ?? 0), true);
  return 28;
}

/** struct mmsghdr: a struct msghdr of 56 bytes, the length, 4 of padding. */
export const MMSGHDR_BYTES = 64;
/** Offsets in it, in bytes: the pointer to the address, and its length. */
export const MMSGHDR_NAME = 0;
export const MMSGHDR_NAME_LENGTH = 8;
/** The pointer to the struct iovec, and their number. */
export const MMSGHDR_IOVEC = 16;
export const MMSGHDR_IOVEC_COUNT = 24;
/** The pointer to the control messages, and their length. */
export const MMSGHDR_CONTROL = 32;
export const MMSGHDR_CONTROL_LENGTH = 40;
/** The number of bytes received or sent. */
export const MMSGHDR_LENGTH = 56;
/** struct iovec: a pointer, and at byte 8 a length. */
export const IOVEC_BYTES = 16;
export const IOVEC_LENGTH = 8;
/** Room for a struct sockaddr_in6 of 28 bytes, and the zone in it. */
export const NAME_BYTES = 32;
export const NAME_ZONE = 24;
/** struct pollfd: the descriptor, `events` and, in the upper half, `revents`. */
export const POLLFD_BYTES = 8;
/** struct timespec: seconds and nanoseconds, 8 bytes each. */
export const TIMESPEC_BYTES = 16;
export const POLLIN = 1;

/**
 * struct epoll_event in words of 32 bits: its size, and the word at which `data`
 * begins. On x86-64 it is packed.
 */
export const EPOLL_EVENT_WORDS: number = Deno.build.arch === "x86_64" ? 3 : 4;
export const EPOLL_DATA_WORD: number = EPOLL_EVENT_WORDS - 2;
export const MAX_EPOLL_EVENTS = 16;
export const EPOLL_CLOEXEC = 0o2000000;
export const EPOLL_CTL_ADD = 1;
export const EPOLL_CTL_DEL = 2;
export const EPOLL_CTL_MOD = 3;
export const EPOLLIN = 1;
export const EPOLLOUT = 4;
/** A descriptor is reported once, and must be armed again then. */
export const EPOLLONESHOT = 0x40000000;

export const AF_INET = 2;
export const AF_INET6 = 10;
export const SOCK_DGRAM = 2;
export const SOCK_RAW = 3;
export const SOCK_NONBLOCK = 0o4000;
export const SOCK_CLOEXEC = 0o2000000;
export const SOL_SOCKET = 1;
export const SO_REUSEADDR = 2;
export const SO_TYPE = 3;
export const SO_BROADCAST = 6;
export const SO_SNDBUF = 7;
export const SO_RCVBUF = 8;
export const SO_REUSEPORT = 15;
export const SO_BINDTODEVICE = 25;
export const SO_RCVBUFFORCE = 33;
export const SO_TIMESTAMPNS = 35;
export const SO_TIMESTAMPING = 37;
/** A software stamp of each send, with a number and without the datagram. */
export const SOF_TIMESTAMPING_TX_SOFTWARE = 1 << 1;
export const SOF_TIMESTAMPING_SOFTWARE = 1 << 4;
export const SOF_TIMESTAMPING_OPT_ID = 1 << 7;
export const SOF_TIMESTAMPING_OPT_TSONLY = 1 << 11;
export const SO_EE_ORIGIN_TIMESTAMPING = 4;
/**
 * Nine numbers of 32 bits about memory; the first is of received bytes with their
 * overhead, the last of dropped datagrams.
 */
export const SO_MEMINFO = 55;
export const MEMINFO_BYTES = 36;
export const MEMINFO_RECEIVED = 0;
export const MEMINFO_DROPS = 8;
/** struct timex, and its `maxerror`, in microseconds. */
export const TIMEX_BYTES = 208;
export const TIMEX_MAX_ERROR = 24;
export const IPPROTO_IP = 0;
export const IP_TOS = 1;
export const IP_TTL = 2;
export const IP_PKTINFO = 8;
export const IP_MTU_DISCOVER = 10;
export const IP_RECVERR = 11;
export const IP_RECVTTL = 12;
export const IP_RECVTOS = 13;
export const IP_MULTICAST_IF = 32;
export const IP_MULTICAST_TTL = 33;
export const IP_MULTICAST_LOOP = 34;
export const IP_ADD_MEMBERSHIP = 35;
export const IP_DROP_MEMBERSHIP = 36;
export const IP_ADD_SOURCE_MEMBERSHIP = 39;
export const IP_DROP_SOURCE_MEMBERSHIP = 40;
/** Of both versions, for IPv6 here. */
export const MCAST_JOIN_GROUP = 42;
export const MCAST_LEAVE_GROUP = 45;
export const MCAST_JOIN_SOURCE_GROUP = 46;
export const MCAST_LEAVE_SOURCE_GROUP = 47;
/** struct group_source_req: an index, and two addresses at these bytes. */
export const GROUP_SOURCE_REQ_BYTES = 264;
export const GROUP_REQ_GROUP = 8;
export const GROUP_REQ_SOURCE = 136;
export const IP_MULTICAST_ALL = 49;
/** Don't-fragment on every datagram, in both versions. */
export const PMTUDISC_DONT = 0;
export const PMTUDISC_DO = 2;
/** As PMTUDISC_DO, whatever MTU of the path the system has learned. */
export const PMTUDISC_PROBE = 3;
export const IPPROTO_ICMP = 1;
export const IPPROTO_UDP = 17;
export const IPPROTO_ICMPV6 = 58;
export const IPPROTO_IPV6 = 41;
export const IPV6_UNICAST_HOPS = 16;
export const IPV6_MULTICAST_IF = 17;
export const IPV6_MULTICAST_HOPS = 18;
export const IPV6_MULTICAST_LOOP = 19;
export const IPV6_MTU_DISCOVER = 23;
export const IPV6_RECVERR = 25;
export const IPV6_V6ONLY = 26;
export const IPV6_MULTICAST_ALL = 29;
export const IPV6_RECVPKTINFO = 49;
export const IPV6_PKTINFO = 50;
export const IPV6_RECVHOPLIMIT = 51;
export const IPV6_HOPLIMIT = 52;
export const IPV6_RECVTCLASS = 66;
export const IPV6_TCLASS = 67;
export const SOL_UDP = 17;
export const UDP_SEGMENT = 103;
export const UDP_GRO = 104;
export const MSG_DONTWAIT = 0x40;
export const MSG_ERRQUEUE = 0x2000;

/** The milliseconds in a struct timespec that begins at a word. */
export function stampMs(words: Uint32Array, at: number): number {
  const seconds = words[at]! + words[at + 1]! * 2 ** 32;
  return seconds * 1000 + words[at + 2]! / 1e6;
}

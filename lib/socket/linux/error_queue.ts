/**
 * What the network says of datagrams that it did not deliver: ICMP messages, out
 * of the error queue of a socket (IP_RECVERR).
 *
 * @module
 */
import { type SocketDescriptor, trySet } from "./descriptor.ts";
import { ECONNREFUSED, errorOf } from "./errno.ts";
import {
  AF_INET,
  AF_INET6,
  decodeSockaddr,
  findControl,
  IP_RECVERR,
  IPPROTO_IP,
  IPPROTO_IPV6,
  IPV6_RECVERR,
  MMSGHDR_BYTES,
  MMSGHDR_CONTROL,
  MMSGHDR_CONTROL_LENGTH,
  MSG_DONTWAIT,
  MSG_ERRQUEUE,
  setPointer,
} from "./layout.ts";
import type { Libc, Memory } from "./libc.ts";

/** Has the system keep what comes back for a socket. */
export function keepErrors(libc: Libc, { fd, family }: SocketDescriptor): void {
  trySet(libc, fd, IPPROTO_IP, IP_RECVERR, 1);
  if (family === AF_INET6) trySet(libc, fd, IPPROTO_IPV6, IPV6_RECVERR, 1);
}

/** Takes the oldest error from the queue; undefined if there is none. */
export function takeError(libc: Libc, fd: number): Error | undefined {
  const control = takeControl(libc, fd);
  return control && errorIn(control);
}

/**
 * Takes the oldest entry from the error queue; its control messages are
 * overwritten by the next one. Undefined if there is none.
 */
export function takeControl(libc: Libc, fd: number): Uint8Array | undefined {
  const { header, control } = scratchOf(libc);
  header.u32.fill(0);
  setPointer(header.u32, MMSGHDR_CONTROL, control.address);
  header.u32[MMSGHDR_CONTROL_LENGTH / 4] = QUEUE_BYTES;
  const flags = MSG_ERRQUEUE | MSG_DONTWAIT;
  if (libc.recvmmsg(fd, header, 1, flags) < 1) return undefined;
  return control.u8.subarray(0, header.u32[MMSGHDR_CONTROL_LENGTH / 4]!);
}

/** Where the struct sock_extended_err is in control messages, if there is one. */
export function extendedErrorAt(control: Uint8Array): number | undefined {
  return findControl(control, IPPROTO_IP, IP_RECVERR) ??
    findControl(control, IPPROTO_IPV6, IPV6_RECVERR);
}

/** The error that a control message tells of; undefined if there is none. */
export function errorIn(control: Uint8Array): Error | undefined {
  const at = extendedErrorAt(control);
  if (at === undefined) return undefined;
  // struct sock_extended_err, and the address of who said it.
  const view = new DataView(control.buffer, control.byteOffset + at);
  const errno = view.getUint32(0, true);
  const [origin, type, code] = [4, 5, 6].map((i) => view.getUint8(i)) as [
    number,
    number,
    number,
  ];
  const error = errorOf(errno);
  if (errno === ECONNREFUSED || origin === FROM_THIS_MACHINE) return error;
  const words = (origin === FROM_ICMP ? ICMP : ICMPV6)[`${type}/${code}`];
  const family = view.getUint16(16, true);
  const who = family === AF_INET || family === AF_INET6
    ? decodeSockaddr(control, at + 16).hostname
    : "the network";
  const mtu = view.getUint32(8, true);
  const most = mtu > 0 && /fragment|too big/.test(words ?? "")
    ? `, at most ${mtu} bytes with headers`
    : "";
  error.message = `${who} says: ${
    words ?? error.message
  } (ICMP type ${type}, code ${code}${most})`;
  return most === "" ? error : Object.assign(error, { mtu });
}

interface Scratch {
  header: Memory;
  control: Memory;
}

const scratches = new WeakMap<Libc, Scratch>();

function scratchOf(libc: Libc): Scratch {
  let scratch = scratches.get(libc);
  if (scratch === undefined) {
    const [header, control] = [
      libc.allocate(MMSGHDR_BYTES),
      libc.allocate(QUEUE_BYTES),
    ];
    scratch = { header, control };
    scratches.set(libc, scratch);
  }
  return scratch;
}

/** An error with an IPv6 address, or three times, and room to spare. */
const QUEUE_BYTES = 256;
const FROM_THIS_MACHINE = 1;
const FROM_ICMP = 2;

/** What ICMP messages say, by type and code (RFC 792, RFC 1812). */
const ICMP: Record<string, string> = {
  "3/0": "the network cannot be reached",
  "3/1": "the host cannot be reached",
  "3/2": "the host does not know UDP",
  "3/4": "a datagram would have to be fragmented, and must not be",
  "3/5": "the source route failed",
  "3/6": "the network is unknown",
  "3/7": "the host is unknown",
  "3/9": "the network is prohibited",
  "3/10": "the host is prohibited",
  "3/11": "the network cannot be reached with this traffic class",
  "3/12": "the host cannot be reached with this traffic class",
  "3/13": "a filter prohibits it",
  "11/0": "the TTL is used up",
};

/** The same for IPv6 (RFC 4443). */
const ICMPV6: Record<string, string> = {
  "1/0": "there is no route",
  "1/1": "a filter prohibits it",
  "1/2": "the address is beyond the scope of the source",
  "1/3": "the address cannot be reached",
  "1/5": "a filter refuses the source",
  "1/6": "the route rejects it",
  "2/0": "a datagram is too big",
  "3/0": "the hop limit is used up",
};

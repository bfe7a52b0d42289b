/**
 * The error queue of a socket: ICMP messages about datagrams that the network did
 * not deliver (IP_RECVERR), and time stamps of those that the kernel gave to it
 * (SO_TIMESTAMPING).
 *
 * @module
 */
import { scratchOf, type SocketDescriptor, trySet } from "./descriptor.ts";
import { ECONNREFUSED, EMSGSIZE, errorOf } from "./errno.ts";
import { controlFacts } from "./cmsg.ts";
import * as sys from "./layout.ts";
import type { Libc, Memory } from "./libc.ts";

/** Has the system queue ICMP messages for a socket. */
export function keepErrors(libc: Libc, { fd, family }: SocketDescriptor): void {
  trySet(libc, fd, sys.IPPROTO_IP, sys.IP_RECVERR, 1);
  if (family === sys.AF_INET6) {
    trySet(libc, fd, sys.IPPROTO_IPV6, sys.IPV6_RECVERR, 1);
  }
}

/**
 * Takes the network's reports from the queue, oldest first, or this machine's own
 * errors; other entries are dropped.
 */
export function takeErrors(libc: Libc, fd: number, isOwn = false): Error[] {
  return Array.from(
    takeMessages(libc, fd, sys.MSG_ERRQUEUE),
    ({ control }) => errorIn(control, isOwn),
  ).filter((error) => error !== undefined);
}

/** A received message, or an entry of the error queue. */
export interface TakenMessage {
  control: Uint8Array;
  /** The first bytes: of an entry, those of the datagram that it quotes. */
  data: Uint8Array;
  /** Its source; of an entry, the destination of the datagram. */
  name: Uint8Array;
}

/**
 * Takes all messages, each of which overwrites the one before.
 *
 * @param room A struct iovec, and behind it the place for the first bytes.
 */
export function* takeMessages(
  libc: Libc,
  fd: number,
  flags: number,
  room?: Memory,
): Generator<TakenMessage> {
  const { header: { u32 }, header, control, name } = scratchOf(libc);
  const bytes = room?.u8.subarray(sys.IOVEC_BYTES) ?? new Uint8Array(0);
  if (room !== undefined) {
    sys.setPointer(room.u32, 0, room.address + sys.IOVEC_BYTES);
    room.u32[sys.IOVEC_LENGTH / 4] = bytes.length;
  }
  for (let i = 0; i < MAX_ENTRIES; i++) {
    u32.fill(0);
    sys.setPointer(u32, sys.MMSGHDR_NAME, name.address);
    u32[sys.MMSGHDR_NAME_LENGTH / 4] = name.u8.length;
    if (room !== undefined) {
      sys.setPointer(u32, sys.MMSGHDR_IOVEC, room.address);
      u32[sys.MMSGHDR_IOVEC_COUNT / 4] = 1;
    }
    sys.setPointer(u32, sys.MMSGHDR_CONTROL, control.address);
    u32[sys.MMSGHDR_CONTROL_LENGTH / 4] = control.u8.length;
    if (libc.recvmmsg(fd, header, 1, flags | sys.MSG_DONTWAIT) < 1) return;
    yield {
      control: control.u8.subarray(0, u32[sys.MMSGHDR_CONTROL_LENGTH / 4]!),
      data: bytes.subarray(0, u32[sys.MMSGHDR_LENGTH / 4]!),
      name: name.u8,
    };
  }
}

/** A struct sock_extended_err, and the address behind it. */
export interface QueuedError {
  errno: number;
  origin: number;
  type: number;
  code: number;
  /** The MTU, where the error is about one. */
  info: number;
  /** The host that reports it. */
  from: string | undefined;
}

/** The error in control messages; undefined if there is none. */
export function queuedErrorIn(control: Uint8Array): QueuedError | undefined {
  const { errorAt: at } = controlFacts(control);
  if (at === -1) return undefined;
  const view = new DataView(control.buffer, control.byteOffset + at);
  const family = view.getUint16(16, true);
  const hasAddress = family === sys.AF_INET || family === sys.AF_INET6;
  return {
    errno: view.getUint32(0, true),
    origin: view.getUint8(4),
    type: view.getUint8(5),
    code: view.getUint8(6),
    info: view.getUint32(8, true),
    from: hasAddress
      ? sys.decodeSockaddr(control, at + 16).hostname
      : undefined,
  };
}

/** The error of an origin in control messages; undefined if there is none. */
export function errorIn(
  control: Uint8Array,
  isOwn: boolean,
): Error | undefined {
  const queued = queuedErrorIn(control);
  if (queued === undefined) return undefined;
  const { errno, origin, type, code, info: mtu } = queued;
  const isAsked = isOwn
    ? origin === FROM_THIS_MACHINE
    : origin === FROM_ICMP || origin === FROM_ICMPV6;
  if (!isAsked) return undefined;
  const error = errorOf(errno);
  if (errno === ECONNREFUSED) return error;
  if (isOwn) {
    if (errno !== EMSGSIZE || mtu === 0) return error;
    error.message =
      `Message too long: the path takes datagrams of at most ${mtu} bytes with headers`;
    return Object.assign(error, { mtu });
  }
  const words = (origin === FROM_ICMP ? ICMP : ICMPV6)[`${type}/${code}`];
  const reporter = queued.from ?? "the network";
  const most = mtu > 0 && /fragment|too big/.test(words ?? "")
    ? `, at most ${mtu} bytes with headers`
    : "";
  error.message = `${reporter} reports: ${
    words ?? error.message
  } (ICMP type ${type}, code ${code}${most})`;
  return most === "" ? error : Object.assign(error, { mtu });
}

/** The time at which the kernel sent a datagram. */
export interface SendStamp {
  /** The number of the datagram in the order of sending, from 0. */
  index: number;
  /** The time by the wall clock, in milliseconds. */
  stampMs: number;
}

/** Has the kernel stamp sends; returns whether it does. */
export function keepStamps(libc: Libc, { fd }: SocketDescriptor): boolean {
  const flags = sys.SOF_TIMESTAMPING_TX_SOFTWARE |
    sys.SOF_TIMESTAMPING_SOFTWARE |
    sys.SOF_TIMESTAMPING_OPT_ID | sys.SOF_TIMESTAMPING_OPT_TSONLY;
  return trySet(libc, fd, sys.SOL_SOCKET, sys.SO_TIMESTAMPING, flags);
}

/** Takes all stamps and the network's reports from the queue, oldest first. */
export function takeEntries(
  libc: Libc,
  fd: number,
): Array<{ stamp?: SendStamp | undefined; error?: Error | undefined }> {
  return Array.from(takeMessages(libc, fd, sys.MSG_ERRQUEUE), ({ control }) => {
    const stamp = stampIn(control);
    return stamp === undefined ? { error: errorIn(control, false) } : { stamp };
  });
}

/** The stamp in control messages; undefined if there is none. */
export function stampIn(control: Uint8Array): SendStamp | undefined {
  const { stampMs, errorAt } = controlFacts(control);
  if (stampMs === undefined || errorAt === -1) return undefined;
  const view = new DataView(control.buffer, control.byteOffset + errorAt);
  // struct sock_extended_err: its origin, and the number in its data.
  if (view.getUint8(4) !== sys.SO_EE_ORIGIN_TIMESTAMPING) return undefined;
  return { index: view.getUint32(12, true), stampMs };
}

/** Entries that are taken in one look. */
const MAX_ENTRIES = 1024;
const FROM_THIS_MACHINE = 1;
export const FROM_ICMP = 2;
export const FROM_ICMPV6 = 3;

/** The meaning of ICMP messages, by type and code (RFC 792, RFC 1812). */
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

/** The meaning of ICMPv6 messages, by type and code (RFC 4443). */
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

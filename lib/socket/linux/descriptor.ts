/**
 * Descriptors that Deno owns: it closes them however their thread ends, also when
 * a worker is terminated in the middle of its work.
 *
 * @module
 */
import {
  formatAddress,
  ipVersion,
  isWildcard,
  type UdpAddress,
  withoutZone,
  zoneOf,
} from "../../address.ts";
import { bindError, mayPass, sendError } from "../../base/errors.ts";
import type { Membership } from "../multicast.ts";
import type {
  GroupSendOptions,
  OpenOptions,
  SendOptions,
} from "../contract.ts";
import { bindConn, type Conn } from "../deno_socket.ts";
import { requireNet } from "../net_access.ts";
import { errorOf } from "./errno.ts";
import * as sys from "./layout.ts";
import type { Libc, Memory } from "./libc.ts";

/** An open descriptor. */
export interface Descriptor {
  readonly fd: number;
  close(): void;
}

/** A bound UDP socket. */
export interface SocketDescriptor extends Descriptor {
  readonly family: number;
  /** The peer that it is connected to, its zone a number. */
  peer?: UdpAddress;
}

/** A bound UDP socket of Deno's own. */
export interface ConnDescriptor extends SocketDescriptor {
  readonly conn: Conn;
}

/**
 * Binds a socket by `Deno.listenDatagram`, which resolves the name and checks
 * the permission as always, and finds its descriptor.
 */
export function bindDescriptor(
  libc: Libc,
  options: Parameters<typeof bindConn>[0],
  shown?: UdpAddress,
): ConnDescriptor {
  const conn = bindConn(options, shown);
  try {
    const { hostname, port } = conn.addr as Deno.NetAddr;
    const family = ipVersion(hostname) === 6 ? sys.AF_INET6 : sys.AF_INET;
    const fd = find(libc, { hostname, port }, family);
    return { fd, family, conn, close: () => conn.close() };
  } catch (error) {
    conn.close();
    throw error;
  }
}

/**
 * Binds a socket that only this engine uses, as Deno's event loop would look at
 * each of its datagrams too, which costs a seventh of the speed. It replaces one
 * that Deno bound, so that Deno closes it.
 */
export function bindOwned(
  libc: Libc,
  options: OpenOptions,
): SocketDescriptor {
  const { hostname, port, reusePort, reuseAddress } = options;
  const isShared = reusePort || reuseAddress;
  // A shared port may be taken: then any other serves for the place.
  const at = { hostname, port: isShared ? 0 : port };
  const place = bindDescriptor(libc, at, options);
  try {
    const { fd, family } = place;
    const name = libc.allocate(sys.NAME_BYTES);
    const length = readName(libc, fd, name);
    if (isShared) name.u8.set([port >> 8, port & 0xff], 2);
    // For as long as both are bound.
    else setOption(libc, fd, sys.SOL_SOCKET, sys.SO_REUSEPORT, 1);
    const type = sys.SOCK_DGRAM | sys.SOCK_CLOEXEC | sys.SOCK_NONBLOCK;
    const ours = check(libc, libc.socket(family, type, 0));
    try {
      const sharing = reuseAddress ? sys.SO_REUSEADDR : sys.SO_REUSEPORT;
      setOption(libc, ours, sys.SOL_SOCKET, sharing, 1);
      setOption(libc, ours, sys.SOL_SOCKET, sys.SO_BROADCAST, 1);
      // Only groups that it has joined itself, not each that this machine has.
      trySet(libc, ours, sys.IPPROTO_IP, sys.IP_MULTICAST_ALL, 0);
      if (family === sys.AF_INET6) {
        trySet(libc, ours, sys.IPPROTO_IPV6, sys.IPV6_MULTICAST_ALL, 0);
        // Whatever net.ipv6.bindv6only is.
        trySet(libc, ours, sys.IPPROTO_IPV6, sys.IPV6_V6ONLY, 0);
      }
      if (libc.bind(ours, name, length) < 0) {
        throw bindError(errorOf(libc.errno()), options);
      }
      check(libc, libc.dup(ours, fd));
    } finally {
      libc.close(ours);
    }
    if (!isShared) setOption(libc, fd, sys.SOL_SOCKET, sys.SO_REUSEPORT, 0);
    return place;
  } catch (error) {
    place.close();
    throw error;
  }
}

/**
 * Connects a socket, so that the system reports the peer's errors. Without a route
 * that is left to the sends.
 */
export function connect(
  libc: Libc,
  bound: SocketDescriptor,
  peer: UdpAddress,
): void {
  bound.peer = numberZone(libc, peer);
  const errno = reconnect(libc, bound, false);
  if (errno === 0 || mayPass(errorOf(errno))) return;
  throw sendError(errorOf(errno), peer);
}

/**
 * Connects a socket to its peer, anew from the address that this machine has by
 * now; returns the errno, or 0.
 */
export function reconnect(
  libc: Libc,
  { fd, family, peer }: SocketDescriptor,
  isAnew = true,
): number {
  const { name } = scratchOf(libc);
  // AF_UNSPEC, which is 0, ends the connection.
  if (isAnew) libc.connect(fd, (name.u8.fill(0), name), sys.NAME_BYTES);
  const length = sys.encodeSockaddr(peer!, family, name.u8);
  return libc.connect(fd, name, length) < 0 ? libc.errno() : 0;
}

/** An address with the number of the interface that its zone names. */
export function numberZone(libc: Libc, address: UdpAddress): UdpAddress {
  const { hostname, port } = address;
  const zone = zoneOf(hostname);
  if (zone === undefined || /^\d+$/.test(zone)) return address;
  const index = libc.interfaceIndex(zone);
  if (index === 0) {
    throw new Deno.errors.NotFound(`There is no interface '${zone}'`);
  }
  return { hostname: `${withoutZone(hostname)}%${index}`, port };
}

/**
 * Has Deno own a descriptor that it did not make: it replaces a socket at any port
 * of an address. Without the permission for such a socket it stays our own, and a
 * worker that is terminated leaves it open.
 */
export function own(
  libc: Libc,
  fd: number,
  address: string,
): Descriptor {
  let place: SocketDescriptor | undefined;
  try {
    requireNet({ hostname: address, port: 0 });
    place = bindDescriptor(libc, { hostname: address, port: 0 });
    check(libc, libc.dup(fd, place.fd));
  } catch (error) {
    if (error instanceof Deno.errors.NotCapable) {
      return { fd, close: () => void libc.close(fd) };
    }
    place?.close();
    libc.close(fd);
    throw error;
  }
  libc.close(fd);
  return place;
}

/** The address that a socket is bound to. */
export function addressOf(libc: Libc, fd: number): UdpAddress {
  const { name } = scratchOf(libc);
  readName(libc, fd, name);
  return sys.decodeSockaddr(name.u8);
}

/** Sets an option whose value is an int; throws the system's error. */
export function setOption(
  libc: Libc,
  fd: number,
  level: number,
  option: number,
  value: number,
): void {
  if (!trySet(libc, fd, level, option, value)) throw errorOf(libc.errno());
}

/** Sets an option whose value is an int; returns whether the kernel takes it. */
export function trySet(
  libc: Libc,
  fd: number,
  level: number,
  option: number,
  value: number,
): boolean {
  const { value: memory } = scratchOf(libc);
  memory.u32[0] = value;
  return libc.setsockopt(fd, level, option, memory, 4) >= 0;
}

/** Grows both buffers as far as the system grants. */
export function growBuffers(libc: Libc, fd: number): void {
  trySet(libc, fd, sys.SOL_SOCKET, sys.SO_RCVBUF, BUFFER_BYTES);
  trySet(libc, fd, sys.SOL_SOCKET, sys.SO_SNDBUF, BUFFER_BYTES);
}

/** Sets the options of sends; throws the system's error. */
export function setSendOptions(
  libc: Libc,
  { fd, family }: SocketDescriptor,
  options: SendOptions & GroupSendOptions,
): void {
  const { ttl, trafficClass, dontFragment, multicastTtl, loopback } = options;
  if (options.device !== undefined) bindToDevice(libc, fd, options.device);
  const discovery = dontFragment === undefined
    ? undefined
    : dontFragment
    ? sys.PMTUDISC_DO
    : sys.PMTUDISC_DONT;
  const loop = loopback === false ? 0 : undefined;
  const all: Array<[ipv4: number, ipv6: number, value: number | undefined]> = [
    [sys.IP_TTL, sys.IPV6_UNICAST_HOPS, ttl],
    [sys.IP_TOS, sys.IPV6_TCLASS, trafficClass],
    [sys.IP_MTU_DISCOVER, sys.IPV6_MTU_DISCOVER, discovery],
    [sys.IP_MULTICAST_TTL, sys.IPV6_MULTICAST_HOPS, multicastTtl],
    [sys.IP_MULTICAST_LOOP, sys.IPV6_MULTICAST_LOOP, loop],
  ];
  for (const [ipv4, ipv6, value] of all) {
    if (value === undefined) continue;
    // An IPv6 socket sends to IPv4 hosts too.
    setOption(libc, fd, sys.IPPROTO_IP, ipv4, value);
    if (family !== sys.AF_INET6) continue;
    setOption(libc, fd, sys.IPPROTO_IPV6, ipv6, value);
  }
}

/** Has a socket send and receive by one interface; throws the system's error. */
function bindToDevice(libc: Libc, fd: number, device: string): void {
  const { value } = scratchOf(libc);
  const name = new TextEncoder().encode(device);
  value.u8.set(name);
  const option = sys.SO_BINDTODEVICE;
  const done = libc.setsockopt(fd, sys.SOL_SOCKET, option, value, name.length);
  if (done >= 0) return;
  const error = errorOf(libc.errno());
  error.message = `Cannot send by interface '${device}': ${error.message}`;
  throw error;
}

/** Joins a multicast group, or leaves it; throws the system's error. */
export function setMembership(
  libc: Libc,
  fd: number,
  { group, source, address, index }: Membership,
  isMember: boolean,
): void {
  const { value } = scratchOf(libc);
  let level = sys.IPPROTO_IP;
  let bytes: number;
  let options: [join: number, leave: number];
  if (ipVersion(group) === 6) {
    level = sys.IPPROTO_IPV6;
    // struct group_req, or struct group_source_req
    value.u8.fill(0);
    value.u32[0] = index;
    const encode = (hostname: string, at: number) =>
      sys.encodeSockaddr(
        { hostname, port: 0 },
        sys.AF_INET6,
        value.u8.subarray(at),
      );
    encode(group, sys.GROUP_REQ_GROUP);
    if (source !== undefined) encode(source, sys.GROUP_REQ_SOURCE);
    [bytes, options] = source === undefined
      ? [sys.GROUP_REQ_SOURCE, [sys.MCAST_JOIN_GROUP, sys.MCAST_LEAVE_GROUP]]
      : [sys.GROUP_SOURCE_REQ_BYTES, [
        sys.MCAST_JOIN_SOURCE_GROUP,
        sys.MCAST_LEAVE_SOURCE_GROUP,
      ]];
  } else {
    // struct ip_mreq, or struct ip_mreq_source
    const parts = [group, address, source ?? []].flat();
    value.u8.set(parts.flatMap((ip) => ip.split(".").map(Number)));
    bytes = 4 * parts.length;
    options = source === undefined
      ? [sys.IP_ADD_MEMBERSHIP, sys.IP_DROP_MEMBERSHIP]
      : [sys.IP_ADD_SOURCE_MEMBERSHIP, sys.IP_DROP_SOURCE_MEMBERSHIP];
  }
  const option = options[isMember ? 0 : 1];
  check(libc, libc.setsockopt(fd, level, option, value, bytes));
}

/** Has datagrams to groups leave by the interface of a membership, if it has one. */
export function sendGroupsBy(
  libc: Libc,
  fd: number,
  { group, address, index }: Membership,
): void {
  if (ipVersion(group) === 6) {
    if (index === 0) return;
    setOption(libc, fd, sys.IPPROTO_IPV6, sys.IPV6_MULTICAST_IF, index);
  } else if (!isWildcard(address)) {
    const { value } = scratchOf(libc);
    value.u8.set(address.split(".").map(Number));
    const option = sys.IP_MULTICAST_IF;
    check(libc, libc.setsockopt(fd, sys.IPPROTO_IP, option, value, 4));
  }
}

/** Sets the size of the receive buffer; returns the bytes that the system gives. */
export function setReceiveBuffer(
  libc: Libc,
  fd: number,
  bytes: number,
): number {
  // Beyond the bound only with the permission to configure the network.
  if (!trySet(libc, fd, sys.SOL_SOCKET, sys.SO_RCVBUFFORCE, bytes)) {
    trySet(libc, fd, sys.SOL_SOCKET, sys.SO_RCVBUF, bytes);
  }
  // The kernel doubles it, for its own overhead of each datagram.
  return readOption(libc, fd, sys.SO_RCVBUF) / 2;
}

/** The most messages that can be in the receive buffer now. */
export function backlogOf(libc: Libc, fd: number): number {
  return (memoryInfo(libc, fd)?.[sys.MEMINFO_RECEIVED] ?? 0) / MESSAGE_BYTES;
}

/** The number of datagrams dropped since the receive buffer was full. */
export function kernelDrops(libc: Libc, fd: number): number | undefined {
  return memoryInfo(libc, fd)?.[sys.MEMINFO_DROPS];
}

function memoryInfo(libc: Libc, fd: number): Uint32Array | undefined {
  const { value, length } = scratchOf(libc);
  length.u32[0] = sys.MEMINFO_BYTES;
  const result = libc.getsockopt(
    fd,
    sys.SOL_SOCKET,
    sys.SO_MEMINFO,
    value,
    length,
  );
  return result < 0 || length.u32[0]! < sys.MEMINFO_BYTES
    ? undefined
    : value.u32;
}

const BUFFER_BYTES = 4 << 20;
/** The least that a message takes of the receive buffer, with its overhead. */
const MESSAGE_BYTES = 512;
/** An error with an IPv6 address, or three time stamps, and more. */
const QUEUE_BYTES = 256;

/** Memory for the arguments of one call, used again by the next, of all sockets. */
class Scratch {
  readonly name: Memory;
  readonly value: Memory;
  readonly length: Memory;
  /** A message's header, and room for the control messages of an error. */
  readonly header: Memory;
  readonly control: Memory;

  constructor(libc: Libc) {
    this.name = libc.allocate(sys.NAME_BYTES);
    this.value = libc.allocate(sys.GROUP_SOURCE_REQ_BYTES);
    this.length = libc.allocate(4);
    this.header = libc.allocate(sys.MMSGHDR_BYTES);
    this.control = libc.allocate(QUEUE_BYTES);
  }
}

const scratches = new WeakMap<Libc, Scratch>();

/** The memory for a call of a C library. */
export function scratchOf(libc: Libc): Scratch {
  let scratch = scratches.get(libc);
  if (!scratch) scratches.set(libc, scratch = new Scratch(libc));
  return scratch;
}

/** Throws the system's error if a call has failed. */
export function check(libc: Libc, result: number): number {
  if (result < 0) throw errorOf(libc.errno());
  return result;
}

function readOption(libc: Libc, fd: number, option: number): number {
  const { value, length } = scratchOf(libc);
  length.u32[0] = 4;
  check(libc, libc.getsockopt(fd, sys.SOL_SOCKET, option, value, length));
  return value.u32[0]!;
}

function readName(libc: Libc, fd: number, name: Memory): number {
  const { length } = scratchOf(libc);
  length.u32[0] = sys.NAME_BYTES;
  check(libc, libc.getsockname(fd, name, length));
  return length.u32[0]!;
}

/** The UDP socket of this process that is bound to an address. */
function find(libc: Libc, address: UdpAddress, family: number): number {
  const { name, length } = scratchOf(libc);
  const wanted = new Uint8Array(sys.NAME_BYTES);
  const bytes = sys.encodeSockaddr(address, family, wanted);
  // Deno does not give the zone, which is last.
  const compared = family === sys.AF_INET6 ? bytes - 4 : bytes;
  const isIt = (fd: number): boolean => {
    length.u32[0] = sys.NAME_BYTES;
    if (libc.getsockname(fd, name, length) < 0) return false;
    for (let i = 0; i < compared; i++) {
      if (name.u8[i] !== wanted[i]) return false;
    }
    return readOption(libc, fd, sys.SO_TYPE) === sys.SOCK_DGRAM;
  };
  // The descriptors of sockets that are opened in a row are near each other.
  for (let fd = lastFound; fd < lastFound + NEAR; fd++) {
    if (isIt(fd)) return lastFound = fd;
  }
  for (let fd = 0; fd < MAX_DESCRIPTORS; fd++) {
    if (isIt(fd)) return lastFound = fd;
  }
  throw new Error(
    `Cannot find the descriptor of the socket at ${formatAddress(address)}`,
  );
}

let lastFound = 0;
const NEAR = 16;
/** More than any limit in use; open descriptors have the lowest numbers. */
const MAX_DESCRIPTORS = 1 << 20;

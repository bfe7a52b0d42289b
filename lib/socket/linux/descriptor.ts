/**
 * Descriptors that Deno owns: it closes them however their thread ends, also when
 * a worker is terminated in the middle of its work.
 *
 * @module
 */
import {
  formatAddress,
  ipv6Groups,
  ipVersion,
  isWildcard,
  type UdpAddress,
  withoutZone,
  zoneOf,
} from "../../address.ts";
import { bindError, mayPass } from "../../base/errors.ts";
import type { Membership } from "../multicast.ts";
import type { OpenOptions } from "../contract.ts";
import { bindConn, type Conn } from "../deno_socket.ts";
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
  if (errno !== 0 && !mayPass(errorOf(errno))) throw errorOf(errno);
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

/** Sets an option whose value is an int. */
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
  options: OpenOptions,
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

/** Joins a multicast group; throws the system's error. */
export function joinGroup(
  libc: Libc,
  fd: number,
  { group, address, index }: Membership,
): void {
  const { value } = scratchOf(libc);
  const view = new DataView(value.u8.buffer);
  if (ipVersion(group) === 6) {
    // struct ipv6_mreq
    ipv6Groups(group).forEach((part, i) => view.setUint16(2 * i, part));
    view.setUint32(16, index, true);
    const option = sys.IPV6_ADD_MEMBERSHIP;
    check(libc, libc.setsockopt(fd, sys.IPPROTO_IPV6, option, value, 20));
    // Datagrams to groups leave by the same interface.
    if (index !== 0) {
      setOption(libc, fd, sys.IPPROTO_IPV6, sys.IPV6_MULTICAST_IF, index);
    }
  } else {
    // struct ip_mreq
    value.u8.set([group, address].flatMap((ip) => ip.split(".").map(Number)));
    check(
      libc,
      libc.setsockopt(fd, sys.IPPROTO_IP, sys.IP_ADD_MEMBERSHIP, value, 8),
    );
    if (isWildcard(address)) return;
    value.u8.set(address.split(".").map(Number));
    check(
      libc,
      libc.setsockopt(fd, sys.IPPROTO_IP, sys.IP_MULTICAST_IF, value, 4),
    );
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

/** The number of datagrams dropped since the receive buffer was full. */
export function kernelDrops(libc: Libc, fd: number): number | undefined {
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
    : value.u32[sys.MEMINFO_DROPS];
}

const BUFFER_BYTES = 4 << 20;
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
    this.value = libc.allocate(sys.MEMINFO_BYTES);
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

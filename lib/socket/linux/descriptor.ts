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
} from "../../address.ts";
import { bindError } from "../../base/errors.ts";
import type { Membership } from "../multicast.ts";
import type { OpenOptions } from "../contract.ts";
import { bindConn, type Conn } from "../deno_socket.ts";
import { errorOf } from "./errno.ts";
import { IP_TOS, IP_TTL, IPV6_TCLASS } from "./cmsg.ts";
import {
  AF_INET,
  AF_INET6,
  decodeSockaddr,
  encodeSockaddr,
  IP_ADD_MEMBERSHIP,
  IP_MTU,
  IP_MTU_DISCOVER,
  IP_MULTICAST_IF,
  IP_MULTICAST_LOOP,
  IP_MULTICAST_TTL,
  IPPROTO_IP,
  IPPROTO_IPV6,
  IPV6_ADD_MEMBERSHIP,
  IPV6_MTU,
  IPV6_MTU_DISCOVER,
  IPV6_MULTICAST_HOPS,
  IPV6_MULTICAST_IF,
  IPV6_MULTICAST_LOOP,
  IPV6_UNICAST_HOPS,
  MEMINFO_BYTES,
  MEMINFO_DROPS,
  MMSGHDR_BYTES,
  NAME_BYTES,
  PMTUDISC_DO,
  SO_BINDTODEVICE,
  SO_BROADCAST,
  SO_ERROR,
  SO_MEMINFO,
  SO_RCVBUF,
  SO_RCVBUFFORCE,
  SO_REUSEADDR,
  SO_REUSEPORT,
  SO_SNDBUF,
  SO_TYPE,
  SOCK_CLOEXEC,
  SOCK_DGRAM,
  SOCK_NONBLOCK,
  SOL_SOCKET,
} from "./layout.ts";
import type { Libc, Memory } from "./libc.ts";

/** An open descriptor. */
export interface Descriptor {
  readonly fd: number;
  close(): void;
}

/** A bound UDP socket. */
export interface SocketDescriptor extends Descriptor {
  readonly family: number;
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
): ConnDescriptor {
  const conn = bindConn(options);
  try {
    const { hostname, port } = conn.addr as Deno.NetAddr;
    const family = ipVersion(hostname) === 6 ? AF_INET6 : AF_INET;
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
 *
 * @param libc The C library.
 * @param options The address to bind, and whether the port is shared.
 */
export function bindOwned(
  libc: Libc,
  options: BindOptions,
): SocketDescriptor {
  const { port, reusePort = false, reuseAddress = false } = options;
  const isShared = reusePort || reuseAddress;
  const place = placeAt(libc, options, isShared);
  try {
    const { fd, family } = place;
    const name = libc.allocate(NAME_BYTES);
    const length = readName(libc, fd, name);
    if (isShared) name.u8.set([port >> 8, port & 0xff], 2);
    // For as long as both are bound.
    else setOption(libc, fd, SOL_SOCKET, SO_REUSEPORT, 1);
    const type = SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK;
    const ours = check(libc, libc.socket(family, type, 0));
    try {
      const sharing = reuseAddress ? SO_REUSEADDR : SO_REUSEPORT;
      setOption(libc, ours, SOL_SOCKET, sharing, 1);
      setOption(libc, ours, SOL_SOCKET, SO_BROADCAST, 1);
      check(libc, libc.bind(ours, name, length));
      check(libc, libc.dup(ours, fd));
    } finally {
      libc.close(ours);
    }
    if (!isShared) setOption(libc, fd, SOL_SOCKET, SO_REUSEPORT, 0);
    return place;
  } catch (error) {
    place.close();
    throw error;
  }
}

/** The address to bind, and whether the port is shared. */
type BindOptions = Pick<
  OpenOptions,
  "hostname" | "port" | "reusePort" | "reuseAddress"
>;

/** The socket to replace, at any port if the port is shared. */
function placeAt(
  libc: Libc,
  { hostname, port }: UdpAddress,
  isShared: boolean,
): SocketDescriptor {
  if (!isShared) return bindDescriptor(libc, { hostname, port });
  try {
    return bindDescriptor(libc, { hostname, port: 0 });
  } catch (error) {
    throw bindError((error as Error).cause ?? error, { hostname, port });
  }
}

/** Connects a socket, so that the system reports the peer's errors. */
export function connect(
  libc: Libc,
  { fd, family }: SocketDescriptor,
  { hostname, port }: UdpAddress,
): void {
  const { name } = scratchOf(libc);
  const [address, zone] = hostname.split("%");
  // The system wants the number of an interface that has a name here.
  const index = zone === undefined || /^\d+$/.test(zone)
    ? zone
    : libc.interfaceIndex(zone);
  if (index === 0) {
    throw new Deno.errors.NotFound(`There is no interface '${zone}'`);
  }
  const numbered = index === undefined ? address! : `${address}%${index}`;
  const peer = { hostname: numbered, port };
  const length = encodeSockaddr(peer, family, name.u8);
  check(libc, libc.connect(fd, name, length));
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
  let place: SocketDescriptor;
  try {
    place = bindDescriptor(libc, { hostname: address, port: 0 });
  } catch (error) {
    if (error instanceof Deno.errors.NotCapable) {
      return { fd, close: () => void libc.close(fd) };
    }
    libc.close(fd);
    throw error;
  }
  try {
    check(libc, libc.dup(fd, place.fd));
    return place;
  } catch (error) {
    place.close();
    throw error;
  } finally {
    libc.close(fd);
  }
}

/** The address that a socket is bound to. */
export function addressOf(libc: Libc, fd: number): UdpAddress {
  const { name } = scratchOf(libc);
  readName(libc, fd, name);
  return decodeSockaddr(name.u8);
}

/** The system's report about an earlier datagram, which it gives once. */
export function pendingError(libc: Libc, fd: number): Error | undefined {
  const errno = readOption(libc, fd, SO_ERROR);
  return errno === 0 ? undefined : errorOf(errno);
}

/** Sets an option whose value is an int. */
export function setOption(
  libc: Libc,
  fd: number,
  level: number,
  option: number,
  value: number,
): void {
  const { value: memory } = scratchOf(libc);
  memory.u32[0] = value;
  check(libc, libc.setsockopt(fd, level, option, memory, 4));
}

/** Checks the permission for an address, which FFI bypasses. */
export function requireNet(address: UdpAddress): void {
  const host = formatAddress(address);
  if (Deno.permissions.querySync({ name: "net", host }).state !== "granted") {
    throw new Deno.errors.NotCapable(
      `Requires net access to "${host}", run again with the --allow-net flag`,
    );
  }
}

/** Whether the kernel knows the option. */
export function trySet(
  libc: Libc,
  fd: number,
  level: number,
  option: number,
  value: number,
): boolean {
  try {
    setOption(libc, fd, level, option, value);
    return true;
  } catch {
    return false;
  }
}

/** Grows both buffers as far as the system grants. */
export function growBuffers(libc: Libc, fd: number): void {
  trySet(libc, fd, SOL_SOCKET, SO_RCVBUF, BUFFER_BYTES);
  trySet(libc, fd, SOL_SOCKET, SO_SNDBUF, BUFFER_BYTES);
}

/** Sets the options of sends; throws the system's error. */
export function setSendOptions(
  libc: Libc,
  { fd, family }: SocketDescriptor,
  options: OpenOptions,
): void {
  const { ttl, trafficClass, dontFragment, multicastTtl, loopback } = options;
  if (options.device !== undefined) bindToDevice(libc, fd, options.device);
  const [v4, v6]: Array<Array<[number, number | undefined]>> = [[
    [IP_TTL, ttl],
    [IP_TOS, trafficClass],
    [IP_MTU_DISCOVER, dontFragment ? PMTUDISC_DO : undefined],
    [IP_MULTICAST_TTL, multicastTtl],
    [IP_MULTICAST_LOOP, loopback === false ? 0 : undefined],
  ], [
    [IPV6_UNICAST_HOPS, ttl],
    [IPV6_TCLASS, trafficClass],
    [IPV6_MTU_DISCOVER, dontFragment ? PMTUDISC_DO : undefined],
    [IPV6_MULTICAST_HOPS, multicastTtl],
    [IPV6_MULTICAST_LOOP, loopback === false ? 0 : undefined],
  ]];
  // An IPv6 socket sends to IPv4 hosts too.
  for (const [option, value] of v4!) {
    if (value !== undefined) setOption(libc, fd, IPPROTO_IP, option, value);
  }
  if (family !== AF_INET6) return;
  for (const [option, value] of v6!) {
    if (value !== undefined) setOption(libc, fd, IPPROTO_IPV6, option, value);
  }
}

/** Has a socket send and receive by one interface; throws the system's error. */
function bindToDevice(libc: Libc, fd: number, device: string): void {
  const { value } = scratchOf(libc);
  const name = new TextEncoder().encode(device);
  value.u8.set(name);
  const option = SO_BINDTODEVICE;
  const done = libc.setsockopt(fd, SOL_SOCKET, option, value, name.length);
  if (done >= 0) return;
  const error = errorOf(libc.errno());
  error.message = `Cannot send by interface '${device}': ${error.message}`;
  throw error;
}

/** The largest datagram of the path to the peer, with headers, in bytes. */
export function pathMtu(
  libc: Libc,
  { fd, family }: SocketDescriptor,
): number {
  return family === AF_INET6
    ? readOption(libc, fd, IPV6_MTU, IPPROTO_IPV6)
    : readOption(libc, fd, IP_MTU, IPPROTO_IP);
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
    const option = IPV6_ADD_MEMBERSHIP;
    check(libc, libc.setsockopt(fd, IPPROTO_IPV6, option, value, 20));
    // Datagrams to groups leave by the same interface.
    if (index !== 0) {
      setOption(libc, fd, IPPROTO_IPV6, IPV6_MULTICAST_IF, index);
    }
  } else {
    // struct ip_mreq
    value.u8.set([group, address].flatMap((ip) => ip.split(".").map(Number)));
    check(libc, libc.setsockopt(fd, IPPROTO_IP, IP_ADD_MEMBERSHIP, value, 8));
    if (isWildcard(address)) return;
    value.u8.set(address.split(".").map(Number));
    check(libc, libc.setsockopt(fd, IPPROTO_IP, IP_MULTICAST_IF, value, 4));
  }
}

/**
 * Sets the size of the receive buffer.
 *
 * @returns The bytes that the system gives, which it may bound.
 */
export function setReceiveBuffer(
  libc: Libc,
  fd: number,
  bytes: number,
): number {
  // Beyond the bound only with the permission to configure the network.
  if (!trySet(libc, fd, SOL_SOCKET, SO_RCVBUFFORCE, bytes)) {
    trySet(libc, fd, SOL_SOCKET, SO_RCVBUF, bytes);
  }
  // The kernel doubles it, for its own overhead of each datagram.
  return readOption(libc, fd, SO_RCVBUF) / 2;
}

/** The number of datagrams dropped since the receive buffer was full. */
export function kernelDrops(libc: Libc, fd: number): number | undefined {
  const { value, length } = scratchOf(libc);
  length.u32[0] = MEMINFO_BYTES;
  const result = libc.getsockopt(fd, SOL_SOCKET, SO_MEMINFO, value, length);
  return result < 0 || length.u32[0]! < MEMINFO_BYTES
    ? undefined
    : value.u32[MEMINFO_DROPS];
}

const BUFFER_BYTES = 4 << 20;
/** An error with an IPv6 address, or three time stamps, and more. */
const QUEUE_BYTES = 256;

/**
 * Memory for the arguments of one call, used again by the next, of all sockets.
 */
interface Scratch {
  name: Memory;
  value: Memory;
  length: Memory;
  /** A message's header, and room for the control messages of an error. */
  header: Memory;
  control: Memory;
}

const scratches = new WeakMap<Libc, Scratch>();

/** The memory for a call of a C library. */
export function scratchOf(libc: Libc): Scratch {
  let scratch = scratches.get(libc);
  if (scratch === undefined) {
    scratch = {
      name: libc.allocate(NAME_BYTES),
      value: libc.allocate(MEMINFO_BYTES),
      length: libc.allocate(4),
      header: libc.allocate(MMSGHDR_BYTES),
      control: libc.allocate(QUEUE_BYTES),
    };
    scratches.set(libc, scratch);
  }
  return scratch;
}

/** Throws the system's error if a call has failed. */
export function check(libc: Libc, result: number): number {
  if (result < 0) throw errorOf(libc.errno());
  return result;
}

function readOption(
  libc: Libc,
  fd: number,
  option: number,
  level = SOL_SOCKET,
): number {
  const { value, length } = scratchOf(libc);
  length.u32[0] = 4;
  check(libc, libc.getsockopt(fd, level, option, value, length));
  return value.u32[0]!;
}

function readName(libc: Libc, fd: number, name: Memory): number {
  const { length } = scratchOf(libc);
  length.u32[0] = NAME_BYTES;
  check(libc, libc.getsockname(fd, name, length));
  return length.u32[0]!;
}

/** The UDP socket of this process that is bound to an address. */
function find(libc: Libc, address: UdpAddress, family: number): number {
  const { name, length } = scratchOf(libc);
  const wanted = new Uint8Array(NAME_BYTES);
  const bytes = encodeSockaddr(address, family, wanted);
  // Deno does not give the zone, which is last.
  const compared = family === AF_INET6 ? bytes - 4 : bytes;
  const isIt = (fd: number): boolean => {
    length.u32[0] = NAME_BYTES;
    if (libc.getsockname(fd, name, length) < 0) return false;
    for (let i = 0; i < compared; i++) {
      if (name.u8[i] !== wanted[i]) return false;
    }
    return readOption(libc, fd, SO_TYPE) === SOCK_DGRAM;
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

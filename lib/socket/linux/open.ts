/**
 * Opens sockets of the linux engine: a {@linkcode LinuxSocket} for a server, or a
 * client with many requests; a {@linkcode RequestSocket} for a single request.
 *
 * @module
 */
import { ipVersion, type UdpAddress } from "../../address.ts";
import type { DatagramSocket, OpenOptions } from "../contract.ts";
import { DenoSocket } from "../deno_socket.ts";
import { limitedNet, netAccess, requireNet } from "../net_access.ts";
import {
  bindDescriptor,
  bindOwned,
  bindTo,
  check,
  connect,
  type Descriptor,
  growBuffers,
  numberZone,
  own,
  setOption,
  setSendOptions,
  type SocketDescriptor,
  trySet,
} from "./descriptor.ts";
import * as sys from "./layout.ts";
import { type Libc, libcMissing, loadLibc } from "./libc.ts";
import { Poller } from "./poller.ts";
import { RequestSet } from "./request_set.ts";
import { RequestSocket } from "./request_socket.ts";
import { LinuxSocket } from "./socket.ts";

/**
 * Binds a socket, and connects it if `peer` is given; throws as `openDenoSocket`
 * does, and {@linkcode Deno.errors.NotSupported} where {@linkcode libcMissing}
 * gives a reason.
 */
export function openLinuxSocket(options: OpenOptions): DatagramSocket {
  const missing = libcMissing();
  if (missing !== undefined) {
    throw new Deno.errors.NotSupported(
      `Cannot use the linux engine: ${missing}`,
    );
  }
  const libc = loadLibc();
  const { hostname, peer, isBusy } = options;
  // With net.ipv6.bindv6only a socket of Deno's own at `::` takes no IPv4.
  const isOfBoth = hostname === "::" && peer === undefined;
  if (isBusy || isOfBoth) return openBusy(libc, options);
  return peer !== undefined && ipVersion(hostname) !== undefined
    ? openRequest(libc, options, peer)
    : openPlain(libc, options);
}

function openBusy(libc: Libc, options: OpenOptions): LinuxSocket {
  const { reusePort, reuseAddress, peer } = options;
  // Deno checks the permission for the address that it binds, at first another.
  if (reusePort || reuseAddress) requireNet(options);
  if (peer !== undefined) requireNet(peer);
  let bound: SocketDescriptor | undefined;
  try {
    bound = bindOwned(libc, options);
    setSendOptions(libc, bound, options);
    if (peer !== undefined) connect(libc, bound, peer);
    poller ??= new Poller(libc, (fd) => own(libc, fd, options.hostname));
    // The peer of a connected socket was checked above.
    const access = peer === undefined ? limitedNet() : undefined;
    return new LinuxSocket(bound, options, libc, poller, access);
  } catch (error) {
    bound?.close();
    throw error;
  }
}

function openPlain(libc: Libc, options: OpenOptions): DenoSocket {
  const bound = bindDescriptor(libc, options);
  try {
    setSendOptions(libc, bound, options);
    growBuffers(libc, bound.fd);
    return new DenoSocket(
      bound.conn,
      options.maxDatagramBytes,
      limitedNet(false),
    );
  } catch (error) {
    bound.close();
    throw error;
  }
}

function openRequest(
  libc: Libc,
  options: OpenOptions,
  peer: UdpAddress,
): RequestSocket {
  const access = limitedNet();
  if (access !== undefined) {
    // The user may be asked here, and never at a send.
    Deno.permissions.requestSync(netAccess(options));
    requireNet(options);
  }
  numberZone(libc, peer);
  const bound = bindRequest(libc, options);
  try {
    setSendOptions(libc, bound, options);
    growBuffers(libc, bound.fd);
    requests ??= new RequestSet(
      libc,
      (fd) => ownRequest(libc, fd, options.hostname),
    );
    return new RequestSocket(libc, requests, bound, options, access);
  } catch (error) {
    bound.close();
    throw error;
  }
}

function bindRequest(libc: Libc, options: OpenOptions): SocketDescriptor {
  const { hostname } = options;
  const family = ipVersion(hostname) === 6 ? sys.AF_INET6 : sys.AF_INET;
  const type = sys.SOCK_DGRAM | sys.SOCK_CLOEXEC | sys.SOCK_NONBLOCK;
  const made = check(libc, libc.socket(family, type, 0));
  const { fd, close } = ownRequest(libc, made, hostname);
  try {
    setOption(libc, fd, sys.SOL_SOCKET, sys.SO_BROADCAST, 1);
    if (family === sys.AF_INET6) {
      // Also with net.ipv6.bindv6only.
      trySet(libc, fd, sys.IPPROTO_IPV6, sys.IPV6_V6ONLY, 0);
    }
    bindTo(libc, fd, family, options);
    return { fd, family, close };
  } catch (error) {
    close();
    throw error;
  }
}

/**
 * Has a descriptor closed with its thread: by Deno in a worker, which may be
 * terminated at any time; else by us, which takes less, when `deno run --watch`
 * restarts the program.
 */
function ownRequest(libc: Libc, fd: number, hostname: string): Descriptor {
  if ("WorkerGlobalScope" in globalThis) return own(libc, fd, hostname);
  if (ours === undefined) {
    const all = ours = new Set();
    addEventListener("unload", () => {
      for (const one of all) libc.close(one);
      all.clear();
    });
  }
  const all = ours.add(fd);
  return {
    fd,
    close() {
      if (all.delete(fd)) libc.close(fd);
    },
  };
}

/** Open descriptors of requests that Deno does not close. */
let ours: Set<number> | undefined;
/** The sockets of all requests of this thread. */
let requests: RequestSet | undefined;
/** The poller of all sockets of this thread. */
let poller: Poller | undefined;

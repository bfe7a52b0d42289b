/**
 * Opens sockets of the linux engine: a {@linkcode LinuxSocket} for a server, or a
 * client with many requests; a {@linkcode RequestSocket} for a single request.
 *
 * @module
 */
import type { DatagramSocket, OpenOptions } from "../contract.ts";
import { DenoSocket } from "../deno_socket.ts";
import { limitedNet, requireNet } from "../net_access.ts";
import {
  bindDescriptor,
  bindOwned,
  connect,
  growBuffers,
  numberZone,
  own,
  setSendOptions,
  type SocketDescriptor,
} from "./descriptor.ts";
import { type Libc, libcMissing, loadLibc } from "./libc.ts";
import { Poller } from "./poller.ts";
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
  return isBusy || isOfBoth
    ? openBusy(libc, options)
    : openClient(libc, options);
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

function openClient(libc: Libc, options: OpenOptions): DenoSocket {
  const { peer, maxDatagramBytes } = options;
  const bound = bindDescriptor(libc, options);
  try {
    setSendOptions(libc, bound, options);
    growBuffers(libc, bound.fd);
    const access = limitedNet(false);
    if (peer === undefined) {
      return new DenoSocket(bound.conn, maxDatagramBytes, access);
    }
    numberZone(libc, peer);
    return new RequestSocket(libc, bound, peer, maxDatagramBytes, access);
  } catch (error) {
    bound.close();
    throw error;
  }
}

/** The poller of all sockets of this thread. */
let poller: Poller | undefined;

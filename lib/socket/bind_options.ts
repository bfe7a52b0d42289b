/**
 * The options of binding a socket, for servers and sockets alike.
 *
 * @module
 */
import { canonicalHostname } from "../address.ts";
import * as option from "../base/options.ts";
import {
  GROUP_SEND_OPTIONS,
  type GroupSendOptions,
  MAX_PAYLOAD,
  type OpenOptions,
} from "./contract.ts";
import {
  checkGroups,
  GROUPS,
  hostnameFor,
  membershipsOf,
} from "./multicast.ts";
import "./linux_engine.ts";
import type { GroupOptions } from "./memberships.ts";
import {
  RUNTIME,
  type Runtime,
  runtimeOf,
  type RuntimeOptions,
} from "./runtime.ts";

/** Options of binding a socket. */
export interface BindOptions extends RuntimeOptions, GroupSendOptions {
  /**
   * The local port, 0 to 65,535; 0 takes any that is free.
   *
   * @default {0}
   */
  port?: number | undefined;
  /**
   * Longer datagrams are dropped whole and counted. 1 to 65,527 bytes.
   *
   * @default {65527}
   */
  maxDatagramBytes?: number | undefined;
  /**
   * Multicast groups to join: `"239.1.2.3"`, on a link of its own
   * `"239.1.2.3%eth0"` or `"ff02::123%eth0"`, and on the linux engine from one
   * source only `"192.0.2.1@232.1.2.3"` (RFC 4607). A group may be joined on
   * several links. They are left when the socket closes, and joined again within
   * two seconds on an interface that was away, with
   * `--allow-sys=networkInterfaces`. Replies leave from the machine's own address.
   *
   * @default {[]}
   */
  groups?: readonly string[] | undefined;
  /**
   * The interface for groups without one of their own: one of its IP addresses, or
   * its name, for which Deno wants `--allow-sys=networkInterfaces`. On the linux
   * engine datagrams to groups leave by it too, or by the only one of all groups.
   *
   * @default {the system's choice}
   */
  interface?: string | undefined;
  /**
   * Whether to share the port with other sockets that do (SO_REUSEPORT), on the
   * linux engine: the kernel spreads the peers over them.
   *
   * @default {false}
   */
  reusePort?: boolean | undefined;
  /**
   * Whether to share the port with other sockets that do (SO_REUSEADDR): each
   * receives the datagrams to a group, one of them all others. `serve` takes it
   * with `groups` only.
   *
   * @default {false}
   */
  reuseAddress?: boolean | undefined;
  /**
   * Whether datagrams carry their `arrivedAt`, `ttl` and `trafficClass`, on the
   * linux engine; it costs about a tenth of the rate.
   *
   * @default {false}
   */
  packetInfo?: boolean | undefined;
  /**
   * The size of the system's receive buffer with its overhead, 4,096 to
   * 1,073,741,824 bytes, on the linux engine. Datagrams that do not fit are lost
   * and counted in `stats().kernelDrops`. One message reports that the system gives
   * less.
   *
   * @default {4 MiB on the linux engine, if the system gives that, else the system's}
   */
  receiveBufferBytes?: number | undefined;
  /** Closes the socket at once when aborted, without waiting for handlers. */
  signal?: AbortSignal | undefined;
}

/** The table of {@linkcode BindOptions}. */
export const BIND = {
  port: option.integer(0, 65_535, 0),
  maxDatagramBytes: option.integer(1, MAX_PAYLOAD, MAX_PAYLOAD),
  groups: GROUPS,
  interface: option.text(),
  ...GROUP_SEND_OPTIONS,
  reusePort: option.flag(false),
  reuseAddress: option.flag(false),
  packetInfo: option.flag(false),
  receiveBufferBytes: option.integer(4096, 2 ** 30),
  signal: option.SIGNAL,
  ...RUNTIME,
} satisfies option.Table<BindOptions>;

/**
 * The binding that checked options ask for, and its runtime.
 *
 * @param options The values of {@linkcode BIND}, and a hostname.
 * @param usual The hostname where neither it nor a group is given.
 * @throws {TypeError} If hostname, groups and interface exclude each other.
 * @throws {Deno.errors.NotFound} If there is no such interface.
 * @throws The signal's reason, if it is aborted.
 */
export function bindingOf(
  options: option.Values<typeof BIND> & { hostname: string | undefined },
  usual: string,
): { binding: OpenOptions & GroupOptions; runtime: Runtime } {
  const { groups, signal, interface: named } = options;
  checkGroups(groups, named);
  const hostname = hostnameFor(groups, options.hostname, usual);
  const runtime = runtimeOf(options);
  signal?.throwIfAborted();
  const binding = {
    hostname: canonicalHostname(hostname),
    port: options.port,
    maxDatagramBytes: options.maxDatagramBytes,
    isBusy: true,
    reusePort: options.reusePort,
    reuseAddress: options.reuseAddress,
    receiveBufferBytes: options.receiveBufferBytes,
    packetInfo: options.packetInfo,
    multicastTtl: options.multicastTtl,
    loopback: options.loopback,
    groups,
    named,
    memberships: membershipsOf(groups, named, runtime.interfaces),
  };
  return { binding, runtime };
}

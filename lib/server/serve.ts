/**
 * Starts a server: its options, and their checks.
 *
 * @module
 */
import { canonicalHostname, isLocalhost, type UdpAddress } from "../address.ts";
import {
  requireInteger,
  requireMs,
  requireOptions,
  requireSignal,
  requireType,
} from "../base/errors.ts";
import { checkGuardOptions, Guard, type GuardOptions } from "./guard.ts";
import {
  checkGroups,
  hostnameFor,
  Links,
  membershipsOf,
} from "../socket/multicast.ts";
import { type Engine, type Runtime, runtimeOf } from "../socket/runtime.ts";
import { type Handler, metered } from "./handler.ts";
import { Server } from "./server.ts";
import type { Hooks, UdpServer } from "./udp_server.ts";
import { type DatagramSocket, MAX_PAYLOAD } from "../socket/contract.ts";
import { followServer, serverReadings, traced } from "./telemetry.ts";

/** Options of {@linkcode serve}. */
export interface ServeOptions extends Hooks {
  /**
   * The local IP address or host name to bind; `::` takes IPv4 and IPv6. With
   * `groups` it is `0.0.0.0` or `::`, as no others hear them.
   *
   * @default {"127.0.0.1"}
   */
  hostname?: string | undefined;
  /**
   * The local port, 0 to 65,535; 0 takes any that is free.
   *
   * @default {0}
   */
  port?: number | undefined;
  /**
   * Longer datagrams are dropped whole and counted, never cut. 1 to 65,527
   * bytes.
   *
   * @default {65527}
   */
  maxDatagramBytes?: number | undefined;
  /**
   * How many datagrams may be in the handler at once, or with a reply that the
   * system has not taken yet, 1 to 65,536. What comes above that is dropped and
   * counted. On the linux engine replies on their way out do not count, since
   * they take no more memory.
   *
   * @default {256}
   */
  maxInFlight?: number | undefined;
  /**
   * How long a handler may take, in milliseconds, 1 to 86,400,000 (a day).
   * After that its datagram counts as unanswered, with an error, and a reply
   * that still comes is not sent: handlers that never settle cannot fill
   * `maxInFlight` for good, nor hold up `shutdown()`.
   *
   * @default {10000}
   */
  handlerTimeoutMs?: number | undefined;
  /**
   * Limits on who is answered, and with how much; `false` answers everyone and
   * anything, loops included. The handler gets every datagram: only an answer
   * is withheld.
   *
   * @default {{}}
   */
  guard?: GuardOptions | false | undefined;
  /**
   * Shuts down after so many replies, and takes no more datagrams than it may
   * still answer. 1 to 1,000,000,000.
   *
   * @default {no limit}
   */
  maxReplies?: number | undefined;
  /** Closes the server at once when aborted, without waiting for handlers. */
  signal?: AbortSignal | undefined;
  /** Called with the bound address before `serve` returns. */
  onListen?: ((addr: UdpAddress) => void) | undefined;
  /**
   * Whether the handler gets its data without a copy, in bytes that belong to
   * the server: they are received into again when the handler has settled and
   * its reply is sent. Keep them with `data.slice()`. Returning `data`, or a
   * part of it, is then an echo without a copy.
   *
   * @default {false}
   */
  lend?: boolean | undefined;
  /**
   * Whether OpenTelemetry is given the counts, where Deno runs with it
   * (`OTEL_DENO=true`). They are read each second, so that no datagram pays for
   * it.
   *
   * @default {true}
   */
  telemetry?: boolean | undefined;
  /**
   * Whether each call of the handler is a span of OpenTelemetry, where Deno runs
   * with it.
   *
   * @default {false}
   */
  trace?: boolean | undefined;
  /**
   * How sockets are made, see {@linkcode Engine}.
   *
   * @default {"deno"}
   */
  engine?: Engine | undefined;
  /**
   * Whether to share the port with other servers that do (SO_REUSEPORT), on the
   * linux engine: the kernel spreads the peers over them.
   *
   * @default {false}
   */
  reusePort?: boolean | undefined;
  /**
   * How many bytes of datagrams the system is to keep until the server reads
   * them, with its overhead, 4,096 to 1,073,741,824; on the linux engine. What
   * does not fit is lost: `stats().kernelDrops`. Where the system gives less, it
   * is said once.
   *
   * @default {4 MiB on the linux engine, if the system gives that, else the system's}
   */
  receiveBufferBytes?: number | undefined;
  /**
   * Multicast groups to join, such as `"239.1.2.3"`; IPv6 with the interface as
   * its zone (`"ff02::123%eth0"`), or by `interface`. They are left when the
   * server closes. Replies leave from the machine's own address.
   *
   * @default {[]}
   */
  groups?: readonly string[] | undefined;
  /**
   * By which interface the groups are joined: one of its IP addresses, or its
   * name, for which Deno wants `--allow-sys=networkInterfaces`.
   *
   * @default {the system's choice}
   */
  interface?: string | undefined;
  /**
   * Waits for a random time up to so many milliseconds, 0 to 86,400,000 (a day),
   * before it answers what came to a group, so that not all members answer at
   * once (as the MX of SSDP has it). The deno engine, which is not told what
   * came to a group, then does so for all datagrams. At `shutdown()` all that
   * waits is sent.
   *
   * @default {0}
   */
  groupDelayMs?: number | undefined;
  /**
   * Whether to share the port with others that do (SO_REUSEADDR); with `groups`,
   * as each then hears what comes to a group, but only one of them all else.
   *
   * @default {false}
   */
  reuseAddress?: boolean | undefined;
  /**
   * Whether `info.ttl` and `info.trafficClass` are told, on the linux engine;
   * it costs about a tenth of the rate.
   *
   * @default {false}
   */
  packetInfo?: boolean | undefined;
  /**
   * Sockets and time; for tests.
   *
   * @default {runtimeFor(engine)}
   */
  runtime?: Runtime | undefined;
}

/** The defaults of {@linkcode ServeOptions}. */
export const SERVE_DEFAULTS = {
  hostname: "127.0.0.1",
  port: 0,
  maxDatagramBytes: MAX_PAYLOAD,
  maxInFlight: 256,
  handlerTimeoutMs: 10_000,
  lend: false,
  quiet: false,
  reusePort: false,
  reuseAddress: false,
  groupDelayMs: 0,
  packetInfo: false,
  telemetry: true,
  trace: false,
} as const;

/**
 * Answers UDP datagrams, on 127.0.0.1 at any port that is free unless options
 * say otherwise, which come first: `serve(options, handler)`.
 *
 * What goes wrong is counted, and said on stderr unless `onError`, `onRefuse` or
 * `onOverload` are there to hear of it, or `quiet` is set: errors of handlers at
 * most once a second for each kind, all else once.
 *
 * @param handler Makes the reply to each datagram.
 * @returns The running server.
 * @throws {RangeError} If a number among the options is out of range.
 * @throws {TypeError} If an option, or the handler, is of a wrong type.
 * @throws {Deno.errors.NotFound} If `hostname` is a name that does not resolve,
 * or there is no such `interface`.
 * @throws {Deno.errors.AddrInUse} If the port is taken.
 * @throws {Deno.errors.AddrNotAvailable} If `hostname` is not this machine's.
 * @throws {Deno.errors.NotCapable} Without permission to use the address, or
 * with `groups` to see the machine's interfaces.
 * @throws {Deno.errors.NotSupported} If Deno runs without its unstable net API.
 *
 * @example
 * ```ts
 * import { request, serve } from "@roundtrip/udp";
 * import { assertEquals } from "@std/assert";
 *
 * await using server = serve({ port: 0 }, (data) => data);
 * const reply = await request(server.addr, "ping");
 * assertEquals(reply.data, new TextEncoder().encode("ping"));
 * ```
 */
export function serve(handler: Handler): UdpServer;
/**
 * Answers UDP datagrams, as {@linkcode serve} with a handler alone does, with
 * options.
 *
 * @param options Where to listen, and the limits.
 * @param handler Makes the reply to each datagram.
 * @returns The running server.
 */
export function serve(options: ServeOptions, handler: Handler): UdpServer;
export function serve(
  ...args: [Handler] | [ServeOptions, Handler]
): UdpServer {
  const [options, handler] = args.length > 1
    ? args as [ServeOptions, Handler]
    : [{} as ServeOptions, args[0] as Handler];
  requireOptions("options", options);
  const {
    groups = [],
    port = SERVE_DEFAULTS.port,
    maxDatagramBytes = SERVE_DEFAULTS.maxDatagramBytes,
    maxInFlight = SERVE_DEFAULTS.maxInFlight,
    handlerTimeoutMs = SERVE_DEFAULTS.handlerTimeoutMs,
    reusePort = SERVE_DEFAULTS.reusePort,
    reuseAddress = SERVE_DEFAULTS.reuseAddress,
    groupDelayMs = SERVE_DEFAULTS.groupDelayMs,
    packetInfo = SERVE_DEFAULTS.packetInfo,
    receiveBufferBytes,
    guard = {},
    maxReplies = Infinity,
    signal,
    lend = SERVE_DEFAULTS.lend,
    quiet = SERVE_DEFAULTS.quiet,
    telemetry = SERVE_DEFAULTS.telemetry,
    trace = SERVE_DEFAULTS.trace,
    onListen = () => {},
    onError,
    onRefuse,
    onOverload,
  } = options;
  requireSignal(signal);
  if (options.hostname !== undefined) {
    requireType("hostname", "string", options.hostname);
  }
  checkGroups(groups, options.interface);
  const usual = SERVE_DEFAULTS.hostname;
  const hostname = hostnameFor(groups, options.hostname, usual);
  requireInteger("port", port, 0, 65_535);
  requireInteger("maxDatagramBytes", maxDatagramBytes, 1, MAX_PAYLOAD);
  requireInteger("maxInFlight", maxInFlight, 1, 65_536);
  requireMs("handlerTimeoutMs", handlerTimeoutMs, 1);
  requireType("reusePort", "boolean", reusePort);
  requireType("packetInfo", "boolean", packetInfo);
  requireType("reuseAddress", "boolean", reuseAddress);
  requireMs("groupDelayMs", groupDelayMs, 0);
  if (groups.length === 0 && (reuseAddress || groupDelayMs > 0)) {
    const name = reuseAddress ? "reuseAddress" : "groupDelayMs";
    throw new TypeError(`'${name}' needs 'groups', which it is for`);
  }
  if (receiveBufferBytes !== undefined) {
    requireInteger("receiveBufferBytes", receiveBufferBytes, 4096, 2 ** 30);
  }
  if (maxReplies !== Infinity) {
    requireInteger("maxReplies", maxReplies, 1, 1_000_000_000);
  }
  if (guard !== false) checkGuardOptions(guard);
  requireType("handler", "function", handler);
  requireType("onListen", "function", onListen);
  for (
    const [name, hook] of Object.entries({ onError, onRefuse, onOverload })
  ) {
    if (hook !== undefined) requireType(name, "function", hook);
  }
  requireType("lend", "boolean", lend);
  requireType("quiet", "boolean", quiet);
  requireType("telemetry", "boolean", telemetry);
  requireType("trace", "boolean", trace);
  const runtime = runtimeOf(options);
  signal?.throwIfAborted();
  const memberships = membershipsOf(
    groups,
    options.interface,
    runtime.interfaces,
  );
  const links = groups.length > 0 && guard !== false && !guard.answerOffLink
    ? new Links(runtime)
    : undefined;
  const open = (hostname: string) =>
    runtime.open({
      hostname,
      port,
      maxDatagramBytes,
      isBusy: true,
      reusePort,
      reuseAddress,
      receiveBufferBytes,
      packetInfo,
      memberships,
    });
  const socket = isLocalhost(hostname)
    ? openLocalhost(open)
    : open(canonicalHostname(hostname));
  try {
    onListen(socket.addr);
  } catch (error) {
    socket.close();
    throw error;
  }
  const server = new Server(socket, {
    handler: trace ? traced(handler) : handler,
    lend,
    quiet,
    onError,
    onRefuse,
    onOverload,
    maxInFlight,
    maxReplies,
    handlerTimeoutMs,
    groupDelayMs,
    links,
    runtime,
    signal,
    guard: guard === false ? undefined : new Guard(guard, socket.addr, runtime),
    loops: guard !== false && guard.loops !== false,
  });
  if (telemetry) {
    const counted = metered.get(handler);
    followServer(
      server.addr,
      server.finished,
      () => serverReadings(server.stats(), counted?.()),
    );
  }
  return server;
}

/** Where a client looks for it first, whatever the order of the hosts file. */
function openLocalhost(
  open: (hostname: string) => DatagramSocket,
): DatagramSocket {
  try {
    return open("127.0.0.1");
  } catch (error) {
    // The permission may be for the name.
    if (error instanceof Deno.errors.NotCapable) return open("localhost");
    throw error;
  }
}

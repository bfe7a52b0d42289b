/**
 * Starts a server: its options, and their checks.
 *
 * @module
 */
import { isLocalhost, type UdpAddress } from "../address.ts";
import * as option from "../base/options.ts";
import { GUARD, Guard, type GuardOptions } from "./guard.ts";
import { BIND, bindingOf, type BindOptions } from "../socket/bind_options.ts";
import { Links } from "../socket/multicast.ts";
import { type Handler, traitsOf } from "./handler.ts";
import { Server } from "./server.ts";
import type { Hooks, UdpServer } from "./udp_server.ts";
import type { DatagramSocket } from "../socket/contract.ts";
import { observeServer, serverReadings, traced } from "./telemetry.ts";

/** Options of {@linkcode serve}. */
export interface ServeOptions extends BindOptions, Hooks {
  /**
   * The local IP address or host name to bind; `::` takes IPv4 and IPv6. With
   * `groups` it is `0.0.0.0` or `::`, as no others hear them.
   *
   * @default {"127.0.0.1"}
   */
  hostname?: string | undefined;
  /**
   * The largest number of datagrams in the handler, or with a reply that the
   * system has not taken yet, 1 to 65,536. Datagrams above that are dropped
   * and counted. On the linux engine replies in flight do not count, since they
   * take no memory of the socket.
   *
   * @default {256}
   */
  maxInFlight?: number | undefined;
  /**
   * The time-out of a handler, in milliseconds, 1 to 86,400,000 (a day).
   * After that its datagram counts as unanswered, with an error, and a later
   * reply is not sent: handlers that never settle cannot fill
   * `maxInFlight` for good, nor hold up `shutdown()`.
   *
   * @default {10000}
   */
  handlerTimeoutMs?: number | undefined;
  /**
   * Limits on the sources, sizes and rates of answers; `false` answers everyone
   * and anything, loops included. The handler gets every datagram: only an answer
   * is withheld.
   *
   * @default {{}}
   */
  guard?: GuardOptions | false | undefined;
  /**
   * Shuts down after this number of replies, and takes no more datagrams than it
   * may still answer. 1 to 1,000,000,000.
   *
   * @default {no limit}
   */
  maxReplies?: number | undefined;
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
   * The longest random delay of an answer to a group, in milliseconds, 0 to
   * 86,400,000 (a day), so that not all members answer at once (the MX of SSDP).
   * The deno engine, which cannot recognize datagrams to a group, then delays all
   * answers. `shutdown()` sends all held answers.
   *
   * @default {0}
   */
  groupDelayMs?: number | undefined;
}

/** The table of {@linkcode ServeOptions}. */
export const SERVE = {
  hostname: option.dependent(option.host("127.0.0.1")),
  ...BIND,
  maxInFlight: option.integer(1, 65_536, 256),
  handlerTimeoutMs: option.time(1, 10_000),
  guard: option.custom<GuardOptions | false, GuardOptions>(
    "an object or false",
    (value) => value === false ? undefined : option.object().judge(value),
    {},
  ),
  maxReplies: option.orInfinity(option.integer(1, 1_000_000_000, Infinity)),
  onListen: option.callback(() => {}),
  lend: option.flag(false),
  telemetry: option.flag(true),
  trace: option.flag(false),
  groupDelayMs: option.time(0, 0),
  quiet: option.flag(false),
  onError: option.callback(),
  onRefuse: option.callback(),
  onOverload: option.callback(),
} satisfies option.Table<ServeOptions>;

/**
 * Answers UDP datagrams, on 127.0.0.1 at any free port unless options say
 * otherwise: `serve(options, handler)`.
 *
 * Failures are counted, and reported on stderr unless `onError`, `onRefuse` or
 * `onOverload` are given or `quiet` is set: errors of handlers at most once a
 * second for each kind, all others once.
 *
 * @param handler Makes the reply to each datagram.
 * @returns The running server.
 * @throws {RangeError} If a number among the options is out of range.
 * @throws {TypeError} If an option is unknown, or it or the handler is of a
 * wrong type.
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
  const values = option.readAll("serve", SERVE, options);
  const { groups, reuseAddress, groupDelayMs, telemetry, trace } = values;
  const guard = values.guard &&
    option.readAll("guard", GUARD, values.guard, "guard");
  option.callback<Handler>().read(handler, "handler");
  if (groups.length === 0 && (reuseAddress || groupDelayMs > 0)) {
    const name = reuseAddress ? "reuseAddress" : "groupDelayMs";
    throw new TypeError(`'${name}' needs 'groups', which it is for`);
  }
  const { binding, runtime } = bindingOf(values, SERVE.hostname.default);
  const answersLinksOnly = guard !== false && !guard.answerOffLink;
  const links = groups.length > 0 && answersLinksOnly
    ? new Links(runtime)
    : undefined;
  const open = (hostname: string) => runtime.open({ ...binding, hostname });
  const socket = isLocalhost(binding.hostname)
    ? openLocalhost(open)
    : runtime.open(binding);
  try {
    values.onListen(socket.addr);
  } catch (error) {
    socket.close();
    throw error;
  }
  let endTelemetry = () => {};
  const server = new Server(socket, {
    ...values,
    handler: trace ? traced(handler) : handler,
    links,
    answersLinksOnly,
    groups: binding,
    runtime,
    guard: guard ? new Guard(guard, socket.addr, runtime) : undefined,
    loops: guard && guard.loops,
    onClosed: () => endTelemetry(),
  });
  if (telemetry) {
    const { readings } = traitsOf(handler);
    endTelemetry = observeServer(
      server.addr,
      () => serverReadings(server.stats(), readings?.()),
    );
  }
  return server;
}

/** Binds 127.0.0.1 for `localhost`, which clients try first; ::1 without IPv4. */
function openLocalhost(
  open: (hostname: string) => DatagramSocket,
): DatagramSocket {
  try {
    return open("127.0.0.1");
  } catch (error) {
    // The permission may be for the name.
    if (error instanceof Deno.errors.NotCapable) return open("localhost");
    if (error instanceof Deno.errors.AddrNotAvailable) return open("::1");
    throw error;
  }
}

/**
 * Both ends of a client: checked at the call, resolved to IP addresses when the
 * run begins.
 *
 * @module
 */
import {
  canonicalHostname,
  formatAddress,
  ipVersion,
  isLinkLocal,
  isWildcard,
  parseAddress,
  type UdpAddress,
  withoutZone,
} from "../address.ts";
import { isTooLong, zoneNeeded } from "../base/errors.ts";
import * as option from "../base/options.ts";
import {
  addressesOf,
  RUNTIME,
  type Runtime,
  type RuntimeOptions,
} from "../socket/runtime.ts";
import {
  type DatagramSocket,
  MAX_PAYLOAD,
  MAX_PAYLOAD_IPV4,
  PEER,
  SEND_OPTIONS,
  type SendOptions,
  sendOptionsOf,
} from "../socket/contract.ts";

/** The local end of a client, and the fields of its datagrams' headers. */
export interface OriginOptions extends SendOptions, RuntimeOptions {
  /**
   * The local IP address or host name to send from.
   *
   * @default {"0.0.0.0" or "::", as the target is}
   */
  localHostname?: string | undefined;
  /**
   * The local port to send from, 0 to 65,535. In a series each datagram has one
   * of its own, so that this must be 0 there.
   *
   * @default {0, any that is free}
   */
  localPort?: number | undefined;
  /**
   * Whether counts and RTTs are exported by OpenTelemetry, and of `request` a
   * span, where Deno runs with it (`OTEL_DENO=true`).
   *
   * @default {true}
   */
  telemetry?: boolean | undefined;
  /** Ends the client when aborted: promises and iterations fail with its reason. */
  signal?: AbortSignal | undefined;
}

/** The table of {@linkcode OriginOptions}. */
export const ORIGIN = {
  ...SEND_OPTIONS,
  localHostname: option.host(),
  localPort: option.integer(0, 65_535, 0),
  telemetry: option.flag(true),
  signal: option.SIGNAL,
  ...RUNTIME,
} satisfies option.Table<OriginOptions>;

/** Both ends as the caller named them. */
export interface NamedEnds {
  target: UdpAddress;
  localHostname: string | undefined;
  options: option.Values<typeof ORIGIN>;
  /** The size of the payload, in bytes. */
  payloadBytes: number;
}

/** Both ends as IP addresses of one version. */
export interface Ends {
  target: UdpAddress;
  /** The address to bind, and the fields of the header. */
  local: UdpAddress & SendOptions;
  /** The ends to try where these cannot be reached: another address of the name. */
  next?: Ends | undefined;
}

/**
 * Checks both ends as far as possible before a name is resolved. Throws a SyntaxError,
 * RangeError or TypeError, as documented at each client.
 */
export function checkEnds(
  address: UdpAddress | string,
  options: option.Values<typeof ORIGIN>,
  payloadBytes: number,
): NamedEnds {
  if (typeof address !== "string" && typeof address !== "object" || !address) {
    throw new TypeError(
      `'address' must be "HOST:PORT", or have 'hostname' and 'port': current value is ${
        String(address)
      }`,
    );
  }
  const asked = typeof address === "string" ? parseAddress(address) : address;
  const target = {
    hostname: canonicalHostname(
      PEER.hostname.read(asked.hostname, "hostname"),
    ),
    port: PEER.port.read(asked.port, "port"),
  };
  const localHostname = options.localHostname &&
    canonicalHostname(options.localHostname);
  requireReachable(target, localHostname, linkOf(options));
  requireFit(payloadBytes, maxPayload(target.hostname));
  return { target, localHostname, options, payloadBytes };
}

/**
 * Resolves both names, once, and checks both ends again. An end that is an IP address
 * decides the version of the other. Of several addresses, those of IPv4 first, only
 * those are used that this machine has a permission and a route for, if any.
 */
export async function resolveEnds(
  named: NamedEnds,
  runtime: Runtime,
): Promise<Ends> {
  const { target: { hostname, port }, options } = named;
  const [targets, locals] = await Promise.all([
    addressesOf(hostname, runtime),
    named.localHostname && addressesOf(named.localHostname, runtime),
  ]);
  const pairs = targets.map((hostname): Ends => {
    const version = ipVersion(hostname);
    const local = locals
      ? locals.find((one) => ipVersion(one) === version) ?? locals[0]!
      : version === 4
      ? "0.0.0.0"
      : "::";
    return {
      target: Object.freeze({ hostname, port }),
      local: {
        ...sendOptionsOf(options),
        hostname: local,
        port: options.localPort,
      },
    };
  });
  const isAlike = ({ target, local }: Ends) =>
    ipVersion(target.hostname) === ipVersion(local.hostname);
  const usable = pairs.filter(isAlike);
  if (locals?.includes("::")) {
    usable.push(...pairs.filter((ends) => !isAlike(ends)));
  }
  const routed = usable.length > 1 ? await withRoute(usable, runtime) : usable;
  const all = routed.length > 0 ? routed : [usable[0] ?? pairs[0]!];
  for (const { target, local } of all) {
    requireReachable(target, local.hostname, linkOf(options));
    requireFit(named.payloadBytes, maxPayload(target.hostname));
  }
  all.forEach((ends, i) => ends.next = all[i + 1]);
  return all[0]!;
}

/** The pairs of ends that this machine may use, and has a route for. */
async function withRoute(all: Ends[], runtime: Runtime): Promise<Ends[]> {
  const routed = [];
  for (const ends of all) {
    const isGranted = runtime.isPermitted(ends.target);
    if (isGranted && await hasRoute(ends, runtime)) routed.push(ends);
  }
  return routed;
}

/**
 * Whether the system has a route. Nothing leaves: it looks for the route before it
 * refuses a datagram that is longer than IP carries.
 */
async function hasRoute(
  { target, local }: Ends,
  runtime: Runtime,
): Promise<boolean> {
  let socket: DatagramSocket | undefined;
  try {
    const options = { maxDatagramBytes: 1, peer: target };
    socket = runtime.open({ ...local, port: 0, ...options });
    await socket.send(new Uint8Array(MAX_PAYLOAD + 1), target);
    return true;
  } catch (error) {
    return isTooLong(error);
  } finally {
    socket?.close();
  }
}

/** Whether a datagram is from the target. */
export function comesFrom(remote: UdpAddress, target: UdpAddress): boolean {
  // The zone is the interface to send by; not every reply carries it.
  return remote.port === target.port &&
    (remote.hostname === target.hostname ||
      withoutZone(remote.hostname) === withoutZone(target.hostname));
}

/** The interface by which a client sends, if it is named. */
function linkOf(options: SendOptions & { interface?: string | undefined }) {
  return options.interface ?? options.device;
}

function requireReachable(
  target: UdpAddress,
  local: string | undefined,
  link: string | undefined,
): void {
  const { hostname } = target;
  const hasLink = link !== undefined || local?.includes("%");
  if (isLinkLocal(hostname) && !hasLink) {
    throw new TypeError(
      `Cannot send to ${formatAddress(target)}: ${zoneNeeded(hostname)}`,
    );
  }
  if (isWildcard(hostname)) {
    const one = hostname === "::" ? "[::1]" : "127.0.0.1";
    throw new TypeError(
      `Cannot send to ${formatAddress(target)}: it means all addresses of a ` +
        `machine; name one, such as ${one}`,
    );
  }
  const versions = [ipVersion(hostname), local && ipVersion(local)];
  // An IPv6 wildcard socket reaches IPv4 too.
  if (
    !versions.includes(undefined) && versions[0] !== versions[1] &&
    local !== "::"
  ) {
    throw new TypeError(
      `Cannot send to ${formatAddress(target)} from ${local}: ` +
        "both ends must be IPv4, or both IPv6",
    );
  }
}

/** The largest payload of a datagram to an address, in bytes. */
export function maxPayload(hostname: string): number {
  return ipVersion(hostname) === 4 ? MAX_PAYLOAD_IPV4 : MAX_PAYLOAD;
}

/** Throws a RangeError if a payload is larger than {@linkcode maxPayload}. */
export function requireFit(payloadBytes: number, max: number): void {
  if (payloadBytes <= max) return;
  const udp = max === MAX_PAYLOAD_IPV4 ? "UDP over IPv4" : "UDP";
  throw new RangeError(
    `Cannot send ${payloadBytes} bytes in one datagram: ${udp} takes at most ${max}`,
  );
}

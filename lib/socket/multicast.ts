/**
 * Multicast groups: the interfaces by which they are joined, and the links whose
 * hosts are answered.
 *
 * @module
 */
import {
  canonicalHostname,
  ipVersion,
  isInNetwork,
  isMulticast,
  isWildcard,
  type Network,
  parseNetwork,
  type UdpAddress,
  withoutZone,
  zoneOf,
} from "../address.ts";
import * as option from "../base/options.ts";

/** A group, and the interface that it is joined by. */
export interface Membership {
  /** The group's IP address. */
  group: string;
  /** The only source whose datagrams are received (RFC 4607); undefined: all. */
  source?: string | undefined;
  /** For IPv4: an address of the interface; `0.0.0.0` leaves it to the system. */
  address: string;
  /** The number of the interface; 0 if it is not known, and left to the system. */
  index: number;
}

/** The parts of `[SOURCE@]GROUP[%INTERFACE]`, the addresses in canonical form. */
export function parseGroup(
  text: string,
): { source: string | undefined; group: string; zone: string | undefined } {
  const parts = text.split("@");
  const named = parts.pop()!;
  const source = parts.length === 0 ? undefined : parts.join("@");
  return {
    source: source && canonicalHostname(source),
    group: canonicalHostname(withoutZone(named)),
    zone: zoneOf(named),
  };
}

/** One address of an interface, with its network. */
export type Interface = Pick<
  Deno.NetworkInterfaceInfo,
  "name" | "family" | "address" | "scopeid" | "cidr"
>;

/** The option `groups`. */
export const GROUPS = option.list<string, readonly string[]>(option.text(), []);

/**
 * Checks groups and the interface among the options, without the system.
 *
 * @throws {TypeError} If one is no multicast address, or there is an interface
 * but no group.
 */
export function checkGroups(
  groups: readonly string[],
  named: string | undefined,
): void {
  for (const text of GROUPS.read(groups, "groups")) {
    const { source, group } = parseGroup(text);
    const version = ipVersion(group);
    if (version === undefined || !isMulticast(group)) {
      throw new TypeError(
        `'${text}' is no multicast group: these are 224.0.0.0 to 239.255.255.255, and ff00::/8 of IPv6`,
      );
    }
    if (
      source !== undefined &&
      (ipVersion(source) !== version || isMulticast(source))
    ) {
      throw new TypeError(
        `'${text}' has no source: write the IP address of a host before the '@', such as 192.0.2.1@232.1.2.3`,
      );
    }
  }
  if (named !== undefined && groups.length === 0) {
    throw new TypeError("'interface' needs 'groups', which it is for");
  }
}

/**
 * The address to bind: with groups the wildcard, as a socket that is bound to any
 * other address receives nothing sent to a group; without groups the one given, or
 * the usual one.
 *
 * @throws {TypeError} If `hostname` is another one, or of IPv4 alone for a group
 * of IPv6.
 */
export function hostnameFor(
  groups: readonly string[],
  hostname: string | undefined,
  usual: string,
): string {
  if (groups.length === 0) return hostname ?? usual;
  const needsIPv6 = groups.some((text) =>
    ipVersion(parseGroup(text).group) === 6
  );
  if (hostname === undefined) return needsIPv6 ? "::" : "0.0.0.0";
  const canonical = canonicalHostname(hostname);
  if (isWildcard(canonical) && !(needsIPv6 && canonical !== "::")) {
    return hostname;
  }
  const needed = needsIPv6 ? "'::'" : "'0.0.0.0' or '::'";
  throw new TypeError(
    `'groups' needs hostname ${needed}, as no group reaches '${hostname}'`,
  );
}

/**
 * The interfaces by which groups are joined: the zone of a group, else the one named
 * by its name or one of its addresses.
 *
 * @throws {Deno.errors.NotFound} If there is no such interface.
 */
export function membershipsOf(
  groups: readonly string[],
  named: string | undefined,
  interfaces: () => readonly Interface[],
): Membership[] {
  return groups.map((text) => {
    const { source, group, zone } = parseGroup(text);
    const wanted = zone ?? named;
    const isIPv6 = ipVersion(group) === 6;
    const address = "0.0.0.0";
    const any = source === undefined
      ? { group, address, index: 0 }
      : { group, source, address, index: 0 };
    if (wanted === undefined) return any;
    if (isIPv6 && /^\d+$/.test(wanted)) {
      return { ...any, index: Number(wanted) };
    }
    let all: readonly Interface[];
    try {
      all = interfaces();
    } catch (error) {
      // The system itself knows an address; only a name has to be looked up.
      if (!isIPv6 && ipVersion(wanted) === 4) {
        return { ...any, address: wanted };
      }
      throw error;
    }
    const name = all.find(({ address }) => address === wanted)?.name ?? wanted;
    const family = isIPv6 ? "IPv6" : "IPv4";
    // Only a link-local address has the number.
    const found = all.find((one) =>
      one.name === name && one.family === family && (!isIPv6 || one.scopeid)
    );
    if (found === undefined) {
      const names = [...new Set(all.map(({ name }) => name))].join(", ");
      throw new Deno.errors.NotFound(
        `There is no interface '${wanted}' with ${family}: there are ${names}`,
      );
    }
    // Only another of its addresses may have the number of an IPv4 interface.
    const { scopeid } = all.find((one) => one.name === name && one.scopeid) ??
      found;
    return { ...any, address: found.address, index: scopeid ?? 0 };
  });
}

/** Whether a local address may be a group: the wildcard, where an engine sees none. */
export function mayBeGroup({ hostname }: UdpAddress): boolean {
  return isMulticast(hostname) || isWildcard(hostname);
}

/** The broadcast addresses of the networks of interfaces (RFC 919). */
export function broadcastsOf(interfaces: readonly Interface[]): string[] {
  return interfaces.map(({ cidr }) => parseNetwork(cidr))
    // A link of two hosts has none (RFC 3021).
    .filter(({ groups, bits }) => groups.length === 4 && bits < 31)
    .map(({ groups, bits }) =>
      groups.map((part, i) =>
        part | 255 >> Math.min(Math.max(bits - 8 * i, 0), 8)
      ).join(".")
    );
}

/** A clock, and this machine's interfaces. */
interface System {
  now(): number;
  interfaces(): readonly Interface[];
}

/** The networks on this machine's links. */
export class Links {
  readonly #system: System;
  #networks: Network[] = [];
  #at = -Infinity;

  /** Reads the interfaces, so that a missing permission is known at once. */
  constructor(system: System) {
    this.#system = system;
    try {
      this.#look();
    } catch (error) {
      if (!(error instanceof Deno.errors.NotCapable)) throw error;
      throw new Deno.errors.NotCapable(
        `Groups are answered on this machine's links only, which ` +
          `--allow-sys=networkInterfaces lets it know; guard.answerOffLink answers all`,
        { cause: error },
      );
    }
  }

  /** Whether an IP address is on one of the links, as of some seconds ago. */
  has(hostname: string): boolean {
    if (this.#system.now() - this.#at > LINKS_MS) this.#look();
    return this.#networks.some((network) => isInNetwork(network, hostname));
  }

  #look(): void {
    this.#at = this.#system.now();
    const all = this.#system.interfaces();
    this.#networks = all.map(({ cidr }) => parseNetwork(cidr));
  }
}

/** Addresses of a machine change now and then. */
const LINKS_MS = 5000;

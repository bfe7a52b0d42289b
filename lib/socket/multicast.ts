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
  /** For IPv4: an address of the interface; `0.0.0.0` leaves it to the system. */
  address: string;
  /** For IPv6: the number of the interface; 0 leaves it to the system. */
  index: number;
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
  for (const group of GROUPS.read(groups, "groups")) {
    const isAddress = ipVersion(group) !== undefined;
    if (isAddress && isMulticast(canonicalHostname(group))) continue;
    throw new TypeError(
      `'${group}' is no multicast group: these are 224.0.0.0 to 239.255.255.255, and ff00::/8 of IPv6`,
    );
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
  const needsIPv6 = groups.some((group) => ipVersion(group) === 6);
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
 * The interfaces by which groups are joined: the zone of an IPv6 address, else the
 * one named by its name or one of its addresses.
 *
 * @throws {Deno.errors.NotFound} If there is no such interface.
 */
export function membershipsOf(
  groups: readonly string[],
  named: string | undefined,
  interfaces: () => readonly Interface[],
): Membership[] {
  return groups.map((text) => {
    const group = withoutZone(canonicalHostname(text));
    const wanted = zoneOf(text) ?? named;
    const isIPv6 = ipVersion(group) === 6;
    const any = { group, address: "0.0.0.0", index: 0 };
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
    return { group, address: found.address, index: found.scopeid ?? 0 };
  });
}

/** Whether a local address may be a group: the wildcard, where an engine sees none. */
export function mayBeGroup({ hostname }: UdpAddress): boolean {
  return isMulticast(hostname) || isWildcard(hostname);
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

/**
 * The groups of a socket of Deno's own.
 *
 * @module
 */
import { ipVersion, isWildcard } from "../address.ts";
import { joinError } from "../base/errors.ts";
import type { OpenOptions } from "./contract.ts";
import type { Membership } from "./multicast.ts";

/** The memberships of one socket. */
export class DenoGroups {
  readonly #conn: Deno.DatagramConn;
  readonly #joined = new Map<Membership, { leave(): Promise<void> }>();

  constructor(conn: Deno.DatagramConn) {
    this.#conn = conn;
  }

  /**
   * Joins groups and sets the multicast TTL, in the background; undefined for none.
   *
   * @throws {Deno.errors.NotSupported} If Deno has no way to do it.
   */
  prepare(
    { memberships = [], multicastTtl }: OpenOptions,
  ): Promise<unknown> | undefined {
    memberships.forEach(requireAnySource);
    const steps = memberships.map((one) => this.set(one, true));
    if (multicastTtl !== undefined) {
      const { hostname } = this.#conn.addr as Deno.NetAddr;
      if (ipVersion(hostname) === 6) {
        throw new Deno.errors.NotSupported(
          "Cannot set the hop limit of IPv6 groups on the deno engine: 'multicastTtl' needs engine 'linux'",
        );
      }
      steps.push(this.#setTtl(hostname, multicastTtl));
    }
    return steps.length === 0 ? undefined : Promise.all(steps);
  }

  /** Joins a group, or leaves one by the same object. */
  async set(membership: Membership, isMember: boolean): Promise<void> {
    if (!isMember) {
      const joined = this.#joined.get(membership);
      this.#joined.delete(membership);
      return await joined?.leave();
    }
    requireAnySource(membership);
    const { group, address, index } = membership;
    try {
      const joined = await (ipVersion(group) === 6
        ? this.#conn.joinMulticastV6(group, index)
        : this.#conn.joinMulticastV4(group, address));
      this.#joined.set(membership, joined);
    } catch (error) {
      throw joinError(error, group);
    }
  }

  /**
   * Sets the TTL by way of a membership, as Deno has no other. Every host is in the
   * group of all hosts, and no report is sent for it (RFC 2236, section 6).
   */
  async #setTtl(hostname: string, ttl: number): Promise<void> {
    const address = isWildcard(hostname) ? "127.0.0.1" : hostname;
    const membership = await this.#conn.joinMulticastV4("224.0.0.1", address);
    await membership.setTTL(ttl);
    await membership.leave();
  }
}

function requireAnySource({ group, source }: Membership): void {
  if (source === undefined) return;
  throw new Deno.errors.NotSupported(
    `Cannot join ${source}@${group} on the deno engine: a single source needs engine 'linux'`,
  );
}

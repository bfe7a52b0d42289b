/**
 * The groups of an open socket: joined and left by their names, and joined again on
 * an interface that was away.
 *
 * @module
 */
import type { DatagramSocket, OpenOptions } from "./contract.ts";
import {
  checkGroups,
  hostnameFor,
  type Interface,
  type Membership,
  membershipsOf,
  parseGroup,
} from "./multicast.ts";
import type { Runtime } from "./runtime.ts";

/** A socket that joins and leaves groups while it is open. */
export interface GroupMember {
  /**
   * Joins a multicast group, as the option `groups` does. One that is joined stays
   * so. It is left when the socket closes.
   *
   * @param group `GROUP`, `SOURCE@GROUP` or either with `%INTERFACE`.
   * @throws {TypeError} If it is no group, or the socket is not bound to `0.0.0.0` or
   * `::`.
   * @throws {Deno.errors.NotFound} If there is no such interface.
   * @throws {Deno.errors.NotSupported} For a single source on the deno engine.
   * @throws {Error} If the system refuses, with its error as the cause.
   */
  join(group: string): Promise<void>;
  /**
   * Leaves a group.
   *
   * @param group The text that it was joined by.
   * @throws {TypeError} If no group was joined by it.
   */
  leave(group: string): Promise<void>;
}

/** How a group is joined, and the interfaces that this was decided by, as text. */
interface Joined {
  /** Undefined while the interface is away. */
  membership: Membership | undefined;
  basis: string;
}

/** The memberships of one socket. */
export class Memberships implements GroupMember {
  readonly #socket: DatagramSocket;
  readonly #runtime: Runtime;
  readonly #hostname: string;
  readonly #named: string | undefined;
  readonly #onError: (error: unknown) => void;
  readonly #joined = new Map<string, Joined>();
  #cancelLook: (() => void) | undefined;
  #isClosed = false;

  /** Takes a socket that has joined the groups among its options. */
  constructor(
    socket: DatagramSocket,
    { groups, named, hostname, memberships = [] }: GroupOptions,
    runtime: Runtime,
    onError: (error: unknown) => void,
  ) {
    this.#socket = socket;
    this.#runtime = runtime;
    this.#hostname = hostname;
    this.#named = named;
    this.#onError = onError;
    if (groups.length === 0) return;
    const interfaces = this.#interfaces();
    groups.forEach((text, i) => {
      const basis = this.#basis(text, memberships[i], interfaces);
      this.#joined.set(text, { membership: memberships[i], basis });
    });
    this.#lookLater();
  }

  /** As {@linkcode GroupMember} has it. */
  async join(text: string): Promise<void> {
    checkGroups([text], undefined);
    hostnameFor([text], this.#hostname, this.#hostname);
    if (this.#joined.has(text)) return;
    const membership = this.#membershipOf(text, this.#runtime.interfaces);
    const basis = this.#basis(text, membership, this.#interfaces());
    this.#joined.set(text, { membership, basis });
    try {
      await this.#socket.setMembership(membership, true);
    } catch (error) {
      this.#joined.delete(text);
      throw error;
    }
    this.#lookLater();
  }

  /** As {@linkcode GroupMember} has it. */
  async leave(text: string): Promise<void> {
    const joined = this.#joined.get(text);
    if (joined === undefined) {
      const all = [...this.#joined.keys()].join(", ") || "none";
      throw new TypeError(`Cannot leave '${text}': joined are ${all}`);
    }
    this.#joined.delete(text);
    if (joined.membership !== undefined) {
      await this.#socket.setMembership(joined.membership, false);
    }
  }

  /** Ends the looks at the interfaces. */
  close(): void {
    this.#isClosed = true;
    this.#cancelLook?.();
  }

  #lookLater(): void {
    if (
      this.#isClosed || this.#cancelLook !== undefined ||
      this.#joined.size === 0
    ) return;
    this.#cancelLook = this.#runtime.afterUnref(LOOK_MS, () => {
      this.#look()
        .finally(() => {
          this.#cancelLook = undefined;
          this.#lookLater();
        })
        .catch(this.#onError);
    });
  }

  /** Joins again where an interface has changed. */
  async #look(): Promise<void> {
    const interfaces = this.#interfaces();
    if (interfaces === undefined) return;
    for (const [text, joined] of this.#joined) {
      let now: Membership | undefined;
      try {
        now = this.#membershipOf(text, () => interfaces);
      } catch (error) {
        if (!(error instanceof Deno.errors.NotFound)) throw error;
      }
      const basis = this.#basis(text, now, interfaces);
      if (basis === joined.basis) continue;
      const before = joined.membership;
      Object.assign(joined, { membership: now, basis });
      // The system may have dropped the membership with the interface.
      if (before) {
        await this.#socket.setMembership(before, false).catch(() => {});
      }
      // It may have been left, or the socket closed, meanwhile.
      if (this.#isClosed || this.#joined.get(text) !== joined) continue;
      if (now) await this.#socket.setMembership(now, true).catch(this.#onError);
    }
  }

  #membershipOf(text: string, all: () => readonly Interface[]): Membership {
    return membershipsOf([text], this.#named, all)[0]!;
  }

  /** What a membership depends on: its interface, or all where none is named. */
  #basis(
    text: string,
    membership: Membership | undefined,
    interfaces: readonly Interface[] | undefined,
  ): string {
    const isNamed = (parseGroup(text).zone ?? this.#named) !== undefined;
    return JSON.stringify([
      membership,
      isNamed
        ? undefined
        : interfaces?.map(({ name, address }) => [name, address]),
    ]);
  }

  /** The interfaces; undefined without the permission to know them. */
  #interfaces(): readonly Interface[] | undefined {
    try {
      return this.#runtime.interfaces();
    } catch {
      return undefined;
    }
  }
}

/** The groups among the options of a socket. */
export interface GroupOptions
  extends Pick<OpenOptions, "hostname" | "memberships"> {
  groups: readonly string[];
  /** The interface for groups without one of their own. */
  named: string | undefined;
}

/** The time between two looks at the interfaces. */
const LOOK_MS = 2000;

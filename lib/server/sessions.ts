/**
 * A value for each peer of a server, from its first datagram until it is idle.
 *
 * @module
 */
import { formatAddress, type UdpAddress } from "../address.ts";
import { Link, PROOF_MS } from "../base/fair_map.ts";
import * as option from "../base/options.ts";
import { describeError } from "../base/warn.ts";
import {
  denoRuntime,
  RUNTIME,
  type Runtime,
  type RuntimeOptions,
} from "../socket/runtime.ts";

/**
 * The reason for the end of a session: no datagram for `idleMs`, a newer peer in a
 * full table, or a call of `end()` or `close()`.
 */
export type SessionEnd = "idle" | "replaced" | "ended";

/** Options of {@linkcode Sessions}. */
export interface SessionsOptions<Value>
  extends Pick<RuntimeOptions, "runtime"> {
  /**
   * The time without a datagram that ends a session, 1 to 86,400,000 ms.
   *
   * @default {60000}
   */
  idleMs?: number | undefined;
  /**
   * The largest number of sessions, 1 to 1,000,000.
   *
   * @default {1000}
   */
  max?: number | undefined;
  /** Called at the end of a session; its errors are printed on stderr. */
  onEnd?:
    | ((value: Value, why: SessionEnd, remoteAddr: UdpAddress) => unknown)
    | undefined;
}

/** The table of {@linkcode SessionsOptions}. */
export const SESSIONS = {
  idleMs: option.time(1, 60_000),
  max: option.integer(1, 1_000_000, 1000),
  onEnd: option.callback<NonNullable<SessionsOptions<never>["onEnd"]>>(),
  runtime: RUNTIME.runtime,
} satisfies option.Table<SessionsOptions<never>>;

/** A peer's place in one of the rings. */
class Session<Value> extends Link {
  constructor(
    readonly remoteAddr: UdpAddress,
    readonly value: Value,
    readonly since: number,
    /** When the peer was active last. */
    public at = since,
  ) {
    super();
  }
}

/**
 * The peers of a server, by address and port, each with a value. In a full table a
 * new peer replaces the least recently active one of those that have been active for
 * less than a second, and is refused where all have been for longer: a flood of forged
 * sources ends no session of an active peer.
 *
 * @example
 * ```ts
 * import { request, serve, Sessions } from "@roundtrip/udp";
 * import { assertEquals } from "@std/assert";
 *
 * const peers = new Sessions(({ port }) => `port ${port}`, { idleMs: 10_000 });
 * await using server = serve((_, { remoteAddr }) => peers.open(remoteAddr));
 * assertEquals((await request(server.addr, "x")).text().slice(0, 5), "port ");
 * peers.close();
 * ```
 */
export class Sessions<Value> implements Iterable<[UdpAddress, Value]> {
  readonly #make: (remoteAddr: UdpAddress) => Value;
  readonly #options: SessionsOptions<Value> & { idleMs: number; max: number };
  readonly #runtime: Runtime;
  readonly #sessions = new Map<string, Session<Value>>();
  /** Peers that have been active for a second, the least recently active first. */
  readonly #proven = new Link();
  /** All others, in the same order. */
  readonly #newcomers = new Link();
  #cancelTimer: (() => void) | undefined;

  /** Makes an empty table; `make` gives the value of a new peer. */
  constructor(
    make: (remoteAddr: UdpAddress) => Value,
    options: SessionsOptions<Value> = {},
  ) {
    option.callback().read(make, "make");
    const { idleMs, max } = option.readAll("Sessions", SESSIONS, options);
    this.#make = make;
    this.#options = { ...options, idleMs, max };
    this.#runtime = options.runtime ?? denoRuntime;
  }

  /** The number of sessions. */
  get size(): number {
    return this.#sessions.size;
  }

  /**
   * The value of a datagram's source, for which it begins a session if there is none.
   * The source counts as active now. Undefined if the table is full of active peers.
   * Throws as `make` does.
   */
  open(remoteAddr: UdpAddress): Value | undefined {
    const known = this.#touch(remoteAddr);
    if (known !== undefined) return known.value;
    const { idleMs, max } = this.#options;
    if (this.size >= max) {
      const oldest = oldestOf<Value>(this.#newcomers);
      if (oldest === undefined) return undefined;
      this.#end(oldest, "replaced");
      // `onEnd` may have opened a session in its place.
      if (this.size >= max) return undefined;
    }
    const value = this.#make(remoteAddr);
    const session = new Session(remoteAddr, value, this.#runtime.now());
    this.#sessions.set(formatAddress(remoteAddr), session);
    session.join(this.#newcomers);
    this.#cancelTimer ??= this.#runtime.afterUnref(idleMs, () => this.#sweep());
    return value;
  }

  /** As `open()`, but undefined if the source has no session. */
  get(remoteAddr: UdpAddress): Value | undefined {
    return this.#touch(remoteAddr)?.value;
  }

  /** Ends the session of a peer, if it has one. */
  end(remoteAddr: UdpAddress): void {
    const session = this.#touch(remoteAddr);
    if (session !== undefined) this.#end(session, "ended");
  }

  /** Ends all sessions. */
  close(): void {
    this.#cancelTimer?.();
    this.#cancelTimer = undefined;
    // Those that `onEnd` opens are of a table in use again.
    for (const session of [...this.#sessions.values()]) {
      this.#end(session, "ended");
    }
  }

  /** The addresses and values of all peers. */
  *[Symbol.iterator](): Generator<[UdpAddress, Value]> {
    for (const { remoteAddr, value } of this.#sessions.values()) {
      yield [remoteAddr, value];
    }
  }

  #touch(remoteAddr: UdpAddress): Session<Value> | undefined {
    const session = this.#sessions.get(formatAddress(remoteAddr));
    if (session === undefined) return undefined;
    session.at = this.#runtime.now();
    const isProven = session.at - session.since >= PROOF_MS;
    session.join(isProven ? this.#proven : this.#newcomers);
    return session;
  }

  #end(session: Session<Value>, why: SessionEnd): void {
    const { remoteAddr, value } = session;
    this.#sessions.delete(formatAddress(remoteAddr));
    session.leave();
    Promise.try(() => this.#options.onEnd?.(value, why, remoteAddr)).catch(
      (error) => this.#runtime.warn(`Sessions: ${describeError(error)}`),
    );
  }

  /** Ends the idle sessions, and sets the timer for the next one. */
  #sweep(): void {
    const now = this.#runtime.now();
    const { idleMs } = this.#options;
    let nextMs = Infinity;
    for (const ring of [this.#proven, this.#newcomers]) {
      let oldest: Session<Value> | undefined;
      while ((oldest = oldestOf(ring)) && now - oldest.at >= idleMs) {
        this.#end(oldest, "idle");
      }
      if (oldest) nextMs = Math.min(nextMs, oldest.at + idleMs - now);
    }
    this.#cancelTimer = nextMs === Infinity
      ? undefined
      : this.#runtime.afterUnref(nextMs, () => this.#sweep());
  }
}

/** The first session of a ring. */
function oldestOf<Value>(ring: Link): Session<Value> | undefined {
  return ring.next === ring ? undefined : ring.next as Session<Value>;
}

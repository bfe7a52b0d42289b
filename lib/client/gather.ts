/**
 * One datagram to a group, a broadcast address or a list, and every reply that
 * arrives in time.
 *
 * @module
 */
import {
  formatAddress,
  ipVersion,
  isMulticast,
  type UdpAddress,
  withoutZone,
} from "../address.ts";
import { isPortClosed, sendError } from "../base/errors.ts";
import * as option from "../base/options.ts";
import {
  type Payload,
  planRequest,
  REQUEST,
  type RequestOptions,
  type RequestPlan,
} from "./exchange.ts";
import { replyOf, type UdpReply } from "./reply.ts";
import { broadcastsOf, membershipsOf } from "../socket/multicast.ts";
import {
  type Datagram,
  type DatagramSocket,
  GROUP_SEND_OPTIONS,
  type GroupSendOptions,
  type Receiver,
} from "../socket/contract.ts";
import { Run, type Workload } from "./run.ts";
import {
  comesFrom,
  type Ends,
  maxPayload,
  requireFit,
  resolveEnds,
} from "./target.ts";

/** Options of {@linkcode gather}. */
export interface GatherOptions<Decoded = unknown>
  extends RequestOptions<Decoded>, GroupSendOptions {
  /**
   * The time to gather replies, in milliseconds, 1 to 86,400,000 (a day), from
   * the first send.
   *
   * @default {1000}
   */
  timeoutMs?: number | undefined;
  /**
   * The number of retransmissions, 0 to 100, spread evenly over `timeoutMs`; of
   * a list only to the servers that have not answered.
   *
   * @default {0}
   */
  retries?: number | undefined;
  /**
   * The number of replies after which to end, 1 to 1,000,000.
   *
   * @default {no limit}
   */
  maxReplies?: number | undefined;
  /**
   * Whether to give every reply of a responder. Otherwise its first one counts,
   * and the others are `duplicates`.
   *
   * @default {false}
   */
  every?: boolean | undefined;
  /**
   * The interface to send by to groups and broadcast addresses: one of its IP
   * addresses, or its name, which needs `--allow-sys=networkInterfaces`.
   *
   * @default {the system's choice}
   */
  interface?: string | undefined;
  /**
   * Whether an address is a broadcast address, whose receivers may all answer. Those
   * that end in `.255` are, and those of this machine's own networks, which
   * `--allow-sys=networkInterfaces` lets it know.
   *
   * @default {false}
   */
  broadcast?: boolean | undefined;
}

/** The table of {@linkcode GatherOptions}. */
export const GATHER = {
  ...REQUEST,
  ...GROUP_SEND_OPTIONS,
  retries: option.integer(0, 100, 0),
  maxReplies: option.orInfinity(option.integer(1, 1_000_000, Infinity)),
  every: option.flag(false),
  interface: option.text(),
  broadcast: option.flag(false),
} satisfies option.Table<GatherOptions>;

/** The counts of a gathering. */
export interface GatherSummary {
  /** Datagrams that the system took, to all addresses, retransmissions included. */
  sent: number;
  /** Replies given. */
  received: number;
  /** Further replies of responders that had answered. */
  duplicates: number;
  /** Datagrams from other addresses, or refused by `match`. */
  foreign: number;
  /** Datagrams that the system refused to send; not among `sent`. */
  unsent: number;
  /** The addresses of a list that have not answered; of a group or broadcast none. */
  unanswered: readonly UdpAddress[];
  /** Replies among `received` that were not iterated, as 16 MiB of earlier ones waited. */
  eventsDropped: number;
}

/**
 * The replies: iterated as they arrive, once, or awaited as an array, any number of
 * times. Either begins the gathering, and excludes the other.
 */
export interface Gathering<Decoded = unknown>
  extends AsyncIterable<UdpReply<Decoded>>, PromiseLike<UdpReply<Decoded>[]> {
  /** The current counts. */
  summary(): GatherSummary;
  /** Ends the gathering; earlier replies remain. */
  stop(): void;
}

/**
 * Sends a datagram to a multicast group, a broadcast address or a list of
 * addresses, and gives every reply until `timeoutMs` is over or all of a list
 * have answered.
 *
 * From a group or a broadcast address, such as 192.0.2.255, or 192.0.2.63 in a
 * network of 26 bits, every peer may answer; of a list only its members. A multicast datagram leaves by
 * `interface`, for IPv6 also by the zone of the group (`ff02::1%eth0`). It stays
 * on the link unless `multicastTtl` is more than 1 (RFC 1112), and this machine's
 * members receive it too unless `loopback` is false.
 *
 * @param to A group, a broadcast address, or one or many addresses, each as for
 * `request`.
 * @param payload The payload, as for `request`.
 * @param options Duration, limits and retransmissions; `match` and all others as
 * for `request`.
 * @returns The replies. The iteration throws errors of resolving and binding,
 * that of sending if it failed for all addresses, and `signal.reason`. A reply for
 * which `match` throws is `foreign`; its error is thrown if no other arrived.
 * @throws {RangeError} If a number among the options is out of range, or the
 * payload too large.
 * @throws {SyntaxError} If an address does not parse.
 * @throws {TypeError} If an option is unknown or of a wrong type, the payload is
 * neither bytes nor text, there is no address, or one cannot be asked.
 *
 * @example
 * ```ts
 * import { gather, serve } from "@roundtrip/udp";
 * import { assertEquals } from "@std/assert";
 *
 * await using one = serve(() => "one");
 * await using two = serve(() => "two");
 * const replies = await gather([one.addr, two.addr], "who?", { maxReplies: 2 });
 * assertEquals(replies.map((reply) => reply.text()).sort(), ["one", "two"]);
 * ```
 */
export function gather<Decoded = undefined>(
  to: UdpAddress | string | Iterable<UdpAddress | string>,
  payload: Payload,
  options: GatherOptions<Decoded> = {},
): Gathering<Decoded> {
  const values = option.readAll("gather", GATHER, options);
  if (values.interface !== undefined && values.localHostname !== undefined) {
    throw new TypeError("'interface' and 'localHostname' exclude each other");
  }
  const isList = typeof to === "object" && to !== null && Symbol.iterator in to;
  const addresses = isList ? [...to] : [to];
  if (addresses.length === 0) {
    throw new TypeError("There is no address to send to");
  }
  const plans = addresses.map((address) =>
    planRequest("gather()", address, payload, values)
  );
  const gatherer = new Gatherer(plans, values);
  const run = gatherer.run as Run<UdpReply<Decoded>, GatherSummary>;
  let replies: Promise<UdpReply<Decoded>[]> | undefined;
  return run.handle<Pick<Gathering<Decoded>, "then">>({
    then: (onReplies, onError) => {
      replies ??= run.hasBegun
        ? Promise.reject(
          new TypeError(
            "Cannot await replies that are iterated: collect them there, or gather anew",
          ),
        )
        : Array.fromAsync(run);
      return replies.then(onReplies, onError);
    },
  });
}

/** The targets, the replies and the counts. */
class Gatherer implements Workload<GatherSummary>, Receiver {
  readonly run: Run<UdpReply, GatherSummary>;
  readonly counts = {
    sent: 0,
    received: 0,
    duplicates: 0,
    foreign: 0,
    unsent: 0,
    eventsDropped: 0,
  };
  readonly #request: RequestPlan;
  readonly #answered = new Set<string>();
  #targets: UdpAddress[] = [];
  #isOpenToAll = false;
  #socket: DatagramSocket | undefined;
  #attempts = 0;
  #sentAt = 0;
  #cancelEnd = () => {};
  /** The first error of `match`. */
  #failure: { error: unknown } | undefined;

  constructor(
    readonly requests: RequestPlan[],
    readonly options: option.Values<typeof GATHER>,
  ) {
    const { timeoutMs, retries, signal } = options;
    const count = retries + 1;
    const schedule = { count, intervalMs: timeoutMs / count, signal };
    const { ends, runtime } = this.#request = requests[0]!;
    this.run = new Run(schedule, ends, runtime, this);
  }

  get sent(): number {
    return this.counts.sent;
  }

  summary(): GatherSummary {
    const unanswered = this.#isOpenToAll
      ? []
      : this.#targets.filter((target) =>
        !this.#answered.has(formatAddress(target))
      );
    return { ...this.counts, unanswered };
  }

  open(): void {
    const { maxDatagramBytes, timeoutMs, runtime } = this.#request;
    const { multicastTtl, loopback } = this.options;
    const options = { maxDatagramBytes, multicastTtl, loopback };
    this.#socket = this.run.open(options, this);
    this.#cancelEnd = runtime.after(timeoutMs, () => {
      const isFailed = this.counts.received === 0;
      this.run.end(isFailed ? this.#failure : undefined);
    });
  }

  close(): void {
    this.#cancelEnd();
  }

  /** Resolves all names, and the address of their version to bind. */
  async resolve(): Promise<Ends> {
    const { runtime } = this.#request;
    const all = await Promise.all(
      this.requests.map(({ ends }) => resolveEnds(ends, runtime)),
    );
    const distinct = new Map(
      all.map(({ target }) => [formatAddress(target), target]),
    );
    this.#targets = [...distinct.values()];
    this.#isOpenToAll = this.options.broadcast ||
      this.#targets.some(({ hostname }) =>
        isMulticast(hostname) || hostname.endsWith(".255")
      ) || this.#isOwnBroadcast();
    const locals = new Set(all.map(({ local }) => local.hostname));
    if (this.options.interface !== undefined) this.#leaveBy(locals);
    // One socket reaches both versions only from the IPv6 wildcard.
    const hostname = locals.size === 1 ? [...locals][0]! : "::";
    const { target, local } = all[0]!;
    return { target, local: { ...local, hostname } };
  }

  /** Whether one of the targets is a broadcast address of this machine's networks. */
  #isOwnBroadcast(): boolean {
    try {
      const own = broadcastsOf(this.#request.runtime.interfaces());
      return this.#targets.some(({ hostname }) => own.includes(hostname));
    } catch {
      // Without the permission to know.
      return false;
    }
  }

  /**
   * Chooses the interface to send by: for IPv4 by binding its address, for IPv6
   * by the zone of the group.
   */
  #leaveBy(locals: Set<string>): void {
    const named = this.options.interface!;
    const { runtime } = this.#request;
    if (locals.size > 1) {
      throw new TypeError(
        "'interface' goes with addresses of IPv4 or of IPv6, not with both",
      );
    }
    const hostnames = this.#targets.map(({ hostname }) => hostname);
    const found = membershipsOf(hostnames, named, runtime.interfaces);
    this.#targets = this.#targets.map(({ hostname, port }, i) => {
      const { address, index } = found[i]!;
      if (ipVersion(hostname) === 4) {
        locals.clear();
        locals.add(address);
        return { hostname, port };
      }
      const isOfLink = isMulticast(hostname) || hostname.startsWith("fe80:");
      return isOfLink && index !== 0
        ? { hostname: `${withoutZone(hostname)}%${index}`, port }
        : { hostname, port };
    });
  }

  send(): void {
    this.#attempts++;
    if (this.#attempts < this.run.schedule.count) {
      this.run.sendNext(this.#attempts, "after");
    }
    this.#sentAt = this.run.runtime.now();
    let failed = 0;
    for (const target of this.#targets) {
      // The payload's function may have ended it.
      if (this.run.ended) return;
      if (!this.#isOpenToAll && this.#answered.has(formatAddress(target))) {
        continue;
      }
      this.counts.sent++;
      this.#sendTo(target).catch((error) => {
        // The report is about an earlier datagram, to any of the targets.
        if (isPortClosed(error)) return;
        this.counts.sent--;
        this.counts.unsent++;
        const isHopeless = ++failed === this.#targets.length &&
          this.counts.received === 0;
        if (isHopeless) this.run.end({ error: sendError(error, target) });
      });
    }
  }

  async #sendTo(target: UdpAddress): Promise<void> {
    const payload = this.#request.payload(this.#attempts, 0);
    requireFit(payload.length, maxPayload(target.hostname));
    await this.#socket!.send(payload, target);
  }

  onDatagram(datagram: Datagram): void {
    const { counts } = this;
    const { maxReplies, every } = this.options;
    try {
      const { remoteAddr } = datagram;
      const isAsked = this.#isOpenToAll ||
        this.#targets.some((target) => comesFrom(remoteAddr, target));
      const reply = isAsked
        ? replyOf(datagram, this.#request.match, {
          remoteAddr,
          attempts: this.#attempts,
          sentAt: this.#sentAt,
        })
        : undefined;
      if (reply === undefined) {
        counts.foreign++;
        return;
      }
      const responder = formatAddress(remoteAddr);
      if (this.#answered.has(responder) && !every) {
        counts.duplicates++;
        return;
      }
      this.#answered.add(responder);
      if (this.run.ended) return;
      counts.received++;
      if (reply.rttMs !== undefined) this.run.measured(reply.rttMs);
      this.run.push(reply, reply.data.length);
      const isComplete = !this.#isOpenToAll && !every &&
        this.#answered.size >= this.#targets.length;
      if (counts.received >= maxReplies || isComplete) this.run.end();
    } catch (error) {
      // One malformed answer does not end the others.
      counts.foreign++;
      this.#failure ??= { error };
    } finally {
      this.#socket!.release(datagram);
    }
  }
}

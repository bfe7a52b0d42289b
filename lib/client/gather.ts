/**
 * The client that asks many at once: one datagram to a group, a broadcast
 * address or a list, and every reply that comes in time.
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
import { encode } from "../encoding.ts";
import { isPortClosed } from "../base/errors.ts";
import * as option from "../base/options.ts";
import { EventQueue } from "../base/event_queue.ts";
import {
  type Payload,
  planRequest,
  replyOf,
  REQUEST,
  type RequestOptions,
  type RequestPlan,
  type UdpReply,
} from "./exchange.ts";
import { membershipsOf } from "../socket/multicast.ts";
import {
  type Datagram,
  type DatagramSocket,
  GROUP_SEND_OPTIONS,
  type GroupSendOptions,
  type Receiver,
} from "../socket/contract.ts";
import { comesFrom, requireFit, resolveEnds } from "./target.ts";

/** Options of {@linkcode gather}. */
export interface GatherOptions<Decoded = unknown>
  extends RequestOptions<Decoded>, GroupSendOptions {
  /**
   * How long to gather replies, in milliseconds, from 1 to 86,400,000 (a day),
   * from the first send on.
   *
   * @default {1000}
   */
  timeoutMs?: number | undefined;
  /**
   * How often to send again, 0 to 100, spread evenly over `timeoutMs`; of a
   * list only to those that have not answered.
   *
   * @default {0}
   */
  retries?: number | undefined;
  /**
   * Ends after so many replies, 1 to 1,000,000.
   *
   * @default {no limit}
   */
  maxReplies?: number | undefined;
  /**
   * Whether to give every reply of a responder. Else its first one counts, and
   * the others are `duplicates`.
   *
   * @default {false}
   */
  every?: boolean | undefined;
  /**
   * By which interface groups and broadcast addresses are asked: one of its IP
   * addresses, or its name, for which Deno wants `--allow-sys=networkInterfaces`.
   *
   * @default {the system's choice}
   */
  interface?: string | undefined;
}

/** The table of {@linkcode GatherOptions}. */
export const GATHER = {
  ...REQUEST,
  ...GROUP_SEND_OPTIONS,
  retries: option.integer(0, 100, 0),
  maxReplies: option.orInfinity(option.integer(1, 1_000_000, Infinity)),
  every: option.flag(false),
  interface: option.text(),
} satisfies option.Table<GatherOptions>;

/** What has been gathered so far, in numbers. */
export interface GatherSummary {
  /** Datagrams sent, to each address and again. */
  sent: number;
  /** Replies given. */
  received: number;
  /** Further replies of those that had answered. */
  duplicates: number;
  /** Datagrams from who was not asked, or that `match` refused. */
  foreign: number;
  /** Datagrams that could not be sent. */
  errors: number;
}

/**
 * Replies that are being gathered: iterate them as they come, or await them all
 * as an array. It begins with the one or the other, which can be done once.
 */
export interface Gathering<Decoded = unknown>
  extends AsyncIterable<UdpReply<Decoded>>, PromiseLike<UdpReply<Decoded>[]> {
  /** The counts so far. */
  summary(): GatherSummary;
  /** Ends it; the replies so far remain. */
  stop(): void;
}

/**
 * Sends a datagram to a multicast group, a broadcast address or a list of
 * addresses, and gives every reply until `timeoutMs` is over, or all of a list
 * have answered.
 *
 * From a group or a broadcast address (one that ends in `.255` is taken for one)
 * anyone may answer; of a list only who is on it. A multicast datagram leaves by
 * `interface`, for IPv6 also by the zone of the group (`ff02::1%eth0`). It stays
 * on the link unless `multicastTtl` is more than 1 (RFC 1112), and this machine's
 * members hear it too unless `loopback` is false.
 *
 * @param to A group, a broadcast address, or one or many addresses, each as for
 * `request`.
 * @param payload What to send, as for `request`.
 * @param options How long, how many, how often again; `match` and all else as
 * for `request`.
 * @returns The replies. The iteration throws what resolving, binding and sending
 * throw if nobody could be sent to, and `signal.reason` when aborted.
 * @throws {RangeError} If a number among the options is out of range, or the
 * payload too large.
 * @throws {SyntaxError} If an address does not parse.
 * @throws {TypeError} If an option is unknown or of a wrong type, there is no
 * address, or one cannot be asked.
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
export function gather<Decoded = unknown>(
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
  if (addresses.length === 0) throw new TypeError("There is no address to ask");
  const plans = addresses.map((address) =>
    planRequest(address, payload, values)
  );
  const run = new Gatherer(plans, values);
  return {
    summary: () => ({ ...run.counts }),
    stop: () => run.end(),
    [Symbol.asyncIterator]: () =>
      run.iterate() as AsyncGenerator<UdpReply<Decoded>>,
    then: (onReplies, onError) =>
      Array.fromAsync(run.iterate() as AsyncGenerator<UdpReply<Decoded>>)
        .then(onReplies, onError),
  };
}

/** The socket, the replies and the counts. */
class Gatherer implements Receiver {
  readonly counts: GatherSummary = {
    sent: 0,
    received: 0,
    duplicates: 0,
    foreign: 0,
    errors: 0,
  };
  readonly #plans: RequestPlan[];
  readonly #plan: RequestPlan;
  readonly #limits: option.Values<typeof GATHER>;
  readonly #queue = new EventQueue<UdpReply>();
  readonly #answered = new Set<string>();
  #targets: UdpAddress[] = [];
  #isOpenToAll = false;
  #hasBegun = false;
  #socket: DatagramSocket | undefined;
  #attempts = 0;
  #sentAt = 0;
  #cancelNext = () => {};

  constructor(plans: RequestPlan[], limits: option.Values<typeof GATHER>) {
    this.#plans = plans;
    this.#plan = plans[0]!;
    this.#limits = limits;
  }

  end(failure?: { error: unknown }): void {
    this.#queue.end(failure);
  }

  async *iterate(): AsyncGenerator<UdpReply> {
    if (this.#hasBegun) {
      throw new TypeError("Cannot gather a second time: start another one");
    }
    this.#hasBegun = true;
    const { signal } = this.#limits;
    const { runtime, timeoutMs } = this.#plan;
    signal?.throwIfAborted();
    const abort = () => this.end({ error: signal!.reason });
    signal?.addEventListener("abort", abort);
    let finished: Promise<void> | undefined;
    let cancelEnd = () => {};
    try {
      // Looking up names cannot be cancelled, but it need not be waited for.
      const hostname = await Promise.race([
        this.#resolve(),
        this.#queue.whenEnded,
      ]);
      if (!this.#queue.ended) {
        const { ends, maxDatagramBytes } = this.#plan;
        const { multicastTtl, loopback } = this.#limits;
        this.#socket = runtime.open({
          ...ends.sendOptions,
          hostname: hostname!,
          port: ends.localPort,
          maxDatagramBytes,
          multicastTtl,
          loopback,
        });
        finished = this.#socket.start(this)
          .catch((error) => this.end({ error }));
        cancelEnd = runtime.after(timeoutMs, () => this.end());
        this.#send();
      }
      yield* this.#queue;
    } finally {
      this.end();
      signal?.removeEventListener("abort", abort);
      cancelEnd();
      this.#cancelNext();
      this.#socket?.close();
      await finished;
    }
  }

  /** Resolves all names; gives the address to bind, of the version of all. */
  async #resolve(): Promise<string> {
    const { runtime } = this.#plan;
    const all = await Promise.all(
      this.#plans.map(({ ends }) => resolveEnds(ends, runtime)),
    );
    const distinct = new Map(
      all.map(({ target }) => [formatAddress(target), target]),
    );
    this.#targets = [...distinct.values()];
    this.#isOpenToAll = this.#targets.some(({ hostname }) =>
      mayBeMany(hostname)
    );
    const locals = new Set(all.map(({ local }) => local.hostname));
    if (this.#limits.interface !== undefined) this.#leaveBy(locals);
    // One socket reaches both versions only from the IPv6 wildcard.
    return locals.size === 1 ? [...locals][0]! : "::";
  }

  /**
   * Has IPv4 leave by an interface by binding its address, and IPv6 by the zone
   * of the group.
   */
  #leaveBy(locals: Set<string>): void {
    const named = this.#limits.interface!;
    const { runtime } = this.#plan;
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

  #send(): void {
    const { runtime, timeoutMs, retries } = this.#plan;
    this.#attempts++;
    if (this.#attempts <= retries) {
      const waitMs = timeoutMs / (retries + 1);
      this.#cancelNext = runtime.after(waitMs, () => this.#send());
    }
    this.#sentAt = runtime.now();
    let failed = 0;
    for (const target of this.#targets) {
      if (!this.#isOpenToAll && this.#answered.has(formatAddress(target))) {
        continue;
      }
      this.counts.sent++;
      this.#sendTo(target).catch((error) => {
        // About an earlier datagram, to whomever it was.
        if (isPortClosed(error)) return;
        this.counts.errors++;
        const isHopeless = ++failed === this.#targets.length &&
          this.counts.received === 0;
        if (isHopeless) this.end({ error });
      });
    }
  }

  async #sendTo(target: UdpAddress): Promise<void> {
    const payload = encode(this.#plan.payload(this.#attempts, 0));
    requireFit(payload.length, target.hostname);
    await this.#socket!.send(payload, target);
  }

  onDatagram(datagram: Datagram): void {
    const { counts } = this;
    const { maxReplies, every } = this.#limits;
    try {
      const { remoteAddr } = datagram;
      const isAsked = this.#isOpenToAll ||
        this.#targets.some((target) => comesFrom(remoteAddr, target));
      const reply = isAsked
        ? replyOf(datagram, this.#plan.match, {
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
      if (this.#queue.ended) return;
      counts.received++;
      this.#queue.push(reply);
      const isComplete = !this.#isOpenToAll && !every &&
        this.#answered.size >= this.#targets.length;
      if (counts.received >= maxReplies || isComplete) this.end();
    } catch (error) {
      this.end({ error });
    } finally {
      this.#socket!.release(datagram);
    }
  }
}

/** Whether more than one host may have an address: groups and broadcast. */
function mayBeMany(hostname: string): boolean {
  return isMulticast(hostname) || hostname.endsWith(".255");
}

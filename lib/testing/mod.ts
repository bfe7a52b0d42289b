/**
 * A network in memory, with a clock of its own, for the tests of services: loss,
 * duplicates and delays follow a plan, and no test waits for real time.
 *
 * @example
 * ```ts
 * import { request, serve } from "@roundtrip/udp";
 * import { SimulatedNetwork } from "@roundtrip/udp/testing";
 * import { assertEquals } from "@std/assert";
 *
 * // The first datagram is lost, all others take 20 ms.
 * const network = new SimulatedNetwork(({ index }) => index === 0 ? [] : [20]);
 * const { runtime } = network;
 * const server = serve({ hostname: "192.0.2.9", runtime }, () => "pong");
 * const reply = await network.run(request(server.addr, "ping", { runtime }));
 * assertEquals([reply.text(), reply.attempts], ["pong", 2]);
 * await server.shutdown();
 * ```
 *
 * @module
 */
import "../base/deno.ts";
import { setImmediate } from "node:timers";
import type { UdpAddress } from "../address.ts";
import {
  formatAddress,
  ipVersion,
  isMulticast,
  isWildcard,
} from "../address.ts";
import type { Interface, Membership } from "../socket/multicast.ts";
import type { Runtime } from "../socket/runtime.ts";
import type { DatagramInfo } from "../server/handler.ts";
import {
  type Datagram,
  type DatagramSocket,
  MAX_PAYLOAD,
  type OpenOptions,
  type Receiver,
  type ReplyOptions,
  type SendListener,
} from "../socket/contract.ts";

/** A datagram in flight. */
export interface Passing {
  /** Counts all datagrams of the network from 0. */
  index: number;
  /** The source. */
  from: UdpAddress;
  /** The destination. */
  to: UdpAddress;
  /** The payload. */
  data: Uint8Array;
}

/**
 * The delays of a datagram's copies, in milliseconds after the send: none is a
 * loss, two are a duplicate. Throws to make the send fail.
 */
export type Plan = (passing: Passing) => number[];

/** The delay of a datagram without a plan, in milliseconds. */
export const LATENCY_MS = 5;
/** The Unix time at which the clock of a network is 0: some day in 2023. */
export const TIME_ORIGIN = 1_700_000_000_000;
/** The seed of a network that is given none. */
export const DEFAULT_SEED = 1;
/** The address that a socket on `0.0.0.0` sends from. */
export const CLIENT_HOST = "192.0.2.1";

/** A network in memory. */
export class SimulatedNetwork {
  /** Every datagram that was sent, in order. */
  readonly sent: Passing[] = [];
  /** The open sockets, by their addresses as text. */
  readonly sockets: Map<string, SimulatedSocket> = new Map();
  /** The addresses of names. */
  readonly names: Map<string, string[]> = new Map();
  /** Addresses of the machine that the runtime is of. */
  readonly own: Set<string> = new Set();
  /** The interfaces of that machine, as `Deno.networkInterfaces` has them. */
  interfaces: Interface[] = [];
  /** The lines written to stderr. */
  readonly warnings: string[] = [];
  /** The `runtime` option for `serve`, `request` and all others. */
  readonly runtime: Runtime;
  /** The plan for datagrams that are sent from now on. */
  plan: Plan;
  /** The time, in milliseconds; it passes within `run` and `runFor`. */
  now = 0;
  #timers: Timer[] = [];
  readonly #opened: SimulatedSocket[] = [];
  #nextPort = 50_000;

  /**
   * Makes a network without sockets.
   *
   * @param plan The outcome of each datagram.
   * @param options The seed of the runtime's `random()`, any integer: the same
   * plan and seed give the same run, to the byte and the microsecond.
   */
  constructor(
    plan: Plan = () => [LATENCY_MS],
    { seed = DEFAULT_SEED }: { seed?: number | undefined } = {},
  ) {
    this.plan = plan;
    this.runtime = {
      open: (options) => this.#open(options),
      resolve: (name) => {
        const addresses = this.names.get(name);
        return addresses === undefined
          ? Promise.reject(new Deno.errors.NotFound(name))
          : Promise.resolve(addresses);
      },
      ownsAddress: (hostname) => this.own.has(hostname),
      isPermitted: () => true,
      interfaces: () => this.interfaces,
      now: () => this.now,
      timeOrigin: TIME_ORIGIN,
      after: (ms, callback) => this.#after(ms, callback),
      afterUnref: (ms, callback) => this.#after(ms, callback),
      afterExactly: (ms, callback) => this.#after(ms, callback),
      random: seededRandom(seed),
      warn: (text) => this.warnings.push(text),
    };
  }

  /**
   * The number of timers that are set, those of datagrams in flight not included: 0
   * when all is at rest.
   */
  get timers(): number {
    return this.#timers.filter(({ isInFlight }) => !isInFlight).length;
  }

  /** The number of datagrams that the owners of sockets have not handed back. */
  get held(): number {
    return this.#opened.reduce((sum, { held }) => sum + held, 0);
  }

  /**
   * Lets time pass until the promise settles.
   *
   * @param promise The promise.
   * @returns Resolves as the promise does.
   * @throws {Error} If nothing is left that could happen.
   */
  async run<T>(promise: Promise<T>): Promise<T> {
    let settled = false;
    const settle = () => {
      settled = true;
    };
    promise.then(settle, settle);
    while (true) {
      // Everything of this instant happens before time moves on.
      await new Promise<void>((resolve) => setImmediate(() => resolve()));
      if (settled) return promise;
      const timer = this.#timers.shift();
      if (timer === undefined) throw new Error("Nothing is left to happen");
      this.now = timer.at;
      timer.callback();
    }
  }

  /**
   * Lets time pass.
   *
   * @param ms The duration, in milliseconds.
   * @returns Resolves when it has passed.
   */
  runFor(ms: number): Promise<void> {
    return this.run(
      new Promise((resolve) => this.runtime.after(ms, resolve)),
    );
  }

  /** Sends a datagram, as the plan has it; one of more than 65,527 bytes fails. */
  pass(from: UdpAddress, to: UdpAddress, payload: Uint8Array): void {
    const data = new Uint8Array(payload);
    const passing = { index: this.sent.length, from, to, data };
    const isTooLong = data.length > MAX_PAYLOAD;
    if (!isTooLong) this.sent.push(passing);
    const delaysMs = this.plan(passing);
    if (isTooLong) {
      throw Object.assign(new Error("Message too long"), { code: "EMSGSIZE" });
    }
    for (const delayMs of delaysMs) {
      this.#after(delayMs, () => {
        for (const socket of this.#at(to)) socket.arrive(data, from, to);
      }, true);
    }
  }

  /** The members of a group, or the one socket at an address. */
  #at(to: UdpAddress): SimulatedSocket[] {
    const one = this.sockets.get(formatAddress(to));
    if (!isMulticast(to.hostname)) return one === undefined ? [] : [one];
    return [...this.sockets.values()].filter(({ addr, groups }) =>
      addr.port === to.port &&
      [...groups].some(({ group }) => group === to.hostname)
    );
  }

  #after(
    ms: number,
    callback: () => void,
    isInFlight = false,
  ): () => void {
    const timer = { at: this.now + ms, callback, isInFlight };
    // Stable: of two timers due at once, the first made goes first.
    const next = this.#timers.findIndex(({ at }) => at > timer.at);
    this.#timers.splice(next === -1 ? this.#timers.length : next, 0, timer);
    return () => {
      this.#timers = this.#timers.filter((other) => other !== timer);
    };
  }

  #open(options: OpenOptions): DatagramSocket {
    const { hostname, port, maxDatagramBytes, memberships = [] } = options;
    const wildcard = ipVersion(hostname) === 6 ? "2001:db8::1" : CLIENT_HOST;
    const addr = {
      hostname: isWildcard(hostname) ? wildcard : hostname,
      port: port === 0 ? this.#nextPort++ : port,
    };
    const key = formatAddress(addr);
    if (this.sockets.has(key)) throw new Deno.errors.AddrInUse(key);
    const socket = new SimulatedSocket(this, addr, maxDatagramBytes);
    for (const one of memberships) socket.groups.add(one);
    this.sockets.set(key, socket);
    this.#opened.push(socket);
    return socket;
  }
}

/** A callback that is due, and whether it is the arrival of a datagram. */
interface Timer {
  at: number;
  callback: () => void;
  isInFlight: boolean;
}

/** A socket on such a network. */
export class SimulatedSocket implements DatagramSocket {
  /** The bound address. */
  readonly addr: UdpAddress;
  /** Reports no closed port. */
  readonly reportsClosedPort = false;
  /** Copies no replies. */
  readonly copiesReplies = false;
  /** Its memberships of groups. */
  readonly groups: Set<Membership> = new Set();
  readonly #network: SimulatedNetwork;
  readonly #maxDatagramBytes: number;
  readonly #finished = Promise.withResolvers<void>();
  readonly #held = new Set<Datagram>();
  #receiver: Receiver | undefined;
  #lastRemote: UdpAddress | undefined;

  /** Made by the runtime of a network. */
  constructor(
    network: SimulatedNetwork,
    addr: UdpAddress,
    maxDatagramBytes: number,
  ) {
    this.#network = network;
    this.#maxDatagramBytes = maxDatagramBytes;
    this.addr = addr;
  }

  /** Whether it has not been closed. */
  get open(): boolean {
    return this.#network.sockets.get(formatAddress(this.addr)) === this;
  }

  /** The number of datagrams that the owner has not handed back. */
  get held(): number {
    return this.#held.size;
  }

  /** Delivers a datagram, from any source. */
  arrive(
    payload: Uint8Array,
    remoteAddr: UdpAddress,
    localAddr: UdpAddress = this.addr,
  ): void {
    // One datagram to a group may have had another member close it.
    if (!this.open) return;
    if (payload.length > this.#maxDatagramBytes) {
      this.#receiver?.onTooLong?.();
      return;
    }
    const datagram = {
      data: new Uint8Array(payload),
      remoteAddr: this.#remember(remoteAddr),
      localAddr,
      receivedAt: this.#network.now,
    };
    this.#held.add(datagram);
    this.#receiver?.onDatagram(datagram);
  }

  /** The same object for datagrams of one peer that follow each other. */
  #remember({ hostname, port }: UdpAddress): UdpAddress {
    const last = this.#lastRemote;
    if (last?.hostname === hostname && last.port === port) return last;
    return this.#lastRemote = Object.freeze({ hostname, port });
  }

  /** Has a receive fail once, after which receiving continues. */
  failOnce(error: Error): void {
    this.#receiver?.onReceiveError?.(error);
  }

  /** Has receiving fail permanently. */
  fail(error: Error): void {
    this.#network.sockets.delete(formatAddress(this.addr));
    this.#finished.reject(error);
  }

  /** As {@linkcode DatagramSocket} has it. */
  start(receiver: Receiver): Promise<void> {
    this.#receiver = receiver;
    return this.#finished.promise;
  }

  /** As {@linkcode DatagramSocket} has it. */
  async send(payload: Uint8Array, to: UdpAddress): Promise<void> {
    if (!this.open) throw new Deno.errors.BadResource("Socket is closed");
    await Promise.resolve();
    this.#network.pass(this.addr, to, payload);
  }

  /** As {@linkcode DatagramSocket} has it. */
  post(payload: Uint8Array, to: UdpAddress, listener: SendListener): void {
    this.send(payload, to).then(
      () => listener.onSent?.(),
      (error) => listener.onSendError(error),
    );
  }

  /** As {@linkcode DatagramSocket} has it. */
  reply(
    datagram: Datagram,
    payload: Uint8Array,
    options?: ReplyOptions | undefined,
  ): void {
    options?.complete?.(payload);
    this.send(payload, datagram.remoteAddr).then(
      () => {
        this.release(datagram);
        this.#receiver?.onReplied?.(1, payload.length);
      },
      (error) => {
        this.release(datagram);
        this.#receiver?.onReplyError?.(error, datagram.remoteAddr, 1);
      },
    );
  }

  /** As {@linkcode DatagramSocket} has it, of datagrams from any source. */
  async setMembership(
    membership: Membership,
    isMember: boolean,
  ): Promise<void> {
    await Promise.resolve();
    if (isMember) this.groups.add(membership);
    else this.groups.delete(membership);
  }

  /** As {@linkcode DatagramSocket} has it. */
  kernelDrops(): number | undefined {
    return undefined;
  }

  /** As {@linkcode DatagramSocket} has it. */
  abandon(datagram: Datagram): void {
    if (!this.#held.delete(datagram)) throw new Error("Released twice");
  }

  /** As {@linkcode DatagramSocket} has it. */
  release(datagram: Datagram): void {
    if (!this.#held.delete(datagram)) throw new Error("Released twice");
    // A user that kept the bytes sees that they are used again.
    datagram.data.fill(0xdb);
  }

  /** As {@linkcode DatagramSocket} has it. */
  close(): void {
    if (!this.open) return;
    this.#network.sockets.delete(formatAddress(this.addr));
    this.#finished.resolve();
  }

  /** As {@linkcode DatagramSocket} has it. */
  ref(): void {}
  /** As {@linkcode DatagramSocket} has it. */
  unref(): void {}
}

/**
 * The info for a handler that a test calls itself.
 *
 * @param remoteAddr The source of the datagram.
 * @returns The info; its `reply` does nothing, and there is no limit.
 */
export function infoOf(remoteAddr: UdpAddress): DatagramInfo {
  return {
    remoteAddr,
    localAddr: { hostname: CLIENT_HOST, port: 20001 },
    receivedAt: 0,
    maxReplyBytes: Infinity,
    reply: () => true,
    validated: () => {},
  };
}

/**
 * Makes a source of numbers from 0 to 1, the same for the same seed
 * (mulberry32), for plans that lose at random and can be repeated.
 *
 * @param seed Any integer.
 * @returns The source.
 */
export function seededRandom(seed: number): () => number {
  return () => {
    seed = (seed + 0x6d2b79f5) | 0;
    let t = Math.imul(seed ^ (seed >>> 15), 1 | seed);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  };
}

export type { Interface, Membership } from "../socket/multicast.ts";
export type { DatagramInfo } from "../server/handler.ts";
export type { Runtime } from "../socket/runtime.ts";
export type { ClockState } from "../base/wall_clock.ts";
export type {
  Datagram,
  DatagramSocket,
  GroupSendOptions,
  OpenOptions,
  Receiver,
  ReplyOptions,
  SendListener,
  SendOptions,
} from "../socket/contract.ts";
export type { UdpAddress } from "../address.ts";

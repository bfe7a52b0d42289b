/**
 * A network in memory, with a clock of its own, for the tests of services: what
 * is lost, doubled or delayed follows a plan, and no test waits for real time.
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
import { setImmediate } from "node:timers";
import type { UdpAddress } from "../address.ts";
import {
  formatAddress,
  ipVersion,
  isMulticast,
  isWildcard,
} from "../address.ts";
import type { Interface } from "../socket/multicast.ts";
import type { Runtime } from "../socket/runtime.ts";
import type { DatagramInfo } from "../server/handler.ts";
import type {
  Datagram,
  DatagramSocket,
  OpenOptions,
  Receiver,
  ReplyOptions,
  SendErrorListener,
} from "../socket/contract.ts";

/** A datagram on its way. */
export interface Passing {
  /** Counts all datagrams of the network from 0. */
  index: number;
  /** Where it was sent from. */
  from: UdpAddress;
  /** Where it was sent to. */
  to: UdpAddress;
  /** The payload. */
  data: Uint8Array;
}

/**
 * When the copies of a datagram arrive, in milliseconds after it was sent: none
 * is a loss, two are a duplicate. Throws to make the send fail.
 */
export type Plan = (passing: Passing) => number[];

/** How long a datagram takes, in milliseconds, where no plan says otherwise. */
export const LATENCY_MS = 5;
/** The Unix time at which the clock of a network is 0: some day in 2023. */
export const TIME_ORIGIN = 1_700_000_000_000;
/** The address that a socket on `0.0.0.0` sends from. */
export const CLIENT_HOST = "192.0.2.1";

/** A network in memory. */
export class SimulatedNetwork {
  /** Every datagram that was sent, in order. */
  readonly sent: Passing[] = [];
  /** The open sockets, by their addresses as text. */
  readonly sockets: Map<string, SimulatedSocket> = new Map();
  /** What names resolve to. */
  readonly names: Map<string, string[]> = new Map();
  /** Addresses of the machine that the runtime is of. */
  readonly own: Set<string> = new Set();
  /** The interfaces of that machine, as `Deno.networkInterfaces` has them. */
  interfaces: Interface[] = [];
  /** What was written on stderr. */
  readonly warnings: string[] = [];
  /** What `serve`, `request` and all others take as their `runtime`. */
  readonly runtime: Runtime;
  /** What becomes of the datagrams that are sent from now on. */
  plan: Plan;
  /** The time, in milliseconds; it passes within `run` and `runFor`. */
  now = 0;
  #timers: Timer[] = [];
  readonly #opened: SimulatedSocket[] = [];
  #nextPort = 50_000;

  /**
   * Makes a network that nobody is on.
   *
   * @param plan What becomes of each datagram.
   */
  constructor(plan: Plan = () => [LATENCY_MS]) {
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
      warn: (text) => this.warnings.push(text),
    };
  }

  /**
   * How many timers wait that somebody has set: 0 when all is at rest, whatever is
   * still under way on the network.
   */
  get timers(): number {
    return this.#timers.filter(({ isOnItsWay }) => !isOnItsWay).length;
  }

  /** How many datagrams the owners of sockets, open or closed, have not handed back. */
  get held(): number {
    return this.#opened.reduce((sum, { held }) => sum + held, 0);
  }

  /**
   * Lets time pass until the promise settles.
   *
   * @param promise What to wait for.
   * @returns What it resolves with.
   * @throws {Error} If nothing is left that could happen.
   */
  async run<T>(promise: Promise<T>): Promise<T> {
    let settled = false;
    const settle = () => {
      settled = true;
    };
    promise.then(settle, settle);
    while (true) {
      // All that can happen at this instant happens before time moves on.
      await new Promise<void>((resolve) => setImmediate(() => resolve()));
      if (settled) return promise;
      const timer = this.#timers.shift();
      if (timer === undefined) throw new Error("Nothing is left to happen");
      this.now = timer.at;
      timer.callback();
    }
  }

  /**
   * Lets so much time pass.
   *
   * @param ms How much, in milliseconds.
   * @returns Resolves when it has passed.
   */
  runFor(ms: number): Promise<void> {
    return this.run(
      new Promise((resolve) => this.runtime.after(ms, resolve)),
    );
  }

  /** Sends a datagram, as the plan has it. */
  pass(from: UdpAddress, to: UdpAddress, payload: Uint8Array): void {
    const data = payload.slice();
    const passing = { index: this.sent.length, from, to, data };
    this.sent.push(passing);
    for (const delayMs of this.plan(passing)) {
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
      addr.port === to.port && groups.has(to.hostname)
    );
  }

  #after(
    ms: number,
    callback: () => void,
    isOnItsWay = false,
  ): () => void {
    const timer = { at: this.now + ms, callback, isOnItsWay };
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
    for (const { group } of memberships) socket.groups.add(group);
    this.sockets.set(key, socket);
    this.#opened.push(socket);
    return socket;
  }
}

/** What is to happen, and whether it is a datagram that arrives. */
interface Timer {
  at: number;
  callback: () => void;
  isOnItsWay: boolean;
}

/** A socket on such a network. */
export class SimulatedSocket implements DatagramSocket {
  /** The bound address. */
  readonly addr: UdpAddress;
  /** It never is. */
  readonly isConnected = false;
  /** It does not. */
  readonly copiesReplies = false;
  /** The groups that it is in. */
  readonly groups: Set<string> = new Set();
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

  /** How many datagrams the owner has not handed back. */
  get held(): number {
    return this.#held.size;
  }

  /** A datagram arrives, wherever it is from. */
  arrive(
    payload: Uint8Array,
    remoteAddr: UdpAddress,
    localAddr: UdpAddress = this.addr,
  ): void {
    if (payload.length > this.#maxDatagramBytes) {
      this.#receiver?.onTooLong?.();
      return;
    }
    const datagram = {
      data: payload.slice(),
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

  /** Receiving fails once, and goes on. */
  failOnce(error: Error): void {
    this.#receiver?.onReceiveError?.(error);
  }

  /** Receiving fails for good. */
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
    await Promise.resolve();
    this.#network.pass(this.addr, to, payload);
  }

  /** As {@linkcode DatagramSocket} has it. */
  post(payload: Uint8Array, to: UdpAddress, listener: SendErrorListener): void {
    this.send(payload, to).catch((error) => listener.onSendError(error));
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
        this.#receiver?.onReplied?.(1);
      },
      (error) => {
        this.release(datagram);
        this.#receiver?.onReplyError?.(error, datagram.remoteAddr, 1);
      },
    );
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
    // Whoever kept it sees that it is used again.
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
 * What a handler is told of a datagram, where a test calls it by itself.
 *
 * @param remoteAddr Where the datagram is to have come from.
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
  SendErrorListener,
  SendOptions,
} from "../socket/contract.ts";
export type { UdpAddress } from "../address.ts";

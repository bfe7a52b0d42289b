/**
 * A network in memory, with a clock of its own: what is lost, doubled or
 * delayed follows a plan, and no test waits for real time.
 */
import { setImmediate } from "node:timers";
import type { UdpAddress } from "../lib/address.ts";
import { formatAddress, ipVersion, isWildcard } from "../lib/address.ts";
import type { Runtime } from "../lib/runtime.ts";
import type { DatagramInfo } from "../lib/server.ts";
import type {
  Datagram,
  DatagramSocket,
  OpenOptions,
  Receiver,
} from "../lib/socket.ts";

/** A datagram on its way. */
export interface Passing {
  /** Counts all datagrams of the network from 0. */
  index: number;
  from: UdpAddress;
  to: UdpAddress;
  data: Uint8Array;
}

/**
 * When the copies of a datagram arrive, in milliseconds after it was sent: none
 * is a loss, two are a duplicate. Throws to make the send fail.
 */
export type Plan = (passing: Passing) => number[];

export const LATENCY_MS = 5;
/** Some day in 2023. */
export const TIME_ORIGIN = 1_700_000_000_000;
export const CLIENT_HOST = "192.0.2.1";

export class SimulatedNetwork {
  /** Every datagram that was sent, in order. */
  readonly sent: Passing[] = [];
  readonly sockets = new Map<string, SimulatedSocket>();
  /** What names resolve to. */
  readonly names = new Map<string, string[]>();
  /** Addresses of the machine that the runtime is of. */
  readonly own = new Set<string>();
  /** What was written on stderr. */
  readonly warnings: string[] = [];
  readonly runtime: Runtime;
  plan: Plan;
  now = 0;
  #timers: Array<{ at: number; callback: () => void }> = [];
  #nextPort = 50_000;

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
      now: () => this.now,
      timeOrigin: TIME_ORIGIN,
      after: (ms, callback) => this.#after(ms, callback),
      afterExactly: (ms, callback) => this.#after(ms, callback),
      warn: (text) => this.warnings.push(text),
    };
  }

  /** Lets time pass until the promise settles, or nothing is left to happen. */
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

  /** Lets so much time pass. */
  runFor(ms: number): Promise<void> {
    return this.run(
      new Promise((resolve) => this.runtime.after(ms, resolve)),
    );
  }

  pass(from: UdpAddress, to: UdpAddress, payload: Uint8Array): void {
    const data = payload.slice();
    const passing = { index: this.sent.length, from, to, data };
    this.sent.push(passing);
    for (const delayMs of this.plan(passing)) {
      this.runtime.after(delayMs, () => {
        this.sockets.get(formatAddress(to))?.arrive(data, from);
      });
    }
  }

  #after(ms: number, callback: () => void): () => void {
    const timer = { at: this.now + ms, callback };
    // Stable: of two timers due at once, the first made goes first.
    const next = this.#timers.findIndex(({ at }) => at > timer.at);
    this.#timers.splice(next === -1 ? this.#timers.length : next, 0, timer);
    return () => {
      this.#timers = this.#timers.filter((other) => other !== timer);
    };
  }

  #open({ hostname, port, maxDatagramBytes }: OpenOptions): DatagramSocket {
    const wildcard = ipVersion(hostname) === 6 ? "2001:db8::1" : CLIENT_HOST;
    const addr = {
      hostname: isWildcard(hostname) ? wildcard : hostname,
      port: port === 0 ? this.#nextPort++ : port,
    };
    const key = formatAddress(addr);
    if (this.sockets.has(key)) throw new Deno.errors.AddrInUse(key);
    const socket = new SimulatedSocket(this, addr, maxDatagramBytes);
    this.sockets.set(key, socket);
    return socket;
  }
}

export class SimulatedSocket implements DatagramSocket {
  readonly addr: UdpAddress;
  readonly isConnected = false;
  readonly copiesReplies = false;
  readonly #network: SimulatedNetwork;
  readonly #maxDatagramBytes: number;
  readonly #finished = Promise.withResolvers<void>();
  readonly #held = new Set<Datagram>();
  #receiver: Receiver | undefined;

  constructor(
    network: SimulatedNetwork,
    addr: UdpAddress,
    maxDatagramBytes: number,
  ) {
    this.#network = network;
    this.#maxDatagramBytes = maxDatagramBytes;
    this.addr = addr;
  }

  get open(): boolean {
    return this.#network.sockets.get(formatAddress(this.addr)) === this;
  }

  /** How many datagrams the owner has not handed back. */
  get held(): number {
    return this.#held.size;
  }

  arrive(payload: Uint8Array, remoteAddr: UdpAddress): void {
    if (payload.length > this.#maxDatagramBytes) {
      this.#receiver?.onTooLong?.();
      return;
    }
    const datagram = {
      data: payload.slice(),
      remoteAddr: { ...remoteAddr },
      localAddr: this.addr,
      receivedAt: this.#network.now,
    };
    this.#held.add(datagram);
    this.#receiver?.onDatagram(datagram);
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

  start(receiver: Receiver): Promise<void> {
    this.#receiver = receiver;
    return this.#finished.promise;
  }

  async send(payload: Uint8Array, to: UdpAddress): Promise<void> {
    await Promise.resolve();
    this.#network.pass(this.addr, to, payload);
  }

  reply(datagram: Datagram, payload: Uint8Array): void {
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

  kernelDrops(): number | undefined {
    return undefined;
  }

  abandon(datagram: Datagram): void {
    if (!this.#held.delete(datagram)) throw new Error("Released twice");
  }

  release(datagram: Datagram): void {
    if (!this.#held.delete(datagram)) throw new Error("Released twice");
    // Whoever kept it sees that it is used again.
    datagram.data.fill(0xdb);
  }

  close(): void {
    if (!this.open) return;
    this.#network.sockets.delete(formatAddress(this.addr));
    this.#finished.resolve();
  }

  ref(): void {}
  unref(): void {}
}

/** What a handler is told of a datagram, where a test calls it by itself. */
export function infoOf(remoteAddr: UdpAddress): DatagramInfo {
  return {
    remoteAddr,
    localAddr: { hostname: CLIENT_HOST, port: 20001 },
    receivedAt: 0,
    maxReplyBytes: Infinity,
    reply: () => true,
  };
}

/** Numbers from 0 to 1, the same for the same seed (mulberry32). */
export function seededRandom(seed: number): () => number {
  return () => {
    seed = (seed + 0x6d2b79f5) | 0;
    let t = Math.imul(seed ^ (seed >>> 15), 1 | seed);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  };
}

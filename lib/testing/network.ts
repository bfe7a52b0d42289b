/**
 * A network in memory: its hosts, its links and their time.
 *
 * @module
 */
import {
  formatAddress,
  ipVersion,
  isMulticast,
  isWildcard,
  type UdpAddress,
  withoutZone,
} from "../address.ts";
import {
  callback,
  custom,
  list,
  orInfinity,
  readAll,
  real,
  text,
} from "../base/options.ts";
import { payloadOf } from "../base/payload.ts";
import type { Interface } from "../socket/multicast.ts";
import type { Runtime } from "../socket/runtime.ts";
import {
  type DatagramSocket,
  MAX_PAYLOAD_IPV4,
  MAX_PAYLOAD_IPV6,
  type OpenOptions,
} from "../socket/contract.ts";
import { ECONNREFUSED, EMSGSIZE, errorOf } from "../socket/linux/errno.ts";
import { type Clock, type TimerKind, Timers } from "./clock.ts";
import { ADDRESS, SimulatedSocket } from "./socket.ts";

/** A datagram in flight. */
export interface Passing {
  /** Counts all datagrams of the network from 0. */
  index: number;
  /** When it was sent, in milliseconds. */
  at: number;
  /** The source. */
  from: UdpAddress;
  /** The destination. */
  to: UdpAddress;
  /** The payload. */
  data: Uint8Array;
}

/** A datagram in flight, for a plan. */
export interface Planned extends Passing {
  /** A number from 0 up to, but not including, 1, by the network's seed. */
  random(): number;
}

/**
 * The delays of a datagram's copies, in milliseconds after the send: none is a
 * loss, two are a duplicate. Throws to make the send fail.
 */
export type Plan = (datagram: Planned) => number[];

/** The delay of a datagram without a plan, in milliseconds. */
export const LATENCY_MS = 5;
/** The Unix time at which the clock of a network is 0: some day in 2023. */
export const TIME_ORIGIN = 1_700_000_000_000;
/** The seed of a network that is given none. */
export const DEFAULT_SEED = 1;
/** The address that a socket on `0.0.0.0` sends from. */
export const CLIENT_HOST = "192.0.2.1";

/** The interfaces of a machine that has every host on its link. */
const EVERY_HOST: Interface[] = [
  { family: "IPv4", address: CLIENT_HOST, cidr: "0.0.0.0/0", scopeid: null },
  { family: "IPv6", address: "fe80::1", cidr: "::/0", scopeid: 1 },
].map((one) => ({ name: "eth0", ...one } as Interface));

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
  /**
   * The interfaces of that machine, as `Deno.networkInterfaces` has them; at first
   * one, `eth0`, on whose link every host is.
   */
  interfaces: Interface[] = EVERY_HOST;
  /** The lines written to stderr. */
  readonly warnings: string[] = [];
  /** The `runtime` option for `serve`, `request` and all others. */
  readonly runtime: Runtime;
  /** The plan for datagrams that are sent from now on. */
  plan: Plan;
  /** The clock for programs that take one; its time is {@linkcode now}. */
  readonly clock: Clock;
  /**
   * Whether a closed port, and a datagram that is larger than the MTU, are reported
   * to sockets that have a peer, as on the linux engine; otherwise they are
   * silence. It holds for sockets that are opened from now on.
   */
  icmp = false;
  /**
   * The MTU in bytes, headers of IP and UDP included, for datagrams sent with
   * `dontFragment`; all others are fragmented, and arrive.
   */
  mtu: number = Infinity;
  readonly #timers = new Timers();
  readonly #random: () => number;
  /** All hosts that had a socket, and whether they are up. */
  readonly #hosts = new Map<string, boolean>();
  /** Pairs of hosts without a link. */
  readonly #cuts = new Set<string>();
  #patienceMs: number;
  #nextPort = 50_000;

  /**
   * Makes a network without sockets.
   *
   * @param plan The outcome of each datagram.
   * @param options The seed of the plan's and the runtime's `random()`, any integer:
   * the same plan and seed give the same run, to the byte and the microsecond; and
   * the longest wait for a handler, in milliseconds of real time, see
   * {@linkcode outside}.
   * @throws {TypeError} If an argument is of a wrong type.
   * @throws {RangeError} If a number is out of range.
   */
  constructor(
    plan: Plan = () => [LATENCY_MS],
    options: {
      seed?: number | undefined;
      patienceMs?: number | undefined;
    } = {},
  ) {
    const { seed, patienceMs } = readAll("SimulatedNetwork", OPTIONS, options);
    this.plan = PLAN.read(plan, "plan");
    this.clock = this.#timers.clock;
    this.#patienceMs = patienceMs;
    // Numbers of their own: a plan does not change the jitter of a client.
    this.#random = seededRandom(~seed);
    const after = (kind: TimerKind) => (ms: number, callback: () => void) =>
      this.#timers.after(ms, callback, kind);
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
      after: after("awaited"),
      afterUnref: after("background"),
      afterExactly: after("awaited"),
      random: seededRandom(seed),
      warn: (text) => this.warnings.push(text),
    };
  }

  /** The time, in milliseconds; it passes within `run` and `runFor`. */
  get now(): number {
    return this.#timers.now;
  }
  set now(ms: number) {
    this.#timers.now = ms;
  }

  /**
   * The number of timers that are set, those of datagrams in flight not included: 0
   * when all is at rest.
   */
  get timers(): number {
    return this.#timers.size;
  }

  /** The number of datagrams that the owners of sockets have not handed back. */
  get held(): number {
    return this.#timers.held;
  }

  /**
   * Lets time pass until the promise settles.
   *
   * @param promise The promise.
   * @returns Resolves as the promise does.
   * @throws {Error} If nothing is left that could happen.
   * @throws {TypeError} If it is no promise.
   */
  async run<T>(promise: PromiseLike<T>): Promise<T> {
    PROMISE.read(promise, "promise");
    let settled = false;
    const settle = () => {
      settled = true;
    };
    promise.then(settle, settle);
    while (true) {
      // Everything of this instant happens before time moves on.
      const isQuiet = await this.#timers.quiet(this.#patienceMs, () => settled);
      // The next handlers are less likely to settle too.
      if (!isQuiet) this.#patienceMs /= 2;
      if (settled) return promise;
      if (!this.#timers.advance()) {
        throw new Error(
          "Nothing is left to happen on the network: wait for all else in network.outside()",
        );
      }
    }
  }

  /**
   * Lets time pass.
   *
   * @param ms The duration, in milliseconds.
   * @returns Resolves when it has passed.
   */
  runFor(ms: number): Promise<void> {
    MS.read(ms, "ms");
    return this.run(
      new Promise((resolve) => this.runtime.after(ms, resolve)),
    );
  }

  /**
   * Has time stand still until work outside of the network has settled: a file, a
   * database, another process.
   *
   * Without it, time stands still for a server's handler until this has settled, or
   * waits for a timer that it has set, as that of its own `request()`; for at most
   * 1000 ms of real time (`patienceMs`), half of that after each vain wait.
   *
   * @param work The promise of that work, which is waited for without a limit.
   * @returns Settles as the promise does.
   */
  outside<T>(work: PromiseLike<T>): Promise<T> {
    return this.#timers.outside(work);
  }

  /**
   * Ends the host of an IP address at once: its sockets are closed, datagrams to it
   * are lost, and no socket can be opened until {@linkcode restart}.
   */
  crash(hostname: string): void {
    HOST.read(hostname, "hostname");
    this.#hosts.set(hostname, false);
    for (const socket of [...this.sockets.values()]) {
      if (socket.addr.hostname === hostname) socket.close();
    }
  }

  /** Starts a host that has crashed, whose ports are closed at first. */
  restart(hostname: string): void {
    HOST.read(hostname, "hostname");
    this.#hosts.set(hostname, true);
  }

  /**
   * Loses all datagrams between two hosts, by their IP addresses, those in flight
   * included, until {@linkcode heal}.
   */
  partition(one: string, other: string): void {
    HOSTS.read([one, other], "hosts");
    this.#cuts.add(`${one} ${other}`).add(`${other} ${one}`);
  }

  /** Ends the partition of two hosts. */
  heal(one: string, other: string): void {
    HOSTS.read([one, other], "hosts");
    this.#cuts.delete(`${one} ${other}`);
    this.#cuts.delete(`${other} ${one}`);
  }

  /**
   * Sends a datagram from any source, as the plan has it.
   *
   * @throws {Error} `EMSGSIZE` of more bytes than UDP carries, 65,507 over IPv4 and
   * 65,527 over IPv6; or the error of the plan.
   * @throws {TypeError} If an argument, or the plan's value, is of a wrong type.
   */
  pass(
    from: UdpAddress,
    to: UdpAddress,
    payload: Uint8Array,
    sender?: SimulatedSocket,
  ): void {
    const data = new Uint8Array(payloadOf(payload, "pass()"));
    ADDRESS.read(from, "from");
    ADDRESS.read(to, "to");
    const passing = { index: this.sent.length, at: this.now, from, to, data };
    const isIPv6 = to.hostname.includes(":");
    const isTooLong = data.length >
      (isIPv6 ? MAX_PAYLOAD_IPV6 : MAX_PAYLOAD_IPV4);
    if (!isTooLong) this.sent.push(passing);
    const delaysMs = this.plan({ ...passing, random: this.#random });
    if (isTooLong) throw errorOf(EMSGSIZE);
    DELAYS.read(delaysMs, "value of the plan");
    const isCut = () =>
      this.#cuts.size > 0 &&
      this.#cuts.has(`${from.hostname} ${to.hostname}`);
    if (isCut()) return;
    const headers = isIPv6 ? 48 : 28;
    for (const delayMs of delaysMs) {
      const flight = (callback: () => void) =>
        this.#timers.after(delayMs, () => isCut() || callback(), "flight");
      const report = (error: Error) => flight(() => sender?.report(error));
      flight(() => {
        if (sender?.dontFragment && data.length + headers > this.mtu) {
          return report(tooLong(this.mtu));
        }
        const [first, ...others] = this.#at(to);
        if (first === undefined && this.#hosts.get(to.hostname)) {
          return report(errorOf(ECONNREFUSED));
        }
        first?.arrive(data, from, to);
        this.#timers.next(
          others.map((socket) => () => socket.arrive(data, from, to)),
        );
      });
    }
  }

  /** The members of a group, or the one socket at an address. */
  #at(to: UdpAddress): SimulatedSocket[] {
    const one = this.sockets.get(formatAddress(to));
    if (!isMulticast(to.hostname)) return one === undefined ? [] : [one];
    const host = withoutZone(to.hostname);
    return [...this.sockets.values()].filter(({ addr, groups }) =>
      addr.port === to.port && [...groups].some(({ group }) => group === host)
    );
  }

  #open(options: OpenOptions): DatagramSocket {
    const { hostname: host, port } = options;
    const wildcard = ipVersion(host) === 6 ? "2001:db8::1" : CLIENT_HOST;
    const hostname = isWildcard(host) ? wildcard : host;
    const addr = { hostname, port: port === 0 ? this.#nextPort++ : port };
    const key = formatAddress(addr);
    if (this.sockets.has(key)) throw new Deno.errors.AddrInUse(key);
    if (this.#hosts.get(hostname) === false) {
      throw new Deno.errors.AddrNotAvailable(`${hostname} has crashed`);
    }
    this.#hosts.set(hostname, true);
    const socket = new SimulatedSocket(this, this.#timers, addr, options);
    this.sockets.set(key, socket);
    return socket;
  }
}

/** The report about a datagram that is larger than the MTU of its path. */
function tooLong(mtu: number): Error {
  const error = errorOf(EMSGSIZE);
  error.message =
    `Message too long: the path takes datagrams of at most ${mtu} bytes with headers`;
  return Object.assign(error, { mtu });
}

/** The longest wait for a handler, in milliseconds of real time. */
const PATIENCE_MS = 1000;

const MOST = Number.MAX_SAFE_INTEGER;
const PLAN = callback<Plan>();
const OPTIONS = {
  seed: real(-MOST, MOST, DEFAULT_SEED),
  patienceMs: orInfinity(real(0, MOST, PATIENCE_MS, " ms")),
};
const MS = real(0, MOST, undefined, " ms");
const DELAYS = list(orInfinity(MS));
const HOST = text();
const HOSTS = list(HOST);
const PROMISE = custom<PromiseLike<unknown>>("a promise", (value) => {
  const { then } = (value ?? {}) as Partial<PromiseLike<unknown>>;
  return typeof then === "function" ? undefined : TypeError;
});

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

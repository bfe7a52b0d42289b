/**
 * The system as the library uses it: sockets, names and time. Tests replace it by
 * a simulated network.
 *
 * @module
 */
import {
  canonicalHostname,
  ipVersion,
  isLocalhost,
  type UdpAddress,
} from "../address.ts";
import type { Interface } from "./multicast.ts";
import type { DatagramSocket, OpenOptions } from "./contract.ts";
import * as option from "../base/options.ts";
import { openDenoSocket } from "./deno_socket.ts";
import { isPermitted } from "./net_access.ts";
import { type ClockState, wallOrigin } from "../base/wall_clock.ts";
import { warn } from "../base/warn.ts";

/**
 * The implementation of sockets: `deno` by `Deno.listenDatagram`, everywhere;
 * `linux` by recvmmsg and sendmmsg through FFI, which is many times as fast, needs
 * Linux on x86-64 or arm64 and `--allow-ffi`, and reports a closed port to a client
 * at once; `auto` is `linux` where it is available.
 */
export type Engine = "auto" | "deno" | "linux";

/** All engines. */
export const ENGINES: readonly Engine[] = ["deno", "linux", "auto"];

/** The engine that is used where the caller names none. */
export const DEFAULT_ENGINE: Engine = "deno";

/** Sockets, names, time and chance. */
export interface Runtime {
  /** Binds a socket; throws the system's error. */
  open(options: OpenOptions): DatagramSocket;
  /** The IP addresses of a host name, at least one; rejects if there is none. */
  resolve(hostname: string): Promise<string[]>;
  /**
   * Whether an IP address is one of this machine's; false where that is not
   * permitted to know.
   */
  ownsAddress(hostname: string): boolean;
  /** Whether an address may be used without asking anybody for permission. */
  isPermitted(address: UdpAddress): boolean;
  /** All addresses of this machine's interfaces; throws if it may not know. */
  interfaces(): readonly Interface[];
  /** A monotonic clock, in milliseconds. */
  now(): number;
  /**
   * The Unix time, in milliseconds, at which `now()` was 0, by the wall clock as
   * it is: where that is set, this changes.
   */
  readonly timeOrigin: number;
  /** The state of the wall clock; undefined where it is not known. */
  clockState?(): ClockState | undefined;
  /** Calls back once, after `ms` milliseconds; returns a function that cancels. */
  after(ms: number, callback: () => void): () => void;
  /** As `after`, by a timer that does not keep the process alive. */
  afterUnref(ms: number, callback: () => void): () => void;
  /**
   * Calls back as `after` does, to within microseconds, at the price of a
   * processor that is busy for the last milliseconds. `pause` is called again and
   * again meanwhile with the time left, and must not take longer.
   */
  afterExactly(
    ms: number,
    callback: () => void,
    pause?: (leftMs: number) => void,
  ): () => void;
  /**
   * A number from 0 up to, but not including, 1: for spreading and jitter, never
   * for what a peer must not guess.
   */
  random(): number;
  /** Warns the developer or operator, in lines on stderr. */
  warn(text: string): void;
}

const timeOrigin = wallOrigin(
  performance.timeOrigin,
  () => performance.now(),
  () => Date.now(),
);

/** The real system, through Deno. */
export const denoRuntime: Runtime = {
  open: openDenoSocket,
  resolve: lookup,
  ownsAddress,
  isPermitted,
  interfaces,
  now: () => performance.now(),
  get timeOrigin() {
    return timeOrigin();
  },
  after,
  afterUnref,
  afterExactly,
  random: Math.random,
  warn,
};

/** The part of a runtime that the linux engine replaces. */
interface LinuxEngine extends Required<Pick<Runtime, "open" | "clockState">> {
  /** The reason for which the engine cannot be used here. */
  missing(): string | undefined;
}

let linux: (LinuxEngine & { runtime: Runtime }) | undefined;

/** Adds the linux engine: called by `linux_engine.ts` when it is loaded. */
export function addLinuxEngine(engine: LinuxEngine): void {
  const { open, clockState } = engine;
  const replaced = { open: { value: open }, clockState: { value: clockState } };
  linux = { ...engine, runtime: Object.create(denoRuntime, replaced) };
}

function linuxEngine(): NonNullable<typeof linux> {
  if (linux !== undefined) return linux;
  throw new Error("The linux engine is not loaded: import linux_engine.ts");
}

/** The real system, with sockets made by one of the engines. */
export function runtimeFor(engine: Engine): Runtime {
  return chooseEngine(engine).engine === "linux"
    ? linuxEngine().runtime
    : denoRuntime;
}

/** The engine that `auto` chooses, with the reason where it is not linux. */
export function chooseEngine(
  engine: Engine,
): { engine: "deno" | "linux"; why?: string } {
  if (engine !== "auto") return { engine };
  const missing = linuxEngine().missing();
  return missing === undefined
    ? { engine: "linux" }
    : { engine: "deno", why: `no linux engine: ${missing}` };
}

/** The options of everything that uses sockets or time. */
export interface RuntimeOptions {
  /**
   * The maker of sockets, see {@linkcode Engine}.
   *
   * @default {"deno"}
   */
  engine?: Engine | undefined;
  /**
   * Sockets, names, time and chance; for tests.
   *
   * @default {runtimeFor(engine)}
   */
  runtime?: Runtime | undefined;
}

/** The table of {@linkcode RuntimeOptions}. */
export const RUNTIME = {
  engine: option.oneOf(ENGINES, DEFAULT_ENGINE),
  runtime: option.object<Runtime>(),
} satisfies option.Table<RuntimeOptions>;

/** The runtime of checked options. */
export function runtimeOf(options: option.Values<typeof RUNTIME>): Runtime {
  return options.runtime ?? runtimeFor(options.engine);
}

/** Never asks for the permission, as there may be another way. */
function interfaces(): Deno.NetworkInterfaceInfo[] {
  const needed = { name: "sys", kind: "networkInterfaces" } as const;
  const { state } = Deno.permissions.querySync(needed);
  if (state === "granted") return Deno.networkInterfaces();
  throw new Deno.errors.NotCapable(
    'Requires sys access to "networkInterfaces", run again with the ' +
      "--allow-sys=networkInterfaces flag",
  );
}

/** Only an address of this machine can be bound. */
function ownsAddress(hostname: string): boolean {
  if (!isPermitted({ hostname, port: 0 })) return false;
  try {
    openDenoSocket({ hostname, port: 0, maxDatagramBytes: 1 }).close();
    return true;
  } catch {
    return false;
  }
}

function after(ms: number, callback: () => void): () => void {
  const timer = setTimeout(callback, ms);
  return () => clearTimeout(timer);
}

function afterUnref(ms: number, callback: () => void): () => void {
  const timer = setTimeout(callback, ms);
  Deno.unrefTimer(timer);
  return () => clearTimeout(timer);
}

/**
 * Waits by a timer of the system, which is late by 1.3 ms in the median and 3 ms at
 * worst, until 4 ms before the time, and by turns of the event loop of 2 us for the
 * rest, each after a pause.
 */
function afterExactly(
  ms: number,
  callback: () => void,
  pause: (leftMs: number) => void = () => {},
): () => void {
  const due = performance.now() + ms;
  let cancel = () => {};
  let cancelled = false;
  const turn = () => {
    if (cancelled) return;
    const leftMs = due - performance.now();
    if (leftMs <= 0) return callback();
    pause(leftMs);
    setImmediate(turn);
  };
  if (ms > SPIN_MS) cancel = after(ms - SPIN_MS, turn);
  else setImmediate(turn);
  return () => {
    cancelled = true;
    cancel();
  };
}

const SPIN_MS = 4;

/**
 * The IP addresses of a host, those of IPv4 first: itself if it is one, else all of
 * the name; both of loopback for `localhost` (RFC 6761, section 6.3).
 *
 * @throws {Deno.errors.NotFound} If the name does not resolve.
 */
export async function addressesOf(
  hostname: string,
  runtime: Runtime,
): Promise<string[]> {
  const host = canonicalHostname(hostname);
  if (ipVersion(host) !== undefined) return [host];
  if (isLocalhost(host)) return ["127.0.0.1", "::1"];
  const found = (await runtime.resolve(host)).map(canonicalHostname);
  if (found.length === 0) throw unresolved(hostname);
  return [...new Set(found)]
    .sort((one, other) => ipVersion(one)! - ipVersion(other)!);
}

async function lookup(hostname: string): Promise<string[]> {
  // Only a name needs the resolver of the system (Deno.resolveDns knows no
  // hosts file), so only a name pays for loading it.
  const dns = await import("node:dns/promises");
  try {
    const found = await dns.lookup(hostname, { all: true });
    return found.map(({ address }) => address);
  } catch (error) {
    if (error instanceof Deno.errors.NotCapable) throw error;
    throw unresolved(hostname, error);
  }
}

function unresolved(hostname: string, cause?: unknown): Error {
  return new Deno.errors.NotFound(
    `Cannot resolve '${hostname}': check its spelling, or give an IP address`,
    { cause },
  );
}

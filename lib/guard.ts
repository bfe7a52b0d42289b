/**
 * Who gets an answer: what keeps a server from being made an amplifier, a
 * source of floods, or one half of a loop (CVE-2024-2169). Pure: the caller
 * passes in the clock.
 *
 * @module
 */
import {
  ipv6Groups,
  isLoopback,
  isWildcard,
  type UdpAddress,
  withoutZone,
} from "./address.ts";
import { equalBytes } from "./encoding.ts";
import { requireInteger, requireNumber } from "./errors.ts";
import { RecentMap } from "./recent_map.ts";

/** Options of the guard; each may be turned off by 0. */
export interface GuardOptions {
  /**
   * How many times the bytes of its request an answer may have, both counted
   * on the wire with IP and UDP headers, 0 to 1,000; 0 is no limit. A forged
   * source then gains an attacker no more than that factor (RFC 9000, section
   * 8.1, has the 3).
   *
   * @default {3}
   */
  maxAmplification?: number | undefined;
  /**
   * How many answers a second may go to one network, a /24 of IPv4 or a /56 of
   * IPv6, 0 to 1,000,000,000; 0 is no limit. As many may go at once after a
   * pause.
   *
   * @default {1000, or 0 if bound to loopback}
   */
  rateLimit?: number | undefined;
}

/** The defaults of {@linkcode GuardOptions}, where not bound to loopback. */
export const GUARD_DEFAULTS = { maxAmplification: 3, rateLimit: 1000 } as const;

/** What {@linkcode GuardOptions} allow, with nothing left open. */
export interface GuardLimits {
  /** How many times the bytes of its request an answer may have; 0: any. */
  maxAmplification: number;
  /** How many answers a second a network may get; 0: any number. */
  rateLimit: number;
}

/**
 * Why a datagram is not answered:
 *
 * - `amplification`: the answer is too large for what was asked.
 * - `rate`: its network got enough answers for now.
 * - `self`: it comes from the server's own address and port.
 * - `port`: it comes from port 0, or from a port of a service that answers
 *   anything: echo (7), daytime (13), quote (17), chargen (19), time (37).
 * - `source`: it comes from an address that no host can have, such as
 *   broadcast or multicast.
 * - `ownReply`: it is the server's own fixed reply.
 * - `loop`: the same payload has come from the same address and port for so
 *   long without a pause that two servers may be answering each other. One
 *   datagram goes unanswered, which ends a loop; a client would send again.
 */
export type Refusal =
  | "amplification"
  | "rate"
  | "self"
  | "port"
  | "source"
  | "ownReply"
  | "loop";

/** All reasons. */
export const REFUSALS: readonly Refusal[] = [
  "amplification",
  "rate",
  "self",
  "port",
  "source",
  "ownReply",
  "loop",
];

/**
 * Checks options of the guard.
 *
 * @throws {TypeError} If one is of a wrong type.
 * @throws {RangeError} If a number is out of range.
 */
export function checkGuardOptions(options: GuardOptions): void {
  if (typeof options !== "object" || options === null) {
    throw new TypeError("'guard' must be an object with options, or false");
  }
  const { maxAmplification, rateLimit } = options;
  if (maxAmplification !== undefined) {
    requireNumber("maxAmplification", maxAmplification, 0, 1000);
  }
  if (rateLimit !== undefined) {
    requireInteger("rateLimit", rateLimit, 0, 1_000_000_000);
  }
}

/** What the options allow a server that is bound to this address. */
export function guardLimits(
  { maxAmplification = GUARD_DEFAULTS.maxAmplification, rateLimit }:
    GuardOptions,
  local: UdpAddress,
): GuardLimits {
  const usual = isLoopback(local.hostname) ? 0 : GUARD_DEFAULTS.rateLimit;
  return { maxAmplification, rateLimit: rateLimit ?? usual };
}

/**
 * Replies that are the same for every datagram. A datagram with the same bytes
 * can only come from such a server, or from one that plays tricks.
 */
export const fixedReplies: WeakSet<Uint8Array> = new WeakSet();

/** Judges each datagram before the handler sees it, and each answer. */
export class Guard {
  readonly #limits: GuardLimits;
  readonly #local: UdpAddress;
  readonly #now: () => number;
  readonly #buckets = new RecentMap<string, Bucket>(MAX_NETWORKS);
  readonly #flows = new RecentMap<string, Flow>(MAX_FLOWS);
  #random = 1;
  #lastRemote: UdpAddress | undefined;
  #lastRefusal: Refusal | undefined;
  #lastFlow: { remote: UdpAddress; flow: Flow } | undefined;

  /**
   * Makes a guard.
   *
   * @param limits What is allowed.
   * @param local The address that the server is bound to.
   * @param now A clock, in milliseconds.
   */
  constructor(
    limits: GuardLimits,
    local: UdpAddress,
    now: () => number,
  ) {
    this.#limits = limits;
    this.#local = local;
    this.#now = now;
  }

  /** How many networks and flows are remembered. */
  get size(): number {
    return this.#buckets.size + this.#flows.size;
  }

  /** Whether this datagram may be answered at all. */
  admit(remote: UdpAddress, data: Uint8Array): Refusal | undefined {
    // An engine that gives one peer the same object has it judged once.
    if (remote !== this.#lastRemote) {
      this.#lastRemote = remote;
      this.#lastRefusal = this.#judge(remote);
    }
    if (this.#lastRefusal !== undefined) return this.#lastRefusal;
    // A loop has datagrams to spare: looking at one in eight, by a linear
    // congruential generator so that no pattern of traffic escapes, keeps the
    // cost of looking down.
    this.#random = (Math.imul(this.#random, 1_664_525) + 1_013_904_223) | 0;
    if (this.#random >>> 29 !== 0) return undefined;
    return this.#isLoop(remote, data) ? "loop" : undefined;
  }

  /** Whether this answer may go out to that datagram. */
  permit(
    remote: UdpAddress,
    data: Uint8Array,
    answer: Uint8Array,
  ): Refusal | undefined {
    const { maxAmplification, rateLimit } = this.#limits;
    if (answer.length > data.length && maxAmplification !== 0) {
      const headers = remote.hostname.includes(":") ? 48 : 28;
      const allowed = maxAmplification * (data.length + headers);
      if (answer.length + headers > allowed) return "amplification";
    }
    // An echo returns what it got, and needs no look.
    if (
      answer.length === data.length && answer !== data &&
      fixedReplies.has(answer) && equalBytes(answer, data)
    ) {
      return "ownReply";
    }
    if (rateLimit !== 0 && !this.#takeToken(remote.hostname, rateLimit)) {
      return "rate";
    }
    return undefined;
  }

  /** What is wrong with an address, whatever it sends. */
  #judge({ hostname, port }: UdpAddress): Refusal | undefined {
    if (ANSWERING_PORTS.has(port)) return "port";
    if (port === this.#local.port && this.#isSelf(hostname)) return "self";
    return isUnicast(hostname) ? undefined : "source";
  }

  #isSelf(hostname: string): boolean {
    return hostname === this.#local.hostname ||
      (isWildcard(this.#local.hostname) && isLoopback(hostname));
  }

  #takeToken(hostname: string, rateLimit: number): boolean {
    const network = networkOf(hostname);
    const now = this.#now();
    let bucket = this.#buckets.get(network);
    if (bucket === undefined) {
      bucket = { tokens: rateLimit, at: now };
      this.#buckets.set(network, bucket);
    }
    // A clock that was set back adds nothing and takes nothing.
    const elapsedMs = Math.max(0, now - bucket.at);
    bucket.tokens = Math.min(
      rateLimit,
      bucket.tokens + elapsedMs * rateLimit / 1000,
    );
    bucket.at = now;
    if (bucket.tokens < 1) return false;
    bucket.tokens--;
    return true;
  }

  /**
   * In a loop of two servers the same payload comes from the same peer, again
   * and again, as fast as both can answer: whether they echo or have fixed
   * replies. A client that does so looks the same; it loses one datagram in
   * more than {@linkcode MIN_LOOP}.
   */
  #isLoop(remote: UdpAddress, data: Uint8Array): boolean {
    const payload = fingerprint(data);
    const now = this.#now();
    const flow = this.#flowOf(remote, payload, now);
    const goesOn = payload === flow.payload && now - flow.at < MAX_PAUSE_MS;
    flow.at = now;
    if (goesOn) {
      flow.count += SAMPLING;
      if (flow.count < MIN_LOOP || now - flow.since < MIN_LOOP_MS) return false;
    }
    flow.payload = payload;
    flow.since = now;
    flow.count = 0;
    return goesOn;
  }

  #flowOf(remote: UdpAddress, payload: number, now: number): Flow {
    if (this.#lastFlow?.remote === remote) return this.#lastFlow.flow;
    const key = `${remote.hostname} ${remote.port}`;
    let flow = this.#flows.get(key);
    if (flow === undefined) {
      flow = { payload, since: now, at: now, count: 0 };
      this.#flows.set(key, flow);
    }
    this.#lastFlow = { remote, flow };
    return flow;
  }
}

/** The answers that a network may still get, as of a moment. */
interface Bucket {
  tokens: number;
  at: number;
}

/** The same payload from the same peer, since when and how often. */
interface Flow {
  payload: number;
  since: number;
  at: number;
  count: number;
}

/** The /24 of an IPv4 address, the /56 of an IPv6 address, as a key. */
export function networkOf(hostname: string): string {
  if (!hostname.includes(":")) {
    return hostname.slice(0, hostname.lastIndexOf("."));
  }
  const [a, b, c, d] = ipv6Groups(withoutZone(hostname)) as number[];
  // 56 bits: three groups, and the upper half of the fourth.
  return [a, b, c, d! >> 8].map((group) => group!.toString(16)).join(":");
}

/** Whether a host can have this address: not broadcast, multicast, reserved. */
function isUnicast(hostname: string): boolean {
  if (hostname.includes(":")) {
    return !MULTICAST_REGEXP.test(hostname) && hostname !== "::";
  }
  const first = parseInt(hostname, 10);
  return first > 0 && first < 224;
}

/** A number made of a payload's length and ends (FNV-1a). */
function fingerprint(data: Uint8Array): number {
  const { length } = data;
  const head = Math.min(length, FINGERPRINT_BYTES);
  let hash = Math.imul(FNV_OFFSET ^ length, FNV_PRIME);
  for (let i = 0; i < head; i++) {
    hash = Math.imul(hash ^ data[i]!, FNV_PRIME);
  }
  for (let i = Math.max(head, length - FINGERPRINT_BYTES); i < length; i++) {
    hash = Math.imul(hash ^ data[i]!, FNV_PRIME);
  }
  return hash;
}

const MULTICAST_REGEXP = /^ff[0-9a-f]{2}:/;

/** Port 0, and those that inetd's successors refuse since they answer. */
const ANSWERING_PORTS = new Set([0, 7, 13, 17, 19, 37]);

/** As many as BIND's response rate limiting keeps (max-table-size). */
const MAX_NETWORKS = 20_000;
const MAX_FLOWS = 4096;

/** One datagram in so many is looked at for a loop. */
const SAMPLING = 8;
/** A loop runs for at least so many datagrams, and so long, without a pause. */
const MIN_LOOP = 192;
const MIN_LOOP_MS = 500;
const MAX_PAUSE_MS = 500;

const FINGERPRINT_BYTES = 32;
const FNV_OFFSET = 0x811c9dc5;
const FNV_PRIME = 0x01000193;

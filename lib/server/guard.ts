/**
 * Who gets an answer: what keeps a server from being made an amplifier, a
 * source of floods, or one half of a loop (CVE-2024-2169). Pure: the caller
 * passes in the clock.
 *
 * @module
 */
import {
  ipv6Groups,
  isInNetwork,
  isLoopback,
  isMulticast,
  isWildcard,
  type Network,
  parseNetwork,
  type UdpAddress,
  withoutZone,
} from "../address.ts";
import * as option from "../base/options.ts";
import { RecentMap, SegmentedMap } from "../base/recent_map.ts";
import type { Runtime } from "../socket/runtime.ts";

/** Options of the guard; each may be turned off by 0. */
export interface GuardOptions {
  /**
   * How many times the bytes of its request an answer may have, both counted
   * on the wire with IP and UDP headers, 0 to 1,000; 0 is no limit. A forged
   * source then gains an attacker no more than that factor (RFC 9000, section
   * 8.1, has the 3). All answers to one datagram count together.
   *
   * @default {3, or 0 if bound to loopback}
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
  /**
   * Networks, such as `"10.0.0.0/8"`, that are answered in full and as often as
   * they ask; loops are ended there too. Name only networks whose addresses
   * nobody outside can forge. By default the limits that are not given do not
   * hold for loopback; with a list they hold for all that is not on it.
   *
   * @default {["127.0.0.0/8", "::1"]}
   */
  trusted?: readonly string[] | undefined;
  /**
   * Whether what came to a multicast group is answered wherever it is from. Else
   * only addresses on one of this machine's links are answered, as nobody else
   * should have heard of the group; the deno engine, which is not told what came
   * to a group, then answers no others at all.
   *
   * @default {false}
   */
  answerOffLink?: boolean | undefined;
  /**
   * Whether loops are ended: a peer that replies to a copy of an answer from
   * another port would reply to any answer, and gets none for a minute. Such a
   * copy leaves after 1,000 answers without a pause of 10 s (25,000 if nothing
   * is suspect), then after four times as many; nothing waits for it. It needs
   * the permission to bind any port of the server's host.
   *
   * @default {true}
   */
  loops?: boolean | undefined;
}

/** The networks of this machine alone. */
export const LOOPBACK_NETWORKS: readonly string[] = ["127.0.0.0/8", "::1"];

/** The table of {@linkcode GuardOptions}. */
export const GUARD = {
  maxAmplification: option.dependent(option.real(0, 1000, 3)),
  rateLimit: option.dependent(option.integer(0, 1_000_000_000, 1000)),
  trusted: option.list(
    option.custom<string>("a network, such as 10.0.0.0/8", (value) => {
      if (typeof value !== "string") return TypeError;
      parseNetwork(value);
    }),
  ),
  answerOffLink: option.flag(false),
  loops: option.flag(true),
} satisfies option.Table<GuardOptions>;

/** The defaults of {@linkcode GuardOptions}, where not bound to loopback. */
export const GUARD_DEFAULTS = option.defaultsOf(GUARD);

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
 * - `offLink`: it came to a multicast group, from an address on none of this
 *   machine's links.
 * - `loop`: its address and port replied to a copy of an answer that came from
 *   another port: it replies to any answer, so that the two would never stop.
 */
export type Refusal =
  | "amplification"
  | "rate"
  | "self"
  | "port"
  | "source"
  | "ownReply"
  | "offLink"
  | "loop";

/** All reasons. */
export const REFUSALS: readonly Refusal[] = [
  "amplification",
  "rate",
  "self",
  "port",
  "source",
  "ownReply",
  "offLink",
  "loop",
];

/** Why an answer was refused, in words. */
export const REFUSAL_WORDS: Readonly<Record<Refusal, string>> = {
  amplification: "the answer is too large for its request",
  rate: "too many answers a second to its network",
  self: "it comes from the server's own address and port",
  port: "it comes from a port whose service may answer in turn",
  source: "it comes from an address that no host can have",
  ownReply: "it is this server's own reply",
  offLink: "it came to a group, from none of this machine's links",
  loop: "it replies to answers, as another server would",
};

/** What the options allow a server that is bound to this address. */
export function guardLimits(
  { maxAmplification, rateLimit, trusted }: GuardOptions,
  local: UdpAddress,
): GuardLimits {
  const isTrusted = isLoopback(local.hostname) && trusted === undefined;
  const usual = isTrusted
    ? { maxAmplification: 0, rateLimit: 0 }
    : GUARD_DEFAULTS;
  return {
    maxAmplification: maxAmplification ?? usual.maxAmplification,
    rateLimit: rateLimit ?? usual.rateLimit,
  };
}

/** Judges where a datagram comes from, and each answer. */
export class Guard {
  readonly #limits: GuardLimits;
  readonly #trusted: Network[];
  /** Whether each limit holds for loopback. */
  readonly #onLoopback: { maxAmplification: boolean; rateLimit: boolean };
  readonly #local: UdpAddress;
  readonly #system: Pick<Runtime, "now" | "ownsAddress">;
  /** Which addresses are this machine's, of those that used our port. */
  readonly #own = new RecentMap<string, boolean>(MAX_OWN);
  #askedAt = -Infinity;
  readonly #buckets = new SegmentedMap<string, Bucket>(MAX_NETWORKS);
  #lastRemote: UdpAddress | undefined;
  #lastRefusal: Refusal | undefined;

  /**
   * Makes a guard.
   *
   * @param options What is allowed, checked.
   * @param local The address that the server is bound to.
   * @param system A clock, in milliseconds, and the machine's addresses.
   */
  constructor(
    options: GuardOptions,
    local: UdpAddress,
    system: Pick<Runtime, "now" | "ownsAddress">,
  ) {
    const { maxAmplification, rateLimit, trusted } = options;
    this.#limits = guardLimits(options, local);
    this.#trusted = (trusted ?? []).map(parseNetwork);
    const isGiven = (limit?: number) =>
      limit !== undefined || trusted !== undefined;
    this.#onLoopback = {
      maxAmplification: isGiven(maxAmplification),
      rateLimit: isGiven(rateLimit),
    };
    this.#local = local;
    this.#system = system;
  }

  /** How many networks are remembered. */
  get size(): number {
    return this.#buckets.size;
  }

  /** Whether a datagram from this address may be answered at all. */
  admit(remote: UdpAddress): Refusal | undefined {
    // An engine that gives one peer the same object has it judged once; not who
    // has our own port, as it may not be known yet whether that is us.
    if (remote !== this.#lastRemote || remote.port === this.#local.port) {
      this.#lastRemote = remote;
      this.#lastRefusal = this.#judge(remote);
    }
    return this.#lastRefusal;
  }

  /**
   * How many bytes an answer to a datagram of so many may have; Infinity
   * without a limit.
   *
   * @param remote Where the datagram came from.
   * @param requestBytes How many bytes it has.
   * @param spent How many its other answers had so far, with their headers.
   */
  maxReplyBytes(remote: UdpAddress, requestBytes: number, spent = 0): number {
    const { maxAmplification } = this.#limits;
    if (
      maxAmplification === 0 || !this.#isHeld(remote, "maxAmplification")
    ) return Infinity;
    const headers = headersOf(remote);
    const allowed = maxAmplification * (requestBytes + headers);
    return Math.floor(allowed - spent - headers);
  }

  /**
   * Whether this answer may go out to that datagram.
   *
   * @param remote Where the datagram came from.
   * @param data Its payload.
   * @param answer The answer.
   * @param spent How many bytes its other answers had so far, with their
   * headers.
   */
  permit(
    remote: UdpAddress,
    data: Uint8Array,
    answer: Uint8Array,
    spent = 0,
  ): Refusal | undefined {
    const { maxAmplification, rateLimit } = this.#limits;
    const isLarger = spent > 0 || answer.length > data.length ||
      maxAmplification < 1;
    if (
      isLarger &&
      answer.length > this.maxReplyBytes(remote, data.length, spent)
    ) return "amplification";
    if (
      rateLimit !== 0 && this.#isHeld(remote, "rateLimit") &&
      !this.#takeToken(remote.hostname, rateLimit)
    ) {
      return "rate";
    }
    return undefined;
  }

  /** Whether a limit holds for an address. */
  #isHeld(
    { hostname }: UdpAddress,
    limit: "maxAmplification" | "rateLimit",
  ): boolean {
    if (!this.#onLoopback[limit] && isLoopback(hostname)) return false;
    return !this.#trusted.some((network) => isInNetwork(network, hostname));
  }

  /** What is wrong with an address, whatever it sends. */
  #judge({ hostname, port }: UdpAddress): Refusal | undefined {
    if (ANSWERING_PORTS.has(port)) return "port";
    if (port === this.#local.port && this.#isSelf(hostname)) return "self";
    return isUnicast(hostname) ? undefined : "source";
  }

  #isSelf(hostname: string): boolean {
    return hostname === this.#local.hostname ||
      (isWildcard(this.#local.hostname) &&
        (isLoopback(hostname) || this.#isOwn(hostname)));
  }

  #isOwn(hostname: string): boolean {
    const known = this.#own.get(hostname);
    if (known !== undefined) return known;
    // Asking takes a system call: forged addresses must not make many.
    const now = this.#system.now();
    if (now - this.#askedAt < ASK_EVERY_MS) return false;
    this.#askedAt = now;
    const isOwn = this.#system.ownsAddress(hostname);
    this.#own.set(hostname, isOwn);
    return isOwn;
  }

  #takeToken(hostname: string, rateLimit: number): boolean {
    const network = networkOf(hostname);
    const now = this.#system.now();
    let bucket = this.#buckets.get(network);
    if (bucket === undefined) {
      // In a crowded table it may be an old one that was forgotten.
      const share = this.#buckets.isCrowded ? CROWDED_SHARE : 1;
      bucket = { tokens: Math.max(1, share * rateLimit), at: now };
      this.#buckets.add(network, bucket);
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
}

/** The bytes of the IP and UDP headers of a datagram to or from an address. */
export function headersOf({ hostname }: UdpAddress): number {
  return hostname.includes(":") ? 48 : 28;
}

/** The answers that a network may still get, as of a moment. */
interface Bucket {
  tokens: number;
  at: number;
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
  let first = 0;
  for (let i = 0; i < hostname.length; i++) {
    const digit = hostname.charCodeAt(i) - ZERO;
    if (digit < 0) return first > 0 && first < 224;
    if (digit > 9) break;
    first = 10 * first + digit;
  }
  return !isMulticast(hostname) && hostname !== "::";
}

/** The first digit; a dot comes before it, a colon and letters behind the last. */
const ZERO = 48;

/** Port 0, and those that inetd's successors refuse since they answer. */
const ANSWERING_PORTS = new Set([0, 7, 13, 17, 19, 37]);

/** As many as BIND's response rate limiting keeps (max-table-size). */
const MAX_NETWORKS = 20_000;
/** The share of its limit that a new network gets at once in a full table. */
const CROWDED_SHARE = 1 / 20;
const MAX_OWN = 256;
const ASK_EVERY_MS = 10;

/**
 * Judges sources and answers, so that forged datagrams cannot make a server an
 * amplifier or a source of floods. Pure: the caller passes in the clock.
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
import { FairMap, PROOF_MS } from "../base/fair_map.ts";
import { RecentMap } from "../base/recent_map.ts";
import type { Runtime } from "../socket/runtime.ts";

/** Options of the guard; each may be turned off by 0. */
export interface GuardOptions {
  /**
   * The bytes of an answer as a multiple of those of its request, both counted
   * on the wire with IP and UDP headers, 0 to 1,000; 0 is no limit. A forged
   * source then gains an attacker no more than that factor (RFC 9000, section
   * 8.1, has the 3). All answers to one datagram count together.
   *
   * @default {3, or 0 if bound to loopback}
   */
  maxAmplification?: number | undefined;
  /**
   * The number of answers a second to one network, a /24 of IPv4 or a /56 of
   * IPv6, 0 to 1,000,000,000; 0 is no limit. After a
   * pause as many may leave at once.
   *
   * @default {1000, or 0 if bound to loopback}
   */
  rateLimit?: number | undefined;
  /**
   * Networks, such as `"10.0.0.0/8"`, without limits on size and rate; loops are
   * ended there too. Name only networks whose addresses
   * nobody outside can forge. Default limits exempt loopback; with
   * a list they exempt only its networks.
   *
   * @default {["127.0.0.0/8", "::1"]}
   */
  trusted?: readonly string[] | undefined;
  /**
   * Whether datagrams to a multicast group are answered from anywhere. Else only
   * addresses on one of this machine's links are answered, as others should not
   * receive the group; the deno engine, which cannot recognize datagrams to a
   * group, then answers no others at all.
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
const GUARD_DEFAULTS = option.defaultsOf(GUARD);

/** The limits that {@linkcode GuardOptions} set, with their defaults. */
export interface GuardLimits {
  /** The bytes of an answer as a multiple of its request's; 0: any. */
  maxAmplification: number;
  /** The number of answers a second to a network; 0: any. */
  rateLimit: number;
}

/** The reasons to refuse an answer, in words. */
export const REFUSAL_WORDS: Readonly<Record<Refusal, string>> = {
  amplification: "the answer is too large for its request",
  rate: "too many answers a second to its network",
  self: "its source is the server's own address and port",
  port: "its source port is of a service that may answer in turn",
  source: "its source is an address that no host can have",
  ownReply: "it is this server's own reply",
  offLink: "it was sent to a group, from none of this machine's links",
  loop: "it replies to answers, as another server would",
};

/**
 * The reason why a datagram is not answered:
 *
 * - `amplification`: the answer is too large for its request.
 * - `rate`: its network has had its answers for now.
 * - `self`: its source is the server's own address and port.
 * - `port`: its source port is 0, or that of a service that answers
 *   anything: echo (7), daytime (13), quote (17), chargen (19), time (37).
 * - `source`: its source is an address that no host can have, such as
 *   broadcast or multicast.
 * - `ownReply`: it is the server's own fixed reply.
 * - `offLink`: it was sent to a multicast group, from an address on none of this
 *   machine's links.
 * - `loop`: its address and port replied to a copy of an answer from another
 *   port: it replies to any answer, so that the two would never stop.
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
export const REFUSALS = Object.keys(REFUSAL_WORDS) as readonly Refusal[];

/** The limits of a server that is bound to this address. */
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

/** Judges the source of a datagram, and each answer. */
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
  readonly #buckets = new FairMap<Bucket>(MAX_NETWORKS);
  #lastRemote: UdpAddress | undefined;
  #lastRefusal: Refusal | undefined;

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

  /** The number of remembered networks. */
  get size(): number {
    return this.#buckets.size;
  }

  /** Whether a datagram from this address may be answered at all. */
  admit(remote: UdpAddress): Refusal | undefined {
    // A peer whose address object is reused is judged once; not one with the
    // server's own port, which may turn out to be the server itself.
    if (remote !== this.#lastRemote || remote.port === this.#local.port) {
      this.#lastRemote = remote;
      this.#lastRefusal = this.#judge(remote);
    }
    return this.#lastRefusal;
  }

  /** Whether an admitted peer gets any answer, whenever it asks. */
  isOpenTo({ port }: UdpAddress): boolean {
    const { maxAmplification, rateLimit } = this.#limits;
    return maxAmplification === 0 && rateLimit === 0 &&
      port !== this.#local.port;
  }

  /**
   * The largest answer to a datagram, in bytes; Infinity without a limit. `spent`
   * is the size of its earlier answers, with their headers.
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

  /** The reason to refuse an answer to a datagram, if there is one. */
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

  /** The reason to refuse an address, whatever it sends. */
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
      // In a full table it may be an evicted one.
      const share = this.#buckets.isFull ? CROWDED_SHARE : 1;
      const tokens = Math.max(1, share * rateLimit);
      bucket = { tokens, at: now, since: now };
    }
    const isProven = now - bucket.since >= PROOF_MS;
    this.#buckets.set(network, "", bucket, isProven);
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
  /** When its first answer was. */
  since: number;
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

/** The digit 0: a dot has a lower code, a colon and letters have higher ones. */
const ZERO = 48;

/** Port 0, and those that inetd's successors refuse since they answer. */
const ANSWERING_PORTS = new Set([0, 7, 13, 17, 19, 37]);

/** As many as BIND's response rate limiting keeps (max-table-size). */
const MAX_NETWORKS = 20_000;
/** The share of its limit that a new network gets at once in a full table. */
const CROWDED_SHARE = 1 / 20;
const MAX_OWN = 256;
const ASK_EVERY_MS = 10;

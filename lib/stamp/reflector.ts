/**
 * The STAMP Session-Reflector, as a handler for {@linkcode serve}.
 *
 * @module
 */
import * as option from "../base/options.ts";
import { FairMap, PROOF_MS } from "../base/fair_map.ts";
import { RUNTIME, runtimeOf, type RuntimeOptions } from "../socket/runtime.ts";
import { networkOf } from "../server/guard.ts";
import { type Handler, withTraits } from "../server/handler.ts";
import type { ReplyOptions } from "../socket/contract.ts";
import type { Readings } from "../base/telemetry.ts";
import { answerTlvs } from "./answer.ts";
import {
  hmacOf,
  opened,
  seal,
  STAMP_KEY,
  stampAgain,
  type StampKey,
  statedSsid,
  unseal,
} from "./auth.ts";
import {
  decodeReflector,
  decodeSender,
  elapsedMs,
  encodeReflector,
  estimates,
  isPlainSender,
  isReflection,
  MIN_REQUEST_BYTES,
  type SenderPacket,
  STAMP_BYTES,
  type Timestamp,
  timestampOf,
} from "./packet.ts";

/** Options of {@linkcode stampReflector}. */
export interface ReflectorOptions extends RuntimeOptions {
  /**
   * Whether replies have the sender's sequence. A stateful reflector numbers its
   * replies, so that senders can attribute loss to a direction.
   *
   * @default {false}
   */
  stateless?: boolean | undefined;
  /**
   * The number of sessions that are remembered, 2 to 1,000,000. When it is reached,
   * the network (a /24 of IPv4, a /56 of IPv6) with the most sessions loses its least
   * recently used one, new ones first.
   *
   * @default {10000}
   */
  maxSessions?: number | undefined;
  /**
   * The time without a packet after which a session is over, in milliseconds, 1 to
   * 86,400,000 (a day).
   *
   * @default {900000}
   */
  sessionTimeoutMs?: number | undefined;
  /**
   * Answers authenticated packets only (RFC 8762, section 4.3.2): those with the
   * HMAC of this key, of 16 to 1,024 bytes, or of the key that the function returns
   * for a sender. Other packets are counted as `unauthentic` and never answered.
   *
   * @default {none: packets are plain}
   */
  key?: StampKey | undefined;
  /**
   * SSIDs of the provisioned sessions (RFC 8972, section 3), 0 to 65,535: packets of
   * others are counted as `unprovisioned` and never answered.
   *
   * @default {none: any SSID}
   */
  ssids?: readonly number[] | undefined;
  /**
   * Whether replies may have a DSCP that a sender requests, 0 to 63 (RFC 8972, section
   * 4.4); else they have that of the request.
   *
   * @default {those below 48, which are not for routing}
   */
  permitsDscp?: ((dscp: number) => boolean) | undefined;
  /**
   * Whether source and destination of a request are reported where its sender requests
   * them (RFC 8972, section 4.2); else both are zeros.
   *
   * @default {true}
   */
  reportsLocation?: boolean | undefined;
}

/** The table of {@linkcode ReflectorOptions}. */
export const REFLECTOR = {
  stateless: option.flag(false),
  maxSessions: option.integer(2, 1_000_000, 10_000),
  sessionTimeoutMs: option.time(1, 900_000),
  key: STAMP_KEY,
  ssids: option.list(option.integer(0, 65_535)),
  permitsDscp: option.callback(isForUsers),
  reportsLocation: option.flag(true),
  ...RUNTIME,
} satisfies option.Table<ReflectorOptions>;

/** The counts of a reflector. */
export interface ReflectorStats {
  /** Packets that were reflected. */
  reflected: number;
  /** Datagrams too short to be packets of a sender. */
  malformed: number;
  /** Packets with an error estimate of 0, which are corrupt (RFC 8762, 4.2.1). */
  corrupt: number;
  /** Packets without the HMAC of the `key`. */
  unauthentic: number;
  /** Packets of sessions that are not among `ssids`. */
  unprovisioned: number;
  /** Packets of another reflector, and copies that arrive over and over. */
  returned: number;
  /** Sessions that are remembered now. */
  sessions: number;
}

/** The handler of a reflector, and its counts. */
export interface StampReflector extends Handler {
  /** A snapshot of the counts. */
  stats(): ReflectorStats;
}

/**
 * Answers STAMP and TWAMP-Light senders (RFC 8762, section 4.3), with a count for each
 * session unless `stateless` is set. Malformed packets, and those of another reflector,
 * are counted and never answered.
 *
 * The reply is as long as the request, and 44 bytes at least. Its timestamps are
 * in the format of the request's, NTP or PTP. If `serve` has `packetInfo`, on the
 * linux engine, T2 is when the kernel received the request, and the TTL field is its TTL
 * as received; else T2 is when it was read, and the TTL 0. T3 is written as the reply is
 * handed to the system, with all others of its batch; where another handler calls this
 * one, T3 is when it returns, and replies have no class of service. On the linux engine
 * the error estimate is the kernel's; else the clock is reported as not synchronized.
 *
 * @param options The mode, and the bounds.
 * @returns The handler.
 * @throws {RangeError} If a number among the options is out of range.
 * @throws {TypeError} If an option is unknown or of a wrong type.
 *
 * @example
 * ```ts
 * import { serve } from "@roundtrip/udp";
 * import { stampReflector } from "@roundtrip/udp/stamp";
 * import { assertEquals } from "@std/assert";
 *
 * const reflector = stampReflector({ sessionTimeoutMs: 60_000 });
 * await using server = serve({ packetInfo: true }, reflector);
 * assertEquals(reflector.stats().reflected, 0);
 * ```
 */
export function stampReflector(options: ReflectorOptions = {}): StampReflector {
  const values = option.readAll("stampReflector", REFLECTOR, options);
  const { stateless, maxSessions, sessionTimeoutMs, key: keys } = values;
  const { permitsDscp, reportsLocation, ssids } = values;
  const provisioned = ssids && new Set(ssids);
  const runtime = runtimeOf(values);
  const sessions = new FairMap<ReflectorSession>(maxSessions);
  /** When the last packet of an evicted session arrived, of all the latest. */
  let evictedAt = -Infinity;
  /** The number of sessions that were resumed. */
  let resumed = 0;
  const counts = {
    reflected: 0,
    malformed: 0,
    corrupt: 0,
    unauthentic: 0,
    unprovisioned: 0,
    returned: 0,
  };
  /** The session before and after the last reply, which may still be withheld. */
  let pending:
    | { key: string; before: ReflectorSession; session: ReflectorSession }
    | undefined;
  const commit = () => {
    if (pending === undefined) return;
    const { key, session } = pending;
    pending = undefined;
    counts.reflected++;
    const { network, at, since } = session;
    const isProven = at - since >= PROOF_MS;
    const evicted = sessions.set(key, network, session, isProven);
    if (evicted !== undefined) evictedAt = Math.max(evictedAt, evicted.at);
  };
  let departure: ReplyOptions = {};
  const departures = { isAsked: false, last: () => departure };
  const estimateAt = estimates(() => runtime.clockState?.());
  const drop = (reason: keyof typeof counts) => {
    counts[reason]++;
  };

  const reflect: Handler = (sealed, info) => {
    commit();
    const { remoteAddr, localAddr } = info;
    const { hostname, port } = remoteAddr;
    const now = runtime.now();
    const receivedAt = info.arrivedAt ?? info.receivedAt;
    const receiveTimestamp = timestampOf(runtime.timeOrigin + receivedAt);
    const key = typeof keys === "function"
      ? keys({ ssid: statedSsid(sealed), remoteAddr })
      : keys;
    // The HMAC is checked before any field is read.
    const data = keys === undefined ? sealed : key && unseal(sealed, key);
    if (data === undefined) return drop("unauthentic");
    const packet = decodeSender(data);
    if (packet === undefined) {
      return drop(data.length < MIN_REQUEST_BYTES ? "malformed" : "corrupt");
    }
    const local = `${localAddr.hostname} ${localAddr.port}`;
    const nameOf = (ssid: number) => `${hostname} ${port} ${local} ${ssid}`;
    const stated = sessions.get(nameOf(packet.ssid));
    const isPlain = isPlainSender(data) || isReused(stated, data);
    // Another reflector would reply to the reply.
    if (!isPlain && isReflection(data)) return drop("returned");
    // A TWAMP sender has padding in place of the SSID, perhaps random.
    const ssid = isPlain ? packet.ssid : 0;
    if (provisioned?.has(ssid) === false) return drop("unprovisioned");
    const sender = nameOf(ssid);
    const known = ssid === packet.ssid ? stated : sessions.get(sender);
    if (known && isRepeated(known, packet)) return drop("returned");
    const isOver = known !== undefined && now - known.at > sessionTimeoutMs;
    let before = known;
    if (before === undefined || isOver || isRestarted(before, packet)) {
      // Replies to earlier packets may have carried the numbers from 0.
      const isResumed = packet.sequence !== 0 &&
        (isOver || now - evictedAt <= sessionTimeoutMs);
      const network = before?.network ?? networkOf(hostname);
      const first = isResumed ? resumedNumber(resumed++) : 0;
      const [since, latest] = [before?.since ?? now, packet.timestamp];
      before = { ...NEW_SESSION, network, since, next: first, first, latest };
    }
    const sequence = stateless ? packet.sequence : before.next;
    const sentNow = () => timestampOf(runtime.timeOrigin + runtime.now());
    const timestamp = sentNow();
    const lastReply = { sequence, timestamp };
    const session = reflected(before, packet, now, lastReply);
    pending = { key: sender, before, session };
    const { ptp } = packet.errorEstimate;
    const estimate = estimateAt(now);
    const reply = encodeReflector({
      sequence,
      timestamp,
      errorEstimate: { ...estimate, ptp },
      ssid: packet.ssid,
      receiveTimestamp,
      senderSequence: packet.sequence,
      senderTimestamp: packet.timestamp,
      senderErrorEstimate: packet.errorEstimate,
      senderTtl: info.ttl ?? 0,
    }, data);
    let trafficClass: number | undefined;
    if (data.length > STAMP_BYTES && isPlain) {
      trafficClass = answerTlvs(reply, data.subarray(0, 4), {
        remoteAddr,
        localAddr,
        isSynchronized: estimate.synchronized,
        // Not supported where replies cannot be given a class.
        trafficClass: departures.isAsked ? info.trafficClass : undefined,
        permitsDscp,
        reportsLocation,
        received: session.first === 0 ? session.received : undefined,
        transmitted: session.next - session.first,
        last: stateless ? undefined : before.lastReply,
        ptp,
        hmacOf: key && ((bytes) => hmacOf(bytes, key)),
      });
    }
    const complete = (payload: Uint8Array) => {
      lastReply.timestamp = sentNow();
      stampAgain(payload, lastReply.timestamp, ptp, key);
    };
    departure = { complete, trafficClass };
    return key === undefined ? reply : seal(reply, key);
  };
  const stats = () => {
    commit();
    return { ...counts, sessions: sessions.size };
  };
  withTraits(reflect, {
    borrows: true,
    departure: departures,
    isNoLoop: (data) => isPlainSender(keys === undefined ? data : opened(data)),
    // Only transmitted replies are numbered (RFC 8762, section 4.3.1): a refused
    // one must not look lost, and its packet begins no session.
    onRefused() {
      if (pending !== undefined) pending.before.received++;
      pending = undefined;
    },
    readings: () => readingsOf(stats()),
  });
  return Object.assign(reflect, { stats });
}

/** The state of a session: of one address, port and SSID. */
interface ReflectorSession {
  readonly network: string;
  /** When its first and its last packet arrived. */
  readonly since: number;
  readonly at: number;
  /** The number of the next reply. */
  readonly next: number;
  /** The number of its first reply; not 0 if it was resumed. */
  readonly first: number;
  /** The number of packets received. */
  received: number;
  readonly lastReply: { sequence: number; timestamp: Timestamp } | undefined;
  readonly lastPacket: SenderPacket | undefined;
  /** Unchanged copies of the last packet, received in a row. */
  readonly repeats: number;
  /** The latest timestamp of the sender. */
  readonly latest: Timestamp;
}

const NEW_SESSION = {
  at: 0,
  received: 0,
  lastReply: undefined,
  lastPacket: undefined,
  repeats: 0,
};

/** The session after one more packet and its reply. */
function reflected(
  session: ReflectorSession,
  packet: SenderPacket,
  at: number,
  lastReply: ReflectorSession["lastReply"],
): ReflectorSession {
  const { timestamp } = packet;
  const isLater = elapsedMs(session.latest, timestamp) > 0;
  return {
    ...session,
    at,
    next: session.next + 1,
    received: session.received + 1,
    lastReply,
    lastPacket: packet,
    repeats: isLastPacket(session, packet) ? session.repeats + 1 : 0,
    latest: isLater ? timestamp : session.latest,
  };
}

/** Whether a packet begins a session anew: numbered 0, and not overtaken. */
function isRestarted(
  { latest }: ReflectorSession,
  { sequence, timestamp }: SenderPacket,
): boolean {
  return sequence === 0 && elapsedMs(latest, timestamp) > 0;
}

/**
 * Whether a packet was received too often in a row: a network makes a few copies,
 * more are from a server that gives every datagram the same reply.
 */
function isRepeated(session: ReflectorSession, packet: SenderPacket): boolean {
  return session.repeats >= MAX_REPEATS && isLastPacket(session, packet);
}

/**
 * Whether a sender wrote its packet over the last reply: fields that are zero in a
 * request are ignored (RFC 8762, section 4.2.1), and have the last request's values.
 */
function isReused(
  session: ReflectorSession | undefined,
  data: Uint8Array,
): boolean {
  const reply = session?.lastReply && decodeReflector(data);
  return reply !== undefined &&
    isLastPacket(session!, {
      sequence: reply.senderSequence,
      timestamp: reply.senderTimestamp,
    }) &&
    // The last reply itself has been returned if its timestamp is unchanged.
    elapsedMs(session!.lastReply!.timestamp, reply.timestamp) !== 0;
}

function isLastPacket(
  { lastPacket }: ReflectorSession,
  { sequence, timestamp }: Pick<SenderPacket, "sequence" | "timestamp">,
): boolean {
  return sequence === lastPacket?.sequence &&
    elapsedMs(timestamp, lastPacket.timestamp) === 0;
}

/**
 * The number of the first reply of a session that begins in its middle, as it was
 * evicted or timed out: too far from 0, and from other such numbers, for its sender to
 * take the numbers between for lost replies.
 */
function resumedNumber(count: number): number {
  return 2 ** 31 + (Math.imul(count + 1, 0x9e3779b1) >>> 2);
}

/** Classes from CS6 on are for routing (RFC 4594, section 3). */
function isForUsers(dscp: number): boolean {
  return dscp < 48;
}

/** More copies than a network makes. */
const MAX_REPEATS = 8;

/** The counts of a reflector, by their names for OpenTelemetry. */
export function readingsOf({ sessions, ...packets }: ReflectorStats): Readings {
  return {
    counts: Object.entries(packets).map(([outcome, value]) => ({
      name: "roundtrip.reflector.packets",
      attributes: { "roundtrip.outcome": outcome },
      value,
    })),
    levels: [{ name: "roundtrip.reflector.sessions", value: sessions }],
  };
}

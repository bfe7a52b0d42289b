/**
 * The STAMP Session-Reflector, as a handler for {@linkcode serve}.
 *
 * @module
 */
import * as option from "../base/options.ts";
import { RecentMap } from "../base/recent_map.ts";
import { RUNTIME, runtimeOf, type RuntimeOptions } from "../socket/runtime.ts";
import {
  borrowers,
  departing,
  type Handler,
  metered,
  noLoops,
  withholding,
} from "../server/handler.ts";
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
  decodeSender,
  elapsedMs,
  encodeReflector,
  errorEstimateOf,
  isPlainSender,
  isReflection,
  MIN_REQUEST_BYTES,
  type SenderPacket,
  STAMP_BYTES,
  type Timestamp,
  TIMESTAMP_AT,
  timestampOf,
  writeTimestamp,
} from "./packet.ts";

/** Options of {@linkcode stampReflector}. */
export interface ReflectorOptions extends RuntimeOptions {
  /**
   * Whether to return the sender's sequence, and keep no state. A stateful
   * reflector counts what it reflects, so that its sender can distinguish loss
   * on the way there from loss on the way back.
   *
   * @default {false}
   */
  stateless?: boolean | undefined;
  /**
   * How many sessions are remembered, 2 to 1,000,000; those unused for longest
   * give way.
   *
   * @default {10000}
   */
  maxSessions?: number | undefined;
  /**
   * After how long without a packet a session is over, in milliseconds, 1 to
   * 86,400,000 (a day).
   *
   * @default {900000}
   */
  sessionTimeoutMs?: number | undefined;
  /**
   * Answers authenticated packets only (RFC 8762, section 4.3.2): those with the
   * HMAC of this key, of 16 to 1,024 bytes, or of the key that the function gives
   * for a sender. All else is counted as `unauthentic` and never answered.
   *
   * @default {none: packets are plain}
   */
  key?: StampKey | undefined;
  /**
   * The sessions that there are, by their SSIDs (RFC 8972, section 3), 0 to 65,535:
   * packets of others are counted as `unprovisioned` and never answered.
   *
   * @default {none: each sender has one}
   */
  ssids?: readonly number[] | undefined;
  /**
   * Whether replies may have a DSCP that a sender asks for, 0 to 63 (RFC 8972,
   * section 4.4); else they have that of the request.
   *
   * @default {those below 48: not what is for the network's own traffic}
   */
  permitsDscp?: ((dscp: number) => boolean) | undefined;
  /**
   * Whether senders that ask for it are told where their requests came from, and
   * where they were sent to (RFC 8972, section 4.2); else both are zeros.
   *
   * @default {true}
   */
  tellsLocation?: boolean | undefined;
}

/** The table of {@linkcode ReflectorOptions}. */
export const REFLECTOR = {
  stateless: option.flag(false),
  maxSessions: option.integer(2, 1_000_000, 10_000),
  sessionTimeoutMs: option.time(1, 900_000),
  key: STAMP_KEY,
  ssids: option.list(option.integer(0, 65_535)),
  permitsDscp: option.callback(isForUsers),
  tellsLocation: option.flag(true),
  ...RUNTIME,
} satisfies option.Table<ReflectorOptions>;

/** What a reflector has counted. */
export interface ReflectorStats {
  /** Packets that were reflected. */
  reflected: number;
  /** Datagrams too short to be packets of a sender. */
  malformed: number;
  /** Packets with an error estimate of 0, which are corrupt (RFC 8762, 4.2.1). */
  corrupt: number;
  /** Packets without the HMAC of a key, where there is one. */
  unauthentic: number;
  /** Packets of a session that is none of `ssids`. */
  unprovisioned: number;
  /** Packets of another reflector, and copies that arrive over and over. */
  returned: number;
  /** Sessions that are remembered. */
  sessions: number;
}

/** A handler that reflects, and what it has counted. */
export interface StampReflector extends Handler {
  /** A snapshot of the counts. */
  stats(): ReflectorStats;
}

/**
 * Answers STAMP and TWAMP-Light senders (RFC 8762, section 4.3), with a count
 * for each session unless `stateless` is set. What is malformed is counted and
 * never answered, nor is what another reflector sends.
 *
 * The reply is as long as the request, and 44 bytes at least. Its timestamps are
 * in the format of the request's, NTP or PTP. Where `serve` has `packetInfo`, on the
 * linux engine, T2 is when the kernel received the request, and the TTL field is
 * what it came with; else T2 is when it was read, and the TTL 0. T3 is written as
 * the reply is handed to the system, with all others of its batch; where another
 * handler calls this one, T3 is when it returns, and no class of service is given. On
 * the linux engine its error estimate is what the kernel knows of the clock; else the clock is
 * told as not synchronized.
 *
 * @param options The mode, and the bounds.
 * @returns The handler.
 * @throws {RangeError} If a number among the options is out of range.
 * @throws {TypeError} If an option is unknown or of a wrong type.
 *
 * @example
 * ```ts
 * import { serve } from "@roundtrip/udp";
 * import { measure, stampReflector } from "@roundtrip/udp/stamp";
 * import { assertEquals } from "@std/assert";
 *
 * await using server = serve({}, stampReflector());
 * const measurement = measure(server.addr, { count: 3, intervalMs: 10 });
 * for await (const event of measurement) assertEquals(event.type, "reply");
 * assertEquals(measurement.result().received, 3);
 * ```
 */
export function stampReflector(options: ReflectorOptions = {}): StampReflector {
  const values = option.readAll("stampReflector", REFLECTOR, options);
  const { stateless, maxSessions, sessionTimeoutMs, key: keys } = values;
  const { permitsDscp, tellsLocation, ssids } = values;
  const provisioned = ssids && new Set(ssids);
  const runtime = runtimeOf(values);
  const sessions = new RecentMap<string, ReflectorSession>(maxSessions);
  const counts = {
    reflected: 0,
    malformed: 0,
    corrupt: 0,
    unauthentic: 0,
    unprovisioned: 0,
    returned: 0,
  };
  /** Whose packet was reflected last, and how the reply is to leave. */
  let last: ReflectorSession | undefined;
  let departure: ReplyOptions = {};
  const departures = { isAsked: false, last: () => departure };

  /** What is known of the clock, asked now and then. */
  let [clock, askedAt] = [errorEstimateOf(runtime.clockState?.()), -Infinity];
  const errorEstimate = (now: number) => {
    if (now - askedAt > CLOCK_MS) {
      askedAt = now;
      clock = errorEstimateOf(runtime.clockState?.());
    }
    return clock;
  };

  const reflect: Handler = (sealed, info) => {
    const { remoteAddr, localAddr } = info;
    const { hostname, port } = remoteAddr;
    const now = runtime.now();
    const receivedAt = info.arrivedAt ?? now;
    const receiveTimestamp = timestampOf(runtime.timeOrigin + receivedAt);
    const key = typeof keys === "function"
      ? keys({ ssid: statedSsid(sealed), remoteAddr })
      : keys;
    // Before anything that it says is believed.
    const data = keys === undefined ? sealed : key && unseal(sealed, key);
    if (data === undefined) {
      counts.unauthentic++;
      return;
    }
    const packet = decodeSender(data);
    if (packet === undefined) {
      if (data.length < MIN_REQUEST_BYTES) counts.malformed++;
      else counts.corrupt++;
      return;
    }
    // Whatever is answered to a reflector's packet would be answered again.
    if (isReflection(data)) {
      counts.returned++;
      return;
    }
    // Of a TWAMP sender there is padding where the SSID stands, perhaps random.
    const isPlain = isPlainSender(data);
    const ssid = isPlain ? packet.ssid : 0;
    if (provisioned?.has(ssid) === false) {
      counts.unprovisioned++;
      return;
    }
    const local = `${localAddr.hostname} ${localAddr.port}`;
    const sender = `${hostname} ${port} ${local} ${ssid}`;
    let session = sessions.get(sender);
    if (session === undefined) {
      session = new ReflectorSession(packet, now);
      sessions.set(sender, session);
    } else if (session.isRepeatedBy(packet)) {
      counts.returned++;
      return;
    } else if (
      now - session.at > sessionTimeoutMs || session.isRestartedBy(packet)
    ) session.restart(packet);
    session.onReflect(packet, now);
    counts.reflected++;
    last = session;
    session.transmitted++;
    const sequence = stateless ? packet.sequence : session.next++;
    const sentNow = () => timestampOf(runtime.timeOrigin + runtime.now());
    const timestamp = sentNow();
    const { ptp } = packet.errorEstimate;
    const reply = encodeReflector({
      sequence,
      timestamp,
      errorEstimate: { ...errorEstimate(now), ptp },
      ssid: packet.ssid,
      receiveTimestamp,
      senderSequence: packet.sequence,
      senderTimestamp: packet.timestamp,
      senderErrorEstimate: packet.errorEstimate,
      senderTtl: info.ttl ?? 0,
    }, data);
    let trafficClass: number | undefined;
    if (data.length > STAMP_BYTES && isPlain) {
      const { synchronized: isSynchronized } = clock;
      const asked = {
        request: data.subarray(0, 4),
        reply: reply.subarray(0, 4),
      };
      trafficClass = answerTlvs(reply, STAMP_BYTES, asked, {
        remoteAddr,
        localAddr,
        isSynchronized,
        // Who cannot give replies a class does not support this.
        trafficClass: departures.isAsked ? info.trafficClass : undefined,
        permitsDscp,
        tellsLocation,
        received: session.received,
        transmitted: session.transmitted,
        last: stateless ? undefined : session.lastReply,
        writeTimestamp: (view, at, timestamp) =>
          writeTimestamp(view, at, timestamp, ptp),
        hmacOf: key && ((bytes) => hmacOf(bytes, key)),
        needsHmac: key !== undefined,
      });
    }
    const told = session.lastReply = { sequence, timestamp };
    const complete = (payload: Uint8Array) => {
      told.timestamp = sentNow();
      const write = (view: DataView, at: number) =>
        writeTimestamp(view, at, told.timestamp, ptp);
      if (key !== undefined) return stampAgain(payload, key, write);
      write(new DataView(payload.buffer, payload.byteOffset), TIMESTAMP_AT);
    };
    departure = { complete, trafficClass };
    return key === undefined ? reply : seal(reply, key);
  };
  departing.set(reflect, departures);
  noLoops.set(
    reflect,
    (data) => isPlainSender(keys === undefined ? data : opened(data)),
  );
  // What is numbered is what is transmitted (RFC 8762, section 4.3.1): a reply
  // that the guard withholds must not look as if it was lost on its way.
  withholding.set(reflect, () => {
    counts.reflected--;
    last!.transmitted--;
    last!.lastReply = undefined;
    if (!stateless) last!.next--;
  });
  borrowers.add(reflect);
  const stats = () => ({ ...counts, sessions: sessions.size });
  metered.set(reflect, () => readingsOf(stats()));
  return Object.assign(reflect, { stats });
}

/** One sender, by its address, port and SSID. */
class ReflectorSession {
  /** When its last packet came. */
  at: number;
  /** What the next reply is numbered. */
  next = 0;
  /** Packets that were taken, and replies to them that were sent. */
  received = 0;
  transmitted = 0;
  /** The reply before. */
  lastReply: { sequence: number; timestamp: Timestamp } | undefined;
  /** How often the last packet has come again, as it was. */
  #repeats = 0;
  #last: SenderPacket;
  /** The latest time that the sender wrote. */
  #latest: Timestamp;

  constructor(packet: SenderPacket, now: number) {
    this.#latest = packet.timestamp;
    this.#last = packet;
    this.at = now;
  }

  /** A packet numbered 0 begins a session, unless it was only overtaken. */
  isRestartedBy({ sequence, timestamp }: SenderPacket): boolean {
    return sequence === 0 && elapsedMs(this.#latest, timestamp) > 0;
  }

  restart(packet: SenderPacket): void {
    this.#latest = packet.timestamp;
    this.next = this.received = this.transmitted = 0;
    this.lastReply = undefined;
  }

  onReflect({ timestamp }: SenderPacket, now: number): void {
    if (elapsedMs(this.#latest, timestamp) > 0) this.#latest = timestamp;
    this.at = now;
    this.received++;
  }

  /**
   * The same packet comes over and over. A network makes a few copies; more are
   * from a server that gives every datagram the same reply.
   */
  isRepeatedBy(packet: SenderPacket): boolean {
    const { sequence, timestamp } = this.#last;
    const isSame = packet.sequence === sequence &&
      elapsedMs(packet.timestamp, timestamp) === 0;
    this.#repeats = isSame ? this.#repeats + 1 : 0;
    this.#last = packet;
    return this.#repeats > MAX_REPEATS;
  }
}

/** CS6, CS7 and what is between are for routing (RFC 4594, section 3). */
function isForUsers(dscp: number): boolean {
  return dscp < 48;
}

const CLOCK_MS = 1000;
/** More copies than a network makes. */
const MAX_REPEATS = 8;

/** The counts of a reflector, under the names that OpenTelemetry has for them. */
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

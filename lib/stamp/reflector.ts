/**
 * The STAMP Session-Reflector, as a handler for {@linkcode serve}.
 *
 * @module
 */
import {
  requireInteger,
  requireMs,
  requireOptions,
  requireType,
} from "../errors.ts";
import { noLoops } from "../loop_watch.ts";
import { RecentMap } from "../recent_map.ts";
import { type Engine, type Runtime, runtimeOf } from "../runtime.ts";
import { borrowers, type Handler, metered, withholding } from "../server.ts";
import type { Readings } from "../telemetry.ts";
import {
  checkKey,
  hmacOf,
  opened,
  seal,
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
  timestampOf,
  writeTimestamp,
} from "./packet.ts";
import { answerTlvs } from "./tlv.ts";

/** Options of {@linkcode stampReflector}. */
export interface ReflectorOptions {
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
   * Who is asked what is known of the clock: the linux engine asks the kernel, the
   * deno one cannot.
   *
   * @default {"deno"}
   */
  engine?: Engine | undefined;
  /**
   * Time; for tests.
   *
   * @default {runtimeFor(engine)}
   */
  runtime?: Runtime | undefined;
}

/** The defaults of {@linkcode ReflectorOptions}. */
export const REFLECTOR_DEFAULTS = {
  stateless: false,
  maxSessions: 10_000,
  sessionTimeoutMs: 900_000,
} as const;

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
  /** Packets of another reflector, and copies that come over and over. */
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
 * what it came with; else T2 is when it was read, and the TTL 0. On that
 * engine its error estimate is what the kernel knows of the clock; else the clock is
 * told as not synchronized.
 *
 * @param options The mode, and the bounds.
 * @returns The handler.
 * @throws {RangeError} If a number among the options is out of range.
 * @throws {TypeError} If an option is of a wrong type.
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
  requireOptions("options", options);
  const {
    stateless = REFLECTOR_DEFAULTS.stateless,
    maxSessions = REFLECTOR_DEFAULTS.maxSessions,
    sessionTimeoutMs = REFLECTOR_DEFAULTS.sessionTimeoutMs,
    key: keys,
  } = options;
  requireType("stateless", "boolean", stateless);
  requireInteger("maxSessions", maxSessions, 2, 1_000_000);
  requireMs("sessionTimeoutMs", sessionTimeoutMs, 1);
  checkKey(keys);
  const runtime = runtimeOf(options);
  const sessions = new RecentMap<string, ReflectorSession>(maxSessions);
  const counts = {
    reflected: 0,
    malformed: 0,
    corrupt: 0,
    unauthentic: 0,
    returned: 0,
  };
  /** Whose packet was reflected last. */
  let last: ReflectorSession | undefined;

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
    const timestamp = timestampOf(runtime.timeOrigin + runtime.now());
    const reply = encodeReflector({
      sequence,
      timestamp,
      errorEstimate: { ...errorEstimate(now), ptp: packet.errorEstimate.ptp },
      ssid: packet.ssid,
      receiveTimestamp,
      senderSequence: packet.sequence,
      senderTimestamp: packet.timestamp,
      senderErrorEstimate: packet.errorEstimate,
      senderTtl: info.ttl ?? 0,
    }, data);
    if (data.length > STAMP_BYTES && isPlain) {
      const { synchronized: isSynchronized } = clock;
      const asked = {
        request: data.subarray(0, 4),
        reply: reply.subarray(0, 4),
      };
      answerTlvs(reply, STAMP_BYTES, asked, {
        remoteAddr,
        localAddr,
        isSynchronized,
        received: session.received,
        transmitted: session.transmitted,
        last: stateless ? undefined : session.lastReply,
        writeTimestamp: (view, at, timestamp) =>
          writeTimestamp(view, at, timestamp, packet.errorEstimate.ptp),
        hmacOf: key && ((bytes) => hmacOf(bytes, key)),
        needsHmac: key !== undefined,
      });
    }
    session.lastReply = { sequence, timestamp };
    return key === undefined ? reply : seal(reply, key);
  };
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

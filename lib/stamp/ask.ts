/**
 * The extensions of STAMP (RFC 8972, section 4) of a Session-Sender: TLVs of requests,
 * and the reports in replies. Pure.
 *
 * @module
 */
import { canonicalHostname, type UdpAddress } from "../address.ts";
import { areAuthentic, hmacOfTlvs, type Signer } from "./auth.ts";
import {
  readTimestamp,
  STAMP_BYTES,
  type Timestamp,
  viewOf,
} from "./packet.ts";
import * as tlv from "./tlv.ts";
import type { Extension } from "./tlv.ts";

/** The source of a timestamp. */
export type StampedBy = "hardware" | "software" | "control plane" | "unknown";

/** The report of a reflector in one reply, as far as `extensions` ask for it. */
export interface Reported {
  /** Source and destination of the request as it was received. */
  location?: { remoteAddr: UdpAddress; localAddr: UdpAddress };
  /** The time source of the reflector, and how T2 and T3 were taken. */
  timestampInfo?: {
    synchronizedBy: string;
    receiveStampedBy: StampedBy;
    sendStampedBy: StampedBy;
  };
  /** Numbers of requests sent, received and answered up to this one. */
  directMeasurement?: { sent: number; received: number; transmitted: number };
  /** The reply before: its number, when it left, and the source of that. */
  followUp?: { sequence: number; timestamp: Timestamp; stampedBy: StampedBy };
  /**
   * DSCP and ECN of the request as it was received, whether the reply may have the
   * requested DSCP, and its DSCP as it was received (linux engine).
   */
  classOfService?: {
    dscp: number;
    ecn: number;
    isPermitted: boolean;
    replyDscp: number | undefined;
  };
  /** Extensions that the reflector does not support. */
  unsupported: Extension[];
  /**
   * Discarded extensions: all, if their HMAC is wrong on either way, else those from
   * the first malformed one on.
   */
  discarded: Extension[];
}

/** The extensions to request, and the DSCP to request for replies. */
export interface Question {
  extensions: readonly Extension[];
  replyDscp: number;
  /** Computes the HMAC; undefined without a key. */
  hmacOf: Signer | undefined;
}

/** The TLVs of a request, the `sent`th one, with their HMAC if there is a key. */
export function encodeQuestion(
  { extensions, replyDscp, hmacOf }: Question,
  sequence: number,
  sent: number,
): Uint8Array<ArrayBuffer> {
  const tlvs = extensions.flatMap((extension) => {
    const type = tlv.EXTENSIONS[extension];
    const value = new Uint8Array(tlv.SIZES[type] ?? PORTS_BYTES);
    if (type === tlv.LOCATION) {
      const place = new Uint8Array(tlv.IP_BYTES);
      const places = [tlv.DESTINATION_IP, tlv.SOURCE_IP]
        .flatMap((type) => requestOf(type, place));
      return requestOf(type, [...value, ...places]);
    }
    if (type === tlv.CLASS_OF_SERVICE) value[0] = replyDscp << 2;
    if (type === tlv.DIRECT_MEASUREMENT) viewOf(value).setUint32(0, sent);
    return requestOf(type, value);
  });
  if (hmacOf !== undefined && tlvs.length > 0) {
    const number = new Uint8Array(4);
    viewOf(number).setUint32(0, sequence);
    tlvs.push(...requestOf(tlv.HMAC, hmacOfTlvs(number, tlvs, hmacOf)));
  }
  return new Uint8Array(tlvs);
}

/** The bytes of a TLV as a sender sets them. */
function requestOf(type: number, value: ArrayLike<number>): number[] {
  const { length } = value;
  return [tlv.FLAG_U, type, length >> 8, length & 0xff, ...Array.from(value)];
}

/**
 * The report of a reflector in a plain reply, with timestamps in PTP's format or NTP's,
 * and the traffic class that it was received with, if known.
 */
export function readReported(
  reply: Uint8Array,
  { extensions, hmacOf }: Question,
  reflectorPtp: boolean,
  trafficClass: number | undefined,
): Reported {
  const reported: Reported = { unsupported: [], discarded: [] };
  const { tlvs, isCut } = tlv.parse(reply, STAMP_BYTES);
  const sequence = reply.subarray(0, 4);
  const isAuthentic = areAuthentic(reply, tlvs, sequence, hmacOf);
  const hasFailed = tlvs.some(({ at }) => (reply[at]! & tlv.FLAG_I) !== 0);
  const missing = new Set(extensions);
  const view = viewOf(reply);
  for (const one of isAuthentic && !hasFailed ? tlvs : []) {
    const flags = reply[one.at]!;
    const { type, length } = one;
    const extension = extensions.find((name) => tlv.EXTENSIONS[name] === type);
    const start = one.at + tlv.HEADER_BYTES;
    const size = tlv.SIZES[type] ?? length;
    const isWhole = length === size && start + size <= reply.length &&
      !(isCut && one === tlvs.at(-1));
    // Bytes after a malformed TLV may be anything.
    if ((flags & tlv.FLAG_M) !== 0 || !isWhole) break;
    if (extension === undefined) continue;
    missing.delete(extension);
    if ((flags & tlv.FLAG_U) !== 0) reported.unsupported.push(extension);
    else if (extension === "location") {
      const location = readLocation(reply.subarray(start, start + length));
      if (location !== undefined) reported.location = location;
      else reported.unsupported.push(extension);
    } else if (extension === "timestamp-info") {
      reported.timestampInfo = {
        synchronizedBy: SYNC_SOURCES[view.getUint8(start)] ?? "unknown",
        receiveStampedBy: stampedBy(view.getUint8(start + 1)),
        sendStampedBy: stampedBy(view.getUint8(start + 3)),
      };
    } else if (extension === "direct-measurement") {
      reported.directMeasurement = {
        sent: view.getUint32(start),
        received: view.getUint32(start + 4),
        transmitted: view.getUint32(start + 8),
      };
    } else if (extension === "class-of-service") {
      const fields = view.getUint16(start);
      reported.classOfService = {
        dscp: fields >> 4 & 0x3f,
        ecn: fields >> 2 & 3,
        isPermitted: (fields & 3) === 0,
        replyDscp: trafficClass === undefined ? undefined : trafficClass >> 2,
      };
    } else if (view.getUint8(start + 12) !== 0) {
      // The first reply has none before it.
      reported.followUp = {
        sequence: view.getUint32(start),
        timestamp: readTimestamp(view, start + 4, reflectorPtp),
        stampedBy: stampedBy(view.getUint8(start + 12)),
      };
    }
  }
  reported.discarded.push(...missing);
  return reported;
}

/** Both addresses; undefined if one is missing. */
function readLocation(value: Uint8Array): Reported["location"] {
  if (value.length < PORTS_BYTES) return undefined;
  const view = viewOf(value);
  const [localPort, remotePort] = [view.getUint16(0), view.getUint16(2)];
  const places = new Map<number, string>();
  for (const { at, type, length } of tlv.parse(value, PORTS_BYTES).tlvs) {
    const place = value.subarray(at + tlv.HEADER_BYTES);
    if ((value[at]! & (tlv.FLAG_U | tlv.FLAG_M)) !== 0) continue;
    if (length === tlv.IP_BYTES && place.length >= tlv.IP_BYTES) {
      places.set(type, hostnameOf(type, place));
    }
  }
  const local = places.get(tlv.DESTINATION_IPV4) ??
    places.get(tlv.DESTINATION_IPV6);
  const remote = places.get(tlv.SOURCE_IPV4) ?? places.get(tlv.SOURCE_IPV6);
  if (local === undefined || remote === undefined) return undefined;
  return {
    remoteAddr: { hostname: remote, port: remotePort },
    localAddr: { hostname: local, port: localPort },
  };
}

function hostnameOf(type: number, bytes: Uint8Array): string {
  if (type === tlv.DESTINATION_IPV4 || type === tlv.SOURCE_IPV4) {
    return bytes.subarray(0, 4).join(".");
  }
  const groups = Array.from(
    { length: 8 },
    (_, i) => (bytes[2 * i]! << 8 | bytes[2 * i + 1]!).toString(16),
  );
  return canonicalHostname(groups.join(":"));
}

function stampedBy(value: number): StampedBy {
  return STAMPING[value] ?? "unknown";
}

const PORTS_BYTES = 4;
/** Time sources and kinds of timestamps, by their numbers at IANA. */
const SYNC_SOURCES = [
  undefined,
  "NTP",
  "PTP",
  "SSU/BITS",
  "satellites",
  "nothing",
];
const STAMPING = [undefined, "hardware", "software", "control plane"] as const;

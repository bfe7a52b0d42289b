/**
 * The extensions of STAMP (RFC 8972, section 4) of a Session-Sender: TLVs of requests,
 * and the reports in replies. Pure.
 *
 * @module
 */
import { canonicalHostname, type UdpAddress } from "../address.ts";
import { areAuthentic, hmacOfTlvs, type Signer } from "./auth.ts";
import { readTimestamp, STAMP_BYTES, type Timestamp } from "./packet.ts";
import * as tlv from "./tlv.ts";
import type { Extension } from "./tlv.ts";

/** How a timestamp was taken. */
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

/** The size of the requesting TLVs, in bytes. */
export function questionBytes({ extensions, hmacOf }: Question): number {
  if (extensions.length === 0) return 0;
  const sizes = extensions.map((extension) =>
    tlv.HEADER_BYTES + (tlv.SIZES[tlv.EXTENSIONS[extension]] ?? LOCATION_BYTES)
  );
  const asking = sizes.reduce((sum, size) => sum + size);
  return asking +
    (hmacOf === undefined ? 0 : tlv.HEADER_BYTES + tlv.HMAC_BYTES);
}

/**
 * Writes requesting TLVs.
 *
 * @param question The extensions to request.
 * @param sequence The sequence of the request.
 * @param sent The number of requests sent, this one included.
 * @returns The TLVs, with their HMAC if there is a key.
 */
export function encodeQuestion(
  question: Question,
  sequence: number,
  sent: number,
): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(questionBytes(question));
  const view = new DataView(bytes.buffer);
  let at = 0;
  const begin = (type: number, length: number) => {
    view.setUint8(at, tlv.FLAG_U);
    view.setUint8(at + 1, type);
    view.setUint16(at + 2, length);
    at += tlv.HEADER_BYTES + length;
    return at - length;
  };
  for (const extension of question.extensions) {
    const type = tlv.EXTENSIONS[extension];
    const value = begin(type, tlv.SIZES[type] ?? LOCATION_BYTES);
    if (type === tlv.LOCATION) {
      const end = at;
      at = value + PORTS_BYTES;
      for (const place of [tlv.DESTINATION_IP, tlv.SOURCE_IP]) {
        begin(place, tlv.IP_BYTES);
      }
      at = end;
    } else if (type === tlv.CLASS_OF_SERVICE) {
      view.setUint8(value, question.replyDscp << 2);
    } else if (type === tlv.DIRECT_MEASUREMENT) view.setUint32(value, sent);
  }
  if (question.hmacOf !== undefined && bytes.length > 0) {
    const end = at;
    const value = begin(tlv.HMAC, tlv.HMAC_BYTES);
    const signed = [sequenceBytes(sequence), bytes.subarray(0, end)] as const;
    bytes.set(hmacOfTlvs(...signed, question.hmacOf), value);
  }
  return bytes;
}

/**
 * Reads the report of a reflector.
 *
 * @param reply The reply as a plain packet.
 * @param question The requested extensions.
 * @param reflectorPtp Whether the reply's timestamps are in PTP's format.
 * @param trafficClass The traffic class of the reply as received, if known.
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
  const view = new DataView(reply.buffer, reply.byteOffset, reply.length);
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
  const view = new DataView(value.buffer, value.byteOffset, value.length);
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

function sequenceBytes(sequence: number): Uint8Array {
  const bytes = new Uint8Array(4);
  new DataView(bytes.buffer).setUint32(0, sequence);
  return bytes;
}

const PORTS_BYTES = 4;
/** The size of two ports, and of sub-TLVs for two addresses. */
const LOCATION_BYTES = PORTS_BYTES + 2 * (tlv.HEADER_BYTES + tlv.IP_BYTES);

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

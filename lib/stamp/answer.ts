/**
 * The extensions of STAMP (RFC 8972, section 4), as a Session-Reflector answers
 * them: in place, in a reply that is as long as its request.
 *
 * @module
 */
import {
  ipv6Groups,
  ipVersion,
  type UdpAddress,
  withoutZone,
} from "../address.ts";
import type { ReplyOptions } from "../socket/contract.ts";
import { areAuthentic, hmacOfTlvs, type Signer } from "./auth.ts";
import type { Timestamp } from "./packet.ts";
import {
  ACCESS_REPORT,
  CLASS_OF_SERVICE,
  DESTINATION_IP,
  DIRECT_MEASUREMENT,
  EXTRA_PADDING,
  FLAG_I,
  FLAG_M,
  FLAG_U,
  FOLLOW_UP,
  HMAC,
  IP_BYTES,
  LOCATION,
  MAC_BYTES,
  parseTlvs,
  SOURCE_EUI_64,
  SOURCE_IP,
  SOURCE_MAC,
  STAMPED_BY_SOFTWARE,
  SYNC_FREE_RUNNING,
  SYNC_NTP,
  TIMESTAMP_INFO,
  type Tlv,
  TLV_HEADER_BYTES,
  TLV_SIZES,
} from "./tlv.ts";

/** What a reflector knows that a TLV may ask for. */
export interface TlvFacts {
  /** Where the request came from, and where it was sent to. */
  remoteAddr: UdpAddress;
  localAddr: UdpAddress;
  /** Whether the reflector's clock is kept right. */
  isSynchronized: boolean;
  /**
   * The traffic class that the request came with; undefined where that is not
   * known, or replies cannot be given one.
   */
  trafficClass: number | undefined;
  /** Whether replies may have a DSCP. */
  permitsDscp: (dscp: number) => boolean;
  /** Whether it says where requests came from, and where they were sent to. */
  tellsLocation: boolean;
  /**
   * Requests of the session that were received, undefined if some may not be counted;
   * and replies that were sent.
   */
  received: number | undefined;
  transmitted: number;
  /** The reply before; none of a reflector without state, or of the first. */
  last: { sequence: number; timestamp: Timestamp } | undefined;
  /** Writes a timestamp as the reply has them. */
  writeTimestamp: (view: DataView, at: number, timestamp: Timestamp) => void;
  /** The HMAC of a key over bytes, 16 of it; none without a key. */
  hmacOf: Signer | undefined;
  /** Whether TLVs must have an HMAC: in authenticated mode. */
  needsHmac: boolean;
}

/**
 * Answers the TLVs of a request.
 *
 * A sender sets the U flag of each; it is cleared for those that are known. M is set
 * for one of a wrong length, after which nothing is read, and I for all of them if
 * their HMAC is wrong. What does not begin as a sender's TLV is padding, and stays
 * as it is.
 *
 * @param reply The reply, with what follows the base packet copied from the request.
 * @param at Where TLVs begin.
 * @param asked The sequence of the request, and that of the reply, as 4 bytes each.
 * @param facts What there is to say.
 * @returns The traffic class that the reply is to have, if one is asked for.
 */
export function answerTlvs(
  reply: Uint8Array<ArrayBuffer>,
  at: number,
  asked: { request: Uint8Array; reply: Uint8Array },
  facts: TlvFacts,
): number | undefined {
  if (reply[at] !== FLAG_U || reply.length < at + TLV_HEADER_BYTES) return;
  const { tlvs, isCut } = parseTlvs(reply, at);
  const hmac = tlvs.find(({ type }) => type === HMAC);
  const { hmacOf, needsHmac } = facts;
  if (!areAuthentic(reply, at, tlvs, asked.request, hmacOf, needsHmac)) {
    for (const tlv of tlvs) reply[tlv.at]! |= FLAG_I;
    return;
  }
  const departure: ReplyOptions = {};
  for (const tlv of tlvs) {
    if (!answer(reply, tlv, facts, departure)) break;
  }
  if (isCut) reply[tlvs.at(-1)!.at] = FLAG_U | FLAG_M;
  if (hmac !== undefined && hmacOf !== undefined) {
    const digest = hmacOfTlvs(reply, at, hmac.at, asked.reply, hmacOf);
    reply.set(digest, hmac.at + TLV_HEADER_BYTES);
  }
  return departure.trafficClass;
}

/** Answers one TLV; returns whether those after it may be read. */
function answer(
  bytes: Uint8Array<ArrayBuffer>,
  { at, type, length }: Tlv,
  facts: TlvFacts,
  departure: ReplyOptions,
): boolean {
  const [start, end] = [at + TLV_HEADER_BYTES, at + TLV_HEADER_BYTES + length];
  if (end > bytes.length) return false;
  const size = TLV_SIZES[type];
  if (type === LOCATION ? length < 4 : size !== undefined && length !== size) {
    if (type === FOLLOW_UP) bytes.fill(0, start, Math.min(end, start + 12));
    bytes[at] = FLAG_M;
    return false;
  }
  const view = new DataView(bytes.buffer, bytes.byteOffset + start, length);
  switch (type) {
    case EXTRA_PADDING:
    case HMAC:
      break;
    case LOCATION:
      view.setUint16(0, facts.tellsLocation ? facts.localAddr.port : 0);
      view.setUint16(2, facts.tellsLocation ? facts.remoteAddr.port : 0);
      answerPlaces(bytes.subarray(start + 4, end), facts);
      break;
    case TIMESTAMP_INFO: {
      const source = facts.isSynchronized ? SYNC_NTP : SYNC_FREE_RUNNING;
      bytes.set(
        [source, STAMPED_BY_SOFTWARE, source, STAMPED_BY_SOFTWARE],
        start,
      );
      break;
    }
    case CLASS_OF_SERVICE: {
      const { trafficClass } = facts;
      if (trafficClass === undefined) return true;
      const dscp = view.getUint8(0) >> 2;
      const isPermitted = facts.permitsDscp(dscp);
      // Four fields: the one asked for, the DSCP and ECN found, and whether the
      // first was refused.
      view.setUint16(
        0,
        dscp << 10 | trafficClass << 2 | (isPermitted ? 0 : 1),
      );
      departure.trafficClass = isPermitted ? dscp << 2 : trafficClass & ~3;
      break;
    }
    case DIRECT_MEASUREMENT:
      if (facts.received === undefined) return true;
      view.setUint32(4, facts.received);
      view.setUint32(8, facts.transmitted);
      break;
    case ACCESS_REPORT: {
      // Of 3GPP or not; a report of anything else is not taken.
      const network = bytes[start]! >> 4;
      if (network !== 1 && network !== 2) return true;
      break;
    }
    case FOLLOW_UP:
      bytes.fill(0, start, end);
      if (facts.last !== undefined) {
        view.setUint32(0, facts.last.sequence);
        facts.writeTimestamp(view, 4, facts.last.timestamp);
        view.setUint8(12, STAMPED_BY_SOFTWARE);
      }
      break;
    default:
      // Not known: its U flag stays.
      return true;
  }
  bytes[at] = 0;
  return true;
}

/** Answers the sub-TLVs of a location. */
function answerPlaces(bytes: Uint8Array, facts: TlvFacts): void {
  const { localAddr, remoteAddr, tellsLocation } = facts;
  const { tlvs } = parseTlvs(bytes, 0);
  for (const { at, type, length } of tlvs) {
    const start = at + TLV_HEADER_BYTES;
    const isMac = type === SOURCE_MAC;
    const addr = type === DESTINATION_IP
      ? localAddr
      : type === SOURCE_IP
      ? remoteAddr
      : undefined;
    if (!isMac && addr === undefined) continue;
    const size = isMac ? MAC_BYTES : IP_BYTES;
    if (length !== size || start + size > bytes.length) {
      bytes[at] = FLAG_M;
      return;
    }
    bytes.fill(0, start, start + size);
    bytes[at] = 0;
    if (addr === undefined) {
      // A socket does not know it: an EUI-64 of zeros says so.
      bytes[at + 1] = SOURCE_EUI_64;
      continue;
    }
    // The types of IPv4 and IPv6 follow the one that asks.
    const isIPv4 = ipVersion(addr.hostname) === 4;
    bytes[at + 1] = type + (isIPv4 ? 1 : 2);
    if (tellsLocation) bytes.set(bytesOf(addr.hostname, isIPv4), start);
  }
}

function bytesOf(hostname: string, isIPv4: boolean): number[] {
  return isIPv4
    ? hostname.split(".").map(Number)
    : ipv6Groups(withoutZone(hostname))
      .flatMap((group) => [group >> 8, group & 0xff]);
}

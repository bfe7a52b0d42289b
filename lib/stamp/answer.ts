/**
 * The extensions of STAMP (RFC 8972, section 4) of a Session-Reflector: answered in
 * place, in a reply that is as long as its request.
 *
 * @module
 */
import { addressBytes, type UdpAddress } from "../address.ts";
import type { ReplyOptions } from "../socket/contract.ts";
import { areAuthentic, hmacOfTlvs, type Signer } from "./auth.ts";
import {
  STAMP_BYTES,
  type Timestamp,
  viewOf,
  writeTimestamp,
} from "./packet.ts";
import * as tlv from "./tlv.ts";

/** Facts that TLVs of a request ask for. */
export interface TlvFacts {
  /** Source and destination of the request. */
  remoteAddr: UdpAddress;
  localAddr: UdpAddress;
  /** Whether the reflector's clock is synchronized. */
  isSynchronized: boolean;
  /**
   * The traffic class of the request as received; undefined where it is not known, or
   * replies cannot be given one.
   */
  trafficClass: number | undefined;
  /** Whether replies may have a DSCP. */
  permitsDscp: (dscp: number) => boolean;
  /** Whether source and destination may be reported. */
  reportsLocation: boolean;
  /**
   * Numbers of requests received in the session, undefined if some may be missing, and
   * of replies sent.
   */
  received: number | undefined;
  transmitted: number;
  /** The reply before; undefined for the first one, and without state. */
  last: { sequence: number; timestamp: Timestamp } | undefined;
  /** Whether timestamps are in PTP's format. */
  ptp: boolean;
  /** Computes the HMAC; undefined without a key. */
  hmacOf: Signer | undefined;
}

/**
 * Answers the TLVs of a request.
 *
 * A sender sets the U flag of each TLV; it is cleared for known types. M is set for a
 * wrong length, after which no more TLVs are read, and I for all TLVs if their HMAC is
 * wrong. Bytes that do not begin as a sender's TLV are padding, and stay unchanged, as
 * do TLVs after the first 32.
 *
 * @param reply The reply, with the bytes after the base packet copied from the request.
 * @param sequence The sequence of the request, as 4 bytes.
 * @param facts The facts to report.
 * @returns The traffic class of the reply, if one is requested.
 */
export function answerTlvs(
  reply: Uint8Array<ArrayBuffer>,
  sequence: Uint8Array,
  facts: TlvFacts,
): number | undefined {
  if (reply[STAMP_BYTES] !== tlv.FLAG_U) return;
  const { tlvs, isCut } = tlv.parse(reply, STAMP_BYTES);
  const hmac = tlvs.find(({ type }) => type === tlv.HMAC);
  const { hmacOf } = facts;
  if (!areAuthentic(reply, tlvs, sequence, hmacOf)) {
    for (const { at } of tlvs) reply[at]! |= tlv.FLAG_I;
    return;
  }
  const departure: ReplyOptions = {};
  for (const one of tlvs) {
    if (!answer(reply, one, facts, departure)) break;
  }
  if (isCut) reply[tlvs.at(-1)!.at] = tlv.FLAG_U | tlv.FLAG_M;
  if (hmac !== undefined && hmacOf !== undefined) {
    const before = reply.subarray(STAMP_BYTES, hmac.at);
    const digest = hmacOfTlvs(reply.subarray(0, 4), before, hmacOf);
    reply.set(digest, hmac.at + tlv.HEADER_BYTES);
  }
  return departure.trafficClass;
}

/** Answers one TLV; returns whether the following ones may be read. */
function answer(
  bytes: Uint8Array<ArrayBuffer>,
  { at, type, length }: tlv.Tlv,
  facts: TlvFacts,
  departure: ReplyOptions,
): boolean {
  const [start, end] = [at + tlv.HEADER_BYTES, at + tlv.HEADER_BYTES + length];
  if (end > bytes.length) return false;
  const size = tlv.SIZES[type] ?? length;
  const isWrong = type === tlv.LOCATION ? length < 4 : length !== size;
  if (isWrong) {
    if (type === tlv.FOLLOW_UP) bytes.fill(0, start, Math.min(end, start + 12));
    bytes[at] = tlv.FLAG_M;
    return false;
  }
  const view = viewOf(bytes.subarray(start, end));
  switch (type) {
    case tlv.EXTRA_PADDING:
    case tlv.HMAC:
      break;
    case tlv.LOCATION:
      view.setUint16(0, facts.reportsLocation ? facts.localAddr.port : 0);
      view.setUint16(2, facts.reportsLocation ? facts.remoteAddr.port : 0);
      answerPlaces(bytes.subarray(start + 4, end), facts);
      break;
    case tlv.TIMESTAMP_INFO: {
      const { isSynchronized } = facts;
      const source = isSynchronized ? tlv.SYNC_NTP : tlv.SYNC_FREE_RUNNING;
      const stamp = [source, tlv.STAMPED_BY_SOFTWARE];
      bytes.set([...stamp, ...stamp], start);
      break;
    }
    case tlv.CLASS_OF_SERVICE: {
      const { trafficClass } = facts;
      if (trafficClass === undefined) return true;
      const dscp = view.getUint8(0) >> 2;
      const isPermitted = facts.permitsDscp(dscp);
      // Four fields: the requested DSCP, the received DSCP and ECN, and whether the
      // first was refused.
      view.setUint16(0, dscp << 10 | trafficClass << 2 | (isPermitted ? 0 : 1));
      departure.trafficClass = isPermitted ? dscp << 2 : trafficClass & ~3;
      break;
    }
    case tlv.DIRECT_MEASUREMENT:
      if (facts.received === undefined) return true;
      view.setUint32(4, facts.received);
      view.setUint32(8, facts.transmitted);
      break;
    case tlv.ACCESS_REPORT:
      // Access IDs are 1 (3GPP) and 2 (non-3GPP).
      if (![1, 2].includes(bytes[start]! >> 4)) return true;
      break;
    case tlv.FOLLOW_UP:
      bytes.fill(0, start, end);
      if (facts.last !== undefined) {
        view.setUint32(0, facts.last.sequence);
        writeTimestamp(view, 4, facts.last.timestamp, facts.ptp);
        view.setUint8(12, tlv.STAMPED_BY_SOFTWARE);
      }
      break;
    default:
      // The U flag of an unknown type stays.
      return true;
  }
  bytes[at] = 0;
  return true;
}

/** Answers the sub-TLVs of a location. */
function answerPlaces(bytes: Uint8Array, facts: TlvFacts): void {
  const { localAddr, remoteAddr, reportsLocation } = facts;
  const { tlvs } = tlv.parse(bytes, 0);
  for (const { at, type, length } of tlvs) {
    const start = at + tlv.HEADER_BYTES;
    const isMac = type === tlv.SOURCE_MAC;
    const addr = type === tlv.DESTINATION_IP
      ? localAddr
      : type === tlv.SOURCE_IP
      ? remoteAddr
      : undefined;
    if (!isMac && addr === undefined) continue;
    const size = isMac ? tlv.MAC_BYTES : tlv.IP_BYTES;
    if (length !== size || start + size > bytes.length) {
      bytes[at] = tlv.FLAG_M;
      return;
    }
    bytes.fill(0, start, start + size);
    bytes[at] = 0;
    if (addr === undefined) {
      // Unknown to a socket: reported as an EUI-64 of zeros.
      bytes[at + 1] = tlv.SOURCE_EUI_64;
      continue;
    }
    // The types of IPv4 and IPv6 addresses follow the requested one.
    const address = addressBytes(addr.hostname);
    bytes[at + 1] = type + (address.length === 4 ? 1 : 2);
    if (reportsLocation) bytes.set(address, start);
  }
}

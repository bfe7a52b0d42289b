/**
 * The extensions of STAMP (RFC 8972, section 4), as a Session-Reflector answers
 * them: in place, in a reply that is as long as its request.
 *
 * @module
 */
import { timingSafeEqual } from "node:crypto";
import {
  ipv6Groups,
  ipVersion,
  type UdpAddress,
  withoutZone,
} from "../address.ts";
import type { Timestamp } from "./packet.ts";

/** What a reflector knows that a TLV may ask for. */
export interface TlvFacts {
  /** Where the request came from, and where it was sent to. */
  remoteAddr: UdpAddress;
  localAddr: UdpAddress;
  /** Whether the reflector's clock is kept right. */
  isSynchronized: boolean;
  /** Requests of the session that came, and replies that were sent. */
  received: number;
  transmitted: number;
  /** The reply before; none of a reflector without state, or of the first. */
  last: { sequence: number; timestamp: Timestamp } | undefined;
  /** Writes a timestamp as the reply has them. */
  writeTimestamp: (view: DataView, at: number, timestamp: Timestamp) => void;
  /** The HMAC of a key over bytes, 16 of it; none without a key. */
  hmacOf: ((bytes: Uint8Array) => Uint8Array) | undefined;
  /** Whether TLVs must have an HMAC: in authenticated mode. */
  needsHmac: boolean;
}

interface Tlv {
  at: number;
  type: number;
  length: number;
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
 */
export function answerTlvs(
  reply: Uint8Array<ArrayBuffer>,
  at: number,
  asked: { request: Uint8Array; reply: Uint8Array },
  facts: TlvFacts,
): void {
  if (reply[at] !== FLAG_U || reply.length < at + HEADER_BYTES) return;
  const { tlvs, isCut } = parse(reply, at);
  const hmac = tlvs.find(({ type }) => type === HMAC);
  if (!isAuthentic(reply, at, tlvs, asked.request, facts)) {
    for (const tlv of tlvs) reply[tlv.at]! |= FLAG_I;
    return;
  }
  for (const tlv of tlvs) {
    if (!answer(reply, tlv, facts)) break;
  }
  if (isCut) reply[tlvs.at(-1)!.at] = FLAG_U | FLAG_M;
  if (hmac === undefined || facts.hmacOf === undefined) return;
  const covered = reply.subarray(at, hmac.at);
  const digest = facts.hmacOf(new Uint8Array([...asked.reply, ...covered]));
  reply.set(digest, hmac.at + HEADER_BYTES);
}

/** All TLVs; the last one is cut off if it ends beyond the packet. */
function parse(bytes: Uint8Array, at: number): { tlvs: Tlv[]; isCut: boolean } {
  const tlvs: Tlv[] = [];
  while (at + HEADER_BYTES <= bytes.length) {
    const length = bytes[at + 2]! << 8 | bytes[at + 3]!;
    tlvs.push({ at, type: bytes[at + 1]!, length });
    at += HEADER_BYTES + length;
  }
  return { tlvs, isCut: at > bytes.length };
}

/** Whether the TLVs are what a holder of the key has sent. */
function isAuthentic(
  bytes: Uint8Array,
  start: number,
  tlvs: Tlv[],
  sequence: Uint8Array,
  { hmacOf, needsHmac }: TlvFacts,
): boolean {
  const place = tlvs.findIndex(({ type }) => type === HMAC);
  if (place < 0) {
    return !needsHmac || tlvs.every(({ type }) => type === EXTRA_PADDING);
  }
  const { at, length } = tlvs[place]!;
  // It follows all others but padding.
  const after = tlvs.slice(place + 1);
  if (
    hmacOf === undefined || length !== HMAC_BYTES ||
    at + HEADER_BYTES + length > bytes.length ||
    after.some(({ type }) => type !== EXTRA_PADDING)
  ) return false;
  const digest = hmacOf(
    new Uint8Array([...sequence, ...bytes.subarray(start, at)]),
  );
  const found = bytes.subarray(at + HEADER_BYTES, at + HEADER_BYTES + length);
  return timingSafeEqual(found, digest);
}

/** Answers one TLV; returns whether those after it may be read. */
function answer(
  bytes: Uint8Array<ArrayBuffer>,
  { at, type, length }: Tlv,
  facts: TlvFacts,
): boolean {
  const [start, end] = [at + HEADER_BYTES, at + HEADER_BYTES + length];
  if (end > bytes.length) return false;
  const size = SIZES[type];
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
      view.setUint16(0, facts.localAddr.port);
      view.setUint16(2, facts.remoteAddr.port);
      answerPlaces(bytes.subarray(start + 4, end), facts);
      break;
    case TIMESTAMP_INFO: {
      const source = facts.isSynchronized ? SYNC_NTP : SYNC_FREE_RUNNING;
      bytes.set([source, SOFTWARE, source, SOFTWARE], start);
      break;
    }
    case DIRECT_MEASUREMENT:
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
        view.setUint8(12, SOFTWARE);
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
  const { tlvs } = parse(bytes, 0);
  for (const { at, type, length } of tlvs) {
    const start = at + HEADER_BYTES;
    const isMac = type === SOURCE_MAC;
    const addr = type === DESTINATION_IP
      ? facts.localAddr
      : type === SOURCE_IP
      ? facts.remoteAddr
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
    } else if (ipVersion(addr.hostname) === 6) {
      bytes[at + 1] = type + 2;
      const groups = ipv6Groups(withoutZone(addr.hostname));
      bytes.set(groups.flatMap((group) => [group >> 8, group & 0xff]), start);
    } else {
      bytes[at + 1] = type + 1;
      bytes.set(addr.hostname.split(".").map(Number), start);
    }
  }
}

const HEADER_BYTES = 4;
const FLAG_U = 0x80;
const FLAG_M = 0x40;
const FLAG_I = 0x20;

/** By their numbers at IANA. */
const EXTRA_PADDING = 1;
const LOCATION = 2;
const TIMESTAMP_INFO = 3;
const DIRECT_MEASUREMENT = 5;
const ACCESS_REPORT = 6;
const FOLLOW_UP = 7;
const HMAC = 8;
const HMAC_BYTES = 16;
/** What a value must have, where there is one size. */
const SIZES: Record<number, number> = {
  [TIMESTAMP_INFO]: 4,
  [DIRECT_MEASUREMENT]: 12,
  [ACCESS_REPORT]: 4,
  [FOLLOW_UP]: 16,
  [HMAC]: HMAC_BYTES,
};
const SOURCE_MAC = 1;
const SOURCE_EUI_64 = 3;
/** Answered as 5 or 6, for IPv4 or IPv6. */
const DESTINATION_IP = 4;
/** Answered as 8 or 9. */
const SOURCE_IP = 7;
const MAC_BYTES = 8;
const IP_BYTES = 16;
const SYNC_NTP = 1;
const SYNC_FREE_RUNNING = 5;
/** A timestamp taken by software on this machine. */
const SOFTWARE = 2;

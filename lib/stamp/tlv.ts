/**
 * The layout of STAMP's extensions (RFC 8972, section 4), for senders and reflectors.
 * Pure.
 *
 * @module
 */
/** A TLV: its offset, its type, and the length of its value. */
export interface Tlv {
  at: number;
  type: number;
  length: number;
}

/**
 * Finds the TLVs, at most 32, as a packet has room for thousands; the last one is cut
 * off if it ends beyond the packet.
 */
export function parse(
  bytes: Uint8Array,
  at: number,
): { tlvs: Tlv[]; isCut: boolean } {
  const tlvs: Tlv[] = [];
  while (at + HEADER_BYTES <= bytes.length && tlvs.length < MAX_TLVS) {
    const length = bytes[at + 2]! << 8 | bytes[at + 3]!;
    tlvs.push({ at, type: bytes[at + 1]!, length });
    at += HEADER_BYTES + length;
  }
  return { tlvs, isCut: at > bytes.length };
}

/** Several times the number of types. */
const MAX_TLVS = 32;
export const HEADER_BYTES = 4;
/** Unrecognized: set by the sender, cleared by a reflector that knows the type. */
export const FLAG_U = 0x80;
/** Malformed: of a wrong length. */
export const FLAG_M = 0x40;
/** Integrity: the HMAC of the TLVs is wrong. */
export const FLAG_I = 0x20;

/** Types of TLVs, by their numbers at IANA. */
export const EXTRA_PADDING = 1;
export const LOCATION = 2;
export const TIMESTAMP_INFO = 3;
export const CLASS_OF_SERVICE = 4;
export const DIRECT_MEASUREMENT = 5;
export const ACCESS_REPORT = 6;
export const FOLLOW_UP = 7;
export const HMAC = 8;
export const HMAC_BYTES = 16;

/**
 * A report that a reflector adds to each reply: `location`, source and destination of
 * the request as received; `timestamp-info`, the time source of its clock;
 * `direct-measurement`, the numbers of requests received and answered; `follow-up`,
 * when the reply before left; `class-of-service`, the traffic class of the request as
 * received.
 */
export type Extension =
  | "location"
  | "timestamp-info"
  | "direct-measurement"
  | "follow-up"
  | "class-of-service";

/** The types of the extensions, by their numbers at IANA. */
export const EXTENSIONS: Readonly<Record<Extension, number>> = {
  location: LOCATION,
  "timestamp-info": TIMESTAMP_INFO,
  "direct-measurement": DIRECT_MEASUREMENT,
  "follow-up": FOLLOW_UP,
  "class-of-service": CLASS_OF_SERVICE,
};

/** The names of all extensions. */
export const EXTENSION_NAMES = Object.keys(EXTENSIONS) as readonly Extension[];

/** Sub-TLVs of a location, by their numbers at IANA; IP addresses have two each. */
export const SOURCE_MAC = 1;
export const SOURCE_EUI_64 = 3;
export const DESTINATION_IP = 4;
export const DESTINATION_IPV4 = 5;
export const DESTINATION_IPV6 = 6;
export const SOURCE_IP = 7;
export const SOURCE_IPV4 = 8;
export const SOURCE_IPV6 = 9;
export const MAC_BYTES = 8;
export const IP_BYTES = 16;

/** Sizes of values in bytes, of types that have one size. */
export const SIZES: Record<number, number> = {
  [TIMESTAMP_INFO]: 4,
  [CLASS_OF_SERVICE]: 4,
  [DIRECT_MEASUREMENT]: 12,
  [ACCESS_REPORT]: 4,
  [FOLLOW_UP]: 16,
  [HMAC]: HMAC_BYTES,
};

/** Time sources of a clock, by their numbers at IANA. */
export const SYNC_NTP = 1;
export const SYNC_FREE_RUNNING = 5;
/** A timestamp taken by software on this machine. */
export const STAMPED_BY_SOFTWARE = 2;

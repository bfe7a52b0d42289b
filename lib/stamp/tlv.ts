/**
 * How the extensions of STAMP are laid out (RFC 8972, section 4): what asks and what
 * answers has this in common. Pure.
 *
 * @module
 */
/** Where a TLV begins, what it is, and how long its value is. */
export interface Tlv {
  at: number;
  type: number;
  length: number;
}

/** All TLVs; the last one is cut off if it ends beyond the packet. */
export function parseTlvs(
  bytes: Uint8Array,
  at: number,
): { tlvs: Tlv[]; isCut: boolean } {
  const tlvs: Tlv[] = [];
  while (at + TLV_HEADER_BYTES <= bytes.length) {
    const length = bytes[at + 2]! << 8 | bytes[at + 3]!;
    tlvs.push({ at, type: bytes[at + 1]!, length });
    at += TLV_HEADER_BYTES + length;
  }
  return { tlvs, isCut: at > bytes.length };
}

export const TLV_HEADER_BYTES = 4;
/** Not known to the reflector; a sender sets it, and who knows it clears it. */
export const FLAG_U = 0x80;
/** Of a wrong length. */
export const FLAG_M = 0x40;
/** Their HMAC is wrong. */
export const FLAG_I = 0x20;

/** By their numbers at IANA. */
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
 * What a reflector can be asked for in each request: `location`, whom it saw asking
 * and where; `timestamp-info`, how good its clock is; `direct-measurement`, how many
 * requests it has received and answered; `follow-up`, when the reply before really
 * left; `class-of-service`, which traffic class the request came with.
 */
export type Extension =
  | "location"
  | "timestamp-info"
  | "direct-measurement"
  | "follow-up"
  | "class-of-service";

/** What can be asked for, with its number at IANA. */
export const EXTENSIONS: Readonly<Record<Extension, number>> = {
  location: LOCATION,
  "timestamp-info": TIMESTAMP_INFO,
  "direct-measurement": DIRECT_MEASUREMENT,
  "follow-up": FOLLOW_UP,
  "class-of-service": CLASS_OF_SERVICE,
};

/** The names of all that can be asked for. */
export const EXTENSION_NAMES = Object.keys(EXTENSIONS) as readonly Extension[];

/** What is in a location, by its number at IANA; an IP address has one of two. */
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

/** What a value must have, where there is one size. */
export const TLV_SIZES: Record<number, number> = {
  [TIMESTAMP_INFO]: 4,
  [CLASS_OF_SERVICE]: 4,
  [DIRECT_MEASUREMENT]: 12,
  [ACCESS_REPORT]: 4,
  [FOLLOW_UP]: 16,
  [HMAC]: HMAC_BYTES,
};

/** What keeps a clock right. */
export const SYNC_NTP = 1;
export const SYNC_FREE_RUNNING = 5;
/** A timestamp taken by software on this machine. */
export const STAMPED_BY_SOFTWARE = 2;

/**
 * STAMP's authenticated mode (RFC 8762, sections 4.2.2, 4.3.2 and 4.4): the layout
 * of packets with HMAC-SHA-256, and the HMAC of extensions (RFC 8972, section 4.8).
 *
 * @module
 */
import { createHmac, timingSafeEqual } from "node:crypto";
import type { UdpAddress } from "../address.ts";
import * as option from "../base/options.ts";
import { KEY } from "./measure_options.ts";
import {
  STAMP_BYTES,
  type Timestamp,
  TIMESTAMP_AT,
  viewOf,
  writeTimestamp,
} from "./packet.ts";
import * as tlv from "./tlv.ts";

/** The size of a packet without TLVs in authenticated mode. */
export const AUTHENTICATED_BYTES = 112;

/** A key for all senders, or a function that returns the key of one, if it has one. */
export type StampKey =
  | Uint8Array
  | ((sender: { ssid: number; remoteAddr: UdpAddress }) =>
    | Uint8Array
    | undefined);

/** The option of a key for all, or of a function that gives keys. */
export const STAMP_KEY: option.Option<StampKey, undefined> = option.custom(
  `${KEY.words}, or a function`,
  (value) => typeof value === "function" ? undefined : KEY.judge(value),
  undefined,
  KEY,
);

/**
 * Makes an authenticated packet of a plain one of either role; the bytes after its
 * first 44 follow the HMAC.
 */
export function seal(
  plain: Uint8Array,
  key: Uint8Array,
): Uint8Array<ArrayBuffer> {
  const rest = plain.subarray(STAMP_BYTES);
  const sealed = new Uint8Array(AUTHENTICATED_BYTES + rest.length);
  for (const [at, to, length] of FIELDS) {
    sealed.set(plain.subarray(at, at + length), to);
  }
  sealed.set(hmacOf(sealed.subarray(0, HMAC_AT), key), HMAC_AT);
  sealed.set(rest, AUTHENTICATED_BYTES);
  return sealed;
}

/** Replaces the timestamp of a packet, and its HMAC if there is a key. */
export function stampAgain(
  packet: Uint8Array,
  timestamp: Timestamp,
  ptp: boolean,
  key: Uint8Array | undefined,
): void {
  const at = key === undefined ? TIMESTAMP_AT : SEALED_TIMESTAMP_AT;
  writeTimestamp(viewOf(packet), at, timestamp, ptp);
  if (key) packet.set(hmacOf(packet.subarray(0, HMAC_AT), key), HMAC_AT);
}

/** The plain packet of an authenticated one; undefined without the key's HMAC. */
export function unseal(
  sealed: Uint8Array,
  key: Uint8Array,
): Uint8Array<ArrayBuffer> | undefined {
  if (sealed.length < AUTHENTICATED_BYTES) return undefined;
  const found = sealed.subarray(HMAC_AT, AUTHENTICATED_BYTES);
  const digest = hmacOf(sealed.subarray(0, HMAC_AT), key);
  return timingSafeEqual(found, digest) ? opened(sealed) : undefined;
}

/** The SSID of an authenticated packet whose HMAC has not been checked. */
export function statedSsid(sealed: Uint8Array): number {
  return sealed.length < AUTHENTICATED_BYTES
    ? 0
    : viewOf(sealed).getUint16(SSID_AT);
}

/** The plain packet of an authenticated one whose HMAC has not been checked. */
export function opened(sealed: Uint8Array): Uint8Array<ArrayBuffer> {
  const rest = sealed.subarray(AUTHENTICATED_BYTES);
  const plain = new Uint8Array(STAMP_BYTES + rest.length);
  for (const [to, at, length] of FIELDS) {
    plain.set(sealed.subarray(at, at + length), to);
  }
  plain.set(rest, STAMP_BYTES);
  return plain;
}

/** The first 16 bytes of HMAC-SHA-256. */
export function hmacOf(bytes: Uint8Array, key: Uint8Array): Uint8Array {
  const digest = createHmac("sha256", key).update(bytes).digest();
  return digest.subarray(0, tlv.HMAC_BYTES);
}

/** Computes the HMAC of bytes, cut to 16 bytes, with a key. */
export type Signer = (bytes: Uint8Array) => Uint8Array;

/** The HMAC of TLVs, and of the sequence of their packet as 4 bytes. */
export function hmacOfTlvs(
  sequence: Uint8Array,
  tlvs: Iterable<number>,
  hmacOf: Signer,
): Uint8Array {
  return hmacOf(new Uint8Array([...sequence, ...tlvs]));
}

/**
 * Whether the HMAC of all TLVs of a plain packet is right. Without a key there must be
 * none; with one, TLVs other than padding need it.
 */
export function areAuthentic(
  packet: Uint8Array,
  tlvs: tlv.Tlv[],
  sequence: Uint8Array,
  hmacOf: Signer | undefined,
): boolean {
  const place = tlvs.findIndex(({ type }) => type === tlv.HMAC);
  if (place < 0) {
    return hmacOf === undefined ||
      tlvs.every(({ type }) => type === tlv.EXTRA_PADDING);
  }
  const { at, length } = tlvs[place]!;
  // Only padding may follow it.
  const after = tlvs.slice(place + 1);
  const value = at + tlv.HEADER_BYTES;
  if (
    hmacOf === undefined || length !== tlv.HMAC_BYTES ||
    value + length > packet.length ||
    after.some(({ type }) => type !== tlv.EXTRA_PADDING)
  ) return false;
  const before = packet.subarray(STAMP_BYTES, at);
  const digest = hmacOfTlvs(sequence, before, hmacOf);
  return timingSafeEqual(packet.subarray(value, value + length), digest);
}

/** Fields: offset in a plain packet, offset in an authenticated one, length. */
const FIELDS: ReadonlyArray<readonly [number, number, number]> = [
  [0, 0, 4], // Sequence
  [4, 16, 8], // Timestamp
  [12, 24, 2], // Error estimate
  [14, 26, 2], // SSID (RFC 8972, section 3)
  [16, 32, 8], // Receive timestamp, of a reflector like the next ones
  [24, 48, 4], // Sender's sequence
  [28, 64, 8], // Sender's timestamp
  [36, 72, 2], // Sender's error estimate
  [40, 80, 1], // Sender's TTL
];
const SEALED_TIMESTAMP_AT = 16;
const HMAC_AT = 96;
const SSID_AT = 26;

/**
 * The wire format of the Simple Two-way Active Measurement Protocol, STAMP,
 * unauthenticated mode (RFC 8762, and RFC 8972 for the SSID). Pure.
 *
 * @module
 */
import type { ClockState } from "../base/wall_clock.ts";
import * as tlv from "./tlv.ts";

/** The size of a packet of either role, without TLVs. */
export const STAMP_BYTES = 44;

/** A point in time, of NTP or PTP. */
export interface Timestamp {
  /** Seconds since 1970-01-01. */
  seconds: number;
  /** 0 to 999,999,999, with a fraction where the format has one. */
  nanoseconds: number;
}

/** The quality of a clock (RFC 4656, section 4.1.2). */
export interface ErrorEstimate {
  /** S: the clock is synchronized to UTC by an external source. */
  synchronized: boolean;
  /** Z: timestamps are truncated PTPv2 (RFC 8186), not NTP 64-bit. */
  ptp: boolean;
  /** Scale of the error, 0 to 63. */
  scale: number;
  /** 1 to 255; the error is `multiplier * 2 ** (scale - 32)` seconds. */
  multiplier: number;
}

/** A clock of unknown state, set by the wall clock to the millisecond: 2 * 2^-10 s. */
export const ERROR_ESTIMATE: ErrorEstimate = {
  synchronized: false,
  ptp: false,
  scale: 22,
  multiplier: 2,
};

/** Reads the error estimate of this program's clock, once a second at most. */
export function estimates(
  clockState: () => ClockState | undefined,
): (now: number) => ErrorEstimate {
  let [estimate, readAt] = [ERROR_ESTIMATE, -Infinity];
  return (now) => {
    if (now - readAt > CLOCK_MS) {
      readAt = now;
      estimate = errorEstimateOf(clockState());
    }
    return estimate;
  };
}

/** The error estimate of a clock of this state. */
function errorEstimateOf(state: ClockState | undefined): ErrorEstimate {
  if (state === undefined) return ERROR_ESTIMATE;
  // The error of setting this program's clock by the wall clock is added.
  const errorS = state.maxErrorMs / 1000 + ANCHOR_ERROR_S;
  // Rounded up to multiplier * 2^(scale - 32) seconds.
  let scale = 0;
  while (scale < 63 && errorS > 255 * 2 ** (scale - 32)) scale++;
  const multiplier = Math.min(255, Math.ceil(errorS / 2 ** (scale - 32)));
  return { synchronized: state.synchronized, ptp: false, scale, multiplier };
}

/** The error of an estimate, in milliseconds. */
export function errorMsOf({ scale, multiplier }: ErrorEstimate): number {
  return 1000 * multiplier * 2 ** (scale - 32);
}

/** A request of a Session-Sender. */
export interface SenderPacket {
  /** 0 to 4,294,967,295. */
  sequence: number;
  /** When it was sent: T1. */
  timestamp: Timestamp;
  /** The estimate of the clock of `timestamp`. */
  errorEstimate: ErrorEstimate;
  /** The session's identifier (RFC 8972), 0 to 65,535; 0 for none. */
  ssid: number;
}

/** A reply of a Session-Reflector. */
export interface ReflectorPacket extends SenderPacket {
  /** When the request was received: T2. Its own `timestamp` is T3. */
  receiveTimestamp: Timestamp;
  /** The request's sequence. */
  senderSequence: number;
  /** The request's timestamp: T1. */
  senderTimestamp: Timestamp;
  /** The request's error estimate. */
  senderErrorEstimate: ErrorEstimate;
  /** The TTL or hop limit that the request arrived with; 0 for unknown. */
  senderTtl: number;
}

/**
 * Writes a request.
 *
 * @param packet The fields.
 * @param size Size of the payload in bytes, 44 to 65,507. The bytes after 44 are an
 * Extra Padding TLV (RFC 8972, section 4.1) if there is room for its header.
 * @param tlvs Other TLVs, before the padding; they are part of `size`.
 * @returns The payload.
 *
 * @example
 * ```ts
 * import { decodeSender, encodeSender } from "@roundtrip/udp/stamp";
 * import { assertEquals } from "@std/assert";
 *
 * const packet = {
 *   sequence: 7,
 *   timestamp: { seconds: 1, nanoseconds: 500_000_000 },
 *   errorEstimate: { synchronized: false, ptp: false, scale: 22, multiplier: 1 },
 *   ssid: 0,
 * };
 * assertEquals(decodeSender(encodeSender(packet)), packet);
 * ```
 */
export function encodeSender(
  packet: SenderPacket,
  size: number = STAMP_BYTES,
  tlvs: Uint8Array = NO_TLVS,
): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(size);
  const view = new DataView(bytes.buffer);
  writeHead(view, packet);
  bytes.set(tlvs, STAMP_BYTES);
  const at = STAMP_BYTES + tlvs.length;
  const padding = size - at - tlv.HEADER_BYTES;
  if (padding >= 0) {
    view.setUint8(at, tlv.FLAG_U);
    view.setUint8(at + 1, tlv.EXTRA_PADDING);
    view.setUint16(at + 2, padding);
  }
  return bytes;
}

/**
 * Reads a request.
 *
 * TWAMP-Light senders may send only the first 14 bytes; their `ssid` is 0.
 *
 * @param data The payload.
 * @returns The fields, or undefined if it is too short, or corrupt: an error
 * estimate with a multiplier of 0.
 *
 * @example
 * ```ts
 * import { decodeSender } from "@roundtrip/udp/stamp";
 * import { assertEquals } from "@std/assert";
 *
 * assertEquals(decodeSender(new Uint8Array(44)), undefined);
 * ```
 */
export function decodeSender(data: Uint8Array): SenderPacket | undefined {
  return data.length < MIN_REQUEST_BYTES ? undefined : readHead(viewOf(data));
}

/**
 * Writes a reply.
 *
 * @param packet The fields.
 * @param request The request: the reply is as long, 44 bytes at least, and the bytes
 * after the first 44 are copied (RFC 8762, section 4.3).
 * @returns The payload.
 *
 * @example
 * ```ts
 * import { decodeReflector, encodeReflector, encodeSender } from "@roundtrip/udp/stamp";
 * import { assertEquals } from "@std/assert";
 *
 * const errorEstimate = { synchronized: false, ptp: false, scale: 22, multiplier: 1 };
 * const timestamp = { seconds: 1, nanoseconds: 0 };
 * const sent = { sequence: 7, timestamp, errorEstimate, ssid: 0 };
 * const packet = {
 *   ...sent,
 *   receiveTimestamp: timestamp,
 *   senderSequence: sent.sequence,
 *   senderTimestamp: timestamp,
 *   senderErrorEstimate: errorEstimate,
 *   senderTtl: 0,
 * };
 * const reply = encodeReflector(packet, encodeSender(sent, 60));
 * assertEquals(reply.length, 60);
 * assertEquals(decodeReflector(reply), packet);
 * ```
 */
export function encodeReflector(
  packet: ReflectorPacket,
  request: Uint8Array,
): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(Math.max(STAMP_BYTES, request.length));
  bytes.set(request.subarray(STAMP_BYTES), STAMP_BYTES);
  const view = new DataView(bytes.buffer);
  writeHead(view, packet);
  writeTimestamp(view, 16, packet.receiveTimestamp, packet.errorEstimate.ptp);
  view.setUint32(24, packet.senderSequence);
  const { senderErrorEstimate } = packet;
  writeTimestamp(
    view,
    SENDER_TIMESTAMP_AT,
    packet.senderTimestamp,
    senderErrorEstimate.ptp,
  );
  view.setUint16(36, errorEstimateBits(senderErrorEstimate));
  view.setUint8(40, packet.senderTtl);
  return bytes;
}

/**
 * Reads a reply.
 *
 * 38 bytes are enough: some reflectors send no more; `senderTtl` is then 0.
 *
 * @param data The payload.
 * @returns The fields, or undefined if it is too short, or corrupt: an error
 * estimate with a multiplier of 0.
 *
 * @example
 * ```ts
 * import { decodeReflector } from "@roundtrip/udp/stamp";
 * import { assertEquals } from "@std/assert";
 *
 * assertEquals(decodeReflector(new Uint8Array(37)), undefined);
 * ```
 */
export function decodeReflector(data: Uint8Array): ReflectorPacket | undefined {
  if (data.length < MIN_REPLY_BYTES) return undefined;
  const view = viewOf(data);
  const head = readHead(view);
  const senderErrorEstimate = readErrorEstimate(view, 36);
  if (head === undefined || senderErrorEstimate === undefined) return undefined;
  return {
    ...head,
    receiveTimestamp: readTimestamp(view, 16, head.errorEstimate.ptp),
    senderSequence: view.getUint32(24),
    senderTimestamp: readTimestamp(
      view,
      SENDER_TIMESTAMP_AT,
      senderErrorEstimate.ptp,
    ),
    senderErrorEstimate,
    senderTtl: data.length > 40 ? view.getUint8(40) : 0,
  };
}

/**
 * Whether a packet is a plain Session-Sender's: zeros up to the end of the 44 bytes,
 * where a Session-Reflector writes (RFC 8762, section 4.2.1).
 */
export function isPlainSender(data: Uint8Array): boolean {
  return data.length >= STAMP_BYTES &&
    data.subarray(16, STAMP_BYTES).every((byte) => byte === 0);
}

/**
 * Whether a packet is a Session-Reflector's: its receive timestamp (T2) is one,
 * and close to its own (T3). Random padding of a TWAMP sender is not.
 */
export function isReflection(data: Uint8Array): boolean {
  // Most packets are those of plain senders, with zeros here.
  if (data.length < MIN_REPLY_BYTES || viewOf(data).getBigUint64(16) === 0n) {
    return false;
  }
  const packet = decodeReflector(data);
  if (packet === undefined) return false;
  const { receiveTimestamp, timestamp } = packet;
  return Math.abs(elapsedMs(receiveTimestamp, timestamp)) < MAX_REFLECTION_MS;
}

/**
 * The time from one timestamp to another, in milliseconds.
 *
 * Packets have 32 bits of seconds, which repeat (NTP: 2036, PTP: 2106): the nearest
 * such times count, within 68 years.
 *
 * @param from The start.
 * @param to The end; negative times are possible.
 * @returns The time, to a nanosecond, which the difference of two numbers of
 * milliseconds since 1970 is not.
 *
 * @example
 * ```ts
 * import { elapsedMs } from "@roundtrip/udp/stamp";
 * import { assertEquals } from "@std/assert";
 *
 * const from = { seconds: 1, nanoseconds: 999_000_000 };
 * assertEquals(elapsedMs(from, { seconds: 2, nanoseconds: 0 }), 1);
 * ```
 */
export function elapsedMs(from: Timestamp, to: Timestamp): number {
  const seconds = to.seconds - from.seconds;
  const repeatedS = Math.round(seconds / 2 ** 32) * 2 ** 32;
  return (seconds - repeatedS) * 1000 +
    (to.nanoseconds - from.nanoseconds) / 1e6;
}

/**
 * The timestamp of a Unix time.
 *
 * @param unixMs Milliseconds since 1970-01-01.
 * @returns The timestamp.
 *
 * @example
 * ```ts
 * import { timestampOf } from "@roundtrip/udp/stamp";
 * import { assertEquals } from "@std/assert";
 *
 * assertEquals(timestampOf(1500.5), { seconds: 1, nanoseconds: 500_500_000 });
 * ```
 */
export function timestampOf(unixMs: number): Timestamp {
  const seconds = Math.floor(unixMs / 1000);
  const nanoseconds = Math.round((unixMs - seconds * 1000) * 1e6);
  return nanoseconds < 1e9
    ? { seconds, nanoseconds }
    : { seconds: seconds + 1, nanoseconds: 0 };
}

/** Writes the first 16 bytes, which are those of both roles. */
function writeHead(view: DataView, packet: SenderPacket): void {
  view.setUint32(0, packet.sequence);
  const { timestamp, errorEstimate } = packet;
  writeTimestamp(view, TIMESTAMP_AT, timestamp, errorEstimate.ptp);
  view.setUint16(12, errorEstimateBits(errorEstimate));
  view.setUint16(14, packet.ssid);
}

function readHead(view: DataView): SenderPacket | undefined {
  const errorEstimate = readErrorEstimate(view, 12);
  if (errorEstimate === undefined) return undefined;
  return {
    sequence: view.getUint32(0),
    timestamp: readTimestamp(view, TIMESTAMP_AT, errorEstimate.ptp),
    errorEstimate,
    ssid: view.byteLength < 16 ? 0 : view.getUint16(14),
  };
}

/** Offset of the timestamp in a plain packet of either role: T1 or T3. */
export const TIMESTAMP_AT = 4;
/** Offset of the sender's timestamp in a plain reply: T1. */
export const SENDER_TIMESTAMP_AT = 28;

/** Writes a timestamp in the format of NTP, or of PTP. */
export function writeTimestamp(
  view: DataView,
  at: number,
  { seconds, nanoseconds }: Timestamp,
  ptp: boolean,
): void {
  if (ptp) {
    view.setUint32(at, seconds);
    view.setUint32(at + 4, nanoseconds);
    return;
  }
  // Rounded to the nearest 2^-32 s, within the same second.
  const fraction = Math.round(nanoseconds * FRACTIONS_PER_NS);
  view.setUint32(at, seconds + NTP_EPOCH_SECONDS);
  view.setUint32(at + 4, Math.min(fraction, 0xffff_ffff));
}

/** Reads a timestamp in the format of NTP, or of PTP. */
export function readTimestamp(
  view: DataView,
  at: number,
  ptp: boolean,
): Timestamp {
  const seconds = view.getUint32(at);
  const rest = view.getUint32(at + 4);
  if (ptp) return { seconds, nanoseconds: rest };
  // NTP's seconds end in 2036: those before 1968 are later (RFC 4330, section 3).
  const era = seconds < 0x8000_0000 ? 2 ** 32 : 0;
  return {
    seconds: seconds + era - NTP_EPOCH_SECONDS,
    // Values that were written as whole nanoseconds are read as such.
    nanoseconds: rounded(rest / FRACTIONS_PER_NS),
  };
}

function rounded(nanoseconds: number): number {
  const whole = Math.round(nanoseconds);
  const isWhole = Math.abs(nanoseconds - whole) <= 0.5 / FRACTIONS_PER_NS;
  return isWhole && whole < 1e9 ? whole : nanoseconds;
}

function errorEstimateBits(estimate: ErrorEstimate): number {
  const { synchronized, ptp, scale, multiplier } = estimate;
  return (synchronized ? 0x8000 : 0) | (ptp ? 0x4000 : 0) | scale << 8 |
    multiplier;
}

function readErrorEstimate(
  view: DataView,
  at: number,
): ErrorEstimate | undefined {
  const bits = view.getUint16(at);
  const multiplier = bits & 0xff;
  if (multiplier === 0) return undefined;
  return {
    synchronized: (bits & 0x8000) !== 0,
    ptp: (bits & 0x4000) !== 0,
    scale: bits >> 8 & 0x3f,
    multiplier,
  };
}

/** A view of the bytes of a packet. */
export function viewOf(
  { buffer, byteOffset, byteLength }: Uint8Array,
): DataView {
  return new DataView(buffer, byteOffset, byteLength);
}

/** Sequence, timestamp and error estimate, as TWAMP-Light needs them. */
export const MIN_REQUEST_BYTES = 14;
/** All fields up to the sender's error estimate. */
const MIN_REPLY_BYTES = 38;

/** The state of the clock is read once in this time. */
const CLOCK_MS = 1000;
/** Longer than a reflector takes, and unlikely in random padding. */
const MAX_REFLECTION_MS = 60_000;

/** Half of the millisecond to which the wall clock is read. */
const ANCHOR_ERROR_S = 0.0005;

const NO_TLVS = new Uint8Array(0);

/** Seconds from 1900 to 1970. */
const NTP_EPOCH_SECONDS = 2_208_988_800;
const FRACTIONS_PER_NS = 2 ** 32 / 1e9;

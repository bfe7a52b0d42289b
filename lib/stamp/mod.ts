/**
 * Measures a path by STAMP (RFC 8762): {@linkcode measure} is the Session-Sender,
 * {@linkcode stampReflector} the Session-Reflector, and functions encode and decode the
 * packets.
 *
 * @example
 * ```ts
 * import { serve } from "@roundtrip/udp";
 * import { measure, stampReflector } from "@roundtrip/udp/stamp";
 * import { assertEquals } from "@std/assert";
 *
 * await using server = serve(stampReflector());
 * const measurement = measure(server.addr, { count: 3, intervalMs: 10 });
 * for await (const event of measurement) assertEquals(event.type, "reply");
 * assertEquals(measurement.summary().received, 3);
 * ```
 *
 * @module
 */
import "../base/deno.ts";
import "../socket/linux_engine.ts";

export type { Reported, StampedBy } from "./ask.ts";
export { AUTHENTICATED_BYTES, type StampKey } from "./auth.ts";
export {
  type Clock,
  type MeasureOptions,
  STAMP_PORT,
} from "./measure_options.ts";
export type { Bin } from "../stats/distribution.ts";
export type { DriftBound } from "./drift.ts";
export { measure, type Measurement } from "./measure.ts";
export {
  decodeReflector,
  decodeSender,
  elapsedMs,
  encodeReflector,
  encodeSender,
  type ErrorEstimate,
  type ReflectorPacket,
  type SenderPacket,
  STAMP_BYTES,
  type Timestamp,
  timestampOf,
} from "./packet.ts";
export {
  type ReflectorOptions,
  type ReflectorStats,
  type StampReflector,
  stampReflector,
} from "./reflector.ts";
export type {
  MeasureEvent,
  MeasureResult,
  SessionResult,
  StampSample,
} from "./session_result.ts";
export type { Extension } from "./tlv.ts";
export { summarize, type Summary } from "../stats/statistics.ts";
export type { Interval } from "../stats/books.ts";
export type { PartCounts, Reason, RunCounts } from "../stats/counts.ts";
export type { TailSummary } from "../stats/distribution.ts";
export type { LossStructure, Outage } from "../stats/loss_periods.ts";
export type { Outcome, Sample } from "../stats/sample.ts";
export type { RunHandle } from "../client/run.ts";
export type { RunOptions } from "../client/run_options.ts";
export type { OriginOptions } from "../client/target.ts";

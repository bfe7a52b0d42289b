/**
 * Types of the figures of a STAMP session: of one reply, and of all; and its events.
 *
 * @module
 */
import type { RunCounts } from "../stats/counts.ts";
import type { Interval } from "../stats/books.ts";
import type { Summary } from "../stats/statistics.ts";
import type { Reported } from "./ask.ts";
import type { DriftBound } from "./drift.ts";

/** The measurement of one reply. All times are in milliseconds. */
export interface StampSample {
  /** Of the request, from 0. */
  seq: number;
  /**
   * The round-trip delay, without the time that the reflector took, by the clock
   * that `clock` names.
   */
  rttMs: number;
  /**
   * The clock of both ends of the round trip: the kernel's, which leaves out this
   * program's own share, or the program's where the kernel takes no timestamps.
   */
  clock: "kernel" | "program";
  /** The round-trip delay as seen, from the send until the reply was read. */
  seenMs: number;
  /**
   * The time that the reflector took, by its own timestamps; undefined if that is
   * impossible: negative, or more than the round trip.
   */
  reflectorMs: number | undefined;
  /**
   * From the sender's timestamp to the reflector's: the one-way delay plus the
   * offset of the reflector's clock.
   */
  forwardMs: number;
  /** The one-way delay back, less the offset of the reflector's clock. */
  backwardMs: number;
  /** Whether a later request's reply arrived before (RFC 4737, section 3.3). */
  reordered: boolean;
  /** Delay of the send after it was due. */
  sendErrorMs: number;
  /** The reflector's report, with `extensions`. */
  reported?: Reported;
}

/** The outcome of one request; `seq` counts them from 0. */
export type MeasureEvent =
  | { type: "reply"; seq: number; sample: StampSample }
  | { type: "lost"; seq: number }
  | { type: "late"; seq: number }
  | { type: "duplicate"; seq: number }
  | { type: "error"; seq: number; error: unknown }
  | Interval;

/** The figures of a session. Times are in milliseconds. */
export interface SessionResult extends RunCounts {
  /**
   * Requests that never reached the reflector, by its numbers, or by the counts of
   * `extensions`. Undefined unless it is known to count requests, or nothing was
   * lost.
   */
  lostUp: number | undefined;
  /** Replies that the reflector sent and that were lost; undefined as `lostUp`. */
  lostDown: number | undefined;
  /**
   * Requests lost in one direction or the other: before the first that was answered or
   * after the last, around a restart of the reflector or an eviction of the session,
   * where copies of requests took numbers too, and the latest, which may have been
   * overtaken, unless a closing probe was answered; undefined as `lostUp`.
   */
  lostUnattributed: number | undefined;
  /** Replies that arrived after one to a later request (RFC 4737). */
  reordered: number;
  /** Whether all quantiles are exact; of more than 1,000 RTTs, to 0.1 %. */
  exact: boolean;
  /** Round-trip delay without the reflector's time (RFC 2681). */
  rttMs: Summary | undefined;
  /** Round-trip delay by the program's clock, the reflector's time included. */
  seenMs: Summary | undefined;
  /** The reflector's time. */
  reflectorMs: Summary | undefined;
  /** RTT less that of the request before (IPDV, RFC 5481, section 4.1). */
  ipdvMs: Summary | undefined;
  /** RTT less the smallest (PDV, RFC 5481, section 4.2). */
  pdvMs: Summary | undefined;
  /** PDV towards the reflector; the clocks need not be synchronized. */
  forwardPdvMs: Summary | undefined;
  /** PDV of the way back; both are corrected for `clockDriftPpm`. */
  backwardPdvMs: Summary | undefined;
  /** Interarrival jitter towards the reflector (RFC 3550). */
  forwardJitterMs: number | undefined;
  /** Interarrival jitter of the way back (RFC 3550). */
  backwardJitterMs: number | undefined;
  /**
   * Offset of the reflector's clock, positive if it is ahead, from the reply with
   * the smallest RTT, and the largest error of that.
   */
  clockOffsetMs: { estimate: number; error: number } | undefined;
  /**
   * Drift of the reflector's clock against this one, in millionths, and the largest
   * error of that while the path stays the same; undefined if it does not, or with
   * fewer than two replies.
   */
  clockDriftPpm: DriftBound | undefined;
  /** The last report of the reflector, with `extensions`. */
  reported: Reported | undefined;
  /**
   * Whether the reflector returns the SSID; one that does not know RFC 8972 returns
   * zeros. Undefined if none was sent, or nothing was received.
   */
  returnsSsid: boolean | undefined;
  /**
   * One-way delay towards the reflector, within `oneWayErrorMs`; undefined unless
   * both ends reported their clocks as synchronized in every packet.
   */
  forwardDelayMs: Summary | undefined;
  /** One-way delay of the way back; undefined as `forwardDelayMs`. */
  backwardDelayMs: Summary | undefined;
  /** Largest error of the one-way delays, by both clocks' own estimates. */
  oneWayErrorMs: number | undefined;
  /** Replies timed by the kernel at both ends. */
  kernelTimed: number;
  /** Delays of sends after they were due. */
  sendErrorMs: Summary | undefined;
}

/** The figures of a measurement. */
export interface MeasureResult extends SessionResult {
  /** Since the first send, in milliseconds, without the wait at the end. */
  durationMs: number;
  /**
   * Replies that this machine dropped, since its receive buffer was full: they are
   * among `lost` and `lostDown`, but not lost on the path. Undefined where that is
   * not known.
   */
  kernelDrops: number | undefined;
}

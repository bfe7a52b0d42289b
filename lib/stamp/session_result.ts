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
   * The round-trip delay, without `reflectorMs` if that is known, by the clock that
   * `clock` names. Undefined if the reply may have waited for this program in a
   * standstill, and the kernel took no timestamps.
   */
  rttMs: number | undefined;
  /**
   * The clock of both ends of the round trip: the kernel's, which leaves out this
   * program's own share, or the program's where the kernel takes no timestamps.
   */
  clock: "kernel" | "program";
  /**
   * The round-trip delay as seen, from the send until the reply was read; undefined
   * if it may have waited in a standstill.
   */
  seenMs: number | undefined;
  /**
   * The time that the reflector took, by its own timestamps; undefined if these are
   * impossible: one of them 0, or their difference negative or more than the round trip.
   */
  reflectorMs: number | undefined;
  /**
   * From the sender's timestamp to the reflector's: the one-way delay plus the
   * offset of the reflector's clock; undefined as `reflectorMs`.
   */
  forwardMs: number | undefined;
  /**
   * The one-way delay back, less the offset of the reflector's clock; undefined as
   * `reflectorMs` or `rttMs`.
   */
  backwardMs: number | undefined;
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
   * Requests that were sent and lost in one direction or the other: before the first that was answered or
   * after the last, around a restart of the reflector or an eviction of the session,
   * where copies of requests took numbers too, and the latest, which may have been
   * overtaken, unless a closing probe was answered; undefined as `lostUp`.
   */
  lostUnattributed: number | undefined;
  /**
   * Replies to copies of a request, by their own numbers. Undefined unless the reflector
   * is known to count requests, or there are no duplicates.
   */
  duplicatesUp: number | undefined;
  /** Copies of replies; undefined as `duplicatesUp`. */
  duplicatesDown: number | undefined;
  /** Replies that arrived after one to a later request (RFC 4737). */
  reordered: number;
  /**
   * Answered requests that reached the reflector after a later one, by its numbers.
   * Undefined unless it is known to count requests, or nothing is reordered, and for
   * reordering with a restart of the reflector.
   */
  reorderedUp: number | undefined;
  /** Replies that arrived after one of a larger number; undefined as `reorderedUp`. */
  reorderedDown: number | undefined;
  /** Replies from the first one to a later request to a reordered one (RFC 4737, 4.2). */
  reorderingExtent: { max: number; mean: number } | undefined;
  /** Whether all quantiles are exact; of more than 1,000 RTTs, to 0.1 %. */
  exact: boolean;
  /**
   * Round-trip delay (RFC 2681), without the reflector's time unless its timestamps are
   * impossible.
   */
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
  /** PDV of the way back; both are corrected for `clockDriftPpm` beyond twice its error. */
  backwardPdvMs: Summary | undefined;
  /**
   * Interarrival jitter towards the reflector (RFC 3550): a running estimate, of about
   * the last 16 replies. The PDV is of all.
   */
  forwardJitterMs: number | undefined;
  /** Interarrival jitter of the way back (RFC 3550), as `forwardJitterMs`. */
  backwardJitterMs: number | undefined;
  /**
   * Replies with impossible timestamps of the reflector: one of them 0, or their
   * difference negative or more than the round trip. They are in no figure but the RTTs.
   */
  impossibleTimestamps: number;
  /**
   * Steps of the reflector's clock against this one of more than a round trip and 1 ms.
   * Offset, drift and jitter are those since the last one, PDV is relative to the least
   * delay between two; with more than one in four replies PDV and jitter are undefined.
   */
  clockSteps: number;
  /**
   * Offset of the reflector's clock, positive if it is ahead, at the time of the reply
   * with the smallest RTT, and the largest error of that.
   */
  clockOffsetMs: { estimate: number; error: number } | undefined;
  /**
   * Drift of the reflector's clock against this one, in millionths, and the largest
   * error of that while the path stays the same; undefined if it does not, or with
   * fewer than 200 replies or less than a minute (any time with 100,000 replies).
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
   * both ends reported their clocks as synchronized in every packet, and after a step.
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

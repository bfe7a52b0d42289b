/**
 * The counts that all runs have. Pure.
 *
 * @module
 */
import type { LossStructure } from "./loss_periods.ts";

/** The counts of a part of a run; those of all intervals add up to the run's. */
export interface PartCounts {
  /** Datagrams that the system took, without retransmissions. */
  sent: number;
  /** Datagrams answered within `timeoutMs`. */
  received: number;
  /**
   * Datagrams sent and not answered within `timeoutMs` (RFC 6673); rejected and
   * late ones are among them.
   */
  lost: number;
  /**
   * Lost datagrams that the network reported undeliverable, of a series. A load and a
   * measurement have one socket: which datagram a report is about is not known, and
   * it is among `reasons`.
   */
  rejected: number;
  /** Datagrams that the system refused to send; not among `sent`. */
  unsent: number;
  /** Replies beyond one for each datagram sent (RFC 5560). */
  duplicates: number;
  /** Lost datagrams whose reply arrived after all. */
  late: number;
  /** Received datagrams that are no replies to those sent. */
  foreign: number;
  /** Datagrams sent again for want of a reply. */
  retransmissions: number;
  /**
   * Sends that were due while this program stood still, or was too slow for the
   * rate, and were not made up for.
   */
  skipped: number;
  /** Standstills of this program of more than 100 ms. */
  stalls: number;
  /** Their duration together, in milliseconds. */
  stalledMs: number;
}

/** The number of reports with one reason. */
export interface Reason {
  /** The system's or the network's words. */
  reason: string;
  /** The number of reports. */
  count: number;
}

/** The counts of a run. `sent` is `received + lost + pending`. */
export interface RunCounts extends PartCounts, LossStructure {
  /** Datagrams in flight: those at the end of a run too. */
  pending: number;
  /**
   * `lost + unsent` in percent of all settled datagrams, `received + lost + unsent`;
   * undefined if that is 0.
   */
  lossPercent: number | undefined;
  /** Errors of sends and reports of the network, by reason, most frequent first. */
  reasons: readonly Reason[];
  /** The first send, by the wall clock, as Unix time in milliseconds; undefined before. */
  startedAt: number | undefined;
  /** The longest standstill of this program, and its start since the first send. */
  longestStall: { fromMs: number; ms: number } | undefined;
  /**
   * Events that were not iterated, as 16 MiB of earlier ones waited: each of 512
   * bytes, and its payload. Their datagrams are in all other counts.
   */
  eventsDropped: number;
}

/** Counts before the first send. */
export const NO_COUNTS: Readonly<PartCounts> = {
  sent: 0,
  received: 0,
  lost: 0,
  rejected: 0,
  unsent: 0,
  duplicates: 0,
  late: 0,
  foreign: 0,
  retransmissions: 0,
  skipped: 0,
  stalls: 0,
  stalledMs: 0,
};

/** The loss in percent of all settled datagrams, if there are any. */
export function lossPercentOf(
  { received, lost, unsent }: Pick<PartCounts, "received" | "lost" | "unsent">,
): number | undefined {
  const missing = lost + unsent;
  return missing + received === 0
    ? undefined
    : 100 * missing / (missing + received);
}

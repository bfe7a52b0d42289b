/**
 * The counts that all runs have. Pure.
 *
 * @module
 */

/** The counts of a part of a run. */
export interface PartCounts {
  /** Datagrams sent, without retransmissions. */
  sent: number;
  /** Datagrams answered within `timeoutMs`. */
  received: number;
  /** Datagrams not answered within `timeoutMs` (RFC 6673); late ones are among them. */
  lost: number;
  /** Replies beyond one for each datagram sent (RFC 5560). */
  duplicates: number;
  /** Lost datagrams whose reply arrived after all. */
  late: number;
  /** Datagrams that the system failed to send. */
  errors: number;
}

/** The counts of a run. `sent` is `received + lost + pending`. */
export interface RunCounts extends PartCounts {
  /** Datagrams that may still be answered. */
  pending: number;
  /** `lost` in percent of `received + lost`; undefined if that is 0. */
  lossPercent: number | undefined;
  /** Received datagrams that are no replies to those sent. */
  foreign: number;
  /**
   * Events that were not iterated, as 16 MiB of earlier ones waited: each of 512
   * bytes, and its payload. Their datagrams are in all other counts.
   */
  eventsDropped: number;
}

/** Counts before the first send. */
export const NO_COUNTS = {
  sent: 0,
  received: 0,
  lost: 0,
  duplicates: 0,
  late: 0,
  foreign: 0,
  errors: 0,
  eventsDropped: 0,
};

/** All counts, with those that follow from the others. */
export function withLoss<Counts extends typeof NO_COUNTS>(
  counts: Counts,
): Counts & RunCounts {
  const { sent, received, lost } = counts;
  const pending = sent - received - lost;
  return { ...counts, pending, lossPercent: lossPercentOf(lost, received) };
}

/** The loss in percent of all settled datagrams, if there are any. */
export function lossPercentOf(lost: number, received: number) {
  const settled = lost + received;
  return settled === 0 ? undefined : 100 * lost / settled;
}

/**
 * The targets as the page of `client --watch` shows them, and their order. Pure.
 *
 * @module
 */

/** A target on the page; times are Unix time in milliseconds, losses in percent. */
export interface Row {
  name: string;
  address: string;
  labels: Record<string, string>;
  /** The state, its begin, and its reason if one was reported. */
  state: "up" | "down" | "waiting";
  since: number;
  why?: string;
  /** The loss of the last minute; the other figures are of the last hour. */
  lossNow: number | null;
  lossHour: number | null;
  medianMs: number | null;
  p99Ms: number | null;
  /** The begin of the last outage; `seconds` is null while it lasts. */
  lastOutage: { at: number; seconds: number | null; datagrams: number } | null;
  /** The thresholds that are missed, a sentence each. */
  missed: string[];
  /** A number that grows when the pictures change. */
  version: number;
}

/** An event of the stream: all targets, or the changed ones and names without one. */
export interface Update {
  now: number;
  isAll: boolean;
  targets: Row[];
  gone: string[];
}

/** Orders targets by trouble, the worst first. The script has its text. */
export function byTrouble(a: Row, b: Row): number {
  const isDown = (row: Row) => Number(row.state === "down");
  return isDown(b) - isDown(a) || isDown(a) * (a.since - b.since) ||
    b.missed.length - a.missed.length ||
    (b.lossNow ?? -1) - (a.lossNow ?? -1) ||
    (b.lossHour ?? -1) - (a.lossHour ?? -1) ||
    (b.p99Ms ?? -1) - (a.p99Ms ?? -1) || (a.name < b.name ? -1 : 1);
}

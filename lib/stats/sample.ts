/**
 * The record of one datagram that a run was to send, and the outcome. Pure.
 *
 * @module
 */
import type { UdpAddress } from "../address.ts";

/**
 * The outcome of a datagram: answered in time; not answered in time (RFC 6673),
 * or reported undeliverable by the network; refused by this machine's system;
 * or still in flight when the run ended.
 */
export type Outcome = "received" | "lost" | "rejected" | "unsent" | "pending";

/** One datagram of a run. Times are in milliseconds since the first send. */
export interface Sample {
  /** Its number, from 0. */
  seq: number;
  /** The outcome. */
  outcome: Outcome;
  /** When it was due. */
  dueMs: number;
  /** When it was handed to the system, for the first time. */
  sentMs: number;
  /** The same by the wall clock at the first send, as Unix time in milliseconds. */
  sentAt: number;
  /**
   * The round-trip time. Undefined if it was not answered, after a retransmission
   * (Karn's algorithm), and where an echo has no number.
   */
  rttMs: number | undefined;
  /** The clock of `rttMs`: the kernel's timestamps, or the program's. */
  clock: "kernel" | "program";
  /** The number of times it was sent. */
  attempts: number;
  /** The bytes of its payload. */
  size: number;
  /** The server's address. */
  target: UdpAddress;
  /** The port that it was sent from; 0 if none was opened. */
  localPort: number;
  /** The report of the network if it was rejected; the system's error if unsent. */
  error?: unknown;
}

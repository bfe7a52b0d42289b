/**
 * The options of a load, for help without the rest of it.
 *
 * @module
 */
import * as option from "../base/options.ts";
import { MAX_PAYLOAD } from "../socket/contract.ts";
import { ORIGIN, type OriginOptions } from "./target.ts";

/** Options of {@linkcode load}; of `rate` and `window` there is one. */
export interface LoadOptions extends OriginOptions {
  /**
   * How many datagrams a second to send, whatever comes back, 0.001 to
   * 10,000,000. What that does to the path is the caller's responsibility (RFC
   * 8085, section 3.1).
   */
  rate?: number | undefined;
  /**
   * How many datagrams to keep in flight, 1 to 65,536. One more is sent when
   * nothing has come back for a while.
   */
  window?: number | undefined;
  /**
   * For how long to send, in milliseconds, 1 to 86,400,000 (a day).
   *
   * @default {10000, or no limit with a `count`}
   */
  durationMs?: number | undefined;
  /**
   * How many datagrams to send, 1 to 1,000,000,000.
   *
   * @default {no limit}
   */
  count?: number | undefined;
  /**
   * The bytes of a datagram, 0 to 65,527 (over IPv4 65,507). Below 8 there is
   * no room for a number: replies then count in the order in which they come,
   * and no RTT is known.
   *
   * @default {64}
   */
  size?: number | undefined;
  /**
   * After how long without an echo a datagram is lost, in milliseconds, 1 to
   * 86,400,000 (a day).
   *
   * @default {1000}
   */
  timeoutMs?: number | undefined;
  /**
   * How long an interval is, in milliseconds, 1 to 86,400,000 (a day).
   *
   * @default {1000}
   */
  reportMs?: number | undefined;
  /**
   * Called for each datagram that is answered or given up; of those below 8
   * bytes only for what is given up.
   *
   * @param seq Its number, from 0 on.
   * @param atMs When it was due or sent, since the first, in milliseconds.
   * @param rttMs How long it took; undefined if it is lost.
   */
  onSample?:
    | ((seq: number, atMs: number, rttMs: number | undefined) => void)
    | undefined;
  /**
   * Whether this thread may sleep until the next datagram is due, on the linux
   * engine: for programs that do nothing else meanwhile. Else a rate keeps a
   * processor busy.
   *
   * @default {false}
   */
  mayBlock?: boolean | undefined;
  /** Ends the run when aborted. */
  signal?: AbortSignal | undefined;
}

/** The table of {@linkcode LoadOptions}. */
export const LOAD = {
  ...ORIGIN,
  rate: option.real(0.001, 10_000_000),
  window: option.integer(1, 65_536),
  durationMs: option.dependent(option.orInfinity(option.time(1, 10_000))),
  count: option.orInfinity(option.integer(1, 1_000_000_000, Infinity)),
  size: option.integer(0, MAX_PAYLOAD, 64),
  timeoutMs: option.time(1, 1000),
  reportMs: option.time(1, 1000),
  onSample: option.callback(),
  mayBlock: option.flag(false),
  signal: option.SIGNAL,
} satisfies option.Table<LoadOptions>;

/** The defaults of {@linkcode LoadOptions}. */
export const LOAD_DEFAULTS = option.defaultsOf(LOAD);

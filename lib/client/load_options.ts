/**
 * The options of a load, for help without the rest of it.
 *
 * @module
 */
import * as option from "../base/options.ts";
import { MAX_PAYLOAD } from "../socket/contract.ts";
import { RUN, type RunOptions } from "./run_options.ts";
import { ORIGIN, type OriginOptions } from "./target.ts";

/** Options of {@linkcode load}; of `rate` and `window` there is one. */
export interface LoadOptions extends OriginOptions, RunOptions {
  /**
   * Datagrams per second, whether or not they are answered, 0.001 to 10,000,000.
   * The effect on the path is the caller's responsibility (RFC 8085, section 3.1).
   */
  rate?: number | undefined;
  /** The number of datagrams to keep in flight, 1 to 65,536. */
  window?: number | undefined;
  /**
   * The time to send, in milliseconds, 1 to 86,400,000 (a day).
   *
   * @default {10000, or no limit with a `count`}
   */
  durationMs?: number | undefined;
  /**
   * The number of datagrams, 1 to 1,000,000,000.
   *
   * @default {no limit}
   */
  count?: number | undefined;
  /**
   * The bytes of a datagram, 8 to 65,527 (over IPv4 65,507): it has its number, by
   * which its echo is attributed.
   *
   * @default {64}
   */
  size?: number | undefined;
  /**
   * The loss threshold: the time after which a datagram without an echo is lost,
   * in milliseconds, 1 to 86,400,000 (a day).
   *
   * @default {1000}
   */
  timeoutMs?: number | undefined;
  /**
   * Whether this thread may sleep until the next datagram is due, on the linux
   * engine: for programs that do nothing else meanwhile. Otherwise a rate
   * keeps a processor busy.
   *
   * @default {false}
   */
  mayBlock?: boolean | undefined;
}

/** The table of {@linkcode LoadOptions}. */
export const LOAD = {
  ...ORIGIN,
  ...RUN,
  rate: option.real(0.001, 10_000_000),
  window: option.integer(1, 65_536),
  durationMs: option.dependent(option.orInfinity(option.time(1, 10_000))),
  count: option.orInfinity(option.integer(1, 1_000_000_000, Infinity)),
  size: option.integer(8, MAX_PAYLOAD, 64),
  timeoutMs: option.time(1, 1000),
  reportMs: option.time(1, 1000),
  mayBlock: option.flag(false),
} satisfies option.Table<LoadOptions>;

/** The defaults of {@linkcode LoadOptions}. */
export const LOAD_DEFAULTS = option.defaultsOf(LOAD);

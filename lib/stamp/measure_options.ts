/**
 * The options of a measurement, for help without the rest of it.
 *
 * @module
 */
import * as option from "../base/options.ts";
import { RUN, type RunOptions } from "../client/run_options.ts";
import { ORIGIN, type OriginOptions } from "../client/target.ts";
import { MAX_PAYLOAD_IPV4 } from "../socket/contract.ts";
import { type Extension, EXTENSION_NAMES } from "./tlv.ts";

/** The port that a Session-Reflector listens on (RFC 8762, section 4.1). */
export const STAMP_PORT = 862;

/** The clock of a round trip, see {@linkcode MeasureOptions}. */
export type Clock = "auto" | "kernel" | "program";

/** All clocks. */
export const CLOCKS: readonly Clock[] = ["auto", "kernel", "program"];

/** Options of {@linkcode measure}. */
export interface MeasureOptions extends OriginOptions, RunOptions {
  /**
   * The number of requests, 1 to 4,294,967,295 (a sequence has 32 bits), or Infinity
   * for no other end than `stop()`, a deadline or a signal.
   *
   * @default {10}
   */
  count?: number | undefined;
  /**
   * From one request to the next, in milliseconds, 0.01 to 86,400,000 (a day).
   * Each is due at a multiple of it after the first; how far off it was sent is
   * measured too.
   *
   * @default {1000}
   */
  intervalMs?: number | undefined;
  /**
   * The size of a request, 44 to 65,507 bytes of UDP payload; more at least with a
   * key, or `extensions`.
   *
   * @default {as small as can be}
   */
  size?: number | undefined;
  /**
   * The number of this session among those of one address and port, 0 to 65,535
   * (RFC 8972, section 3).
   *
   * @default {0}
   */
  ssid?: number | undefined;
  /**
   * Whether the measurement ends with an error if the reflector does not return the
   * SSID (RFC 8972, section 3).
   *
   * @default {false}
   */
  needsSsid?: boolean | undefined;
  /**
   * Reports to request from the reflector (RFC 8972, section 4): see `reported` in
   * the samples and in the result.
   *
   * @default {nothing}
   */
  extensions?: readonly Extension[] | undefined;
  /**
   * The DSCP to request for replies, 0 to 63, by `class-of-service` (RFC 8972,
   * section 4.4).
   *
   * @default {that of `trafficClass`}
   */
  replyDscp?: number | undefined;
  /**
   * The clock of both ends of a round trip: `auto` is the kernel's where it takes
   * timestamps, else the program's; `kernel` fails there.
   *
   * @default {"auto"}
   */
  clock?: Clock | undefined;
  /**
   * Whether timestamps are in PTP's format, else in NTP's; a reflector may answer
   * in the other one.
   *
   * @default {false}
   */
  ptp?: boolean | undefined;
  /**
   * Sends authenticated packets, and takes none but those (RFC 8762, section
   * 4.2.2): the key of HMAC-SHA-256, 16 to 1,024 bytes. The smallest `size` is then
   * 112, and that is the default.
   *
   * @default {none: packets are plain}
   */
  key?: Uint8Array | undefined;
  /**
   * Whether this thread may sleep until the next request is due, on the linux
   * engine: for programs that do nothing else meanwhile. Else the last 4 ms before
   * each request keep a processor busy.
   *
   * @default {false}
   */
  mayBlock?: boolean | undefined;
  /**
   * The loss threshold: the time after which a request without a reply is lost, in
   * milliseconds, 1 to 86,400,000 (a day). At most 500,000 intervals.
   *
   * @default {1000}
   */
  timeoutMs?: number | undefined;
  /**
   * The duration after which the measurement ends, in milliseconds, 1 to 86,400,000
   * (a day), the time to resolve names included; requests in flight stay `pending`.
   *
   * @default {no deadline}
   */
  deadlineMs?: number | undefined;
}

/** The largest number of requests: a sequence has 32 bits. */
export const MAX_COUNT = 2 ** 32 - 1;

/** The option of a key for all. */
export const KEY: option.Option<Uint8Array, undefined> = option.custom(
  "a Uint8Array of 16 to 1024 bytes",
  (value) => {
    if (!(value instanceof Uint8Array)) return TypeError;
    return value.length < 16 || value.length > 1024 ? RangeError : undefined;
  },
  undefined,
  { kind: "bytes", min: 16, max: 1024 },
);

/** The table of {@linkcode MeasureOptions}. */
export const MEASURE = {
  ...ORIGIN,
  ...RUN,
  count: option.orInfinity(option.integer(1, MAX_COUNT, 10)),
  intervalMs: option.time(0.01, 1000),
  size: option.dependent(option.integer(44, MAX_PAYLOAD_IPV4)),
  ssid: option.integer(0, 65_535, 0),
  needsSsid: option.flag(false),
  extensions: option.list(option.oneOf(EXTENSION_NAMES)),
  replyDscp: option.integer(0, 63),
  clock: option.oneOf(CLOCKS, "auto"),
  ptp: option.flag(false),
  key: KEY,
  mayBlock: option.flag(false),
  timeoutMs: option.time(1, 1000),
  deadlineMs: option.time(1),
} satisfies option.Table<MeasureOptions>;

/** The defaults of {@linkcode MeasureOptions}. */
export const MEASURE_DEFAULTS = option.defaultsOf(MEASURE);

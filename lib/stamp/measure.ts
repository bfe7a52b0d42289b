/**
 * The STAMP Session-Sender: measures the path to a Session-Reflector.
 *
 * @module
 */
import type { UdpAddress } from "../address.ts";
import type { Bin } from "../stats/distribution.ts";
import {
  requireInteger,
  requireMs,
  requireOneOf,
  requireOptions,
  requireType,
} from "../base/errors.ts";
import { checkSchedule, Run } from "../client/run.ts";
import { runtimeOf } from "../socket/runtime.ts";
import { checkDeparture, MAX_PAYLOAD_IPV4 } from "../socket/contract.ts";
import { checkEnds, type OriginOptions } from "../client/target.ts";
import { type Question, questionBytes } from "./ask.ts";
import { AUTHENTICATED_BYTES, checkKey, hmacOf } from "./auth.ts";
import { STAMP_BYTES } from "./packet.ts";
import {
  type Clock,
  CLOCKS,
  type MeasureEvent,
  StampSender,
} from "./sender.ts";
import { SenderSession, type SessionResult } from "./sender_session.ts";
import { type Extension, EXTENSION_NAMES } from "./tlv.ts";

export type { MeasureEvent } from "./sender.ts";

/** Options of {@linkcode measure}. */
export interface MeasureOptions extends OriginOptions {
  /**
   * How many requests to send, 1 to 4,294,967,295 (a sequence has 32 bits);
   * Infinity goes on until stopped, as far as the sequence reaches.
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
   * Which of several sessions of one address and port it is, 0 to 65,535 (RFC
   * 8972, section 3).
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
   * What the reflector is asked besides in each request (RFC 8972, section 4): see
   * `told` in the samples and in the result.
   *
   * @default {nothing}
   */
  extensions?: readonly Extension[] | undefined;
  /**
   * The DSCP that replies are to have, 0 to 63, which asks for `class-of-service`
   * (RFC 8972, section 4.4).
   *
   * @default {that of `trafficClass`}
   */
  replyDscp?: number | undefined;
  /**
   * Which clock takes both ends of a round trip: with `auto` the kernel's where it
   * tells, which `kernel` insists on.
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
   * The loss threshold, in milliseconds, 1 to 86,400,000 (a day): what is not
   * answered by then is lost. At most 500,000 intervals.
   *
   * @default {1000}
   */
  timeoutMs?: number | undefined;
  /**
   * The measurement ends after so many milliseconds, 1 to 86,400,000 (a day),
   * the time to resolve names included; what is not lost by then is `pending`.
   *
   * @default {no deadline}
   */
  deadlineMs?: number | undefined;
  /** Ends the measurement when aborted; the iteration throws its reason. */
  signal?: AbortSignal | undefined;
}

/** The defaults of {@linkcode MeasureOptions}. */
export const MEASURE_DEFAULTS = {
  count: 10,
  intervalMs: 1000,
  timeoutMs: 1000,
  ssid: 0,
  ptp: false,
  mayBlock: false,
  needsSsid: false,
  clock: "auto",
} as const;

/** What was measured. */
export interface MeasureResult extends SessionResult {
  /** Since the first send, in milliseconds, without the wait at the end. */
  durationMs: number;
  /**
   * How often the system reported that the port is closed, which it does on the
   * linux engine only.
   */
  portClosed: number;
  /**
   * Replies that this machine dropped, since its receive buffer was full: they are
   * among the lost, and `lostDown`, but not the path's. Undefined where it does not
   * tell.
   */
  kernelDrops: number | undefined;
}

/**
 * A measurement. It runs while it is iterated, which can be done once, and
 * closes its socket when the iteration ends, is left, or throws.
 */
export interface Measurement extends AsyncIterable<MeasureEvent> {
  /** Whom it asks; undefined until the iteration has resolved the name. */
  readonly target: UdpAddress | undefined;
  /** How many requests were sent so far. */
  readonly sent: number;
  /** All figures so far. */
  result(): MeasureResult;
  /** How the RTTs are distributed, in so many equal steps. */
  bins(steps: number): Bin[];
  /** Ends the iteration soon; unanswered requests stay `pending`. */
  stop(): void;
}

/**
 * Measures the path to a STAMP Session-Reflector (RFC 8762), or to a reflector
 * of TWAMP-Light.
 *
 * A reply counts only if it comes from the address that was asked and returns
 * the sequence and the timestamp that were sent; everything else is `foreign`.
 * When all is answered or lost, the measurement listens on for copies: three
 * times the longest RTT, 20 ms at least and `timeoutMs` at most.
 *
 * @param address Whom to ask, as for {@linkcode request}; a reflector listens
 * on port 862 unless it was given another.
 * @param options How many, how often, how large.
 * @returns The measurement; iterate it to run it. The iteration throws what
 * resolving, binding and opening a socket throw, `signal.reason` when aborted,
 * and a TypeError when it is begun a second time. Errors of sending are events.
 * With `clock: "kernel"` that is {@linkcode Deno.errors.NotSupported} where the
 * kernel does not tell.
 * @throws {RangeError} If a number among the options is out of range.
 * @throws {SyntaxError} If the address does not parse.
 * @throws {TypeError} If an option is of a wrong type, or the address cannot be
 * asked.
 *
 * @example
 * ```ts
 * import { serve } from "@roundtrip/udp";
 * import { measure, stampReflector } from "@roundtrip/udp/stamp";
 * import { assertEquals } from "@std/assert";
 *
 * await using server = serve({}, stampReflector());
 * const measurement = measure(server.addr, { count: 5, intervalMs: 10 });
 * for await (const event of measurement) assertEquals(event.type, "reply");
 * const { received, lossPercent } = measurement.result();
 * assertEquals([received, lossPercent], [5, 0]);
 * ```
 */
export function measure(
  address: UdpAddress | string,
  options: MeasureOptions = {},
): Measurement {
  requireOptions("options", options);
  const {
    count = MEASURE_DEFAULTS.count,
    intervalMs = MEASURE_DEFAULTS.intervalMs,
    key,
    timeoutMs = MEASURE_DEFAULTS.timeoutMs,
    ssid = MEASURE_DEFAULTS.ssid,
    ptp = MEASURE_DEFAULTS.ptp,
    mayBlock = MEASURE_DEFAULTS.mayBlock,
    needsSsid = MEASURE_DEFAULTS.needsSsid,
    clock = MEASURE_DEFAULTS.clock,
    trafficClass = 0,
    replyDscp,
    deadlineMs,
    signal,
  } = options;
  if (count !== Infinity) requireInteger("count", count, 1, MAX_COUNT);
  const schedule = {
    count: Math.min(count, MAX_COUNT),
    intervalMs,
    deadlineMs,
    signal,
  };
  checkSchedule(schedule, 0.01);
  checkKey(key);
  checkDeparture(options);
  if (replyDscp !== undefined) requireInteger("replyDscp", replyDscp, 0, 63);
  const question: Question = {
    extensions: extensionsOf(options),
    replyDscp: replyDscp ?? trafficClass >> 2,
    hmacOf: key && ((bytes) => hmacOf(bytes, key)),
  };
  const least = questionBytes(question) +
    (key === undefined ? STAMP_BYTES : AUTHENTICATED_BYTES);
  const { size = least } = options;
  requireInteger("size", size, least, MAX_PAYLOAD_IPV4);
  requireMs("timeoutMs", timeoutMs, 1);
  requireInteger("ssid", ssid, 0, 65_535);
  requireType("ptp", "boolean", ptp);
  requireType("mayBlock", "boolean", mayBlock);
  requireType("needsSsid", "boolean", needsSsid);
  requireOneOf("clock", CLOCKS, clock);
  if (timeoutMs / intervalMs > MAX_PENDING) {
    throw new RangeError(
      `'timeoutMs' must be at most ${MAX_PENDING} times 'intervalMs': ` +
        `current values are ${timeoutMs} and ${intervalMs}`,
    );
  }
  const runtime = runtimeOf(options);
  const ends = checkEnds(address, options, size);
  const run: Run<MeasureEvent, StampSender> = new Run(
    schedule,
    ends,
    runtime,
    (ends) =>
      new StampSender(
        {
          runtime,
          size,
          timeoutMs,
          ssid,
          ptp,
          mayBlock,
          key,
          needsSsid,
          clock,
          question,
        },
        ends,
        run,
      ),
  );
  return {
    get target() {
      return run.target;
    },
    get sent() {
      return run.sender?.sent ?? 0;
    },
    result: () => ({
      ...(run.sender?.session ?? new SenderSession(0, 1)).result(),
      durationMs: run.durationMs,
      portClosed: run.sender?.portClosed ?? 0,
      kernelDrops: run.sender?.kernelDrops,
    }),
    bins: (steps) => run.sender?.session.rtts.bins(steps) ?? [],
    stop: () => run.end(),
    [Symbol.asyncIterator]: () => run[Symbol.asyncIterator](),
  };
}

/**
 * What the reflector is to be asked.
 *
 * @throws {TypeError} If there is no such extension.
 */
function extensionsOf(
  { extensions = [], replyDscp }: MeasureOptions,
): Extension[] {
  if (!Array.isArray(extensions)) {
    throw new TypeError(
      `'extensions' must be an array: it is ${typeof extensions}`,
    );
  }
  for (const one of extensions) {
    requireOneOf("extensions", EXTENSION_NAMES, one);
  }
  const all = new Set<Extension>(extensions);
  if (replyDscp !== undefined) all.add("class-of-service");
  return [...all];
}

const MAX_COUNT = 2 ** 32 - 1;
const MAX_PENDING = 500_000;

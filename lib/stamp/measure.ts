/**
 * The STAMP Session-Sender: measures the path to a Session-Reflector.
 *
 * @module
 */
import type { UdpAddress } from "../address.ts";
import type { Bin } from "../stats/distribution.ts";
import * as option from "../base/options.ts";
import { Run } from "../client/run.ts";
import { runtimeOf } from "../socket/runtime.ts";
import { MAX_PAYLOAD_IPV4 } from "../socket/contract.ts";
import { checkEnds } from "../client/target.ts";
import { type Question, questionBytes } from "./ask.ts";
import { AUTHENTICATED_BYTES, hmacOf } from "./auth.ts";
import { MAX_COUNT, MEASURE, type MeasureOptions } from "./measure_options.ts";
import { STAMP_BYTES } from "./packet.ts";
import { type MeasureEvent, StampSender } from "./sender.ts";
import { SenderSession } from "./sender_session.ts";
import type { SessionResult } from "./session_result.ts";

export type { MeasureOptions } from "./measure_options.ts";
export type { MeasureEvent } from "./sender.ts";

/** What was measured. */
export interface MeasureResult extends SessionResult {
  /** Since the first send, in milliseconds, without the wait at the end. */
  durationMs: number;
  /**
   * Reports of a closed port by the system, on the linux engine only.
   */
  portClosed: number;
  /**
   * Replies that this machine dropped, since its receive buffer was full: they are
   * among `lost` and `lostDown`, but not lost on the path. Undefined where that is
   * not known.
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
 * @throws {TypeError} If an option is unknown or of a wrong type, or the
 * address cannot be asked.
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
  const values = option.readAll("measure", MEASURE, options);
  const { intervalMs, timeoutMs, key, replyDscp, trafficClass = 0 } = values;
  const extensions = new Set(values.extensions);
  if (replyDscp !== undefined) extensions.add("class-of-service");
  const question: Question = {
    extensions: [...extensions],
    replyDscp: replyDscp ?? trafficClass >> 2,
    hmacOf: key && ((bytes) => hmacOf(bytes, key)),
  };
  const least = questionBytes(question) +
    (key === undefined ? STAMP_BYTES : AUTHENTICATED_BYTES);
  const { size = least } = values;
  option.integer(least, MAX_PAYLOAD_IPV4).read(size, "size");
  if (timeoutMs / intervalMs > MAX_PENDING) {
    throw new RangeError(
      `'timeoutMs' must be at most ${MAX_PENDING} times 'intervalMs': ` +
        `current values are ${timeoutMs} and ${intervalMs}`,
    );
  }
  const runtime = runtimeOf(values);
  const ends = checkEnds(address, values, size);
  const count = Math.min(values.count, MAX_COUNT);
  const run: Run<MeasureEvent, StampSender> = new Run(
    { ...values, count },
    ends,
    runtime,
    (ends) =>
      new StampSender({ ...values, runtime, size, question }, ends, run),
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

const MAX_PENDING = 500_000;

/**
 * The STAMP Session-Sender: measures the path to a Session-Reflector.
 *
 * @module
 */
import type { UdpAddress } from "../address.ts";
import type { Bin } from "../stats/distribution.ts";
import * as option from "../base/options.ts";
import { runtimeOf } from "../socket/runtime.ts";
import { MAX_PAYLOAD_IPV4 } from "../socket/contract.ts";
import type { Run, RunHandle } from "../client/run.ts";
import { checkEnds } from "../client/target.ts";
import { encodeQuestion, type Question } from "./ask.ts";
import { AUTHENTICATED_BYTES, hmacOf } from "./auth.ts";
import { MAX_COUNT, MEASURE, type MeasureOptions } from "./measure_options.ts";
import { STAMP_BYTES } from "./packet.ts";
import { StampSender } from "./sender.ts";
import type { MeasureEvent, MeasureResult } from "./session_result.ts";

/** A measurement. */
export interface Measurement extends RunHandle<MeasureEvent, MeasureResult> {
  /** The distribution of the RTTs, in `steps` equal steps. */
  bins(steps: number): Bin[];
}

/**
 * Measures the path to a STAMP Session-Reflector (RFC 8762), or to a reflector
 * of TWAMP-Light.
 *
 * A reply counts only if it is from the reflector's address and returns the
 * sequence and the timestamp of a request; all others are `foreign`. When all
 * requests are settled, the measurement still receives copies: for three times
 * the longest RTT, at least 20 ms and at most `timeoutMs`.
 *
 * @param address The reflector, as for {@linkcode request}; its port is 862
 * unless it was given another.
 * @param options Count, interval and size.
 * @returns The measurement; iterate it to run it. The iteration throws errors of
 * resolving, binding and opening a socket, `signal.reason` when aborted, a
 * TypeError when it is begun a second time, and with `clock: "kernel"`
 * {@linkcode Deno.errors.NotSupported} where the kernel stamps no datagrams.
 * Errors of sending are events.
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
 * const { received, lossPercent } = measurement.summary();
 * assertEquals([received, lossPercent], [5, 0]);
 * ```
 */
export function measure(
  address: UdpAddress | string,
  options: MeasureOptions = {},
): Measurement {
  const run = measurementOf(address, options);
  return run.handle({
    bins: (steps: number) => run.workload.books!.rtts.bins(steps),
  });
}

/**
 * The run of a measurement, for callers that read its books. Unless `isExact`, a
 * timer may send a millisecond or two late, and no processor is kept busy before.
 */
export function measurementOf(
  address: UdpAddress | string,
  options: MeasureOptions,
  isExact = true,
): Run<MeasureEvent, MeasureResult> {
  const values = option.readAll("measure", MEASURE, options);
  const { intervalMs, timeoutMs, key, replyDscp, trafficClass = 0 } = values;
  const extensions = new Set(values.extensions);
  if (replyDscp !== undefined) extensions.add("class-of-service");
  const question: Question = {
    extensions: [...extensions],
    replyDscp: replyDscp ?? trafficClass >> 2,
    hmacOf: key && ((bytes) => hmacOf(bytes, key)),
  };
  const least = encodeQuestion(question, 0, 0).length +
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
  const sender = new StampSender(
    { ...values, count: Math.min(values.count, MAX_COUNT) },
    checkEnds(address, values, size),
    { ...values, runtime, size, question, isExact },
  );
  return sender.run;
}

const MAX_PENDING = 500_000;

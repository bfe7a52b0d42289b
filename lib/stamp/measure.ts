/**
 * The STAMP Session-Sender: measures the path to a Session-Reflector.
 *
 * @module
 */
import type { UdpAddress } from "../address.ts";
import type { Bin } from "../distribution.ts";
import { isRefusal, requireInteger, requireMs } from "../errors.ts";
import { EventQueue } from "../event_queue.ts";
import { LazyRun, type Run, type Schedule } from "../run.ts";
import { ERROR_ESTIMATE } from "./reflector.ts";
import { planRequest, type RequestPlan } from "../request.ts";
import { type Engine, type Runtime, runtimeFor } from "../runtime.ts";
import {
  type Sample,
  SenderSession,
  type SessionResult,
} from "./sender_session.ts";
import type { Datagram, DatagramSocket, Receiver } from "../socket.ts";
import { encodeSender, STAMP_BYTES, timestampOf } from "./packet.ts";

/** Options of {@linkcode measure}. */
export interface MeasureOptions {
  /**
   * How many requests to send, 1 to 4,294,967,295 (a sequence has 32 bits);
   * Infinity goes on until stopped, as far as the sequence reaches.
   *
   * @default {10}
   */
  count?: number;
  /**
   * From one request to the next, in milliseconds, 0.01 to 86,400,000 (a day).
   * Each is due at a multiple of it after the first; how far off it was sent is
   * measured too.
   *
   * @default {1000}
   */
  intervalMs?: number;
  /**
   * The size of a request, 44 to 65,507 bytes of UDP payload.
   *
   * @default {44}
   */
  size?: number;
  /**
   * The loss threshold, in milliseconds, 1 to 86,400,000 (a day): what is not
   * answered by then is lost. At most 500,000 intervals.
   *
   * @default {1000}
   */
  timeoutMs?: number;
  /**
   * The measurement ends after so many milliseconds, 1 to 86,400,000 (a day);
   * what is not answered by then is lost.
   *
   * @default {no deadline}
   */
  deadlineMs?: number;
  /**
   * The local IP address or host name to send from.
   *
   * @default {"0.0.0.0" or "::", as the target is}
   */
  localHostname?: string;
  /**
   * How sockets are made, see {@linkcode Engine}.
   *
   * @default {"deno"}
   */
  engine?: Engine;
  /** Ends the measurement when aborted; the iteration throws its reason. */
  signal?: AbortSignal;
  /**
   * Sockets, names and time; for tests.
   *
   * @default {runtimeFor(engine)}
   */
  runtime?: Runtime;
}

/** What became of one request; `seq` counts them from 0. */
export type MeasureEvent =
  | { type: "reply"; seq: number; sample: Sample }
  | { type: "lost"; seq: number }
  | { type: "late"; seq: number }
  | { type: "duplicate"; seq: number }
  | { type: "error"; seq: number; error: unknown };

/** What was measured. */
export interface MeasureResult extends SessionResult {
  /** Since the first send, in milliseconds, without the wait at the end. */
  durationMs: number;
  /**
   * How often the system said that the port is closed. Only the linux engine is
   * told.
   */
  refused: number;
}

/**
 * A measurement. It runs while it is iterated, which can be done once, and
 * closes its socket when the iteration ends, is left, or throws.
 */
export interface Measurement extends AsyncIterable<MeasureEvent> {
  /** Whom it asks; undefined until the iteration has begun. */
  readonly target: UdpAddress | undefined;
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
 * on port 862 unless it is told otherwise.
 * @param options How many, how often, how large.
 * @returns The measurement; iterate it to run it. The iteration throws what
 * {@linkcode request} throws, apart from {@linkcode TimeoutError} and errors of
 * sending, which are events, and throws `signal.reason` when aborted.
 * @throws {RangeError} If a number among the options is out of range.
 *
 * @example
 * ```ts
 * import { measure, serve, stampReflector } from "@roundtrip/udp";
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
  const {
    count = 10,
    intervalMs = 1000,
    size = STAMP_BYTES,
    timeoutMs = 1000,
    deadlineMs,
    localHostname,
    signal,
    engine = "deno",
    runtime = runtimeFor(engine),
  } = options;
  if (count !== Infinity) requireInteger("count", count, 1, MAX_COUNT);
  requireMs("intervalMs", intervalMs, 0.01);
  requireInteger("size", size, STAMP_BYTES, 65_507);
  requireMs("timeoutMs", timeoutMs, 1);
  if (deadlineMs !== undefined) requireMs("deadlineMs", deadlineMs, 1);
  if (timeoutMs / intervalMs > MAX_PENDING) {
    throw new RangeError(
      `'timeoutMs' must be at most ${MAX_PENDING} times 'intervalMs': ` +
        `current values are ${timeoutMs} and ${intervalMs}`,
    );
  }
  const plan = () =>
    planRequest(address, new Uint8Array(size), {
      timeoutMs,
      ...(localHostname !== undefined && { localHostname }),
      runtime,
    });
  const schedule = {
    count: Math.min(count, MAX_COUNT),
    intervalMs,
    deadlineMs,
    signal,
  };
  return new StampMeasurement(
    plan,
    (planned) => new MeasureRun(planned, schedule),
    signal,
  );
}

class StampMeasurement extends LazyRun<MeasureEvent, MeasureRun>
  implements Measurement {
  result(): MeasureResult {
    return this.run?.result() ??
      { ...new SenderSession(0, 1).result(), durationMs: 0, refused: 0 };
  }

  bins(steps: number): Bin[] {
    return this.run?.session.rtts.bins(steps) ?? [];
  }
}

/** A running measurement: its socket, its timers, its session. */
class MeasureRun implements Run<MeasureEvent>, Receiver {
  readonly plan: RequestPlan;
  readonly session: SenderSession;
  readonly #schedule: Schedule;
  readonly #runtime: Runtime;
  readonly #queue = new EventQueue<MeasureEvent>();
  readonly #peer: string;
  readonly #socket: DatagramSocket;
  #cancelDeadline = () => {};
  #cancelSend = () => {};
  #cancelExpiry: (() => void) | undefined;
  #firstDueAt = 0;
  #nextDueAt = 0;
  #endedAt: number | undefined;
  #refused = 0;

  constructor(plan: RequestPlan, schedule: Schedule) {
    const { runtime, timeoutMs, target } = plan;
    this.plan = plan;
    this.#schedule = schedule;
    this.#runtime = runtime;
    this.#peer = target.hostname.replace(/%.*/, "");
    // Room for what is unanswered, and as much again for copies and late ones.
    const pending = Math.ceil(timeoutMs / schedule.intervalMs);
    this.session = new SenderSession(
      runtime.timeOrigin,
      Math.max(MIN_REMEMBERED, 2 * pending),
    );
    this.#socket = runtime.open({
      hostname: plan.localHostname,
      port: 0,
      maxDatagramBytes: plan.maxDatagramBytes,
      peer: target,
    });
  }

  async *events(): AsyncGenerator<MeasureEvent> {
    const { signal, deadlineMs } = this.#schedule;
    const abort = () => this.end({ error: signal!.reason });
    signal?.addEventListener("abort", abort);
    const closed = this.#socket.start(this)
      .catch((error) => this.end({ error }));
    try {
      this.#firstDueAt = this.#nextDueAt = this.#runtime.now();
      if (deadlineMs !== undefined) {
        this.#cancelDeadline = this.#runtime.after(deadlineMs, () => {
          this.#expire(Infinity);
          this.end();
        });
      }
      this.#send();
      yield* this.#queue;
    } finally {
      this.end();
      signal?.removeEventListener("abort", abort);
      this.#cancelDeadline();
      this.#cancelSend();
      this.#cancelExpiry?.();
      this.#socket.close();
      await closed;
    }
  }

  result(): MeasureResult {
    const until = this.#endedAt ?? this.#runtime.now();
    return {
      ...this.session.result(),
      durationMs: until - this.#firstDueAt,
      refused: this.#refused,
    };
  }

  end(failure?: { error: unknown }): void {
    this.#endedAt ??= this.#runtime.now();
    this.#queue.end(failure);
  }

  onDatagram(datagram: Datagram): void {
    const receivedAt = this.#runtime.now();
    const { data, remoteAddr } = datagram;
    const verdict = remoteAddr.port === this.plan.target.port &&
        remoteAddr.hostname === this.#peer
      ? this.session.onReceived(data, receivedAt)
      : this.session.onForeign();
    this.#socket.release(datagram);
    if (verdict.type === "foreign") return;
    if (verdict.type === "reply") {
      const { sample } = verdict;
      this.#queue.push({ type: "reply", seq: sample.seq, sample });
      this.#endIfSettled();
    } else this.#queue.push(verdict);
  }

  onTooLong(): void {
    this.session.onForeign();
  }

  onReceiveError(error: unknown): void {
    if (isRefusal(error)) this.#refused++;
  }

  #send(): void {
    if (this.#queue.ended) return;
    const { runtime, target, payload: { length } } = this.plan;
    const { count, intervalMs } = this.#schedule;
    if (this.session.hasRoom) {
      const seq = this.session.sent;
      const sentAt = runtime.now();
      const request = encodeSender({
        sequence: seq,
        timestamp: timestampOf(runtime.timeOrigin + sentAt),
        errorEstimate: ERROR_ESTIMATE,
        ssid: 0,
      }, length);
      this.session.onSent(request, this.#nextDueAt, sentAt);
      this.#socket.send(request, target).catch((error) => {
        this.session.onSendError(seq);
        this.#queue.push({ type: "error", seq, error });
        this.#endIfSettled();
      });
      this.#watch();
    }
    if (this.session.sent >= count) return;
    this.#nextDueAt += intervalMs;
    const now = runtime.now();
    // Lateness does not add up, but what was missed for long, as when the
    // machine slept, is not sent in a burst either.
    if (now - this.#nextDueAt > MAX_CATCH_UP_MS) this.#nextDueAt = now;
    const waitMs = Math.max(0, this.#nextDueAt - now);
    this.#cancelSend = runtime.afterExactly(waitMs, () => this.#send());
  }

  /** One timer looks after all that is unanswered. */
  #watch(): void {
    if (this.#cancelExpiry !== undefined) return;
    const oldest = this.session.oldestSentAt();
    if (oldest === undefined) return;
    const dueAt = oldest + this.plan.timeoutMs;
    const waitMs = Math.max(0, dueAt - this.#runtime.now());
    this.#cancelExpiry = this.#runtime.after(waitMs, () => {
      this.#cancelExpiry = undefined;
      this.#expire(this.#runtime.now() - this.plan.timeoutMs);
      this.#watch();
      this.#endIfSettled();
    });
  }

  #expire(sentBefore: number): void {
    this.session.expire(
      sentBefore,
      (seq) => this.#queue.push({ type: "lost", seq }),
    );
  }

  #endIfSettled(): void {
    const { sent, pending, longestMs } = this.session;
    if (sent < this.#schedule.count || pending > 0) return;
    if (this.#endedAt !== undefined) return;
    this.#endedAt = this.#runtime.now();
    const waitMs = longestMs === 0
      ? 0
      : Math.min(Math.max(3 * longestMs, MIN_LINGER_MS), this.plan.timeoutMs);
    this.#cancelSend = this.#runtime.after(waitMs, () => this.end());
  }
}

const MAX_COUNT = 2 ** 32 - 1;
const MAX_PENDING = 500_000;
const MIN_REMEMBERED = 1 << 16;
const MAX_CATCH_UP_MS = 100;
const MIN_LINGER_MS = 20;

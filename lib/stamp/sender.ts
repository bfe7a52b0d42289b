/**
 * What a measurement runs on: the Session-Sender's socket and timers, around what it
 * knows of its session.
 *
 * @module
 */
import type { UdpAddress } from "../address.ts";
import type * as option from "../base/options.ts";
import type { MEASURE } from "./measure_options.ts";
import { isPortClosed } from "../base/errors.ts";
import { lingerMs, type Run, type Sender } from "../client/run.ts";
import type { Runtime } from "../socket/runtime.ts";
import {
  type Datagram,
  type DatagramSocket,
  MAX_PAYLOAD,
  type Receiver,
} from "../socket/contract.ts";
import { comesFrom, type Ends } from "../client/target.ts";
import {
  clientCounts,
  type Level,
  type Readings,
  recordRtt,
} from "../base/telemetry.ts";
import { encodeQuestion, type Question } from "./ask.ts";
import { AUTHENTICATED_BYTES, seal, unseal } from "./auth.ts";
import {
  encodeSender,
  ERROR_ESTIMATE,
  errorEstimateOf,
  STAMP_BYTES,
  timestampOf,
} from "./packet.ts";
import { SenderSession } from "./sender_session.ts";
import type { Sample } from "./session_result.ts";

/** What became of one request; `seq` counts them from 0. */
export type MeasureEvent =
  | { type: "reply"; seq: number; sample: Sample }
  | { type: "lost"; seq: number }
  | { type: "late"; seq: number }
  | { type: "duplicate"; seq: number }
  | { type: "error"; seq: number; error: unknown };

/** The checked options that a sender needs. */
export interface SenderPlan extends option.Values<typeof MEASURE> {
  runtime: Runtime;
  size: number;
  question: Question;
}

/** The socket, the timers and the session of a measurement that runs. */
export class StampSender implements Sender, Receiver {
  readonly session: SenderSession;
  readonly #plan: SenderPlan;
  readonly #target: UdpAddress;
  readonly #isCounted: boolean;
  readonly #run: Run<MeasureEvent, StampSender>;
  readonly #socket: DatagramSocket;
  readonly #closed: Promise<void>;
  /** What is done until a request is due, by sockets that can sleep. */
  readonly #pause: ((leftMs: number) => void) | undefined;
  readonly #timeOrigin: number;
  #cancelExpiry: (() => void) | undefined;
  /** What is known of the clock, asked now and then. */
  #clock = ERROR_ESTIMATE;
  #clockAskedAt = -Infinity;
  /** What the system had dropped when the socket was closed. */
  /** Whether some request could not be sent. */
  #hasFailed = false;
  /** How many closing probes were sent. */
  #closing = 0;
  #cancelClosing: (() => void) | undefined;
  /** How often the system reported a closed port. */
  portClosed = 0;

  constructor(
    plan: SenderPlan,
    { target, local, telemetry }: Ends,
    run: Run<MeasureEvent, StampSender>,
  ) {
    const { runtime, timeoutMs, clock, question, ssid } = plan;
    this.#plan = plan;
    this.#target = target;
    this.#isCounted = telemetry;
    this.#run = run;
    // Room for what is unanswered, and as much again for copies and late ones.
    const pending = Math.ceil(timeoutMs / run.schedule.intervalMs);
    // Not followed if the clock is set: what is measured are differences.
    this.#timeOrigin = runtime.timeOrigin;
    this.session = new SenderSession(
      this.#timeOrigin,
      Math.max(MIN_REMEMBERED, 2 * pending),
      {
        ssid,
        question: question.extensions.length > 0 ? question : undefined,
      },
    );
    this.#socket = runtime.open({
      ...local,
      maxDatagramBytes: MAX_PAYLOAD,
      peer: target,
      isBusy: true,
      packetInfo: true,
      stampSends: clock !== "program",
    });
    if (clock === "kernel" && !this.#socket.stampsSends) {
      this.#socket.close();
      throw new Deno.errors.NotSupported(
        "Cannot measure by the kernel's clock: it stamps nothing here, which it does on engine 'linux'",
      );
    }
    if (plan.mayBlock && this.#socket.sleep !== undefined) {
      this.#pause = (leftMs) => this.#socket.sleep!(leftMs);
    }
    this.#closed = this.#socket.start(this)
      .catch((error) => run.end({ error }));
  }

  get sent(): number {
    return this.session.sent;
  }

  get kernelDrops(): number | undefined {
    return this.#socket.kernelDrops();
  }

  send(): void {
    const { runtime } = this.#plan;
    if (this.session.hasRoom) {
      const seq = this.session.sent;
      const dueAt = this.#run.dueAt(seq);
      const sentAt = runtime.now();
      const request = this.#request(seq, sentAt, seq + 1);
      this.session.onSent(request, dueAt, sentAt);
      this.#send(request).catch((error) => {
        this.#hasFailed = true;
        this.session.onSendError(seq);
        this.#run.push({ type: "error", seq, error });
        this.#lingerIfDone();
      });
      this.#watch();
    }
    if (this.session.sent < this.#run.schedule.count) {
      this.#run.sendNext("afterExactly", this.#pause);
    }
  }

  readings(): Readings {
    const { lostUp, lostDown, lostUnattributed, ...result } = this.session
      .result();
    const { forwardJitterMs, backwardJitterMs, clockOffsetMs } = result;
    const level = (
      name: Level["name"],
      value: number | undefined,
      direction?: string,
    ): Level => ({
      name,
      value,
      ...direction && { attributes: { "roundtrip.direction": direction } },
    });
    const seconds = (ms: number | undefined) =>
      ms === undefined ? undefined : ms / 1000;
    return {
      counts: clientCounts(result),
      levels: [
        level("roundtrip.stamp.lost", lostUp, "up"),
        level("roundtrip.stamp.lost", lostDown, "down"),
        level("roundtrip.stamp.lost", lostUnattributed, "unattributed"),
        level("roundtrip.stamp.jitter", seconds(forwardJitterMs), "forward"),
        level("roundtrip.stamp.jitter", seconds(backwardJitterMs), "backward"),
        level(
          "roundtrip.stamp.clock_offset",
          seconds(clockOffsetMs?.estimate),
        ),
      ],
    };
  }

  #send(request: Uint8Array): Promise<void> {
    const { key } = this.#plan;
    const packet = key === undefined ? request : seal(request, key);
    return this.#socket.send(packet, this.#target);
  }

  #request(
    sequence: number,
    sentAt: number,
    transmitted: number,
  ): Uint8Array<ArrayBuffer> {
    const { runtime, size, ssid, ptp, key, question } = this.#plan;
    const plainBytes = key === undefined
      ? size
      : size - AUTHENTICATED_BYTES + STAMP_BYTES;
    if (sentAt - this.#clockAskedAt > CLOCK_MS) {
      this.#clockAskedAt = sentAt;
      this.#clock = errorEstimateOf(runtime.clockState?.(), ptp);
      this.session.onClock(this.#clock);
    }
    return encodeSender(
      {
        sequence,
        timestamp: timestampOf(this.#timeOrigin + sentAt),
        errorEstimate: this.#clock,
        ssid,
      },
      plainBytes,
      encodeQuestion(question, sequence, transmitted),
    );
  }

  giveUp(): void {
    this.#expire(this.#plan.runtime.now() - this.#plan.timeoutMs);
  }

  async close(): Promise<void> {
    this.#cancelExpiry?.();
    this.#cancelClosing?.();
    this.#socket.close();
    await this.#closed;
  }

  onDatagram(datagram: Datagram): void {
    const receivedAt = this.#plan.runtime.now();
    const { remoteAddr, arrivedAt, trafficClass } = datagram;
    const { key, clock, needsSsid } = this.#plan;
    const data = key === undefined
      ? datagram.data
      : unseal(datagram.data, key) ?? NOTHING;
    const isFromTarget = comesFrom(remoteAddr, this.#target);
    if (isFromTarget && this.session.onClosing(data, trafficClass)) {
      return this.#socket.release(datagram);
    }
    const verdict = isFromTarget
      ? this.session.onReceived(
        data,
        receivedAt,
        clock === "program" ? undefined : arrivedAt,
        trafficClass,
      )
      : this.session.onForeign();
    this.#socket.release(datagram);
    if (needsSsid && this.session.returnsSsid === false) {
      return this.#run.end({
        error: new Error(
          "The reflector does not return the SSID: it does not know RFC 8972",
        ),
      });
    }
    if (verdict.type === "foreign") return;
    if (verdict.type === "reply") {
      const { sample } = verdict;
      if (this.#isCounted) recordRtt(sample.rttMs);
      this.#run.push({ type: "reply", seq: sample.seq, sample });
      this.#lingerIfDone();
    } else this.#run.push(verdict);
  }

  onSent(index: number, at: number): void {
    // The kernel counts what it was given; after an error nobody knows how.
    if (!this.#hasFailed) this.session.onStamp(index, at);
  }

  onTooLong(): void {
    this.session.onForeign();
  }

  onReceiveError(error: unknown): void {
    if (isPortClosed(error)) this.portClosed++;
  }

  /** One timer looks after all that is unanswered. */
  #watch(): void {
    if (this.#cancelExpiry !== undefined) return;
    const oldest = this.session.oldestSentAt();
    if (oldest === undefined) return;
    const dueAt = oldest + this.#plan.timeoutMs;
    const waitMs = Math.max(0, dueAt - this.#plan.runtime.now());
    this.#cancelExpiry = this.#plan.runtime.after(waitMs, () => {
      this.#cancelExpiry = undefined;
      // The oldest is due now, even if a sum of fractions comes out below it.
      const sentBefore = this.#plan.runtime.now() - this.#plan.timeoutMs;
      this.#expire(Math.max(sentBefore, oldest));
      this.#watch();
      this.#lingerIfDone();
    });
  }

  /**
   * Asks once more, and again after a while, what the reflector has counted: so
   * loss at the end is told apart, and one that counts from one that does not.
   */
  #close(): void {
    if (this.#cancelClosing !== undefined) return;
    this.#closing++;
    this.#run.conclude();
    const { runtime, timeoutMs } = this.#plan;
    const { sent } = this.session;
    const request = this.#request(sent, runtime.now(), sent + this.#closing);
    this.session.onClosingSent(request);
    // Only a help: without it less is known.
    this.#send(request).catch(() => {});
    const waitMs = lingerMs(this.session.longestMs, timeoutMs);
    this.#cancelClosing = runtime.after(waitMs, () => {
      this.#cancelClosing = undefined;
      this.#lingerIfDone();
    });
  }

  #expire(sentBefore: number): void {
    this.session.expire(
      sentBefore,
      (seq) => this.#run.push({ type: "lost", seq }),
    );
  }

  #lingerIfDone(): void {
    const { sent, pending, longestMs } = this.session;
    if (sent < this.#run.schedule.count || pending > 0) return;
    if (this.session.wantsClosing && this.#closing < MAX_CLOSING) {
      return this.#close();
    }
    this.#run.linger(longestMs, this.#plan.timeoutMs);
  }
}

/** No packet at all. */
const NOTHING = new Uint8Array(0);
const CLOCK_MS = 1000;
/** At a loss of half on each way one of them comes back, nine times in ten. */
const MAX_CLOSING = 8;
const MIN_REMEMBERED = 1 << 16;

/**
 * The Session-Sender's socket and timers, around its session.
 *
 * @module
 */
import type * as option from "../base/options.ts";
import type { MEASURE } from "./measure_options.ts";
import { sendError } from "../base/errors.ts";
import type { Books } from "../stats/books.ts";
import { lingerMs, MAX_LATE_MS } from "../client/pacer.ts";
import { Run, type Schedule, type Workload } from "../client/run.ts";
import { comesFrom, type NamedEnds } from "../client/target.ts";
import type { Runtime } from "../socket/runtime.ts";
import {
  type Datagram,
  type DatagramSocket,
  MAX_PAYLOAD,
  type Receiver,
} from "../socket/contract.ts";
import { encodeQuestion, type Question } from "./ask.ts";
import { AUTHENTICATED_BYTES, seal, unseal } from "./auth.ts";
import {
  encodeSender,
  type ErrorEstimate,
  estimates,
  STAMP_BYTES,
  timestampOf,
} from "./packet.ts";
import { SenderSession, type SessionFigures } from "./sender_session.ts";
import type { MeasureEvent, MeasureResult } from "./session_result.ts";

/** The checked options that a sender needs. */
export interface SenderPlan extends option.Values<typeof MEASURE> {
  runtime: Runtime;
  size: number;
  question: Question;
  /** Whether a processor is kept busy before each request, so that none is late. */
  isExact: boolean;
}

/** The socket, the timers and the session of a measurement. */
export class StampSender implements Workload<MeasureResult>, Receiver {
  readonly run: Run<MeasureEvent, MeasureResult>;
  readonly session: SenderSession;
  readonly #plan: SenderPlan;
  #socket: DatagramSocket | undefined;
  /** The error estimate of the own clock at a time. */
  readonly #estimateAt: (now: number) => ErrorEstimate;
  /** Whether some request could not be sent. */
  #hasFailed = false;
  /** The number of closing probes sent. */
  #closing = 0;
  #cancelClosing: (() => void) | undefined;

  constructor(schedule: Schedule, ends: NamedEnds, plan: SenderPlan) {
    const { runtime, timeoutMs, question, ssid } = plan;
    this.#plan = plan;
    this.#estimateAt = estimates(() => runtime.clockState?.());
    this.run = new Run(schedule, ends, runtime, this);
    const { intervalMs } = schedule;
    // Room for unanswered requests, and as much again for copies and late replies.
    const pending = Math.ceil(timeoutMs / intervalMs);
    const late = Math.min(MAX_LATE, Math.ceil(MAX_LATE_MS / intervalMs));
    const capacity = Math.max(MIN_REMEMBERED, late, 2 * pending);
    this.session = new SenderSession(
      runtime.timeOrigin,
      { capacity, timeoutMs, size: plan.size, onSample: plan.onSample },
      ssid,
      question.extensions.length > 0 ? question : undefined,
    );
  }

  get books(): Books {
    return this.session.books;
  }

  get sent(): number {
    return this.books.sent;
  }

  summary(): MeasureResult {
    return {
      ...this.session.result(),
      durationMs: this.run.durationMs,
      kernelDrops: this.run.kernelDrops,
    };
  }

  figures(): SessionFigures {
    return this.session.figures();
  }

  open(): void {
    const { clock, runtime } = this.#plan;
    // Not followed while it runs: the figures are of differences.
    this.session.timeOrigin = runtime.timeOrigin;
    this.#socket = this.run.open({
      maxDatagramBytes: MAX_PAYLOAD,
      peer: this.run.ends.target,
      isBusy: true,
      packetInfo: true,
      stampSends: clock !== "program",
    }, this);
    this.books.localPort = this.#socket.addr.port;
    if (clock === "kernel" && !this.#socket.stampsSends) {
      throw new Deno.errors.NotSupported(
        "Cannot measure by the kernel's clock: it stamps nothing here, which it does on engine 'linux'",
      );
    }
  }

  send(): void {
    const { runtime } = this.#plan;
    const { books } = this;
    this.run.skipLate(books.next);
    if (books.hasRoom) {
      const seq = books.next;
      const dueAt = this.run.dueAt(seq);
      const sentAt = runtime.now();
      const request = this.#request(seq, sentAt, seq + 1);
      this.session.onSent(request, dueAt, sentAt);
      this.#send(request).then(() => books.taken(seq), (error) => {
        this.#hasFailed = true;
        const shown = sendError(error, this.run.ends.target);
        this.session.onUnsent();
        books.refused(seq, shown);
        this.run.push({ type: "error", seq, error: shown });
        this.check();
      });
    }
    if (books.next < this.run.schedule.count) {
      const timer = this.#plan.isExact ? "afterExactly" : "after";
      this.run.sendNext(books.next, timer);
    }
  }

  #send(request: Uint8Array): Promise<void> {
    const { key } = this.#plan;
    const packet = key === undefined ? request : seal(request, key);
    return this.#socket!.send(packet, this.run.ends.target);
  }

  #request(
    sequence: number,
    sentAt: number,
    transmitted: number,
  ): Uint8Array<ArrayBuffer> {
    const { size, ssid, ptp, key, question } = this.#plan;
    const plainBytes = key === undefined
      ? size
      : size - AUTHENTICATED_BYTES + STAMP_BYTES;
    const estimate = this.#estimateAt(sentAt);
    this.session.onClock(estimate);
    return encodeSender(
      {
        sequence,
        timestamp: timestampOf(this.session.timeOrigin + sentAt),
        errorEstimate: { ...estimate, ptp },
        ssid,
      },
      plainBytes,
      encodeQuestion(question, sequence, transmitted),
    );
  }

  close(): void {
    this.#cancelClosing?.();
  }

  onDatagram(datagram: Datagram): void {
    const { remoteAddr, receivedAt, arrivedAt, trafficClass } = datagram;
    const { key, clock, needsSsid } = this.#plan;
    const data = key === undefined
      ? datagram.data
      : unseal(datagram.data, key) ?? NOTHING;
    const isPunctual = this.run.arrivalOf(datagram) === receivedAt;
    const verdict = comesFrom(remoteAddr, this.run.ends.target)
      ? this.session.onReceived(
        data,
        receivedAt,
        clock === "program" ? undefined : arrivedAt,
        trafficClass,
        isPunctual,
      )
      : this.session.onForeign();
    this.#socket!.release(datagram);
    if (needsSsid && this.session.returnsSsid === false) {
      return this.run.end({
        error: new Error(
          "The reflector does not return the SSID: it does not know RFC 8972",
        ),
      });
    }
    if (verdict.type === "foreign" || verdict.type === "closing") return;
    this.run.push(verdict);
    if (verdict.type !== "reply") return;
    const { rttMs } = verdict.sample;
    if (rttMs !== undefined) this.run.measured(rttMs);
    this.check();
  }

  onSent(index: number, at: number): void {
    // The kernel numbers its sends; after an error the numbers are not known.
    if (!this.#hasFailed) this.session.onStamp(index, at);
  }

  onTooLong(): void {
    this.session.onForeign();
  }

  onReceiveError(error: unknown): void {
    this.books.report(error);
  }

  /**
   * Sends a closing probe for the reflector's count, and repeats it: it locates
   * loss at the end, and shows whether the reflector counts at all.
   */
  #close(): void {
    if (this.#cancelClosing !== undefined) return;
    this.#closing++;
    this.run.conclude();
    const { runtime, timeoutMs } = this.#plan;
    const sent = this.books.next;
    const request = this.#request(sent, runtime.now(), sent + this.#closing);
    this.session.onClosingSent(request);
    // Without the probe only less is known.
    this.#send(request).catch(() => {});
    const waitMs = lingerMs(this.session.longestMs, timeoutMs);
    this.#cancelClosing = runtime.after(waitMs, () => {
      this.#cancelClosing = undefined;
      this.check();
    });
  }

  onLost(seq: number): void {
    this.session.onLost(seq);
    this.run.push({ type: "lost", seq });
  }

  check(): void {
    if (this.books.next < this.run.schedule.count || this.books.open > 0) {
      return;
    }
    if (this.session.wantsClosing && this.#closing < MAX_CLOSING) {
      return this.#close();
    }
    this.run.linger(this.session.longestMs, this.#plan.timeoutMs);
  }
}

/** An empty packet. */
const NOTHING = new Uint8Array(0);
/** With half of all lost each way, one of 8 is answered nine times in ten. */
const MAX_CLOSING = 8;
const MIN_REMEMBERED = 256;
/** The most requests whose late replies are known as such. */
const MAX_LATE = 1 << 16;

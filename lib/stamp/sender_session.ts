/**
 * The session of a STAMP Session-Sender: requests, replies, and the figures derived
 * from them. Pure; knows no sockets and no clock.
 *
 * @module
 */
import { NO_COUNTS, withLoss } from "../stats/counts.ts";
import { Distribution } from "../stats/distribution.ts";
import { type Question, readReported, type Reported } from "./ask.ts";
import {
  decodeReflector,
  elapsedMs,
  type ErrorEstimate,
  errorMsOf,
  type ReflectorPacket,
  SENDER_TIMESTAMP_AT,
  TIMESTAMP_AT,
  timestampOf,
  viewOf,
} from "./packet.ts";
import { Reflections } from "./reflections.ts";
import { aboveMinimum, Reordering } from "../stats/statistics.ts";
import { OneWayVariation } from "./one_way_variation.ts";
import type { MeasureEvent, Sample, SessionResult } from "./session_result.ts";

/** The kind of a received datagram. */
export type Verdict =
  | Extract<MeasureEvent, { type: "reply" | "late" | "duplicate" }>
  | { type: "closing" }
  | { type: "foreign" };

/** The state and the figures of a session. */
export class SenderSession {
  readonly rtts = new Distribution();
  /** Whether the reflector returns the SSID; undefined for unknown. */
  returnsSsid: boolean | undefined;
  readonly #slots: ReturnType<typeof makeSlots>;
  readonly #capacity: number;
  readonly #counts = {
    ...NO_COUNTS,
    ...{ reordered: 0, kernelTimed: 0, impossibleTimestamps: 0 },
  };
  readonly #seen = new Distribution();
  readonly #reflector = new Distribution();
  readonly #ipdv = new Distribution();
  /** The RTT again, relative to the least. */
  readonly #pdv = new Distribution({ isRelative: true });
  readonly #oneWay = new OneWayVariation();
  // Both with the offset of the clocks.
  readonly #forwardDelay = new Distribution({ isRelative: true });
  readonly #backwardDelay = new Distribution({ isRelative: true });
  readonly #sendError = new Distribution();
  readonly #reordering: Reordering;
  readonly #reflections: Reflections;
  /** The first request that is neither answered nor lost, or the next one. */
  #oldest = 0;
  /** Whether both clocks are reported as synchronized, and the largest error of each, in ms. */
  #clocksAgree = true;
  #ownError = 0;
  #theirError = 0;
  readonly #ssid: number;
  readonly #question: Question | undefined;
  #reported: Reported | undefined;

  /**
   * Makes a session.
   *
   * @param timeOrigin The Unix time at which the clock of the other methods was 0.
   * @param capacity The number of latest requests that are remembered; more than are
   * ever unanswered.
   */
  constructor(
    public timeOrigin: number,
    capacity: number,
    ssid = 0,
    question?: Question | undefined,
  ) {
    this.#capacity = capacity;
    this.#ssid = ssid;
    this.#question = question;
    this.#slots = makeSlots(capacity);
    this.#reflections = new Reflections(capacity);
    this.#reordering = new Reordering(capacity);
  }

  /** The number of requests sent. */
  get sent(): number {
    return this.#counts.sent;
  }

  /** The number of requests neither answered nor lost. */
  get pending(): number {
    const { sent, received, lost } = this.#counts;
    return sent - received - lost;
  }

  /** The longest round trip; 0 before the first. */
  get longestMs(): number {
    return this.#seen.max ?? 0;
  }

  /** Whether another request can be remembered. */
  get hasRoom(): boolean {
    return this.#counts.sent - this.#oldest < this.#capacity;
  }

  /** Adds an error estimate of this machine's clock. */
  onClock(estimate: ErrorEstimate): void {
    if (!estimate.synchronized) this.#clocksAgree = false;
    this.#ownError = Math.max(this.#ownError, errorMsOf(estimate));
  }

  /** Adds the next request. Requests are numbered from 0. */
  onSent(request: Uint8Array, dueAt: number, sentAt: number): void {
    const seq = this.#counts.sent++;
    const at = seq % this.#capacity;
    this.#reflections.onSent(seq);
    this.#slots.state[at] = PENDING;
    this.#slots.sentAt[at] = sentAt;
    this.#slots.sendError[at] = sentAt - dueAt;
    this.#slots.rtt[at] = NaN;
    this.#slots.stampedAt[at] = NaN;
    this.#slots.timestamp[at] = timestampBits(request, TIMESTAMP_AT);
    this.#sendError.add(sentAt - dueAt);
  }

  /** Adds the failed send of a request, which is lost. */
  onSendError(seq: number): void {
    this.#counts.errors++;
    if (!this.#isRemembered(seq)) return;
    const at = seq % this.#capacity;
    if (this.#slots.state[at] !== PENDING) return;
    this.#slots.state[at] = LOST;
    this.#counts.lost++;
    this.#reflections.onUnsent();
  }

  /** Adds the time at which the kernel sent a request. */
  onStamp(seq: number, at: number): void {
    if (!this.#isRemembered(seq)) return;
    const sentAt = this.#slots.sentAt[seq % this.#capacity]!;
    // Else it is that of another send, or the clock was set.
    if (at >= sentAt - STAMP_SLACK_MS && at - sentAt < MAX_STAMP_MS) {
      this.#slots.stampedAt[seq % this.#capacity] = at;
    }
  }

  /**
   * Adds a datagram from the reflector's address.
   *
   * @param receivedAt When it was read.
   * @param arrivedAt When the kernel received it, if known.
   * @param trafficClass Its traffic class as received, if known.
   */
  onReceived(
    data: Uint8Array,
    receivedAt: number,
    arrivedAt?: number,
    trafficClass?: number,
  ): Verdict {
    const packet = decodeReflector(data);
    if (packet === undefined) return this.onForeign();
    const seq = packet.senderSequence;
    const at = seq % this.#capacity;
    if (this.#isClosing(data, packet, trafficClass)) return { type: "closing" };
    if (
      !this.#isRemembered(seq) ||
      timestampBits(data, SENDER_TIMESTAMP_AT) !== this.#slots.timestamp[at] ||
      !this.#isOfSession(packet)
    ) return this.onForeign();

    const state = this.#slots.state[at];
    this.#reflections.onNumber(packet.sequence, seq);
    if (state === LOST) {
      this.#slots.state[at] = LATE;
      this.#counts.late++;
      return { type: "late", seq };
    }
    if (state !== PENDING) {
      this.#counts.duplicates++;
      return { type: "duplicate", seq };
    }
    this.#slots.state[at] = ANSWERED;
    this.#counts.received++;

    const sentAt = this.#slots.sentAt[at]!;
    const stampedAt = this.#slots.stampedAt[at]!;
    const seenMs = receivedAt - sentAt;
    // Both ends of the round trip are timed by the same clock.
    const isKernel = arrivedAt !== undefined && !Number.isNaN(stampedAt) &&
      arrivedAt >= stampedAt && arrivedAt <= receivedAt + STAMP_SLACK_MS;
    const [from, to] = isKernel ? [stampedAt, arrivedAt] : [sentAt, receivedAt];
    if (isKernel) this.#counts.kernelTimed++;
    const departed = timestampOf(this.timeOrigin + from);
    const returned = timestampOf(this.timeOrigin + to);
    const { receiveTimestamp, timestamp } = packet;
    const tookMs = elapsedMs(receiveTimestamp, timestamp);
    const roundMs = to - from;
    // A timestamp of 0 is none, and the reflector's time is part of the round trip.
    const isPossible = tookMs >= 0 && tookMs <= roundMs &&
      timestampBits(data, TIMESTAMP_AT) > 0n;
    const reflectorMs = isPossible ? tookMs : undefined;
    const sample: Sample = {
      seq,
      rttMs: roundMs - (reflectorMs ?? 0),
      clock: isKernel ? "kernel" : "program",
      seenMs,
      reflectorMs,
      forwardMs: isPossible ? elapsedMs(departed, receiveTimestamp) : undefined,
      backwardMs: isPossible ? elapsedMs(timestamp, returned) : undefined,
      reordered: this.#reordering.isReordered(seq),
      sendErrorMs: this.#slots.sendError[at]!,
    };
    if (this.#question !== undefined) {
      sample.reported = this.#readReport(data, packet, trafficClass);
    }
    this.#slots.rtt[at] = sample.rttMs;
    const { errorEstimate } = packet;
    if (!errorEstimate.synchronized) this.#clocksAgree = false;
    this.#theirError = Math.max(this.#theirError, errorMsOf(errorEstimate));
    this.#add(sample, sentAt);
    return { type: "reply", seq, sample };
  }

  /** Whether a reply has the SSID that was sent, or none. */
  #isOfSession({ ssid }: ReflectorPacket): boolean {
    if (this.#ssid === 0) return true;
    if (ssid !== 0 && ssid !== this.#ssid) return false;
    this.returnsSsid = ssid !== 0;
    return true;
  }

  /** Reads the report of a reply. */
  #readReport(
    data: Uint8Array,
    { errorEstimate }: ReflectorPacket,
    trafficClass: number | undefined,
  ): Reported {
    const { ptp } = errorEstimate;
    const question = this.#question!;
    return this.#reported = readReported(data, question, ptp, trafficClass);
  }

  /** Adds a datagram that is no reply to a request. */
  onForeign(): Verdict {
    this.#counts.foreign++;
    return { type: "foreign" };
  }

  /** Takes unanswered requests for lost that were sent before a time; gives them. */
  expire(sentBefore: number): number[] {
    const { state, sentAt } = this.#slots;
    const lost: number[] = [];
    for (; this.#oldest < this.#counts.sent; this.#oldest++) {
      const at = this.#oldest % this.#capacity;
      if (state[at] !== PENDING) continue;
      if (sentAt[at]! > sentBefore) break;
      state[at] = LOST;
      this.#counts.lost++;
      this.#reflections.onLost(this.#oldest);
      lost.push(this.#oldest);
    }
    return lost;
  }

  /** When the oldest unanswered request was sent; undefined if there is none. */
  oldestSentAt(): number | undefined {
    this.expire(-Infinity);
    return this.#oldest < this.#counts.sent
      ? this.#slots.sentAt[this.#oldest % this.#capacity]
      : undefined;
  }

  /** All current figures. */
  result(): SessionResult {
    const { clockSteps, clockOffsetMs, drift } = this.#oneWay;
    const { received, impossibleTimestamps } = this.#counts;
    const timed = received - impossibleTimestamps;
    // A synchronized clock is not set.
    const isOneWay = this.#clocksAgree && timed > 0 && clockSteps === 0;
    // A clock that is set again and again carries no figures.
    const oneWay = 4 * clockSteps <= timed ? this.#oneWay : undefined;
    const where = this.#reflections.whereLost();
    const copied = this.#reflections.whereCopied();
    const reordered = this.#reflections.whereReordered();
    return {
      ...withLoss(this.#counts),
      lostUp: where?.up,
      lostDown: where?.down,
      lostUnattributed: where?.unattributed,
      duplicatesUp: copied?.up,
      duplicatesDown: copied?.down,
      reorderedUp: reordered?.up,
      reorderedDown: reordered?.down,
      reorderingExtent: this.#reordering.extent,
      exact: this.rtts.isExact,
      rttMs: this.rtts.summary(),
      seenMs: this.#seen.summary(),
      reflectorMs: this.#reflector.summary(),
      ipdvMs: this.#ipdv.summary(),
      pdvMs: aboveMinimum(this.#pdv.summary()),
      forwardPdvMs: oneWay?.forwardPdvMs,
      backwardPdvMs: oneWay?.backwardPdvMs,
      forwardJitterMs: oneWay?.forwardJitter.value,
      backwardJitterMs: oneWay?.backwardJitter.value,
      clockSteps,
      clockOffsetMs,
      clockDriftPpm: drift,
      reported: this.#reported,
      returnsSsid: this.returnsSsid,
      forwardDelayMs: isOneWay ? this.#forwardDelay.summary() : undefined,
      backwardDelayMs: isOneWay ? this.#backwardDelay.summary() : undefined,
      oneWayErrorMs: isOneWay ? this.#ownError + this.#theirError : undefined,
      sendErrorMs: this.#sendError.summary(),
    };
  }

  #add(sample: Sample, sentAt: number): void {
    const { seq, rttMs, seenMs, reflectorMs, forwardMs, backwardMs } = sample;
    if (sample.reordered) this.#counts.reordered++;
    this.rtts.add(rttMs);
    this.#pdv.add(rttMs);
    this.#seen.add(seenMs);
    if (reflectorMs === undefined) this.#counts.impossibleTimestamps++;
    else {
      this.#reflector.add(reflectorMs);
      this.#oneWay.add(sentAt, forwardMs!, backwardMs!);
      if (this.#clocksAgree) {
        this.#forwardDelay.add(forwardMs!);
        this.#backwardDelay.add(backwardMs!);
      }
    }
    // Of neighbours in the order of sending, whatever the order of their replies.
    const before = this.#rttOf(seq - 1);
    const after = this.#rttOf(seq + 1);
    if (!Number.isNaN(before)) this.#ipdv.add(rttMs - before);
    if (!Number.isNaN(after)) this.#ipdv.add(after - rttMs);
  }

  #rttOf(seq: number): number {
    return this.#isRemembered(seq)
      ? this.#slots.rtt[seq % this.#capacity]!
      : NaN;
  }

  #isRemembered(seq: number): boolean {
    const { sent } = this.#counts;
    return seq >= 0 && seq < sent && seq >= sent - this.#capacity;
  }

  /** Whether a closing probe could attribute loss. */
  get wantsClosing(): boolean {
    const { lost, late, received } = this.#counts;
    return lost > late && received > 0 && this.#reflections.wantsProbe;
  }

  /** Adds a closing probe; the sequence of all is the number of requests. */
  onClosingSent(request: Uint8Array): void {
    this.#reflections.onProbeSent(timestampBits(request, TIMESTAMP_AT));
  }

  /** Adds a packet if it is the reply to a closing probe; returns whether it is. */
  #isClosing(
    data: Uint8Array,
    packet: ReflectorPacket,
    trafficClass: number | undefined,
  ): boolean {
    const { sent } = this.#counts;
    if (packet.senderSequence !== sent || !this.#isOfSession(packet)) {
      return false;
    }
    const bits = timestampBits(data, SENDER_TIMESTAMP_AT);
    const isWhole = this.#reflections.onProbe(packet.sequence, sent, bits);
    if (isWhole === undefined) return false;
    if (this.#question !== undefined && isWhole) {
      const reported = this.#readReport(data, packet, trafficClass);
      const counts = reported.directMeasurement;
      if (counts) this.#reflections.onCounts(counts.sent, counts.received);
    }
    return true;
  }
}

/** The latest requests, by their sequence modulo the capacity. */
function makeSlots(capacity: number) {
  return {
    state: new Uint8Array(capacity),
    sentAt: new Float64Array(capacity),
    /** When the kernel sent each; NaN if not known. */
    stampedAt: new Float64Array(capacity),
    sendError: new Float64Array(capacity),
    rtt: new Float64Array(capacity),
    /** The bits of the timestamp as sent. */
    timestamp: new BigUint64Array(capacity),
  };
}

function timestampBits(packet: Uint8Array, at: number): bigint {
  return viewOf(packet).getBigUint64(at);
}

/** More than the error of reading two clocks one after the other. */
const STAMP_SLACK_MS = 0.05;
/** Longer than a datagram waits in a send queue. */
const MAX_STAMP_MS = 10_000;
const PENDING = 1;
const ANSWERED = 2;
const LOST = 3;
const LATE = 4;

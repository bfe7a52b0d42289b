/**
 * The session of a STAMP Session-Sender: requests, replies, and the figures derived
 * from them. Pure; knows no sockets and no clock.
 *
 * @module
 */
import { Books, type BooksPlan } from "../stats/books.ts";
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
import type {
  MeasureEvent,
  SessionResult,
  StampSample,
} from "./session_result.ts";

/** The kind of a received datagram. */
export type Verdict =
  | Extract<MeasureEvent, { type: "reply" | "late" | "duplicate" }>
  | { type: "closing" }
  | { type: "foreign" };

/** The figures of a session for an observer. */
export type SessionFigures = ReturnType<SenderSession["figures"]>;

/** The state and the figures of a session. */
export class SenderSession {
  readonly books: Books;
  /** Whether the reflector returns the SSID; undefined for unknown. */
  returnsSsid: boolean | undefined;
  readonly #slots: ReturnType<typeof makeSlots>;
  readonly #capacity: number;
  #reordered = 0;
  #kernelTimed = 0;
  #impossibleTimestamps = 0;
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
   * @param plan Its `capacity` is more than are ever unanswered.
   */
  constructor(
    public timeOrigin: number,
    plan: BooksPlan,
    ssid = 0,
    question?: Question | undefined,
  ) {
    const { capacity } = plan;
    this.books = new Books(plan);
    this.#capacity = capacity;
    this.#ssid = ssid;
    this.#question = question;
    this.#slots = makeSlots(capacity);
    this.#reflections = new Reflections(capacity);
    this.#reordering = new Reordering(capacity);
  }

  /** The longest round trip; 0 before the first. */
  get longestMs(): number {
    return this.#seen.max ?? 0;
  }

  /** Adds an error estimate of this machine's clock. */
  onClock(estimate: ErrorEstimate): void {
    if (!estimate.synchronized) this.#clocksAgree = false;
    this.#ownError = Math.max(this.#ownError, errorMsOf(estimate));
  }

  /** Adds the next request. Requests are numbered from 0. */
  onSent(request: Uint8Array, dueAt: number, sentAt: number): void {
    const seq = this.books.add(dueAt, sentAt);
    const at = seq % this.#capacity;
    this.#reflections.onSent(seq);
    this.#slots.rtt[at] = NaN;
    this.#slots.stampedAt[at] = NaN;
    this.#slots.timestamp[at] = timestampBits(request, TIMESTAMP_AT);
    this.#sendError.add(sentAt - dueAt);
  }

  /** Takes a request for lost; its reply may still arrive. */
  onLost(seq: number): void {
    this.#reflections.onLost(seq);
  }

  /** Takes note of a request that the system refused to send. */
  onUnsent(): void {
    this.#reflections.onUnsent();
  }

  /** Adds the time at which the kernel sent a request. */
  onStamp(seq: number, at: number): void {
    if (!this.books.isRemembered(seq)) return;
    const sentAt = this.books.sentAt(seq);
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
   * @param isPunctual Whether it was read as it arrived; it may have waited.
   */
  onReceived(
    data: Uint8Array,
    receivedAt: number,
    arrivedAt?: number,
    trafficClass?: number,
    isPunctual = true,
  ): Verdict {
    const packet = decodeReflector(data);
    if (packet === undefined) return this.onForeign();
    const seq = packet.senderSequence;
    const at = seq % this.#capacity;
    if (this.#isClosing(data, packet, trafficClass)) return { type: "closing" };
    if (
      !this.books.isRemembered(seq) ||
      timestampBits(data, SENDER_TIMESTAMP_AT) !== this.#slots.timestamp[at] ||
      !this.#isOfSession(packet)
    ) return this.onForeign();

    this.#reflections.onNumber(packet.sequence, seq);
    const { books } = this;
    const kind = books.replied(seq);
    if (kind !== "received") return { type: kind, seq };

    const sentAt = books.sentAt(seq);
    const stampedAt = this.#slots.stampedAt[at]!;
    const seenMs = isPunctual ? receivedAt - sentAt : undefined;
    // Both ends of the round trip are timed by the same clock.
    const isKernel = arrivedAt !== undefined && !Number.isNaN(stampedAt) &&
      arrivedAt >= stampedAt && arrivedAt <= receivedAt + STAMP_SLACK_MS;
    const [from, to] = isKernel ? [stampedAt, arrivedAt] : [sentAt, receivedAt];
    if (isKernel) this.#kernelTimed++;
    const departed = timestampOf(this.timeOrigin + from);
    const returned = timestampOf(this.timeOrigin + to);
    const { receiveTimestamp, timestamp } = packet;
    const tookMs = elapsedMs(receiveTimestamp, timestamp);
    const roundMs = to - from;
    // A timestamp of 0 is none, and the reflector's time is part of the round trip.
    const isTimed = isPunctual || isKernel;
    const isPossible = tookMs >= 0 && tookMs <= roundMs &&
      timestampBits(data, TIMESTAMP_AT) > 0n;
    const reflectorMs = isPossible ? tookMs : undefined;
    const sample: StampSample = {
      seq,
      rttMs: isTimed ? roundMs - (reflectorMs ?? 0) : undefined,
      clock: isKernel ? "kernel" : "program",
      seenMs,
      reflectorMs,
      forwardMs: isPossible ? elapsedMs(departed, receiveTimestamp) : undefined,
      backwardMs: isPossible && isTimed
        ? elapsedMs(timestamp, returned)
        : undefined,
      reordered: this.#reordering.isReordered(seq),
      sendErrorMs: sentAt - books.dueAt(seq),
    };
    if (this.#question !== undefined) {
      sample.reported = this.#readReport(data, packet, trafficClass);
    }
    this.#slots.rtt[at] = sample.rttMs ?? NaN;
    const { errorEstimate } = packet;
    if (!errorEstimate.synchronized) this.#clocksAgree = false;
    this.#theirError = Math.max(this.#theirError, errorMsOf(errorEstimate));
    books.measured(seq, sample.rttMs, 1, sample.clock);
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
    this.books.count("foreign");
    return { type: "foreign" };
  }

  /** The current figures for an observer, which cost little. */
  figures() {
    const { received } = this.books;
    const { clockSteps, clockOffsetMs } = this.#oneWay;
    const timed = received - this.#impossibleTimestamps;
    // A clock that is set again and again carries no figures.
    const oneWay = 4 * clockSteps <= timed ? this.#oneWay : undefined;
    const where = this.#reflections.whereLost();
    const counts = this.books.summary();
    return {
      ...counts,
      lostUp: where?.up,
      lostDown: where?.down,
      lostUnattributed: where?.unattributed ?? counts.lost,
      forwardJitterMs: oneWay?.forwardJitter.value,
      backwardJitterMs: oneWay?.backwardJitter.value,
      clockOffsetMs,
    };
  }

  /** All current figures. */
  result(): SessionResult {
    const { clockSteps, drift } = this.#oneWay;
    const counts = this.figures();
    const impossibleTimestamps = this.#impossibleTimestamps;
    const timed = counts.received - impossibleTimestamps;
    // A synchronized clock is not set.
    const isOneWay = this.#clocksAgree && timed > 0 && clockSteps === 0;
    // A clock that is set again and again carries no figures.
    const oneWay = 4 * clockSteps <= timed ? this.#oneWay : undefined;
    const copied = this.#reflections.whereCopied();
    const reordered = this.#reflections.whereReordered();
    return {
      ...counts,
      reordered: this.#reordered,
      kernelTimed: this.#kernelTimed,
      impossibleTimestamps,
      lostUnattributed: this.#reflections.whereLost()?.unattributed,
      duplicatesUp: copied?.up,
      duplicatesDown: copied?.down,
      reorderedUp: reordered?.up,
      reorderedDown: reordered?.down,
      reorderingExtent: this.#reordering.extent,
      exact: this.books.rtts.isExact,
      rttMs: this.books.rtts.summary(),
      seenMs: this.#seen.summary(),
      reflectorMs: this.#reflector.summary(),
      ipdvMs: this.#ipdv.summary(),
      pdvMs: aboveMinimum(this.#pdv.summary()),
      forwardPdvMs: oneWay?.forwardPdvMs,
      backwardPdvMs: oneWay?.backwardPdvMs,
      clockSteps,
      clockDriftPpm: drift,
      reported: this.#reported,
      returnsSsid: this.returnsSsid,
      forwardDelayMs: isOneWay ? this.#forwardDelay.summary() : undefined,
      backwardDelayMs: isOneWay ? this.#backwardDelay.summary() : undefined,
      oneWayErrorMs: isOneWay ? this.#ownError + this.#theirError : undefined,
      sendErrorMs: this.#sendError.summary(),
    };
  }

  #add(sample: StampSample, sentAt: number): void {
    const { seq, rttMs, seenMs, reflectorMs, forwardMs, backwardMs } = sample;
    if (sample.reordered) this.#reordered++;
    if (seenMs !== undefined) this.#seen.add(seenMs);
    if (reflectorMs === undefined) this.#impossibleTimestamps++;
    else this.#reflector.add(reflectorMs);
    if (rttMs === undefined) return;
    this.#pdv.add(rttMs);
    if (reflectorMs !== undefined) {
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
    return this.books.isRemembered(seq)
      ? this.#slots.rtt[seq % this.#capacity]!
      : NaN;
  }

  /** Whether a closing probe could attribute loss. */
  get wantsClosing(): boolean {
    const { lost, late, received } = this.books.summary();
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
    const sent = this.books.next;
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
    /** When the kernel sent each; NaN if not known. */
    stampedAt: new Float64Array(capacity),
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

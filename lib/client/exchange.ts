/**
 * One request on a socket of its own: options, retransmissions and replies.
 *
 * @module
 */
import { formatAddress, type UdpAddress } from "../address.ts";
import {
  errorMessage,
  isPortClosed,
  isTooLong,
  mayPass,
  sendError,
} from "../base/errors.ts";
import * as option from "../base/options.ts";
import { type PayloadInit, payloadOf } from "../base/payload.ts";
import { type Runtime, runtimeOf } from "../socket/runtime.ts";
import {
  type DatagramSocket,
  MAX_PAYLOAD,
  type Receiver,
} from "../socket/contract.ts";
import type { Datagram } from "../socket/datagram.ts";
import {
  anything,
  type ReplyInfo,
  replyOf,
  TimeoutError,
  type UdpReply,
} from "./reply.ts";
import {
  checkEnds,
  comesFrom,
  type Ends,
  maxPayload,
  type NamedEnds,
  ORIGIN,
  type OriginOptions,
  requireFit,
} from "./target.ts";

/**
 * The payload of a request: bytes, text as UTF-8, or a function that makes them
 * for each datagram, so that ids and times in them are right. It is called just
 * before each send with the number of the attempt, from 1.
 */
export type Payload = PayloadInit | ((attempt: number) => PayloadInit);

/** Options of {@linkcode request}. */
export interface RequestOptions<Decoded = unknown> extends OriginOptions {
  /**
   * The wait for the reply before the first retransmission, in milliseconds, 1
   * to 86,400,000 (a day). It doubles with each retransmission (RFC 8085, section 3.1.1), up to a minute or this value, the
   * larger.
   *
   * @default {1000}
   */
  timeoutMs?: number | undefined;
  /**
   * The number of retransmissions without a reply, 0 to 100. In a series of more
   * than one datagram the default is 0: each lost datagram then counts as lost.
   *
   * @default {2}
   */
  retries?: number | undefined;
  /**
   * Longer datagrams are ignored, never truncated. 1 to 65,527 bytes.
   *
   * @default {65527}
   */
  maxDatagramBytes?: number | undefined;
  /**
   * Decides whether a datagram is the reply: by `true`, or by the decoded value, the
   * reply's `value`. With `false`, `null` or `undefined` the
   * datagram is ignored.
   */
  match?:
    | ((
      data: Uint8Array<ArrayBuffer>,
      info: ReplyInfo,
    ) => Decoded | false | null | undefined)
    | undefined;
}

/** The options of every request. */
export const EXCHANGE = {
  ...ORIGIN,
  timeoutMs: option.time(1, 1000),
  retries: option.integer(0, 100, 2),
  maxDatagramBytes: option.integer(1, MAX_PAYLOAD, MAX_PAYLOAD),
} satisfies option.Table<Omit<RequestOptions, "match">>;

/** The table of {@linkcode RequestOptions}. */
export const REQUEST = {
  ...EXCHANGE,
  match: option.callback(anything),
} satisfies option.Table<RequestOptions>;

/** A request whose options have been checked. */
export interface RequestPlan extends option.Values<typeof EXCHANGE> {
  ends: NamedEnds;
  /** Makes the payload of a datagram, checked. */
  payload: (attempt: number, seq: number) => Uint8Array;
  match: NonNullable<RequestOptions["match"]>;
  /** Whether retransmissions after the first reply request the missing ones. */
  hasMissing?: boolean;
  runtime: Runtime;
}

/**
 * The plan of a request of this function with checked options, by
 * {@linkcode checkEnds} and {@linkcode payloadOf}.
 */
export function planRequest(
  owner: string,
  address: UdpAddress | string,
  payload: PayloadInit | ((attempt: number, seq: number) => PayloadInit),
  options:
    & option.Values<typeof EXCHANGE>
    & Partial<option.Values<typeof REQUEST>>,
): RequestPlan {
  const made = typeof payload === "function"
    ? undefined
    : payloadOf(payload, owner);
  // The size of a payload that is made later is checked when it is made.
  const ends = checkEnds(address, options, made?.length ?? 0);
  return {
    match: anything,
    ...options,
    ends,
    payload: typeof payload === "function"
      ? (attempt, seq) => payloadOf(payload(attempt, seq), owner, "return")
      : () => made!,
    runtime: runtimeOf(options),
  };
}

/** The callbacks of an {@linkcode Exchange}. */
export interface ExchangeListener {
  /** A reply arrived in time; returns whether to wait for another one. */
  onReply(reply: UdpReply): boolean | void;
  /** No reply arrived in time. */
  onTimeout(error: TimeoutError): void;
  /** The system failed to send or receive; the exchange is over. */
  onError(error: unknown): void;
  /** The system has taken a datagram. */
  onSent?(): void;
  /** The system has taken a retransmission. */
  onRetransmit?(): void;
  /** The system refused a datagram, and there is another attempt. */
  onRefused?(error: unknown): void;
  /** A datagram arrived that is no reply. */
  onForeign?(): void;
  /** The first reply arrived after the time-out. */
  onLate?(): void;
  /** The first address was reported unreachable; the exchange uses the next one. */
  onMoved?(ends: Ends): void;
  /** A reply arrived beyond one per datagram sent. */
  onDuplicate?(): void;
}

/** One request. Its socket stays open until {@linkcode Exchange.close}. */
export class Exchange implements Receiver {
  #socket: DatagramSocket | undefined;
  #finished = Promise.resolve();
  #cancelTimer = () => {};
  /** Answered, timed out or failed. */
  #isOver = false;
  #sentAt = 0;
  /** Whether the system has taken a datagram. */
  #isSent = false;
  #replies = 0;
  /** The last report of the system or the network about a sent datagram. */
  #report: unknown;
  /** Addresses of the same name that were reported unreachable before. */
  readonly #passed: UdpAddress[] = [];
  /** The sender of the first foreign datagram. */
  #foreignFrom: UdpAddress | undefined;
  /** The number of times the datagram was sent. */
  attempts = 0;
  /** Datagrams that are no reply: from elsewhere, or refused by `match`. */
  foreign = 0;

  constructor(
    readonly plan: RequestPlan,
    public ends: Ends,
    readonly listener: ExchangeListener,
    readonly seq = 0,
  ) {}

  /** The number of datagrams answered, late or not. */
  get answered(): number {
    return Math.min(this.#replies, this.attempts);
  }

  /** The port that it is sent from; 0 before the socket is open. */
  get localPort(): number {
    return this.#socket?.addr.port ?? 0;
  }

  /**
   * Opens the socket and sends; throws the system's error. Late replies may arrive at
   * ports that are used, so the socket gets another one.
   */
  start(isUsed: (port: number) => boolean = () => false): void {
    const socket = this.#open(isUsed);
    this.#socket = socket;
    this.#finished = socket.start(this).catch((error) => this.#fail(error));
    this.#send();
  }

  #open(isUsed: (port: number) => boolean): DatagramSocket {
    const { runtime, maxDatagramBytes } = this.plan;
    const { target, local } = this.ends;
    const refused: DatagramSocket[] = [];
    try {
      for (let tries = 0;; tries++) {
        const options = { ...local, maxDatagramBytes, peer: target };
        const socket = runtime.open(options);
        if (!isUsed(socket.addr.port) || tries === MAX_TRIES) return socket;
        refused.push(socket);
      }
    } finally {
      for (const socket of refused) socket.close();
    }
  }

  onTooLong(): void {
    this.foreign++;
    this.listener.onForeign?.();
  }

  /** Ends the exchange in any state; resolves when its socket is closed. */
  close(): Promise<void> {
    this.#end();
    this.#socket?.close();
    return this.#finished;
  }

  onDatagram(datagram: Datagram): void {
    const { match } = this.plan;
    const { target } = this.ends;
    try {
      const reply = comesFrom(datagram.remoteAddr, target)
        ? replyOf(datagram, match, {
          remoteAddr: { ...target },
          attempts: this.attempts,
          sentAt: this.#sentAt,
        })
        : undefined;
      if (reply === undefined) {
        this.foreign++;
        this.listener.onForeign?.();
        this.#foreignFrom ??= { ...datagram.remoteAddr };
        return;
      }
      this.#replies++;
      if (!this.#isOver) {
        this.#end();
        if (this.listener.onReply(reply)) this.#waitForMore();
      } else if (this.#replies > this.attempts) this.listener.onDuplicate?.();
      else if (this.#replies === 1) this.listener.onLate?.();
    } catch (error) {
      this.#fail(error);
    } finally {
      this.#socket!.release(datagram);
    }
  }

  onReceiveError(error: unknown): void {
    const { reportsClosedPort } = this.#socket!;
    if (this.#isOver || !(reportsClosedPort || isPortClosed(error))) return;
    this.#report = error;
    // A hint, not a verdict (RFC 8085, section 5.2; RFC 1122, section 3.2.2.1): the
    // wait continues. A socket that sees a closed port ends it by that, or by a path
    // that takes no such datagram whole; a name with another address continues there.
    if (!reportsClosedPort) return;
    const { next, local } = this.ends;
    if (isTooLong(error)) {
      return local.dontFragment ? this.#timeOut() : undefined;
    }
    if (next !== undefined && this.#replies === 0) this.#moveTo(next);
    else if (isPortClosed(error)) this.#timeOut();
  }

  /** Begins anew with the next address of the name, from another socket. */
  #moveTo(ends: Ends): void {
    this.#cancelTimer();
    this.#socket!.close();
    const closed = this.#finished;
    this.#passed.push(this.ends.target);
    this.ends = ends;
    this.attempts = 0;
    this.#isSent = false;
    this.listener.onMoved?.(ends);
    try {
      this.start();
    } catch (error) {
      this.#fail(error);
    }
    this.#finished = this.#finished.then(() => closed);
  }

  #send(): void {
    const { runtime } = this.plan;
    const attempt = ++this.attempts;
    let payload: Uint8Array;
    try {
      payload = this.plan.payload(this.attempts, this.seq);
      // The function may have closed the exchange.
      if (this.#isOver) return;
      requireFit(payload.length, maxPayload(this.ends.target.hostname));
    } catch (error) {
      // Later, as all other errors: not within the call of `start()`.
      return queueMicrotask(() => this.#fail(error));
    }
    const { timeoutMs, retries } = this.plan;
    this.#wait(waitMsOf(timeoutMs, retries, this.attempts, runtime), true);
    this.#sentAt = runtime.now();
    const { target, next } = this.ends;
    this.#socket!.send(payload, target).then(() => {
      this.#isSent = true;
      this.listener.onSent?.();
      if (attempt > 1) this.listener.onRetransmit?.();
    }, (error) => {
      if (this.ends.target !== target) return;
      // The report about an earlier datagram, delivered by this send.
      if (isPortClosed(error)) return this.onReceiveError(error);
      if (next !== undefined && !this.#isSent && mayPass(error)) {
        return this.#moveTo(next);
      }
      const isLast = this.attempts > retries && !this.#isSent;
      if (isLast || !mayPass(error)) {
        this.#fail(sendError(error, target, this.plan.ends.target.hostname));
      } else {
        this.#report = error;
        this.listener.onRefused?.(error);
      }
    });
  }

  /** Waits for a further reply. */
  #waitForMore(): void {
    this.#isOver = false;
    const { timeoutMs, hasMissing = false } = this.plan;
    this.#wait(timeoutMs, hasMissing);
  }

  /** Waits for a reply; then retransmits, as far as that is allowed, or times out. */
  #wait(ms: number, isRetransmitted: boolean): void {
    this.#cancelTimer = this.plan.runtime.after(ms, () => {
      this.#whenRead(() => {
        const { retries } = this.plan;
        if (isRetransmitted && this.attempts <= retries) this.#send();
        else this.#timeOut();
      });
    });
  }

  /** Calls back if the reply does not lie in the socket: a timer may be late. */
  #whenRead(callback: () => void): void {
    const timer = this.#cancelTimer;
    (this.#socket!.drain?.() ?? Promise.resolve()).then(() => {
      if (!this.#isOver && this.#cancelTimer === timer) callback();
    }).catch((error) => this.#fail(error));
  }

  #timeOut(): void {
    this.#end();
    const targets = [...this.#passed, this.ends.target];
    const { attempts, foreign } = this;
    this.listener.onTimeout(
      timeoutError(targets, attempts, foreign, this.#report, this.#foreignFrom),
    );
  }

  #fail(error: unknown): void {
    if (this.#isOver) return;
    this.#end();
    this.listener.onError(error);
  }

  #end(): void {
    this.#isOver = true;
    this.#cancelTimer();
  }
}

/** The wait for a reply to the nth attempt, in milliseconds. */
export function waitMsOf(
  timeoutMs: number,
  retries: number,
  attempts: number,
  runtime: Pick<Runtime, "random">,
): number {
  // Most first attempts are answered, and a power is slow.
  const waitMs = attempts === 1 ? timeoutMs : Math.min(
    timeoutMs * 2 ** (attempts - 1),
    Math.max(timeoutMs, MAX_BACKOFF_MS),
  );
  // Jitter keeps clients that lost together from resending together; the wait
  // after the last datagram needs none.
  const jitter = attempts <= retries ? runtime.random() * MAX_JITTER : 0;
  return Math.min(waitMs * (1 + jitter), option.MAX_MS);
}

/** The error of an unanswered request, with all known causes. */
export function timeoutError(
  targets: UdpAddress[],
  attempts: number,
  foreign: number,
  report: unknown,
  foreignFrom?: UdpAddress,
): TimeoutError {
  const why = report === undefined
    ? SILENCE
    : isPortClosed(report)
    ? "the system reports a closed port"
    : errorMessage(report);
  // The source of a datagram that is too long is not known.
  const from = foreignFrom === undefined
    ? ""
    : `, the first from ${formatAddress(foreignFrom)}`;
  const ignored = foreign === 0
    ? ""
    : `; ignored ${datagrams(foreign, "other ")}${from}`;
  return new TimeoutError(
    `No reply from ${targets.map(formatAddress).join(" or ")} to ` +
      `${datagrams(attempts)}: ` +
      `${why}${ignored}`,
    { attempts, foreign, cause: report },
  );
}

/** The likely causes of silence without any report. */
export const SILENCE = "a closed port, a silent server, a firewall, or loss";

/** A number of datagrams in words. */
export function datagrams(count: number, which = ""): string {
  return `${count} ${which}${count === 1 ? "datagram" : "datagrams"}`;
}

const MAX_BACKOFF_MS = 60_000;
const MAX_JITTER = 0.1;
/** Of the ports that a system gives at random, a third may be in use. */
const MAX_TRIES = 16;

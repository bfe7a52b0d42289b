/**
 * A running server: the way of each datagram to the handler, and of its answers
 * to the socket.
 *
 * @module
 */
import { formatAddress, type UdpAddress } from "./address.ts";
import { encode } from "./encoding.ts";
import {
  borrowers,
  type DatagramInfo,
  type Departing,
  departing,
  type Handler,
  type Reply,
  withholding,
} from "./handler.ts";
import {
  type Guard,
  headersOf,
  type Refusal,
  REFUSAL_WORDS,
  REFUSALS,
} from "./guard.ts";
import { type Links, mayBeGroup } from "./groups.ts";
import { LoopWatch, noLoops, type Test } from "./loop_watch.ts";
import { Outbox, payloadOf } from "./outbox.ts";
import type { Runtime } from "./runtime.ts";
import {
  copyOf,
  type Datagram,
  type DatagramSocket,
  type Receiver,
  type ReplyDeparture,
} from "./socket.ts";
import { describeError, Throttle } from "./warn.ts";

/**
 * What a server has counted so far. `received` is the sum of `replied`,
 * `unanswered`, all of `dropped` and `refused`, `errors.send`, and what is still
 * in flight.
 */
export interface ServerStats {
  /** Datagrams that came in. */
  received: number;
  /** Replies that handlers returned, and that were sent. */
  replied: number;
  /** Datagrams whose handler gave no reply, by choice or by failing. */
  unanswered: number;
  /** Datagrams that no handler's reply was sent for, and why. */
  dropped: {
    /** Longer than `maxDatagramBytes`. */
    tooLong: number;
    /** More than `maxInFlight` at once. */
    overload: number;
    /** Came, or was still with its handler, when the server closed. */
    closing: number;
  };
  /**
   * Datagrams that the system dropped before the server saw them, since the
   * receive buffer was full; in no other count. Undefined where it cannot be
   * known: on the deno engine, but for Linux with `--allow-all`.
   */
  kernelDrops: number | undefined;
  /** Datagrams whose answer the guard withheld, and why. */
  refused: Record<Refusal, number>;
  /** What was sent by `info.reply()`, `send()` and `sendMany()`. */
  pushed: {
    /** Taken by the system. */
    sent: number;
    /** Withheld by the guard. */
    refused: number;
    /** Not sent, as too many were on their way or the server had closed. */
    dropped: number;
    /** Refused by the system. */
    failed: number;
  };
  /** Payload bytes of all that came in, and of the replies given to the system. */
  bytes: { received: number; replied: number };
  /** Datagrams that are with their handlers, and replies on their way out. */
  inFlight: number;
  /** What went wrong, while the server went on. */
  errors: {
    /** Handlers that threw, rejected, took too long, or returned no reply. */
    handler: number;
    /** Replies that could not be sent. */
    send: number;
    /** Receives that failed. */
    receive: number;
  };
}

/** A running server. */
export interface UdpServer extends AsyncDisposable {
  /** The bound address, the port never 0. */
  readonly addr: UdpAddress;
  /**
   * Resolves when the server has closed; rejects with the system's error if
   * receiving fails for good.
   */
  readonly finished: Promise<void>;
  /**
   * Sends a datagram that answers nothing, from the server's port; the guard
   * has no say in it. At most 4,096 may be on their way at once.
   *
   * @param payload 0 to 65,507 bytes (IPv6: 65,527), text as UTF-8. Bytes must
   * not change until the promise settles.
   * @param to An IP address and a port, or `"IP:PORT"`. Names are not resolved.
   * @returns Resolves when the system has taken it. Rejects with the system's
   * error, or with an `Error` if too many are on their way or the server has
   * closed.
   * @throws {TypeError} If the address has a name instead of an IP address, or
   * the payload is neither bytes nor text.
   * @throws {RangeError} If the port is none from 1 to 65,535.
   * @throws {SyntaxError} If the address does not parse.
   */
  send(
    payload: Uint8Array | string,
    to: UdpAddress | string,
  ): Promise<void>;
  /**
   * Sends the same datagram to many, as {@linkcode UdpServer.send} does to one,
   * no faster than the system takes them. All addresses are checked before the
   * first is sent to. One that cannot be sent to is counted, and told to
   * `onError`.
   *
   * @param payload As for `send`.
   * @param addresses Where to, each as for `send`.
   * @returns To how many it was sent.
   */
  sendMany(
    payload: Uint8Array | string,
    addresses: Iterable<UdpAddress | string>,
  ): Promise<number>;
  /**
   * Stops taking datagrams, waits for the handlers at work and their replies,
   * then closes. Every call returns the same promise.
   */
  shutdown(): Promise<void>;
  /** A snapshot of the counts. */
  stats(): ServerStats;
  /** Lets the server keep the process alive, as it does at first. */
  ref(): void;
  /** Lets the process end while the server is running. */
  unref(): void;
}

/** What is called instead of a line on stderr. */
export interface Hooks {
  /**
   * Called for everything that goes wrong while the server goes on: a handler
   * that throws or rejects or returns something that is no reply, a reply that
   * cannot be sent, and, without `info`, a failed receive, a fast path that the
   * system refuses and that is turned off, or an address that `sendMany` cannot
   * send to. For a handler that throws or rejects, what it returns is the reply.
   *
   * @default {prints the error on stderr, each kind at most once a second}
   */
  onError?:
    | ((
      error: unknown,
      info?: Pick<DatagramInfo, "remoteAddr">,
    ) => Reply | Promise<Reply>)
    | undefined;
  /**
   * Called for each answer that the guard withholds, and why.
   *
   * @default {prints the first of each reason on stderr}
   */
  onRefuse?: ((reason: Refusal, info: DatagramInfo) => void) | undefined;
  /**
   * Called for each datagram that is dropped since `maxInFlight` are at work.
   *
   * @default {prints the first on stderr}
   */
  onOverload?: ((info: DatagramInfo) => void) | undefined;
  /**
   * Whether to print nothing on stderr; the counts and the callbacks remain.
   *
   * @default {false}
   */
  quiet?: boolean | undefined;
}

/** What a server is made of, checked. */
export interface ServerOptions extends Hooks {
  handler: Handler;
  lend: boolean;
  maxInFlight: number;
  maxReplies: number;
  handlerTimeoutMs: number;
  groupDelayMs: number;
  guard: Guard | undefined;
  /** Who is answered that asks a group; all if undefined. */
  links: Links | undefined;
  runtime: Runtime;
  signal: AbortSignal | undefined;
}

/** {@linkcode UdpServer}, on an open socket. */
export class Server implements UdpServer, Receiver {
  readonly addr: UdpAddress;
  readonly finished: Promise<void>;
  readonly #socket: DatagramSocket;
  readonly #options: ServerOptions;
  readonly #loops: LoopWatch<Kept>;
  /** Says how a reply is to leave, if the handler's do in a way of their own. */
  readonly #departing: Departing | undefined;
  readonly #isNoLoop: ((data: Uint8Array) => boolean) | undefined;
  readonly #lends: boolean;
  readonly #stats = noStats();
  readonly #warnings: Throttle;
  /** What is told once, and has been. */
  readonly #told = new Set<string>();
  /** Datagrams with an asynchronous handler, and until when it may take. */
  readonly #waiting = new Map<Incoming, number>();
  /** Answers that wait for a random time, and what ends the wait. */
  readonly #spreading = new Map<() => void, () => void>();
  #cancelCheck: (() => void) | undefined;
  /** Datagrams whose handler has not settled, or whose answer is kept. */
  #atWork = 0;
  /** Of these, those whose answer is kept. */
  #kept = 0;
  /** Replies that the system has neither taken nor refused yet. */
  #unsent = 0;
  /** Of these, those that were kept, which hold no datagram. */
  #unsentKept = 0;
  /** All else that is sent. */
  readonly #outbox: Outbox;
  #draining = false;
  #closed = false;
  /** What the system had dropped when the server closed. */
  #lastDrops: number | undefined;

  constructor(socket: DatagramSocket, options: ServerOptions) {
    const { runtime, handler } = options;
    this.#socket = socket;
    this.#outbox = new Outbox(socket, () => this.#closeIfDrained());
    this.#options = options;
    this.#isNoLoop = noLoops.get(handler);
    this.#lends = options.lend || borrowers.has(handler);
    this.#departing = departing.get(handler);
    if (this.#departing !== undefined) this.#departing.isAsked = true;
    this.#loops = new LoopWatch({
      now: () => runtime.now(),
      after: (ms, callback) => runtime.after(ms, callback),
      send: (kept) => this.#sendKept(kept),
      drop: (kept) => this.#dropKept(kept),
    });
    this.addr = socket.addr;
    this.#warnings = new Throttle(
      (text) => this.#warn(text),
      () => runtime.now(),
    );
    const close = () => this.#close();
    options.signal?.addEventListener("abort", close);
    this.finished = socket.start(this).finally(() => {
      this.#closed = true;
      this.#outbox.close();
      this.#cancelCheck?.();
      this.#loops.release();
      this.#endSpreading();
      options.signal?.removeEventListener("abort", close);
    });
    // By `onListen`, before there was anyone to hear of it.
    if (options.signal?.aborted) close();
  }

  send(payload: Uint8Array | string, to: UdpAddress | string): Promise<void> {
    return this.#outbox.send({ payload, to });
  }

  async sendMany(
    payload: Uint8Array | string,
    addresses: Iterable<UdpAddress | string>,
  ): Promise<number> {
    const bytes = payloadOf(payload);
    return await this.#outbox.sendMany(
      Array.from(addresses, (to) => ({ payload: bytes, to })),
      (error) => this.#report("send", oneLine(error)),
    );
  }

  shutdown(): Promise<void> {
    this.#draining = true;
    this.#loops.release();
    this.#endSpreading();
    // Closing first would lose the replies: Deno cannot stop a receive in any
    // other way than by closing the socket.
    this.#closeIfDrained();
    return this.finished;
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.shutdown();
  }

  stats(): ServerStats {
    const stats = structuredClone(this.#stats);
    const { sent, dropped, failed } = this.#outbox;
    stats.pushed = { ...stats.pushed, sent, dropped, failed };
    stats.inFlight = this.#atWork + this.#unsent;
    stats.kernelDrops = this.#closed
      ? this.#lastDrops
      : this.#socket.kernelDrops();
    return stats;
  }

  ref(): void {
    this.#socket.ref();
  }

  unref(): void {
    this.#socket.unref();
  }

  onDatagram(datagram: Datagram): void {
    this.#stats.received++;
    this.#stats.bytes.received += datagram.data.length;
    if (
      this.#draining || this.#closed ||
      this.#stats.replied + this.#atWork + this.#unsent >=
        this.#options.maxReplies
    ) {
      this.#stats.dropped.closing++;
      return this.#socket.release(datagram);
    }
    if (this.isFull()) {
      this.#stats.dropped.overload++;
      const dropped = new Incoming(this, datagram, datagram.data);
      dropped.settle();
      this.#overloaded(dropped);
      return this.#socket.release(datagram);
    }
    const data = this.#lends ? datagram.data : copyOf(datagram.data);
    const incoming = new Incoming(this, datagram, data);
    this.#atWork++;
    let reply: Reply | Promise<Reply>;
    try {
      reply = this.#options.handler(data, incoming);
    } catch (error) {
      reply = this.#handlerFailed(error, incoming);
    }
    // The usual case, without a promise.
    if (!(reply instanceof Uint8Array) && isPromiseLike(reply)) {
      this.#whenSettled(incoming, reply);
    } else this.#respond(incoming, incoming.settle()!, reply);
  }

  isFull(): boolean {
    const unsent = this.#socket.copiesReplies
      ? 0
      : this.#unsent - this.#unsentKept;
    const held = this.#atWork + unsent - this.#kept;
    return held >= this.#options.maxInFlight;
  }

  onTooLong(): void {
    this.#stats.received++;
    this.#stats.dropped.tooLong++;
    this.#tellOnce(
      "tooLong",
      "dropped a datagram longer than maxDatagramBytes",
    );
  }

  onReplied(count: number): void {
    this.#stats.replied += count;
    if (this.#stats.replied >= this.#options.maxReplies) this.#draining = true;
    this.#unsent -= count;
    this.#closeIfDrained();
  }

  onReplyError(error: unknown, remoteAddr: UdpAddress, count: number): void {
    this.#stats.errors.send += count;
    this.#report("send", error, { remoteAddr });
    this.#unsent -= count;
    this.#closeIfDrained();
  }

  onNotice(notice: Error): void {
    this.#report("notice", notice);
  }

  onReceiveError(error: unknown): void {
    this.#stats.errors.receive++;
    this.#report("receive", error);
  }

  /** How many bytes an answer may have; see {@linkcode DatagramInfo}. */
  maxReplyBytes(info: Peers, bytes: number, spent: number): number {
    const { guard } = this.#options;
    if (guard === undefined) return Infinity;
    const { remoteAddr } = info;
    const refusal = guard.admit(remoteAddr) ?? this.#judgeLink(info);
    if (refusal !== undefined) return 0;
    return Math.max(0, guard.maxReplyBytes(remoteAddr, bytes, spent));
  }

  /** Sends an answer beside the one that is returned. */
  pushReply(
    incoming: Incoming,
    datagram: Datagram,
    payload: Uint8Array,
  ): boolean {
    const refusal = this.#judge(incoming, payload);
    if (refusal !== undefined) {
      this.#stats.pushed.refused++;
      this.#refused(refusal, incoming);
      return false;
    }
    if (this.#outbox.isFull || this.#spreading.size >= MAX_SPREADING) {
      this.#outbox.dropped++;
      return false;
    }
    const test = this.#testOf(incoming, datagram, true);
    incoming.spend(payload.length);
    // The handler may use its array again; a socket that copies needs no copy.
    const isSpread = this.#isSpread(incoming);
    const isCopied = test === undefined && !isSpread &&
      this.#socket.copiesReplies;
    const bytes = isCopied ? payload : payload.slice();
    if (test !== undefined) {
      const kept = { incoming, payload: bytes, isReturned: false };
      this.#loops.keep(test, kept, bytes.length);
    } else if (isSpread) this.#spread(() => this.#pushBeside(incoming, bytes));
    else this.#pushBeside(incoming, bytes);
    return true;
  }

  async #pushBeside(incoming: Incoming, payload: Uint8Array): Promise<void> {
    const { remoteAddr, localAddr } = incoming;
    const failure = await this.#outbox.trySend(
      payload,
      remoteAddr,
      localAddr,
    );
    if (failure !== undefined && !this.#closed) {
      this.#report("send", failure.error, incoming);
    }
  }

  async #whenSettled(
    incoming: Incoming,
    settled: PromiseLike<Reply>,
  ): Promise<void> {
    const { runtime, handlerTimeoutMs } = this.#options;
    this.#waiting.set(incoming, runtime.now() + handlerTimeoutMs);
    this.#cancelCheck ??= runtime.after(
      handlerTimeoutMs,
      () => this.#checkWaiting(),
    );
    let reply: Reply;
    try {
      reply = await settled;
    } catch (error) {
      if (incoming.isSettled) return;
      reply = await this.#handlerFailed(error, incoming);
    }
    // Given up in the meantime, it has none.
    const datagram = incoming.settle();
    this.#waiting.delete(incoming);
    if (datagram !== undefined) this.#respond(incoming, datagram, reply);
  }

  /** Gives up on handlers that take too long. One timer serves them all. */
  #checkWaiting(): void {
    const { runtime, handlerTimeoutMs } = this.#options;
    this.#cancelCheck = undefined;
    for (const [incoming, deadline] of this.#waiting) {
      const leftMs = deadline - runtime.now();
      if (leftMs > 0) {
        this.#cancelCheck = runtime.after(leftMs, () => this.#checkWaiting());
        return;
      }
      this.#giveUp(incoming);
      this.#handlerFailed(
        oneLine(
          new Error(`Handler has not settled within ${handlerTimeoutMs} ms`),
        ),
        incoming,
      );
      this.#stats.unanswered++;
      this.#done();
    }
  }

  /**
   * Waits no more for a handler. It may still use a buffer that was lent, so
   * that another takes its place; and the promise, which may never settle, keeps
   * neither.
   */
  #giveUp(incoming: Incoming): void {
    const datagram = incoming.settle()!;
    this.#waiting.delete(incoming);
    if (this.#lends) this.#socket.abandon(datagram);
    else this.#socket.release(datagram);
  }

  /** Sends what a handler returned, if it is a reply. */
  #respond(incoming: Incoming, datagram: Datagram, reply: unknown): void {
    if (typeof reply === "string") reply = encode(reply);
    if (reply instanceof Uint8Array) {
      return this.#answer(incoming, datagram, reply);
    }
    if (reply !== undefined && reply !== null) {
      this.#handlerFailed(
        oneLine(
          new TypeError(
            `Cannot reply as the handler must return a Uint8Array, a string, null or undefined: it returned ${typeof reply}`,
          ),
        ),
        incoming,
      );
    }
    this.#stats.unanswered++;
    this.#socket.release(datagram);
    this.#done();
  }

  #answer(incoming: Incoming, datagram: Datagram, payload: Uint8Array): void {
    const refusal = this.#judge(incoming, payload);
    if (refusal !== undefined) {
      withholding.get(this.#options.handler)?.();
      return this.#withhold(incoming, datagram, refusal);
    }
    const departure = this.#departing?.last();
    const test = this.#testOf(incoming, datagram, false);
    if (test === undefined && !this.#isSpread(incoming)) {
      return this.#send(datagram, payload, departure);
    }
    // A copy, since a handler may use its array again by then, and others may
    // be received into the datagram's.
    const bytes = payload.slice();
    this.#socket.release(datagram);
    if (test === undefined) {
      // It goes on taking a place among those at work, which bounds them.
      return this.#spread(() => this.#sendCopy(incoming, bytes, departure));
    }
    this.#kept++;
    const kept = { incoming, payload: bytes, isReturned: true, departure };
    this.#loops.keep(test, kept, bytes.length);
  }

  /** Whether an answer is to wait, so that not all of a group answer at once. */
  #isSpread({ localAddr }: Incoming): boolean {
    return this.#options.groupDelayMs > 0 && !this.#draining &&
      mayBeGroup(localAddr);
  }

  #spread(send: () => void): void {
    const { runtime, groupDelayMs } = this.#options;
    const delayMs = Math.random() * groupDelayMs;
    const cancel = runtime.after(delayMs, () => {
      this.#spreading.delete(send);
      send();
    });
    this.#spreading.set(send, cancel);
  }

  /** Waits no longer, since the server is about to close. */
  #endSpreading(): void {
    for (const [send, cancel] of this.#spreading) {
      cancel();
      send();
    }
    this.#spreading.clear();
  }

  /** Whether an answer may go out at all. */
  #judge(incoming: Incoming, payload: Uint8Array): Refusal | undefined {
    const { guard } = this.#options;
    const { remoteAddr, data, spent } = incoming;
    return guard?.admit(remoteAddr) ?? this.#judgeLink(incoming) ??
      guard?.permit(remoteAddr, data, payload, spent);
  }

  #judgeLink({ remoteAddr, localAddr }: Peers): Refusal | undefined {
    const { links } = this.#options;
    return links === undefined || !mayBeGroup(localAddr) ||
        links.has(remoteAddr.hostname)
      ? undefined
      : "offLink";
  }

  /** Whether it has to wait until it is known that the peer is in no loop. */
  #testOf(
    incoming: Incoming,
    datagram: Datagram,
    isOneOfMany: boolean,
  ): Test<Kept> | undefined {
    if (incoming.test !== undefined) return incoming.test ?? undefined;
    incoming.test = null;
    if (
      this.#options.guard === undefined || this.#draining ||
      this.#isNoLoop?.(datagram.data)
    ) return undefined;
    const { remoteAddr, receivedAt } = incoming;
    const test = this.#loops.test(remoteAddr, receivedAt, isOneOfMany);
    incoming.test = test ?? null;
    return test;
  }

  #sendKept({ incoming, payload, isReturned, departure }: Kept): void {
    if (!isReturned) {
      this.#pushBeside(incoming, payload);
      return;
    }
    this.#kept--;
    this.#sendCopy(incoming, payload, departure);
  }

  /** Sends an answer whose datagram has been handed back. */
  #sendCopy(
    incoming: Incoming,
    payload: Uint8Array,
    departure: ReplyDeparture | undefined,
  ): void {
    if (this.#closed) {
      this.#stats.dropped.closing++;
      return this.#done();
    }
    this.#atWork--;
    this.#unsent++;
    this.#unsentKept++;
    this.#stats.bytes.replied += payload.length;
    const { remoteAddr, localAddr } = incoming;
    departure?.complete?.(payload);
    this.#socket.send(payload, remoteAddr, localAddr).then(() => {
      this.#unsentKept--;
      this.onReplied(1);
    }, (error) => {
      this.#unsentKept--;
      this.onReplyError(error, remoteAddr, 1);
    });
  }

  #dropKept({ incoming, isReturned }: Kept): void {
    if (!isReturned) this.#stats.pushed.refused++;
    else {
      this.#kept--;
      this.#stats.refused.loop++;
    }
    this.#refused("loop", incoming);
    if (isReturned) this.#done();
  }

  #send(
    datagram: Datagram,
    payload: Uint8Array,
    departure: ReplyDeparture | undefined,
  ): void {
    if (this.#closed) {
      this.#stats.dropped.closing++;
      return this.#done();
    }
    this.#atWork--;
    this.#unsent++;
    this.#stats.bytes.replied += payload.length;
    this.#socket.reply(datagram, payload, departure);
  }

  /** Sends no answer, though the handler made one. */
  #withhold(incoming: Incoming, datagram: Datagram, reason: Refusal): void {
    this.#stats.refused[reason]++;
    this.#refused(reason, incoming);
    this.#socket.release(datagram);
    this.#done();
  }

  #refused(reason: Refusal, incoming: Incoming): void {
    const { onRefuse } = this.#options;
    if (onRefuse !== undefined) {
      return this.#call(() => onRefuse(reason, incoming), incoming);
    }
    this.#tellOnce(
      reason,
      `refused to answer ${formatAddress(incoming.remoteAddr)}: ${
        REFUSAL_WORDS[reason]
      }${REMEDIES[reason] ?? ""}`,
    );
  }

  #overloaded(incoming: Incoming): void {
    const { onOverload, maxInFlight } = this.#options;
    if (onOverload !== undefined) {
      return this.#call(() => onOverload(incoming), incoming);
    }
    this.#tellOnce(
      "overload",
      `dropped a datagram from ${formatAddress(incoming.remoteAddr)}, as ` +
        `${maxInFlight} are at work: answer faster, or raise maxInFlight`,
    );
  }

  /** Calls back; whatever goes wrong there ends here. */
  #call(callback: () => unknown, incoming: Incoming): void {
    try {
      const returned = callback();
      // An async function is no mistake, and what it rejects with is no crash.
      if (isPromiseLike(returned)) {
        Promise.resolve(returned).catch((error) =>
          this.#report("callback", error, incoming)
        );
      }
    } catch (error) {
      this.#report("callback", error, incoming);
    }
  }

  /** What `onError` makes of a handler's error; its own errors end here. */
  #handlerFailed(error: unknown, info: Incoming): Reply | Promise<Reply> {
    this.#stats.errors.handler++;
    return this.#report("handler", error, info);
  }

  #report(
    what: Failing,
    error: unknown,
    info?: Peer,
  ): Reply | Promise<Reply> {
    const { onError, quiet } = this.#options;
    if (onError === undefined) {
      if (!quiet) this.#warnOf(what, error, info);
      return;
    }
    try {
      const reply = onError(error, info);
      return isPromiseLike(reply)
        ? Promise.resolve(reply).catch(() => undefined)
        : reply;
    } catch {
      return undefined;
    }
  }

  #warnOf(what: Failing, error: unknown, info?: Peer): void {
    this.#warnings.say(`${what} ${nameOf(error)}`, () => {
      const peer = info === undefined
        ? ""
        : ` (${formatAddress(info.remoteAddr)})`;
      return `${FAILURES[what]}${peer}: ${describeError(error)}`;
    });
  }

  /** Tells what happened for the first time; from then on it is only counted. */
  #tellOnce(kind: string, text: string): void {
    if (this.#options.quiet || this.#told.has(kind)) return;
    this.#told.add(kind);
    this.#warn(`${text}. From now on these are only counted.`);
  }

  #warn(text: string): void {
    const { runtime } = this.#options;
    runtime.warn(`UDP server on ${formatAddress(this.addr)}: ${text}`);
  }

  /** A datagram gets no reply. */
  #done(): void {
    this.#atWork--;
    this.#closeIfDrained();
  }

  #closeIfDrained(): void {
    if (
      this.#draining &&
      this.#atWork + this.#unsent + this.#outbox.pending === 0
    ) this.#close();
  }

  #close(): void {
    if (this.#closed) return;
    this.#lastDrops = this.#socket.kernelDrops();
    this.#closed = true;
    this.#outbox.close();
    this.#socket.close();
    // What their handlers still make of them is not sent.
    for (const incoming of this.#waiting.keys()) {
      this.#giveUp(incoming);
      this.#stats.dropped.closing++;
      this.#atWork--;
    }
  }
}

/** A datagram that a server works on, as its handler sees it. */
class Incoming implements DatagramInfo {
  readonly remoteAddr: UdpAddress;
  readonly localAddr: UdpAddress;
  readonly receivedAt: number;
  readonly arrivedAt: number | undefined;
  readonly ttl: number | undefined;
  readonly trafficClass: number | undefined;
  readonly #server: Server;
  readonly #data: Uint8Array;
  readonly #bytes: number;
  /** None once the handler has settled or is given up. */
  #datagram: Datagram | undefined;
  /** The bytes of its answers so far, with their headers. */
  #spent = 0;
  /** Which test its answers have to wait for; null for none, once known. */
  #test: Test<Kept> | null | undefined;

  constructor(server: Server, datagram: Datagram, data: Uint8Array) {
    this.#server = server;
    this.#datagram = datagram;
    this.#data = data;
    this.#bytes = data.length;
    this.remoteAddr = datagram.remoteAddr;
    this.localAddr = datagram.localAddr;
    this.receivedAt = datagram.receivedAt;
    this.arrivedAt = datagram.arrivedAt;
    this.ttl = datagram.ttl;
    this.trafficClass = datagram.trafficClass;
  }

  get maxReplyBytes(): number {
    return this.isSettled
      ? 0
      : this.#server.maxReplyBytes(this, this.#bytes, this.#spent);
  }

  /** A function of its own, so that it can be taken out of the object. */
  get reply(): (payload: Uint8Array | string) => boolean {
    return (payload) => {
      if (this.#datagram === undefined) {
        throw new TypeError("Cannot reply as the handler has settled");
      }
      const bytes = payloadOf(payload);
      return this.#server.pushReply(this, this.#datagram, bytes);
    };
  }

  get data(): Uint8Array {
    return this.#data;
  }

  get spent(): number {
    return this.#spent;
  }

  spend(bytes: number): void {
    this.#spent += bytes + headersOf(this.remoteAddr);
  }

  get test(): Test<Kept> | null | undefined {
    return this.#test;
  }

  set test(test: Test<Kept> | null | undefined) {
    this.#test = test;
  }

  get isSettled(): boolean {
    return this.#datagram === undefined;
  }

  /** The handler has no more to say; gives the datagram, the first time. */
  settle(): Datagram | undefined {
    const datagram = this.#datagram;
    this.#datagram = undefined;
    return datagram;
  }
}

/** An answer that is kept; one that its handler returned, or one beside it. */
interface Kept {
  incoming: Incoming;
  payload: Uint8Array;
  isReturned: boolean;
  departure?: ReplyDeparture | undefined;
}

/** What a server has counted that has just begun. */
export function noStats(): ServerStats {
  return {
    received: 0,
    replied: 0,
    unanswered: 0,
    dropped: { tooLong: 0, overload: 0, closing: 0 },
    kernelDrops: undefined,
    refused: Object.fromEntries(
      REFUSALS.map((reason) => [reason, 0]),
    ) as Record<Refusal, number>,
    pushed: { sent: 0, refused: 0, dropped: 0, failed: 0 },
    bytes: { received: 0, replied: 0 },
    inFlight: 0,
    errors: { handler: 0, send: 0, receive: 0 },
  };
}

/** Whether a value is to be awaited, which never throws: `then` may. */
function isPromiseLike(value: unknown): value is PromiseLike<Reply> {
  try {
    return typeof (value as PromiseLike<Reply> | null)?.then === "function";
  } catch {
    return true;
  }
}

/** An error of this library's, whose stack says nothing to a handler's author. */
function oneLine<E extends Error>(error: E): E {
  error.stack = `${error.name}: ${error.message}`;
  return error;
}

function nameOf(error: unknown): string {
  try {
    return error instanceof Error ? error.name : typeof error;
  } catch {
    return "unknown";
  }
}

type Peer = Pick<DatagramInfo, "remoteAddr">;
type Peers = Pick<DatagramInfo, "remoteAddr" | "localAddr">;

type Failing = "handler" | "send" | "receive" | "notice" | "callback";

const FAILURES: Record<Failing, string> = {
  handler: "the handler failed",
  send: "a datagram could not be sent",
  receive: "a receive failed",
  notice: "notice",
  callback: "a callback failed",
};

const REMEDIES: Partial<Record<Refusal, string>> = {
  amplification:
    "; info.maxReplyBytes says how large it may be, guard.trusted or " +
    "guard.maxAmplification allow more",
  rate: "; guard.trusted or guard.rateLimit allow more",
  offLink: "; guard.answerOffLink allows it",
};

/** How many answers beside the returned ones may wait for a random time. */
const MAX_SPREADING = 1024;

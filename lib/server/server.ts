/**
 * A running server: the way of each datagram to the handler, and of its answers
 * to the socket.
 *
 * @module
 */
import type { UdpAddress } from "../address.ts";
import { Memberships } from "../socket/memberships.ts";
import { Links } from "../socket/multicast.ts";
import { Gates, type Verdict } from "./gates.ts";
import {
  type HandlerTraits,
  type Reply,
  replyBytes,
  traitsOf,
} from "./handler.ts";
import { type AnsweringServer, Incoming } from "./incoming.ts";
import { LoopProbe } from "./loop_probe.ts";
import {
  listOf,
  Outbox,
  type PushOptions,
  pushOptions,
} from "../socket/outbox.ts";
import type { ServerParts } from "./server_parts.ts";
import { noStats, type ServerStats, type UdpServer } from "./udp_server.ts";
import { oneLine } from "../base/errors.ts";
import { type PayloadInit, payloadOf } from "../base/payload.ts";
import { isPromiseLike, Reports } from "./reports.ts";
import {
  copyOf,
  type Datagram,
  type DatagramSocket,
  type Receiver,
  type ReplyOptions,
} from "../socket/contract.ts";

/** {@linkcode UdpServer}, on an open socket. */
export class Server implements UdpServer, Receiver, AnsweringServer {
  readonly addr: UdpAddress;
  readonly finished: Promise<void>;
  readonly #socket: DatagramSocket;
  readonly #options: ServerParts;
  readonly #gates: Gates;
  readonly #traits: HandlerTraits;
  readonly #lends: boolean;
  readonly #stats = noStats();
  readonly #reports: Reports;
  /** Datagrams with an asynchronous handler, and its deadline. */
  readonly #waiting = new Map<Incoming, number>();
  /** Functions that send each held answer, and that cancel its timer. */
  readonly #held = new Map<() => void, () => void>();
  #cancelCheck: (() => void) | undefined;
  /** Datagrams whose handler has not settled, or whose answer is held. */
  #atWork = 0;
  /** Replies that the system has neither taken nor refused yet. */
  #unsent = 0;
  /** Sends all that is no returned reply. */
  readonly #outbox: Outbox;
  /** Whether a handler is called, which has not returned. */
  #isHandling = false;
  #shuttingDown: Promise<void> | undefined;
  readonly #memberships: Memberships;
  #draining = false;
  #closed = false;

  constructor(socket: DatagramSocket, options: ServerParts) {
    const { runtime, handler } = options;
    this.#socket = socket;
    this.#outbox = new Outbox(
      socket,
      (error) => this.#reports.error("send", error),
      () => this.#closeIfDrained(),
    );
    this.#options = options;
    this.#traits = traitsOf(handler);
    this.#lends = options.lend || this.#traits.borrows === true;
    if (this.#traits.departure) this.#traits.departure.isAsked = true;
    this.#gates = new Gates({
      guard: options.guard,
      links: options.links,
      loops: options.loops
        ? new LoopProbe(socket.addr, runtime, (error) => this.onNotice(error))
        : undefined,
      traits: this.#traits,
      holdsGroups: options.groupDelayMs > 0,
    });
    this.addr = socket.addr;
    this.#reports = new Reports(socket.addr, options, runtime);
    this.#memberships = new Memberships(
      socket,
      options.groups,
      runtime,
      (error) => this.onNotice(error as Error),
    );
    const close = () => this.#close();
    options.signal?.addEventListener("abort", close);
    this.finished = socket.start(this).finally(() => {
      this.#closed = true;
      this.#outbox.close();
      this.#memberships.close();
      this.#cancelCheck?.();
      this.#gates.drain();
      this.#sendHeld();
      options.signal?.removeEventListener("abort", close);
      options.onClosed();
    });
    // `onListen` may have aborted it, before the listener was added.
    if (options.signal?.aborted) close();
  }

  send(
    payload: PayloadInit,
    to: UdpAddress | string,
    options?: PushOptions,
  ): Promise<void> {
    return this.#outbox.send({ payload, to }, options);
  }

  async sendMany(
    payload: PayloadInit,
    addresses: Iterable<UdpAddress | string>,
    options?: PushOptions,
  ): Promise<number> {
    const common = {
      payload: payloadOf(payload, "sendMany()"),
      ...pushOptions("sendMany", options),
    };
    const all = listOf(addresses, "sendMany() takes a list of addresses");
    return await this.#outbox.sendMany(all.map((to) => ({ ...common, to })));
  }

  async join(group: string): Promise<void> {
    const { answersLinksOnly, runtime } = this.#options;
    if (answersLinksOnly) this.#gates.links ??= new Links(runtime);
    await this.#memberships.join(group);
  }

  leave(group: string): Promise<void> {
    return this.#memberships.leave(group);
  }

  shutdown(): Promise<void> {
    this.#shuttingDown ??= this.#shutDown()
      .catch((error) => this.onNotice(error));
    // It waits for the handler: if that waited for it, neither would end.
    return this.#isHandling ? Promise.resolve() : this.finished;
  }

  async #shutDown(): Promise<void> {
    if (this.#socket.drain !== undefined) await this.#socket.drain();
    this.#drain();
    this.#sendHeld();
    // Closing first would lose the replies: Deno cannot stop a receive in any
    // other way than by closing the socket.
    this.#closeIfDrained();
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.shutdown();
  }

  stats(): ServerStats {
    const stats = structuredClone(this.#stats);
    const { sent, unsent } = this.#outbox;
    stats.pushed = { ...stats.pushed, sent, unsent };
    stats.inFlight = this.#atWork + this.#unsent;
    stats.kernelDrops = this.#socket.kernelDrops();
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
      Incoming.settle(dropped);
      this.#reports.overloaded(dropped);
      return this.#socket.release(datagram);
    }
    // A view of its own: a handler may define properties on what it borrows.
    const data = this.#options.lend
      ? datagram.data.subarray()
      : this.#lends
      ? datagram.data
      : copyOf(datagram.data);
    const incoming = new Incoming(this, datagram, data);
    this.#atWork++;
    let reply: Reply | Promise<Reply>;
    this.#isHandling = true;
    try {
      reply = this.#options.handler(data, incoming);
    } catch (error) {
      reply = this.#handlerFailed(error, incoming);
    } finally {
      this.#isHandling = false;
    }
    if (reply !== data && isPromiseLike(reply)) {
      this.#whenSettled(incoming, reply)
        .catch((error) => this.onNotice(error));
    } else this.#respond(incoming, Incoming.settle(incoming)!, reply);
  }

  isFull(): boolean {
    const unsent = this.#socket.copiesReplies ? 0 : this.#unsent;
    return this.#atWork + unsent >= this.#options.maxInFlight;
  }

  onTooLong(): void {
    this.#stats.received++;
    this.#stats.dropped.tooLong++;
    this.#reports.once(
      "tooLong",
      "dropped a datagram longer than maxDatagramBytes",
    );
  }

  onReplied(count: number, bytes: number): void {
    this.#stats.replied += count;
    this.#stats.bytes.replied += bytes;
    if (this.#stats.replied >= this.#options.maxReplies) this.#drain();
    this.#unsent -= count;
    this.#closeIfDrained();
  }

  onReplyError(error: unknown, remoteAddr: UdpAddress, count: number): void {
    this.#stats.errors.send += count;
    this.#reports.error("send", error, { remoteAddr }, remoteAddr);
    this.#unsent -= count;
    this.#closeIfDrained();
  }

  onNotice(notice: Error): void {
    this.#reports.error("notice", notice);
  }

  onReceiveError(error: unknown): void {
    this.#stats.errors.receive++;
    this.#reports.error("receive", error);
  }

  maxReplyBytes(incoming: Incoming): number {
    return this.#gates.maxReplyBytes(incoming);
  }

  pushReply(incoming: Incoming, payload: Uint8Array): boolean {
    const verdict = this.#gates.judge(incoming, payload, true);
    if (verdict !== "send" && verdict !== "hold") {
      this.#stats.pushed.refused++;
      this.#reports.refused(verdict, incoming);
      return false;
    }
    if (this.#outbox.isFull || this.#held.size >= MAX_HELD) {
      this.#outbox.unsent++;
      return false;
    }
    Incoming.spend(incoming, payload.length);
    // The handler may use its array again; a socket that copies needs no copy.
    const isCopied = verdict === "send" && this.#socket.copiesReplies;
    const bytes = isCopied ? payload : new Uint8Array(payload);
    const leave = () => this.#leave(incoming, bytes, undefined, "beside");
    if (verdict === "hold") this.#hold(leave);
    else leave();
    return true;
  }

  async #whenSettled(
    incoming: Incoming,
    settled: PromiseLike<Reply>,
  ): Promise<void> {
    const { runtime, handlerTimeoutMs } = this.#options;
    // The handler itself may have closed the server.
    if (this.#closed) this.#lose(incoming);
    else {
      this.#waiting.set(incoming, runtime.now() + handlerTimeoutMs);
      this.#cancelCheck ??= runtime.afterUnref(
        handlerTimeoutMs,
        () => this.#checkAll(),
      );
    }
    let reply: unknown;
    try {
      reply = await settled;
    } catch (error) {
      if (Incoming.isSettled(incoming)) return;
      reply = await this.#handlerFailed(error, incoming);
    }
    // A handler that timed out in the meantime has none.
    const datagram = Incoming.settle(incoming);
    this.#waiting.delete(incoming);
    if (datagram !== undefined) this.#respond(incoming, datagram, reply);
  }

  /** Times out handlers that take too long. One timer serves them all. */
  #checkAll(): void {
    const { runtime, handlerTimeoutMs } = this.#options;
    this.#cancelCheck = undefined;
    for (const [incoming, deadline] of this.#waiting) {
      const leftMs = deadline - runtime.now();
      if (leftMs > 0) {
        this.#cancelCheck = runtime.afterUnref(leftMs, () => this.#checkAll());
        return;
      }
      this.#abandon(incoming);
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
   * Abandons a handler that timed out. It may still use a borrowed buffer, which
   * is replaced; its promise, which may never settle, keeps neither.
   */
  #abandon(incoming: Incoming): void {
    const datagram = Incoming.settle(incoming)!;
    this.#waiting.delete(incoming);
    if (this.#lends) this.#socket.abandon(datagram);
    else this.#socket.release(datagram);
  }

  /** Sends the value that a handler returned, if it is a reply. */
  #respond(incoming: Incoming, datagram: Datagram, reply: unknown): void {
    let payload: Uint8Array | undefined;
    let verdict: Verdict | undefined;
    try {
      const [data, size] = [Incoming.data(incoming), Incoming.size(incoming)];
      // An echo needs no look at its value, unless the array was transferred.
      const isEcho = reply === data && size > 0 && data.length === size;
      const echo = this.#options.lend ? datagram.data : data;
      payload = isEcho ? echo : replyBytes(reply);
      verdict = payload && this.#gates.judge(incoming, payload, false);
    } catch (error) {
      this.#handlerFailed(error, incoming);
    }
    if (payload === undefined || verdict === undefined) {
      this.#stats.unanswered++;
      this.#socket.release(datagram);
      return this.#done();
    }
    if (verdict === "send") {
      const options = this.#traits.departure?.last();
      return this.#leave(incoming, payload, options, datagram);
    }
    if (verdict === "hold") {
      // A copy: a handler may use its array again, and the socket the datagram's.
      const bytes = new Uint8Array(payload);
      const options = this.#traits.departure?.last();
      this.#socket.release(datagram);
      // A held answer counts in #atWork, whose limit bounds held answers.
      return this.#hold(() => this.#leave(incoming, bytes, options));
    }
    this.#traits.onRefused?.();
    this.#stats.refused[verdict]++;
    this.#reports.refused(verdict, incoming);
    this.#socket.release(datagram);
    this.#done();
  }

  /**
   * Hands an answer to the system: a returned one with its datagram, or as a copy
   * that was held, and one beside it by the outbox, which bounds and counts it.
   */
  #leave(
    incoming: Incoming,
    payload: Uint8Array,
    options: ReplyOptions | undefined,
    datagram?: Datagram | "beside",
  ): void {
    const remoteAddr = Incoming.source(incoming);
    const localAddr = Incoming.destination(incoming);
    if (datagram === "beside") {
      this.#outbox.trySend(payload, remoteAddr, localAddr).then((failure) => {
        if (failure === undefined || this.#closed) return;
        this.#reports.error("send", failure.error, incoming, remoteAddr);
      }).catch((error) => this.onNotice(error));
      return;
    }
    if (this.#closed) {
      this.#stats.dropped.closing++;
      if (datagram !== undefined) this.#socket.release(datagram);
      return this.#done();
    }
    this.#atWork--;
    this.#unsent++;
    if (datagram !== undefined) {
      return this.#socket.reply(datagram, payload, options);
    }
    options?.complete?.(payload);
    this.#socket.send(payload, remoteAddr, localAddr).then(
      () => this.onReplied(1, payload.length),
      (error) => this.onReplyError(error, remoteAddr, 1),
    );
  }

  /** Holds an answer for a random time, so that not all of a group answer at once. */
  #hold(send: () => void): void {
    const { runtime, groupDelayMs } = this.#options;
    const cancel = runtime.after(runtime.random() * groupDelayMs, () => {
      this.#held.delete(send);
      send();
    });
    this.#held.set(send, cancel);
  }

  /** Sends all held answers, since the server is about to close. */
  #sendHeld(): void {
    for (const [send, cancel] of this.#held) {
      cancel();
      send();
    }
    this.#held.clear();
  }

  /** Counts and reports a handler's error; returns the reply of `onError`. */
  #handlerFailed(error: unknown, info: Incoming): Reply | Promise<Reply> {
    this.#stats.errors.handler++;
    return this.#reports.error("handler", error, info, Incoming.source(info));
  }

  /** Takes no more datagrams, holds no answers and sends no probes. */
  #drain(): void {
    this.#draining = true;
    this.#gates.drain();
  }

  /** Ends work on a datagram without a reply. */
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
    this.#closed = true;
    this.#outbox.close();
    this.#socket.close();
    for (const incoming of this.#waiting.keys()) this.#lose(incoming);
  }

  /** Drops a datagram at the close; a later reply of its handler is not sent. */
  #lose(incoming: Incoming): void {
    this.#abandon(incoming);
    this.#stats.dropped.closing++;
    this.#atWork--;
  }
}

/** The largest number of held answers beside the returned ones. */
const MAX_HELD = 1024;

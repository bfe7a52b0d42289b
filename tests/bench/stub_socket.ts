/** Sockets without a network, for the library's own work on a datagram. */
import type { DatagramSocket, Receiver } from "../../lib/socket/contract.ts";
import type { Datagram } from "../../lib/socket/datagram.ts";
import {
  MMSGHDR_BYTES,
  MMSGHDR_CONTROL_LENGTH,
  MMSGHDR_LENGTH,
  MMSGHDR_NAME_LENGTH,
} from "../../lib/socket/linux/layout.ts";
import type { Memory } from "../../lib/socket/linux/libc.ts";
import { BATCH } from "../../lib/socket/linux/messages.ts";
import { denoRuntime, type Runtime } from "../../lib/socket/runtime.ts";
import { FakeLibc } from "../socket/linux/fake_libc.ts";

/** Delivers the datagrams of a benchmark, and takes all that is sent. */
export class StubSocket implements DatagramSocket {
  readonly addr = Object.freeze({ hostname: "198.51.100.1", port: 20001 });
  readonly reportsClosedPort = false;
  readonly copiesReplies = false;
  /** The runtime that opens this socket alone, and has no timers. */
  readonly runtime: Runtime = {
    ...denoRuntime,
    open: () => this,
    after: () => () => {},
    afterUnref: () => () => {},
  };
  receiver: Receiver = { onDatagram: () => {} };
  readonly #finished = Promise.withResolvers<void>();

  start(receiver: Receiver): Promise<void> {
    this.receiver = receiver;
    return this.#finished.promise;
  }

  send(): Promise<void> {
    return DONE;
  }

  post(): void {}

  reply(_: Datagram, payload: Uint8Array): void {
    this.receiver.onReplied?.(1, payload.length);
  }

  setMembership(): Promise<void> {
    return DONE;
  }

  release(): void {}

  abandon(): void {}

  kernelDrops(): undefined {}

  close(): void {
    this.#finished.resolve();
  }

  ref(): void {}

  unref(): void {}
}

const DONE = Promise.resolve();

/** A socket of Deno's that allocates nothing: datagrams arrive until `run()` ends. */
export class StubConn {
  readonly addr: Deno.NetAddr = { ...ADDRESS, port: 20001 };
  readonly #received: Promise<[Uint8Array, Deno.Addr]>;
  #left = 0;
  #ended = () => {};
  #begin = (_: [Uint8Array, Deno.Addr]) => {};

  constructor(payload: Uint8Array) {
    this.#received = Promise.resolve([payload, { ...ADDRESS, port: 4000 }]);
  }

  /** Has a number of datagrams arrive, and waits for the receive behind them. */
  run(count: number): Promise<void> {
    this.#left = count - 1;
    this.#received.then(this.#begin);
    return new Promise((resolve) => this.#ended = resolve);
  }

  receive(): Promise<[Uint8Array, Deno.Addr]> {
    if (this.#left-- > 0) return this.#received;
    this.#ended();
    return new Promise((resolve) => this.#begin = resolve);
  }

  send(): Promise<number> {
    return SENT;
  }

  close(): void {}

  ref(): void {}

  unref(): void {}
}

const ADDRESS = { transport: "udp", hostname: "127.0.0.1" } as const;
const SENT = Promise.resolve(16);

/**
 * A C library whose kernel has the datagrams of the first batch arrive again, in
 * the same memory.
 */
export class StubLibc extends FakeLibc {
  #left = 0;
  #ended = () => {};

  #isFilled = false;

  /** Has a number of datagrams arrive, one first, and then in batches. */
  run(count: number): Promise<void> {
    const first = this.#isFilled ? 1 : BATCH;
    this.#isFilled = true;
    this.#left = count - first;
    for (let i = 0; i < first; i++) {
      this.arrive({ payloads: ["A".repeat(16)] });
    }
    return new Promise((resolve) => this.#ended = resolve);
  }

  override recvmmsg(
    fd: number,
    headers: Memory,
    count: number,
    flags: number,
  ): number {
    const first = super.recvmmsg(fd, headers, count, flags);
    if (first >= 0) return first;
    if (this.#left <= 0) {
      this.#ended();
      return first;
    }
    const words = headers.u32;
    for (let at = 0; at < BATCH * MMSGHDR_BYTES / 4; at += MMSGHDR_BYTES / 4) {
      words[at + MMSGHDR_LENGTH / 4] = 16;
      words[at + MMSGHDR_NAME_LENGTH / 4] = 16;
      words[at + MMSGHDR_CONTROL_LENGTH / 4] = 0;
    }
    this.#left -= BATCH;
    return BATCH;
  }

  override sendmmsg(
    _fd: number,
    _headers: Memory,
    _offset: number,
    count: number,
  ): number {
    return count;
  }
}

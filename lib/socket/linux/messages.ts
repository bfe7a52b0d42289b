/**
 * The messages of one recvmmsg or sendmmsg: headers, addresses, control messages
 * and pointers to payloads, in memory that is laid out once and used again.
 *
 * @module
 */
import * as sys from "./layout.ts";
import type { Libc, Memory } from "./libc.ts";

/** The most messages of one call. */
export const BATCH = 64;

/** Messages of one buffer each. */
export class Messages {
  readonly headers: Memory;
  protected readonly libc: Libc;
  protected readonly controls: Memory;
  readonly names: Memory;
  readonly #iovecs: Memory;

  /** Lays out {@linkcode BATCH} messages, each with room for control messages. */
  constructor(libc: Libc, controlBytes: number) {
    this.libc = libc;
    this.headers = libc.allocate(BATCH * sys.MMSGHDR_BYTES);
    this.names = libc.allocate(BATCH * sys.NAME_BYTES);
    this.#iovecs = libc.allocate(BATCH * sys.IOVEC_BYTES);
    this.controls = libc.allocate(BATCH * controlBytes);
    for (let i = 0; i < BATCH; i++) {
      const iovec = this.#iovecs.address + i * sys.IOVEC_BYTES;
      const controls = this.controls.address + i * controlBytes;
      this.setPointer(i, sys.MMSGHDR_NAME, this.namePointer(i));
      this.setPointer(i, sys.MMSGHDR_IOVEC, iovec);
      this.setWord(i, sys.MMSGHDR_IOVEC_COUNT, 1);
      this.setPointer(i, sys.MMSGHDR_CONTROL, controls);
    }
  }

  /** The pointer to the place for a message's address. */
  namePointer(message: number): number {
    return this.names.address + message * sys.NAME_BYTES;
  }

  /** A word of a message's header, by its offset in bytes. */
  protected word(message: number, offset: number): number {
    return this.headers.u32[(message * sys.MMSGHDR_BYTES + offset) / 4]!;
  }

  protected setWord(message: number, offset: number, value: number): void {
    this.headers.u32[(message * sys.MMSGHDR_BYTES + offset) / 4] = value;
  }

  protected setPointer(message: number, offset: number, address: number): void {
    const at = message * sys.MMSGHDR_BYTES + offset;
    sys.setPointer(this.headers.u32, at, address);
  }

  protected setBuffer(message: number, address: number, bytes: number): void {
    const at = message * sys.IOVEC_BYTES;
    sys.setPointer(this.#iovecs.u32, at, address);
    this.#iovecs.u32[(at + sys.IOVEC_LENGTH) / 4] = bytes;
  }

  /** Makes a message's buffer longer. */
  protected extendBuffer(message: number, bytes: number): void {
    const at = message * sys.IOVEC_BYTES;
    this.#iovecs.u32[(at + sys.IOVEC_LENGTH) / 4]! += bytes;
  }
}

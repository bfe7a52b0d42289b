/**
 * When the kernel gave datagrams to the network: software time stamps, out of the
 * error queue of a socket (SO_TIMESTAMPING).
 *
 * @module
 */
import { type SocketDescriptor, trySet } from "./descriptor.ts";
import { extendedErrorAt, takeControl } from "./error_queue.ts";
import {
  findControl,
  SO_EE_ORIGIN_TIMESTAMPING,
  SO_TIMESTAMPING,
  SOF_TIMESTAMPING_OPT_ID,
  SOF_TIMESTAMPING_OPT_TSONLY,
  SOF_TIMESTAMPING_SOFTWARE,
  SOF_TIMESTAMPING_TX_SOFTWARE,
  SOL_SOCKET,
  stampMs,
} from "./layout.ts";
import type { Libc } from "./libc.ts";

/** When a datagram was sent. */
export interface SendStamp {
  /** Which one, by the order of sending, from 0. */
  index: number;
  /** By the wall clock, in milliseconds. */
  stampMs: number;
}

/** Has the kernel stamp what is sent; returns whether it does. */
export function keepStamps(libc: Libc, { fd }: SocketDescriptor): boolean {
  const flags = SOF_TIMESTAMPING_TX_SOFTWARE | SOF_TIMESTAMPING_SOFTWARE |
    SOF_TIMESTAMPING_OPT_ID | SOF_TIMESTAMPING_OPT_TSONLY;
  return trySet(libc, fd, SOL_SOCKET, SO_TIMESTAMPING, flags);
}

/** Takes all stamps that wait in the queue; what else does is dropped. */
export function* takeStamps(libc: Libc, fd: number): Generator<SendStamp> {
  for (let i = 0; i < MAX_STAMPS; i++) {
    const control = takeControl(libc, fd);
    if (control === undefined) return;
    const stamp = stampIn(control);
    if (stamp !== undefined) yield stamp;
  }
}

/** The stamp that control messages tell of; undefined if there is none. */
export function stampIn(control: Uint8Array): SendStamp | undefined {
  const time = findControl(control, SOL_SOCKET, SO_TIMESTAMPING);
  const report = extendedErrorAt(control);
  if (time === undefined || report === undefined) return undefined;
  const view = new DataView(control.buffer, control.byteOffset);
  // struct sock_extended_err: its origin, and the number in its data.
  if (view.getUint8(report + 4) !== SO_EE_ORIGIN_TIMESTAMPING) return undefined;
  const words = Uint32Array.from(
    { length: 4 },
    (_, i) => view.getUint32(time + 4 * i, true),
  );
  return {
    index: view.getUint32(report + 12, true),
    stampMs: stampMs(words, 0),
  };
}

/** In one look. */
const MAX_STAMPS = 1024;

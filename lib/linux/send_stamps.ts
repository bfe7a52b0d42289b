/**
 * When the kernel gave datagrams to the network: software time stamps, out of the
 * error queue of a socket (SO_TIMESTAMPING).
 *
 * @module
 */
import { type SocketDescriptor, trySet } from "./descriptor.ts";
import {
  findControl,
  HEADER_BYTES,
  HEADER_CONTROL,
  HEADER_CONTROL_LENGTH,
  IP_RECVERR,
  IPPROTO_IP,
  IPPROTO_IPV6,
  IPV6_RECVERR,
  MSG_DONTWAIT,
  MSG_ERRQUEUE,
  setPointer,
  SO_EE_ORIGIN_TIMESTAMPING,
  SO_TIMESTAMPING,
  SOF_TIMESTAMPING_OPT_ID,
  SOF_TIMESTAMPING_OPT_TSONLY,
  SOF_TIMESTAMPING_SOFTWARE,
  SOF_TIMESTAMPING_TX_SOFTWARE,
  SOL_SOCKET,
  stampMs,
} from "./layout.ts";
import type { Libc, Memory } from "./libc.ts";

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
  const { header, control } = scratchOf(libc);
  for (let i = 0; i < MAX_STAMPS; i++) {
    header.u32.fill(0);
    setPointer(header.u32, HEADER_CONTROL, control.address);
    header.u32[HEADER_CONTROL_LENGTH / 4] = CONTROL_BYTES;
    const flags = MSG_ERRQUEUE | MSG_DONTWAIT;
    if (libc.recvmmsg(fd, header, 1, flags) < 1) return;
    const length = header.u32[HEADER_CONTROL_LENGTH / 4]!;
    const stamp = stampIn(control.u8.subarray(0, length));
    if (stamp !== undefined) yield stamp;
  }
}

/** The stamp that control messages tell of; undefined if there is none. */
export function stampIn(control: Uint8Array): SendStamp | undefined {
  const time = findControl(control, SOL_SOCKET, SO_TIMESTAMPING);
  const told = findControl(control, IPPROTO_IP, IP_RECVERR) ??
    findControl(control, IPPROTO_IPV6, IPV6_RECVERR);
  if (time === undefined || told === undefined) return undefined;
  const view = new DataView(control.buffer, control.byteOffset);
  // struct sock_extended_err: its origin, and the number in its data.
  if (view.getUint8(told + 4) !== SO_EE_ORIGIN_TIMESTAMPING) return undefined;
  const words = Uint32Array.from(
    { length: 4 },
    (_, i) => view.getUint32(time + 4 * i, true),
  );
  return { index: view.getUint32(told + 12, true), stampMs: stampMs(words, 0) };
}

interface Scratch {
  header: Memory;
  control: Memory;
}

const scratches = new WeakMap<Libc, Scratch>();

function scratchOf(libc: Libc): Scratch {
  let scratch = scratches.get(libc);
  if (scratch === undefined) {
    scratch = {
      header: libc.allocate(HEADER_BYTES),
      control: libc.allocate(CONTROL_BYTES),
    };
    scratches.set(libc, scratch);
  }
  return scratch;
}

/** Three times, an error and an address, and room to spare. */
const CONTROL_BYTES = 256;
/** In one look. */
const MAX_STAMPS = 1024;

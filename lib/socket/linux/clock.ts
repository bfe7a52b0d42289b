/**
 * The system's own estimate of its clock: whether it is synchronized, and the
 * largest error.
 *
 * @module
 */
import type { ClockState } from "../../base/wall_clock.ts";
import * as sys from "./layout.ts";
import { type Libc, libcMissing, loadLibc, type Memory } from "./libc.ts";

/** The state of the wall clock; undefined where it cannot be known. */
export function clockState(): ClockState | undefined {
  if (libcMissing() !== undefined) return undefined;
  return clockStateOf(loadLibc());
}

/** The state of the wall clock, by a C library. */
export function clockStateOf(libc: Libc): ClockState | undefined {
  timex ??= libc.allocate(sys.TIMEX_BYTES);
  timex.u8.fill(0);
  const state = libc.adjtimex(timex);
  if (state < 0) return undefined;
  const view = new DataView(timex.u8.buffer, timex.u8.byteOffset);
  const maxErrorUs = Number(view.getBigInt64(sys.TIMEX_MAX_ERROR, true));
  return {
    synchronized: state !== TIME_ERROR,
    maxErrorMs: maxErrorUs / 1000,
  };
}

let timex: Memory | undefined;
/** The clock is not synchronized. */
const TIME_ERROR = 5;

/**
 * The system's own estimate of its clock: whether it is synchronized, and the
 * largest error.
 *
 * @module
 */
import type { ClockState } from "../../base/wall_clock.ts";
import * as sys from "./layout.ts";
import { type Libc, libcMissing, loadLibc } from "./libc.ts";

/** The state of the wall clock; undefined where it cannot be known. */
export function clockState(): ClockState | undefined {
  return libcMissing() === undefined ? clockStateOf(loadLibc()) : undefined;
}

/** The state of the wall clock, by a C library. */
export function clockStateOf(libc: Libc): ClockState | undefined {
  const timex = libc.allocate(sys.TIMEX_BYTES);
  const state = libc.adjtimex(timex);
  if (state < 0) return undefined;
  const view = new DataView(timex.u8.buffer);
  const maxErrorUs = Number(view.getBigInt64(sys.TIMEX_MAX_ERROR, true));
  return {
    synchronized: state !== TIME_ERROR,
    maxErrorMs: maxErrorUs / 1000,
  };
}

/** The clock is not synchronized. */
const TIME_ERROR = 5;

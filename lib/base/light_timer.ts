/**
 * A timer for programs that should start fast.
 *
 * @module
 */

/**
 * Calls back once, after `ms` milliseconds; returns a function that cancels. Deno
 * loads its `setTimeout` at the first call, for longer than a request on loopback
 * takes; this timer needs no such code. It does not keep the process alive, and
 * uses memory until its time, even when cancelled: for few timers.
 */
export function lightTimer(ms: number, callback: () => void): () => void {
  const signal = AbortSignal.timeout(ms);
  signal.onabort = callback;
  return () => {
    signal.onabort = null;
  };
}

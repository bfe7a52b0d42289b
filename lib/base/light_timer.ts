/**
 * A timer for programs that should start fast.
 *
 * @module
 */

/**
 * Calls back once, after `ms` milliseconds; returns a function that cancels. Deno
 * loads its `setTimeout` at the first call, for longer than a request on loopback
 * takes; this timer is V8's own. It does not keep the process alive, and takes some
 * memory until its time, even when cancelled: for few timers.
 */
export function lightTimer(ms: number, callback: () => void): () => void {
  const cell = new Int32Array(new SharedArrayBuffer(4));
  // A wait of no time would not be asynchronous.
  const wait = Atomics.waitAsync(cell, 0, WAITING, Math.max(ms, MIN_MS));
  Promise.resolve(wait.value)
    .then(() => cell[0] === WAITING && callback())
    // As an error of a timer: it ends the process.
    .catch(reportError);
  return () => {
    cell[0] = CANCELLED;
    Atomics.notify(cell, 0);
  };
}

const WAITING = 0;
const CANCELLED = 1;
const MIN_MS = 0.001;

/**
 * Probes a peer for a loop: a copy of an answer leaves from another port. A
 * client ignores it, since its source is not the server; a peer that replies to
 * it replies to any answer, and is part of a loop.
 *
 * @module
 */
import {
  formatAddress,
  isMulticast,
  type UdpAddress,
  withoutZone,
} from "../address.ts";
import { errorMessage } from "../base/errors.ts";
import { MAX_PAYLOAD } from "../socket/contract.ts";
import type { Runtime } from "../socket/runtime.ts";
import { LoopWatch } from "./loop_watch.ts";

/** Sends the probes of one server. */
export class LoopProbe {
  readonly #watch = new LoopWatch();
  readonly #addr: UdpAddress;
  readonly #runtime: Runtime;
  #onImpossible: (error: Error) => void;
  /** Open probes, and how each is closed. */
  readonly #open = new Set<() => void>();
  #probedAt = -Infinity;
  /** Whether any peer has been in a loop: most servers never meet one. */
  #hasFound = false;
  #isClosed = false;

  /** `onImpossible` is called the first time that a probe cannot be sent. */
  constructor(
    addr: UdpAddress,
    runtime: Runtime,
    onImpossible: (error: Error) => void,
  ) {
    this.#addr = addr;
    this.#runtime = runtime;
    this.#onImpossible = onImpossible;
  }

  /** Whether a peer is in a loop; see {@linkcode LoopWatch.isLoop}. */
  isLoop(remote: UdpAddress, now: number): boolean {
    return this.#hasFound && this.#watch.isLoop(remote, now);
  }

  /**
   * Counts an answer to a datagram, which was received at `now` and sent to
   * `local`, and probes the peer if that is due.
   */
  onAnswer(
    remote: UdpAddress,
    local: UdpAddress,
    now: number,
    payload: Uint8Array,
    isOneOfSeveral: boolean,
  ): void {
    if (
      !this.#watch.isProbeDue(remote, now, payload, isOneOfSeveral) ||
      this.#isClosed
    ) return;
    // A later answer makes up for a probe that there is no room for now.
    if (this.#open.size >= MAX_OPEN || now < this.#probedAt + INTERVAL_MS) {
      return;
    }
    this.#probedAt = now;
    this.#watch.probed(remote, now);
    const { hostname } = isMulticast(local.hostname) ? this.#addr : local;
    try {
      this.#probe(remote, hostname, new Uint8Array(payload));
    } catch (cause) {
      const what = `Cannot probe ${
        formatAddress(remote)
      } for a loop of replies`;
      this.#onImpossible(
        new Error(`${what}: ${errorMessage(cause)}`, { cause }),
      );
      this.#onImpossible = () => {};
    }
  }

  /** Closes all probes, and sends no more. */
  close(): void {
    this.#isClosed = true;
    for (const close of this.#open) close();
  }

  #probe(remote: UdpAddress, hostname: string, payload: Uint8Array): void {
    const local = { hostname, port: 0 };
    for (const address of [local, remote]) {
      // Nothing on a datagram's way may wait for someone at a terminal.
      if (this.#runtime.isPermitted(address)) continue;
      throw new Deno.errors.NotCapable(
        `it needs net access to "${formatAddress(address)}"`,
      );
    }
    // Engines differ in whether an address carries its zone.
    const peer = withoutZone(remote.hostname);
    const socket = this.#runtime.open({
      ...local,
      maxDatagramBytes: MAX_PAYLOAD,
    });
    const close = () => {
      this.#open.delete(close);
      cancel();
      socket.close();
    };
    const cancel = this.#runtime.afterUnref(OPEN_MS, close);
    this.#open.add(close);
    socket.unref();
    socket.start({
      onDatagram: (datagram) => {
        const { hostname, port } = datagram.remoteAddr;
        socket.release(datagram);
        if (port !== remote.port || withoutZone(hostname) !== peer) return;
        this.#hasFound = true;
        this.#watch.onReply(remote, this.#runtime.now());
        close();
      },
    }).finally(close).catch(() => {});
    socket.send(payload, remote).catch(close);
  }
}

/** The wait for a reply to a probe: loops have round trips of 5 s at most. */
const OPEN_MS = 6000;
/** The largest number of open probes, and the shortest time between sends. */
const MAX_OPEN = 64;
const INTERVAL_MS = 10;

/**
 * The socket of a single request on the linux engine: that of the default engine,
 * connected to its peer, so that the system reports a closed port and other ICMP
 * messages.
 *
 * @module
 */
import type { UdpAddress } from "../../address.ts";
import { isTooLong } from "../../base/errors.ts";
import { DenoSocket } from "../deno_socket.ts";
import type { NetAccess } from "../net_access.ts";
import {
  type ConnDescriptor,
  pathMtu,
  pendingError,
  reconnect,
} from "./descriptor.ts";
import { errorOf, hasMoved } from "./errno.ts";
import { keepErrors, takeError } from "./error_queue.ts";
import type { Libc } from "./libc.ts";

/** A {@linkcode DenoSocket} that looks for reports about its peer. */
export class ConnectedSocket extends DenoSocket {
  readonly #libc: Libc;
  readonly #bound: ConnDescriptor;
  #timer: number | undefined;
  #afterMs = FIRST_LOOK_MS;

  constructor(
    libc: Libc,
    bound: ConnDescriptor,
    maxDatagramBytes: number,
    access: NetAccess | undefined,
  ) {
    super(bound.conn, maxDatagramBytes, access, undefined, true);
    this.#libc = libc;
    this.#bound = bound;
    keepErrors(libc, bound);
  }

  override async send(payload: Uint8Array, to: UdpAddress): Promise<void> {
    // Else this send would fail with the report about an earlier one.
    this.#report();
    // The receiver may close the socket at a report.
    if (this.closed) throw new Deno.errors.BadResource("Socket is closed");
    if (this.#afterMs > FIRST_LOOK_MS) this.#stop();
    this.#afterMs = FIRST_LOOK_MS;
    this.#timer ??= setTimeout(this.#look, this.#afterMs) as unknown as number;
    try {
      await super.send(payload, to);
    } catch (error) {
      if (!hasMoved(error)) throw this.#withPathMtu(error);
      const errno = reconnect(this.#libc, this.#bound);
      if (errno !== 0) throw errorOf(errno);
      await super.send(payload, to);
    }
  }

  override close(): void {
    this.#stop();
    super.close();
  }

  /** Adds the path's MTU to the error of a datagram that is too long for it. */
  #withPathMtu(error: unknown): unknown {
    if (!isTooLong(error)) return error;
    const most = pathMtu(this.#libc, this.#bound);
    const detailed = new Error(
      `Message too long: the path takes datagrams of at most ${most} bytes with headers`,
      { cause: error },
    );
    return Object.assign(detailed, { code: "EMSGSIZE", mtu: most });
  }

  #stop(): void {
    clearTimeout(this.#timer);
    this.#timer = undefined;
  }

  /**
   * Looks for an error, as Deno wakes a receive for datagrams only: often at first,
   * since an error arrives about as fast as a reply, then less and less.
   */
  #look = (): void => {
    this.#timer = undefined;
    this.#afterMs *= 2;
    if (this.#afterMs <= LAST_LOOK_MS) {
      this.#timer = setTimeout(this.#look, this.#afterMs) as unknown as number;
    }
    this.#report();
  };

  /** Reports the system's error about an earlier datagram, if there is one. */
  #report(): void {
    const { fd } = this.#bound;
    const error = pendingError(this.#libc, fd);
    // The queue has its details.
    const detailed = error && (takeError(this.#libc, fd) ?? error);
    if (detailed !== undefined) this.receiver.onReceiveError?.(detailed);
  }
}

const FIRST_LOOK_MS = 1;
const LAST_LOOK_MS = 2048;

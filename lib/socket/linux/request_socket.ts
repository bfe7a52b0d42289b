/**
 * The socket of a single request on the linux engine: that of the default engine,
 * with an error queue, so that the system reports a closed port and other ICMP
 * messages. It is not connected: so it sees replies from other addresses, and
 * leaves from any address that the machine has by then.
 *
 * @module
 */
import type { UdpAddress } from "../../address.ts";
import type { Datagram } from "../contract.ts";
import { DenoSocket } from "../deno_socket.ts";
import type { NetAccess } from "../net_access.ts";
import type { ConnDescriptor } from "./descriptor.ts";
import { keepErrors, takeErrors } from "./error_queue.ts";
import type { Libc } from "./libc.ts";

/** A {@linkcode DenoSocket} that looks for reports about its peer. */
export class RequestSocket extends DenoSocket {
  readonly #libc: Libc;
  readonly #fd: number;
  readonly #peer: UdpAddress;
  /** Datagrams sent, and datagrams of the peer. */
  #sent = 0;
  #heard = 0;
  #timer: number | undefined;
  #afterMs = FIRST_LOOK_MS;

  constructor(
    libc: Libc,
    bound: ConnDescriptor,
    peer: UdpAddress,
    maxDatagramBytes: number,
    access: NetAccess | undefined,
  ) {
    super(bound.conn, maxDatagramBytes, access, undefined, true);
    this.#libc = libc;
    this.#fd = bound.fd;
    this.#peer = peer;
    keepErrors(libc, bound);
  }

  override async send(payload: Uint8Array, to: UdpAddress): Promise<void> {
    // Else this send would fail with the report about an earlier one.
    if (this.#sent > 0) this.#report();
    this.#sent++;
    // The receiver may close the socket at a report.
    if (this.closed) throw new Deno.errors.BadResource("Socket is closed");
    if (this.#afterMs > FIRST_LOOK_MS) this.#stop();
    this.#afterMs = FIRST_LOOK_MS;
    this.#timer ??= setTimeout(this.#look, this.#afterMs) as unknown as number;
    try {
      await super.send(payload, to);
    } catch (error) {
      if ((error as { code?: unknown }).code !== "EMSGSIZE") throw error;
      // The queue has the path's MTU.
      const [detailed = error] = takeErrors(this.#libc, this.#fd, true);
      throw detailed;
    }
  }

  /** Looks no more when each datagram has an answer: no report about one follows. */
  override release(datagram: Datagram): void {
    const { hostname, port } = datagram.remoteAddr;
    const isPeer = hostname === this.#peer.hostname && port === this.#peer.port;
    if (isPeer && ++this.#heard >= this.#sent) this.#stop();
    super.release(datagram);
  }

  override close(): void {
    this.#stop();
    super.close();
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

  /** Reports the system's errors about earlier datagrams, if there are any. */
  #report(): void {
    for (const error of takeErrors(this.#libc, this.#fd)) {
      this.receiver.onReceiveError?.(error);
    }
  }
}

const FIRST_LOOK_MS = 1;
const LAST_LOOK_MS = 2048;

/** A relay over real sockets that loses, copies and delays by a plan. */
import type { UdpAddress } from "../../lib/address.ts";
import type { DatagramSocket } from "../../lib/socket/contract.ts";
import { openDenoSocket } from "../../lib/socket/deno_socket.ts";

/** What a relay did to datagrams on their way up (to the server), and down. */
export interface RelayRecord {
  up: WayRecord;
  down: WayRecord;
}

export interface WayRecord {
  came: number;
  lost: number;
  copied: number;
}

/** For each datagram, after how many milliseconds its copies go on. */
export type RelayPlan = (way: "up" | "down") => number[];

/** Stands between one client and a server. */
export class Relay implements AsyncDisposable {
  readonly addr: UdpAddress;
  readonly record: RelayRecord = {
    up: { came: 0, lost: 0, copied: 0 },
    down: { came: 0, lost: 0, copied: 0 },
  };
  readonly #front = open();
  readonly #back = open();
  readonly #finished: Promise<unknown>;
  readonly #timers = new Set<number>();
  #client: UdpAddress | undefined;

  constructor(server: UdpAddress, plan: RelayPlan) {
    this.addr = this.#front.addr;
    this.#finished = Promise.all([
      this.#front.start({
        onDatagram: (datagram) => {
          this.#client ??= datagram.remoteAddr;
          this.#pass("up", datagram.data.slice(), server, plan);
          this.#front.release(datagram);
        },
      }),
      this.#back.start({
        onDatagram: (datagram) => {
          this.#pass("down", datagram.data.slice(), this.#client!, plan);
          this.#back.release(datagram);
        },
      }),
    ]);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const timer of this.#timers) clearTimeout(timer);
    this.#front.close();
    this.#back.close();
    await this.#finished;
  }

  #pass(
    way: "up" | "down",
    data: Uint8Array,
    to: UdpAddress,
    plan: RelayPlan,
  ): void {
    const delays = plan(way);
    const record = this.record[way];
    record.came++;
    if (delays.length === 0) record.lost++;
    record.copied += Math.max(0, delays.length - 1);
    const socket = way === "up" ? this.#back : this.#front;
    for (const delayMs of delays) {
      const timer = setTimeout(() => {
        this.#timers.delete(timer);
        socket.send(data, to).catch(() => {});
      }, delayMs) as unknown as number;
      this.#timers.add(timer);
    }
  }
}

function open(): DatagramSocket {
  return openDenoSocket({
    hostname: "127.0.0.1",
    port: 0,
    maxDatagramBytes: 65_507,
  });
}

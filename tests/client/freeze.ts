/** A client that stands still, as a stopped process does. */
import { formatAddress } from "../../lib/address.ts";
import type { Runtime } from "../../lib/socket/runtime.ts";
import type { Datagram } from "../../lib/socket/contract.ts";
import type { SimulatedNetwork } from "../../lib/testing/mod.ts";

/**
 * A runtime that stands still from a time on, for a duration: its timers are late,
 * and what arrives waits in its sockets until it wakes.
 *
 * @param isStamping Whether the datagrams have the time of their arrival.
 */
export function freezing(
  network: SimulatedNetwork,
  fromMs: number,
  ms: number,
  isStamping = false,
): Runtime {
  const { runtime } = network;
  const wakesAt = fromMs + ms;
  const leftMs = (at: number) => at > fromMs && at < wakesAt ? wakesAt - at : 0;
  const after: Runtime["after"] = (waitMs, callback) =>
    runtime.after(waitMs + leftMs(network.now + waitMs), callback);
  return {
    ...runtime,
    after,
    afterUnref: after,
    afterExactly: after,
    open(options) {
      const socket = runtime.open(options);
      const start = socket.start.bind(socket);
      const isOpen = () => network.sockets.has(formatAddress(socket.addr));
      socket.start = (receiver) =>
        start({
          onReceiveError: (error) => receiver.onReceiveError?.(error),
          onDatagram(datagram: Datagram) {
            const now = network.now;
            const arrivedAt = isStamping ? now : undefined;
            const deliver = () => {
              const facts = { receivedAt: network.now, arrivedAt };
              if (isOpen()) receiver.onDatagram(Object.assign(datagram, facts));
            };
            if (leftMs(now) === 0) deliver();
            else runtime.after(leftMs(now), deliver);
          },
        });
      // What lies in the socket at the call is delivered at this instant.
      socket.drain = () => new Promise((resolve) => runtime.after(0, resolve));
      return socket;
    },
  };
}

/**
 * Helpers of the server's tests: a server on a simulated network, and its
 * counts.
 */
import type { UdpAddress } from "../../lib/address.ts";
import { decode, encode } from "../../lib/encoding.ts";
import type { Handler } from "../../lib/server/handler.ts";
import { serve, type ServeOptions } from "../../lib/server/serve.ts";
import type { ServerStats, UdpServer } from "../../lib/server/udp_server.ts";
import type { SimulatedSocket } from "../../lib/testing/mod.ts";
import { restfulNetworks } from "../helpers.ts";

export const makeNetwork = restfulNetworks();

export const SERVER: UdpAddress = { hostname: "198.51.100.1", port: 20001 };
export const CLIENT: UdpAddress = { hostname: "192.0.2.7", port: 40000 };

/** A server on a network of its own, and the text of its replies. */
export function start(handler: Handler, options: ServeOptions = {}) {
  const network = makeNetwork();
  const { runtime } = network;
  const server = serve({ ...SERVER, runtime, ...options }, handler);
  const [socket] = network.sockets.values() as Iterable<SimulatedSocket>;
  return {
    network,
    server,
    socket: socket!,
    ask: (text: string) => socket!.arrive(encode(text), CLIENT),
    replies: () => network.sent.map(({ data }) => decode(data)),
    /** Runs all callbacks that are due without time passing. */
    settle: () => network.runFor(0),
  };
}

/** The counts of datagrams, without sizes and datagrams in flight. */
export function countsOf(server: UdpServer) {
  const { bytes: _, inFlight: __, ...counts } = server.stats();
  return counts;
}

export function counts(expected: {
  received?: number;
  replied?: number;
  unanswered?: number;
  dropped?: Partial<ServerStats["dropped"]>;
  refused?: Partial<ServerStats["refused"]>;
  pushed?: Partial<ServerStats["pushed"]>;
  errors?: Partial<ServerStats["errors"]>;
}): Omit<ServerStats, "bytes" | "inFlight"> {
  return {
    received: 0,
    replied: 0,
    unanswered: 0,
    kernelDrops: 0,
    ...expected,
    dropped: { tooLong: 0, overload: 0, closing: 0, ...expected.dropped },
    refused: {
      amplification: 0,
      rate: 0,
      self: 0,
      port: 0,
      source: 0,
      ownReply: 0,
      offLink: 0,
      loop: 0,
      ...expected.refused,
    },
    pushed: { sent: 0, refused: 0, unsent: 0, ...expected.pushed },
    errors: { handler: 0, send: 0, receive: 0, ...expected.errors },
  };
}

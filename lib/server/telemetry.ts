/**
 * The counts of a server and the calls of its handler, for OpenTelemetry.
 *
 * @module
 */
import type { UdpAddress } from "../address.ts";
import { type Handler, traitsOf, withTraits } from "./handler.ts";
import { isPromiseLike } from "./reports.ts";
import type { ServerStats } from "./udp_server.ts";
import {
  beginSpan,
  type Count,
  follow,
  type Readings,
  UDP,
} from "../base/telemetry.ts";

/**
 * The counts of a server and of its handler, by their names in OpenTelemetry.
 */
export function serverReadings(
  stats: Omit<ServerStats, "pushed"> & Partial<Pick<ServerStats, "pushed">>,
  ofHandler: Readings = { counts: [] },
): Readings {
  const { replied, unanswered, dropped, refused, errors } = stats;
  const outcome = (outcome: string, value: number, reason?: string): Count => ({
    name: "roundtrip.server.datagrams",
    attributes: {
      "roundtrip.outcome": outcome,
      ...reason === undefined ? {} : { "roundtrip.reason": reason },
    },
    value,
  });
  const each = (name: Count["name"], key: string, counts: object): Count[] =>
    Object.entries(counts).map(([which, value]) => ({
      name,
      attributes: { [key]: which },
      value,
    }));
  return {
    counts: [
      outcome("replied", replied),
      outcome("unanswered", unanswered),
      outcome("failed", errors.send),
      ...Object.entries(dropped).map(([reason, value]) =>
        outcome("dropped", value, reason)
      ),
      ...Object.entries(refused).map(([reason, value]) =>
        outcome("refused", value, reason)
      ),
      ...each("roundtrip.server.io", "network.io.direction", {
        receive: stats.bytes.received,
        transmit: stats.bytes.replied,
      }),
      ...each(
        "roundtrip.server.pushed",
        "roundtrip.outcome",
        stats.pushed ?? {},
      ),
      ...each("roundtrip.server.errors", "error.type", errors),
      { name: "roundtrip.server.kernel_drops", value: stats.kernelDrops },
      ...ofHandler.counts,
    ],
    levels: [
      { name: "roundtrip.server.in_flight", value: stats.inFlight },
      ...ofHandler.levels ?? [],
    ],
  };
}

/**
 * Exports the counts of the server at an address, read each second.
 *
 * @returns Reads them a last time.
 */
export function observeServer(
  { hostname, port }: UdpAddress,
  readings: Parameters<typeof follow>[1],
): () => void {
  const attributes = {
    ...UDP,
    "server.address": hostname,
    "server.port": port,
  };
  return follow(attributes, readings);
}

/** A handler whose calls are spans. */
export function traced(handler: Handler): Handler {
  const shown: Handler = (data, info) => {
    const span = beginSpan("roundtrip handler", "server");
    let reply: ReturnType<Handler>;
    try {
      reply = handler(data, info);
    } catch (error) {
      span.end({ error });
      throw error;
    }
    if (!isPromiseLike(reply)) {
      span.end();
      return reply;
    }
    const ended = Promise.try(() => reply);
    ended.then(() => span.end(), (error) => span.end({ error }));
    return ended;
  };
  return withTraits(shown, traitsOf(handler));
}

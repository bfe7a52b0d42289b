/**
 * The warm-up of a process: its first datagrams wait for the compiler, so those
 * that are not measured are exchanged with a server of its own.
 *
 * @module
 */
import type { UdpAddress } from "../../address.ts";
import type { Handler } from "../../server/handler.ts";
import { echo } from "../../server/responders.ts";
import { serve, type ServeOptions } from "../../server/serve.ts";

/** The only one of the process. */
let warmedUp: Promise<void> | undefined;

/** Runs a workload against a server on loopback, once per process. */
export function warmUp(
  run: (server: UdpAddress) => Promise<unknown>,
  handler: Handler = echo(),
  options: ServeOptions = {},
): Promise<void> {
  return warmedUp ??= (async () => {
    try {
      await using server = serve({ ...options, telemetry: false }, handler);
      await run(server.addr);
    } catch {
      // Without a loopback interface the first times stay long.
    }
  })();
}

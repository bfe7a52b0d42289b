/**
 * The warm-up of a process: its first datagrams wait for the compiler, so those
 * that are not measured are exchanged with a server of its own.
 *
 * @module
 */
import type { UdpAddress } from "../../address.ts";
import type { Handler } from "../../server/handler.ts";
import type { ServeOptions } from "../../server/serve.ts";

/** The only one of the process. */
let warmedUp: Promise<void> | undefined;

/**
 * Runs a workload against a server on loopback, once per process.
 *
 * @param prepare Gives the server's handler and the workload; loaded here, so that
 * a lone request does not wait for them.
 * @param options Options of the server.
 */
export function warmUp(
  prepare: () => Promise<
    { handler: Handler; run(server: UdpAddress): Promise<unknown> }
  >,
  options: ServeOptions = {},
): Promise<void> {
  return warmedUp ??= (async () => {
    try {
      const [{ serve }, { handler, run }] = await Promise.all([
        import("../../server/serve.ts"),
        prepare(),
      ]);
      await using server = serve({ ...options, telemetry: false }, handler);
      await run(server.addr);
    } catch {
      // Without a loopback to use, the first times are what they are.
    }
  })();
}

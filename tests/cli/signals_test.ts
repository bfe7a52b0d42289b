/**
 * A signal may outlive many uses: each use removes its listeners at its end.
 */
import { assert, assertEquals } from "@std/assert";
import { connect } from "../../lib/client/connect.ts";
import { gather } from "../../lib/client/gather.ts";
import { load } from "../../lib/client/load.ts";
import { openSocket } from "../../lib/socket/open_socket.ts";
import { request } from "../../lib/client/request.ts";
import { requestMany } from "../../lib/client/series.ts";
import { echo } from "../../lib/server/responders.ts";
import type { Runtime } from "../../lib/socket/runtime.ts";
import { serve } from "../../lib/server/serve.ts";
import { measure } from "../../lib/stamp/measure.ts";
import { stampReflector } from "../../lib/stamp/reflector.ts";
import { SimulatedNetwork } from "../../lib/testing/mod.ts";

const ECHO = { hostname: "198.51.100.1", port: 7 };
const REFLECTOR = { hostname: "198.51.100.2", port: 862 };

interface Given {
  signal: AbortSignal;
  runtime: Runtime;
}

async function whole(iterated: AsyncIterable<unknown>): Promise<void> {
  for await (const _ of iterated);
}

const USES: Record<string, (given: Given) => unknown> = {
  serve: (given) =>
    serve({ hostname: "192.0.2.2", ...given }, echo()).shutdown(),
  openSocket: (given) =>
    openSocket({ hostname: "192.0.2.2", ...given }, () => {}).close(),
  request: (given) => request(ECHO, "x", given),
  requestMany: (given) => whole(requestMany(ECHO, "x", { count: 2, ...given })),
  measure: (given) => whole(measure(REFLECTOR, { count: 2, ...given })),
  load: (given) => whole(load(ECHO, { window: 1, count: 2, ...given })),
  gather: (given) => gather(ECHO, "x", given),
  connect: async (given) => (await connect(ECHO, given)).close(),
  "a client's request": async ({ runtime, signal }) => {
    await using client = await connect(ECHO, { runtime });
    await client.request("x", { signal });
  },
};

for (const [name, use] of Object.entries(USES)) {
  Deno.test(`${name}: leaves nothing behind on its signal`, async () => {
    const network = new SimulatedNetwork(() => [1]);
    const { runtime } = network;
    const servers = [
      serve({ ...ECHO, runtime, guard: false }, echo()),
      serve({ ...REFLECTOR, runtime, guard: false }, stampReflector()),
    ];
    const { signal } = new AbortController();
    const listeners = new Set<unknown>();
    let added = 0;
    signal.addEventListener = (_: string, listener: unknown) => {
      added++;
      listeners.add(listener);
    };
    signal.removeEventListener = (_: string, listener: unknown) => {
      listeners.delete(listener);
    };
    await network.run(Promise.resolve(use({ signal, runtime })));
    assert(added > 0, "no use was made of the signal");
    assertEquals(listeners.size, 0);
    for (const server of servers) await network.run(server.shutdown());
  });
}

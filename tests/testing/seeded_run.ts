/** Traffic with chance in it on a simulated network, and all that happened. */
import { load } from "../../lib/client/load.ts";
import { requestMany } from "../../lib/client/series.ts";
import { serve } from "../../lib/server/serve.ts";
import { formatAddress } from "../../lib/address.ts";
import { measure } from "../../lib/stamp/measure.ts";
import { stampReflector } from "../../lib/stamp/reflector.ts";
import { SimulatedNetwork } from "../../lib/testing/mod.ts";

const TARGET = { hostname: "198.51.100.1", port: 7 };
const STAMP = { hostname: "198.51.100.1", port: 862 };

/** Runs lossy requests, a load and a measurement; gives all datagrams and events. */
export async function seededRun(seed?: number): Promise<string> {
  const lines: string[] = [];
  const network = new SimulatedNetwork(({ at, from, to, data, random }) => {
    const ends = `${formatAddress(from)} ${formatAddress(to)}`;
    lines.push(`${at} ${ends} ${data.toHex()}`);
    return random() < 0.3 ? [] : [5 + 20 * random()];
  }, { seed });
  const { runtime } = network;
  const server = serve({ ...TARGET, runtime, guard: false }, async (data) => {
    // Work on another thread, as slow as the machine is.
    await crypto.subtle.digest("SHA-256", new Uint8Array(10_000));
    return data;
  });
  const reflector = serve({ ...STAMP, runtime }, stampReflector({ runtime }));
  const runs = [
    requestMany(TARGET, "ping", { runtime, count: 20, retries: 2 }),
    load(TARGET, { runtime, rate: 10, count: 20 }),
    measure(STAMP, { runtime, count: 20, intervalMs: 20 }),
  ];
  const events = runs.map((run) => Array.fromAsync<unknown>(run));
  for (const event of (await network.run(Promise.all(events))).flat()) {
    lines.push(JSON.stringify(event));
  }
  for (const run of runs) lines.push(JSON.stringify(run.summary()));
  await network.run(Promise.all([server.shutdown(), reflector.shutdown()]));
  return lines.join("\n");
}

if (import.meta.main) {
  const body = new Response(await seededRun()).body!;
  await body.pipeTo(Deno.stdout.writable);
}

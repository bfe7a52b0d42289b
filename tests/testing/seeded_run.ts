/** Traffic with chance in it on a simulated network, and all that was sent. */
import { load } from "../../lib/client/load.ts";
import { requestMany } from "../../lib/client/series.ts";
import { serve } from "../../lib/server/serve.ts";
import { formatAddress } from "../../lib/address.ts";
import { seededRandom, SimulatedNetwork } from "../../lib/testing/mod.ts";

const TARGET = { hostname: "198.51.100.1", port: 7 };

/** Runs lossy requests and a load; gives each datagram with its time. */
export async function seededRun(seed?: number): Promise<string> {
  const lost = seededRandom(5);
  const lines: string[] = [];
  const network = new SimulatedNetwork(({ from, to, data }) => {
    const ends = `${formatAddress(from)} ${formatAddress(to)}`;
    lines.push(`${network.now} ${ends} ${data.toHex()}`);
    return lost() < 0.3 ? [] : [5];
  }, { seed });
  const { runtime } = network;
  const server = serve({ ...TARGET, runtime, guard: false }, (data) => data);
  const runs = [
    requestMany(TARGET, "ping", { runtime, count: 20, retries: 2 }),
    load(TARGET, { runtime, rate: 10, count: 20 }),
  ];
  for (const run of runs) await network.run(Array.fromAsync<unknown>(run));
  await network.run(server.shutdown());
  return lines.join("\n");
}

if (import.meta.main) {
  await Deno.stdout.write(new TextEncoder().encode(await seededRun()));
}

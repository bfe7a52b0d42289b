/** Tests of names with several addresses, with every kind of client. */
import { assertEquals, assertRejects } from "@std/assert";
import type { UdpAddress } from "../../lib/address.ts";
import { connect } from "../../lib/client/connect.ts";
import { gather } from "../../lib/client/gather.ts";
import { load } from "../../lib/client/load.ts";
import { request } from "../../lib/client/request.ts";
import { requestMany } from "../../lib/client/series.ts";
import { echo } from "../../lib/server/responders.ts";
import { serve } from "../../lib/server/serve.ts";
import { measure } from "../../lib/stamp/measure.ts";
import { stampReflector } from "../../lib/stamp/reflector.ts";
import { type Runtime, runtimeFor } from "../../lib/socket/runtime.ts";
import { TimeoutError } from "../../lib/client/reply.ts";
import type { Plan, SimulatedNetwork } from "../../lib/testing/mod.ts";
import { linuxTest, restfulNetworks } from "../helpers.ts";

const makeNetwork = restfulNetworks();
const NAME = "both.example:7";
const [FOUR, OTHER, SIX] = ["198.51.100.1", "198.51.100.2", "2001:db8::9"];

/** A network where a name has three addresses, with a server on each. */
function withNames(handler = echo(), plan?: Plan): SimulatedNetwork {
  const network = makeNetwork(plan);
  const { runtime } = network;
  network.names.set("both.example", [SIX!, FOUR!, OTHER!, FOUR!]);
  for (const hostname of [FOUR!, OTHER!, SIX!]) {
    serve({ hostname, port: 7, runtime, guard: false }, handler);
  }
  return network;
}

/** A plan in which sends to some addresses fail, or those of some size to them. */
function failing(hosts: string[], code: string, maxBytes = Infinity): Plan {
  return ({ to, data }) => {
    if (!hosts.includes(to.hostname) || data.length > maxBytes) return [1];
    throw Object.assign(new Error(code), { code });
  };
}

/** Drains a run, and gives its target. */
async function targetOf(
  run: AsyncIterable<unknown> & { target: UdpAddress | undefined },
): Promise<string | undefined> {
  for await (const _ of run);
  return run.target?.hostname;
}

/** Every client; each gives the address that it used. */
const CLIENTS: Record<
  string,
  (runtime: Runtime) => Promise<string | undefined>
> = {
  async request(runtime) {
    return (await request(NAME, "x", { runtime })).remoteAddr.hostname;
  },
  async connect(runtime) {
    await using client = await connect(NAME, { runtime });
    const { remoteAddr } = await client.request("x");
    assertEquals(remoteAddr, client.remoteAddr);
    return remoteAddr.hostname;
  },
  requestMany: (runtime) => targetOf(requestMany(NAME, "x", { runtime })),
  load: (runtime) => targetOf(load(NAME, { rate: 9, count: 1, runtime })),
  async gather(runtime) {
    const [reply] = await gather([NAME], "x", { runtime });
    return reply?.remoteAddr.hostname;
  },
  measure: (runtime) => targetOf(measure(NAME, { count: 1, runtime })),
};

for (const [name, use] of Object.entries(CLIENTS)) {
  const handler = () => name === "measure" ? stampReflector() : echo();

  Deno.test(`${name}(): IPv4 is first of a name's addresses, where it has a route`, async () => {
    const network = withNames(handler());
    assertEquals(await network.run(use(network.runtime)), FOUR);
    network.plan = failing([FOUR!], "EHOSTUNREACH");
    assertEquals(await network.run(use(network.runtime)), OTHER);
    network.plan = failing([FOUR!, OTHER!], "ENETUNREACH");
    assertEquals(await network.run(use(network.runtime)), SIX);
  });
}

Deno.test("request(): an address that the program may not use is none of a name's", async () => {
  const network = withNames();
  const isPermitted = ({ hostname }: UdpAddress) => hostname === SIX;
  const runtime = { ...network.runtime, isPermitted };
  assertEquals(await network.run(CLIENTS.request!(runtime)), SIX);
});

for (const name of ["request", "requestMany"]) {
  Deno.test(`${name}(): a send that fails is repeated to the name's next address`, async () => {
    // The route is there, and a filter refuses what is sent.
    const network = withNames(echo(), failing([FOUR!, OTHER!], "EPERM", 1000));
    assertEquals(await network.run(CLIENTS[name]!(network.runtime)), SIX);
    const sent = network.sent.map(({ to }) => to.hostname);
    assertEquals(sent.slice(0, 3), [FOUR, OTHER, SIX]);
  });
}

Deno.test("request(): a name of which no address can be reached is in the error", async () => {
  const network = withNames(
    echo(),
    failing([FOUR!, OTHER!, SIX!], "ENETUNREACH"),
  );
  const { runtime } = network;
  await assertRejects(
    () => network.run(request(NAME, "x", { runtime, retries: 0 })),
    Error,
    "Cannot send to 198.51.100.1:7 (both.example): " +
      "no route to it: connect its network, or name another address",
  );
});

Deno.test("request(): a name without addresses does not resolve", async () => {
  const network = withNames();
  network.names.set("both.example", []);
  await assertRejects(
    () => network.run(CLIENTS.request!(network.runtime)),
    Deno.errors.NotFound,
    "Cannot resolve 'both.example': check its spelling, or give an IP address",
  );
});

Deno.test("request(): of a name's IPv4-mapped addresses, each is used once, as IPv4", async () => {
  const network = withNames();
  network.names.set("both.example", [`::ffff:${FOUR}`, FOUR!]);
  assertEquals(await network.run(CLIENTS.request!(network.runtime)), FOUR);
});

linuxTest(
  "request(), requestMany(): a closed port moves them to the name's next address",
  async () => {
    const engine = "linux";
    await using server = serve({ hostname: "::1", engine }, echo());
    const { port } = server.addr;
    const runtime = runtimeFor(engine);
    const reply = await request(`localhost:${port}`, "x", { runtime });
    assertEquals(reply.remoteAddr, server.addr);
    assertEquals(reply.attempts, 1);
    const options = { runtime, count: 3, intervalMs: 0 };
    const series = requestMany(`localhost:${port}`, "x", options);
    for await (const { type } of series) assertEquals(type, "reply");
    assertEquals(series.target, server.addr);
    const { sent, received, lossPercent } = series.summary();
    assertEquals([sent, received, lossPercent], [3, 3, 0]);
    await server.shutdown();
    await assertRejects(
      () => request(`localhost:${port}`, "x", { runtime }),
      TimeoutError,
      `No reply from 127.0.0.1:${port} or [::1]:${port} to 1 datagram: the system reports a closed port`,
    );
  },
);

Deno.test("request(): of twenty addresses the first with a route is used", async () => {
  const all = Array.from({ length: 20 }, (_, i) => `198.51.100.${i + 1}`);
  const network = withNames();
  network.names.set("both.example", [...all].reverse());
  network.plan = failing(all.slice(1), "EHOSTUNREACH");
  assertEquals(await network.run(CLIENTS.request!(network.runtime)), FOUR);
  assertEquals(network.sockets.size, 3);
});

linuxTest(
  "request(): a report that a retransmission meets leaves nothing of its socket",
  async () => {
    const server = serve({ engine: "linux" }, echo());
    const { port } = server.addr;
    await server.shutdown();
    const runtime = runtimeFor("linux");
    // The retransmission is due just before the first look for a report.
    const options = { runtime, timeoutMs: 1, retries: 1 };
    await assertRejects(
      () => request(`localhost:${port}`, "x", options),
      TimeoutError,
      `No reply from 127.0.0.1:${port} or [::1]:${port}`,
    );
  },
);

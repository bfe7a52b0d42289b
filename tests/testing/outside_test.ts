/** Handlers and programs that wait for something outside of a simulated network. */
import { assertEquals, assertRejects } from "@std/assert";
import { DatabaseSync } from "node:sqlite";
import { request } from "../../lib/client/request.ts";
import { requestMany } from "../../lib/client/series.ts";
import type { Handler } from "../../lib/server/handler.ts";
import { TimeoutError } from "../../lib/client/reply.ts";
import { serve } from "../../lib/server/serve.ts";
import { formatAddress } from "../../lib/address.ts";
import { type Plan, SimulatedNetwork } from "../../lib/testing/mod.ts";

const HOST = "192.0.2.9";
const GROUP = "239.1.2.3";

/** Work on another thread, the longer the more bytes. */
async function work(bytes = 1_000_000): Promise<string> {
  const digest = await crypto.subtle.digest("SHA-256", new Uint8Array(bytes));
  return new Uint8Array(digest).toHex().slice(0, 4);
}

/** Fails instead of a wait that has no end. */
async function inTime<T>(promise: Promise<T>): Promise<T> {
  const late = Promise.withResolvers<never>();
  const fail = () => late.reject(new Error("Time does not pass"));
  const timer = setTimeout(fail, 10_000);
  try {
    return await Promise.race([promise, late.promise]);
  } finally {
    clearTimeout(timer);
  }
}

/** A network that waits for handlers without a limit that a test would reach. */
const patient = (plan?: Plan) =>
  new SimulatedNetwork(plan, { patienceMs: 600_000 });

Deno.test("SimulatedNetwork: time stands still for work in a handler", async () => {
  const network = patient();
  const { runtime } = network;
  const server = serve({ hostname: HOST, runtime }, async () => {
    await work();
    return await work();
  });
  const options = { runtime, timeoutMs: 50 };
  const reply = await network.run(request(server.addr, "?", options));
  assertEquals([reply.attempts, network.now], [1, 10]);
  await network.run(server.shutdown());
});

Deno.test("SimulatedNetwork: handlers of one instant work one after the other", async () => {
  const network = patient();
  const { runtime } = network;
  const events: string[] = [];
  // The first ones take longest.
  const servers = [5_000_000, 100_000, 1].map((bytes, i) =>
    serve({ port: 5000 + i, groups: [GROUP], runtime }, async (data) => {
      events.push(`begin ${data.length} ${i}`);
      await work(bytes);
      events.push(`end ${data.length} ${i}`);
    })
  );
  const from = { hostname: "192.0.2.7", port: 9 };
  for (const port of [5000, 5001, 5002]) {
    network.pass(from, { hostname: GROUP, port }, new Uint8Array(1));
  }
  await network.runFor(5);
  const expected = [0, 1, 2].flatMap((i) => [`begin 1 ${i}`, `end 1 ${i}`]);
  assertEquals(events, expected);
  await network.run(Promise.all(servers.map((one) => one.shutdown())));
});

Deno.test("SimulatedNetwork: a handler that waits for the network stops no time", async () => {
  // The first datagram to the upstream server is lost.
  let lost = 0;
  const network = patient(({ to }) => to.port === 7 && lost++ === 0 ? [] : [5]);
  const { runtime } = network;
  const upstream = serve({ hostname: HOST, port: 7, runtime }, async () => {
    await work();
    return "pong";
  });
  const waits: Handler[] = [
    async () => (await request(upstream.addr, "?", { runtime })).data,
    () =>
      new Promise((resolve) =>
        void network.clock.setTimeout(resolve, 2000, "late")
      ),
  ];
  const texts = [];
  for (const handler of waits) {
    const server = serve({ hostname: HOST, runtime }, handler);
    const options = { runtime, timeoutMs: 10_000 };
    const asked = network.run(request(server.addr, "?", options));
    texts.push((await inTime(asked)).text());
    await network.run(server.shutdown());
  }
  assertEquals([texts, lost], [["pong", "late"], 2]);
  await network.run(upstream.shutdown());
});

Deno.test("SimulatedNetwork: a handler that waits for nothing known stops time for patienceMs at most", async () => {
  for (const patienceMs of [0, 1]) {
    const network = new SimulatedNetwork(undefined, { patienceMs });
    const { runtime } = network;
    const server = serve(
      { hostname: HOST, runtime, onError() {}, handlerTimeoutMs: 3000 },
      () => new Promise(() => {}),
    );
    const reply = request(server.addr, "?", { runtime, timeoutMs: 500 });
    await assertRejects(() => network.run(reply), TimeoutError);
    assertEquals(network.now > 500, true);
    await network.runFor(3000);
    assertEquals(server.stats().errors.handler > 0, true);
    await network.run(server.shutdown());
  }
});

Deno.test("outside(): time stands still for a program's own work, which may fail", async () => {
  const network = patient();
  const { runtime, clock } = network;
  const server = serve({ hostname: HOST, runtime }, (data) => data);
  // Without a standstill it would run on.
  const ticks = clock.setInterval(() => {}, 1);
  const program = async () => {
    await request(server.addr, "?", { runtime });
    const found = await network.outside(work());
    await request(server.addr, "?", { runtime });
    const failing = network.outside(work().then(() => Promise.reject(found)));
    return await failing.catch((found) => found);
  };
  assertEquals(await network.run(program()), await work());
  assertEquals(network.now, 20);
  clock.clearInterval(ticks);
  await network.run(server.shutdown());
});

/** A service that keeps each datagram in a database; gives all that happened. */
async function run(seed: number): Promise<string[]> {
  const network = new SimulatedNetwork(
    ({ random }) => random() < 0.2 ? [] : [5 + 10 * random()],
    { seed, patienceMs: 600_000 },
  );
  const { runtime } = network;
  using database = new DatabaseSync(":memory:");
  database.exec("create table visits (host text, hash text, at real)");
  const insert = database.prepare("insert into visits values (?, ?, ?)");
  const server = serve({ hostname: HOST, runtime }, async (data, info) => {
    // As long as the other clients' datagrams need to arrive.
    const hash = await work(data.length * 300_000);
    insert.run(formatAddress(info.remoteAddr), hash, network.now);
    return hash;
  });
  const clients = ["one", "three"].map((payload) =>
    requestMany(server.addr, payload, {
      runtime,
      count: 10,
      intervalMs: 7,
      retries: 2,
    })
  );
  const events = await network.run(
    Promise.all(clients.map((client) => Array.fromAsync<unknown>(client))),
  );
  await network.run(server.shutdown());
  const rows = database.prepare("select * from visits").all();
  const sent = network.sent.map(({ data, ...rest }) => [data.toHex(), rest]);
  return [...events.flat(), ...rows, ...sent].map((one) => JSON.stringify(one));
}

Deno.test("SimulatedNetwork: a service with a database is the same twice, and another with another seed", async () => {
  const first = await run(7);
  assertEquals(first.length > 60, true);
  assertEquals(await run(7), first);
  assertEquals((await run(8)).join() === first.join(), false);
});

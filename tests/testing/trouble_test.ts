/** Hosts, links, queues and reports of a simulated network. */
import { assert, assertEquals, assertRejects } from "@std/assert";
import { gather } from "../../lib/client/gather.ts";
import { request } from "../../lib/client/request.ts";
import type { RequestOptions } from "../../lib/client/exchange.ts";
import { serve } from "../../lib/server/serve.ts";
import { openSocket } from "../../lib/socket/open_socket.ts";
import { formatAddress } from "../../lib/address.ts";
import {
  CLIENT_HOST,
  type Plan,
  SimulatedNetwork,
} from "../../lib/testing/mod.ts";

const SERVER = { hostname: "192.0.2.9", port: 7 };

/** A network with an echo server, and a client that reports the outcome. */
function start(plan?: Plan) {
  const network = new SimulatedNetwork(plan);
  const { runtime } = network;
  const open = () => serve({ ...SERVER, runtime }, (data) => data);
  const ask = async (
    payload: string | Uint8Array,
    options?: RequestOptions,
  ) => {
    const asked = request(SERVER, payload, { runtime, retries: 1, ...options });
    try {
      return (await network.run(asked)).data.length;
    } catch (error) {
      const { attempts, cause } = error as { attempts: number; cause?: Error };
      return `${attempts} ${cause?.message ?? "silence"}`;
    }
  };
  return { network, open, ask };
}

Deno.test("crash(), restart(): a host is silent, then has closed ports, then serves again", async () => {
  const { network, open, ask } = start();
  network.icmp = true;
  const server = open();
  assertEquals(await ask("x"), 1);
  network.crash(SERVER.hostname);
  await network.run(server.finished);
  assertEquals(await ask("x"), "2 silence");
  try {
    open();
    throw new Error("It opened a socket");
  } catch (error) {
    assert(error instanceof Deno.errors.AddrNotAvailable, `${error}`);
  }
  network.restart(SERVER.hostname);
  assertEquals(await ask("x"), "1 Connection refused (os error 111)");
  const again = open();
  assertEquals(await ask("x"), 1);
  await network.run(again.shutdown());
});

Deno.test("crash(): datagrams in flight to the host are lost, and those it has sent arrive", async () => {
  const { network, open } = start();
  open();
  const got: number[] = [];
  const { runtime } = network;
  const client = openSocket(
    { runtime },
    ({ data }) => void got.push(data.length),
  );
  for (const [length, ms] of [[1, 6], [2, 4]]) {
    await network.run(client.send(new Uint8Array(length!), SERVER));
    await network.runFor(ms!);
  }
  network.crash(SERVER.hostname);
  await network.runFor(100);
  assertEquals(got, [1]);
  await network.run(client.close());
});

Deno.test("partition(), heal(): loses datagrams of two hosts, also those in flight", async () => {
  const { network, open, ask } = start();
  const server = open();
  network.partition(CLIENT_HOST, SERVER.hostname);
  assertEquals(await ask("x"), "2 silence");
  assertEquals(server.stats().received, 0);
  // Other hosts have their links.
  const localHostname = "192.0.2.2";
  assertEquals(await ask("x", { localHostname }), 1);
  network.clock.setTimeout(() => {
    network.heal(SERVER.hostname, CLIENT_HOST);
  }, 500);
  assertEquals(await ask("retried"), 7);
  assertEquals(server.stats().received, 2);
  network.clock.setTimeout(
    () => network.partition(SERVER.hostname, CLIENT_HOST),
    7,
  );
  assertEquals(await ask("x", { retries: 0 }), "1 silence");
  assertEquals(server.stats().replied, 3, "its reply was in flight");
  // What is sent meanwhile stays lost.
  network.pass({ hostname: CLIENT_HOST, port: 9 }, SERVER, new Uint8Array(1));
  network.heal(SERVER.hostname, CLIENT_HOST);
  await network.runFor(100);
  assertEquals(server.stats().received, 3);
  await network.run(server.shutdown());
});

Deno.test("pause(), resume(): a full receive buffer drops and counts, the rest is read later", async () => {
  const { network, open } = start();
  const server = open();
  const socket = network.sockets.get(formatAddress(SERVER))!;
  socket.pause();
  // Each takes 1000 bytes.
  for (let i = 0; i < 300; i++) {
    network.pass(
      { hostname: "192.0.2.7", port: 9 },
      SERVER,
      new Uint8Array(232),
    );
  }
  await network.runFor(10);
  assertEquals([server.stats().received, server.stats().kernelDrops], [0, 88]);
  socket.resume();
  await network.runFor(0);
  assertEquals(server.stats().received, 212);
  await network.run(server.shutdown());
});

Deno.test("icmp: a closed port and a datagram larger than the MTU are reported, to clients that asked", async () => {
  const { network, open, ask } = start();
  const server = open();
  network.mtu = 1400;
  const dontFragment = true;
  const sizes = [1372, 1373].map((length) => new Uint8Array(length));
  assertEquals(await ask(sizes[0]!, { dontFragment }), 1372);
  assertEquals(await ask(sizes[1]!, { dontFragment }), "2 silence");
  assertEquals(await ask(sizes[1]!), 1373, "fragmented");
  network.icmp = true;
  assertEquals(
    await ask(sizes[1]!, { dontFragment }),
    "1 Message too long: the path takes datagrams of at most 1400 bytes with headers",
  );
  await network.run(server.shutdown());
  assertEquals(await ask("x"), "1 Connection refused (os error 111)");
  network.icmp = false;
  assertEquals(await ask("x"), "2 silence");
});

Deno.test("SimulatedNetwork: refuses what UDP does not carry, by the version of IP", async () => {
  const { network } = start();
  const { runtime } = network;
  const socket = openSocket(
    { hostname: "::", runtime, onError() {} },
    () => {},
  );
  for (const [to, most] of [["192.0.2.9", 65_507], ["2001:db8::9", 65_527]]) {
    const send = (length: number) =>
      network.run(
        socket.send(new Uint8Array(length), { hostname: `${to}`, port: 9 }),
      );
    await send(Number(most));
    await assertRejects(
      () => send(Number(most) + 1),
      Error,
      "Message too long",
    );
  }
  await network.run(socket.close());
});

Deno.test("groups: members answer hosts without an interface set, by its name too", async () => {
  const network = new SimulatedNetwork();
  const { runtime } = network;
  const groups = ["239.1.2.3", "ff02::123"];
  const servers = [undefined, "eth0"].map((name, i) =>
    serve({ port: 5000 + i, groups, interface: name, runtime }, () => "here")
  );
  for (const { addr: { port } } of servers) {
    for (const host of ["239.1.2.3", "[ff02::123%eth0]"]) {
      const asked = gather(`${host}:${port}`, "?", { runtime, maxReplies: 1 });
      const [reply] = await network.run(Array.fromAsync(asked));
      assertEquals(reply!.text(), "here");
    }
  }
  await network.run(Promise.all(servers.map((one) => one.shutdown())));
});

Deno.test("Plan: gets the time of the send, and numbers of the seed that are not the runtime's", async () => {
  const seen = async (seed: number, draws: number) => {
    const { length } = Array.from({ length: draws });
    const lines: string[] = [];
    const network = new SimulatedNetwork(({ at, data, random }) => {
      lines.push(`${at} ${data.length} ${random()}`);
      return [5];
    }, { seed });
    for (let i = 0; i < length; i++) network.runtime.random();
    for (const size of [1, 2]) {
      network.pass({ ...SERVER, port: 9 }, SERVER, new Uint8Array(size));
      await network.runFor(250);
    }
    return lines;
  };
  const lines = await seen(3, 0);
  assertEquals(lines.map((line) => line.split(" ").slice(0, 2)), [
    ["0", "1"],
    ["250", "2"],
  ]);
  assertEquals(await seen(3, 5), lines);
  assert((await seen(4, 0)).join() !== lines.join());
});

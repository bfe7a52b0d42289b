/** Loops of two servers, begun by a datagram with a forged source. */
import { assert, assertEquals } from "@std/assert";
import { encode } from "../../lib/encoding.ts";
import { stampReflector } from "../../lib/stamp/reflector.ts";
import { echo, fixedReply } from "../../lib/server/responders.ts";
import { serve, type ServeOptions } from "../../lib/server/serve.ts";
import type { Handler } from "../../lib/server/handler.ts";
import {
  encodeSender,
  ERROR_ESTIMATE,
  timestampOf,
} from "../../lib/stamp/packet.ts";
import { seededRandom } from "../../lib/testing/mod.ts";
import { restfulNetworks } from "../helpers.ts";

const makeNetwork = restfulNetworks();

const A = { hostname: "198.51.100.1", port: 20001 };
const B = { hostname: "198.51.100.2", port: 20002 };

/** The behaviour of the servers of a pair. */
const MODES: Record<string, () => Handler> = {
  "echo": echo,
  "the default reply": () => fixedReply("Hello UDP Client"),
  "another reply": () => fixedReply("x"),
  "an empty reply": () => fixedReply(""),
  "an asynchronous echo": () => (data) => Promise.resolve(data),
  "a handler of its own": () => () => "text",
  "a STAMP reflector": () => stampReflector(),
  "a stateless reflector": () => stampReflector({ stateless: true }),
  "a count": counting,
  "a reply that grows": () => (data) => new Uint8Array([...data, 1]),
  "two replies": () => (data, { reply }) => {
    reply(data);
    return data;
  },
};

/** Answers each datagram with another text. */
function counting(): Handler {
  let count = 0;
  return () => `the answer number ${count++}`;
}

interface Collision {
  /** The time from one server to the other and back. */
  rttMs: number;
  /** The number of datagrams with a forged source. */
  forged: number;
  options: ServeOptions;
}

/** The time of a loop's thousandth answer, the probe, and its end. */
const limitMs = ({ rttMs, forged }: Collision) =>
  1000 * rttMs / forged + 3 * rttMs + 10;

/**
 * Starts a loop; returns the time of the last datagram, and the number of all.
 */
async function collide(a: Handler, b: Handler, collision: Collision) {
  const { rttMs, forged, options } = collision;
  let lastAt = 0;
  let sent = 0;
  const network = makeNetwork(() => {
    lastAt = network.now;
    sent++;
    network.sent.length = 0; // Only their number counts here.
    return [rttMs / 2];
  });
  const { runtime } = network;
  const servers = [
    serve({ ...A, runtime, ...options }, a),
    serve({ ...B, runtime, ...options }, b),
  ];
  // Valid requests to a reflector, and all different.
  for (let i = 0; i < forged; i++) {
    network.pass(
      B,
      A,
      encodeSender({
        sequence: i,
        timestamp: timestampOf(runtime.timeOrigin + i),
        errorEstimate: ERROR_ESTIMATE,
        ssid: 0,
      }),
    );
  }
  await network.runFor(limitMs(collision) + 5 * rttMs + 1);
  await Promise.all(servers.map((server) => server.shutdown()));
  return { lastAt, sent };
}

// Without a limit on the rate, as on loopback: the limit would slow the loop
// down.
const options = { guard: { rateLimit: 0 }, quiet: true };

for (const [nameA, a] of Object.entries(MODES)) {
  for (const [nameB, b] of Object.entries(MODES)) {
    Deno.test(`serve(): a loop ends: ${nameA} against ${nameB}`, async () => {
      for (const [rttMs, forged] of [[5, 1], [40, 2], [1000, 7]] as const) {
        const collision = { rttMs, forged, options };
        const { lastAt, sent } = await collide(a(), b(), collision);
        assert(sent >= 2, `${sent} datagrams`);
        assert(lastAt < limitMs(collision), `still going after ${lastAt} ms`);
      }
    });
  }
}

for (const rttMs of [0.1, 0.4, 1, 60, 200, 5000]) {
  for (const forged of [1, 10, 50, 200]) {
    Deno.test(`serve(): a loop of ${rttMs} ms ends, with ${forged} datagrams at once`, async () => {
      const circulating: Collision = { rttMs, forged, options };
      const { lastAt } = await collide(echo(), counting(), circulating);
      assert(lastAt < limitMs(circulating), `still going after ${lastAt} ms`);
    });
  }
}

Deno.test("serve(): a loop that begins within its verdict's minute ends at once", async () => {
  const network = makeNetwork(() => [1]);
  const { runtime } = network;
  const one = serve({ ...A, runtime, ...options }, echo());
  const other = serve({ ...B, runtime, ...options }, echo());
  network.pass(B, A, encode("forged"));
  await network.runFor(5000);
  const sent = network.sent.length;
  for (let i = 0; i < 20; i++) {
    network.pass(B, A, encode(`forged again ${i}`));
    network.pass(A, B, encode(`forged again ${i}`));
    await network.runFor(1000);
  }
  assertEquals(network.sent.length - sent, 40);
  await one.shutdown();
  await other.shutdown();
  assertEquals(one.stats().refused.loop + other.stats().refused.loop, 41);
});

/** Sends requests from one port; returns the observed answers. */
async function steady(
  everyMs: number | (() => number),
  count: number,
  { port = 40_000, payload = (seq: number) => `${seq}` } = {},
) {
  const probes: unknown[] = [];
  const network = makeNetwork(({ from, to }) => {
    if (from.hostname === A.hostname && from.port !== A.port) probes.push(to);
    network.sent.length = 0;
    return [1];
  });
  const { runtime } = network;
  const server = serve({ ...A, runtime, ...options }, echo());
  const socket = runtime.open({
    hostname: B.hostname,
    port,
    maxDatagramBytes: 100,
  });
  let answered = 0;
  let latest = 0;
  const sentAt: number[] = [];
  socket.start({
    onDatagram(datagram) {
      socket.release(datagram);
      if (datagram.remoteAddr.port !== A.port) return;
      latest = Math.max(latest, network.now - sentAt[answered++]!);
    },
  });
  const all = Promise.withResolvers<void>();
  const send = () => {
    if (sentAt.length === count) return all.resolve();
    socket.send(encode(payload(sentAt.length)), server.addr);
    sentAt.push(network.now);
    runtime.after(typeof everyMs === "number" ? everyMs : everyMs(), send);
  };
  send();
  await network.run(all.promise);
  await network.runFor(10_000);
  socket.close();
  await server.shutdown();
  const { loop } = server.stats().refused;
  return { answered, latest, refused: loop, probes: probes.length };
}

for (const hertz of [1, 10, 60, 1000, 10_000, 100_000]) {
  const count = Math.min(100_000, Math.max(2000, hertz));
  Deno.test(`serve(): a client at ${hertz} Hz gets every answer, at once`, async () => {
    for (const port of [862, 40_000]) {
      const { answered, latest, refused } = await steady(1000 / hertz, count, {
        port,
      });
      assertEquals([answered, refused], [count, 0]);
      assert(latest < 2.001, `an answer after ${latest} ms`);
    }
  });
}

Deno.test("LoopProbe: probes a client after 1,000, 4,000 and 16,000 repeated answers", async () => {
  const { answered, probes } = await steady(10, 20_000, {
    payload: () => "ping",
  });
  assertEquals([answered, probes], [20_000, 3]);
});

Deno.test("serve(): successive clients on one port are answered at once", async () => {
  for (const seed of [1, 2, 3, 4]) {
    const random = seededRandom(seed);
    const { answered, latest, refused } = await steady(
      () => 100 + 8000 * random() ** 2,
      500,
    );
    assertEquals([answered, refused], [500, 0]);
    assert(latest < 2.001, `an answer after ${latest} ms`);
  }
});

/** Clients that send at each answer, with `window` requests in flight. */
async function closedLoop(window: number, guard: ServeOptions["guard"]) {
  const network = makeNetwork(() => {
    network.sent.length = 0;
    return [0.5];
  });
  const { runtime } = network;
  const server = serve({ ...A, runtime, guard, quiet: true }, echo());
  const socket = runtime.open({ ...B, port: 0, maxDatagramBytes: 100 });
  let answered = 0;
  let isOver = false;
  const ask = () => void socket.send(encode(`${answered}`), server.addr);
  socket.start({
    onDatagram(datagram) {
      socket.release(datagram);
      if (datagram.remoteAddr.port !== A.port || isOver) return;
      answered++;
      ask();
    },
  });
  for (let i = 0; i < window; i++) ask();
  await network.runFor(5000);
  isOver = true;
  await network.runFor(10);
  socket.close();
  await server.shutdown();
  return answered;
}

Deno.test("serve(): a client that waits for its answers gets as many as without the guard", async () => {
  for (const window of [1, 8, 32]) {
    const [on, off] = await Promise.all([
      closedLoop(window, { rateLimit: 0 }),
      closedLoop(window, false),
    ]);
    assertEquals([on, on >= 5000 * window - window], [off, true]);
  }
});

Deno.test("guard.loops: false ignores a loop, and keeps the other limits", async () => {
  const guard = { loops: false, rateLimit: 0 };
  const { lastAt } = await collide(echo(), echo(), {
    rttMs: 5,
    forged: 1,
    options: { guard },
  });
  assert(lastAt > 5000);
  const network = makeNetwork();
  const { runtime } = network;
  const server = serve(
    { ...A, runtime, guard: { loops: false }, quiet: true },
    () => new Uint8Array(1000),
  );
  network.pass({ ...B, port: 40_000 }, A, encode("x"));
  await network.runFor(10);
  await server.shutdown();
  assertEquals(server.stats().refused.amplification, 1);
});

Deno.test("LoopProbe: reports a missing permission once, and does not probe", async () => {
  const network = makeNetwork(() => [1]);
  const runtime = Object.assign(Object.create(network.runtime), {
    isPermitted: () => false,
  });
  const errors: string[] = [];
  const server = serve({
    ...A,
    runtime,
    onError: (error) => void errors.push((error as Error).message),
  }, echo());
  for (let i = 0; i < 4000; i++) {
    network.pass(B, A, encode("x"));
    await network.runFor(10);
  }
  assertEquals(errors, [
    'Cannot probe 198.51.100.2:20002 for a loop of replies: it needs net access to "198.51.100.1:0"',
  ]);
  assertEquals(server.stats().replied, 4000);
  assertEquals(network.sockets.size, 1);
  await server.shutdown();
});

Deno.test("LoopProbe: a probe ends after 6 s, and with its server", async () => {
  for (const withServer of [false, true]) {
    const network = makeNetwork(() => [1]);
    const { runtime } = network;
    const server = serve({ ...A, runtime }, echo());
    for (let i = 0; i < 1000; i++) network.pass(B, A, encode(`${i}`));
    await network.runFor(100);
    assertEquals(network.sockets.size, 2);
    if (withServer) {
      await server.shutdown();
      assertEquals([network.sockets.size, network.timers], [0, 0]);
      continue;
    }
    await network.runFor(5800);
    assertEquals(network.sockets.size, 2);
    await network.runFor(200);
    assertEquals(network.sockets.size, 1);
    await server.shutdown();
  }
});

Deno.test("LoopProbe: at most 64 probes wait at once; a later answer repeats the others", async () => {
  const network = makeNetwork(({ to }) => to.port === A.port ? [1] : []);
  const { runtime } = network;
  const server = serve({ ...A, runtime, guard: { rateLimit: 0 } }, echo());
  const ports = Array.from({ length: 100 }, (_, i) => 1000 + i);
  for (let i = 0; i < 1100; i++) { // The first probe is 200 ms old at the end.
    for (const port of ports) network.pass({ ...B, port }, A, encode(`${i}`));
    network.sent.length = 0;
    await network.runFor(2);
  }
  assertEquals(network.sockets.size, 1 + 21);
  for (let i = 0; i < 1400; i++) {
    for (const port of ports) network.pass({ ...B, port }, A, encode(`${i}`));
    network.sent.length = 0;
    await network.runFor(2);
  }
  assertEquals(network.sockets.size, 1 + 64);
  await network.runFor(5000);
  await server.shutdown();
});

Deno.test("LoopProbe: only a reply from the peer's address and port is a verdict", async () => {
  const network = makeNetwork(() => [1]);
  const { runtime } = network;
  const server = serve({ ...A, runtime }, echo());
  for (let i = 0; i < 1000; i++) network.pass(B, A, encode(`${i}`));
  await network.runFor(100);
  const probe = [...network.sockets.values()].find(({ addr }) =>
    addr.port !== A.port
  )!;
  probe.arrive(encode("x"), { ...B, port: B.port + 1 });
  probe.arrive(encode("x"), { ...B, hostname: "198.51.100.3" });
  network.pass(B, A, encode("y"));
  await network.runFor(10);
  assertEquals([server.stats().replied, probe.open], [1001, true]);
  probe.arrive(encode("x"), B);
  network.pass(B, A, encode("z"));
  await network.runFor(10);
  assertEquals([server.stats().refused.loop, probe.open], [1, false]);
  await server.shutdown();
});

Deno.test("serve(): a loop of two servers with the default reply ends at its first return", async () => {
  const reply = MODES["the default reply"]!;
  const collision = { rttMs: 5, forged: 1, options };
  const { sent } = await collide(reply(), reply(), collision);
  assertEquals(sent, 2);
});

Deno.test("serve(): a loop never ends without the guard", async () => {
  const collision = { rttMs: 5, forged: 1, options: { guard: false } } as const;
  const { lastAt } = await collide(echo(), echo(), collision);
  assert(lastAt > 1999);
});

Deno.test("serve(): a server does not answer itself", async () => {
  const network = makeNetwork(() => [0.2]);
  const server = serve({ ...A, runtime: network.runtime }, echo());
  network.pass(A, A, encode("forged"));
  await network.runFor(100);
  assertEquals(network.sent.length, 1);
  await server.shutdown();
  assertEquals(server.stats().refused.self, 1);
});

Deno.test("guard.loops: a loop that grows until most datagrams are dropped ends too", async () => {
  // A receive buffer of 100 datagrams on the way to each host; no probe has room
  // for three seconds.
  const arrivals = new Map<string, number[]>();
  let lastAt = 0;
  const network = makeNetwork(({ from, to }) => {
    lastAt = network.now;
    network.sent.length = 0;
    if (![A.port, B.port].includes(from.port) && lastAt < 3000) return [];
    const waiting = (arrivals.get(to.hostname) ?? [])
      .filter((at) => at > network.now);
    arrivals.set(to.hostname, waiting);
    if (waiting.length >= 100) return [];
    const last = waiting.at(-1) ?? network.now;
    waiting.push(last + 0.05);
    return [last + 0.05 - network.now];
  });
  const { runtime } = network;
  const several: Handler = (data, { reply }) => {
    for (let i = 0; i < 9; i++) reply(data);
    return data;
  };
  const servers = [A, B].map((addr) =>
    serve({ ...addr, runtime, ...options }, several)
  );
  network.pass(B, A, encode("forged"));
  await network.runFor(6000);
  await Promise.all(servers.map((server) => server.shutdown()));
  assert(lastAt > 3000 && lastAt < 3500, `still going after ${lastAt} ms`);
});

Deno.test("guard.loops: a reply to a probe counts whether or not its address has a zone", async () => {
  const network = makeNetwork(() => [1]);
  const { runtime } = network;
  const addr = { hostname: "fe80::1", port: 20001 };
  const server = serve({ ...addr, runtime, quiet: true }, echo());
  const peer = { hostname: "fe80::2%2", port: 20002 };
  for (let i = 0; i < 1000; i++) network.pass(peer, addr, encode(`${i}`));
  await network.runFor(100);
  const probe = [...network.sockets.values()].find(({ addr }) =>
    addr.port !== A.port
  )!;
  probe.arrive(encode("x"), { ...peer, hostname: "fe80::2" });
  network.pass(peer, addr, encode("y"));
  await network.runFor(10);
  await server.shutdown();
  assertEquals(server.stats().refused.loop, 1);
});

Deno.test("guard.loops: a draining server sends no probe", async () => {
  const probes: unknown[] = [];
  const network = makeNetwork(({ from, to }) => {
    if (from.hostname === A.hostname && from.port !== A.port) probes.push(to);
    return [1];
  });
  const { runtime } = network;
  const last = Promise.withResolvers<string>();
  let asked = 0;
  const server = serve(
    { ...A, runtime, ...options },
    () => ++asked < 1000 ? "x" : last.promise,
  );
  for (let i = 0; i < 1000; i++) network.pass(B, A, encode(`${i}`));
  await network.runFor(100);
  const closed = server.shutdown();
  last.resolve("x");
  await network.run(closed);
  assertEquals([server.stats().replied, probes], [1000, []]);
});

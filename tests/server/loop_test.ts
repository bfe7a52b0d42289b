/** Two servers set against each other by a datagram with a forged source. */
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

/** What the servers of a pair may do. */
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
};

/** Answers each datagram with another text. */
function counting(): Handler {
  let count = 0;
  return () => `the answer number ${count++}`;
}

interface Collision {
  /** From one server to the other and back. */
  rttMs: number;
  /** How many datagrams with a forged source begin it. */
  forged: number;
  options: ServeOptions;
}

/** How long a loop may go on. */
const limitMs = (rttMs: number) => Math.max(2000, 10 * rttMs);

/** Sets a pair against each other; when the last datagram was sent, of how many. */
async function collide(
  a: Handler,
  b: Handler,
  { rttMs, forged, options }: Collision,
) {
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
  // Requests to a reflector, as good as any to the others, and all different.
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
  await network.runFor(limitMs(rttMs) + rttMs + 1);
  await Promise.all(servers.map((server) => server.shutdown()));
  return { lastAt, sent };
}

// Without a limit on the rate, as on loopback: the limit would slow it down.
const options = { guard: { rateLimit: 0 } };

for (const [nameA, a] of Object.entries(MODES)) {
  for (const [nameB, b] of Object.entries(MODES)) {
    Deno.test(`a pair comes to rest: ${nameA} against ${nameB}`, async () => {
      for (const [rttMs, forged] of [[5, 1], [40, 2], [1000, 7]] as const) {
        const { lastAt, sent } = await collide(a(), b(), {
          rttMs,
          forged,
          options,
        });
        assert(sent >= 2, `${sent} datagrams`);
        assert(lastAt < limitMs(rttMs), `still going after ${lastAt} ms`);
      }
    });
  }
}

for (const rttMs of [0.1, 0.4, 1, 60, 300, 5000]) {
  for (const forged of [1, 10, 50]) {
    Deno.test(`what circulates in ${rttMs} ms comes to rest, ${forged} at once`, async () => {
      const circulating: Collision = { rttMs, forged, options };
      const { lastAt } = await collide(echo(), counting(), circulating);
      assert(lastAt < limitMs(rttMs), `still going after ${lastAt} ms`);
    });
  }
}

/** A client on one port; how many of its requests were answered, and late. */
async function steady(everyMs: number | (() => number), count: number) {
  const network = makeNetwork(() => {
    network.sent.length = 0;
    return [1];
  });
  const { runtime } = network;
  const server = serve({ ...A, runtime, ...options }, echo());
  const socket = runtime.open({
    hostname: B.hostname,
    port: 0,
    maxDatagramBytes: 100,
  });
  const sentAt: number[] = [];
  let answered = 0;
  let late = 0;
  socket.start({
    onDatagram(datagram) {
      const seq = Number(new TextDecoder().decode(datagram.data));
      answered++;
      if (network.now > sentAt[seq]! + 2.001) late++;
      socket.release(datagram);
    },
  });
  const all = Promise.withResolvers<void>();
  const send = () => {
    if (sentAt.length === count) return all.resolve();
    socket.send(encode(`${sentAt.length}`), server.addr);
    sentAt.push(network.now);
    const waitMs = typeof everyMs === "number" ? everyMs : everyMs();
    runtime.after(waitMs, send);
  };
  send();
  await network.run(all.promise);
  await network.runFor(10_000);
  socket.close();
  await server.shutdown();
  return { answered, late, refused: server.stats().refused.loop };
}

for (const hertz of [1, 10, 60, 1000, 10_000, 100_000]) {
  const count = Math.min(100_000, Math.max(2000, hertz));
  Deno.test(`a client at ${hertz} Hz is answered each time`, async () => {
    const { answered, late, refused } = await steady(1000 / hertz, count);
    assertEquals([answered, refused], [count, 0]);
    // One test of the watch, which keeps no more than this.
    assert(late <= 64, `${late} answers were late`);
  });
}

Deno.test("a port that one client after another uses is answered at once", async () => {
  for (const seed of [1, 2, 3, 4]) {
    const random = seededRandom(seed);
    const { answered, late, refused } = await steady(
      () => 100 + 8000 * random() ** 2,
      500,
    );
    assertEquals([answered, refused], [500, 0]);
    // At most one test of the watch in all of it.
    assert(late <= 10, `${late} answers were late`);
  }
});

Deno.test("a client that waits for each answer loses no more than one in a thousand", async () => {
  const network = makeNetwork(() => [1]);
  const { runtime } = network;
  const server = serve({ ...A, runtime, ...options }, echo());
  const socket = runtime.open({ ...B, port: 0, maxDatagramBytes: 100 });
  let [asked, answered] = [0, 0];
  let cancel = () => {};
  const all = Promise.withResolvers<void>();
  const ask = () => {
    if (asked++ === 20_000) return all.resolve();
    socket.send(encode("again"), server.addr);
    cancel = runtime.after(1000, ask);
  };
  socket.start({
    onDatagram(datagram) {
      socket.release(datagram);
      answered++;
      cancel();
      ask();
    },
  });
  ask();
  await network.run(all.promise);
  assert(answered >= 19_980, `${answered} of 20,000 answered`);
  socket.close();
  await server.shutdown();
});

Deno.test("a client with 32 on their way does not notice that it is tested", async () => {
  const network = makeNetwork(() => {
    network.sent.length = 0;
    return [0.5];
  });
  const { runtime } = network;
  const server = serve({ ...A, runtime, ...options }, echo());
  const socket = runtime.open({ ...B, port: 0, maxDatagramBytes: 100 });
  const cancels = new Map<string, () => void>();
  let [asked, answered, lost] = [0, 0, 0];
  const ask = () => {
    const key = `${asked++}`;
    socket.send(encode(key), server.addr);
    // It asks anew after a second, as connect() does.
    const cancel = runtime.after(1000, () => {
      lost++;
      cancels.delete(key);
      ask();
    });
    cancels.set(key, cancel);
  };
  socket.start({
    onDatagram(datagram) {
      const key = new TextDecoder().decode(datagram.data);
      socket.release(datagram);
      if (cancels.has(key)) answered++;
      cancels.get(key)?.();
      if (cancels.delete(key)) ask();
    },
  });
  for (let i = 0; i < 32; i++) ask();
  await network.runFor(5000);
  for (const cancel of cancels.values()) cancel();
  // 32 in each millisecond, but for two pauses of 30 ms and what was lost.
  assert(answered > 150_000, `${answered} answers in five seconds`);
  assertEquals(lost, 4);
  socket.close();
  await server.shutdown();
});

Deno.test("two servers with the default reply stop at its first return", async () => {
  const reply = MODES["the default reply"]!;
  const collision = { rttMs: 5, forged: 1, options };
  const { sent } = await collide(reply(), reply(), collision);
  assertEquals(sent, 2);
});

Deno.test("without the guard a pair never comes to rest", async () => {
  const collision = { rttMs: 5, forged: 1, options: { guard: false } } as const;
  const { lastAt } = await collide(echo(), echo(), collision);
  assert(lastAt > 1999);
});

Deno.test("a server does not answer itself", async () => {
  const network = makeNetwork(() => [0.2]);
  const server = serve({ ...A, runtime: network.runtime }, echo());
  network.pass(A, A, encode("forged"));
  await network.runFor(100);
  assertEquals(network.sent.length, 1);
  await server.shutdown();
  assertEquals(server.stats().refused.self, 1);
});

import { assert, assertEquals, assertRejects } from "@std/assert";
import type { UdpAddress } from "../../lib/address.ts";
import { connect, type ConnectOptions } from "../../lib/client/connect.ts";
import { decode, encode } from "../../lib/encoding.ts";
import { TimeoutError } from "../../lib/client/reply.ts";
import { serve } from "../../lib/server/serve.ts";
import type { Handler } from "../../lib/server/handler.ts";
import {
  LATENCY_MS,
  type Plan,
  seededRandom,
  type SimulatedSocket,
} from "../../lib/testing/mod.ts";
import { ENGINE, linuxTest, netTest, restfulNetworks } from "../helpers.ts";

const makeNetwork = restfulNetworks();

const SERVER: UdpAddress = { hostname: "198.51.100.1", port: 20001 };

/** What stands before the colon. */
const key = (data: Uint8Array) => decode(data)!.split(":")[0];

async function start(
  handler: Handler = (data) => data,
  options: ConnectOptions = { key },
  plan?: Plan,
) {
  const network = makeNetwork(plan);
  const { runtime } = network;
  serve({ ...SERVER, runtime, guard: false, quiet: true }, handler);
  const client = await connect(SERVER, { runtime, ...options });
  const socket = [...network.sockets.values()].at(-1) as SimulatedSocket;
  return { network, client, socket, run: network.run.bind(network) };
}

const isRequest = ({ to }: { to: UdpAddress }) => to.port === SERVER.port;

Deno.test("connect(): it has many requests in flight on one port, each with its reply", async () => {
  const delays = [30, 10, 20];
  const { network, client, run } = await start(
    undefined,
    { key },
    (passing) => [
      isRequest(passing) ? 1 : delays[passing.index % 3]!,
    ],
  );
  const replies = await run(
    Promise.all(["a:1", "b:2", "c:3"].map((text) => client.request(text))),
  );
  assertEquals(replies.map((reply) => reply.text()), ["a:1", "b:2", "c:3"]);
  const ports = network.sent.filter(isRequest).map(({ from }) => from.port);
  assertEquals(new Set(ports).size, 1);
  assert(network.now <= 31);
  const { requests, answered, sent } = client.stats();
  assertEquals([requests, answered, sent], [3, 3, 3]);
  await client.close();
});

Deno.test("connect(): without a key one request is in flight at a time, in order", async () => {
  const { network, client, run } = await start(undefined, {});
  const texts = await run(Promise.all(["a", "b", "c"].map(async (text) => {
    const reply = await client.request(text);
    return `${reply.text()} ${network.now}`;
  })));
  assertEquals(texts, ["a 10", "b 20", "c 30"]);
  await client.close();
});

Deno.test("connect(): no more than maxInFlight are in flight", async () => {
  const { network, client, run } = await start(undefined, {
    key,
    maxInFlight: 2,
  });
  await run(Promise.all([1, 2, 3, 4, 5].map((id) => client.request(`${id}:`))));
  assertEquals(network.now, 3 * 2 * LATENCY_MS);
  await client.close();
});

Deno.test("connect(): a request is retransmitted by a shared timer, then times out", async () => {
  const { network, client, run } = await start(
    (data) => decode(data)!.startsWith("lost") ? undefined : data,
  );
  let timers = 0;
  const { after } = network.runtime;
  network.runtime.after = (ms, callback) => {
    timers++;
    return after(ms, callback);
  };
  const options = { timeoutMs: 100, retries: 1 };
  const lost = Array.from({ length: 50 }, (_, i) =>
    assertRejects(
      () => client.request(`lost${i}:`, options),
      TimeoutError,
      "No reply from 198.51.100.1:20001 to 2 datagrams",
    ));
  const { attempts } = await run(client.request("fine:"));
  await run(Promise.all(lost));
  assertEquals(attempts, 1);
  assert(network.now >= 300 && network.now < 330, `${network.now}`);
  // 101 datagrams each way or one, and some looks at the time.
  assert(timers < 250, `${timers}`);
  assertEquals(client.stats().retransmissions, 50);
  await client.close();
});

Deno.test("connect(): late, duplicate, foreign and unmatched datagrams are counted", async () => {
  const { network, client, socket, run } = await start(
    undefined,
    { key },
    (passing) => {
      const text = decode(passing.data)!;
      if (isRequest(passing)) return [1];
      return text === "late:" ? [500] : text === "twice:" ? [1, 2] : [1];
    },
  );
  const late = run(client.request("late:", { timeoutMs: 50, retries: 0 }));
  await assertRejects(() => late, TimeoutError);
  await run(client.request("twice:"));
  socket.arrive(encode("news:"), SERVER);
  socket.arrive(encode("late:"), { ...SERVER, port: 9 });
  await network.runFor(1000);
  const { late: lates, duplicates, unmatched, foreign } = client.stats();
  assertEquals([lates, duplicates, unmatched, foreign], [1, 1, 1, 1]);
  assertEquals(socket.held, 0);
  for await (const { data } of client) {
    assertEquals(decode(data), "news:");
    break;
  }
  await client.close();
});

Deno.test("connect(): datagrams that are not iterated are bounded and counted", async () => {
  const { client, socket } = await start();
  const large = new Uint8Array(65_024);
  for (let i = 0; i < 262; i++) socket.arrive(large, SERVER);
  const { unmatched, dropped } = client.stats();
  assertEquals([unmatched, dropped], [262, 6]);
  await client.close();
  let taken = 0;
  for await (const _ of client) taken++;
  assertEquals(taken, 256);
});

Deno.test("connect().stats(): each request is answered, lost or an error", async () => {
  const { client, run } = await start(
    undefined,
    { key, timeoutMs: 50, retries: 0 },
    (passing) =>
      isRequest(passing) && decode(passing.data) === "lost:" ? [] : [1],
  );
  const signal = AbortSignal.abort();
  const requests = [
    client.request("answered:"),
    client.request("lost:"),
    client.request("error:", {
      match: () => {
        throw new Error("refused");
      },
    }),
    client.request("never made:", { signal }),
  ];
  await run(Promise.allSettled(requests));
  const { requests: made, answered, lost, errors } = client.stats();
  assertEquals([made, answered, lost, errors], [3, 1, 1, 1]);
  await client.close();
});

Deno.test("connect(): match refuses or decodes, and its error rejects the request", async () => {
  const { client, run } = await start();
  const matched = client.request("a:5", {
    match: (data) => Number(decode(data)!.split(":")[1]),
  });
  assertEquals((await run(matched)).value, 5);
  const failing = client.request("b:", {
    match: () => {
      throw new Error("match");
    },
  });
  await assertRejects(() => run(failing), Error, "match");
  // It was the reply, of which nobody else is to hear.
  assertEquals(client.stats().unmatched, 0);
  const refused = client.request("c:", {
    match: () => false,
    timeoutMs: 50,
    retries: 0,
  });
  await assertRejects(() => run(refused), TimeoutError);
  assertEquals(client.stats().unmatched, 1);
  await client.close();
});

Deno.test("connect(): requests aborted while waiting, or too large, are never sent", async () => {
  const { network, client, run } = await start(undefined, {});
  const controller = new AbortController();
  const { signal } = controller;
  const first = client.request("first");
  const second = client.request("second", { signal });
  const third = client.request("third");
  controller.abort();
  await assertRejects(() => second, DOMException);
  assertEquals((await run(Promise.all([first, third]))).length, 2);
  await assertRejects(() => client.send(new Uint8Array(65_508)), RangeError);
  await client.send("alone");
  assertEquals(
    network.sent.filter(isRequest).map(({ data }) => decode(data)),
    ["first", "third", "alone"],
  );
  assertEquals(client.stats().sent, 3);
  await client.close();
});

Deno.test("connect(): a key that is in use or missing rejects its request alone", async () => {
  const { client, run } = await start(undefined, {
    key: (data) => data.length === 0 ? undefined : key(data),
  });
  const first = client.request("a:1");
  await assertRejects(
    () => client.request("a:2"),
    TypeError,
    "A request with the key a is in flight already: give each request a key of its own, such as a new id",
  );
  await assertRejects(() => client.request(""), TypeError, "'key()' must give");
  for (const wrong of [null, {}, NaN, true]) {
    const odd = await start(undefined, { key: () => wrong as never });
    const asked = () => odd.client.request("x");
    await assertRejects(asked, TypeError, "'key()' must give");
    await odd.client.close();
  }
  assertEquals((await run(first)).text(), "a:1");
  const large = new Uint8Array(65_508);
  await assertRejects(() => client.request(large), RangeError, "at most 65507");
  const wrong = { retries: -1 };
  await assertRejects(
    () => client.request("x:", wrong),
    RangeError,
    "'retries'",
  );
  await client.close();
});

Deno.test("connect(): a signal ends its request, and the next one is sent", async () => {
  const { client, run } = await start(
    (data) => decode(data) === "stuck" ? undefined : data,
    {},
  );
  const controller = new AbortController();
  const { signal } = controller;
  const stuck = client.request("stuck", { signal });
  const waits = client.request("waits", { signal });
  const next = client.request("next");
  const reason = new Error("enough");
  controller.abort(reason);
  for (const one of [stuck, waits]) {
    assert(reason === await assertRejects(() => one, Error));
  }
  assertEquals((await run(next)).text(), "next");
  const late = client.request("x", { signal });
  assert(reason === await assertRejects(() => late, Error));
  await client.close();
});

Deno.test("connect(): close() rejects all requests, pending and later ones", async () => {
  const { network, client, run } = await start(() => {}, {});
  const all = [client.request("a"), client.request("b")];
  const closed = client.close();
  for (const one of [...all, client.request("c"), client.send("d")]) {
    await assertRejects(() => one, Deno.errors.Interrupted, "was closed");
  }
  await run(closed);
  assertEquals(network.sockets.size, 1);
  for await (const _ of client) assert(false);
});

Deno.test("connect(): a socket that fails for good rejects all requests with its error", async () => {
  const { client, socket } = await start(() => {}, {});
  const request = client.request("a");
  const gone = new Error("interface gone");
  socket.fail(gone);
  assert(gone === await assertRejects(() => request, Error));
  assert(gone === await assertRejects(() => client.request("b"), Error));
});

Deno.test("connect(): replies reach their requests despite loss, copies and reordering", async () => {
  const random = seededRandom(7);
  const { client, run } = await start(
    undefined,
    { key, maxInFlight: 32 },
    () =>
      random() < 0.2
        ? []
        : random() < 0.2
        ? [random() * 300, random() * 300]
        : [random() * 300],
  );
  const options = { timeoutMs: 400, retries: 20 };
  const all = Array.from({ length: 1500 }, async (_, i) => {
    const reply = await client.request(`${i}:same`, options);
    return reply.text() === `${i}:same`;
  });
  assertEquals(
    (await run(Promise.all(all))).filter((isRight) => isRight).length,
    1500,
  );
  const { requests, answered, unmatched, foreign } = client.stats();
  assertEquals([requests, answered, unmatched, foreign], [1500, 1500, 0, 0]);
  await client.close();
});

netTest(
  "connect(): a thousand requests on one socket, 64 at a time",
  async () => {
    await using server = serve({ engine: ENGINE }, (data) => data);
    const first = (data: Uint8Array) => data[0]! << 8 | data[1]!;
    await using client = await connect(server.addr, {
      engine: ENGINE,
      key: first,
      maxInFlight: 64,
    });
    const replies = await Promise.all(
      Array.from(
        { length: 1000 },
        (_, i) => client.request(new Uint8Array([i >> 8, i & 255, 1])),
      ),
    );
    assertEquals(
      replies.map(({ data }) => first(data)),
      replies.map((_, i) => i),
    );
  },
);

linuxTest(
  "connect(): a closed port rejects all in flight at once, and the client continues",
  async () => {
    const reserved = serve(() => {});
    await reserved.shutdown();
    await using client = await connect(reserved.addr, { engine: "linux", key });
    const asked = ["a:", "b:"].map((text) => client.request(text));
    for (const one of asked) {
      const { cause } = await assertRejects(() => one, TimeoutError);
      assert(cause instanceof Deno.errors.ConnectionRefused);
    }
    await using _server = serve(reserved.addr, (data) => data);
    assertEquals((await client.request("c:")).text(), "c:");
  },
);

Deno.test("connect(): the reply to a request that was aborted is late", async () => {
  const { network, client } = await start();
  const controller = new AbortController();
  const { signal } = controller;
  const asked = client.request("a:", { signal });
  controller.abort();
  await assertRejects(() => asked, DOMException);
  await network.runFor(100);
  const { late, unmatched } = client.stats();
  assertEquals([late, unmatched], [1, 0]);
  await client.close();
});

Deno.test("connect(): a report about an earlier datagram ends no request of an unconnected socket", async () => {
  const refused = new Deno.errors.ConnectionRefused("refused");
  const { client, socket, run } = await start(
    undefined,
    { key, timeoutMs: 100 },
    (passing) => {
      if (passing.index === 0) throw refused;
      if (isRequest(passing)) socket.failOnce(refused);
      return [1];
    },
  );
  const { attempts } = await run(client.request("a:"));
  assertEquals(attempts, 2);
  const { answered, retransmissions } = client.stats();
  assertEquals([answered, retransmissions], [1, 1]);
  await client.close();
});

Deno.test("connect(): a failed send rejects its request alone, with the system's error", async () => {
  const { client, run } = await start(undefined, { key }, ({ data }) => {
    if (decode(data) === "b:") throw new Error("no route");
    return [1];
  });
  const all = ["a:", "b:", "c:"].map((text) => client.request(text));
  await assertRejects(() => run(all[1]!), Error, "no route");
  assertEquals((await run(all[2]!)).text(), "c:");
  await client.close();
});

Deno.test("connect(): a client that has ended keeps the reason of its end", async () => {
  const controller = new AbortController();
  const { client, run } = await start(undefined, {
    key,
    signal: controller.signal,
  });
  const iterated = assertRejects(
    () => client[Symbol.asyncIterator]().next(),
    Error,
  );
  const reason = new Error("enough");
  controller.abort(reason);
  await run(client.close());
  const error = await assertRejects(() => client.request("a:"), Error);
  assert(error === reason);
  assert(await iterated === reason);
});

/** The user's functions that are called within a client. */
const PLACES = ["payload", "key of a request", "key of a reply", "match"];

for (const place of PLACES) {
  for (const isAbort of [false, true]) {
    Deno.test(`connect(): ${isAbort ? "an abort" : "a close"} within ${place} leaves no request pending`, async () => {
      const controller = new AbortController();
      const { signal } = controller;
      let keys = 0;
      const end = (at: string) => {
        if (at !== place) return;
        if (isAbort) controller.abort(new Error("enough"));
        else client.close();
      };
      const { client, network, run } = await start(undefined, {
        retries: 0,
        key: (data) => {
          end(++keys > 1 ? "key of a reply" : "key of a request");
          return key(data);
        },
        ...(isAbort ? { signal } : {}),
      });
      const asked = client.request(() => {
        end("payload");
        return "a:";
      }, {
        match: () => {
          end("match");
          return true;
        },
      });
      const reason = isAbort ? "enough" : "The client was closed";
      await run(assertRejects(() => asked, Error, reason));
      const isSent = place === "key of a reply" || place === "match";
      assertEquals(network.sent.filter(isRequest).length, isSent ? 1 : 0);
      assertEquals([client.stats().answered, network.timers], [0, 0]);
      await client.close();
    });
  }
}

Deno.test("connect(): an option of a request replaces the client's, all others remain", async () => {
  // All combinations of three options of the request and two of the client.
  for (let set = 0; set < 32; set++) {
    const [hasTime, hasRetries, hasMatch, clientHasTime, clientHasRetries] = [
      1,
      2,
      4,
      8,
      16,
    ].map((bit) => (set & bit) !== 0);
    // Without a match nothing answers, with it all replies are refused.
    const { network, client, run } = await start(
      hasMatch ? undefined : () => {},
      {
        timeoutMs: clientHasTime ? 200 : undefined,
        retries: clientHasRetries ? 4 : undefined,
      },
    );
    let refused = 0;
    const times: number[] = [];
    const payload = () => {
      times.push(network.now);
      return "x";
    };
    const asked = client.request(payload, {
      timeoutMs: hasTime ? 50 : undefined,
      retries: hasRetries ? 1 : undefined,
      match: hasMatch ? () => ++refused < 0 : undefined,
    });
    const error = await run(assertRejects(() => asked, TimeoutError));
    const timeoutMs = hasTime ? 50 : clientHasTime ? 200 : 1000;
    const retries = hasRetries ? 1 : clientHasRetries ? 4 : 2;
    const waitMs = times[1]! - times[0]!;
    assert(
      waitMs >= timeoutMs && waitMs <= timeoutMs * 1.1,
      `${set}: ${waitMs} ms instead of ${timeoutMs}`,
    );
    assertEquals(error.attempts, retries + 1, `${set}`);
    assertEquals(refused, hasMatch ? retries + 1 : 0, `${set}`);
    await client.close();
  }
});

Deno.test("connect(): a request that is aborted in its own payload is not sent, and the next one is", async () => {
  const { client, network, run } = await start(undefined, {});
  const controller = new AbortController();
  const aborted = client.request(() => {
    controller.abort(new Error("enough"));
    return "a";
  }, { signal: controller.signal });
  const next = client.request("b");
  await run(assertRejects(() => aborted, Error, "enough"));
  assertEquals((await run(next)).text(), "b");
  assertEquals(network.sent.filter(isRequest).length, 1);
  const { answered, errors, lost } = client.stats();
  assertEquals([answered, errors, lost], [1, 1, 0]);
  await client.close();
});

Deno.test("connect(): a retransmission that closes the client is the last one", async () => {
  const { client, network, run } = await start(undefined, { key }, () => []);
  const all = ["a:", "b:"].map((text) =>
    client.request((attempt) => {
      if (attempt === 2) client.close();
      return text;
    })
  );
  const rejected = all.map((asked) =>
    assertRejects(() => asked, Deno.errors.Interrupted)
  );
  await run(Promise.all(rejected));
  assertEquals([network.sent.length, network.timers], [2, 0]);
});

Deno.test("connect(): a send that fails and that nobody awaits is counted, and ends no process", async () => {
  const { client, socket } = await start();
  socket.send = () => Promise.reject(new Error("no buffer"));
  const floating: unknown[] = [];
  const listener = (event: PromiseRejectionEvent) => {
    event.preventDefault();
    floating.push(event.reason);
  };
  addEventListener("unhandledrejection", listener);
  client.send("one");
  client.send(new Uint8Array(65_508));
  await client.close();
  client.send("closed");
  await new Promise((resolve) => setTimeout(resolve));
  removeEventListener("unhandledrejection", listener);
  assertEquals([floating, client.stats().errors], [[], 3]);
});

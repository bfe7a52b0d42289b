/** Answers of several datagrams to one request. */
import { assertEquals, assertRejects } from "@std/assert";
import type { UdpAddress } from "../../lib/address.ts";
import { decode, encode } from "../../lib/encoding.ts";
import { connect, type ConnectOptions } from "../../lib/client/connect.ts";
import type { RequestOptions } from "../../lib/client/exchange.ts";
import type { RepliesOptions } from "../../lib/client/replies.ts";
import { TimeoutError, type UdpReply } from "../../lib/client/reply.ts";
import { request } from "../../lib/client/request.ts";
import { serve } from "../../lib/server/serve.ts";
import {
  CLIENT_HOST,
  LATENCY_MS,
  type SimulatedNetwork,
  type SimulatedSocket,
} from "../../lib/testing/mod.ts";
import { ENGINE, netTest, restfulNetworks } from "../helpers.ts";

const makeNetwork = restfulNetworks();

const SERVER: UdpAddress = { hostname: "198.51.100.1", port: 20001 };

/** The client's sockets: all but the server's. */
function clients(network: SimulatedNetwork): SimulatedSocket[] {
  return [...network.sockets.values()]
    .filter(({ addr }) => addr.hostname === CLIENT_HOST);
}

/** Asks for several replies. */
function askAll(
  network: SimulatedNetwork,
  replies: number | ((reply: UdpReply) => boolean),
  options: RequestOptions = {},
) {
  const { runtime } = network;
  return network.run(
    request(SERVER, "ping", { runtime, replies, ...options }),
  );
}

/** A network with a server on it that answers with four datagrams. */
function networkOfFour(): SimulatedNetwork {
  const network = makeNetwork();
  const { runtime } = network;
  serve({ ...SERVER, runtime, guard: false }, (_, { reply }) => {
    for (const text of ["a", "b", "c"]) reply(text);
    return "end";
  });
  return network;
}

Deno.test("request(): it gives as many replies as the answer has", async () => {
  const network = networkOfFour();
  const texts = async (...args: Parameters<typeof askAll>) =>
    (await askAll(...args)).map((reply) => reply.text()).sort();
  assertEquals(await texts(network, 4), ["a", "b", "c", "end"]);
  assertEquals((await askAll(network, 2)).length, 2);
  const isLast = (reply: UdpReply) => reply.text() === "end";
  assertEquals((await texts(network, isLast)).at(-1), "end");
  assertEquals(clients(network), []);
});

Deno.test("request(): a partial answer is not retransmitted for, and its error has the count", async () => {
  const network = networkOfFour();
  const error = await assertRejects(
    () => askAll(network, 5, { timeoutMs: 100 }),
    TimeoutError,
    "Replies received from 198.51.100.1:20001: 4 of 5, and no other in time",
  );
  assertEquals(error.attempts, 1);
  assertEquals(network.now, 2 * LATENCY_MS + 100);
  const silent = makeNetwork(() => []);
  await assertRejects(
    () => askAll(silent, 5, { retries: 1 }),
    TimeoutError,
    "No reply from 198.51.100.1:20001 to 2 datagrams",
  );
});

/** The numbers of parts in a payload, such as "2,5". */
const numbersOf = (data: Uint8Array) => decode(data)!.split(",").map(Number);

/** A network with a server that answers with each part that is requested. */
function networkOfParts(): SimulatedNetwork {
  const network = makeNetwork();
  const { runtime } = network;
  serve({ ...SERVER, runtime, guard: false }, (data, { reply }) => {
    for (const part of numbersOf(data)) reply(`${part}`);
  });
  return network;
}

const PARTS = [1, 2, 3, 4, 5, 6, 7];
const numbers = (replies: readonly UdpReply[]) =>
  replies.map((reply) => Number(reply.text())).sort();
const missing = (received: readonly UdpReply[]) =>
  PARTS.filter((part) => !numbers(received).includes(part)).join();

Deno.test("request(): the error of a partial answer has the replies received", async () => {
  const network = networkOfParts();
  network.plan = ({ data }) => decode(data) === "4" ? [] : [LATENCY_MS];
  const options = { runtime: network.runtime, replies: 7, timeoutMs: 100 };
  const error = await assertRejects(
    () => network.run(request(SERVER, PARTS.join(), options)),
    TimeoutError,
    "Replies received from 198.51.100.1:20001: 6 of 7, and no other in time",
  );
  assertEquals(numbers(error.replies), [1, 2, 3, 5, 6, 7]);
  network.plan = () => [];
  const none = await assertRejects(
    () => network.run(request(SERVER, PARTS.join(), options)),
    TimeoutError,
    "No reply",
  );
  assertEquals(none.replies, []);
});

Deno.test("request({ missing }): each retransmission requests the missing parts", async () => {
  const network = networkOfParts();
  const requested: string[] = [];
  const times: number[] = [];
  // Loses the first request, then parts 4 and 6, and part 4 once more.
  const losses = ["1,2,3,4,5,6,7", "4", "6", "4"];
  network.plan = ({ to, data }) => {
    const text = decode(data)!;
    if (to.port === SERVER.port) {
      requested.push(text);
      times.push(network.now);
    }
    if (!losses.includes(text)) return [LATENCY_MS];
    losses.splice(losses.indexOf(text), 1);
    return [];
  };
  const { runtime } = network;
  const replies = await network.run(
    request(SERVER, PARTS.join(), {
      ...{ runtime, replies: 7, missing, timeoutMs: 100, retries: 3 },
    }),
  );
  assertEquals(numbers(replies), PARTS);
  assertEquals(requested, [PARTS.join(), PARTS.join(), "4,6", "4"]);
  assertEquals(replies.at(-1)!.attempts, 4);
  // The wait for a further reply begins anew with each one.
  assertEquals(times[2]! - times[1]!, 2 * LATENCY_MS + 100);
  assertEquals(times[3]! - times[2]!, 2 * LATENCY_MS + 100);
});

Deno.test("request({ missing }): the retransmissions are limited and checked", async () => {
  const network = networkOfParts();
  network.plan = ({ data }) => decode(data) === "4" ? [] : [LATENCY_MS];
  const { runtime } = network;
  const ask = (options: Partial<RepliesOptions> & RequestOptions) =>
    network.run(
      request(SERVER, PARTS.join(), {
        ...{ runtime, timeoutMs: 100, retries: 2, replies: 7, ...options },
      }),
    );
  const error = await assertRejects(() => ask({ missing }), TimeoutError);
  assertEquals([error.attempts, error.replies.length], [3, 6]);
  const failing = () => {
    throw new Error("from missing");
  };
  await assertRejects(() => ask({ missing: failing }), Error, "from missing");
  await assertRejects(
    () => ask({ missing: () => 4 as never }),
    TypeError,
    "The payload's function of request() must return a string",
  );
  await assertRejects(
    () => ask({ missing, replies: undefined as never }),
    TypeError,
    "'missing' needs 'replies'",
  );
  assertEquals(clients(network), []);
});

Deno.test("request(): it rejects with the error of `replies`, which is checked", async () => {
  const network = networkOfFour();
  const failing = () => {
    throw new Error("from replies");
  };
  await assertRejects(() => askAll(network, failing), Error, "from replies");
  for (const wrong of [0, 65_537, 1.5]) {
    await assertRejects(() => askAll(network, wrong), RangeError, "'replies'");
  }
  for (const wrong of ["2", null, {}]) {
    await assertRejects(
      () => askAll(network, wrong as never),
      TypeError,
      "'replies' must be an integer from 1 to 65536 or a function",
    );
  }
  assertEquals(clients(network), []);
});

Deno.test("request(): it takes 65,536 replies at most", async () => {
  const network = makeNetwork();
  let asked = 0;
  const answered = askAll(network, () => ++asked < 0);
  network.runtime.after(1, () => {
    const [client] = clients(network);
    for (let i = 0; i < 65_540; i++) client!.arrive(encode("x"), SERVER);
  });
  await assertRejects(
    () => answered,
    Error,
    "65536 replies received, and 'replies()' took none as the last",
  );
  assertEquals(asked, 65_536);
});

/** A client of a network, whose requests run it. */
async function connectTo(network: SimulatedNetwork, options: ConnectOptions) {
  const { runtime } = network;
  const client = await connect(SERVER, { runtime, timeoutMs: 100, ...options });
  const ask = (text: string, options: RequestOptions & RepliesOptions) =>
    network.run(client.request(text, options));
  return { client, ask };
}

Deno.test("connect(): a request gives several replies, with and without a key", async () => {
  const network = networkOfFour();
  const keys = [undefined, () => 1];
  for (const key of keys) {
    const { client, ask } = await connectTo(network, { key });
    const four = await ask("all", { replies: 4 });
    assertEquals(four.length, 4);
    const toEnd = await ask("all", {
      replies: (reply) => reply.text() === "end",
    });
    assertEquals(toEnd.at(-1)!.text(), "end");
    const one = await network.run(client.request("all"));
    assertEquals(typeof one.text(), "string");
    const { requests, answered, sent, lost } = client.stats();
    assertEquals([requests, answered, sent, lost], [3, 3, 3, 0]);
    await client.close();
  }
});

Deno.test("connect(): a partial answer is not retransmitted for, and its error has the replies", async () => {
  const network = networkOfParts();
  network.plan = ({ data }) => decode(data) === "4" ? [] : [LATENCY_MS];
  const { client, ask } = await connectTo(network, {});
  const error = await assertRejects(
    () => ask(PARTS.join(), { replies: 7 }),
    TimeoutError,
    "Replies received from 198.51.100.1:20001: 6 of 7, and no other in time",
  );
  assertEquals(numbers(error.replies), [1, 2, 3, 5, 6, 7]);
  assertEquals(error.attempts, 1);
  assertEquals(network.now, 2 * LATENCY_MS + 100);
  const { lost, answered } = client.stats();
  assertEquals([lost, answered], [1, 0]);
  await client.close();
});

Deno.test("connect({ missing }): each retransmission requests the missing parts", async () => {
  const network = networkOfParts();
  const requested: string[] = [];
  const losses = ["1,2,3,4,5,6,7", "4", "6", "4"];
  network.plan = ({ to, data }) => {
    const text = decode(data)!;
    if (to.port === SERVER.port) requested.push(text);
    if (!losses.includes(text)) return [LATENCY_MS];
    losses.splice(losses.indexOf(text), 1);
    return [];
  };
  const { client, ask } = await connectTo(network, { retries: 3 });
  const replies = await ask(PARTS.join(), { replies: 7, missing });
  assertEquals(numbers(replies), PARTS);
  assertEquals(requested, [PARTS.join(), PARTS.join(), "4,6", "4"]);
  network.plan = ({ data }) => decode(data) === "4" ? [] : [LATENCY_MS];
  const error = await assertRejects(
    () => ask(PARTS.join(), { replies: 7, missing, retries: 1 }),
    TimeoutError,
  );
  assertEquals([error.attempts, error.replies.length], [2, 6]);
  assertEquals(client.stats().retransmissions, 4);
  await client.close();
});

Deno.test("connect(): the functions of several replies are checked, and may end it", async () => {
  const network = networkOfFour();
  const { client, ask } = await connectTo(network, {});
  await assertRejects(
    () =>
      ask("all", {
        replies: () => {
          throw new Error("from replies");
        },
      }),
    Error,
    "from replies",
  );
  await assertRejects(
    () => ask("all", { replies: 0 }),
    RangeError,
    "'replies' must be an integer from 1 to 65536 or a function",
  );
  await assertRejects(
    () => ask("all", { missing } as never),
    TypeError,
    "'missing' needs 'replies'",
  );
  await assertRejects(
    () =>
      ask("all", {
        replies: () => {
          client.close();
          return false;
        },
      }),
    Deno.errors.Interrupted,
  );
});

Deno.test("connect(): a challenge bound to the port precedes an answer of several parts", async () => {
  const network = makeNetwork();
  const { runtime } = network;
  serve({ ...SERVER, runtime, guard: false }, (data, { remoteAddr, reply }) => {
    const [query, challenge] = decode(data)!.split(" ");
    const ours = `${remoteAddr.port}`;
    if (challenge !== ours) return `challenge ${ours}`;
    for (const part of [1, 2, 3]) reply(`${query} part ${part}`);
  });
  const { client, ask } = await connectTo(network, {});
  const { value } = await network.run(client.request("rules", {
    match: (data) => /^challenge (\d+)$/.exec(decode(data)!)?.[1],
  }));
  const parts = await ask(`rules ${value}`, { replies: 3 });
  assertEquals(
    parts.map((reply) => reply.text()).sort(),
    ["rules part 1", "rules part 2", "rules part 3"],
  );
  await client.close();
});

netTest(
  "request({ replies, match }): a value may be a view of its datagram",
  async () => {
    const options = { engine: ENGINE, quiet: true, guard: false } as const;
    await using server = serve(options, async (_, { reply }) => {
      for (const text of ["one", "two", "three"]) await reply(text);
    });
    const replies = await request(server.addr, "x", {
      engine: ENGINE,
      replies: 3,
      match: (data) => data,
    });
    const values = replies.map(({ value }) => decode(value));
    assertEquals(values.sort(), ["one", "three", "two"]);
  },
);

/** Datagrams of a server beside the answers that handlers return. */
import { assert, assertEquals, assertRejects, assertThrows } from "@std/assert";
import { decode, encode } from "../../lib/encoding.ts";
import type { DatagramInfo, Handler } from "../../lib/server/handler.ts";
import { echo } from "../../lib/server/responders.ts";
import { serve, type ServeOptions } from "../../lib/server/serve.ts";
import type { SimulatedSocket } from "../../lib/testing/mod.ts";
import {
  CLIENT,
  counts,
  countsOf,
  makeNetwork,
  SERVER,
  start,
} from "./serving.ts";

Deno.test("serve(): info has the time, the local address and the size limit of an answer", async () => {
  let kept: DatagramInfo | undefined;
  const { network, server, ask, settle } = start(({ length }, info) => {
    kept = info;
    assertEquals(info.remoteAddr, CLIENT);
    assertEquals(info.localAddr, SERVER);
    assertEquals(info.receivedAt, 7);
    return "x".repeat(info.maxReplyBytes - (length === 1 ? 0 : 1));
  });
  await network.runFor(7);
  ask("1");
  ask("22");
  await settle();
  // 3 * (1 + 28) - 28 and 3 * (2 + 28) - 28.
  assertEquals(network.sent.map(({ data }) => data.length), [59, 61]);
  assertEquals(kept!.maxReplyBytes, 0, "after it has settled");
  await server.shutdown();
});

Deno.test("info.maxReplyBytes: is Infinity without limit, and 0 for a refused peer", async () => {
  const seen: number[] = [];
  const handler: Handler = (_, { maxReplyBytes }) =>
    void seen.push(maxReplyBytes);
  const guarded = start(handler);
  guarded.socket.arrive(encode("x"), { ...CLIENT, port: 7 });
  await guarded.server.shutdown();
  for (
    const guard of [false, { maxAmplification: 0 }, {
      trusted: ["192.0.2.0/24"],
    }]
  ) {
    const { server, ask } = start(handler, { guard } as ServeOptions);
    ask("x");
    await server.shutdown();
  }
  assertEquals(seen, [0, Infinity, Infinity, Infinity]);
});

Deno.test("info.reply(): sends answers beside the returned one", async () => {
  const { network, server, ask, replies, settle } = start((data, { reply }) => {
    const buffer = encode("0");
    for (let i = 0; i < 3; i++) {
      buffer[0] = 0x30 + i;
      assert(reply(buffer));
    }
    return decode(data) === "last" ? "end" : undefined;
  }, { guard: { maxAmplification: 0 } });
  ask("last");
  ask("none");
  await settle();
  assertEquals(replies(), ["0", "1", "2", "end", "0", "1", "2"]);
  assert(network.sent.every(({ to }) => to.port === CLIENT.port));
  await server.shutdown();
  assertEquals(
    countsOf(server),
    counts({ received: 2, replied: 1, unanswered: 1, pushed: { sent: 6 } }),
  );
});

Deno.test("info.reply(): all answers to a datagram share its limit", async () => {
  const outcomes: unknown[] = [];
  const refused: string[] = [];
  const { server, ask, replies, settle } = start((_, info) => {
    // 3 * (16 + 28) = 132 bytes on the wire, 38 for each of these.
    for (let i = 0; i < 4; i++) outcomes.push(info.reply("x".repeat(10)));
    outcomes.push(info.maxReplyBytes);
    return "y";
  }, { onRefuse: (reason) => refused.push(reason) });
  ask("x".repeat(16));
  await settle();
  assertEquals(outcomes, [true, true, true, false, 0]);
  assertEquals(refused, ["amplification", "amplification"]);
  assertEquals(replies().length, 3);
  await server.shutdown();
  assertEquals(
    countsOf(server),
    counts({
      received: 1,
      refused: { amplification: 1 },
      pushed: { sent: 3, refused: 1 },
    }),
  );
});

Deno.test("info.validated(): allows answers of any size to this datagram, and to no other", async () => {
  const limits: number[] = [];
  const { server, ask, replies, settle } = start(async (data, info) => {
    const { validated, reply } = info;
    await Promise.resolve();
    if (decode(data) === "token") validated();
    limits.push(info.maxReplyBytes);
    reply("x".repeat(1000));
    return "y".repeat(2000);
  }, { quiet: true });
  ask("token");
  ask("other");
  await settle();
  assertEquals(replies().map((text) => text?.length), [1000, 2000]);
  assertEquals(limits, [Infinity, 71]);
  await server.shutdown();
  assertEquals(
    countsOf(server),
    counts({
      received: 2,
      replied: 1,
      refused: { amplification: 1 },
      pushed: { sent: 1, refused: 1 },
    }),
  );
});

Deno.test("info.validated(): the limit on the rate still holds", async () => {
  const { server, ask, replies, settle } = start((_, info) => {
    info.validated();
    return "x".repeat(1000);
  }, { guard: { rateLimit: 2 }, quiet: true });
  for (let i = 0; i < 5; i++) ask("token");
  await settle();
  assertEquals(replies().length, 2);
  await server.shutdown();
  assertEquals(server.stats().refused.rate, 3);
});

Deno.test("info.reply(): throws once the handler has settled, and for an invalid payload", async () => {
  let late: DatagramInfo | undefined;
  const thrown: unknown[] = [];
  const { server, ask, replies, settle } = start(async (_, info) => {
    late = info;
    for (const wrong of [undefined, 5, [1]]) {
      try {
        info.reply(wrong as never);
      } catch (error) {
        thrown.push((error as Error).name);
      }
    }
    await null;
    info.reply("in time");
  });
  ask("x");
  await settle();
  assertEquals(thrown, ["TypeError", "TypeError", "TypeError"]);
  assertThrows(() => late!.reply("late"), TypeError, "the handler has settled");
  assertEquals(replies(), ["in time"]);
  await server.shutdown();
});

Deno.test("serve(): a loop of servers that answer each datagram twice ends", async () => {
  const network = makeNetwork();
  const { runtime } = network;
  const hosts = ["198.51.100.1", "198.51.100.2"];
  const servers = hosts.map((hostname) =>
    serve(
      { hostname, port: 20001, runtime, quiet: true },
      (data, { reply }) => {
        // Otherwise the sends would end before the assertion.
        if (network.sent.length < 3000) reply(data);
        return data;
      },
    )
  );
  network.plan = () => [60];
  const [first] = network.sockets.values() as Iterable<SimulatedSocket>;
  first!.arrive(encode("x"), { hostname: hosts[1]!, port: 20001 });
  await network.runFor(10_000);
  const atRest = network.sent.length;
  await network.runFor(60_000);
  assertEquals(network.sent.length, atRest);
  await network.run(Promise.all(servers.map((server) => server.shutdown())));
});

Deno.test("send(), sendMany(): send from the server's port, and count", async () => {
  const { network, server, settle } = start(echo());
  network.plan = ({ to }) => {
    if (to.hostname === "192.0.2.66") throw new Error("unreachable");
    return [1];
  };
  await network.run(server.send("one", "192.0.2.1:5000"));
  const failure = network.run(server.send("two", "192.0.2.66:5000"));
  await assertRejects(() => failure, Error, "unreachable");
  const many = server.sendMany(
    encode("many"),
    Array.from(
      { length: 200 },
      (_, i) => ({ hostname: `192.0.2.${i}`, port: 9 }),
    ),
  );
  assertEquals(await network.run(many), 199);
  await settle();
  assert(network.sent.every(({ from }) => from === server.addr));
  assertEquals(network.sent.length, 202);
  assertEquals(network.sent[2]!.to, { hostname: "192.0.2.0", port: 9 });
  assertEquals(network.warnings.length, 1);
  assert(network.warnings[0]!.includes("Cannot send to 192.0.2.66:5000"));
  await server.shutdown();
  assertEquals(countsOf(server), counts({ pushed: { sent: 200, unsent: 2 } }));
});

Deno.test("send(), sendMany(): count and report invalid addresses", async () => {
  const reports: string[] = [];
  const { network, server, settle } = start(echo(), {
    onError: (error) => void reports.push((error as Error).message),
  });
  const wrong: Array<[unknown, ErrorConstructor, string]> = [
    ["example.org:9", TypeError, "it is no IP address"],
    [{ hostname: "example.org", port: 9 }, TypeError, "it is no IP address"],
    ["192.0.2.1", SyntaxError, "no port"],
    [{ hostname: "192.0.2.1", port: 0 }, RangeError, "'port'"],
  ];
  for (const [to, type, message] of wrong) {
    await assertRejects(() => server.send("x", to as string), type, message);
    const many = ["192.0.2.1:9", to as string, "192.0.2.2:9"];
    assertEquals(await network.run(server.sendMany("x", many)), 2);
    assertEquals(reports.splice(0).map((one) => one.includes(message)), [
      true,
      true,
    ]);
  }
  const noPayload = 5 as unknown as string;
  await assertRejects(() => server.send(noPayload, "192.0.2.1:9"), TypeError);
  await assertRejects(() => server.sendMany(noPayload, []), TypeError);
  for (const wrong of ["192.0.2.1:9", 5, null] as never[]) {
    const sending = () => server.sendMany("x", wrong);
    await assertRejects(sending, TypeError, "takes a list of addresses");
  }
  assertEquals(network.sent.length, 2 * wrong.length);
  // Rejections that nobody awaits: a test with an unhandled one fails.
  server.send("x", { hostname: "192.0.2.1", port: 0 });
  server.send(noPayload, "192.0.2.1:9");
  await settle();
  assertEquals(
    reports.find((message) => message.includes("port")),
    "Cannot send to 192.0.2.1:0: 'port' must be an integer from 1 to 65535: " +
      "current value is 0",
  );
  const { sent, unsent } = server.stats().pushed;
  assertEquals([sent, unsent], [2 * wrong.length, 2 * wrong.length + 3]);
  await server.shutdown();
  const late = server.send("x", "192.0.2.1:9");
  await assertRejects(() => late, Error, "The socket is closed");
  assertEquals(server.stats().pushed.unsent, unsent + 1);
  assertEquals(reports.length, 3);
});

Deno.test("send(): has 4,096 datagrams in flight at most, the others are unsent", async () => {
  const { network, server } = start(echo());
  const all = Promise.allSettled(
    Array.from({ length: 4100 }, () => server.send("x", "192.0.2.1:9")),
  );
  const dropped = (await network.run(all)).filter(({ status }) =>
    status === "rejected"
  );
  assertEquals(dropped.length, 4);
  assertEquals(server.stats().pushed, {
    sent: 4096,
    refused: 0,
    unsent: 4,
  });
  await server.shutdown();
});

Deno.test("shutdown(): waits for sends in flight", async () => {
  const { network, server } = start(echo());
  const sent = server.send("x", "192.0.2.1:9");
  await network.run(server.shutdown());
  await sent;
  assertEquals(network.sent.length, 1);
});

Deno.test("info.reply(): a failed send is reported as an error", async () => {
  const errors: Array<[string, number | undefined]> = [];
  const { network, server, ask, settle } = start((_, { reply }) => {
    reply("beside");
  }, {
    guard: false,
    onError: (error, info) =>
      void errors.push([(error as Error).message, info?.remoteAddr.port]),
  });
  network.plan = () => {
    throw new Error("unreachable");
  };
  ask("x");
  await settle();
  assertEquals(errors.length, 1);
  assert(errors[0]![0].includes("unreachable"));
  assertEquals(errors[0]![1], CLIENT.port);
  await server.shutdown();
  assertEquals(
    countsOf(server),
    counts({ received: 1, unanswered: 1, pushed: { unsent: 1 } }),
  );
});

Deno.test("maxReplies: counts answers in flight, and those of running handlers", async () => {
  const answers: Array<(reply: string) => void> = [];
  const { network, server, ask, settle } = start(
    (data) =>
      data.length > 1
        ? new Promise((resolve) => answers.push(resolve))
        : "at once",
    { maxReplies: 3 },
  );
  // Two answers are in flight and one handler runs before the first send
  // settles.
  for (const text of ["a", "b", "later", "c", "d"]) ask(text);
  await settle();
  answers[0]!("x");
  await network.run(server.finished);
  assertEquals(
    countsOf(server),
    counts({ received: 5, replied: 3, dropped: { closing: 2 } }),
  );
});

Deno.test("info.reply(): reports an answer beyond those in flight, and counts it", async () => {
  const taken: boolean[] = [];
  const { server, ask, settle } = start((_, { reply }) => {
    for (let i = 0; i < 4098; i++) taken.push(reply("x"));
  }, { guard: false });
  ask("a");
  await settle();
  assertEquals(taken.filter((isTaken) => !isTaken).length, 2);
  assertEquals(taken.slice(-3), [true, false, false]);
  assertEquals(
    countsOf(server),
    counts({ received: 1, unanswered: 1, pushed: { sent: 4096, unsent: 2 } }),
  );
  await server.shutdown();
});

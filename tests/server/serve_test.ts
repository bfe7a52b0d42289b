/** A handler's input, and its answers. */
import { assertEquals, assertThrows } from "@std/assert";
import { decode, encode } from "../../lib/encoding.ts";
import {
  type Handler,
  type Reply,
  withTraits,
} from "../../lib/server/handler.ts";
import { echo, fixedReply } from "../../lib/server/responders.ts";
import { serve, type ServeOptions } from "../../lib/server/serve.ts";
import { CLIENT, counts, countsOf, makeNetwork, start } from "./serving.ts";

Deno.test("serve(): stats() has payload bytes, and the datagrams in flight", async () => {
  const replied = Promise.withResolvers<string>();
  const { server, ask, settle } = start((data) =>
    data.length === 1 ? "four" : replied.promise
  );
  ask("1");
  ask("later");
  await settle();
  const { bytes, inFlight } = server.stats();
  assertEquals([bytes, inFlight], [{ received: 6, replied: 4 }, 1]);
  replied.resolve("ten bytes!");
  await server.shutdown();
  const after = server.stats();
  assertEquals(after.bytes, { received: 6, replied: 14 });
  assertEquals(after.inFlight, 0);
});

Deno.test("serve(): accepts bytes, text, nothing and promises as replies", async () => {
  const made: Array<() => Reply | Promise<Reply>> = [
    () => new Uint8Array([0x61]),
    () => "b",
    () => "",
    () => undefined,
    () => {},
    () => Promise.resolve(new Uint8Array([0x63])),
    () => Promise.resolve("d"),
    () => Promise.resolve(undefined),
  ];
  const next = made.values();
  const { server, ask, replies, settle } = start(() => next.next().value!());
  for (const _ of made) ask("x");
  await settle();
  assertEquals(replies().sort(), ["", "a", "b", "c", "d"]);
  await server.shutdown();
  assertEquals(
    countsOf(server),
    counts({ received: 8, replied: 5, unanswered: 3 }),
  );
});

Deno.test("serve(): gives the handler a copy that it may keep", async () => {
  const kept: Uint8Array[] = [];
  const { server, ask, settle } = start((data) => {
    kept.push(data);
  });
  for (const text of ["m0", "m1", "m2"]) ask(text);
  await settle();
  assertEquals(kept.map(decode), ["m0", "m1", "m2"]);
  await server.shutdown();
});

Deno.test("serve(): with lend the data is unchanged until the reply is sent, and no longer", async () => {
  const kept: Uint8Array[] = [];
  const { socket, server, ask, replies, settle } = start(async (data) => {
    kept.push(data);
    await Promise.resolve();
    return data.subarray(1);
  }, { lend: true });
  ask("abc");
  assertEquals(socket.held, 1);
  await settle();
  assertEquals(replies(), ["bc"]);
  assertEquals(socket.held, 0);
  // The simulated socket overwrites returned memory.
  assertEquals(kept, [new Uint8Array([0xdb, 0xdb, 0xdb])]);
  await server.shutdown();
});

Deno.test("serve(): drops datagrams longer than maxDatagramBytes, and counts them", async () => {
  const { server, ask, replies, settle } = start(echo(), {
    maxDatagramBytes: 3,
  });
  ask("four");
  ask("abc");
  await settle();
  assertEquals(replies(), ["abc"]);
  await server.shutdown();
  assertEquals(
    countsOf(server),
    counts({ received: 2, replied: 1, dropped: { tooLong: 1 } }),
  );
});

Deno.test("serve(): drops datagrams over maxInFlight, and counts them", async () => {
  const gate = Promise.withResolvers<string>();
  const { server, ask, replies, settle } = start(() => gate.promise, {
    maxInFlight: 2,
  });
  for (const text of ["a", "b", "c", "d"]) ask(text);
  gate.resolve("late");
  await settle();
  ask("e");
  await settle();
  assertEquals(replies(), ["late", "late", "late"]);
  await server.shutdown();
  assertEquals(
    countsOf(server),
    counts({ received: 5, replied: 3, dropped: { overload: 2 } }),
  );
});

Deno.test("serve(): null is no reply, as undefined is", async () => {
  const { server, ask, replies, settle } = start((data) =>
    decode(data) === "now" ? null : Promise.resolve(null)
  );
  for (const text of ["now", "later"]) ask(text);
  await settle();
  assertEquals(replies(), []);
  assertEquals(countsOf(server), counts({ received: 2, unanswered: 2 }));
  await server.shutdown();
});

Deno.test("serve(): a handler may change its data", async () => {
  const { server, ask, replies, settle } = start((data) => {
    data.fill(0x78);
    return data;
  });
  ask("abc");
  ask("de");
  await settle();
  assertEquals(replies(), ["xxx", "xx"]);
  await server.shutdown();
});

Deno.test("serve(): refuses a network that does not parse, before it opens a socket", () => {
  const network = makeNetwork();
  const { runtime } = network;
  const guard = { trusted: ["10.0.0.0/33"] };
  assertThrows(
    () => serve({ guard, runtime }, echo()),
    SyntaxError,
    "'10.0.0.0/33' is no network",
  );
  assertThrows(
    () => serve({ guard: { trusted: "::1" as never }, runtime }, echo()),
    TypeError,
    "'trusted' must be an array, each element a network",
  );
  assertEquals(network.sockets.size, 0);
});

Deno.test("serve(): answers every datagram with guard: false", async () => {
  const { server, socket, replies, settle } = start(
    fixedReply("x".repeat(200)),
    { guard: false },
  );
  socket.arrive(encode("x"), { ...CLIENT, port: 7 });
  await settle();
  assertEquals(replies(), ["x".repeat(200)]);
  await server.shutdown();
});

Deno.test("serve(): checks its options before it opens a socket", () => {
  const wrong: Array<[ServeOptions, string]> = [
    [{ port: -1 }, "'port'"],
    [{ port: 65_536 }, "'port'"],
    [{ port: 1.5 }, "'port'"],
    [{ port: NaN }, "'port'"],
    [{ maxDatagramBytes: 0 }, "'maxDatagramBytes'"],
    [{ maxDatagramBytes: 65_528 }, "'maxDatagramBytes'"],
    [{ maxInFlight: 0 }, "'maxInFlight'"],
    [{ maxInFlight: 65_537 }, "'maxInFlight'"],
    [{ maxReplies: 0 }, "'maxReplies'"],
    [{ handlerTimeoutMs: 0 }, "'handlerTimeoutMs'"],
    [{ receiveBufferBytes: 4095 }, "'receiveBufferBytes'"],
    [{ guard: { rateLimit: -1 } }, "'rateLimit'"],
    [{ guard: { rateLimit: 0.5 } }, "'rateLimit'"],
    [{ guard: { maxAmplification: -1 } }, "'maxAmplification'"],
    [{ guard: { maxAmplification: NaN } }, "'maxAmplification'"],
  ];
  const network = makeNetwork();
  const { runtime } = network;
  for (const [options, message] of wrong) {
    assertThrows(
      () => serve({ ...options, runtime }, echo()),
      RangeError,
      message,
    );
  }
  assertEquals(network.sockets.size, 0);
});

Deno.test("serve(): refuses options of a wrong type, and names them", () => {
  const { runtime } = makeNetwork();
  const wrong: Array<[unknown, unknown, string]> = [
    [{ hostname: 5 }, echo(), "'hostname' must be an IP address or a name"],
    [{ port: "80" }, echo(), "'port' must be an integer from 0 to 65535"],
    [{ maxInFlight: null }, echo(), "'maxInFlight' must be an integer"],
    [{ guard: "off" }, echo(), "'guard' must be an object"],
    [{ guard: { maxAmplification: null } }, echo(), "'maxAmplification'"],
    [{ onError: 5 }, echo(), "'onError' must be a function"],
    [{ onRefuse: "x" }, echo(), "'onRefuse' must be a function"],
    [{ onOverload: 1 }, echo(), "'onOverload' must be a function"],
    [{ lend: "no" }, echo(), "'lend' must be a boolean"],
    [{ quiet: 1 }, echo(), "'quiet' must be a boolean"],
    [{ signal: {} }, echo(), "'signal' must be an AbortSignal"],
    [{ engine: "lniux" }, echo(), "'engine' must be one of"],
    [{ reusePort: 1 }, echo(), "'reusePort' must be a boolean"],
    [{}, undefined, "'handler' must be a function"],
  ];
  for (const [options, handler, message] of wrong) {
    const all = { runtime, ...options as ServeOptions };
    assertThrows(() => serve(all, handler as Handler), TypeError, message);
  }
});

Deno.test("echo(): borrows the data, other handlers own a copy", async () => {
  const handlers: Array<[Handler, boolean]> = [
    [echo(), true],
    [(data) => data, false],
  ];
  for (const [handler, isLent] of handlers) {
    const { server, socket, ask, settle } = start(handler);
    const same: boolean[] = [];
    const reply = socket.reply.bind(socket);
    socket.reply = (datagram, payload, departure) => {
      same.push(payload === datagram.data);
      reply(datagram, payload, departure);
    };
    ask("x");
    await settle();
    assertEquals(same, [isLent]);
    await server.shutdown();
  }
});

Deno.test("serve(): ref() and unref() are those of the socket", async () => {
  const { server, socket } = start(echo());
  const calls: string[] = [];
  socket.ref = () => calls.push("ref");
  socket.unref = () => calls.push("unref");
  server.unref();
  server.ref();
  assertEquals(calls, ["unref", "ref"]);
  await server.shutdown();
});

Deno.test("ReplyOptions: an answer is completed once, as it is sent", async () => {
  const handler: Handler = (data) => data;
  let times = 0;
  withTraits(handler, {
    departure: {
      isAsked: false,
      last: () => ({
        complete: (payload) => payload[0] = 48 + times++,
        trafficClass: undefined,
      }),
    },
  });
  const { server, ask, settle, replies } = start(handler);
  ask("-a");
  ask("-b");
  await settle();
  assertEquals(replies(), ["0a", "1b"]);
  await server.shutdown();
});

Deno.test("fixedReply(): refuses a datagram with the bytes of the reply, an echo does not", async () => {
  const cases: Array<[Handler, unknown[]]> = [
    [fixedReply("pong"), [["pong"], 1]],
    [echo(), [["pong", "ping"], 0]],
  ];
  for (const [handler, expected] of cases) {
    const { server, ask, replies, settle } = start(handler, { quiet: true });
    ask("pong");
    ask("ping");
    await settle();
    await server.shutdown();
    const { refused: { ownReply } } = server.stats();
    assertEquals([replies(), ownReply], expected);
  }
});

Deno.test("serve(): the server's own reply takes nothing of its network's rate", async () => {
  const { server, ask, replies, settle } = start(fixedReply("pong"), {
    guard: { rateLimit: 1 },
    quiet: true,
  });
  for (const text of ["pong", "pong", "ping", "ping"]) ask(text);
  await settle();
  await server.shutdown();
  const { ownReply, rate } = server.stats().refused;
  assertEquals([replies().length, ownReply, rate], [1, 2, 1]);
});

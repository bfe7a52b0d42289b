import { assert, assertEquals, assertRejects, assertThrows } from "@std/assert";
import type { UdpAddress } from "../lib/address.ts";
import { decode, encode } from "../lib/encoding.ts";
import { echo, fixedReply } from "../lib/responders.ts";
import { serve, type ServeOptions } from "../lib/serve.ts";
import {
  type DatagramInfo,
  departing,
  type Handler,
  type Reply,
} from "../lib/handler.ts";
import type { ServerStats, UdpServer } from "../lib/server.ts";
import type { SimulatedSocket } from "../lib/testing.ts";
import { restfulNetworks } from "./helpers.ts";

const makeNetwork = restfulNetworks();

const SERVER: UdpAddress = { hostname: "198.51.100.1", port: 20001 };
const CLIENT: UdpAddress = { hostname: "192.0.2.7", port: 40000 };

/** A server on a network of its own, and what its replies say. */
function start(handler: Handler, options: ServeOptions = {}) {
  const network = makeNetwork();
  const { runtime } = network;
  const server = serve({ ...SERVER, runtime, ...options }, handler);
  const [socket] = network.sockets.values() as Iterable<SimulatedSocket>;
  return {
    network,
    server,
    socket: socket!,
    ask: (text: string) => socket!.arrive(encode(text), CLIENT),
    replies: () => network.sent.map(({ data }) => decode(data)),
    /** Lets all that can happen without time passing happen. */
    settle: () => network.runFor(0),
  };
}

/** The counts of datagrams, without how large they are and what is on its way. */
function countsOf(server: UdpServer) {
  const { bytes: _, inFlight: __, ...counts } = server.stats();
  return counts;
}

function counts(expected: {
  received?: number;
  replied?: number;
  unanswered?: number;
  dropped?: Partial<ServerStats["dropped"]>;
  refused?: Partial<ServerStats["refused"]>;
  pushed?: Partial<ServerStats["pushed"]>;
  errors?: Partial<ServerStats["errors"]>;
}): Omit<ServerStats, "bytes" | "inFlight"> {
  return {
    received: 0,
    replied: 0,
    unanswered: 0,
    kernelDrops: undefined,
    ...expected,
    dropped: { tooLong: 0, overload: 0, closing: 0, ...expected.dropped },
    refused: {
      amplification: 0,
      rate: 0,
      self: 0,
      port: 0,
      source: 0,
      ownReply: 0,
      offLink: 0,
      loop: 0,
      ...expected.refused,
    },
    pushed: { sent: 0, refused: 0, dropped: 0, failed: 0, ...expected.pushed },
    errors: { handler: 0, send: 0, receive: 0, ...expected.errors },
  };
}

Deno.test("serve() sends what the handler returns to who asked", async () => {
  const { network, server, ask, settle } = start((data, { remoteAddr }) => {
    assertEquals(remoteAddr, CLIENT);
    return `re: ${decode(data)}`;
  });
  assertEquals(server.addr, SERVER);
  ask("one");
  ask("");
  await settle();
  assertEquals(
    network.sent.map(({ from, to, data }) => ({
      from,
      to,
      text: decode(data),
    })),
    [
      { from: SERVER, to: CLIENT, text: "re: one" },
      { from: SERVER, to: CLIENT, text: "re: " },
    ],
  );
  await server.shutdown();
  assertEquals(countsOf(server), counts({ received: 2, replied: 2 }));
});

Deno.test("serve() tells payload bytes, and what is worked on", async () => {
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

Deno.test("serve() takes bytes, text, nothing and promises as replies", async () => {
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

Deno.test("serve() gives the handler a copy that it may keep", async () => {
  const kept: Uint8Array[] = [];
  const { server, ask, settle } = start((data) => {
    kept.push(data);
  });
  for (const text of ["m0", "m1", "m2"]) ask(text);
  await settle();
  assertEquals(kept.map(decode), ["m0", "m1", "m2"]);
  await server.shutdown();
});

Deno.test("serve() with lend leaves the data alone until the reply is sent, and no longer", async () => {
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
  // The simulated socket overwrites what was handed back.
  assertEquals(kept, [new Uint8Array([0xdb, 0xdb, 0xdb])]);
  await server.shutdown();
});

Deno.test("serve() reports a handler that throws or rejects, and goes on", async () => {
  const errors: unknown[] = [];
  const { server, ask, replies, settle } = start((data) => {
    const text = decode(data);
    if (text === "throw") throw new Error("thrown");
    if (text === "reject") return Promise.reject(new Error("rejected"));
    return "fine";
  }, {
    onError: (error, info) => {
      errors.push((error as Error).message, info?.remoteAddr.port);
    },
  });
  for (const text of ["throw", "reject", "good"]) {
    ask(text);
    await settle();
  }
  assertEquals(errors, ["thrown", 40000, "rejected", 40000]);
  assertEquals(replies(), ["fine"]);
  await server.shutdown();
  assertEquals(
    countsOf(server),
    counts({ received: 3, replied: 1, unanswered: 2, errors: { handler: 2 } }),
  );
});

Deno.test("serve() sends what onError makes of a handler's error", async () => {
  const { server, ask, replies, settle } = start((data) => {
    if (decode(data) === "throw") throw new Error("thrown");
    return Promise.reject(new Error("rejected"));
  }, {
    onError: (error) =>
      (error as Error).message === "thrown"
        ? "sorry"
        : Promise.resolve("so so"),
  });
  ask("throw");
  ask("reject");
  await settle();
  assertEquals(replies(), ["sorry", "so so"]);
  await server.shutdown();
  assertEquals(
    countsOf(server),
    counts({ received: 2, replied: 2, errors: { handler: 2 } }),
  );
});

Deno.test("serve() survives an onError that throws or rejects", async () => {
  let calls = 0;
  const { server, ask, settle } = start(() => {
    throw new Error("handler");
  }, {
    onError: () => {
      if (++calls === 1) throw new Error("onError");
      return Promise.reject(new Error("onError"));
    },
  });
  ask("a");
  ask("b");
  await settle();
  await server.shutdown();
  assertEquals(calls, 2);
  assertEquals(
    countsOf(server),
    counts({ received: 2, unanswered: 2, errors: { handler: 2 } }),
  );
});

Deno.test("serve() reports a handler that returns no reply at all", async () => {
  const wrong: unknown[] = [true, 42, {}, new ArrayBuffer(1), [1]];
  const errors: unknown[] = [];
  const next = wrong.values();
  const { server, ask, settle } = start(() => next.next().value as Reply, {
    onError: (error) => {
      errors.push(error);
    },
  });
  for (const _ of wrong) ask("x");
  await settle();
  await server.shutdown();
  assertEquals(errors.length, wrong.length);
  for (const error of errors) assert(error instanceof TypeError);
  assertEquals(
    countsOf(server),
    counts({ received: 5, unanswered: 5, errors: { handler: 5 } }),
  );
});

Deno.test("serve() reports a reply that cannot be sent, and goes on", async () => {
  const errors: string[] = [];
  const { network, server, socket, ask, replies, settle } = start(echo(), {
    onError: (error) => {
      errors.push((error as Error).message);
    },
  });
  network.plan = ({ index }) => {
    if (index === 0) throw new Error("Network is unreachable");
    return [];
  };
  ask("lost");
  ask("sent");
  await settle();
  assertEquals(replies(), ["lost", "sent"]);
  assertEquals(errors, ["Network is unreachable"]);
  assertEquals(socket.held, 0);
  await server.shutdown();
  assertEquals(
    countsOf(server),
    counts({ received: 2, replied: 1, errors: { send: 1 } }),
  );
});

Deno.test("serve() reports a failed receive, and goes on", async () => {
  const errors: unknown[] = [];
  const { server, socket, ask, replies, settle } = start(echo(), {
    onError: (error, info) => {
      errors.push(error, info);
    },
  });
  const reset = new Deno.errors.ConnectionReset("reset");
  socket.failOnce(reset);
  ask("after");
  await settle();
  assertEquals(errors, [reset, undefined]);
  assertEquals(replies(), ["after"]);
  await server.shutdown();
  assertEquals(
    countsOf(server),
    counts({ received: 1, replied: 1, errors: { receive: 1 } }),
  );
});

Deno.test("serve() ends finished with the error if receiving fails for good", async () => {
  const { server, socket } = start(echo());
  const gone = new Error("interface gone");
  socket.fail(gone);
  assert(gone === await assertRejects(() => server.finished, Error));
  assert(gone === await assertRejects(() => server.shutdown(), Error));
});

Deno.test("serve() drops what is longer than maxDatagramBytes, and counts it", async () => {
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

Deno.test("serve() drops what is over maxInFlight, and counts it", async () => {
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

Deno.test("serve() shuts down after maxReplies, and never replies more often", async () => {
  const { network, server, ask, replies, settle } = start(fixedReply("x"), {
    maxReplies: 2,
  });
  network.plan = ({ index }) => {
    if (index === 0) throw new Error("not sent, so not a reply");
    return [];
  };
  ask("fails");
  await settle();
  for (const text of ["a", "b", "c"]) ask(text);
  await network.run(server.finished);
  assertEquals(replies(), ["x", "x", "x"]);
  assertEquals(
    countsOf(server),
    counts({
      received: 4,
      replied: 2,
      dropped: { closing: 1 },
      errors: { send: 1 },
    }),
  );
});

Deno.test("shutdown() lets the handlers at work reply, and takes no more", async () => {
  const gate = Promise.withResolvers<void>();
  const { network, server, socket, ask, replies } = start(async (data) => {
    const text = decode(data);
    await gate.promise;
    return text;
  });
  const held = Array.from({ length: 15 }, (_, i) => `${i}`);
  held.forEach(ask);
  const shutdown = server.shutdown();
  assert(shutdown === server.shutdown());
  ask("too late");
  assert(socket.open);
  gate.resolve();
  await network.run(shutdown);
  assertEquals(replies(), held);
  assert(!socket.open);
  assertEquals(
    countsOf(server),
    counts({ received: 16, replied: 15, dropped: { closing: 1 } }),
  );
});

Deno.test("await using shuts a server down", async () => {
  let kept: SimulatedSocket;
  {
    const { server, socket, ask } = start(echo());
    kept = socket;
    await using _server = server;
    ask("x");
  }
  assert(!kept.open);
});

Deno.test("serve() gives up on a handler that never settles, and leaves it its buffer", async () => {
  const errors: string[] = [];
  const kept: Uint8Array[] = [];
  const gate = Promise.withResolvers<string>();
  const { network, server, socket, ask, replies } = start(
    (data) => {
      if (decode(data) !== "slow") return "fast";
      kept.push(data);
      return gate.promise;
    },
    {
      lend: true,
      maxInFlight: 2,
      handlerTimeoutMs: 1000,
      onError: (error) => {
        errors.push((error as Error).message);
      },
    },
  );
  ask("slow");
  await network.runFor(400);
  ask("slow");
  ask("dropped");
  await network.runFor(600);
  ask("fast");
  await network.runFor(400);
  assertEquals(replies(), ["fast"]);
  assertEquals(errors, Array(2).fill("Handler has not settled within 1000 ms"));
  // The socket has no part in them any more, whenever they settle.
  assertEquals(socket.held, 0);
  gate.resolve("too late");
  await network.runFor(0);
  assertEquals(replies(), ["fast"]);
  assertEquals(kept.map(decode), ["slow", "slow"]);
  await server.shutdown();
  assertEquals(
    countsOf(server),
    counts({
      received: 4,
      replied: 1,
      unanswered: 2,
      dropped: { overload: 1 },
      errors: { handler: 2 },
    }),
  );
});

Deno.test("null is silence, as undefined is", async () => {
  const { server, ask, replies, settle } = start((data) =>
    decode(data) === "now" ? null : Promise.resolve(null)
  );
  for (const text of ["now", "later"]) ask(text);
  await settle();
  assertEquals(replies(), []);
  assertEquals(countsOf(server), counts({ received: 2, unanswered: 2 }));
  await server.shutdown();
});

Deno.test("an abort counts what is still with its handler", async () => {
  const controller = new AbortController();
  const gate = Promise.withResolvers<string>();
  const { server, socket, ask, replies, settle } = start(
    (data) => decode(data) === "held" ? gate.promise : "now",
    { signal: controller.signal },
  );
  for (const text of ["held", "now", "held"]) ask(text);
  await settle();
  controller.abort();
  const expected = counts({
    received: 3,
    replied: 1,
    dropped: { closing: 2 },
  });
  assertEquals([countsOf(server), socket.held], [expected, 0]);
  gate.resolve("too late");
  await settle();
  assertEquals([countsOf(server), replies()], [expected, ["now"]]);
});

Deno.test("shutdown() waits for a handler that never settles only so long", async () => {
  const { network, server, ask } = start(() => new Promise(() => {}));
  ask("never answered");
  await network.run(server.shutdown());
  assertEquals(network.now, 10_000);
});

Deno.test("serve() lets a handler change its data", async () => {
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

Deno.test("serve() refuses what the guard refuses, says why, and goes on", async () => {
  const refused: unknown[] = [];
  const { server, socket, ask, replies, settle } = start(
    fixedReply("x".repeat(200)),
    {
      guard: { rateLimit: 2 },
      onRefuse: (reason, { remoteAddr }) => {
        refused.push([reason, remoteAddr.port]);
      },
    },
  );
  ask("x");
  socket.arrive(new Uint8Array(200), { ...CLIENT, port: 19 });
  for (let i = 0; i < 3; i++) ask("y".repeat(200));
  await settle();
  assertEquals(replies().length, 2);
  assertEquals(refused, [["amplification", 40000], ["port", 19], [
    "rate",
    40000,
  ]]);
  assertEquals(socket.held, 0);
  await server.shutdown();
  assertEquals(
    countsOf(server),
    counts({
      received: 5,
      replied: 2,
      refused: { amplification: 1, port: 1, rate: 1 },
    }),
  );
});

Deno.test("serve() hands every datagram to the handler, and refuses answers only", async () => {
  const seen: string[] = [];
  const { server, socket, replies, settle } = start((data) => {
    seen.push(`${decode(data)}`);
    return decode(data) === "silent" ? undefined : "answer";
  });
  socket.arrive(encode("silent"), { ...CLIENT, port: 7 });
  socket.arrive(encode("asked"), { ...CLIENT, port: 7 });
  socket.arrive(encode("self"), SERVER);
  await settle();
  assertEquals(seen, ["silent", "asked", "self"]);
  assertEquals([replies(), socket.held], [[], 0]);
  await server.shutdown();
  assertEquals(
    countsOf(server),
    counts({ received: 3, unanswered: 1, refused: { port: 1, self: 1 } }),
  );
});

Deno.test("serve() refuses a network that does not parse, before it opens a socket", () => {
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
    "'trusted' must be an array of networks",
  );
  assertEquals(network.sockets.size, 0);
});

Deno.test("serve() survives an onRefuse that throws", async () => {
  const errors: unknown[] = [];
  const { server, socket, settle } = start(echo(), {
    onRefuse: () => {
      throw new Error("onRefuse");
    },
    onError: (error) => {
      errors.push((error as Error).message);
    },
  });
  socket.arrive(encode("x"), { ...CLIENT, port: 7 });
  await settle();
  assertEquals(errors, ["onRefuse"]);
  await server.shutdown();
  assertEquals(countsOf(server), counts({ received: 1, refused: { port: 1 } }));
});

Deno.test("serve() with guard: false answers everyone and anything", async () => {
  const { server, socket, replies, settle } = start(
    fixedReply("x".repeat(200)),
    { guard: false },
  );
  socket.arrive(encode("x"), { ...CLIENT, port: 7 });
  await settle();
  assertEquals(replies(), ["x".repeat(200)]);
  await server.shutdown();
});

Deno.test("serve() reports each error of a send by its code, and goes on", async () => {
  const codes = ["EMSGSIZE", "ENETUNREACH", "EPERM", "ENOBUFS"];
  const reported: unknown[] = [];
  const { network, server, ask, settle } = start(echo(), {
    onError: (error) => {
      reported.push((error as { code?: string }).code);
    },
  });
  network.plan = ({ index }) => {
    const code = codes[index];
    if (code === undefined) return [];
    throw Object.assign(new Error(code), { code });
  };
  for (const _ of [...codes, "fine"]) ask("x");
  await settle();
  assertEquals(reported, codes);
  await server.shutdown();
  assertEquals(
    countsOf(server),
    counts({ received: 5, replied: 1, errors: { send: 4 } }),
  );
});

Deno.test("serve() throws the reason of a signal that is already aborted", () => {
  const reason = new Error("enough");
  const network = makeNetwork();
  const signal = AbortSignal.abort(reason);
  const { runtime } = network;
  const thrown = assertThrows(() => serve({ signal, runtime }, echo()), Error);
  assert(thrown === reason);
  assertEquals(network.sockets.size, 0);
});

Deno.test("serve() closes at once when aborted, whatever handlers do", async () => {
  const gate = Promise.withResolvers<string>();
  const controller = new AbortController();
  const { network, server, socket, ask, replies, settle } = start(
    () => gate.promise,
    { signal: controller.signal },
  );
  ask("held");
  controller.abort();
  assert(!socket.open);
  await network.run(server.finished);
  gate.resolve("too late");
  await settle();
  assertEquals(replies(), []);
  assertEquals(
    countsOf(server),
    counts({ received: 1, dropped: { closing: 1 } }),
  );
});

Deno.test("an abort ends a shutdown that waits for a handler", async () => {
  const controller = new AbortController();
  const { network, server, ask } = start(() => new Promise(() => {}), {
    signal: controller.signal,
  });
  ask("never answered");
  const shutdown = server.shutdown();
  controller.abort();
  await network.run(shutdown);
  assertEquals(
    countsOf(server),
    counts({ received: 1, dropped: { closing: 1 } }),
  );
});

Deno.test("an abort after the end does nothing", async () => {
  const controller = new AbortController();
  const { server } = start(echo(), { signal: controller.signal });
  await server.shutdown();
  controller.abort();
  await server.finished;
  assertEquals(countsOf(server), counts({}));
});

Deno.test("serve() calls onListen before it returns", () => {
  const heard: UdpAddress[] = [];
  const { server } = start(echo(), { onListen: (addr) => heard.push(addr) });
  assertEquals(heard, [server.addr]);
});

Deno.test("serve() leaves no socket behind if onListen throws", () => {
  const network = makeNetwork();
  const onListen = () => {
    throw new Error("onListen");
  };
  assertThrows(
    () => serve({ runtime: network.runtime, onListen }, echo()),
    Error,
    "onListen",
  );
  assertEquals(network.sockets.size, 0);
});

Deno.test("serve() checks its options before it opens a socket", () => {
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

Deno.test("serve() survives an onRefuse that rejects", async () => {
  const errors: unknown[] = [];
  const reason = new Error("no log");
  const { server, socket, ask, settle, replies } = start(echo(), {
    onRefuse: (async () => {
      await Promise.resolve();
      throw reason;
    }) as ServeOptions["onRefuse"],
    onError: (error) => void errors.push(error),
  });
  socket.arrive(encode("x"), { ...CLIENT, port: 7 });
  await settle();
  ask("next");
  await settle();
  assertEquals([replies(), errors], [["next"], [reason]]);
  await server.shutdown();
});

Deno.test("serve() survives a handler whose result throws when it is looked at", async () => {
  const result = {
    get then() {
      throw new Error("no then");
    },
  };
  const { server, ask, settle, replies } = start((data) =>
    decode(data) === "bad" ? result as unknown as Reply : data
  );
  ask("bad");
  ask("good");
  await settle();
  assertEquals(replies(), ["good"]);
  assertEquals(server.stats().errors.handler, 1);
  await server.shutdown();
});

Deno.test("an abort within onListen closes the server", async () => {
  const controller = new AbortController();
  const { server, network } = start(echo(), {
    signal: controller.signal,
    onListen: () => controller.abort(),
  });
  await network.run(server.finished);
  assertEquals(network.sockets.size, 0);
});

Deno.test("serve() refuses options of a wrong type, and names them", () => {
  const { runtime } = makeNetwork();
  const wrong: Array<[unknown, unknown, string]> = [
    [{ hostname: 5 }, echo(), "'hostname' must be a string"],
    [{ port: "80" }, echo(), "'port' must be a number"],
    [{ maxInFlight: null }, echo(), "'maxInFlight' must be a number"],
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

Deno.test("a handler is told when and where its datagram came, and how much it may answer", async () => {
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

Deno.test("maxReplyBytes is Infinity without limit, and 0 for who gets no answer", async () => {
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

Deno.test("info.reply() sends answers beside the one that is returned", async () => {
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

Deno.test("all answers to a datagram share its limit", async () => {
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

Deno.test("info.reply() throws once the handler has settled, and for what is no payload", async () => {
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

Deno.test("a pair of servers that answer each datagram twice comes to rest", async () => {
  const network = makeNetwork();
  const { runtime } = network;
  const hosts = ["198.51.100.1", "198.51.100.2"];
  const servers = hosts.map((hostname) =>
    serve(
      { hostname, port: 20001, runtime, quiet: true },
      (data, { reply }) => {
        // Else it would be over before anyone looks.
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

Deno.test("send() and sendMany() send from the server's port, and count", async () => {
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
  assert(network.warnings[0]!.includes("Cannot send to 192.0.2.66:9"));
  await server.shutdown();
  assertEquals(countsOf(server), counts({ pushed: { sent: 200, failed: 2 } }));
});

Deno.test("send() checks its address, and sends nothing where one of many is wrong", async () => {
  const { network, server } = start(echo());
  const wrong: Array<[unknown, ErrorConstructor, string]> = [
    ["example.org:9", TypeError, "it is no IP address"],
    [{ hostname: "example.org", port: 9 }, TypeError, "it is no IP address"],
    ["192.0.2.1", SyntaxError, "no port"],
    [{ hostname: "192.0.2.1", port: 0 }, RangeError, "'port'"],
  ];
  for (const [to, type, message] of wrong) {
    await assertRejects(() => server.send("x", to as string), type, message);
    const many = ["192.0.2.1:9", to as string];
    await assertRejects(() => server.sendMany("x", many), type, message);
  }
  const noPayload = 5 as unknown as string;
  await assertRejects(() => server.send(noPayload, "192.0.2.1:9"), TypeError);
  assertEquals(network.sent, []);
  await server.shutdown();
  const late = server.send("x", "192.0.2.1:9");
  await assertRejects(() => late, Error, "the socket is closed");
  assertEquals(server.stats().pushed.dropped, 1);
});

Deno.test("send() keeps 4,096 on their way, and drops what is more", async () => {
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
    dropped: 4,
    failed: 0,
  });
  await server.shutdown();
});

Deno.test("shutdown() waits for what is being sent", async () => {
  const { network, server } = start(echo());
  const sent = server.send("x", "192.0.2.1:9");
  await network.run(server.shutdown());
  await sent;
  assertEquals(network.sent.length, 1);
});

Deno.test("serve() says on stderr what nobody else hears of, each kind once a second", async () => {
  const { network, server, socket, ask, settle } = start((data) => {
    const text = `${decode(data)}`;
    if (text.startsWith("{")) return JSON.parse(text);
    if (text === "large") return "x".repeat(1000);
    throw new Error(`bad\x1b]0;title\x07 ${text}`);
  }, { maxDatagramBytes: 9 });
  const said = () => network.warnings.splice(0);
  for (let i = 0; i < 5; i++) ask("{");
  const [first, ...more] = said();
  assertEquals(more, []);
  assert(
    first!.startsWith(
      "UDP server on 198.51.100.1:20001: the handler failed (192.0.2.7:40000): SyntaxError:",
    ),
    first,
  );
  assert(first!.includes("\n    at "), "where it was thrown");
  ask("x");
  const [controls] = said();
  assert(controls!.includes("bad\\u001b]0;title\\u0007 x"), controls);
  await network.runFor(1000);
  ask("{");
  assert(said()[0]!.endsWith("(and 4 more)"));
  for (let i = 0; i < 3; i++) ask("large");
  assertEquals(said(), [
    "UDP server on 198.51.100.1:20001: refused to answer 192.0.2.7:40000: the " +
    "answer is too large for its request; info.maxReplyBytes says how large it " +
    "may be, guard.trusted or guard.maxAmplification allow more. From now on " +
    "these are only counted.",
  ]);
  for (let i = 0; i < 3; i++) socket.arrive(new Uint8Array(10), CLIENT);
  assertEquals(said().length, 1);
  await settle();
  await server.shutdown();
});

Deno.test("serve() says what to do about an overload, once, or calls onOverload", async () => {
  const gate = Promise.withResolvers<void>();
  const handler = () => gate.promise;
  const told = start(handler, { maxInFlight: 1 });
  for (let i = 0; i < 3; i++) told.ask("x");
  assertEquals(told.network.warnings, [
    "UDP server on 198.51.100.1:20001: dropped a datagram from 192.0.2.7:40000, " +
    "as 1 are at work: answer faster, or raise maxInFlight. From now on these " +
    "are only counted.",
  ]);
  const heard: number[] = [];
  const called = start(handler, {
    maxInFlight: 1,
    onOverload: ({ remoteAddr }) => void heard.push(remoteAddr.port),
  });
  for (let i = 0; i < 3; i++) called.ask("x");
  assertEquals([heard, called.network.warnings], [[40000, 40000], []]);
  gate.resolve();
  await told.settle();
  await called.settle();
  await told.server.shutdown();
  await called.server.shutdown();
});

Deno.test("serve() with quiet says nothing", async () => {
  const { network, server, socket, ask } = start(() => {
    throw new Error("bad");
  }, { quiet: true, maxDatagramBytes: 9 });
  ask("x");
  socket.arrive(new Uint8Array(10), CLIENT);
  socket.failOnce(new Error("failed"));
  await server.shutdown();
  assertEquals(network.warnings, []);
  assertEquals(server.stats().errors, { handler: 1, send: 0, receive: 1 });
});

Deno.test("serve() says a bounded number of kinds, whatever errors are named", async () => {
  let i = 0;
  const { network, server, ask } = start(() => {
    throw Object.assign(new Error("bad"), { name: `Error${i++}` });
  });
  for (let i = 0; i < 1000; i++) ask("x");
  assertEquals(network.warnings.length, 65);
  await server.shutdown();
});

Deno.test("an answer beside the returned one that cannot be sent is told as an error", async () => {
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
    counts({ received: 1, unanswered: 1, pushed: { failed: 1 } }),
  );
});

Deno.test("a server whose socket fails sends nothing more", async () => {
  const { server, socket } = start(echo());
  socket.fail(new Error("interface gone"));
  await assertRejects(() => server.finished, Error, "interface gone");
  const late = server.send("x", "192.0.2.1:9");
  await assertRejects(() => late, Error, "the socket is closed");
});

Deno.test("the responders are lent the data, others have a copy of it", async () => {
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

Deno.test("maxReplies counts the answers that are being sent, and those in the making", async () => {
  const answers: Array<(reply: string) => void> = [];
  const { network, server, ask, settle } = start(
    (data) =>
      data.length > 1
        ? new Promise((resolve) => answers.push(resolve))
        : "at once",
    { maxReplies: 3 },
  );
  // Two are on their way, and one is worked on, before the first has left.
  for (const text of ["a", "b", "later", "c", "d"]) ask(text);
  await settle();
  answers[0]!("x");
  await network.run(server.finished);
  assertEquals(
    countsOf(server),
    counts({ received: 5, replied: 3, dropped: { closing: 2 } }),
  );
});

Deno.test("info.reply() says when no more can be on their way, and counts it", async () => {
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
    counts({ received: 1, unanswered: 1, pushed: { sent: 4096, dropped: 2 } }),
  );
  await server.shutdown();
});

Deno.test("an answer that is kept to see whether there is a loop takes no room at work", async () => {
  const { network, server, socket, ask } = start(echo(), { maxInFlight: 1 });
  // One every 100 ms: at some point the answer to one is kept.
  let asked = 0;
  while (network.sent.length === asked) {
    assert(asked < 50, "no answer was kept");
    ask(`${asked++}`);
    await network.runFor(100);
  }
  const other = { hostname: "192.0.2.99", port: 40000 };
  socket.arrive(encode("other"), other);
  await network.runFor(1);
  assertEquals(network.sent.at(-1)!.to, other);
  assertEquals(server.stats().dropped.overload, 0);
  await network.run(server.shutdown());
});

Deno.test("ref() and unref() of a server are its socket's", async () => {
  const { server, socket } = start(echo());
  const calls: string[] = [];
  socket.ref = () => calls.push("ref");
  socket.unref = () => calls.push("unref");
  server.unref();
  server.ref();
  assertEquals(calls, ["unref", "ref"]);
  await server.shutdown();
});

Deno.test("what a handler wants to know of the departure of its answer is done once, as it leaves", async () => {
  const handler: Handler = (data) => data;
  let times = 0;
  departing.set(handler, {
    isAsked: false,
    last: () => ({
      complete: (payload) => payload[0] = 48 + times++,
      trafficClass: undefined,
    }),
  });
  const { server, ask, settle, replies } = start(handler);
  ask("-a");
  ask("-b");
  await settle();
  assertEquals(replies(), ["0a", "1b"]);
  await server.shutdown();
});

Deno.test("shutdown() waits for all that is made and all that is sent, whatever ends first", async () => {
  const answers: Array<(reply: string) => void> = [];
  const { server, socket, ask, settle, replies } = start(() =>
    new Promise<string>((resolve) => answers.push(resolve))
  );
  ask("a");
  ask("b");
  const taken = Promise.withResolvers<void>();
  const { send } = socket;
  socket.send = () => taken.promise;
  const sent = server.send("x", "192.0.2.1:9");
  socket.send = send;
  await settle();
  const finished = server.shutdown();
  answers[0]!("first");
  await settle();
  answers[1]!("second");
  await settle();
  taken.resolve();
  await Promise.all([finished, sent]);
  assertEquals(replies(), ["first", "second"]);
  assertEquals(server.stats().dropped.closing, 0);
});

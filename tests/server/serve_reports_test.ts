/** The reports of a server, and callbacks that throw. */
import { assert, assertEquals } from "@std/assert";
import { decode, encode } from "../../lib/encoding.ts";
import type { Reply } from "../../lib/server/handler.ts";
import { echo, fixedReply } from "../../lib/server/responders.ts";
import type { ServeOptions } from "../../lib/server/serve.ts";
import { CLIENT, counts, countsOf, SERVER, start } from "./serving.ts";

Deno.test("serve(): reports a handler that throws or rejects, and continues", async () => {
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

Deno.test("serve(): survives an onError that throws or rejects", async () => {
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

Deno.test("serve(): reports a handler that returns an invalid reply", async () => {
  const wrong: unknown[] = [true, 42, {}, new SharedArrayBuffer(1), [1]];
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

Deno.test("serve(): reports a reply that cannot be sent, and continues", async () => {
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

Deno.test("serve(): reports a failed receive, and continues", async () => {
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

Deno.test("serve(): refuses answers by the guard, with the reason, and continues", async () => {
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

Deno.test("serve(): calls the handler for every datagram, and refuses answers only", async () => {
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

Deno.test("serve(): survives an onRefuse that throws", async () => {
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

Deno.test("serve(): reports each error of a send by its code, and continues", async () => {
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

Deno.test("serve(): survives an onRefuse that rejects", async () => {
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

Deno.test("serve(): survives a reply whose properties throw", async () => {
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

Deno.test("serve(): prints events without a listener on stderr, each kind once a second", async () => {
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

Deno.test("serve(): prints the remedy for an overload once, or calls onOverload", async () => {
  const gate = Promise.withResolvers<void>();
  const handler = () => gate.promise;
  const warned = start(handler, { maxInFlight: 1 });
  for (let i = 0; i < 3; i++) warned.ask("x");
  assertEquals(warned.network.warnings, [
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
  await warned.settle();
  await called.settle();
  await warned.server.shutdown();
  await called.server.shutdown();
});

Deno.test("serve(): prints nothing with quiet", async () => {
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

Deno.test("serve(): prints a bounded number of kinds for any names of errors", async () => {
  let i = 0;
  const { network, server, ask } = start(() => {
    throw Object.assign(new Error("bad"), { name: `Error${i++}` });
  });
  for (let i = 0; i < 1000; i++) ask("x");
  assertEquals(network.warnings.length, 65);
  await server.shutdown();
});

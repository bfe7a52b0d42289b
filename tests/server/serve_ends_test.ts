/** The end of a server, and of its datagrams in flight. */
import { assert, assertEquals, assertRejects, assertThrows } from "@std/assert";
import type { UdpAddress } from "../../lib/address.ts";
import { decode } from "../../lib/encoding.ts";
import { echo, fixedReply } from "../../lib/server/responders.ts";
import { serve } from "../../lib/server/serve.ts";
import type { SimulatedSocket } from "../../lib/testing/mod.ts";
import {
  CLIENT,
  counts,
  countsOf,
  makeNetwork,
  SERVER,
  start,
} from "./serving.ts";

Deno.test("serve(): sends the handler's reply to the client", async () => {
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

Deno.test("serve(): sends the reply that onError returns", async () => {
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

Deno.test("serve(): rejects finished if receiving fails for good", async () => {
  const { server, socket } = start(echo());
  const gone = new Error("interface gone");
  socket.fail(gone);
  assert(gone === await assertRejects(() => server.finished, Error));
  assert(gone === await assertRejects(() => server.shutdown(), Error));
});

Deno.test("serve(): shuts down after maxReplies, and never sends more", async () => {
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

Deno.test("shutdown(): waits for running handlers, and receives nothing more", async () => {
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

Deno.test("serve(): await using shuts the server down", async () => {
  let kept: SimulatedSocket;
  {
    const { server, socket, ask } = start(echo());
    kept = socket;
    await using _server = server;
    ask("x");
  }
  assert(!kept.open);
});

Deno.test("handlerTimeoutMs: abandons a handler that never settles, with its buffer", async () => {
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
  // The closed socket is not called when they settle.
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

Deno.test("serve(): an abort counts the datagrams of running handlers", async () => {
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

Deno.test("shutdown(): waits for a handler that never settles until its time-out", async () => {
  const { network, server, ask } = start(() => new Promise(() => {}));
  ask("never answered");
  await network.run(server.shutdown());
  assertEquals(network.now, 10_000);
});

Deno.test("serve(): throws the reason of an aborted signal", () => {
  const reason = new Error("enough");
  const network = makeNetwork();
  const signal = AbortSignal.abort(reason);
  const { runtime } = network;
  const thrown = assertThrows(() => serve({ signal, runtime }, echo()), Error);
  assert(thrown === reason);
  assertEquals(network.sockets.size, 0);
});

Deno.test("serve(): an abort closes at once, with handlers running", async () => {
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

Deno.test("serve(): an abort ends a shutdown that waits for a handler", async () => {
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

Deno.test("serve(): an abort after the end does nothing", async () => {
  const controller = new AbortController();
  const { server } = start(echo(), { signal: controller.signal });
  await server.shutdown();
  controller.abort();
  await server.finished;
  assertEquals(countsOf(server), counts({}));
});

Deno.test("serve(): calls onListen before it returns", () => {
  const heard: UdpAddress[] = [];
  const { server } = start(echo(), { onListen: (addr) => heard.push(addr) });
  assertEquals(heard, [server.addr]);
});

Deno.test("serve(): closes its socket if onListen throws", () => {
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

Deno.test("serve(): an abort within onListen closes the server", async () => {
  const controller = new AbortController();
  const { server, network } = start(echo(), {
    signal: controller.signal,
    onListen: () => controller.abort(),
  });
  await network.run(server.finished);
  assertEquals(network.sockets.size, 0);
});

Deno.test("serve(): sends nothing more after its socket failed", async () => {
  const { server, socket } = start(echo());
  socket.fail(new Error("interface gone"));
  await assertRejects(() => server.finished, Error, "interface gone");
  const late = server.send("x", "192.0.2.1:9");
  await assertRejects(() => late, Error, "The socket is closed");
});

Deno.test("shutdown(): waits for all handlers and all sends, in any order", async () => {
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

Deno.test("serve(): a server that ends by an error is an unhandled rejection, with telemetry too", async () => {
  const reasons: string[] = [];
  const onRejection = (event: PromiseRejectionEvent) => {
    event.preventDefault();
    reasons.push(event.reason.message);
  };
  addEventListener("unhandledrejection", onRejection);
  for (const telemetry of [true, false]) {
    const { socket, settle } = start(echo(), { telemetry });
    socket.fail(new Error("no more"));
    await settle();
  }
  removeEventListener("unhandledrejection", onRejection);
  assertEquals(reasons, ["no more", "no more"]);
});

Deno.test("shutdown(): a handler that awaits it at first still answers", async () => {
  const { network, server, ask, replies } = start(async (data) => {
    await server.shutdown();
    return data;
  });
  ask("last");
  await network.run(server.finished);
  assertEquals([replies(), network.now], [["last"], 0]);
});

for (const isAsync of [false, true]) {
  Deno.test(`serve(): a handler that aborts leaves nothing behind, ${isAsync ? "and never settles" : "and answers"}`, async () => {
    const controller = new AbortController();
    const { network, server, socket, ask } = start(() => {
      controller.abort();
      return isAsync ? new Promise<never>(() => {}) : "late";
    }, { signal: controller.signal, lend: true });
    ask("x");
    await network.run(server.finished);
    assertEquals(server.stats().inFlight, 0);
    assertEquals(
      [countsOf(server), socket.held],
      [counts({ received: 1, dropped: { closing: 1 } }), 0],
    );
    assertEquals(network.sent, []);
  });
}

Deno.test("ServerStats: bytes.replied counts sent replies only", async () => {
  const { network, server, ask, settle } = start(echo());
  network.plan = ({ data }) => {
    if (data.length > 3) throw new Error("too long for this network");
    return [];
  };
  for (const text of ["abc", "too long"]) ask(text);
  await settle();
  assertEquals(server.stats().bytes, { received: 11, replied: 3 });
  await server.shutdown();
});

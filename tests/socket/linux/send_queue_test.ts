/** The send queue of the linux engine, on a fake C library. */
import { assert, assertEquals, assertRejects } from "@std/assert";
import type { UdpAddress } from "../../../lib/address.ts";
import { type Handler, withTraits } from "../../../lib/server/handler.ts";
import { BUSY, FakeLibc, idle, one, payloads, started } from "./fake_libc.ts";
import { limitedNet } from "../../../lib/socket/net_access.ts";

const EPERM = 1, EAGAIN = 11, EMSGSIZE = 90;

Deno.test("SendQueue: each reply of a wildcard server leaves from the address asked", async () => {
  const asked: string[] = [];
  const { libc, server } = started(
    { hostname: "0.0.0.0" },
    (data, { localAddr }) => {
      asked.push(`${localAddr.hostname}:${localAddr.port}`);
      return data;
    },
  );
  libc.arrive(
    { ...one("a", 1), to: "127.0.0.5" },
    { port: 2, payloads: ["bb", "cc"], to: "127.0.0.6" },
    { ...one("d", 3), to: "127.0.0.5" },
  );
  await idle();
  const replies = libc.sent.map(({ to, source }) => [to!.port, source]);
  assertEquals(replies, [[1, "127.0.0.5"], [2, "127.0.0.6"], [3, "127.0.0.5"]]);
  assertEquals(asked, [
    "127.0.0.5:4242",
    "127.0.0.6:4242",
    "127.0.0.6:4242",
    "127.0.0.5:4242",
  ]);
  await server.shutdown();
});

/**
 * A handler whose replies contain the count of their completions, and may have
 * a class.
 */
function completing(trafficClass: (text: string) => number | undefined) {
  let times = 0;
  let text = "";
  const handler: Handler = (data) => {
    text = new TextDecoder().decode(data);
    return data.slice();
  };
  withTraits(handler, {
    departure: {
      isAsked: false,
      last: () => ({
        complete: (payload) => payload[0] = 48 + times++,
        trafficClass: trafficClass(text),
      }),
    },
  });
  return handler;
}

Deno.test("SendQueue: replies are completed as they leave, and again if they had to wait", async () => {
  const handler = completing(() => undefined);
  const { libc, server } = started({}, handler);
  libc.sends = [1, -EAGAIN];
  libc.hasRoom = false;
  libc.arrive(one("-a", 1), { port: 2, payloads: ["-b", "-c"] });
  await idle();
  assertEquals(payloads(libc), ["0a"]);
  libc.hasRoom = true;
  await idle();
  // Segments are completed datagram by datagram.
  assertEquals(payloads(libc).slice(1), ["3b4c"]);
  assertEquals(server.stats().replied, 3);
  await server.shutdown();
});

Deno.test("SendQueue: a reply with a traffic class of its own is a message of its own", async () => {
  const handler = completing((text) => text === "-b" ? 184 : undefined);
  const { libc, server } = started({ hostname: "0.0.0.0" }, handler);
  libc.arrive({ port: 2, payloads: ["-a", "-b", "-c"], to: "192.0.2.1" });
  await idle();
  assertEquals(
    libc.sent.map(({ payload, trafficClass }) => [payload, trafficClass]),
    [["0a", undefined], ["1b", 184], ["2c", undefined]],
  );
  await server.shutdown();
});

/** A socket of a client that posts, on a fake C library. */
function posting(peer?: UdpAddress) {
  const libc = new FakeLibc();
  const socket = libc.runtime.open({ ...BUSY, peer });
  const closed = socket.start({ onDatagram: (one) => socket.release(one) });
  const failures: string[] = [];
  const post = (text: string, port: number) =>
    socket.post(new TextEncoder().encode(text), peers[port]!, {
      onSendError: (error) => failures.push(`${text} ${(error as Error).name}`),
    });
  const peers = [1, 2].map((port) => ({ hostname: "127.0.0.2", port }));
  return { libc, socket, closed, failures, post };
}

Deno.test(
  "SendQueue: posts of one turn leave in one call, as messages by peer and size",
  async () => {
    const { libc, socket, closed, failures, post } = posting();
    const texts = ["aa", "bb", "c"];
    for (const text of texts) post(text, 0);
    post("dd", 1);
    assertEquals(libc.sent, []);
    await idle();
    assertEquals(
      libc.sent.map(({ payload, to, segmentBytes }) => [
        payload,
        to?.port,
        segmentBytes,
      ]),
      [["aabbc", 1, 2], ["dd", 2, 0]],
    );
    assertEquals(failures, []);
    socket.close();
    await closed;
  },
);

Deno.test("SendQueue: answers of one size to one peer from one address are one message", async () => {
  const { libc, server } = started({}, (data) => data.slice());
  libc.arrive(one("aa", 1), one("bb", 1), one("c", 1), one("dd", 1));
  libc.arrive(one("ee", 2), one("ff", 1), one("", 1), one("g", 1));
  await idle();
  assertEquals(
    libc.sent.map(({ to, payload, segmentBytes }) => [
      ...[to!.port, payload, segmentBytes],
    ]),
    [
      [1, "aabbc", 2],
      [1, "dd", 0],
      [2, "ee", 0],
      [1, "ff", 0],
      [1, "", 0],
      [1, "g", 0],
    ],
  );
  assertEquals(server.stats().replied, 8);
  await server.shutdown();
});

Deno.test("SendQueue: answers larger than most paths take are messages of their own", async () => {
  for (const [bytes, messages] of [[1472, 1], [1473, 2]]) {
    const { libc, server } = started({ maxDatagramBytes: 2000 });
    const text = "x".repeat(bytes!);
    libc.arrive(one(text), one(text));
    await idle();
    assertEquals(libc.sent.length, messages);
    assertEquals(server.stats().replied, 2);
    await server.shutdown();
  }
});

Deno.test("SendQueue: answers from different addresses are different messages", async () => {
  const { libc, server } = started(
    { hostname: "0.0.0.0" },
    (data) => data,
  );
  const [to, other] = ["127.0.0.5", "127.0.0.6"];
  libc.arrive({ ...one("aa"), to }, { ...one("bb"), to });
  libc.arrive({ ...one("cc"), to: other }, { ...one("dd"), to: other });
  await idle();
  assertEquals(
    libc.sent.map(({ payload, source }) => [payload, source]),
    [["aabb", to], ["ccdd", other]],
  );
  await server.shutdown();
});

Deno.test("SendQueue: no more than 64 datagrams are one message", async () => {
  const { libc, socket, closed, post } = posting();
  for (let i = 0; i < 130; i++) post("ab", 0);
  await idle();
  assertEquals(payloads(libc).map(({ length }) => length), [128, 128, 4]);
  socket.close();
  await closed;
});

Deno.test("SendQueue: each post has its own report of the send, also in one message", async () => {
  const { libc, socket, closed } = posting();
  const taken: string[] = [];
  const to = { hostname: "127.0.0.2", port: 1 };
  const post = (text: string) =>
    socket.post(new TextEncoder().encode(text), to, {
      onSent: () => taken.push(text),
      onSendError() {},
    });
  for (const text of ["aa", "bb", "cc"]) post(text);
  await idle();
  assertEquals(payloads(libc), ["aabbcc"]);
  // One by one, as the device cannot segment.
  libc.sends = [-EMSGSIZE];
  for (const text of ["dd", "ee"]) post(text);
  await idle();
  assertEquals(taken, ["aa", "bb", "cc", "dd", "ee"]);
  socket.close();
  await closed;
});

Deno.test(
  "SendQueue: the listener of an unsent post is called, and no other",
  async () => {
    const { libc, socket, closed, failures, post } = posting();
    // Neither as one message, nor as its first part alone.
    libc.sends = [-EMSGSIZE, -EMSGSIZE];
    post("aa", 0);
    post("bb", 0);
    await idle();
    assertEquals(libc.sent.map(({ payload }) => payload), ["bb"]);
    assertEquals(failures, ["aa Error"]);
    libc.sends = [-EPERM, -EPERM, -EPERM];
    post("cc", 0);
    post("dd", 0);
    await idle();
    assertEquals(failures.slice(1), [
      "cc PermissionDenied",
      "dd PermissionDenied",
    ]);
    // A payload larger than any datagram is reported too, but after the call.
    socket.post(new Uint8Array(65_528), { hostname: "127.0.0.2", port: 1 }, {
      onSendError: (error) => failures.push((error as Error).message),
    });
    assertEquals(failures.length, 3);
    await idle();
    assert(failures[3]!.includes("too long"), failures[3]);
    socket.close();
    await closed;
  },
);

Deno.test("SendQueue: a send's promise settles by its outcome", async () => {
  const { libc, socket, closed } = posting();
  const to = { hostname: "127.0.0.2", port: 1 };
  const send = (text: string) =>
    socket.send(new TextEncoder().encode(text), to);
  libc.sends = [1, -EPERM];
  const [first, second] = [send("a"), send("b")];
  await first;
  await assertRejects(() => second, Error, "os error 1");
  await assertRejects(
    () => socket.send(new Uint8Array(1), { hostname: "a.example", port: 1 }),
    TypeError,
    "no IP address",
  );
  socket.close();
  await closed;
  await assertRejects(() => send("c"), Deno.errors.BadResource);
});

Deno.test("SendQueue: echoes of one message with a gap between them are two messages", async () => {
  const { libc, server } = started(
    { lend: true },
    (data) => new TextDecoder().decode(data) === "bb" ? undefined : data,
  );
  libc.arrive({ payloads: ["aa", "bb", "cc", "dd"] });
  await idle();
  assertEquals(
    libc.sent.map(({ payload, segmentBytes }) => [payload, segmentBytes]),
    [["aa", 0], ["ccdd", 2]],
  );
  assertEquals(server.stats().replied, 3);
  await server.shutdown();
});

Deno.test("SendQueue: waiting replies leave from the address asked, with their options", async () => {
  const { libc, server } = started(
    { hostname: "0.0.0.0" },
    completing((text) => text === "-c" ? 184 : undefined),
  );
  libc.hasRoom = false;
  libc.sends = [-EAGAIN];
  libc.arrive({ ...one("-a", 1), to: "127.0.0.5" });
  await idle();
  libc.arrive(
    { ...one("-b", 1), to: "127.0.0.6" },
    { ...one("-c", 3), to: "127.0.0.7" },
  );
  await idle();
  assertEquals(libc.sent, []);
  libc.hasRoom = true;
  await idle();
  assertEquals(
    libc.sent.map(({ to, source, trafficClass }) => [
      to!.port,
      source,
      trafficClass,
    ]),
    [[1, "127.0.0.5", undefined], [1, "127.0.0.6", undefined], [
      3,
      "127.0.0.7",
      184,
    ]],
  );
  await server.shutdown();
});

Deno.test("SendQueue: a connected socket starts small, and grows with its posts", async () => {
  const peer = { hostname: "127.0.0.2", port: 1 };
  const { libc, socket, closed, failures } = posting(peer);
  const before = libc.allocatedBytes;
  const texts = Array.from({ length: 40 }, (_, i) => `${i}`.padEnd(1000));
  for (const text of texts) {
    socket.post(new TextEncoder().encode(text), peer, {
      onSendError: (error) => failures.push((error as Error).message),
    });
  }
  await idle();
  assertEquals(payloads(libc).join(""), texts.join(""));
  assertEquals(libc.sent[0]!.to, undefined);
  // Not at once to a server's size, 1 MiB.
  const grown = libc.allocatedBytes - before;
  assert(grown > 4096 && grown < 100_000, `${grown} bytes`);
  assertEquals(failures, []);
  socket.close();
  await closed;
});

Deno.test(
  "SendQueue: posts and sends beyond the queue fail",
  async () => {
    const { libc, socket, closed, failures, post } = posting();
    libc.hasRoom = false;
    libc.sends = [-EAGAIN];
    // Each differs in size or peer from the previous one: a message of its own.
    for (let i = 0; i < 66; i++) post("x".repeat(1 + i % 50), i % 2);
    await idle();
    assertEquals(
      failures,
      ["x".repeat(15), "x".repeat(16)].map((x) => `${x} Error`),
    );
    await assertRejects(
      () => socket.send(new Uint8Array(1), { hostname: "127.0.0.2", port: 1 }),
      Error,
      "The send buffer is full",
    );
    libc.hasRoom = true;
    await idle();
    assertEquals(libc.sent.length, 64);
    socket.close();
    await closed;
  },
);

Deno.test("SendQueue: answers beyond its memory leave in several calls", async () => {
  const answer = new Uint8Array(1000);
  const { libc, server } = started({}, () => answer);
  const payloads = Array(64).fill("x");
  libc.arrive(
    ...Array.from({ length: 20 }, (_, i) => ({ port: 1 + i, payloads })),
  );
  await idle();
  const bytes = libc.sent.reduce((sum, { payload }) => sum + payload.length, 0);
  assertEquals([server.stats().replied, bytes], [1280, 1_280_000]);
  await server.shutdown();
});

Deno.test("info.reply: leaves from the address asked", async () => {
  const { libc, server } = started(
    { hostname: "0.0.0.0" },
    (data, { reply }) => {
      reply("first");
      return data;
    },
  );
  libc.arrive({ ...one("a", 1), to: "127.0.0.5" });
  await idle();
  assertEquals(
    libc.sent.map(({ payload, source }) => `${payload} ${source}`).sort(),
    ["a 127.0.0.5", "first 127.0.0.5"],
  );
  await server.shutdown();
});

Deno.test({
  name: "LinuxSocket: sends and replies only to peers that Deno permits",
  permissions: { net: false },
  async fn() {
    const [payload, to] = [new Uint8Array(1), {
      hostname: "127.0.0.2",
      port: 1,
    }];
    const libc = new FakeLibc();
    libc.access = limitedNet();
    const socket = libc.runtime.open(BUSY);
    const refused: string[] = [];
    const closed = socket.start({
      onDatagram: (datagram) => socket.reply(datagram, payload),
      onReplyError: (error) => refused.push((error as Error).message),
    });
    for (const from of [undefined, socket.addr]) {
      const send = () => socket.send(payload, to, from);
      await assertRejects(send, Deno.errors.NotCapable, "127.0.0.2:1");
    }
    const posted = new Promise((_, onSendError) =>
      socket.post(payload, to, { onSendError })
    );
    await assertRejects(() => posted, Deno.errors.NotCapable, "127.0.0.2:1");
    libc.arrive(one("a", 1), one("b", 1), one("c", 2));
    await idle();
    const why = (port: number) =>
      `Requires net access to "127.0.0.2:${port}", run again with ` +
      "--allow-net, or with --allow-net=127.0.0.2 for all of its ports";
    assertEquals(refused, [why(1), why(1), why(2)]);
    assertEquals(libc.sent, []);
    socket.close();
    await closed;
  },
});

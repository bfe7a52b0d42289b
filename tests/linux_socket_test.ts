/** What the linux engine's sockets do besides, on a C library that the test owns. */
import { assert, assertEquals, assertRejects, assertThrows } from "@std/assert";
import type { UdpAddress } from "../lib/address.ts";
import { departing, type Handler } from "../lib/handler.ts";
import { openSocket } from "../lib/open_socket.ts";
import { serve } from "../lib/serve.ts";
import {
  FakeLibc,
  idle,
  one,
  payloads,
  stamped,
  started,
} from "./fake_libc.ts";
import { netTest } from "./helpers.ts";

const EPERM = 1, EAGAIN = 11, EMSGSIZE = 90;

/** A socket for many datagrams. */
const BUSY = {
  hostname: "127.0.0.1",
  port: 0,
  maxDatagramBytes: 100,
  isBusy: true,
};

Deno.test("each reply of a wildcard server leaves from where its request went", async () => {
  const libc = new FakeLibc();
  libc.bound = { hostname: "0.0.0.0", port: 4242 };
  const asked: string[] = [];
  const server = serve(
    { hostname: "0.0.0.0", runtime: libc.runtime, guard: false },
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

Deno.test("who sleeps in its own thread wakes for what comes, and shortly before it has to", async () => {
  const libc = new FakeLibc();
  libc.isThreadAway = true;
  const socket = libc.runtime.open(BUSY);
  const got: string[] = [];
  const closed = socket.start({
    onDatagram(datagram) {
      got.push(new TextDecoder().decode(datagram.data));
      socket.release(datagram);
    },
  });
  await idle();
  // In between nothing is to be late by what else the loop does.
  for (const ms of [0, 0.01, 0.5, 3]) socket.sleep!(ms);
  assertEquals(libc.waits.map((ms) => Math.round(100 * ms)), [0, 0, 44, 100]);
  libc.arrive(one("a"));
  await idle();
  assertEquals(got, []);
  socket.sleep!(1);
  await idle();
  assertEquals(got, ["a"]);
  libc.isThreadAway = false;
  socket.close();
  socket.sleep!(1);
  assertEquals(libc.waits.length, 5);
  await closed;
});

/** A handler whose replies say how often they were completed, and may have a class. */
function completing(trafficClass: (text: string) => number | undefined) {
  let times = 0;
  let text = "";
  const handler: Handler = (data) => {
    text = new TextDecoder().decode(data);
    return data.slice();
  };
  departing.set(handler, {
    isAsked: false,
    last: () => ({
      complete: (payload) => payload[0] = 48 + times++,
      trafficClass: trafficClass(text),
    }),
  });
  return handler;
}

Deno.test("replies are completed as they leave, and again if they had to wait", async () => {
  const handler = completing(() => undefined);
  const { libc, server } = started({}, handler);
  libc.sends = [1, -EAGAIN];
  libc.hasRoom = false;
  libc.arrive(one("-a", 1), { port: 2, payloads: ["-b", "-c"] });
  await idle();
  assertEquals(payloads(libc), ["0a"]);
  libc.hasRoom = true;
  await idle();
  // What the kernel cuts is completed datagram by datagram.
  assertEquals(payloads(libc).slice(1), ["3b4c"]);
  assertEquals(server.stats().replied, 3);
  await server.shutdown();
});

Deno.test("a reply with a traffic class of its own is a message of its own", async () => {
  const handler = completing((text) => text === "-b" ? 184 : undefined);
  const { libc, server } = started({ hostname: "0.0.0.0" }, handler);
  libc.bound = { hostname: "0.0.0.0", port: 4242 };
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

netTest(
  "what is posted in one turn goes out in one call, as messages by peer and size",
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

Deno.test("answers of one size to one peer from one address are one message", async () => {
  const { libc, server } = started({}, (data) => data.slice());
  libc.bound = { hostname: "127.0.0.1", port: 4242 };
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

Deno.test("answers that are larger than most paths take are messages of their own", async () => {
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

Deno.test("answers that leave from different addresses are different messages", async () => {
  const libc = new FakeLibc();
  libc.bound = { hostname: "0.0.0.0", port: 4242 };
  const server = serve(
    { hostname: "0.0.0.0", runtime: libc.runtime, guard: false },
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

netTest("no more than 64 datagrams are one message", async () => {
  const { libc, socket, closed, post } = posting();
  for (let i = 0; i < 130; i++) post("ab", 0);
  await idle();
  assertEquals(payloads(libc).map(({ length }) => length), [128, 128, 4]);
  socket.close();
  await closed;
});

netTest(
  "who posted what could not be sent hears of it, and nobody else",
  async () => {
    const { libc, socket, closed, failures, post } = posting();
    // Neither as one message, nor the first part of it by itself.
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
    // What fits no datagram is told too, though not within the call.
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

netTest("a request to send is settled by what became of it", async () => {
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

Deno.test("echoes of one message with a gap between them are two messages", async () => {
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

Deno.test("what waits for room leaves from where its request went, and as it was to", async () => {
  const libc = new FakeLibc();
  libc.bound = { hostname: "0.0.0.0", port: 4242 };
  const server = serve(
    { hostname: "0.0.0.0", runtime: libc.runtime, guard: false },
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

Deno.test("peers that differ in one byte of their addresses are not taken for each other", async () => {
  const seen: string[] = [];
  const { libc, server } = started({}, (data, { remoteAddr }) => {
    seen.push(remoteAddr.hostname);
    return data;
  });
  const hosts = ["10.1.2.3", "11.1.2.3", "10.9.2.3", "10.1.9.3", "10.1.2.9"];
  libc.arrive(...hosts.map((host) => ({ ...one("a"), host })));
  await idle();
  assertEquals(seen, hosts);
  await server.shutdown();
});

Deno.test("a group that cannot be joined is named", () => {
  const libc = new FakeLibc();
  libc.refusedOptions = [[0, 35, 19]];
  assertThrows(
    () =>
      serve(
        { runtime: libc.runtime, groups: ["239.1.2.3"], guard: false },
        () => {},
      ),
    Error,
    "Cannot join the group 239.1.2.3: No such device",
  );
});

Deno.test("a receive buffer that the system bounds is told of, with what it has", async () => {
  const libc = new FakeLibc();
  const receiveBufferBytes = 1_000_000;
  const started = async (given: number) => {
    libc.values.set(8, [2 * given]);
    const errors: string[] = [];
    const server = serve({
      runtime: libc.runtime,
      receiveBufferBytes,
      onError: (error) => void errors.push((error as Error).message),
    }, () => {});
    await idle();
    await server.shutdown();
    return errors;
  };
  assertEquals(await started(receiveBufferBytes), []);
  const [told] = await started(212_992);
  assert(told?.startsWith("The receive buffer has 212992 bytes"), told);
  const errors: unknown[] = [];
  const onError = (error: unknown) => void errors.push(error);
  const socket = openSocket(
    { runtime: libc.runtime, receiveBufferBytes, onError },
    () => {},
  );
  await idle();
  assertEquals(errors.map((error) => (error as Error).message), [told]);
  await socket.close();
});

Deno.test("a socket with one peer starts small, and grows with what is posted", async () => {
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
  // Not at once to what a server has, 1 MiB.
  const grown = libc.allocatedBytes - before;
  assert(grown > 4096 && grown < 100_000, `${grown} bytes`);
  assertEquals(failures, []);
  socket.close();
  await closed;
});

netTest(
  "what is posted or sent beyond what may wait for room is told",
  async () => {
    const { libc, socket, closed, failures, post } = posting();
    libc.hasRoom = false;
    libc.sends = [-EAGAIN];
    // Each is of another size or peer than the last: a message of its own.
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

Deno.test("a handler that has settled keeps nobody from waiting in the thread", async () => {
  const { libc, server } = started({}, async (data) => {
    await null;
    return data;
  });
  for (let i = 0; i < 20; i++) {
    libc.arrive(one("a"));
    await idle();
  }
  assertEquals(server.stats().replied, 20);
  assert(libc.waits.length > 0);
  await server.shutdown();
});

Deno.test("others have a turn after a millisecond, as long as they use it, or one more", async () => {
  for (
    const [workMs, others, looks] of [
      [1, [], 0],
      [1.1, [], 1],
      [1.1, [0.04], 1],
      // Who used one turn may go on in the next, which comes when nothing is
      // left to receive.
      [1.1, [0.06], 3],
      [1.1, [0.5, 0.4], 4],
      [1.1, [0.5, 0.5, 0.1], 4],
      // Once, else it would keep others from their work for nothing.
      [1.1, [0.5, 0.5, 0.1, 0.5, 0.5, 0.1, 0.1], 6],
      // Where the other thread comes late, nobody waits for it for a while.
      [1.1, [0.6], 1],
    ] as const
  ) {
    const { libc, server } = started({}, (data) => {
      libc.now += workMs;
      return data;
    });
    await idle();
    libc.others = [...others];
    libc.arrive(one("a"));
    await idle();
    assertEquals(libc.looks, looks, `${workMs} ms, then ${others.join(" ")}`);
    assertEquals(server.stats().replied, 1);
    await server.shutdown();
  }
});

Deno.test("who waited for another thread in vain waits for it again after 50 ms", async () => {
  const { libc, server } = started({}, (data) => {
    libc.now += 2;
    return data;
  });
  await idle();
  libc.others = [0.6];
  const looks: number[] = [];
  for (const ms of [0, 10, 30, 10]) {
    libc.now += ms;
    libc.arrive(one("a"));
    await idle();
    looks.push(libc.looks);
  }
  assertEquals(looks, [1, 1, 1, 2]);
  await server.shutdown();
});

Deno.test("answers that are more than there is memory for go out in several calls", async () => {
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

Deno.test("an answer beside the returned one leaves from where its request went", async () => {
  const libc = new FakeLibc();
  libc.bound = { hostname: "0.0.0.0", port: 4242 };
  const server = serve(
    { hostname: "0.0.0.0", runtime: libc.runtime, guard: false },
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

Deno.test("a socket that stamps what it sends tells so before what came back", async () => {
  const libc = new FakeLibc();
  const peer = { hostname: "127.0.0.2", port: 9 };
  const socket = libc.runtime.open({ ...BUSY, stampSends: true, peer });
  assertEquals(socket.stampsSends, true);
  const told: string[] = [];
  const closed = socket.start({
    onDatagram(datagram) {
      told.push(`got ${new TextDecoder().decode(datagram.data)}`);
      socket.release(datagram);
    },
    onSent: (index, sentAt) => told.push(`sent ${index} at ${sentAt}`),
  });
  await idle();
  libc.errorQueue.push(stamped(0, 3), stamped(1, 4));
  libc.arrive(one("a"));
  await idle();
  assertEquals(told, ["sent 0 at 3000.5", "sent 1 at 4000.5", "got a"]);
  socket.close();
  await closed;
});

Deno.test("a datagram is told with its TTL, its class and when the kernel had it, if asked", async () => {
  const told: unknown[] = [];
  const { libc, server } = started(
    { packetInfo: true },
    (_, { ttl, trafficClass, arrivedAt }) => {
      told.push([ttl, trafficClass, arrivedAt]);
    },
  );
  // IP_RECVTTL, IP_RECVTOS and SO_TIMESTAMPNS.
  for (const [level, option] of [[0, 12], [0, 13], [1, 35]]) {
    assert(
      libc.options.some((set) => set[0] === level && set[1] === option),
      `${level} ${option}`,
    );
  }
  libc.now = 700;
  libc.arrive({ ...one("a"), ttl: 61, trafficClass: 184, second: 5 }, one("b"));
  await idle();
  // The wall clock is at 0 when ours is at 700.
  assertEquals(told, [[61, 184, 5700.25], [undefined, undefined, undefined]]);
  await server.shutdown();
});

Deno.test("what is kept of a message does not change what is told of the rest", async () => {
  const told: unknown[] = [];
  const { libc, server } = started(
    { packetInfo: true },
    async (_, { receivedAt, remoteAddr, localAddr, ...info }) => {
      const { ttl, trafficClass, arrivedAt } = info;
      told.push([receivedAt, remoteAddr.port, localAddr.port]);
      told.push([ttl, trafficClass, arrivedAt]);
      await null;
    },
  );
  await idle();
  libc.now = 700;
  const payloads = ["aa", "bb"];
  libc.arrive({ port: 9, payloads, ttl: 61, trafficClass: 184, second: 5 });
  await idle();
  const each = [[700, 9, 4242], [61, 184, 5700.25]];
  assertEquals(told, [...each, ...each]);
  await server.shutdown();
});

Deno.test({
  name: "FFI sends to nobody whom Deno does not allow, but for those who asked",
  permissions: { net: false },
  async fn() {
    const { libc, socket, closed, failures, post } = posting();
    const [payload, to] = [new Uint8Array(1), {
      hostname: "127.0.0.2",
      port: 1,
    }];
    const refused = () => socket.send(payload, to);
    await assertRejects(refused, Deno.errors.NotCapable, "127.0.0.2:1");
    assertThrows(() => post("x", 0), Deno.errors.NotCapable);
    await socket.send(payload, to, socket.addr);
    assertEquals([libc.sent.length, failures], [1, []]);
    socket.close();
    await closed;
    // For the peer of a connected socket Deno was asked when it was opened.
    const connected = posting(to);
    await connected.socket.send(payload, to);
    connected.post("x", 0);
    await idle();
    assertEquals(connected.libc.sent.length, 2);
    connected.socket.close();
    await connected.closed;
  },
});

Deno.test("a wildcard socket asks where each datagram was sent to, by its version", async () => {
  const asked = async (family: number, hostname: string) => {
    const libc = new FakeLibc();
    libc.family = family;
    libc.bound = { hostname, port: 4242 };
    const { runtime } = libc;
    const server = serve({ hostname, runtime, packetInfo: true }, () => {});
    await server.shutdown();
    // Each is turned on by a 1.
    return libc.options.filter(([, , [value]]) => value === 1)
      .map(([level, option]) => `${level} ${option}`);
  };
  const gro = "17 104";
  const ipv4 = ["1 35", "0 12", "0 13"];
  // IP_PKTINFO, and IPV6_RECVPKTINFO, IPV6_RECVHOPLIMIT and IPV6_RECVTCLASS.
  assertEquals(await asked(2, "0.0.0.0"), ["0 8", gro, ...ipv4]);
  assertEquals(await asked(2, "127.0.0.1"), [gro, ...ipv4]);
  assertEquals(await asked(10, "::"), [
    "41 49",
    gro,
    ...ipv4,
    "41 51",
    "41 66",
  ]);
});

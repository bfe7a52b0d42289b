/**
 * The linux engine's handling of each error of the system, on a fake C library.
 */
import { assert, assertEquals, assertRejects } from "@std/assert";
import { echo } from "../../../lib/server/responders.ts";
import { serve } from "../../../lib/server/serve.ts";
import {
  SOL_UDP,
  UDP_GRO,
  UDP_SEGMENT,
} from "../../../lib/socket/linux/layout.ts";
import { FakeLibc, idle, one, payloads, started } from "./fake_libc.ts";

const EPERM = 1, EINTR = 4, EIO = 5, EAGAIN = 11, ENOMEM = 12, EINVAL = 22;
const EMSGSIZE = 90, ENOPROTOOPT = 92, ENOBUFS = 105;
const ECONNREFUSED = 111;

Deno.test("SendQueue: replies leave in one call, those to one message as one", async () => {
  const { libc, server } = started();
  libc.arrive(one("a", 1), { port: 2, payloads: ["bb", "cc", "d"] });
  await idle();
  const to = (port: number) => ({ hostname: "127.0.0.2", port });
  assertEquals(libc.sent, [
    { to: to(1), payload: "a", segmentBytes: 0 },
    { to: to(2), payload: "bbccd", segmentBytes: 2 },
  ]);
  const { received, replied } = server.stats();
  assertEquals([received, replied], [4, 4]);
  await server.shutdown();
  // The epoll instance is closed with the last socket.
  assertEquals(libc.closed, [8, 7]);
});

for (const [name, errno] of Object.entries({ EIO, EINVAL })) {
  Deno.test(`SendQueue: ${name} turns segments off, with one notice, and loses nothing`, async () => {
    const { libc, server, errors } = started();
    libc.sends = [-errno];
    libc.arrive({ payloads: ["aa", "bb", "c"] }, one("dd"));
    await idle();
    assertEquals(payloads(libc), ["aa", "bb", "c", "dd"]);
    assertEquals(errors.length, 1);
    assert(errors[0]!.startsWith("Replies are sent one by one from now on"));
    libc.arrive({ payloads: ["ee", "ff"] });
    await idle();
    assertEquals(payloads(libc).slice(4), ["ee", "ff"]);
    assertEquals(
      libc.sent.every(({ segmentBytes }) => segmentBytes === 0),
      true,
    );
    assertEquals([server.stats().replied, errors.length], [6, 1]);
    await server.shutdown();
  });
}

Deno.test("SendQueue: EMSGSIZE for segments sends them one by one, to that peer alone", async () => {
  const { libc, server, errors } = started();
  libc.sends = [-EMSGSIZE];
  libc.arrive({ port: 1, payloads: ["aa", "bb"] }, {
    port: 2,
    payloads: ["cc", "dd"],
  });
  await idle();
  assertEquals(
    libc.sent.map(({ payload, segmentBytes }) => [payload, segmentBytes]),
    [["aa", 0], ["bb", 0], ["ccdd", 2]],
  );
  assertEquals([server.stats().replied, errors], [4, []]);
  await server.shutdown();
});

Deno.test("SendQueue: failures one by one are counted one by one", async () => {
  const { libc, server, errors } = started();
  libc.sends = [-EIO, 1, -ENOBUFS, 1];
  libc.arrive({ payloads: ["aa", "bb", "cc"] });
  await idle();
  assertEquals(payloads(libc), ["aa", "cc"]);
  const { replied, errors: { send } } = server.stats();
  assertEquals([replied, send], [2, 1]);
  assert(errors.includes("No buffer space available (os error 105)"));
  await server.shutdown();
});

const SEND_ERRORS = { ENOBUFS, EPERM, EMSGSIZE, EIO };
for (const [name, errno] of Object.entries(SEND_ERRORS)) {
  Deno.test(`SendQueue: after ${name} the answers of one message are sent one by one`, async () => {
    const { libc, server, errors } = started();
    libc.sends = [-errno, 1, -ENOBUFS];
    libc.arrive(one("a"), one("b"), one("c"));
    await idle();
    assertEquals(payloads(libc), ["a", "c"]);
    const { replied, errors: { send } } = server.stats();
    assertEquals([replied, send], [2, 1]);
    const isReported = errors.some((error) =>
      error.startsWith("Replies are sent one")
    );
    assertEquals(isReported, errno === EIO);
    await server.shutdown();
  });

  Deno.test(`SendQueue: ${name} in the middle of a batch costs its own reply only`, async () => {
    const { libc, server, errors } = started();
    libc.sends = [1, -errno];
    libc.arrive(one("a", 1), one("b", 2), one("c", 3), one("d", 4));
    await idle();
    assertEquals(payloads(libc), ["a", "c", "d"]);
    const { received, replied, errors: { send } } = server.stats();
    assertEquals([received, replied, send], [4, 3, 1]);
    assertEquals(errors.length, 1);
    assert(errors[0]!.endsWith(`(os error ${errno})`));
    await server.shutdown();
  });
}

Deno.test("SendQueue: answers to a group's datagrams leave one by one, from an address of ours", async () => {
  const { libc, server, errors } = started({ hostname: "0.0.0.0" });
  // The message is refused, and the first answer with the group's address.
  libc.sends = [-EINVAL, -EINVAL];
  const to = "224.0.0.251";
  libc.arrive({ ...one("aa"), to }, { ...one("bb"), to }, { ...one("cc"), to });
  await idle();
  assertEquals(
    libc.sent.map(({ payload, source }) => [payload, source]),
    [["aa", undefined], ["bb", undefined], ["cc", undefined]],
  );
  // The next answers are coalesced again.
  const other = "192.0.2.1";
  libc.arrive({ ...one("dd"), to: other }, { ...one("ee"), to: other });
  await idle();
  assertEquals(payloads(libc).slice(3), ["ddee"]);
  assertEquals([server.stats().replied, errors], [5, []]);
  await server.shutdown();
});

for (const [name, errno] of Object.entries({ EMSGSIZE, EINVAL })) {
  Deno.test(`SendQueue: after ${name} large answers are messages of their own`, async () => {
    const { libc, server, errors } = started({ maxDatagramBytes: 2000 });
    const lengths = async (bytes: number) => {
      const before = libc.sent.length;
      const text = "x".repeat(bytes);
      libc.arrive(one(text), one(text));
      await idle();
      return payloads(libc).slice(before).map(({ length }) => length);
    };
    libc.sends = [-errno];
    assertEquals(await lengths(1400), [1400, 1400]);
    libc.sends = [];
    assertEquals(await lengths(1400), [1400, 1400]);
    // Smaller answers are still coalesced.
    assertEquals(await lengths(1399), [2 * 1399]);
    assertEquals([server.stats().replied, errors], [6, []]);
    await server.shutdown();
  });
}

Deno.test("SendQueue: answers sent one by one without room keep the address asked", async () => {
  const { libc, server } = started({ hostname: "0.0.0.0" });
  const to = "192.0.2.1";
  libc.sends = [-EMSGSIZE, -EAGAIN, 1];
  libc.arrive({ ...one("aa"), to }, { ...one("bb"), to });
  await idle();
  assertEquals(libc.sent.map(({ payload, source }) => [payload, source]), [
    ["bb", to],
  ]);
  const { replied, errors: { send } } = server.stats();
  assertEquals([replied, send], [1, 1]);
  await server.shutdown();
});

Deno.test("SendQueue: EAGAIN is no error, as replies wait for room while others are received", async () => {
  const { libc, server, errors } = started();
  libc.hasRoom = false;
  libc.sends = [1, -EAGAIN];
  libc.arrive(one("a", 1), one("b", 2), { port: 3, payloads: ["cc", "dd"] });
  await idle();
  // A receive into the same memory must not change the waiting answers.
  libc.arrive(one("e", 4), one("f", 5), one("g", 6));
  await idle();
  assertEquals([payloads(libc), server.stats().received], [["a"], 7]);
  libc.hasRoom = true;
  await idle();
  assertEquals(
    libc.sent.map(({ to, payload }) => [to!.port, payload]),
    [[1, "a"], [2, "b"], [3, "ccdd"], [4, "e"], [5, "f"], [6, "g"]],
  );
  assertEquals([server.stats().replied, errors], [7, []]);
  await server.shutdown();
});

Deno.test("SendQueue: replies beyond the queue are counted as unsent", async () => {
  const { libc, server, errors } = started();
  libc.hasRoom = false;
  libc.sends = [-EAGAIN];
  for (let i = 0; i < 70; i++) libc.arrive(one(`${i}`, 1 + i % 2));
  await idle();
  const { received, replied, errors: { send } } = server.stats();
  assertEquals([received, replied, send], [70, 0, 6]);
  assert(errors[0]!.startsWith("The send buffer is full"), errors[0]);
  libc.hasRoom = true;
  await server.shutdown();
  assertEquals(payloads(libc), Array.from({ length: 64 }, (_, i) => `${i}`));
  assertEquals(server.stats().replied, 64);
});

Deno.test("SendQueue: a closed server counts the replies that still wait", async () => {
  const controller = new AbortController();
  const { libc, server } = started({ signal: controller.signal });
  libc.hasRoom = false;
  // The buffer is full, and still full when the server is closed.
  libc.sends = [-EAGAIN, -EAGAIN];
  libc.arrive(one("a"), one("b"));
  await idle();
  controller.abort();
  libc.hasRoom = true;
  await server.finished;
  const { received, replied, errors: { send } } = server.stats();
  assertEquals([received, replied, send], [2, 0, 2]);
});

Deno.test("SendQueue: a sendmmsg that takes a part is called for the rest", async () => {
  const { libc, server, errors } = started();
  libc.sends = [2, 1];
  libc.arrive(...["a", "b", "c", "d", "e"].map((text, i) => one(text, i + 1)));
  await idle();
  assertEquals(payloads(libc), ["a", "b", "c", "d", "e"]);
  assertEquals([server.stats().replied, errors], [5, []]);
  await server.shutdown();
});

Deno.test("LinuxSocket: EINTR is no error, as the call is made again", async () => {
  const { libc, server, errors } = started();
  libc.sends = [-EINTR];
  libc.receives = [-EINTR];
  libc.arrive(one("a"));
  await idle();
  assertEquals([payloads(libc), errors], [["a"], []]);
  await server.shutdown();
});

Deno.test("SendQueue: ECONNREFUSED is about an earlier datagram, and this one is sent", async () => {
  const { libc, server, errors } = started();
  libc.sends = [1, -ECONNREFUSED];
  libc.arrive(one("a", 1), one("b", 2), one("c", 3));
  await idle();
  assertEquals(payloads(libc), ["a", "b", "c"]);
  const { replied, errors: { send, receive } } = server.stats();
  assertEquals([replied, send, receive], [3, 0, 1]);
  assertEquals(errors, ["Connection refused (os error 111)"]);
  await server.shutdown();
});

Deno.test("serve(): a reply counts as sent when the system has taken it, not before", async () => {
  const { libc, server } = started({ maxReplies: 2 });
  libc.sends = [-ENOBUFS];
  libc.arrive(one("a"));
  await idle();
  assertEquals(server.stats().replied, 0);
  libc.arrive(one("b", 1), one("c", 2), one("d", 3));
  await server.finished;
  assertEquals(payloads(libc), ["b", "c"]);
  const { received, replied, errors, dropped } = server.stats();
  assertEquals([received, replied, errors.send], [4, 2, 1]);
  assertEquals(dropped.closing, 1);
});

Deno.test("serve(): synchronous handlers answer more than maxInFlight at once", async () => {
  const { libc, server } = started({ maxInFlight: 2 });
  libc.arrive({ payloads: Array(30).fill("xx") }, one("y"));
  await idle();
  const { received, replied } = server.stats();
  assertEquals([received, replied], [31, 31]);
  await server.shutdown();
});

Deno.test("LinuxSocket: a server takes little memory until it needs more", async () => {
  const { libc, server } = started({}, (data) => data, 1);
  await idle();
  const few = libc.allocatedBytes;
  assert(few < 100_000, `${few}`);
  const all = Array.from({ length: 200 }, (_, i) => one(`${i}`, 1 + i));
  // Any number of datagrams one at a time needs no more.
  for (const each of all.slice(0, 20)) {
    libc.arrive(each);
    await idle();
  }
  assertEquals(libc.allocatedBytes, few);
  libc.arrive(...all);
  await idle();
  assert(libc.allocatedBytes > few + 60 * 65_536, `${libc.allocatedBytes}`);
  assertEquals(server.stats().replied, 220);
  await server.shutdown();
});

Deno.test("SendQueue: answers that wait for room have as much memory as they need", async () => {
  const { libc, server, errors } = started({}, (data) => data.slice());
  libc.hasRoom = false;
  libc.sends = [-EAGAIN];
  const large = Array.from({ length: 12 }, (_, i) => `${i}`.padEnd(30_000));
  large.forEach((text, i) => libc.arrive(one(text, 1 + i)));
  await idle();
  libc.hasRoom = true;
  await idle();
  assertEquals([payloads(libc), errors], [large, []]);
  await server.shutdown();
});

Deno.test("LinuxSocket: each of thousands of peers gets its own answer", async () => {
  const mistaken: string[] = [];
  const { libc, server } = started(
    { maxInFlight: 65_536 },
    (data, { remoteAddr: { port } }) => {
      const text = new TextDecoder().decode(data);
      if (text !== `${port}`) mistaken.push(`${text} as ${port}`);
      return data;
    },
  );
  const ports = Array.from({ length: 3000 }, (_, i) => 1024 + 7 * i);
  // Twice, so that the second pass uses the cache of the first.
  for (const port of [...ports, ...ports]) libc.arrive(one(`${port}`, port));
  while (server.stats().replied < 2 * ports.length) await idle();
  assertEquals(
    libc.sent.filter(({ to, payload }) => `${to!.port}` !== payload),
    [],
  );
  assertEquals(mistaken, []);
  await server.shutdown();
});

Deno.test("Delivery: a slow handler yields to the event loop after each millisecond", async () => {
  const order: string[] = [];
  const { libc, server } = started({}, (data) => {
    libc.now += 0.6;
    order.push(String.fromCharCode(data[0]!));
    if (data[0]! % 2 === 1) setImmediate(() => order.push("-"));
    return data;
  });
  libc.arrive({ payloads: ["a", "b", "c"] }, one("d"), one("e"), one("f"));
  await idle();
  assertEquals(order.join(""), "ab-cd-ef-");
  assertEquals(server.stats().replied, 6);
  await server.shutdown();
});

Deno.test("serve(): asynchronous handlers that settle at once are no overload", async () => {
  const { libc, server } = started({ maxInFlight: 2 }, async (data) => {
    await null;
    return data;
  });
  libc.arrive({ payloads: Array(30).fill("xx") }, one("y"));
  await idle();
  const { received, replied } = server.stats();
  assertEquals([received, replied], [31, 31]);
  await server.shutdown();
});

Deno.test("serve(): nothing is delivered after an abort in a handler", async () => {
  const controller = new AbortController();
  const { libc, server } = started({ signal: controller.signal }, (data) => {
    controller.abort();
    return data;
  });
  libc.arrive(one("a"), { payloads: ["b", "c"] });
  await server.finished;
  const { received, dropped } = server.stats();
  assertEquals([received, dropped.closing], [1, 1]);
});

Deno.test("Delivery: a transferred buffer loses only its own datagrams, which is reported", async () => {
  const { libc, server, errors } = started({ lend: true }, (data) => {
    if (data[0] === 0x74) data.buffer.transfer();
    else return data;
  });
  libc.arrive({ payloads: ["t", "u"] }, one("v"));
  await idle();
  libc.arrive({ payloads: ["w", "x"] });
  await idle();
  assertEquals(payloads(libc), ["v", "wx"]);
  assertEquals([server.stats().errors.receive, errors.length], [1, 1]);
  assert(errors[0]!.includes("transferred its receive buffer"), errors[0]);
  await server.shutdown();
});

Deno.test("SendQueue: an echo in a transferred buffer is not sent", async () => {
  const { libc, server, errors } = started({ lend: true }, (data) => {
    if (data[0] === 0x74) data.buffer.transfer();
    else return data;
  });
  libc.arrive(one("a"), { payloads: ["b", "c", "t"] }, one("d"));
  await idle();
  assertEquals(payloads(libc), ["a", "d"]);
  const { replied, unanswered, errors: { send } } = server.stats();
  assertEquals([replied, unanswered, send], [2, 1, 2]);
  assert(errors[0]!.includes("transferred"), errors[0]);
  await server.shutdown();
});

Deno.test("Delivery: of coalesced datagrams only those over maxDatagramBytes are dropped", async () => {
  const { libc, server } = started({ maxDatagramBytes: 3 });
  libc.arrive({ payloads: ["long", "long", "s"] });
  await idle();
  assertEquals(payloads(libc), ["s"]);
  assertEquals(server.stats().dropped.tooLong, 2);
  await server.shutdown();
});

Deno.test("Poller: a socket that the system cannot watch for a while still receives", async () => {
  const answered = Promise.withResolvers<void>();
  const { libc, server } = started({}, (data) => {
    answered.resolve();
    return data;
  });
  libc.watches = [-ENOMEM, -ENOMEM];
  await idle();
  libc.arrive(one("a"));
  await answered.promise;
  await idle();
  assertEquals(payloads(libc), ["a"]);
  await server.shutdown();
});

Deno.test("Delivery: replies that wait for room do not end the turn of a slow handler", async () => {
  const gate = Promise.withResolvers<void>();
  const { libc, server } = started({}, async (data) => {
    libc.now += 2;
    if (data[0] === 0x61) await gate.promise;
    return data;
  });
  libc.arrive(one("a"), one("b"), one("c"));
  libc.hasRoom = false;
  libc.sends = [-EAGAIN];
  setImmediate(gate.resolve);
  await idle();
  libc.hasRoom = true;
  await idle();
  assertEquals(payloads(libc).sort(), ["a", "b", "c"]);
  await server.shutdown();
});

Deno.test("serve(): no handler runs before it returns", async () => {
  const libc = new FakeLibc();
  libc.arrive(one("a"));
  let isBack = false;
  const seen: boolean[] = [];
  const server = serve({ runtime: libc.runtime }, () => void seen.push(isBack));
  isBack = true;
  await idle();
  assertEquals(seen, [true]);
  await server.shutdown();
});

Deno.test("LinuxSocket: receiving continues after an error, and ends after 16 in a row", async () => {
  const answered = Promise.withResolvers<void>();
  const { libc, server, errors } = started({}, (data) => {
    answered.resolve();
    return data;
  });
  libc.receives = Array(15).fill(-ENOMEM);
  libc.arrive(one("a"));
  await answered.promise;
  await idle();
  assertEquals([payloads(libc), errors.length], [["a"], 15]);
  libc.receives = Array(16).fill(-ENOMEM);
  libc.arrive(one("b"));
  await assertRejects(() => server.finished, Error, "os error 12");
  assertEquals(libc.closed, [8, 7]);
});

Deno.test("LinuxSocket: no row of ICMP messages ends it", async () => {
  const { libc, server } = started();
  for (const errno of [13, 64, 71, 90, 92, 95, 101, 111, 112, 113]) {
    libc.receives = Array(20).fill(-errno);
    libc.arrive(one("a"));
    await idle();
  }
  assertEquals([server.stats().replied, server.stats().errors.receive], [
    10,
    200,
  ]);
  await server.shutdown();
});

Deno.test("LinuxSocket: without GRO and segmentation datagrams are served one by one", async () => {
  const libc = new FakeLibc();
  libc.refusedOptions = [
    [SOL_UDP, UDP_GRO, ENOPROTOOPT],
    [SOL_UDP, UDP_SEGMENT, ENOPROTOOPT],
  ];
  const server = serve({ runtime: libc.runtime }, echo());
  libc.arrive(one("a"), one("b"));
  await idle();
  assertEquals(
    libc.sent.map(({ payload, segmentBytes }) => [payload, segmentBytes]),
    [["a", 0], ["b", 0]],
  );
  await server.shutdown();
});

Deno.test("SendQueue: a reply that fits no datagram is refused as by the system", async () => {
  const { libc, server, errors } = started(
    {},
    (data) => new Uint8Array(data[0] === 0x61 ? 2_000_000 : 1),
  );
  libc.arrive(one("a"), one("b"));
  await idle();
  const { replied, errors: { send } } = server.stats();
  assertEquals([replied, send], [1, 1]);
  assertEquals(errors, ["Message too long (os error 90)"]);
  await server.shutdown();
});

Deno.test("SendQueue: reports an error of an earlier datagram, and retries the next one", async () => {
  for (const errno of [13, 64, 71, 92, 95, 101, 112, 113]) {
    const { libc, server, errors } = started();
    libc.sends = [-errno];
    libc.arrive(one("a"));
    await idle();
    assertEquals(payloads(libc), ["a"]);
    assertEquals([server.stats().replied, server.stats().errors.receive], [
      1,
      1,
    ]);
    // A second report in a row is an error of this datagram.
    libc.sends = [-errno, -errno, -errno];
    libc.arrive(one("b"));
    await idle();
    const { replied, errors: counts } = server.stats();
    assertEquals([replied, counts.receive, counts.send], [1, 1, 1]);
    assertEquals(errors.length, 2);
    await server.shutdown();
  }
});

/** The library over real sockets, on loopback. */
import { assert, assertEquals, assertRejects, assertThrows } from "@std/assert";
import { formatAddress, type UdpAddress } from "../lib/address.ts";
import { decode, encode } from "../lib/encoding.ts";
import { TimeoutError } from "../lib/client/reply.ts";
import type { RequestOptions } from "../lib/client/exchange.ts";
import { request as requestOn } from "../lib/client/request.ts";
import {
  requestMany as requestManyOn,
  type RequestManyOptions,
} from "../lib/client/series.ts";
import { runtimeFor } from "../lib/socket/runtime.ts";
import { echo, fixedReply } from "../lib/server/responders.ts";
import { serve as serveOn, type ServeOptions } from "../lib/server/serve.ts";
import type { Handler } from "../lib/server/handler.ts";
import { ENGINE, linuxTest, netTest } from "./helpers.ts";

const serve = (options: ServeOptions, handler: Handler) =>
  serveOn({ engine: ENGINE, ...options }, handler);
const request = (
  address: UdpAddress | string,
  payload: string | Uint8Array,
  options: RequestOptions = {},
) => requestOn(address, payload, { engine: ENGINE, ...options });
const requestMany = (
  address: UdpAddress,
  payload: string,
  options: RequestManyOptions,
) => requestManyOn(address, payload, { engine: ENGINE, ...options });

netTest("serve(): answers a request on an ephemeral port", async () => {
  await using server = serve({}, fixedReply("Hello UDP Client"));
  assert(server.addr.port > 0);
  const { data, remoteAddr, rttMs, attempts } = await request(
    server.addr,
    "Hello UDP Server",
  );
  assertEquals(decode(data), "Hello UDP Client");
  assertEquals(remoteAddr, server.addr);
  assert(attempts > 1 || rttMs! > 0);
});

netTest(
  "request(): any legal payload arrives whole, from 0 to 65,507 bytes",
  async () => {
    await using server = serve({}, echo());
    for (const size of [0, 1, 2, 1024, 1472, 1473, 9000, 65_506, 65_507]) {
      const payload = Uint8Array.from({ length: size }, (_, i) => i * 31);
      const { data } = await request(server.addr, payload);
      assertEquals(data, payload, `${size} bytes`);
    }
  },
);

netTest("request(): IPv6 carries up to 65,527 bytes", async () => {
  await using server = serve({ hostname: "::1" }, echo());
  assertEquals(server.addr.hostname, "::1");
  for (const size of [0, 65_527]) {
    const payload = Uint8Array.from({ length: size }, (_, i) => i * 31);
    assertEquals((await request(server.addr, payload)).data, payload);
  }
});

netTest(
  "serve(): a dual-stack server shows and answers IPv4 peers as IPv4",
  async () => {
    const peers: string[] = [];
    await using server = serve({ hostname: "::" }, (data, { remoteAddr }) => {
      peers.push(remoteAddr.hostname);
      return data;
    });
    const { port } = server.addr;
    for (const hostname of ["127.0.0.1", "::ffff:127.0.0.1", "::1"]) {
      const { data } = await request({ hostname, port }, "x");
      assertEquals(decode(data), "x");
    }
    assertEquals(peers, ["127.0.0.1", "127.0.0.1", "::1"]);
  },
);

netTest("request(): a client on :: recognises an IPv4 reply", async () => {
  await using server = serve({}, echo());
  const options = { localHostname: "::" };
  const { data, remoteAddr } = await request(server.addr, "x", options);
  assertEquals([decode(data), remoteAddr], ["x", server.addr]);
});

netTest("serve(), request(): accept a name for an address", async () => {
  await using server = serve({ hostname: "localhost" }, echo());
  const { hostname, port } = server.addr;
  const options = hostname === "::1" ? { localHostname: "::" } : {};
  const reply = await request(`localhost:${port}`, "x", options);
  assertEquals(decode(reply.data), "x");
});

netTest(
  "serve(): answers each of N datagrams by one, with its boundaries",
  async () => {
    const texts = ["", "a", "ab", "abc", "abcd", "a", "", "xyz"];
    const got: string[] = [];
    await using server = serve({}, (data) => {
      got.push(decode(data)!);
      return data;
    });
    const replies: string[] = [];
    const all = Promise.withResolvers<void>();
    const socket = runtimeFor(ENGINE).open({
      hostname: "127.0.0.1",
      port: 0,
      maxDatagramBytes: 100,
    });
    const done = socket.start({
      onDatagram(datagram) {
        replies.push(decode(datagram.data)!);
        socket.release(datagram);
        if (replies.length === texts.length) all.resolve();
      },
    });
    for (const text of texts) await socket.send(encode(text), server.addr);
    await all.promise;
    socket.close();
    await done;
    assertEquals(got, texts);
    assertEquals(replies, texts);
  },
);

netTest(
  "serve(): drops a datagram over maxDatagramBytes whole, and counts it",
  async () => {
    const sizes: number[] = [];
    await using server = serve(
      { maxDatagramBytes: 10, quiet: true },
      (data) => {
        sizes.push(data.length);
        return data;
      },
    );
    const options = { timeoutMs: 50, retries: 0 };
    await assertRejects(
      () => request(server.addr, new Uint8Array(11), options),
      TimeoutError,
    );
    await request(server.addr, new Uint8Array(10));
    assertEquals(sizes, [10]);
    assertEquals(server.stats().dropped.tooLong, 1);
  },
);

netTest(
  "serve(): a restarted server serves the same client, without reconnection",
  async () => {
    const socket = runtimeFor(ENGINE).open({
      hostname: "127.0.0.1",
      port: 0,
      maxDatagramBytes: 100,
    });
    let arrived = Promise.withResolvers<string>();
    const done = socket.start({
      onDatagram(datagram) {
        arrived.resolve(decode(datagram.data)!);
        socket.release(datagram);
      },
    });
    let addr: UdpAddress = { hostname: "127.0.0.1", port: 0 };
    for (const reply of ["first", "second"]) {
      await using server = serve(addr, fixedReply(reply));
      addr = server.addr;
      arrived = Promise.withResolvers();
      await socket.send(encode("x"), addr);
      assertEquals(await arrived.promise, reply);
    }
    socket.close();
    await done;
  },
);

netTest(
  "request(): a datagram sent while no server runs stays lost",
  async () => {
    const server = serve({}, echo());
    const { addr } = server;
    await server.shutdown();
    const error = await assertRejects(
      () => request(addr, "lost", { timeoutMs: 200, retries: 1 }),
      TimeoutError,
    );
    // The linux engine reports the closed port at the first attempt.
    const isTold = error.cause instanceof Deno.errors.ConnectionRefused;
    assertEquals(
      [error.attempts, isTold],
      ENGINE === "linux" ? [1, true] : [2, false],
    );
    const heard: string[] = [];
    await using restarted = serve(addr, (data) => {
      heard.push(decode(data)!);
      return data;
    });
    await request(restarted.addr, "new");
    assertEquals(heard, ["new"]);
  },
);

netTest("serve(): shutdown() answers held requests", async () => {
  const gate = Promise.withResolvers<void>();
  const all = Promise.withResolvers<void>();
  let held = 0;
  const server = serve({}, async (data) => {
    const reply = data.slice();
    if (++held === 20) all.resolve();
    await gate.promise;
    return reply;
  });
  const asked = Array.from(
    { length: 20 },
    (_, i) => request(server.addr, `${i}`, { timeoutMs: 10_000, retries: 0 }),
  );
  await all.promise;
  const shutdown = server.shutdown();
  gate.resolve();
  const replies = await Promise.all(asked);
  assertEquals(
    replies.map(({ data }) => decode(data)),
    asked.map((_, i) => `${i}`),
  );
  await shutdown;
  const { received, replied } = server.stats();
  assertEquals([received, replied], [20, 20]);
});

netTest(
  "serve(): shuts down during a flood with every datagram counted",
  async () => {
    const server = serve({}, async (data) => {
      await Promise.resolve();
      return data;
    });
    const socket = runtimeFor(ENGINE).open({
      hostname: "127.0.0.1",
      port: 0,
      maxDatagramBytes: 100,
    });
    const done = socket.start({ onDatagram: (reply) => socket.release(reply) });
    let flooding = true;
    const flood = (async () => {
      for (let i = 0; flooding; i++) {
        await socket.send(encode(`${i}`), server.addr);
        // A send settles without a turn of the event loop, a receive does not.
        if (i % 20 === 0) await new Promise((turn) => setTimeout(turn));
        if (server.stats().received > 100) server.shutdown();
      }
    })();
    await server.finished;
    flooding = false;
    await flood;
    socket.close();
    await done;
    const { received, replied, dropped } = server.stats();
    assert(received > 0);
    assertEquals(received, replied + dropped.closing + dropped.overload);
  },
);

netTest("requestMany(): loses nothing against a real server", async () => {
  await using server = serve({}, fixedReply("alike"));
  const series = requestMany(server.addr, "x", { count: 50, intervalMs: 0 });
  for await (const event of series) assertEquals(event.type, "reply");
  const { sent, received, lost, duplicates, rttMs } = series.summary();
  assertEquals([sent, received, lost, duplicates], [50, 50, 0, 0]);
  assert(rttMs!.min > 0 && rttMs!.min <= rttMs!.median);
});

netTest("serve(): an error names the fault of the address", () => {
  const first = serve({}, echo());
  assertThrows(
    () => serve(first.addr, echo()),
    Deno.errors.AddrInUse,
    `Cannot bind 127.0.0.1:${first.addr.port}: the port is in use`,
  );
  assertThrows(
    () => serve({ hostname: "192.0.2.1" }, echo()),
    Deno.errors.AddrNotAvailable,
    "Cannot bind 192.0.2.1:0: it is not an address of this machine",
  );
  assertThrows(
    () => serve({ hostname: "no.such.invalid" }, echo()),
    Error,
    "the name does not resolve",
  );
  return first.shutdown();
});

netTest("request(): an error has the name that does not resolve", async () => {
  await assertRejects(
    () => request("no.such.invalid:1", "x"),
    Deno.errors.NotFound,
    "Cannot resolve 'no.such.invalid'",
  );
});

netTest(
  "serve(): continues on the deno engine when the handler transfers the data",
  async () => {
    await using server = serveOn({ engine: "deno" }, (data) => {
      if (data[0] === 0x74) data.buffer.transfer();
      else return data;
    });
    for (let i = 0; i < 20; i++) {
      await assertRejects(
        () => request(server.addr, "transfer", { timeoutMs: 5, retries: 0 }),
        TimeoutError,
      );
    }
    assertEquals(decode((await request(server.addr, "next")).data), "next");
  },
);

netTest(
  "serve(): a handler cannot change the destination of other replies",
  async () => {
    await using server = serve({}, (data, { remoteAddr }) => {
      assertThrows(() => remoteAddr.port = 1, TypeError);
      return data;
    });
    assertEquals(decode((await request(server.addr, "x")).data), "x");
  },
);

netTest("serve(): accepts a handler without options", async () => {
  await using server = serveOn((data) => data);
  assertEquals(server.addr.hostname, "127.0.0.1");
  assertEquals(decode((await request(server.addr, "x")).data), "x");
});

netTest("serve(): throws NotFound for a name that does not resolve", () => {
  const hostname = "no.such.invalid";
  assertThrows(
    () => serve({ hostname }, echo()),
    Deno.errors.NotFound,
    hostname,
  );
});

netTest("serve(): the deno engine reports that it cannot share a port", () => {
  assertThrows(
    () => serveOn({ engine: "deno", reusePort: true }, echo()),
    Deno.errors.NotSupported,
    "'reusePort' needs engine 'linux'",
  );
});

netTest("serve(), request(): use the same address of localhost", async () => {
  for (const hostname of ["localhost", "localhost.", "LOCALHOST"]) {
    await using server = serve({ hostname }, echo());
    assertEquals(server.addr.hostname, "127.0.0.1");
    const { data } = await request({ hostname, port: server.addr.port }, "x");
    assertEquals(decode(data), "x");
  }
});

netTest(
  "serve(): a handler answers several times, and send() needs no request",
  async () => {
    for (const hostname of ["127.0.0.1", "::1", "0.0.0.0", "::"]) {
      await using server = serve({ hostname }, (data, info) => {
        for (const part of ["one", "two"]) {
          info.reply(`${decode(data)} ${part}`);
        }
        return "last";
      });
      const host = hostname.includes(":") ? "::1" : "127.0.0.1";
      const heard: string[] = [];
      const froms = new Set<string>();
      const done = Promise.withResolvers<void>();
      await using peer = serve(
        { hostname: host },
        (data, info) => {
          froms.add(formatAddress(info.remoteAddr));
          heard.push(`${decode(data)}`);
          if (heard.length === 5) done.resolve();
        },
      );
      const target = { hostname: host, port: server.addr.port };
      await peer.send("ask", target);
      assertEquals(await server.sendMany("all", [peer.addr, peer.addr]), 2);
      await done.promise;
      assertEquals(heard.sort(), ["all", "all", "ask one", "ask two", "last"]);
      assertEquals([...froms], [formatAddress(target)]);
      await server.shutdown();
      assertEquals(server.stats().pushed.sent, 4);
    }
  },
);

linuxTest(
  "serve(): info.localAddr is the address of the request",
  async () => {
    for (const [hostname, host] of [["0.0.0.0", "127.0.0.7"], ["::", "::1"]]) {
      const seen: string[] = [];
      await using server = serve(
        { hostname: hostname! },
        (_, { localAddr, reply }) => {
          seen.push(formatAddress(localAddr));
          reply("beside");
        },
      );
      const target = { hostname: host!, port: server.addr.port };
      const { data } = await request(target, "x");
      // The reply is from the target's address, or the client would have
      // ignored it.
      assertEquals(decode(data), "beside");
      assertEquals(seen, [formatAddress(target)]);
    }
  },
);

netTest("sendMany(): reaches a thousand sockets, each once", async () => {
  const heard = new Map<number, number>();
  const { promise, resolve } = Promise.withResolvers<void>();
  const peers = Array.from(
    { length: 1000 },
    () =>
      serve({ maxDatagramBytes: 100 }, (_, { localAddr: { port } }) => {
        heard.set(port, (heard.get(port) ?? 0) + 1);
        if (heard.size === 1000) resolve();
      }),
  );
  await using server = serve({}, echo());
  const sent = await server.sendMany("tick", peers.map(({ addr }) => addr));
  await promise;
  await Promise.all(peers.map((peer) => peer.shutdown()));
  assertEquals(sent, 1000);
  assertEquals([...new Set(heard.values())], [1]);
});

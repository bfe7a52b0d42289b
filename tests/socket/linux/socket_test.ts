/** Further behaviour of the linux engine's sockets, on a fake C library. */
import { assert, assertEquals, assertThrows } from "@std/assert";
import type { UdpAddress } from "../../../lib/address.ts";
import { openSocket } from "../../../lib/socket/open_socket.ts";
import { serve } from "../../../lib/server/serve.ts";
import { BUSY, FakeLibc, idle, one, stamped, started } from "./fake_libc.ts";

Deno.test("sleep(): ends by a datagram, or shortly before the time", async () => {
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
  // Other work of the event loop must not delay the sleep.
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

Deno.test("LinuxSocket: peers that differ in one byte of their addresses are different", async () => {
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

Deno.test("LinuxSocket: peers of IPv6 in turn keep their address objects", async () => {
  const libc = new FakeLibc();
  libc.family = 10;
  libc.bound = { hostname: "::1", port: 4242 };
  const seen: UdpAddress[] = [];
  const server = serve({ runtime: libc.runtime, guard: false }, (_, info) => {
    seen.push(info.remoteAddr);
  });
  const hosts = ["2001:db8::1", "2001:db8::2", "192.0.2.1"];
  for (let i = 0; i < 4; i++) {
    libc.arrive(...hosts.map((host) => ({ ...one("a"), host })));
  }
  await idle();
  assertEquals(
    seen.map(({ hostname }) => hostname),
    Array(4).fill(hosts).flat(),
  );
  assertEquals(new Set(seen).size, 3);
  await server.shutdown();
});

Deno.test("LinuxSocket: a group that cannot be joined is named", () => {
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

Deno.test("receiveBufferBytes: a smaller buffer than asked for is reported, with its size", async () => {
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
  const [warning] = await started(212_992);
  assert(warning?.startsWith("The receive buffer has 212992 bytes"), warning);
  const errors: unknown[] = [];
  const onError = (error: unknown) => void errors.push(error);
  const socket = openSocket(
    { runtime: libc.runtime, receiveBufferBytes, onError },
    () => {},
  );
  await idle();
  assertEquals(errors.map((error) => (error as Error).message), [warning]);
  await socket.close();
});

Deno.test("LinuxSocket: settled handlers do not prevent waits in the thread", async () => {
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

Deno.test("Turns: yields after a millisecond, repeatedly while others use it, or once", async () => {
  for (
    const [workMs, others, looks] of [
      [1, [], 0],
      [1.1, [], 1],
      [1.1, [0.04], 1],
      // Work that used one turn may continue in the next, due when nothing is
      // left to receive.
      [1.1, [0.06], 3],
      [1.1, [0.5, 0.4], 4],
      [1.1, [0.5, 0.5, 0.1], 4],
      // Once, since more waits would only delay other work.
      [1.1, [0.5, 0.5, 0.1, 0.5, 0.5, 0.1, 0.1], 6],
      // After two late returns of the other thread turns do not wait for it for a
      // while; one may be chance.
      [1.1, [0.6], 3],
      [1.1, [0.6, 0.6], 2],
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

Deno.test("Turns: after two slow waits for the other thread there is none for 50 ms", async () => {
  const { libc, server } = started({}, (data) => {
    libc.now += 2;
    return data;
  });
  await idle();
  libc.others = [0.6, 0.6];
  const looks: number[] = [];
  for (const ms of [0, 10, 30, 10]) {
    libc.now += ms;
    libc.arrive(one("a"));
    await idle();
    looks.push(libc.looks);
  }
  assertEquals(looks, [2, 2, 2, 3]);
  await server.shutdown();
});

Deno.test("stampSends: stamps are reported before the replies", async () => {
  const libc = new FakeLibc();
  const peer = { hostname: "127.0.0.2", port: 9 };
  const socket = libc.runtime.open({ ...BUSY, stampSends: true, peer });
  assertEquals(socket.stampsSends, true);
  const reported: string[] = [];
  const closed = socket.start({
    onDatagram(datagram) {
      reported.push(`got ${new TextDecoder().decode(datagram.data)}`);
      socket.release(datagram);
    },
    onSent: (index, sentAt) => reported.push(`sent ${index} at ${sentAt}`),
  });
  await idle();
  libc.errorQueue.push(stamped(0, 3), stamped(1, 4));
  libc.arrive(one("a"));
  await idle();
  assertEquals(reported, ["sent 0 at 3000.5", "sent 1 at 4000.5", "got a"]);
  socket.close();
  await closed;
});

Deno.test("packetInfo: a datagram has its TTL, its class and its time of arrival", async () => {
  const reported: unknown[] = [];
  const { libc, server } = started(
    { packetInfo: true },
    (_, { ttl, trafficClass, arrivedAt }) => {
      reported.push([ttl, trafficClass, arrivedAt]);
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
  assertEquals(reported, [[61, 184, 5700.25], [
    undefined,
    undefined,
    undefined,
  ]]);
  await server.shutdown();
});

Deno.test("Delivery: a held datagram does not change the facts of the rest", async () => {
  const reported: unknown[] = [];
  const { libc, server } = started(
    { packetInfo: true },
    async (_, { receivedAt, remoteAddr, localAddr, ...info }) => {
      const { ttl, trafficClass, arrivedAt } = info;
      reported.push([receivedAt, remoteAddr.port, localAddr.port]);
      reported.push([ttl, trafficClass, arrivedAt]);
      await null;
    },
  );
  await idle();
  libc.now = 700;
  const payloads = ["aa", "bb"];
  libc.arrive({ port: 9, payloads, ttl: 61, trafficClass: 184, second: 5 });
  await idle();
  const each = [[700, 9, 4242], [61, 184, 5700.25]];
  assertEquals(reported, [...each, ...each]);
  await server.shutdown();
});

Deno.test("LinuxSocket: a wildcard socket asks for destinations, by its version", async () => {
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
  // IP_PKTINFO, also for peers of IPv4, and IPV6_RECVPKTINFO, IPV6_RECVHOPLIMIT and
  // IPV6_RECVTCLASS.
  assertEquals(await asked(2, "0.0.0.0"), ["0 8", gro, ...ipv4]);
  assertEquals(await asked(2, "127.0.0.1"), [gro, ...ipv4]);
  assertEquals(await asked(10, "::"), [
    "0 8",
    "41 49",
    gro,
    ...ipv4,
    "41 51",
    "41 66",
  ]);
});

Deno.test("openSocket(): packetInfo has the time of arrival, by the program's clock", async () => {
  const libc = new FakeLibc();
  const seen: unknown[] = [];
  const socket = openSocket(
    { runtime: libc.runtime, packetInfo: true },
    ({ arrivedAt, receivedAt }) => void seen.push([arrivedAt, receivedAt]),
  );
  libc.now = 700;
  libc.arrive({ ...one("a"), second: 5 });
  await idle();
  assertEquals(seen, [[5700.25, 700]]);
  await socket.close();
});

Deno.test("Delivery: a pause in the middle of a message does not affect the next one", async () => {
  const libc = new FakeLibc();
  const socket = libc.runtime.open(BUSY);
  const seen: string[] = [];
  let isFull = true;
  const closed = socket.start({
    // The first datagram is held for good, as by a running handler.
    onDatagram(datagram) {
      seen.push(new TextDecoder().decode(datagram.data));
      if (seen.length > 1) socket.release(datagram);
    },
    isFull: () => isFull && !(isFull = false),
  });
  libc.arrive({ payloads: ["aa", "bb", "cc"] });
  await idle();
  libc.arrive({ payloads: ["dd", "ee", "ff"] });
  await idle();
  assertEquals(seen, ["aa", "bb", "cc", "dd", "ee", "ff"]);
  socket.close();
  await closed;
});

import { assert, assertEquals, assertRejects, assertThrows } from "@std/assert";
import { decode } from "../../lib/encoding.ts";
import type { Datagram } from "../../lib/socket/datagram.ts";
import {
  openSocket,
  type SocketOptions,
} from "../../lib/socket/open_socket.ts";
import type { SimulatedSocket } from "../../lib/testing/mod.ts";
import { ENGINE, linuxTest, netTest, restfulNetworks } from "../helpers.ts";

const makeNetwork = restfulNetworks();

const HOST = "192.0.2.50";

function opened(
  options: SocketOptions = {},
  onDatagram: ((datagram: Datagram) => void) | undefined = () => {},
) {
  const network = makeNetwork(() => [1]);
  const { runtime } = network;
  const socket = openSocket(
    { hostname: HOST, runtime, ...options },
    onDatagram,
  );
  const simulated = [...network.sockets.values()][0]!;
  return { network, socket, simulated };
}

const PEER = { hostname: "192.0.2.60", port: 60 };

/** Receives a datagram from the peer. */
const arrive = (simulated: SimulatedSocket, ...bytes: number[]) =>
  simulated.arrive(new Uint8Array(bytes), PEER);

Deno.test("openSocket(): gives copies of received datagrams, and counts them", async () => {
  const kept: Datagram[] = [];
  const { socket, simulated, network } = opened(
    { maxDatagramBytes: 2 },
    (datagram) => kept.push(datagram),
  );
  arrive(simulated, 1);
  arrive(simulated, 2, 3);
  arrive(simulated, 4, 5, 6);
  assertEquals(kept.map(({ data }) => [...data]), [[1], [2, 3]]);
  assertEquals(kept[0]!.remoteAddr, PEER);
  assertEquals(kept[0]!.localAddr, socket.addr);
  assertEquals(simulated.held, 0);
  assertEquals(socket.stats(), {
    received: 3,
    dropped: { tooLong: 1, overload: 0 },
    kernelDrops: 0,
    sent: 0,
    unsent: 0,
  });
  await network.run(socket.close());
});

Deno.test("openSocket(): sends one and many, and reports failures", async () => {
  const errors: string[] = [];
  const { network, socket } = opened({
    onError: (error) => errors.push((error as Error).message),
  });
  network.plan = ({ data }) => {
    if (decode(data) === "bad") throw new Error("no route");
    return [];
  };
  await network.run(socket.send("one", PEER));
  const bad = assertRejects(() => socket.send("bad", PEER), Error, "no route");
  await network.run(bad);
  const batch = ["two", "bad", "three"].map((payload) => ({
    payload,
    to: "192.0.2.60:61",
  }));
  assertEquals(await network.run(socket.sendBatch(batch)), 2);
  assertEquals(
    errors,
    [60, 61].map((port) => `Cannot send to 192.0.2.60:${port}: no route`),
  );
  assertEquals(
    network.sent.map(({ data, to }) => `${decode(data)} ${to.port}`),
    ["one 60", "bad 60", "two 61", "bad 61", "three 61"],
  );
  await network.run(socket.close());
  await assertRejects(() => socket.send("x", PEER), Error, "socket is closed");
  const { sent, unsent, dropped } = socket.stats();
  assertEquals([sent, unsent, dropped], [3, 3, { tooLong: 0, overload: 0 }]);
});

/** A socket on the simulated network that is read by its owner. */
function pulled(options: SocketOptions = {}) {
  const network = makeNetwork(() => [1]);
  const { runtime } = network;
  const socket = openSocket({ hostname: HOST, runtime, ...options });
  return { network, socket, simulated: [...network.sockets.values()][0]! };
}

const bytesOf = (datagrams: Datagram[]) =>
  datagrams.map(({ data }) => [...data]);

Deno.test("receive(): gives each datagram once, in order, to calls before and after it", async () => {
  const { network, socket, simulated } = pulled();
  const early = [socket.receive(), socket.receive()];
  for (let i = 1; i <= 5; i++) arrive(simulated, i);
  const got = await Promise.all([...early, socket.receive()]);
  arrive(simulated, 6);
  for (let i = 0; i < 3; i++) got.push(await socket.receive());
  assertEquals(bytesOf(got), [[1], [2], [3], [4], [5], [6]]);
  assertEquals([got[0]!.remoteAddr, simulated.held], [PEER, 0]);
  await network.run(socket.close());
});

Deno.test("receive({ signal }): an aborted call rejects with the reason, and takes no datagram", async () => {
  const { network, socket, simulated } = pulled();
  const controller = new AbortController();
  const { signal } = controller;
  const aborted = socket.receive({ signal });
  const next = socket.receive();
  controller.abort("enough");
  assertEquals(await aborted.catch((reason) => reason), "enough");
  arrive(simulated, 1);
  assertEquals([...(await next).data], [1]);
  arrive(simulated, 2);
  const late = await socket.receive({ signal }).catch((reason) => reason);
  assertEquals(late, "enough");
  // An abort in the turn of an arrival changes nothing for its datagram.
  assertEquals([...(await socket.receive()).data], [2]);
  const other = new AbortController();
  const both = socket.receive({ signal: other.signal });
  arrive(simulated, 3);
  other.abort();
  assertEquals([...(await both).data], [3]);
  await network.run(socket.close());
});

Deno.test("for await (socket): ends at close(), after the datagrams until then", async () => {
  const { network, socket, simulated } = pulled();
  arrive(simulated, 1);
  arrive(simulated, 2);
  // A loop that is left closes nothing, and takes no further datagram.
  for await (const { data } of socket) {
    assertEquals([...data], [1]);
    break;
  }
  const got: Datagram[] = [];
  const loop = (async () => {
    for await (const datagram of socket) got.push(datagram);
  })();
  arrive(simulated, 3);
  await network.runFor(1);
  arrive(simulated, 4);
  await network.run(socket.close());
  await network.run(loop);
  assertEquals(bytesOf(got), [[2], [3], [4]]);
  assertEquals(socket.stats().received, 4);
});

Deno.test("receive(): rejects with Interrupted at close(), waiting or not", async () => {
  const { network, socket } = pulled();
  const waiting = socket.receive();
  const rejects = assertRejects(
    () => waiting,
    Deno.errors.Interrupted,
    "The socket was closed",
  );
  await network.run(socket.close());
  await rejects;
  await assertRejects(() => socket.receive(), Deno.errors.Interrupted);
});

Deno.test("receive(), for await (socket): end by the error of a permanent failure", async () => {
  const { socket, simulated } = pulled();
  const loop = assertRejects(
    async () => {
      for await (const _ of socket);
    },
    Error,
    "gone",
  );
  const waiting = assertRejects(() => socket.receive(), Error, "gone");
  simulated.fail(new Error("gone"));
  await assertRejects(() => socket.finished, Error, "gone");
  await Promise.all([loop, waiting]);
  await assertRejects(() => socket.receive(), Error, "gone");
});

Deno.test("receive(): 16 MiB of unread datagrams are kept, others are dropped and counted", async () => {
  const { network, socket, simulated } = pulled();
  const large = new Uint8Array(65_024);
  const room = 2 ** 24 / 65_536;
  for (let i = 0; i < room + 3; i++) simulated.arrive(large, PEER);
  const { received, dropped } = socket.stats();
  assertEquals([received, dropped.overload], [room + 3, 3]);
  // What is read makes room.
  await socket.receive();
  simulated.arrive(large, PEER);
  simulated.arrive(large, PEER);
  assertEquals(socket.stats().dropped.overload, 4);
  await network.run(socket.close());
  let read = 1;
  for await (const _ of socket) read++;
  assertEquals(read, room + 1);
});

Deno.test("receive(), for await (socket): a socket with a callback refuses them", async () => {
  const { network, socket } = opened();
  const message =
    "Cannot receive, as 'onDatagram' of openSocket() takes every datagram: leave it out";
  await assertRejects(() => socket.receive(), TypeError, message);
  assertThrows(() => socket[Symbol.asyncIterator](), TypeError, message);
  await network.run(socket.close());
});

Deno.test("receive(): refuses unknown and wrong options", async () => {
  const { network, socket, simulated } = pulled();
  arrive(simulated, 1);
  for (const wrong of [{ timeoutMs: 1 }, { signal: 1 }, null] as never[]) {
    await assertRejects(() => socket.receive(wrong), TypeError);
  }
  assertEquals([...(await socket.receive()).data], [1]);
  await network.run(socket.close());
});

netTest(
  "receive(), for await (socket): real sockets, read one by one",
  async () => {
    const options = { hostname: "127.0.0.1", engine: ENGINE };
    await using two = openSocket(options);
    const one = openSocket(options);
    await two.send("hello", one.addr);
    const { data, remoteAddr } = await one.receive();
    assertEquals([decode(data), remoteAddr.port], ["hello", two.addr.port]);
    const numbers = Array.from({ length: 100 }, (_, i) => i);
    const batch = numbers.map((i) => ({
      payload: new Uint8Array([i]),
      to: one.addr,
    }));
    await two.sendBatch(batch);
    const got: number[] = [];
    for await (const { data } of one) {
      // Deno keeps no order among sends in flight.
      if (got.push(data[0]!) === batch.length) break;
    }
    assertEquals(got.sort((a, b) => a - b), numbers);
    const waiting = one.receive();
    const rejects = assertRejects(() => waiting, Deno.errors.Interrupted);
    await one.close();
    await rejects;
    for await (const _ of one) throw new Error("a datagram after the end");
  },
);

netTest(
  "send({ from }): is an address that the engine can send from",
  async () => {
    const onError = () => {};
    await using bound = openSocket(
      { hostname: "127.0.0.1", engine: ENGINE, onError },
      () => {},
    );
    await using any = openSocket({ engine: ENGINE, onError }, () => {});
    const to = { hostname: "127.0.0.1", port: any.addr.port };
    const send = (socket: typeof any, hostname: string) =>
      socket.send("x", to, { from: { hostname } });
    for (const socket of [bound, any]) await send(socket, socket.addr.hostname);
    await send(bound, "0.0.0.0");
    await assertRejects(
      () => send(bound, "127.0.0.2"),
      Deno.errors.AddrNotAvailable,
      "Cannot send from 127.0.0.2: the socket is bound to 127.0.0.1",
    );
    if (ENGINE === "linux") await send(any, "127.0.0.2");
    else {
      await assertRejects(
        () => send(any, "127.0.0.2"),
        Deno.errors.NotSupported,
        "Cannot send from 127.0.0.2 on the deno engine",
      );
    }
    await assertRejects(() => send(any, "host"), TypeError, "'host'");
    const unknown = { form: to } as never;
    await assertRejects(() => any.send("x", to, unknown), TypeError, "form");
    const { sent, unsent } = any.stats();
    assertEquals([sent, unsent], ENGINE === "linux" ? [2, 2] : [1, 3]);
  },
);

Deno.test("sendBatch(): sends all but what is invalid", async () => {
  const errors: unknown[] = [];
  const { network, socket } = opened({
    onError: (error) => errors.push((error as Error).cause),
  });
  const to = "192.0.2.60:61";
  for (
    const [bad, ErrorClass] of [
      [{ payload: "x", to: "host:1" }, TypeError],
      [{ payload: "x", to: "192.0.2.60:0" }, RangeError],
      [{ payload: 7 as never, to }, TypeError],
    ] as const
  ) {
    const batch = [{ payload: "good", to }, bad, { payload: "good", to }];
    assertEquals(await network.run(socket.sendBatch(batch)), 2);
    assert(errors.pop() instanceof ErrorClass);
  }
  await network.run(socket.close());
});

Deno.test("openSocket(): reports errors of the callback, and continues", async () => {
  for (const isAsync of [false, true]) {
    const errors: unknown[] = [];
    const seen: number[] = [];
    const { network, socket, simulated } = opened(
      {
        onError: (error) => {
          errors.push(error);
          throw new Error("from onError");
        },
      },
      ({ data }) => {
        seen.push(data[0]!);
        if (isAsync) return Promise.reject("rejected") as never;
        throw "thrown";
      },
    );
    arrive(simulated, 1);
    arrive(simulated, 2);
    await network.runFor(1);
    assertEquals(seen, [1, 2]);
    assertEquals(errors, Array(2).fill(isAsync ? "rejected" : "thrown"));
    assert(network.warnings[0]!.includes("from onError"), network.warnings[0]);
    await network.run(socket.close());
  }
});

Deno.test("openSocket(): prints errors without onError", async () => {
  const { network, socket, simulated } = opened();
  simulated.failOnce(new Error("ouch"));
  await network.runFor(1);
  assertEquals(network.warnings.length, 1);
  assert(network.warnings[0]!.startsWith("UDP socket: Error: ouch"));
  await network.run(socket.close());
});

Deno.test("openSocket(): a signal closes it, and a permanent failure rejects `finished`", async () => {
  const controller = new AbortController();
  const { network, socket } = opened({ signal: controller.signal });
  controller.abort();
  await network.run(socket.finished);
  const other = opened();
  other.simulated.fail(new Error("gone"));
  await assertRejects(() => other.socket.finished, Error, "gone");
});

Deno.test("openSocket(): checks its options before it opens anything", () => {
  const wrong: Array<[SocketOptions, typeof Error, string]> = [
    [{ ttl: 0 }, RangeError, "'ttl' must be an integer from 1 to 255"],
    [{ ttl: 256 }, RangeError, "'ttl' must be"],
    [{ trafficClass: 256 }, RangeError, "'trafficClass' must be"],
    [{ multicastTtl: -1 }, RangeError, "'multicastTtl' must be"],
    [{ multicastTtl: "1" as never }, TypeError, "'multicastTtl' must be"],
    [{ dontFragment: 1 as never }, TypeError, "'dontFragment' must be"],
    [{ loopback: "no" as never }, TypeError, "'loopback' must be"],
    [{ port: 65_536 }, RangeError, "'port' must be"],
    [{ maxDatagramBytes: 0 }, RangeError, "'maxDatagramBytes' must be"],
    [{ receiveBufferBytes: 1 }, RangeError, "'receiveBufferBytes' must be"],
    [{ reuseAddress: 1 as never }, TypeError, "'reuseAddress' must be"],
    [{ packetInfo: 1 as never }, TypeError, "'packetInfo' must be"],
    [{ hostname: 7 as never }, TypeError, "'hostname' must be"],
    [{ onError: "x" as never }, TypeError, "'onError' must be"],
    [{ groups: ["10.0.0.1"] }, TypeError, "is no multicast group"],
    [{ signal: {} as never }, TypeError, "'signal' must be"],
  ];
  const network = makeNetwork();
  const { runtime } = network;
  for (const [options, ErrorClass, message] of wrong) {
    const call = () => openSocket({ runtime, ...options }, () => {});
    assertThrows(call, ErrorClass, message);
  }
  assertThrows(
    () => openSocket({ runtime }, null as never),
    TypeError,
    "'onDatagram' must be",
  );
  assertEquals(network.sockets.size, 0);
});

Deno.test("openSocket(): ref() and unref() reach the socket", async () => {
  const { network, socket, simulated } = opened();
  const calls: string[] = [];
  simulated.ref = () => calls.push("ref");
  simulated.unref = () => calls.push("unref");
  socket.unref();
  socket.ref();
  assertEquals(calls, ["unref", "ref"]);
  await network.run(socket.close());
});

netTest(
  "openSocket(): two sockets exchange all datagrams of one turn",
  async () => {
    const { promise, resolve } = Promise.withResolvers<void>();
    const numbers: number[] = [];
    const options = { hostname: "127.0.0.1", engine: ENGINE };
    await using one = openSocket(options, ({ data, remoteAddr }) => {
      if (remoteAddr.port === two.addr.port) numbers.push(data[0]!);
      if (numbers.length === 100) resolve();
    });
    await using two = openSocket(options, () => {});
    const batch = Array.from({ length: 100 }, (_, i) => ({
      payload: new Uint8Array([i]),
      to: one.addr,
    }));
    assertEquals(await two.sendBatch(batch), 100);
    await promise;
    // Deno keeps no order among sends in flight.
    assertEquals(numbers.sort((a, b) => a - b), batch.map((_, i) => i));
    assertEquals(two.stats().sent, 100);
  },
);

netTest(
  "openSocket(): the deno engine refuses options that it cannot set",
  () => {
    for (
      const options of [
        { ttl: 5 },
        { trafficClass: 184 },
        { dontFragment: true },
        { receiveBufferBytes: 65_536 },
        { multicastTtl: 2, hostname: "::1" },
      ] as SocketOptions[]
    ) {
      const [name] = Object.keys(options);
      assertThrows(
        () => openSocket({ ...options, engine: "deno" }, () => {}),
        Deno.errors.NotSupported,
        `'${name}' needs engine 'linux'`,
      );
    }
  },
);

netTest(
  "openSocket({ groups }), join(): the deno engine refuses a single source",
  async () => {
    const options: SocketOptions = { engine: "deno" };
    const groups = ["192.0.2.1@232.1.2.3"];
    const message =
      "Cannot join 192.0.2.1@232.1.2.3 on the deno engine: a single source needs engine 'linux'";
    assertThrows(
      () => openSocket({ ...options, groups }, () => {}),
      Deno.errors.NotSupported,
      message,
    );
    await using socket = openSocket(options, () => {});
    await assertRejects(
      () => socket.join(groups[0]!),
      Deno.errors.NotSupported,
      message,
    );
  },
);

linuxTest(
  "openSocket(): a datagram has its TTL, its class and its time of arrival",
  async () => {
    for (const hostname of ["127.0.0.1", "::1"]) {
      const { promise, resolve } = Promise.withResolvers<Datagram>();
      const options: SocketOptions = { hostname, engine: "linux" };
      await using one = openSocket({ ...options, packetInfo: true }, resolve);
      const how = { ttl: 17, trafficClass: 184 };
      await using two = openSocket({ ...options, ...how }, () => {});
      await two.send("x", one.addr);
      const { ttl, trafficClass, arrivedAt, receivedAt } = await promise;
      assertEquals([ttl, trafficClass], [17, 184]);
      assert(arrivedAt! <= receivedAt, `${arrivedAt} after ${receivedAt}`);
    }
  },
);

netTest(
  "openSocket(): sockets of one group share its port, and each receives its datagrams",
  async () => {
    const heard: string[] = [];
    const { promise, resolve } = Promise.withResolvers<void>();
    const open = (name: string, port: number) =>
      openSocket({
        port,
        groups: ["239.255.7.7"],
        interface: "127.0.0.1",
        reuseAddress: true,
        engine: ENGINE,
      }, ({ data }) => {
        heard.push(`${name} ${decode(data)}`);
        if (heard.length === 2) resolve();
      });
    await using one = open("one", 0);
    await using _two = open("two", one.addr.port);
    await using asking = openSocket(
      { hostname: "127.0.0.1", engine: ENGINE },
      () => {},
    );
    await asking.send("hear", { hostname: "239.255.7.7", port: one.addr.port });
    await promise;
    assertEquals(heard.sort(), ["one hear", "two hear"]);
  },
);

import { assert, assertEquals, assertRejects, assertThrows } from "@std/assert";
import { formatAddress, type UdpAddress } from "../../lib/address.ts";
import { decode, encode } from "../../lib/encoding.ts";
import type { Payload, RequestOptions } from "../../lib/client/exchange.ts";
import { type ReplyInfo, TimeoutError } from "../../lib/client/reply.ts";
import { request } from "../../lib/client/request.ts";
import { echo, fixedReply } from "../../lib/server/responders.ts";
import { serve } from "../../lib/server/serve.ts";
import type { Handler } from "../../lib/server/handler.ts";
import {
  CLIENT_HOST,
  LATENCY_MS,
  type SimulatedNetwork,
  type SimulatedSocket,
} from "../../lib/testing/mod.ts";
import { restfulNetworks } from "../helpers.ts";

const makeNetwork = restfulNetworks();

const SERVER: UdpAddress = { hostname: "198.51.100.1", port: 20001 };

/** A network with a server on it that answers as `handler` does. */
function networkWith(handler: Handler): SimulatedNetwork {
  const network = makeNetwork();
  serve({ ...SERVER, runtime: network.runtime }, handler);
  return network;
}

function ask(
  network: SimulatedNetwork,
  options: RequestOptions = {},
  payload: Payload = "ping",
) {
  const { runtime } = network;
  return network.run(request(SERVER, payload, { runtime, ...options }));
}

/** The client's sockets: all but the server's. */
function clients(network: SimulatedNetwork): SimulatedSocket[] {
  return [...network.sockets.values()]
    .filter(({ addr }) => addr.hostname === CLIENT_HOST);
}

/** The facts that a network in memory does not see. */
const NOT_SEEN = {
  arrivedAt: undefined,
  ttl: undefined,
  trafficClass: undefined,
};

Deno.test("request(): it gives the reply, its sender, its RTT and the attempts", async () => {
  const network = networkWith((data) => `re: ${decode(data)}`);
  await network.runFor(7);
  const { text, ...reply } = await ask(network);
  assertEquals(reply.localAddr.hostname, CLIENT_HOST);
  assertEquals(reply, {
    ...NOT_SEEN,
    localAddr: reply.localAddr,
    data: encode("re: ping"),
    remoteAddr: SERVER,
    rttMs: 2 * LATENCY_MS,
    attempts: 1,
    sentAt: 7,
    receivedAt: 7 + 2 * LATENCY_MS,
    value: undefined,
  });
  assertEquals(text(), "re: ping");
  assertEquals(clients(network), []);
});

Deno.test("request(): it uses a fresh port each time", async () => {
  const network = networkWith(echo());
  await ask(network);
  await ask(network);
  const ports = network.sent
    .filter(({ to }) => to.port === SERVER.port)
    .map(({ from }) => from.port);
  assertEquals(new Set(ports).size, 2);
});

Deno.test("request(): it carries empty payloads both ways", async () => {
  const network = networkWith(echo());
  assertEquals((await ask(network, {}, "")).data, new Uint8Array(0));
});

Deno.test("request(): it retransmits after a loss, and has no RTT then", async () => {
  const network = networkWith(fixedReply("pong"));
  network.plan = ({ index }) => index === 0 ? [] : [LATENCY_MS];
  const { rttMs, attempts } = await ask(network, { timeoutMs: 100 });
  assertEquals({ rttMs, attempts }, { rttMs: undefined, attempts: 2 });
  assertEquals(network.sent[0]!.data, network.sent[1]!.data);
});

Deno.test("request(): it doubles its wait each time, with jitter but for the last", async () => {
  const network = makeNetwork();
  const times: number[] = [];
  network.plan = () => {
    times.push(network.now);
    return [];
  };
  const error = await assertRejects(
    () => ask(network, { timeoutMs: 1000, retries: 3 }),
    TimeoutError,
  );
  assertEquals([error.name, error.attempts], ["TimeoutError", 4]);
  const waits = [...times.slice(1), network.now].map((t, i) => t - times[i]!);
  [1000, 2000, 4000].forEach((ms, i) => {
    assert(waits[i]! >= ms && waits[i]! <= ms * 1.1, `${waits}`);
  });
  assertEquals(Math.round(waits[3]!), 8000);
});

Deno.test("request(): it waits no longer than a minute for any one try", async () => {
  const network = makeNetwork(() => []);
  await assertRejects(
    () => ask(network, { timeoutMs: 40_000, retries: 2 }),
    TimeoutError,
  );
  assert(
    network.now >= 160_000 && network.now <= 40_000 * 1.1 + 66_000 + 60_000,
  );
});

Deno.test("request(): without retries it fails exactly after the timeout", async () => {
  const network = makeNetwork(() => []);
  const error = await assertRejects(
    () => ask(network, { timeoutMs: 250, retries: 0 }),
    TimeoutError,
    "No reply from 198.51.100.1:20001 to 1 datagram",
  );
  assertEquals([network.now, error.attempts, error.foreign], [250, 1, 0]);
  assertEquals(clients(network), []);
});

Deno.test("request(): a reply to the first attempt counts after the second", async () => {
  const network = networkWith(fixedReply("pong"));
  network.plan = ({ index, to }) => {
    if (to.port !== SERVER.port) return [150];
    return index === 0 ? [LATENCY_MS] : [];
  };
  const { attempts, rttMs } = await ask(network, { timeoutMs: 100 });
  assertEquals([attempts, rttMs, network.now], [
    2,
    undefined,
    150 + LATENCY_MS,
  ]);
});

Deno.test("request(): datagrams from other addresses are ignored and counted", async () => {
  const network = makeNetwork();
  const { runtime } = network;
  const elsewhere = [
    { ...SERVER, port: SERVER.port + 1 },
    { ...SERVER, hostname: "198.51.100.2" },
  ];
  network.plan = ({ from, to }) => {
    if (to.port !== SERVER.port) return [1];
    for (const other of elsewhere) network.pass(other, from, encode("forged"));
    return [];
  };
  const error = await assertRejects(
    () => network.run(request(SERVER, "x", { runtime, retries: 0 })),
    TimeoutError,
    "ignored 2 other datagrams, the first from 198.51.100.1:20002",
  );
  assertEquals(error.foreign, 2);
});

Deno.test("request(): datagrams that match refuses are ignored", async () => {
  let count = 0;
  const network = networkWith(() => `${count++}`);
  const reply = await ask(network, {
    timeoutMs: 100,
    match: (data) => decode(data) === "1",
  });
  assertEquals(decode(reply.data), "1");
});

Deno.test("request(): it rejects with the error of match", async () => {
  const network = networkWith(echo());
  const match = () => {
    throw new Error("match");
  };
  await assertRejects(() => ask(network, { match }), Error, "match");
  assertEquals(clients(network), []);
});

Deno.test("request(): it ignores replies over maxDatagramBytes", async () => {
  const network = networkWith(fixedReply("four"));
  const options = { retries: 0, maxDatagramBytes: 3 };
  const error = await assertRejects(
    () => ask(network, options),
    TimeoutError,
  );
  assertEquals(error.foreign, 1, "it is counted");
  const fits = await ask(network, { retries: 0, maxDatagramBytes: 4 });
  assertEquals(decode(fits.data), "four");
});

Deno.test("request(): it rejects with the error of a send that fails", async () => {
  const unreachable = new Error("Network is unreachable");
  const network = makeNetwork(() => {
    throw unreachable;
  });
  const { cause, message } = await assertRejects(() => ask(network), Error);
  assert(cause === unreachable);
  const to = formatAddress(SERVER);
  assertEquals(message, `Cannot send to ${to}: Network is unreachable`);
  assertEquals(clients(network), []);
});

Deno.test("request(): it rejects if receiving fails for good", async () => {
  const network = makeNetwork();
  const gone = new Error("interface gone");
  network.plan = () => {
    clients(network)[0]!.fail(gone);
    return [];
  };
  assert(gone === await assertRejects(() => ask(network), Error));
});

Deno.test("request(): a report of a closed port is a hint, and kept as the cause", async () => {
  const network = makeNetwork();
  const refused = new Deno.errors.ConnectionRefused("refused");
  network.plan = () => {
    clients(network)[0]!.failOnce(refused);
    return [];
  };
  const error = await assertRejects(
    () => ask(network, { retries: 1 }),
    TimeoutError,
    "closed port",
  );
  assert(error.cause === refused);
  assertEquals(error.attempts, 2);
});

Deno.test("request(): it continues after a send that reports an earlier datagram", async () => {
  const network = networkWith(echo());
  const refused = new Deno.errors.ConnectionRefused("refused");
  network.plan = ({ index }) => {
    if (index === 0) throw refused;
    return [LATENCY_MS];
  };
  assertEquals((await ask(network)).attempts, 2);
  network.plan = () => {
    throw refused;
  };
  const error = await assertRejects(() => ask(network), TimeoutError);
  assertEquals([error.cause, error.attempts], [refused, 3]);
});

for (
  const code of ["ENETUNREACH", "EHOSTUNREACH", "ENOBUFS", "EPERM", "EINVAL"]
) {
  const refused = Object.assign(new Error(code), { code });

  Deno.test(`request(): retries a send that fails with ${code}`, async () => {
    const network = networkWith(echo());
    network.plan = ({ index }) => {
      if (index < 2) throw refused;
      return [1];
    };
    assertEquals((await ask(network)).attempts, 3);
  });

  Deno.test(`request(): ${code} of the last send of all is its error, with the server's address, and else the cause`, async () => {
    const network = makeNetwork(() => {
      throw refused;
    });
    const failure = await assertRejects(() => ask(network), Error);
    assert(failure.cause === refused);
    assertEquals((failure as { code?: string }).code, code);
    assert(failure.message.includes(formatAddress(SERVER)), failure.message);
    assertEquals(network.sent.length, 3);
    network.plan = ({ index }) => {
      if (index === 4) throw refused;
      return [];
    };
    const error = await assertRejects(() => ask(network), TimeoutError, code);
    assert(error.cause === refused);
    assertEquals(network.sent.length, 6);
  });
}

Deno.test("request(): other errors of an unconnected socket are ignored", async () => {
  const network = makeNetwork();
  network.plan = () => {
    clients(network)[0]!.failOnce(new Error("no buffer space"));
    return [];
  };
  const error = await assertRejects(
    () => ask(network, { retries: 0 }),
    TimeoutError,
    "a closed port, a silent server, a firewall, or loss",
  );
  assertEquals(error.cause, undefined);
});

Deno.test("request(): it resolves a name once and takes replies from its address", async () => {
  const network = networkWith(echo());
  network.names.set("server.example", ["2001:db8::9", SERVER.hostname]);
  const { runtime } = network;
  const reply = await network.run(
    request(`Server.Example:${SERVER.port}`, "x", { runtime }),
  );
  assertEquals(reply.remoteAddr, SERVER);
});

Deno.test("request(): it prefers a name's IPv6 address when sent from IPv6", async () => {
  const network = makeNetwork();
  const { runtime } = network;
  network.names.set("server.example", [SERVER.hostname, "2001:db8:0::9"]);
  serve({ hostname: "2001:db8::9", port: 1, runtime }, echo());
  const options = { localHostname: "::", runtime };
  const reply = await network.run(request("server.example:1", "x", options));
  assertEquals(reply.remoteAddr, { hostname: "2001:db8::9", port: 1 });
});

Deno.test("request(): it checks the payload and the ends again once a name is resolved", async () => {
  const network = makeNetwork();
  const { runtime } = network;
  network.names.set("four.example", ["192.0.2.1"]);
  network.names.set("none.example", ["0.0.0.0"]);
  const asked = (name: string, size: number, localHostname?: string) =>
    request(`${name}:7`, new Uint8Array(size), { runtime, localHostname });
  await assertRejects(
    () => asked("four.example", 65_508),
    RangeError,
    "UDP over IPv4 takes at most 65507",
  );
  await assertRejects(
    () => asked("none.example", 1),
    TypeError,
    "Cannot send to 0.0.0.0:7",
  );
  await assertRejects(
    () => asked("four.example", 1, "::1"),
    TypeError,
    "both ends must be IPv4, or both IPv6",
  );
  assertEquals(network.sent, []);
});

Deno.test("request(): it takes an IPv4-mapped target for the IPv4 address", async () => {
  const network = networkWith(echo());
  const { runtime } = network;
  const target = { ...SERVER, hostname: `::ffff:${SERVER.hostname}` };
  const reply = await network.run(request(target, "x", { runtime }));
  assertEquals(reply.remoteAddr, SERVER);
});

Deno.test("request(): it throws the reason of a signal that is already aborted", async () => {
  const network = makeNetwork();
  const reason = new Error("enough");
  const signal = AbortSignal.abort(reason);
  assert(reason === await assertRejects(() => ask(network, { signal }), Error));
  assertEquals(network.sent, []);
});

Deno.test("request(): it ends with the reason of an abort while it waits", async () => {
  const network = makeNetwork(() => []);
  const controller = new AbortController();
  const reason = new Error("enough");
  network.runtime.after(30, () => controller.abort(reason));
  const { signal } = controller;
  assert(reason === await assertRejects(() => ask(network, { signal }), Error));
  assertEquals([network.now, clients(network).length], [30, 0]);
});

Deno.test("request(): it ends with the reason of an abort while it resolves", async () => {
  const network = makeNetwork();
  const runtime = {
    ...network.runtime,
    resolve: () => new Promise<string[]>(() => {}),
  };
  const controller = new AbortController();
  const { signal } = controller;
  const reason = new Error("enough");
  network.runtime.after(30, () => controller.abort(reason));
  const asked = request("server.example:1", "x", { signal, runtime });
  assert(reason === await assertRejects(() => network.run(asked), Error));
  assertEquals(network.sockets.size, 0);
});

Deno.test("request(): an abort after the reply has no effect", async () => {
  const network = networkWith(echo());
  const controller = new AbortController();
  const { data } = await ask(network, { signal: controller.signal });
  controller.abort();
  assertEquals(decode(data), "ping");
});

Deno.test("request(): options are checked before a socket opens", async () => {
  const network = makeNetwork();
  const { runtime } = network;
  type Case = [
    UdpAddress | string,
    RequestOptions,
    new (message: string) => Error,
    string,
  ];
  const cases: Case[] = [
    ["198.51.100.1", {}, SyntaxError, "no port"],
    [{ ...SERVER, port: 0 }, {}, RangeError, "'port'"],
    [{ ...SERVER, port: 65_536 }, {}, RangeError, "'port'"],
    ["0.0.0.0:1", {}, TypeError, "such as 127.0.0.1"],
    ["[::]:1", {}, TypeError, "such as [::1]"],
    ["[::1]:1", { localHostname: "127.0.0.1" }, TypeError, "both IPv6"],
    ["127.0.0.1:1", { localHostname: "::1" }, TypeError, "both ends"],
    [SERVER, { timeoutMs: 0 }, RangeError, "'timeoutMs'"],
    [SERVER, { timeoutMs: NaN }, RangeError, "'timeoutMs'"],
    [SERVER, { timeoutMs: 86_400_001 }, RangeError, "'timeoutMs'"],
    [SERVER, { retries: -1 }, RangeError, "'retries'"],
    [SERVER, { retries: 101 }, RangeError, "'retries'"],
    [SERVER, { maxDatagramBytes: 0 }, RangeError, "'maxDatagramBytes'"],
    ["no.such.example:1", {}, Deno.errors.NotFound, "no.such.example"],
  ];
  for (const [address, options, ErrorClass, message] of cases) {
    const asked = () => request(address, "x", { ...options, runtime });
    await assertRejects(asked, ErrorClass, message);
  }
  for (const [host, size] of [["127.0.0.1", 65_508], ["[::1]", 65_528]]) {
    const payload = new Uint8Array(size as number);
    await assertRejects(
      () => request(`${host}:1`, payload, { runtime }),
      RangeError,
      `at most ${(size as number) - 1}`,
    );
  }
  assertEquals(network.sent, []);
  assertEquals(network.sockets.size, 0);
});

Deno.test("request(): it refuses a match() that returns a promise", async () => {
  const network = networkWith(echo());
  const match = () => Promise.resolve(false);
  const asked = () => ask(network, { match });
  await assertRejects(asked, TypeError, "'match()' must not return a promise");
});

Deno.test("request(): the reply's value is that of match", async () => {
  const network = networkWith((data) => data);
  const seen: ReplyInfo[] = [];
  const { runtime } = network;
  const { value } = await network.run(
    request(SERVER, '{"id":1}', {
      runtime,
      match: (data, info) => {
        seen.push(info);
        return JSON.parse(decode(data)!) as { id: number };
      },
    }),
  );
  const id: number | undefined = value?.id;
  assertEquals(id, 1);
  assertEquals(
    seen.map(({ remoteAddr, receivedAt }) => [
      ...[remoteAddr, receivedAt],
    ]),
    [[SERVER, 2 * LATENCY_MS]],
  );
  const zero = await ask(network, { match: () => 0 });
  assertEquals(zero.value, 0, "only false, null and undefined are no answer");
});

Deno.test("request(): null and undefined of match are no reply", async () => {
  const network = networkWith(echo());
  for (const no of [null, undefined, false]) {
    const asked = ask(network, { retries: 0, match: () => no });
    const { foreign } = await assertRejects(() => asked, TimeoutError);
    assertEquals(foreign, 1);
  }
});

Deno.test("request(): a function makes the payload of each attempt", async () => {
  const network = networkWith((data) => decode(data) === "try 3" ? data : null);
  const reply = await ask(network, {}, (attempt) => `try ${attempt}`);
  assertEquals([reply.text(), reply.attempts], ["try 3", 3]);
  const failing = ask(network, {}, () => {
    throw new Error("no payload");
  });
  await assertRejects(() => failing, Error, "no payload");
  const large = ask(network, {}, () => new Uint8Array(65_508));
  await assertRejects(() => large, RangeError, "at most 65507");
});

Deno.test("request(): text() of a reply that is no text throws", async () => {
  const network = networkWith(() => new Uint8Array([0xff]));
  const reply = await ask(network);
  assertThrows(() => reply.text(), TypeError);
});

Deno.test("request(): it sends from the given local port", async () => {
  const network = networkWith(echo());
  await ask(network, { localPort: 4242 });
  assertEquals(network.sent[0]!.from.port, 4242);
});

Deno.test("request(): changes of a reply's address have no effect", async () => {
  const network = networkWith(echo());
  const first = await ask(network);
  first.remoteAddr.port = 1;
  assertEquals((await ask(network)).remoteAddr, SERVER);
});

Deno.test("request(): an abort within its payload sends nothing more", async () => {
  const network = makeNetwork(() => []);
  const controller = new AbortController();
  const { signal } = controller;
  await assertRejects(
    () =>
      ask(network, { signal }, (attempt) => {
        if (attempt === 2) controller.abort(new Error("enough"));
        return "x";
      }),
    Error,
    "enough",
  );
  assertEquals([network.sent.length, network.timers], [1, 0]);
});

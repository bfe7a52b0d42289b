import { assert, assertEquals, assertRejects, assertThrows } from "@std/assert";
import type { UdpAddress } from "../../lib/address.ts";
import { decode, encode } from "../../lib/encoding.ts";
import { gather, type GatherOptions } from "../../lib/client/gather.ts";
import { echo } from "../../lib/server/responders.ts";
import { serve } from "../../lib/server/serve.ts";
import type { Runtime } from "../../lib/socket/runtime.ts";
import type { Handler } from "../../lib/server/handler.ts";
import { LATENCY_MS } from "../../lib/testing/mod.ts";
import { restfulNetworks } from "../helpers.ts";

const makeNetwork = restfulNetworks();

const GROUP: UdpAddress = { hostname: "239.1.2.3", port: 5000 };
const HOSTS = ["192.0.2.11", "192.0.2.12", "192.0.2.13"];
const at = (hostname: string): UdpAddress => ({ hostname, port: 5000 });

/** A network where all hosts hear what is sent to the group. */
function networkWith(handler: Handler = echo(), all = GROUP.hostname) {
  const network = makeNetwork();
  const { runtime } = network;
  for (const hostname of HOSTS) {
    serve({ ...at(hostname), runtime, guard: false }, handler);
  }
  network.plan = ({ to, from, data }) => {
    if (to.hostname !== all) return [LATENCY_MS];
    for (const hostname of HOSTS) {
      runtime.after(LATENCY_MS, () => {
        network.sockets.get(`${hostname}:5000`)?.arrive(data, from);
      });
    }
    return [];
  };
  const start = (
    to: Parameters<typeof gather>[0],
    options: GatherOptions = {},
  ) => gather(to, "who?", { runtime, ...options });
  return { network, start };
}

const all = async (gathering: PromiseLike<{ remoteAddr: UdpAddress }[]>) =>
  (await gathering).map(({ remoteAddr }) => remoteAddr.hostname);

Deno.test("gather(): it gives every reply of a group until its time is over", async () => {
  const { network, start } = networkWith();
  const gathering = start(GROUP, { timeoutMs: 300 });
  assertEquals(await network.run(all(gathering)), HOSTS);
  assertEquals(network.now, 300);
  assertEquals(gathering.summary(), {
    sent: 1,
    received: 3,
    duplicates: 0,
    foreign: 0,
    unsent: 0,
    unanswered: [],
    eventsDropped: 0,
  });
  assertEquals(network.sockets.size, 3, "its own socket is closed");
});

Deno.test("gather(): a broadcast address is known by the interfaces, its end or the option", async () => {
  const own = { name: "eth0", family: "IPv4", address: "192.0.2.7" } as const;
  const cidr = "192.0.2.7/26";
  const options = { timeoutMs: 300 };
  for (
    const [hostname, broadcast, isKnown] of [
      ["192.0.2.63", false, true],
      ["192.0.2.127", false, false],
      ["192.0.2.127", true, true],
      ["198.51.100.255", false, true],
    ] as const
  ) {
    const { network, start } = networkWith(echo(), hostname);
    network.interfaces = [{ ...own, cidr, scopeid: null }];
    const gathering = start(at(hostname), { ...options, broadcast });
    const replies = await network.run(all(gathering));
    assertEquals(replies, isKnown ? HOSTS : [], hostname);
    assertEquals(gathering.summary().foreign, isKnown ? 0 : 3);
  }
});

Deno.test("gather(): replies are given as they arrive", async () => {
  const { network, start } = networkWith();
  const seen: unknown[] = [];
  await network.run((async () => {
    for await (const reply of start(GROUP)) {
      seen.push([reply.remoteAddr.hostname, reply.text(), reply.rttMs]);
      if (seen.length === 2) break;
    }
  })());
  assertEquals(network.now, 2 * LATENCY_MS);
  assertEquals(
    seen,
    HOSTS.slice(0, 2).map((host) => [host, "who?", 2 * LATENCY_MS]),
  );
});

Deno.test("gather(): it ends after maxReplies", async () => {
  const { network, start } = networkWith();
  assertEquals(await network.run(all(start(GROUP, { maxReplies: 2 }))), [
    HOSTS[0],
    HOSTS[1],
  ]);
  assertEquals(network.now, 2 * LATENCY_MS);
});

Deno.test("gather(): it counts each responder once, unless every reply is wanted", async () => {
  const twice: Handler = (data, { reply }) => {
    reply(data);
    return data;
  };
  const once = networkWith(twice);
  const gathering = once.start(GROUP, { retries: 1 });
  assertEquals(await once.network.run(all(gathering)), HOSTS);
  assertEquals(gathering.summary().duplicates, 9);
  assertEquals(gathering.summary().sent, 2);
  const every = networkWith(twice);
  const replies = await every.network.run(
    all(every.start(GROUP, { every: true })),
  );
  assertEquals(replies.length, 6);
});

Deno.test("gather(): of a list only silent members get a retransmission, and only members count", async () => {
  const { network, start } = networkWith((data, { localAddr }) =>
    localAddr.hostname === HOSTS[1] ? undefined : data
  );
  const asked = [at(HOSTS[0]!), `${HOSTS[1]}:5000`];
  const gathering = start(asked, { timeoutMs: 300, retries: 2 });
  // From one that was not asked.
  network.runtime.after(50, () => {
    const client = [...network.sockets.values()].at(-1)!;
    client.arrive(encode("stranger"), at(HOSTS[2]!));
  });
  assertEquals(await network.run(all(gathering)), [HOSTS[0]]);
  const requests = network.sent.filter(({ data, to }) =>
    decode(data) === "who?" && to.port === 5000
  );
  assertEquals(requests.map(({ to }) => to.hostname), [
    HOSTS[0],
    HOSTS[1],
    HOSTS[1],
    HOSTS[1],
  ]);
  assertEquals(gathering.summary().foreign, 1);
});

Deno.test("gather(): it decodes, and ignores what match refuses", async () => {
  const { network, start } = networkWith((_, { localAddr }) =>
    localAddr.hostname
  );
  const gathering = start(GROUP, {
    match: (data) => {
      const last = Number(decode(data)!.split(".")[3]);
      return last === 12 ? false : last;
    },
  });
  const replies = await network.run((async () => await gathering)());
  assertEquals(replies.map(({ value }) => value), [11, 13]);
  assertEquals(gathering.summary().foreign, 1);
});

Deno.test("gather(): a reply on which match throws is foreign, an error if there is no other", async () => {
  const failing = (hosts: string[]) => {
    const { network, start } = networkWith((_, { localAddr }) =>
      localAddr.hostname
    );
    const gathering = start(GROUP, {
      match: (data) => {
        if (hosts.includes(decode(data)!)) throw new Error("malformed");
        return data;
      },
    });
    return { gathering, replies: () => network.run(all(gathering)) };
  };
  const one = failing([HOSTS[0]!]);
  assertEquals(await one.replies(), [HOSTS[1], HOSTS[2]]);
  assertEquals(one.gathering.summary().foreign, 1);
  await assertRejects(failing(HOSTS).replies, Error, "malformed");
});

Deno.test("gather(): it ends with the reason of its signal, or by stop()", async () => {
  const { network, start } = networkWith();
  const reason = new Error("enough");
  const controller = new AbortController();
  const aborted = all(start(GROUP, { signal: controller.signal }));
  network.runtime.after(100, () => controller.abort(reason));
  const thrown = await assertRejects(() => network.run(aborted), Error);
  assert(thrown === reason);
  const stopped = start(GROUP);
  network.runtime.after(100, () => stopped.stop());
  assertEquals((await network.run(all(stopped))).length, 3);
  assertEquals(network.sockets.size, 3);
});

Deno.test("gather(): it continues if one target cannot be sent to, and throws if none can", async () => {
  const { network, start } = networkWith();
  const { plan } = network;
  network.plan = (passing) => {
    if (passing.to.hostname === HOSTS[0]) throw new Error("unreachable");
    return plan(passing);
  };
  const some = start([at(HOSTS[0]!), at(HOSTS[1]!)]);
  assertEquals(await network.run(all(some)), [HOSTS[1]]);
  assertEquals(some.summary().unsent, 1);
  const none = all(start([at(HOSTS[0]!)]));
  await assertRejects(() => network.run(none), Error, "unreachable");
});

Deno.test("gather(): it checks its options and addresses at the call", () => {
  const { network, start } = networkWith();
  const wrong: Array<[() => unknown, ErrorConstructor, string]> = [
    [() => start([]), TypeError, "no address"],
    [() => start(["192.0.2.1:5000", "nowhere"]), SyntaxError, "no port"],
    [() => start("0.0.0.0:5000"), TypeError, "Cannot send to"],
    [() => start(GROUP, { maxReplies: 0 }), RangeError, "'maxReplies'"],
    [() => start(GROUP, { timeoutMs: 0 }), RangeError, "'timeoutMs'"],
    [() => start(GROUP, { every: 1 as never }), TypeError, "'every'"],
    [
      () => gather(GROUP, new Uint8Array(65_508)),
      RangeError,
      "at most 65507",
    ],
  ];
  for (const [call, type, message] of wrong) assertThrows(call, type, message);
  assertEquals(network.sockets.size, 3);
});

Deno.test("gather(): it can be awaited any number of times, and gathers once", async () => {
  const { network, start } = networkWith();
  const gathering = start(GROUP);
  const both = Promise.all([all(gathering), all(gathering)]);
  assertEquals(await network.run(both), [HOSTS, HOSTS]);
  assertEquals(await all(gathering), HOSTS);
  assertEquals(gathering.summary().sent, 1);
  await assertRejects(
    async () => {
      for await (const _ of gathering);
    },
    TypeError,
    "a second time",
  );
  const failing = start(["nowhere.invalid:5000"]);
  const fails = () => network.run(all(failing));
  const first = await assertRejects(fails, Deno.errors.NotFound);
  assertEquals(await assertRejects(fails, Deno.errors.NotFound), first);
});

Deno.test("gather(): awaiting what is iterated is an error that says so", async () => {
  const { network, start } = networkWith();
  const gathering = start(GROUP);
  const iterated = network.run((async () => {
    for await (const { remoteAddr } of gathering) {
      await assertRejects(
        () => all(gathering),
        TypeError,
        "Cannot await replies that are iterated: collect them there, or gather anew",
      );
      return remoteAddr.hostname;
    }
  })());
  assertEquals(await iterated, HOSTS[0]);
  await assertRejects(() => all(gathering), TypeError, "Cannot await");
});

Deno.test("gather(): it ends when all of a list have answered, each asked once", async () => {
  const { network, start } = networkWith();
  const list = [...HOSTS, HOSTS[0]!].map(at);
  const gathering = start(list);
  assertEquals(await network.run(all(gathering)), HOSTS);
  assertEquals([network.now, gathering.summary().sent], [2 * LATENCY_MS, 3]);
});

Deno.test("gather(): datagrams received with its last reply are not counted and not held", async () => {
  const network = makeNetwork();
  const { runtime } = network;
  const gathering = gather(GROUP, "who?", { runtime, maxReplies: 1 });
  const ended = all(gathering);
  await new Promise<void>((resolve) => setImmediate(() => resolve()));
  const socket = [...network.sockets.values()][0]!;
  // Both are there before anybody can act on the first.
  for (const hostname of HOSTS.slice(0, 2)) {
    socket.arrive(new Uint8Array(1), at(hostname));
  }
  assertEquals(socket.held, 0);
  assertEquals(await network.run(ended), HOSTS.slice(0, 1));
  const { received, duplicates } = gathering.summary();
  assertEquals([received, duplicates], [1, 0]);
});

Deno.test("gather(): by an interface IPv4 leaves from its address, and IPv6 by the group's zone", async () => {
  const interfaceOf = (
    family: "IPv4" | "IPv6",
    address: string,
    scopeid: number | null,
  ) => ({
    name: "lan0",
    family,
    address,
    cidr: "",
    scopeid,
  });
  const network = makeNetwork(() => []);
  const { runtime } = network;
  network.interfaces = [
    interfaceOf("IPv4", "192.0.2.77", null),
    interfaceOf("IPv6", "2001:db8::77", 0),
    interfaceOf("IPv6", "fe80::77", 4),
  ];
  const opened: string[] = [];
  const open: Runtime["open"] = (options) => {
    opened.push(options.hostname);
    return runtime.open(options);
  };
  const asked = async (
    to: Parameters<typeof gather>[0],
    options: GatherOptions = {},
  ) => {
    const sent = network.sent.length;
    await network.run(all(gather(to, "?", {
      runtime: { ...runtime, open },
      timeoutMs: 10,
      interface: "lan0",
      ...options,
    })));
    return network.sent.slice(sent).map(({ to }) => to.hostname);
  };
  assertEquals(await asked("239.1.2.3:5"), ["239.1.2.3"]);
  assertEquals(opened.splice(0), ["192.0.2.77"]);
  assertEquals(await asked("[ff02::1]:5"), ["ff02::1%4"]);
  assertEquals(await asked("[fe80::9]:5"), ["fe80::9%4"]);
  assertEquals(await asked("[2001:db8::9]:5"), ["2001:db8::9"]);
  assertEquals(opened, ["::", "::", "::"]);
  const both = ["192.0.2.1:5", "[2001:db8::9]:5"];
  await assertRejects(() => asked(both), TypeError, "not with both");
  assertThrows(
    () => gather(GROUP, "?", { interface: "lan0", localHostname: "0.0.0.0" }),
    TypeError,
    "exclude each other",
  );
});

Deno.test("gather(): an early end leaves no timer of a retransmission", async () => {
  const { network, start } = networkWith();
  const gathering = start(GROUP, { timeoutMs: 300, retries: 2, maxReplies: 1 });
  assertEquals((await network.run(all(gathering))).length, 1);
  assertEquals(network.timers, 0);
});

Deno.test("gather(): a stop within the payload's function sends to no further address", async () => {
  const { network } = networkWith();
  const { runtime } = network;
  let made = 0;
  const gathering = gather(HOSTS.map(at), () => {
    made++;
    gathering.stop();
    return "who?";
  }, { runtime });
  assertEquals(await network.run(all(gathering)), []);
  assertEquals([made, network.timers], [1, 0]);
});

import { assert, assertEquals, assertRejects, assertThrows } from "@std/assert";
import type { UdpAddress } from "../../lib/address.ts";
import {
  broadcastsOf,
  checkGroups,
  hostnameFor,
  type Interface,
  Links,
  membershipsOf,
} from "../../lib/socket/multicast.ts";
import { type Handler, withTraits } from "../../lib/server/handler.ts";
import { serve, type ServeOptions } from "../../lib/server/serve.ts";
import type { Plan } from "../../lib/testing/mod.ts";
import { restfulNetworks } from "../helpers.ts";

const makeNetwork = restfulNetworks();

const INTERFACES = [
  {
    name: "lo",
    family: "IPv4",
    address: "127.0.0.1",
    cidr: "127.0.0.1/8",
    scopeid: null,
  },
  { name: "lo", family: "IPv6", address: "::1", cidr: "::1/128", scopeid: 0 },
  {
    name: "eth0",
    family: "IPv4",
    address: "192.0.2.7",
    cidr: "192.0.2.7/24",
    scopeid: null,
  },
  {
    name: "eth0",
    family: "IPv6",
    address: "2001:db8::7",
    cidr: "2001:db8::7/64",
    scopeid: 0,
  },
  {
    name: "eth0",
    family: "IPv6",
    address: "fe80::7",
    cidr: "fe80::7/64",
    scopeid: 3,
  },
] as const;

const memberships = (group: string, named?: string) =>
  membershipsOf([group], named, () => INTERFACES);

Deno.test("membershipsOf(): finds the interface by name, address, number or zone", () => {
  const v4 = { group: "239.1.2.3", index: 0 };
  const cases: Array<[string, string | undefined, unknown]> = [
    ["239.1.2.3", undefined, { ...v4, address: "0.0.0.0" }],
    ["239.1.2.3", "192.0.2.7", { ...v4, address: "192.0.2.7", index: 3 }],
    ["239.1.2.3", "eth0", { ...v4, address: "192.0.2.7", index: 3 }],
    ["239.1.2.3", "fe80::7", { ...v4, address: "192.0.2.7", index: 3 }],
    ["239.1.2.3%eth0", "lo", { ...v4, address: "192.0.2.7", index: 3 }],
    ["192.0.2.1@239.1.2.3%eth0", undefined, {
      ...v4,
      source: "192.0.2.1",
      address: "192.0.2.7",
      index: 3,
    }],
    ["2001:DB8::0@ff02::123%eth0", undefined, {
      group: "ff02::123",
      source: "2001:db8::",
      address: "fe80::7",
      index: 3,
    }],
    ["FF02::123", undefined, {
      group: "ff02::123",
      address: "0.0.0.0",
      index: 0,
    }],
    ["ff02::123%5", undefined, {
      group: "ff02::123",
      address: "0.0.0.0",
      index: 5,
    }],
    ["ff02::123%eth0", "lo", {
      group: "ff02::123",
      address: "fe80::7",
      index: 3,
    }],
    ["ff02::123", "192.0.2.7", {
      group: "ff02::123",
      address: "fe80::7",
      index: 3,
    }],
  ];
  for (const [group, named, expected] of cases) {
    assertEquals(memberships(group, named), [expected], `${group} ${named}`);
  }
});

Deno.test("membershipsOf(): an unknown interface is an error with the known ones", () => {
  for (
    const [group, named] of [
      ["239.1.2.3", "eth9"],
      ["239.1.2.3", "192.0.2.9"],
      ["ff02::1", "lo"],
    ]
  ) {
    assertThrows(
      () => memberships(group!, named),
      Deno.errors.NotFound,
      `There is no interface '${named}'`,
    );
  }
  assertThrows(() => memberships("239.1.2.3", "x"), Error, "lo, eth0");
});

Deno.test("membershipsOf(): leaves an address to the system without permission for the interfaces", () => {
  const hidden = () => {
    throw new Deno.errors.NotCapable("Requires sys access");
  };
  assertEquals(
    membershipsOf(["239.1.2.3"], "192.0.2.9", hidden),
    [{ group: "239.1.2.3", address: "192.0.2.9", index: 0 }],
  );
  assertThrows(
    () => membershipsOf(["239.1.2.3"], "eth0", hidden),
    Deno.errors.NotCapable,
  );
});

Deno.test("hostnameFor(): a server with groups binds a wildcard", () => {
  assertEquals(hostnameFor([], undefined, "::1"), "::1");
  assertEquals(hostnameFor([], "host", "::1"), "host");
  assertEquals(hostnameFor(["239.1.2.3"], undefined, "::1"), "0.0.0.0");
  assertEquals(hostnameFor(["239.1.2.3", "ff02::1"], undefined, "::1"), "::");
  assertEquals(hostnameFor(["239.1.2.3"], "::", "::1"), "::");
  for (
    const [group, host] of [["239.1.2.3", "127.0.0.1"], ["ff02::1", "0.0.0.0"]]
  ) {
    assertThrows(
      () => hostnameFor([group!], host, "::"),
      TypeError,
      "needs hostname",
    );
  }
});

Deno.test("checkGroups(): refuses other addresses before a socket is opened", () => {
  const network = makeNetwork();
  const { runtime } = network;
  const wrong: Array<[ServeOptions, string]> = [
    [{ groups: ["10.0.0.1"] }, "'10.0.0.1' is no multicast group"],
    [{ groups: ["240.0.0.1"] }, "'240.0.0.1' is no multicast group"],
    [{ groups: ["ff::1"] }, "'ff::1' is no multicast group"],
    [{ groups: ["fe80::1"] }, "'fe80::1' is no multicast group"],
    [{ groups: ["example.org"] }, "'example.org' is no multicast group"],
    [{ groups: ["host@239.1.2.3"] }, "'host@239.1.2.3' has no source"],
    [{ groups: ["::1@239.1.2.3"] }, "'::1@239.1.2.3' has no source"],
    [
      { groups: ["232.1.1.1@232.1.1.2"] },
      "'232.1.1.1@232.1.1.2' has no source",
    ],
    [{ groups: ["@239.1.2.3"] }, "'@239.1.2.3' has no source"],
    [{ groups: "239.1.2.3" as never }, "'groups' must be an array"],
    [{ interface: "eth0" }, "'interface' needs 'groups'"],
    [{ reuseAddress: true }, "'reuseAddress' needs 'groups'"],
    [{ groupDelayMs: 5 }, "'groupDelayMs' needs 'groups'"],
    [{ groups: ["239.1.2.3"], interface: 5 as never }, "'interface' must be"],
    [{ groups: ["239.1.2.3"], hostname: "127.0.0.1" }, "needs hostname"],
  ];
  for (const [options, message] of wrong) {
    const call = () => serve({ ...options, runtime }, () => {});
    assertThrows(call, TypeError, message);
  }
  assertEquals(network.sockets.size, 0);
  checkGroups(["224.0.0.1", "239.255.255.255", "ff00::1"], "eth0");
});

/** Two hosts on a link of the server's, and one that is elsewhere. */
const [NEAR, LINK_LOCAL, FAR] = ["192.0.2.77", "fe80::9%3", "198.51.100.1"]
  .map((hostname) => ({ hostname, port: 4000 })) as [
    UdpAddress,
    UdpAddress,
    UdpAddress,
  ];
const GROUP = { hostname: "239.1.2.3", port: 5000 };

Deno.test("broadcastsOf(): has the last address of each IPv4 network", () => {
  const last = (cidr: string) =>
    broadcastsOf([{ ...INTERFACES[2], cidr: `${cidr}` }]).join();
  assertEquals(last("10.0.0.1/26"), "10.0.0.63");
  assertEquals(last("10.0.0.65/26"), "10.0.0.127");
  assertEquals(last("10.0.0.65/30"), "10.0.0.67");
  assertEquals(last("172.16.9.1/20"), "172.16.15.255");
  assertEquals(last("10.1.2.3/8"), "10.255.255.255");
  for (const none of ["10.0.0.2/31", "10.0.0.2/32", "2001:db8::7/64"]) {
    assertEquals(last(none), "", none);
  }
});

Deno.test("Links: knows the addresses on the links, as of the last seconds", () => {
  const interfaces: Interface[] = [...INTERFACES];
  let now = 0;
  const links = new Links({ now: () => now, interfaces: () => interfaces });
  for (const { hostname } of [NEAR, LINK_LOCAL]) assert(links.has(hostname));
  for (const host of [FAR.hostname, "2001:db8:0:1::7", "192.0.3.1"]) {
    assert(!links.has(host), host);
  }
  interfaces.push({ ...INTERFACES[2], cidr: "198.51.100.7/24" });
  assert(!links.has(FAR.hostname));
  now = 5001;
  assert(links.has(FAR.hostname));
});

Deno.test("Links: the error without permission names its purpose", () => {
  const interfaces = () => {
    throw new Deno.errors.NotCapable("Requires sys access");
  };
  assertThrows(
    () => new Links({ now: () => 0, interfaces }),
    Deno.errors.NotCapable,
    "--allow-sys=networkInterfaces",
  );
});

/** The answers of a server in a group to datagrams of each host. */
function ask(options: ServeOptions) {
  const network = makeNetwork(() => [1]);
  network.interfaces = [...INTERFACES];
  const { runtime } = network;
  const limits: number[] = [];
  const server = serve(
    {
      hostname: "::",
      groups: [GROUP.hostname],
      port: GROUP.port,
      quiet: true,
      ...options,
      runtime,
    },
    (data, { maxReplyBytes }) => {
      limits.push(maxReplyBytes);
      return data;
    },
  );
  for (const from of [NEAR, LINK_LOCAL, FAR]) {
    network.pass(from, GROUP, new Uint8Array(4));
    network.pass(from, server.addr, new Uint8Array(4));
  }
  return { network, server, limits };
}

Deno.test("serve(): answers datagrams to a group on the links only, unless answerOffLink is set", async () => {
  for (const answerOffLink of [false, true]) {
    const { network, server, limits } = ask({ guard: { answerOffLink } });
    await network.runFor(10);
    const { received, replied, refused } = server.stats();
    const withheld = answerOffLink ? 0 : 1;
    assertEquals([received, replied], [6, 6 - withheld]);
    assertEquals(refused.offLink, withheld);
    assertEquals(limits.filter((bytes) => bytes === 0).length, withheld);
    await network.run(server.shutdown());
  }
});

Deno.test("join(): a server hears a group from then on, and answers the links only", async () => {
  for (const answerOffLink of [false, true]) {
    const network = makeNetwork(() => [1]);
    network.interfaces = [...INTERFACES];
    const { runtime } = network;
    const { port } = GROUP;
    const server = serve({
      hostname: "0.0.0.0",
      guard: { answerOffLink },
      quiet: true,
      port,
      runtime,
    }, (data) => data);
    const question = async () => {
      for (const from of [NEAR, FAR]) {
        network.pass(from, GROUP, new Uint8Array(4));
      }
      await network.runFor(10);
      const { received, replied } = server.stats();
      return [received, replied];
    };
    assertEquals(await question(), [0, 0]);
    await network.run(server.join(GROUP.hostname));
    await network.run(server.join(GROUP.hostname));
    const answered = answerOffLink ? 2 : 1;
    assertEquals(await question(), [2, answered]);
    await network.run(server.leave(GROUP.hostname));
    assertEquals(await question(), [2, answered]);
    const again = server.leave(GROUP.hostname);
    await assertRejects(() => network.run(again), TypeError, "joined are none");
    await network.run(server.shutdown());
  }
});

Deno.test("join(): needs a socket at the wildcard, and a group", async () => {
  const network = makeNetwork();
  const { runtime } = network;
  const server = serve({ hostname: NEAR.hostname, runtime }, () => {});
  for (
    const [group, message] of [["239.1.2.3", "no group reaches"], [
      "192.0.2.1",
      "is no multicast group",
    ]]
  ) {
    const joined = server.join(group!);
    await assertRejects(() => network.run(joined), TypeError, message);
  }
  await network.run(server.shutdown());
});

Deno.test("groupDelayMs: spreads the answers to a group, and no others", async () => {
  const { network, server } = ask({
    guard: { answerOffLink: true },
    groupDelayMs: 60_000,
  });
  await network.runFor(10);
  assertEquals(server.stats().replied, 3);
  await network.runFor(60_000);
  assertEquals(server.stats().replied, 6);
  const late = network.sent.slice(-3).map(({ to }) => to.hostname);
  assertEquals(
    late.sort(),
    [NEAR, LINK_LOCAL, FAR].map((a) => a.hostname).sort(),
  );
  await network.run(server.shutdown());
});

Deno.test("groupDelayMs: spread answers leave at shutdown, and not after an abort", async () => {
  for (const [end, expected] of [["shutdown", 6], ["abort", 3]] as const) {
    const controller = new AbortController();
    const { network, server } = ask({
      guard: { answerOffLink: true },
      groupDelayMs: 60_000,
      signal: controller.signal,
    });
    await network.runFor(10);
    const before = network.now;
    if (end === "abort") controller.abort();
    else server.shutdown();
    await network.run(server.finished);
    const { received, replied, dropped } = server.stats();
    assertEquals([replied, dropped.closing], [expected, received - expected]);
    assert(network.now - before < 1000);
  }
});

Deno.test("groupDelayMs: maxInFlight bounds the spread answers", async () => {
  const network = makeNetwork(() => [1]);
  const { runtime } = network;
  let handled = 0;
  const server = serve({
    groups: [GROUP.hostname],
    port: GROUP.port,
    guard: { answerOffLink: true, rateLimit: 0 },
    groupDelayMs: 60_000,
    maxInFlight: 10,
    quiet: true,
    runtime,
  }, (data) => {
    handled++;
    return data;
  });
  for (let i = 0; i < 1000; i++) {
    const from = { hostname: `192.0.2.${1 + i % 250}`, port: 4000 };
    network.pass(from, GROUP, new Uint8Array(4));
  }
  await network.runFor(10);
  const { received, dropped, replied } = server.stats();
  // One answer may have had a short delay, and made room for another.
  const waiting = received - dropped.overload - replied;
  assertEquals([received, handled], [1000, waiting + replied]);
  assert(waiting <= 10 && replied < 5, `${waiting} wait, ${replied} sent`);
  await network.run(server.shutdown());
});

/**
 * A server in a group whose answers are spread over a minute, after one
 * request.
 */
async function spreading(
  handler: Handler,
  plan?: Plan,
  options: ServeOptions = {},
) {
  const network = makeNetwork(plan);
  const { runtime } = network;
  const errors: string[] = [];
  const server = serve({
    groups: [GROUP.hostname],
    port: GROUP.port,
    guard: false,
    groupDelayMs: 60_000,
    onError: (error) => void errors.push((error as Error).message),
    ...options,
    runtime,
  }, handler);
  network.pass(NEAR, GROUP, new Uint8Array(4));
  await network.runFor(10);
  return { network, server, errors };
}

Deno.test("groupDelayMs: spreads answers of info.reply() too, with their bytes at the call", async () => {
  const { network, server } = await spreading((_, { reply }) => {
    const bytes = new Uint8Array([1]);
    reply(bytes);
    bytes[0] = 2;
    for (let i = 1; i < 1026; i++) reply("x");
  });
  await network.runFor(60_000);
  const answers = network.sent.slice(1).map(({ data }) => data[0]);
  const own = answers.filter((byte) => byte === 1);
  assertEquals([own.length, answers.length], [1, 1024]);
  // At most 1,024 answers wait.
  const { sent, unsent } = server.stats().pushed;
  assertEquals([sent, unsent], [1024, 2]);
  await network.run(server.shutdown());
});

Deno.test("groupDelayMs: a spread answer that cannot be sent is counted, and no longer in flight", async () => {
  const { network, server, errors } = await spreading(
    (data) => data,
    ({ from }) => {
      if (from.port === GROUP.port) throw new Error("No buffer space");
      return [1];
    },
  );
  await network.runFor(60_000);
  const { replied, inFlight, errors: { send } } = server.stats();
  assertEquals([replied, inFlight, send], [0, 0, 1]);
  assertEquals(errors, ["No buffer space"]);
  await network.run(server.shutdown());
});

Deno.test("groupDelayMs: settled answers do not change the room for others", async () => {
  for (const fails of [false, true]) {
    const answers: Array<(reply: string) => void> = [];
    const { network, server } = await spreading(
      (data) =>
        data[0] === 0 ? data : new Promise((resolve) => answers.push(resolve)),
      ({ from }) => {
        if (fails && from.port === GROUP.port) throw new Error("not now");
        return [1];
      },
      { maxInFlight: 2 },
    );
    await network.runFor(60_000);
    for (let i = 0; i < 3; i++) {
      network.pass(NEAR, server.addr, new Uint8Array([1]));
    }
    await network.runFor(10);
    assertEquals([answers.length, server.stats().dropped.overload], [2, 1]);
    for (const answer of answers) answer("x");
    await network.runFor(10);
    assertEquals(server.stats().inFlight, 0);
    await network.run(server.shutdown());
  }
});

Deno.test("groupDelayMs: a spread answer is completed when it leaves", async () => {
  const handler: Handler = () => "-a";
  const times: number[] = [];
  let now = () => 0;
  withTraits(handler, {
    departure: {
      isAsked: false,
      last: () => ({
        complete(payload) {
          times.push(now());
          payload[0] = 48;
        },
        trafficClass: undefined,
      }),
    },
  });
  const { network, server } = await spreading(handler);
  now = () => network.now;
  await network.runFor(60_000);
  const { data } = network.sent.at(-1)!;
  assertEquals([...data], [48, 97]);
  assertEquals(times.length, 1);
  await network.run(server.shutdown());
});

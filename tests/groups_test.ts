import { assertEquals, assertThrows } from "@std/assert";
import { checkGroups, hostnameFor, membershipsOf } from "../lib/groups.ts";
import { serve, type ServeOptions } from "../lib/serve.ts";
import { SimulatedNetwork } from "../lib/testing.ts";

const INTERFACES = [
  { name: "lo", family: "IPv4", address: "127.0.0.1", scopeid: null },
  { name: "lo", family: "IPv6", address: "::1", scopeid: 0 },
  { name: "eth0", family: "IPv4", address: "192.0.2.7", scopeid: null },
  { name: "eth0", family: "IPv6", address: "2001:db8::7", scopeid: 0 },
  { name: "eth0", family: "IPv6", address: "fe80::7", scopeid: 3 },
] as const;

const memberships = (group: string, named?: string) =>
  membershipsOf([group], named, () => INTERFACES);

Deno.test("membershipsOf() finds the interface by name, address, number or zone", () => {
  const v4 = { group: "239.1.2.3", index: 0 };
  const cases: Array<[string, string | undefined, unknown]> = [
    ["239.1.2.3", undefined, { ...v4, address: "0.0.0.0" }],
    ["239.1.2.3", "192.0.2.9", { ...v4, address: "192.0.2.9" }],
    ["239.1.2.3", "eth0", { ...v4, address: "192.0.2.7" }],
    ["239.1.2.3", "fe80::7", { ...v4, address: "192.0.2.7" }],
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

Deno.test("membershipsOf() says which interfaces there are", () => {
  for (const [group, named] of [["239.1.2.3", "eth9"], ["ff02::1", "lo"]]) {
    assertThrows(
      () => memberships(group!, named),
      Deno.errors.NotFound,
      `There is no interface '${named}'`,
    );
  }
  assertThrows(() => memberships("239.1.2.3", "x"), Error, "lo, eth0");
});

Deno.test("a server with groups binds an address that hears them", () => {
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

Deno.test("what is no group is refused, before a socket is opened", () => {
  const network = new SimulatedNetwork();
  const { runtime } = network;
  const wrong: Array<[ServeOptions, string]> = [
    [{ groups: ["10.0.0.1"] }, "'10.0.0.1' is no multicast group"],
    [{ groups: ["240.0.0.1"] }, "'240.0.0.1' is no multicast group"],
    [{ groups: ["ff::1"] }, "'ff::1' is no multicast group"],
    [{ groups: ["fe80::1"] }, "'fe80::1' is no multicast group"],
    [{ groups: ["example.org"] }, "'example.org' is no multicast group"],
    [{ groups: "239.1.2.3" as never }, "'groups' must be an array"],
    [{ interface: "eth0" }, "'interface' needs 'groups'"],
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

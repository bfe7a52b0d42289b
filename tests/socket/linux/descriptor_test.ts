/** The linux engine's socket options, by the numbers of Linux. */
import { assertEquals, assertThrows } from "@std/assert";
import {
  connect,
  kernelDrops,
  sendGroupsBy,
  setMembership,
  setReceiveBuffer,
  setSendOptions,
  trySet,
} from "../../../lib/socket/linux/descriptor.ts";
import { clockStateOf } from "../../../lib/socket/linux/clock.ts";
import { AF_INET, AF_INET6 } from "../../../lib/socket/linux/layout.ts";
import { refused } from "../../../lib/socket/linux/libc.ts";
import type { OpenOptions } from "../../../lib/socket/contract.ts";
import type { Membership } from "../../../lib/socket/multicast.ts";
import { FakeLibc } from "./fake_libc.ts";

const FD = 7;
const EPERM = 1, ENODEV = 19;
const SOL_IP = 0, SOL_SOCKET = 1, SOL_IPV6 = 41;

const socket = (family: number) => ({ fd: FD, family, close() {} });
const int = (value: number) => [value, 0, 0, 0];

const HOW: Omit<OpenOptions, "hostname" | "port" | "maxDatagramBytes"> = {
  ttl: 9,
  trafficClass: 0xb8,
  dontFragment: true,
  multicastTtl: 3,
  loopback: false,
};

/** The socket options that these options set. */
function departures(family: number, how: Partial<OpenOptions>) {
  const libc = new FakeLibc();
  const where = { hostname: "127.0.0.1", port: 0, maxDatagramBytes: 1 };
  setSendOptions(libc, socket(family), { ...where, ...how });
  return libc.options;
}

Deno.test("setSendOptions(): sets options for IPv4, and on an IPv6 socket for both", () => {
  const values = [9, 0xb8, 2, 3, 0].map(int);
  const ipv4 = [2, 1, 10, 33, 34].map((n, i) => [SOL_IP, n, values[i]]);
  const ipv6 = [16, 67, 23, 18, 19].map((n, i) => [SOL_IPV6, n, values[i]]);
  assertEquals<unknown>(departures(AF_INET, HOW), ipv4);
  assertEquals<unknown>(
    departures(AF_INET6, HOW),
    ipv4.flatMap((one, i) => [one, ipv6[i]]),
  );
});

Deno.test("setSendOptions(): leaves options that are not given", () => {
  for (const family of [AF_INET, AF_INET6]) {
    assertEquals(departures(family, {}), []);
    assertEquals(departures(family, { loopback: true }), []);
  }
});

Deno.test("setSendOptions(): without dontFragment routers may fragment", () => {
  // IP_PMTUDISC_DONT, which is 0, by IP_MTU_DISCOVER and IPV6_MTU_DISCOVER.
  const [ipv4, ipv6] = [[SOL_IP, 10, int(0)], [SOL_IPV6, 23, int(0)]];
  const dontFragment = false;
  assertEquals<unknown>(departures(AF_INET, { dontFragment }), [ipv4]);
  assertEquals<unknown>(departures(AF_INET6, { dontFragment }), [ipv4, ipv6]);
});

Deno.test("setSendOptions(): a missing device is an error with its name", () => {
  const name = [...new TextEncoder().encode("eth0")];
  assertEquals(departures(AF_INET, { device: "eth0" }), [
    [SOL_SOCKET, 25, name],
  ]);
  const libc = new FakeLibc();
  libc.refusedOptions = [[SOL_SOCKET, 25, ENODEV]];
  const where = { hostname: "127.0.0.1", port: 0, maxDatagramBytes: 1 };
  assertThrows(
    () => setSendOptions(libc, socket(AF_INET), { ...where, device: "eth7" }),
    Error,
    "Cannot send by interface 'eth7': No such device",
  );
});

Deno.test("setMembership(): joins and leaves, by the interface and from the source given", () => {
  const options = (membership: Membership, isMember: boolean) => {
    const libc = new FakeLibc();
    setMembership(libc, FD, membership, isMember);
    return libc.options.flatMap(([level, option, bytes]) => [
      level,
      option,
      bytes.length,
      bytes.filter((byte) => byte !== 0),
    ]);
  };
  const ipv4 = { group: "239.1.2.3", address: "192.0.2.7", index: 4 };
  const bytes = [239, 1, 2, 3, 192, 2, 7];
  assertEquals(options(ipv4, true), [SOL_IP, 35, 8, bytes]);
  assertEquals(options(ipv4, false), [SOL_IP, 36, 8, bytes]);
  const single4 = { ...ipv4, source: "198.51.100.9" };
  const with4 = [...bytes, 198, 51, 100, 9];
  assertEquals(options(single4, true), [SOL_IP, 39, 12, with4]);
  assertEquals(options(single4, false), [SOL_IP, 40, 12, with4]);
  const ipv6 = { group: "ff02::1234", address: "0.0.0.0", index: 5 };
  const group = [5, AF_INET6, 0xff, 2, 0x12, 0x34];
  assertEquals(options(ipv6, true), [SOL_IPV6, 42, 136, group]);
  assertEquals(options(ipv6, false), [SOL_IPV6, 45, 136, group]);
  const single6 = { ...ipv6, source: "2001:db8::9" };
  const with6 = [...group, AF_INET6, 0x20, 1, 0x0d, 0xb8, 9];
  assertEquals(options(single6, true), [SOL_IPV6, 46, 264, with6]);
  assertEquals(options(single6, false), [SOL_IPV6, 47, 264, with6]);
});

Deno.test("sendGroupsBy(): has sends to groups leave by the interface, if there is one", () => {
  const options = (membership: Membership) => {
    const libc = new FakeLibc();
    sendGroupsBy(libc, FD, membership);
    return libc.options;
  };
  const ipv4 = { group: "239.1.2.3", address: "192.0.2.7", index: 0 };
  assertEquals(options(ipv4), [[SOL_IP, 32, [192, 0, 2, 7]]]);
  assertEquals(options({ ...ipv4, address: "0.0.0.0" }), []);
  const ipv6 = { group: "ff02::1234", address: "0.0.0.0", index: 5 };
  assertEquals(options(ipv6), [[SOL_IPV6, 17, int(5)]]);
  assertEquals(options({ ...ipv6, index: 0 }), []);
});

Deno.test("setMembership(): throws the system's error", () => {
  const libc = new FakeLibc();
  libc.refusedOptions = [[SOL_IP, 35, ENODEV], [SOL_IPV6, 42, ENODEV]];
  for (const group of ["239.1.2.3", "ff02::1"]) {
    assertThrows(
      () =>
        setMembership(libc, FD, { group, address: "0.0.0.0", index: 0 }, true),
      Error,
      "No such device",
    );
  }
});

Deno.test("setReceiveBuffer(): gives the system's size, beyond its bound if permitted", () => {
  const libc = new FakeLibc();
  libc.values.set(8, [2_000_000]);
  assertEquals(setReceiveBuffer(libc, FD, 5000), 1_000_000);
  assertEquals(libc.options, [[SOL_SOCKET, 33, [0x88, 0x13, 0, 0]]]);
  libc.refusedOptions = [[SOL_SOCKET, 33, EPERM]];
  assertEquals(setReceiveBuffer(libc, FD, 5000), 1_000_000);
  assertEquals(libc.options[1], [SOL_SOCKET, 8, [0x88, 0x13, 0, 0]]);
});

Deno.test("kernelDrops(): reads the kernel's count, if there is one", () => {
  const libc = new FakeLibc();
  libc.values.set(55, [1, 2, 3, 4, 5, 6, 7, 8, 9]);
  assertEquals(kernelDrops(libc, FD), 9);
  // An older kernel returns less.
  libc.values.set(55, [1, 2, 3, 4]);
  assertEquals(kernelDrops(libc, FD), undefined);
});

Deno.test("connect(): the zone of a peer is a number or the name of an interface", () => {
  const libc = new FakeLibc();
  libc.interfaces.set("eth0", 4);
  const to = (hostname: string, family = AF_INET6) => {
    connect(libc, socket(family), { hostname, port: 7 });
    return libc.peer;
  };
  assertEquals(to("192.0.2.1", AF_INET), { hostname: "192.0.2.1", port: 7 });
  assertEquals(to("fe80::1%eth0"), { hostname: "fe80::1%4", port: 7 });
  assertEquals(to("fe80::1%12"), { hostname: "fe80::1%12", port: 7 });
  assertThrows(
    () => to("fe80::1%eth1"),
    Deno.errors.NotFound,
    "There is no interface 'eth1'",
  );
});

Deno.test("trySet(): returns whether the kernel knows an option", () => {
  const libc = new FakeLibc();
  libc.refusedOptions = [[SOL_SOCKET, 8, EPERM]];
  assertEquals(trySet(libc, FD, SOL_SOCKET, 8, 1), false);
  assertEquals(trySet(libc, FD, SOL_SOCKET, 7, 1), true);
});

Deno.test("refused(): names the first call that a sandbox refuses", () => {
  const EINTR = 4, EBADF = 9;
  const calls = ["recvmmsg", "sendmmsg", "ppoll", "epollControl"] as const;
  const interrupted = calls.map((call) => [call, EINTR]);
  const all = [["", EBADF], ...interrupted, ...calls.map((c) => [c, EPERM])];
  for (const [name, errno] of all) {
    const libc = new FakeLibc();
    let code = 0;
    libc.errno = () => code;
    for (const call of calls) {
      libc[call] = () => {
        code = call === name ? errno as number : EBADF;
        return -1;
      };
    }
    const shown = name === "epollControl" ? "epoll_ctl" : name;
    assertEquals(
      refused(libc),
      errno !== EPERM ? "" : `the system refuses ${shown} (os error 1)`,
    );
  }
});

Deno.test("clockStateOf(): reads the kernel's state of the clock", () => {
  const libc = new FakeLibc();
  libc.clock = [0, 1500n];
  assertEquals(clockStateOf(libc), { synchronized: true, maxErrorMs: 1.5 });
  libc.clock = [5, 16_000_000n];
  assertEquals(clockStateOf(libc), { synchronized: false, maxErrorMs: 16_000 });
  libc.clock = [-EPERM, 0n];
  assertEquals(clockStateOf(libc), undefined);
});

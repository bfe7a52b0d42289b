import { assert, assertEquals } from "@std/assert";
import type { UdpAddress } from "../../lib/address.ts";
import {
  Guard,
  guardLimits,
  type GuardOptions,
  networkOf,
} from "../../lib/server/guard.ts";
import { seededRandom } from "../../lib/testing/mod.ts";

const LOCAL: UdpAddress = { hostname: "198.51.100.1", port: 20001 };
const PEER: UdpAddress = { hostname: "192.0.2.7", port: 40000 };

/** A guard, and a clock for it. */
function make(options: GuardOptions = { rateLimit: 0 }, local = LOCAL) {
  const clock = { now: 1000 };
  const own = new Set<string>();
  let asked = 0;
  const guard = new Guard(options, local, {
    now: () => clock.now,
    ownsAddress(hostname) {
      asked++;
      return own.has(hostname);
    },
  });
  return { clock, guard, own, asked: () => asked };
}

Deno.test("guardLimits(): has no limits on loopback by default", () => {
  const limit = (hostname: string, options: GuardOptions = {}) =>
    guardLimits(options, { hostname, port: 1 });
  assertEquals(limit("127.0.0.1"), { maxAmplification: 0, rateLimit: 0 });
  assertEquals(limit("::1"), { maxAmplification: 0, rateLimit: 0 });
  assertEquals(limit("0.0.0.0"), { maxAmplification: 3, rateLimit: 1000 });
  assertEquals(limit("0.0.0.0", { rateLimit: 0 }).rateLimit, 0);
  assertEquals(limit("127.0.0.1", { rateLimit: 5 }).rateLimit, 5);
  assertEquals(limit("127.0.0.1", { trusted: [] }), {
    maxAmplification: 3,
    rateLimit: 1000,
  });
});

Deno.test("Guard.permit(): bounds amplification by 3 times the request, on the wire", () => {
  const { guard } = make();
  const answered = (remote: UdpAddress, request: number, answer: number) =>
    guard.permit(remote, new Uint8Array(request), new Uint8Array(answer));
  // IPv4: 28 bytes of headers on either side, so 0 bytes may get 3 * 28 - 28.
  for (const [request, most] of [[0, 56], [1, 59], [16, 104], [100, 356]]) {
    assertEquals(answered(PEER, request!, most!), undefined);
    assertEquals(answered(PEER, request!, most! + 1), "amplification");
  }
  // IPv6: 48.
  const peer = { hostname: "2001:db8::7", port: 40000 };
  assertEquals(answered(peer, 0, 96), undefined);
  assertEquals(answered(peer, 0, 97), "amplification");
  assertEquals(answered(PEER, 1, 1400), "amplification");
});

Deno.test("Guard.permit(): accepts another factor, and 0 for none", () => {
  const permit = (maxAmplification: number, request: number, answer: number) =>
    make({ maxAmplification, rateLimit: 0 }).guard.permit(
      PEER,
      new Uint8Array(request),
      new Uint8Array(answer),
    );
  assertEquals(permit(1, 10, 10), undefined);
  assertEquals(permit(1, 10, 11), "amplification");
  assertEquals(permit(1.5, 10, 29), undefined);
  assertEquals(permit(1.5, 10, 30), "amplification");
  assertEquals(permit(0, 0, 65_507), undefined);
});

Deno.test("Guard.permit(): allows a network N answers a second, and a burst", () => {
  const { guard, clock } = make({ rateLimit: 10 });
  const ask = (hostname: string) =>
    guard.permit(
      { hostname, port: 1024 },
      new Uint8Array(1),
      new Uint8Array(1),
    );
  const answered = (hostname: string, times: number) =>
    Array.from({ length: times }, () => ask(hostname))
      .filter((refusal) => refusal === undefined).length;
  assertEquals(answered("192.0.2.1", 20), 10);
  // All hosts of a network share a bucket; another network has its own.
  assertEquals(ask("192.0.2.200"), "rate");
  assertEquals(answered("192.0.3.1", 20), 10);
  clock.now += 500;
  assertEquals(answered("192.0.2.1", 20), 5);
  clock.now += 3_600_000;
  assertEquals(answered("192.0.2.1", 20), 10);
});

Deno.test("Guard.permit(): changes no allowance when the clock steps", () => {
  const { guard, clock } = make({ rateLimit: 10 });
  const ask = () => guard.permit(PEER, new Uint8Array(1), new Uint8Array(1));
  for (let i = 0; i < 10; i++) assertEquals(ask(), undefined);
  clock.now -= 1_000_000;
  assertEquals(ask(), "rate");
  clock.now += 100;
  assertEquals(ask(), undefined);
  assertEquals(ask(), "rate");
});

Deno.test("networkOf(): is the /24 of IPv4 and the /56 of IPv6", () => {
  const same: Array<[string, string]> = [
    ["192.0.2.1", "192.0.2.255"],
    ["2001:db8:1:200::1", "2001:db8:1:2ff:1:2:3:4"],
    ["2001:db8::1", "2001:db8::2:3"],
    ["2001:db8::1", "2001:db8:0:ff::1"],
    ["::1", "::2"],
    ["fe80::1%eth0", "fe80::2"],
    ["2001:db8:1:0:1:2:3:4", "2001:db8:1::9"],
  ];
  for (const [a, b] of same) {
    assertEquals(networkOf(a), networkOf(b), `${a} ${b}`);
  }
  const different: Array<[string, string]> = [
    ["192.0.2.1", "192.0.3.1"],
    ["2001:db8:1:200::1", "2001:db8:1:300::1"],
    ["2001:db8:1::1", "2001:db8:2::1"],
    ["::1", "1::"],
    ["2001:db8::1", "2001:db8:0:100::1"],
  ];
  for (const [a, b] of different) {
    assert(networkOf(a) !== networkOf(b), `${a} ${b}`);
  }
});

Deno.test("Guard.admit(): refuses the ports of services that answer any datagram", () => {
  const { guard } = make();
  for (const port of [0, 7, 13, 17, 19, 37]) {
    assertEquals(guard.admit({ ...PEER, port }), "port");
  }
  for (const port of [1, 53, 123, 862, 1024, 65_535]) {
    assertEquals(guard.admit({ ...PEER, port }), undefined);
  }
});

Deno.test("Guard.admit(): refuses sources that no host can have", () => {
  const { guard } = make();
  const ask = (hostname: string) => guard.admit({ hostname, port: 1024 });
  for (
    const hostname of [
      "255.255.255.255",
      "224.0.0.1",
      "239.1.2.3",
      "240.0.0.1",
      "0.0.0.0",
      "0.1.2.3",
      "ff02::1",
      "ff0e::1",
      "::",
    ]
  ) assertEquals(ask(hostname), "source", hostname);
  for (
    const hostname of [
      "127.0.0.1",
      "223.255.255.254",
      "::1",
      "fe80::1%eth0.100",
      "ff::1",
      "fe80::1",
    ]
  ) assertEquals(ask(hostname), undefined, hostname);
});

Deno.test("Guard.admit(): refuses the server's own address and port", () => {
  const { guard } = make();
  assertEquals(guard.admit(LOCAL), "self");
  assertEquals(guard.admit({ ...LOCAL, port: 20002 }), undefined);
  const other = { ...LOCAL, hostname: "198.51.100.2" };
  assertEquals(guard.admit(other), undefined);
  const wildcard = make({}, { hostname: "0.0.0.0", port: 20001 }).guard;
  const loopback = { hostname: "127.0.0.1", port: 20001 };
  assertEquals(wildcard.admit(loopback), "self");
  assertEquals(wildcard.admit(LOCAL), undefined);
});

Deno.test("Guard.admit(): knows the machine's addresses on a wildcard server", () => {
  for (const hostname of ["0.0.0.0", "::"]) {
    const { guard, own, clock, asked } = make({}, { hostname, port: 20001 });
    own.add("192.0.2.7");
    for (let i = 0; i < 3; i++) {
      const own = { hostname: "192.0.2.7", port: 20001 };
      assertEquals(guard.admit(own), "self");
      assertEquals(guard.admit({ ...own, port: 20002 }), undefined);
      clock.now += 100;
      assertEquals(guard.admit({ ...own, hostname: "192.0.2.8" }), undefined);
      clock.now += 100;
    }
    assertEquals(asked(), 2, "each address once");
    // Forged addresses do not cause unlimited lookups.
    for (let i = 0; i < 200; i++) {
      guard.admit({ hostname: `203.0.113.${i}`, port: 20001 });
    }
    assertEquals(asked(), 3);
  }
});

Deno.test("Guard.admit(): looks up the machine's addresses until they are known", () => {
  const { guard, own, clock } = make({}, { hostname: "0.0.0.0", port: 20001 });
  own.add("192.0.2.7");
  guard.admit({ hostname: "203.0.113.1", port: 20001 });
  // Too early for another lookup; with the same object, as from an engine.
  const peer = { hostname: "192.0.2.7", port: 20001 };
  assertEquals(guard.admit(peer), undefined);
  clock.now += 10;
  assertEquals(guard.admit(peer), "self");
});

Deno.test("Guard.permit(): a factor below 1 refuses small answers too", () => {
  const { guard } = make({ maxAmplification: 0.5 });
  const small = new Uint8Array(1);
  assertEquals(guard.permit(PEER, small, small), "amplification");
  assertEquals(guard.permit(PEER, new Uint8Array(100), small), undefined);
});

/** The number of answers that a network gets now, of `most`. */
function taken(guard: Guard, hostname: string, most: number): number {
  const answer = new Uint8Array(1);
  let count = 0;
  while (
    count < most &&
    guard.permit({ hostname, port: 1 }, answer, answer) === undefined
  ) count++;
  return count;
}

/** One answer each to `networks` other networks, as to forged sources. */
function flood(guard: Guard, networks: number, from = 0): void {
  for (let i = from; i < from + networks; i++) {
    taken(guard, `10.${(i >> 8) & 255}.${i & 255}.1`, 1);
  }
}

Deno.test("Guard.permit(): a flood of forged networks renews no burst", () => {
  const { guard, clock } = make({ rateLimit: 100 });
  assertEquals(taken(guard, "192.0.2.1", 200), 100);
  clock.now += 1000;
  assertEquals(taken(guard, "192.0.2.1", 200), 100);
  assertEquals(taken(guard, "192.0.3.1", 1), 1);
  // Each twice: only time proves a network.
  for (let i = 0; i < 20_001; i++) for (const _ of [1, 2]) flood(guard, 1, i);
  assertEquals(taken(guard, "192.0.2.1", 200), 0, "remembered");
  assertEquals(taken(guard, "192.0.3.1", 200), 5, "a twentieth, in a crowd");
});

Deno.test("Guard.permit(): a network known before a flood loses no answer", () => {
  const { guard, clock } = make({ rateLimit: 1000 });
  let answered = 0;
  assertEquals(taken(guard, "192.0.2.1", 2), 2);
  for (let second = 0; second < 10; second++) {
    for (let tick = 0; tick < 10; tick++) {
      clock.now += 100;
      flood(guard, 2000, 2000 * (10 * second + tick));
    }
    answered += taken(guard, "192.0.2.1", 20);
  }
  assertEquals(answered, 200);
});

Deno.test("Guard.permit(): networks that send twice in a flood displace none", () => {
  const { guard, clock } = make({ rateLimit: 1000 });
  assertEquals(taken(guard, "192.0.2.1", 1), 1);
  clock.now += 1000;
  assertEquals(taken(guard, "192.0.2.1", 1), 1);
  let answered = 0;
  for (let second = 0; second < 10; second++) {
    for (let i = 0; i < 13_000; i++) {
      for (const _ of [1, 2].slice(i & 1)) flood(guard, 1, 13_000 * second + i);
    }
    clock.now += 1000;
    answered += taken(guard, "192.0.2.1", 500);
  }
  assertEquals(answered, 5000);
});

Deno.test("Guard: memory is bounded for any number of sources", () => {
  const { guard, clock } = make({ rateLimit: 10 });
  const random = seededRandom(1);
  const byte = () => Math.floor(random() * 256);
  for (let i = 0; i < 300_000; i++) {
    clock.now += 0.01;
    const hostname = `${1 + byte() % 200}.${byte()}.${byte()}.${byte()}`;
    const remote = { hostname, port: 1024 + byte() };
    guard.admit(remote);
    guard.permit(remote, new Uint8Array(1), new Uint8Array(1));
  }
  assert(guard.size > 5000 && guard.size <= 20_000, `${guard.size}`);
});

Deno.test("Guard: trusted networks have no limits, and loops end there too", () => {
  const sizes = (options: GuardOptions, hostname: string) => {
    const { guard } = make(options, { hostname: "0.0.0.0", port: 20001 });
    const remote = { hostname, port: 40000 };
    const large = new Uint8Array(1000);
    const asked = Array.from(
      { length: 3 },
      () => guard.permit(remote, new Uint8Array(1), large),
    );
    return [guard.maxReplyBytes(remote, 1), ...asked];
  };
  const full = [Infinity, undefined, undefined, undefined];
  const limited = [59, ...Array(3).fill("amplification")];
  assertEquals(sizes({}, "127.0.0.1"), full);
  assertEquals(sizes({}, "::1"), full);
  assertEquals(sizes({}, "10.1.2.3"), limited);
  const trusted = ["10.0.0.0/8", "fd00::/8"];
  assertEquals(sizes({ trusted }, "10.1.2.3"), full);
  assertEquals(sizes({ trusted }, "fdff::1"), full);
  assertEquals(sizes({ trusted }, "11.1.2.3"), limited);
  assertEquals(sizes({ trusted }, "127.0.0.1"), limited);
  // A limit that is set holds for loopback too, a default does not.
  assertEquals(sizes({ maxAmplification: 3 }, "127.0.0.1"), limited);
  assertEquals(sizes({ rateLimit: 2 }, "127.0.0.1"), [
    Infinity,
    undefined,
    undefined,
    "rate",
  ]);
  const { guard } = make({ trusted }, { hostname: "10.0.0.1", port: 20001 });
  assertEquals(guard.admit({ hostname: "10.0.0.1", port: 20001 }), "self");
});

Deno.test("Guard.maxReplyBytes(): is the limit of permit(), after other answers too", () => {
  for (const hostname of ["192.0.2.7", "2001:db8::7"]) {
    const remote = { hostname, port: 40000 };
    for (const maxAmplification of [0.5, 1, 1.5, 3]) {
      const { guard } = make({ maxAmplification, rateLimit: 0 });
      for (const request of [0, 1, 16, 333]) {
        for (const spent of [0, 40, 300]) {
          const most = guard.maxReplyBytes(remote, request, spent);
          const permit = (bytes: number) =>
            guard.permit(
              remote,
              new Uint8Array(request),
              new Uint8Array(bytes),
              spent,
            );
          if (most >= 0) assertEquals(permit(most), undefined);
          assertEquals(permit(Math.max(most + 1, 0)), "amplification");
        }
      }
    }
  }
});

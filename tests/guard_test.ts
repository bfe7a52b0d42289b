import { assert, assertEquals } from "@std/assert";
import type { UdpAddress } from "../lib/address.ts";
import { encode } from "../lib/encoding.ts";
import {
  fixedReplies,
  Guard,
  guardLimits,
  type GuardOptions,
  networkOf,
} from "../lib/guard.ts";
import { seededRandom } from "./simulated_network.ts";

const LOCAL: UdpAddress = { hostname: "198.51.100.1", port: 20001 };
const PEER: UdpAddress = { hostname: "192.0.2.7", port: 40000 };

/** A guard, and a clock for it. */
function make(options: GuardOptions = { rateLimit: 0 }, local = LOCAL) {
  const clock = { now: 1000 };
  const limits = guardLimits(options, local);
  return { clock, guard: new Guard(limits, local, () => clock.now) };
}

Deno.test("guardLimits() limits the rate unless bound to loopback, or set", () => {
  const limit = (hostname: string, options: GuardOptions = {}) =>
    guardLimits(options, { hostname, port: 1 });
  assertEquals(limit("127.0.0.1"), { maxAmplification: 3, rateLimit: 0 });
  assertEquals(limit("::1"), { maxAmplification: 3, rateLimit: 0 });
  assertEquals(limit("0.0.0.0"), { maxAmplification: 3, rateLimit: 1000 });
  assertEquals(limit("0.0.0.0", { rateLimit: 0 }).rateLimit, 0);
  assertEquals(limit("127.0.0.1", { rateLimit: 5 }).rateLimit, 5);
});

Deno.test("permit() keeps answers within 3 times the request, on the wire", () => {
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

Deno.test("permit() takes another factor, and 0 for none", () => {
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

Deno.test("permit() gives a network so many answers a second, and a burst", () => {
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
  // The same network, whatever the host; another has a bucket of its own.
  assertEquals(ask("192.0.2.200"), "rate");
  assertEquals(answered("192.0.3.1", 20), 10);
  clock.now += 500;
  assertEquals(answered("192.0.2.1", 20), 5);
  clock.now += 3_600_000;
  assertEquals(answered("192.0.2.1", 20), 10);
});

Deno.test("permit() neither gives nor takes when the clock steps", () => {
  const { guard, clock } = make({ rateLimit: 10 });
  const ask = () => guard.permit(PEER, new Uint8Array(1), new Uint8Array(1));
  for (let i = 0; i < 10; i++) assertEquals(ask(), undefined);
  clock.now -= 1_000_000;
  assertEquals(ask(), "rate");
  clock.now += 100;
  assertEquals(ask(), undefined);
  assertEquals(ask(), "rate");
});

Deno.test("networkOf() is the /24 of IPv4 and the /56 of IPv6", () => {
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

Deno.test("admit() refuses the ports of services that answer anything", () => {
  const { guard } = make();
  for (const port of [0, 7, 13, 17, 19, 37]) {
    assertEquals(guard.admit({ ...PEER, port }, encode("x")), "port");
  }
  for (const port of [1, 53, 123, 862, 1024, 65_535]) {
    assertEquals(guard.admit({ ...PEER, port }, encode("x")), undefined);
  }
});

Deno.test("admit() refuses sources that no host can have", () => {
  const { guard } = make();
  const ask = (hostname: string) =>
    guard.admit({ hostname, port: 1024 }, encode("x"));
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
      "ff::1",
      "fe80::1",
    ]
  ) assertEquals(ask(hostname), undefined, hostname);
});

Deno.test("admit() refuses the server's own address and port", () => {
  const { guard } = make();
  assertEquals(guard.admit(LOCAL, encode("x")), "self");
  assertEquals(guard.admit({ ...LOCAL, port: 20002 }, encode("x")), undefined);
  const other = { ...LOCAL, hostname: "198.51.100.2" };
  assertEquals(guard.admit(other, encode("x")), undefined);
  const wildcard = make({}, { hostname: "0.0.0.0", port: 20001 }).guard;
  const loopback = { hostname: "127.0.0.1", port: 20001 };
  assertEquals(wildcard.admit(loopback, encode("x")), "self");
  assertEquals(wildcard.admit(LOCAL, encode("x")), undefined);
});

Deno.test("permit() refuses a datagram with the server's own fixed reply", () => {
  const { guard } = make();
  const reply = encode("Hello UDP Client");
  const same = encode("Hello UDP Client");
  assertEquals(guard.permit(PEER, same, reply), undefined, "an echo");
  fixedReplies.add(reply);
  assertEquals(guard.permit(PEER, same, reply), "ownReply");
  assertEquals(
    guard.permit(PEER, encode("Hello UDP Server"), reply),
    undefined,
  );
});

/** Datagrams of one peer until one is refused; how many, and after what time. */
function untilRefused(
  { guard, clock }: ReturnType<typeof make>,
  everyMs: number,
  payload: (i: number) => string,
  most = 20_000,
): { count: number; ms: number } | undefined {
  const start = clock.now;
  for (let count = 1; count <= most; count++) {
    const refusal = guard.admit(PEER, encode(payload(count)));
    if (refusal === "loop") return { count, ms: clock.now - start };
    assertEquals(refusal, undefined);
    clock.now += everyMs;
  }
}

Deno.test("admit() ends a loop within a second, fast or slow, again and again", () => {
  for (const roundTripMs of [0.05, 0.2, 1, 3]) {
    const made = make();
    for (let times = 0; times < 3; times++) {
      const ended = untilRefused(made, roundTripMs, () => "alike");
      assert(ended !== undefined && ended.ms < 1000, `${roundTripMs} ms`);
    }
  }
});

Deno.test("admit() ends a loop beside other traffic from many sources", () => {
  const { guard, clock } = make();
  const random = seededRandom(7);
  for (let i = 0; i < 200_000; i++) {
    clock.now += 0.005;
    if (i % 20 === 0) {
      if (guard.admit(PEER, encode("alike")) === "loop") {
        assert(clock.now < 2000);
        return;
      }
    } else {
      const host = () => Math.floor(random() * 256);
      const hostname = `10.${host()}.${host()}.${host()}`;
      guard.admit({ hostname, port: 5000 }, encode(`${i}`));
    }
  }
  throw new Error("The loop has not ended");
});

Deno.test("admit() never notices a client whose datagrams differ", () => {
  assertEquals(untilRefused(make(), 0.1, (i) => `ping ${i}`), undefined);
  const long = "x".repeat(1000);
  assertEquals(untilRefused(make(), 0.1, (i) => `${i}${long}`), undefined);
  assertEquals(untilRefused(make(), 0.1, (i) => `${long}${i}`), undefined);
});

Deno.test("admit() never notices a client that repeats itself for a while, or with pauses", () => {
  assertEquals(untilRefused(make(), 0.1, () => "alike", 4000), undefined);
  assertEquals(untilRefused(make(), 100, () => "alike", 200), undefined);
  assertEquals(untilRefused(make(), 1000, () => "alike"), undefined);
});

Deno.test("a guard's memory is bounded, however many sources there are", () => {
  const { guard, clock } = make({ rateLimit: 10 });
  const random = seededRandom(1);
  const byte = () => Math.floor(random() * 256);
  for (let i = 0; i < 300_000; i++) {
    clock.now += 0.01;
    const hostname = `${1 + byte() % 200}.${byte()}.${byte()}.${byte()}`;
    const remote = { hostname, port: 1024 + byte() };
    guard.admit(remote, new Uint8Array(1));
    guard.permit(remote, new Uint8Array(1), new Uint8Array(1));
  }
  assert(guard.size > 10_000 && guard.size <= 24_096, `${guard.size}`);
});

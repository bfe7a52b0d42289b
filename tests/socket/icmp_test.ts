import { assertEquals } from "@std/assert";
import { meaningOf, quoteIn } from "../../lib/socket/icmp.ts";

Deno.test("meaningOf(): the kinds of ICMP messages about a path, of both versions", () => {
  const cases: Array<[boolean, number, number, number, object | undefined]> = [
    [false, 11, 0, 0, { kind: "expired" }],
    [true, 3, 0, 0, { kind: "expired" }],
    // The time for the reassembly of fragments.
    [false, 11, 1, 0, undefined],
    [false, 3, 3, 0, { kind: "closed" }],
    [true, 1, 4, 0, { kind: "closed" }],
    [false, 3, 4, 1300, { kind: "too-big", mtu: 1300 }],
    [false, 3, 4, 0, { kind: "too-big" }],
    [true, 2, 0, 1280, { kind: "too-big", mtu: 1280 }],
    [false, 3, 0, 0, { kind: "unreachable", mark: "!N" }],
    [true, 1, 0, 0, { kind: "unreachable", mark: "!N" }],
    [false, 3, 1, 0, { kind: "unreachable", mark: "!H" }],
    [true, 1, 3, 0, { kind: "unreachable", mark: "!H" }],
    [false, 3, 13, 0, { kind: "unreachable", mark: "!X" }],
    [true, 1, 1, 0, { kind: "unreachable", mark: "!X" }],
    [false, 3, 7, 0, { kind: "unreachable", mark: "!7" }],
    // An echo reply, and a neighbour's advertisement.
    [false, 0, 0, 0, undefined],
    [true, 136, 0, 0, undefined],
  ];
  for (const [isIPv6, type, code, mtu, meaning] of cases) {
    assertEquals(meaningOf(isIPv6, type, code, mtu), meaning);
  }
});

/** Pieces of hex digits as bytes. */
const bytes = (...hex: string[]) =>
  Uint8Array.fromHex(hex.join("").replaceAll(" ", ""));

const OUTER = "45c0 0058 0001 0000 4001 0000 0a010002 0a010001";
const EXPIRED = "0b00 0000 0000 0000";
const INNER = "4520 003c 0002 4000 0111 0000 0a010001 0a060002";
const UDP = "9c40 829a 0010 abcd";
const DATA = "0000000700000001";

Deno.test("quoteIn(): IPv4, with options in either header", () => {
  const quote = {
    kind: "expired",
    from: "10.1.0.2",
    trafficClass: 0x20,
    to: "10.6.0.2",
    sourcePort: 40_000,
    port: 33_434,
    data: bytes(DATA),
  };
  assertEquals(
    quoteIn(bytes(OUTER, EXPIRED, INNER, UDP, DATA), false),
    quote as never,
  );
  const options = "01010101";
  const longer = [OUTER, INNER].map((ip) => ip.replace("45", "46") + options);
  assertEquals(
    quoteIn(bytes(longer[0]!, EXPIRED, longer[1]!, UDP, DATA), false),
    quote as never,
  );
});

Deno.test("quoteIn(): eight bytes of the datagram, and what a router adds behind it", () => {
  const brief = quoteIn(bytes(OUTER, EXPIRED, INNER, UDP), false);
  assertEquals([brief?.sourcePort, brief?.data.length], [40_000, 0]);
  // Padding and extensions (RFC 4884) are none of the datagram.
  const padded = bytes(OUTER, EXPIRED, INNER, UDP, DATA, "00".repeat(120));
  assertEquals(quoteIn(padded, false)?.data, bytes(DATA));
});

Deno.test("quoteIn(): IPv6, without the outer header", () => {
  const address = (last: number) => `fd06${"00".repeat(13)}0${last}`;
  const inner = `6 2e abcde 0030 11 01 ${address(1)} ${address(2)}`;
  const tooBig = "0200 0000 0000 0514";
  assertEquals(quoteIn(bytes(tooBig, inner, UDP, DATA), true), {
    kind: "too-big",
    mtu: 1300,
    from: undefined,
    trafficClass: 0x2e,
    to: "fd06::2",
    sourcePort: 40_000,
    port: 33_434,
    data: bytes(DATA),
  });
});

Deno.test("quoteIn(): nothing of other protocols, other messages and truncated ones", () => {
  const whole = bytes(OUTER, EXPIRED, INNER, UDP, DATA);
  for (let length = 0; length < 54; length++) {
    assertEquals(quoteIn(whole.subarray(0, length), false), undefined);
    assertEquals(
      quoteIn(whole.subarray(0, Math.min(length, 15)), true),
      undefined,
    );
  }
  const tcp = INNER.replace("0111", "0106");
  assertEquals(quoteIn(bytes(OUTER, EXPIRED, tcp, UDP), false), undefined);
  const echo = EXPIRED.replace("0b", "00");
  assertEquals(quoteIn(bytes(OUTER, echo, INNER, UDP), false), undefined);
});

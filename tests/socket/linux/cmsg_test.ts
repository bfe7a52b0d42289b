import { assertEquals } from "@std/assert";
import {
  controlFacts,
  decodeControl,
  destinationBytes,
  destinationHostname,
  encodeControl,
  replySource,
  segmentControl,
  sourceControl,
  trafficClassControl,
} from "../../../lib/socket/linux/cmsg.ts";
import { AF_INET, AF_INET6 } from "../../../lib/socket/linux/layout.ts";

const hex = (text: string) => Uint8Array.fromHex(text.replaceAll(/\s/g, ""));

// cmsg_len, cmsg_level, cmsg_type, then the data, padded to 8 bytes.
const GRO = "1400000000000000 11000000 68000000 10000000 00000000";
const PKTINFO =
  "1c00000000000000 00000000 08000000 02000000 7f000002 7f000003 00000000";
const PKTINFO6 = "2400000000000000 29000000 32000000 " +
  "20010db8000000000000000000000001 02000000 00000000";
const TTL = "1400000000000000 00000000 02000000 3d000000 00000000";
const TTL6 = "1400000000000000 29000000 34000000 3e000000 00000000";
// A byte, and bytes of padding behind it.
const TOS = "1100000000000000 00000000 01000000 b8eeeeee eeeeeeee";
const TCLASS = "1400000000000000 29000000 43000000 b9000000 00000000";
const STAMP = "2000000000000000 01000000 23000000 " +
  "0500000000000000 90d0030000000000";
const UNKNOWN = "1400000000000000 11000000 63000000 07000000 00000000";
const ERROR = "2000000000000000 00000000 0b000000 " +
  "6f000000 02030300 00000000 00000000";

const NONE = {
  segmentBytes: 0,
  stampMs: undefined,
  destinationAt: -1,
  errorAt: -1,
};

Deno.test("controlFacts(): reads every control message, in any order", () => {
  const cases: Array<[string, Record<string, number>]> = [
    ["", {}],
    [GRO, { segmentBytes: 16 }],
    [PKTINFO + GRO, { destinationAt: 0, segmentBytes: 16 }],
    [GRO + PKTINFO6, { destinationAt: 6, segmentBytes: 16 }],
    [TTL + TOS, { ttl: 61, trafficClass: 184 }],
    [TCLASS + TTL6, { ttl: 62, trafficClass: 185 }],
    [STAMP + UNKNOWN + TTL, { stampMs: 5000.25, ttl: 61 }],
    [UNKNOWN + ERROR, { errorAt: 40 }],
  ];
  for (const [text, facts] of cases) {
    assertEquals(controlFacts(hex(text)), { ...NONE, ...facts });
  }
});

Deno.test("controlFacts(): ends at malformed and truncated messages", () => {
  const zeros = new Uint8Array(40);
  assertEquals(controlFacts(zeros), { ...NONE }, "of no length");
  for (let bytes = 0; bytes < 20; bytes++) {
    assertEquals(controlFacts(hex(GRO).subarray(0, bytes)), { ...NONE });
  }
});

Deno.test("decodeControl(): reads between two words, and leaves all else as it is", () => {
  const bytes = hex(GRO + TTL + GRO);
  const facts = { ...NONE, trafficClass: 3, ttl: 0 };
  decodeControl(new Uint32Array(bytes.buffer), 6, 12, facts);
  assertEquals(facts, { ...NONE, trafficClass: 3, ttl: 61 });
});

Deno.test("replySource(): keeps the address asked, and leaves the interface open", () => {
  assertEquals(
    replySource(hex(GRO + PKTINFO), 24),
    hex(PKTINFO.replace("02000000 7f000002", "00000000 7f000002")),
  );
  assertEquals(
    replySource(hex(PKTINFO6), 0),
    hex(PKTINFO6.replace("02000000 00000000", "00000000 00000000")),
  );
  const linkLocal = PKTINFO6.replace("20010db8", "fe800000");
  assertEquals(replySource(hex(linkLocal), 0), hex(linkLocal));
});

Deno.test("encodeControl(): has the length, the level, the type and the data", () => {
  assertEquals(
    encodeControl(0, 8, hex(PKTINFO).subarray(16, 28)),
    hex(PKTINFO).subarray(0, 28),
  );
  assertEquals(
    segmentControl(1200),
    hex("1200000000000000 11000000 67000000 b004"),
  );
  assertEquals(
    trafficClassControl(184, "192.0.2.1"),
    hex("1400000000000000 00000000 01000000 b8000000"),
  );
  assertEquals(
    trafficClassControl(184, "::1"),
    hex("1400000000000000 29000000 43000000 b8000000"),
  );
});

Deno.test("destinationHostname(): has the interface of link-local addresses only", () => {
  const at = hex(GRO + PKTINFO);
  assertEquals(destinationHostname(destinationBytes(at, 24)), "127.0.0.3");
  const address = (start: string) =>
    destinationHostname(destinationBytes(
      hex(PKTINFO6.replace("20010db8", start)),
      0,
    ));
  assertEquals(address("ab010db8"), "ab01:db8::1");
  assertEquals(address("fe800000"), "fe80::1%2");
});

Deno.test("sourceControl(): has a reply leave from an address, and by its interface", () => {
  assertEquals(
    sourceControl("127.0.0.2", AF_INET),
    hex("1c00000000000000 00000000 08000000 00000000 7f000002 00000000"),
  );
  const v6 = "2400000000000000 29000000 32000000 ";
  assertEquals(
    sourceControl("2001:db8::1", AF_INET6),
    hex(`${v6} 20010db8000000000000000000000001 00000000`),
  );
  assertEquals(
    sourceControl("fe80::1%3", AF_INET6),
    hex(`${v6} fe800000000000000000000000000001 03000000`),
  );
  assertEquals(
    sourceControl("127.0.0.2", AF_INET6),
    hex(`${v6} 00000000000000000000ffff7f000002 00000000`),
  );
});

import { assertEquals } from "@std/assert";
import { seal, unseal } from "../../lib/stamp/auth.ts";
import {
  decodeReflector,
  elapsedMs,
  encodeSender,
} from "../../lib/stamp/packet.ts";
import { traitsOf } from "../../lib/server/handler.ts";
import {
  type ReflectorOptions,
  stampReflector,
} from "../../lib/stamp/reflector.ts";
import {
  infoOf,
  SimulatedNetwork,
  TIME_ORIGIN,
} from "../../lib/testing/mod.ts";
import { hex, KEY, shown } from "./tlv_bytes.ts";

/** A reflector, and what it makes of TLVs; times are seconds after the origin. */
function make(
  options: ReflectorOptions = {},
  from = "192.0.2.7",
  trafficClass?: number,
) {
  const network = new SimulatedNetwork();
  const clockState = () => ({ synchronized: true, maxErrorMs: 1 });
  const runtime = { ...network.runtime, clockState };
  const reflector = stampReflector({ runtime, ...options });
  if (trafficClass !== undefined) traitsOf(reflector).departure!.isAsked = true;
  const localAddr = {
    hostname: from.includes(":") ? "2001:db8::1" : "198.51.100.1",
    port: 862,
  };
  const info = {
    ...infoOf({ hostname: from, port: 40_000 }),
    localAddr,
    trafficClass,
  };
  const ask = (tlvs: string, sequence = 7, key?: Uint8Array) => {
    const base = encodeSender({
      sequence,
      timestamp: { seconds: TIME_ORIGIN / 1000 + sequence, nanoseconds: 0 },
      errorEstimate: {
        synchronized: false,
        ptp: true,
        scale: 0,
        multiplier: 1,
      },
      ssid: 0,
    });
    const plain = new Uint8Array([...base, ...hex(tlvs)]);
    const request = key === undefined ? plain : seal(plain, key);
    const reply = reflector(request, info) as Uint8Array | undefined;
    return key === undefined ? reply : reply && unseal(reply, key);
  };
  const tail = (...args: Parameters<typeof ask>) =>
    ask(...args)!.subarray(44).toHex();
  return { network, reflector, ask, tail };
}

Deno.test("answerTlvs(): padding is returned unchanged, Extra Padding with U cleared", () => {
  const { tail } = make();
  assertEquals(tail("80010002aabb"), "00010002aabb");
  assertEquals(tail("80010000 80010001ff"), shown("00010000 00010001ff"));
  const long = `01012c ${"ab".repeat(300)}`;
  assertEquals(tail(`80${long}`), shown(`00${long}`));
  for (const padding of ["", "ff", "000000", "00000000ffff", "ffffffffffff"]) {
    assertEquals(tail(padding), padding);
  }
});

Deno.test("answerTlvs(): unknown types keep their U flag, also those of RFC 9503 and a class that is not received", () => {
  const { tail } = make();
  const unknown = "800400041a000000 8009000401020304 80fe0000";
  assertEquals(tail(unknown), shown(unknown));
  assertEquals(tail(`${unknown} 80010000`), shown(`${unknown} 00010000`));
});

Deno.test("answerTlvs(): a wrong length sets M, and nothing after it is read", () => {
  const { tail } = make();
  // Cut off by the end of the packet.
  assertEquals(
    tail("80010001aa 80010005aabb"),
    shown("00010001aa c0010005aabb"),
  );
  for (const tlv of ["80030003 000000", "8005000b 00000000 00000000 000000"]) {
    assertEquals(
      tail(`80010000 ${tlv} 80010000`),
      shown(`00010000 ${tlv} 80010000`.replace(/80(03|05)/, "40$1")),
    );
  }
  // Its first two fields are emptied then.
  assertEquals(
    tail("8007000d 11111111 2222222222222222 33"),
    shown("4007000d 00000000 0000000000000000 33"),
  );
});

Deno.test("answerTlvs(): 32 TLVs are answered, and 32 parts of a location", () => {
  const { tail } = make();
  const [padding, answered] = ["80010000", "00010000"];
  assertEquals(
    tail(padding.repeat(16_250)),
    answered.repeat(32) + padding.repeat(16_250 - 32),
  );
  // A source's MAC address, unknown here, becomes an EUI-64 of zeros.
  const [place, zeros] = ["80010008", "00030008"].map((head) =>
    head + "00".repeat(8)
  ) as [string, string];
  const header = `8002${(4 + 12 * 40).toString(16).padStart(4, "0")}`;
  assertEquals(
    tail(`${header}00000000${place.repeat(40)}`).slice(16),
    zeros.repeat(32) + place.repeat(8),
  );
});

Deno.test("answerTlvs(): a location has the ports and addresses of the request", () => {
  const asked = "80020028 00000000" +
    "80010008 0000000000000000 80040010 00000000000000000000000000000000" +
    "80030000";
  const { tail } = make();
  // The sub-TLV that nobody asks for stays as it is.
  assertEquals(
    tail(
      "80020024 00000000" +
        "80010008 0000000000000000 80040010 00000000000000000000000000000000",
    ),
    shown(
      "00020024 035e 9c40" +
        "00030008 0000000000000000 00050010 c6336401000000000000000000000000",
    ),
  );
  assertEquals(tail(asked).slice(0, 16), shown("00020028 035e9c40"));
  const six = make({}, "2001:db8::7");
  assertEquals(
    six.tail(
      "8002002c 00000000 80040010 00000000000000000000000000000000" +
        "80070010 00000000000000000000000000000000",
    ),
    shown(
      "0002002c 035e9c40 00060010 20010db8000000000000000000000001" +
        "00090010 20010db8000000000000000000000007",
    ),
  );
  assertEquals(
    tail("80020008 00000000 80040000"),
    shown("00020008 035e9c40 40040000"),
  );
  assertEquals(tail("80020003 000000"), shown("40020003 000000"));
});

Deno.test("answerTlvs(): clock, counts and the reply before are reported on request", () => {
  const { network, tail } = make();
  // NTP, stamped by software, in and out.
  assertEquals(tail("80030004 00000000", 0), shown("00030004 01020102"));
  network.now = 1500;
  const counts = "8005000c 00000002 00000000 00000000";
  assertEquals(tail(counts, 2), shown("0005000c 00000002 00000002 00000002"));
  network.now = 2500;
  // The second reply, numbered 1, was sent 1.5 s after the start.
  const seconds = (TIME_ORIGIN / 1000 + 1).toString(16).padStart(8, "0");
  const asked = "80070010 00000000 0000000000000000 00000000";
  assertEquals(
    tail(asked, 3),
    shown(`00070010 00000001 ${seconds} 1dcd6500 02000000`),
  );
  const stateless = make({ stateless: true });
  stateless.tail("", 0);
  assertEquals(stateless.tail(asked, 1), shown(asked.replace("80", "00")));
});

Deno.test("answerTlvs(): counts of a session that was resumed are unsupported", () => {
  const { network, tail } = make({ sessionTimeoutMs: 1000 });
  const counts = "8005000c 00000005 00000000 00000000";
  assertEquals(tail(counts, 0), shown("0005000c 00000005 00000001 00000001"));
  network.now = 1001;
  assertEquals(tail(counts, 4), shown(counts));
  // A session that begins anew is counted from its first packet.
  assertEquals(tail(counts, 5), shown(counts));
  network.now = 5000;
  assertEquals(tail(counts, 0), shown("0005000c 00000005 00000001 00000001"));
});

Deno.test("answerTlvs(): an access report is returned if its Access ID is valid", () => {
  const { tail } = make();
  for (const [id, flag] of [["10", "00"], ["20", "00"], ["30", "80"]]) {
    const rest = `060004 ${id}010000`;
    assertEquals(tail(`80${rest}`), shown(`${flag}${rest}`));
  }
});

Deno.test("answerTlvs(): TLVs of authenticated packets have an HMAC of their own", () => {
  const { reflector, ask, tail } = make({ key: KEY });
  // Both digests were made by another program.
  const counts = "8005000c 00000007 00000000 00000000";
  const digest = "591a5aad71b96fe8523f74985181eba7";
  const answer = tail(`${counts} 80080010 ${digest} 80010002aabb`, 7, KEY);
  assertEquals(
    answer,
    shown(
      "0005000c 00000007 00000001 00000001 00080010 2f009916115e6b2652de01b60c672f37 00010002aabb",
    ),
  );
  // Extra Padding alone needs none.
  assertEquals(tail("80010002aabb", 8, KEY), "00010002aabb");
  const wrong = [
    counts, // None at all.
    `${counts} 80080010 ${digest}`, // Of another sequence.
    `80080010 ${digest} ${counts}`, // Not behind them.
    `${counts} 8008000f ${digest.slice(2)}`,
  ];
  for (const [i, tlvs] of wrong.entries()) {
    const flags = tail(tlvs, 9 + i, KEY).slice(0, 2);
    assertEquals(flags, "a0", tlvs);
  }
  // The packets themselves are authentic, and are answered.
  assertEquals(reflector.stats().unauthentic, 0);
  assertEquals(decodeReflector(ask("", 20, KEY)!)?.senderSequence, 20);
  // Without a key nobody can say whether an HMAC is right.
  const plain = make();
  const both = plain.tail(`${counts} 80080010 ${digest}`);
  assertEquals([both.slice(0, 2), both.slice(32, 34)], ["a0", "a0"]);
  assertEquals(plain.tail(`80080010 ${digest}`).slice(0, 2), "a0");
  // One that the packet is too short for is none either.
  const cut = `${counts} 80080010 ${digest.slice(2)}`;
  assertEquals(tail(cut, 21, KEY).slice(0, 2), "a0");
});

Deno.test("answerTlvs(): a class of service is reported as received, and given if permitted", () => {
  // DSCP 10 with ECN 1, by which DSCP 46 and 48 are asked for.
  const { reflector, tail } = make({}, "192.0.2.7", 0b001010_01);
  const leavesWith = () => traitsOf(reflector).departure!.last().trafficClass;
  assertEquals(tail("80040004 b8000000"), shown("00040004 b8a40000"));
  assertEquals(leavesWith(), 46 << 2);
  assertEquals(tail("80040004 c0000000", 8), shown("00040004 c0a50000"));
  assertEquals(leavesWith(), 10 << 2);
  tail("", 9);
  assertEquals(leavesWith(), undefined);
  const permitsDscp = (dscp: number) => dscp === 48;
  const other = make({ permitsDscp }, "192.0.2.7", 0);
  assertEquals(other.tail("80040004 c0000000"), shown("00040004 c0000000"));
  assertEquals(other.tail("80040004 b8000000", 8), shown("00040004 b8010000"));
});

Deno.test("answerTlvs(): without reportsLocation a location is zeros", () => {
  const asked = `80020018 00000000 80070010 ${"00".repeat(16)}`;
  const { tail } = make({ reportsLocation: false });
  const hidden = `00020018 00000000 00080010 ${"00".repeat(16)}`;
  assertEquals(tail(asked), shown(hidden));
});

Deno.test("stampReflector(): T3 is written again when the reply leaves, with the same key", () => {
  for (const key of [undefined, KEY]) {
    const { network, reflector, ask } = make({ key });
    ask("", 1, key);
    network.now += 5;
    const reply = reflector(
      key === undefined ? plainRequest() : seal(plainRequest(), key),
      {
        ...infoOf({ hostname: "192.0.2.7", port: 40_000 }),
        receivedAt: network.now,
      },
    ) as Uint8Array;
    network.now += 7;
    traitsOf(reflector).departure!.last().complete!(reply);
    const left = key === undefined ? reply : unseal(reply, key)!;
    const { receiveTimestamp, timestamp } = decodeReflector(left)!;
    assertEquals(elapsedMs(receiveTimestamp, timestamp), 7);
  }
});

/** A request of a sender that uses NTP. */
function plainRequest(): Uint8Array<ArrayBuffer> {
  return encodeSender({
    sequence: 3,
    timestamp: { seconds: TIME_ORIGIN / 1000, nanoseconds: 0 },
    errorEstimate: { synchronized: false, ptp: false, scale: 0, multiplier: 1 },
    ssid: 0,
  });
}

import { assertEquals } from "@std/assert";
import {
  encodeQuestion,
  type Question,
  readReported,
} from "../../lib/stamp/ask.ts";
import { EXTENSION_NAMES as EXTENSIONS } from "../../lib/stamp/tlv.ts";
import { hmacOf, seal, unseal } from "../../lib/stamp/auth.ts";
import { encodeSender, timestampOf } from "../../lib/stamp/packet.ts";
import { traitsOf } from "../../lib/server/handler.ts";
import { stampReflector } from "../../lib/stamp/reflector.ts";
import {
  infoOf,
  SimulatedNetwork,
  TIME_ORIGIN,
} from "../../lib/testing/mod.ts";
import { KEY, shown } from "./tlv_bytes.ts";

function question(
  extensions: Question["extensions"] = EXTENSIONS,
  key?: Uint8Array,
): Question {
  const sign = key && ((bytes: Uint8Array) => hmacOf(bytes, key));
  return { extensions, replyDscp: 46, hmacOf: sign };
}

/** What a reflector tells of the second of two requests. */
function ask(asked: Question, hostname: string, key?: Uint8Array) {
  const network = new SimulatedNetwork();
  const { runtime } = network;
  const reflector = stampReflector({ runtime, key });
  traitsOf(reflector).departure!.isAsked = true;
  const info = {
    ...infoOf({ hostname, port: 40_000 }),
    localAddr: {
      hostname: hostname.includes(":") ? "2001:db8::1" : "198.51.100.1",
      port: 862,
    },
    trafficClass: 0b001010_01,
  };
  const reply = [0, 1].map((sequence) => {
    network.now = 1000 * sequence;
    const timestamp = timestampOf(TIME_ORIGIN + network.now);
    const plain = encodeSender(
      {
        sequence,
        timestamp,
        errorEstimate: {
          synchronized: false,
          ptp: true,
          scale: 0,
          multiplier: 1,
        },
        ssid: 0,
      },
      44 + encodeQuestion(asked, 0, 0).length + 6,
      encodeQuestion(asked, sequence, sequence + 1),
    );
    const sent = key === undefined ? plain : seal(plain, key);
    const answer = reflector(sent, info) as Uint8Array;
    return key === undefined ? answer : unseal(answer, key)!;
  })[1]!;
  return { reply, reported: readReported(reply, asked, true, 0b101110_00) };
}

Deno.test("encodeQuestion(): TLVs have the layout of RFC 8972", () => {
  const zeros = (bytes: number) => "00".repeat(bytes);
  assertEquals(
    encodeQuestion(question(), 6, 7).toHex(),
    shown(
      `8002002c 00000000 80040010 ${zeros(16)} 80070010 ${zeros(16)}` +
        `80030004 00000000 8005000c 00000007 ${zeros(8)}` +
        `80070010 ${zeros(16)} 80040004 b8000000`,
    ),
  );
  assertEquals(encodeQuestion(question([]), 6, 7).length, 0);
  assertEquals(encodeQuestion(question([], KEY), 6, 7).length, 0);
  // The digest was made by another program.
  assertEquals(
    encodeQuestion(question(["direct-measurement"], KEY), 7, 7).toHex(),
    shown(
      "8005000c 00000007 00000000 00000000 80080010 591a5aad71b96fe8523f74985181eba7",
    ),
  );
});

for (const [mode, key] of [["plain", undefined], ["sealed", KEY]] as const) {
  Deno.test(`stampReflector(): reports every requested extension, ${mode}`, () => {
    for (const hostname of ["192.0.2.7", "2001:db8::7"]) {
      const isIPv4 = hostname === "192.0.2.7";
      assertEquals(ask(question(EXTENSIONS, key), hostname, key).reported, {
        location: {
          remoteAddr: { hostname, port: 40_000 },
          localAddr: {
            hostname: isIPv4 ? "198.51.100.1" : "2001:db8::1",
            port: 862,
          },
        },
        timestampInfo: {
          synchronizedBy: "nothing",
          receiveStampedBy: "software",
          sendStampedBy: "software",
        },
        directMeasurement: { sent: 2, received: 2, transmitted: 2 },
        followUp: {
          sequence: 0,
          timestamp: { seconds: TIME_ORIGIN / 1000, nanoseconds: 0 },
          stampedBy: "software",
        },
        classOfService: { dscp: 10, ecn: 1, isPermitted: true, replyDscp: 46 },
        unsupported: [],
        discarded: [],
      });
    }
  });
}

Deno.test("readReported(): U is skipped, M ends the TLVs, I discards all", () => {
  const [first, second] = ["timestamp-info", "direct-measurement"] as const;
  const asked = question([first, second]);
  const { reply } = ask(asked, "192.0.2.7");
  const reported = (change: (bytes: Uint8Array) => void) => {
    const bytes = reply.slice();
    change(bytes);
    const { unsupported, discarded, ...values } = readReported(
      bytes,
      asked,
      true,
      undefined,
    );
    return [Object.keys(values), unsupported, discarded];
  };
  const both = ["timestampInfo", "directMeasurement"];
  assertEquals(reported(() => {}), [both, [], []]);
  assertEquals(reported((b) => b[44] = 0x80), [[both[1]], [first], []]);
  assertEquals(reported((b) => b[44] = 0x40), [[], [], [first, second]]);
  assertEquals(reported((b) => b[52] = 0x40), [[both[0]], [], [second]]);
  assertEquals(reported((b) => b[52] = 0x20), [[], [], [first, second]]);
  // A length that is not the one it must have, or that leads out of the packet.
  assertEquals(reported((b) => b[47] = 5), [[], [], [first, second]]);
  assertEquals(reported((b) => b[54] = 1), [[both[0]], [], [second]]);
});

Deno.test("readReported(): TLVs of a reflector without the key are discarded", () => {
  const asked = question(["direct-measurement"], KEY);
  const { reply, reported } = ask(asked, "192.0.2.7", KEY);
  assertEquals(reported.directMeasurement?.received, 2);
  const forged = reply.slice();
  forged[55]! ^= 1;
  const { directMeasurement, discarded } = readReported(
    forged,
    asked,
    true,
    undefined,
  );
  assertEquals([directMeasurement, discarded], [
    undefined,
    ["direct-measurement"],
  ]);
});

Deno.test("readReported(): a reflector without RFC 8972 leaves all unsupported", () => {
  const asked = question();
  const echoed = new Uint8Array(44 + encodeQuestion(asked, 0, 0).length);
  echoed.set(encodeQuestion(asked, 0, 1), 44);
  assertEquals(readReported(echoed, asked, false, undefined), {
    unsupported: [...EXTENSIONS],
    discarded: [],
  });
  // One that cuts replies to what the base has.
  assertEquals(
    readReported(echoed.subarray(0, 44), asked, false, undefined),
    {
      unsupported: [],
      discarded: [...EXTENSIONS],
    },
  );
});

Deno.test("readReported(): a location needs both addresses whole", () => {
  const asked = question(["location"]);
  const { reply } = ask(asked, "192.0.2.7");
  const reported = (change: (bytes: Uint8Array) => void) => {
    const bytes = reply.slice();
    change(bytes);
    return readReported(bytes, asked, true, undefined).location;
  };
  assertEquals(reported(() => {})?.remoteAddr.hostname, "192.0.2.7");
  // The two sub-TLVs begin behind the TLV's header and the two ports.
  const [first, second] = [44 + 8, 44 + 8 + 20];
  for (const at of [first, second]) {
    // Not understood, malformed, of another kind, and of another length.
    assertEquals(reported((b) => b[at]! |= 0x80), undefined);
    assertEquals(reported((b) => b[at]! |= 0x40), undefined);
    assertEquals(reported((b) => b[at + 1] = 77), undefined);
    assertEquals(reported((b) => b[at + 3]! -= 4), undefined);
  }
  // The second one is said to be longer than what is left.
  assertEquals(reported((b) => b[second + 3]! += 4), undefined);
});

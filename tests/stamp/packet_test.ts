import { assertEquals } from "@std/assert";
import { encode } from "../../lib/encoding.ts";
import {
  decodeReflector,
  decodeSender,
  elapsedMs,
  encodeReflector,
  encodeSender,
  type ReflectorPacket,
  type SenderPacket,
  timestampOf,
} from "../../lib/stamp/packet.ts";
import { seededRandom } from "../../lib/testing/mod.ts";

const hex = (text: string) => Uint8Array.fromHex(text.replaceAll(/\s/g, ""));

const REQUEST: SenderPacket = {
  sequence: 0x01020304,
  timestamp: { seconds: 1_700_000_000, nanoseconds: 500_000_000 },
  errorEstimate: { synchronized: true, ptp: false, scale: 22, multiplier: 2 },
  ssid: 0xabcd,
};

// 1,700,000,000 + 2,208,988,800 is 0xe8fe6f80; half a second is 2^31 / 2^32.
const REQUEST_BYTES = hex(`
  01020304 e8fe6f80 80000000 9602 abcd
  00000000 00000000 00000000 00000000 00000000 00000000 00000000`);

const REPLY: ReflectorPacket = {
  sequence: 7,
  timestamp: { seconds: 1_700_000_001, nanoseconds: 250_000_000 },
  errorEstimate: { synchronized: false, ptp: false, scale: 0, multiplier: 1 },
  ssid: 0xabcd,
  receiveTimestamp: { seconds: 1_700_000_001, nanoseconds: 0 },
  senderSequence: REQUEST.sequence,
  senderTimestamp: REQUEST.timestamp,
  senderErrorEstimate: REQUEST.errorEstimate,
  senderTtl: 64,
};

const REPLY_BYTES = hex(`
  00000007 e8fe6f81 40000000 0001 abcd
  e8fe6f81 00000000 01020304 e8fe6f80 80000000 9602 0000 40 000000`);

Deno.test("encodeSender(), decodeSender(): a request has its 44 golden bytes", () => {
  assertEquals(encodeSender(REQUEST), REQUEST_BYTES);
  assertEquals(decodeSender(REQUEST_BYTES), REQUEST);
});

Deno.test("encodeReflector(), decodeReflector(): a reply has its 44 golden bytes", () => {
  assertEquals(encodeReflector(REPLY, REQUEST_BYTES), REPLY_BYTES);
  assertEquals(decodeReflector(REPLY_BYTES), REPLY);
});

Deno.test("decodeReflector(): the Z flag of each side gives the format of its timestamps", () => {
  const ptp = { ...REPLY.errorEstimate, ptp: true };
  const reply = encodeReflector(
    { ...REPLY, errorEstimate: ptp },
    REQUEST_BYTES,
  );
  // The reflector's are PTP: seconds since 1970, and nanoseconds.
  assertEquals(reply.subarray(4, 14), hex("6553f101 0ee6b280 4001"));
  assertEquals(reply.subarray(16, 24), hex("6553f101 00000000"));
  // The sender's stays NTP.
  assertEquals(reply.subarray(28, 38), REPLY_BYTES.subarray(28, 38));
  assertEquals(decodeReflector(reply), { ...REPLY, errorEstimate: ptp });

  const request = {
    ...REQUEST,
    errorEstimate: { ...REQUEST.errorEstimate, ptp: true },
  };
  assertEquals(decodeSender(encodeSender(request)), request);
  assertEquals(encodeSender(request).subarray(4, 12), hex("6553f100 1dcd6500"));
});

Deno.test("encodeSender(): a larger request has an Extra Padding TLV, or zeros without room for one", () => {
  assertEquals(encodeSender(REQUEST, 47).subarray(44), hex("000000"));
  assertEquals(encodeSender(REQUEST, 48).subarray(44), hex("80010000"));
  const large = encodeSender(REQUEST, 1400);
  assertEquals(large.subarray(0, 44), REQUEST_BYTES);
  assertEquals(large.subarray(44, 50), hex("8001 0548 0000"));
  assertEquals(large.length, 1400);
});

Deno.test("encodeReflector(): a reply is as long as its request, 44 bytes at least, and copies the bytes after them", () => {
  for (const size of [14, 43, 44, 45, 60, 1400, 65_507]) {
    const request = new Uint8Array(size).fill(0xee);
    const reply = encodeReflector(REPLY, request);
    assertEquals(reply.length, Math.max(44, size));
    assertEquals(reply.subarray(0, 44), REPLY_BYTES);
    assertEquals(reply.subarray(44), request.subarray(44));
  }
});

Deno.test("decodeSender(), decodeReflector(): 14 bytes are a request, 38 bytes a reply, fewer are neither", () => {
  for (let size = 0; size < 44; size++) {
    const request = decodeSender(REQUEST_BYTES.subarray(0, size));
    assertEquals(request?.sequence, size < 14 ? undefined : REQUEST.sequence);
    if (size >= 14) assertEquals(request?.ssid, size < 16 ? 0 : REQUEST.ssid);
    const reply = decodeReflector(REPLY_BYTES.subarray(0, size));
    assertEquals(
      reply?.senderSequence,
      size < 38 ? undefined : REQUEST.sequence,
    );
    if (size >= 38) assertEquals(reply?.senderTtl, size < 41 ? 0 : 64);
  }
});

Deno.test("decodeSender(): a multiplier of 0 makes a packet corrupt", () => {
  const request = REQUEST_BYTES.slice();
  request[13] = 0;
  assertEquals(decodeSender(request), undefined);
  for (const at of [13, 37]) {
    const reply = REPLY_BYTES.slice();
    reply[at] = 0;
    assertEquals(decodeReflector(reply), undefined);
  }
});

Deno.test("decodeSender(), decodeReflector(): no bytes throw", () => {
  const random = seededRandom(4);
  for (let i = 0; i < 2000; i++) {
    const bytes = Uint8Array.from(
      { length: Math.floor(random() * 100) },
      () => random() * 256,
    );
    const request = decodeSender(bytes);
    decodeReflector(bytes);
    if (request === undefined) continue;
    // Any timestamp comes back bit by bit, as a reflector must return it.
    const again = encodeSender(request);
    assertEquals(again.subarray(0, 14), bytes.subarray(0, 14));
  }
  assertEquals(decodeSender(encode("too short")), undefined);
});

Deno.test("decodeSender(): NTP's seconds continue after 2036", () => {
  const later = { seconds: 2_085_978_496 + 100, nanoseconds: 0 };
  const bytes = encodeSender({ ...REQUEST, timestamp: later });
  assertEquals(bytes.subarray(4, 12), hex("00000064 00000000"));
  assertEquals(decodeSender(bytes)?.timestamp, later);
  // The first second that is after 1968, not before 2036.
  const first = { seconds: 0x8000_0000 - 2_208_988_800, nanoseconds: 0 };
  const early = encodeSender({ ...REQUEST, timestamp: first });
  assertEquals(early.subarray(4, 12), hex("80000000 00000000"));
  assertEquals(decodeSender(early)?.timestamp, first);
});

Deno.test("timestampOf(), elapsedMs(): microseconds of today's times are kept", () => {
  const from = timestampOf(1_795_418_946_093.25);
  assertEquals(from, { seconds: 1_795_418_946, nanoseconds: 93_250_000 });
  const to = timestampOf(1_795_418_947_093.5);
  assertEquals(elapsedMs(from, to), 1000.25);
  assertEquals(elapsedMs(to, from), -1000.25);
  assertEquals(timestampOf(999.9999999), { seconds: 1, nanoseconds: 0 });
});

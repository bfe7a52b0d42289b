import { assert, assertEquals, assertThrows } from "@std/assert";
import { encode } from "../../lib/encoding.ts";
import {
  type ReflectorOptions,
  stampReflector,
} from "../../lib/stamp/reflector.ts";
import {
  decodeReflector,
  decodeSender,
  encodeSender,
  errorMsOf,
  type ReflectorPacket,
  timestampOf,
} from "../../lib/stamp/packet.ts";
import { serve } from "../../lib/server/serve.ts";
import type { Runtime } from "../../lib/socket/runtime.ts";
import {
  infoOf,
  seededRandom,
  SimulatedNetwork,
  TIME_ORIGIN,
} from "../../lib/testing/mod.ts";

const PEER = infoOf({ hostname: "192.0.2.7", port: 862 });
const errorEstimate = {
  synchronized: false,
  ptp: false,
  scale: 3,
  multiplier: 9,
};

/** A reflector, its clock, and a way to ask it. */
function make(options: ReflectorOptions = {}) {
  const network = new SimulatedNetwork();
  const reflector = stampReflector({ runtime: network.runtime, ...options });
  const request = (
    sequence: number,
    { at = sequence, ssid = 0, size = 44 } = {},
  ) =>
    encodeSender({
      sequence,
      timestamp: timestampOf(TIME_ORIGIN + at),
      errorEstimate,
      ssid,
    }, size);
  const reflect = (data: Uint8Array<ArrayBuffer>, info = PEER) => {
    const received = { ...info, receivedAt: network.now };
    const reply = reflector(data, received) as Uint8Array | undefined;
    return reply && decodeReflector(reply);
  };
  return { network, reflector, request, reflect };
}

Deno.test("stampReflector(): T2 is when the server read the request, however late the handler runs", () => {
  const { network, reflector, request } = make();
  network.now = 250;
  const info = { ...PEER, receivedAt: 200 };
  const reply = decodeReflector(reflector(request(0), info) as Uint8Array)!;
  assertEquals(reply.receiveTimestamp, timestampOf(TIME_ORIGIN + 200));
  assertEquals(reply.timestamp, timestampOf(TIME_ORIGIN + 250));
});

Deno.test("stampReflector(): a reply has the sender's fields and the time of receipt", () => {
  const { network, request, reflect } = make();
  network.now = 250;
  const now = timestampOf(TIME_ORIGIN + 250);
  const expected: ReflectorPacket = {
    sequence: 0,
    timestamp: now,
    errorEstimate: {
      synchronized: false,
      ptp: false,
      scale: 22,
      multiplier: 2,
    },
    ssid: 77,
    receiveTimestamp: now,
    senderSequence: 5,
    senderTimestamp: timestampOf(TIME_ORIGIN + 5),
    senderErrorEstimate: errorEstimate,
    senderTtl: 0,
  };
  assertEquals(reflect(request(5, { ssid: 77 })), expected);
});

Deno.test("stampReflector(): sessions are counted by address, port and SSID", () => {
  const { reflector, request, reflect } = make();
  const other = infoOf({ ...PEER.remoteAddr, port: 863 });
  const numbers = [
    reflect(request(0)),
    reflect(request(1)),
    reflect(request(9)),
    reflect(request(0), other),
    reflect(request(0, { ssid: 1 })),
    reflect(request(10)),
  ].map((reply) => reply?.sequence);
  assertEquals(numbers, [0, 1, 2, 0, 0, 3]);
  assertEquals(reflector.stats(), {
    reflected: 6,
    malformed: 0,
    corrupt: 0,
    unauthentic: 0,
    unprovisioned: 0,
    returned: 0,
    sessions: 3,
  });
});

Deno.test("stampReflector(): numbers restart with the sender, or after a long silence", () => {
  const { network, request, reflect } = make({ sessionTimeoutMs: 1000 });
  const number = (data: Uint8Array<ArrayBuffer>) => reflect(data)?.sequence;
  assertEquals(number(request(0, { at: 1 })), 0);
  assertEquals(number(request(1)), 1);
  assertEquals(number(request(0, { at: 1 })), 2, "a copy of the first");
  assertEquals(number(request(0, { at: 0 })), 3, "one that was overtaken");
  assertEquals(number(request(0, { at: 2 })), 0, "a new first");
  assertEquals(number(request(1)), 1);
  network.now += 1001;
  // In the middle of a session, far from the numbers of its earlier replies.
  const resumed = number(request(2))!;
  assert(resumed >= 2 ** 31, `${resumed}`);
  // However late it is by then, each request is what keeps it from being silent.
  network.now += 1000;
  assertEquals(number(request(3)), resumed + 1);
  network.now += 1000;
  assertEquals(number(request(4)), resumed + 2);
});

Deno.test("stampReflector(): padding is not taken for an SSID", () => {
  const { reflector, request, reflect } = make({ maxSessions: 2 });
  const number = (data: Uint8Array<ArrayBuffer>) => reflect(data)?.sequence;
  assertEquals(number(request(0)), 0);
  // A TWAMP sender, whose padding is random.
  for (let i = 0; i < 50; i++) {
    const padded = request(i + 1);
    crypto.getRandomValues(padded.subarray(14, 30));
    assertEquals(number(padded), i + 1);
  }
  assertEquals(reflector.stats().sessions, 1);
});

Deno.test("stampReflector(): a reply has the format of the request and the estimate of the clock", () => {
  let state: ReturnType<NonNullable<Runtime["clockState"]>>;
  const { network, request } = make();
  const runtime: Runtime = { ...network.runtime, clockState: () => state };
  const reflector = stampReflector({ runtime });
  const ask = (ptp: boolean) => {
    network.now += 1001;
    const packet = { ...decodeSender(request(0))!, sequence: 1 };
    packet.errorEstimate = { ...packet.errorEstimate, ptp };
    const reply = reflector(encodeSender(packet), PEER) as Uint8Array;
    return decodeReflector(reply)!;
  };
  const { errorEstimate } = ask(false);
  assertEquals([errorEstimate.synchronized, errorEstimate.ptp], [false, false]);
  state = { synchronized: true, maxErrorMs: 12 };
  const known = ask(true);
  assertEquals(known.errorEstimate.synchronized, true);
  assertEquals(known.errorEstimate.ptp, true);
  const errorMs = errorMsOf(known.errorEstimate);
  assert(errorMs >= 12.5 && errorMs < 12.7, `${errorMs} ms`);
  assertEquals(known.timestamp, timestampOf(TIME_ORIGIN + network.now));
  state = { synchronized: false, maxErrorMs: 16_000 };
  const unsure = ask(false).errorEstimate;
  assertEquals(unsure.synchronized, false);
  assert(errorMsOf(unsure) >= 16_000, `${errorMsOf(unsure)} ms`);
  // Beyond what can be written it is the most that can be.
  state = { synchronized: false, maxErrorMs: Infinity };
  const most = ask(false).errorEstimate;
  assertEquals([most.scale, most.multiplier], [63, 255]);
});

Deno.test("stampReflector(): the TTL as received is returned", () => {
  const { reflector, request } = make();
  const reply = reflector(request(0), { ...PEER, ttl: 61 }) as Uint8Array;
  assertEquals(decodeReflector(reply)!.senderTtl, 61);
});

Deno.test("stampReflector(): without state the sender's sequence is returned", () => {
  const { request, reflect } = make({ stateless: true });
  for (const sequence of [0, 3, 2 ** 32 - 1]) {
    assertEquals(reflect(request(sequence))?.sequence, sequence);
  }
});

Deno.test("stampReflector(): malformed packets are counted, and never answered", () => {
  const { reflector, request, reflect } = make();
  const corrupt = request(0);
  corrupt[13] = 0;
  const least = corrupt.slice(0, 14);
  for (const data of [encode(""), encode("13 bytes long"), corrupt, least]) {
    assertEquals(reflect(data), undefined);
  }
  const { malformed, corrupt: isCorrupt } = reflector.stats();
  assertEquals([malformed, isCorrupt], [2, 2]);
  assert(reflect(request(0).slice(0, 14)) !== undefined, "TWAMP-Light");
});

Deno.test("stampReflector(): replies are not answered, neither its own nor another's", () => {
  const { reflector, request } = make();
  const another = stampReflector();
  const reply = reflector(request(3), PEER) as Uint8Array<ArrayBuffer>;
  const changed = reply.slice();
  changed[0] = 7;
  const longer = new Uint8Array([...reply, 1]);
  for (const data of [reply, changed, longer]) {
    assertEquals(reflector(data, PEER), undefined);
    assertEquals(another(data, PEER), undefined);
  }
  assertEquals(reflector.stats().returned, 3);
  // What a sender of TWAMP pads with is not taken for a reflection.
  const random = seededRandom(5);
  for (let seq = 0; seq < 1000; seq++) {
    const padded = request(seq);
    for (let i = 14; i < padded.length; i++) padded[i] = random() * 256;
    assert(reflector(padded, PEER) !== undefined, `seq ${seq}`);
  }
});

Deno.test("stampReflector(): a sender may write its packets over replies", () => {
  const network = new SimulatedNetwork();
  const reflector = stampReflector({ runtime: network.runtime });
  const { request } = make();
  let buffer = new Uint8Array(44);
  for (const sequence of [0, 1, 2, 3]) {
    network.now = 100 * sequence + 1;
    const head = request(sequence, { at: network.now, ssid: 7 });
    buffer.set(head.subarray(0, 16));
    const reply = reflector(buffer, PEER) as Uint8Array<ArrayBuffer>;
    assertEquals(decodeReflector(reply)?.sequence, sequence);
    buffer = reply.slice();
  }
  // Over a reply to an earlier packet: it may be another reflector's.
  network.now = 500;
  const late = request(4, { at: 500, ssid: 7 });
  reflector(late, PEER);
  buffer.set(request(5, { at: 500, ssid: 7 }).subarray(0, 16));
  assertEquals(reflector(buffer, PEER), undefined);
  const { reflected, returned, sessions } = reflector.stats();
  assertEquals([reflected, returned, sessions], [5, 1, 1]);
});

Deno.test("stampReflector(): one packet is not answered over and over", () => {
  const { reflector, request } = make();
  const same = request(3);
  const answered = Array.from({ length: 20 }, () => reflector(same, PEER))
    .filter((reply) => reply !== undefined);
  assertEquals(answered.length, 9);
  assertEquals(reflector.stats().returned, 11);
  // Another packet in between, and the count begins anew.
  for (const sequence of [4, 5]) {
    const times = Array.from(
      { length: 20 },
      () => reflector(request(sequence), PEER),
    );
    assertEquals(times.filter((reply) => reply !== undefined).length, 9);
  }
});

Deno.test("stampReflector(): the number of sessions is bounded", () => {
  const { reflector, request, reflect } = make({ maxSessions: 100 });
  for (let port = 1; port <= 5000; port++) {
    reflect(request(0), infoOf({ hostname: "192.0.2.7", port }));
  }
  const { sessions } = reflector.stats();
  assert(sessions >= 50 && sessions <= 100, `${sessions}`);
});

Deno.test("stampReflector(): options are checked", () => {
  assertThrows(
    () => stampReflector({ maxSessions: 1 }),
    RangeError,
    "'maxSessions'",
  );
  assertThrows(
    () => stampReflector({ sessionTimeoutMs: 0 }),
    RangeError,
    "'sessionTimeoutMs'",
  );
});

Deno.test("stampReflector(): only provisioned sessions are answered", () => {
  const { reflector, request, reflect } = make({ ssids: [7, 9] });
  const answered = [0, 7, 8, 9].map((ssid) =>
    reflect(request(0, { ssid }))?.ssid
  );
  assertEquals(answered, [undefined, 7, undefined, 9]);
  const { unprovisioned, reflected, sessions } = reflector.stats();
  assertEquals([unprovisioned, reflected, sessions], [2, 2, 2]);
});

/** Datagrams of `count` sessions of one address. */
function flood(
  { reflect, request }: Pick<ReturnType<typeof make>, "reflect" | "request">,
  hostname: string,
  count: number,
  times = 1,
) {
  for (let ssid = 1; ssid <= count; ssid++) {
    for (let sequence = 0; sequence < times; sequence++) {
      reflect(request(sequence, { ssid }), infoOf({ hostname, port: 5000 }));
    }
  }
}

Deno.test("stampReflector(): a network evicts its own sessions, however many it begins", () => {
  for (const times of [1, 3]) {
    const made = make({ maxSessions: 100 });
    const { network, request, reflect, reflector } = made;
    // Two in a network of their own, one of the flooding network.
    const others = ["192.0.2.7", "192.0.2.8", "203.0.113.7"]
      .map((hostname) => infoOf({ hostname, port: 4000 }));
    const numbers = (sequence: number) =>
      others.map((info) => reflect(request(sequence), info)!.sequence);
    assertEquals(numbers(0), [0, 0, 0]);
    network.now += 1000;
    assertEquals(numbers(1), [1, 1, 1]);
    flood(made, "203.0.113.9", 13_000, times);
    assertEquals(reflector.stats().sessions, 100);
    assertEquals(numbers(2), [2, 2, 2]);
  }
});

Deno.test("stampReflector(): forged networks evict no session that was used before", () => {
  const { network, request, reflect } = make({ maxSessions: 100 });
  reflect(request(0));
  network.now += 1000;
  reflect(request(1));
  for (let i = 0; i < 13_000; i++) {
    const hostname = `10.${i >> 8}.${i & 255}.1`;
    reflect(request(0), infoOf({ hostname, port: 4000 }));
  }
  assertEquals(reflect(request(2))!.sequence, 2);
});

Deno.test("stampReflector(): an evicted session continues with numbers far from its former ones", () => {
  const made = make({ maxSessions: 2, sessionTimeoutMs: 1000 });
  const { network, request, reflect } = made;
  const number = (sequence: number) => reflect(request(sequence))!.sequence;
  const evict = () => flood(made, "192.0.2.7", 3, 3);
  // Nothing was evicted yet: a first packet that is not numbered 0 follows lost ones.
  assertEquals([number(5), number(6)], [0, 1]);
  evict();
  const second = number(7);
  assertEquals(number(8), second + 1);
  evict();
  const third = number(9);
  for (const one of [second, third, Math.abs(third - second) + 2 ** 31]) {
    assert(one > 2 ** 31 + 2 ** 20 && one < 2 ** 32, `${one}`);
  }
  evict();
  assertEquals(number(0), 0, "a new session");
  evict();
  network.now += 1001;
  assertEquals(number(3), 0, "what was evicted has timed out since");
});

Deno.test("stampReflector(): a refused packet begins no session, and numbers nothing", async () => {
  const network = new SimulatedNetwork();
  const { runtime } = network;
  const reflector = stampReflector({ runtime, maxSessions: 10 });
  const { request } = make();
  const from = { hostname: "192.0.2.7", port: 4000 };
  const to = { hostname: "198.51.100.1", port: 862 };
  const guard = { rateLimit: 5 };
  const server = serve({ ...to, runtime, guard, quiet: true }, reflector);
  const pass = (sequence: number, options = {}) =>
    network.pass(from, to, request(sequence, options));
  const replies = () =>
    network.sent.filter(({ from }) => from.port === to.port)
      .map(({ data }) => decodeReflector(data)!.sequence);
  for (let sequence = 0; sequence < 5; sequence++) pass(sequence);
  // Those of new sessions, and the first of one that begins anew.
  for (let ssid = 1; ssid < 50; ssid++) pass(0, { ssid });
  pass(0, { at: 1000 });
  await network.runFor(6);
  assertEquals(replies(), [0, 1, 2, 3, 4]);
  const { sessions, reflected } = reflector.stats();
  assertEquals([server.stats().refused.rate, sessions, reflected], [50, 1, 5]);
  await network.runFor(1000);
  pass(6);
  await network.runFor(6);
  assertEquals(replies().at(-1), 5);
  await network.run(server.shutdown());
});

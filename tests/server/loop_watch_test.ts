import { assertEquals } from "@std/assert";
import { Buffer } from "node:buffer";
import { encode } from "../../lib/encoding.ts";
import { LoopWatch } from "../../lib/server/loop_watch.ts";

const SERVICE = { hostname: "192.0.2.1", port: 32_767 };
const CLIENT = { hostname: "192.0.2.1", port: 32_768 };

/** A peer, and the numbers of the answers at which a probe is due. */
function answered(remote = CLIENT, watch = new LoopWatch()) {
  let count = 0;
  const probes: number[] = [];
  const answer = (
    now: number,
    payload: Uint8Array = encode(`answer ${count + 1}`),
  ) => {
    if (watch.isLoop({ ...remote }, now)) return false;
    count++;
    // A new object each time, as from some engines.
    if (watch.isProbeDue({ ...remote }, now, payload)) {
      probes.push(count);
      watch.probed(remote, now);
    }
    return true;
  };
  return {
    watch,
    probes,
    answer,
    times(number: number, payload?: () => Uint8Array, gapMs = 1) {
      const from = count;
      for (let i = 0; i < number; i++) {
        answer((from + i) * gapMs, payload?.());
      }
    },
  };
}

Deno.test("LoopWatch: a service's port is probed at 1,000 answers, then at four times as many", () => {
  const { probes, times } = answered(SERVICE);
  times(100_000);
  assertEquals(probes, [1000, 4000, 16_000, 64_000]);
});

Deno.test("LoopWatch: an ephemeral port is probed at 25,000 answers", () => {
  const { probes, times } = answered(CLIENT);
  times(120_000);
  assertEquals(probes, [25_000, 100_000]);
});

Deno.test("LoopWatch: a peer is suspect once an answer repeats within 200", () => {
  for (const [distance, expected] of [[1, 1000], [200, 1000], [201, 25_000]]) {
    const { probes, times } = answered(CLIENT);
    let i = 0;
    times(25_000, () => encode(`${i++ % distance!}`));
    assertEquals(probes[0], expected, `every ${distance}`);
  }
});

Deno.test("LoopWatch: a Buffer that is written again is no repeated answer", () => {
  const { probes, times } = answered(CLIENT);
  const buffer = Buffer.alloc(4);
  let i = 0;
  times(25_000, () => {
    buffer.writeUInt32BE(i++);
    return buffer;
  });
  assertEquals(probes, [25_000]);
});

Deno.test("LoopWatch: answers differ by their length and by their first 64 bytes", () => {
  const payloads: Array<[string, (i: number) => Uint8Array, number]> = [
    ["lengths", (i) => new Uint8Array(i % 400), 25_000],
    ["byte 63", (i) => pattern(63, i), 25_000],
    ["byte 64", (i) => pattern(64, i), 1000],
  ];
  for (const [name, make, expected] of payloads) {
    const { probes, times } = answered(CLIENT);
    let i = 0;
    times(25_000, () => make(i++));
    assertEquals(probes[0], expected, name);
  }
});

/** 100 bytes, of which two differ. */
function pattern(at: number, count: number): Uint8Array {
  const bytes = new Uint8Array(100);
  bytes[at] = count;
  bytes[at < 64 ? 0 : 99] = count >> 8;
  return bytes;
}

Deno.test("LoopWatch: a repetition late in a flow makes a probe due at once", () => {
  const { probes, times } = answered(CLIENT);
  times(5000);
  assertEquals(probes, []);
  times(202, () => encode("again"));
  assertEquals(probes.length, 1);
});

Deno.test("LoopWatch: a pause of more than 10 s forgets all answers", () => {
  const { probes, answer } = answered(SERVICE);
  for (let i = 0; i < 999; i++) answer(i * 10_000);
  for (let i = 0; i < 999; i++) answer(998 * 10_000 + 10_001 + i);
  assertEquals(probes, []);
  answer(998 * 10_000 + 11_000);
  assertEquals(probes.length, 1);
});

Deno.test("LoopWatch: a probe that is not sent stays due", () => {
  const watch = new LoopWatch();
  const due = Array.from(
    { length: 1002 },
    (_, i) => watch.isProbeDue(SERVICE, i, encode("x")),
  );
  assertEquals(due.indexOf(true), 999);
  assertEquals(due.slice(999), [true, true, true]);
});

Deno.test("LoopWatch: a peer that answered a probe gets nothing for a minute, and then a new probe", () => {
  const { watch, probes, answer } = answered(CLIENT);
  assertEquals(answer(0), true);
  watch.onReply({ ...CLIENT }, 1000);
  for (let now = 1000; now < 61_000; now += 5000) {
    assertEquals(answer(now), false, `at ${now} ms`);
  }
  assertEquals([answer(61_000), probes], [true, [2]]);
  // Without an answer to the probe the peer counts as any other.
  for (let i = 0; i < 1000; i++) answer(61_001 + i);
  assertEquals(probes, [2, 1001]);
});

Deno.test("LoopWatch: a verdict ends after 10 s without a datagram", () => {
  const { watch, probes, answer } = answered(CLIENT);
  answer(0);
  watch.onReply(CLIENT, 0);
  assertEquals([answer(9000), answer(19_000)], [false, false]);
  assertEquals([answer(29_001), probes], [true, [2]]);
});

Deno.test("LoopWatch: a verdict is about one address and port", () => {
  const { watch } = answered(CLIENT);
  watch.onReply(CLIENT, 0);
  assertEquals(watch.isLoop({ ...CLIENT, port: 40_000 }, 1), false);
  assertEquals(watch.isLoop({ ...CLIENT, hostname: "192.0.2.2" }, 1), false);
  assertEquals(watch.isLoop(CLIENT, 1), true);
});

Deno.test("LoopWatch: a flood of forged sources does not hide a loop", () => {
  const { watch, probes, answer } = answered(SERVICE);
  let forged = 0;
  for (let i = 0; i < 1000; i++) {
    answer(i);
    for (let j = 0; j < 100; j++) {
      const hostname = `10.${forged >> 16}.${(forged >> 8) & 255}.${
        forged++ & 255
      }`;
      const port = 1024 + forged % 60_000;
      watch.isProbeDue({ hostname, port }, i, encode("x"));
    }
  }
  assertEquals(probes, [1000]);
});

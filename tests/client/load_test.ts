import { assert, assertEquals, assertRejects, assertThrows } from "@std/assert";
import { load, numberOf } from "../../lib/client/load.ts";
import type { LoadOptions } from "../../lib/client/load_options.ts";
import type { Interval } from "../../lib/stats/books.ts";
import type { Sample } from "../../lib/stats/sample.ts";
import { echo } from "../../lib/server/responders.ts";
import { serve } from "../../lib/server/serve.ts";
import { measure } from "../../lib/stamp/measure.ts";
import { stampReflector } from "../../lib/stamp/reflector.ts";
import type { Handler } from "../../lib/server/handler.ts";
import { type Plan, SimulatedNetwork } from "../../lib/testing/mod.ts";
import { ENGINE, netTest } from "../helpers.ts";
import { freezing } from "./freeze.ts";

const TARGET = { hostname: "198.51.100.1", port: 7 };
const LATENCY_MS = 5;

/** Runs a load against a server on a simulated network. */
async function loaded(
  options: LoadOptions,
  plan: Plan = () => [LATENCY_MS],
  handler: Handler = echo(),
) {
  const network = new SimulatedNetwork(plan);
  const { runtime } = network;
  const server = serve({ ...TARGET, runtime, guard: false }, handler);
  const run = load(TARGET, { runtime, ...options });
  const intervals: Interval[] = [];
  await network.run((async () => {
    for await (const interval of run) intervals.push(interval);
  })());
  const clients = network.sockets.size - 1;
  await network.run(server.shutdown());
  assertEquals([network.timers, network.held], [0, 0], "nothing is left");
  return { network, run, intervals, clients, result: run.summary() };
}

const asked = ({ sent }: SimulatedNetwork) =>
  sent.filter(({ to }) => to.hostname === TARGET.hostname);

const seqOf = (data: Uint8Array) => data[6]! << 8 | data[7]!;

Deno.test("load(): a rate is kept to the datagram, answered or not", async () => {
  for (const rate of [1, 3, 250, 1000]) {
    const plan: Plan = ({ to }) => to.hostname === TARGET.hostname ? [] : [1];
    const { result, run } = await loaded({ rate, durationMs: 2000 }, plan);
    assertEquals([result.sent, result.received], [2 * rate, 0]);
    assertEquals([result.lost, result.lossPercent], [2 * rate, 100]);
    assertEquals(run.target, TARGET);
    if (rate > 1) assert(Math.abs(result.sentPerSecond! - rate) < 1e-6);
  }
});

Deno.test("load(): a server that answers only at first has no larger rate than the load", async () => {
  let answered = 0;
  const plan: Plan = ({ to }) =>
    to.hostname === TARGET.hostname || answered++ < 500 ? [1] : [];
  const { result } = await loaded({ rate: 1000, durationMs: 2000 }, plan);
  assertEquals([result.sent, result.received], [2000, 500]);
  assertEquals(Math.round(result.receivedPerSecond!), 250);
});

Deno.test("load(): a window keeps N in flight, and no more", async () => {
  const { network, result } = await loaded({ window: 8, durationMs: 1000 });
  let inFlight = 0;
  let most = 0;
  for (const { to } of network.sent) {
    inFlight += to.hostname === TARGET.hostname ? 1 : -1;
    most = Math.max(most, inFlight);
  }
  assertEquals(most, 8);
  // Each goes there and back in 10 ms.
  assertEquals([result.sent, result.received, result.lost], [800, 800, 0]);
  assertEquals(result.rttMs!.median, 10);
});

Deno.test("load(): datagrams are distinguished by number, and each has one outcome", async () => {
  // Of ten on the way there one is lost, one doubled, one very late.
  const plan: Plan = ({ to, data }) =>
    to.hostname !== TARGET.hostname
      ? [1]
      : [[], [1, 2], [400]][seqOf(data) % 10] ?? [1];
  const { result, intervals, network, clients } = await loaded(
    { rate: 100, count: 500, timeoutMs: 200 },
    plan,
  );
  assertEquals(asked(network).length, 500);
  const { sent, received, lost, duplicates, late } = result;
  for (const name of ["duplicates", "late", "unsent"] as const) {
    const sum = intervals.reduce((sum, interval) => sum + interval[name], 0);
    assertEquals(sum, result[name], name);
  }
  assertEquals([sent, received, lost, duplicates], [500, 400, 100, 50]);
  // The last three came when nobody waited any more.
  assertEquals(late, 47);
  assertEquals([result.pending, result.foreign, result.unsent], [0, 0, 0]);
  assertEquals(clients, 0);
});

Deno.test("load(): intervals add up to the whole", async () => {
  const { intervals, result } = await loaded({ rate: 100, durationMs: 3500 });
  assertEquals(intervals.length, 4);
  for (const name of ["sent", "received", "lost"] as const) {
    const sum = intervals.reduce((sum, interval) => sum + interval[name], 0);
    assertEquals(sum, result[name], name);
  }
  assertEquals(intervals[0]!.fromMs, 0);
  for (let i = 1; i < intervals.length; i++) {
    assertEquals(intervals[i]!.fromMs, intervals[i - 1]!.toMs);
  }
});

Deno.test("load(): a rate ends with its last datagram", async () => {
  const { network, result } = await loaded({ rate: 10, durationMs: 1000 });
  // The server's shutdown takes no time.
  assertEquals([result.sent, network.now], [10, 900 + 2 * LATENCY_MS]);
});

Deno.test("load(): after a stall it does not catch up in a burst, and counts what it skipped", async () => {
  const network = new SimulatedNetwork(() => []);
  const runtime = freezing(network, 0, 300);
  const run = load(TARGET, {
    rate: 1000,
    durationMs: 500,
    runtime,
    timeoutMs: 1,
  });
  await network.run(Array.fromAsync(run));
  const { sent, durationMs, skipped, stalls } = run.summary();
  assertEquals([sent, skipped, stalls, durationMs], [201, 299, 1, 499]);
});

Deno.test("load(): the RTT counts from the due time of a datagram", async () => {
  const network = new SimulatedNetwork(() => [1]);
  const { runtime } = network;
  const server = serve({ ...TARGET, runtime, guard: false }, echo());
  // A client that stalls for as long as it catches up with.
  const hanging = freezing(network, 505, 100);
  const run = load(TARGET, { rate: 100, count: 100, runtime: hanging });
  await network.run((async () => {
    for await (const _ of run);
  })());
  const { received, rttMs, sendErrorMs, skipped, stalls } = run.summary();
  assertEquals([received, rttMs!.median, skipped, stalls], [100, 2, 0, 0]);
  assertEquals([rttMs!.max, sendErrorMs!.max], [97, 95]);
  await network.run(server.shutdown());
});

Deno.test("load(): a datagram that is no echo is foreign", async () => {
  const { result } = await loaded(
    { rate: 50, count: 10, timeoutMs: 100 },
    undefined,
    () => "Hello UDP Client",
  );
  assertEquals([result.received, result.foreign, result.lost], [0, 10, 10]);
});

Deno.test("load(): a Session-Reflector's replies are attributed by number too", async () => {
  let seen = 0;
  // Every tenth request is lost.
  const plan: Plan = ({ to }) =>
    to.hostname === TARGET.hostname && ++seen % 10 === 0 ? [] : [LATENCY_MS];
  const options = { rate: 100, count: 100 };
  const samples: Sample[] = [];
  const onSample = (sample: Sample) => samples.push(sample);
  const { result } = await loaded(
    { ...options, size: 44, onSample },
    plan,
    stampReflector(),
  );
  assertEquals([result.received, result.lost, result.foreign], [90, 10, 0]);
  assertEquals(result.rttMs?.max, 2 * LATENCY_MS);
  const lost = samples.filter(({ outcome }) => outcome === "lost");
  assertEquals(lost.map(({ seq }) => seq % 10), Array(10).fill(9));
  // Shorter ones are no STAMP packets.
  const short = await loaded({ ...options, size: 43 }, plan, stampReflector());
  assertEquals([short.result.received, short.result.foreign], [0, 0]);
});

Deno.test("load(): a lost datagram makes room for another one in flight", async () => {
  // All of the first window are lost, and one of each later four.
  const plan: Plan = ({ to, data }) =>
    to.hostname === TARGET.hostname &&
      (seqOf(data) < 4 || seqOf(data) % 4 === 0)
      ? []
      : [1];
  const { result } = await loaded(
    { window: 4, count: 40, timeoutMs: 50 },
    plan,
  );
  assertEquals([result.sent, result.received, result.lost], [40, 27, 13]);
});

Deno.test("load(): datagrams that the system refuses are not sent; reports of the network are counted", async () => {
  const network = new SimulatedNetwork(({ index }) => {
    if (index === 3) throw new Error("No buffer space");
    return [];
  });
  const { runtime } = network;
  const run = load(TARGET, { rate: 100, count: 10, timeoutMs: 50, runtime });
  runtime.after(20, () => {
    const [client] = network.sockets.values();
    client!.failOnce(new Deno.errors.ConnectionRefused("refused"));
    client!.failOnce(new Error("No route to host"));
  });
  const intervals: Interval[] = [];
  await network.run((async () => {
    for await (const interval of run) intervals.push(interval);
  })());
  assertEquals(intervals.reduce((sum, { sent }) => sum + sent, 0), 9);
  assertEquals(intervals.reduce((sum, { unsent }) => sum + unsent, 0), 1);
  const { sent, lost, pending, unsent, lossPercent, reasons } = run.summary();
  assertEquals([sent, lost, pending, unsent], [9, 9, 0, 1]);
  assertEquals(lossPercent, 100);
  const counts = reasons.map(({ reason, count }) => `${count} ${reason}`);
  assertEquals(counts.sort(), [
    "1 No buffer space",
    "1 No route to host",
    "1 closed port",
  ]);
});

Deno.test("load(): stop() ends it, and unanswered datagrams stay pending", async () => {
  const network = new SimulatedNetwork(() => []);
  const { runtime } = network;
  const run = load(TARGET, { rate: 10, count: 100, runtime });
  const ended = network.run((async () => {
    for await (const _ of run);
  })());
  runtime.after(350, () => run.stop());
  await ended;
  const { sent, pending, lost } = run.summary();
  assertEquals([sent, pending, lost], [4, 4, 0]);
  assertEquals(network.sockets.size, 0);
  await assertRejects(
    () => network.run(run[Symbol.asyncIterator]().next()),
    TypeError,
    "a second time",
  );
});

Deno.test("load(): an abort ends it with its reason", async () => {
  const network = new SimulatedNetwork(() => []);
  const { runtime } = network;
  const controller = new AbortController();
  const run = load(TARGET, { window: 1, runtime, signal: controller.signal });
  runtime.after(100, () => controller.abort(new Error("enough")));
  const iterate = async () => {
    for await (const _ of run);
  };
  await assertRejects(() => network.run(iterate()), Error, "enough");
  assertEquals(network.sockets.size, 0);
});

Deno.test("load(): it checks its options", () => {
  const wrong: Array<[LoadOptions, typeof Error, string]> = [
    [{}, TypeError, "one of 'rate' and 'window'"],
    [{ rate: 1, window: 1 }, TypeError, "one of 'rate' and 'window'"],
    [{ rate: 0 }, RangeError, "'rate' must be"],
    [{ rate: 1e8 }, RangeError, "'rate' must be"],
    [{ window: 0 }, RangeError, "'window' must be"],
    [{ window: 1.5 }, RangeError, "'window' must be"],
    [{ rate: 1, count: 0 }, RangeError, "'count' must be"],
    [{ rate: 1, durationMs: 0 }, RangeError, "'durationMs' must be"],
    [{ rate: 1, size: 7 }, RangeError, "'size' must be"],
    [{ rate: 1, size: 65_508 }, RangeError, "at most 65507"],
    [{ rate: 1, timeoutMs: 0 }, RangeError, "'timeoutMs' must be"],
    [{ rate: "5" as never }, TypeError, "'rate' must be"],
    [{ rate: 1, signal: {} as never }, TypeError, "'signal' must be"],
  ];
  for (const [options, ErrorClass, message] of wrong) {
    assertThrows(() => load(TARGET, options), ErrorClass, message);
  }
});

netTest(
  "load(): a real echo answers every datagram, at a rate and with a window",
  async () => {
    await using server = serve({ engine: ENGINE, guard: false }, echo());
    for (const kind of [{ rate: 2000 }, { window: 32 }]) {
      // No more than a receive buffer holds, however slow the machine is.
      const options = { count: 200, timeoutMs: 30_000, engine: ENGINE };
      const run = load(server.addr, { ...kind, ...options });
      for await (const _ of run);
      const { sent, received, lost, rttMs, stalls } = run.summary();
      assertEquals([sent, received, lost], [200, 200, 0]);
      // RTTs with a standstill in them are not known.
      assert(rttMs === undefined ? stalls > 0 : rttMs.min > 0);
    }
  },
);

Deno.test("load(): it sleeps only if it may, and polls its socket when it is behind", async () => {
  const ran = async (options: LoadOptions, lateMs = 0) => {
    const network = new SimulatedNetwork(() => [200]);
    const { runtime } = network;
    const server = serve({ ...TARGET, runtime, guard: false }, echo());
    const slept: number[] = [];
    let isLate = false;
    const run = load(TARGET, {
      ...options,
      runtime: {
        ...runtime,
        open: (how) =>
          Object.assign(runtime.open(how), {
            sleep: (ms: number) => slept.push(ms),
          }),
        afterExactly(ms, callback, pause) {
          pause?.(ms);
          const late = isLate ? 0 : lateMs;
          isLate = true;
          return runtime.afterExactly(ms + late, callback);
        },
      },
    });
    await network.run((async () => {
      for await (const _ of run);
    })());
    await network.run(server.shutdown());
    assertEquals([run.summary().received, network.timers], [run.sent, 0]);
    return slept;
  };
  const slow = { rate: 10, count: 4 };
  assertEquals(await ran(slow), []);
  const slept = await ran({ ...slow, mayBlock: true });
  assertEquals(Math.round(slept[0]!), 100);
  // What is due by then goes in bursts, and between them it looks.
  const looks = await ran({ rate: 10_000, count: 1000 }, 90);
  assert(looks.length >= 2 && looks.every((ms) => ms === 0), `${looks}`);
});

Deno.test("load(), measure(): the drops of the socket are looked at before its close", async () => {
  for (const isLoad of [true, false]) {
    const network = new SimulatedNetwork();
    const { runtime } = network;
    await using _ = serve({ ...TARGET, runtime, guard: false }, echo());
    const { open } = runtime;
    runtime.open = (options) => {
      const socket = open(options);
      const close = socket.close.bind(socket);
      let [isOpen, known]: [boolean, number | undefined] = [true, undefined];
      socket.close = () => {
        isOpen = false;
        close();
      };
      // As a socket of the default engine does.
      socket.kernelDrops = () => isOpen ? known = 7 : known;
      return socket;
    };
    const run = isLoad
      ? load(TARGET, { runtime, rate: 100, count: 3 })
      : measure(TARGET, { runtime, count: 3, intervalMs: 10 });
    await network.run(Array.fromAsync<unknown>(run));
    assertEquals(run.summary().kernelDrops, 7);
  }
});

Deno.test("load(): every datagram is a sample: when it was due, and its RTT or none", async () => {
  const samples: Sample[] = [];
  const plan: Plan = ({ to, data }) =>
    to.hostname === TARGET.hostname && seqOf(data) === 1 ? [] : [1, 1];
  await loaded({
    rate: 100,
    count: 3,
    timeoutMs: 50,
    onSample: (sample) => samples.push(sample),
  }, plan);
  const facts = samples.map(({ seq, dueMs, outcome, rttMs }) =>
    [seq, dueMs, outcome, rttMs] as const
  );
  assertEquals(facts, [
    [0, 0, "received", 2],
    [2, 20, "received", 2],
    [1, 10, "lost", undefined],
  ]);
});

Deno.test("load(): an echo of a number that was not sent is foreign", async () => {
  for (const [ahead, foreign] of [[0, 0], [1, 1], [2, 1]]) {
    const { result } = await loaded(
      { window: 1, count: 1, timeoutMs: 50 },
      undefined,
      (data) => {
        const answer = data.slice();
        answer[7]! += ahead!;
        return answer;
      },
    );
    assertEquals([result.foreign, result.received], [foreign, 1 - foreign!]);
  }
});

Deno.test("numberOf(): the latest number that ends in 32 bits, beyond 2^32 of them too", () => {
  const wrap = 2 ** 32;
  for (const last of [0, 5, wrap - 1, wrap, wrap + 5, 7 * wrap + 123]) {
    for (const age of [0, 1, 4, 1000]) {
      const number = last - age;
      if (number < 0) continue;
      assertEquals(numberOf(number % wrap, last), number, `${number}`);
    }
  }
  // No number as high as this one has been sent.
  assert(numberOf(6, 5) < 0);
  assert(numberOf(wrap - 1, 5) < 0);
});

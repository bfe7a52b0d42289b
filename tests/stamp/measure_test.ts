import { assert, assertEquals, assertRejects, assertThrows } from "@std/assert";
import { encode } from "../../lib/encoding.ts";
import { measure, type Measurement } from "../../lib/stamp/measure.ts";
import type { MeasureOptions } from "../../lib/stamp/measure_options.ts";
import type { MeasureEvent } from "../../lib/stamp/session_result.ts";
import {
  type ReflectorOptions,
  stampReflector,
} from "../../lib/stamp/reflector.ts";
import { serve } from "../../lib/server/serve.ts";
import type { StampSample } from "../../lib/stamp/session_result.ts";
import { ENGINE, linuxTest, netTest } from "../helpers.ts";
import { Relay } from "../client/relay.ts";
import {
  CLIENT_HOST,
  type Passing,
  type Plan,
  seededRandom,
  SimulatedNetwork,
} from "../../lib/testing/mod.ts";

const SERVER = { hostname: "198.51.100.1", port: 862 };

function networkWith(plan?: Plan, options: ReflectorOptions = {}) {
  const network = new SimulatedNetwork(plan);
  const { runtime } = network;
  const reflector = stampReflector({ runtime, ...options });
  serve({ ...SERVER, runtime, guard: { rateLimit: 0 } }, reflector);
  return network;
}

function start(
  network: SimulatedNetwork,
  options: MeasureOptions,
): Measurement {
  return measure(SERVER, { runtime: network.runtime, ...options });
}

async function collect(measurement: Measurement): Promise<MeasureEvent[]> {
  const events: MeasureEvent[] = [];
  for await (const event of measurement) events.push(event);
  return events;
}

/** Runs a measurement to its end, at which it leaves nothing behind. */
async function run(network: SimulatedNetwork, measurement: Measurement) {
  try {
    return await network.run(collect(measurement));
  } finally {
    assertEquals([network.timers, network.held], [0, 0], "nothing is left");
  }
}

const isUp = ({ to }: Passing) => to.port === SERVER.port;
const brief = (events: MeasureEvent[]) =>
  events.map((event) =>
    event.type === "interval" ? event.type : `${event.type} ${event.seq}`
  );

Deno.test("measure(): it sends on an absolute schedule and reports each reply", async () => {
  const network = networkWith((passing) => isUp(passing) ? [3] : [4]);
  const sentAt: number[] = [];
  const { plan } = network;
  network.plan = (passing) => {
    if (isUp(passing)) sentAt.push(network.now);
    return plan(passing);
  };
  const measurement = start(network, { count: 4, intervalMs: 50 });
  const events = await run(network, measurement);
  assertEquals(brief(events), ["reply 0", "reply 1", "reply 2", "reply 3"]);
  assertEquals(sentAt, [0, 50, 100, 150]);
  const [first] = events;
  assert(first?.type === "reply");
  assertEquals(first.sample, {
    seq: 0,
    clock: "program",
    rttMs: 7,
    seenMs: 7,
    reflectorMs: 0,
    forwardMs: 3,
    backwardMs: 4,
    reordered: false,
    sendErrorMs: 0,
  });
  const result = measurement.summary();
  assertEquals([result.sent, result.received, result.lost], [4, 4, 0]);
  assertEquals([result.durationMs, result.exact], [157, true]);
  assertEquals(result.clockOffsetMs, { estimate: -0.5, error: 3.5 });
  assertEquals(measurement.bins(1), [{ from: 7, to: 8, count: 4 }]);
  assertEquals(network.sockets.size, 1);
});

Deno.test("measure(): all requests are sent from one port, with the given size", async () => {
  const network = networkWith();
  await run(network, start(network, { count: 3, intervalMs: 10, size: 1400 }));
  const up = network.sent.filter(isUp);
  assertEquals(new Set(up.map(({ from }) => from.port)).size, 1);
  assertEquals(
    network.sent.map(({ data }) => data.length),
    Array(6).fill(1400),
  );
});

Deno.test("measure(): it reports what a seeded network did, exactly, in both directions", async () => {
  for (const seed of [1, 2, 3]) {
    const random = seededRandom(seed);
    const truth = { up: 0, down: 0, copies: 0 };
    const arrivals: number[] = [];
    const network = networkWith();
    network.plan = (passing) => {
      const seq = new DataView(passing.data.buffer).getUint32(
        isUp(passing) ? 0 : 24,
      );
      const delayMs = 1 + Math.floor(random() * 30);
      // The first and the last get through, so that the rest lies between: four of
      // each, since one may overtake three others.
      const through = seq < 4 || seq >= 396;
      if (!through && random() < 0.1) {
        truth[isUp(passing) ? "up" : "down"]++;
        return [];
      }
      if (isUp(passing)) return [delayMs];
      network.runtime.after(delayMs, () => arrivals.push(seq));
      if (random() < 0.9 || seq >= 400) return [delayMs];
      truth.copies++;
      return [delayMs, delayMs + 2];
    };
    const measurement = start(network, {
      count: 400,
      intervalMs: 10,
      timeoutMs: 200,
    });
    await run(network, measurement);
    const result = measurement.summary();
    assertEquals(
      [result.lostUp, result.lostDown, result.lostUnattributed],
      [truth.up, truth.down, 0],
      `seed ${seed}`,
    );
    assertEquals(result.lost, truth.up + truth.down);
    assertEquals(result.received, 400 - result.lost);
    assertEquals([result.duplicates, result.late], [truth.copies, 0]);
    let expected = 0;
    const reordered = arrivals.filter((seq) => {
      if (seq < expected) return true;
      expected = seq + 1;
      return false;
    });
    assertEquals(result.reordered, reordered.length);
    assert(truth.up > 0 && truth.down > 0 && reordered.length > 0);
  }
});

Deno.test("measure(): requests time out, whatever fractions their times have", async () => {
  const network = networkWith(() => []);
  // A time at which 1 ms more and then 1 ms less is another time.
  network.now = 7.297093493279694;
  const measurement = start(network, { count: 1, timeoutMs: 1 });
  await run(network, measurement);
  assertEquals(measurement.summary().lost, 1);
});

Deno.test("measure(): it counts a reply after the loss threshold as lost, and late", async () => {
  const network = networkWith(({ index }) => index === 1 ? [80] : [5]);
  const measurement = start(network, {
    count: 3,
    intervalMs: 40,
    timeoutMs: 50,
  });
  assertEquals(brief(await run(network, measurement)), [
    "lost 0",
    "reply 1",
    "late 0",
    "reply 2",
  ]);
  const { lost, late, lostUp, lostDown } = measurement.summary();
  assertEquals([lost, late, lostUp, lostDown], [1, 1, 0, 0]);
});

Deno.test("measure(): against a stateless reflector it knows loss, but not where", async () => {
  const network = networkWith(({ index }) => index === 2 ? [] : [5], {
    stateless: true,
  });
  const measurement = start(network, {
    count: 3,
    intervalMs: 20,
    timeoutMs: 50,
  });
  await run(network, measurement);
  const { lost, lostUp, lostDown } = measurement.summary();
  assertEquals([lost, lostUp, lostDown], [1, undefined, undefined]);
});

Deno.test("measure(): datagrams that no reflector would send are foreign", async () => {
  const network = networkWith();
  const elsewhere = { ...SERVER, port: 863 };
  network.plan = (passing) => {
    if (isUp(passing)) {
      for (const text of ["", "noise", "x".repeat(44), "x".repeat(65_507)]) {
        network.pass(SERVER, passing.from, encode(text));
      }
      network.pass(elsewhere, passing.from, passing.data);
    }
    return [5];
  };
  const measurement = start(network, { count: 2, intervalMs: 20 });
  assertEquals(brief(await run(network, measurement)), ["reply 0", "reply 1"]);
  const { received, foreign } = measurement.summary();
  assertEquals([received, foreign], [2, 10]);
});

Deno.test("measure(): it ends at its deadline; requests within their time-out are pending", async () => {
  const network = networkWith(() => []);
  const options = { count: Infinity, intervalMs: 10, timeoutMs: 50 };
  const measurement = start(network, { ...options, deadlineMs: 95 });
  await run(network, measurement);
  const { sent, lost, pending, rttMs } = measurement.summary();
  assertEquals([sent, lost, pending, rttMs], [10, 5, 5, undefined]);
  assertEquals([network.now, network.sockets.size], [95, 1]);
});

Deno.test("measure(): closing probes are no part of the duration, and end when all is known", async () => {
  // The third of four is lost on its way there, and all closing probes.
  const network = networkWith((passing) => {
    const seq = new DataView(passing.data.buffer).getUint32(0);
    return isUp(passing) && (seq === 2 || seq >= 4) ? [] : [1];
  });
  const options = { count: 4, intervalMs: 100, timeoutMs: 50 };
  const measurement = start(network, options);
  await run(network, measurement);
  const { durationMs, lostUp, sent } = measurement.summary();
  assertEquals([sent, lostUp, durationMs], [4, 1, 302]);
  // The last reply came at 302 ms; one probe after another had 20 ms, until there
  // was nothing more to learn.
  assert(network.now > 302 && network.now < 302 + 10 * 20, `${network.now}`);
});

Deno.test("measure(): stop() ends it, and unanswered requests stay pending", async () => {
  const network = networkWith((passing) => isUp(passing) ? [50] : [50]);
  const measurement = start(network, { count: Infinity, intervalMs: 40 });
  network.runtime.after(130, () => measurement.stop());
  assertEquals(brief(await run(network, measurement)), ["reply 0"]);
  const { sent, received, lost, pending } = measurement.summary();
  assertEquals([sent, received, lost, pending], [4, 1, 0, 3]);
  assertEquals(network.sockets.size, 1);
});

Deno.test("measure(): stop() before the start opens no socket", async () => {
  const network = networkWith();
  const measurement = start(network, {});
  assertEquals([measurement.sent, measurement.target], [0, undefined]);
  measurement.stop();
  assertEquals(await run(network, measurement), []);
  assertEquals([network.sockets.size, measurement.summary().sent], [1, 0]);
});

Deno.test("measure(): it throws the reason of an abort, before and during", async () => {
  const reason = new Error("enough");
  const network = networkWith();
  const before = start(network, { signal: AbortSignal.abort(reason) });
  assert(reason === await assertRejects(() => run(network, before), Error));
  const controller = new AbortController();
  network.runtime.after(25, () => controller.abort(reason));
  const during = start(network, { intervalMs: 10, signal: controller.signal });
  assert(reason === await assertRejects(() => run(network, during), Error));
  assertEquals([during.summary().sent, network.sockets.size], [3, 1]);
});

Deno.test("measure(): a failed send is reported, and it continues", async () => {
  const network = networkWith(({ index, from }) => {
    if (index === 0 && from.hostname === CLIENT_HOST) {
      throw new Error("no route");
    }
    return [5];
  });
  const measurement = start(network, { count: 2, intervalMs: 20 });
  assertEquals(brief(await run(network, measurement)), ["error 0", "reply 1"]);
  const { sent, lost, unsent, lossPercent, reasons } = measurement.summary();
  assertEquals([sent, lost, unsent, lossPercent], [1, 0, 1, 50]);
  assertEquals(reasons, [{ reason: "no route", count: 1 }]);
});

Deno.test("measure(): it does not catch up with a long sleep in a burst", async () => {
  const network = networkWith();
  const sentAt: number[] = [];
  network.plan = (passing) => {
    if (isUp(passing)) sentAt.push(network.now);
    return [1];
  };
  // The machine sleeps for a second after the second request.
  const { runtime } = network;
  const slept = {
    ...runtime,
    now: () => network.now + (network.now > 15 ? 1000 : 0),
  };
  const measurement = start(network, {
    count: 5,
    intervalMs: 10,
    runtime: slept,
  });
  await run(network, measurement);
  assertEquals(sentAt, [0, 10, 20, 30, 40]);
  const { skipped, stalls, longestStall } = measurement.summary();
  assertEquals([skipped, stalls], [0, 1]);
  assertEquals(longestStall, { fromMs: 20, ms: 1000 });
});

Deno.test("measure(): it checks its options at once", () => {
  const wrong: Array<[MeasureOptions, string]> = [
    [{ count: 0 }, "'count'"],
    [{ count: 2 ** 32 }, "'count'"],
    [{ intervalMs: 0 }, "'intervalMs'"],
    [{ size: 43 }, "'size'"],
    [{ size: 65_508 }, "'size'"],
    [{ timeoutMs: 0 }, "'timeoutMs'"],
    [{ timeoutMs: 60_000, intervalMs: 0.1 }, "'timeoutMs'"],
    [{ timeoutMs: 500_001, intervalMs: 1 }, "'timeoutMs'"],
    [{ deadlineMs: 0 }, "'deadlineMs'"],
  ];
  for (const [options, message] of wrong) {
    assertThrows(() => measure(SERVER, options), RangeError, message);
  }
  measure(SERVER, { timeoutMs: 500_000, intervalMs: 1 });
  assertThrows(() => measure("nowhere"), SyntaxError, "no port");
  assertThrows(() => measure("0.0.0.0:862"), TypeError, "Cannot send to");
  const mistyped = { intervalMs: "1" } as unknown as MeasureOptions;
  assertThrows(() => measure(SERVER, mistyped), TypeError, "'intervalMs'");
});

/** Mixes that the numbers of a reflector must not be made too much of. */
const MIXES: Array<{
  name: string;
  up?: (seq: number, random: number) => number;
  down?: (seq: number, random: number) => number;
  /** After how many requests the reflector begins anew. */
  restartAt?: number;
  /** What it begins with. */
  base?: number;
  /** How much later than others a datagram may be. */
  laterMs?: number;
  /** Whether all that was lost is reported apart. */
  isWhole?: boolean;
}> = [
  { name: "loss up", up: (_, r) => r < 0.2 ? 0 : 1, isWhole: true },
  { name: "loss down", down: (_, r) => r < 0.2 ? 0 : 1, isWhole: true },
  {
    name: "both, first and last too",
    up: (seq, r) => seq === 0 || r < 0.2 ? 0 : 1,
    down: (seq, r) => seq === 199 || r < 0.2 ? 0 : 1,
  },
  { name: "a tail lost up", up: (seq) => seq > 180 ? 0 : 1, isWhole: true },
  { name: "a tail lost down", down: (seq) => seq > 180 ? 0 : 1, isWhole: true },
  { name: "a burst up", up: (s) => s > 50 && s < 90 ? 0 : 1, isWhole: true },
  {
    name: "copies up, both lost",
    up: (_, r) => r < 0.2 ? 0 : r < 0.5 ? 2 : 1,
    down: (_, r) => r < 0.2 ? 0 : 1,
  },
  {
    name: "copies down, both lost",
    up: (_, r) => r < 0.2 ? 0 : 1,
    down: (_, r) => r < 0.2 ? 0 : r < 0.5 ? 2 : 1,
  },
  {
    name: "a restart in the middle",
    up: (_, r) => r < 0.05 ? 0 : 1,
    down: (_, r) => r < 0.25 ? 0 : 1,
    restartAt: 80,
  },
  {
    name: "a restart, while many replies are lost",
    down: (_, r) => r < 0.35 ? 0 : 1,
    restartAt: 109,
  },
  {
    name: "a restart, while some are overtaken",
    down: (seq, r) => r < 0.2 || seq > 197 ? 0 : 1,
    restartAt: 170,
    laterMs: 45,
  },
  {
    name: "counting from 3",
    up: (_, r) => r < 0.1 ? 0 : 1,
    down: (_, r) => r < 0.1 ? 0 : 1,
    base: 3,
  },
  {
    name: "numbers that pass 32 bits",
    up: (_, r) => r < 0.1 ? 0 : 1,
    down: (_, r) => r < 0.1 ? 0 : 1,
    base: 2 ** 32 - 60,
  },
];

Deno.test("measure(): loss by direction is never overstated, in any mix", async () => {
  for (const mix of MIXES) {
    const { name, up, down, restartAt, base = 0, isWhole, laterMs = 0 } = mix;
    for (const seed of [1, 2, 3]) {
      const random = seededRandom(seed);
      const network = new SimulatedNetwork();
      const { runtime } = network;
      // A reflector that counts in its own way.
      let next = base;
      const reflector = stampReflector({ runtime });
      const server = serve(
        { ...SERVER, runtime, guard: false },
        (data, info) => {
          const reply = reflector(data, info) as Uint8Array<ArrayBuffer>;
          const view = new DataView(reply.buffer);
          if (view.getUint32(24) === restartAt) {
            next = base;
          }
          view.setUint32(0, next++);
          return reply;
        },
      );
      const truth = { up: 0, down: 0 };
      network.plan = (passing) => {
        const isThere = isUp(passing);
        const seq = new DataView(passing.data.buffer).getUint32(
          isThere ? 0 : 24,
        );
        // Closing probes, some of which are lost too.
        if (seq >= 200) return !isWhole && random() < 0.3 ? [] : [1];
        const copies = (isThere ? up : down)?.(seq, random()) ?? 1;
        const isLater = laterMs > 0 && random() < 0.2;
        const laterBy = isLater ? random() * laterMs : 0;
        return Array.from({ length: copies }, (_, i) => 1 + i / 10 + laterBy);
      };
      const measurement = start(network, {
        count: 200,
        intervalMs: 10,
        timeoutMs: 150,
      });
      // What reached the reflector and what came back, by the network's record.
      const [there, back] = [new Set<number>(), new Set<number>()];
      const { plan } = network;
      network.plan = (passing) => {
        const delays = plan(passing);
        const isThere = isUp(passing);
        const seq = new DataView(passing.data.buffer).getUint32(
          isThere ? 0 : 24,
        );
        if (delays.length > 0) (isThere ? there : back).add(seq);
        return delays;
      };
      await run(network, measurement);
      for (let seq = 0; seq < 200; seq++) {
        if (!there.has(seq)) truth.up++;
        else if (!back.has(seq)) truth.down++;
      }
      const { lost, lostUp, lostDown, lostUnattributed } = measurement
        .summary();
      const reported =
        `${name}, seed ${seed}: ${lostUp} up, ${lostDown} down, ` +
        `${lostUnattributed} unattributed of ${truth.up} and ${truth.down}`;
      assertEquals(lost, truth.up + truth.down, reported);
      assertEquals(lostUp! + lostDown! + lostUnattributed!, lost, reported);
      assert(lostUp! <= truth.up && lostDown! <= truth.down, reported);
      if (isWhole) {
        assertEquals([lostUp, lostDown], [truth.up, truth.down], reported);
      }
      await network.run(server.shutdown());
    }
  }
});

netTest(
  "measure(): it reports what a relay over real sockets did, exactly",
  async () => {
    await using server = serve({ engine: ENGINE }, stampReflector());
    const random = seededRandom(11);
    // Where the process stalls for 100 ms, sends are skipped: then once more.
    for (let tries = 1;; tries++) {
      let passed = 0;
      await using relay: Relay = new Relay(server.addr, (way) => {
        // The first requests get through, and the last one.
        const through = passed++ < 20 || relay.record.up.came >= 149;
        if (!through && random() < 0.15) return [];
        const delayMs = random() * 10;
        // Copies of replies to closing probes are no duplicates.
        const isCopied = way === "down" && relay.record.up.came <= 150;
        return isCopied && random() < 0.1 ? [delayMs, delayMs + 1] : [delayMs];
      });
      const measurement = measure(relay.addr, {
        count: 150,
        intervalMs: 2,
        timeoutMs: 5000,
      });
      await collect(measurement);
      const result = measurement.summary();
      if (result.skipped > 0 && tries < 20) continue;
      const { up, down } = relay.record;
      assert(up.came >= 150 && up.came <= 158, `${up.came} and closing probes`);
      assertEquals([result.lostUp, result.lostDown], [up.lost, down.lost]);
      assertEquals(result.received, 150 - up.lost - down.lost);
      assertEquals(result.duplicates, down.copied);
      assert(result.rttMs!.min > 0);
      assertEquals(result.foreign + result.late + result.lostUnattributed!, 0);
      break;
    }
  },
);

Deno.test("measure(): answers that the guard refuses are not reported as lost on the way down", async () => {
  const network = new SimulatedNetwork();
  const { runtime } = network;
  const reflector = stampReflector({ runtime });
  const options = { ...SERVER, runtime, guard: { rateLimit: 20 }, quiet: true };
  const server = serve(options, reflector);
  const measurement = measure(SERVER, { count: 100, intervalMs: 10, runtime });
  await network.run((async () => {
    for await (const _ of measurement);
  })());
  const { refused } = server.stats();
  const { lost, lostDown } = measurement.summary();
  assert(refused.rate > 50, `${refused.rate}`);
  // Some of the closing probes are refused too.
  assert(refused.rate - lost <= 8, `${refused.rate} refused, ${lost} lost`);
  assertEquals(lostDown, 0);
  const answered = 100 - lost;
  assert(reflector.stats().reflected - answered <= 8);
  assert(reflector.stats().reflected >= answered);
  await network.run(server.shutdown());
});

linuxTest(
  "measure(): the kernel's clock leaves out the program's share",
  async () => {
    const reflector = stampReflector({ engine: ENGINE });
    const options = { engine: ENGINE, packetInfo: true };
    let ttl: number | undefined;
    await using server = serve(options, (data, info) => {
      ttl = info.ttl;
      assert(info.arrivedAt! <= info.receivedAt + 0.1);
      // A reflector that is slow to read is not a slow path.
      const until = performance.now() + 2;
      while (performance.now() < until);
      return reflector(data, info);
    });
    const samples: StampSample[] = [];
    const measurement = measure(server.addr, {
      count: 20,
      intervalMs: 10,
      engine: ENGINE,
    });
    for await (const event of measurement) {
      if (event.type === "reply") samples.push(event.sample);
    }
    const { kernelTimed, received } = measurement.summary();
    assertEquals([kernelTimed, received, ttl], [20, 20, 64]);
    for (const { clock, rttMs, seenMs, reflectorMs } of samples) {
      assertEquals(clock, "kernel");
      assert(reflectorMs! >= 2, `${reflectorMs} ms in the reflector`);
      assert(rttMs! >= 0 && rttMs! <= seenMs! - reflectorMs! + 0.1);
    }
  },
);

Deno.test("measure(): counts of a stateless reflector locate the loss", async () => {
  for (const isTail of [true, false]) {
    const network = networkWith(undefined, { stateless: true });
    network.plan = (passing) => {
      const seq = new DataView(passing.data.buffer).getUint32(
        isUp(passing) ? 0 : 24,
      );
      const isLost = isUp(passing)
        ? [2, 5, 6].includes(seq)
        : seq === 4 || isTail && (seq === 8 || seq === 9);
      return isLost ? [] : [1];
    };
    const measurement = start(network, {
      count: 10,
      intervalMs: 10,
      timeoutMs: 50,
      extensions: ["direct-measurement"],
    });
    await run(network, measurement);
    const { lostUp, lostDown, lostUnattributed, reported } = measurement
      .summary();
    // Of the tail a closing probe tells.
    const down = isTail ? 3 : 1;
    assertEquals([lostUp, lostDown, lostUnattributed], [3, down, 0]);
    // That of a closing probe, behind which nothing is under way.
    const counts = { sent: 11, received: 8, transmitted: 8 };
    assertEquals(reported?.directMeasurement, counts);
  }
});

Deno.test("measure(): extensions are requested, in packets that are larger by them", async () => {
  const network = networkWith();
  const options = { count: 2, intervalMs: 10, replyDscp: 10, size: 60 };
  const measurement = start(network, {
    ...options,
    extensions: ["timestamp-info"],
  });
  const events = await run(network, measurement);
  const [first] = events;
  assert(first?.type === "reply");
  // The simulated network tells no traffic class.
  assertEquals(first.sample.reported, {
    timestampInfo: {
      synchronizedBy: "nothing",
      receiveStampedBy: "software",
      sendStampedBy: "software",
    },
    unsupported: ["class-of-service"],
    discarded: [],
  });
  assertEquals(measurement.summary().reported, first.sample.reported);
  assertEquals(network.sent.map(({ data }) => data.length), Array(4).fill(60));
  assertThrows(
    () => start(network, { ...options, size: 51 }),
    RangeError,
    "'size' must be an integer from 52",
  );
});

Deno.test("measure(): replies of another session are refused, and the SSID may be required", async () => {
  const network = new SimulatedNetwork();
  const { runtime } = network;
  const reflector = stampReflector({ runtime });
  let ssid = 7;
  serve({ ...SERVER, runtime, guard: false }, (data, info) => {
    const reply = reflector(data, info) as Uint8Array<ArrayBuffer>;
    new DataView(reply.buffer).setUint16(14, ssid);
    return reply;
  });
  const options = { count: 1, timeoutMs: 50, ssid: 7 };
  const figures = async (given: MeasureOptions = {}) => {
    const measurement = start(network, { ...options, ...given });
    await run(network, measurement);
    const { received, foreign, returnsSsid } = measurement.summary();
    return [received, foreign, returnsSsid];
  };
  assertEquals(await figures(), [1, 0, true]);
  assertEquals(await figures({ ssid: 0 }), [1, 0, undefined]);
  ssid = 8;
  assertEquals(await figures(), [0, 1, undefined]);
  ssid = 0;
  assertEquals(await figures(), [1, 0, false]);
  await assertRejects(
    () => figures({ needsSsid: true }),
    Error,
    "does not return the SSID",
  );
});

netTest(
  "measure(): the kernel's clock is refused where it stamps nothing",
  async () => {
    await using server = serve(stampReflector());
    const options = { engine: "deno", clock: "kernel", count: 1 } as const;
    await assertRejects(
      () => collect(measure(server.addr, options)),
      Deno.errors.NotSupported,
      "the kernel's clock",
    );
  },
);

linuxTest(
  "measure(): replies have the requested DSCP, and the clock is the chosen one",
  async () => {
    for (const hostname of ["127.0.0.1", "::1"]) {
      const options = { hostname, engine: ENGINE, packetInfo: true };
      await using server = serve(options, stampReflector({ engine: ENGINE }));
      const reported = async (given: MeasureOptions) => {
        const asked = { count: 3, intervalMs: 5, engine: ENGINE, ...given };
        const measurement = measure(server.addr, asked);
        await collect(measurement);
        return measurement.summary();
      };
      // A class is changed by nobody on the loopback interface.
      const trafficClass = 26 << 2;
      const { reported: first, kernelTimed } = await reported({
        trafficClass,
        replyDscp: 46,
        clock: "kernel",
      });
      assertEquals([first?.classOfService, kernelTimed], [
        { dscp: 26, ecn: 0, isPermitted: true, replyDscp: 46 },
        3,
      ]);
      const second = await reported({
        trafficClass,
        replyDscp: 56,
        clock: "program",
        key: new Uint8Array(16),
      }).catch(() => undefined);
      assertEquals(second?.received, 0, "the reflector has no key");
      const third = await reported({
        trafficClass,
        replyDscp: 56,
        clock: "program",
      });
      assertEquals([third.reported?.classOfService, third.kernelTimed], [
        { dscp: 26, ecn: 0, isPermitted: false, replyDscp: 26 },
        0,
      ]);
    }
  },
);

linuxTest(
  "measure(): a reflector behind another handler reports that it gives no class",
  async () => {
    const reflector = stampReflector({ engine: ENGINE });
    const options = { engine: ENGINE, packetInfo: true };
    await using server = serve(options, (data, info) => reflector(data, info));
    const asked = { count: 1, engine: ENGINE, replyDscp: 46 };
    const measurement = measure(server.addr, asked);
    await collect(measurement);
    assertEquals(measurement.summary().reported?.unsupported, [
      "class-of-service",
    ]);
  },
);

Deno.test("measure(): it sleeps between requests only if it may", async () => {
  for (const mayBlock of [true, false]) {
    const network = networkWith();
    const { runtime } = network;
    const slept: number[] = [];
    const measurement = start(network, {
      count: 3,
      intervalMs: 10,
      mayBlock,
      runtime: {
        ...runtime,
        open: (how) =>
          Object.assign(runtime.open(how), {
            sleep: (ms: number) => slept.push(ms),
          }),
        afterExactly(ms, callback, pause) {
          pause?.(ms);
          return runtime.afterExactly(ms, callback);
        },
      },
    });
    await run(network, measurement);
    assertEquals(slept, mayBlock ? [10, 10] : []);
  }
});

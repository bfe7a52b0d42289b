import { assert, assertEquals } from "@std/assert";
import { load } from "../../lib/client/load.ts";
import type { RunHandle } from "../../lib/client/run.ts";
import {
  requestMany,
  type RequestManyOptions,
} from "../../lib/client/series.ts";
import { echo } from "../../lib/server/responders.ts";
import { serve } from "../../lib/server/serve.ts";
import type { Runtime } from "../../lib/socket/runtime.ts";
import { measure } from "../../lib/stamp/measure.ts";
import { stampReflector } from "../../lib/stamp/reflector.ts";
import type { Interval } from "../../lib/stats/books.ts";
import {
  NO_COUNTS,
  type PartCounts,
  type RunCounts,
} from "../../lib/stats/counts.ts";
import type { Sample } from "../../lib/stats/sample.ts";
import {
  type Passing,
  SimulatedNetwork,
  TIME_ORIGIN,
} from "../../lib/testing/mod.ts";
import { freezing } from "./freeze.ts";

const SERVER = { hostname: "198.51.100.1", port: 7 };
const INTERVAL_MS = 10;
const TIMEOUT_MS = 200;

type Options =
  & Pick<
    RequestManyOptions,
    "count" | "deadlineMs" | "reportMs" | "onSample" | "runtime"
  >
  & { durationMs?: number };
type Event = Interval | { type: string };

/** Each kind of run, of a datagram each 10 ms; a load has no deadline. */
const MODES: Record<string, (options: Options) => RunHandle<Event, RunCounts>> =
  {
    series: (options) =>
      requestMany(SERVER, "ping", {
        ...{ intervalMs: INTERVAL_MS, timeoutMs: TIMEOUT_MS },
        ...options,
      }),
    load({ deadlineMs: _, ...options }) {
      const rate = 1000 / INTERVAL_MS;
      return load(SERVER, { rate, timeoutMs: TIMEOUT_MS, ...options });
    },
    STAMP: (options) =>
      measure(SERVER, {
        ...{ intervalMs: INTERVAL_MS, timeoutMs: TIMEOUT_MS },
        ...options,
      }),
  };

const isUp = ({ to }: Passing) => to.port === SERVER.port;

/** A network whose server answers `latencyMs` later, in the way of a mode. */
function networkFor(mode: string, latencyMs: number) {
  const network = new SimulatedNetwork((passing) =>
    isUp(passing) ? [latencyMs] : [0]
  );
  const { runtime } = network;
  const handler = mode === "STAMP" ? stampReflector({ runtime }) : echo();
  serve({ ...SERVER, runtime, guard: false }, handler);
  return network;
}

interface Situation {
  latencyMs?: number;
  options: Options;
  /** Prepares the network; gives the client's runtime, if it is another. */
  prepare?(network: SimulatedNetwork): Runtime | void;
  /** Acts on the run, which has not begun. */
  act?(run: RunHandle<Event, RunCounts>, network: SimulatedNetwork): void;
}

/**
 * The summary and the samples of a run of a mode. Its intervals add up to the
 * summary, and each datagram has one sample.
 */
async function outcomeOf(
  mode: string,
  { latencyMs = 20, options, prepare, act }: Situation,
) {
  const network = networkFor(mode, latencyMs);
  const runtime = prepare?.(network) ?? network.runtime;
  const samples: Sample[] = [];
  const run = MODES[mode]!({
    ...{ runtime, reportMs: 250, ...options },
    onSample: (sample) => samples.push(sample),
  });
  act?.(run, network);
  const intervals: Interval[] = [];
  await network.run((async () => {
    for await (const event of run) {
      if (event.type === "interval") intervals.push(event as Interval);
    }
  })());
  assertEquals(network.sockets.size, 1, mode);
  // What still waits for a client that stood still is delivered to nobody.
  await network.runFor(5000);
  assertEquals(network.timers, 0, mode);
  const counts = run.summary();
  const summed = { ...NO_COUNTS };
  for (const interval of intervals) {
    for (const name of Object.keys(summed) as Array<keyof PartCounts>) {
      assert(interval[name] >= 0, `${mode}: ${interval[name]} ${name}`);
      summed[name] += interval[name];
    }
  }
  const whole = Object.keys(summed).map((name) =>
    [name, counts[name as keyof PartCounts]] as const
  );
  assertEquals(summed, Object.fromEntries(whole) as unknown as PartCounts);
  const { sent, received, lost, pending, unsent } = counts;
  assertEquals(sent, received + lost + pending, mode);
  const seqs = samples.map(({ seq }) => seq).sort((a, b) => a - b);
  assertEquals(seqs, Array.from({ length: sent + unsent }, (_, seq) => seq));
  return { counts, samples, intervals, network };
}

/** A test of all kinds of runs. */
function modesTest(name: string, test: (mode: string) => Promise<void>): void {
  for (const mode of Object.keys(MODES)) {
    Deno.test(`${name} (${mode})`, () => test(mode));
  }
}

modesTest(
  "Run: an outage is loss, and an outage, with the reason",
  async (mode) => {
    const { counts, samples } = await outcomeOf(mode, {
      options: { count: 300 },
      prepare(network) {
        const { plan } = network;
        network.plan = (passing) => {
          const isAway = network.now >= 500 && network.now < 1500;
          if (isUp(passing) && isAway) {
            throw new Error("Network is unreachable");
          }
          return plan(passing);
        };
      },
    });
    const { sent, received, lost, unsent, lossPercent, reasons } = counts;
    assertEquals([sent, received, lost, unsent], [200, 200, 0, 100]);
    assertEquals(lossPercent, 100 / 3);
    assertEquals(reasons, [{ reason: "Network is unreachable", count: 100 }]);
    assertEquals([counts.outageCount, counts.outages], [1, [
      { fromMs: 500, toMs: 1500, datagrams: 100, unsent: 100 },
    ]]);
    assertEquals([counts.skipped, counts.stalls], [0, 0]);
    const refused = samples.filter(({ outcome }) => outcome === "unsent");
    assertEquals([refused.length, refused[0]!.seq], [100, 50]);
  },
);

modesTest(
  "Run: a standstill of the client is no loss, and is reported",
  async (mode) => {
    const { counts, samples } = await outcomeOf(mode, {
      options: { count: 100 },
      prepare: (network) => freezing(network, 500, 1500),
    });
    const { sent, received, lost, late, skipped, stalls, stalledMs } = counts;
    assertEquals([sent, received, lost, late], [100, 100, 0, 0]);
    // The datagram due at 510 ms is sent at 2000 ms, and all others after it.
    assertEquals([skipped, stalls, counts.lossPercent], [0, 1, 0]);
    const { longestStall } = counts;
    assertEquals(longestStall?.ms, stalledMs);
    assert(stalledMs > 1300 && stalledMs <= 1500, `${stalledMs} ms`);
    assertEquals(longestStall!.fromMs + longestStall!.ms, 2000);
    if (mode !== "load") return;
    // Echoes that waited in the socket have no RTT.
    const rtts = samples.map(({ rttMs }) => rttMs).filter(Boolean);
    assertEquals([rtts.length, Math.max(...rtts as number[])], [98, 20]);
  },
);

modesTest(
  "Run: a standstill until the deadline is reported, with what was not sent",
  async (mode) => {
    const { counts } = await outcomeOf(mode, {
      options: mode === "load"
        ? { count: 200, durationMs: 1000 }
        : { count: 200, deadlineMs: 1000 },
      prepare: (network) => freezing(network, 500, 1500),
    });
    const { sent, stalls, stalledMs, skipped, lost } = counts;
    assert(stalledMs > 1300, `${stalledMs} ms`);
    // Due from 510 ms until the end.
    assertEquals([sent, stalls, skipped, lost], [51, 1, 49, 0]);
  },
);

modesTest(
  "Run: the time-out counts from the send, not from when it was due",
  async (mode) => {
    const { counts, samples } = await outcomeOf(mode, {
      latencyMs: TIMEOUT_MS - 1,
      options: { count: 100 },
      // Short enough to catch up with.
      prepare: (network) => freezing(network, 505, 90),
    });
    assertEquals([counts.received, counts.lost, counts.skipped], [100, 0, 0]);
    const delays = samples.map(({ sentMs, dueMs }) => sentMs - dueMs);
    assertEquals(Math.max(...delays), 85);
  },
);

modesTest(
  "Run: at a deadline what is in flight is pending, and in no loss figure",
  async (mode) => {
    const { counts, samples } = await outcomeOf(mode, {
      latencyMs: 100,
      options: { count: 1000, deadlineMs: 505 },
      prepare(network) {
        const { plan } = network;
        // The 5th of each 10 is lost.
        let index = 0;
        network.plan = (passing) =>
          isUp(passing) && index++ % 10 === 5 ? [] : plan(passing);
      },
      act: (run, network) =>
        mode === "load" && network.runtime.after(505, () => run.stop()),
    });
    // By 505 ms 51 are sent; those of the first 405 ms are answered, but for 4, and
    // of these three have timed out.
    const { sent, received, lost, pending, lossPercent } = counts;
    assertEquals([sent, received, lost, pending], [51, 37, 3, 11]);
    assertEquals(lossPercent, 100 * 3 / 40);
    const open = samples.filter(({ outcome }) => outcome === "pending");
    assertEquals(open.map(({ seq }) => seq), [
      ...[35, ...Array.from({ length: 10 }, (_, i) => 41 + i)],
    ]);
  },
);

modesTest(
  "Run: nothing changes after stop(), whatever arrives",
  async (mode) => {
    const network = networkFor(mode, 100);
    const { runtime } = network;
    const run = MODES[mode]!({ runtime, count: 100, reportMs: 50 });
    const iterator = run[Symbol.asyncIterator]();
    await network.run<unknown>(iterator.next());
    await network.runFor(200);
    run.stop();
    const before = run.summary();
    // Nobody iterates meanwhile.
    await network.runFor(1000);
    assertEquals(run.summary(), before);
    assert(before.pending > 0);
    await network.run<unknown>(iterator.return!());
  },
);

modesTest("Run: a sample has the facts of its datagram", async (mode) => {
  const { samples, network } = await outcomeOf(mode, {
    options: { count: 3 },
    prepare(network) {
      const { plan } = network;
      let index = 0;
      network.plan = (passing) =>
        isUp(passing) && index++ === 1 ? [] : plan(passing);
    },
  });
  assertEquals(samples.map(({ seq, outcome }) => [seq, outcome]), [
    [0, "received"],
    [2, "received"],
    [1, "lost"],
  ]);
  const [{ dueMs, sentMs, sentAt, rttMs, clock, attempts }] = [samples[1]!];
  assertEquals([dueMs, sentMs, sentAt], [20, 20, TIME_ORIGIN + 20]);
  assertEquals([rttMs, clock, attempts], [20, "program", 1]);
  assertEquals(samples[2]!.rttMs, undefined);
  const sent = network.sent.filter(isUp);
  for (const { seq, size, target, localPort } of samples) {
    const { data, from } = sent[seq]!;
    assertEquals([size, target, localPort], [data.length, SERVER, from.port]);
  }
});

for (const mode of ["load", "STAMP"]) {
  Deno.test(`Run: after a standstill the kernel's time of arrival decides what is late (${mode})`, async () => {
    for (
      const [latencyMs, isStamping, lost] of [
        [TIMEOUT_MS + 50, true, 100],
        [TIMEOUT_MS - 50, true, 0],
      ] as const
    ) {
      const { counts } = await outcomeOf(mode, {
        latencyMs,
        options: { count: 100 },
        prepare: (network) => freezing(network, 500, 1500, isStamping),
      });
      assertEquals([counts.lost, counts.stalls], [lost, 1], `${latencyMs} ms`);
    }
  });
}

modesTest(
  "Run: an interval that ends with the run is left out if nothing happened in it",
  async (mode) => {
    const { intervals } = await outcomeOf(mode, {
      options: { count: 3, reportMs: 10 },
    });
    // Sent at 0, 10 and 20 ms, answered 20 ms later; all but a load wait for copies.
    const spans = intervals.map(({ fromMs, toMs }) => `${fromMs} to ${toMs}`);
    const tens = Array.from(
      { length: mode === "load" ? 4 : 9 },
      (_, i) => `${10 * i} to ${10 * (i + 1)}`,
    );
    assertEquals(spans, mode === "load" ? [...tens, "40 to 40"] : tens);
    const counted = intervals.map(({ sent, received }) => sent + received);
    assertEquals(counted.slice(-1), [mode === "load" ? 1 : 0]);
  },
);

import { assert, assertEquals, assertRejects, assertThrows } from "@std/assert";
import type { UdpAddress } from "../../lib/address.ts";
import { decode } from "../../lib/encoding.ts";
import {
  requestMany,
  type RequestManyOptions,
  type Series,
  type SeriesEvent,
} from "../../lib/client/series.ts";
import { fixedReply } from "../../lib/server/responders.ts";
import { serve } from "../../lib/server/serve.ts";
import {
  LATENCY_MS,
  type Passing,
  type Plan,
  seededRandom,
  type SimulatedNetwork,
  TIME_ORIGIN,
} from "../../lib/testing/mod.ts";
import { restfulNetworks } from "../helpers.ts";

const makeNetwork = restfulNetworks();

const SERVER: UdpAddress = { hostname: "198.51.100.1", port: 20001 };

/** A network with a server whose replies are all alike. */
function networkWith(plan?: Plan): SimulatedNetwork {
  const network = makeNetwork(plan);
  const { runtime } = network;
  serve({ ...SERVER, runtime, guard: false }, fixedReply("alike"));
  return network;
}

function start(network: SimulatedNetwork, options: RequestManyOptions): Series {
  return requestMany(SERVER, "ping", { runtime: network.runtime, ...options });
}

async function collect(series: Series): Promise<SeriesEvent[]> {
  const events: SeriesEvent[] = [];
  for await (const event of series) events.push(event);
  return events;
}

function run(
  network: SimulatedNetwork,
  series: Series,
): Promise<SeriesEvent[]> {
  return network.run(collect(series));
}

function isRequest({ to }: Passing): boolean {
  return to.port === SERVER.port;
}

function brief(events: SeriesEvent[]): string[] {
  return events.map((event) =>
    event.type === "interval" ? event.type : `${event.type} ${event.seq}`
  );
}

Deno.test("requestMany(): it sends count datagrams, an interval apart, from ports of their own", async () => {
  const network = networkWith();
  const sentAt: number[] = [];
  network.plan = (passing) => {
    if (isRequest(passing)) sentAt.push(network.now);
    return [LATENCY_MS];
  };
  const series = start(network, { count: 4, intervalMs: 200 });
  assertEquals(series.target, undefined);
  const events = await run(network, series);
  assertEquals(brief(events), ["reply 0", "reply 1", "reply 2", "reply 3"]);
  assertEquals(sentAt, [0, 200, 400, 600]);
  const ports = network.sent.filter(isRequest).map(({ from }) => from.port);
  assertEquals(new Set(ports).size, 4);
  assertEquals(series.target, SERVER);
  assertEquals(series.summary(), {
    sent: 4,
    received: 4,
    lost: 0,
    pending: 0,
    lossPercent: 0,
    duplicates: 0,
    late: 0,
    retransmissions: 0,
    foreign: 0,
    eventsDropped: 0,
    rejected: 0,
    unsent: 0,
    skipped: 0,
    stalls: 0,
    stalledMs: 0,
    longestStall: undefined,
    lossPeriods: 0,
    longestLossPeriod: 0,
    outageCount: 0,
    outageMs: 0,
    outages: [],
    reasons: [],
    startedAt: TIME_ORIGIN,
    heldBack: 0,
    durationMs: 600 + 2 * LATENCY_MS,
    rttMs: {
      min: 10,
      mean: 10,
      median: 10,
      p90: 10,
      p99: 10,
      p999: 10,
      max: 10,
      stddev: 0,
    },
  });
  assertEquals(network.sockets.size, 1);
});

Deno.test("requestMany(): it sends on schedule while earlier ones are unanswered", async () => {
  const network = networkWith((passing) => isRequest(passing) ? [500] : [500]);
  const series = start(network, { count: 3, intervalMs: 100, timeoutMs: 2000 });
  const events = await run(network, series);
  assertEquals(brief(events), ["reply 0", "reply 1", "reply 2"]);
  assertEquals(series.summary().durationMs, 1200);
});

Deno.test("requestMany(): with an interval of 0 it sends when the one before is settled", async () => {
  const network = networkWith(({ index }) => index === 2 ? [] : [LATENCY_MS]);
  const sentAt: number[] = [];
  const { plan } = network;
  network.plan = (passing) => {
    if (isRequest(passing)) sentAt.push(network.now);
    return plan(passing);
  };
  const series = start(network, {
    count: 3,
    intervalMs: 0,
    timeoutMs: 100,
    retries: 0,
  });
  assertEquals(brief(await run(network, series)), [
    "reply 0",
    "lost 1",
    "reply 2",
  ]);
  assertEquals(sentAt, [0, 10, 110]);
});

Deno.test("requestMany(): a late reply does not count for a later datagram, even if all are alike", async () => {
  // Each reply comes when the next datagram is under way, and just before that
  // one's own would be due.
  const network = networkWith((passing) => isRequest(passing) ? [1] : [148]);
  const series = start(network, {
    count: 3,
    intervalMs: 140,
    timeoutMs: 100,
    retries: 0,
  });
  const events = await run(network, series);
  assertEquals(brief(events), [
    "lost 0",
    "late 0",
    "lost 1",
    "late 1",
    "lost 2",
  ]);
  const { sent, received, lost, late, rttMs } = series.summary();
  assertEquals({ sent, received, lost, late, rttMs }, {
    sent: 3,
    received: 0,
    lost: 3,
    late: 2,
    rttMs: undefined,
  });
});

Deno.test("requestMany(): it counts duplicates, those of the last datagram too", async () => {
  const network = networkWith((passing) =>
    isRequest(passing) ? [LATENCY_MS] : [LATENCY_MS, LATENCY_MS + 1]
  );
  const series = start(network, { count: 3, intervalMs: 50 });
  const events = await run(network, series);
  assertEquals(brief(events), [
    "reply 0",
    "duplicate 0",
    "reply 1",
    "duplicate 1",
    "reply 2",
    "duplicate 2",
  ]);
  const { received, lost, duplicates, lossPercent } = series.summary();
  assertEquals([received, lost, duplicates, lossPercent], [3, 0, 3, 0]);
});

Deno.test("requestMany(): counts a copy that arrives with the reply to a lone datagram", async () => {
  const network = networkWith((passing) =>
    isRequest(passing) ? [LATENCY_MS] : [LATENCY_MS, LATENCY_MS]
  );
  const series = start(network, { count: 1 });
  const events = await run(network, series);
  assertEquals(brief(events), ["reply 0", "duplicate 0"]);
  assertEquals(series.summary().duplicates, 1);
});

Deno.test("requestMany(): with retries the loss is that of exchanges", async () => {
  // Every third datagram is lost on its way there, and one answer is late.
  let [sent, answered] = [0, 0];
  const network = networkWith((passing) => {
    if (isRequest(passing)) return sent++ % 3 === 0 ? [] : [1];
    return answered++ === 0 ? [120] : [1];
  });
  const options = { count: 400, intervalMs: 1, retries: 1, timeoutMs: 50 };
  const series = start(network, options);
  await run(network, series);
  const { lost, retransmissions, lossPercent } = series.summary();
  assertEquals(sent, 400 + retransmissions);
  assertEquals(lossPercent, lost / 4);
});

Deno.test("requestMany(): it receives copies for three times the longest RTT", async () => {
  const network = networkWith((passing) =>
    isRequest(passing) ? [20] : [20, 20 + 119, 20 + 121]
  );
  const series = start(network, { count: 2, intervalMs: 0 });
  await run(network, series);
  assertEquals(series.summary().duplicates, 3);
});

Deno.test("requestMany(): a reply to each of two attempts is no duplicate", async () => {
  const network = networkWith((passing) => isRequest(passing) ? [60] : [60]);
  const series = start(network, {
    count: 2,
    intervalMs: 300,
    timeoutMs: 100,
    retries: 1,
  });
  const events = await run(network, series);
  assertEquals(brief(events), ["reply 0", "reply 1"]);
  const { duplicates, retransmissions, rttMs } = series.summary();
  assertEquals([duplicates, retransmissions, rttMs], [0, 2, undefined]);
});

Deno.test("requestMany(): it continues while the server is stopped and started", async () => {
  const network = makeNetwork();
  const { runtime } = network;
  const up = () => serve({ ...SERVER, runtime }, fixedReply("alike"));
  const server = up();
  network.runtime.after(150, () => server.shutdown());
  network.runtime.after(350, up);
  const series = start(network, {
    count: 6,
    intervalMs: 100,
    timeoutMs: 50,
    retries: 0,
  });
  assertEquals(brief(await run(network, series)), [
    "reply 0",
    "reply 1",
    "lost 2",
    "lost 3",
    "reply 4",
    "reply 5",
  ]);
});

Deno.test("requestMany(): a failed send is reported, and it continues", async () => {
  const unreachable = new Error("Network is unreachable");
  const network = networkWith(({ index }) => {
    if (index === 0) throw unreachable;
    return [LATENCY_MS];
  });
  const series = start(network, { count: 2, intervalMs: 50 });
  const events = await run(network, series);
  assertEquals(brief(events), ["error 0", "reply 1"]);
  const [first] = events;
  assert(
    first?.type === "error" && (first.error as Error).cause === unreachable,
  );
  const { sent, received, lost, unsent, lossPercent, reasons } = series
    .summary();
  assertEquals([sent, received, lost, unsent, lossPercent], [1, 1, 0, 1, 50]);
  assertEquals(reasons.map(({ count }) => count), [1]);
});

Deno.test("requestMany(): it ends at its deadline, and what is in flight is pending", async () => {
  const network = networkWith(() => []);
  const series = start(network, {
    count: 100,
    intervalMs: 100,
    deadlineMs: 250,
  });
  assertEquals(brief(await run(network, series)), []);
  const { sent, lost, pending, lossPercent } = series.summary();
  assertEquals([sent, lost, pending, lossPercent], [3, 0, 3, undefined]);
  assertEquals([network.now, network.sockets.size], [250, 1]);
});

Deno.test("requestMany(): stop() ends it, and unanswered datagrams stay pending", async () => {
  const network = networkWith(({ index }) => index < 2 ? [LATENCY_MS] : []);
  const series = start(network, { count: 100, intervalMs: 100 });
  network.runtime.after(150, () => series.stop());
  assertEquals(brief(await run(network, series)), ["reply 0"]);
  const { sent, received, lost, pending, lossPercent } = series.summary();
  assertEquals([sent, received, lost, pending], [2, 1, 0, 1]);
  assertEquals(lossPercent, 0);
  assertEquals([network.now, network.sockets.size], [150, 1]);
});

Deno.test("requestMany(): stop() before the start leaves nothing to do", async () => {
  const network = networkWith();
  const series = start(network, { count: 3 });
  series.stop();
  assertEquals(await run(network, series), []);
  const { sent, lossPercent, rttMs } = series.summary();
  assertEquals([sent, lossPercent, rttMs], [0, undefined, undefined]);
});

Deno.test("requestMany(): leaving the iteration closes every socket and stops the clock", async () => {
  const network = networkWith();
  const series = start(network, { count: 3, intervalMs: 100 });
  await network.run((async () => {
    for await (const _ of series) break;
  })());
  assertEquals(network.sockets.size, 1);
  assertEquals(series.summary().sent, 1);
});

Deno.test("requestMany(): it throws the reason of an abort, before and during", async () => {
  const reason = new Error("enough");
  const network = networkWith();
  const before = start(network, { signal: AbortSignal.abort(reason) });
  assert(reason === await assertRejects(() => run(network, before), Error));

  const controller = new AbortController();
  const during = start(network, { count: 3, signal: controller.signal });
  network.runtime.after(500, () => controller.abort(reason));
  assert(reason === await assertRejects(() => run(network, during), Error));
  assertEquals(during.summary().received, 1);
  assertEquals(network.sockets.size, 1);
});

Deno.test("requestMany(): it throws if no socket can be opened", async () => {
  const network = networkWith();
  const runtime = {
    ...network.runtime,
    open: () => {
      throw new Deno.errors.AddrNotAvailable("none");
    },
  };
  const series = start(network, { runtime });
  await assertRejects(() => run(network, series), Deno.errors.AddrNotAvailable);
  const { sent, unsent, lossPercent } = series.summary();
  assertEquals([sent, unsent, lossPercent], [0, 1, 100]);
});

Deno.test("requestMany(): it bounds what is unanswered, and loses none of it", async () => {
  const network = networkWith((passing) => isRequest(passing) ? [] : [1]);
  let most = 0;
  const { plan } = network;
  network.plan = (passing) => {
    most = Math.max(most, network.sockets.size - 1);
    return plan(passing);
  };
  const series = start(network, {
    count: 600,
    intervalMs: 1,
    timeoutMs: 1000,
    retries: 0,
  });
  await run(network, series);
  const { sent, lost, durationMs } = series.summary();
  assertEquals([sent, lost], [600, 600]);
  assertEquals(most, 256);
  assert(durationMs > 2000, "the third batch had to wait for the second");
});

Deno.test("requestMany(): maxSockets bounds the open sockets, and the unanswered", async () => {
  const network = networkWith(({ index }) => index < 40 ? [1] : []);
  let most = 0;
  const { plan } = network;
  network.plan = (passing) => {
    most = Math.max(most, network.sockets.size - 1);
    return plan(passing);
  };
  const options = { count: 30, intervalMs: 10, timeoutMs: 100, maxSockets: 4 };
  const series = start(network, options);
  await run(network, series);
  const { sent, received, lost, heldBack } = series.summary();
  assertEquals([most, sent, received, lost], [4, 30, 20, 10]);
  assert(heldBack > 0, "the fifth unanswered one waits for the first");
});

Deno.test("requestMany(): an unanswered datagram outlives many that are answered", async () => {
  const network = networkWith(({ index }) => index === 0 ? [] : [1]);
  const series = start(network, {
    count: 400,
    intervalMs: 1,
    timeoutMs: 2000,
    retries: 0,
  });
  const events = await run(network, series);
  const { received, lost, pending } = series.summary();
  assertEquals([received, lost, pending], [399, 1, 0]);
  assertEquals(brief(events).at(-1), "lost 0");
});

Deno.test("requestMany(): an unanswered datagram is lost, however many follow until then", async () => {
  const network = networkWith(({ index }) => index === 0 ? [] : [0]);
  const options = { count: 1500, intervalMs: 1, timeoutMs: 1000 };
  const series = start(network, options);
  await run(network, series);
  const { sent, received, lost, pending, heldBack } = series.summary();
  assertEquals([sent, received, lost, pending], [1500, 1499, 1, 0]);
  assertEquals(heldBack, 0);
});

Deno.test("requestMany(): at most 16,384 datagrams follow an unanswered one", async () => {
  const network = networkWith(({ index }) => index === 0 ? [] : [1]);
  const options = { count: 17_000, intervalMs: 0.01, timeoutMs: 5000 };
  const series = start(network, options);
  await run(network, series);
  const { sent, received, lost, pending, heldBack } = series.summary();
  assertEquals([sent, received, lost, pending], [17_000, 16_999, 1, 0]);
  assertEquals([heldBack, network.now > 5000], [1, true]);
});

Deno.test("requestMany(): a datagram that waits for 256 others is held back, not skipped", async () => {
  const network = networkWith(() => []);
  const options = { count: 300, intervalMs: 1, timeoutMs: 1000 };
  const series = start(network, options);
  await run(network, series);
  const { sent, lost, heldBack, skipped, stalls } = series.summary();
  assertEquals([sent, lost, heldBack], [300, 300, 1]);
  assertEquals([skipped, stalls], [0, 0]);
});

Deno.test("requestMany(): it reports what a seeded network did, exactly", async () => {
  for (const seed of [1, 2, 3]) {
    const random = seededRandom(seed);
    const timeoutMs = 100;
    const truth = { received: 0, late: 0, duplicates: 0 };
    const sentAt = new Map<number, number>();
    const rttsMs: number[] = [];
    const network = networkWith();
    // Requests are lost or delayed; replies are lost, delayed or doubled.
    network.plan = (passing) => {
      if (isRequest(passing)) sentAt.set(passing.from.port, network.now);
      const delayMs = Math.floor(random() * 60);
      if (random() < 0.2) return [];
      if (isRequest(passing)) return [delayMs];
      const rttMs = network.now + delayMs - sentAt.get(passing.to.port)!;
      if (rttMs < timeoutMs) {
        truth.received++;
        rttsMs.push(rttMs);
      } else truth.late++;
      if (random() < 0.8) return [delayMs];
      truth.duplicates++;
      return [delayMs, delayMs + 3];
    };
    const series = start(network, {
      count: 200,
      intervalMs: 10,
      timeoutMs,
      retries: 0,
    });
    await run(network, series);
    const { sent, received, lost, late, duplicates, rttMs } = series.summary();
    assertEquals({ received, late, duplicates }, truth, `seed ${seed}`);
    assertEquals([sent, lost], [200, 200 - truth.received]);
    assert(rttMs !== undefined && truth.late > 0 && truth.duplicates > 0);
    assertEquals(
      [rttMs.min, rttMs.max],
      [Math.min(...rttsMs), Math.max(...rttsMs)],
    );
  }
});

Deno.test("requestMany(): without retries nothing is sent twice", async () => {
  const network = networkWith(({ index }) => index === 0 ? [] : [LATENCY_MS]);
  const series = start(network, { count: 3, intervalMs: 50, retries: 0 });
  const events = await run(network, series);
  assertEquals(brief(events), ["reply 1", "reply 2", "lost 0"]);
  assertEquals(network.sent.filter(isRequest).length, 3);
});

Deno.test("requestMany(): it checks everything at the call, before it is iterated", () => {
  const wrong: Array<[unknown, unknown, string]> = [
    [SERVER, { count: 0 }, "'count'"],
    [SERVER, { count: 1.5 }, "'count'"],
    [SERVER, { intervalMs: -1 }, "'intervalMs'"],
    [SERVER, { intervalMs: NaN }, "'intervalMs'"],
    [SERVER, { deadlineMs: 0 }, "'deadlineMs'"],
    [SERVER, { retries: -1 }, "'retries'"],
    [SERVER, { timeoutMs: 0 }, "'timeoutMs'"],
    [SERVER, { maxDatagramBytes: 0 }, "'maxDatagramBytes'"],
    [{ ...SERVER, port: 0 }, {}, "'port'"],
  ];
  for (const [address, options, message] of wrong) {
    const call = () =>
      requestMany(address as UdpAddress, "", options as RequestManyOptions);
    assertThrows(call, RangeError, message);
  }
  const mistyped: Array<[unknown, unknown, string]> = [
    [SERVER, { intervalMs: "1000" }, "'intervalMs' must be a number"],
    [SERVER, { match: "x" }, "'match' must be a function"],
    [SERVER, { engine: "lniux" }, "'engine' must be one of deno, linux, auto"],
    [
      SERVER,
      { localHostname: 7 },
      "'localHostname' must be an IP address or a name",
    ],
    [{ port: 7 }, {}, "'hostname' must be an IP address or a name"],
    ["0.0.0.0:7", {}, "Cannot send to 0.0.0.0:7"],
    ["[::1]:7", { localHostname: "127.0.0.1" }, "Cannot send to [::1]:7 from"],
  ];
  for (const [address, options, message] of mistyped) {
    const call = () =>
      requestMany(address as UdpAddress, "", options as RequestManyOptions);
    assertThrows(call, TypeError, message);
  }
  assertThrows(() => requestMany("nowhere", ""), SyntaxError, "no port");
  const long = new Uint8Array(65_508);
  assertThrows(() => requestMany(SERVER, long), RangeError, "at most 65507");
});

Deno.test("requestMany(): more than one datagram is not retransmitted by default", async () => {
  for (
    const [options, sent] of [[{ count: 2 }, 2], [{ count: 1 }, 3]] as const
  ) {
    const network = networkWith(() => []);
    await run(network, start(network, { ...options, intervalMs: 1 }));
    assertEquals(network.sent.length, sent);
  }
});

Deno.test("requestMany(): answered sockets are closed when no other can be opened", async () => {
  for (const intervalMs of [20, 0]) {
    const network = networkWith();
    const { open, after } = network.runtime;
    let free = 10;
    const runtime = {
      ...network.runtime,
      open(options: Parameters<typeof open>[0]) {
        if (free === 0) throw new Error("Too many open files");
        free--;
        const socket = open(options);
        const { start } = socket;
        // The system closes a socket later.
        socket.start = async (receiver) => {
          await start.call(socket, receiver);
          await new Promise<void>((resolve) => after(5, resolve));
          free++;
        };
        return socket;
      },
    };
    const series = start(network, { count: 50, intervalMs, runtime });
    await run(network, series);
    const { received, unsent } = series.summary();
    assertEquals([received, unsent], [50, 0]);
  }
});

Deno.test("requestMany(): a function makes the payload of each datagram of a series", async () => {
  const network = networkWith();
  const { runtime } = network;
  const series = requestMany(
    SERVER,
    (seq, attempt) => `${seq}.${attempt}`,
    { count: 3, intervalMs: 0, retries: 1, timeoutMs: 20, runtime },
  );
  network.plan = ({ index }) => index === 0 ? [] : [LATENCY_MS];
  await run(network, series);
  const asked = network.sent.filter(isRequest);
  assertEquals(asked.map(({ data }) => decode(data)), [
    "0.1",
    "0.2",
    "1.1",
    "2.1",
  ]);
});

Deno.test("requestMany(): it continues after a payload that cannot be made", async () => {
  const network = networkWith();
  const { runtime } = network;
  for (const intervalMs of [0, 10]) {
    const series = requestMany(SERVER, (seq) => {
      if (seq === 1) throw new Error("none");
      return "x";
    }, { count: 3, intervalMs, runtime });
    const types = (await run(network, series)).map(({ type }) => type);
    assertEquals(types.sort(), ["error", "reply", "reply"]);
  }
});

Deno.test("requestMany(): a series refuses a local port of its own", () => {
  const options = { count: 2, localPort: 4242 };
  assertThrows(
    () => requestMany(SERVER, "x", options),
    RangeError,
    "'localPort' must be 0",
  );
});

Deno.test("requestMany(): without an end it runs until it is stopped", async () => {
  const network = makeNetwork();
  const { runtime } = network;
  const server = serve({ ...SERVER, runtime, guard: false }, fixedReply("x"));
  const series = requestMany(SERVER, "x", {
    count: Infinity,
    intervalMs: 100,
    runtime,
  });
  let events = 0;
  await network.run((async () => {
    for await (const _ of series) if (++events === 1000) series.stop();
  })());
  const { sent, received, lost } = series.summary();
  assertEquals([sent, received, lost], [1000, 1000, 0]);
  assertEquals(network.now, 99_900 + 2 * LATENCY_MS);
  await network.run(server.shutdown());
});

Deno.test("requestMany(): a series that ends before its deadline leaves no timer", async () => {
  const network = networkWith(() => [LATENCY_MS]);
  const series = start(network, { count: 2, intervalMs: 1, deadlineMs: 5000 });
  assertEquals((await run(network, series)).length, 2);
  assertEquals(network.timers, 0);
});

Deno.test("requestMany(): a slow reader gets 16 MiB of events, and the others are counted", async () => {
  const network = makeNetwork();
  const { runtime } = network;
  const size = 60_000;
  const large = fixedReply(new Uint8Array(size));
  serve({ ...SERVER, runtime, guard: false }, large);
  const count = 300;
  const options = { count, intervalMs: 1, maxDatagramBytes: size };
  const series = start(network, options);
  let events = 0;
  await network.run((async () => {
    for await (const _ of series) {
      if (events++ > 0) continue;
      await new Promise<void>((resolve) => runtime.after(500, () => resolve()));
    }
  })());
  const { received, eventsDropped } = series.summary();
  assertEquals(received, count);
  // The first one, and those that waited.
  assertEquals(events, 1 + Math.floor((1 << 24) / (512 + size)));
  assertEquals(events + eventsDropped, count);
});

Deno.test("requestMany(): a sent datagram whose reply match() cannot judge is lost", async () => {
  const network = networkWith();
  const match = () => {
    throw new Error("not for me");
  };
  const series = start(network, { count: 2, intervalMs: 10, match });
  assertEquals(brief(await run(network, series)), ["error 0", "error 1"]);
  const { sent, lost, unsent, pending, reasons } = series.summary();
  assertEquals([sent, lost, unsent, pending], [2, 2, 0, 0]);
  assertEquals(reasons, [{ reason: "not for me", count: 2 }]);
});

import { assert, assertEquals, assertRejects } from "@std/assert";
import type { UdpAddress } from "../../lib/address.ts";
import { TimeoutError } from "../../lib/client/reply.ts";
import { gather, type Gathering } from "../../lib/client/gather.ts";
import { load } from "../../lib/client/load.ts";
import {
  requestMany,
  type RequestManyOptions,
  type Series,
} from "../../lib/client/series.ts";
import { lingerMs, Pacer } from "../../lib/client/pacer.ts";
import type { Runtime } from "../../lib/socket/runtime.ts";
import { measure } from "../../lib/stamp/measure.ts";
import { SimulatedNetwork } from "../../lib/testing/mod.ts";

Deno.test("Pacer: each datagram is due at a multiple of the interval", () => {
  // Elapsed time and how many were sent; the wait, and when the next was due.
  const table: Array<[number, number, number, number]> = [
    [0, 1, 10, 10],
    [10, 2, 10, 20],
    // Lateness does not add up.
    [23, 3, 7, 30],
    [45, 4, 0, 40],
    [46, 5, 4, 50],
    // Up to 100 ms are caught up with.
    [160, 6, 0, 60],
  ];
  const pacer = new Pacer(10);
  for (const [elapsedMs, count, waitMs, dueMs] of table) {
    assertEquals(pacer.waitMs(elapsedMs, count), waitMs, `${elapsedMs} ms`);
    assertEquals(pacer.dueMs(count), dueMs, `${elapsedMs} ms`);
  }
});

Deno.test("Pacer: an interval that binary fractions miss does not drift", () => {
  const pacer = new Pacer(0.1);
  for (let count = 1; count <= 100_000; count++) {
    pacer.waitMs(count / 10, count);
  }
  assertEquals(pacer.dueMs(1_000_000), 100_000);
});

Deno.test("Pacer: N datagrams an interval", () => {
  const pacer = new Pacer(1000, 3);
  assertEquals([3, 6, 3000].map((seq) => pacer.dueMs(seq)), [1000, 2000, 1e6]);
  assertEquals(pacer.waitMs(1e6, 3), 0);
});

Deno.test("Pacer: whole intervals are skipped once it is more than 100 ms late", () => {
  // An interval, how late, the number of skipped sends, and when 0 is due then.
  const table: Array<[number, number, number, number]> = [
    [10, 100, 0, 0],
    [10, 101, 10, 100],
    [10, 1507, 150, 1500],
    [1000, 999, 0, 0],
    [1000, 2500, 2, 2000],
    [0, 500, 0, 500],
  ];
  for (const [intervalMs, lateMs, skipped, dueMs] of table) {
    const pacer = new Pacer(intervalMs);
    assertEquals(pacer.skip(lateMs, 0), skipped, `${intervalMs} ${lateMs}`);
    assertEquals(pacer.dueMs(0), dueMs, `${intervalMs} ${lateMs}`);
  }
});

Deno.test("lingerMs(): three round trips, within bounds", () => {
  const table: Array<[number, number, number]> = [
    [0, 1000, 0],
    [1, 1000, 20],
    [50, 1000, 150],
    [50, 100, 100],
    [1, 10, 10],
  ];
  for (const [longestMs, maxMs, waitMs] of table) {
    assertEquals(lingerMs(longestMs, maxMs), waitMs);
  }
});

/** The runs that may have a deadline, and all others. */
function start(
  address: UdpAddress | string,
  options: RequestManyOptions,
) {
  const some = [requestMany(address, "x", options), measure(address, options)];
  const { reportMs, onSample } = options;
  const { deadlineMs: _, count, intervalMs: __, ...each } = options;
  const { reportMs: ___, onSample: ____, ...others } = each;
  return {
    some,
    all: [
      ...some,
      load(address, { ...others, count, reportMs, onSample, window: 1 }),
      gather(address, "x", others) as Gathering & Series,
    ],
  };
}

/** Runs to a name that never resolves. */
function unresolved(options: RequestManyOptions) {
  const network = new SimulatedNetwork();
  const runtime: Runtime = {
    ...network.runtime,
    resolve: () => new Promise(() => {}),
  };
  return { network, ...start("name.invalid:1", { ...options, runtime }) };
}

async function drained(run: AsyncIterable<unknown>): Promise<void> {
  for await (const _ of run);
}

Deno.test("Run: an abort ends the wait for a name", async () => {
  const reason = new Error("enough");
  const controller = new AbortController();
  const { network, all } = unresolved({ signal: controller.signal });
  network.runtime.after(10, () => controller.abort(reason));
  const ended = await Promise.all(
    all.map((run) => assertRejects(() => network.run(drained(run)), Error)),
  );
  assert(ended.every((error) => error === reason));
});

Deno.test("Run: stop() ends the wait for a name", async () => {
  const { network, all } = unresolved({});
  network.runtime.after(10, () => all.forEach((run) => run.stop()));
  for (const run of all) await network.run(drained(run));
  assertEquals(network.now, 10);
});

Deno.test("Run: a deadline ends the wait for a name, with an error", async () => {
  const { network, some } = unresolved({ deadlineMs: 10 });
  for (const run of some) {
    await assertRejects(
      () => network.run(drained(run)),
      TimeoutError,
      "Cannot send to name.invalid:1: its name was not resolved within 10 ms",
    );
  }
});

Deno.test("Run: it is iterated once, and closes its sockets and timers", async () => {
  const network = new SimulatedNetwork(() => []);
  const { runtime } = network;
  const address = { hostname: "198.51.100.1", port: 1 };
  const { all } = start(address, { runtime, count: 1, timeoutMs: 1 });
  for (const run of all) {
    await network.run(drained(run));
    assertEquals([network.sockets.size, network.timers], [0, 0]);
    await assertRejects(() => drained(run), TypeError, "a second time");
  }
});

Deno.test("Run: an error of receiving ends it and is thrown", async () => {
  for (let i = 1; i < 4; i++) {
    const network = new SimulatedNetwork(() => []);
    const { runtime } = network;
    const address = { hostname: "198.51.100.1", port: 1 };
    const run = start(address, { runtime, count: 5 }).all[i]!;
    runtime.after(10, () => {
      const [socket] = network.sockets.values();
      socket!.fail(new Error("no more memory"));
    });
    const ended = () => network.run(drained(run));
    await assertRejects(ended, Error, "no more memory");
    assertEquals([network.sockets.size, network.timers], [0, 0]);
  }
});

Deno.test("Run: nothing is sent after stop(), and the duration stands still", async () => {
  const address = { hostname: "198.51.100.1", port: 1 };
  const timing = { count: 9, intervalMs: 50, timeoutMs: 20, reportMs: 20 };
  for (let i = 0; i < 3; i++) {
    const network = new SimulatedNetwork(() => []);
    const { runtime } = network;
    const run = start(address, { runtime, ...timing }).all[i]!;
    const iterator = run[Symbol.asyncIterator]();
    await network.run<unknown>(iterator.next());
    await network.runFor(100);
    run.stop();
    const durationMs = () => i === 0 && (run as Series).summary().durationMs;
    const before = [network.sent.length, durationMs()];
    // Nobody iterates meanwhile: only that would close the run.
    await network.runFor(500);
    assertEquals([network.sent.length, durationMs()], before);
    await network.run<unknown>(iterator.return!());
    assertEquals([network.sockets.size, network.timers], [0, 0]);
  }
});

Deno.test("Run: late timers do not lengthen short intervals in the mean", async () => {
  const network = new SimulatedNetwork(() => []);
  const runtime: Runtime = {
    ...network.runtime,
    after: (ms, callback) => network.runtime.after(ms + 15, callback),
  };
  const address = { hostname: "198.51.100.1", port: 1 };
  const options = { runtime, count: 20, intervalMs: 10, timeoutMs: 1 };
  const sentAt: number[] = [];
  network.plan = () => {
    sentAt.push(network.now);
    return [];
  };
  await network.run(drained(requestMany(address, "x", options)));
  assert(sentAt.at(-1)! <= 19 * 10 + 15, `${sentAt}`);
});

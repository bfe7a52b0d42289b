import { assert, assertEquals, assertRejects } from "@std/assert";
import { TimeoutError } from "../../lib/base/errors.ts";
import {
  requestMany,
  type RequestManyOptions,
} from "../../lib/client/series.ts";
import { lingerMs, Pacer } from "../../lib/client/run.ts";
import type { Runtime } from "../../lib/socket/runtime.ts";
import { measure } from "../../lib/stamp/measure.ts";
import { SimulatedNetwork } from "../../lib/testing/mod.ts";

Deno.test("Pacer has each datagram due at a multiple of the interval", () => {
  // Elapsed time and how many were sent; the wait, and when the next was due.
  const table: Array<[number, number, number, number]> = [
    [0, 1, 10, 10],
    [10, 2, 10, 20],
    // Lateness does not add up.
    [23, 3, 7, 30],
    [45, 4, 0, 40],
    [46, 5, 4, 50],
    // Up to 100 ms are caught up with; more are skipped.
    [160, 6, 0, 60],
    [161, 6, 0, 161],
    [165, 7, 6, 171],
  ];
  const pacer = new Pacer(10);
  for (const [elapsedMs, count, waitMs, dueMs] of table) {
    assertEquals(pacer.waitMs(elapsedMs, count), waitMs, `${elapsedMs} ms`);
    assertEquals(pacer.dueMs(count), dueMs, `${elapsedMs} ms`);
  }
});

Deno.test("Pacer does not drift with an interval that binary fractions miss", () => {
  const pacer = new Pacer(0.1);
  for (let count = 1; count <= 100_000; count++) {
    pacer.waitMs(count / 10, count);
  }
  assertEquals(pacer.dueMs(1_000_000), 100_000);
});

Deno.test("lingerMs() is three round trips, within bounds", () => {
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

/** A series and a measurement of a name that never resolves. */
function unresolved(options: RequestManyOptions) {
  const network = new SimulatedNetwork();
  const runtime: Runtime = {
    ...network.runtime,
    resolve: () => new Promise(() => {}),
  };
  const runs = [
    requestMany("name.invalid:1", "x", { ...options, runtime }),
    measure("name.invalid:1", { ...options, runtime }),
  ];
  return { network, runs };
}

async function drained(run: AsyncIterable<unknown>): Promise<void> {
  for await (const _ of run);
}

Deno.test("an abort ends a run that waits for a name", async () => {
  const reason = new Error("enough");
  const controller = new AbortController();
  const { network, runs } = unresolved({ signal: controller.signal });
  network.runtime.after(10, () => controller.abort(reason));
  const ended = await Promise.all(
    runs.map((run) => assertRejects(() => network.run(drained(run)), Error)),
  );
  assert(ended.every((error) => error === reason));
});

Deno.test("stop() ends a run that waits for a name", async () => {
  const { network, runs } = unresolved({});
  network.runtime.after(10, () => runs.forEach((run) => run.stop()));
  for (const run of runs) await network.run(drained(run));
  assertEquals(network.now, 10);
});

Deno.test("a deadline ends a run that waits for a name, and says so", async () => {
  const { network, runs } = unresolved({ deadlineMs: 10 });
  for (const run of runs) {
    await assertRejects(
      () => network.run(drained(run)),
      TimeoutError,
      "Cannot ask name.invalid:1: its name was not resolved within 10 ms",
    );
  }
});

Deno.test("a run can be iterated once", async () => {
  const network = new SimulatedNetwork();
  const { runtime } = network;
  const address = { hostname: "198.51.100.1", port: 1 };
  const options = { runtime, count: 1, timeoutMs: 1 };
  for (
    const run of [requestMany(address, "x", options), measure(address, options)]
  ) {
    await network.run(drained(run));
    await assertRejects(() => drained(run), TypeError, "a second time");
  }
});

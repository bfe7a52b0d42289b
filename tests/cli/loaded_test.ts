/** The rules of `client --loaded` and `--find-rate`, without a network. */
import { assert, assertEquals } from "@std/assert";
import {
  growWindow,
  LOADED_VIEW,
  loadedResult,
  type Phase,
  searchRate,
  type Step,
  tooHigh,
} from "../../lib/cli/show/loaded.ts";
import { load, type LoadResult } from "../../lib/client/load.ts";
import { measure } from "../../lib/stamp/measure.ts";
import { Distribution } from "../../lib/stats/distribution.ts";

const ASKED = { target: "192.0.2.1:7", rate: undefined, window: 8, size: 1232 };

/** The result of a load that nobody ran. */
const NO_LOAD = load("192.0.2.1:7", { rate: 1 }).summary();

function step(facts: Partial<Step>): Step {
  return { type: "step", ...NO_LOAD, ...facts };
}

function distributionOf(values: number[]): Distribution {
  const all = new Distribution({ isRelative: true });
  for (const value of values) all.add(value);
  return all;
}

/** A phase with these delays, by clocks with an offset. */
function phaseOf(
  forward: number[] = [],
  backward: number[] = [],
  clock: Partial<ReturnType<ReturnType<typeof measure>["summary"]>> = {},
): Phase {
  const { target } = ASKED;
  const rtts = distributionOf(forward.map((ms, i) => ms + backward[i]!));
  const summary = measure(target).summary();
  return {
    probed: { ...summary, target, rttMs: rtts.summary(), ...clock },
    forward: distributionOf(forward),
    backward: distributionOf(backward),
    lateness: new Distribution(),
    isEcho: true,
  };
}

Deno.test("growWindow(): doubles until a quarter more does not get through", async () => {
  // A path that takes 1,000 a second, with 100 in flight.
  const tried = async (capacity: number, fill: number) => {
    const windows: number[] = [];
    const steps = growWindow((window) => {
      const received = Math.min(capacity, window / fill * capacity);
      return Promise.resolve(step({ window, received }));
    });
    for await (const { window } of steps) windows.push(window!);
    return windows;
  };
  assertEquals(await tried(1000, 100), [16, 32, 64, 128, 256]);
  assertEquals(await tried(1000, 1), [16, 32]);
  assertEquals(await tried(1000, 26), [16, 32, 64]);
  // From 32 to 37 in flight is less than a quarter.
  assertEquals(await tried(1000, 37), [16, 32, 64]);
  // Without an end it has a bound.
  assertEquals((await tried(1000, 1e6)).at(-1), 4096);
  assertEquals(await tried(0, 1), [16]);
});

/** The tries of a search on a path that takes `capacity` a second. */
async function search(max: number, capacity: number, hasHint: boolean) {
  const rates: number[] = [];
  let best = 0;
  const steps = searchRate(max, (rate) => {
    const isHigh = rate > capacity;
    const receivedPerSecond = !isHigh ? rate : hasHint ? capacity : undefined;
    const why = isHigh ? { why: "too high" } : {};
    return Promise.resolve(step({ rate, receivedPerSecond, ...why }));
  });
  for await (const { rate, why } of steps) {
    rates.push(rate!);
    if (why === undefined) best = Math.max(best, rate!);
  }
  return { rates, best };
}

Deno.test("searchRate(): finds the largest rate to 2 %, and tries none above the bound", async () => {
  for (const capacity of [0.7, 3, 99, 100, 490, 12_345, 99_000]) {
    for (const hasHint of [false, true]) {
      const { rates, best } = await search(100_000, capacity, hasHint);
      const shown = `${capacity}: ${rates.join(" ")}`;
      assert(best <= capacity, shown);
      assert(best >= 0.97 * capacity || capacity - best < 1, shown);
      assert(rates.length <= 24, shown);
      assertEquals(new Set(rates).size, rates.length, shown);
    }
  }
  const bounded = await search(1000, 5000, true);
  assertEquals(bounded.rates, [100, 200, 400, 800, 1000]);
  assertEquals((await search(50, 5000, true)).rates, [50]);
});

Deno.test("searchRate(): the rate of the replies is the next try", async () => {
  const { rates } = await search(100_000, 490, true);
  assertEquals(rates.slice(3, 5), [800, 490]);
  assertEquals(rates.length, 6);
});

Deno.test("searchRate(): ends where nothing gets through", async () => {
  const { rates, best } = await search(100_000, 0, false);
  assertEquals(best, 0);
  assert(rates.length < 10 && rates.at(-1)! < 1, rates.join(" "));
});

Deno.test("tooHigh(): by loss, by a queue that grows, and by this machine", () => {
  const quarters = (...medians: number[]) =>
    medians.map((median) => ({
      rttMs: { ...distributionOf([median]).tail()!, median },
    }));
  const judge = (facts: Partial<LoadResult>, ...medians: number[]) =>
    tooHigh(
      { ...NO_LOAD, rate: 100, sentPerSecond: 100, lossPercent: 0, ...facts },
      quarters(...medians),
      1,
    );
  assertEquals(judge({}, 5, 5, 5, 5), undefined);
  assertEquals(judge({ lossPercent: 1 }, 5, 5, 5, 5), undefined);
  assertEquals(judge({ lossPercent: 1.1 }), "too high: more than 1% is lost");
  assertEquals(
    judge({ lossPercent: 2, kernelDrops: 3 }),
    "too high: more than 1% is lost (3 in this machine)",
  );
  assertEquals(
    judge({}, 5, 20, 35, 50),
    "too high: the queue grew by 45.000 ms",
  );
  // A long RTT that stays the same is no queue of this load.
  assertEquals(judge({}, 500, 500, 500, 500), undefined);
  assertEquals(
    judge({ sentPerSecond: 90, lossPercent: 9 }),
    "too high: this machine sent 90 a second",
  );
});

Deno.test("loadedResult(): one-way delays are less the least of both phases", () => {
  const [idle, loaded] = [[1000, 1002], [1050, 1052]].map((forward) =>
    phaseOf(forward, [-990, -990])
  );
  const result = loadedResult(ASKED, idle, loaded, undefined);
  assertEquals(result.forwardPdvMs, {
    idle: { median: 1, p99: 2 },
    loaded: { median: 51, p99: 52 },
    added: { median: 50, p99: 50 },
  });
  assertEquals(result.backwardPdvMs?.added, { median: 0, p99: 0 });
  assertEquals(result.rttMs.added, { median: 50, p99: 50 });
  const only = loadedResult(ASKED, idle, undefined, undefined);
  assertEquals(only.rttMs.added, undefined);
});

Deno.test("loadedResult(): a clock that was set leaves no one-way delays", () => {
  const pdvOf = (...clocks: Array<Parameters<typeof phaseOf>[2]>) => {
    const [idle, loaded] = clocks.map((clock) => phaseOf([5], [5], clock));
    return loadedResult(ASKED, idle, loaded, undefined).forwardPdvMs;
  };
  const offset = (estimate: number) => ({
    clockOffsetMs: { estimate, error: 2 },
  });
  assert(pdvOf(offset(0), offset(4)));
  assertEquals(pdvOf(offset(0), offset(9)), undefined);
  assertEquals(pdvOf(offset(0), { ...offset(0), clockSteps: 1 }), undefined);
});

Deno.test("client --loaded: its lines fit into 80 columns", () => {
  const ms = 12_345.678;
  const [idle, loaded] = [ms, 2 * ms].map((ms) => phaseOf([ms], [ms]));
  const result = { ...NO_LOAD, received: 1, sent: 1 };
  const rtts = { ...result, rttMs: distributionOf([ms]).tail() };
  const lines = LOADED_VIEW.lines(loadedResult(ASKED, idle, loaded, rtts), 80)
    .split("\n");
  for (const line of lines) assert(line.length <= 80, line);
  assertEquals(lines.slice(-6, -1).map((line) => line.split(/ {2,}/)), [
    [
      ...["ms", "median idle", "loaded", "added"],
      ...["p99 idle", "loaded", "added"],
    ],
    [
      ...["rtt", "24691.356", "49382.712", "24691.356"],
      ...["24691.356", "49382.712", "24691.356"],
    ],
    [
      ...["pdv forward", "0.000", "12345.678", "12345.678"],
      ...["0.000", "12345.678", "12345.678"],
    ],
    [
      ...["pdv backward", "0.000", "12345.678", "12345.678"],
      ...["0.000", "12345.678", "12345.678"],
    ],
    ["rtt of load", "-", "12345.678", "-", "-", "12345.678", "-"],
  ]);
});

Deno.test("client --loaded: warns of replies that are no echoes", () => {
  const idle = { ...phaseOf(), isEcho: false };
  const result = loadedResult(ASKED, idle, undefined, undefined);
  const [warning] = LOADED_VIEW.warnings!(result);
  assert(warning!.startsWith("the replies are no echoes"), warning);
});

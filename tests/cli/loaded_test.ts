/** The rules of `client --loaded` and `--find-rate`, without a network. */
import { assert, assertEquals, assertMatch } from "@std/assert";
import {
  announcement,
  growWindow,
  LOADED_VIEW,
  loadedResult,
  loadTimeoutMs,
  type Phase,
  type Step,
  usualLoss,
} from "../../lib/cli/show/loaded.ts";
import {
  noRate,
  searchBounds,
  searchMs,
  searchRate,
  tooHigh,
} from "../../lib/cli/show/find_rate.ts";
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
  const tried = async (
    capacity: number,
    fill: number,
    usual = 0,
    lossPercent = 1,
  ) => {
    const windows: number[] = [];
    const steps = growWindow((window) => {
      const received = Math.min(capacity, window / fill * capacity);
      return Promise.resolve(step({ window, received, lossPercent }));
    }, usual);
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
  assertEquals(await tried(1000, 1, 0, 5), [16, 32]);
});

Deno.test("growWindow(): continues until more is lost than on the idle path", async () => {
  const windows: number[] = [];
  // A link that is full with 16 in flight, with a queue of 200 and a loss of 5 %.
  const steps = growWindow((window) => {
    const lossPercent = window > 200 ? 30 : 5;
    return Promise.resolve(step({ window, received: 1000, lossPercent }));
  }, usualLoss(5));
  for await (const { window } of steps) windows.push(window!);
  assertEquals(windows, [16, 32, 64, 128, 256]);
});

Deno.test("loadTimeoutMs(): a lost datagram soon leaves the window, and no slow one", () => {
  const after = (ms: number, most: number) =>
    loadTimeoutMs(step({ rttMs: distributionOf([ms]).tail() }), most);
  assertEquals(after(0.1, 1000), 100);
  assertEquals(after(100, 1000), 400);
  assertEquals(after(900, 1000), 1000);
  assertEquals(after(0.1, 50), 50);
  assertEquals(loadTimeoutMs(step({}), 1000), 1000);
});

/** A result with these facts of the load, of the probes beside it, and of the run. */
function resultOf(
  facts: Partial<LoadResult>,
  more: Parameters<typeof loadedResult>[4] = {},
  probes: Partial<Phase["probed"]> = {},
) {
  const idle = phaseOf([1], [1], { received: 9 });
  const loaded = phaseOf([1], [1], { received: 9, ...probes } as object);
  const rates = { sentPerSecond: 1000, receivedPerSecond: 1000 };
  const bits = { sentBitsPerSecond: 8000, receivedBitsPerSecond: 8000 };
  const counts = { sent: 100, received: 100, ...rates, ...bits };
  return loadedResult(ASKED, idle, loaded, step({ ...counts, ...facts }), more);
}

Deno.test("client --loaded: warns of a load that stood still, or starved", () => {
  const warningsOf = (...args: Parameters<typeof resultOf>) =>
    LOADED_VIEW.warnings!(resultOf(...args)).join("\n");
  const outage = { fromMs: 1, datagrams: 20, unsent: 0 };
  assertEquals(warningsOf({}, { bestPerSecond: 1900 }), "");
  assertMatch(
    warningsOf({ kernelDrops: 3 }),
    /^3 echoes are lost in this machine, not on the path/,
  );
  assertMatch(
    warningsOf({}, { bestPerSecond: 2100 }),
    /^the path was not full, .* got 1000 a second through, its best try 2100 /,
  );
  assertMatch(
    warningsOf({ outages: [{ ...outage, fromMs: 100, toMs: 1000 }] }),
    /had no echo for 0\.9 s .*--rate-limit 0/,
  );
  const outages = [{ ...outage, toMs: undefined }];
  const reasons = [{ reason: "closed port", count: 1 }];
  const silent = { outages, outageCount: 1, reasons, startedAt: 0 };
  assertEquals(
    warningsOf({ received: 9 }, { bestPerSecond: 9999 }, silent),
    "the server no longer answered at the end: closed port",
  );
  assertMatch(
    LOADED_VIEW.lines(resultOf({}, {}, silent)),
    /\noutage from .* until the end: 20 datagrams/,
  );
  const over = { ...outage, toMs: 500 };
  assertEquals(warningsOf({}, {}, { ...silent, outages: [over] }), "");
});

Deno.test("client --loaded: a load without an echo is too long only if probes are answered", () => {
  const none = { received: 0, lost: 100, lossPercent: 100 };
  const warnings = (received: number) =>
    LOADED_VIEW.warnings!(resultOf(none, {}, { received }));
  assertMatch(warnings(9).join(), /is 1232 bytes too long/);
  assertEquals(warnings(0), []);
});

Deno.test("client --loaded: warns of probes that are slower than the load", () => {
  const warnings = (loadMs: number) =>
    LOADED_VIEW.warnings!(
      resultOf({ rttMs: distributionOf([loadMs]).tail() }),
    );
  assertEquals(warnings(2), []);
  assertMatch(warnings(0.5).join(), /^this client is the limit/);
});

Deno.test("client --loaded: the last line has the loss of the load and of the idle probes", () => {
  const last = (facts: Partial<LoadResult>, idlePercent = 0) => {
    const result = resultOf(facts);
    Object.assign(result.idle!, { lossPercent: idlePercent });
    return LOADED_VIEW.lines(result).split("\n").at(-1)!;
  };
  assertMatch(last({}), /lost no datagram: the queue was not full/);
  assertEquals(
    last({ lost: 5, lossPercent: 5 }, 4),
    "the load lost 5%, the idle probes 4%: the path loses datagrams while idle too",
  );
  assertEquals(
    last({ lost: 24, lossPercent: 24 }),
    "the load lost 24%, the idle probes 0%: a queue was full, or replies are limited (server --rate-limit)",
  );
  assertEquals(
    last({ lost: 5, late: 4, lossPercent: 5 }),
    "the load lost 5% (4 arrived late), the idle probes 0%: the queue is longer than the time-out",
  );
});

Deno.test("client --loaded: the lines that announce it fit into 80 columns", () => {
  for (
    const how of [{ window: undefined }, { rate: 12.5, window: undefined }]
  ) {
    const asked = { ...ASKED, target: "198.51.100.7:4000", ...how };
    const lines = announcement(asked, 33, 66).split("\n");
    assertMatch(
      lines[0]!,
      /^client: probes .* for 0\.033 s, then fills the pa/,
    );
    for (const line of lines) assert(line.length <= 80, line);
  }
});

/** The tries of a search, by the facts of each; `best` is the last one that passed. */
async function search(
  maxRate: number,
  outcome: (rate: number, ms: number, tries: number) => Partial<Step>,
  plan = { stepMs: 1000, maxLoss: 1 },
) {
  const tries: Array<[rate: number, ms: number]> = [];
  let [best, last] = [0, step({})];
  const steps = searchRate({ maxRate, ...plan }, (rate, ms) => {
    tries.push([rate, ms]);
    return Promise.resolve(
      step({ rate, received: rate, ...outcome(rate, ms, tries.length) }),
    );
  });
  for await (last of steps) best = last.why === undefined ? last.rate! : 0;
  return { tries, rates: tries.map(([rate]) => rate), best, last };
}

/** A path that takes `capacity` a second. */
function pathOf(capacity: number, hasHint = true) {
  return (rate: number): Partial<Step> => {
    if (rate <= capacity) return { receivedPerSecond: rate };
    const hint = hasHint ? { receivedPerSecond: capacity } : {};
    return { ...hint, why: "too high", lossPercent: 50 };
  };
}

Deno.test("searchRate(): finds the largest rate to 2 %, and tries none above the bound", async () => {
  for (const capacity of [70, 99, 100, 490, 12_345, 99_000]) {
    for (const hasHint of [false, true]) {
      const { tries, rates, best } = await search(
        100_000,
        pathOf(capacity, hasHint),
      );
      const shown = `${capacity}: ${rates.join(" ")}`;
      assert(best <= capacity && best >= 0.97 * capacity, shown);
      const { maxTries } = searchBounds({
        ...{ maxRate: 100_000, stepMs: 1000, maxLoss: 1 },
      });
      // Each failed try is repeated at once; all others are of different rates.
      const short = tries.slice(0, -1).map(([rate]) => rate);
      const changes = short.filter((rate, i) => rate !== short[i - 1]);
      assertEquals(new Set(changes).size, changes.length, shown);
      assert(changes.length <= maxTries, shown);
      assert(rates.every(Number.isInteger), shown);
    }
  }
  const bounded = await search(1000, pathOf(5000));
  assertEquals(bounded.rates, [100, 200, 400, 800, 1000, 1000]);
  // Of few datagrams the loss would not be seen.
  const slow = await search(12.5, pathOf(5000));
  assertEquals(slow.tries, [[12.5, 24_000]]);
});

Deno.test("searchRate(): the rate of the replies is the next try", async () => {
  const { rates } = await search(100_000, pathOf(490));
  assertEquals(rates.slice(3, 6), [800, 800, 490]);
});

Deno.test("searchRate(): a rate just below a failed one is another one", async () => {
  // Replies that are rounded up would be the rate that failed.
  const { rates } = await search(
    1000,
    (rate) =>
      rate < 790 ? {} : { why: "too high", receivedPerSecond: rate - 0.5 },
  );
  assertEquals(rates.slice(3, 6), [800, 800, 799]);
});

Deno.test("searchRate(): a failed try is repeated once before it counts", async () => {
  // The link is down in the third try.
  const { rates, best } = await search(
    800,
    (_, __, tries) => tries === 3 ? { why: "too high" } : {},
  );
  assertEquals([rates, best], [[100, 200, 400, 400, 800, 800], 800]);
});

Deno.test("searchRate(): a rate that passes on saved tokens fails the long try", async () => {
  // A bucket of 1,000 tokens, filled with 1,000 a second.
  const { tries, best } = await search(100_000, (rate, ms) => {
    const seconds = ms / 1000;
    if (rate * seconds <= 1000 + 1000 * seconds) return {};
    return { why: "too high", receivedPerSecond: 2000, lastPerSecond: 1000 };
  });
  assert(best >= 980 && best <= 1000, `${best}`);
  assertEquals(tries.at(-1), [best, 5000]);
  assert(tries.some(([rate, ms]) => rate > 1900 && ms === 5000));
});

Deno.test("searchRate(): loss that does not fall with the rate ends it", async () => {
  const loss = { why: "too high", lossPercent: 5, durationMs: 5000 };
  const { tries, best, last } = await search(100_000, () => loss);
  // Of 300 datagrams each, the fewest that show 1 %.
  assertEquals([tries, best], [
    [[100, 3000], [100, 3000], [60, 5000], [60, 5000]],
    0,
  ]);
  assertEquals(
    noRate(last),
    "loss at every rate: 5% at 60 a second, in 5 s (a longer --duration tries less)",
  );
});

Deno.test("searchRate(): two tries without a reply end it", async () => {
  const { rates, last } = await search(
    100_000,
    (_, __, tries) =>
      tries > 2 ? { received: 0, lossPercent: 100, why: "too high" } : {},
  );
  assertEquals(rates, [100, 200, 400, 400]);
  assertEquals(noRate(last), "the server no longer answers");
});

Deno.test("searchBounds(): no try is longer than a load can be", () => {
  const day = 86_400_000;
  for (const [maxRate, stepMs] of [[0.001, 1000], [100, day]] as const) {
    const plan = { maxRate, stepMs, maxLoss: 1 };
    const { longMs, first, tryMs } = searchBounds(plan);
    assertEquals([longMs, tryMs(first)], [day, day]);
  }
});

Deno.test("searchRate(): takes at most the time that is announced", async () => {
  const plan = { stepMs: 1000, maxLoss: 1 };
  for (const maxRate of [1, 200, 100_000]) {
    for (const capacity of [65, 150, 490, 1e6]) {
      const { tries } = await search(maxRate, (rate, ms) => {
        // The long tries fail.
        return ms < Math.max(5000, 300_000 / maxRate)
          ? pathOf(capacity, false)(rate)
          : { why: "too high" };
      });
      const ms = tries.reduce((sum, [, ms]) => sum + ms, 0);
      assert(ms <= searchMs({ maxRate, ...plan }, 0), `${maxRate} ${ms}`);
    }
  }
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
  const idle = { ...phaseOf([1], [1], { received: 9 }), isEcho: false };
  const result = loadedResult(ASKED, idle, undefined, undefined);
  const [warning] = LOADED_VIEW.warnings!(result);
  assert(warning!.startsWith("the replies are no echoes"), warning);
  const silent = loadedResult(ASKED, phaseOf(), undefined, undefined);
  assertEquals(silent.isEcho, undefined);
});

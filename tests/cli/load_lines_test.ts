import { assertEquals } from "@std/assert";
import {
  intervalJson,
  intervalLine,
  loadJson,
  loadLines,
  loadWarnings,
} from "../../lib/cli/show/load.ts";
import type { LoadInterval, LoadResult } from "../../lib/client/load.ts";

const TARGET = { hostname: "::1", port: 7 };

const RTT = {
  min: 0.1,
  mean: 0.2,
  median: 0.2,
  p90: 0.3,
  p99: 0.4,
  p999: 0.5,
  max: 0.6,
  stddev: 0.07,
};

const RESULT: LoadResult = {
  sent: 100,
  received: 90,
  lost: 10,
  pending: 0,
  lossPercent: 10,
  duplicates: 1,
  late: 2,
  foreign: 0,
  errors: 0,
  portClosed: 0,
  receiveErrors: 0,
  kernelDrops: 0,
  durationMs: 1000.4,
  sentPerSecond: 99.96,
  receivedPerSecond: 89.96,
  sentBitsPerSecond: 999,
  receivedBitsPerSecond: 1_234_567,
  rttMs: RTT,
  sendErrorMs: undefined,
};

Deno.test("loadLines() say what was asked for, what came of it, and how long it took", () => {
  assertEquals(loadLines(TARGET, { rate: 100, size: 16 }, RESULT).split("\n"), [
    "--- [::1]:7 load statistics: 16 bytes, 100 a second asked for ---",
    "100 sent, 90 received, 10 lost (10%), 1 duplicates, 2 late, time 1000 ms",
    "sent 100 a second (999 bit/s), received 90 a second (1.235 Mbit/s)",
    "rtt min/mean/median/p90/p99/p99.9/max = 0.100/0.200/0.200/0.300/0.400/0.500/0.600 ms",
  ]);
});

Deno.test("loadLines() name what is unusual, and leave out what is unknown", () => {
  const lines = loadLines(TARGET, { window: 8, size: 0 }, {
    ...RESULT,
    ...{ pending: 1, foreign: 2, errors: 3, portClosed: 4, receiveErrors: 5 },
    ...{ kernelDrops: 6, rttMs: undefined, sendErrorMs: RTT },
    ...{ sentPerSecond: undefined, receivedBitsPerSecond: 2e12 },
  }).split("\n");
  assertEquals(lines, [
    "--- [::1]:7 load statistics: 0 bytes, 8 in flight ---",
    "100 sent, 90 received, 10 lost (10%), 1 duplicates, 2 late, 1 pending, " +
    "2 foreign, 3 errors, 4 reports of a closed port, 5 receive errors, " +
    "6 dropped by this machine, time 1000 ms",
    "sent n/a, received 90 a second (2000 Gbit/s)",
    "send error min/mean/median/p90/p99/p99.9/max = 0.100/0.200/0.200/0.300/0.400/0.500/0.600 ms",
  ]);
});

Deno.test("loadJson() has every key, and null for what is unknown", () => {
  const json = loadJson(TARGET, { window: 8, size: 0 }, {
    ...RESULT,
    kernelDrops: undefined,
  });
  const { target, rate, window, size, sent, kernelDrops, sendErrorMs } = json;
  assertEquals([target, rate, window, size], ["[::1]:7", null, 8, 0]);
  assertEquals([sent, kernelDrops, sendErrorMs], [100, null, null]);
  assertEquals(loadJson(TARGET, { rate: 3, size: 0 }, RESULT).rate, 3);
});

Deno.test("a part of a load is told by the second", () => {
  const part: LoadInterval = {
    type: "interval",
    fromMs: 1000,
    toMs: 3000.04,
    sent: 200,
    received: 190,
    lost: 10,
    rttMs: RTT,
  };
  assertEquals(
    intervalLine(part),
    "3 s: 100 a second sent, 95 received, 10 lost, rtt 0.200 ms in the median",
  );
  const empty = { ...part, fromMs: 0, toMs: 0, sent: 3, rttMs: undefined };
  assertEquals(
    intervalLine(empty),
    "0 s: 3 a second sent, 190 received, 10 lost",
  );
  const { fromMs, toMs, rttMs } = intervalJson(part);
  assertEquals([fromMs, toMs], [1000, 3000.04]);
  assertEquals((rttMs as typeof RTT).p999, 0.5);
  assertEquals(intervalJson(empty).rttMs, null);
});

Deno.test("a load says where this machine was too slow, and what is no echo", () => {
  const warned = (rate: number | undefined, result: Partial<LoadResult>) =>
    loadWarnings({ rate }, { ...RESULT, ...result })
      .map((text) => text.split(":")[0]);
  const late = { ...RTT, p99: 50.1 };
  const slow = ["this machine was too slow for --rate 1000"];
  const behind = { sentPerSecond: 994.9, sendErrorMs: late };
  assertEquals(warned(1000, behind), slow);
  assertEquals(warned(1000, { ...behind, sentPerSecond: 995 }), []);
  const punctual = { ...RTT, p99: 50 };
  assertEquals(warned(1000, { ...behind, sendErrorMs: punctual }), []);
  assertEquals(warned(undefined, behind), []);
  assertEquals(warned(1000, { ...behind, sentPerSecond: undefined }), []);
  assertEquals(warned(1, { kernelDrops: 1 }), [
    "1 echoes are lost in this machine, not on the path",
  ]);
  assertEquals(warned(1, { kernelDrops: undefined }), []);
  assertEquals(warned(1, { received: 0, foreign: 1 }), [
    "what came back is no echo",
  ]);
  assertEquals(warned(1, { received: 1, foreign: 1 }), []);
  assertEquals(warned(1, { received: 0, foreign: 0 }), []);
});

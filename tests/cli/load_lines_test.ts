import { assertEquals, assertMatch } from "@std/assert";
import { parseAddress } from "../../lib/address.ts";
import { LineWriter } from "../../lib/cli/output.ts";
import { runLoad } from "../../lib/cli/runs/load.ts";
import { EVENTS, intervalLine, objectOf } from "../../lib/cli/show/columns.ts";
import {
  LOAD_COLUMNS,
  LOAD_VIEW,
  type LoadRow,
  loadWarnings,
} from "../../lib/cli/show/load.ts";
import { summarize } from "../../lib/stats/statistics.ts";
import { ENGINE, netTest } from "../helpers.ts";
import type { Interval } from "../../lib/stats/books.ts";
import { NO_COUNTS } from "../../lib/stats/counts.ts";
import { load } from "../../lib/client/load.ts";
import { peer } from "./peers.ts";

const RTT = { ...summarize([0.1, 0.2, 0.6])!, p90: 0.3, p99: 0.4, p999: 0.5 };

const TARGET = { hostname: "::1", port: 7 };

const RESULT: LoadRow = {
  ...load(TARGET, { rate: 1 }).summary(),
  target: "[::1]:7",
  rate: 100,
  window: undefined,
  size: 16,
  sent: 100,
  received: 90,
  lost: 10,
  lossPercent: 10,
  duplicates: 1,
  late: 2,
  eventsDropped: 0,
  lossPeriods: 4,
  longestLossPeriod: 3,
  kernelDrops: 0,
  durationMs: 1000.4,
  sentPerSecond: 99.96,
  receivedPerSecond: 89.96,
  sentBitsPerSecond: 999,
  receivedBitsPerSecond: 1_234_567,
  rttMs: RTT,
  sendErrorMs: undefined,
};

Deno.test("LOAD_VIEW: closing lines have the request, the counts and the duration", () => {
  assertEquals(LOAD_VIEW.lines(RESULT).split("\n"), [
    "--- [::1]:7 load statistics: 16 bytes, 100 a second asked for ---",
    "100 sent, 90 received, 10 lost (10%), 1 duplicates, 2 late, time 1000 ms",
    "10 missing: 10 unanswered; in 4 loss periods, the longest of 3",
    "sent 100 a second (999 bit/s), received 90 a second (1.235 Mbit/s)",
    "rtt min/mean/median/p90/p99/p99.9/max = 0.100/0.300/0.200/0.300/0.400/0.500/0.600 ms",
  ]);
});

Deno.test("LOAD_VIEW: closing lines name unusual counts, and leave out unknown figures", () => {
  const lines = LOAD_VIEW.lines({
    ...RESULT,
    ...{ rate: undefined, window: 8, size: 0 },
    ...{ pending: 1, foreign: 2, unsent: 3, lossPeriods: 1 },
    ...{ kernelDrops: 6, rttMs: undefined, sendErrorMs: RTT },
    ...{ sentPerSecond: undefined, receivedBitsPerSecond: 2e12 },
  }).split("\n");
  assertEquals(lines, [
    "--- [::1]:7 load statistics: 0 bytes, 8 in flight ---",
    "100 sent, 90 received, 10 lost and 3 unsent (12.62%), 1 duplicates, " +
    "2 late, 1 pending, 2 foreign, time 1000 ms",
    "13 missing: 3 refused by this system, 6 dropped by this machine's full " +
    "receive buffer, 4 unanswered; in one loss period",
    "sent n/a, received 90 a second (2000 Gbit/s)",
    "send error min/mean/median/p90/p99/p99.9/max = 0.100/0.300/0.200/0.300/0.400/0.500/0.600 ms",
  ]);
});

Deno.test("LOAD: every key, null for unknown figures", () => {
  const json = objectOf(LOAD_COLUMNS, {
    ...RESULT,
    ...{ rate: undefined, window: 8, size: 0 },
    kernelDrops: undefined,
  });
  const { target, rate, window, size, sent, kernelDrops, sendErrorMs } = json;
  assertEquals([target, rate, window, size], ["[::1]:7", null, 8, 0]);
  assertEquals([sent, kernelDrops, sendErrorMs], [100, null, null]);
  assertEquals(objectOf(LOAD_COLUMNS, RESULT).rate, 100);
});

Deno.test("intervalLine(): an interval of a load is shown as that of a series", () => {
  const part: Interval = {
    ...NO_COUNTS,
    type: "interval",
    fromMs: 1000,
    toMs: 3000.04,
    sent: 200,
    received: 190,
    lost: 10,
    late: 3,
    rttMs: RTT,
  };
  assertEquals(
    intervalLine(part),
    "1.0 to 3.0 s: 200 sent, 190 received, 10 lost (5%), 3 late, rtt min/median/max = 0.100/0.200/0.600 ms",
  );
  const empty = { ...part, late: 0, rttMs: undefined };
  assertEquals(
    intervalLine(empty),
    "1.0 to 3.0 s: 200 sent, 190 received, 10 lost (5%)",
  );
  const { type: _, ...facts } = part;
  assertEquals(objectOf(EVENTS.interval, part), {
    ...facts,
    rttMs: { ...RTT, stddev: 0.216025 },
  });
  assertEquals(objectOf(EVENTS.interval, empty).rttMs, null);
});

Deno.test("loadWarnings(): this machine was too slow, or the replies are no echoes", () => {
  const warned = (rate: number | undefined, result: Partial<LoadRow>) =>
    loadWarnings({ ...RESULT, rate, ...result })
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
  assertEquals(warned(1, { kernelDrops: 1 }), [], "in the closing lines");
  assertEquals(warned(1, { received: 0, foreign: 1 }), [
    "the replies are no echoes",
  ]);
  assertEquals(warned(1, { received: 1, foreign: 1 }), []);
  assertEquals(warned(1, { received: 0, foreign: 0 }), []);
});

netTest(
  "runLoad(): stopped within its warm-up, it sends nothing and prints its result",
  async () => {
    let asked = 0;
    await using p = peer(() => [`${asked++}`]);
    let text = "";
    const out = new LineWriter({
      write(bytes: Uint8Array) {
        text += new TextDecoder().decode(bytes);
        return Promise.resolve(bytes.length);
      },
    });
    const stopping = new AbortController();
    const options = { engine: ENGINE, window: 1, timeoutMs: 100, size: 64 };
    const report = {
      format: "text",
      quiet: false,
      stopping: stopping.signal,
    } as const;
    const ended = runLoad(parseAddress(p.target), options, report, out);
    stopping.abort();
    assertEquals([(await ended).sent, asked], [0, 0]);
    assertMatch(text, /load statistics: .*\n0 sent, 0 received/);
  },
);

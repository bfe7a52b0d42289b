import { DatabaseSync } from "node:sqlite";
import { assert, assertEquals } from "@std/assert";
import { Distribution } from "../../../lib/stats/distribution.ts";
import type { Part } from "../../../lib/cli/show/history.ts";
import {
  CoarseHistogram,
  coarseValues,
} from "../../../lib/stats/coarse_histogram.ts";
import { Store } from "../../../lib/cli/watch/store.ts";

import { Program, signalTest, tempFolder } from "../../helpers.ts";

const MINUTE = 60_000;
const HOUR = 60 * MINUTE;
const DAY = 24 * HOUR;
/** The start of an hour. */
const NOW = 500_000 * HOUR;

function part(at: number, received: number, rttMs?: number): Part {
  const rtts = new CoarseHistogram();
  for (let i = 0; i < received && rttMs; i++) rtts.add(rttMs);
  const none = { lost: 1, rejected: 0, unsent: 0, late: 0, duplicates: 0 };
  return { at, sent: received + 1, received, ...none, rtts: rtts.take() };
}

function rttsOf(parts: Part[]): Distribution {
  const all = new Distribution();
  for (const { rtts } of parts) {
    for (const [ms, count] of coarseValues(rtts)) all.add(ms, count);
  }
  return all;
}

Deno.test("Store: what was written is read, by target and time", () => {
  const store = new Store(":memory:", 31);
  const outage = { fromMs: NOW + 5, toMs: NOW + 2005, datagrams: 3 };
  store.addPart("a", part(NOW, 5, 10));
  store.addPart("a", part(NOW + MINUTE, 6));
  store.addPart("b", part(NOW, 7));
  store.addOutage("a", outage);
  assertEquals(store.read("a", 0).parts, [], "not before it is written");
  store.write();
  const { parts, outages } = store.read("a", NOW);
  assertEquals(parts.map(({ received }) => received), [5, 6]);
  assertEquals(outages.map((one) => ({ ...one })), [outage]);
  assertEquals(store.read("a", NOW + 1).parts.length, 1);
  assertEquals(store.read("b", 0).parts.length, 1);
  assertEquals(rttsOf(parts).summary()!.median.toFixed(0), "10");
  store.close();
});

Deno.test("Store: two parts of one minute are added, as after a restart", () => {
  const store = new Store(":memory:", 31);
  store.addPart("a", part(NOW, 5, 10));
  store.addPart("a", part(NOW, 2, 30));
  store.write();
  const { parts } = store.read("a", 0);
  assertEquals(parts.map(({ received, lost }) => [received, lost]), [[7, 2]]);
  assertEquals(rttsOf(parts).count, 7);
  store.close();
});

Deno.test("Store: compact() makes hours of old minutes, and keeps every count", () => {
  const store = new Store(":memory:", 31);
  const old = NOW - 3 * DAY;
  for (let i = 0; i < 120; i++) {
    store.addPart("a", part(old + i * MINUTE, i, 10));
  }
  store.addPart("b", part(old + MINUTE, 1));
  store.addPart("a", part(NOW - HOUR, 1, 10));
  store.addPart("a", part(NOW - 40 * DAY, 1, 10));
  store.addOutage("a", { fromMs: 0, toMs: 1000, datagrams: 2 });
  store.write();
  for (let target = 0; target < 3; target++) store.compact(NOW);
  const { parts, outages } = store.read("a", 0);
  const sum = (from: number, to: number) => (to - 1 + from) * (to - from) / 2;
  assertEquals(parts.map(({ at, received, lost }) => [at, received, lost]), [
    [old, sum(0, 60), 60],
    [old + HOUR, sum(60, 120), 60],
    [NOW - HOUR, 1, 1],
  ]);
  assertEquals(rttsOf(parts).count, sum(0, 120) + 1);
  assertEquals(outages, [], "and those of too long ago are gone");
  assertEquals(store.read("b", 0).parts.map(({ at }) => at), [old]);
  assert(parts[0]!.rtts.length < 20, "equal RTTs are one pair");
  store.close();
});

Deno.test("Store: what waits for a disk is bounded, and the oldest is dropped", () => {
  const store = new Store(":memory:", 31);
  for (let i = 0; i <= 60_000; i++) store.addPart("a", part(i * MINUTE, 0));
  assertEquals(store.dropped, 1);
  store.close();
});

signalTest(
  "Store: a killed program leaves whole transactions, and all it reported",
  async () => {
    await using folder = await tempFolder();
    const path = `${folder.path}/history.db`;
    const { href } = new URL(
      "../../../lib/cli/watch/store.ts",
      import.meta.url,
    );
    // Adds a minute of 20 targets, old enough to be compacted, and reports it.
    const script = `import { Store } from ${JSON.stringify(href)};
    const store = new Store(${JSON.stringify(path)}, 31);
    const part = ${JSON.stringify(part(0, 1, 10))};
    for (let i = 0;; i++) {
      const at = ${NOW} + i * ${MINUTE};
      for (let n = 0; n < 20; n++) store.addPart("t" + n, { ...part, at });
      store.write();
      store.compact(${NOW} + 10 * ${DAY});
      console.log(i);
    }`;
    for (const kills of [1, 2, 3]) {
      const before = kills === 1 ? 0 : receivedOf(path)[0]!;
      await using program = new Program(Deno.execPath(), ["eval", script]);
      for (let i = 0; i < 30; i++) await program.line();
      program.kill("SIGKILL");
      await program.status;
      const received = receivedOf(path);
      assertEquals(received.length, 20);
      assertEquals(new Set(received).size, 1, "a minute of all, or of none");
      assert(received[0]! >= before + 30, `${received[0]} after ${before}`);
    }
  },
);

/** The replies of each target in a history that nobody has open. */
function receivedOf(path: string): number[] {
  using db = new DatabaseSync(path, { readOnly: true });
  const [state] = Object.values(db.prepare("PRAGMA integrity_check").get()!);
  assertEquals(state, "ok");
  return db.prepare("SELECT sum(received) AS sum FROM part GROUP BY id").all()
    .map(({ sum }) => Number(sum));
}

import { assertEquals } from "@std/assert";
import { Pace } from "../../../lib/socket/linux/pace.ts";

/** A Pace whose batches arrived at this interval, in milliseconds. */
function after(gapMs: number, count = 100): { pace: Pace; now: number } {
  const pace = new Pace();
  for (let i = 1; i <= count; i++) pace.onBatch(gapMs, 1);
  return { pace, now: 1000 };
}

Deno.test("Pace: allows waits in the thread only while datagrams arrive fast", () => {
  for (
    const [everyMs, mayWait] of [[0.01, true], [0.124, true], [0.125, false]]
  ) {
    const { pace, now } = after(everyMs as number);
    assertEquals(pace.mayWait(now), mayWait, `${everyMs} ms`);
  }
  assertEquals(after(0.01, 7).pace.mayWait(2000), false);
});

Deno.test("Pace: large batches are as fast as the datagrams in them", () => {
  for (const [gapMs, isFast] of [[7.9, true], [8, false]] as const) {
    const pace = new Pace();
    // 64 datagrams on average, without the earlier ones.
    for (let i = 0; i < 8; i++) pace.onBatch(100, 64);
    for (let i = 0; i < 8; i++) pace.onBatch(gapMs, i % 2 ? 128 : 0);
    assertEquals(pace.mayWait(0), isFast, `${gapMs} ms`);
  }
});

Deno.test("Pace: after a wait that timed out there is none for 20 ms", () => {
  const { pace, now } = after(0.01);
  assertEquals(pace.mayWait(now), true);
  pace.onTimeout(now);
  for (let i = 0; i < 16; i++) pace.onBatch(0.01, 1);
  assertEquals(pace.mayWait(now + 19), false);
  assertEquals(pace.mayWait(now + 20), true);
});

Deno.test("Pace: allows no waits while others are at work in the process", () => {
  const { pace, now } = after(0.01);
  assertEquals(pace.turnMs(now), 4);
  pace.onTurn(now, false);
  assertEquals([pace.mayWait(now), pace.wasUsed], [true, false]);
  // Once may be chance: the next turn is due soon.
  pace.onTurn(now, true);
  assertEquals([pace.mayWait(now), pace.turnMs(now)], [true, 1]);
  assertEquals(pace.wasUsed, true);
  pace.onTurn(now, false);
  assertEquals(pace.turnMs(now), 4);
  pace.onTurn(now, true);
  pace.onTurn(now, true);
  assertEquals([pace.mayWait(now + 19), pace.turnMs(now + 19)], [false, 1]);
  assertEquals(pace.mayWait(now + 20), true);
});

Deno.test("Pace: a wait that timed out begins the count of batches anew", () => {
  const { pace, now } = after(0.01, 12);
  pace.onTimeout(now);
  // The count of eight batches and their times begin anew.
  for (let i = 0; i < 7; i++) pace.onBatch(0.124, 1);
  assertEquals(pace.mayWait(now + 20), false);
  pace.onBatch(0.124, 1);
  assertEquals(pace.mayWait(now + 20), true);
});

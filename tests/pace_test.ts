import { assertEquals } from "@std/assert";
import { Pace } from "../lib/linux/pace.ts";

/** One whose batches came so many milliseconds after each other. */
function after(gapMs: number, count = 100): { pace: Pace; now: number } {
  const pace = new Pace();
  for (let i = 1; i <= count; i++) pace.onBatch(gapMs);
  return { pace, now: 1000 };
}

Deno.test("a socket waits in the thread only while datagrams come fast", () => {
  for (const [everyMs, mayWait] of [[0.01, true], [0.1, true], [0.25, false]]) {
    const { pace, now } = after(everyMs as number);
    assertEquals(pace.mayWait(now), mayWait, `${everyMs} ms`);
  }
  assertEquals(after(0.01, 7).pace.mayWait(2000), false);
});

Deno.test("after a wait in vain there is none for a while, longer each time", () => {
  const { pace, now } = after(0.01);
  const again = (from: number) => {
    for (let i = 0; i < 16; i++) pace.onBatch(0.01);
    return pace.mayWait(from);
  };
  pace.onWait(now, true);
  assertEquals([again(now + 4), again(now + 6)], [false, true]);
  pace.onWait(now + 6, true);
  assertEquals([again(now + 12), again(now + 17)], [false, true]);
});

Deno.test("who else is at work in the process is not kept waiting", () => {
  const { pace, now } = after(0.01);
  assertEquals(pace.turnMs(now), 8);
  pace.onTurn(now, 0.05);
  assertEquals(pace.mayWait(now), true);
  // Once may be chance: then the next turn comes soon.
  pace.onTurn(now, 0.3);
  assertEquals([pace.mayWait(now), pace.turnMs(now)], [true, 1]);
  pace.onTurn(now, 0.05);
  assertEquals(pace.turnMs(now), 8);
  pace.onTurn(now, 0.3);
  pace.onTurn(now, 0.3);
  assertEquals([pace.mayWait(now + 19), pace.turnMs(now + 19)], [false, 1]);
  assertEquals(pace.mayWait(now + 20), true);
});

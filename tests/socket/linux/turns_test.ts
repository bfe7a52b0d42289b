import { assertEquals } from "@std/assert";
import { Pace, Turns } from "../../../lib/socket/linux/turns.ts";

/** Turns with the test's clock; `others` use processor time in each. */
function make(isClient: boolean, others: number[] = []) {
  const clock = { now: 100, usedMs: 0, looks: 0 };
  const use = () => {
    const usedMs = others.shift() ?? 0;
    clock.now += usedMs;
    clock.usedMs += usedMs;
  };
  const turns = new Turns(
    {
      otherThread() {
        clock.looks++;
        use();
        return Promise.resolve();
      },
      threadMs: () => clock.usedMs,
    },
    () => clock.now,
    isClient,
  );
  turns.begin(100);
  return { turns, clock, use };
}

/** The number of rounds of the event loop until a promise settles. */
async function roundsOf(promise: Promise<unknown>): Promise<number> {
  let rounds = 0;
  let isOver = false;
  promise.then(() => isOver = true);
  while (!isOver) {
    await new Promise<void>((resolve) => setImmediate(() => resolve()));
    rounds++;
  }
  return rounds;
}

Deno.test("Turns: a turn is due after a millisecond, of a client in a batch after two", () => {
  for (const [isClient, pressing] of [[false, 1], [true, 2]] as const) {
    const { turns } = make(isClient);
    assertEquals([turns.isDue(101), turns.isDue(101.1)], [false, true]);
    // Without fast arrivals a client's turns are due as often.
    assertEquals([turns.isPressing(101), turns.isPressing(101.1)], [
      false,
      true,
    ]);
    assertEquals([turns.isRoundDue(101), turns.isRoundDue(101.1)], [
      false,
      true,
    ]);
    // Fast arrivals, without other work.
    for (let i = 0; i < 8; i++) turns.pace.onBatch(0, 1);
    assertEquals([turns.isDue(104), turns.isDue(104.1)], [false, true]);
    assertEquals(
      [turns.isPressing(100 + pressing), turns.isPressing(100.1 + pressing)],
      [false, true],
    );
  }
});

Deno.test("Turns: a round postpones the next round, not the next turn", async () => {
  const { turns, clock } = make(false);
  clock.now = 102;
  await turns.round();
  assertEquals([turns.isRoundDue(102), turns.isDue(102)], [false, true]);
});

Deno.test("Turns: a client's turn is 64 rounds without another thread, used if they take long", async () => {
  for (const [usedMs, isUsed] of [[0.19, false], [0.2, true]] as const) {
    const { turns, clock, use } = make(true, [usedMs]);
    const turn = turns.take();
    setImmediate(use);
    const rounds = await roundsOf(turn);
    assertEquals(rounds >= 64 && rounds < 70, true, `${rounds} rounds`);
    assertEquals([turns.pace.wasUsed, clock.looks], [isUsed, 0]);
  }
});

Deno.test("Turns: a server's turn continues while it is used, by one round each", async () => {
  for (
    const [others, looks, isUsed] of [
      [[], 1, false],
      [[0.049], 1, false],
      [[0.06], 2, true],
      [[0.5, 0.5, 0.1, 0.1], 3, true],
    ] as const
  ) {
    const { turns, clock } = make(false, [...others]);
    const turn = turns.take();
    const rounds = await roundsOf(turn);
    assertEquals(rounds <= looks + 2, true, `${rounds} rounds`);
    assertEquals(
      [turns.pace.wasUsed, clock.looks],
      [isUsed, looks],
      `${others}`,
    );
    assertEquals(turns.isDue(clock.now + 1), false);
  }
});

Deno.test("Turns: a turn ends with its socket", async () => {
  const { turns } = make(true);
  const turn = turns.take();
  turns.end();
  assertEquals(await roundsOf(turn) < 4, true);
  const server = make(false);
  server.turns.end();
  await server.turns.take();
  assertEquals(server.clock.looks, 0);
});

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

Deno.test("Pace: waits that timed out are allowed every 20 ms, ten of them in a row", () => {
  const { pace, now } = after(0.01);
  for (let i = 0; i < 11; i++) {
    assertEquals(pace.mayWait(now), true, `${i} timed out`);
    pace.onTimeout(now);
  }
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
  for (let i = 0; i < 11; i++) pace.onTimeout(now);
  // The count of eight batches and their times begin anew.
  for (let i = 0; i < 7; i++) pace.onBatch(0.124, 1);
  assertEquals(pace.mayWait(now + 20), false);
  pace.onBatch(0.124, 1);
  assertEquals(pace.mayWait(now + 20), true);
});

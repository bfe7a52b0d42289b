import { assertEquals } from "@std/assert";
import { LoopWatch } from "../../lib/server/loop_watch.ts";

const PEER = { hostname: "192.0.2.1", port: 7 };

/** A watch with a clock of its own; answers are the times of their requests. */
function watched() {
  const timers = new Map<() => void, number>();
  const sent: number[] = [];
  const dropped: number[] = [];
  let now = 0;
  const watch = new LoopWatch<number>({
    now: () => now,
    after(ms, callback) {
      timers.set(callback, now + ms);
      return () => timers.delete(callback);
    },
    send: (answer) => sent.push(answer),
    drop: (answer) => dropped.push(answer),
  });
  const advance = (to: number) => {
    while (true) {
      const next = [...timers].filter(([, at]) => at <= to)
        .sort(([, a], [, b]) => a - b)[0];
      if (next === undefined) break;
      timers.delete(next[0]);
      now = next[1];
      next[0]();
    }
    now = to;
  };
  /** Requests at these times; gives those whose answers have to wait. */
  const ask = (times: number[], peer = PEER): number[] =>
    times.filter((at) => {
      advance(at);
      // Another object each time, as some engines have it.
      const test = watch.test({ ...peer }, at);
      if (test !== undefined) watch.keep(test, at, 16);
      return test !== undefined;
    });
  return { watch, ask, advance, sent, dropped };
}

const every = (ms: number, count: number, from = 0) =>
  Array.from({ length: count }, (_, i) => from + i * ms);

Deno.test("a peer is put to the test after six answers and half a second", () => {
  for (
    const [gapMs, first] of [[100, 500], [50, 500], [99, 594], [140, 700]]
  ) {
    const { ask } = watched();
    assertEquals(ask(every(gapMs!, 12))[0], first, `${gapMs} ms`);
  }
});

Deno.test("a peer that goes on gets what was kept, and is not tested again soon", () => {
  const { watch, ask, sent, dropped } = watched();
  assertEquals(ask(every(100, 8)), [500, 600, 700]);
  assertEquals([watch.kept, sent], [3, []]);
  // At 800 the test has lasted for more than 250 ms.
  assertEquals(ask([800]), []);
  assertEquals([watch.kept, sent, dropped], [0, [500, 600, 700], []]);
  assertEquals(ask(every(1, 99_999, 900)), []);
  assertEquals(ask(every(1, 2, 100_899)).length, 2);
});

Deno.test("more than the first test keeps is found by the second, after 100,000 answers", () => {
  const { watch, ask, advance, dropped } = watched();
  // 100 that circulate in a millisecond.
  const around = (from: number) =>
    ask(Array.from({ length: 100 }, (_, i) => from + i / 100));
  let now = 0;
  while (around(now++).length === 0);
  assertEquals([now, watch.kept], [501, 0]);
  while (around(now++).length === 0);
  // The rest of them were sent before the test began.
  const rest = 100 - watch.kept;
  assertEquals(ask(Array(rest).fill(now)).length, rest);
  assertEquals([now > 1500, watch.kept], [true, 100]);
  advance(now + 30);
  assertEquals([watch.kept, dropped.length], [0, 13]);
});

Deno.test("who goes on in the second test too is left alone for a minute", () => {
  const { ask, sent } = watched();
  const kept = ask(every(0.01, 300_000));
  assertEquals([kept.length, sent.length], [64 + 255, 64 + 255]);
  const endedAt = kept.at(-1)! + 0.01;
  const next = ask(every(1, 60_000, 3000))[0]!;
  assertEquals(next, Math.ceil(endedAt + 60_000));
});

Deno.test("a peer that falls silent loses what was kept", () => {
  const { watch, ask, advance, sent, dropped } = watched();
  assertEquals(ask(every(100, 6)), [500]);
  // A second look has to show the same as the first.
  advance(759);
  assertEquals([watch.kept, dropped], [1, []]);
  advance(760);
  assertEquals([watch.kept, sent, dropped], [0, [], [500]]);
  // It is believed for 1,000 answers and 10 s, for 10,000 and a minute the next
  // time.
  assertEquals(ask(every(1, 9990, 770)), []);
  assertEquals(ask([10_760]), [10_760]);
  advance(11_300);
  assertEquals(dropped, [500, 10_760]);
  assertEquals(ask(every(5, 11_940, 11_310)), []);
  assertEquals(ask([71_009, 71_020]), [71_020]);
});

Deno.test("a peer that is slow is believed for so many answers, not only for a time", () => {
  const { ask, advance } = watched();
  ask(every(100, 6));
  advance(800);
  assertEquals(ask(every(100, 999, 900)), []);
  assertEquals(ask([100_800]), [100_800]);
});

/** `count` requests at a time, up to those that wait; gives their time. */
function rounds(
  { ask }: ReturnType<typeof watched>,
  count: number,
  from: number,
  gapMs = 1,
): number {
  for (let at = from;; at += gapMs) {
    if (ask(Array.from({ length: count }, () => at)).length > 0) return at;
  }
}

Deno.test("where many are on their way, the first silence costs few of them", () => {
  for (const [count, lost] of [[2, 1], [8, 1], [9, 2], [63, 8]] as const) {
    const peer = watched();
    assertEquals(rounds(peer, count, 0), 500);
    peer.advance(529);
    assertEquals([peer.watch.kept, peer.sent.length], [count, 0]);
    peer.advance(530);
    assertEquals(
      [peer.watch.kept, peer.sent.length, peer.dropped.length],
      [0, count - lost, lost],
    );
  }
});

Deno.test("who has replaced what it lost is sent all, and is left alone", () => {
  const peer = watched();
  rounds(peer, 16, 0);
  peer.advance(530);
  assertEquals(rounds(peer, 15, 531), 530 + 1100);
  peer.advance(1660);
  assertEquals([peer.sent.length, peer.dropped.length], [14 + 15, 2]);
  assertEquals(rounds(peer, 16, 1661), 11_660);
  // It is counted anew.
  peer.advance(11_690);
  assertEquals([peer.sent.length, peer.dropped.length], [29 + 14, 4]);
  rounds(peer, 16, 11_691);
  peer.advance(12_900);
  // The next time it is left alone for longer.
  assertEquals(rounds(peer, 16, 12_901), 12_820 + 60_000);
});

Deno.test("who has replaced nothing loses all the second time", () => {
  for (const count of [1, 2, 10]) {
    const peer = watched();
    rounds(peer, count + 1, 0);
    peer.advance(530);
    const left = count === 10 ? 9 : count;
    assertEquals(peer.sent.length, left);
    rounds(peer, left, 531);
    peer.advance(1660);
    assertEquals(
      [peer.watch.kept, peer.dropped.length],
      [0, count + 1],
      `${count}`,
    );
  }
});

Deno.test("a pause that a test has made is not taken for the peer's own", () => {
  const peer = watched();
  rounds(peer, 16, 0);
  peer.advance(1500);
  // Else its silence would have to be two seconds long.
  const at = rounds(peer, 16, 1501);
  peer.advance(at + 30);
  assertEquals(peer.watch.kept, 0);
});

Deno.test("what comes between two looks is on its way too", () => {
  const peer = watched();
  rounds(peer, 16, 0);
  peer.advance(525);
  assertEquals(peer.ask([525]), [525]);
  peer.advance(544);
  assertEquals(peer.watch.kept, 17);
  peer.advance(560);
  assertEquals([peer.watch.kept, peer.dropped.length], [0, 3]);
});

Deno.test("those that follow each other within 20 ms are counted, after twice that", () => {
  for (const [gapMs, kept] of [[20, 0], [21, 2]] as const) {
    const peer = watched();
    const at = rounds(peer, 2, 0, gapMs);
    peer.advance(at + 60);
    assertEquals(peer.watch.kept, kept, `${gapMs} ms`);
  }
  const peer = watched();
  const at = rounds(peer, 2, 0, 20);
  peer.ask([at + 15]);
  peer.advance(at + 54);
  assertEquals(peer.watch.kept, 3);
  peer.advance(at + 55);
  assertEquals(peer.watch.kept, 0);
});

Deno.test("one alone, or several answers to each, are given a quarter of a second", () => {
  const alone = watched();
  rounds(alone, 1, 0);
  alone.advance(749);
  assertEquals([alone.watch.kept, alone.dropped], [1, []]);
  alone.advance(750);
  assertEquals([alone.watch.kept, alone.dropped], [0, [500]]);

  const many = watched();
  for (const at of every(1, 502)) {
    many.advance(at);
    const test = many.watch.test(PEER, at, true);
    for (const answer of [at, -at]) if (test) many.watch.keep(test, answer, 9);
  }
  many.advance(759);
  assertEquals([many.watch.kept, many.dropped], [4, []]);
  many.advance(760);
  assertEquals([many.watch.kept, many.dropped.length], [0, 4]);
});

Deno.test("of peers that send fast few are tested at once, of slow ones all", () => {
  const tested = (peers: number, gapMs: number) => {
    const { ask, watch } = watched();
    for (const at of every(gapMs, Math.ceil(500 / gapMs) + 7)) {
      for (let port = 1; port <= peers; port++) ask([at], { ...PEER, port });
      if (watch.kept > 0) return watch.kept;
    }
    return 0;
  };
  assertEquals(tested(5, 100), 1);
  assertEquals(tested(33, 125), 2);
  assertEquals(tested(33, 126), 33);
});

Deno.test("silence counts from the last request of the test", () => {
  const { ask, advance, dropped } = watched();
  assertEquals(ask([...every(100, 6), 700]), [500, 700]);
  advance(949);
  assertEquals(dropped, []);
  advance(950);
  assertEquals(dropped, [500, 700]);
});

Deno.test("who made a pause of more than ten seconds begins anew", () => {
  for (const [pauseMs, waits] of [[10_000, true], [10_001, false]] as const) {
    const { ask } = watched();
    ask(every(100, 5));
    // Alone among short gaps it would be no round-trip time of a loop.
    ask(every(1, 70, 400 + pauseMs));
    assertEquals(ask([400 + pauseMs + 100]).length > 0, waits, `${pauseMs}`);
  }
});

Deno.test("long gaps are those of a loop only if they are alike", () => {
  const alike = watched();
  assertEquals(alike.ask(every(300, 6)), [1500]);
  const uneven = watched();
  assertEquals(uneven.ask([0, 300, 900, 1200, 2100, 2400, 3300]), []);
  const fewer = watched();
  assertEquals(fewer.ask([0, 300, 600, 601, 602, 603, 604, 605]), []);
});

Deno.test("release() sends all that is kept, and peers are told apart", () => {
  const { watch, ask, sent } = watched();
  const other = { ...PEER, port: 8 };
  for (const at of every(100, 6)) {
    ask([at]);
    if (at > 0) ask([at], other);
  }
  assertEquals(watch.kept, 1);
  watch.release();
  assertEquals([watch.kept, sent], [0, [500]]);
});

Deno.test("who gets several answers passes by time alone, and loses what is too much", () => {
  const { watch, advance, sent, dropped } = watched();
  const ask = (at: number) => {
    advance(at);
    const test = watch.test(PEER, at, true);
    // Two answers to each, of which 255 are 32 MiB.
    for (const answer of [at, -at]) if (test) watch.keep(test, answer, 131_072);
    return test;
  };
  for (const at of every(100, 5)) assertEquals(ask(at), undefined);
  for (const at of every(1, 200, 500)) ask(at);
  assertEquals([watch.kept, dropped.length, sent], [255, 145, []]);
  const test = ask(700)!;
  assertEquals(ask(751), undefined);
  assertEquals([watch.kept, sent.length, test.verdict], [0, 255, "send"]);
  // What a slow handler makes of a datagram from before goes the same way.
  watch.keep(test, 1, 16);
  assertEquals([watch.kept, sent.length], [0, 256]);
});

Deno.test("who is not tested yet is not while much is kept, and what has gone makes room", () => {
  const { watch, advance, sent, dropped } = watched();
  const bytes = 200_000;
  const ask = (at: number, port: number) => {
    advance(at);
    const test = watch.test({ ...PEER, port }, at, true);
    if (test) watch.keep(test, at, bytes);
    return test !== undefined;
  };
  for (let round = 0; round < 3; round++) {
    const from = 100_000 * round;
    sent.length = dropped.length = 0;
    for (const at of every(100, 5, from)) {
      assertEquals([ask(at, 1), ask(at + 50, 2)], [false, false]);
    }
    // Of 32 MiB in all more than a half.
    for (const at of every(0.5, 100, from + 500)) ask(at, 1);
    assertEquals(ask(from + 550, 2), false);
    for (const at of every(0.5, 20, from + 551)) ask(at, 1);
    assertEquals([watch.kept, dropped.length], [120, 0]);
    assertEquals([ask(from + 751, 1), watch.kept, sent.length], [
      false,
      0,
      120,
    ]);
  }
});

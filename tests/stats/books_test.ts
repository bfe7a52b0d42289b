import { assert, assertEquals } from "@std/assert";
import { Books, type Interval } from "../../lib/stats/books.ts";
import { NO_COUNTS, type PartCounts } from "../../lib/stats/counts.ts";
import type { Sample } from "../../lib/stats/sample.ts";
import { seededRandom, TIME_ORIGIN } from "../../lib/testing/mod.ts";

const TARGET = { hostname: "192.0.2.9", port: 7 };
const TIMEOUT_MS = 100;

/** Books whose run began at 1000 ms, and their samples. */
function make(capacity = 8) {
  const samples: Sample[] = [];
  const books = new Books({
    ...{ capacity, timeoutMs: TIMEOUT_MS, size: 16 },
    onSample: (sample) => samples.push(sample),
  });
  books.localPort = 50_000;
  books.begin(1000, TIME_ORIGIN, TARGET);
  /** Adds a datagram that the system takes. */
  const send = (at: number) => {
    const seq = books.add(at, at);
    books.taken(seq);
    return seq;
  };
  const receive = (seq: number, rttMs?: number) => {
    const kind = books.replied(seq);
    if (kind === "received") books.measured(seq, rttMs);
    return kind;
  };
  const outcomes = () => samples.map(({ seq, outcome }) => `${seq} ${outcome}`);
  return { books, samples, send, receive, outcomes };
}

/** The counts of a run that are not 0. */
function countsOf(books: Books): Partial<PartCounts & { pending: number }> {
  const counts = books.summary();
  const names = Object.keys(NO_COUNTS) as Array<keyof PartCounts>;
  return Object.fromEntries(
    [...names, "pending" as const].filter((name) => counts[name] !== 0)
      .map((name) => [name, counts[name]]),
  );
}

Deno.test("Books: a datagram is sent once the system has taken it, and settled once", () => {
  const { books, outcomes, receive } = make();
  const seq = books.add(1000, 1001);
  assertEquals([countsOf(books), books.open], [{}, 1]);
  books.taken(seq);
  books.taken(seq);
  assertEquals(countsOf(books), { sent: 1, pending: 1 });
  assertEquals(receive(seq, 5), "received");
  for (const settle of [books.lose, books.refused]) {
    settle.call(books, seq, undefined);
  }
  assertEquals(countsOf(books), { sent: 1, received: 1 });
  assertEquals([outcomes(), books.open], [["0 received"], 0]);
});

Deno.test("Books: a reply may be faster than the system's report of the send", () => {
  const { books, receive } = make();
  const seq = books.add(1000, 1000);
  assertEquals(receive(seq, 1), "received");
  books.taken(seq);
  assertEquals(countsOf(books), { sent: 1, received: 1 });
});

Deno.test("Books: late replies, and copies of replies, late ones too", () => {
  const { books, send, receive, outcomes } = make();
  const [one, two] = [send(1000), send(1001)];
  assertEquals([receive(one, 5), receive(one)], ["received", "duplicate"]);
  books.lose(two);
  assertEquals([receive(two), receive(two)], ["late", "duplicate"]);
  const lost = { lost: 1, late: 1 };
  assertEquals(countsOf(books), {
    sent: 2,
    received: 1,
    ...lost,
    duplicates: 2,
  });
  assertEquals(outcomes(), ["0 received", "1 lost"]);
  assertEquals(books.summary().lossPercent, 50);
});

Deno.test("Books: an unsent datagram is loss, and not among the sent", () => {
  const { books, send, receive, samples } = make();
  const error = new Error("Network is unreachable");
  const [one, two] = [books.add(1000, 1000), send(1010)];
  books.refused(one, error);
  receive(two, 1);
  assertEquals(countsOf(books), { sent: 1, received: 1, unsent: 1 });
  const { lossPercent, reasons } = books.summary();
  assertEquals(lossPercent, 50);
  assertEquals(reasons, [{ reason: error.message, count: 1 }]);
  assertEquals([samples[0]!.outcome, samples[0]!.error], ["unsent", error]);
});

Deno.test("Books: an error about a datagram that was sent does not make it unsent", () => {
  const { books, send, outcomes } = make();
  books.refused(send(1000), new Error("receiving failed"));
  assertEquals(countsOf(books), { sent: 1, lost: 1 });
  assertEquals(outcomes(), ["0 lost"]);
  assertEquals(books.summary().reasons.length, 1);
});

Deno.test("Books: a rejected datagram is lost, with the report of the network", () => {
  const { books, send, samples } = make();
  const report = new Error("192.0.2.1 reports: no route");
  books.lose(send(1000), report, 2);
  assertEquals(countsOf(books), { sent: 1, lost: 1, rejected: 1 });
  const [{ outcome, error, attempts } = samples[0]!] = samples;
  assertEquals([outcome, error, attempts], ["rejected", report, 2]);
});

Deno.test("Books: at the end what is in flight is pending, and what the system has not reported", () => {
  const { books, send, outcomes, receive } = make();
  receive(send(1000), 1);
  send(1010);
  books.add(1020, 1020);
  books.end();
  const counts = { sent: 3, received: 1, pending: 2 };
  assertEquals(countsOf(books), counts);
  // As the sockets close, the system may report them after all.
  books.refused(2, new Error("closed"));
  books.lose(1);
  assertEquals(countsOf(books), counts);
  assertEquals(outcomes(), ["0 received", "1 pending", "2 pending"]);
  assertEquals(books.summary().lossPercent, 0, "of the settled ones");
});

Deno.test("Books: the time-out counts from the send, in sending order", () => {
  const { books } = make();
  // The first was due long before.
  books.taken(books.add(0, 1000));
  books.taken(books.add(1030, 1030));
  const waiting = books.add(1040, 1040);
  assertEquals(books.nextLossAt(1050), 1100);
  assertEquals([...books.expire(1099.9)], []);
  assertEquals([...books.expire(1100)], [0]);
  assertEquals(books.nextLossAt(1100), 1130);
  assertEquals([...books.expire(5000)], [1], "the last one is not in flight");
  assertEquals([books.oldest, books.isOpen(waiting)], [waiting, true]);
  assertEquals(books.nextLossAt(5000), 5100);
  books.taken(books.add(5000, 5000));
  assertEquals([...books.expire(5100)], [3], "the one before still waits");
});

Deno.test("Books: a sample has times since the first send, and by the wall clock", () => {
  const { books, samples, send } = make();
  // The first one leaves when its code is compiled.
  send(1002);
  const seq = books.add(1015, 1022.5);
  books.taken(seq);
  books.replied(seq);
  books.measured(seq, 3, 1, "kernel");
  assertEquals(samples, [{
    ...{ seq: 1, outcome: "received", dueMs: 13, sentMs: 20.5 },
    ...{ sentAt: TIME_ORIGIN + 22.5, rttMs: 3, clock: "kernel", attempts: 1 },
    ...{ size: 16, target: TARGET, localPort: 50_000 },
  }]);
  assertEquals(books.summary().startedAt, TIME_ORIGIN + 2);
});

Deno.test("Books: only the latest datagrams are remembered, by their numbers", () => {
  const capacity = 4;
  const { books, send, receive } = make(capacity);
  for (let i = 0; i < capacity; i++) send(1000 + i);
  assertEquals(books.hasRoom, false);
  receive(1, 1);
  assertEquals(books.hasRoom, false, "the oldest one is in flight");
  receive(0, 1);
  assertEquals([books.hasRoom, books.oldest], [true, 2]);
  assertEquals([send(2000), books.add(2001, 2001)], [4, 5]);
  const seqs = [-1, 1, 2, 5, 6];
  assertEquals(seqs.map((seq) => books.isRemembered(seq)), [
    ...[false, false, true, true, false],
  ]);
  // 1 has the place of 5.
  assertEquals([books.isOpen(1), books.isOpen(5)], [false, true]);
  books.lose(1);
  books.refused(1, new Error());
  books.taken(1);
  assertEquals(countsOf(books), { sent: 5, received: 2, pending: 3 });
});

Deno.test("Books: reasons are counted, most frequent first, and 50 at most", () => {
  const { books } = make();
  for (let i = 0; i < 200; i++) books.report(new Error(`kind ${i % 100}`));
  for (let i = 0; i < 3; i++) books.report(new Error("kind 7"));
  const { reasons } = books.summary();
  assertEquals(reasons.slice(0, 2), [
    { reason: "other", count: 100 },
    { reason: "kind 7", count: 5 },
  ]);
  assertEquals(reasons.length, 51);
  assertEquals(reasons.reduce((sum, { count }) => sum + count, 0), 203);
});

Deno.test("Books: standstills are counted, with the longest", () => {
  const { books } = make();
  for (const [from, ms] of [[1200, 150], [2000, 1500], [9000, 200]]) {
    books.stalled(from!, ms!);
  }
  const { stalls, stalledMs, longestStall } = books.summary();
  assertEquals([stalls, stalledMs], [3, 1850]);
  assertEquals(longestStall, { fromMs: 1000, ms: 1500 });
});

Deno.test("Books: an interval has the RTTs and the times of its part", () => {
  const { books, send, receive } = make();
  receive(send(1000), 4);
  const first = books.endInterval(1500);
  receive(send(1600), 8);
  const second = books.endInterval(2000);
  assertEquals([first.fromMs, first.toMs, second.fromMs, second.toMs], [
    ...[0, 500, 500, 1000],
  ]);
  assertEquals([first.rttMs?.max, second.rttMs?.min], [4, 8]);
  // A clock that was read earlier does not turn an interval round.
  const third = books.endInterval(1900);
  assertEquals([third.fromMs, third.toMs, third.rttMs], [
    1000,
    1000,
    undefined,
  ]);
  assertEquals(books.rtts.summary()?.mean, 6);
});

Deno.test("Books: for any events intervals add up, none is negative, and each datagram has one outcome", () => {
  for (let seed = 1; seed <= 40; seed++) {
    const random = seededRandom(seed);
    const { books, samples, outcomes } = make(64);
    const intervals: Interval[] = [];
    const any = () => Math.floor(random() * (books.next + 2));
    let now = 1000;
    const queued = new Set<number>();
    const steps = [
      () => {
        if (books.hasRoom) queued.add(books.add(now, now));
      },
      () => queued.forEach((seq) => books.taken(seq)),
      () => {
        for (const seq of queued) {
          if (random() < 0.3) books.refused(seq, new Error("refused"));
        }
        queued.clear();
      },
      () => {
        const seq = any();
        if (!books.isRemembered(seq)) return books.count("late");
        if (books.replied(seq) === "received") books.measured(seq, random());
      },
      () =>
        books.lose(any(), random() < 0.5 ? new Error("rejected") : undefined),
      () => [...books.expire(now)],
      () => books.count("foreign"),
      () => books.count("skipped", 3),
      () => books.stalled(now, 100 + random()),
      () => intervals.push(books.endInterval(now)),
    ];
    for (let i = 0; i < 3000; i++) {
      now += random() * 10;
      steps[Math.floor(random() * steps.length)]!();
    }
    books.end();
    intervals.push(books.endInterval(now));
    const all = books.summary();
    for (const name of Object.keys(NO_COUNTS) as Array<keyof PartCounts>) {
      const parts = intervals.map((interval) => interval[name]);
      assert(parts.every((part) => part >= 0), `${name} of seed ${seed}`);
      const sum = parts.reduce((sum, part) => sum + part, 0);
      assert(Math.abs(sum - all[name]) < 1e-6, `${name} of seed ${seed}`);
    }
    const { sent, received, lost, rejected, unsent, pending } = all;
    assertEquals(sent, received + lost + pending);
    assertEquals(sent + unsent, books.next);
    assert(all.late > 0 && received > 0 && unsent > 0 && rejected > 0);
    const count = (wanted: string) =>
      outcomes().filter((outcome) => outcome.endsWith(wanted)).length;
    assertEquals(
      ["received", "lost", "rejected", "unsent", "pending"].map(count),
      [received, lost - rejected, rejected, unsent, pending],
    );
    const seqs = samples.map(({ seq }) => seq).sort((a, b) => a - b);
    assertEquals(seqs, Array.from({ length: books.next }, (_, seq) => seq));
  }
});

Deno.test("Books: the loss structure is in sending order, whatever the order of the outcomes", () => {
  for (let seed = 1; seed <= 20; seed++) {
    const random = seededRandom(seed);
    const { books } = make(256);
    const outcomes: boolean[] = [];
    let isBad = false;
    for (let i = 0; i < 2000; i++) {
      isBad = isBad ? random() < 0.85 : random() < 0.05;
      outcomes.push(isBad);
    }
    const open: number[] = [];
    const settle = () => {
      const [seq] = open.splice(Math.floor(random() * open.length), 1);
      if (!outcomes[seq!]) {
        books.replied(seq!);
        books.measured(seq!, 1);
      } else books.lose(seq!);
    };
    for (let i = 0; i < outcomes.length; i++) {
      while (!books.hasRoom) settle();
      const seq = books.add(1000 + i, 1000 + i);
      books.taken(seq);
      open.push(seq);
      if (random() < 0.5) settle();
    }
    while (open.length > 0) settle();
    const text = outcomes.map((isLost) => isLost ? "x" : ".").join("");
    const periods = [...text.matchAll(/x+/g)];
    const outages = periods.filter(([{ length }]) => length >= 10)
      .map(({ 0: { length }, index }) => ({
        fromMs: index,
        toMs: index + length < text.length ? index + length : undefined,
        datagrams: length,
        unsent: 0,
      }));
    const structure = books.summary();
    assertEquals(structure.lossPeriods, periods.length);
    assertEquals(structure.outageCount, outages.length);
    assertEquals(structure.outages, outages.slice(0, 100));
    const longest = Math.max(0, ...periods.map(([{ length }]) => length));
    assertEquals(structure.longestLossPeriod, longest);
  }
});

Deno.test("Books: the time-out of a datagram that waited in a standstill counts from its end", () => {
  const { books, send } = make();
  send(1000);
  books.add(1001, 1001);
  books.stalled(1002, 1500);
  books.taken(1);
  assertEquals([...books.expire(2502 + TIMEOUT_MS - 1)], [0]);
  assertEquals([...books.expire(2502 + TIMEOUT_MS)], [1]);
});

Deno.test("Books: a datagram that is pending at the end hides no later loss", () => {
  const { books, send } = make(32);
  send(1000);
  for (let i = 1; i <= 12; i++) {
    books.refused(books.add(1000 + i, 1000 + i), new Error("down"));
  }
  books.end();
  const { lossPeriods, longestLossPeriod, outageCount } = books.summary();
  assertEquals([lossPeriods, longestLossPeriod, outageCount], [1, 12, 1]);
});

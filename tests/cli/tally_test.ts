import { assertEquals } from "@std/assert";
import {
  intervalJson,
  intervalLine,
  RunTally,
  Silence,
} from "../../lib/cli/show/tally.ts";

Deno.test("a tally has a status that claims nothing before there is a reply", () => {
  const tally = new RunTally();
  assertEquals(tally.status(0), "0 sent, n/a loss, no reply yet");
  tally.add("lost", undefined);
  tally.add("reply", undefined);
  assertEquals(tally.status(3), "3 sent, 50% loss, no reply yet");
  tally.add("reply", 0.5);
  assertEquals(
    tally.status(4),
    "4 sent, 33.33% loss, rtt 0.500 ms in the median",
  );
});

Deno.test("intervals have what happened in them alone", () => {
  const tally = new RunTally();
  assertEquals(tally.hasPart(0), false);
  assertEquals(tally.hasPart(1), true);
  for (const type of ["reply", "lost", "late", "duplicate"]) {
    const other = new RunTally();
    other.add(type, 1);
    assertEquals(other.hasPart(0), true, type);
    other.take(1000, 0);
    assertEquals(other.hasPart(0), false, type);
  }
  for (const rttMs of [1, 3]) tally.add("reply", rttMs);
  for (const type of ["lost", "error", "late", "duplicate", "other"]) {
    tally.add(type, undefined);
  }
  const first = tally.take(1000, 5);
  assertEquals(
    intervalLine(first),
    "0.0 to 1.0 s: 5 sent, 2 received, 50% loss, 1 late, 1 duplicates, rtt min/avg/max = 1.000/2.000/3.000 ms",
  );
  const { rttMs, ...counts } = intervalJson(first);
  assertEquals(counts, {
    fromMs: 0,
    toMs: 1000,
    sent: 5,
    received: 2,
    lost: 2,
    duplicates: 1,
    late: 1,
    errors: 1,
  });
  assertEquals((rttMs as { max: number }).max, 3);
  assertEquals(tally.hasPart(5), false);
  tally.add("reply", 2);
  assertEquals(
    intervalLine(tally.take(1500, 6)),
    "1.0 to 1.5 s: 1 sent, 1 received, 0% loss, rtt min/avg/max = 2.000/2.000/2.000 ms",
  );
  assertEquals(
    intervalLine(tally.take(1600, 6)),
    "1.5 to 1.6 s: 0 sent, 0 received, n/a loss",
  );
  // All of them are in the total.
  assertEquals(
    tally.status(6),
    "6 sent, 40% loss, rtt 2.000 ms in the median",
  );
});

Deno.test("silence is told once, and its end", () => {
  const silence = new Silence(1000);
  assertEquals(silence.heard(1500), undefined);
  assertEquals(silence.look(11_499), undefined);
  assertEquals(silence.look(11_500), "nobody has answered for 10 s");
  assertEquals(silence.look(12_000), undefined);
  assertEquals(silence.heard(16_500), "an answer again, after 15 s");
  assertEquals(silence.heard(16_600), undefined);
  assertEquals(silence.look(26_600), "nobody has answered for 10 s");
});

import { assertEquals } from "@std/assert";
import { intervalLine } from "../../lib/cli/show/columns.ts";
import { isEmpty, Silence, Tally } from "../../lib/cli/show/tally.ts";

Deno.test("Tally: a part has what happened in it alone", () => {
  assertEquals(isEmpty(new Tally().upTo(1000, 0)), true);
  assertEquals(isEmpty(new Tally().upTo(1000, 1)), false);
  for (const type of ["reply", "lost", "late", "duplicate"]) {
    const other = new Tally();
    other.add(type, 1);
    assertEquals(isEmpty(other.upTo(1000, 0)), false, type);
  }
  const tally = new Tally();
  assertEquals(
    intervalLine(tally.upTo(500, 1)),
    "0.0 to 0.5 s: 1 sent, 0 received, 0 lost (n/a)",
  );
  for (const rttMs of [1, 3]) tally.add("reply", rttMs);
  for (const type of ["lost", "error", "late", "duplicate", "other"]) {
    tally.add(type, undefined);
  }
  const first = tally.upTo(1000, 5);
  assertEquals(
    intervalLine(first),
    "0.0 to 1.0 s: 5 sent, 2 received, 2 lost (50%), 1 duplicates, 1 late, 1 errors, rtt min/median/max = 1.000/2.000/3.000 ms",
  );
  const { rttMs, ...counts } = first;
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
  assertEquals(rttMs?.max, 3);
  const second = new Tally(1000, 5);
  second.add("reply", 2);
  assertEquals(
    intervalLine(second.upTo(1500, 6)),
    "1.0 to 1.5 s: 1 sent, 1 received, 0 lost (0%), rtt min/median/max = 2.000/2.000/2.000 ms",
  );
});

Deno.test("Silence: is reported once, and so is its end", () => {
  const silence = new Silence();
  assertEquals(silence.heard(500), undefined);
  assertEquals(silence.look(10_499), undefined);
  assertEquals(silence.look(10_500), "no reply for 10 s");
  assertEquals(silence.look(11_000), undefined);
  assertEquals(silence.heard(15_500), "a reply again, after 15 s");
  assertEquals(silence.heard(15_600), undefined);
  assertEquals(silence.look(25_600), "no reply for 10 s");
});

import { assertEquals } from "@std/assert";
import { Silence } from "../../lib/cli/show/silence.ts";

Deno.test("Silence: is reported once, and so is its end", () => {
  const silence = new Silence();
  // The time, the number of replies until then, and the report.
  const table: Array<[number, number, string?]> = [
    [500, 1],
    [10_499, 1],
    [10_500, 1, "no reply for 10 s"],
    [11_000, 1],
    [15_500, 2, "a reply again, after 15 s"],
    [15_600, 3],
    [25_599, 3],
    [25_600, 3, "no reply for 10 s"],
  ];
  for (const [now, received, report] of table) {
    assertEquals(silence.look(now, received), report, `at ${now} ms`);
  }
});

Deno.test("Silence: begins with the first look, and never while replies arrive", () => {
  const silence = new Silence();
  assertEquals(silence.look(60_000, 0), undefined);
  for (let i = 1; i < 100; i++) {
    assertEquals(silence.look(60_000 + 9000 * i, i), undefined);
  }
  const unanswered = new Silence();
  assertEquals(unanswered.look(60_000, 0), undefined);
  assertEquals(unanswered.look(70_000, 0), "no reply for 10 s");
});

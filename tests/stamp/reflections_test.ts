import { assertEquals } from "@std/assert";
import { DirectionCount } from "../../lib/stamp/directions.ts";
import { Reflections } from "../../lib/stamp/reflections.ts";

/** An account of requests of which some were answered, by these numbers. */
function make(numbers: Array<number | undefined>, capacity = 100) {
  const reflections = new Reflections(
    capacity,
    (seq) => numbers[seq] === undefined,
  );
  for (const [seq, number] of numbers.entries()) {
    reflections.onSent(seq);
    if (number !== undefined) reflections.onNumber(number, seq);
  }
  const lost = numbers.filter((number) => number === undefined).length;
  const where = (hasDuplicates = false) => {
    const found = reflections.whereLost(numbers.length, lost, hasDuplicates);
    return found && [found.up, found.down, found.unattributed];
  };
  return { reflections, where, sent: numbers.length };
}

Deno.test("gaps in the numbers are replies that were lost, the others never came", () => {
  assertEquals(make([0, 1, 2]).where(), [0, 0, 0]);
  assertEquals(make([0, undefined, 1, undefined, 3]).where(), [1, 1, 0]);
  assertEquals(make([undefined, 0, 1]).where(), [1, 0, 0]);
  assertEquals(make([undefined, 1, 2, 3]).where(), undefined, "no state?");
  assertEquals(make([undefined, 4, 5, undefined, 7]).where(), [0, 1, 1]);
  // What is remembered no more is accounted for.
  const many = Array.from({ length: 40 }, (_, i) => i % 4 ? i + 1 : undefined);
  assertEquals(make(many, 8).where(), [0, 9, 1]);
});

Deno.test("a number that came back before a request was sent is one of another run", () => {
  // The reply to the request that began anew was lost, and so was its number.
  assertEquals(
    make([1, 2, undefined, 4, 5, undefined, 0, 1, undefined, 3]).where(),
    [0, 2, 1],
  );
});

Deno.test("what a reflector says that it received tells loss apart, unless it cannot be", () => {
  const { reflections, where, sent } = make([0, undefined, 2, undefined, 4]);
  assertEquals([where(), reflections.wantsProbe], [undefined, true]);
  reflections.onProbeSent(7n);
  assertEquals(reflections.onProbe(sent, sent, 8n), undefined);
  assertEquals(reflections.onProbe(sent, sent, 7n), true);
  const told = (received: number) => {
    reflections.onCounts(sent + 1, received);
    return where();
  };
  assertEquals([told(4), told(5), told(6)], [[2, 0, 0], [1, 1, 0], [0, 2, 0]]);
  // More than were lost, or more than were sent.
  assertEquals([told(3), told(7)], [undefined, undefined]);
  told(5);
  assertEquals([where(true), reflections.wantsProbe], [undefined, false]);
});

Deno.test("a probe that follows lost ones tells only what is all on one way", () => {
  const tail = (second: number) => {
    const { reflections, where, sent } = make([1, 2, undefined, 4, undefined]);
    for (const timestamp of [7n, 8n]) reflections.onProbeSent(timestamp);
    assertEquals(reflections.onProbe(second, sent, 8n), false);
    return where();
  };
  // Of the last request and the first probe both, none or one was numbered.
  assertEquals([tail(7), tail(5), tail(6)], [[0, 2, 0], [1, 1, 0], [0, 1, 1]]);
});

Deno.test("where copies take numbers only what has none between is certain", () => {
  const count = (isReordered: boolean) => {
    const directions = new DirectionCount({
      hasCopies: true,
      isReordered,
      hasRestarted: false,
    });
    const answered = (number: number) =>
      directions.answered(number, 0, (n) => n === number);
    answered(0);
    directions.lost();
    directions.lost();
    answered(1);
    directions.lost();
    answered(3);
    directions.lost();
    return Object.values(directions.total());
  };
  assertEquals([count(false), count(true)], [[2, 0, 2], [0, 0, 4]]);
});

Deno.test("numbers below the lowest one that came are gaps, until they come", () => {
  const seen = new Set<number>();
  const directions = new DirectionCount({
    hasCopies: false,
    isReordered: true,
    hasRestarted: false,
  });
  const answered = (number: number) => {
    seen.add(number);
    directions.answered(number, 0, (n) => seen.has(n));
  };
  // The replies 7 and 4 came; of 5 and 6 nothing is known.
  answered(7);
  directions.lost();
  directions.lost();
  answered(4);
  const { up, down, unattributed } = directions.total(true);
  assertEquals([up, down, unattributed], [0, 2, 0]);
  // So far apart that nobody can say what is missing.
  answered(3_000_000);
  assertEquals(directions.total().down, 0);
});

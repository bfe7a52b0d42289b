import { assertEquals } from "@std/assert";
import { DirectionCount } from "../../lib/stamp/directions.ts";
import { Reflections } from "../../lib/stamp/reflections.ts";

/** An account of requests of which some were answered, by these numbers. */
function make(numbers: Array<number | undefined>, capacity = 100) {
  const reflections = new Reflections(capacity);
  for (const [seq, number] of numbers.entries()) {
    reflections.onSent(seq);
    if (number !== undefined) reflections.onNumber(number, seq);
    else reflections.onLost(seq);
  }
  const lost = numbers.filter((number) => number === undefined).length;
  const where = (hasDuplicates = false) => {
    const found = reflections.whereLost(numbers.length, {
      lost,
      late: 0,
      duplicates: hasDuplicates ? 1 : 0,
    });
    return found && [found.up, found.down, found.unattributed];
  };
  return { reflections, where, sent: numbers.length };
}

Deno.test("Reflections: gaps in the numbers are lost replies, other requests were lost up", () => {
  assertEquals(make([0, 1, 2]).where(), [0, 0, 0]);
  assertEquals(make([0, undefined, 1, undefined, 3]).where(), [1, 1, 0]);
  assertEquals(make([undefined, 0, 1]).where(), [1, 0, 0]);
  assertEquals(make([undefined, 1, 2, 3]).where(), undefined, "no state?");
  assertEquals(make([undefined, 4, 5, undefined, 7]).where(), [0, 1, 1]);
  // What is remembered no more is accounted for.
  const many = Array.from({ length: 40 }, (_, i) => i % 4 ? i + 1 : undefined);
  assertEquals(make(many, 8).where(), [0, 9, 1]);
});

Deno.test("Reflections: a number received before a request was sent is one of another run", () => {
  // The reply to the request that began anew was lost, and so was its number.
  assertEquals(
    make([1, 2, undefined, 4, 5, undefined, 0, 1, undefined, 3]).where(),
    [0, 2, 1],
  );
});

Deno.test("Reflections: reported counts attribute loss, unless they are impossible", () => {
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

Deno.test("Reflections: a probe after lost ones attributes loss that is all in one direction", () => {
  const tail = (second: number) => {
    const { reflections, where, sent } = make([1, 2, undefined, 4, undefined]);
    for (const timestamp of [7n, 8n]) reflections.onProbeSent(timestamp);
    assertEquals(reflections.onProbe(second, sent, 8n), false);
    return where();
  };
  // Of the last request and the first probe both, none or one was numbered.
  assertEquals([tail(7), tail(5), tail(6)], [[0, 2, 0], [1, 1, 0], [0, 1, 1]]);
});

/** A count of the requests that are added, which are numbered from 0. */
function counting(hasCopies: boolean) {
  const seen = new Set<number>();
  let seq = 0;
  const count = new DirectionCount({
    hasCopies,
    isReordered: false,
    hasRestarted: false,
  });
  return {
    answered: (number: number) => {
      seen.add(number);
      count.answered(seq++, number, 0, (n) => seen.has(n));
    },
    /** A request, in flight while N more were sent. */
    lost: (more = 0) => count.lost(0, ++seq + more),
    total: () => Object.values(count.total()),
  };
}

Deno.test("DirectionCount: copies and requests in flight leave certain what exceeds the gaps", () => {
  const total = (hasCopies: boolean, more: number) => {
    const { answered, lost, total } = counting(hasCopies);
    answered(0);
    lost(more);
    lost(more);
    answered(1);
    lost(more);
    answered(3);
    lost(more);
    return total();
  };
  assertEquals(total(false, 0), [2, 1, 1]);
  assertEquals(total(true, 0), [2, 0, 2]);
  // All of them may have been overtaken by the last one answered.
  assertEquals([total(false, 9), total(true, 9)], [[0, 1, 3], [0, 0, 4]]);
});

Deno.test("DirectionCount: numbers below the lowest received one are gaps, until they are received", () => {
  const { answered, lost, total } = counting(false);
  // The replies 7 and 4 are received; of 5 and 6 nothing is known.
  answered(7);
  lost();
  lost();
  answered(4);
  assertEquals(total(), [0, 2, 0]);
  // So far apart that nobody can say what is missing.
  answered(3_000_000);
  assertEquals(total(), [0, 0, 2]);
});

Deno.test("DirectionCount: requests that overtook the first reply's are not taken for lost up", () => {
  // The second request took number 0, and its reply was lost.
  const { answered, lost, total } = counting(false);
  answered(1);
  lost();
  answered(2);
  assertEquals(total(), [1, 0, 0]);
});

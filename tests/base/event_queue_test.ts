import { assertEquals, assertRejects } from "@std/assert";
import { EventQueue } from "../../lib/base/event_queue.ts";

/** The events of an iteration; `before` runs ahead of each. */
async function taken<T>(
  queue: EventQueue<T>,
  onEach: (event: T) => void = () => {},
): Promise<T[]> {
  const all: T[] = [];
  for await (const event of queue) {
    all.push(event);
    onEach(event);
  }
  return all;
}

Deno.test("EventQueue: events are given in order until the end", async () => {
  const queue = new EventQueue<number>();
  for (const event of [1, 2, 3]) queue.push(event);
  queue.end();
  queue.push(4);
  assertEquals(await taken(queue), [1, 2, 3]);
  assertEquals(queue.ended, true);
  await queue.whenEnded;
});

Deno.test("EventQueue: events pushed during the iteration are given, and it waits", async () => {
  const queue = new EventQueue<number>();
  queue.push(1);
  const all = taken(queue, (event) => {
    if (event === 1) queue.push(2);
    if (event === 2) {
      setTimeout(() => {
        queue.push(3);
        queue.end();
      });
    }
  });
  assertEquals(queue.ended, false);
  assertEquals(await all, [1, 2, 3]);
});

Deno.test("EventQueue: throws the first failure, after the events before it", async () => {
  const queue = new EventQueue<number>();
  queue.push(1);
  queue.end({ error: new Error("first") });
  queue.end({ error: new Error("second") });
  const seen: number[] = [];
  await assertRejects(
    () => taken(queue, (event) => seen.push(event)),
    Error,
    "first",
  );
  assertEquals(seen, [1]);
});

Deno.test("EventQueue: leaves out and counts events beyond 16 MiB of waiting ones", async () => {
  const queue = new EventQueue<number>();
  const large = (1 << 20) - 512;
  for (let i = 0; i < 20; i++) queue.push(i, large);
  assertEquals(queue.dropped, 4);
  const all = taken(queue, (event) => {
    // The last one that waited: there is room again.
    if (event === 15) setTimeout(() => queue.push(100, large));
    if (event === 100) queue.end();
  });
  assertEquals(await all, [...Array(16).keys(), 100]);
  const small = new EventQueue<number>();
  for (let i = 0; i < 32_768; i++) small.push(i);
  assertEquals(small.dropped, 0);
  small.push(0);
  assertEquals(small.dropped, 1);
});

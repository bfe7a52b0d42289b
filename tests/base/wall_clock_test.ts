import { assert, assertEquals } from "@std/assert";
import { clockOffset, wallOrigin } from "../../lib/base/wall_clock.ts";

Deno.test("wallOrigin(): keeps its origin until the system's clock is set", () => {
  let [now, set] = [0, 0];
  const origin = wallOrigin(
    1000.25,
    () => now,
    () => Math.floor(1000.25 + now + set),
  );
  for (; now < 5000; now += 7.3) assertEquals(origin(), 1000.25);
  for (const step of [-1_000_000, 3, -3, 40 * 365 * 86_400_000]) {
    set += step;
    now += 101;
    const off = origin() - (1000.25 + set);
    assert(Math.abs(off) <= 0.5, `${off} ms off after ${step} ms`);
  }
});

Deno.test("wallOrigin(): reads the system's clock rarely", () => {
  let [now, reads] = [0, 0];
  const origin = wallOrigin(0, () => now, () => {
    reads++;
    return Math.floor(now);
  });
  for (; now < 1000; now++) origin();
  assertEquals(reads, 9);
});

Deno.test("clockOffset(): the least one that was read, until the clock is set", () => {
  let [now, ahead] = [0, 1000];
  /** Time between the two reads of a reading. */
  let pauses: number[] = [];
  const offset = clockOffset(() => now, () => {
    now += pauses.shift() ?? 0.001;
    return now + ahead;
  });
  const read = (...given: number[]) => {
    pauses = given;
    return Math.round(1e6 * offset()) / 1e6;
  };
  assertEquals(read(0.004), 1000.004);
  assertEquals(read(0.001), 1000.001);
  assertEquals(read(0.03), 1000.001);
  // Three readings in a row are delayed between their two reads.
  assertEquals(read(5, 5, 5, 0.002), 1000.001);
  ahead = 1010;
  assertEquals(read(0.002), 1010.001);
  ahead = 500;
  assertEquals(read(0.002), 500.002);
});

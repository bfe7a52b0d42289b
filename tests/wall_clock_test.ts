import { assert, assertEquals } from "@std/assert";
import { WallClock } from "../lib/wall_clock.ts";

Deno.test("the wall clock stays as it is, until it is set", () => {
  let [now, set] = [0, 0];
  const clock = new WallClock(
    1000.25,
    () => now,
    () => Math.floor(1000.25 + now + set),
  );
  for (; now < 5000; now += 7.3) assertEquals(clock.origin, 1000.25);
  for (const step of [-1_000_000, 3, -3, 40 * 365 * 86_400_000]) {
    set += step;
    now += 101;
    const off = clock.origin - (1000.25 + set);
    assert(Math.abs(off) <= 0.5, `${off} ms off after ${step} ms`);
  }
});

Deno.test("the wall clock is read now and then only", () => {
  let [now, reads] = [0, 0];
  const clock = new WallClock(0, () => now, () => {
    reads++;
    return Math.floor(now);
  });
  for (; now < 1000; now++) clock.origin;
  assertEquals(reads, 9);
});

/** The timer of programs that start fast. */
import { lightTimer } from "../../lib/base/light_timer.ts";
import { assertEquals } from "@std/assert";

Deno.test("lightTimer(): calls back once, in order, unless it is cancelled", async () => {
  const calls: number[] = [];
  // These timers do not keep the process alive.
  const keepAlive = setInterval(() => {}, 1000);
  await new Promise<void>((resolve) => {
    lightTimer(20, () => resolve(void calls.push(20)));
    const cancel = lightTimer(10, () => calls.push(10));
    lightTimer(1, () => {
      calls.push(1);
      cancel();
    });
  });
  clearInterval(keepAlive);
  assertEquals(calls, [1, 20]);
});

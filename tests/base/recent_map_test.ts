import { assert, assertEquals } from "@std/assert";
import { RecentMap } from "../../lib/base/recent_map.ts";

Deno.test("RecentMap: keeps the used entries, and never more than its size", () => {
  const map = new RecentMap<number, number>(100);
  map.set(-1, -1);
  for (let i = 0; i < 10_000; i++) {
    map.set(i, i);
    assert(map.size <= 100, `${map.size} entries`);
    assertEquals(map.get(-1), -1);
    if (i >= 20) assertEquals(map.get(i - 20), i - 20);
  }
  assertEquals(map.get(5000), undefined);
});

Deno.test("RecentMap: counts a reused entry once", () => {
  const map = new RecentMap<string, number>(4);
  for (const [i, key] of ["a", "b", "c"].entries()) map.set(key, i);
  assertEquals(map.size, 3);
  assertEquals([map.get("a"), map.size], [0, 3]);
  assertEquals([map.get("a"), map.get("d")], [0, undefined]);
});

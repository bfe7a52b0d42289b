import { assert, assertEquals } from "@std/assert";
import { RecentMap, SegmentedMap } from "../../lib/base/recent_map.ts";

Deno.test("RecentMap keeps what is used, and never more than its size", () => {
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

Deno.test("RecentMap counts an entry once that is used again", () => {
  const map = new RecentMap<string, number>(4);
  for (const [i, key] of ["a", "b", "c"].entries()) map.set(key, i);
  assertEquals([map.size, map.isCrowded], [3, true]);
  assertEquals([map.get("a"), map.size], [0, 3]);
  assertEquals([map.get("a"), map.get("d")], [0, undefined]);
});

Deno.test("SegmentedMap: an entry that was used again outlives any number of others", () => {
  const map = new SegmentedMap<number, number>(100);
  map.add(-1, -1);
  map.add(-2, -2);
  assertEquals(map.get(-1), -1);
  for (let i = 0; i < 10_000; i++) {
    assertEquals(map.get(i), undefined);
    map.add(i, i);
    assert(map.size <= 100, `${map.size} entries`);
  }
  assertEquals([map.get(-1), map.get(-2)], [-1, undefined]);
  assertEquals(map.isCrowded, true);
});

Deno.test("SegmentedMap: entries that are all used again replace the least recently used", () => {
  const map = new SegmentedMap<number, number>(8);
  for (let i = 0; i < 100; i++) {
    map.add(i, i);
    assertEquals(map.get(i), i);
    assert(map.size <= 8, `${map.size} entries`);
  }
  assertEquals([map.get(99), map.get(98), map.get(90)], [99, 98, undefined]);
});

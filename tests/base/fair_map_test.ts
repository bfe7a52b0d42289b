import { assertEquals } from "@std/assert";
import { FairMap } from "../../lib/base/fair_map.ts";

/** A map, and the keys from `a0` on that it still has. */
function make(maxSize: number) {
  const map = new FairMap<number>(maxSize);
  const has = (group: string, count: number) =>
    Array.from({ length: count }, (_, i) => i)
      .filter((i) => map.get(`${group}${i}`) !== undefined);
  const add = (group: string, from: number, to: number) => {
    for (let i = from; i < to; i++) map.set(`${group}${i}`, group, i);
  };
  return { map, has, add };
}

Deno.test("FairMap: a group that is larger than the others evicts its own oldest", () => {
  const { map, has, add } = make(10);
  add("a", 0, 3);
  add("b", 0, 1000);
  assertEquals([map.size, has("a", 3)], [10, [0, 1, 2]]);
  assertEquals(has("b", 1000), [993, 994, 995, 996, 997, 998, 999]);
  // A new group evicts from the largest group.
  add("c", 0, 2);
  assertEquals([has("a", 3).length, has("b", 1000).length], [3, 5]);
});

Deno.test("FairMap: an entry that was set twice outlives new entries of any group", () => {
  const { map, has, add } = make(8);
  add("a", 0, 2);
  add("a", 0, 2);
  for (let i = 0; i < 1000; i++) map.set(`one ${i}`, `group ${i}`, i);
  assertEquals([map.size, has("a", 2)], [8, [0, 1]]);
  // A group whose entries are also set twice does not evict it.
  add("b", 0, 100);
  for (let i = 100; i < 1000; i++) for (const _ of [1, 2]) add("b", i, i + 1);
  assertEquals([map.size, has("a", 2)], [8, [0, 1]]);
});

Deno.test("FairMap: all of its entries may have been set twice", () => {
  const { map, has, add } = make(8);
  for (let round = 0; round < 3; round++) add("a", 0, 8);
  assertEquals([map.size, has("a", 8).length], [8, 8]);
  // The least recently set entry is evicted.
  for (const i of [0, 1, 3, 4, 5, 6, 7]) add("a", i, i + 1);
  assertEquals(map.set("a8", "a", 8), 2);
  assertEquals(map.get("a2"), undefined);
});

Deno.test("FairMap: get() does not count as use, set() replaces the value", () => {
  const { map } = make(2);
  map.set("x", "g", 1);
  map.set("y", "g", 2);
  assertEquals(map.get("x"), 1);
  assertEquals(map.set("z", "g", 3), 1);
  assertEquals([map.get("x"), map.set("y", "g", 4)], [undefined, undefined]);
  assertEquals([map.get("y"), map.size], [4, 2]);
});

Deno.test("FairMap: any order of sets keeps its size and its largest groups", () => {
  let seed = 7;
  const random = (n: number) =>
    (seed = (seed * 1103515245 + 12345) % 2 ** 31) % n;
  const map = new FairMap<string>(50);
  const model = new Set<string>();
  for (let i = 0; i < 20_000; i++) {
    const group = `${random(random(2) ? 3 : 40)}`;
    const key = `${group}/${random(60)}`;
    const evicted = map.set(key, group, key);
    model.add(key);
    if (evicted !== undefined) model.delete(evicted);
    assertEquals(map.size, model.size);
  }
  assertEquals(map.size, 50);
  for (const key of model) assertEquals(map.get(key), key);
});

import { assert } from "@std/assert";
import { BENCHES } from "./micro_bench.ts";

for (const [name, fn] of Object.entries(BENCHES)) {
  Deno.test(`bench "${name}": runs`, fn);
}

Deno.test("bench: has benchmarks", () => {
  assert(Object.keys(BENCHES).length > 5);
});

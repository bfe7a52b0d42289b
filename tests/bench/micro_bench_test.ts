import { assert } from "@std/assert";
import { BENCHES } from "./micro_bench.ts";

for (const [name, fn] of Object.entries(BENCHES)) {
  Deno.test(`the benchmark "${name}" runs`, fn);
}

Deno.test("there are benchmarks", () => {
  assert(Object.keys(BENCHES).length > 5);
});

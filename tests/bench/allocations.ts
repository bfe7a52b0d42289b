/**
 * Prints the bytes that each unit of `datagram_bench.ts` allocates for a datagram,
 * as JSON, by the growth of the heap:
 *
 *     deno run --v8-flags=... tests/bench/allocations.ts
 *
 * with the flags of `datagram_bench_test.ts`, by which nothing is collected within a
 * batch, and compilers work at set counts of calls: the figures are then the same
 * on any machine.
 */
// deno-lint-ignore-file no-console -- it is a program
import { summarize } from "../../lib/stats/statistics.ts";
import { type Unit, UNITS } from "./datagram_bench.ts";

const { gc } = globalThis as unknown as { gc: () => void };
const COUNT = 20_000;
/** Compilers are done after the first batches. */
const WARM = 3;
const BATCHES = 5;

/** The bytes on the heap, and those of buffers beside it. */
function allocated(): number {
  const { heapUsed, external } = Deno.memoryUsage();
  return heapUsed + external;
}

/** The bytes that a batch allocates for one datagram. */
async function batch({ run }: Unit): Promise<number> {
  gc();
  const before = allocated();
  await run(COUNT);
  return (allocated() - before) / COUNT;
}

const found: Record<string, number> = {};
for (const [name, unit] of Object.entries(UNITS)) {
  for (let i = 0; i < WARM; i++) await batch(unit);
  const bytes = [];
  for (let i = 0; i < BATCHES; i++) bytes.push(await batch(unit));
  found[name] = Math.round(summarize(bytes)!.median);
}
console.log(JSON.stringify(found, null, 1));
Deno.exit();

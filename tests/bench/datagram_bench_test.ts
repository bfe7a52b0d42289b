import { assert, assertEquals } from "@std/assert";
import { programTest } from "../helpers.ts";
import { UNITS } from "./datagram_bench.ts";

for (const [name, { run }] of Object.entries(UNITS)) {
  Deno.test(`bench "${name}": runs`, () => run(1));
}

/** Nothing is collected within a batch, and compilers work in the same thread. */
const V8_FLAGS = [
  ...["--expose-gc", "--single-threaded"],
  ...["--min-semi-space-size=64", "--max-semi-space-size=128"],
];

/** The bounds are as measured there; another V8 allocates otherwise. */
const isMeasured = Deno.build.os === "linux" &&
  Deno.version.deno.startsWith("2.9.");
const measuredTest: typeof programTest = isMeasured
  ? programTest
  : (name, fn) => Deno.test({ name, ignore: true, fn });

measuredTest("bench: a datagram allocates no more than its bound", async () => {
  const { success, stdout, stderr } = await new Deno.Command(Deno.execPath(), {
    args: [
      ...["run", "--no-prompt", `--v8-flags=${V8_FLAGS}`],
      "tests/bench/allocations.ts",
    ],
    stdin: "null",
    // Coverage, by its variable, would allocate too.
    clearEnv: true,
  }).output();
  assert(success, new TextDecoder().decode(stderr));
  const found: Record<string, number> = JSON.parse(
    new TextDecoder().decode(stdout),
  );
  assertEquals(Object.keys(found), Object.keys(UNITS));
  const grown = Object.entries(UNITS)
    .filter(([name, { maxBytes }]) => !(found[name]! <= maxBytes))
    .map(([name, { maxBytes }]) =>
      `${name}: ${found[name]} bytes a datagram, at most ${maxBytes}`
    );
  assertEquals(
    grown,
    [],
    "something more is allocated for each datagram: remove it, or raise the bound " +
      "in tests/bench/datagram_bench.ts with the reason in the commit " +
      `(bounds are of Deno 2.9.6, this is ${Deno.version.deno})`,
  );
});

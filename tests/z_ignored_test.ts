/** The last file of a run, which ends the output with a note about ignored tests. */
// deno-lint-ignore-file no-console -- the note is for the terminal
import { assert, assertEquals } from "@std/assert";
import { IGNORED_NOTE, Program, programTest, textsBelow } from "./helpers.ts";

globalThis.addEventListener("unload", () => {
  if (IGNORED_NOTE !== undefined) console.log(IGNORED_NOTE);
});

programTest(
  "deno test: without permissions, ends with a note about ignored tests",
  async () => {
    const last = "tests/z_ignored_test.ts";
    const files = await textsBelow("tests/", "_test.ts");
    assertEquals([...files.keys()].sort().at(-1), last);
    await using bare = new Program(Deno.execPath(), [
      ...["test", "--unstable-net", "--no-check", "--no-prompt"],
      ...["tests/seed_test.ts", last],
    ]);
    const { code, stdout, stderr } = await bare.ended();
    assertEquals(code, 0, stderr);
    const parts = stdout.split("Ignored: ");
    assertEquals(parts.length, 2, stdout);
    assert(parts[0]!.includes("ignored (0ms)"), stdout);
    assert(!parts[1]!.includes(" ... "), stdout);
    assert(parts[1]!.includes("`deno task test`"), stdout);
  },
);

import { assertEquals, assertMatch } from "@std/assert";
import { describeError } from "../lib/warn.ts";
import { Program, programTest } from "./helpers.ts";

Deno.test("describeError() shows whatever was thrown, and commands no terminal", () => {
  const unshowable = {
    toString() {
      throw new Error("no");
    },
  };
  assertEquals(describeError(unshowable), "a value that cannot be shown");
  assertEquals(describeError(undefined), "undefined");
  const error = new Error("x");
  error.stack = "Error: \x1b[2J\x9b\u202e\u061c\n    at here";
  assertEquals(
    describeError(error),
    "Error: \\u001b[2J\\u009b\\u202e\\u061c\n    at here",
  );
});

programTest(
  "a handler that throws is seen on stderr, with where it threw",
  async () => {
    const code = `import { request, serve } from "./lib/mod.ts";
    await using server = serve(function mine() { throw new Error("oops"); });
    const once = { timeoutMs: 20, retries: 0 };
    for (let i = 0; i < 3; i++) await request(server.addr, "x", once).catch(() => {});`;
    await using program = new Program(
      Deno.execPath(),
      ["eval", "--unstable-net", code],
    );
    const { code: exit, stdout, stderr } = await program.ended();
    assertEquals([exit, stdout], [0, ""]);
    assertMatch(
      stderr,
      /^UDP server on 127\.0\.0\.1:\d+: the handler failed \(.*\): Error: oops\n {4}at .*mine/,
    );
    assertEquals(stderr.split("the handler failed").length, 2, "once a second");
  },
);

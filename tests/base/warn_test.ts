import { assertEquals, assertMatch } from "@std/assert";
import { describeError, throttle, warn } from "../../lib/base/warn.ts";
import { Program, programTest } from "../helpers.ts";

Deno.test("describeError(): describes any thrown value, without control characters", () => {
  const unshowable = {
    toString() {
      throw new Error("no");
    },
  };
  assertEquals(describeError(unshowable), "a value that cannot be shown");
  assertEquals(describeError(undefined), "undefined");
  const listed = Object.assign(new TypeError("x"), { stack: [1, 2] });
  assertEquals(describeError(listed), "TypeError: x");
  const named = Object.assign(new Error("x"), { stack: 1, name: Symbol() });
  assertEquals(describeError(named), "a value that cannot be shown");
  const error = new Error("x");
  error.stack = "Error: \x1b[2J\x9b\u202e\u061c\n    at here";
  assertEquals(
    describeError(error),
    "Error: \\u001b[2J\\u009b\\u202e\\u061c\n    at here",
  );
});

Deno.test("warn(): unread warnings wait, up to a limit, and block nothing", async () => {
  const { write } = Deno.stderr;
  const reader = Promise.withResolvers<void>();
  let text = "";
  // A pipe that accepts seven bytes at a time, once it has a reader.
  Deno.stderr.write = async (bytes) => {
    await reader.promise;
    text += new TextDecoder().decode(bytes.subarray(0, 7));
    return Math.min(7, bytes.length);
  };
  const lines = Array.from({ length: 40 }, (_, i) => `warning ${i}`);
  try {
    for (const line of lines) warn(line);
    assertEquals(text, "");
    reader.resolve();
    while (!text.endsWith("left out\n")) await null;
    assertEquals(text.split("\n"), [
      ...lines.slice(0, 32),
      "roundtrip: 8 warnings left out",
      "",
    ]);
    text = "";
    warn("later");
    while (!text.endsWith("\n")) await null;
    assertEquals(text, "later\n");
    // A closed pipe is no error.
    Deno.stderr.write = () => Promise.reject(new Deno.errors.BrokenPipe());
    warn("in vain");
    for (let i = 0; i < 10; i++) await null;
  } finally {
    Deno.stderr.write = write;
  }
});

Deno.test("throttle(): prints each kind once a second, with the number of the others", () => {
  let now = 0;
  const said: string[] = [];
  const say = throttle(
    (message, kind) => said.push(`${kind}: ${message}`),
    () => now,
  );
  for (now of [0, 1, 999, 1000, 1001, 1999.5, 2000, 5000]) {
    say("a", `at ${now}`);
  }
  say("b", () => "made when it is said");
  say("b", () => {
    throw new Error("nor else");
  });
  assertEquals(said, [
    "a: at 0",
    "a: at 1000 (and 2 more)",
    "a: at 2000 (and 2 more)",
    "a: at 5000",
    "b: made when it is said",
  ]);
  // All kinds beyond the limit count as one.
  said.length = 0;
  for (let i = 0; i < 70; i++) say(`kind ${i}`, "x");
  assertEquals(said.length, 63);
  assertEquals(said.at(-1), "others: x");
});

programTest(
  "serve(): prints a handler's error on stderr, with its place",
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

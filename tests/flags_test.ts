import { assertEquals, assertThrows } from "@std/assert";
import {
  decimal,
  duration,
  durationText,
  type Flags,
  fullUsage,
  host,
  integer,
  parseFlags,
  usage,
  UsageError,
} from "../lib/cli/flags.ts";
import { CLIENT_FLAGS } from "../lib/cli/client_flags.ts";
import { SERVER_FLAGS } from "../lib/cli/server_flags.ts";

const FLAGS = {
  port: { short: "p", value: "PORT", parse: integer(0, 9), help: "a port" },
  message: { short: "m", value: "TEXT", parse: String, help: "a text" },
  "max-loss": { value: "PERCENT", parse: decimal(100), help: "a limit" },
  quiet: { short: "q", help: "no lines" },
  json: { group: "What to show", help: "one document" },
  plot: { group: "What to show", rare: true, help: "a picture" },
} satisfies Flags;

const NOTHING = {
  port: undefined,
  message: undefined,
  "max-loss": undefined,
  quiet: false,
  json: false,
  plot: false,
};

Deno.test("parseFlags() reads long and short flags in every spelling", () => {
  for (
    const args of [
      ["--port", "7", "-q"],
      ["--port=7", "--quiet"],
      ["-p", "7", "-q"],
      ["-p7", "-q"],
      ["-qp7"],
      ["-qp", "7"],
      ["-p", "3", "-qp", "7"],
    ]
  ) {
    assertEquals(
      parseFlags(FLAGS, args),
      { given: { ...NOTHING, port: 7, quiet: true }, positionals: [] },
      args.join(" "),
    );
  }
});

Deno.test("parseFlags() takes any text as a value", () => {
  for (
    const text of ["-", "", "-5", "--json", "a=b", "=", "two\nlines", "true"]
  ) {
    for (
      const args of [["-m", text], ["--message", text], [`--message=${text}`]]
    ) {
      const { given } = parseFlags(FLAGS, args);
      assertEquals(given, { ...NOTHING, message: text }, args.join(" "));
    }
  }
});

Deno.test("parseFlags() keeps positionals apart and as they are", () => {
  const parsed = parseFlags(FLAGS, ["10", "-q", "::1", "-", "--", "-q", "--x"]);
  assertEquals(parsed.given, { ...NOTHING, quiet: true });
  assertEquals(parsed.positionals, ["10", "::1", "-", "-q", "--x"]);
});

Deno.test("parseFlags() names the flag that is wrong", () => {
  const cases: Array<[string[], string]> = [
    [["--nope"], "unknown flag --nope"],
    [["--nope=1"], "unknown flag --nope"],
    [["--__proto__"], "unknown flag --__proto__"],
    [["--no-quiet"], "unknown flag --no-quiet"],
    [["-x"], "unknown flag -x"],
    [["-qx"], "unknown flag -x"],
    [["-1"], "unknown flag -1"],
    [["--port"], "--port needs a value"],
    [["-qp"], "--port needs a value"],
    [["--port="], "--port: ''"],
    [["-p", "10"], "--port: '10' is not a whole number from 0 to 9"],
    [["--quiet=1"], "--quiet takes no value"],
    [["--max-loss", "101"], "--max-loss: '101'"],
  ];
  for (const [args, message] of cases) {
    assertThrows(() => parseFlags(FLAGS, args), UsageError, message);
  }
});

Deno.test("integer() takes digits within its range only", () => {
  const parse = integer(1, 1000);
  assertEquals(["1", "0999", "1000"].map(parse), [1, 999, 1000]);
  for (const text of ["0", "1001", "1.0", "1e2", "0x1", "-1", "", " 1"]) {
    assertThrows(() => parse(text), SyntaxError, "from 1 to 1000", text);
  }
});

Deno.test("decimal() takes 0 to its maximum", () => {
  const parse = decimal(100);
  assertEquals(["0", "0.5", ".5", "100"].map(parse), [0, 0.5, 0.5, 100]);
  for (const text of ["100.1", "-1", "5%", "", "."]) {
    assertThrows(() => parse(text), SyntaxError, "from 0 to 100", text);
  }
});

Deno.test("duration() reads seconds unless a unit says otherwise", () => {
  const cases: Array<[string, number]> = [
    ["1", 1000],
    ["0.2", 200],
    [".5", 500],
    ["200ms", 200],
    ["0.5ms", 0.5],
    ["1s", 1000],
    ["1m", 60_000],
    ["0", 0],
  ];
  for (const [text, ms] of cases) assertEquals(duration(0)(text), ms, text);
  for (const text of ["", "s", "1h", "-1", "1 s", "1e3", "2000m", "∞"]) {
    assertThrows(() => duration(0)(text), SyntaxError, "200ms", text);
  }
  assertThrows(() => duration(1)("0.5ms"), SyntaxError, "from 1ms");
});

Deno.test("host() takes a host without a port", () => {
  assertEquals(["[::1]", "::1", "localhost"].map(host), [
    "::1",
    "::1",
    "localhost",
  ]);
  for (const text of ["", " ", "a b", "127.0.0.1:1", "[::1]:1"]) {
    assertThrows(() => host(text), SyntaxError, "", text);
  }
});

Deno.test("usage() lists flags in groups, and the rare ones only if asked", () => {
  const common = [
    "Intro",
    "Flags:",
    "  -p, --port PORT         a port",
    "  -m, --message TEXT      a text",
    "      --max-loss PERCENT  a limit",
    "  -q, --quiet             no lines",
    "What to show:",
    "      --json              one document",
  ];
  assertEquals(usage(FLAGS, "Intro").split("\n"), common);
  const rare = "      --plot              a picture";
  const all = fullUsage(FLAGS, "Intro", "Notes").split("\n");
  assertEquals(all, [...common, rare, "Notes"]);
});

Deno.test("durationText() is what duration() reads", () => {
  for (const ms of [1, 200, 999, 1000, 1500, 60_000]) {
    assertEquals(duration(0)(durationText(ms)), ms);
  }
  const texts = [0, 20, 1000, 1500, 2000].map(durationText);
  assertEquals(texts, ["0ms", "20ms", "1s", "1500ms", "2s"]);
});

Deno.test("parseFlags() says of what is not UTF-8 that it cannot tell", () => {
  // What the system gives to Deno is decoded by then.
  assertThrows(
    () => parseFlags(FLAGS, ["--message", "caf\ufffd"]),
    UsageError,
    "'caf\ufffd' is not UTF-8: give bytes as --hex",
  );
});

Deno.test("--workers takes 1 to 256", () => {
  const { parse } = SERVER_FLAGS.workers;
  assertEquals([parse("1"), parse("256")], [1, 256]);
  for (const text of ["0", "257", "1.5"]) {
    assertThrows(() => parse(text), SyntaxError);
  }
});

Deno.test("--dscp takes a number, or a name that the RFCs give one", () => {
  const dscp = (text: string) =>
    parseFlags(CLIENT_FLAGS, ["--dscp", text]).given.dscp;
  const known: Array<[string, number]> = [
    ["0", 0],
    ["63", 63],
    ["EF", 46],
    ["le", 1],
    ["CS0", 0],
    ["CS3", 24],
    ["cs7", 56],
    ["AF11", 10],
    ["AF23", 22],
    ["AF41", 34],
  ];
  for (const [text, value] of known) assertEquals(dscp(text), value, text);
  for (const text of ["64", "-1", "AF15", "AF51", "CS8", "best", ""]) {
    assertThrows(() => dscp(text), UsageError, "--dscp");
  }
});

Deno.test("--extensions takes all, or some by name", () => {
  const extensions = (text: string) =>
    parseFlags(CLIENT_FLAGS, ["--extensions", text]).given.extensions;
  assertEquals(extensions("all")?.length, 5);
  assertEquals(extensions("location,follow-up"), ["location", "follow-up"]);
  for (const text of ["", "location,", "LOCATION"]) {
    assertThrows(() => extensions(text), UsageError, "is not one of");
  }
});

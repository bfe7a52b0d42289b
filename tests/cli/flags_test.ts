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
} from "../../lib/cli/flags.ts";
import { CLIENT_FLAGS } from "../../lib/cli/client_flags.ts";
import {
  checkClientFlags,
  commonOptions,
  loadOptions,
  paceOf,
  parseTargets,
  reportOptions,
} from "../../lib/cli/client_plan.ts";
import { expectationOf } from "../../lib/cli/expect.ts";
import { planServer, SERVER_FLAGS } from "../../lib/cli/server_flags.ts";

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

/** Flags, the least and the most that they take, and what is just too much. */
const RANGES: Array<[Flags, string, string[], string[]]> = [
  [CLIENT_FLAGS, "port", ["0", "65535"], ["-1", "65536"]],
  [CLIENT_FLAGS, "source-port", ["1", "65535"], ["0", "65536"]],
  [CLIENT_FLAGS, "ttl", ["1", "255"], ["0", "256"]],
  [CLIENT_FLAGS, "ssid", ["0", "65535"], ["-1", "65536"]],
  [CLIENT_FLAGS, "count", ["0", "1000000000"], ["-1", "1000000001"]],
  [CLIENT_FLAGS, "rate", ["0", "10000000"], ["-1", "10000000.1"]],
  [CLIENT_FLAGS, "window", ["1", "65536"], ["0", "65537"]],
  [CLIENT_FLAGS, "retries", ["0", "100"], ["-1", "101"]],
  [CLIENT_FLAGS, "max-loss", ["0", "100"], ["-1", "100.1"]],
  [CLIENT_FLAGS, "expect-replies", ["1", "1000000"], ["0", "1000001"]],
  [CLIENT_FLAGS, "interval", ["0", "86400"], ["-1", "86400.001"]],
  [CLIENT_FLAGS, "timeout", ["1ms", "86400"], ["0.9ms", "86400.001"]],
  [CLIENT_FLAGS, "deadline", ["1ms", "86400"], ["0.9ms", "86400.001"]],
  [CLIENT_FLAGS, "duration", ["1ms", "86400"], ["0.9ms", "86400.001"]],
  [CLIENT_FLAGS, "report", ["100ms", "86400"], ["99ms", "86400.001"]],
  [CLIENT_FLAGS, "size", ["0", "65527"], ["-1", "65528"]],
  [SERVER_FLAGS, "port", ["0", "65535"], ["-1", "65536"]],
  [SERVER_FLAGS, "ssid", ["0,65535"], ["-1", "65536", "1,", ""]],
  [SERVER_FLAGS, "rate-limit", ["0", "1000000000"], ["-1", "1000000001"]],
  [SERVER_FLAGS, "max-amplification", ["0", "1000"], ["-1", "1000.1"]],
  [SERVER_FLAGS, "count", ["1", "1000000000"], ["0", "1000000001"]],
  [SERVER_FLAGS, "report", ["100ms", "86400"], ["99ms", "86400.001"]],
  [SERVER_FLAGS, "workers", ["1", "256"], ["0", "257", "1.5"]],
  [SERVER_FLAGS, "reply", ["", "x".repeat(65_527)], ["x".repeat(65_528)]],
];

Deno.test("each flag takes all of its range, and nothing beyond", () => {
  for (const [flags, name, good, bad] of RANGES) {
    for (const text of good) parseFlags(flags, [`--${name}=${text}`]);
    for (const text of bad) {
      const parse = () => parseFlags(flags, [`--${name}=${text}`]);
      assertThrows(parse, UsageError, `--${name}: `, text.slice(0, 20));
    }
  }
});

const clientFlags = (...args: string[]) => parseFlags(CLIENT_FLAGS, args).given;

Deno.test("flags of the client that do not go together are named", () => {
  const cases: Array<[string[], string]> = [
    [["--expect-replies", "2"], "--expect-replies needs --all"],
    [
      ["--all", "--interface", "lo", "-B", "127.0.0.1"],
      "--interface and --bind exclude each other",
    ],
    [["--duration", "1"], "--duration needs --rate or --window"],
    [["--rate", "0.0009"], "--rate: '0.0009' is too small"],
    [["--rate", "1", "-i", "1"], "--rate and --interval exclude each other"],
    [["--window", "1", "--all"], "--window and --all exclude each other"],
    [["--window", "1", "--stamp"], "--window and --stamp exclude each other"],
    [["--window", "1", "--hex", "00"], "--window and --hex exclude each other"],
    [["--stamp", "--expect", "a"], "--stamp and --expect exclude each other"],
    [["--stamp", "--all"], "--all and --stamp exclude each other"],
    [["--all", "--csv", "x"], "--all and --csv exclude each other"],
    [["--csv", "-", "--plot", "-"], "--csv - and --plot - exclude each other"],
    [["--csv", "-", "--json"], "--csv - and --json exclude each other"],
    [["--key-file", "x"], "--key-file needs --stamp"],
    [["--hex", "00", "-m", "x"], "--hex and --message exclude each other"],
    [["--find-mtu", "--engine", "deno"], "--find-mtu needs --engine linux"],
    [
      ["--find-mtu", "--engine", "linux", "--csv", "x"],
      "--find-mtu and --csv exclude each other",
    ],
    [["-c", "0", "--source-port", "9"], "--source-port and --count exclude"],
  ];
  for (const [args, message] of cases) {
    const check = () => checkClientFlags(clientFlags(...args));
    assertThrows(check, UsageError, message, args.join(" "));
  }
});

Deno.test("flags of the client that look as if they did not go together do", () => {
  const cases = [
    ["--all", "--expect-replies", "2", "-s", "9"],
    ["--stamp", "--rate", "100", "--duration", "1"],
    ["--window", "1", "-c", "9", "--source-port", "9"],
    ["--stamp", "-c", "9", "--source-port", "9"],
    ["-c", "1", "--source-port", "9", "-B", "127.0.0.1:9"],
    ["--rate", "0.001", "--csv", "-", "--plot", "x"],
    ["--csv", "x", "--plot", "y", "--json"],
    ["-s", "1..9", "--csv", "x"],
    ["--stamp", "--ssid", "0", "--histogram", "-i", "1ms"],
  ];
  for (const args of cases) checkClientFlags(clientFlags(...args));
});

Deno.test("each flag that expects something of replies is held to it", () => {
  const holds = (args: string[], ...replies: string[]) =>
    replies.map((reply) =>
      expectationOf(clientFlags(...args))?.holds(
        new TextEncoder().encode(reply),
      )
    );
  assertEquals(holds([], "a"), [undefined]);
  assertEquals(holds(["--expect", "a"], "a", "ab", ""), [true, false, false]);
  assertEquals(holds(["--expect-hex", "61"], "a", "b"), [true, false]);
  assertEquals(holds(["--expect-part", "bc"], "abc", "bcd", "bxc", "c"), [
    ...[true, true, false, false],
  ]);
  assertEquals(holds(["--expect-pattern", "^a.$"], "ab", "b"), [true, false]);
});

Deno.test("a target has a port of its own, that of --port, or the usual one", () => {
  const targets = (args: string[], ...positionals: string[]) =>
    parseTargets(clientFlags(...args), positionals)
      .map(({ hostname, port }) => `${hostname} ${port}`);
  assertEquals(targets([]), ["127.0.0.1 20001"]);
  assertEquals(targets(["--stamp"]), ["127.0.0.1 862"]);
  assertEquals(targets(["-p", "5"], "a", "b:5"), ["a 5", "b 5"]);
  assertEquals(targets([], "a", "7"), ["a 7"]);
  assertEquals(targets(["-p", "7"], "a", "7"), ["a 7"]);
  for (
    const [args, positionals, message] of [
      [["-p", "5"], ["a:6"], "'a:6' has another port than --port"],
      [["-p", "5"], ["a", "6"], "HOST PORT: '6' is another port than --port"],
      [[], ["a", "70000"], "HOST PORT: "],
      [["-p", "0"], ["a"], "nobody can be asked at port 0"],
      // With --all it would be one more host.
      [["--all"], ["a", "7"], "HOST[:PORT]: '7' is no IP address"],
      [["--find-mtu"], ["a", "b"], "with --find-mtu the client takes one HOST"],
      [["--source-port", "9"], ["a", "b"], "with --source-port the client"],
    ] as const
  ) {
    const parse = () => targets([...args], ...positionals);
    assertThrows(parse, UsageError, message);
  }
});

Deno.test("what the client's flags say becomes the options of each way to ask", () => {
  const load = (...args: string[]) => {
    const { rate, window, count, durationMs, size, timeoutMs } = loadOptions(
      clientFlags(...args),
    );
    return [rate, window, count, durationMs, size, timeoutMs];
  };
  const unset = undefined;
  assertEquals(load("--rate", "5"), [5, unset, unset, unset, 64, unset]);
  assertEquals(load("--window", "5", "-c", "9", "-W", "2"), [
    ...[unset, 5, 9, unset, 64, 2000],
  ]);
  assertEquals(load("--rate", "5", "-c", "0")[3], Infinity);
  assertEquals(load("--rate", "5", "-c", "0", "--duration", "3")[3], 3000);
  const pace = (...args: string[]) => {
    const { intervalMs, count } = paceOf(clientFlags(...args));
    return [intervalMs, count];
  };
  assertEquals(pace("-i", "2", "-c", "3"), [2000, 3]);
  assertEquals(pace("-c", "0"), [unset, Infinity]);
  assertEquals(pace("--rate", "50", "--duration", "2"), [20, 100]);
  assertEquals(pace("--rate", "0.1", "--duration", "1"), [10_000, 1]);
  assertEquals(pace("--rate", "50", "--duration", "2", "-c", "7"), [20, 7]);
  assertEquals(
    commonOptions(
      clientFlags("-i", "1", "-W", "2", "--retries", "3", "-w", "4"),
    ),
    { intervalMs: 1000, timeoutMs: 2000, retries: 3, deadlineMs: 4000 },
  );
  const report = (...args: string[]) => {
    const { format, hasHex, isSeries } = reportOptions(clientFlags(...args));
    return `${format} ${hasHex} ${isSeries}`;
  };
  assertEquals(report(), "text false false");
  assertEquals(report("--hex", "00", "-c", "1"), "text false true");
  assertEquals(report("--hex", "00", "--json"), "json true false");
  const stream = ["--expect-hex", "00", "--json-stream"];
  assertEquals(report(...stream), "json-stream true false");
  assertEquals(report("--json"), "json false false");
  assertEquals(report("--show-hex"), "text true false");
});

Deno.test("the server's flags make a plan, or say why not", () => {
  const plan = (...args: string[]) =>
    planServer(parseFlags(SERVER_FLAGS, args).given, []);
  assertEquals([plan().port, plan("--stamp").port], [20_001, 862]);
  assertEquals(plan("-p", "0").port, 0);
  assertEquals(plan().answer, "reply");
  assertEquals(plan("--echo").answer, "echo");
  assertEquals([plan().workers, plan().engine], [1, "deno"]);
  const { workers, engine } = plan("--workers", "2");
  assertEquals([workers, engine], [2, "linux"]);
  assertEquals(plan("--group", "239.1.2.3,239.1.2.4").groups.length, 2);
  assertEquals(plan("--group", "ff02::1").hostname, "::");
  const cases: Array<[string[], string]> = [
    [["--group", "192.0.2.1"], "--group: "],
    [["--interface", "lo"], "--group: "],
    [["--ssid", "1"], "--ssid needs --stamp"],
    [["--key-file", "x"], "--key-file needs --stamp"],
    [["--stateless"], "--stateless needs --stamp"],
    [["--echo", "-r", "x"], "--echo, --stamp and --reply exclude each other"],
    [
      ["--workers", "2", "--engine", "deno"],
      "--workers needs --engine linux",
    ],
    [["--workers", "2", "-c", "1"], "--workers and --count exclude each other"],
  ];
  for (const [args, message] of cases) {
    assertThrows(() => plan(...args), UsageError, message, args.join(" "));
  }
  plan("--workers", "1", "-c", "1", "--engine", "deno");
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

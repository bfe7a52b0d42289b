import { assert, assertEquals, assertThrows } from "@std/assert";
import {
  decimal,
  duration,
  type Flag,
  type Flags,
  HOST,
  integer,
  parseFlags,
  text,
  UsageError,
} from "../../lib/cli/flags.ts";
import { usage } from "../../lib/cli/usage.ts";
import { CLIENT, CLIENT_FLAGS } from "../../lib/cli/client_flags.ts";
import { type ClientPlan, planClient } from "../../lib/cli/client_plan.ts";
import {
  planServer,
  SERVER,
  SERVER_FLAGS,
  type ServerPlan,
} from "../../lib/cli/server_flags.ts";

const FLAGS = {
  port: { short: "p", kind: integer(0, 9, "PORT"), help: "a port" },
  message: { short: "m", kind: text(), help: "a text" },
  "max-loss": { kind: decimal(0, 100, "PERCENT"), help: "a limit" },
  quiet: { short: "q", help: "no lines" },
  json: { group: "Output", help: "one document" },
  plot: { group: "Output", help: "a picture" },
} satisfies Flags;

const NOTHING = {
  port: undefined,
  message: undefined,
  "max-loss": undefined,
  quiet: false,
  json: false,
  plot: false,
};

Deno.test("parseFlags(): long and short flags in every spelling", () => {
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
    const { given, names, positionals } = parseFlags(FLAGS, args);
    assertEquals(given, { ...NOTHING, port: 7, quiet: true }, args.join(" "));
    assertEquals([[...names], positionals], [["port", "quiet"], []]);
  }
});

Deno.test("parseFlags(): any text is a value", () => {
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

Deno.test("parseFlags(): positionals stay as they are", () => {
  const parsed = parseFlags(FLAGS, ["10", "-q", "::1", "-", "--", "-q", "--x"]);
  assertEquals(parsed.given, { ...NOTHING, quiet: true });
  assertEquals(parsed.positionals, ["10", "::1", "-", "-q", "--x"]);
});

Deno.test("parseFlags(): the stand-in and the real package read these alike", () => {
  // The real package takes true and false for the value of any flag before them,
  // reads numbers, and fails on the name of its list of positionals.
  for (const text of ["true", "false", "0x10", "1e3", "007", "-", ""]) {
    for (const args of [["-q", text], ["--quiet", text], ["-q", "--", text]]) {
      const { given, positionals } = parseFlags(FLAGS, args);
      assertEquals([given.quiet, positionals], [true, [text]], args.join(" "));
    }
  }
  assertEquals(parseFlags(FLAGS, ["x", "-q", "--", "-p", "--"]).positionals, [
    ...["x", "-p", "--"],
  ]);
  for (
    const name of [
      ...[
        "_",
        "__proto__",
        "constructor",
        "no-quiet",
        "no-port",
        "port.x",
        "-x",
      ],
      ...["toString", ""],
    ]
  ) {
    assertThrows(
      () => parseFlags(FLAGS, [`--${name}=1`]),
      UsageError,
      `unknown flag --${name}`,
    );
  }
});

Deno.test("parseFlags(): an error names the flag", () => {
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

Deno.test("integer(): digits within its range only", () => {
  const { parse } = integer(1, 1000);
  assertEquals(["1", "0999", "1000"].map(parse), [1, 999, 1000]);
  for (const text of ["0", "1001", "1.0", "1e2", "0x1", "-1", "", " 1"]) {
    assertThrows(() => parse(text), SyntaxError, "from 1 to 1000", text);
  }
});

Deno.test("decimal(): numbers within its range only", () => {
  const { parse } = decimal(0, 100);
  assertEquals(["0", "0.5", ".5", "100"].map(parse), [0, 0.5, 0.5, 100]);
  for (const text of ["100.1", "-1", "5%", "", "."]) {
    assertThrows(() => parse(text), SyntaxError, "from 0 to 100", text);
  }
});

Deno.test("duration(): seconds unless there is a unit", () => {
  const cases: Array<[string, number]> = [
    ["1", 1000],
    ["0.2", 200],
    [".5", 500],
    ["200ms", 200],
    ["0.5ms", 0.5],
    ["1s", 1000],
    ["1m", 60_000],
    ["1.5h", 5_400_000],
    ["0", 0],
  ];
  for (const [text, ms] of cases) {
    assertEquals(duration(0).parse(text), ms, text);
  }
  for (const text of ["", "s", "1d", "-1", "1 s", "1e3", "2000m", "∞"]) {
    assertThrows(() => duration(0).parse(text), SyntaxError, "200ms", text);
  }
  assertThrows(() => duration(1).parse("0.5ms"), SyntaxError, "from 1ms");
});

Deno.test("client HOST: a host without a port", () => {
  assertEquals(["[::1]", "::1", "localhost"].map(HOST.parse), [
    "::1",
    "::1",
    "localhost",
  ]);
  for (const text of ["", " ", "a b", "127.0.0.1:1", "[::1]:1"]) {
    assertThrows(() => HOST.parse(text), SyntaxError, "", text);
  }
});

Deno.test("usage(): everyday flags in groups, and all flags on request", () => {
  const flags = {
    port: { ...FLAGS.port, group: "Target", default: 7, everyday: true },
    "max-loss": { ...FLAGS["max-loss"], group: "Target", usual: "any" },
    json: { ...FLAGS.json, everyday: true },
  };
  const program = {
    flags,
    name: "x",
    summary: "Does it.",
    synopsis: "[flags]",
    examples: { Target: "-p 7", Output: "--json" },
    exits: { 0: "done", 2: "error" },
    notes: "Notes",
  };
  const head = ["Does it.", "Usage: deno task x [flags]", "Target:"];
  assertEquals(usage(program, false).split("\n"), [
    ...head,
    "  -p, --port PORT  a port (7)",
    "  Example: deno task x -p 7",
    "Output:",
    "      --json       one document",
    "  Example: deno task x --json",
    "Exit codes: 0 done; 2 error.",
  ]);
  assertEquals(usage(program, true).split("\n"), [
    ...head,
    "  -p, --port PORT         a port (7)",
    "      --max-loss PERCENT  a limit (any)",
    "  Example: deno task x -p 7",
    "Output:",
    "      --json              one document",
    "  Example: deno task x --json",
    "Notes",
    "Exit codes: 0 done; 2 error.",
  ]);
});

Deno.test("usage(): each group of both programs has an example that is accepted", async () => {
  const programs = [[CLIENT, planClient], [SERVER, planServer]] as const;
  for (const [program, planOf] of programs) {
    const groups = Object.values<Flag>(program.flags).map(({ group }) => group);
    assertEquals(
      Object.keys(program.examples).sort(),
      [...new Set(groups)].sort() as string[],
    );
    for (const example of Object.values(program.examples)) {
      const [args] = example.split(" | ");
      await planOf(args!.split(" "));
    }
    assert(usage(program, false).includes("; 130 Ctrl-C twice."));
  }
});

Deno.test("usage(): both programs fit into 80 columns", () => {
  for (const program of [CLIENT, SERVER]) {
    for (const isFull of [false, true]) {
      for (const line of usage(program, isFull).split("\n")) {
        assert(line.length <= 80, line);
      }
    }
  }
});

Deno.test("duration(): shows times as it reads them", () => {
  const { parse, show } = duration(0);
  for (const ms of [1, 200, 999, 1000, 1500, 60_000]) {
    assertEquals(parse(show!(ms)), ms);
  }
  const texts = [0, 20, 1000, 1500, 2000].map((ms) => show!(ms));
  assertEquals(texts, ["0ms", "20ms", "1s", "1500ms", "2s"]);
});

Deno.test("parseFlags(): text that is not UTF-8 is refused", () => {
  // Deno decodes arguments before a program sees them.
  assertThrows(
    () => parseFlags(FLAGS, ["--message", "caf\ufffd"]),
    UsageError,
    "'caf\ufffd' is not UTF-8: give bytes as --hex",
  );
});

/** Flags with the ends of their ranges, and values beyond them. */
const RANGES: Array<[Flags, string, string[], string[]]> = [
  [CLIENT_FLAGS, "port", ["1", "65535"], ["0", "65536"]],
  [CLIENT_FLAGS, "source-port", ["1", "65535"], ["0", "65536"]],
  [CLIENT_FLAGS, "ttl", ["1", "255"], ["0", "256"]],
  [CLIENT_FLAGS, "ssid", ["0", "65535"], ["-1", "65536"]],
  [CLIENT_FLAGS, "count", ["0", "1000000000"], ["-1", "1000000001"]],
  [CLIENT_FLAGS, "rate", ["0.001", "10000000"], ["0.0009", "10000000.1"]],
  [CLIENT_FLAGS, "window", ["1", "65536"], ["0", "65537"]],
  [CLIENT_FLAGS, "flows", ["1", "64"], ["0", "65"]],
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

Deno.test("parseFlags(): each flag has its range", () => {
  for (const [flags, name, good, bad] of RANGES) {
    for (const text of good) parseFlags(flags, [`--${name}=${text}`]);
    for (const text of bad) {
      const parse = () => parseFlags(flags, [`--${name}=${text}`]);
      assertThrows(parse, UsageError, `--${name}: `, text.slice(0, 20));
    }
  }
});

const TRACE = ["--trace", "--engine", "linux"];

/** Arguments for each mode, the columns of the matrices below. */
const CLIENT_MODES = [
  ["--engine", "linux"],
  ["--engine", "linux", "--count", "3"],
  ["--engine", "linux", "--rate", "5", "--report", "1"],
  ["--engine", "linux", "--window", "5", "--report", "1"],
  ["--engine", "linux", "--stamp"],
  ["--engine", "linux", "--all"],
  ["--engine", "linux", "--find-mtu"],
  ["--engine", "linux", "--watch", "targets.json"],
  ["--engine", "linux", "--loaded"],
  ["--engine", "linux", "--find-rate"],
  ["--engine", "linux", "--trace"],
];

/**
 * Each flag of the client with an unusual value, and its meaning with one
 * datagram, --count, --rate, --window, --stamp, --all, --find-mtu, --watch, --loaded,
 * --find-rate and --trace: "x" changes the plan, "-" is refused, "=" is the flag of
 * the mode itself.
 */
const CLIENT_MATRIX = `
  port=7           x x x x x x x - x x x
  ipv4             x x x x x x x - x x x
  ipv6             x x x x x x x - x x x
  all              x - - - - = - - - - -
  bind=127.0.0.2   x x x x x x x - x x x
  source-port=7    x - x x x x x - - x x
  interface=lo     x x x x x x x - x x x
  ttl=3            x x x x x x x - x x x
  dscp=EF          x x x x x x x - x x x
  dont-fragment    x x x x x x - - x x -
  message=x        x x - - - x - - - - x
  hex=00           x x - - - x - - - - x
  size=99          x x x x x x - - x x x
  stamp            x x x - = - - - x - -
  find-mtu         x - - - - - = - - - -
  trace            x x - - - - - - - - =
  flows=4          - - - - - - - - - - x
  loaded           x - - - x - - - = - -
  find-rate        x - - - - - - - - = -
  ssid=7           - - - - x - - - - - -
  ptp              - - - - x - - - - - -
  key-file=x       - - - - x - - - - - -
  extensions=all   - - - - x - - - - - -
  reply-dscp=3     - - - - x - - - - - -
  clock=kernel     - - - - x - - - - - -
  histogram        - - - - x - - - - - -
  count=5          x x x x x - - - - - x
  interval=2       - x - - x - - - x - x
  rate=9           x x x - x - - - x x -
  window=9         x x - x - - - - x - -
  duration=3       - - x x x - - - x x -
  timeout=3        x x x x x x x - x x x
  retries=5        x x - - - x - - - - -
  deadline=9       x x - - x - - - - - x
  expect=x         x x - - - x - - - - -
  expect-hex=00    x x - - - x - - - - -
  expect-part=x    x x - - - x - - - - -
  expect-pattern=x x x - - - x - - - - -
  max-loss=9       x x x x x - - - x x -
  max-rtt=9        x x x x x - - - x - -
  expect-replies=9 - - - - - x - - - - -
  quiet            x x x x x x x - x x x
  json             x x x x x x x - x x x
  json-stream      x x x x x x x x x x x
  show-hex         x x - - - x - - - - -
  timestamps       x x x x x x - - x x -
  report=9         x x x x x - - - - - -
  plot=x           x x x x x - - - x - -
  csv=x            x x x x x - - - x - -
  engine=auto      x x x x x x x x x x x
  watch=f          x - - - - - - x - - -
  history=f        - - - - - - - x - - -`;

const SERVER_MODES = [
  [],
  ["--echo"],
  ["--stamp"],
  ["--group", "239.1.2.3"],
  ["--workers", "2"],
];

/** As above, with a fixed reply, --echo, --stamp, --group and --workers. */
const SERVER_MATRIX = `
  host=::             x x x x x
  port=7              x x x x x
  group=239.9.9.9     x x x x -
  interface=lo        - - - x -
  reply=x             x - - x x
  echo                x = - x x
  stamp               x - = x x
  stateless           - - x - -
  key-file=x          - - x - -
  ssid=7              - - x - -
  rate-limit=9        x x x x x
  max-amplification=9 x x x x x
  no-loop-guard       x x x x x
  count=9             x x x x -
  quiet               x x x x x
  json                x x x x x
  timestamps          x x x x x
  report=9            x x x x x
  engine=auto         x x x x x
  workers=9           x x x - x`;

for (
  const [program, flags, planOf, modes, matrix] of [
    ["client", CLIENT_FLAGS, planClient, CLIENT_MODES, CLIENT_MATRIX],
    ["server", SERVER_FLAGS, planServer, SERVER_MODES, SERVER_MATRIX],
  ] as const
) {
  Deno.test(`${program}: each flag in each mode has an effect or is refused`, () => {
    const rows = matrix.trim().split("\n").map((row) => row.trim().split(/ +/));
    assertEquals(
      [
        ...rows.map(([flag]) => flag!.split("=")[0]!),
        "help",
        "version",
        "completions",
      ].sort(),
      Object.keys(flags).sort(),
    );
    const shown = (args: string[]) => Deno.inspect(planOf(args), { depth: 9 });
    for (const [flag, ...expected] of rows) {
      const effects = modes.map((mode) => {
        try {
          const isSame = shown([...mode, `--${flag}`]) === shown([...mode]);
          return isSame ? "=" : "x";
        } catch (error) {
          assert(error instanceof UsageError, `${error}`);
          const { message } = error;
          assert(message.includes(`--${flag!.split("=")[0]}`), message);
          const names = [
            ...mode,
            ...["plain requests", "a fixed reply"],
          ];
          assert(names.some((name) => message.includes(name)), message);
          assert(!message.includes("\n"), message);
          return "-";
        }
      });
      assertEquals(effects.join(" "), expected.join(" "), flag);
    }
  });
}

const planOf = (...args: string[]) => planClient(args) as ClientPlan;

Deno.test("planClient(): an error names flags that exclude each other", () => {
  const cases: Array<[string[], string]> = [
    [
      ["--find-mtu", "--engine", "linux", "-m", "hello"],
      "--message means nothing with --find-mtu: it is for plain requests, --all and --trace",
    ],
    [
      ["--ssid", "1"],
      "--ssid means nothing with plain requests: it is for --s",
    ],
    [
      ["--window", "1", "--hex", "00"],
      "--hex means nothing with --window: it is for plain requests, --all and --trace",
    ],
    [["--stamp", "--all"], "--stamp means nothing with --all"],
    [["-i", "1"], "--interval needs --count with plain requests"],
    [
      ["--rate", "1", "-D"],
      "--timestamps needs --report with --rate",
    ],
    [
      ["--max-rtt", "p99.9=1"],
      "--max-rtt p99.9 means nothing with plain requests: it is for --rate and",
    ],
    [
      ["--rate", "1", "-i", "1"],
      "--interval means nothing with --rate: it is for",
    ],
    [
      ["--stamp", "--rate", "1", "-i", "1"],
      "--rate and --interval exclude each other",
    ],
    [
      ["--window", "1", "--rate", "1"],
      "--window and --rate exclude each other",
    ],
    [
      ["--json", "--json-stream"],
      "--json-stream and --json exclude each other",
    ],
    [["--json", "-D"], "--timestamps and --json exclude each other"],
    [
      ["--stamp", "--json", "--histogram"],
      "--histogram and --json exclude each other",
    ],
    [
      ["--all", "--interface", "lo", "-B", "127.0.0.1"],
      "--interface and --bind exclude each other",
    ],
    [["--csv", "-", "--plot", "-"], "--csv - and --plot - exclude each other"],
    [["--csv", "-", "--json"], "--csv - and --json exclude each other"],
    [
      ["--plot", "-", "--json-stream"],
      "--plot - and --json-stream exclude each other",
    ],
    [["--hex", "00", "-m", "x"], "--hex and --message exclude each other"],
    [["--find-mtu"], "--find-mtu needs --engine linux"],
    [["--trace"], "--trace needs --engine linux"],
    [
      [...TRACE, "-s", "1..9"],
      "--trace and a --size of many exclude each other",
    ],
    [
      [...TRACE, "--flows", "9", "--source-port", "65530"],
      "--flows: the last source port would be 65538: 65535 is the largest",
    ],
    [["--ttl", "9", "--stamp"], "--ttl needs --engine linux"],
    [["-c", "0", "--source-port", "9"], "--source-port and --count exclude"],
    [["-s", "1..9", "--plot", "x"], "--plot and a --size of many exclude"],
    [["-s", "9..10", "--loaded"], "--loaded and a --size of many exclude"],
    [["-s", "7", "--find-rate"], "--size: 7 is too short for --find-rate"],
    [["-s", "43", "--loaded", "--stamp"], "--size: 43 is too short for --load"],
    [["-i", "0", "--loaded"], "--interval: 0 is too short for --loaded"],
    [["--loaded", "--rate", "1", "--window", "1"], "--window and --rate exclu"],
    [["--find-rate", "--max-loss", "100"], "--max-loss: 100 bounds no rate"],
    [["--loaded", "-B", "a:7"], "--bind HOST:PORT means nothing with --loaded"],
    [["--stamp", "--rate", "9", "-i", "1"], "--rate and --interval exclude"],
  ];
  for (const [args, message] of cases) {
    const plan = () => planClient(args);
    assertThrows(plan, UsageError, message, args.join(" "));
  }
});

Deno.test("planClient(): accepts flags that combine", () => {
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
    ["--all", "--interface", "lo"],
    ["--loaded", "--stamp", "--rate", "9", "-i", "1", "-s", "44"],
  ];
  for (const args of cases) planClient(args);
});

Deno.test("planClient(): a condition on replies", () => {
  const holds = (args: string[], ...replies: string[]) =>
    replies.map((reply) =>
      planOf(...args).report.expected?.holds(
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

Deno.test("planClient(): a target has its own port, that of --port, or the usual one", () => {
  const targets = (...args: string[]) =>
    planOf(...args).targets.map(({ hostname, port }) => `${hostname} ${port}`);
  assertEquals(targets(), ["127.0.0.1 20001"]);
  assertEquals(targets("--stamp"), ["127.0.0.1 862"]);
  assertEquals(targets("-p", "5", "a", "b:5"), ["a 5", "b 5"]);
  assertEquals(targets("a", "7"), ["a 7"]);
  assertEquals(targets("-p", "7", "a", "7"), ["a 7"]);
  assertEquals(targets("a:7", "7"), ["a 7"]);
  for (
    const [args, message] of [
      [["-p", "5", "a:6"], "'a:6' has another port than --port"],
      [["-p", "5", "a", "6"], "HOST PORT: '6' has another port than --port 5"],
      [["a:5", "6"], "HOST PORT: 'a:5' has another port than '6'"],
      [["a", "70000"], "HOST PORT: "],
      [["-p", "0", "a"], "--port: '0' is not a whole number from 1"],
      [["a:0"], "no server has port 0"],
      // With --all it would be one more host.
      [["--all", "a", "7"], "HOST[:PORT]: '7' is a port"],
      [
        ["--find-mtu", "--engine", "linux", "a", "b"],
        "with --find-mtu the client takes one HOST",
      ],
      [["--source-port", "9", "a", "b"], "with --source-port the client"],
    ] as const
  ) {
    assertThrows(() => targets(...args), UsageError, message);
  }
});

Deno.test("planClient(): the options of each mode", () => {
  const optionsOf = (...args: string[]): Record<string, unknown> => ({
    ...planOf(...args).options,
  });
  const load = (...args: string[]) => {
    const { rate, window, count, durationMs, timeoutMs } = optionsOf(...args);
    return [rate, window, count, durationMs, timeoutMs];
  };
  const unset = undefined;
  assertEquals(load("--rate", "5"), [5, unset, unset, unset, 1000]);
  assertEquals(load("--window", "5", "-c", "9", "-W", "2"), [
    ...[unset, 5, 9, unset, 2000],
  ]);
  assertEquals(planOf("--rate", "5").sizes, [64]);
  assertEquals(load("--rate", "5", "-c", "0")[3], Infinity);
  assertEquals(load("--rate", "5", "-c", "0", "--duration", "3")[3], 3000);
  const schedule = (...args: string[]) => {
    const { intervalMs, count } = optionsOf("--stamp", ...args);
    return [intervalMs, count];
  };
  assertEquals(schedule(), [1000, 10]);
  assertEquals(schedule("-i", "2", "-c", "3"), [2000, 3]);
  assertEquals(schedule("-c", "0"), [1000, Infinity]);
  assertEquals(schedule("--rate", "50", "--duration", "2"), [20, 100]);
  assertEquals(schedule("--rate", "0.1", "--duration", "1"), [10_000, 1]);
  assertEquals(schedule("--duration", "3"), [1000, 3]);
  // The first end applies.
  assertEquals(schedule("--rate", "50", "--duration", "2", "-c", "7"), [20, 7]);
  assertEquals(schedule("-i", "1", "--duration", "2", "-c", "7"), [1000, 2]);
  const shared = {
    ...optionsOf("--find-mtu", "--engine", "linux", "-W", "2"),
    engine: "deno",
  };
  const series = ["-i", "1", "-c", "0", "-W", "2", "--retries", "3", "-w", "4"];
  assertEquals(optionsOf(...series), {
    ...shared,
    count: Infinity,
    intervalMs: 1000,
    timeoutMs: 2000,
    retries: 3,
    deadlineMs: 4000,
  });
  assertEquals(optionsOf().retries, undefined);
  assertEquals(optionsOf("-s", "1..2").retries, 0);
  const loaded = optionsOf("--loaded", "--window", "5", "--duration", "3");
  assertEquals([loaded.window, loaded.durationMs, loaded.intervalMs], [
    ...[5, 3000, 20],
  ]);
  const search = planOf("--find-rate", "--max-loss", "2", "--rate", "9");
  assertEquals(search.maxLoss, undefined);
  assertEquals<object>(search.options, {
    ...optionsOf("--find-rate"),
    ...{ maxLoss: 2, maxRate: 9 },
  });
  assertEquals(planOf("--loaded", "--stamp", "a").targets[0]!.port, 862);
  const report = (...args: string[]) => {
    const { format, hasHex, isSeries } = planOf(...args).report;
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

Deno.test("planServer(): a plan, or the reason for none", () => {
  const plan = (...args: string[]) => planServer(args) as ServerPlan;
  assertEquals([plan().port, plan("--stamp").port], [20_001, 862]);
  assertEquals(plan("-p", "0").port, 0);
  assertEquals(plan().mode, "reply");
  assertEquals(plan("--echo").mode, "echo");
  assertEquals([plan().workers, plan().engine], [1, "deno"]);
  const { workers, engine } = plan("--workers", "2");
  assertEquals([workers, engine], [2, "linux"]);
  assertEquals(plan("--group", "239.1.2.3,239.1.2.4").groups.length, 2);
  assertEquals(plan("--group", "ff02::1").hostname, "::");
  const cases: Array<[string[], string]> = [
    [["--group", "192.0.2.1"], "--group: "],
    [
      ["--interface", "lo"],
      "--interface needs --group with a fixed reply",
    ],
    [
      ["--ssid", "1"],
      "--ssid means nothing with a fixed reply: it is for --st",
    ],
    [["--stateless", "--echo"], "--stateless means nothing with --echo"],
    [["--echo", "-r", "x"], "--reply and --echo exclude each other"],
    [["--echo", "--stamp"], "--echo and --stamp exclude each other"],
    [["--json", "-D"], "--timestamps and --json exclude each other"],
    [
      ["--workers", "2", "--engine", "deno"],
      "--workers needs --engine linux",
    ],
    [["--workers", "2", "-c", "1"], "--workers and --count exclude each other"],
    [
      ["--workers", "2", "--group", "239.1.2.3"],
      "--workers and --group exclude each other",
    ],
  ];
  for (const [args, message] of cases) {
    assertThrows(() => plan(...args), UsageError, message, args.join(" "));
  }
  plan("--workers", "1", "-c", "1", "--engine", "deno");
});

Deno.test("client --dscp: a number, or a name of the RFCs", () => {
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

Deno.test("client --extensions: all, or some by name", () => {
  const extensions = (text: string) =>
    parseFlags(CLIENT_FLAGS, ["--extensions", text]).given.extensions;
  assertEquals(extensions("all")?.length, 5);
  assertEquals(extensions("location,follow-up"), ["location", "follow-up"]);
  for (const text of ["", "location,", "LOCATION"]) {
    assertThrows(() => extensions(text), UsageError, "is not one of");
  }
});

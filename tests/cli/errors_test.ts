/** Both programs: bad input, missing permissions, signals and broken pipes. */
import { assert, assertEquals, assertMatch, assertThrows } from "@std/assert";
import { requireDeno } from "../../lib/cli/main.ts";
import { peer, started } from "./peers.ts";
import {
  client,
  portOf,
  Program,
  programTest,
  server,
  signalTest,
  tempFolder,
} from "../helpers.ts";

/** Bad input to the server, and a part of its one line. */
const BAD_SERVER: Array<[string[], RegExp]> = [
  [
    ["--ssid", "7"],
    /--ssid means nothing with a fixed reply: it is for --stamp/,
  ],
  [["--stamp", "--ssid", "7,x"], /--ssid: 'x' is not a whole number/],
  [["--nope"], /unknown flag --nope/],
  [["-p"], /--port needs a value/],
  [["--port", "abc"], /--port: 'abc' is not a whole number from 0 to 65535/],
  [["-p", "65536"], /--port: .*'65536'/],
  [["--count", "0"], /--count: '0' is not a whole number from 1/],
  [
    ["--host", "192.0.2.1", "-p", "0"],
    /Cannot bind 192\.0\.2\.1:0: it is not an address of this machine/,
  ],
  [
    ["--host", "no.such.invalid"],
    /Cannot bind no\.such\.invalid:20001: the name does not resolve/,
  ],
  [["--host", ""], /--host: '' has no host/],
  [["--host", "127.0.0.1:1"], /--host: .* has a port/],
  [["--quiet=yes"], /--quiet takes no value/],
  [
    ["--echo", "--reply", "x"],
    /--reply and --echo exclude each other/,
  ],
  [["--engine", "fast"], /--engine: 'fast' is not one of deno, linux, auto/],
  [["--stateless"], /--stateless means nothing with a fixed reply/],
  [["--rate-limit", "-1"], /--rate-limit: '-1' is not a whole number/],
  [
    ["--max-amplification", "x"],
    /--max-amplification: 'x' is not a number from 0 to 1000/,
  ],
  [["extra"], /Unexpected argument 'extra': the address goes behind --host/],
];

/** Bad input to the client, and a part of its one line. */
const BAD_CLIENT: Array<[string[], RegExp]> = [
  [["--nope"], /unknown flag --nope/],
  [["-x"], /unknown flag -x/],
  [["--timeout"], /--timeout needs a value/],
  [["-W", "soon"], /--timeout: 'soon' is not a time/],
  [["-i", "-1"], /--interval: '-1' is not a time/],
  [["-c", "1.5"], /--count: '1\.5' is not a whole number/],
  [
    ["--retries", "101"],
    /--retries: '101' is not a whole number from 0 to 100/,
  ],
  [["--max-rtt", "p98=1"], /--max-rtt: 'p98' is not one of min, mean, /],
  [["--max-rtt", "soon"], /--max-rtt: 'soon' is not a time/],
  [["--max-loss", "101"], /--max-loss: '101' is not a number from 0 to 100/],
  [["--size", "65528"], /--size: '65528'/],
  [["--size", "65508"], /Cannot send 65508 bytes .* at most 65507/],
  [["--hex", "abc"], /--hex: 'abc' is not pairs of hex digits/],
  [["--hex", "00", "-m", "x"], /--hex and --message exclude each other/],
  [
    ["-c", "0", "--all"],
    /--count means nothing with --all: it is for plain requests, --rate, /,
  ],
  [
    ["--histogram"],
    /--histogram means nothing with plain requests: it is for --stamp/,
  ],
  [
    ["--stamp", "-m", "x"],
    /--message means nothing with --stamp: it is for plain requests, --all and --trace/,
  ],
  [
    ["--stamp", "--retries", "1"],
    /--retries means nothing with --stamp: it is for plain requests and --all/,
  ],
  [["--stamp", "-i", "0"], /--interval: 0 is too short for --stamp/],
  [
    ["--ssid", "1"],
    /--ssid means nothing with plain requests: it is for --stamp/,
  ],
  [["--ptp"], /--ptp means nothing with plain requests/],
  [["--clock", "kernel"], /--clock means nothing with plain requests/],
  [["--reply-dscp", "EF"], /--reply-dscp means nothing with plain requests/],
  [["--stamp", "--extensions", "weather"], /'weather' is not one of location,/],
  [["--stamp", "--clock", "sun"], /'sun' is not one of auto, kernel, program/],
  [["--stamp", "-s", "43"], /'size' must be an integer from 44/],
  [["--json", "--json-stream"], /--json-stream and --json exclude each other/],
  [["20001"], /HOST\[:PORT\]: '20001' is a port: write 127\.0\.0\.1:20001/],
  [["1.2.3"], /HOST\[:PORT\]: '1\.2\.3' is no IP address, and no name/],
  [["-6", "127.0.0.1"], /Cannot send to '127\.0\.0\.1': it has no IPv6 addr/],
  [["host:"], /HOST\[:PORT\]: port '' is not a number/],
  [["host:99999"], /HOST\[:PORT\]: port '99999'/],
  [[":20001"], /HOST\[:PORT\]: ':20001' has no host/],
  [["::1:2:x"], /HOST\[:PORT\]: .* more than one colon/],
  [["[::1"], /HOST\[:PORT\]: '\[::1' is not/],
  [["127.0.0.1:0"], /no server has port 0/],
  [["127.0.0.1:1", "-p", "2"], /another port than --port/],
  [["a", "b", "--rate", "1"], /'b': with --rate the client takes one HOST/],
  [["--ttl", "0"], /--ttl: '0' is not a whole number from 1 to 255/],
  [["--ttl", "3", "--engine", "deno"], /--ttl needs --engine linux/],
  [["--dscp", "AF5"], /--dscp: 'AF5' is not a DSCP/],
  [["--dscp", "EF", "--engine", "deno"], /--dscp needs --engine linux/],
  [
    ["--dont-fragment", "--engine", "deno"],
    /--dont-fragment needs --engine linux/,
  ],
  [
    ["--interface", "lo", "--engine", "deno"],
    /--interface needs --engine linux/,
  ],
  [["--find-mtu", "--engine", "deno"], /--find-mtu needs --engine linux/],
  [["--trace", "--engine", "deno"], /--trace needs --engine linux/],
  [
    ["--trace", "--engine", "linux", "-c", "3", "--max-loss", "1"],
    /--max-loss means nothing with --trace/,
  ],
  [
    ["--flows", "2"],
    /--flows means nothing with plain requests: it is for --trace/,
  ],
  [
    ["--find-mtu", "--engine", "linux", "-c", "2"],
    /--count means nothing with --find-mtu/,
  ],
  [
    ["--find-mtu", "--engine", "linux", "--hex", "00"],
    /--hex means nothing with --find-mtu: it is for plain requests, --all and --trace/,
  ],
  [["--source-port", "5", "-c", "2"], /--source-port and --count exclude/],
  [
    ["--source-port", "5", "-B", "127.0.0.1:6"],
    /--bind has another port than --source-port/,
  ],
  [["-s", "9..5"], /--size: '9\.\.5' is not FROM\.\.TO:STEP/],
  [["-s", "1..9:0"], /--size: '1\.\.9:0' is not FROM\.\.TO:STEP/],
  [["-s", "1..9999"], /--size: '1\.\.9999' has 9999 sizes/],
  [["-s", "1..9", "--plot", "x"], /--plot and a --size of many exclude/],
  [["-s", "1..9", "--all"], /--all and a --size of many exclude/],
  [["--expect-hex", "0"], /--expect-hex: /],
  [["--expect-pattern", "("], /--expect-pattern: '\(' is not a pattern/],
  [["--expect", "a", "--expect-part", "b"], /--expect-part and --expect excl/],
  [
    ["--stamp", "--expect-hex", "00"],
    /--expect-hex means nothing with --stamp/,
  ],
  [["--report", "1ms"], /--report: '1ms' is not a time from 100ms/],
  [["--csv", "-", "--json"], /--csv - and --json exclude each other/],
  [["--csv", "-", "--plot", "-"], /--csv - and --plot - exclude each other/],
  [["--csv", "x.csv"], /--csv x\.csv: Deno may not write it/],
  [["a", "70000"], /HOST PORT: .*70000/],
  [["a", "5", "-p", "6"], /HOST PORT: '5' has another port than --port 6/],
  [["0.0.0.0"], /Cannot send to 0\.0\.0\.0:20001: .*127\.0\.0\.1/],
  [["no.such.invalid"], /Cannot resolve 'no\.such\.invalid'/],
  [
    ["[::1]", "-B", "127.0.0.1"],
    /Cannot send to \[::1\]:20001 from 127\.0\.0\.1/,
  ],
  [["-B", "192.0.2.1"], /Cannot bind 192\.0\.2\.1:0: it is not an address/],
];
programTest(
  "server, client: bad input is one line on stderr and exit code 2",
  async () => {
    const check = (
      program: string,
      args: string[],
      { code, stdout, stderr }: {
        code: number;
        stdout: string;
        stderr: string;
      },
      message: RegExp,
    ) => {
      const shown = `${program} ${args.join(" ")}: ${stderr}`;
      assertEquals([code, stdout], [2, ""], shown);
      assertMatch(stderr, message, shown);
      assertMatch(stderr, new RegExp(`^${program}: [^\n]+\n$`), shown);
    };
    const checks = [
      ...BAD_SERVER.map(([args, message]) => async () => {
        await using s = server(args);
        check("server", args, await s.ended(), message);
      }),
      ...BAD_CLIENT.map(([args, message]) => async () => {
        check("client", args, await client(args), message);
      }),
    ];
    // Four processes at a time, each with little to do.
    for (let i = 0; i < checks.length; i += 4) {
      await Promise.all(checks.slice(i, i + 4).map((run) => run()));
    }
  },
);

programTest(
  "server: an error names a port in use, with its address",
  async () => {
    await using first = await started(["-q"]);
    await using second = server(["-p", `${first.port}`]);
    const { code, stdout, stderr } = await second.ended();
    assertEquals([code, stdout], [2, ""]);
    assertMatch(
      stderr,
      /^server: Cannot bind 127\.0\.0\.1:\d+: the port is in use: [^\n]+\n$/,
    );
  },
);

programTest(
  "server, client: name the missing permission for the network",
  async () => {
    const permissions = ["--no-prompt"];
    const args = ["--engine", "deno"];
    await using s = server(args, permissions);
    for (
      const ended of [await s.ended(), await client(args, { permissions })]
    ) {
      assertEquals([ended.code, ended.stdout], [2, ""]);
      assertMatch(ended.stderr, /^(server|client): [^\n]*--allow-net[^\n]*\n$/);
    }
  },
);

programTest(
  "server, client: name the flag of Deno's unstable net API",
  async () => {
    // Without deno.json the API is off; an import map has the other settings of
    // that file, for the stand-ins or the real packages.
    const imports = Object.fromEntries(
      ["@std/cli/parse-args", "@std/fmt/colors"].map((name) => [
        name,
        import.meta.resolve(name),
      ]),
    );
    const permissions = [
      "--allow-net",
      "--no-config",
      `--import-map=data:application/json,${JSON.stringify({ imports })}`,
    ];
    const args = ["--engine", "deno"];
    await using s = server(args, permissions);
    for (
      const ended of [await s.ended(), await client(args, { permissions })]
    ) {
      assertEquals([ended.code, ended.stdout], [2, ""]);
      assertMatch(
        ended.stderr,
        /^(server|client): [^\n]*--unstable-net[^\n]*\n$/,
      );
    }
  },
);

programTest(
  "--engine: linux reports the missing permission, auto continues on deno",
  async () => {
    const permissions = ["--allow-net", "--no-prompt"];
    await using s = server(["-p", "0", "--engine", "linux"], permissions);
    const { code, stderr } = await s.ended();
    assertEquals(code, 2);
    assertMatch(
      stderr,
      /^server: Cannot use the linux engine: it needs [^\n]+\n$/,
    );
    await using auto = server(
      ["-p", "0", "--engine", "auto", "-q"],
      permissions,
    );
    const target = `127.0.0.1:${await portOf(auto)}`;
    const args = [target, "--engine", "auto"];
    const asked = await client(args, { permissions });
    assertEquals(asked.code, 0);
    assertMatch(asked.stderr, /^client: no linux engine: it needs [^\n]+\n$/);
  },
);

Deno.test("requireDeno(): refuses old versions", () => {
  for (const version of ["2.9.0", "2.10.1", "3.0.0"]) requireDeno(version);
  for (const version of ["1.46.3", "2.8.9"]) {
    assertThrows(() => requireDeno(version), Error, "needs Deno 2.9 or newer");
  }
});

signalTest("client: Ctrl-C prints the summary, and ends it", async () => {
  await using p = peer(() => ["a"]);
  await using c = new Program(Deno.execPath(), [
    "run",
    "--allow-net",
    "client.ts",
    p.target,
    "-c",
    "1000",
    "-i",
    "100ms",
  ]);
  await c.line();
  c.kill("SIGINT");
  const { code, stdout, stderr } = await c.ended();
  assertEquals([code, stderr], [0, ""]);
  assertMatch(
    stdout,
    /statistics ---\n\d+ sent, \d+ received.*\n(.*\n)*rtt .*\nrtt .*\n$/,
  );
});

signalTest(
  "server, client: a closed terminal ends a run with its JSON, CSV and counts",
  async () => {
    await using s = await started(["-q", "--json"]);
    await using folder = await tempFolder();
    const csv = `${folder.path}/samples.csv`;
    const args = ["-u", "tests/peers/terminal.py", Deno.execPath(), "run"]
      .concat("-A", "client.ts", s.target, "-c", "0", "-i", "20ms");
    await using c = new Program("python3", [...args, "--json", "--csv", csv]);
    const { code, stdout, stderr } = await c.ended();
    assertEquals([code, stderr], [0, ""]);
    const { sent, received, replies } = JSON.parse(stdout);
    assertEquals(replies.length, received);
    assert(received > 0 && received <= sent, stdout);
    const lines = (await Deno.readTextFile(csv)).trim().split("\n");
    // The pending ones have a row too.
    assertEquals(lines.length, 1 + sent);
    s.program.kill("SIGHUP");
    const served = await s.program.ended();
    assertEquals(JSON.parse(served.stdout.split("\n")[1]!).replied, sent);
    assertEquals(served.code, 0);
  },
  ["python3"],
);

signalTest(
  "client --size A..B: Ctrl-C ends the sweep with its table",
  async () => {
    await using p = peer(() => ["a"]);
    const args = ["run", "--allow-net", "client.ts", "--size", "1..3"]
      .concat(p.target, "-c", "1000", "-i", "20ms");
    await using c = new Program(Deno.execPath(), args);
    await c.line();
    c.kill("SIGINT");
    const { code, stdout } = await c.ended();
    assertMatch(stdout, /\nrtt in ms +sent .*\n1 bytes +\d+ .*\n$/);
    assertEquals(code, 0);
  },
);

for (const signal of ["SIGINT", "SIGTERM"] as const) {
  signalTest(
    `server: ${signal} prints the counts, and ends it`,
    async () => {
      await using s = await started(["-q"]);
      await client([s.target]);
      s.program.kill(signal);
      const { code, stderr } = await s.program.ended();
      assertEquals([code, stderr], [0, "1 received, 1 replied\n"]);
    },
  );
}
signalTest(
  "server: two signals of one Ctrl-C, as under deno task, are one",
  async () => {
    await using s = await started(["--echo", "--json"]);
    // More than a pipe's capacity, so that the end waits for a reader.
    for (let i = 0; i < 4; i++) await client([s.target, "-s", "60000", "-q"]);
    s.program.kill("SIGINT");
    // Two at once would be one signal for the system.
    await new Promise((resolve) => setTimeout(resolve, 50));
    s.program.kill("SIGINT");
    const { code, stdout } = await s.program.ended();
    assertEquals(code, 0);
    assertEquals(JSON.parse(stdout.trim().split("\n").at(-1)!).replied, 4);
  },
);

signalTest(
  "server: a later second Ctrl-C ends a wait for stdout's reader",
  async () => {
    await using s = await started(["--echo", "--json"]);
    // More than a pipe's capacity, without a reader.
    for (let i = 0; i < 4; i++) await client([s.target, "-s", "60000", "-q"]);
    let code: number | undefined;
    s.program.status.then((status) => code = status.code);
    for (let i = 0; code === undefined && i < 500; i++) {
      try {
        s.program.kill("SIGINT");
      } catch {
        // It has ended; its status is there in a moment.
        code = (await s.program.status).code;
        break;
      }
      await new Promise((resolve) => setTimeout(resolve, 10));
    }
    assertEquals(code, 130, "the program continues");
  },
);

programTest(
  "client: exits by its results after a broken pipe",
  async () => {
    for (
      const [answers, timeout, code] of [
        [["a"], "5s", 0],
        [[], "20ms", 1],
      ] as const
    ) {
      await using p = peer(() => [...answers]);
      const args = [p.target, "-c", "1000", "-i", "10ms", "-W", timeout];
      await using c = new Program(Deno.execPath(), [
        "run",
        "--allow-net",
        "client.ts",
        ...args,
      ]);
      await c.line();
      await c.closeStdout();
      assertEquals((await c.status).code, code);
    }
  },
);

programTest(
  "server, client: a broken pipe ends the program quietly",
  async () => {
    await using s = await started();
    await s.program.closeStdout();
    await client([
      s.target,
      "-c",
      "2",
      "-i",
      "50ms",
      "-W",
      "0.1",
      "--retries",
      "0",
    ]);
    const { code, stderr } = await s.program.ended();
    assertEquals([code, stderr], [0, ""]);
  },
);

signalTest(
  "server, client: SIGUSR2 and SIGUSR1 print the status, and end nothing",
  async () => {
    await using p = peer(() => ["a"]);
    const args = ["run", "--allow-net", "client.ts", p.target, "-c", "0"];
    for (const format of [[], ["--json-stream"]]) {
      await using c = new Program(Deno.execPath(), [
        ...args,
        ...["-i", "20ms"],
        ...format,
      ]);
      await c.line();
      c.kill(format.length === 0 ? "SIGUSR1" : "SIGUSR2");
      const isIt = format.length === 0
        ? /^\d+ sent, \d+ received/
        : /^\{"type":"interim",/;
      while (!isIt.test(await c.line()));
      // The client continues.
      await c.line();
      await c.line();
      c.kill("SIGINT");
      assertEquals((await c.ended()).code, 0);
    }
    await using s = await started(["--quiet"]);
    assertEquals((await client([s.target])).code, 0);
    s.program.kill("SIGUSR2");
    assertEquals((await client([s.target])).code, 0);
    s.program.kill("SIGINT");
    const { stderr } = await s.program.ended();
    assertEquals(stderr, "1 received, 1 replied\n2 received, 2 replied\n");
  },
);

programTest(
  "client: escapes the control characters of an argument in its messages",
  async () => {
    for (const args of [["\x1b[2J"], ["127.0.0.1:1", "--bind", "\x1b[2J"]]) {
      const { code, stderr } = await client(args);
      assertMatch(stderr, /^client: .*'\\u001b\[2J'.*\n$/);
      assertEquals(code, 2);
    }
  },
);

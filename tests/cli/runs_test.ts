/** The client program: many targets or sizes, loads, and their output. */
import { assert, assertEquals, assertMatch } from "@std/assert";
import { closedPort, peer, started } from "./peers.ts";
import {
  client,
  Program,
  programTest,
  server,
  signalTest,
  tempFolder,
} from "../helpers.ts";

/** Wrapped lines as they were. */
const unwrapped = (text: string) => text.replaceAll("\n  ", " ");

programTest(
  "client --all: shows every reply, and the number of missing ones",
  async () => {
    await using one = await started(["-q", "-r", "one"]);
    await using two = await started(["-q", "-r", "two"]);
    const asked = ["--all", one.target, two.target];
    const { code, stdout } = await client(asked);
    const lines = stdout.trim().split("\n");
    assertEquals(code, 0);
    assertEquals(
      lines.slice(0, 2).map((line) => line.split(" time=")[0]).sort(),
      [
        `Message from Server b"one" from ${one.target}`,
        `Message from Server b"two" from ${two.target}`,
      ],
    );
    assertEquals(lines.slice(2), [
      `--- ${one.target}, ${two.target} statistics ---`,
      "2 sent, 2 received, 0 duplicates",
    ]);
    const missing = [
      ...asked,
      "--expect-replies",
      "3",
      "--json",
      "-W",
      "5s",
    ];
    const counted = await client(missing);
    assertEquals(counted.code, 1);
    const { replies, ...counts } = JSON.parse(counted.stdout);
    assertEquals(counts, {
      targets: [one.target, two.target],
      sent: 2,
      received: 2,
      duplicates: 0,
      foreign: 0,
      unsent: 0,
      unanswered: [],
      eventsDropped: 0,
      unexpected: 0,
    });
    assertEquals(
      replies.map(({ text }: { text: string }) => text).sort(),
      ["one", "two"],
    );
    const wrong = await client([...asked, "--expect", "one"]);
    assertEquals(wrong.code, 1);
    assertMatch(wrong.stderr, /--expect b"one": the reply of .* is b"two"/);
    assertEquals(
      (await client(["--all", "127.0.0.1:9", "-W", "50ms"])).code,
      1,
    );
  },
);

programTest(
  "client --rate, --window: load an echo server, and report the received echoes",
  async () => {
    await using one = await started(["--echo", "--quiet"]);
    const rate = ["--rate", "500", "--count", "100", "--size", "100"];
    const { code, stdout, stderr } = await client([one.target, ...rate]);
    const [head, counts, speed, rtt, error] = unwrapped(stdout).split("\n");
    assertEquals(
      head,
      `--- ${one.target} load statistics: 100 bytes, 500 a second asked for ---`,
    );
    assertMatch(counts!, /^100 sent, 100 received, 0 lost \(0%\), /);
    assertMatch(speed!, /^sent \d+ a second \([\d.]+ kbit\/s\), received /);
    assertMatch(rtt!, /^rtt min.*p99\.9\/max = ([\d.]+\/){6}[\d.]+ ms$/);
    assertMatch(error!, /^send error min/);
    assertEquals([code, stderr.replace(/^client: this machine.*\n/, "")], [
      0,
      "",
    ]);
    const window = ["--window", "4", "--count", "50", "--json"];
    const ended = await client([one.target, ...window]);
    const result = JSON.parse(ended.stdout);
    assertEquals([result.window, result.rate, result.received], [4, null, 50]);
    assertEquals(
      result.intervals.reduce(
        (sum: number, one: { sent: number }) => sum + one.sent,
        0,
      ),
      50,
    );
    const stream = await client([...rate, one.target, "--json-stream"]);
    const types = stream.stdout.trim().split("\n").map((line) =>
      JSON.parse(line).type
    );
    assertEquals([types[0], types.at(-1)], ["interval", "summary"]);
  },
);

programTest(
  "client --rate, --window: exit by the received echoes",
  async () => {
    await using fixed = await started(["--quiet"]);
    const load = ["--rate", "200", "--count", "10", "-W", "0.5"];
    const foreign = await client([fixed.target, ...load]);
    assertEquals(foreign.code, 1);
    assertMatch(foreign.stderr, /^client: the replies are no echoes/m);
    await using lost = peer((seq, data) => seq % 2 === 0 ? [data] : []);
    const half = [lost.target, ...load];
    assertEquals((await client(half)).code, 0);
    assertEquals((await client([...half, "--max-loss", "10"])).code, 1);
    for (
      const [args, message] of [
        [["--rate", "0"], "--rate: '0' is not a number from 0.001"],
        [["--rate", "1", "--window", "1"], "--window and --rate exclude"],
        [["--duration", "1"], "--duration means nothing with plain requests"],
        [["--window", "1", "-m", "x"], "--message means nothing with --window"],
        [["--window", "1", "--stamp"], "--window means nothing with --stamp"],
        [["--rate", "1", "--all"], "--rate means nothing with --all"],
      ] as Array<[string[], string]>
    ) {
      const { code, stderr } = await client(args);
      assertEquals([code, stderr.includes(message)], [2, true], stderr);
    }
  },
);

programTest(
  "client HOST...: measures several targets at once, and compares them",
  async () => {
    await using one = await started(["--reply", "one"]);
    await using p = peer((seq) => seq % 2 === 0 ? ["two"] : []);
    const silent = await closedPort();
    const args = ["-c", "2", "-i", "10ms", "-W", "1s"];
    const targets = [silent, p.target, one.target];
    const asked = await client([...targets, "no.such.invalid", ...args]);
    assertEquals(asked.code, 1);
    assertMatch(
      asked.stderr,
      /^client: no\.such\.invalid:20001: Cannot resolve 'no\.such\.invalid'/,
    );
    const lines = unwrapped(asked.stdout).trim().split("\n");
    const replies = lines.filter((line) => line.includes("Message from"))
      .map((line) => line.replace(/ time=.*/, "")).sort();
    assertEquals(
      replies,
      [
        `${one.target}: Message from Server b"one" seq=0`,
        `${one.target}: Message from Server b"one" seq=1`,
        `${p.target}: Message from Server b"two" seq=0`,
      ].sort(),
    );
    const table = lines.slice(-5);
    assertMatch(table[0]!, /^rtt in ms +sent +received +loss +min +median/);
    assertEquals(table.slice(1).map((row) => row.split(/ +/).slice(0, 4)), [
      [one.target, "2", "2", "0%"],
      [p.target, "2", "1", "50%"],
      [silent, "2", "0", "100%"],
      ["no.such.invalid:20001:", "Cannot", "resolve", "'no.such.invalid':"],
    ]);
    assertEquals(lines.filter((line) => line.startsWith("---")).length, 3);
    const { runs } = JSON.parse(
      (await client([...targets, ...args, "--json"])).stdout,
    );
    assertEquals(
      runs.map(({ target, received }: Record<string, unknown>) => [
        target,
        received,
      ]),
      [[silent, 0], [p.target, 1], [one.target, 2]],
    );
    const streamed = await client([one.target, one.target, "--json-stream"]);
    for (const line of streamed.stdout.trim().split("\n")) {
      assertEquals(JSON.parse(line).target, one.target);
    }
    assertEquals(streamed.code, 0);
  },
);

programTest("client --size A..B: sweeps sizes, and judges each", async () => {
  await using s = await started(["--echo", "-q"]);
  const args = [s.target, "--size", "100..300:100", "-c", "2", "-i", "0"];
  const { code, stdout } = await client([...args, "-q"]);
  const rows = stdout.trim().split("\n").slice(1);
  assertEquals(rows.map((row) => row.split(/ +/).slice(0, 5)), [
    ["100", "bytes", "2", "2", "0%"],
    ["200", "bytes", "2", "2", "0%"],
    ["300", "bytes", "2", "2", "0%"],
  ]);
  assertEquals(code, 0);
  const { runs } = JSON.parse((await client([...args, "--json"])).stdout);
  for (const [i, { size, replies }] of runs.entries()) {
    assertEquals(size, 100 * (i + 1));
    for (const reply of replies) assertEquals(reply.size, size);
  }
  const missed = await client([...args, "--max-rtt", "min=0"]);
  assertEquals(missed.code, 1);
  assertMatch(missed.stderr, /^client: 100 bytes: --max-rtt min=0ms: it is/);
});

programTest(
  "client --expect: has its kinds, and shows the received text",
  async () => {
    await using s = await started(["--reply", "version 12", "-q"]);
    const runs: Array<[string[], string]> = [
      [["--expect-part", "on 1"], ""],
      [["--expect-part", "on 2"], '--expect-part b"on 2": the reply is b"vers'],
      [["--expect-pattern", "^version \\d+$"], ""],
      [["--expect-pattern", "^\\d"], "--expect-pattern ^\\d: the reply is b"],
      [["--expect-hex", "76657273696f6e203132"], ""],
      [["--expect-hex", "ff"], "--expect-hex ff: the reply is 76657273696f6e"],
    ];
    for (const [args, complaint] of runs) {
      const { code, stderr } = await client([s.target, ...args]);
      assertEquals(code, complaint === "" ? 0 : 1, args.join(" "));
      assert(stderr.includes(complaint), stderr);
      assertEquals(stderr === "", complaint === "");
    }
    const json = ["--expect-hex", "76657273696f6e203132", "--json"];
    const { replies } = JSON.parse((await client([s.target, ...json])).stdout);
    assertEquals(
      [replies[0].hex, replies[0].text],
      ["76657273696f6e203132", "version 12"],
    );
    const shown = await client([s.target, "--show-hex"]);
    assertEquals(
      shown.stdout,
      "Message from Server hex 76657273696f6e203132\n",
    );
  },
);

programTest("client --timestamps: begins each line with the time", async () => {
  await using s = await started(["--timestamps", "-c", "2"]);
  const asked = await client([s.target, "-D", "-c", "2", "-i", "0"]);
  const times = [...asked.stdout.matchAll(/^\[(\d+\.\d{3})\] Message/gm)]
    .map(([, seconds]) => 1000 * Number(seconds));
  assertEquals(times.length, 2);
  for (const time of times) assert(Math.abs(time - Date.now()) < 60_000);
  const { stdout } = await s.program.ended();
  assertEquals([...stdout.matchAll(/^\[\d+\.\d{3}\] (UDP|M|C)/gm)].length, 5);
});

signalTest(
  "client --report: prints intervals that add up to the summary",
  async () => {
    await using s = await started(["-q", "--report", "100ms"]);
    await using j = server(["-p", "0", "-q", "--json", "--report", "100ms"]);
    const { port } = JSON.parse(await j.line());
    const target = `127.0.0.1:${port}`;
    const args = ["-c", "20", "-i", "10ms", "-q", "--report", "100ms"];
    const text = await client([s.target, ...args]);
    assertMatch(
      text.stdout,
      /^0\.0 to 0\.1 s: \d+ sent, \d+ received, 0 lost \(0%\), rtt/,
    );
    const streamed = await client([target, ...args, "--json-stream"]);
    const objects = streamed.stdout.trim().split("\n").map((line) =>
      JSON.parse(line)
    );
    const add = (name: string, of: Array<Record<string, unknown>>) =>
      of.filter(({ type }) => type === "interval")
        .reduce((sum, interval) => sum + (interval[name] as number), 0);
    const summary = objects.at(-1);
    for (const name of ["sent", "received", "lost", "late", "duplicates"]) {
      assertEquals(add(name, objects), summary[name], name);
    }
    assert(objects.length > 2);
    const loading = [
      "--rate",
      "200",
      "--duration",
      "350ms",
      "--report",
      "100ms",
    ];
    const loaded = await client([s.target, ...loading, "-q"]);
    const lines = [
      ...loaded.stdout.matchAll(/^\d\.\d to \d\.\d s: \d+ sent/gm),
    ];
    assert(lines.length >= 3, loaded.stdout);
    j.kill("SIGTERM");
    const counted = (await j.ended()).stdout.trim().split("\n").slice(1)
      .map((line) => JSON.parse(line));
    assertEquals(counted.at(-1).type, "summary");
    assertEquals([add("received", counted), add("replied", counted)], [20, 20]);
  },
);

programTest("client --csv -, --plot -: show each datagram", async () => {
  await using p = peer((seq) => seq % 4 === 1 ? [] : ["a"]);
  const args = [p.target, "-c", "4", "-i", "5ms", "-W", "1s", "-q"];
  const rows = (csv: string) =>
    csv.trim().split("\n").filter((line) => line.startsWith("127"))
      .map((line) => line.split(","))
      .map(([run, seq, , rtt]) => [run, seq, rtt !== ""]);
  const shown = await client([...args, "--csv", "-"]);
  const expected = ["0", "1", "2", "3"].map((
    seq,
  ) => [p.target, seq, seq !== "1"]);
  assertEquals(rows(shown.stdout).sort(), expected);
  assertMatch(
    shown.stdout,
    /^run,seq,at_ms,rtt_ms,time,outcome,attempts,why$/m,
  );
  const drawn = await client([...args, "--plot", "-"]);
  assertMatch(drawn.stdout, /\u2022/);
  assertMatch(drawn.stdout, /^ +lost  *x/m);
});

programTest(
  "client --csv, --plot, > FILE: a full disk is an error with one line",
  async () => {
    await using p = peer(() => ["a"]);
    // Deno takes a device for a secret unless all is allowed.
    const permissions = ["--allow-all"];
    for (const flag of ["--csv", "--plot"]) {
      const args = [p.target, "-c", "2", "-i", "5ms", "-q", flag, "/dev/full"];
      const { code, stderr } = await client(args, { permissions });
      assertMatch(stderr, /^client: --\w+ \/dev\/full: No space left .*\n$/);
      assertEquals(code, 2, flag);
    }
    for (const format of [[], ["--json"], ["--json-stream"], ["--csv", "-"]]) {
      const script = 'exec "$@" > /dev/full';
      const args = ["run", ...permissions, "client.ts", p.target, "-c", "2"];
      await using c = new Program("sh", [
        ...["-c", script, "sh", Deno.execPath()],
        ...[...args, "-i", "5ms", ...format],
      ]);
      const { code, stderr } = await c.ended();
      // With --csv - the summary is on stderr.
      const failure = /(^|\n)client: Cannot write the results: No space .*\n$/;
      assertMatch(stderr, failure);
      assertEquals(code, 2, `${format}`);
    }
  },
  ["/dev/full"],
);

programTest(
  "client --interval: warns about an interval that cannot be kept",
  async () => {
    await using p = peer(() => []);
    const args = [p.target, "-c", "300", "-i", "1ms", "-W", "2s", "-q"];
    const { code, stderr } = await client(args);
    assertEquals(code, 1);
    assertMatch(
      stderr,
      /^client: --interval was not kept, as 256 datagrams were unanswered \d+ times: it was \d+\.\d+ ms in the mean/m,
    );
  },
);

programTest(
  "client --plot, --csv: write files, opened before the first send",
  async () => {
    await using s = await started(["--echo", "-q"]);
    await using folder = await tempFolder();
    const permissions = [
      ...["--allow-net", "--allow-ffi", "--allow-read"],
      `--allow-write=${folder.path}`,
    ];
    const [svg, csv] = [`${folder.path}/a.svg`, `${folder.path}/a.csv`];
    for (
      const mode of [["-c", "5", "-i", "1ms"], ["--rate", "500", "-c", "5"]]
    ) {
      const args = [s.target, ...mode, "-q", "--plot", svg, "--csv", csv];
      assertEquals((await client(args, { permissions })).code, 0);
      const picture = await Deno.readTextFile(svg);
      assertMatch(
        picture,
        /^<svg [^]*5 received, 0 lost \(0%\)[^]*<\/svg>\n$/,
      );
      assertEquals(
        (await Deno.readTextFile(csv)).trim().split("\n").length,
        6,
      );
    }
    const nowhere = `${folder.path}/none/a.csv`;
    const refused = await client([s.target, "--csv", nowhere], {
      permissions,
    });
    assertEquals([refused.code, refused.stdout], [2, ""]);
    assertMatch(
      refused.stderr,
      /^client: --csv \S+: No such file or directory.*\n$/,
    );
  },
  ["/bin/sh"],
);

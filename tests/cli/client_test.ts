/** The client program: one datagram, or a series. */
import { assert, assertEquals, assertMatch } from "@std/assert";
import { closedPort, peer, started, WALL_TIME_REGEXP } from "./peers.ts";
import { client, ENGINE, programTest } from "../helpers.ts";

programTest(
  "client --count: shows each reply and a summary like that of ping",
  async () => {
    await using s = await started(["-q"]);
    // Each datagram waits for the previous answer, for a certain order.
    const asked = await client([s.target, "-c", "3", "-i", "0"]);
    assertEquals([asked.code, asked.stderr], [0, ""]);
    const lines = asked.stdout.trim().split("\n");
    for (const seq of [0, 1, 2]) {
      assertMatch(
        lines[seq]!,
        new RegExp(
          `^Message from Server b"Hello UDP Client" seq=${seq} time=\\d+\\.\\d{3} ms$`,
        ),
      );
    }
    assertEquals(lines[3], `--- ${s.target} statistics ---`);
    assertMatch(
      lines[4]!,
      /^3 sent, 3 received, 0 duplicates, 0 late, 0% loss, time \d+ ms$/,
    );
    assertMatch(
      lines[5]!,
      /^rtt min\/avg\/max\/mdev = [\d.]+\/[\d.]+\/[\d.]+\/[\d.]+ ms$/,
    );
    assertMatch(
      lines[6]!,
      /^rtt median\/p90\/p99\/p99\.9 = [\d.]+\/[\d.]+\/[\d.]+\/[\d.]+ ms$/,
    );
    assertEquals(lines.length, 7);
    const quiet = await client([s.target, "-c", "3", "-i", "0", "-q"]);
    assertEquals(quiet.stdout.split("\n").length, 5);
  },
);

programTest("client --json: prints all facts in one document", async () => {
  await using s = await started(["-q"]);
  const asked = await client([s.target, "-c", "2", "-i", "0", "--json"]);
  assertEquals([asked.code, asked.stderr], [0, ""]);
  const { durationMs, rttMs, replies, startedAt, ...counts } = JSON.parse(
    asked.stdout,
  );
  assertEquals(counts, {
    target: s.target,
    sent: 2,
    received: 2,
    lost: 0,
    pending: 0,
    lossPercent: 0,
    duplicates: 0,
    late: 0,
    retransmissions: 0,
    foreign: 0,
    eventsDropped: 0,
    rejected: 0,
    unsent: 0,
    skipped: 0,
    stalls: 0,
    stalledMs: 0,
    longestStall: null,
    lossPeriods: 0,
    longestLossPeriod: 0,
    outageCount: 0,
    outageMs: 0,
    outages: [],
    reasons: [],
    heldBack: 0,
    unexpected: 0,
  });
  assert(durationMs > 0);
  assertMatch(startedAt, WALL_TIME_REGEXP);
  assertEquals(Object.keys(rttMs), [
    "min",
    "mean",
    "median",
    "p90",
    "p99",
    "p999",
    "max",
    "stddev",
  ]);
  for (const [seq, { rttMs, time, ...reply }] of replies.entries()) {
    assert(rttMs > 0);
    assertMatch(time, WALL_TIME_REGEXP);
    assertEquals(reply, {
      seq,
      attempts: 1,
      size: 16,
      text: "Hello UDP Client",
    });
  }
  assertEquals(replies.length, 2);
});

programTest(
  "client --json-stream: prints an object for each event",
  async () => {
    // Two replies to the first datagram, none to the second.
    await using p = peer((seq) => seq === 0 ? ["a", "a"] : []);
    const args = ["-c", "2", "-i", "50ms", "-W", "1", "--retries", "0"];
    const asked = await client([p.target, ...args, "--json-stream"]);
    const events = asked.stdout.trim().split("\n").map((line) =>
      JSON.parse(line)
    );
    assertEquals(events.map(({ type, seq }) => [type, seq]), [
      ["reply", 0],
      ["duplicate", 0],
      ["lost", 1],
      ["summary", undefined],
    ]);
    const { sent, received, lost, lossPercent, duplicates } = events[3];
    assertEquals([sent, received, lost, lossPercent, duplicates], [
      2,
      1,
      1,
      50,
      1,
    ]);
    assertEquals(asked.code, 0);
  },
);

programTest("client: reports a missing answer and exits with 1", async () => {
  const target = await closedPort();
  const args = [target, "-W", "200ms", "--retries", "1"];
  assertEquals(await client([...args, "-q"]), {
    code: 1,
    stdout: "",
    stderr: `client: No reply from ${target} to ` +
      (ENGINE === "linux"
        ? "1 datagram: the system reports a closed port\n"
        : "2 datagrams: a closed port, a silent server, a firewall, or loss\n"),
  });
  const asked = await client([...args, "--json"]);
  const { received, lost, rttMs, replies } = JSON.parse(asked.stdout);
  assertEquals([received, lost, rttMs, replies], [0, 1, null, []]);
  assertEquals([asked.code, asked.stderr], [1, ""]);
});

programTest(
  "client: accepts a reply after a retry, without an RTT",
  async () => {
    await using p = peer((seq) => seq === 0 ? [] : ["again"]);
    const asked = await client([p.target, "-W", "500ms", "--json"]);
    const { retransmissions, rttMs, replies } = JSON.parse(asked.stdout);
    assertEquals([asked.code, retransmissions, rttMs], [0, 1, null]);
    assertEquals(replies.map((reply: object) => ({ ...reply, time: 0 })), [
      { time: 0, seq: 0, rttMs: null, attempts: 2, size: 5, text: "again" },
    ]);
  },
);

programTest("client --max-loss, --expect: decide the exit code", async () => {
  await using p = peer((seq) => seq % 4 === 3 ? [] : ["a"]);
  const args = [
    p.target,
    "-c",
    "4",
    "-i",
    "0",
    "-W",
    "1s",
    "--retries",
    "0",
    "-q",
  ];
  assertEquals((await client([...args, "--max-loss", "25"])).code, 0);
  const missed = await client([...args, "--max-loss", "24.9"]);
  assertEquals(missed.code, 1);
  assert(missed.stderr.includes("--max-loss 24.9: 25% is lost, 0.1% too much"));
  assertEquals((await client([...args, "--max-rtt", "p99=30"])).code, 0);
  const slow = await client([...args, "--max-rtt", "min=0"]);
  assertEquals(slow.code, 1);
  assertMatch(slow.stderr, /--max-rtt min=0ms: it is [\d.]+ ms, [\d.]+ ms too/);
  assertEquals((await client([p.target, "--expect", "a"])).code, 0);
  assertEquals(await client([p.target, "--expect", "b", "-q"]), {
    code: 1,
    stdout: "",
    stderr: 'client: --expect b"b": the reply is b"a"\n',
  });
});

programTest(
  "client --message -: sends stdin to its end and waits for the reply",
  async () => {
    await using s = await started(["--echo", "-q"]);
    const options = { stdin: "from stdin\n" };
    assertEquals(await client([s.target, "--message", "-"], options), {
      code: 0,
      stdout: 'Message from Server b"from stdin\\n"\n',
      stderr: "",
    });
    const empty = await client([s.target, "-m-"], { stdin: "" });
    assertEquals(empty.stdout, 'Message from Server b""\n');
    const args = [s.target, "-m", "-", "--json"];
    const largest = await client(args, { stdin: "x".repeat(65_507) });
    assertEquals(JSON.parse(largest.stdout).replies[0].size, 65_507);
    const tooLarge = await client(args, { stdin: "x".repeat(65_508) });
    assertEquals([tooLarge.code, tooLarge.stdout], [2, ""]);
    assertMatch(tooLarge.stderr, /^client: .*65508 bytes.*at most 65507\n$/);
    const huge = await client(args, { stdin: "x".repeat(1_000_000) });
    assertEquals([huge.code, huge.stdout], [2, ""]);
    assertMatch(huge.stderr, /^client: --message -: stdin is too large.*\n$/);
  },
);

programTest("client --size: repeats or truncates the payload", async () => {
  await using s = await started(["--echo", "-q"]);
  const sized = (size: string) => client([s.target, "-m", "abc", "-s", size]);
  assertEquals((await sized("7")).stdout, 'Message from Server b"abcabca"\n');
  assertEquals((await sized("2")).stdout, 'Message from Server b"ab"\n');
  assertEquals((await sized("0")).stdout, 'Message from Server b""\n');
});

programTest(
  "client --deadline: ends the run, with datagrams in flight",
  async () => {
    await using p = peer(() => []);
    const pace = ["-c", "1000", "-i", "10ms", "-w", "100ms"];
    const asked = await client([p.target, ...pace, "--json"]);
    const { sent, lost, pending, lossPercent } = JSON.parse(asked.stdout);
    assert(sent > 0 && sent < 1000);
    assertEquals([lost, pending, lossPercent], [0, sent, null]);
    assertEquals(asked.code, 1);
  },
);

programTest("client: accepts a host and a port as nc does", async () => {
  await using one = await started();
  const { code, stdout } = await client(["127.0.0.1", `${one.port}`]);
  assertEquals([code, stdout], [
    0,
    'Message from Server b"Hello UDP Client"\n',
  ]);
});

programTest("client -c 1: shows a series of one, with its RTT", async () => {
  await using s = await started(["-q"]);
  const asked = await client([s.target, "-c", "1"]);
  const lines = asked.stdout.trim().split("\n");
  assertMatch(lines[0]!, /^Message from Server b"[^"]+" seq=0 time=[\d.]+ ms$/);
  assertMatch(lines[2]!, /^1 sent, 1 received, .* 0% loss/);
  const quiet = await client([s.target, "-c", "1", "-q"]);
  assertEquals(quiet.stdout.split("\n").length, 5);
});

/** Both programs, from the outside. */
import { assert, assertEquals, assertMatch, assertThrows } from "@std/assert";
import config from "../deno.json" with { type: "json" };
import { requireDeno } from "../lib/cli/main.ts";
import { encode } from "../lib/encoding.ts";
import { openDenoSocket } from "../lib/socket_deno.ts";
import {
  client,
  ENGINE,
  portOf,
  Program,
  programTest,
  server,
  signalTest,
  tempFolder,
} from "./helpers.ts";

/** As JSON has it. */
const WALL_TIME_REGEXP = /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/;

/** A server of ours, and where to ask it. */
async function started(args: string[] = []) {
  const program = server(["-p", "0", ...args]);
  const port = await portOf(program);
  return {
    target: `127.0.0.1:${port}`,
    port,
    program,
    [Symbol.asyncDispose]: () => program[Symbol.asyncDispose](),
  };
}

/** A server within the test, that answers as `onDatagram` does. */
function peer(answer: (seq: number) => string[]) {
  const socket = openDenoSocket({
    hostname: "127.0.0.1",
    port: 0,
    maxDatagramBytes: 100,
  });
  let seq = 0;
  const finished = socket.start({
    onDatagram(datagram) {
      for (const reply of answer(seq++)) {
        socket.send(encode(reply), datagram.remoteAddr).catch(() => {});
      }
      socket.release(datagram);
    },
  });
  return {
    target: `127.0.0.1:${socket.addr.port}`,
    async [Symbol.asyncDispose]() {
      socket.close();
      await finished;
    },
  };
}

/** An address where nothing answers. */
async function closedPort(): Promise<string> {
  await using nothing = peer(() => []);
  return nothing.target;
}

programTest(
  "server and client print the lines of the seed, and nothing else",
  async () => {
    await using s = await started(["-c", "1"]);
    assertEquals(await client([s.target]), {
      code: 0,
      stdout: 'Message from Server b"Hello UDP Client"\n',
      stderr: "",
    });
    const { code, stdout, stderr } = await s.program.ended();
    assertMatch(
      stdout,
      /^UDP server up and listening on 127\.0\.0\.1:\d+(?: \(linux engine\))?\nMessage from Client:b"Hello UDP Server"\nClient IP Address:\("127\.0\.0\.1", \d+\)\n$/,
    );
    assertEquals([code, stderr], [0, "1 received, 1 replied\n"]);
  },
);

programTest("the server answers with --reply, or with --echo", async () => {
  await using fixed = await started(["-r", "-"]);
  const asked = await client([fixed.target, "-m", ""]);
  assertEquals(asked.stdout, 'Message from Server b"-"\n');
  await using silent = await started(["--reply="]);
  assertEquals(
    (await client([silent.target])).stdout,
    'Message from Server b""\n',
  );
  await using echoing = await started(["--echo"]);
  const echoed = await client([echoing.target, "--hex", "00 ff 22"]);
  assertEquals(echoed.stdout, 'Message from Server b"\\x00\\xff\\""\n');
});

programTest("the server binds IPv6 and writes its address so", async () => {
  await using s = server(["--host", "::1", "-p", "0", "-q"]);
  const line = await s.line();
  const [, target] = /listening on (\[::1\]:\d+)( \(linux engine\))?$/.exec(
    line,
  )!;
  assertEquals((await client([target!])).code, 0);
});

programTest("server --json has an object a line, the counts last", async () => {
  await using s = server(["-p", "0", "--json", "-c", "2"]);
  const { port, time, ...listening } = JSON.parse(await s.line());
  assertMatch(time, WALL_TIME_REGEXP);
  assertEquals(listening, {
    type: "listening",
    hostname: "127.0.0.1",
    maxAmplification: 0,
    rateLimit: 0,
    engine: ENGINE,
  });
  await client([`127.0.0.1:${port}`, "-c", "2", "-i", "0", "--hex", "ff"]);
  const { code, stdout, stderr } = await s.ended();
  const [, first, second, summary] = stdout.trim().split("\n").map((line) =>
    JSON.parse(line)
  );
  const { port: _port, time: _time, ...request } = first;
  assertEquals(request, {
    type: "request",
    hostname: "127.0.0.1",
    size: 1,
    hex: "ff",
  });
  assertEquals(second.type, "request");
  assertMatch(first.time, WALL_TIME_REGEXP);
  assertEquals({ ...summary, time: undefined }, {
    time: undefined,
    type: "summary",
    received: 2,
    replied: 2,
    unanswered: 0,
    dropped: { tooLong: 0, overload: 0, closing: 0 },
    kernelDrops: ENGINE === "linux" ? 0 : null,
    refused: {
      amplification: 0,
      rate: 0,
      self: 0,
      port: 0,
      source: 0,
      ownReply: 0,
      offLink: 0,
      loop: 0,
    },
    bytes: { received: 2, replied: 32 },
    inFlight: 0,
    errors: { handler: 0, send: 0, receive: 0 },
  });
  assertEquals([code, stderr], [0, ""]);
});

programTest(
  "client --count shows each reply and sums up as ping does",
  async () => {
    await using s = await started(["-q"]);
    // Each waits for the answer before: only so is the order certain.
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
    assertEquals(lines.length, 6);
    const quiet = await client([s.target, "-c", "3", "-i", "0", "-q"]);
    assertEquals(quiet.stdout.split("\n").length, 4);
  },
);

programTest("client --json has all facts in one document", async () => {
  await using s = await started(["-q"]);
  const asked = await client([s.target, "-c", "2", "-i", "0", "--json"]);
  assertEquals([asked.code, asked.stderr], [0, ""]);
  const { durationMs, rttMs, replies, ...counts } = JSON.parse(asked.stdout);
  assertEquals(counts, {
    target: s.target,
    sent: 2,
    received: 2,
    lost: 0,
    pending: 0,
    lossPercent: 0,
    datagramLossPercent: 0,
    duplicates: 0,
    late: 0,
    retransmissions: 0,
    foreign: 0,
    errors: 0,
    heldBack: 0,
    unexpected: 0,
  });
  assert(durationMs > 0);
  assertEquals(Object.keys(rttMs), [
    "min",
    "mean",
    "median",
    "p90",
    "p99",
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

programTest("client --json-stream has an object for each event", async () => {
  // Two replies to the first datagram, none to the second.
  await using p = peer((seq) => seq === 0 ? ["a", "a"] : []);
  const args = ["-c", "2", "-i", "50ms", "-W", "0.1", "--retries", "0"];
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
});

programTest("client without an answer says so and exits with 1", async () => {
  const target = await closedPort();
  const args = [target, "-W", "20ms", "--retries", "1"];
  assertEquals(await client([...args, "-q"]), {
    code: 1,
    stdout: "",
    stderr: `client: No reply from ${target} to ` +
      (ENGINE === "linux"
        ? "1 datagram: the system reports a closed port\n"
        : "2 datagrams: lost on the way, a closed port, or a silent server\n"),
  });
  const asked = await client([...args, "--json"]);
  const { received, lost, rttMs, replies } = JSON.parse(asked.stdout);
  assertEquals([received, lost, rttMs, replies], [0, 1, null, []]);
  assertEquals([asked.code, asked.stderr], [1, ""]);
});

programTest(
  "client takes a reply after a retry, and claims no time for it",
  async () => {
    await using p = peer((seq) => seq === 0 ? [] : ["again"]);
    const asked = await client([p.target, "-W", "50ms", "--json"]);
    const { retransmissions, rttMs, replies } = JSON.parse(asked.stdout);
    assertEquals([asked.code, retransmissions, rttMs], [0, 1, null]);
    assertEquals(replies.map((reply: object) => ({ ...reply, time: 0 })), [
      { time: 0, seq: 0, rttMs: null, attempts: 2, size: 5, text: "again" },
    ]);
  },
);

programTest("client --max-loss and --expect decide the exit code", async () => {
  await using p = peer((seq) => seq % 4 === 3 ? [] : ["a"]);
  const args = [
    p.target,
    "-c",
    "4",
    "-i",
    "0",
    "-W",
    "200ms",
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
  "client --message - sends stdin to its end and waits for the reply",
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

programTest("client --size repeats or cuts what is sent", async () => {
  await using s = await started(["--echo", "-q"]);
  const sized = (size: string) => client([s.target, "-m", "abc", "-s", size]);
  assertEquals((await sized("7")).stdout, 'Message from Server b"abcabca"\n');
  assertEquals((await sized("2")).stdout, 'Message from Server b"ab"\n');
  assertEquals((await sized("0")).stdout, 'Message from Server b""\n');
});

programTest(
  "client --deadline ends the run, whatever is unanswered",
  async () => {
    const target = await closedPort();
    const args = [target, "-c", "1000", "-i", "10ms", "-w", "100ms", "--json"];
    const asked = await client(args);
    const { sent, lost, lossPercent } = JSON.parse(asked.stdout);
    assert(sent > 0 && sent < 1000);
    assertEquals([asked.code, lost, lossPercent], [1, sent, 100]);
  },
);

programTest("both programs show their flags and their version", async () => {
  await using s = server(["--help"]);
  const { code, stdout, stderr } = await s.ended();
  assertEquals([code, stderr], [0, ""]);
  assertMatch(stdout, /--max|--host HOST .*127\.0\.0\.1/);
  const help = await client(["-h"]);
  assertEquals([help.code, help.stderr], [0, ""]);
  assertMatch(help.stdout, /-W, --timeout TIME/);
  await using version = server(["-V"]);
  assertEquals((await version.ended()).stdout, `roundtrip ${config.version}\n`);
  assertEquals(
    (await client(["--version"])).stdout,
    `roundtrip ${config.version}\n`,
  );
});

programTest(
  "the server refuses to amplify, and says so once a second",
  async () => {
    const limited = ["--max-amplification", "3", "-r", "x".repeat(1400)];
    await using s = await started(["-q", ...limited]);
    const unanswered = [s.target, "-W", "50ms", "--retries", "0"];
    for (const message of ["", "1"]) {
      assertEquals((await client([...unanswered, "-m", message])).code, 1);
    }
    assertEquals((await client([s.target, "-s", "1400", "-q"])).code, 0);
    await using last = await started(["-c", "1", ...limited]);
    await client([last.target, "-m", "1", "-W", "50ms", "--retries", "0"]);
    await client([last.target, "-s", "1400", "-q"]);
    const { stderr } = await last.program.ended();
    const [refused, counts] = stderr.trim().split("\n");
    assertMatch(
      refused!,
      /^server: refused 127\.0\.0\.1:\d+: the answer is too large for its request \(--max-amplification\)$/,
    );
    assertEquals(counts, "2 received, 1 replied, 1 refused (amplification)");
  },
);

programTest(
  "the server limits answers a second, and says so at the start",
  async () => {
    await using open = server(["--host", "0.0.0.0", "-p", "0", "-q"]);
    assertMatch(
      await open.line(),
      /on 0\.0\.0\.0:\d+, at most 1000 answers a second to a \/24 or \/56( \(linux engine\))?$/,
    );
    await using s = server(["-p", "0", "-q", "--rate-limit", "1"]);
    const target = /(127\.0\.0\.1:\d+), at most 1 answers/.exec(
      await s.line(),
    )![1]!;
    const args = [target, "-c", "5", "-i", "0", "-W", "0.1", "--retries", "0"];
    const { received } = JSON.parse((await client([...args, "--json"])).stdout);
    assert(received >= 1 && received < 5);
  },
);

programTest("client --stamp measures, and sums up", async () => {
  await using s = await started(["--stamp", "-q"]);
  const args = ["--stamp", s.target, "-c", "5", "-i", "5ms"];
  const asked = await client([...args, "--histogram"]);
  assertEquals([asked.code, asked.stderr], [0, ""]);
  const lines = asked.stdout.trim().split("\n");
  for (const seq of [0, 1, 2, 3, 4]) {
    assertMatch(
      lines[seq]!,
      new RegExp(`^seq=${seq} rtt=[\\d.]+ ms reflector=[\\d.]+ ms`),
    );
  }
  assertEquals(lines[5], `--- ${s.target} STAMP statistics ---`);
  assertMatch(
    lines[6]!,
    /^5 sent, 5 received, 0 lost \(0%\), 0 duplicates, 0 reordered, 0 late, time \d+ ms$/,
  );
  assertMatch(
    lines[7]!,
    /^ms +min +mean +median +p90 +p99 +max +stddev +\(exact\)$/,
  );
  assertMatch(lines[8]!, /^rtt( +[\d.]+){7}$/);
  assertEquals(lines.filter((line) => / ms +\d+( #+)?$/.test(line)).length, 12);
  const quiet = await client([...args, "-q"]);
  assertMatch(quiet.stdout, /^--- /);
});

programTest(
  "client --stamp --json has every figure, and --json-stream each sample",
  async () => {
    await using s = await started(["--stamp", "-q"]);
    const args = ["--stamp", s.target, "-c", "3", "-i", "5ms"];
    const { samples, ...document } = JSON.parse(
      (await client([...args, "--json"])).stdout,
    );
    assertEquals(Object.keys(document), [
      "target",
      "sent",
      "received",
      "lost",
      "pending",
      "lossPercent",
      "lostUp",
      "lostDown",
      "lostUnattributed",
      "duplicates",
      "reordered",
      "late",
      "foreign",
      "errors",
      "portClosed",
      "kernelDrops",
      "durationMs",
      "exact",
      "kernelTimed",
      "rttMs",
      "seenMs",
      "reflectorMs",
      "ipdvMs",
      "pdvMs",
      "forwardPdvMs",
      "backwardPdvMs",
      "forwardDelayMs",
      "backwardDelayMs",
      "sendErrorMs",
      "forwardJitterMs",
      "backwardJitterMs",
      "oneWayErrorMs",
      "clockOffsetMs",
      "clockDriftPpm",
      "returnsSsid",
      "told",
    ]);
    assertEquals([document.sent, document.received, samples.length], [3, 3, 3]);
    const streamed = (await client([...args, "--json-stream"])).stdout.trim()
      .split("\n").map((line) => JSON.parse(line));
    assertEquals(streamed.map(({ type }) => type), [
      "reply",
      "reply",
      "reply",
      "summary",
    ]);
    assertEquals(Object.keys(streamed[0]), [
      "type",
      ...Object.keys(samples[0]),
    ]);
  },
);

programTest(
  "client --stamp without a reflector exits with 1, and claims nothing",
  async () => {
    const target = await closedPort();
    const args = ["--stamp", target, "-c", "2", "-i", "5ms", "-W", "20ms"];
    const asked = await client([...args, "--json"]);
    const { lost, lossPercent, rttMs, clockOffsetMs, portClosed } = JSON.parse(
      asked.stdout,
    );
    assertEquals(portClosed > 0, ENGINE === "linux");
    assertEquals([asked.code, lost, lossPercent, rttMs, clockOffsetMs], [
      1,
      2,
      100,
      null,
      null,
    ]);
    await using s = await started(["--stamp"]);
    assertEquals(
      (await client(["--stamp", s.target, "-c", "1", "--max-loss", "0"])).code,
      0,
    );
  },
);

signalTest(
  "a reflector answers its sessions, and tells what it is asked",
  async () => {
    await using s = server(["-p", "0", "--stamp", "--json", "--ssid", "7,9"]);
    const target = `127.0.0.1:${JSON.parse(await s.line()).port}`;
    const asking = ["--stamp", target, "-c", "1", "--extensions", "location"];
    const { stdout, code } = await client([...asking, "--ssid", "9"]);
    assertEquals(code, 0);
    assertMatch(
      stdout,
      new RegExp(
        `^seen by the reflector as 127.0.0.1:\\d+, asked at ${target}$`,
        "m",
      ),
    );
    const other = [...asking, "--ssid", "8", "-W", "50ms"];
    assertEquals((await client(other)).code, 1);
    s.kill("SIGTERM");
    const ended = (await s.ended()).stdout.trim().split("\n").at(-1)!;
    const { stamp } = JSON.parse(ended);
    assertEquals([stamp.reflected, stamp.unprovisioned], [1, 1]);
  },
);

signalTest("the server counts what is malformed", async () => {
  await using s = server(["-p", "0", "--stamp", "--json"]);
  const target = `127.0.0.1:${JSON.parse(await s.line()).port}`;
  await client([target, "-m", "short", "-W", "20ms", "--retries", "0"]);
  await client(["--stamp", target, "-c", "1"]);
  s.kill("SIGTERM");
  const { stdout } = await s.ended();
  const { stamp, unanswered } = JSON.parse(stdout.trim().split("\n").at(-1)!);
  const counts = {
    malformed: 1,
    corrupt: 0,
    unauthentic: 0,
    unprovisioned: 0,
    returned: 0,
  };
  assertEquals(stamp, { reflected: 1, ...counts, sessions: 1 });
  assertEquals(unanswered, 1);
});

/** Bad input to the server, and what its one line must say. */
const BAD_SERVER: Array<[string[], RegExp]> = [
  [["--ssid", "7"], /--ssid needs --stamp/],
  [["--stamp", "--ssid", "7,x"], /--ssid: 'x' is not a whole number/],
  [["--nope"], /unknown flag --nope/],
  [["-p"], /--port needs a value/],
  [["--port", "abc"], /--port: .*'abc' is not a number from 0 to 65535/],
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
    /--echo, --stamp and --reply exclude each other/,
  ],
  [["--engine", "fast"], /--engine: 'fast' is not one of deno, linux, auto/],
  [["--stateless"], /--stateless needs --stamp/],
  [["--rate-limit", "-1"], /--rate-limit: '-1' is not a whole number/],
  [
    ["--max-amplification", "x"],
    /--max-amplification: 'x' is not a number from 0 to 1000/,
  ],
  [["extra"], /Unexpected argument 'extra': the address goes behind --host/],
];

/** Bad input to the client, and what its one line must say. */
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
  [["-c", "0", "--all"], /--all and --count exclude each other/],
  [["--histogram"], /--histogram needs --stamp/],
  [["--stamp", "-m", "x"], /--stamp and --message exclude each other/],
  [["--stamp", "--retries", "1"], /--stamp and --retries exclude each other/],
  [["--stamp", "-i", "0"], /--interval: 0 is too short for --stamp/],
  [["--ssid", "1"], /--ssid needs --stamp/],
  [["--ptp"], /--ptp needs --stamp/],
  [["--clock", "kernel"], /--clock needs --stamp/],
  [["--reply-dscp", "EF"], /--reply-dscp needs --stamp/],
  [["--stamp", "--extensions", "weather"], /'weather' is not one of location,/],
  [["--stamp", "--clock", "sun"], /'sun' is not one of auto, kernel, program/],
  [["--stamp", "-s", "43"], /'size' must be an integer from 44/],
  [["--json", "--json-stream"], /--json and --json-stream exclude each other/],
  [["20001"], /HOST\[:PORT\]: '20001' is no IP address, and no name/],
  [["host:"], /HOST\[:PORT\]: port '' is not a number/],
  [["host:99999"], /HOST\[:PORT\]: port '99999'/],
  [[":20001"], /HOST\[:PORT\]: ':20001' has no host/],
  [["::1:2:x"], /HOST\[:PORT\]: .* more than one colon/],
  [["[::1"], /HOST\[:PORT\]: '\[::1' is not/],
  [["127.0.0.1:0"], /nobody can be asked at port 0/],
  [["127.0.0.1:1", "-p", "2"], /another port than --port/],
  [["a", "b", "--rate", "1"], /'b': with --rate the client takes one HOST/],
  [["a", "b", "--plot", "x"], /'b': with --plot the client takes one HOST/],
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
  [
    ["--find-mtu", "--engine", "linux", "-c", "2"],
    /--find-mtu and --count exclude each other/,
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
  [["--expect", "a", "--expect-part", "b"], /--expect and --expect-part excl/],
  [["--stamp", "--expect-hex", "00"], /--stamp and --expect-hex exclude/],
  [["--report", "1ms"], /--report: '1ms' is not a time from 100ms/],
  [["--csv", "-", "--json"], /--csv - and --json exclude each other/],
  [["--csv", "-", "--plot", "-"], /--csv - and --plot - exclude each other/],
  [["--csv", "x.csv"], /--csv x\.csv: Deno may not write it/],
  [["a", "70000"], /HOST PORT: .*70000/],
  [["a", "5", "-p", "6"], /HOST PORT: '5' is another port than --port/],
  [["0.0.0.0"], /Cannot ask 0\.0\.0\.0:20001: .*127\.0\.0\.1/],
  [["no.such.invalid"], /Cannot resolve 'no\.such\.invalid'/],
  [["[::1]", "-B", "127.0.0.1"], /Cannot ask \[::1\]:20001 from 127\.0\.0\.1/],
  [["-B", "192.0.2.1"], /Cannot bind 192\.0\.2\.1:0: it is not an address/],
];

programTest("bad input gets one line and exit code 2", async () => {
  const check = (
    program: string,
    args: string[],
    { code, stdout, stderr }: { code: number; stdout: string; stderr: string },
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
  // Four at a time, as each is a process that has little to do.
  for (let i = 0; i < checks.length; i += 4) {
    await Promise.all(checks.slice(i, i + 4).map((run) => run()));
  }
});

programTest("a port in use is named with its address", async () => {
  await using first = await started(["-q"]);
  await using second = server(["-p", `${first.port}`]);
  const { code, stdout, stderr } = await second.ended();
  assertEquals([code, stdout], [2, ""]);
  assertMatch(
    stderr,
    /^server: Cannot bind 127\.0\.0\.1:\d+: the port is in use: [^\n]+\n$/,
  );
});

programTest(
  "without the permission to use the network both say which",
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
  "without Deno's unstable net API both say how to get it",
  async () => {
    // Without deno.json nothing asks for the API; an import map takes over what
    // else that file says, be it the stand-ins or the real packages.
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
  "the linux engine says what it is missing, and auto does without",
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
    assertEquals((await client(args, { permissions })).code, 0);
  },
);

Deno.test("requireDeno() refuses what is too old", () => {
  for (const version of ["2.9.0", "2.10.1", "3.0.0"]) requireDeno(version);
  for (const version of ["1.46.3", "2.8.9"]) {
    assertThrows(() => requireDeno(version), Error, "needs Deno 2.9 or newer");
  }
});

signalTest("Ctrl-C makes the client sum up, and leave", async () => {
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
  assertMatch(stdout, /statistics ---\n\d+ sent, \d+ received.*\nrtt .*\n$/);
});

for (const signal of ["SIGINT", "SIGTERM"] as const) {
  signalTest(
    `${signal} makes the server print its counts, and leave`,
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
  "a second Ctrl-C ends a program that waits for its reader",
  async () => {
    await using s = await started(["--echo"]);
    // More than a pipe holds, and nobody reads it.
    for (let i = 0; i < 4; i++) await client([s.target, "-s", "60000", "-q"]);
    let code: number | undefined;
    s.program.status.then((status) => code = status.code);
    for (let i = 0; code === undefined && i < 500; i++) {
      try {
        s.program.kill("SIGINT");
      } catch {
        break; // It has ended.
      }
      await new Promise((resolve) => setTimeout(resolve, 10));
    }
    assertEquals((await s.program.status).code, 130);
  },
);

programTest(
  "a client whose reader goes away exits by what it measured",
  async () => {
    for (const [answers, code] of [[["a"], 0], [[], 1]] as const) {
      await using p = peer(() => [...answers]);
      const args = [p.target, "-c", "1000", "-i", "10ms", "-W", "20ms"];
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

programTest("a reader that goes away ends the program quietly", async () => {
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
});

programTest(
  "client --all shows every answer, and says how many are missing",
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
      "200ms",
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
      errors: 0,
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
  "client --rate and --window load an echo, and say what came back",
  async () => {
    await using one = await started(["--echo", "--quiet"]);
    const rate = ["--rate", "500", "--count", "100", "--size", "100"];
    const { code, stdout, stderr } = await client([one.target, ...rate]);
    const [head, counts, speed, rtt, error] = stdout.split("\n");
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

programTest("client --rate and --window exit by what came back", async () => {
  await using fixed = await started(["--quiet"]);
  const load = ["--rate", "200", "--count", "10", "-W", "0.1"];
  const foreign = await client([fixed.target, ...load]);
  assertEquals(foreign.code, 1);
  assertMatch(foreign.stderr, /^client: what came back is no echo/m);
  await using lost = peer((seq) => seq % 2 === 0 ? ["x"] : []);
  const half = [lost.target, ...load, "--size", "1"];
  assertEquals((await client(half)).code, 0);
  assertEquals((await client([...half, "--max-loss", "10"])).code, 1);
  for (
    const [args, message] of [
      [["--rate", "0"], "--rate: '0' is too small"],
      [["--rate", "1", "--window", "1"], "--rate and --window exclude"],
      [["--duration", "1"], "--duration needs --rate or --window"],
      [["--window", "1", "-m", "x"], "--window and --message exclude"],
      [["--window", "1", "--stamp"], "--window and --stamp exclude"],
      [["--rate", "1", "--all"], "--rate and --all exclude"],
    ] as Array<[string[], string]>
  ) {
    const { code, stderr } = await client(args);
    assertEquals([code, stderr.includes(message)], [2, true], stderr);
  }
});

programTest("client takes a host and a port as nc does", async () => {
  await using one = await started();
  const { code, stdout } = await client(["127.0.0.1", `${one.port}`]);
  assertEquals([code, stdout], [
    0,
    'Message from Server b"Hello UDP Client"\n',
  ]);
});

signalTest(
  "SIGUSR2 and SIGUSR1 show how things stand, and nothing ends",
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
      // It goes on.
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

programTest("client asks many at once, and compares them", async () => {
  await using one = await started(["--reply", "one"]);
  await using p = peer((seq) => seq % 2 === 0 ? ["two"] : []);
  const silent = await closedPort();
  const args = ["-c", "2", "-i", "10ms", "-W", "300ms"];
  const targets = [silent, p.target, one.target];
  const asked = await client([...targets, "no.such.invalid", ...args]);
  assertEquals(asked.code, 1);
  assertMatch(
    asked.stderr,
    /^client: no\.such\.invalid:20001: Cannot resolve 'no\.such\.invalid'/,
  );
  const lines = asked.stdout.trim().split("\n");
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
  assertMatch(table[0]!, /^ +sent +received +loss +min +median/);
  assertEquals(table.slice(1).map((row) => row.split(/ +/).slice(0, 4)), [
    [one.target, "2", "2", "0%"],
    [p.target, "2", "1", "50%"],
    [silent, "2", "0", "100%"],
    ["no.such.invalid:20001", "Cannot", "resolve", "'no.such.invalid':"],
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
});

programTest("client --size sweeps sizes, and judges each", async () => {
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

programTest("--expect has its kinds, and shows what came instead", async () => {
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
});

programTest("--timestamps begins each line with the time", async () => {
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
  "--report tells intervals, which add up to the summary",
  async () => {
    await using s = await started(["-q", "--report", "100ms"]);
    await using j = server(["-p", "0", "-q", "--json", "--report", "100ms"]);
    const { port } = JSON.parse(await j.line());
    const target = `127.0.0.1:${port}`;
    const args = ["-c", "20", "-i", "10ms", "-q", "--report", "100ms"];
    const text = await client([s.target, ...args]);
    assertMatch(
      text.stdout,
      /^0\.0 to 0\.1 s: \d+ sent, \d+ received, 0% loss, rtt/,
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
    const told = [...loaded.stdout.matchAll(/^\d+ s: \d+ a second sent/gm)];
    assert(told.length >= 3, loaded.stdout);
    j.kill("SIGTERM");
    const counted = (await j.ended()).stdout.trim().split("\n").slice(1)
      .map((line) => JSON.parse(line));
    assertEquals(counted.at(-1).type, "summary");
    assertEquals([add("received", counted), add("replied", counted)], [20, 20]);
  },
);

programTest("--csv - and --plot - show each datagram", async () => {
  await using p = peer((seq) => seq % 4 === 1 ? [] : ["a"]);
  const args = [p.target, "-c", "4", "-i", "5ms", "-W", "100ms", "-q"];
  const rows = (csv: string) =>
    csv.trim().split("\n").filter((line) => line.startsWith("127"))
      .map((line) => line.split(","))
      .map(([run, seq, , rtt]) => [run, seq, rtt !== ""]);
  const shown = await client([...args, "--csv", "-"]);
  const expected = ["0", "1", "2", "3"].map((
    seq,
  ) => [p.target, seq, seq !== "1"]);
  assertEquals(rows(shown.stdout).sort(), expected);
  assertMatch(shown.stdout, /^run,seq,at_ms,rtt_ms$/m);
  const drawn = await client([...args, "--plot", "-"]);
  assertMatch(drawn.stdout, /\u2022/);
  assertMatch(drawn.stdout, /^ +lost  *x/m);
});

programTest("an interval that cannot be kept is told", async () => {
  await using p = peer(() => []);
  const args = [p.target, "-c", "300", "-i", "1ms", "-W", "400ms", "-q"];
  const { code, stderr } = await client(args);
  assertEquals(code, 1);
  assertMatch(
    stderr,
    /^client: --interval was not kept, as 256 datagrams were unanswered \d+ times: it was \d\.\d+ ms in the mean/m,
  );
});

programTest(
  "--plot and --csv write files, which are opened before anything is sent",
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

programTest("what is piped in and not sent is said", async () => {
  await using s = await started(["-q"]);
  const note = "client: stdin is not sent: -m - sends it\n";
  const piped = await client([s.target], { stdin: "hello" });
  assertEquals([piped.code, piped.stderr], [0, note]);
  for (const args of [["-m", "x"], ["--hex", "00"], ["-m", "-"]]) {
    const { stderr } = await client([s.target, ...args], { stdin: "hello" });
    assertEquals(stderr, "", args.join(" "));
  }
});

programTest("client -c 1 shows a series of one, with its time", async () => {
  await using s = await started(["-q"]);
  const asked = await client([s.target, "-c", "1"]);
  const lines = asked.stdout.trim().split("\n");
  assertMatch(lines[0]!, /^Message from Server b"[^"]+" seq=0 time=[\d.]+ ms$/);
  assertMatch(lines[2]!, /^1 sent, 1 received, .* 0% loss/);
  const quiet = await client([s.target, "-c", "1", "-q"]);
  assertEquals(quiet.stdout.split("\n").length, 4);
});

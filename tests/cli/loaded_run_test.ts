/** `client --loaded` and `--find-rate` as their users run them. */
import { assert, assertEquals, assertMatch } from "@std/assert";
import { LOADED_COLUMNS } from "../../lib/cli/show/loaded.ts";
import { RATE_COLUMNS } from "../../lib/cli/runs/loaded.ts";
import {
  client,
  ENGINE,
  Program,
  programTest,
  signalTest,
} from "../helpers.ts";
import {
  ANSWERING,
  ASKING,
  cabled,
  inHost,
  namespaceTest,
} from "../namespaces.ts";
import { peer, started } from "./peers.ts";

programTest(
  "client --loaded: a target that does not answer gets no load",
  async () => {
    const sizes = new Set<number>();
    await using silent = peer((_, data) => {
      sizes.add(data.length);
      return [];
    });
    const { code, stdout, stderr } = await client(
      [
        silent.target,
        "--loaded",
        "--duration",
        "300ms",
        "-W",
        "100ms",
        "-s",
        "64",
      ],
    );
    assertEquals([code, sizes.size], [1, 1]);
    assertMatch(stdout, /latency under load, no load/);
    assertMatch(
      stderr,
      /^client: probes .* for 0\.1 s, then fills the path for 0\.2 s:/,
    );
    assertMatch(stderr, /No reply from .* to 5 datagrams: a closed port,/);
  },
);

programTest(
  "client --loaded: a server that does not echo gets no load",
  async () => {
    await using other = await started(["-q"]);
    const flags = ["--loaded", "--duration", "300ms"];
    const { code, stdout, stderr } = await client([other.target, ...flags]);
    assertEquals(code, 1);
    assertMatch(stdout, /no load/);
    assertMatch(stderr, /the replies are no echoes: --loaded needs a server/);
  },
);

programTest(
  "client --loaded, --find-rate: print the keys of their columns",
  async () => {
    await using server = await started(["--echo", "-q"]);
    const runs = [
      [["--loaded", "--duration", "900ms"], LOADED_COLUMNS],
      [["--find-rate", "--rate", "200", "--duration", "200ms"], RATE_COLUMNS],
    ] as const;
    for (const [flags, columns] of runs) {
      const args = [server.target, ...flags, "-s", "64", "--json"];
      const { stdout } = await client(args);
      const document = JSON.parse(stdout);
      assertEquals(Object.keys(document), ["steps", ...Object.keys(columns)]);
      // More of them on a machine that is not busy.
      assert(document.steps.length > 0);
      for (const { sent, received } of document.steps) {
        assert(received > 0 && received <= sent);
      }
    }
  },
);

programTest(
  "client --loaded, --find-rate: a server that stops answering is named, and exits with 1",
  async () => {
    const runs = [
      ["--loaded", "--duration", "1500ms", "--window", "4"],
      ["--find-rate", "--duration", "100ms", "--rate", "2000"],
    ];
    const ended = [];
    for (const flags of runs) {
      // Answers the idle probes, and a few datagrams of the load.
      await using mortal = peer((seq, data) => seq < 50 ? [data] : []);
      const brief = ["-s", "64", "-W", "100ms"];
      ended.push(await client([mortal.target, ...flags, ...brief]));
    }
    const [loaded, search] = ended;
    assertEquals([loaded!.code, search!.code], [1, 1]);
    assertMatch(loaded!.stdout, /\noutage from .* until the end: /);
    assertMatch(loaded!.stderr, /the server no longer answered at the end/);
    assertMatch(search!.stdout, /the server no longer answers\n$/);
  },
);

programTest(
  "client --loaded: thresholds are of the probes under load",
  async () => {
    await using server = await started(["--echo", "-q"]);
    const flags = ["--loaded", "--duration", "600ms", "--window", "4"];
    const bounds = ["--max-rtt", "min=0", "--max-loss", "0"];
    const { code, stdout, stderr } = await client(
      [server.target, ...flags, ...bounds],
    );
    assertEquals(code, 1);
    assertMatch(stderr, /--max-rtt min=0ms: it is /);
    assertMatch(stdout, /, 4 x 1232 bytes in flight ---\nidle: /);
    assertMatch(stdout, /\nloaded: \d+ sent.*\nload: \d+ sent/);
  },
);

signalTest(
  "client --loaded: the first Ctrl-C ends it with what was found",
  async () => {
    await using server = await started(["--echo"]);
    const args = ["run", "--allow-net", "--allow-ffi", "--allow-read"];
    const flags = [
      "--engine",
      ENGINE,
      "--loaded",
      "--duration",
      "10m",
      "--max-rtt",
      "9",
      "--json",
    ];
    await using asking = new Program(Deno.execPath(), [
      ...[...args, "client.ts", server.target, ...flags],
    ]);
    // The first probe has arrived.
    await server.program.line();
    asking.kill("SIGINT");
    const { code, stdout } = await asking.ended();
    const { idle, loaded, load, isStopped } = JSON.parse(stdout);
    // There is no RTT under load.
    assertEquals([code, loaded, load, isStopped], [1, null, null, true]);
    assert(idle.sent > 0);
  },
);

namespaceTest(
  "client --loaded --stamp: finds the queue, and its direction",
  async () => {
    await using _cable = await cabled();
    // 32 datagrams take a third of a second: much more than any delay of the
    // programs, and few enough for a machine that is busy.
    const queue = "root tbf rate 1mbit burst 5kb latency 2s".split(" ");
    await using shaped = inHost(
      ASKING,
      ...["tc", "qdisc", "add", "dev", "wire0", ...queue],
    );
    assertEquals((await shaped.ended()).code, 0);
    const deno = [Deno.execPath(), "run", "-A"];
    const engine = ["--engine", ENGINE];
    await using server = inHost(ANSWERING, ...deno, "server.ts", ...engine, ...[
      ...["--stamp", "--host", "10.0.0.2", "-p", "7"],
    ]);
    await server.line();
    const flags = ["--loaded", "--stamp", "--duration", "3", "--window", "32"];
    await using asking = inHost(ASKING, ...deno, "client.ts", ...engine, ...[
      ...["10.0.0.2:7", ...flags, "--json"],
    ]);
    const { code, stdout } = await asking.ended();
    assertEquals(code, 0);
    const { rttMs, forwardPdvMs, backwardPdvMs, load } = JSON.parse(stdout);
    const { median } = rttMs.added;
    assert(median > 10, `${median}`);
    // The queue is the way to the server.
    const [there, back] = [
      forwardPdvMs.added.median,
      backwardPdvMs.added.median,
    ];
    assert(there > 10 && there > 4 * back, `${there} ${back}`);
    assert(load.received > 0);
  },
  "tc",
);

/** The client without replies: each mode names the likely reason. */
import { assert, assertEquals, assertMatch } from "@std/assert";
import { closedPort, peer, started } from "./peers.ts";
import {
  client,
  linuxTest,
  Program,
  programTest,
  signalTest,
} from "../helpers.ts";

programTest(
  "client: a run without replies has a reason on stderr, in each mode",
  async () => {
    await using silent = peer(() => []);
    const modes = [
      [],
      ["-c", "2", "-i", "10ms"],
      ["--stamp", "-c", "2", "-i", "10ms"],
      ["--rate", "100", "-c", "2"],
      ["--all"],
    ];
    for (const mode of modes) {
      const args = [silent.target, "-W", "50ms", ...mode];
      const { code, stderr } = await client(args);
      assertEquals(code, 1, mode.join(" "));
      assertMatch(
        stderr,
        /^client: No reply from 127\.0\.0\.1:\d+.*: a closed port, a silent server, a firewall, or loss\n$/,
        mode.join(" "),
      );
    }
    // A size of a sweep may be too large, and JSON has the counts.
    for (const mode of [["-s", "1..2"], ["-c", "2", "--json"]]) {
      const args = [silent.target, "-W", "50ms", ...mode];
      assertEquals((await client(args)).stderr, "", mode.join(" "));
    }
  },
);

linuxTest(
  "client: a run to a closed port names it",
  async () => {
    const target = await closedPort();
    const args = [target, "-W", "50ms", "-c", "2", "-i", "10ms"];
    const { stderr } = await client(args);
    assertMatch(stderr, /^client: No reply .*: closed port\n$/);
  },
);

programTest("client --all: names the HOSTs without a reply", async () => {
  await using s = await started(["-q"]);
  await using silent = peer(() => []);
  const args = ["--all", s.target, silent.target, "-W", "300ms"];
  const { code, stderr, stdout } = await client(args);
  assertEquals([code, stderr], [
    0,
    `client: No reply from ${silent.target}\n`,
  ]);
  assertMatch(stdout, /\n2 sent, 1 received/);
  const json = await client([...args, "--json"]);
  assertEquals(json.stderr, "");
  assertEquals(JSON.parse(json.stdout).unanswered, [silent.target]);
});

signalTest(
  "client: a wait on a terminal reports each retransmission, and the stdin that it reads",
  async () => {
    await using silent = peer(() => []);
    const run = async (...args: string[]) => {
      const command = ["-u", "tests/peers/prompt.py", Deno.execPath(), "run"]
        .concat("--allow-net", "client.ts", silent.target, ...args);
      await using program = new Program("python3", command);
      return (await program.ended()).stdout;
    };
    const waited = await run("-W", "800ms", "--retries", "1");
    assertMatch(waited, /^client: no reply from .* yet, retransmissions: 1\n/);
    // The wait for stdin would not end by itself: a question ends the program.
    const read = await run("-m", "-", "-W", "1ms");
    assert(read.includes("--message - reads stdin"), read);
  },
  ["python3"],
);

signalTest(
  "client: Ctrl-C ends the wait for one reply with its line",
  async () => {
    const { promise: asked, resolve } = Promise.withResolvers<void>();
    await using silent = peer(() => {
      resolve();
      return [];
    });
    const args = ["run", "--allow-net", "client.ts", silent.target, "-W", "60"];
    await using c = new Program(Deno.execPath(), args);
    await asked;
    c.kill("SIGINT");
    const { code, stdout, stderr } = await c.ended();
    assertEquals([code, stdout], [1, ""]);
    assertEquals(
      stderr,
      `client: No reply from ${silent.target} before the end of the run\n`,
    );
  },
);

/** The server program. */
import { assert, assertEquals, assertMatch } from "@std/assert";
import config from "../../deno.json" with { type: "json" };
import { started, WALL_TIME_REGEXP } from "./peers.ts";
import { client, ENGINE, programTest, server, signalTest } from "../helpers.ts";

programTest(
  "server, client: print the lines of the seed, and nothing else",
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

programTest(
  "server --reply, --echo: answer with the text, or the payload",
  async () => {
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
  },
);

programTest(
  "server --host: binds IPv6, and prints the address in brackets",
  async () => {
    await using s = server(["--host", "::1", "-p", "0", "-q"]);
    const line = await s.line();
    const [, target] = /listening on (\[::1\]:\d+)( \(linux engine\))?$/.exec(
      line,
    )!;
    assertEquals((await client([target!])).code, 0);
  },
);

programTest(
  "server --json: prints an object a line, the counts last",
  async () => {
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
      eventsDropped: 0,
    });
    assertEquals([code, stderr], [0, ""]);
  },
);

programTest(
  "server, client: --help shows the flags, --version the version",
  async () => {
    await using s = server(["--help"]);
    const { code, stdout, stderr } = await s.ended();
    assertEquals([code, stderr], [0, ""]);
    assertMatch(stdout, /--max|--host HOST .*127\.0\.0\.1/);
    const help = await client(["-h"]);
    assertEquals([help.code, help.stderr], [0, ""]);
    assertMatch(help.stdout, /-W, --timeout TIME/);
    await using version = server(["-V"]);
    assertEquals(
      (await version.ended()).stdout,
      `roundtrip ${config.version}\n`,
    );
    assertEquals(
      (await client(["--version"])).stdout,
      `roundtrip ${config.version}\n`,
    );
  },
);

programTest(
  "server --max-amplification: refuses larger answers, reported once a second",
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
  "server --rate-limit: limits answers a second, reported at the start",
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
    const args = [target, "-c", "5", "-i", "0", "-W", "0.5", "--retries", "0"];
    const { received } = JSON.parse((await client([...args, "--json"])).stdout);
    assert(received >= 1 && received < 5);
  },
);

signalTest(
  "server --json: counts the objects that a slow reader leaves out",
  async () => {
    for (const more of ENGINE === "linux" ? [[], ["--workers", "2"]] : [[]]) {
      await using s = await started(["--echo", "--json", ...more]);
      const load = ["--window", "32", "-c", "4000", "-s", "1400", "-q"];
      assertEquals((await client([s.target, ...load])).code, 0);
      s.program.kill("SIGTERM");
      // Stdout is read from here on.
      const { stdout, stderr } = await s.program.ended();
      const [, ...objects] = stdout.trim().split("\n").map((line) =>
        JSON.parse(line)
      );
      const { received, eventsDropped } = objects.at(-1);
      assertEquals(objects.length - 1 + eventsDropped, received);
      assert(eventsDropped > 0, "the reader was not too slow");
      assertMatch(stderr, /lines left out: stdout is read too slowly/);
    }
  },
);

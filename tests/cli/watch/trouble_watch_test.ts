/** `client --watch` on a machine in trouble. */
import { assertEquals, assertMatch, assertStringIncludes } from "@std/assert";
import { Program, signalTest, tempFolder } from "../../helpers.ts";
import { ASKING, cabled, inHost, namespaceTest } from "../../namespaces.ts";

const DENO = [Deno.execPath(), "run", "--no-prompt", "--allow-net"];

/** The command of a watch by a shell, which runs a script first; it has one output. */
function commandOf(
  folder: string,
  script: string,
  file: object,
  ...args: string[]
): string[] {
  const path = `${folder}/watch.json`;
  const command = [...DENO, "--allow-read", "--allow-write", "client.ts"];
  return [
    ...[
      "sh",
      "-ec",
      `printf %s "$1" >"$2"; shift 2; ${script || ":"}; exec "$@" 2>&1`,
    ],
    ...["sh", JSON.stringify(file), path, ...command],
    ...["--watch", path, "--json-stream", ...args],
  ];
}

const TARGET = { name: "a", address: "127.0.0.1:9", interval: "1s" };

namespaceTest(
  "client --watch: SIGTERM ends it while a name server is silent",
  async () => {
    await using _hosts = await cabled();
    await using folder = await tempFolder();
    await using names = inHost(
      ASKING,
      ...[Deno.execPath(), "eval", "--unstable-net"],
      `const socket = Deno.listenDatagram({
        transport: "udp", hostname: "127.0.0.1", port: 53 });
      console.log("ready");
      for await (const _ of socket) console.log("asked");`,
    );
    assertEquals(await names.line(), "ready");
    const file = `${folder.path}/resolv.conf`;
    const [shell, ...args] = commandOf(
      folder.path,
      `echo "nameserver 127.0.0.1\noptions timeout:30 attempts:5" >${file};
      mount --bind ${file} /etc/resolv.conf`,
      { targets: [{ ...TARGET, address: "server.example:7", hold: "0" }] },
    );
    await using program = inHost(ASKING, shell!, ...args);
    assertMatch(await program.line(), /"watching"/);
    assertEquals(await names.line(), "asked");
    program.kill("SIGTERM");
    // The end of the look-up, minutes later, would be an outage.
    const { code, stdout } = await program.ended();
    assertEquals([code, stdout.split("\n").length], [0, 2], stdout);
  },
);

signalTest(
  "client --watch: reports a history file that was removed, once",
  async () => {
    await using folder = await tempFolder();
    const history = `${folder.path}/history.db`;
    const [shell, ...args] = commandOf(
      folder.path,
      "",
      { listen: "127.0.0.1:0", targets: [TARGET] },
      ...["--history", history],
    );
    await using program = new Program(shell!, args);
    assertMatch(await program.line(), /"watching"/);
    await new Deno.Command("rm", { args: [history] }).output();
    const report = await program.line();
    assertStringIncludes(
      report,
      `--history ${history}: it was removed or replaced`,
    );
  },
);

signalTest(
  "client --watch: serves again, on the same port, after too many open files",
  async () => {
    await using folder = await tempFolder();
    const [shell, ...args] = commandOf(
      folder.path,
      "ulimit -n 64",
      { listen: "127.0.0.1:0", targets: [{ ...TARGET, hold: "30s" }] },
    );
    await using program = new Program(shell!, args);
    const { url } = JSON.parse(await program.line());
    const { hostname, port: text } = new URL(url);
    const port = Number(text);
    const connections = await Promise.allSettled(
      Array.from({ length: 100 }, () => Deno.connect({ hostname, port })),
    );
    assertMatch(
      await program.line(),
      /^client: http:.*: Too many open files .*; it is served again$/,
    );
    for (const one of connections) {
      if (one.status === "fulfilled") one.value.close();
    }
    let isDown = false;
    program.line().then(() => isDown = true, () => {});
    // Refused until it serves, at the latest when its target is down.
    const metrics = async (): Promise<string> => {
      const isLast = isDown;
      try {
        return await (await fetch(`${url}metrics`)).text();
      } catch (error) {
        if (isLast) throw error;
        return await metrics();
      }
    };
    assertStringIncludes(await metrics(), 'target="a"');
    program.kill("SIGTERM");
    const { code } = await program.ended();
    assertEquals(code, 0);
  },
);

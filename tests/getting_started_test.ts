/**
 * The commands of README.md in their order, and the packed library and the
 * installed programs, outside the checkout.
 */
import { assert, assertEquals } from "@std/assert";
import { Program, readTest, ROOT, signalTest, tempFolder } from "./helpers.ts";
import { ASKING as HOST, inHost, ip, namespaceTest } from "./namespaces.ts";

/** The output of a shell script, which may write files as the tests may not. */
async function shell(script: string): Promise<string> {
  await using program = new Program("sh", ["-ec", script], {
    env: { NO_COLOR: "1", DENO: Deno.execPath() },
  });
  const { code, stdout, stderr } = await program.ended();
  if (code !== 0) throw new Error(`${script}: ${stdout}${stderr}`);
  return stdout;
}

/** A program of a project's own, and its output. */
const MAIN = `
import { request, serve, type UdpReply } from "@roundtrip/udp";
import { STAMP_PORT } from "@roundtrip/udp/stamp";
import { SimulatedNetwork } from "@roundtrip/udp/testing";
import { isLoopback } from "@roundtrip/udp/address";
import { bytesLiteral } from "@roundtrip/udp/encoding";
await using server = serve({}, () => "pong");
const reply: UdpReply = await request(server.addr, "ping");
console.log(reply.text(), bytesLiteral(reply.data), STAMP_PORT);
console.log(isLoopback(server.addr.hostname), new SimulatedNetwork().now);`;
const OUTPUT = 'pong b"pong" 862\ntrue 0\n';

const tasks = async (): Promise<Record<string, { command: string }>> =>
  JSON.parse(await Deno.readTextFile(new URL("deno.json", ROOT))).tasks;

signalTest(
  "docs/library.md: links in deno.json make the library work in another project, offline",
  async () => {
    const page = await Deno.readTextFile(new URL("docs/library.md", ROOT));
    const [, json] = /^ *```json\n([^`]*"links"[^`]*)```/m.exec(page)!;
    const config = json!.replace("../roundtrip", ROOT.pathname.slice(0, -1));
    const lines = await shell(`
    folder=$(mktemp -d); trap 'rm -rf "$folder"' EXIT
    cd "$folder"
    cat > deno.json <<'END'
${config}
END
    cat > main.ts <<'END'
${MAIN}
END
    export HTTPS_PROXY=http://127.0.0.1:9 HTTP_PROXY=http://127.0.0.1:9
    $DENO run --check --quiet --allow-net main.ts 2>&1`);
    assertEquals(lines, OUTPUT);
  },
);

signalTest(
  "deno task pack: works in another project without a warning, and in Node names Deno",
  async () => {
    const pack = (await tasks()).pack!.command
      .replace("deno", "$DENO").replace(
        "roundtrip-udp",
        "$folder/roundtrip-udp",
      );
    const lines = await shell(`
    folder=$(mktemp -d); trap 'rm -rf "$folder"' EXIT
    ${pack} 2>&1
    cd "$folder"
    echo '{ "unstable": ["net"] }' > deno.json
    npm install --offline --no-audit --no-fund ./roundtrip-udp.tgz >/dev/null 2>&1
    cat > main.ts <<'END'
${MAIN}
END
    $DENO run --check --quiet --allow-net main.ts 2>&1
    for door in udp udp/stamp udp/testing; do
      node --input-type=module -e "await import('@roundtrip/$door')" 2>&1 |
        grep -o "Error: [^]]*" || true
    done
    node --input-type=module -e "await import('@roundtrip/udp/address')"`);
    const needed =
      "Error: roundtrip needs Deno 2.9 or newer: https://deno.com\n";
    assertEquals(lines, OUTPUT + needed.repeat(3));
  },
  ["npm", "node"],
);

signalTest(
  "deno task install: the programs run from any folder, and name themselves",
  async () => {
    const install = (await tasks()).install!.command.replace("deno", "$DENO");
    const lines = await shell(`
    folder=$(mktemp -d); trap 'rm -rf "$folder"' EXIT
    export DENO_INSTALL_ROOT="$folder" PATH="$(dirname "$DENO"):$PATH"
    ${install} 2>&1 | grep -e use: -e undo
    cd /
    "$folder/bin/roundtrip-server" --port 0 --count 1 > "$folder/out" 2>&1 &
    trap 'kill $! 2>/dev/null || true; rm -rf "$folder"' EXIT
    for try in $(seq 100); do
      if grep -q listening "$folder/out"; then break; fi
      sleep 0.1
    done
    "$folder/bin/roundtrip-client" "$(sed 's/.* //;q' "$folder/out")" 2>&1
    "$folder/bin/roundtrip-client" --help | grep Usage
    "$folder/bin/roundtrip-server" --engine linux 2>&1 | grep -o "run '.*" || true
    deno uninstall -q -g roundtrip-server roundtrip-client
    test ! -e "$folder/bin/roundtrip-client"`);
    const [use, undo, reply, usage, remedy] = lines.split("\n");
    assertEquals(
      use,
      "They may use: --allow-net --allow-env=TERM --allow-sys=networkInterfaces",
    );
    assertEquals(
      undo,
      "To undo it: deno uninstall -g roundtrip-server roundtrip-client",
    );
    assertEquals(reply, 'Message from Server b"Hello UDP Client"');
    assertEquals(
      usage,
      "Usage: roundtrip-client [flags] [HOST[:PORT]… | HOST PORT]",
    );
    if (Deno.build.os === "linux") {
      const way = "run 'deno task install --allow-ffi' in the clone";
      assertEquals(remedy, way);
    }
  },
  [new URL("lib/std/import_map.json", ROOT).pathname],
);

const readme = () => Deno.readTextFile(new URL("README.md", ROOT));

readTest("README.md: has at most 200 lines", async () => {
  assert((await readme()).split("\n").length <= 201);
});

/** The code blocks of README.md in their order, as scripts and file contents. */
async function blocks(): Promise<Array<{ file?: string; lines: string[] }>> {
  const found = (await readme()).matchAll(
    /(?:<!-- (\S+) -->\n\n)?^```(sh|console|ts)\b.*\n([^]*?)\n```$/gm,
  );
  return [...found].map(([, file, kind, text]) => {
    const lines = text!.split("\n");
    if (kind === "ts") return { file: file!, lines };
    return { lines: kind === "sh" ? lines.map((line) => `$ ${line}`) : lines };
  });
}

/** A block's commands, each with the output that the page shows. */
function commandsOf(
  lines: string[],
): Array<{ command: string; shown: string[] }> {
  const commands: Array<{ command: string; shown: string[] }> = [];
  for (const line of lines) {
    if (line.startsWith("$ ")) {
      commands.push({ command: line.slice(2), shown: [] });
    } else commands.at(-1)!.shown.push(line);
  }
  return commands;
}

/**
 * Compares an output with the page's, but for numbers, the order of replies, and
 * lines that "…" omits.
 */
function assertShown(command: string, output: string, shown: string[]): void {
  const isOpen = shown.at(-1) === "…";
  const expected = isOpen ? shown.slice(0, -1) : shown;
  const lines = output.split("\n").filter((line) => !line.startsWith("Task "));
  const masked = (lines: string[]) =>
    lines.map((line) =>
      line.replaceAll(/\d+(\.\d+)?/g, "N").replaceAll(/ +/g, " ")
        .replace(", N skipped", "")
    ).sort();
  const compared = lines.slice(0, isOpen ? expected.length : -1);
  assertEquals(masked(compared), masked(expected), command);
}

namespaceTest("README.md: its commands run in their order", async () => {
  await using clone = await tempFolder();
  // Without npm's registry, `npx deno` is this Deno; this test is in `task test`.
  await shell(`
    mkdir "${clone.path}/bin"
    cp -r deno.json server.ts client.ts lib tests "${clone.path}"
    echo '[ "$4" = test ] || exec deno task "$4"' > "${clone.path}/bin/npx"
    chmod +x "${clone.path}/bin/npx"`);
  const run = (script: string) => {
    const path = `${clone.path}/bin:$(dirname "${Deno.execPath()}"):$PATH`;
    const setting = `cd "${clone.path}"; export PATH="${path}"`;
    return inHost(HOST, "sh", "-c", `${setting}\n${script}`);
  };
  await ip("netns", "add", HOST);
  let servers: Array<{ program: Program; shown: string[] }> = [];
  /** Ends all servers, as Ctrl-C does, and gives the last one's closing line. */
  const end = async () => {
    // A signal to `deno task` may reach its program twice.
    await shell(`for pid in $(ip netns pids ${HOST}); do
      if grep -q "serv.*[.]ts" /proc/$pid/cmdline; then kill -INT $pid; fi
    done`);
    let closing = "";
    for (const { program, shown } of servers) {
      const { stdout, stderr } = await program.ended();
      assertShown("server", stdout, shown.length > 1 ? shown : [...shown, "…"]);
      closing = stderr.trim().split("\n").at(-1)!;
    }
    servers = [];
    return closing;
  };
  try {
    await ip("-n", HOST, "link", "set", "lo", "up");
    // The address of the other machine is one of this machine.
    await ip("-n", HOST, "addr", "add", "192.0.2.7/32", "dev", "lo");
    let count = 0;
    for (const { file, lines } of await blocks()) {
      if (file !== undefined) {
        await shell(
          `cat > "${clone.path}/${file}" <<'END'\n${lines.join("\n")}\nEND`,
        );
        continue;
      }
      const commands = commandsOf(lines);
      count += commands.length;
      const [{ command, shown }] = commands as [typeof commands[0]];
      if (/task server|service\.ts/.test(command)) {
        if (command.includes("--host")) {
          const counts = `counts: \`${await end()}\``;
          assert((await readme()).includes(counts), counts);
        }
        const program = run(`exec ${command}`);
        servers.push({ program, shown });
        if (shown.length > 0) assertEquals(await program.line(), shown[0]);
        continue;
      }
      // `echo $?` prints the exit code of the command before it.
      const script = commands.map(({ command }) =>
        `(exit $code)\n${command}\ncode=$?\necho "<end>"`
      );
      const { stdout } = await run(`exec 2>&1\n${script.join("\n")}`).ended();
      const outputs = stdout.split("<end>\n");
      for (const [i, { command, shown }] of commands.entries()) {
        if (!command.startsWith("npx")) {
          assertShown(command, outputs[i]!, shown);
        } else if (command.includes("demo")) {
          assert(
            outputs[i]!.includes("client | Message from Server"),
            outputs[i],
          );
        }
      }
    }
    assert(count > 10, `${count} commands found`);
    await end();
  } finally {
    await shell(`ip netns pids ${HOST} | xargs -r kill -KILL || true`);
    for (const { program } of servers) await program.ended();
    await ip("netns", "del", HOST);
  }
});

/** The packed library and the installed programs, outside the checkout. */
import { assertEquals } from "@std/assert";
import { Program, ROOT, signalTest } from "./helpers.ts";

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
  "README.md: links in deno.json make the library work in another project, offline",
  async () => {
    const readme = await Deno.readTextFile(new URL("README.md", ROOT));
    const [, json] = /^ *```json\n([^`]*"links"[^`]*)```/m.exec(readme)!;
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

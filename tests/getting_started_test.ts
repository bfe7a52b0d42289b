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

signalTest(
  "deno task pack: the package works in another project, without a warning",
  async () => {
    const lines = await shell(`
    folder=$(mktemp -d); trap 'rm -rf "$folder"' EXIT
    $DENO pack -q --allow-dirty -o "$folder/roundtrip-udp.tgz" 2>/dev/null >&2
    cd "$folder"
    echo '{ "unstable": ["net"] }' > deno.json
    npm install --offline --no-audit --no-fund ./roundtrip-udp.tgz >/dev/null 2>&1
    cat > main.ts <<'END'
import { request, serve, type UdpReply } from "@roundtrip/udp";
import { STAMP_PORT } from "@roundtrip/udp/stamp";
import { SimulatedNetwork } from "@roundtrip/udp/testing";
import { isLoopback } from "@roundtrip/udp/address";
import { bytesLiteral } from "@roundtrip/udp/encoding";
await using server = serve({}, () => "pong");
const reply: UdpReply = await request(server.addr, "ping");
console.log(reply.text(), bytesLiteral(reply.data), STAMP_PORT);
console.log(isLoopback(server.addr.hostname), new SimulatedNetwork().now);
END
    $DENO run --check --quiet --allow-net main.ts 2>&1`);
    assertEquals(lines, 'pong b"pong" 862\ntrue 0\n');
  },
  ["npm"],
);

signalTest("deno task install: the programs run from any folder", async () => {
  const tasks = JSON.parse(
    await Deno.readTextFile(new URL("deno.json", ROOT)),
  ).tasks;
  const lines = await shell(`
    folder=$(mktemp -d); trap 'rm -rf "$folder"' EXIT
    export DENO_INSTALL_ROOT="$folder" PATH="$(dirname "$DENO"):$PATH"
    ( ${tasks.install.command} ) >/dev/null 2>&1
    cd /
    "$folder/bin/roundtrip-server" --port 0 --count 1 > "$folder/out" 2>&1 &
    trap 'kill $! 2>/dev/null || true; rm -rf "$folder"' EXIT
    for try in $(seq 100); do
      if grep -q listening "$folder/out"; then break; fi
      sleep 0.1
    done
    "$folder/bin/roundtrip-client" "$(sed 's/.* //;q' "$folder/out")" 2>&1`);
  assertEquals(lines, 'Message from Server b"Hello UDP Client"\n');
}, [new URL("lib/std/import_map.json", ROOT).pathname]);

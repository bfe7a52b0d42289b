/** docs/operations.md's example of several servers behind nginx. */
import { assert, assertEquals } from "@std/assert";
import {
  client,
  portOf,
  Program,
  programTest,
  ROOT,
  server,
} from "../helpers.ts";

const MODULE = "/usr/lib/nginx/modules/ngx_stream_module.so";

programTest(
  "nginx: distributes clients over servers, each to one",
  async () => {
    await using one = server(["-p", "0", "-q", "-r", "one"]);
    await using two = server(["-p", "0", "-q", "-r", "two"]);
    await using reflector = server(["-p", "0", "-q", "--stamp"]);
    const ports = [
      await portOf(one),
      await portOf(two),
      await portOf(reflector),
    ];
    // A port that was free a moment ago.
    await using free = server(["-p", "0", "-q"]);
    const front = await portOf(free);
    free.kill("SIGKILL");
    await free.status;

    const ask = (args: string[]) =>
      client([`127.0.0.1:${front}`, ...args, "--json"]);
    {
      await using _nginx = await startNginx(front, ports.slice(0, 2));
      const { stdout, code } = await ask(["-c", "40", "-i", "0", "-W", "5"]);
      assertEquals(code, 0);
      const { received, foreign, replies } = JSON.parse(stdout);
      assertEquals([received, foreign], [40, 0]);
      const texts = replies.map(({ text }: { text: string }) => text);
      assert(texts.includes("one") && texts.includes("two"));
    }
    {
      await using _nginx = await startNginx(front, ports.slice(2));
      const { stdout } = await ask(["--stamp", "-c", "5", "-i", "5ms"]);
      const { received, reordered } = JSON.parse(stdout);
      assertEquals([received, reordered], [5, 0]);
    }
  },
  ["nginx", MODULE],
);

/** nginx as in docs/operations.md, except for the ports, when it is ready. */
async function startNginx(
  front: number,
  ports: number[],
): Promise<AsyncDisposable> {
  const page = await Deno.readTextFile(new URL("docs/operations.md", ROOT));
  const example = page.split("```nginx\n")[1]!.split("```")[0]!;
  const servers = ports.map((port) => `server 127.0.0.1:${port};`).join(" ");
  const config =
    `load_module ${MODULE};\ndaemon off;\nmaster_process off;\npid /dev/null;\n` +
    example.replace(/(server [\d.]+:\d+;\s*)+/, servers)
      .replace(/listen .*udp;/, `listen 127.0.0.1:${front} udp;`)
      .replace("stream {", "events {}\nstream {");
  // nginx reads a file only: the shell writes one, since the tests may not.
  const script = 'f=$(mktemp); printf %s "$1" > "$f"; ' +
    'nginx -e stderr -t -c "$f" && echo "$f"; exec nginx -e stderr -c "$f"';
  const program = new Program("sh", ["-c", script, "sh", config]);
  const file = await program.line();
  return {
    async [Symbol.asyncDispose]() {
      await program[Symbol.asyncDispose]();
      await new Deno.Command("rm", { args: [file] }).output();
    },
  };
}

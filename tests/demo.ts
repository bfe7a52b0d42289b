/**
 * `deno task demo`: starts the server, runs the client against it, and shows
 * the output of both.
 */
// deno-lint-ignore-file no-console -- it is a program
import { TextLineStream } from "./cli/text_lines.ts";

const server = start("server.ts", ["--port", "0", "--count", "1"]);
const lines = server.stdout.pipeThrough(new TextLineStream());
let client: Deno.ChildProcess | undefined;
for await (const line of lines) {
  console.log(`server | ${line}`);
  if (client !== undefined) continue;
  // The first line ends with the server's address.
  client = start("client.ts", [line.split(" ").at(-1)!]);
}
for await (
  const line of client?.stdout.pipeThrough(new TextLineStream()) ?? []
) {
  console.log(`client | ${line}`);
}
const codes = [(await server.status).code, (await client?.status)?.code ?? 2];
Deno.exit(Math.max(...codes));

function start(program: string, args: string[]): Deno.ChildProcess {
  console.log(`       $ deno run --allow-net ${program} ${args.join(" ")}`);
  const script = new URL(`../${program}`, import.meta.url).href;
  return new Deno.Command(Deno.execPath(), {
    args: ["run", "--allow-net", script, ...args],
    stdin: "null",
    stdout: "piped",
    stderr: "inherit",
  }).spawn();
}

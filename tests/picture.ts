/**
 * `deno task picture`: runs the server and the client, and draws their output
 * as docs/terminal.svg.
 */
import { TextLineStream } from "./cli/text_lines.ts";

const lines: string[] = [];

const server = start("server.ts", ["--count", "4"]);
const output = server.stdout.pipeThrough(new TextLineStream()).getReader();
show("$ deno task server");
show((await output.read()).value!);
for (
  const args of [[], ["--count", "3", "--interval", "200ms"]]
) {
  const { stdout } = await start("client.ts", args).output();
  show("", ["$ deno task client", ...args].join(" "));
  show(...new TextDecoder().decode(stdout).trim().split("\n"));
}
await output.cancel();
await server.status;
await Deno.writeTextFile(
  new URL("../docs/terminal.svg", import.meta.url),
  svg(lines),
);

function start(program: string, args: string[]): Deno.ChildProcess {
  const script = new URL(`../${program}`, import.meta.url).href;
  return new Deno.Command(Deno.execPath(), {
    args: ["run", "--allow-net", script, ...args],
    stdin: "null",
    stdout: "piped",
    stderr: "null",
  }).spawn();
}

function show(...more: string[]): void {
  lines.push(...more);
}

function svg(lines: string[]): string {
  const width = 40 + Math.max(...lines.map(({ length }) => length)) * 8;
  const height = 40 + lines.length * 20;
  const texts = lines.map((line, i) => {
    const style = line.startsWith("$") ? ' fill="#7ee787"' : "";
    const escaped = line.replaceAll("&", "&amp;").replaceAll("<", "&lt;");
    return `  <text x="20" y="${36 + i * 20}"${style}>${escaped}</text>\n`;
  });
  return `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${width} ${height}" ` +
    `width="${width}" height="${height}" role="img" ` +
    `aria-label="The server and the client in a terminal">\n` +
    `<rect width="100%" height="100%" rx="8" fill="#0d1117"/>\n` +
    `<g font-family="ui-monospace, monospace" font-size="13" fill="#e6edf3" ` +
    `xml:space="preserve">\n${texts.join("")}</g>\n</svg>\n`;
}

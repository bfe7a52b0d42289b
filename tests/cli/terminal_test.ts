/** The client program on a terminal, and without one. */
import { assert, assertEquals } from "@std/assert";
import { started } from "./peers.ts";
import { Program, signalTest } from "../helpers.ts";

/** The output of the client on a terminal of 44 columns. */
async function onTerminal(env: Record<string, string>, args: string[]) {
  const client = [Deno.execPath(), "run", "-A", "client.ts", ...args];
  const command = `stty cols 44; exec ${client.join(" ")}`;
  const script = ["-qec", command, "/dev/null"];
  await using program = new Program("script", script, { env });
  const { code, stdout } = await program.ended();
  return { code, stdout, lines: stdout.replaceAll("\r", "").split("\n") };
}

signalTest(
  "client: intervals and closing lines have the width of the terminal, and JSON has any",
  async () => {
    await using server = await started(["--stamp"]);
    const args = ["--stamp", server.target, "-c", "3", "-i", "1ms"];
    args.push("--quiet", "--report", "1m");
    const env = { TERM: "dumb" };
    const { code, stdout, lines } = await onTerminal(env, args);
    assertEquals(code, 0, stdout);
    for (const head of ["0.0 to 0.", "ms (exact)"]) {
      assert(lines.some((line) => line.startsWith(head)), stdout);
    }
    for (const line of lines) assert(line.length <= 44, line);
    const json = await onTerminal(env, [...args, "--json"]);
    assertEquals(JSON.parse(json.lines[0]!).received, 3);
  },
  ["script"],
);

signalTest(
  "client: warns about stdin that is not sent, on a terminal",
  async () => {
    await using server = await started(["-q"]);
    const client = `${Deno.execPath()} run -A client.ts ${server.target}`;
    const linesOf = async (command: string) => {
      const script = ["-qec", command, "/dev/null"];
      await using program = new Program("script", script);
      return (await program.ended()).stdout.replaceAll("\r", "");
    };
    const reply = 'Message from Server b"Hello UDP Client"\n';
    const warning = "client: stdin is not sent: -m - sends it\n";
    assertEquals(await linesOf(`echo x | ${client}`), reply + warning);
    assertEquals(await linesOf(client), reply);
    for (const args of ["-m x", "--hex 00", "-m -", "2>/dev/null"]) {
      assertEquals(await linesOf(`echo x | ${client} ${args}`), reply, args);
    }
  },
  ["script"],
);

signalTest(
  "client: a status line where the terminal can erase it, not where TERM is dumb",
  async () => {
    await using server = await started(["-q"]);
    // Longer than the half second until the first status.
    const args = [server.target, "-c", "0", "-i", "50ms", "-w", "1.5", "-q"];
    const erases = async (TERM: string) =>
      (await onTerminal({ TERM }, args)).stdout.includes("\x1b[K");
    assertEquals(await erases("xterm"), true);
    assertEquals(await erases("dumb"), false);
  },
  ["script"],
);

signalTest(
  "client: no colours with NO_COLOR or TERM=dumb, nor a need for HOME",
  async () => {
    const colors = async (env: Record<string, string>) =>
      (await onTerminal(env, ["--nope"])).stdout.includes("\x1b[31m");
    assertEquals(await colors({ TERM: "xterm" }), true);
    assertEquals(await colors({ TERM: "xterm", NO_COLOR: "1" }), false);
    assertEquals(await colors({ TERM: "dumb" }), false);
    const bare = ["-u", "HOME", "-u", "TERM", Deno.execPath()];
    const help = ["run", "--no-prompt", "client.ts", "--help"];
    await using program = new Program("env", [...bare, ...help]);
    const { code, stdout } = await program.ended();
    assertEquals([code, stdout.split("\n")[0]], [
      0,
      "Sends UDP datagrams and shows the replies.",
    ]);
  },
  ["script"],
);

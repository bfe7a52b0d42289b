/** Tests of servers that may use a part of the network only, with one engine. */
import { assertEquals } from "@std/assert";
import { client, ENGINE, portOf, server, signalTest } from "../helpers.ts";

const FFI = ENGINE === "linux" ? ["--allow-ffi"] : [];
/** A Linux machine has all of 127.0.0.0/8. */
const needs = ["/proc/version"];

/** Serves clients from 127.0.0.1 and .2; gives their exit codes, and stderr. */
async function serveBoth(
  grant: (address: string) => string[],
): Promise<[codes: number[], stderr: string]> {
  // The port is needed for the grant.
  await using first = server(["-p", "0"]);
  const port = await portOf(first);
  first.kill("SIGINT");
  await first.ended();
  const permissions = [...grant(`127.0.0.1:${port}`), "--no-prompt", ...FFI];
  await using program = server(["-p", `${port}`, "-q"], permissions);
  await program.line();
  const codes = [];
  for (const local of ["127.0.0.1", "127.0.0.2"]) {
    const args = [`127.0.0.1:${port}`, "--bind", local];
    const limits = ["--retries", "0", "-W", "1s"];
    codes.push((await client([...args, ...limits])).code);
  }
  program.kill("SIGINT");
  const { stderr } = await program.ended();
  return [codes, stderr.replaceAll(/:\d+/g, ":PORT")];
}

const NOTE = "server: replies go only to peers that --allow-net grants: " +
  "a client has any port, so grant its address without one, or everything\n";

signalTest(
  "server: replies to peers that are granted, and names the remedy for others",
  async () => {
    const refused = (host: string) =>
      `server: ${host}:PORT: Requires net access to "${host}:PORT", run again ` +
      `with --allow-net, or with --allow-net=${host} for all of its ports\n`;
    const [codes, stderr] = await serveBoth(
      (address) => [`--allow-net=${address}`],
    );
    assertEquals(codes, [1, 1]);
    const lines = stderr.split("\n").slice(0, 2).join("\n") + "\n";
    assertEquals(lines, NOTE + refused("127.0.0.1"));
    assertEquals(
      await serveBoth((address) => [`--allow-net=${address},127.0.0.2`]),
      [
        [1, 0],
        NOTE + refused("127.0.0.1") + "2 received, 1 replied, 1 send errors\n",
      ],
    );
  },
  needs,
);

signalTest(
  "server: does not reply to peers that --deny-net forbids",
  async () => {
    const [codes, stderr] = await serveBoth(
      () => ["--allow-net", "--deny-net=127.0.0.2"],
    );
    assertEquals(codes, [0, 1]);
    const [line, counts] = stderr.split("\n");
    assertEquals(
      line?.split(", run again")[0],
      'server: 127.0.0.2:PORT: Requires net access to "127.0.0.2:PORT"',
    );
    assertEquals(counts, "2 received, 1 replied, 1 send errors");
  },
  needs,
);

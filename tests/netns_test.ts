/**
 * What needs more hosts than one: two network namespaces and a cable between
 * them, where the tests may make them (root on Linux, with `ip`).
 */
import { assertEquals } from "@std/assert";
import { ENGINE, Program, programTest } from "./helpers.ts";

const HOSTS = ["a", "b"].map((name) => `roundtrip-${Deno.pid}-${name}`);
const [ASKING, ANSWERING] = HOSTS as [string, string];

async function ip(...args: string[]): Promise<string> {
  const { success, stdout, stderr } = await new Deno.Command("ip", { args })
    .output();
  if (!success) throw new Error(new TextDecoder().decode(stderr));
  return new TextDecoder().decode(stdout);
}

/** Why there are no namespaces to be had; undefined if there are. */
async function missing(): Promise<string | undefined> {
  const { state } = await Deno.permissions.query({ name: "run" });
  if (ENGINE !== "linux" || state !== "granted") return "--engine linux";
  try {
    await ip("netns", "add", ASKING);
    await ip("netns", "del", ASKING);
  } catch {
    return "ip, and root";
  }
}

/** Both hosts, with a cable between `wire0` and `wire1`, 10.0.0.1 and .2. */
async function cabled(): Promise<AsyncDisposable> {
  for (const host of HOSTS) await ip("netns", "add", host);
  const [a, b] = HOSTS as [string, string];
  await ip(
    ...["link", "add", "wire0", "netns", a, "type", "veth"],
    ...["peer", "name", "wire1", "netns", b],
  );
  for (const [i, host] of HOSTS.entries()) {
    const device = `wire${i}`;
    // Without duplicate address detection, so that there is no wait.
    await ip("-n", host, "addr", "add", `10.0.0.${i + 1}/24`, "dev", device);
    const link = `fe80::${i + 1}/64`;
    await ip("-n", host, "addr", "add", link, "dev", device, "nodad");
    await ip("-n", host, "link", "set", device, "up");
    await ip("-n", host, "route", "add", "default", "dev", device);
  }
  return {
    async [Symbol.asyncDispose]() {
      for (const host of HOSTS) await ip("netns", "del", host);
    },
  };
}

function run(host: string, code: string): Program {
  const deno = [Deno.execPath(), "eval", "--unstable-net", code];
  return new Program("ip", ["netns", "exec", host, ...deno]);
}

const SERVER = `import { echo, serve } from "./lib/mod.ts";
  const server = serve({ hostname: "::", engine: "linux" }, echo());
  console.log(server.addr.port);`;

const reason = await missing();
const needs = reason === undefined ? [] : [`nothing but ${reason}`];

programTest(
  "a zone may be the name of an interface, or its number",
  async () => {
    await using _cable = await cabled();
    await using server = run(ANSWERING, SERVER);
    const port = await server.line();
    await using client = run(
      ASKING,
      `import { request } from "./lib/mod.ts";
    for (const zone of ["wire0", "2"]) {
      const address = "[fe80::2%" + zone + "]:${port}";
      const options = { engine: "linux", timeoutMs: 5000 };
      console.log((await request(address, "x", options)).attempts);
    }`,
    );
    const { stdout, stderr } = await client.ended();
    assertEquals([stdout, stderr], ["1\n1\n", ""]);
  },
  needs,
);

programTest(
  "what was sent to a group is answered from an address of this machine's",
  async () => {
    await using _cable = await cabled();
    await using server = run(ANSWERING, SERVER);
    const port = await server.line();
    const groups = ["10.0.0.255", "255.255.255.255", "ff02::1%wire0"];
    await using client = run(
      ASKING,
      `setTimeout(() => Deno.exit(3), 10_000);
    for (const group of ${JSON.stringify(groups)}) {
      const hostname = group.includes(":") ? "::" : "10.0.0.1";
      const socket = Deno.listenDatagram({ transport: "udp", hostname, port: 0 });
      const to = { transport: "udp", hostname: group, port: ${port} };
      await socket.send(new Uint8Array(1), to);
      console.log((await socket.receive())[1].hostname);
      socket.close();
    }
    Deno.exit();`,
    );
    const { stdout, stderr } = await client.ended();
    assertEquals([stdout, stderr], ["10.0.0.2\n10.0.0.2\nfe80::2\n", ""]);
  },
  needs,
);

programTest(
  "gather() hears who is in a group, and who hears a broadcast",
  async () => {
    await using _cable = await cabled();
    await using member = run(
      ANSWERING,
      `import { serve } from "./lib/mod.ts";
      serve({ port: 5000, groups: ["239.1.2.3"], interface: "wire1" }, (d) => d);
      serve({ port: 5001, engine: "linux", groups: ["239.1.2.3", "ff02::123"],
        interface: "wire1" }, (d) => d);
      console.log("listening");`,
    );
    await member.line();
    await using asking = run(
      ASKING,
      `import { gather } from "./lib/mod.ts";
      for (const engine of ["deno", "linux"]) {
        const options = { engine, maxReplies: 1, timeoutMs: 5000 };
        for (const host of ["239.1.2.3", "10.0.0.255", "255.255.255.255"]) {
          for (const port of [5000, 5001]) {
            const [reply] = await gather(host + ":" + port, host, {
              ...options, localHostname: "10.0.0.1" });
            console.log(reply.text(), reply.remoteAddr.hostname);
          }
        }
        const group = "[ff02::123%wire0]:5001";
        const [reply] = await gather(group, "six", options);
        console.log(reply.text(), reply.remoteAddr.hostname.split("%")[0]);
      }`,
    );
    const { stdout, stderr } = await asking.ended();
    const heard = ["239.1.2.3", "10.0.0.255", "255.255.255.255"]
      .map((host) => `${host} 10.0.0.2\n`.repeat(2)).join("") +
      "six fe80::2\n";
    assertEquals([stdout, stderr], [heard + heard, ""]);
  },
  needs,
);

/**
 * Tests of hosts with IPv4 or IPv6 alone: a network namespace each, with the
 * permission to make them (root on Linux, with `ip`).
 */
import { assertEquals } from "@std/assert";
import { Program, programTest } from "../helpers.ts";

const HOST = `roundtrip-${Deno.pid}-host`;

async function ip(...args: string[]): Promise<boolean> {
  const options = { args, stdout: "null", stderr: "null" } as const;
  return (await new Deno.Command("ip", options).output()).success;
}

async function mayMakeHosts(): Promise<boolean> {
  const { state } = await Deno.permissions.query({ name: "run" });
  if (state !== "granted" || Deno.build.os !== "linux") return false;
  try {
    return await ip("netns", "add", HOST) && await ip("netns", "del", HOST);
  } catch {
    return false;
  }
}

/** Runs code on a host that a script of commands sets up. */
async function runOn(script: string, code: string): Promise<string[]> {
  await ip("netns", "add", HOST);
  try {
    const deno = [Deno.execPath(), "eval", "--unstable-net", PREAMBLE + code];
    const up = `ip link set lo up; ${script}; exec "$@"`;
    const args = ["netns", "exec", HOST, "sh", "-ec", up, "sh", ...deno];
    await using program = new Program("ip", args);
    const { stdout, stderr } = await program.ended();
    assertEquals(stderr, "");
    return stdout.trimEnd().split("\n");
  } finally {
    await ip("netns", "del", HOST);
  }
}

/** The engines, with a name that has addresses of both versions. */
const PREAMBLE = `
  import * as udp from "./lib/mod.ts";
  import { measure, stampReflector } from "./lib/stamp/mod.ts";
  import { runtimeFor } from "./lib/socket/runtime.ts";
  const runtimes = ["deno", "linux"].map((engine) =>
    Object.create(runtimeFor(engine), {
      resolve: { value: () => Promise.resolve(["::1", "127.0.0.1"]) },
    })
  );
  const messageOf = ({ message }) => message;
  const last = async (run) => {
    for await (const { type } of run) if (type !== "interval") var found = type;
    return [found ?? run.summary().received, run.target.hostname].join();
  };
`;
const WITHOUT_IPV4 = "ip addr del 127.0.0.1/8 dev lo";
const WITHOUT_IPV6 =
  "for of in all lo; do echo 1 >/proc/sys/net/ipv6/conf/$of/disable_ipv6; done";
const needs = await mayMakeHosts() ? [] : ["ip and root"];

for (
  const [version, script, address] of [
    ["IPv4", WITHOUT_IPV6, "127.0.0.1"],
    ["IPv6", WITHOUT_IPV4, "::1"],
  ] as const
) {
  programTest(
    `request() and all other clients: a host with ${version} alone sends to names of both versions`,
    async () => {
      const lines = await runOn(
        script,
        `for (const runtime of runtimes) {
        const server = udp.serve({ hostname: "localhost", runtime }, udp.echo());
        const stamp = udp.serve({ hostname: "localhost", runtime },
          stampReflector());
        const to = "both:" + server.addr.port;
        const options = { runtime, timeoutMs: 5000, retries: 0 };
        console.log((await udp.request(to, "x", options)).remoteAddr.hostname);
        const client = await udp.connect(to, options);
        console.log((await client.request("x")).remoteAddr.hostname);
        await client.close();
        console.log((await udp.gather([to], "x", options))[0].remoteAddr.hostname);
        console.log(await last(udp.requestMany(to, "x", options)));
        console.log(await last(udp.load(to, { runtime, rate: 9, count: 1 })));
        console.log(await last(measure("both:" + stamp.addr.port,
          { runtime, count: 1 })));
        await server.shutdown();
        await stamp.shutdown();
      }`,
      );
      const each = [
        ...[address, address, address],
        ...[`reply,${address}`, `1,${address}`, `reply,${address}`],
      ];
      assertEquals(lines, [...each, ...each]);
    },
    needs,
  );
}

programTest(
  "request(), connect(): an address of the other version is in the error, with the reason",
  async () => {
    const ask = (address: string) =>
      `for (const runtime of runtimes) {
      const options = { runtime, retries: 0 };
      await udp.request("${address}:9", "x", options).catch((error) =>
        console.log(messageOf(error)));
      const client = await udp.connect("${address}:9", options);
      await client.request("x").catch((error) => console.log(messageOf(error)));
      await client.close();
    }`;
    const without4 = "Cannot send to 127.0.0.1:9: no route to it: " +
      "connect its network, or name another address";
    const without6 = "Cannot send to [::1]:9: " +
      "this machine has no address of that IP version to send from";
    assertEquals(
      await runOn(WITHOUT_IPV4, ask("127.0.0.1")),
      Array(4).fill(without4),
    );
    assertEquals(
      await runOn(WITHOUT_IPV6, ask("[::1]")),
      Array(4).fill(without6),
    );
  },
  needs,
);

programTest(
  "client: a narrow --allow-net grants a link-local peer with its zone or without",
  async () => {
    const lines = await runOn(
      "ip link add v0 type veth peer v1; ip link set v0 up; ip link set v1 up; " +
        "ip addr add fe80::1/64 dev v0 nodad",
      `const server = udp.serve({ hostname: "::", engine: "linux" }, udp.echo());
      const { port } = server.addr;
      for (const engine of ["deno", "linux"]) {
        for (const peer of ["fe80::1%v0", "fe80::1", "fe80::2"]) {
          const { code } = await new Deno.Command(Deno.execPath(), {
            args: ["run", "--no-prompt", "--allow-ffi",
              "--allow-net=[::]:0,[" + peer + "]:" + port, "client.ts",
              "[fe80::1%v0]:" + port, "--engine", engine],
            stderr: "null",
          }).output();
          console.log(engine, peer, code);
        }
      }
      await server.shutdown();`,
    );
    const outcomes = ["fe80::1%v0 0", "fe80::1 0", "fe80::2 2"];
    assertEquals(
      lines,
      ["deno", "linux"].flatMap((engine) =>
        outcomes.map((outcome) => `${engine} ${outcome}`)
      ),
    );
  },
  needs,
);

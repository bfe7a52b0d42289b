/**
 * Tests of `--find-mtu` beyond the own link: three hosts, one of them a router, with
 * the permission to make them (root on Linux, with `ip`).
 */
import { assertEquals } from "@std/assert";
import { ENGINE, Program, programTest } from "../helpers.ts";

const HOSTS = ["a", "r", "b"].map((name) => `roundtrip-${Deno.pid}-${name}`);
const [CLIENT, ROUTER, SERVER] = HOSTS as [string, string, string];

/** Runs a script of commands with the hosts as $1, $2 and $3. */
async function sh(script: string): Promise<boolean> {
  const args = ["-ec", script, "sh", ...HOSTS];
  const options = { args, stdout: "null", stderr: "null" } as const;
  return (await new Deno.Command("sh", options).output()).success;
}

const MAKE = 'for host; do ip netns add "$host"; done';
const REMOVE = 'for host; do ip netns del "$host"; done';
const LINK = `
  ip link add a0 netns $1 type veth peer name r0 netns $2
  ip link add r1 netns $2 mtu 1300 type veth peer name b0 netns $3 mtu 1300
  ip -n $1 addr add 10.1.0.1/24 dev a0
  ip -n $2 addr add 10.1.0.2/24 dev r0
  ip -n $2 addr add 10.2.0.1/24 dev r1
  ip -n $3 addr add 10.2.0.2/24 dev b0
  for each in "$1 a0" "$2 r0" "$2 r1" "$3 b0"; do
    ip -n \${each% *} link set \${each#* } up
  done
  ip netns exec $2 sh -c 'echo 1 >/proc/sys/net/ipv4/ip_forward'
  ip -n $1 route add default via 10.1.0.2
  ip -n $3 route add default via 10.2.0.1`;

async function mayMakeHosts(): Promise<boolean> {
  const { state } = await Deno.permissions.query({ name: "run" });
  if (ENGINE !== "linux" || state !== "granted") return false;
  return await sh(MAKE) && await sh(REMOVE);
}

const needs = await mayMakeHosts() ? [] : ["--engine linux, ip and root"];

/** The sizes and outcomes of a search, and the MTU that it finds. */
async function findMtu(
  timeout: string,
  handler = "echo()",
): Promise<{ probes: string[]; mtu: number | null; mtuAtLeast: number }> {
  const serve = `import { echo, serve } from "./lib/mod.ts";
    serve({ hostname: "10.2.0.2", port: 7, engine: "linux" }, ${handler});
    console.log("listening");`;
  const deno = [Deno.execPath(), "eval", "--unstable-net", serve];
  await using server = new Program("ip", ["netns", "exec", SERVER, ...deno]);
  await server.line();
  await using client = new Program("ip", [
    ...["netns", "exec", CLIENT, "timeout", "60", Deno.execPath(), "run", "-A"],
    ...["client.ts", "10.2.0.2:7", "--engine", "linux", "--find-mtu"],
    ...["-W", timeout, "--json"],
  ]);
  const { stdout, stderr } = await client.ended();
  assertEquals(stderr, "");
  const { probes, mtu, mtuAtLeast } = JSON.parse(stdout);
  const outcomes = probes.map((
    { size, why }: { size: number; why: string | null },
  ) => why === null ? `${size}` : `${size} ${why}`);
  return { probes: outcomes, mtu, mtuAtLeast };
}

programTest(
  "client --find-mtu: a router's report ends the wait for an answer",
  async () => {
    try {
      await sh(MAKE + LINK);
      // Longer than the test: after a report there is no wait for an answer.
      const { probes, mtu } = await findMtu("60m");
      assertEquals(mtu, 1300);
      assertEquals(
        probes[2],
        "1472 10.1.0.2 reports: a datagram would have to be fragmented, and must " +
          "not be (ICMP type 3, code 4, at most 1300 bytes with headers)",
      );
      assertEquals(probes[3], "1272");
    } finally {
      await sh(REMOVE);
    }
  },
  needs,
);

programTest(
  "client --find-mtu: a next hop with a smaller MTU is named, and the search continues",
  async () => {
    try {
      await sh(`${MAKE}${LINK}\nip -n ${ROUTER} link set r0 mtu 1280`);
      const { probes, mtu } = await findMtu("1s");
      assertEquals(
        probes[2],
        "1472 the link dropped it, as its next hop has a smaller MTU",
      );
      // The link takes a tag of 4 bytes too.
      assertEquals(mtu, 1284);
    } finally {
      await sh(REMOVE);
    }
  },
  needs,
);

programTest(
  "client --find-mtu: a router that drops without a report is the path's limit, a server's limit is not",
  async () => {
    try {
      // The router's own datagrams, its reports, have no route.
      await sh(`${MAKE}${LINK}
        ip netns exec $2 sh -c \
          'echo 1 >/proc/sys/net/ipv4/icmp_errors_use_inbound_ifaddr'
        ip -n $2 rule add from 10.1.0.2 blackhole`);
      const silent = await findMtu("200ms");
      assertEquals([silent.mtu, silent.mtuAtLeast], [1300, 1300]);
      assertEquals(silent.probes.at(-1), "1273");
      const handler = "(data) => data.length > 512 ? undefined : data";
      const limited = await findMtu("200ms", handler);
      assertEquals([limited.mtu, limited.mtuAtLeast], [null, 540]);
      assertEquals(limited.probes.at(-1), "513 not within the time, 3 times");
    } finally {
      await sh(REMOVE);
    }
  },
  needs,
);

/**
 * Tests of `--trace` through routers: six hosts, with the permission to make them
 * (root on Linux, with `ip` and `nft`).
 *
 *              +- upper -+
 * client - near           far - server
 *              +- lower -+
 */
import { assert, assertEquals } from "@std/assert";
import { ENGINE, Program, programTest } from "../helpers.ts";

const NAMES = ["client", "near", "upper", "lower", "far", "server"];
const hostOf = (name: string) => `roundtrip-${Deno.pid}-${name}`;
const HOSTS = NAMES.map(hostOf);

/** Runs a script of commands with the hosts as $client, $near and so on. */
async function sh(script: string): Promise<boolean> {
  const env = Object.fromEntries(NAMES.map((name) => [name, hostOf(name)]));
  const options = { env, stdout: "null", stderr: "null" } as const;
  const args = ["-ec", script, "sh", ...HOSTS];
  return (await new Deno.Command("sh", { args, ...options }).output()).success;
}

const MAKE = 'for host; do ip netns add "$host"; done';
const REMOVE = 'for host; do ip netns del "$host"; done';
/** No limit on ICMP messages, since the tests trace the same hosts in a row. */
const ROUTERS = `
  for host; do
    ip netns exec $host sh -c '
      cd /proc/sys/net
      echo 1 >ipv4/ip_forward
      echo 1 >ipv6/conf/all/forwarding
      echo 1 >ipv4/fib_multipath_hash_policy
      echo 1 >ipv6/fib_multipath_hash_policy
      echo 0 >ipv4/icmp_ratelimit
      echo 0 >ipv6/icmp/ratelimit'
    ip -n $host link set lo up
  done
  # Two hosts, and the number of the network between them.
  link() {
    ip link add to$3 netns $1 type veth peer name from$3 netns $2
    network=$3
    for end in "$1 to$3 1" "$2 from$3 2"; do
      set -- $end
      ip -n $1 addr add 10.0.$network.$3/24 dev $2
      ip -n $1 addr add fd00:$network::$3/64 dev $2 nodad
      # A router looks for neighbours by its link-local address.
      ip -n $1 link set $2 addrgenmode none
      ip -n $1 addr add fe80::$3/64 dev $2 nodad
      ip -n $1 link set $2 up
    done
  }
  route() {
    ip -n $1 route add 10.0.$2.0/24 $(for way in $3; do
      echo $4 via 10.0.$way; done)
    ip -n $1 route add fd00:$2::/64 $(for way in $3; do
      echo $4 via fd00:\${way%.*}::\${way#*.}; done)
  }
  link $client $near 1
  link $near $upper 2
  link $near $lower 3
  link $upper $far 4
  link $lower $far 5
  link $far $server 6
  route $client 6 1.2
  route $near 6 "2.2 3.2" nexthop
  route $upper 6 4.2
  route $lower 6 5.2
  route $server 1 6.1
  route $far 1 4.1
  route $upper 1 2.1
  route $lower 1 3.1`;

async function mayMakeHosts(): Promise<boolean> {
  const { state } = await Deno.permissions.query({ name: "run" });
  if (ENGINE !== "linux" || state !== "granted") return false;
  return await sh(MAKE) && await sh(REMOVE);
}

const needs = await mayMakeHosts() ? ["nft"] : ["--engine linux, ip and root"];

/** A test with the routers, prepared by a script. */
function routersTest(
  name: string,
  script: string,
  fn: () => Promise<void>,
  ...more: string[]
): void {
  programTest(name, async () => {
    try {
      assert(await sh(`${MAKE}\n${ROUTERS}\n${script}`), "the hosts are made");
      await fn();
    } finally {
      await sh(REMOVE);
    }
  }, [...needs, ...more]);
}

interface Traced {
  isReached: boolean;
  sent: number;
  untraced: number;
  seesHeaders: boolean;
  paths: Array<{
    isReached: boolean;
    sourcePorts: number[];
    mtu: number | null;
    lossPercent: number | null;
    mtuReports: unknown[];
    hops: Array<{
      address: string | null;
      others: string[];
      lossPercent: number;
      kinds: string[];
      marks: string[];
      trafficClasses: number[];
    }>;
  }>;
}

const UNLIMITED = ["-i", "0", "-W", "500ms"];

async function trace(args: string[], before: string[] = []) {
  await using client = new Program("ip", [
    ...["netns", "exec", hostOf("client"), "timeout", "60", ...before],
    ...[Deno.execPath(), "run", "-A", "client.ts", "--engine", "linux"],
    ...["--trace", ...UNLIMITED, ...args],
  ]);
  return await client.ended();
}

async function traced(
  ...args: string[]
): Promise<Traced & { code: number }> {
  const { code, stdout, stderr } = await trace([...args, "--json", "-q"]);
  assertEquals(stderr, "");
  return { ...JSON.parse(stdout), code };
}

const addresses = ({ hops }: Traced["paths"][0]) =>
  hops.map(({ address }) => address);

const othersOf = ({ others }: { others: string[] }) => others;

const IPV4 = ["10.0.1.2", "10.0.2.2", "10.0.4.2", "10.0.6.2"];
/** A router's report over IPv6 leaves by the address of the way it came. */
const WAYS = {
  "10.0.6.2:9": [IPV4, ["10.0.1.2", "10.0.3.2", "10.0.4.2", "10.0.6.2"]],
  "[fd00:6::2]:9": [
    ["fd00:1::2", "fd00:2::2", "fd00:4::2"],
    ["fd00:1::2", "fd00:3::2", "fd00:5::2"],
  ].map((way) => [...way, "fd00:6::2"]),
};

routersTest(
  "client --trace: lists the path of each flow, by its source port",
  "",
  async () => {
    for (const [target, ways] of Object.entries(WAYS)) {
      // A router sends at most 50 ICMP messages at once, whatever its other limits.
      const flows = [target, "--flows", "16", "-i", "20ms"];
      const { paths, code } = await traced(...flows);
      assertEquals(code, 0);
      assertEquals(paths.map(addresses).sort(), ways);
      assertEquals(paths.map(({ mtu }) => mtu), [1500, 1500]);
      for (const { hops } of paths) {
        assertEquals(hops.map(({ lossPercent }) => lossPercent), [0, 0, 0, 0]);
        assertEquals(hops.map(({ kinds }) => kinds.join()), [
          ...["expired", "expired", "expired", "closed"],
        ]);
      }
      // All probes of a flow take its path.
      assertEquals(paths.flatMap(({ hops }) => hops).flatMap(othersOf), []);
      const alone = await traced(target, "--source-port", "40000");
      assertEquals(alone.paths.map(({ sourcePorts }) => sourcePorts), [[
        40_000,
      ]]);
      const { stdout } = await trace(flows);
      assert(/^ {2}2 A .*\n {2}2 B /m.test(stdout), stdout);
      assert(stdout.includes("closed port"), stdout);
    }
  },
);

routersTest(
  "client --trace: shows where the MTU shrinks, and the DSCP and ECN change",
  `for end in "$upper to4" "$far from4" "$lower to5" "$far from5"; do
     ip -n \${end% *} link set \${end#* } mtu 1400
   done
   ip -n $far link set to6 mtu 1300
   ip -n $server link set from6 mtu 1300
   for host in $upper $lower; do
     ip netns exec $host nft 'table inet t {
       chain c {
         type filter hook postrouting priority 0
         udp dport 9 ip dscp set cs1
         udp dport 9 ip6 dscp set cs1
         udp dport 9 ip6 ecn set ect1
       }
     }'
   done`,
  async () => {
    for (const target of Object.keys(WAYS)) {
      const args = [target, "--dscp", "EF"];
      const { paths: [path], seesHeaders } = await traced(...args);
      assert(seesHeaders);
      const [, middle, far] = addresses(path!);
      assertEquals(path!.mtuReports, [
        { mtu: 1400, from: middle },
        { mtu: 1300, from: far },
      ]);
      assertEquals(path!.mtu, 1300);
      const ecn = target.startsWith("[") ? 1 : 0;
      assertEquals(
        path!.hops.map(({ trafficClasses }) => trafficClasses),
        [[46 << 2], [46 << 2], [(8 << 2) + ecn], [(8 << 2) + ecn]],
      );
      const { stdout } = await trace(args);
      assert(stdout.includes("DSCP 46 -> 8"), stdout);
      assertEquals(stdout.includes("ECN 0 -> 1"), ecn === 1);
      assert(/MTU 1400 from here[^]*MTU 1300 from here/.test(stdout), stdout);
      assert(stdout.split("\n").every((line) => line.length <= 80), stdout);
      const { code, stderr } = await trace([target, "-s", "1500"]);
      assertEquals(code, 2);
      assert(stderr.includes("the link takes at most 1500 bytes"), stderr);
      // Probes that are too big become as small as needed.
      const large = await traced(target, "-s", "1440");
      assertEquals(addresses(large.paths[0]!).length, 4);
      assertEquals(large.paths[0]!.lossPercent, 0);
    }
  },
);

routersTest(
  "client --trace: a silent router is a row, a server's reply the end",
  `for host in $upper $lower; do
     ip netns exec $host nft 'table inet t {
       chain c {
         type filter hook output priority 0
         icmp type time-exceeded drop
         icmpv6 type time-exceeded drop
       }
     }'
   done`,
  async () => {
    const serve = `import { serve } from "./lib/mod.ts";
      serve({ hostname: "::", port: 7 }, () => "no echo");
      Deno.unrefTimer(setTimeout(() => Deno.exit(9), 60_000));
      console.log("listening");`;
    const deno = [Deno.execPath(), "eval", "--unstable-net", serve];
    const inHost = ["netns", "exec", hostOf("server")];
    await using server = new Program("ip", [...inHost, ...deno]);
    await server.line();
    for (const target of ["10.0.6.2:7", "[fd00:6::2]:7"]) {
      for (const payload of [[], ["-m", "as it is"]]) {
        const { paths: [path], code } = await traced(target, ...payload);
        assertEquals(code, 0);
        assertEquals(path!.hops.map(({ kinds }) => kinds.join()), [
          ...["expired", "", "expired", "reply"],
        ]);
        assertEquals(path!.hops.map(({ lossPercent }) => lossPercent), [
          ...[0, 100, 0, 0],
        ]);
        assertEquals(path!.hops[1]!.address, null);
      }
    }
    const { stdout } = await trace(["10.0.6.2:7"]);
    assert(/^ {2}2 \* +100% +3$/m.test(stdout), stdout);
  },
);

routersTest(
  "client --trace: loss behind a hop is the target's, and a filter is named",
  `ip netns exec $far nft 'table inet t {
     chain c {
       type filter hook forward priority 0
       udp dport 9 numgen random mod 2 == 0 drop
       udp dport 10 reject with icmpx admin-prohibited
       udp dport 11 drop
     }
   }'`,
  async () => {
    for (const host of ["10.0.6.2", "[fd00:6::2]"]) {
      const lossy = await traced(`${host}:9`, "-c", "40");
      const losses = lossy.paths[0]!.hops.map(({ lossPercent }) => lossPercent);
      assertEquals(losses.slice(0, 3), [0, 0, 0]);
      assert(losses[3]! >= 10 && losses[3]! <= 90, `${losses}`);
      assertEquals(lossy.code, 0);
      const filtered = await trace([`${host}:10`]);
      assert(/^ {2}4 .* !X$/m.test(filtered.stdout), filtered.stdout);
      assertEquals(filtered.code, 1);
      assert(filtered.stderr.startsWith(`client: No answer from ${host}:10`));
      const { code, stdout } = await trace([`${host}:11`, "-c", "1"]);
      assertEquals(code, 1);
      assert(stdout.includes("no answer beyond hop 3\n"), stdout);
      // Five silent hops end it.
      assert(/^ {2}8 \*/m.test(stdout) && !/^ {2}9/m.test(stdout), stdout);
    }
  },
);

routersTest(
  "client --trace: a dead way is a path of its own, and a trace ended early names the rest",
  `ip netns exec $lower nft 'table inet t {
     chain c {
       type filter hook prerouting priority -300
       udp dport 9 drop
     }
   }'`,
  async () => {
    for (const host of ["10.0.6.2", "[fd00:6::2]"]) {
      const flows = ["--flows", "16", "-i", "20ms", "-c", "1"];
      const { paths, untraced } = await traced(`${host}:9`, ...flows);
      assertEquals(untraced, 0);
      const facts = paths.map(({ isReached, lossPercent, mtu, hops }) => [
        ...[isReached, lossPercent, mtu, hops.length],
      ]);
      assertEquals(facts.sort(), [[false, null, null, 6], [true, 0, 1500, 4]]);
      const early = ["--flows", "64", "-i", "1s", "-w", "2"];
      const { stdout, stderr } = await trace([`${host}:10`, ...early]);
      assert(/^\d+ flows not traced yet$/m.test(stdout), stdout);
      assert(/^ {2}4 /m.test(stdout) && !/^ {2}5 /m.test(stdout), stdout);
      assert(!stdout.includes("MTU"), stdout);
      assertEquals(
        stderr,
        "client: 64 flows take some 187 s at this --interval\n",
      );
    }
  },
);

routersTest(
  "client --trace: sends nothing beyond --ttl, and refuses what is no host",
  "ip -n $client route del default || true",
  async () => {
    const { sent, paths: [path] } = await traced("10.0.6.2:9", "--ttl", "3");
    assertEquals([sent, path!.hops.length, path!.mtu], [9, 3, null]);
    const refusals = {
      "192.0.2.1:9": "Cannot send to 192.0.2.1:9: no route to it: ",
      "224.0.0.1:9": "Cannot trace 224.0.0.1:9: it is a multicast group",
      "10.0.1.255:9":
        "Cannot send to 10.0.1.255:9: a route or filter prohibits it, or it is a broadcast address",
    };
    for (const [target, message] of Object.entries(refusals)) {
      const { code, stderr } = await trace([target]);
      assertEquals(code, 2);
      assert(stderr.startsWith(`client: ${message}`), stderr);
      assertEquals(stderr.trim().split("\n").length, 1);
    }
    const { stdout } = await trace(["[fe80::2%to1]:9"]);
    assert(/^ {2}1 fe80::2%to1 /m.test(stdout), stdout);
    assert(stdout.includes("\n[fe80::2%to1]:9: 1 hop"), stdout);
  },
);

/** Runs a command with a name server behind the routers. */
const WITH_DNS = `file=$(mktemp)
  echo nameserver 10.0.6.2 >$file
  mount --bind $file /etc/resolv.conf
  rm $file
  export DENO_NO_UPDATE_CHECK=1
  exec "$@"`;

routersTest(
  "client --trace: looks for names after the last probe",
  `ip netns exec $near nft 'table inet t {
     set asked { type ipv4_addr; flags dynamic; timeout 1m; }
     chain c {
       type filter hook prerouting priority -300
       udp dport 53 update @asked { ip saddr }
       udp dport 9 ip saddr @asked drop
     }
   }'`,
  async () => {
    const args = ["10.0.6.2:9", "-c", "20", "-i", "20ms", "--json", "-q"];
    const { stdout } = await trace(args, ["sh", "-ec", WITH_DNS, "sh"]);
    const { paths: [path] }: Traced = JSON.parse(stdout);
    assertEquals(path!.hops.map(({ lossPercent }) => lossPercent), [
      0,
      0,
      0,
      0,
    ]);
    assertEquals(path!.mtu, 1500);
  },
);

routersTest(
  "client --trace: without the right to raw sockets the same hops, and a note",
  "",
  async () => {
    for (const [target, ways] of Object.entries(WAYS)) {
      const drop = ["setpriv", "--bounding-set", "-net_raw"];
      const { code, stdout, stderr } = await trace([target, "--json"], drop);
      assertEquals(code, 0);
      const { paths: [path], seesHeaders }: Traced = JSON.parse(stdout);
      assertEquals(seesHeaders, false);
      assert(ways.some((way) => `${way}` === `${addresses(path!)}`), stdout);
      assertEquals(path!.hops.flatMap((hop) => hop.trafficClasses), []);
      assert(stderr.includes("need CAP_NET_RAW"), stderr);
    }
  },
  "setpriv",
);

/**
 * Tests with several hosts: two network namespaces and a cable between them,
 * with the permission to make them (root on Linux, with `ip`).
 */
import { assertEquals } from "@std/assert";
import { ENGINE, Program, programTest } from "../helpers.ts";

const HOSTS = ["a", "b"].map((name) => `roundtrip-${Deno.pid}-${name}`);
const [ASKING, ANSWERING] = HOSTS as [string, string];

async function ip(...args: string[]): Promise<string> {
  const { success, stdout, stderr } = await new Deno.Command("ip", { args })
    .output();
  if (!success) throw new Error(new TextDecoder().decode(stderr));
  return new TextDecoder().decode(stdout);
}

/** The reason why namespaces cannot be made, if there is one. */
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
    await ip("-n", host, "link", "set", "lo", "up");
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
  "request(): a zone is the name of an interface, or its number",
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
  "openSocket(), serve(): a zone of a push is the name of an interface",
  async () => {
    await using _cable = await cabled();
    // The other interface that groups could leave by is the first one.
    await using receiver = run(
      ANSWERING,
      `import { openSocket } from "./lib/mod.ts";
      openSocket({ hostname: "::", port: 5000, groups: ["ff02::123"],
        interface: "wire1" },
        ({ data }) => console.log(new TextDecoder().decode(data)));
      console.log("listening");`,
    );
    await receiver.line();
    const other = ["a0", "type", "veth", "peer", "name", "a1"];
    await ip("-n", ASKING, "link", "add", ...other);
    await ip("-n", ASKING, "link", "set", "a0", "up");
    await using client = run(
      ASKING,
      `import { connect, openSocket, request, serve } from "./lib/mod.ts";
      for (const engine of ["deno", "linux"]) {
        const socket = openSocket({ hostname: "::", engine, onError() {} },
          () => {});
        const server = serve({ hostname: "::", engine }, () => {});
        for (const zone of ["wire0", "2"]) {
          for (const host of ["ff02::123", "fe80::2"]) {
            await socket.send("socket", "[" + host + "%" + zone + "]:5000");
            await server.send("server", "[" + host + "%" + zone + "]:5000");
          }
        }
        await socket.send("?", "[fe80::2%no]:5000")
          .catch(({ message }) => console.log(message));
        await socket.close();
        await server.shutdown();
      }
      const options = { engine: "linux" };
      for (const ask of [request, connect]) {
        await ask("[fe80::2]:5000", ask === connect ? options : "?", options)
          .catch(({ message }) => console.log(message));
      }`,
    );
    const { stdout, stderr } = await client.ended();
    const needed =
      "Cannot send to fe80::2: a link-local address needs a zone, such as fe80::2%eth0\n";
    assertEquals(
      stdout.split("\n").slice(1).join("\n"),
      `There is no interface 'no'\n${needed}${needed}`,
    );
    assertEquals(stderr, "");
    for (let i = 0; i < 16; i++) {
      assertEquals(await receiver.line(), i % 2 === 0 ? "socket" : "server");
    }
  },
  needs,
);

programTest(
  "serve(): answers a datagram to a group from an address of this machine",
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
  "gather(): receives replies of a group's members, and of a broadcast's receivers",
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

programTest(
  "gather(): leaves by an interface, reaches its own machine or not, and crosses no router",
  async () => {
    await using _cable = await cabled();
    const member = `import { openSocket, serve } from "./lib/mod.ts";
      for (const [engine, port] of [["deno", 5000], ["linux", 5001]]) {
        serve({ port, engine, groups: ["239.1.2.3", "ff02::123"],
          interface: NAME, groupDelayMs: 5 }, (_, { reply }) => {
            reply("beside");
            return NAME;
          });
      }
      // As a router would see it.
      openSocket({ port: 6000, engine: "linux", packetInfo: true,
        groups: ["239.1.2.3"], interface: NAME },
        ({ ttl, data }) => console.log("ttl", ttl, data[0]));
      console.log("listening");`;
    await using there = run(ANSWERING, `const NAME = "wire1";${member}`);
    await there.line();
    await using here = run(ASKING, `const NAME = "wire0";${member}`);
    await here.line();
    await using asking = run(
      ASKING,
      `import { gather, openSocket } from "./lib/mod.ts";
      for (const engine of ["deno", "linux"]) {
        const options = { engine, interface: "wire0", timeoutMs: 250 };
        for (const loopback of [true, false]) {
          for (const group of ["239.1.2.3", "[ff02::123]"]) {
            const port = engine === "deno" ? 5000 : 5001;
            const replies = await gather(group + ":" + port, "who?",
              { ...options, loopback, every: true });
            console.log(replies.map((reply) => reply.text()).sort().join());
          }
        }
        for (const multicastTtl of [undefined, 9]) {
          const to = "239.1.2.3:6000";
          await gather(to, new Uint8Array([multicastTtl ?? 0]),
            { ...options, multicastTtl, loopback: false, timeoutMs: 50 });
        }
      }
      const heard = Promise.withResolvers();
      const group = { port: 6001, groups: ["239.1.2.3"], interface: "wire0" };
      const hearing = openSocket(group, ({ data }) => heard.resolve(data[0]));
      const how = { groups: ["239.9.9.9"], interface: "wire0", engine: "linux" };
      for (const loopback of [false, true]) {
        const socket = openSocket({ ...how, loopback }, () => {});
        await socket.send(new Uint8Array([loopback]), "239.1.2.3:6001");
        await socket.close();
      }
      console.log("heard", await heard.promise);
      await hearing.close();
      for (const dontFragment of [false, true]) {
        const socket = openSocket({ dontFragment, engine: "linux" }, () => {});
        const sent = socket.send(new Uint8Array(1473), "10.0.0.2:9");
        console.log(await sent.then(() => "sent", ({ message }) => message));
        await socket.close();
      }`,
    );
    const { stdout, stderr } = await asking.ended();
    const both = "beside,beside,wire0,wire1\n";
    const one = "beside,wire1\n";
    assertEquals(
      [stdout, stderr],
      [
        (both + both + one + one).repeat(2) + "heard 1\n" +
        "sent\nMessage too long (os error 90)\n",
        "UDP socket: Error: Cannot send to 10.0.0.2:9: " +
        "Message too long (os error 90)\n",
      ],
    );
    const ttls = [];
    while (ttls.length < 4) ttls.push(await there.line());
    assertEquals(ttls, ["ttl 1 0", "ttl 9 9", "ttl 1 0", "ttl 9 9"]);
  },
  needs,
);

programTest(
  "request(): reports ICMP messages with their sender",
  async () => {
    await using _cable = await cabled();
    // Each kind on a port of its own, at the target host.
    const kinds = ["admin-prohibited", "host-prohibited", "host-unreachable"];
    const rules = kinds.map((kind, i) =>
      `udp dport ${5000 + i} reject with icmp type ${kind}`
    );
    const chain = ["type filter hook input priority 0", ...rules].join("\n");
    const table = `table ip filter {\nchain input {\n${chain}\n}\n}`;
    const nft = run(
      ANSWERING,
      `const { code } = await new Deno.Command("nft", { args: [
        ${JSON.stringify(table)}] }).output(); console.log(code);`,
    );
    assertEquals((await nft.ended()).stdout, "0\n");
    const limit = "net.ipv4.icmp_ratelimit=0";
    await ip("netns", "exec", ANSWERING, "sysctl", "-qw", limit);
    await using client = run(
      ASKING,
      `import { request, requestMany } from "./lib/mod.ts";
      const options = { engine: "linux", timeoutMs: 50 };
      for (const port of [5000, 5001, 5002, 5003]) {
        const error = await request("10.0.0.2:" + port, "x", options)
          .catch((error) => error);
        console.log(error.name, error.message);
      }`,
    );
    const { stdout, stderr } = await client.ended();
    // Only a closed port ends a request early.
    const said = (port: number, why: string, count = "3 datagrams") =>
      `TimeoutError No reply from 10.0.0.2:${port} to ${count}: ${why}\n`;
    const icmp = (words: string, code: number) =>
      `10.0.0.2 reports: ${words} (ICMP type 3, code ${code})`;
    assertEquals([stdout, stderr], [
      said(5000, icmp("a filter prohibits it", 13)) +
      said(5001, icmp("the host is prohibited", 10)) +
      said(5002, icmp("the host cannot be reached", 1)) +
      said(5003, "the system reports a closed port", "1 datagram"),
      "",
    ]);
  },
  [...needs, "nft"],
);

programTest(
  "request(), requestMany(), connect(): survive a moment without a route, and a filter",
  async () => {
    await using _cable = await cabled();
    await using server = run(ANSWERING, SERVER);
    const port = await server.line();
    const target = JSON.stringify(`10.0.0.2:${port}`);
    await using client = run(
      ASKING,
      `import { connect, request, requestMany } from "./lib/mod.ts";
      const sh = (script) => new Deno.Command("sh", {
        args: ["-ec", script] }).outputSync().success || Deno.exit(9);
      const down = "ip link set wire0 down";
      const up = "ip link set wire0 up; ip route replace default dev wire0";
      const drop = "nft 'table ip f { chain o { type filter hook output " +
        "priority 0; udp dport ${port} drop; }; }'";
      for (const engine of ["deno", "linux"]) {
        const options = { engine, timeoutMs: 200, retries: 3 };
        const client = await connect(${target}, options);
        for (const [fail, heal] of [[down, up], [drop, "nft delete table ip f"]]) {
          const text = ({ attempts }) => attempts > 1 ? "healed" : "?";
          sh(fail);
          const all = Promise.all([request(${target}, "x", options),
            client.request("y")]);
          const events = [];
          const series = requestMany(${target}, "z",
            { engine, count: 4, intervalMs: 20, timeoutMs: 2000 });
          for await (const { type } of series) {
            events.push(type);
            if (events.length === 2) sh(heal);
          }
          console.log(engine, (await all).map(text).join(), events.join());
        }
        await client.close();
      }`,
    );
    const { stdout, stderr } = await client.ended();
    const lines = ["deno", "linux"].map((engine) =>
      `${engine} healed,healed error,error,reply,reply\n`.repeat(2)
    );
    assertEquals([stdout, stderr], [lines.join(""), ""]);
  },
  [...needs, "nft"],
);

programTest(
  "connect(), request(): recover from a change of this machine's address",
  async () => {
    await using _cable = await cabled();
    await using server = run(ANSWERING, SERVER);
    const port = await server.line();
    await using client = run(
      ASKING,
      `import { connect, request } from "./lib/mod.ts";
      const ip = (args) => new Deno.Command("ip", {
        args: args.split(" ") }).outputSync().success || Deno.exit(9);
      const to = "10.0.0.2:${port}";
      const options = { engine: "linux", timeoutMs: 1000 };
      const client = await connect(to, options);
      console.log((await client.request("a")).attempts);
      const change = (attempt) => {
        if (attempt === 2) {
          ip("addr add 10.0.0.3/32 dev wire0");
          ip("addr del 10.0.0.1/24 dev wire0");
          ip("route replace default dev wire0");
        }
        return "c";
      };
      let replies = 0;
      // The first reply is ignored, so that there is a second attempt.
      const match = () => replies++ > 0;
      console.log((await request(to, change, { ...options, match })).attempts);
      console.log((await client.request("b")).attempts);
      await client.close();`,
    );
    const { stdout, stderr } = await client.ended();
    assertEquals([stdout, stderr], ["1\n2\n1\n", ""]);
  },
  needs,
);

programTest(
  "client --find-mtu: finds the path's MTU, and sends with the given options",
  async () => {
    await using _cable = await cabled();
    await using server = run(ANSWERING, SERVER);
    const port = await server.line();
    await using receiver = run(
      ANSWERING,
      `import { openSocket } from "./lib/mod.ts";
      openSocket({ port: 6000, engine: "linux", packetInfo: true },
        ({ ttl, trafficClass, remoteAddr }) =>
          console.log(ttl, trafficClass, remoteAddr.hostname, remoteAddr.port));
      console.log("listening");`,
    );
    await receiver.line();
    const client = async (...args: string[]) => {
      await using program = new Program("ip", [
        ...["netns", "exec", ASKING, Deno.execPath(), "run", "--allow-net"],
        ...["--allow-ffi", "--allow-sys=networkInterfaces", "client.ts"],
        ...["--engine", "linux", ...args],
      ]);
      return await program.ended();
    };
    // Only the forward path has a small MTU, known from the system's routes.
    await ip("-n", ASKING, "link", "set", "wire0", "mtu", "1400");
    await ip(
      ...["-n", ASKING, "route", "add", "10.0.0.2", "dev", "wire0"],
      ...["src", "10.0.0.1", "mtu", "600"],
    );
    const target = `10.0.0.2:${port}`;
    const found = await client(target, "--find-mtu", "--json", "-q");
    assertEquals(JSON.parse(found.stdout), {
      target,
      payloadBytes: 572,
      mtu: 600,
      isEcho: true,
    });
    const sweep = ["--size", "472..672:100", "--dont-fragment", "-q"];
    const swept = await client(target, ...sweep, "--json");
    const { runs } = JSON.parse(swept.stdout);
    assertEquals(
      runs.map(({ size, received, unsent }: Record<string, unknown>) => [
        size,
        received,
        unsent,
      ]),
      [[472, 1, 0], [572, 1, 0], [672, 0, 1]],
    );
    assertEquals(
      runs[2].error,
      "Message too long: the path takes datagrams of at most 600 bytes with headers",
    );
    assertEquals(swept.code, 1);
    const cut = await client(target, "--size", "672", "-q");
    assertEquals(cut.code, 0, cut.stderr);
    const leaving = [
      ["-B", "wire0", "--ttl", "9", "--dscp", "EF", "--source-port", "7000"],
      ["-B", "10.0.0.1:7001", "--interface", "wire0"],
    ];
    for (const args of leaving) {
      await client("10.0.0.2:6000", "-W", "50ms", "--retries", "0", ...args);
    }
    assertEquals([await receiver.line(), await receiver.line()], [
      "9 184 10.0.0.1 7000",
      "64 0 10.0.0.1 7001",
    ]);
    const wrong = await client(target, "--interface", "lo");
    assertEquals(wrong.code, 1);
  },
  needs,
);

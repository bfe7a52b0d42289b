/** The programs of docs/recipes.md, run unchanged. */
import { assert, assertEquals, assertMatch } from "@std/assert";
import { connect } from "../lib/client/connect.ts";
import type { UdpClient } from "../lib/client/udp_client.ts";
import { formatAddress, type UdpAddress } from "../lib/address.ts";
import { decode, encode } from "../lib/encoding.ts";
import { echo } from "../lib/server/responders.ts";
import { request } from "../lib/client/request.ts";
import { serve } from "../lib/server/serve.ts";
import type { UdpServer } from "../lib/server/udp_server.ts";
import { openSocket } from "../lib/socket/open_socket.ts";
import { SimulatedNetwork } from "../lib/testing/mod.ts";
import { Program, programTest, readTest, tempFolder } from "./helpers.ts";
import { recipes } from "./recipe.ts";

/** Starts a recipe, at any free port instead of its own. */
async function start(name: string, ...args: string[]): Promise<Program> {
  const code = (await recipes()).get(name.replace(".ts", ""))!
    .replace(/port: \d+/, "port: 0");
  const deno = ["eval", "--unstable-net", code, ...args];
  return new Program(Deno.execPath(), deno);
}

/** The exports of a recipe, to run in this process. */
async function exportsOf(name: string) {
  const code = encodeURIComponent(
    (await recipes()).get(name.replace(".ts", ""))!,
  );
  return await import(`data:application/typescript,${code}`);
}

const at = async (program: Program) => ({
  hostname: "127.0.0.1",
  port: Number(await program.line()),
});

readTest("docs/recipes.md: a recipe has at most 60 lines", async () => {
  const all = [...await recipes()];
  assertEquals(all.length, 11);
  for (const [name, code] of all) {
    assert(code.split("\n").length <= 60, name);
  }
});

/** Runs a task of deno.json. */
const task = (...args: string[]) =>
  new Program(Deno.execPath(), ["task", "--quiet", ...args]);

programTest("deno task recipe: runs a recipe with its arguments", async () => {
  await using server = await start("dns.ts");
  const { port } = await at(server);
  await using program = task("recipe", "dns_client", `127.0.0.1:${port}`);
  const { code, stdout, stderr } = await program.ended();
  assertEquals([code, stdout, stderr], [0, "192.0.2.1 1\n", ""]);
});

programTest("deno task recipe: lists the recipes of the page", async () => {
  await using program = task("recipe");
  const { code, stdout } = await program.ended();
  const names = stdout.trim().split("\n");
  assertEquals([code, names], [0, [...(await recipes()).keys()]]);
  await using wrong = task("recipe", "dsn");
  const ended = await wrong.ended();
  assertEquals([ended.code, ended.stdout], [2, ""]);
  assert(ended.stderr.startsWith('recipe: no recipe "dsn": '), ended.stderr);
});

programTest(
  "recipes: a client of a silent server ends with one line and exit code 1",
  async () => {
    await using silent = serve(() => {});
    const server = formatAddress(silent.addr);
    const names = ["dns_client.ts", "game_rules.ts", "ntp_client.ts"];
    const ends = names.map(async (name) => {
      await using client = await start(name, server);
      const { code, stdout, stderr } = await client.ended();
      assertEquals([code, stdout], [1, ""], name);
      assertMatch(stderr, /^No reply from [^\n]+\n$/, name);
    });
    await Promise.all(ends);
  },
);

programTest("dns.ts: answers dig", async () => {
  await using server = await start("dns.ts");
  const { port } = await at(server);
  const dig = (...args: string[]) =>
    new Program("dig", ["@127.0.0.1", "-p", `${port}`, "+tries=1", ...args])
      .ended();
  const found = await dig("+short", "example.org");
  assertEquals([found.code, found.stdout], [0, "192.0.2.1\n"]);
  const none = await dig("example.org", "TXT");
  assert(none.stdout.includes("status: NOERROR"), none.stdout);
  assert(none.stdout.includes("ANSWER: 0"), none.stdout);
}, ["dig"]);

programTest(
  "dns_client.ts: reads answers of dns.ts and dnsmasq",
  async () => {
    // Without dnsmasq the only name server is that of the recipes.
    await using ours = await start("dns.ts");
    const { port } = await at(ours);
    await using asking = await start("dns_client.ts", `127.0.0.1:${port}`);
    assertEquals((await asking.ended()).stdout, "192.0.2.1 1\n");
    const theirs = port > 50_000 ? port - 1000 : port + 1000;
    await using _dnsmasq = new Program("dnsmasq", [
      ...["--keep-in-foreground", "--no-resolv", "--no-hosts", "--conf-file"],
      ...["--user=", "--pid-file", `--port=${theirs}`],
      ...["--listen-address=127.0.0.1", "--bind-interfaces"],
      "--address=/example.org/192.0.2.77",
    ]);
    await using again = await start(
      "dns_client.ts",
      `127.0.0.1:${theirs}`,
    );
    assert((await again.ended()).stdout.startsWith("192.0.2.77 "));
  },
  ["dnsmasq"],
);

programTest(
  "statsd.ts: counts all datagrams, and refuses none",
  async () => {
    await using statsd = await start("statsd.ts");
    const addr = await at(statsd);
    await using sender = serve(() => {});
    for (let i = 0; i < 50; i++) {
      await sender.send("hits:2|c\nother:1|c\nno metric", addr);
    }
    let counts: Record<string, number>;
    do counts = JSON.parse(await statsd.line()); while (counts.received! < 50);
    assertEquals(counts, { hits: 100, other: 50, received: 50, lost: 0 });
  },
);

programTest(
  "game.ts: pushes its state to all players",
  async () => {
    await using game = await start("game.ts");
    const addr = await at(game);
    const { promise, resolve } = Promise.withResolvers<void>();
    const ticks = [0, 1].map((): number[] => []);
    const players = ticks.map((mine) =>
      serve((data) => {
        const { tick, players } = JSON.parse(decode(data)!);
        if (players === 2) mine.push(tick);
        if (ticks.every(({ length }) => length >= 3)) resolve();
      })
    );
    for (const player of players) await player.send(encode("join"), addr);
    await promise;
    for (const player of players) await player.shutdown();
    for (const [first, second, third] of ticks) {
      assertEquals([second, third], [first! + 1, first! + 2]);
    }
  },
);

readTest("game.ts: removes a player after ten seconds of silence", async () => {
  const network = new SimulatedNetwork();
  const { runtime, clock } = network;
  const { game } = await exportsOf("game.ts");
  const server: UdpServer = game({ hostname: "192.0.2.9", runtime }, clock);
  const states: Array<{ tick: number; players: number }> = [];
  const player = openSocket(
    { runtime },
    ({ data }) => void states.push(JSON.parse(decode(data)!)),
  );
  const silent = openSocket({ hostname: "192.0.2.2", runtime }, () => {});
  for (const one of [player, silent]) {
    await network.run(one.send("join", server.addr));
  }
  const stays = clock.setInterval(() => player.send("stay", server.addr), 1000);
  await network.runFor(20_000);
  clock.clearInterval(stays);
  assertEquals(states.map(({ tick }) => tick), [...states.keys()]);
  assertEquals(states.filter(({ players }) => players === 2).length, 200);
  assertEquals(states.length, 399, "20 a second, the last one in flight");
  await network.run(server.shutdown());
  assertEquals(network.timers, 0);
  await network.run(Promise.all([player.close(), silent.close()]));
});

/** chronyd, without the right to set a clock and without a command socket. */
async function chronyd(...args: string[]) {
  // chronyd may remove this file at its end, or leave it.
  const folder = await tempFolder();
  const pidfile = `${folder.path}/pid`;
  const quiet = ["-x", "-U", "-t", "20", "cmdport 0", "bindcmdaddress /"];
  const options = [...quiet, `pidfile ${pidfile}`, ...args];
  const program = new Program("chronyd", options);
  return {
    program,
    async [Symbol.asyncDispose]() {
      await program[Symbol.asyncDispose]();
      await folder[Symbol.asyncDispose]();
    },
  };
}

programTest(
  "ntp.ts: chronyd and ntp_client.ts accept its time",
  async () => {
    await using server = await start("ntp.ts");
    const { port } = await at(server);
    await using ours = await start("ntp_client.ts", `127.0.0.1:${port}`);
    const { stdout } = await ours.ended();
    const [, offset] = /^stratum 1\noffset (-?[\d.]+) ms/.exec(stdout) ?? [];
    assert(Math.abs(Number(offset)) < 100, stdout);
    await using theirs = await chronyd(
      "-Q",
      `server 127.0.0.1 port ${port} iburst maxsamples 1`,
    );
    const { stderr } = await theirs.program.ended();
    assert(/System clock wrong by -?0\.0\d+ seconds/.test(stderr), stderr);
  },
  ["chronyd"],
);

programTest("ntp_client.ts: reads the time of chronyd", async () => {
  // A free port, since chronyd cannot choose one.
  const free = serve(() => {});
  const { port } = free.addr;
  await free.shutdown();
  await using _server = await chronyd(
    ...["-d", `port ${port}`, "local stratum 7", "allow 127.0.0.1"],
    "bindaddress 127.0.0.1",
  );
  // The recipe fails until chronyd answers.
  let stdout = "";
  for (let tries = 0; tries < 30 && stdout === ""; tries++) {
    await using asking = await start("ntp_client.ts", `127.0.0.1:${port}`);
    ({ stdout } = await asking.ended());
  }
  const [, offset] = /^stratum 7\noffset (-?[\d.]+) ms/.exec(stdout) ?? [];
  // Client and server have the clock of this machine.
  assert(Math.abs(Number(offset)) < 100, stdout);
}, ["chronyd"]);

programTest(
  "proxy.ts: separates its clients, and forwards every datagram",
  async () => {
    await using server = serve((data, { remoteAddr }) =>
      `${decode(data)} ${remoteAddr.port}`
    );
    const upstream = `127.0.0.1:${server.addr.port}`;
    await using proxy = await start("proxy.ts", upstream);
    const addr = await at(proxy);
    await using one = await connect(addr);
    await using two = await connect(addr);
    const ask = async (client: UdpClient, text: string) =>
      (await client.request(text)).text().split(" ");
    const [a, b] = [await ask(one, "a"), await ask(two, "b")];
    assertEquals([a[0], b[0]], ["a", "b"]);
    assert(a[1] !== b[1]);
    assertEquals(await ask(one, "c"), ["c", a[1]!]);
  },
);

readTest(
  "game.ts: a flood of joins removes no active player",
  async () => {
    const network = new SimulatedNetwork();
    const { runtime, clock } = network;
    const { game } = await exportsOf("game.ts");
    const server: UdpServer = game({ hostname: "192.0.2.9", runtime }, clock);
    let state = { players: 0 };
    const socket = openSocket(
      { hostname: "192.0.2.20", runtime },
      ({ data }) => {
        state = JSON.parse(decode(data)!);
      },
    );
    await network.run(socket.send("join", server.addr));
    for (let second = 0; second < 3; second++) {
      await network.runFor(1000);
      await network.run(socket.send("left", server.addr));
    }
    for (let port = 1; port <= 500; port++) {
      const from = { hostname: "198.51.100.1", port };
      network.pass(from, server.addr, encode("join"));
    }
    const before = network.sent.length;
    await network.runFor(100);
    assertEquals(state.players, 100);
    const pushed = network.sent.slice(before)
      .filter(({ to }) => to.port === socket.addr.port);
    assert(pushed.length > 0, "the active player still gets the state");
    await network.run(Promise.all([server.shutdown(), socket.close()]));
    assertEquals([network.timers, network.sockets.size], [0, 0]);
  },
);

readTest(
  "proxy.ts: keeps a flow under loss, and closes it after a minute of silence",
  async () => {
    const network = new SimulatedNetwork(({ random }) =>
      random() < 0.2 ? [] : [5 + 5 * random()]
    );
    const { runtime } = network;
    const { proxy } = await exportsOf("proxy.ts");
    const upstream = serve(
      { hostname: "192.0.2.9", runtime },
      (_, { remoteAddr }) => `${remoteAddr.port}`,
    );
    const server: UdpServer = proxy(
      formatAddress(upstream.addr),
      { hostname: "192.0.2.8", runtime },
    );
    const client = await network.run(connect(server.addr, { runtime }));
    const ask = async () =>
      (await network.run(client.request("?", { retries: 9 }))).text();
    const port = await ask();
    for (let i = 0; i < 20; i++) assertEquals(await ask(), port);
    const open = network.sockets.size;
    await network.runFor(59_000);
    assertEquals(await ask(), port);
    await network.runFor(71_000);
    assertEquals(network.sockets.size, open - 1);
    assert(await ask() !== port);
    await network.run(client.close());
    await network.run(Promise.all([server.shutdown(), upstream.shutdown()]));
    assertEquals([network.timers, network.sockets.size], [0, 0]);
  },
);

/** Uses each recipe that listens, as one of its clients does. */
const USES: Record<
  string,
  (addr: UdpAddress, program: Program) => Promise<unknown>
> = {
  async "dns.ts"(addr) {
    const query = "07070100000100000000000001610000010001";
    const { data } = await request(addr, Uint8Array.fromHex(query));
    assertEquals(data.toHex().slice(0, 4), "0707");
  },
  async "statsd.ts"(addr, program) {
    await using sender = serve(() => {});
    const name = `hits${sender.addr.port}`;
    await sender.send(`${name}:2|c`, addr);
    while (JSON.parse(await program.line())[name] !== 2);
  },
  async "game.ts"(addr) {
    const { promise, resolve } = Promise.withResolvers<void>();
    await using player = serve(() => resolve());
    await player.send("join", addr);
    await promise;
  },
  async "ntp.ts"(addr) {
    const packet = new Uint8Array(48);
    packet[0] = 4 << 3 | 3;
    assertEquals((await request(addr, packet)).data.length, 48);
  },
  async "proxy.ts"(addr) {
    assertEquals((await request(addr, "through")).text(), "through");
  },
  async "plain_server.ts"(addr) {
    assertEquals((await request(addr, "x")).text(), "Hello UDP Client");
  },
};

for (const [name, use] of Object.entries(USES)) {
  programTest(`${name}: survives hostile datagrams`, async () => {
    await using upstream = serve({ onError: () => {} }, echo());
    const args = name === "proxy.ts" ? [`127.0.0.1:${upstream.addr.port}`] : [];
    await using program = await start(name, ...args);
    const addr = await at(program);
    await use(addr, program);
    const hostile = ["tests/peers/hostile.py", `${addr.port}`];
    await using peer = new Program("python3", hostile);
    const { code, stderr } = await peer.ended();
    assertEquals([code, stderr], [0, ""]);
    await use(addr, program);
  }, ["python3"]);
}

programTest(
  "game_rules.ts: solves a challenge, and requests a lost part anew",
  async () => {
    const rules = ["sv_gravity", "800", "mp_teams", "0", ""].join("\0");
    const answer = [255, 255, 255, 255, 0x45, 2, 0, ...encode(rules)];
    let queries = 0;
    await using server = serve((data, { remoteAddr, reply }) => {
      const { port } = remoteAddr;
      const challenge = [1, 2, port >> 8, port & 255];
      if (challenge.some((byte, i) => data[5 + i] !== byte)) {
        return new Uint8Array([255, 255, 255, 255, 0x41, ...challenge]);
      }
      queries++;
      for (const number of [2, 0, 1]) {
        if (queries === 1 && number === 1) continue;
        const share = answer.slice(number * 12, number * 12 + 12);
        reply(
          new Uint8Array([
            0xfe,
            255,
            255,
            255,
            7,
            0,
            0,
            0,
            3,
            number,
            12,
            0,
            ...share,
          ]),
        );
      }
    });
    await using asking = await start(
      "game_rules.ts",
      `127.0.0.1:${server.addr.port}`,
    );
    const { stdout, stderr } = await asking.ended();
    assertEquals([stdout, stderr], ["sv_gravity = 800\nmp_teams = 0\n", ""]);
    assertEquals(queries, 2);
  },
);

programTest("discovery.ts: lists all responders", async () => {
  await using one = serve(() => "printer");
  await using two = serve(() => "camera");
  const names = [one, two].map(({ addr }) => `127.0.0.1:${addr.port}`);
  await using asking = await start("discovery.ts", ...names);
  assertEquals(
    (await asking.ended()).stdout.trim().split("\n").sort(),
    [`${names[0]} printer`, `${names[1]} camera`].sort(),
  );
});

programTest(
  "plain_server.ts, plain_client.ts: work together, and with server.ts and client.ts",
  async () => {
    await using server = await start("plain_server.ts");
    const addr = await at(server);
    await using client = await start(
      "plain_client.ts",
      "127.0.0.1",
      `${addr.port}`,
    );
    assertEquals((await client.ended()).stdout, "Hello UDP Client\n");
    assertEquals((await request(addr, "x")).text(), "Hello UDP Client");
    await using ours = serve((data) => data);
    await using asking = await start(
      ...["plain_client.ts", "127.0.0.1", `${ours.addr.port}`] as const,
    );
    assertEquals((await asking.ended()).stdout, "Hello UDP Server\n");
  },
);

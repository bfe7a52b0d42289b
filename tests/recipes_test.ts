/** The programs of docs/recipes.md, run as they stand there. */
import { assert, assertEquals } from "@std/assert";
import { decode, encode } from "../lib/encoding.ts";
import { request } from "../lib/request.ts";
import { serve } from "../lib/serve.ts";
import { Program, programTest, readTest, ROOT } from "./helpers.ts";

/** The programs, by their file names. */
async function recipes(): Promise<Map<string, string>> {
  const page = await Deno.readTextFile(new URL("docs/recipes.md", ROOT));
  const found = page.matchAll(
    /<!-- (\w+\.ts) -->\n\n```ts ignore\n([^]*?)```/g,
  );
  return new Map([...found].map(([, name, code]) => [name!, code!]));
}

/** Starts one, at any free port instead of its own. */
async function start(name: string, ...args: string[]): Promise<Program> {
  const code = (await recipes()).get(name)!.replace(/port: \d+/, "port: 0");
  const deno = ["eval", "--unstable-net", code, ...args];
  return new Program(Deno.execPath(), deno);
}

const at = async (program: Program) => ({
  hostname: "127.0.0.1",
  port: Number(await program.line()),
});

readTest("a recipe has at most 60 lines", async () => {
  const all = [...await recipes()];
  assertEquals(all.length, 7);
  for (const [name, code] of all) {
    assert(code.split("\n").length <= 60, name);
  }
});

programTest("the recipe of a name server answers dig", async () => {
  await using server = await start("name_server.ts");
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
  "the recipe that asks a name server understands ours, and dnsmasq",
  async () => {
    // Its own name server has to do where there is no other.
    await using ours = await start("name_server.ts");
    const { port } = await at(ours);
    await using asking = await start("ask_name_server.ts", `127.0.0.1:${port}`);
    assertEquals((await asking.ended()).stdout, "192.0.2.1 1\n");
    const theirs = port > 50_000 ? port - 1000 : port + 1000;
    await using _dnsmasq = new Program("dnsmasq", [
      ...["--keep-in-foreground", "--no-resolv", "--no-hosts", "--conf-file"],
      ...["--user=", "--pid-file", `--port=${theirs}`],
      ...["--listen-address=127.0.0.1", "--bind-interfaces"],
      "--address=/example.org/192.0.2.77",
    ]);
    await using again = await start(
      "ask_name_server.ts",
      `127.0.0.1:${theirs}`,
    );
    assert((await again.ended()).stdout.startsWith("192.0.2.77 "));
  },
  ["dnsmasq"],
);

programTest(
  "the recipe of StatsD counts all that is sent, and refuses none",
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
  "the recipe of a game pushes its state to all who joined",
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

programTest("the recipe of who is there lists all who answer", async () => {
  await using one = serve(() => "printer");
  await using two = serve(() => "camera");
  const names = [one, two].map(({ addr }) => `127.0.0.1:${addr.port}`);
  await using asking = await start("who_is_there.ts", ...names);
  assertEquals(
    (await asking.ended()).stdout.trim().split("\n").sort(),
    [`${names[0]} printer`, `${names[1]} camera`].sort(),
  );
});

programTest("the plain pair speaks, and each with ours", async () => {
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
});

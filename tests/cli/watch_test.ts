import { DatabaseSync } from "node:sqlite";
import { assert, assertEquals, assertStringIncludes } from "@std/assert";
import { formatAddress } from "../../lib/address.ts";
import { serve } from "../../lib/server/serve.ts";
import { stampReflector } from "../../lib/stamp/reflector.ts";
import {
  client,
  Program,
  programTest,
  signalTest,
  tempFolder,
} from "../helpers.ts";

const RUN = [
  "run",
  "--allow-net",
  "--allow-read",
  "--allow-write",
  "--no-prompt",
];

/** `client --watch` of a file in a folder, its events as JSON. */
async function watching(folder: string, file: object, ...args: string[]) {
  const path = `${folder}/watch.json`;
  await write(
    path,
    JSON.stringify({ listen: "127.0.0.1:0", maxRate: 1000, ...file }),
  );
  const all = [...RUN, "client.ts", "--watch", path, "--json-stream", ...args];
  const program = new Program(Deno.execPath(), all);
  const next = async () => JSON.parse(await program.line());
  const { type, url } = await next();
  assertEquals(type, "watching");
  return { program, path, url: url as string, next };
}

/** Tests may write no files by themselves. */
async function write(path: string, text: string): Promise<void> {
  await new Deno.Command("sh", {
    args: ["-c", 'printf %s "$1" > "$2"', "sh", text, path],
  }).output();
}

async function textOf(url: string, headers = {}): Promise<string> {
  return await (await fetch(url, { headers })).text();
}

/** The value of a metric, by the beginning of its line. */
function valueOf(metrics: string, head: string): number {
  const line = metrics.split("\n").find((one) => one.startsWith(`${head} `));
  assert(line !== undefined, `${head} is not in\n${metrics}`);
  return Number(line.slice(head.length + 1));
}

const outcomeOf = (metrics: string, outcome: string) =>
  valueOf(
    metrics,
    `roundtrip_client_datagrams_total{target="a",roundtrip_outcome="${outcome}"}`,
  );

/** A server that stops answering after a number of datagrams, until `left` is set. */
function failingServer(answers: number) {
  const first = Promise.withResolvers<void>();
  const state = { answered: 0, unanswered: 0, left: answers, first };
  const server = serve({ telemetry: false }, () => {
    if (state.left-- <= 0) {
      state.unanswered++;
      return undefined;
    }
    state.answered++;
    first.resolve();
    return "pong";
  });
  return { server, state };
}

const FAST = { interval: "20ms", timeout: "100ms", hold: "0" };

signalTest(
  "client --watch: reports an outage with its loss, and counts what the server did",
  async () => {
    await using folder = await tempFolder();
    const { server, state } = failingServer(20);
    await using _ = server;
    const address = formatAddress(server.addr);
    // A server that is slow, as on a busy machine, is no outage.
    const target = { name: "a", address, ...FAST, timeout: "1s" };
    const history = `${folder.path}/history.db`;
    const { program, url, next } = await watching(
      folder.path,
      { targets: [target] },
      "--history",
      history,
    );
    await using _program = program;
    const down = await next();
    assertEquals([down.type, down.target, down.why], [
      "down",
      "a",
      "no answer",
    ]);
    assertStringIncludes(
      await textOf(`${url}metrics`),
      'roundtrip_client_up{target="a"} 0',
    );
    state.left = 30;
    const up = await next();
    assertEquals(up.type, "up");
    assert(up.lost >= 10 && up.seconds > 0, JSON.stringify(up));
    assertEquals((await next()).type, "down");
    // All replies have arrived by now.
    const seen = state.answered + state.unanswered;
    const metrics = await textOf(`${url}metrics`);
    const received = outcomeOf(metrics, "received");
    assertEquals(received + outcomeOf(metrics, "late"), state.answered);
    assertEquals(state.answered, 50);
    const picture = await textOf(`${url}plot.svg?target=a`);
    assertStringIncludes(
      picture,
      `${received} received`,
      "the current minute too",
    );
    const sent = valueOf(metrics, 'roundtrip_client_sent_total{target="a"}');
    const settled = received + outcomeOf(metrics, "lost");
    assert(sent >= seen && sent >= settled, `${sent} ${seen} ${settled}`);
    assertEquals(
      valueOf(metrics, 'roundtrip_client_rtt_seconds_count{target="a"}'),
      received,
    );
    assertEquals(
      valueOf(metrics, 'roundtrip_client_outages_total{target="a"}'),
      2,
    );
    program.kill("SIGTERM");
    const { code, stderr } = await program.ended();
    assertEquals([code, stderr], [0, ""]);
    using db = new DatabaseSync(history, { readOnly: true });
    const kept = db.prepare("SELECT sum(received) AS count FROM part").get()!;
    assertEquals(kept.count, received, "the last minute is written too");
    const outages = db.prepare("SELECT until - at AS ms FROM outage").all();
    assertEquals(outages.length, 2);
    assert(outages.every(({ ms }) => Number(ms) > 0));
  },
);

signalTest(
  "client --watch: SIGHUP follows the file, and leaves targets that did not change",
  async () => {
    await using folder = await tempFolder();
    const { server, state } = failingServer(Infinity);
    await using _ = server;
    await using reflector = serve({ telemetry: false }, stampReflector());
    const address = formatAddress(server.addr);
    const [a, b] = ["a", "b"].map((name) => ({ name, address, ...FAST }));
    const started = await watching(folder.path, { targets: [a, b] });
    const { program, path, url, next } = started;
    await using _program = program;
    const stamp = {
      ...FAST,
      stamp: true,
      address: formatAddress(reflector.addr),
    };
    const targets = [a, { name: "c", ...stamp }];
    await write(
      path,
      JSON.stringify({ listen: "127.0.0.1:0", maxRate: 1000, targets }),
    );
    await state.first.promise;
    const before = outcomeOf(await textOf(`${url}metrics`), "received");
    program.kill("SIGHUP");
    assertEquals(await next().then(({ type, targets }) => [type, targets]), [
      "reloaded",
      2,
    ]);
    const metrics = await textOf(`${url}metrics`);
    assert(outcomeOf(metrics, "received") >= before);
    assert(!metrics.includes('target="b"'));
    assertStringIncludes(metrics, 'target="c"');
    await write(path, '{"targets": [{"name": "a"}]}');
    program.kill("SIGHUP");
    // It goes on as before; the mistake is on stderr.
    await write(path, JSON.stringify({ maxRate: 1000, targets }));
    program.kill("SIGHUP");
    assertEquals((await next()).type, "reloaded");
    program.kill("SIGTERM");
    const { code, stderr } = await program.ended();
    assertEquals(code, 0);
    assertStringIncludes(stderr, "'listen' and 'keepDays' need a restart");
  },
);

programTest(
  "client --watch: a wrong file ends it with 2, and a line for each mistake",
  async () => {
    await using folder = await tempFolder();
    const path = `${folder.path}/watch.json`;
    await write(path, '{"targets": [{"name": "a"}, {"address": "b:x"}]}');
    const permissions = ["--allow-net", "--allow-read", "--no-prompt"];
    const { code, stderr } = await client(["--watch", path], { permissions });
    assertEquals(code, 2);
    const lines = stderr.trimEnd().split("\n");
    assertEquals(lines.length, 3, stderr);
    assertStringIncludes(lines[0]!, `${path}: targets[0]: it has no 'address'`);
    assertStringIncludes(lines[1]!, "targets[1]: HOST[:PORT]");
    const refused = await client(["--watch", path], {
      permissions: ["--allow-net", "--no-prompt"],
    });
    assertEquals(refused.code, 2);
    assertStringIncludes(refused.stderr, `--allow-read=${path}`);
  },
);

signalTest(
  "client --watch: /probe asks what the file allows, and nothing else",
  async () => {
    await using folder = await tempFolder();
    const { server, state } = failingServer(Infinity);
    await using _ = server;
    const { port } = server.addr;
    const { program, url } = await watching(folder.path, {
      modules: {
        ping: { message: "ping", expect: "pong" },
        wrong: { expect: "something else", timeout: "50ms" },
        three: { count: 3 },
      },
      probe: {
        networks: ["127.0.0.0/24", "239.0.0.0/8"],
        ports: [port],
        perSecond: 100,
        atOnce: 1,
      },
    });
    await using _program = program;
    const probe = async (query: string, headers = {}) => {
      const answer = await fetch(`${url}probe?${query}`, { headers });
      return { status: answer.status, text: await answer.text() };
    };
    const asked = await probe(`target=127.0.0.1:${port}&module=ping`);
    assertEquals([asked.status, valueOf(asked.text, "probe_success")], [
      200,
      1,
    ]);
    assertEquals(valueOf(asked.text, "probe_ip_protocol"), 4);
    assertEquals(valueOf(asked.text, "roundtrip_client_rtt_seconds_count"), 1);
    const wrong = await probe(`target=127.0.0.1:${port}&module=wrong`);
    assertEquals(valueOf(wrong.text, "probe_success"), 0);
    await probe(`target=127.0.0.1:${port}&module=three`);
    assertEquals(state.answered, 5);
    const crossSite = { "sec-fetch-site": "cross-site" };
    const query = `target=127.0.0.1:${port}&module=ping`;
    assertEquals((await probe(query, crossSite)).status, 403);
    const refusals: Array<[string, number, string]> = [
      [`target=127.0.0.1:9&module=ping`, 403, "none of the file's 'ports'"],
      [`target=239.1.1.1:${port}&module=ping`, 403, "none of the file's"],
      [`target=127.0.1.1:${port}&module=ping`, 403, "in none of the file's"],
      [`target=localhost.invalid:${port}&module=ping`, 200, "probe_success 0"],
      [
        `target=127.0.0.1:${port}&module=other`,
        400,
        "one of: ping, wrong, three",
      ],
      [`module=ping`, 400, "'target' is missing"],
      [`target=127.0.0.1:x&module=ping`, 400, "HOST[:PORT]"],
      [`target=--stamp:${port}&module=ping`, 200, "probe_success 0"],
      [`target=127.0.0.1&module=__proto__`, 400, "'module'"],
    ];
    for (const [query, status, part] of refusals) {
      const refused = await probe(query);
      assertEquals(refused.status, status, `${query}: ${refused.text}`);
      assertStringIncludes(refused.text, part);
    }
    assertEquals(state.answered, 5, "no other datagram was sent");
    // A second one while the first one waits for its reply.
    state.left = 0;
    const both = await Promise.all(
      [1, 2].map(() => probe(`target=127.0.0.1:${port}&module=wrong`)),
    );
    assertEquals(both.map(({ status }) => status).sort(), [200, 429]);
    program.kill("SIGTERM");
    assertEquals((await program.ended()).stderr, "");
  },
);

programTest(
  "client --watch: the page, its events and pictures are served to GET only",
  async () => {
    await using folder = await tempFolder();
    const { server } = failingServer(Infinity);
    await using _ = server;
    const name = 'a <b> "c"';
    const target = { name, address: formatAddress(server.addr), ...FAST };
    const { program, url } = await watching(folder.path, { targets: [target] });
    await using _program = program;
    const page = await fetch(url);
    assertStringIncludes(
      page.headers.get("content-security-policy")!,
      "default-src 'none'",
    );
    assertStringIncludes(await page.text(), "<table");
    const events = await fetch(`${url}events`);
    const reader = events.body!.pipeThrough(new TextDecoderStream())
      .getReader();
    const { value } = await reader.read();
    const update = JSON.parse(value!.slice("data: ".length));
    assertEquals([update.isAll, update.targets[0].name], [true, name]);
    await reader.cancel();
    const query = `plot.svg?target=${encodeURIComponent(name)}`;
    for (const suffix of ["", "&small", "&span=day"]) {
      const picture = await textOf(url + query + suffix);
      assertStringIncludes(picture, "<svg");
      assert(!picture.includes("<b>"), "the name is escaped");
    }
    const statuses = await Promise.all([
      fetch(`${url}plot.svg?target=other`),
      fetch(`${url}${query}&span=year`),
      fetch(`${url}nothing`),
      fetch(`${url}metrics`, { method: "POST" }),
    ].map(async (answer) => {
      const { status, body } = await answer;
      await body?.cancel();
      return status;
    }));
    assertEquals(statuses, [404, 404, 404, 405]);
  },
);

signalTest(
  "client --watch: Prometheus scrapes it, and promtool finds no fault",
  async () => {
    await using folder = await tempFolder();
    const { server, state } = failingServer(40);
    await using _ = server;
    const target = { name: "a", address: formatAddress(server.addr), ...FAST };
    const { program, url, next } = await watching(folder.path, {
      targets: [target],
    });
    await using _program = program;
    assertEquals((await next()).type, "down");
    for (const accept of ["text/plain", "application/openmetrics-text"]) {
      const metrics = await textOf(`${url}metrics`, { accept });
      const check = new Deno.Command("promtool", {
        args: ["check", "metrics"],
        stdin: "piped",
        stdout: "piped",
        stderr: "piped",
      }).spawn();
      const writer = check.stdin.getWriter();
      await writer.write(new TextEncoder().encode(metrics));
      await writer.close();
      const { stderr, code } = await check.output();
      // It reads the older format only.
      if (accept !== "text/plain") continue;
      assertEquals([code, new TextDecoder().decode(stderr)], [0, ""]);
    }
    // Stands between both, and knows when it was scraped.
    const scraped = Promise.withResolvers<void>();
    let scrapes = 0;
    await using proxy = Deno.serve({
      port: 0,
      hostname: "127.0.0.1",
      onListen() {},
    }, async (request) => {
      const accept = request.headers.get("accept") ?? "";
      const answer = await fetch(`${url}metrics`, { headers: { accept } });
      if (++scrapes === 3) scraped.resolve();
      return new Response(answer.body, { headers: answer.headers });
    });
    await write(
      `${folder.path}/prometheus.yml`,
      `
scrape_configs:
  - job_name: watch
    scrape_interval: 200ms
    static_configs: [{ targets: ["127.0.0.1:${proxy.addr.port}"] }]
`,
    );
    const port = await freePort();
    const prometheus = new Program("prometheus", [
      `--config.file=${folder.path}/prometheus.yml`,
      `--storage.tsdb.path=${folder.path}/data`,
      `--web.listen-address=127.0.0.1:${port}`,
    ]);
    await using _prometheus = prometheus;
    await scraped.promise;
    const query = encodeURIComponent(
      'roundtrip_client_datagrams_total{target="a",roundtrip_outcome="received"}',
    );
    const found = await textOf(
      `http://127.0.0.1:${port}/api/v1/query?query=${query}`,
    );
    const { data } = JSON.parse(found);
    assertEquals(data.result[0]?.value[1], `${state.answered}`, found);
  },
  ["prometheus", "promtool"],
);

programTest(
  "client --watch: on loopback it answers no page of another name",
  async () => {
    await using folder = await tempFolder();
    const target = { name: "a", address: "127.0.0.1:9", ...FAST };
    const { program, url } = await watching(folder.path, { targets: [target] });
    await using _program = program;
    const port = Number(new URL(url).port);
    for (
      const [host, status] of [
        ["rebound.example", 403],
        [`localhost:${port}`, 200],
        [`127.0.0.1:${port}`, 200],
        ["[::1]:80", 200],
        ["a b", 400],
      ] as const
    ) {
      using tcp = await Deno.connect({ hostname: "127.0.0.1", port });
      const request = `GET /metrics HTTP/1.1\r\nHost: ${host}\r\n` +
        "Connection: close\r\n\r\n";
      await tcp.write(new TextEncoder().encode(request));
      const answer = await new Response(tcp.readable).text();
      assertStringIncludes(answer, `HTTP/1.1 ${status} `, host);
    }
  },
);

signalTest(
  "client --watch: an outage that is known only at its end is everywhere",
  async () => {
    await using folder = await tempFolder();
    let received = 0;
    // Each later datagram is answered long before the last lost one times out.
    await using server = serve({ telemetry: false }, () => {
      received++;
      return received > 5 && received <= 17 ? undefined : "pong";
    });
    const target = { name: "a", address: formatAddress(server.addr) };
    const slow = { interval: "20ms", timeout: "1s", hold: "0" };
    const history = `${folder.path}/history.db`;
    const { program, url, next } = await watching(
      folder.path,
      { targets: [{ ...target, ...slow }] },
      "--history",
      history,
    );
    await using _program = program;
    const [down, up] = [await next(), await next()];
    assertEquals([down.type, up.type, up.lost], ["down", "up", 12]);
    const metrics = await textOf(`${url}metrics`);
    const head = (name: string) => `roundtrip_client_${name}{target="a"}`;
    assertEquals(valueOf(metrics, head("outages_total")), 1);
    const seconds = valueOf(metrics, head("outage_time_seconds_total"));
    assert(Math.abs(seconds - up.seconds) < 0.001, `${seconds} ${up.seconds}`);
    program.kill("SIGTERM");
    assertEquals((await program.ended()).code, 0);
    using db = new DatabaseSync(history, { readOnly: true });
    const outages = db.prepare("SELECT datagrams FROM outage").all();
    assertEquals(outages.map(({ datagrams }) => datagrams), [12]);
  },
);

programTest(
  "client --watch: a history is of one watch, and of no other program",
  async () => {
    await using folder = await tempFolder();
    const target = { name: "a", address: "127.0.0.1:9", ...FAST };
    const history = `${folder.path}/history.db`;
    const args = ["--history", history] as const;
    const { program, path } = await watching(
      folder.path,
      { targets: [target] },
      ...args,
    );
    await using _program = program;
    const permissions = RUN.slice(1);
    const second = await client(["--watch", path, ...args], { permissions });
    assertEquals(second.code, 2);
    assertStringIncludes(
      second.stderr,
      `--history ${history}: database is locked`,
    );
    const other = `${folder.path}/other.db`;
    const script = `import { DatabaseSync } from "node:sqlite";
    new DatabaseSync(${
      JSON.stringify(other)
    }).exec("CREATE TABLE target (a)");`;
    await new Deno.Command(Deno.execPath(), { args: ["eval", script] })
      .output();
    const refused = await client(["--watch", path, "--history", other], {
      permissions,
    });
    assertEquals(refused.code, 2);
    assertStringIncludes(refused.stderr, "it is a database of another program");
  },
);

programTest(
  "client --watch: many readers of the metrics at once get whole texts",
  async () => {
    await using folder = await tempFolder();
    const targets = Array.from({ length: 50 }, (_, i) => ({
      ...{ name: `${i}`, address: "127.0.0.1:9", interval: "1s" },
    }));
    const { program, url } = await watching(folder.path, { targets });
    await using _program = program;
    const texts = await Promise.all(
      Array.from({ length: 50 }, () => textOf(`${url}metrics`)),
    );
    for (const text of texts) {
      assertEquals(text.match(/^roundtrip_client_sent_total/gm)?.length, 50);
    }
  },
);

/** A port of TCP that was free a moment ago. */
async function freePort(): Promise<number> {
  const listener = Deno.listen({ port: 0, hostname: "127.0.0.1" });
  const { port } = listener.addr as Deno.NetAddr;
  listener.close();
  return await Promise.resolve(port);
}

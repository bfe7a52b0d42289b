/**
 * The exports of OpenTelemetry, as read by an OTLP receiver other than Deno's.
 */
import { assert, assertEquals } from "@std/assert";
import {
  client,
  ENGINE,
  linuxTest,
  portOf,
  Program,
  programTest,
} from "../helpers.ts";

interface Span {
  name: string;
  kind: number;
  status?: { code: number };
  attributes: Point["attributes"];
}

interface Point {
  attributes: Array<{
    key: string;
    value: { stringValue?: string; intValue?: string; doubleValue?: number };
  }>;
  asDouble?: number;
  asInt?: string;
  count?: string;
  sum?: number;
  explicitBounds?: number[];
}

/** The text of all attributes. */
const textOf = ({ attributes }: Pick<Point, "attributes">) =>
  attributes.map(({ key, value }) => `${key}=${Object.values(value)[0]}`)
    .sort().join(",");

const shownSpan = (span: Span) =>
  `${span.name} ${span.kind} ${span.status?.code ?? 0} ${textOf(span)}`;

/** Receives exports, and keeps the last value of each metric. */
function receiver() {
  const metrics = new Map<string, number>();
  const spans: Span[] = [];
  const bounds: number[] = [];
  let nextExport = Promise.withResolvers<void>();
  const server = Deno.serve(
    { port: 0, hostname: "127.0.0.1", onListen() {} },
    async (request) => {
      const body = await request.json();
      const scopes = (body.resourceMetrics ?? body.resourceSpans ?? [])
        .flatMap((resource: Record<string, unknown>) =>
          resource.scopeMetrics ?? resource.scopeSpans
        ).filter(({ scope }: { scope?: { name: string } }) =>
          scope?.name === "roundtrip"
        );
      for (const { metrics: all = [], spans: some = [] } of scopes) {
        spans.push(...some);
        for (const { name, sum, gauge, histogram } of all) {
          for (const point of (sum ?? gauge ?? histogram).dataPoints) {
            const { asDouble, asInt, count } = point as Point;
            const value = Number(asDouble ?? asInt ?? count);
            metrics.set(`${name}{${textOf(point)}}`, value);
            bounds.splice(0, 99, ...point.explicitBounds ?? bounds);
          }
        }
      }
      nextExport.resolve();
      nextExport = Promise.withResolvers();
      return Response.json({});
    },
  );
  const { port } = server.addr;
  return {
    spans,
    bounds,
    /** The sum of a metric over all attributes that have these texts. */
    total: (name: string, ...texts: string[]) =>
      [...metrics].filter(([key]) =>
        key.startsWith(`${name}{`) && texts.every((text) => key.includes(text))
      ).reduce((sum, [, value]) => sum + value, 0),
    names: () => [...metrics.keys()],
    /** Resolves at the next export. */
    exported: () => nextExport.promise,
    // Deno can hang at its exit during an export: this interval leaves one
    // export, at the exit.
    run: (args: string[], exportMs = 60_000) =>
      new Program(Deno.execPath(), args, {
        env: {
          NO_COLOR: "1",
          OTEL_DENO: "true",
          OTEL_EXPORTER_OTLP_PROTOCOL: "http/json",
          OTEL_EXPORTER_OTLP_ENDPOINT: `http://127.0.0.1:${port}`,
          OTEL_METRIC_EXPORT_INTERVAL: `${exportMs}`,
        },
      }),
    [Symbol.asyncDispose]: () => server.shutdown(),
  };
}

const GRANTS = ENGINE === "linux"
  ? ["--allow-net", "--allow-ffi", "--allow-read"]
  : ["--allow-net"];
const CHOICE = ["--engine", ENGINE];

programTest("OpenTelemetry: the programs' counts are exported", async () => {
  await using otlp = receiver();
  const start = (program: string, ...args: string[]) =>
    otlp.run(["run", ...GRANTS, program, ...CHOICE, ...args]);
  await using s = start("server.ts", "-p", "0", "--json", "-q", "--echo");
  const { port } = JSON.parse(await s.line());
  const target = `127.0.0.1:${port}`;
  const loading = ["--window", "16", "-c", "2000", "-s", "32"];
  await using load = start("client.ts", target, ...loading);
  assertEquals((await load.ended()).code, 0);
  // Warm-up datagrams are not counted.
  assertEquals(otlp.total("roundtrip.client.sent"), 2000);
  assertEquals(otlp.total("roundtrip.client.datagrams", "received"), 2000);
  assertEquals(otlp.total("roundtrip.client.datagrams"), 2000);
  await using series = start("client.ts", target, "-c", "10", "-i", "0", "-q");
  assertEquals((await series.ended()).code, 0);
  s.kill("SIGTERM");
  const stats = JSON.parse((await s.ended()).stdout.trim().split("\n").at(-1)!);
  const server = "roundtrip.server.datagrams";
  assertEquals(
    otlp.total(server, "outcome=replied", `server.port=${port}`),
    stats.replied,
  );
  assertEquals(otlp.total(server), stats.received);
  const io = "roundtrip.server.io";
  assertEquals(otlp.total(io, "direction=receive"), stats.bytes.received);
  assertEquals(otlp.total(io, "direction=transmit"), stats.bytes.replied);
  const names = otlp.names().join("\n");
  assert(names.includes("roundtrip.server.in_flight{"), names);
  // Each process has counts of its own, and the series exported last.
  assertEquals(otlp.total("roundtrip.client.datagrams", "received"), 10);
  assertEquals(otlp.total("roundtrip.client.sent"), 10);
  assertEquals(otlp.total("roundtrip.client.rtt"), 10);
  assertEquals([otlp.bounds[0], otlp.bounds.at(-1)], [1e-5, 10]);
  assert(!/127\.0\.0\.1:|client\.address|peer/.test(names), names);
});

programTest(
  "OpenTelemetry: each request is a span, with its attempts",
  async () => {
    await using otlp = receiver();
    const code = `import { request, serve } from "./lib/mod.ts";
    const options = { trace: true, engine: "${ENGINE}" };
    const server = serve(options, (d) => d.length > 4 ? null : Promise.resolve(d));
    await request(server.addr, "ping");
    await request(server.addr, "nothing", { timeoutMs: 20, retries: 1 })
      .catch(() => {});
    await server.shutdown();`;
    await using program = otlp.run(["eval", "--unstable-net", code]);
    const { code: exit, stderr } = await program.ended();
    assertEquals([exit, stderr], [0, ""]);
    const shown = otlp.spans.map(shownSpan);
    // Kind 2 is a server, 3 a client; status 2 is an error.
    assertEquals(shown.sort(), [
      "roundtrip handler 2 0 network.transport=udp",
      "roundtrip handler 2 0 network.transport=udp",
      "roundtrip handler 2 0 network.transport=udp",
      "roundtrip request 3 0 network.transport=udp,roundtrip.attempts=1",
      "roundtrip request 3 2 error.type=TimeoutError,network.transport=udp,roundtrip.attempts=2",
    ]);
    const client = "roundtrip.client.datagrams";
    assertEquals(otlp.total(client, "received"), 1);
    assertEquals(otlp.total(client, "lost"), 1);
    assertEquals(otlp.total("roundtrip.client.sent"), 3);
  },
);

programTest(
  "OpenTelemetry: handlers that fail are distinguished",
  async () => {
    await using otlp = receiver();
    const code = `import { request, serve } from "./lib/mod.ts";
    const options = { trace: true, engine: "${ENGINE}", onError: () => "failed" };
    const server = serve(options, (d) => {
      if (d[0] === 48) throw new RangeError("at once");
      if (d[0] === 49) return Promise.reject("later");
      return "fine";
    });
    const telemetry = false;
    for (const text of "012") await request(server.addr, text, { telemetry });
    await server.shutdown();`;
    await using program = otlp.run(["eval", "--unstable-net", code]);
    assertEquals((await program.ended()).stderr, "");
    const udp = "network.transport=udp";
    assertEquals(otlp.spans.map(shownSpan), [
      `roundtrip handler 2 2 error.type=RangeError,${udp}`,
      `roundtrip handler 2 2 error.type=string,${udp}`,
      `roundtrip handler 2 0 ${udp}`,
    ]);
    assertEquals(otlp.total("roundtrip.client.sent"), 0);
    assertEquals(otlp.total("roundtrip.server.errors", "handler"), 2);
  },
);

programTest(
  "OpenTelemetry: the counts of connect() are exported",
  async () => {
    await using otlp = receiver();
    const code = `import { connect, serve } from "./lib/mod.ts";
    const engine = "${ENGINE}";
    const server = serve({ engine }, (d) => d[0] === 48 ? null : d);
    const key = (data) => data[0];
    const once = { timeoutMs: 500, retries: 1 };
    for (const telemetry of [true, false]) {
      await using client = await connect(server.addr, { key, engine, telemetry, ...once });
      const asked = ["0", "1", "2"].map((text) => client.request(text));
      asked.push(client.request("3", { match: () => { throw new Error("no"); } }));
      await Promise.allSettled(asked);
    }
    await server.shutdown();`;
    await using program = otlp.run(["eval", "--unstable-net", code]);
    assertEquals((await program.ended()).stderr, "");
    const datagrams = "roundtrip.client.datagrams";
    // One of four requests is sent again.
    assertEquals(otlp.total("roundtrip.client.sent"), 5);
    assertEquals(otlp.total("roundtrip.client.rtt"), 2);
    for (
      const [outcome, count] of [["received", 2], ["lost", 1], ["unsent", 1]]
    ) {
      assertEquals(
        otlp.total(datagrams, `outcome=${outcome}`),
        count,
        `${outcome}`,
      );
    }
    assertEquals(otlp.total(datagrams), 4);
  },
);

programTest(
  "requestMany(): OpenTelemetry has lone datagrams, retransmissions as sent",
  async () => {
    await using otlp = receiver();
    const code = `import { requestMany, serve } from "./lib/mod.ts";
    const engine = "${ENGINE}";
    const server = serve({ engine }, (data) => data.length > 0 ? data : null);
    const silent = { engine, timeoutMs: 20, retries: 1 };
    for await (const _ of requestMany(server.addr, "", silent));
    for await (const _ of requestMany(server.addr, "x", { engine }));
    await server.shutdown();`;
    await using program = otlp.run(["eval", "--unstable-net", code]);
    assertEquals((await program.ended()).stderr, "");
    assertEquals(otlp.total("roundtrip.client.sent"), 3);
    assertEquals(otlp.total("roundtrip.client.datagrams", "lost"), 1);
    assertEquals(otlp.total("roundtrip.client.datagrams", "received"), 1);
    assertEquals(otlp.total("roundtrip.client.rtt"), 1);
  },
);

programTest(
  "gather(): OpenTelemetry has its figures, unless `telemetry` is false",
  async () => {
    await using otlp = receiver();
    const code = `import { gather, serve } from "./lib/mod.ts";
    const engine = "${ENGINE}";
    const servers = [0, 1].map(() => serve({ engine }, (data) => data));
    const list = servers.map(({ addr }) => addr);
    for (const telemetry of [true, false]) {
      await gather(list, "who?", { engine, telemetry });
    }
    for (const server of servers) await server.shutdown();`;
    await using program = otlp.run(["eval", "--unstable-net", code]);
    assertEquals((await program.ended()).stderr, "");
    assertEquals(otlp.total("roundtrip.client.sent"), 2);
    assertEquals(otlp.total("roundtrip.client.datagrams", "received"), 2);
    assertEquals(otlp.total("roundtrip.client.datagrams"), 2);
    assertEquals(otlp.total("roundtrip.client.rtt"), 2);
  },
);

programTest(
  "OpenTelemetry: has the figures of a measurement, and of its reflector",
  async () => {
    await using otlp = receiver();
    const code = `import { serve } from "./lib/mod.ts";
    import { measure, stampReflector } from "./lib/stamp/mod.ts";
    const server = serve({ engine: "${ENGINE}" }, stampReflector());
    const options = { count: 30, intervalMs: 10, engine: "${ENGINE}" };
    for await (const _ of measure(server.addr, options));
    await server.shutdown();`;
    await using program = otlp.run(["eval", "--unstable-net", code]);
    assertEquals((await program.ended()).stderr, "");
    assertEquals(otlp.total("roundtrip.reflector.packets", "reflected"), 30);
    assertEquals(otlp.total("roundtrip.client.datagrams", "received"), 30);
    const names = otlp.names();
    for (
      const name of [
        "roundtrip.stamp.jitter{network.transport=udp,roundtrip.direction=forward}",
        "roundtrip.stamp.clock_offset{network.transport=udp}",
        "roundtrip.stamp.lost{network.transport=udp,roundtrip.direction=up}",
      ]
    ) assert(names.includes(name), names.join("\n"));
  },
);

linuxTest("OpenTelemetry: has the sum of all --workers", async () => {
  await using otlp = receiver();
  await using s = otlp.run([
    ...["run", ...GRANTS, "server.ts", "--engine", "linux", "-p", "0"],
    ...["--workers", "2", "-q"],
  ], 500);
  const port = await portOf(s);
  for (let i = 0; i < 6; i++) {
    assertEquals((await client([`127.0.0.1:${port}`])).code, 0);
  }
  // Exports arrive while the server runs.
  while (otlp.total("roundtrip.server.datagrams", "replied") < 6) {
    await otlp.exported();
  }
  s.kill("SIGTERM");
  assertEquals((await s.ended()).stderr, "6 received, 6 replied\n");
  assertEquals(otlp.total("roundtrip.server.datagrams"), 6);
  assertEquals(otlp.total("roundtrip.server.io", "direction=receive"), 96);
});

import { assertEquals, assertMatch } from "@std/assert";
import type { UdpAddress } from "../../lib/address.ts";
import {
  comparisonLines,
  type Ended,
  runMany,
  sorted,
} from "../../lib/cli/runs/many.ts";
import { type Probe, runMtu, searchSizes } from "../../lib/cli/runs/mtu.ts";
import { summarize } from "../../lib/stats/statistics.ts";
import { flushNotes, LineWriter } from "../../lib/cli/output.ts";
import type { ReportOptions } from "../../lib/cli/show/reporter.ts";
import { serve } from "../../lib/server/serve.ts";
import type { OpenOptions } from "../../lib/socket/contract.ts";
import { SimulatedNetwork } from "../../lib/testing/mod.ts";

const RTT = summarize([1, 2, 3])!;

function row(label: string, lossPercent: number, median?: number): Ended {
  const rttMs = median === undefined ? undefined : { ...RTT, median };
  return { label, outcome: { sent: 4, received: 2, lossPercent, rttMs } };
}

Deno.test("client HOST...: a table is sorted by loss, then by RTT", () => {
  const unknown = { label: "unknown", error: "no such name" };
  const rows = [
    unknown,
    row("lost", 100),
    row("slow", 0, 9),
    row("half", 50, 1),
    row("fast", 0, 2),
    row("none", 0),
  ];
  assertEquals(sorted(rows).map(({ label }) => label), [
    "fast",
    "slow",
    "none",
    "half",
    "lost",
    "unknown",
  ]);
  assertEquals(
    comparisonLines([row("fast", 0, 2), unknown, row("lost", 100)]),
    [
      "rtt in ms  sent  received  loss    min  median    p99    max",
      "fast          4         2    0%  1.000   2.000  3.000  3.000",
      "lost          4         2  100%    n/a     n/a    n/a    n/a",
      "unknown: no such name",
    ].join("\n"),
  );
});

/** A path with a largest payload, which it reports or not. */
function path(limit: number, hintOf: (size: number) => number | undefined) {
  const tried: number[] = [];
  const probe = (size: number): Promise<Probe> => {
    tried.push(size);
    const isAnswered = size <= limit;
    const hint = isAnswered ? undefined : hintOf(size);
    const facts = { size, isAnswered, hint, dontFragment: true };
    return Promise.resolve({ type: "probe", ...facts });
  };
  return { tried, probe };
}

/** The largest size that a search finds. */
async function largest(max: number, probe: (size: number) => Promise<Probe>) {
  const probes = await Array.fromAsync(searchSizes(max, probe));
  return probes.findLast(({ isAnswered }) => isAnswered)?.size;
}

Deno.test("client --find-mtu: finds the largest payload, with or without ICMP", async () => {
  for (const limit of [1, 2, 571, 572, 1472, 65_506, 65_507]) {
    const silent = path(limit, () => undefined);
    assertEquals(await largest(65_507, silent.probe), limit);
    assertEquals(silent.tried.length <= 20, true, `${silent.tried}`);
    const wrong = path(limit, () => 70_000);
    assertEquals(await largest(65_507, wrong.probe), limit);
    const low = path(limit, () => 1);
    assertEquals(await largest(65_507, low.probe), limit);
  }
  // One hop reports 1,472, the next hop 572.
  const honest = path(572, (size) => size > 1472 ? 1472 : 572);
  assertEquals(await largest(65_507, honest.probe), 572);
  assertEquals(honest.tried, [1, 65_507, 1472, 572, 573]);
  const closed = path(0, () => undefined);
  assertEquals(await largest(65_507, closed.probe), undefined);
});

/** The output for targets or sizes of which the second fails. */
async function manyWritten(
  format: "text" | "json" | "json-stream",
  targets: UdpAddress[],
  sizes: Array<number | undefined>,
) {
  let text = "";
  const out = new LineWriter({
    write(bytes: Uint8Array) {
      text += new TextDecoder().decode(bytes);
      return Promise.resolve(bytes.length);
    },
  });
  let calls = 0;
  const labels: Array<[string, boolean]> = [];
  const ask = async (
    _target: UdpAddress,
    size: number | undefined,
    report: ReportOptions,
  ) => {
    const place = calls++;
    const { label } = report;
    labels.push([label!.text, label!.hasLines]);
    await Promise.resolve();
    if (place === 1) throw new Error("no such interface");
    label!.collect({ ...label!.facts, place });
    const lossPercent = size === undefined ? 0 : size / 10;
    return { received: 2, unexpected: 0, lossPercent, rttMs: RTT, sent: 2 };
  };
  const answers = await runMany(
    targets,
    sizes,
    ask,
    { format, quiet: true },
    out,
  );
  // Lines on stderr are written before the test ends.
  await flushNotes();
  return { text, labels, answers };
}

Deno.test("client HOST..., --size A..B: measures all targets or sizes, and compares them", async () => {
  const [a, b] = [{ hostname: "192.0.2.1", port: 7 }, {
    hostname: "192.0.2.2",
    port: 7,
  }];
  const targets = await manyWritten("json", [a, b], [undefined]);
  assertEquals(JSON.parse(targets.text), {
    runs: [
      { target: "192.0.2.1:7", place: 0 },
      { target: "192.0.2.2:7", error: "no such interface" },
    ],
  });
  assertEquals(targets.labels, [["192.0.2.1:7", true], ["192.0.2.2:7", true]]);
  assertEquals(
    targets.answers.map(({ label, outcome }) => [label, outcome?.received]),
    [["192.0.2.1:7", 2], ["192.0.2.2:7", undefined]],
  );
  // A sweep keeps the order of its sizes.
  const sizes = await manyWritten("text", [a], [300, 200, 100]);
  assertEquals(sizes.labels.map(([text]) => text), [
    "300 bytes",
    "200 bytes",
    "100 bytes",
  ]);
  assertEquals(sizes.labels[0]![1], false);
  assertEquals(sizes.text.split("\n").slice(1), [
    "300 bytes     2         2   30%  1.000   2.000  3.000  3.000",
    "100 bytes     2         2   10%  1.000   2.000  3.000  3.000",
    "200 bytes: no such interface",
    "",
  ]);
  const both = await manyWritten("json", [a, b], [100, 200]);
  const { runs } = JSON.parse(both.text);
  assertEquals(
    runs.map(({ target, size }: Record<string, unknown>) => [target, size]),
    [a, b].flatMap(({ hostname, port }) =>
      [100, 200].map((size) => [`${hostname}:${port}`, size])
    ),
  );
  assertEquals((await manyWritten("json-stream", [a, b], [100])).text, "");
});

/** The output of the search for the largest payload, on a path with a limit. */
async function mtuWritten(
  report: ReportOptions,
  limit: number,
  reply: (data: Uint8Array<ArrayBuffer>) => Uint8Array,
  { hostname = "192.0.2.9", hasFragments = true } = {},
) {
  let text = "";
  const out = new LineWriter({
    write(bytes: Uint8Array) {
      text += new TextDecoder().decode(bytes);
      return Promise.resolve(bytes.length);
    },
  });
  // The option of the last socket, the only one that sends.
  let isWhole: boolean | undefined;
  const network = new SimulatedNetwork(({ data, to }) =>
    to.port === 7 && data.length > limit && (isWhole || !hasFragments)
      ? []
      : [1]
  );
  const runtime = {
    ...network.runtime,
    open: (options: OpenOptions) => {
      isWhole = options.dontFragment;
      return network.runtime.open(options);
    },
  };
  const server = { hostname, port: 7 };
  serve({ ...server, runtime, guard: false }, reply);
  const options = { runtime, timeoutMs: 20 };
  const outcome = await network.run(runMtu(server, options, report, out));
  const tries = new Map<number, number>();
  for (const { to, data } of network.sent) {
    if (to.port !== 7) continue;
    tries.set(data.length, (tries.get(data.length) ?? 0) + 1);
  }
  const mostTries = Math.max(...tries.values());
  return {
    mostTries,
    text: text.replaceAll(/"time":"20[^"]*",?/g, ""),
    outcome,
  };
}

Deno.test("client --find-mtu: tries each size three times at most", async () => {
  const quiet = { format: "text", quiet: true } as const;
  const echoed = await mtuWritten(quiet, 1472, (data) => data);
  assertEquals(
    echoed.text,
    "192.0.2.9:7: largest unfragmented payload 1472 bytes to the server, MTU 1500\n",
  );
  assertEquals(echoed.outcome.received, 6);
  // One size more, with fragments allowed.
  assertEquals(echoed.mostTries, 4);
  const short = await mtuWritten(quiet, 100, () => new Uint8Array(1));
  assertEquals(
    short.text,
    "192.0.2.9:7: largest unfragmented payload 100 bytes to the server, MTU 128; the\n  replies are shorter\n",
  );
  const stream = { format: "json-stream", quiet: false } as const;
  const { text } = await mtuWritten(stream, 1, (data) => data);
  const lines = text.trim().split("\n").map((line) => JSON.parse(line));
  const probe = {
    ...{ type: "probe", dontFragment: true, replyBytes: null, why: null },
  };
  assertEquals(lines[0], {
    ...probe,
    size: 1,
    isAnswered: true,
    replyBytes: 1,
  });
  const { why } = lines[1];
  assertEquals(lines[1], { ...probe, size: 65_507, isAnswered: false, why });
  assertEquals(lines.at(-1), {
    type: "summary",
    target: "192.0.2.9:7",
    payloadBytes: 1,
    mtu: 29,
    mtuAtLeast: 29,
    isEcho: true,
    isStopped: false,
  });
  const shown = await mtuWritten({ ...quiet, quiet: false }, 1, (data) => data);
  assertMatch(shown.text, /^1 byte: answered\n65507 bytes: no answer: /);
  const documents: Array<Record<string, unknown>> = [];
  const label = {
    text: "x",
    facts: {},
    hasLines: true,
    collect: (document: Record<string, unknown>) => documents.push(document),
  };
  const json = { format: "json", quiet: true, label } as const;
  const none = await mtuWritten(json, 0, (data) => data);
  assertEquals([none.text, none.outcome.received], ["", 0]);
  assertEquals([documents[0]!.payloadBytes, documents[0]!.mtu], [null, null]);
  assertEquals(documents[0]!.probes, undefined);
});

Deno.test("client --find-mtu: a server that ignores longer requests is no limit of the path", async () => {
  const ignored = { hasFragments: false };
  const echo = (data: Uint8Array) => data;
  const json = { format: "json", quiet: true } as const;
  const { text } = await mtuWritten(json, 512, echo, ignored);
  const { payloadBytes, mtu, mtuAtLeast } = JSON.parse(text);
  assertEquals([payloadBytes, mtu, mtuAtLeast], [512, null, 540]);
  const shown = { format: "text", quiet: false } as const;
  const lines = (await mtuWritten(shown, 512, echo, ignored)).text.trim();
  assertEquals(lines.split("\n").slice(-3), [
    "513 bytes in fragments: no answer: not within the time, 3 times",
    "192.0.2.9:7: the server answers at most 512 bytes; the path's MTU is unknown (at",
    "  least 540)",
  ]);
  const path = (await mtuWritten(shown, 512, echo)).text.trim();
  assertEquals(path.split("\n").slice(-2), [
    "513 bytes in fragments: answered",
    "192.0.2.9:7: largest unfragmented payload 512 bytes to the server, MTU 540",
  ]);
  // Each path takes 1,280 bytes of IPv6; no router fragments more.
  const ipv6 = { ...ignored, hostname: "2001:db8::9" };
  const limits = await Promise.all([512, 1231, 1232].map(async (limit) => {
    const { text } = await mtuWritten(json, limit, echo, ipv6);
    return JSON.parse(text).mtu;
  }));
  assertEquals(limits, [null, null, 1280]);
});

import { assert, assertEquals } from "@std/assert";
import { wrap } from "../../lib/cli/show/format.ts";
import { traceLines, type TraceResult } from "../../lib/cli/show/trace.ts";
import type { Path } from "../../lib/client/trace/paths.ts";
import { Hop } from "../../lib/client/trace/search.ts";

/** The target's hop, or one whose three probes took 1, 2 and 3 ms; "" for a silent one. */
function hop(address = "", facts: Partial<Hop> = {}): Hop {
  const hop = Object.assign(new Hop(), { sent: 3, ...facts });
  if (address === "") return Object.assign(hop, { lost: 3 }, facts);
  hop.received = 3;
  hop.reached = hop.isTarget ? 3 : 0;
  hop.addresses.add(address);
  for (const ms of [1, 2, 3]) hop.rtts.add(ms);
  return hop;
}

function path(port: number, hops: Hop[], facts: Partial<Path> = {}): Path {
  const rest = { isReached: true, mtuReports: [], mtu: 1500 };
  return { sourcePorts: [port], hops, ...rest, ...facts };
}

function lines(paths: Path[], facts: Partial<TraceResult> = {}): string[] {
  return traceLines({
    target: "10.6.0.2:7",
    isReached: true,
    sent: 9,
    seesHeaders: true,
    trafficClass: 46 << 2,
    paths,
    untraced: 0,
    ...facts,
  });
}

Deno.test("traceLines(): a row for each hop, with remarks on its changes", () => {
  const hops = [
    hop("10.1.0.2", { trafficClasses: new Set([184]), name: "near.example" }),
    hop(),
    hop("10.4.0.2", { trafficClasses: new Set([33]) }),
    hop("10.6.0.2", {
      trafficClasses: new Set([33]),
      kinds: new Set(["closed"] as const),
    }),
  ];
  const mtuReports = [
    { mtu: 1400, from: "10.4.0.2" },
    { mtu: 1300, from: "10.9.9.9" },
  ];
  assertEquals(lines([path(1, hops, { mtuReports, mtu: 1300 })]), [
    "hop address   loss  sent  min ms  median    max",
    "  1 10.1.0.2    0%     3   1.000   2.000  3.000  near.example",
    "  2 *         100%     3",
    "  3 10.4.0.2    0%     3   1.000   2.000  3.000  DSCP 46 -> 8, ECN 0 -> 1",
    "    MTU 1400 from here",
    "  4 10.6.0.2    0%     3   1.000   2.000  3.000  closed port",
    "10.6.0.2:7: 4 hops, 0% loss, MTU 1300",
    "  MTU 1300, as 10.9.9.9 reports, which is no hop",
  ]);
});

Deno.test("traceLines(): common hops of paths are one row, others one for each path", () => {
  const target = () => hop("10.6.0.2", { kinds: new Set(["reply"] as const) });
  const paths = [
    path(1, [hop("10.1.0.2"), hop("10.2.0.2"), target()]),
    path(2, [hop("10.1.0.2"), hop("10.3.0.2"), target()]),
    path(3, [hop("10.1.0.2"), hop("10.3.0.2"), hop("10.4.0.2"), target()], {
      mtu: null,
    }),
  ];
  assertEquals(lines(paths), [
    "hop address      loss  sent  min ms  median    max",
    "  1 10.1.0.2       0%     9   1.000   2.000  3.000",
    "  2 A 10.2.0.2     0%     3   1.000   2.000  3.000",
    "  2 BC 10.3.0.2    0%     6   1.000   2.000  3.000",
    "  3 AB 10.6.0.2    0%     6   1.000   2.000  3.000  reply",
    "  3 C 10.4.0.2     0%     3   1.000   2.000  3.000",
    "  4 C 10.6.0.2     0%     3   1.000   2.000  3.000  reply",
    "path A: 3 hops, 0% loss, MTU 1500",
    "  source ports 1",
    "path B: 3 hops, 0% loss, MTU 1500",
    "  source ports 2",
    "path C: 4 hops, 0% loss, MTU unknown",
    "  source ports 3",
  ]);
});

Deno.test("traceLines(): a path without its target ends at the last hop that answers", () => {
  const facts = { isReached: false, mtu: undefined };
  const [, , , closing] = lines([path(1, [hop("10.1.0.2"), hop()], facts)]);
  assertEquals(closing, "10.6.0.2:7: no answer beyond hop 1");
  const [, , silent] = lines([path(1, [hop()], facts)]);
  assertEquals(silent, "10.6.0.2:7: no hop answers");
});

Deno.test("traceLines(): probes in flight are no loss, and hops without probes no rows", () => {
  const flying = hop("", { lost: 0 });
  const hops = [hop("10.1.0.2"), flying, hop("", { sent: 0, lost: 0 })];
  const facts = { isReached: false, mtu: undefined };
  assertEquals(lines([path(1, hops, facts)], { untraced: 3 }).slice(2), [
    "  2 *          n/a     3",
    "10.6.0.2:7: no answer beyond hop 1",
    "3 flows not traced yet",
  ]);
});

Deno.test("traceLines(): a path's loss is of the target's answers", () => {
  const refusing = hop("10.6.0.2", {
    kinds: new Set(["closed", "unreachable"] as const),
  });
  refusing.reached = 0;
  const [, row, closing] = lines([path(1, [refusing])]);
  assert(/10.6.0.2 +0% /.test(row!), row);
  assertEquals(closing, "10.6.0.2:7: 1 hop, 100% loss, MTU 1500");
});

Deno.test("traceLines(): paths beyond the alphabet have numbers", () => {
  const paths = Array.from(
    { length: 54 },
    (_, i) =>
      path(i, [hop(`10.0.0.${i}`), hop(i < 2 ? "10.1.0.1" : `10.2.0.${i}`)]),
  );
  const shown = lines(paths);
  assert(shown.some((line) => line.startsWith("  2 1,2 10.1.0.1")));
  assert(shown.some((line) => line.startsWith("path 54: ")));
});

Deno.test("traceLines(): long addresses and names fit into 80 columns, and names are printable", () => {
  const address = "2001:db8:1234:5678:9abc:def0:1234:5678";
  const name = `${"long.".repeat(9)}example.net`;
  const hops = [hop(address, { name }), hop("10.6.0.2", { name: "a\x1b[2Jb" })];
  const shown = lines([path(1, hops)]);
  assert(shown.every((line) => line.length <= 80), shown.join("\n"));
  assert(shown.includes(`    ${name}`), shown.join("\n"));
  assert(!shown.join().includes("\x1b"), shown.join("\n"));
});

Deno.test("traceLines(): many source ports are wrapped", () => {
  const many = path(1, [hop("10.6.0.2")], {
    sourcePorts: Array.from({ length: 64 }, (_, i) => 40_000 + i),
  });
  const shown = wrap(lines([many]).join("\n"), 80).split("\n");
  assert(shown.length > 5, shown.join("\n"));
  assert(shown.every((line) => line.length <= 80), shown.join("\n"));
});

import { assert, assertEquals } from "@std/assert";
import { RTT_BOUNDS_S } from "../../../lib/base/telemetry.ts";
import { type Measured, metricsText } from "../../../lib/cli/watch/metrics.ts";

function measuredAs(name: string, labels = {}): Measured {
  const buckets = new Float64Array(RTT_BOUNDS_S.length + 1);
  buckets[3] = 2;
  buckets[buckets.length - 1] = 1;
  return {
    labels: { target: name, ...labels },
    figures: { sent: 5, received: 3, lost: 1, outageMs: 1500, lostUp: 1 },
    isUp: true,
    buckets,
    rttSumMs: 12_000,
  };
}

const linesOf = (targets: Measured[], isOpen = false) =>
  [...metricsText(targets, isOpen)].join("").trimEnd().split("\n");

Deno.test("metricsText(): counters, gauges and a histogram in seconds", () => {
  const lines = linesOf([measuredAs("a")]);
  for (
    const line of [
      "# TYPE roundtrip_client_sent_total counter",
      'roundtrip_client_sent_total{target="a"} 5',
      'roundtrip_client_datagrams_total{target="a",roundtrip_outcome="lost"} 1',
      'roundtrip_client_outage_time_seconds_total{target="a"} 1.5',
      'roundtrip_client_up{target="a"} 1',
      'roundtrip_stamp_lost{target="a",roundtrip_direction="up"} 1',
      "# TYPE roundtrip_client_rtt_seconds histogram",
      'roundtrip_client_rtt_seconds_bucket{target="a",le="0.00005"} 0',
      'roundtrip_client_rtt_seconds_bucket{target="a",le="0.0001"} 2',
      'roundtrip_client_rtt_seconds_bucket{target="a",le="10"} 2',
      'roundtrip_client_rtt_seconds_bucket{target="a",le="+Inf"} 3',
      'roundtrip_client_rtt_seconds_sum{target="a"} 12',
      'roundtrip_client_rtt_seconds_count{target="a"} 3',
    ]
  ) assert(lines.includes(line), `${line}\n${lines.join("\n")}`);
  assert(!lines.join().includes("server"), "a watch serves nothing");
});

Deno.test("metricsText(): OpenMetrics has units, no suffix in the names, and an end", () => {
  const lines = linesOf([measuredAs("a")], true);
  assertEquals(lines.at(-1), "# EOF");
  for (
    const line of [
      "# TYPE roundtrip_client_sent counter",
      'roundtrip_client_sent_total{target="a"} 5',
      "# UNIT roundtrip_client_outage_time_seconds seconds",
    ]
  ) assert(lines.includes(line), line);
});

Deno.test("metricsText(): labels are escaped, and each family has one head", () => {
  const odd = 'a"b\\c\nd';
  const lines = linesOf([measuredAs(odd, { site: "x" }), measuredAs("b")]);
  assert(
    lines.includes('roundtrip_client_up{target="a\\"b\\\\c\\nd",site="x"} 1'),
  );
  const heads = lines.filter((line) => line.startsWith("# TYPE"));
  assertEquals(new Set(heads).size, heads.length);
});

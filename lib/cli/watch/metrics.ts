/**
 * `/metrics`: figures of targets in the text format of Prometheus, or in OpenMetrics.
 * Names, units and descriptions are those of the telemetry. Pure.
 *
 * @module
 */
import {
  type Attributes,
  COUNTERS,
  GAUGES,
  HISTOGRAMS,
  type Readings,
  RTT_BOUNDS_S,
} from "../../base/telemetry.ts";
import { type ClientFigures, readingsOf } from "../../client/telemetry.ts";

/** The figures of one target. */
export interface Measured {
  labels: Attributes;
  figures: ClientFigures;
  /** Whether it answers; undefined before the first outcome. */
  isUp: boolean | undefined;
  buckets: ArrayLike<number>;
  rttSumMs: number;
}

/** A target, and its figures by the telemetry's names. */
type Read = Measured & Readings;

/** A family of metrics, and its samples: a suffix, labels and a value each. */
interface Family {
  name: string;
  type: "counter" | "gauge" | "histogram";
  unit: string;
  help: string;
  samples(target: Read): Array<[string, Attributes, number | undefined]>;
}

/** The families of all targets, made from the telemetry's tables. */
const FAMILIES: Family[] = [
  ...Object.entries(COUNTERS).map(([name, [unit, help]]): Family => ({
    ...namedOf(name, unit),
    type: "counter",
    help,
    samples: ({ counts }) =>
      counts.filter((one) => one.name === name)
        .map(({ attributes = {}, value }) => ["_total", attributes, value]),
  })),
  ...Object.entries(GAUGES).map(([name, [unit, help]]): Family => ({
    ...namedOf(name, unit),
    type: "gauge",
    help,
    samples: ({ levels = [] }) =>
      levels.filter((one) => one.name === name)
        .map(({ attributes = {}, value }) => ["", attributes, value]),
  })),
  ...Object.entries(HISTOGRAMS).map(([name, [unit, help]]): Family => ({
    ...namedOf(name, unit),
    type: "histogram",
    help,
    samples: ({ buckets, rttSumMs }) => {
      let count = 0;
      const rows = Array.from(
        buckets,
        (each, i): [string, Attributes, number] => {
          const le = RTT_BOUNDS_S[i] ?? "+Inf";
          return ["_bucket", { le: `${le}` }, count += each];
        },
      );
      return [...rows, ["_sum", {}, rttSumMs / 1000], ["_count", {}, count]];
    },
  })),
];

/** The name of a metric in the conventions of Prometheus, and its unit if it has one. */
function namedOf(name: string, unit: string) {
  const full = unit === "s" ? "seconds" : unit === "By" ? "bytes" : "";
  const suffix = full === "" ? "" : `_${full}`;
  return { name: name.replaceAll(".", "_") + suffix, unit: full };
}

/** The text of all families, in parts, so that no part takes long. */
export function* metricsText(
  targets: readonly Measured[],
  isOpen: boolean,
): Generator<string> {
  const read = targets.map((one): Read => ({
    ...one,
    ...readingsOf(one.figures, one.isUp),
  }));
  for (const { name, type, unit, help, samples } of FAMILIES) {
    // In the older format the name of a counter has its suffix everywhere.
    const family = !isOpen && type === "counter" ? `${name}_total` : name;
    let head = `# HELP ${family} ${help}\n# TYPE ${family} ${type}\n` +
      (isOpen && unit !== "" ? `# UNIT ${family} ${unit}\n` : "");
    for (const target of read) {
      let text = "";
      for (const [suffix, attributes, value] of samples(target)) {
        if (value === undefined) continue;
        const labels = labelsText({ ...target.labels, ...attributes });
        text += `${name}${suffix}${labels} ${value}\n`;
      }
      if (text !== "") yield head + text;
      if (text !== "") head = "";
    }
  }
  if (isOpen) yield "# EOF\n";
}

function labelsText(labels: Attributes): string {
  const pairs = Object.entries(labels).map(([name, value]) => {
    const escaped = `${value}`.replace(/[\\"]/g, "\\$&").replaceAll(
      "\n",
      "\\n",
    );
    return `${name.replaceAll(".", "_")}="${escaped}"`;
  });
  return pairs.length === 0 ? "" : `{${pairs.join(",")}}`;
}

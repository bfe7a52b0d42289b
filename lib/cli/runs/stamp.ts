/**
 * `client --stamp`: a measurement, and the lines about it.
 *
 * @module
 */
import type { UdpAddress } from "../../address.ts";
import { measure } from "../../stamp/measure.ts";
import type { MeasureOptions } from "../../stamp/measure_options.ts";
import { stampReflector } from "../../stamp/reflector.ts";
import type { LineWriter } from "../output.ts";
import { warmUp } from "./warm_up.ts";
import { type ReportOptions, showRun } from "../show/reporter.ts";
import { stampView } from "../show/stamp.ts";
import type { RunOutcome } from "../thresholds.ts";

export async function runStamp(
  target: UdpAddress,
  options: MeasureOptions,
  report: ReportOptions & { histogram: boolean },
  out: LineWriter,
): Promise<RunOutcome> {
  const { reportMs, onSample } = report;
  const measurement = measure(target, { ...options, reportMs, onSample });
  await warmUp(
    (server) => Array.fromAsync(measure(server, WARM_UP)),
    stampReflector(),
  );
  const bins = () => report.histogram ? measurement.bins(HISTOGRAM_ROWS) : [];
  const view = stampView(bins);
  const result = (target: string) => ({ target, ...measurement.summary() });
  return await showRun(measurement, target, result, view, report, out);
}

const WARM_UP = {
  count: 20,
  intervalMs: 0.5,
  timeoutMs: 100,
  telemetry: false,
};
const HISTOGRAM_ROWS = 12;

/**
 * `client --stamp`: a measurement, and the lines about it.
 *
 * @module
 */
import type { UdpAddress } from "../../address.ts";
import { serve } from "../../server/serve.ts";
import {
  measure,
  type MeasureOptions,
  type MeasureResult,
} from "../../stamp/measure.ts";
import { stampReflector } from "../../stamp/reflector.ts";
import type { LineWriter } from "../output.ts";
import { follow, type ReportOptions } from "../show/reporter.ts";
import { stampView } from "../show/stamp.ts";

/** Runs a measurement, shows it, and gives its result. */
export async function runStamp(
  target: UdpAddress,
  options: MeasureOptions,
  report: ReportOptions & { histogram: boolean },
  out: LineWriter,
): Promise<MeasureResult> {
  const measurement = measure(target, options);
  await (warmedUp ??= warmUp());
  const bins = () => report.histogram ? measurement.bins(HISTOGRAM_ROWS) : [];
  const view = stampView(bins);
  const result = (target: string) => ({ target, ...measurement.result() });
  return await follow(measurement, target, result, view, report, out);
}

/** Once for all runs of the process. */
let warmedUp: Promise<void> | undefined;

/** The first packets of a process wait for its compiler: these are for that. */
async function warmUp(): Promise<void> {
  try {
    await using server = serve({ telemetry: false }, stampReflector());
    const options = {
      count: 20,
      intervalMs: 0.5,
      timeoutMs: 100,
      telemetry: false,
    };
    for await (const _ of measure(server.addr, options));
  } catch {
    // Without a loopback to use, the first times are what they are.
  }
}

const HISTOGRAM_ROWS = 12;

/**
 * `client` without `--stamp`: one datagram or a series, and the lines about it.
 *
 * @module
 */
import type { UdpAddress } from "../../address.ts";
import { lightTimer } from "../../base/light_timer.ts";
import { requestMany, type RequestManyOptions } from "../../client/series.ts";
import { runtimeFor } from "../../socket/runtime.ts";
import type { LineWriter } from "../output.ts";
import { type ReportOptions, showRun } from "../show/reporter.ts";
import { type SeriesResult, seriesView, singleView } from "../show/series.ts";

export async function runSeries(
  target: UdpAddress,
  payload: Uint8Array,
  options: RequestManyOptions,
  report: ReportOptions,
  out: LineWriter,
): Promise<SeriesResult> {
  const { reportMs, onSample } = report;
  // One of several runs is shown as a series is, however short.
  const isSeries = report.isSeries || report.label !== undefined;
  // The socket of a lone request keeps the process alive.
  const runtime = isSeries
    ? undefined
    : Object.create(runtimeFor(options.engine ?? "deno"), {
      after: { value: lightTimer },
    });
  const series = requestMany(target, payload, {
    ...options,
    runtime,
    reportMs,
    onSample,
  });
  if (isSeries) await warmUpSeries();
  const result = (target: string, unexpected: number) => {
    return { target, ...series.summary(), unexpected };
  };
  const view = (isSeries ? seriesView : singleView)(report.hasHex);
  return await showRun(series, target, result, view, report, out);
}

/** Warms up with modules that a lone request does not load. */
async function warmUpSeries(): Promise<void> {
  const [{ request }, { warmUp }] = await Promise.all([
    import("../../client/request.ts"),
    import("./warm_up.ts"),
  ]);
  const options = { timeoutMs: 100, retries: 0, telemetry: false };
  await warmUp(async (server) => {
    for (let i = 0; i < 3; i++) await request(server, "", options);
  });
}

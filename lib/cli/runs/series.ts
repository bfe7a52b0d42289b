/**
 * `client` without `--stamp`: one datagram or a series, and the lines about it.
 *
 * @module
 */
import type { UdpAddress } from "../../address.ts";
import { requestMany, type RequestManyOptions } from "../../client/series.ts";
import { milliseconds } from "../show/format.ts";
import { complain, type LineWriter } from "../output.ts";
import { warmUp } from "./warm_up.ts";
import { follow, type ReportOptions } from "../show/reporter.ts";
import { type SeriesResult, seriesView, singleView } from "../show/series.ts";

/** Runs a series, shows it, and gives its outcome. */
export async function runSeries(
  target: UdpAddress,
  payload: Uint8Array,
  options: RequestManyOptions,
  report: ReportOptions,
  out: LineWriter,
): Promise<SeriesResult> {
  const series = requestMany(target, payload, options);
  // One of several runs is shown as a series is, however short.
  const isSeries = report.isSeries || report.label !== undefined;
  if (isSeries) await warmUp(prepareWarmUp);
  const result = (target: string, unexpected: number) => {
    return { target, ...series.summary(), unexpected };
  };
  const view = (isSeries ? seriesView : singleView)(report.hasHex);
  const ended = await follow(series, target, result, view, report, out);
  const { heldBack, sent, durationMs } = ended;
  if (heldBack > 0) {
    const each = milliseconds(durationMs / Math.max(1, sent - 1));
    complain(
      "client",
      `--interval was not kept, as 256 datagrams were unanswered ${heldBack} times: it was ${each} ms in the mean (--rate keeps any)`,
    );
  }
  return ended;
}

async function prepareWarmUp() {
  const [{ request }, { echo }] = await Promise.all([
    import("../../client/request.ts"),
    import("../../server/responders.ts"),
  ]);
  const options = { timeoutMs: 100, retries: 0, telemetry: false };
  return {
    handler: echo(),
    async run(server: UdpAddress) {
      for (let i = 0; i < 3; i++) await request(server, "", options);
    },
  };
}

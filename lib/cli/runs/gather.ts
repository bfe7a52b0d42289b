/**
 * `client --all`: every answer of a group, a broadcast address or a list.
 *
 * @module
 */
import { formatAddress, type UdpAddress } from "../../address.ts";
import { gather, type GatherOptions } from "../../client/gather.ts";
import type { LineWriter } from "../output.ts";
import { type ReportOptions, showRun } from "../show/reporter.ts";
import { type GatherEvent, gatherView } from "../show/series.ts";
import type { RunOutcome } from "../thresholds.ts";

/** Gathers the replies, shows them, and gives the outcome. */
export async function runGather(
  targets: UdpAddress[],
  payload: Uint8Array,
  options: GatherOptions,
  report: ReportOptions,
  out: LineWriter,
): Promise<RunOutcome> {
  const gathering = gather(targets, payload, options);
  const run = {
    target: undefined,
    get sent() {
      return gathering.summary().sent;
    },
    stop: () => gathering.stop(),
    async *[Symbol.asyncIterator](): AsyncGenerator<GatherEvent> {
      for await (const reply of gathering) yield { type: "reply", reply };
    },
  };
  const asked = targets.map(formatAddress);
  const result = (_: string, unexpected: number) => {
    return { targets: asked, ...gathering.summary(), unexpected };
  };
  const view = gatherView(report.hasHex);
  return await showRun(run, targets[0]!, result, view, report, out);
}

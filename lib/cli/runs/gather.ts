/**
 * `client --all`: every answer of a group, a broadcast address or a list.
 *
 * @module
 */
import { formatAddress, type UdpAddress } from "../../address.ts";
import { gather, type GatherOptions } from "../../client/gather.ts";
import type { Expectation } from "../expect.ts";
import { complain, type LineWriter } from "../output.ts";
import { follow, type ReportOptions } from "../show/reporter.ts";
import {
  type GatherEvent,
  type GatherResult,
  gatherView,
} from "../show/series.ts";

/** Gathers the replies, shows them, and gives the outcome. */
export async function runGather(
  targets: UdpAddress[],
  payload: Uint8Array,
  options: GatherOptions,
  expected: Expectation | undefined,
  report: ReportOptions,
  out: LineWriter,
): Promise<GatherResult> {
  const gathering = gather(targets, payload, options);
  let unexpected = 0;
  const run = {
    target: undefined,
    get sent() {
      return gathering.summary().sent;
    },
    stop: () => gathering.stop(),
    async *[Symbol.asyncIterator](): AsyncGenerator<GatherEvent> {
      for await (const reply of gathering) {
        if (expected !== undefined && !expected.holds(reply.data)) {
          unexpected++;
          complain(
            "client",
            `${expected.flag}: the reply of ${
              formatAddress(reply.remoteAddr)
            } is ${expected.show(reply.data)}`,
          );
        }
        yield { type: "reply", reply };
      }
    },
  };
  const asked = targets.map(formatAddress);
  return await follow(
    run,
    targets[0]!,
    () => ({ targets: asked, ...gathering.summary(), unexpected }),
    gatherView(report.hasHex),
    report,
    out,
  );
}

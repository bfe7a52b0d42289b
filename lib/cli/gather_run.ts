/**
 * `client --all`: every answer of a group, a broadcast address or a list.
 *
 * @module
 */
import { formatAddress, type UdpAddress } from "../address.ts";
import { bytesLiteral, equalBytes } from "../encoding.ts";
import type { UdpReply } from "../exchange.ts";
import { gather, type GatherOptions, type GatherSummary } from "../gather.ts";
import { counted, milliseconds, orNull, payloadJson } from "./format.ts";
import { complain, type LineWriter } from "./output.ts";
import {
  follow,
  makeReporter,
  type ReportOptions,
  type View,
} from "./reporter.ts";
import { replyLine } from "./series_lines.ts";

/** What came, and how many replies were not what was expected. */
export interface GatherOutcome extends GatherSummary {
  unexpected: number;
}

interface ReplyEvent {
  type: "reply";
  reply: UdpReply;
}

/** Gathers the replies, shows them, and gives what came. */
export async function runGather(
  targets: UdpAddress[],
  payload: Uint8Array,
  options: GatherOptions,
  expected: Uint8Array | undefined,
  report: ReportOptions,
  out: LineWriter,
): Promise<GatherOutcome> {
  const gathering = gather(targets, payload, options);
  let unexpected = 0;
  const run = {
    target: undefined,
    stop: () => gathering.stop(),
    async *[Symbol.asyncIterator](): AsyncGenerator<ReplyEvent> {
      for await (const reply of gathering) {
        if (expected !== undefined && !equalBytes(reply.data, expected)) {
          unexpected++;
          complain(
            "client",
            `--expect ${bytesLiteral(expected)}: the reply of ${
              formatAddress(reply.remoteAddr)
            } is ${bytesLiteral(reply.data)}`,
          );
        }
        yield { type: "reply", reply };
      }
    },
  };
  const asked = targets.map(formatAddress);
  const { hasHex = false } = report;
  const view: View<ReplyEvent, GatherOutcome> = {
    line: ({ reply }) => gatheredLine(reply),
    json: ({ reply }) => ({ type: "reply", ...gatheredJson(reply, hasHex) }),
    listed: ({ reply }) => gatheredJson(reply, hasHex),
    listKey: "replies",
    status: () => "",
    lines: (_, outcome) => gatheredLines(asked, outcome),
    resultJson: (_, outcome) => ({ targets: asked, ...outcome }),
  };
  return await follow(
    run,
    targets[0]!,
    () => ({ ...gathering.summary(), unexpected }),
    makeReporter(view, report, out),
    out,
  );
}

/** The line for one reply. */
export function gatheredLine({ data, remoteAddr, rttMs }: UdpReply): string {
  const time = rttMs === undefined ? "n/a" : `${milliseconds(rttMs)} ms`;
  return `${replyLine(data)} from ${formatAddress(remoteAddr)} time=${time}`;
}

/** The JSON object for one reply. */
export function gatheredJson(
  { data, remoteAddr, rttMs }: UdpReply,
  hasHex: boolean,
): Record<string, unknown> {
  const { hostname, port } = remoteAddr;
  return {
    hostname,
    port,
    rttMs: orNull(rttMs),
    size: data.length,
    ...payloadJson(data, hasHex),
  };
}

/** The closing lines. */
export function gatheredLines(
  asked: string[],
  { sent, received, duplicates, foreign, errors }: GatherSummary,
): string {
  const counts = [
    `${sent} sent`,
    `${received} received`,
    `${duplicates} duplicates`,
    ...counted(foreign, "foreign"),
    ...counted(errors, "errors"),
  ];
  return `--- ${asked.join(", ")} statistics ---\n${counts.join(", ")}`;
}

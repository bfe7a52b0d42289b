/**
 * `client --all`: every answer of a group, a broadcast address or a list.
 *
 * @module
 */
import { formatAddress, type UdpAddress } from "../../address.ts";
import type { UdpReply } from "../../client/exchange.ts";
import {
  gather,
  type GatherOptions,
  type GatherSummary,
} from "../../client/gather.ts";
import type { Expectation } from "../expect.ts";
import { counted, milliseconds, orNull, payloadJson } from "../show/format.ts";
import { complain, type LineWriter } from "../output.ts";
import {
  follow,
  makeReporter,
  type ReportOptions,
  type View,
} from "../show/reporter.ts";
import { replyLine } from "../show/series.ts";

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
  expected: Expectation | undefined,
  report: ReportOptions,
  out: LineWriter,
): Promise<GatherOutcome> {
  const gathering = gather(targets, payload, options);
  let unexpected = 0;
  const run = {
    target: undefined,
    get sent() {
      return gathering.summary().sent;
    },
    stop: () => gathering.stop(),
    async *[Symbol.asyncIterator](): AsyncGenerator<ReplyEvent> {
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
  const { hasHex = false } = report;
  const view: View<ReplyEvent, GatherOutcome> = {
    line: ({ reply }) => gatheredLine(reply, hasHex),
    json: ({ reply }) => gatheredJson(reply, hasHex),
    isListed: () => true,
    listKey: "replies",
    rttOf: ({ reply }) => reply.rttMs,
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
export function gatheredLine(
  { data, remoteAddr, rttMs }: UdpReply,
  hasHex: boolean,
): string {
  const time = rttMs === undefined ? "n/a" : `${milliseconds(rttMs)} ms`;
  return `${replyLine(data, hasHex)} from ${
    formatAddress(remoteAddr)
  } time=${time}`;
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

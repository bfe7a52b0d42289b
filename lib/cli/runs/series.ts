/**
 * `client` without `--stamp`: one datagram or a series, and the lines about it.
 *
 * @module
 */
import type { UdpAddress } from "../../address.ts";
import {
  requestMany,
  type RequestManyOptions,
  type SeriesEvent,
  type SeriesSummary,
} from "../../client/series.ts";
import { milliseconds } from "../show/format.ts";
import type { Expectation } from "../expect.ts";
import { complain, type LineWriter } from "../output.ts";
import {
  follow,
  makeReporter,
  type Reporter,
  type ReportOptions,
  type View,
} from "../show/reporter.ts";
import {
  eventJson,
  eventLine,
  replyLine,
  summaryJson,
  summaryLines,
} from "../show/series.ts";

/** What came of a series, and how many replies were not what was expected. */
export interface SeriesOutcome extends SeriesSummary {
  unexpected: number;
}

/** Runs a series, shows it, and gives what came of it. */
export async function runSeries(
  target: UdpAddress,
  payload: Uint8Array,
  options: RequestManyOptions,
  expected: Expectation | undefined,
  report: ReportOptions,
  out: LineWriter,
): Promise<SeriesOutcome> {
  const series = requestMany(target, payload, options);
  // One of many is shown as a series is, however short.
  const isSeries = report.isSeries || report.label !== undefined;
  if (isSeries) await (warmedUp ??= warmUp());
  let unexpected = 0;
  const view = isSeries ? seriesView(report) : singleView(report);
  const shown = makeReporter(view, report, out);
  const reporter: Reporter<SeriesEvent, SeriesOutcome> = {
    ...shown,
    get hasBegun() {
      return shown.hasBegun ?? false;
    },
    event(event) {
      shown.event(event);
      // Without a reply there is nothing else to say, however quiet.
      if (event.type === "lost" && !isSeries && report.format === "text") {
        complain("client", event.error.message);
      }
      if (event.type !== "reply" || expected === undefined) return;
      const { data } = event.reply;
      if (expected.holds(data)) return;
      unexpected++;
      complain(
        "client",
        `${expected.flag}: the reply is ${expected.show(data)}`,
      );
    },
  };
  const outcome = () => ({ ...series.summary(), unexpected });
  const { reportMs } = report;
  const ended = await follow(series, target, outcome, reporter, out, reportMs);
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

const seriesView = (
  { hasHex = false }: ReportOptions,
): View<SeriesEvent, SeriesOutcome> => ({
  line: (event) => eventLine(event, hasHex),
  json: (event) => eventJson(event, hasHex),
  isListed: ({ type }) => type === "reply",
  listKey: "replies",
  rttOf: (event) => event.type === "reply" ? event.reply.rttMs : undefined,
  lines: summaryLines,
  resultJson: (target, { unexpected, ...summary }) => ({
    ...summaryJson(target, summary),
    unexpected,
  }),
});

/** One datagram: its reply alone on stdout, everything else on stderr. */
const singleView = (
  report: ReportOptions,
): View<SeriesEvent, SeriesOutcome> => ({
  ...seriesView(report),
  line: (event) =>
    event.type === "reply"
      ? replyLine(event.reply.data, report.hasHex)
      : undefined,
  status: () => "",
  lines: () => "",
});

/** Once for all runs of the process. */
let warmedUp: Promise<void> | undefined;

/**
 * The first exchanges of a process take milliseconds that are the compiler's,
 * not the network's: these three, with ourselves, are not measured.
 */
async function warmUp(): Promise<void> {
  try {
    // Loaded here, so that a lone request does not wait for it.
    const [{ request }, { echo }, { serve }] = await Promise.all([
      import("../../client/request.ts"),
      import("../../server/responders.ts"),
      import("../../server/serve.ts"),
    ]);
    await using server = serve({ telemetry: false }, echo());
    for (let i = 0; i < 3; i++) {
      await request(server.addr, "", {
        timeoutMs: 100,
        retries: 0,
        telemetry: false,
      });
    }
  } catch {
    // Without a loopback to use, the first times are what they are.
  }
}

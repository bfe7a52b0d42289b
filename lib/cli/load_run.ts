/**
 * `client --rate` and `client --window`: an echo under load, and the lines about
 * it.
 *
 * @module
 */
import { formatAddress, type UdpAddress } from "../address.ts";
import type { TailSummary } from "../distribution.ts";
import {
  load,
  type LoadInterval,
  type LoadOptions,
  type LoadResult,
} from "../load.ts";
import { echo } from "../responders.ts";
import { serve } from "../serve.ts";
import {
  counted,
  lossText,
  milliseconds,
  orNull,
  rounded,
  summaryOrNull,
} from "./format.ts";
import { complain, type LineWriter } from "./output.ts";
import {
  follow,
  makeReporter,
  type ReportOptions,
  type View,
} from "./reporter.ts";

/** Runs a load, shows it, and gives what came of it. */
export async function runLoad(
  target: UdpAddress,
  options: LoadOptions,
  report: ReportOptions,
  out: LineWriter,
): Promise<LoadResult> {
  const { reportMs, samples } = report;
  const run = load(target, {
    ...options,
    reportMs,
    // This program does nothing else.
    mayBlock: true,
    onSample: samples && ((seq, atMs, rttMs) => samples.add(seq, atMs, rttMs)),
  });
  await warmUp(options);
  let status = "";
  const view: View<LoadInterval, LoadResult> = {
    line(interval) {
      status = statusText(interval);
      return report.reportMs === undefined ? undefined : status;
    },
    json: intervalJson,
    isListed: () => true,
    listKey: "intervals",
    rttOf: () => undefined,
    status: () => status,
    lines: (target, result) => loadLines(target, options, result),
    resultJson: (target, result) => loadJson(target, options, result),
  };
  // Who asks for intervals gets them, however quiet.
  const quiet = report.quiet && reportMs === undefined;
  const reporter = makeReporter(view, { ...report, quiet }, out);
  const result = await follow(run, target, () => run.result(), reporter, out);
  for (const warning of warnings(options, result)) complain("client", warning);
  return result;
}

/** The closing lines. */
export function loadLines(
  target: UdpAddress,
  { rate, window, size }: LoadOptions,
  result: LoadResult,
): string {
  const asked = rate === undefined
    ? `${window} in flight`
    : `${rate} a second asked for`;
  const counts = [
    `${result.sent} sent`,
    `${result.received} received`,
    `${result.lost} lost (${lossText(result.lossPercent)})`,
    `${result.duplicates} duplicates`,
    `${result.late} late`,
    ...counted(result.pending, "pending"),
    ...counted(result.foreign, "foreign"),
    ...counted(result.errors, "errors"),
    ...counted(result.portClosed, "reports of a closed port"),
    ...counted(result.receiveErrors, "receive errors"),
    ...counted(result.kernelDrops ?? 0, "dropped by this machine"),
    `time ${Math.round(result.durationMs)} ms`,
  ];
  return [
    `--- ${formatAddress(target)} load statistics: ${size} bytes, ${asked} ---`,
    counts.join(", "),
    `sent ${rateText(result.sentPerSecond, result.sentBitsPerSecond)}, ` +
    `received ${
      rateText(result.receivedPerSecond, result.receivedBitsPerSecond)
    }`,
    ...summaryLine("rtt", result.rttMs),
    ...summaryLine("send error", result.sendErrorMs),
  ].join("\n");
}

/** The result for JSON: every key always there, `null` for unknown. */
export function loadJson(
  target: UdpAddress,
  { rate, window, size }: LoadOptions,
  result: LoadResult,
): Record<string, unknown> {
  const { rttMs, sendErrorMs, ...numbers } = result;
  return {
    target: formatAddress(target),
    rate: rate ?? null,
    window: window ?? null,
    size,
    ...Object.fromEntries(
      Object.entries(numbers).map(([key, value]) => [key, orNull(value)]),
    ),
    rttMs: summaryOrNull(rttMs),
    sendErrorMs: summaryOrNull(sendErrorMs),
  };
}

function intervalJson(
  { fromMs, toMs, sent, received, lost, rttMs }: LoadInterval,
): Record<string, unknown> {
  return {
    fromMs: rounded(fromMs),
    toMs: rounded(toMs),
    sent,
    received,
    lost,
    rttMs: summaryOrNull(rttMs),
  };
}

function statusText(
  { fromMs, toMs, sent, received, lost, rttMs }: LoadInterval,
): string {
  const second = (toMs - fromMs) / 1000 || 1;
  const rtt = rttMs === undefined
    ? ""
    : `, rtt ${milliseconds(rttMs.median)} ms in the median`;
  return `${Math.round(toMs / 1000)} s: ${
    Math.round(sent / second)
  } a second sent, ${
    Math.round(received / second)
  } received, ${lost} lost${rtt}`;
}

/** What its user would want to know of a run, besides what it measured. */
function warnings({ rate }: LoadOptions, result: LoadResult): string[] {
  const { sentPerSecond, received, foreign, kernelDrops = 0 } = result;
  // Of few datagrams a single late one is no rule.
  const isBehind = (result.sendErrorMs?.p99 ?? 0) > BEHIND_MS;
  const found: string[] = [];
  if (
    rate !== undefined && isBehind && sentPerSecond !== undefined &&
    sentPerSecond < 0.995 * rate
  ) {
    found.push(
      `this machine was too slow for --rate ${rate}: it reached ${
        Math.round(sentPerSecond)
      } a second`,
    );
  }
  if (kernelDrops > 0) {
    found.push(
      `${kernelDrops} echoes are lost in this machine, not on the path: it was too slow to read them`,
    );
  }
  if (received === 0 && foreign > 0) {
    found.push(
      "what came back is no echo: --rate and --window need a server that echoes (server --echo)",
    );
  }
  return found;
}

function rateText(
  perSecond: number | undefined,
  bitsPerSecond: number | undefined,
): string {
  return perSecond === undefined || bitsPerSecond === undefined
    ? "n/a"
    : `${Math.round(perSecond)} a second (${bits(bitsPerSecond)})`;
}

function bits(perSecond: number): string {
  const units = ["bit/s", "kbit/s", "Mbit/s", "Gbit/s"];
  let unit = 0;
  while (perSecond >= 1000 && unit < units.length - 1) {
    perSecond /= 1000;
    unit++;
  }
  return `${Number(perSecond.toPrecision(4))} ${units[unit]}`;
}

function summaryLine(name: string, summary: TailSummary | undefined): string[] {
  if (summary === undefined) return [];
  const { min, mean, median, p90, p99, p999, max } = summary;
  const values = [min, mean, median, p90, p99, p999, max].map(milliseconds);
  return [`${name} min/mean/median/p90/p99/p99.9/max = ${values.join("/")} ms`];
}

/** The first datagrams of a process wait for its compiler: these are for that. */
async function warmUp({ engine }: LoadOptions): Promise<void> {
  try {
    await using server = serve({
      engine,
      guard: false,
      quiet: true,
      telemetry: false,
    }, echo());
    const kinds = [{ window: 64, count: 20_000 }, {
      rate: 20_000,
      count: 2000,
    }];
    for (const kind of kinds) {
      const run = load(server.addr, {
        ...kind,
        engine,
        timeoutMs: 100,
        telemetry: false,
      });
      for await (const _ of run);
    }
  } catch {
    // Without a loopback to use, the first times are what they are.
  }
}

const BEHIND_MS = 50;

/**
 * `client --trace`: the paths to a target.
 *
 * @module
 */
import type { UdpAddress } from "../../address.ts";
import { addressOf } from "../../client/trace/paths.ts";
import type { ProbeEvent } from "../../client/trace/search.ts";
import { Trace, type TraceOptions } from "../../client/trace/trace.ts";
import { denoRuntime } from "../../socket/runtime.ts";
import { type LineWriter, note } from "../output.ts";
import { type ReportOptions, showRun } from "../show/reporter.ts";
import { TRACE_VIEW, type TraceResult } from "../show/trace.ts";
import type { RunOutcome } from "../thresholds.ts";

/** Traces, looks for the names of the hops, and shows the paths. */
export async function runTrace(
  target: UdpAddress,
  options: TraceOptions,
  report: ReportOptions,
  out: LineWriter,
): Promise<RunOutcome> {
  const trace = new Trace(target, options);
  const { flows = 1 } = options;
  const seconds = Math.round(trace.paceMs / 1000);
  const isLong = seconds > LONG_SECONDS && seconds < Infinity;
  if (flows > 1 && isLong && !report.quiet) {
    note(`client: ${flows} flows take some ${seconds} s at this --interval`);
  }
  const names = new Map<string, string | undefined>();
  async function* events(): AsyncGenerator<ProbeEvent> {
    for await (const event of trace) {
      if (report.format === "text") out.status(`${trace.sent} sent`);
      yield event;
    }
    // Not before: queries would cost the first hop ICMP messages, and show as loss.
    const hops = trace.paths.flatMap(({ hops }) => hops);
    const found = new Set(
      hops.map(addressOf).filter((one) => one !== undefined),
    );
    const searches = [...found].map(async (address) =>
      names.set(address, await nameOf(address))
    );
    const { promise, resolve } = Promise.withResolvers<void>();
    denoRuntime.afterUnref(NAMES_MS, resolve);
    await Promise.race([promise, Promise.all(searches)]);
  }
  const run = {
    get target() {
      return trace.target;
    },
    get sent() {
      return trace.sent;
    },
    stop: () => trace.stop(),
    [Symbol.asyncIterator]: events,
  };
  const result = (shown: string): TraceResult & RunOutcome => {
    const { paths, untraced, sent, seesHeaders } = trace;
    for (const hop of paths.flatMap(({ hops }) => hops)) {
      hop.name = names.get(addressOf(hop) ?? "");
    }
    const reached = paths.filter(({ isReached }) => isReached);
    const received = reached.map(({ hops }) => hops.at(-1)!.reached);
    return {
      target: shown,
      isReached: reached.length > 0,
      trafficClass: options.trafficClass ?? 0,
      ...{ sent, seesHeaders, paths, untraced },
      received: received.reduce((sum, count) => sum + count, 0),
    };
  };
  return await showRun(run, target, result, TRACE_VIEW, report, out);
}

/** The name of an address, by the system's resolver on another thread. */
async function nameOf(address: string): Promise<string | undefined> {
  // A question to the user would hold up the trace.
  const { state } = Deno.permissions.querySync({ name: "net" });
  if (state !== "granted") return undefined;
  const dns = await import("node:dns/promises");
  const found = await dns.lookupService(address, 0).catch(() => undefined);
  return found?.hostname;
}

/** The longest wait for names, at the end. */
const NAMES_MS = 1000;
/** A trace of flows that takes longer reports it at its start. */
const LONG_SECONDS = 10;

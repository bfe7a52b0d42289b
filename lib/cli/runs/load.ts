/**
 * `client --rate` and `client --window`: an echo under load.
 *
 * @module
 */
import type { UdpAddress } from "../../address.ts";
import { load, type LoadOptions, type LoadResult } from "../../client/load.ts";
import { echo } from "../../server/responders.ts";
import { serve } from "../../server/serve.ts";
import { complain, type LineWriter } from "../output.ts";
import { LOAD_VIEW, loadWarnings } from "../show/load.ts";
import { follow, type ReportOptions } from "../show/reporter.ts";

/** Runs a load, shows it, and gives its result. */
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
  const { rate, window, size } = options;
  const result = (target: string) => {
    return { target, rate, window, size, ...run.result() };
  };
  const ended = await follow(run, target, result, LOAD_VIEW, report, out);
  for (const warning of loadWarnings(ended)) complain("client", warning);
  return ended;
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

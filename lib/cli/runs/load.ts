/**
 * `client --rate` and `client --window`: an echo under load.
 *
 * @module
 */
import type { UdpAddress } from "../../address.ts";
import { load, type LoadResult } from "../../client/load.ts";
import type { LoadOptions } from "../../client/load_options.ts";
import { echo } from "../../server/responders.ts";
import { complain, type LineWriter } from "../output.ts";
import { warmUp } from "./warm_up.ts";
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
  const { engine, rate, window, size } = options;
  const server = { engine, guard: false, quiet: true } as const;
  await warmUp(() => prepareWarmUp(options), server);
  const result = (target: string) => {
    return { target, rate, window, size, ...run.result() };
  };
  const ended = await follow(run, target, result, LOAD_VIEW, report, out);
  for (const warning of loadWarnings(ended)) complain("client", warning);
  return ended;
}

function prepareWarmUp({ engine }: LoadOptions) {
  const kinds = [
    { window: 64, count: 20_000 },
    { rate: 20_000, count: 2000 },
  ];
  const options = { engine, timeoutMs: 100, telemetry: false };
  return Promise.resolve({
    handler: echo(),
    async run(server: UdpAddress) {
      for (const kind of kinds) {
        await Array.fromAsync(load(server, { ...kind, ...options }));
      }
    },
  });
}

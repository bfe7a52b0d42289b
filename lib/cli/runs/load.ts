/**
 * `client --rate` and `client --window`: an echo under load.
 *
 * @module
 */
import type { UdpAddress } from "../../address.ts";
import { load, type LoadResult } from "../../client/load.ts";
import type { LoadOptions } from "../../client/load_options.ts";
import { echo } from "../../server/responders.ts";
import type { LineWriter } from "../output.ts";
import { warmUp } from "./warm_up.ts";
import { LOAD_VIEW } from "../show/load.ts";
import { type ReportOptions, showRun } from "../show/reporter.ts";

export async function runLoad(
  target: UdpAddress,
  options: LoadOptions,
  report: ReportOptions,
  out: LineWriter,
): Promise<LoadResult> {
  const { reportMs, onSample } = report;
  const run = load(target, {
    ...options,
    reportMs,
    // This program does nothing else.
    mayBlock: true,
    onSample,
  });
  const { engine, rate, window, size } = options;
  await warmUp(
    async (server) => {
      const { stopping: signal } = report;
      const shared = { engine, timeoutMs: 100, telemetry: false, signal };
      await Array.fromAsync(load(server, { ...shared, ...CLOSED_LOOP }));
      await Array.fromAsync(load(server, { ...shared, ...OPEN_LOOP }));
    },
    echo(),
    { engine, guard: false, quiet: true },
  );
  const result = (target: string) => {
    return { target, rate, window, size, ...run.summary() };
  };
  return await showRun(run, target, result, LOAD_VIEW, report, out);
}

const CLOSED_LOOP = { window: 64, count: 20_000 };
const OPEN_LOOP = { rate: 20_000, count: 2000 };

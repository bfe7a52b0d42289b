/**
 * `client --plot` and `--csv`: the samples of a run, as a picture or as a table.
 *
 * @module
 */
import { errorMessage } from "../../base/errors.ts";
import type { Sample } from "../../stats/sample.ts";
import type { ClientPlan } from "../client_plan.ts";
import { complain, type LineWriter } from "../output.ts";
import { plotSvg, plotText } from "../show/plot.ts";
import {
  csvOf,
  MAX_SAMPLES,
  type RecordedRun,
  Samples,
} from "../show/samples.ts";

/** Opens the files before anything is measured, for the samples of all runs. */
export async function openRecord(
  { plot, csv, targets, sizes }: ClientPlan,
  out: LineWriter,
) {
  const plotFile = await openFile("plot", plot);
  const csvFile = await openFile("csv", csv);
  const runs: RecordedRun[] = [];
  const limit = Math.floor(MAX_SAMPLES / (targets.length * sizes.length));
  return {
    recordOf(label: string): (sample: Sample) => void {
      const samples = new Samples(limit);
      runs.push({ label, samples });
      return (sample) => samples.add(sample);
    },
    async write(): Promise<void> {
      for (const { label, samples } of runs) {
        if (samples.leftOut === 0) continue;
        const { leftOut, limit } = samples;
        complain(
          "client",
          `${label}: --plot and --csv have the first ${limit} datagrams, without ${leftOut} later ones`,
        );
      }
      if (csv !== undefined) await writeTo(csvFile, csvOf(runs), out);
      if (plot === undefined || runs.length === 0) return;
      const width = out.isTerminal ? Deno.consoleSize().columns : 80;
      const picture = plotFile === undefined
        ? `${plotText(runs, width)}\n`
        : plotSvg(runs);
      await writeTo(plotFile, [picture], out);
    },
  };
}

/** Creates or truncates a file; undefined for stdout. */
async function openFile(
  flag: string,
  path: string | undefined,
): Promise<Deno.FsFile | undefined> {
  if (path === undefined || path === "-") return undefined;
  const { state } = await Deno.permissions.request({ name: "write", path });
  if (state !== "granted") {
    throw new Deno.errors.NotCapable(
      `--${flag} ${path}: Deno may not write it, run with --allow-write=${path}`,
    );
  }
  try {
    return await Deno.open(path, { write: true, create: true, truncate: true });
  } catch (error) {
    throw new Error(`--${flag} ${path}: ${errorMessage(error)}`);
  }
}

async function writeTo(
  file: Deno.FsFile | undefined,
  parts: Iterable<string>,
  out: LineWriter,
): Promise<void> {
  if (file === undefined) {
    for (const part of parts) {
      out.writeResult(part.slice(0, -1));
      await out.flush();
    }
    return;
  }
  const writer = file.writable.getWriter();
  for (const part of parts) await writer.write(new TextEncoder().encode(part));
  await writer.close();
}

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
      const picture = plotFile === undefined
        ? `${plotText(runs, out.columns)}\n`
        : plotSvg(runs);
      await writeTo(plotFile, [picture], out);
    },
  };
}

/** A file, and the flag and path for messages. */
interface NamedFile {
  file: Deno.FsFile;
  name: string;
}

/** Creates or truncates a file; undefined for stdout. */
async function openFile(
  flag: string,
  path: string | undefined,
): Promise<NamedFile | undefined> {
  if (path === undefined || path === "-") return undefined;
  const name = `--${flag} ${path}`;
  const { state } = await Deno.permissions.request({ name: "write", path });
  if (state !== "granted") {
    throw new Deno.errors.NotCapable(
      `${name}: Deno may not write it, run with --allow-write=${path}`,
    );
  }
  try {
    const options = { write: true, create: true, truncate: true };
    return { file: await Deno.open(path, options), name };
  } catch (error) {
    throw new Error(`${name}: ${errorMessage(error)}`);
  }
}

/** Writes to stdout, or to a file and to its disk; the only writer of files. */
async function writeTo(
  to: NamedFile | undefined,
  parts: Iterable<string>,
  out: LineWriter,
): Promise<void> {
  if (to === undefined) {
    for (const part of parts) {
      out.writeResult(part.slice(0, -1));
      await out.flush();
    }
    return;
  }
  try {
    using file = to.file;
    for (const part of parts) {
      let bytes = new TextEncoder().encode(part);
      while (bytes.length > 0) bytes = bytes.subarray(await file.write(bytes));
    }
    // A pipe or a device cannot be synced.
    if ((await file.stat()).isFile) await file.sync();
  } catch (error) {
    throw new Error(`${to.name}: ${errorMessage(error)}`);
  }
}

/**
 * `client --plot` and `--csv`: the samples of a run, as a picture or as a table.
 *
 * @module
 */
import { errorMessage } from "../../base/errors.ts";
import type { ClientPlan } from "../client_plan.ts";
import { complain, type LineWriter } from "../output.ts";
import { plotSvg, plotText } from "../show/plot.ts";
import { csvOf, Samples } from "../show/samples.ts";

/** The samples of all runs, for the files at the end. */
export interface RunRecord {
  /** Makes the collection of one run. */
  samplesOf(label: string): Samples;
  /** Writes the files. */
  write(): Promise<void>;
}

/**
 * Opens the files before anything is measured.
 *
 * @throws {Deno.errors.NotCapable} If Deno may not write them.
 * @throws {Error} If they cannot be written.
 */
export async function openRecord(
  { plot, csv, options: { timeoutMs } }: ClientPlan,
  out: LineWriter,
): Promise<RunRecord> {
  const [plotFile, csvFile] = [
    await openFile("plot", plot),
    await openFile("csv", csv),
  ];
  const runs: Array<{ label: string; samples: Samples }> = [];
  return {
    samplesOf(label) {
      const samples = new Samples(timeoutMs);
      runs.push({ label, samples });
      return samples;
    },
    async write() {
      for (const { label, samples } of runs) {
        if (samples.leftOut === 0) continue;
        complain("client", `${label}: ${samples.leftOut} samples are left out`);
      }
      if (csv !== undefined) await writeTo(csvFile, csvOf(runs), out);
      const [first] = runs;
      if (plot === undefined || first === undefined) return;
      const { label, samples } = first;
      if (plot === "-") {
        out.writeResult(plotText(samples, terminalWidth(out)));
        await out.flush();
      } else {
        await writeTo(plotFile, [plotSvg(label, samples, new Date())], out);
      }
    },
  };
}

function terminalWidth(out: LineWriter): number {
  return out.isTerminal ? Deno.consoleSize().columns : USUAL_WIDTH;
}

const USUAL_WIDTH = 80;

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

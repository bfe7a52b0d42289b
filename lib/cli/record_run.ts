/**
 * `client --plot` and `--csv`: the samples of a run, as a picture and as a file.
 *
 * @module
 */
import { SERIES_DEFAULTS } from "../request_many.ts";
import type { ClientFlags } from "./client_flags.ts";
import { complain, type LineWriter } from "./output.ts";
import { plotSvg, plotText } from "./plot.ts";
import { csvOf, Samples } from "./samples.ts";

/** The samples of a command, and where they go at its end. */
export interface Record {
  /** Makes the collection for one of the runs. */
  samplesOf(label: string): Samples;
  /** Writes all of them. */
  write(): Promise<void>;
}

/**
 * Asks for the right to write before anything is measured.
 *
 * @throws {Deno.errors.NotCapable} If it is not granted.
 */
export async function openRecord(
  { plot, csv, timeout = SERIES_DEFAULTS.timeoutMs }: ClientFlags,
  out: LineWriter,
): Promise<Record> {
  for (const [flag, path] of Object.entries({ plot, csv })) {
    if (path === undefined || path === "-") continue;
    const { state } = await Deno.permissions.request({ name: "write", path });
    if (state === "granted") continue;
    throw new Deno.errors.NotCapable(
      `--${flag} ${path}: Deno may not write it, run with --allow-write=${path}`,
    );
  }
  const runs: Array<{ label: string; samples: Samples }> = [];
  return {
    samplesOf(label) {
      const samples = new Samples(timeout);
      runs.push({ label, samples });
      return samples;
    },
    async write() {
      for (const { label, samples } of runs) {
        if (samples.leftOut === 0) continue;
        complain("client", `${label}: ${samples.leftOut} samples are left out`);
      }
      if (csv !== undefined) await writeTo(csv, csvOf(runs), out);
      const [first] = runs;
      if (plot === undefined || first === undefined) return;
      const { label, samples } = first;
      if (plot === "-") {
        out.writeResult(plotText(samples, terminalWidth(out)));
        await out.flush();
      } else await writeTo(plot, [plotSvg(label, samples, new Date())], out);
    },
  };
}

function terminalWidth(out: LineWriter): number {
  return out.isTerminal ? Deno.consoleSize().columns : USUAL_WIDTH;
}

const USUAL_WIDTH = 80;

async function writeTo(
  path: string,
  parts: Iterable<string>,
  out: LineWriter,
): Promise<void> {
  if (path === "-") {
    for (const part of parts) {
      out.writeResult(part.slice(0, -1));
      await out.flush();
    }
    return;
  }
  using file = await Deno.open(path, {
    write: true,
    create: true,
    truncate: true,
  });
  const writer = file.writable.getWriter();
  for (const part of parts) await writer.write(new TextEncoder().encode(part));
  await writer.close();
}

/**
 * `client --stamp`: a measurement, and the lines about it.
 *
 * @module
 */
import type { UdpAddress } from "../address.ts";
import { type LineWriter, onInterrupt } from "./main.ts";
import {
  measure,
  type MeasureOptions,
  type MeasureResult,
} from "../stamp/measure.ts";
import { stampReflector } from "../stamp/reflector.ts";
import {
  histogramLines,
  measureJson,
  measureLine,
  resultJson,
  resultLines,
  statusLine,
} from "./stamp_lines.ts";
import { serve } from "../serve.ts";

/** How a measurement is to be shown. */
export interface StampOutput {
  quiet: boolean;
  json: boolean;
  jsonStream: boolean;
  histogram: boolean;
}

/** Runs a measurement, shows it, and gives what was measured. */
export async function runStamp(
  target: UdpAddress,
  options: MeasureOptions,
  output: StampOutput,
  out: LineWriter,
): Promise<MeasureResult> {
  const measurement = measure(target, options);
  onInterrupt(() => measurement.stop());
  await warmUp();
  const { quiet, json, jsonStream, histogram } = output;
  const isText = !json && !jsonStream;
  const samples: unknown[] = [];
  let shownAt = 0;
  let failure: unknown;
  for await (const event of measurement) {
    if (event.type === "error") failure = event.error;
    if (isText && performance.now() - shownAt > STATUS_MS) {
      shownAt = performance.now();
      out.status(statusLine(measurement.result()));
    }
    if (quiet) continue;
    if (isText) out.write(measureLine(event));
    else if (jsonStream) out.write(JSON.stringify(measureJson(event)));
    else samples.push(measureJson(event));
  }
  out.status("");
  const result = measurement.result();
  const asked = measurement.target ?? target;
  if (jsonStream) {
    out.write(
      JSON.stringify({ type: "summary", ...resultJson(asked, result) }),
    );
  } else if (json) {
    const facts = resultJson(asked, result);
    out.write(JSON.stringify(quiet ? facts : { ...facts, samples }));
  } else {
    out.write(resultLines(asked, result));
    if (histogram && result.received > 0) {
      out.write(histogramLines(measurement.bins(HISTOGRAM_ROWS)));
    }
  }
  await out.flush();
  if (result.received === 0 && failure !== undefined) throw failure;
  return result;
}

/** The first packets of a process wait for its compiler: these are for that. */
async function warmUp(): Promise<void> {
  try {
    await using server = serve({}, stampReflector());
    const options = { count: 20, intervalMs: 0.5, timeoutMs: 100 };
    for await (const _ of measure(server.addr, options));
  } catch {
    // Without a loopback to use, the first times are what they are.
  }
}

const STATUS_MS = 200;
const HISTOGRAM_ROWS = 12;

/**
 * The runs of the client: one function for each mode, for one target or for
 * many. Each mode loads its own code, so that the others start faster.
 *
 * @module
 */
import { formatAddress, type UdpAddress } from "../../address.ts";
import { repeatTo } from "../../encoding.ts";
import { MAX_PAYLOAD } from "../../socket/contract.ts";
import { chooseEngine } from "../../socket/runtime.ts";
import { type ClientPlan, type PlanOf, USUAL_PAYLOAD } from "../client_plan.ts";
import { UsageError } from "../flags.ts";
import { onStop } from "../main.ts";
import { addressed, keyFor, keysOf, resolveOrigin } from "./ends.ts";
import type { Ended, RunOne } from "./many.ts";
import { complain, type LineWriter, note, stderr } from "../output.ts";
import type { ReportOptions } from "../show/reporter.ts";
import type { RunOutcome } from "../thresholds.ts";

export async function runClient(
  plan: ClientPlan,
  stdout: LineWriter,
): Promise<Ended[]> {
  const { targets, sizes, plot, csv } = plan;
  // With --csv - stdout has the rows and nothing else.
  const out = csv === "-" ? stderr : stdout;
  const [target, size] = [targets[0]!, sizes[0]];
  const { engine = "deno" } = plan.options;
  if (engine !== "deno") await import("../../socket/linux_engine.ts");
  const { why } = chooseEngine(engine);
  if (why !== undefined) note(`client: ${why}`);
  // While a signal still ends the process: both may wait for the user.
  if ("payload" in plan) await payloadOf(plan, undefined);
  if (plan.mode === "stamp") await keysOf(plan.keyFile);
  const record = plot === undefined && csv === undefined
    ? undefined
    : await (await import("./record.ts")).openRecord(plan, stdout);
  const stopping = new AbortController();
  const forget = onStop(stdout, () => stopping.abort());
  const report: ReportOptions = { ...plan.report, stopping: stopping.signal };
  try {
    const isOne = targets.length === 1 && sizes.length === 1;
    if (isOne || plan.mode === "gather") {
      const onSample = record?.recordOf(formatAddress(target));
      const shown = { ...report, onSample };
      return [{ outcome: await runOne(plan, target, size, shown, out) }];
    }
    const { runMany } = await import("./many.ts");
    const run: RunOne = (target, size, shown) =>
      runOne(plan, target, size, shown, out);
    return await runMany(targets, sizes, run, report, out, record?.recordOf);
  } finally {
    await record?.write();
    // The same Ctrl-C may arrive once more, and must not end the last lines.
    if (!stopping.signal.aborted) forget();
  }
}

/** Runs one target with one size; only `--all` is one run for all targets. */
async function runOne(
  plan: ClientPlan,
  named: UdpAddress,
  size: number | undefined,
  report: ReportOptions,
  out: LineWriter,
): Promise<RunOutcome> {
  const target = await addressed(named, plan.version);
  switch (plan.mode) {
    case "request": {
      const { runSeries } = await import("./series.ts");
      const options = resolveOrigin(plan.options, target);
      const payload = await payloadOf(plan, size);
      return runSeries(target, payload, options, report, out);
    }
    case "gather": {
      const { runGather } = await import("./gather.ts");
      const options = resolveOrigin(plan.options, target);
      const payload = await payloadOf(plan, size);
      const targets = plan.targets.map((one) => addressed(one, plan.version));
      const all = await Promise.all(targets);
      return runGather(all, payload, options, report, out);
    }
    case "load": {
      const { runLoad } = await import("./load.ts");
      const options = { ...resolveOrigin(plan.options, target), size };
      return runLoad(target, options, report, out);
    }
    case "find-mtu": {
      const { runMtu } = await import("./mtu.ts");
      const options = resolveOrigin(plan.options, target);
      return runMtu(target, options, report, out);
    }
    case "loaded": {
      const { runLoaded } = await import("./loaded.ts");
      const options = { ...resolveOrigin(plan.options, target), size };
      return runLoaded(target, options, report, out);
    }
    case "find-rate": {
      const { runRate } = await import("./loaded.ts");
      const options = { ...resolveOrigin(plan.options, target), size };
      return runRate(target, options, report, out);
    }
    case "trace": {
      const { runTrace } = await import("./trace.ts");
      const own = plan.payload && await payloadOf(plan, size);
      const origin = resolveOrigin(plan.options, target);
      const options = { ...origin, payload: own, size };
      return runTrace(target, options, report, out);
    }
    case "stamp": {
      const { runStamp } = await import("./stamp.ts");
      const key = await keyFor(plan, target);
      const options = { ...resolveOrigin(plan.options, target), size, key };
      const shown = { ...report, histogram: plan.histogram };
      return runStamp(target, options, shown, out);
    }
  }
}

/** The payload of a plan, repeated or truncated to a size if there is one. */
async function payloadOf(
  { payload = USUAL_PAYLOAD }: PlanOf<"request" | "gather" | "trace">,
  size: number | undefined,
): Promise<Uint8Array> {
  const bytes = payload === "stdin" ? await (stdin ??= readStdin()) : payload;
  return size === undefined ? bytes : repeatTo(bytes, size);
}

/** Read once for all runs. */
let stdin: Promise<Uint8Array> | undefined;

/** All of stdin, or as much as shows that it is too large for a datagram. */
async function readStdin(): Promise<Uint8Array> {
  const chunks: Uint8Array<ArrayBuffer>[] = [];
  let size = 0;
  if (Deno.stdin.isTerminal()) {
    note("client: --message - reads stdin: end it with Ctrl-D");
  }
  for await (const chunk of Deno.stdin.readable) {
    chunks.push(chunk);
    size += chunk.length;
    if (size > MAX_PAYLOAD) {
      throw new UsageError(
        `--message -: stdin is too large for a datagram: UDP takes at most ${MAX_PAYLOAD} bytes`,
      );
    }
  }
  return new Uint8Array(await new Blob(chunks).arrayBuffer());
}

/**
 * Warns a person at a terminal of data that is piped into a client that does not
 * send it. Called at the end: the check loads modules, for as long as a start takes.
 */
export async function noteUnread(plan: ClientPlan): Promise<void> {
  if (!("payload" in plan) || plan.payload !== USUAL_PAYLOAD) return;
  if (!stderr.isTerminal || Deno.stdin.isTerminal()) return;
  // A closed stdin has no state.
  const { fstatSync } = await import("node:fs");
  try {
    const stdin = fstatSync(0);
    if (!stdin.isFIFO() && !stdin.isFile()) return;
  } catch {
    return;
  }
  complain("client", "stdin is not sent: -m - sends it");
}

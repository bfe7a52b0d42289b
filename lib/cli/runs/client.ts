/**
 * The runs of the client: one function for each mode, for one target or for
 * many. Each mode loads its own code, so that the others start faster.
 *
 * @module
 */
import { formatAddress, ipVersion, type UdpAddress } from "../../address.ts";
import type { OriginOptions } from "../../client/target.ts";
import { repeatTo } from "../../encoding.ts";
import { MAX_PAYLOAD } from "../../socket/contract.ts";
import type { Interface } from "../../socket/multicast.ts";
import {
  addressesOf,
  chooseEngine,
  denoRuntime,
} from "../../socket/runtime.ts";
import { type ClientPlan, type PlanOf, USUAL_PAYLOAD } from "../client_plan.ts";
import { UsageError } from "../flags.ts";
import type { keyOf } from "../key_file.ts";
import { onStop } from "../main.ts";
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
  const { why } = chooseEngine(plan.options.engine ?? "deno");
  if (why !== undefined) note(`client: ${why}`);
  // While a signal still ends the process: both may wait for the user.
  if ("payload" in plan) await payloadOf(plan, undefined);
  if (plan.mode === "stamp") await keysOf(plan);
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
    case "stamp": {
      const { runStamp } = await import("./stamp.ts");
      const key = await keyFor(plan, target);
      const options = { ...resolveOrigin(plan.options, target), size, key };
      const shown = { ...report, histogram: plan.histogram };
      return runStamp(target, options, shown, out);
    }
  }
}

/** A target by its first address of a version, where one is given. */
async function addressed(
  target: UdpAddress,
  version: ClientPlan["version"],
): Promise<UdpAddress> {
  if (version === undefined) return target;
  const addresses = await addressesOf(target.hostname, denoRuntime);
  const hostname = addresses.find((one) => ipVersion(one) === version);
  if (hostname !== undefined) return { ...target, hostname };
  throw new Error(
    `Cannot send to '${target.hostname}': it has no IPv${version} address`,
  );
}

async function keyFor(
  plan: PlanOf<"stamp">,
  remoteAddr: UdpAddress,
): Promise<Uint8Array | undefined> {
  const { keyFile, options: { ssid = 0 } } = plan;
  const key = (await keysOf(plan))?.({ ssid, remoteAddr });
  if (key !== undefined || keyFile === undefined) return key;
  throw new Error(`--key-file ${keyFile}: it has no key for this target`);
}

function keysOf({ keyFile }: PlanOf<"stamp">): typeof keys {
  if (keyFile === undefined) return undefined;
  return keys ??= import("../key_file.ts").then(async ({ keyOf, readKeys }) =>
    keyOf(await readKeys(keyFile))
  );
}

/** Read once for all runs. */
let keys: Promise<ReturnType<typeof keyOf>> | undefined;

/** The payload of a plan, repeated or truncated to a size if there is one. */
async function payloadOf(
  { payload }: PlanOf<"request" | "gather">,
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
 * Warns of data that is piped into a client that does not send it. Called at the
 * end: the check loads modules for longer than an answer takes.
 */
export async function noteUnread(plan: ClientPlan): Promise<void> {
  if (!("payload" in plan) || plan.payload !== USUAL_PAYLOAD) return;
  if (Deno.stdin.isTerminal()) return;
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

/**
 * The options with the address that `--bind` names: itself, or of the interface of
 * that name the first one of the target's IP version, IPv4 if the target is a name.
 */
function resolveOrigin<O extends OriginOptions>(
  options: O,
  target: UdpAddress,
): O {
  const { localHostname: bind } = options;
  if (bind === undefined) return options;
  const addresses = interfaces().filter(({ name }) => name === bind)
    .map(({ address }) => address);
  const wanted = ipVersion(target.hostname) ?? 4;
  const found = addresses.find((address) => ipVersion(address) === wanted);
  return { ...options, localHostname: found ?? addresses[0] ?? bind };
}

/** None where Deno may not list them: `--bind` is then an address or a name. */
function interfaces(): readonly Interface[] {
  try {
    return denoRuntime.interfaces();
  } catch (error) {
    if (error instanceof Deno.errors.NotCapable) return [];
    throw error;
  }
}

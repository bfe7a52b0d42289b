/**
 * The runs of the client: one function for each mode, for one target or for
 * many. Each mode loads its own code, so that the others start faster.
 *
 * @module
 */
import { formatAddress, type UdpAddress } from "../../address.ts";
import { repeatTo } from "../../encoding.ts";
import type { ClientPlan, PlanOf } from "../client_plan.ts";
import { readPayload } from "../input.ts";
import type { Answer, Ask } from "./many.ts";
import { resolveOrigin } from "../origin.ts";
import type { LineWriter } from "../output.ts";
import type { Outcome } from "../thresholds.ts";

/** Runs a plan. */
export async function runClient(
  plan: ClientPlan,
  out: LineWriter,
): Promise<Answer[]> {
  const { targets, sizes, report, record: files } = plan;
  const [target, size] = [targets[0]!, sizes[0]];
  const alone = (outcome: Outcome) => [{ label: undefined, outcome }];
  if (plan.mode === "gather") return alone(await gather(plan, out));
  const ask = await askOf(plan, out);
  const isOne = targets.length === 1 && sizes.length === 1;
  const record = files &&
    await (await import("./record.ts")).openRecord(files, out);
  try {
    if (isOne) {
      const samples = record?.samplesOf(formatAddress(target));
      return alone(await ask(target, size, { ...report, samples }));
    }
    const { runMany } = await import("./many.ts");
    return await runMany(targets, sizes, ask, report, out, record?.samplesOf);
  } finally {
    await record?.write();
  }
}

function askOf(
  plan: Exclude<ClientPlan, PlanOf<"gather">>,
  out: LineWriter,
): Promise<Ask> {
  switch (plan.mode) {
    case "request":
      return series(plan, out);
    case "load":
      return load(plan, out);
    case "stamp":
      return measure(plan, out);
    case "find-mtu":
      return findMtu(plan, out);
  }
}

async function series(plan: PlanOf<"request">, out: LineWriter): Promise<Ask> {
  const { runSeries } = await import("./series.ts");
  const payload = await readPayload(plan);
  return (target, size, report) => {
    const options = { ...plan.options, ...resolveOrigin(plan.origin, target) };
    const bytes = sized(payload, size);
    return runSeries(target, bytes, options, plan.expected, report, out);
  };
}

/** `--all` */
async function gather(
  plan: PlanOf<"gather">,
  out: LineWriter,
): Promise<Outcome> {
  const { runGather } = await import("./gather.ts");
  const { targets, sizes, origin, expected, report } = plan;
  const payload = sized(await readPayload(plan), sizes[0]);
  const options = { ...plan.options, ...resolveOrigin(origin, targets[0]!) };
  return await runGather(targets, payload, options, expected, report, out);
}

/** `--rate` or `--window` */
async function load(plan: PlanOf<"load">, out: LineWriter): Promise<Ask> {
  const { runLoad } = await import("./load.ts");
  return async (target, size, report) => {
    const origin = resolveOrigin(plan.origin, target);
    const options = { ...plan.options, ...origin, size };
    return { ...await runLoad(target, options, report, out), unexpected: 0 };
  };
}

/** `--stamp` */
async function measure(plan: PlanOf<"stamp">, out: LineWriter): Promise<Ask> {
  const { runStamp } = await import("./stamp.ts");
  const { keyFile, histogram } = plan;
  return async (target, size, report) => {
    const options = {
      ...plan.options,
      ...resolveOrigin(plan.origin, target),
      size,
      key: keyFile === undefined
        ? undefined
        : await keyFor(keyFile, target, plan.options.ssid!),
    };
    const shown = { ...report, histogram };
    return { ...await runStamp(target, options, shown, out), unexpected: 0 };
  };
}

async function keyFor(
  path: string,
  remoteAddr: UdpAddress,
  ssid: number,
): Promise<Uint8Array> {
  const { keyOf, readKeys } = await import("../key_file.ts");
  const key = keyOf(await readKeys(path))({ ssid, remoteAddr });
  if (key !== undefined) return key;
  throw new Error(`--key-file ${path}: it has no key for this target`);
}

/** `--find-mtu` */
async function findMtu(
  plan: PlanOf<"find-mtu">,
  out: LineWriter,
): Promise<Ask> {
  const { runMtu } = await import("./mtu.ts");
  return (target, _size, report) => {
    const options = { ...plan.options, ...resolveOrigin(plan.origin, target) };
    return runMtu(target, options, report, out);
  };
}

/** A payload, repeated or truncated to a size if there is one. */
function sized(payload: Uint8Array, size: number | undefined): Uint8Array {
  return size === undefined ? payload : repeatTo(payload, size);
}

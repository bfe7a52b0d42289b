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
import type { RunOutcome } from "../thresholds.ts";

/** Runs a plan. */
export async function runClient(
  plan: ClientPlan,
  out: LineWriter,
): Promise<Answer[]> {
  const { targets, sizes, report, plot, csv } = plan;
  const [target, size] = [targets[0]!, sizes[0]];
  const alone = (outcome: RunOutcome) => [{ label: undefined, outcome }];
  if (plan.mode === "gather") return alone(await gather(plan, out));
  const ask = await askOf(plan, out);
  const record = plot === undefined && csv === undefined
    ? undefined
    : await (await import("./record.ts")).openRecord(plan, out);
  try {
    if (targets.length === 1 && sizes.length === 1) {
      const samples = record?.samplesOf(formatAddress(target));
      return alone(await ask(target, size, { ...report, samples }));
    }
    const { runMany } = await import("./many.ts");
    return await runMany(targets, sizes, ask, report, out, record?.samplesOf);
  } finally {
    await record?.write();
  }
}

/** `--all` */
async function gather(
  plan: PlanOf<"gather">,
  out: LineWriter,
): Promise<RunOutcome> {
  const { runGather } = await import("./gather.ts");
  const { targets, sizes, report } = plan;
  const payload = sized(await readPayload(plan), sizes[0]);
  const options = resolveOrigin(plan.options, targets[0]!);
  return await runGather(targets, payload, options, report, out);
}

/** The run of one target, in all other modes. */
async function askOf(
  plan: Exclude<ClientPlan, PlanOf<"gather">>,
  out: LineWriter,
): Promise<Ask> {
  switch (plan.mode) {
    case "request": {
      const { runSeries } = await import("./series.ts");
      const payload = await readPayload(plan);
      return (target, size, report) => {
        const options = resolveOrigin(plan.options, target);
        const bytes = sized(payload, size);
        return runSeries(target, bytes, options, report, out);
      };
    }
    case "load": {
      const { runLoad } = await import("./load.ts");
      return (target, size, report) => {
        const options = { ...resolveOrigin(plan.options, target), size };
        return runLoad(target, options, report, out);
      };
    }
    case "find-mtu": {
      const { runMtu } = await import("./mtu.ts");
      return (target, _size, report) =>
        runMtu(target, resolveOrigin(plan.options, target), report, out);
    }
    case "stamp": {
      const { runStamp } = await import("./stamp.ts");
      return async (target, size, report) => {
        const key = await keyFor(plan, target);
        const options = { ...resolveOrigin(plan.options, target), size, key };
        const shown = { ...report, histogram: plan.histogram };
        return await runStamp(target, options, shown, out);
      };
    }
  }
}

async function keyFor(
  { keyFile: path, options: { ssid = 0 } }: PlanOf<"stamp">,
  remoteAddr: UdpAddress,
): Promise<Uint8Array | undefined> {
  if (path === undefined) return undefined;
  const { keyOf, readKeys } = await import("../key_file.ts");
  const key = keyOf(await readKeys(path))({ ssid, remoteAddr });
  if (key !== undefined) return key;
  throw new Error(`--key-file ${path}: it has no key for this target`);
}

/** A payload, repeated or truncated to a size if there is one. */
function sized(payload: Uint8Array, size: number | undefined): Uint8Array {
  return size === undefined ? payload : repeatTo(payload, size);
}

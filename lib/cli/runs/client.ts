/**
 * What `client` does: one way to ask for each kind of flags, for one target or
 * for many. Each loads its own code, so that the rest starts faster.
 *
 * @module
 */
import { formatAddress, type UdpAddress } from "../../address.ts";
import type { ClientFlags } from "../client_flags.ts";
import {
  commonOptions,
  loadOptions,
  paceOf,
  reportOptions,
} from "../client_plan.ts";
import { expectationOf } from "../expect.ts";
import { readPayload, sized } from "../input.ts";
import type { Answer, Ask } from "./many.ts";
import { originOf } from "../origin.ts";
import type { LineWriter } from "../output.ts";
import type { Outcome } from "../thresholds.ts";

/** Asks all targets. */
export async function runClient(
  given: ClientFlags,
  targets: UdpAddress[],
  out: LineWriter,
): Promise<Answer[]> {
  const { size: sizes = [undefined] } = given;
  const report = reportOptions(given);
  const [target, size] = [targets[0]!, sizes[0]];
  const alone = (outcome: Outcome) => [{ label: undefined, outcome }];
  if (given.all) return alone(await askAll(given, targets, out));
  const ask = given["find-mtu"]
    ? findMtu(given, out)
    : given.rate !== undefined && !given.stamp || given.window !== undefined
    ? load(given, out)
    : given.stamp
    ? measure(given, out)
    : await askSeries(given, out);
  const isOne = targets.length === 1 && sizes.length === 1;
  if (given.plot === undefined && given.csv === undefined) {
    if (isOne) return alone(await ask(target, size, report));
    const { runMany } = await import("./many.ts");
    return await runMany(targets, sizes, ask, report, out);
  }
  const { openRecord } = await import("./record.ts");
  const record = await openRecord(given, out);
  try {
    if (isOne) {
      const samples = record.samplesOf(formatAddress(target));
      return alone(await ask(target, size, { ...report, samples }));
    }
    const { runMany } = await import("./many.ts");
    return await runMany(targets, sizes, ask, report, out, record.samplesOf);
  } finally {
    await record.write();
  }
}

async function askSeries(given: ClientFlags, out: LineWriter): Promise<Ask> {
  const { runSeries } = await import("./series.ts");
  const payload = await readPayload(given);
  const count = given.count === 0 ? Infinity : given.count;
  // In a sweep each try is one of a series, whose loss is the path's.
  const isSweep = (given.size?.length ?? 1) > 1;
  const retries = given.retries ?? (isSweep ? 0 : undefined);
  const expected = expectationOf(given);
  return (target, size, report) => {
    const origin = originOf(given, target);
    const options = { ...commonOptions(given), ...origin, count, retries };
    const bytes = sized(payload, size);
    return runSeries(target, bytes, options, expected, report, out);
  };
}

/** `--all` */
async function askAll(
  given: ClientFlags,
  targets: UdpAddress[],
  out: LineWriter,
): Promise<Outcome> {
  const { runGather } = await import("./gather.ts");
  const payload = sized(await readPayload(given), given.size?.[0]);
  const options = {
    ...originOf(given, targets[0]!),
    timeoutMs: given.timeout,
    retries: given.retries,
    interface: given.interface,
  };
  const [expected, report] = [expectationOf(given), reportOptions(given)];
  return await runGather(targets, payload, options, expected, report, out);
}

/** `--rate` or `--window` */
function load(given: ClientFlags, out: LineWriter): Ask {
  return async (target, size, report) => {
    const { runLoad } = await import("./load.ts");
    const origin = originOf(given, target);
    const options = { ...loadOptions(given, size), ...origin };
    return { ...await runLoad(target, options, report, out), unexpected: 0 };
  };
}

/** `--stamp` */
function measure(given: ClientFlags, out: LineWriter): Ask {
  return async (target, size, report) => {
    const { runStamp } = await import("./stamp.ts");
    const origin = originOf(given, target);
    const pace = { ...commonOptions(given), ...paceOf(given) };
    const { ssid, ptp, extensions, clock, "key-file": path } = given;
    let key: Uint8Array | undefined;
    if (path !== undefined) {
      const { keyOf, readKeys } = await import("../key_file.ts");
      key = keyOf(await readKeys(path))({
        ssid: ssid ?? 0,
        remoteAddr: target,
      });
      if (key === undefined) {
        throw new Error(`--key-file ${path}: it has no key for this target`);
      }
    }
    const { retries: _, ...options } = {
      ...{ ...pace, ...origin, size, ssid, ptp, key, extensions, clock },
      replyDscp: given["reply-dscp"],
      // This program does nothing else.
      mayBlock: true,
    };
    const shown = { ...report, histogram: given.histogram };
    return { ...await runStamp(target, options, shown, out), unexpected: 0 };
  };
}

/** `--find-mtu` */
function findMtu(given: ClientFlags, out: LineWriter): Ask {
  return async (target, _size, report) => {
    const { runMtu } = await import("./mtu.ts");
    const { timeout: timeoutMs } = given;
    const options = { ...originOf(given, target), timeoutMs };
    return await runMtu(target, options, report, out);
  };
}

/**
 * The client: sends UDP datagrams, and shows what comes back.
 *
 * @module
 */
import type { UdpAddress } from "./lib/address.ts";
import {
  checkClientFlags,
  CLIENT_FLAGS,
  CLIENT_HELP,
  type ClientFlags,
  commonOptions,
  expectedOf,
  loadOptions,
  paceOf,
  parseTargets,
  reportOptions,
} from "./lib/cli/client_flags.ts";
import { parseFlags } from "./lib/cli/flags.ts";
import { readPayload } from "./lib/cli/input.ts";
import { EXIT_OK, EXIT_UNANSWERED, runMain, showHelp } from "./lib/cli/main.ts";
import { complain, LineWriter } from "./lib/cli/output.ts";
import { runSeries } from "./lib/cli/series_run.ts";
import { type Judged, missedBounds } from "./lib/cli/thresholds.ts";

async function main(args: string[]): Promise<number> {
  const { given, positionals } = parseFlags(CLIENT_FLAGS, args);
  const out = new LineWriter(Deno.stdout);
  if (given.help || given.version) {
    return await showHelp(CLIENT_HELP, !given.help, positionals, out);
  }
  checkClientFlags(given);
  const targets = parseTargets(given, positionals);
  const isLoad = given.rate !== undefined || given.window !== undefined;
  const run = given.stamp
    ? measure
    : isLoad
    ? loadIt
    : given.all
    ? askAll
    : ask;
  const outcome = await run(given, targets, out);
  const { received, unexpected } = outcome;
  const missed = missedBounds(given["max-loss"], given["max-rtt"], outcome);
  for (const line of missed) complain("client", line);
  const isTooFew = received < (given["expect-replies"] ?? 1);
  return isTooFew || unexpected > 0 || missed.length > 0
    ? EXIT_UNANSWERED
    : EXIT_OK;
}

/** What decides the exit code. */
interface Outcome extends Judged {
  received: number;
  unexpected: number;
}

async function ask(
  given: ClientFlags,
  [target]: UdpAddress[],
  out: LineWriter,
): Promise<Outcome> {
  const payload = await readPayload(given);
  const count = given.count === 0 ? Infinity : given.count;
  const options = { ...commonOptions(given), count };
  const [expected, report] = [expectedOf(given), reportOptions(given)];
  return await runSeries(target!, payload, options, expected, report, out);
}

/** `--all` */
async function askAll(
  given: ClientFlags,
  targets: UdpAddress[],
  out: LineWriter,
): Promise<Outcome> {
  const { runGather } = await import("./lib/cli/gather_run.ts");
  const payload = await readPayload(given);
  const options = commonOptions(given);
  const [expected, report] = [expectedOf(given), reportOptions(given)];
  return await runGather(targets, payload, options, expected, report, out);
}

/** `--rate` or `--window` */
async function loadIt(
  given: ClientFlags,
  [target]: UdpAddress[],
  out: LineWriter,
): Promise<Outcome> {
  const { runLoad } = await import("./lib/cli/load_run.ts");
  const [options, report] = [loadOptions(given), reportOptions(given)];
  return { ...await runLoad(target!, options, report, out), unexpected: 0 };
}

/** `--stamp`, which loads its own code so that the rest starts faster. */
async function measure(
  given: ClientFlags,
  [target]: UdpAddress[],
  out: LineWriter,
): Promise<Outcome> {
  const { runStamp } = await import("./lib/cli/stamp_run.ts");
  const { size, histogram } = given;
  const options = { ...commonOptions(given), ...paceOf(given), size };
  const report = { ...reportOptions(given), histogram };
  return { ...await runStamp(target!, options, report, out), unexpected: 0 };
}

if (import.meta.main) await runMain("client", main);

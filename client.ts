/**
 * The client: sends UDP datagrams, and shows what comes back.
 *
 * @module
 */
import type { UdpAddress } from "./lib/address.ts";
import {
  checkClientFlags,
  CLIENT_DEFAULTS,
  CLIENT_FLAGS,
  CLIENT_HELP,
  type ClientFlags,
  commonOptions,
  expectedOf,
  parseTargets,
  reportOptions,
} from "./lib/cli/client_flags.ts";
import { parseFlags, UsageError } from "./lib/cli/flags.ts";
import { EXIT_OK, EXIT_UNANSWERED, runMain, showHelp } from "./lib/cli/main.ts";
import { LineWriter } from "./lib/cli/output.ts";
import { runSeries } from "./lib/cli/series_run.ts";
import { encode, repeatTo } from "./lib/encoding.ts";
import { MAX_PAYLOAD } from "./lib/socket.ts";

async function main(args: string[]): Promise<number> {
  const { given, positionals } = parseFlags(CLIENT_FLAGS, args);
  const out = new LineWriter(Deno.stdout);
  if (given.help || given.version) {
    return await showHelp(CLIENT_HELP, !given.help, positionals, out);
  }
  checkClientFlags(given);
  const targets = parseTargets(given, positionals);
  const run = given.stamp ? measure : given.all ? askAll : ask;
  const { received, lossPercent, unexpected } = await run(given, targets, out);
  const isTooLossy = (lossPercent ?? 0) > (given["max-loss"] ?? 100);
  const isTooFew = received < (given["expect-replies"] ?? 1);
  return isTooFew || unexpected > 0 || isTooLossy ? EXIT_UNANSWERED : EXIT_OK;
}

/** What decides the exit code. */
interface Outcome {
  received: number;
  lossPercent?: number | undefined;
  unexpected: number;
}

async function ask(
  given: ClientFlags,
  [target]: UdpAddress[],
  out: LineWriter,
): Promise<Outcome> {
  const payload = await readPayload(given);
  const { count } = given;
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

/** `--stamp`, which loads its own code so that the rest starts faster. */
async function measure(
  given: ClientFlags,
  [target]: UdpAddress[],
  out: LineWriter,
): Promise<Outcome> {
  const { runStamp } = await import("./lib/cli/stamp_run.ts");
  const { size, histogram } = given;
  const count = given.count === 0 ? Infinity : given.count;
  const options = { ...commonOptions(given), count, size };
  const report = { ...reportOptions(given), histogram };
  return { ...await runStamp(target!, options, report, out), unexpected: 0 };
}

async function readPayload(given: ClientFlags): Promise<Uint8Array> {
  const payload = given.hex ??
    (given.message === "-"
      ? await readStdin()
      : encode(given.message ?? CLIENT_DEFAULTS.message));
  return given.size === undefined ? payload : repeatTo(payload, given.size);
}

/** All of stdin, or as much as shows that it is too large for a datagram. */
async function readStdin(): Promise<Uint8Array> {
  const chunks: Uint8Array<ArrayBuffer>[] = [];
  let size = 0;
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

if (import.meta.main) await runMain("client", main);

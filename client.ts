/**
 * The client: sends UDP datagrams, and shows what comes back.
 *
 * @module
 */
import { CLIENT_FLAGS, CLIENT_HELP } from "./lib/cli/client_flags.ts";
import { checkClientFlags, parseTargets } from "./lib/cli/client_plan.ts";
import { runClient } from "./lib/cli/runs/client.ts";
import { parseFlags } from "./lib/cli/flags.ts";
import { noteUnread } from "./lib/cli/input.ts";
import { EXIT_OK, EXIT_UNANSWERED, runMain, showHelp } from "./lib/cli/main.ts";
import { complain, LineWriter } from "./lib/cli/output.ts";
import { missedBounds } from "./lib/cli/thresholds.ts";

async function main(args: string[]): Promise<number> {
  const { given, positionals } = parseFlags(CLIENT_FLAGS, args);
  const out = new LineWriter(Deno.stdout);
  if (given.help || given.version) {
    return await showHelp(CLIENT_HELP, !given.help, positionals, out);
  }
  checkClientFlags(given);
  const targets = parseTargets(given, positionals);
  let code = EXIT_OK;
  for (const { label, outcome } of await runClient(given, targets, out)) {
    const missed = outcome === undefined
      ? []
      : missedBounds(given["max-loss"], given["max-rtt"], outcome);
    const whose = label === undefined ? "" : `${label}: `;
    for (const line of missed) complain("client", whose + line);
    const { received = 0, unexpected = 0 } = outcome ?? {};
    const isTooFew = received < (given["expect-replies"] ?? 1);
    if (isTooFew || unexpected > 0 || missed.length > 0) code = EXIT_UNANSWERED;
  }
  await noteUnread(given);
  return code;
}

if (import.meta.main) await runMain("client", main);

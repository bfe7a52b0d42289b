/**
 * The client: sends UDP datagrams, and shows the replies.
 *
 * @module
 */
import {
  type ClientPlan,
  planClient,
  type WatchPlan,
} from "./lib/cli/client_plan.ts";
import { EXIT_OK, EXIT_UNANSWERED, runMain } from "./lib/cli/main.ts";
import { complain, type LineWriter } from "./lib/cli/output.ts";
import { noteUnread, runClient } from "./lib/cli/runs/client.ts";
import { missedBounds } from "./lib/cli/thresholds.ts";

async function main(
  plan: ClientPlan | WatchPlan,
  out: LineWriter,
): Promise<number> {
  if (plan.mode === "watch") {
    const { runWatch } = await import("./lib/cli/runs/watch.ts");
    await runWatch(plan, out);
    return EXIT_OK;
  }
  const { maxLoss, maxRtt, minReplies } = plan;
  let code = EXIT_OK;
  for (const { label, outcome } of await runClient(plan, out)) {
    const missed = outcome && missedBounds(maxLoss, maxRtt, outcome) || [];
    const whose = label === undefined ? "" : `${label}: `;
    for (const line of missed) complain("client", whose + line);
    const { received = 0, unexpected = 0 } = outcome ?? {};
    const isTooFew = received < minReplies;
    if (isTooFew || unexpected > 0 || missed.length > 0) code = EXIT_UNANSWERED;
  }
  await noteUnread(plan);
  return code;
}

if (import.meta.main) await runMain("client", planClient, main);

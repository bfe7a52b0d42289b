/**
 * The server: answers UDP datagrams, and shows each of them.
 *
 * @module
 */
import { throttle } from "./lib/base/warn.ts";
import { readKeys } from "./lib/cli/key_file.ts";
import { EXIT_OK, onAsk, onStop, runMain } from "./lib/cli/main.ts";
import { complain, type LineWriter, note } from "./lib/cli/output.ts";
import {
  listeningText,
  outputText,
  type ServerOutput,
  startServer,
} from "./lib/cli/runs/server.ts";
import { startWorkers } from "./lib/cli/runs/worker_pool.ts";
import { planServer, type ServerPlan } from "./lib/cli/server_flags.ts";
import { json } from "./lib/cli/show/format.ts";
import {
  type ServerCounts,
  since,
  statsJson,
  statsLine,
} from "./lib/cli/show/server.ts";
import { noStats } from "./lib/server/udp_server.ts";

async function main(plan: ServerPlan, out: LineWriter): Promise<number> {
  const { reportMs } = plan;
  if (plan.mode === "stamp" && plan.keyFile !== undefined) {
    plan.keys = await readKeys(plan.keyFile);
  }
  const log = throttle((message) => complain("server", message));
  const output: ServerOutput = {
    line: (text) => out.write(text),
    log,
    listening: (addr) => out.writeResult(listeningText(plan, addr)),
  };
  // Before the first line: its reader may stop the server at once.
  const stopping = new AbortController();
  onStop(out, () => stopping.abort());
  const server = plan.workers === 1
    ? startServer(plan, output, stopping.signal)
    : await startWorkers(plan, output, stopping.signal);
  const forget = onAsk(async () => note(statsLine(await server.counts())));
  let reported: ServerCounts = { server: noStats(), eventsDropped: 0 };
  const report = async () => {
    const counts = await server.counts();
    const part = since(counts, reported);
    const text = outputText(
      plan,
      () => statsJson("interval", part, new Date()),
      () => statsLine(part),
    );
    // Without room for it, the next one has its counts too.
    if (out.write(text)) reported = counts;
  };
  // In order, however long the workers take to count.
  let reporting = Promise.resolve();
  const reportNext = () => reporting = reporting.then(report);
  const timer = reportMs && setInterval(reportNext, reportMs);
  try {
    await server.finished;
  } finally {
    forget();
    clearInterval(timer);
    if (reportMs) await reportNext();
    const counts = await server.counts();
    if (plan.json) {
      out.writeResult(json(statsJson("summary", counts, new Date())));
    } else if (!out.hasFailed) note(statsLine(counts));
    await out.flush();
  }
  return EXIT_OK;
}

if (import.meta.main) await runMain("server", planServer, main);

/**
 * The server: answers UDP datagrams, and shows each of them.
 *
 * @module
 */
import { parseFlags } from "./lib/cli/flags.ts";
import { json } from "./lib/cli/show/format.ts";
import { readKeys } from "./lib/cli/key_file.ts";
import { EXIT_OK, onAsk, onStop, runMain, showHelp } from "./lib/cli/main.ts";
import { complain, LineWriter, note } from "./lib/cli/output.ts";
import {
  planServer,
  SERVER_FLAGS,
  SERVER_HELP,
} from "./lib/cli/server_flags.ts";
import {
  type ServerCounts,
  since,
  statsJson,
  statsLine,
} from "./lib/cli/show/server.ts";
import {
  listeningText,
  type ServerOutput,
  stamped,
  startServer,
} from "./lib/cli/runs/server.ts";
import { startWorkers } from "./lib/cli/runs/worker_pool.ts";
import { noStats } from "./lib/server/udp_server.ts";
import { Throttle } from "./lib/base/warn.ts";

async function main(args: string[]): Promise<number> {
  const { given, positionals } = parseFlags(SERVER_FLAGS, args);
  const out = new LineWriter(Deno.stdout);
  if (given.help || given.version) {
    return await showHelp(SERVER_HELP, !given.help, positionals, out);
  }
  const plan = planServer(given, positionals);
  const path = given["key-file"];
  if (path !== undefined) plan.keys = await readKeys(path);
  const log = new Throttle((message) => complain("server", message));
  const output: ServerOutput = {
    line: (text) => out.write(text),
    log: (kind, message) => log.say(kind, message),
    listening: (addr) => out.writeResult(listeningText(plan, addr)),
  };
  // Before anything listens: whoever reads that it does may stop it at once.
  const stopping = new AbortController();
  onStop(out, () => stopping.abort());
  const server = plan.workers === 1
    ? startServer(plan, output, stopping.signal)
    : await startWorkers(plan, output, stopping.signal);
  const forget = onAsk(async () => note(statsLine(await server.counts())));
  // From the start on: something may have come already.
  let told: ServerCounts = { server: noStats() };
  const tell = async () => {
    const counts = await server.counts();
    const part = since(counts, told);
    told = counts;
    if (plan.json) {
      out.writeResult(json(statsJson("interval", part, new Date())));
    } else out.writeResult(stamped(plan, statsLine(part)));
  };
  // One after the other, however long the workers take to say it.
  let telling = Promise.resolve();
  const report = () => telling = telling.then(tell);
  const timer = given.report && setInterval(report, given.report);
  try {
    await server.finished;
  } finally {
    forget();
    clearInterval(timer);
    if (given.report) await report();
    const counts = await server.counts();
    if (plan.json) {
      out.writeResult(json(statsJson("summary", counts, new Date())));
    } else if (!out.hasFailed) note(statsLine(counts));
    await out.flush();
  }
  return EXIT_OK;
}

if (import.meta.main) await runMain("server", main);

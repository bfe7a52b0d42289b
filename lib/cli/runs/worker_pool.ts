/**
 * `server --workers N`: threads with a socket each on one port, over which the
 * kernel spreads the peers (SO_REUSEPORT).
 *
 * @module
 */
import { ipVersion, isLocalhost, type UdpAddress } from "../../address.ts";
import { bindError } from "../../base/errors.ts";
import { guardLimits, LOOPBACK_NETWORKS } from "../../server/guard.ts";
import { denoRuntime } from "../../socket/runtime.ts";
import { noStats } from "../../server/udp_server.ts";
import { observeServer, serverReadings } from "../../server/telemetry.ts";
import { readingsOf } from "../../stamp/reflector.ts";
import { type ServerCounts, sumOf } from "../show/server.ts";
import type { ServerPlan } from "../server_flags.ts";
import type { RunningServer, ServerOutput } from "./server.ts";

export type FromWorker =
  | { type: "listening"; addr: UdpAddress }
  | { type: "lines"; text: string }
  | { type: "log"; kind: string; message: string }
  | { type: "counts"; counts: ServerCounts }
  | { type: "ended"; counts?: ServerCounts | undefined; error?: string };

/**
 * A message to a worker: its plan at first; the receipt of its lines, before which
 * it sends no more; a request for its counts; and a shutdown.
 */
export type ToWorker = ServerPlan | "taken" | "count" | "shutdown";

/** Starts the workers of a plan, or throws the error of the first that fails to. */
export async function startWorkers(
  plan: ServerPlan,
  output: ServerOutput,
  stopping: AbortSignal,
): Promise<RunningServer> {
  requireReadableCode();
  const hostname = addressOf(plan);
  // The kernel may spread the peers of one network over all workers.
  const { rateLimit } = guardLimits(plan.guard, { ...plan, hostname });
  const share = Math.ceil(rateLimit / plan.workers);
  // A limit that the user gives holds on loopback too.
  const isUsual = (plan.guard.rateLimit ?? plan.guard.maxAmplification) ===
    undefined;
  const trusted = isUsual ? LOOPBACK_NETWORKS : undefined;
  const guard = { ...plan.guard, rateLimit: share, trusted };
  const shared = { ...plan, hostname, guard };
  const silent: ServerOutput = { ...output, listening: () => {} };
  // A failed worker shuts the others down, and their counts remain.
  const failing = new AbortController();
  const ending = AbortSignal.any([stopping, failing.signal]);
  const workers = [await startWorker(shared, output, ending)];
  // Port 0 is resolved by the first worker.
  const { port } = workers[0]!.addr;
  while (workers.length < plan.workers && !stopping.aborted) {
    workers.push(await startWorker({ ...shared, port }, silent, ending));
  }
  for (const { finished } of workers) finished.catch(() => failing.abort());
  const finished = endOf(workers);
  const counts = async () => {
    const all = await Promise.all(workers.map((worker) => worker.counts()));
    return all.reduce(sumOf);
  };
  const endTelemetry = observeServer({ hostname, port }, async () => {
    const { server, reflector } = await counts();
    return serverReadings(server, reflector && readingsOf(reflector));
  });
  // A failure is reported by `finished`.
  finished.then(endTelemetry, endTelemetry);
  return { finished, counts };
}

/** Resolves when all have ended, or rejects with the first error. */
async function endOf(workers: RunningServer[]): Promise<void> {
  const ends = await Promise.allSettled(workers.map((one) => one.finished));
  for (const end of ends) if (end.status === "rejected") throw end.reason;
}

/** The IP address that all workers bind and share limits for. */
function addressOf({ hostname, port }: ServerPlan): string {
  if (ipVersion(hostname) !== undefined) return hostname;
  if (isLocalhost(hostname)) return "127.0.0.1";
  try {
    const probe = denoRuntime.open({ hostname, port: 0, maxDatagramBytes: 1 });
    probe.close();
    return probe.addr.hostname;
  } catch (error) {
    throw bindError((error as Error).cause ?? error, { hostname, port });
  }
}

/** Checks the permission to read the code of a worker. */
function requireReadableCode(): void {
  if (WORKER_URL.protocol !== "file:") return;
  const read = { name: "read", path: WORKER_URL } as const;
  if (Deno.permissions.querySync(read).state !== "granted") {
    throw new Error("Cannot start workers: run with --allow-read");
  }
}

type RunningWorker = RunningServer & { addr: UdpAddress };

function startWorker(
  plan: ServerPlan,
  output: ServerOutput,
  stopping: AbortSignal,
): Promise<RunningWorker> {
  const worker = new Worker(WORKER_URL.href, { type: "module" });
  const listening = Promise.withResolvers<RunningWorker>();
  const finished = Promise.withResolvers<void>();
  let counts: ServerCounts = { server: noStats(), eventsDropped: 0 };
  /** Events left out here, beside those of the worker. */
  let leftOut = 0;
  let hasEnded = false;
  /** Resolves when the worker has counted. */
  let counting = Promise.withResolvers<void>();
  const shutdown = () => worker.postMessage("shutdown" satisfies ToWorker);
  const end = () => {
    hasEnded = true;
    stopping.removeEventListener("abort", shutdown);
    worker.terminate();
    counting.resolve();
  };
  const fail = (error: Error) => {
    listening.reject(error);
    finished.reject(error);
    end();
  };
  // A failure before the worker listens rejects `listening` as well.
  finished.promise.catch(() => {});
  worker.onerror = (event) => {
    event.preventDefault();
    fail(new Error(`Cannot start a worker: ${event.message}`));
  };
  worker.onmessage = ({ data }: MessageEvent<FromWorker>) => {
    switch (data.type) {
      case "listening":
        output.listening(data.addr);
        return listening.resolve({
          addr: data.addr,
          finished: finished.promise,
          counts: async () => {
            if (!hasEnded) worker.postMessage("count" satisfies ToWorker);
            await counting.promise;
            const eventsDropped = counts.eventsDropped + leftOut;
            return { ...counts, eventsDropped };
          },
        });
      case "lines":
        if (!output.line(data.text)) leftOut += data.text.split("\n").length;
        return worker.postMessage("taken" satisfies ToWorker);
      case "log":
        return output.log(data.kind, data.message);
      case "counts":
        counts = data.counts;
        counting.resolve();
        counting = Promise.withResolvers();
        return;
      case "ended":
        counts = data.counts ?? counts;
        if (data.error !== undefined) return fail(new Error(data.error));
        finished.resolve();
        end();
    }
  };
  worker.postMessage(plan satisfies ToWorker);
  if (stopping.aborted) shutdown();
  stopping.addEventListener("abort", shutdown);
  return listening.promise;
}

const WORKER_URL = new URL("./worker.ts", import.meta.url);

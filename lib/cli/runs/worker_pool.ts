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
import type { ServerCounts } from "../show/server.ts";
import type { RunningServer, ServerOutput, ServerPlan } from "./server.ts";

/** A message of a worker. */
export type FromWorker =
  | { type: "listening"; addr: UdpAddress }
  | { type: "lines"; text: string }
  | { type: "log"; kind: string; message: string }
  | { type: "counts"; counts: ServerCounts }
  | {
    type: "ended";
    counts: ServerCounts | undefined;
    error: string | undefined;
  };

/**
 * A message to a worker: its plan at first; the receipt of its lines, before which
 * it sends no more; a request for its counts; and a shutdown.
 */
export type ToWorker = ServerPlan | "taken" | "count" | "shutdown";

/**
 * Starts the workers of a plan.
 *
 * @throws {Error} The error of the first worker that cannot start.
 */
export async function startWorkers(
  plan: ServerPlan,
  output: ServerOutput,
  stopping: AbortSignal,
): Promise<RunningServer> {
  requireReadable(WORKER_URL);
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
  const finished = endOf(workers, () => failing.abort());
  const counts = async () => {
    const all = await Promise.all(workers.map((worker) => worker.counts()));
    return all.reduce(sum);
  };
  const endTelemetry = observeServer({ hostname, port }, async () => {
    const { server, reflector } = await counts();
    return serverReadings(server, reflector && readingsOf(reflector));
  });
  // The caller hears of a failure by `finished`.
  finished.then(endTelemetry, endTelemetry);
  return { finished, counts };
}

/** Resolves when all have ended, or rejects with the first error. */
async function endOf(
  workers: RunningServer[],
  onFailure: () => void,
): Promise<void> {
  const ends = await Promise.allSettled(workers.map(async ({ finished }) => {
    await finished.catch((error) => {
      onFailure();
      throw error;
    });
  }));
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
function requireReadable(path: URL): void {
  if (path.protocol !== "file:") return;
  if (Deno.permissions.querySync({ name: "read", path }).state !== "granted") {
    throw new Error("Cannot start workers: run with --allow-read");
  }
}

interface RunningWorker extends RunningServer {
  addr: UdpAddress;
}

function startWorker(
  plan: ServerPlan,
  output: ServerOutput,
  stopping: AbortSignal,
): Promise<RunningWorker> {
  const worker = new Worker(WORKER_URL.href, { type: "module" });
  const listening = Promise.withResolvers<RunningWorker>();
  const finished = Promise.withResolvers<void>();
  let [counts, hasEnded] = [NOTHING, false];
  /** Resolvers of requests for the counts. */
  const waiting: Array<() => void> = [];
  const answer = () => {
    for (const resolve of waiting.splice(0)) resolve();
  };
  const shutdown = () => worker.postMessage("shutdown" satisfies ToWorker);
  const end = () => {
    hasEnded = true;
    stopping.removeEventListener("abort", shutdown);
    worker.terminate();
    answer();
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
            if (!hasEnded) {
              const { promise, resolve } = Promise.withResolvers<void>();
              waiting.push(resolve);
              worker.postMessage("count" satisfies ToWorker);
              await promise;
            }
            return counts;
          },
        });
      case "lines":
        output.line(data.text);
        return worker.postMessage("taken" satisfies ToWorker);
      case "log":
        return output.log(data.kind, data.message);
      case "counts":
        counts = data.counts;
        return answer();
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

/** Adds up the numbers of two objects of one shape. */
function sum<T extends object>(a: T, b: T): T {
  const total = { ...a };
  for (const [key, value] of Object.entries(b) as Array<[keyof T, unknown]>) {
    if (value === undefined) continue;
    const other: unknown = a[key];
    if (other === undefined) total[key] = value as T[keyof T];
    else if (typeof value === "number") {
      total[key] = value + (other as number) as T[keyof T];
    } else total[key] = sum(other as object, value as object) as T[keyof T];
  }
  return total;
}

/** The counts of a worker that reported none. */
const NOTHING: ServerCounts = { server: noStats() };

const WORKER_URL = new URL("./worker.ts", import.meta.url);

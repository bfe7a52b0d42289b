/**
 * `server --workers N`: threads with a socket each on one port, over which the
 * kernel spreads the peers (SO_REUSEPORT).
 *
 * @module
 */
import type { UdpAddress } from "../address.ts";
import { guardLimits } from "../guard.ts";
import type {
  RunningServer,
  ServerCounts,
  ServerOutput,
  ServerPlan,
} from "./server_run.ts";

/** What a worker tells. */
export type FromWorker =
  | { type: "listening"; addr: UdpAddress }
  | { type: "line"; text: string }
  | { type: "log"; kind: string; message: string }
  | {
    type: "ended";
    counts: ServerCounts | undefined;
    error: string | undefined;
  };

/** What a worker is told: its plan at first, then to shut down. */
export type ToWorker = ServerPlan | "shutdown";

/** Starts so many workers; rejects with the error of the first that cannot. */
export async function runWorkers(
  plan: ServerPlan,
  count: number,
  output: ServerOutput,
): Promise<RunningServer> {
  if (WORKER_URL.protocol === "file:") {
    const path = WORKER_URL;
    if (
      Deno.permissions.querySync({ name: "read", path }).state !== "granted"
    ) {
      throw new Error("Cannot start workers: run with --allow-read");
    }
  }
  // The peers of one network may be spread over all workers.
  const { rateLimit } = guardLimits(plan.guard, plan);
  const share = Math.ceil(rateLimit / count);
  const shared: ServerPlan = {
    ...plan,
    reusePort: true,
    guard: { ...plan.guard, rateLimit: share },
  };
  const quiet: ServerOutput = { ...output, listening: () => {} };
  const workers = [await startWorker(shared, output)];
  // The first one knows the port, if any will do.
  const { port } = workers[0]!.addr;
  while (workers.length < count) {
    workers.push(await startWorker({ ...shared, port }, quiet));
  }
  return {
    finished: Promise.all(workers.map(({ finished }) => finished)).then(
      () => {},
    ),
    shutdown: () => workers.forEach((worker) => worker.shutdown()),
    counts: () =>
      workers.map(({ counts }) => counts()).reduce((a, b) => sum(a, b)),
  };
}

interface RunningWorker extends RunningServer {
  addr: UdpAddress;
}

function startWorker(
  plan: ServerPlan,
  output: ServerOutput,
): Promise<RunningWorker> {
  const worker = new Worker(WORKER_URL.href, { type: "module" });
  const listening = Promise.withResolvers<RunningWorker>();
  const finished = Promise.withResolvers<void>();
  let counts: ServerCounts | undefined;
  const fail = (error: Error) => {
    listening.reject(error);
    finished.reject(error);
    worker.terminate();
  };
  // Whoever started it hears of a failure before it listens by that promise.
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
          shutdown: () => worker.postMessage("shutdown" satisfies ToWorker),
          counts: () => counts!,
        });
      case "line":
        return output.line(data.text);
      case "log":
        return output.log(data.kind, data.message);
      case "ended":
        counts = data.counts;
        if (data.error !== undefined) return fail(new Error(data.error));
        finished.resolve();
        worker.terminate();
    }
  };
  worker.postMessage(plan satisfies ToWorker);
  return listening.promise;
}

/** Adds up the numbers of two objects of one shape. */
function sum<T extends object>(a: T, b: T): T {
  const entries = Object.entries(a).map(([key, value]) => {
    const other = b[key as keyof T] as unknown;
    return [
      key,
      typeof value === "number"
        ? value + (other as number)
        : sum(value, other as object),
    ];
  });
  return Object.fromEntries(entries) as T;
}

const WORKER_URL = new URL("./worker.ts", import.meta.url);

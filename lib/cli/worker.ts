/**
 * One worker of `server --workers N`.
 *
 * @module
 */
import { errorMessage } from "../errors.ts";
import { type RunningServer, startServer } from "./server_run.ts";
import type { FromWorker, ToWorker } from "./worker_pool.ts";

/** A worker's own global, which the types of a window do not know. */
interface WorkerScope {
  onmessage: (event: MessageEvent<ToWorker>) => void;
  postMessage(message: FromWorker): void;
}

const scope = globalThis as unknown as WorkerScope;
const stopping = new AbortController();

scope.onmessage = async ({ data }) => {
  if (data === "shutdown") return stopping.abort();
  let server: RunningServer | undefined;
  let error: string | undefined;
  try {
    server = startServer(data, {
      line: (text) => scope.postMessage({ type: "line", text }),
      log: (kind, message) => scope.postMessage({ type: "log", kind, message }),
      listening: (addr) => scope.postMessage({ type: "listening", addr }),
    }, stopping.signal);
    await server.finished;
  } catch (thrown) {
    error = errorMessage(thrown);
  }
  scope.postMessage({ type: "ended", counts: server?.counts(), error });
};

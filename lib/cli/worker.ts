/**
 * One worker of `server --workers N`.
 *
 * @module
 */
import { errorMessage } from "./series_lines.ts";
import { type RunningServer, runServer } from "./server_run.ts";
import type { FromWorker, ToWorker } from "./worker_pool.ts";

/** A worker's own global, which the types of a window do not know. */
interface WorkerScope {
  onmessage: (event: MessageEvent<ToWorker>) => void;
  postMessage(message: FromWorker): void;
}

const scope = globalThis as unknown as WorkerScope;
let server: RunningServer | undefined;

scope.onmessage = async ({ data }) => {
  if (data === "shutdown") return server?.shutdown();
  let error: string | undefined;
  try {
    server = runServer(data, {
      line: (text) => scope.postMessage({ type: "line", text }),
      log: (kind, message) => scope.postMessage({ type: "log", kind, message }),
      listening: (addr) => scope.postMessage({ type: "listening", addr }),
    });
    await server.finished;
  } catch (thrown) {
    error = errorMessage(thrown);
  }
  scope.postMessage({ type: "ended", counts: server?.counts(), error });
};

/**
 * One worker of `server --workers N`.
 *
 * @module
 */
import { errorMessage } from "../../base/errors.ts";
import { throttle } from "../../base/warn.ts";
import { LineWriter } from "../output.ts";
import { type RunningServer, startServer } from "./server.ts";
import type { FromWorker, ToWorker } from "./worker_pool.ts";

/** The global scope of a worker, absent from the types of a window. */
const scope = globalThis as unknown as {
  onmessage: (event: MessageEvent<ToWorker>) => void;
  postMessage(message: FromWorker): void;
};
const stopping = new AbortController();
let server: RunningServer | undefined;
/** Called when the main thread has taken the lines. */
let onTaken = () => {};

// Both bound the memory of waiting lines at any rate of datagrams.
const lines = new LineWriter({
  write: (bytes) =>
    new Promise((resolve) => {
      onTaken = () => resolve(bytes.length);
      const text = new TextDecoder().decode(bytes).slice(0, -1);
      scope.postMessage({ type: "lines", text });
    }),
});
const log = throttle((message, kind) =>
  scope.postMessage({ type: "log", kind, message })
);

scope.onmessage = async ({ data }) => {
  if (data === "shutdown") return stopping.abort();
  if (data === "taken") return onTaken();
  if (data === "count") {
    const counts = await server?.counts();
    if (counts !== undefined) scope.postMessage({ type: "counts", counts });
    return;
  }
  let failure: { error: string } | undefined;
  try {
    server = startServer(data, {
      line: (text) => lines.write(text),
      log,
      listening: (addr) => scope.postMessage({ type: "listening", addr }),
    }, stopping.signal);
    await server.finished;
  } catch (thrown) {
    failure = { error: errorMessage(thrown) };
  }
  await lines.flush();
  const counts = await server?.counts();
  scope.postMessage({ type: "ended", counts, ...failure });
};

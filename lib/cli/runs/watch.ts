/**
 * `client --watch`: targets watched until a signal, their page, metrics and history.
 *
 * @module
 */
import "../../socket/linux_engine.ts";
import { formatAddress } from "../../address.ts";
import { bindError, errorMessage } from "../../base/errors.ts";
import type { WatchPlan } from "../client_plan.ts";
import { onStop } from "../main.ts";
import { complain, type LineWriter, note } from "../output.ts";
import { json } from "../show/format.ts";
import { timeOf } from "../show/loss.ts";
import { HOUR_MS } from "../show/history.ts";
import { Store } from "../watch/store.ts";
import type { Change } from "../watch_state.ts";
import { Target } from "./watch_target.ts";
import { type Watch, webOf } from "../watch/web.ts";
import {
  readWatchFile,
  type WatchFile,
  type WatchTarget,
} from "../watch_plan.ts";
import { forgetKeys } from "./ends.ts";

/** Watches until SIGINT or SIGTERM; SIGHUP reads the file again. */
export async function runWatch(
  plan: WatchPlan,
  out: LineWriter,
): Promise<void> {
  const { path, history } = plan;
  const stopping = new AbortController();
  const { promise: stopped, resolve: stop } = Promise.withResolvers<void>();
  let reload = () => {};
  const forget = onStop(out, stop, () => reload());
  const file = await read(plan);
  if (file === undefined) {
    throw new Error(`--watch ${path}: nothing is watched`);
  }
  const store = await openStore(history, file.keepDays);
  const watch: Watch = { file, targets: new Map(), store };
  const serve = await webOf(watch, stopping.signal);
  let server: Deno.HttpServer;
  try {
    server = serve();
  } catch (error) {
    throw bindError(error, file.listen);
  }
  const url = `http://${formatAddress(server.addr as Deno.NetAddr)}/`;
  const write = eventWriter(plan, out);
  const report = (target: string, { type, ...facts }: Change) => {
    const isBad = type === "down" || type === "missed";
    const words = wordsOf({ type, ...facts } as Change);
    write(`${target} ${words}`, type, { target, ...facts }, isBad);
  };
  const follow = async (file: WatchFile) => {
    watch.file = file;
    const wanted = new Map(file.targets.map((one) => [one.name, one]));
    await Promise.all(
      [...watch.targets].map(async ([name, target]) => {
        if (wanted.get(name)?.source === target.watched.source) return;
        watch.targets.delete(name);
        await target.stop();
      }),
    );
    for (const [name, watched] of wanted) {
      if (watch.targets.has(name)) continue;
      const maxSockets = socketsFor(watched, wanted.size);
      const listener = {
        onChange: (change: Change) => report(name, change),
        onPart: store?.addPart.bind(store, name),
        onOutage: store?.addOutage.bind(store, name),
      };
      const past = pastOf(store, name);
      watch.targets.set(name, new Target(watched, maxSockets, listener, past));
    }
  };
  let reloading = Promise.resolve();
  reload = () => {
    reloading = reloading.then(async () => {
      forgetKeys();
      const next = await read(plan);
      if (next === undefined || stopping.signal.aborted) return;
      const fixed = ({ listen, keepDays }: WatchFile) =>
        formatAddress(listen) + keepDays;
      if (fixed(next) !== fixed(file)) {
        complain("client", `${path}: 'listen' and 'keepDays' need a restart`);
      }
      await follow(next);
      const line = `watches ${countOf(next)}, by ${path} as it is now`;
      write(line, "reloaded", { targets: next.targets.length });
    }).catch((error) => complain("client", `${path}: ${errorMessage(error)}`));
  };
  const look = followFile(history);
  const timer = setInterval(() => {
    keep(store);
    look();
  }, WRITE_MS);
  await follow(file);
  const facts = { url, targets: file.targets.length };
  write(`watches ${countOf(file)}, see ${url}`, "watching", facts);
  while (!stopping.signal.aborted) {
    const failed = server.finished.catch((error) => error);
    const failure = await Promise.race([failed, stopped]);
    if (failure === undefined) {
      stopping.abort();
      break;
    }
    // As with too many open files: the targets are watched meanwhile.
    complain("client", `${url}: ${errorMessage(failure)}; it is served again`);
    await Promise.race([
      stopped,
      new Promise((resolve) => setTimeout(resolve, SERVE_MS)),
    ]);
    try {
      server = serve();
    } catch {
      // The next round reports it as the failure of the server before.
    }
  }
  clearInterval(timer);
  await follow({ ...file, targets: [] });
  const lost = await close(store);
  await out.flush();
  forget();
  if (lost > 0) {
    throw new Error(`--history ${history}: ${lost} entries are not written`);
  }
  if (plan.isStream && out.hasFailed) {
    throw new Error("stdout has lost its reader, so nothing is watched");
  }
}

/** The file, or nothing after a line for each of its mistakes. */
async function read({ path, engine }: WatchPlan) {
  const file = await readWatchFile(path, engine);
  if (!Array.isArray(file)) return file;
  for (const mistake of file.slice(0, MAX_MISTAKES)) {
    complain("client", `${path}: ${mistake}`);
  }
  const further = file.length - MAX_MISTAKES;
  if (further > 0) complain("client", `${path}: and ${further} more`);
  return undefined;
}

/** Makes the writer of events: lines on stderr, or objects on stdout. */
function eventWriter({ isStream }: WatchPlan, out: LineWriter) {
  return (line: string, type: string, facts: object, isBad = false) => {
    if (isStream) out.write(json({ type, time: new Date(), ...facts }));
    else if (isBad) complain("client", line);
    else note(`client: ${line}`);
  };
}

/** The sockets of one of many targets. */
function socketsFor({ plan }: WatchTarget, targets: number): number {
  const { intervalMs = 1000, timeoutMs } = plan.options;
  const least = Math.ceil(timeoutMs / intervalMs) + 2;
  const share = Math.floor(MAX_SOCKETS / targets);
  return Math.min(256, Math.max(least, share));
}

/** The last hour of a target, as the history has it. */
function pastOf(store: Store | undefined, name: string) {
  try {
    const past = store?.read(name, Date.now() - HOUR_MS);
    if (past !== undefined) return past;
  } catch (error) {
    complain("client", `--history: ${errorMessage(error)}`);
  }
  return { parts: [], outages: [] };
}

/** Closes the history; gives the number of entries that it could not write. */
async function close(store: Store | undefined): Promise<number> {
  for (let tries = 0; tries < LAST_TRIES; tries++) {
    keep(store);
    if (!store?.waiting) break;
    await new Promise((resolve) => setTimeout(resolve, LAST_TRY_MS));
  }
  const lost = store?.waiting ?? 0;
  store?.close();
  return lost;
}

/** Opens the history; undefined without one. */
async function openStore(
  path: string | undefined,
  keepDays: number,
): Promise<Store | undefined> {
  if (path === undefined) return undefined;
  for (const name of ["read", "write"] as const) {
    const { state } = await Deno.permissions.request({ name, path });
    if (state !== "granted") {
      throw new Deno.errors.NotCapable(
        `--history ${path}: Deno may not ${name} it, run with --allow-${name}=${path}`,
      );
    }
  }
  try {
    return new Store(path, keepDays);
  } catch (error) {
    throw new Error(`--history ${path}: ${errorMessage(error)}`);
  }
}

/** Makes a look at the history's file, which reports once that it was replaced. */
function followFile(path: string | undefined): () => void {
  const inode = () => {
    try {
      return Deno.statSync(path!).ino;
    } catch {
      return undefined;
    }
  };
  const opened = path === undefined ? undefined : inode();
  let isGone = false;
  return () => {
    if (path === undefined || isGone || inode() === opened) return;
    isGone = true;
    complain(
      "client",
      `--history ${path}: it was removed or replaced, and is written again after a restart`,
    );
  };
}

/** Writes the history, and reports failures, once each time they begin. */
function keep(store: Store | undefined): void {
  try {
    store?.write();
    store?.compact(Date.now());
    if (!isFailing) return;
    isFailing = false;
    const { dropped } = store!;
    note(`client: --history is written again, without ${dropped} entries`);
  } catch (error) {
    if (isFailing) return;
    isFailing = true;
    complain("client", `--history: ${errorMessage(error)}; it is tried again`);
  }
}

let isFailing = false;

function countOf({ targets: { length } }: WatchFile): string {
  return length === 1 ? "1 target" : `${length} targets`;
}

/** A change in words, after the name of its target. */
function wordsOf(change: Change): string {
  switch (change.type) {
    case "down":
      return `is down since ${timeOf(change.since)}: ${change.why}`;
    case "up": {
      const { seconds, lost, why } = change;
      const missing = lost > 0 ? `, ${lost} datagrams missing` : "";
      return `is up again after ${seconds.toFixed(1)} s: ${why}${missing}`;
    }
    case "missed":
      return `misses ${change.thresholds.join("; ")}`;
    case "met":
      return "meets its thresholds again";
  }
}

/** The sockets of all targets together, but for those that are needed. */
const MAX_SOCKETS = 1024;
const WRITE_MS = 1000;
const SERVE_MS = 1000;
const MAX_MISTAKES = 20;
const LAST_TRIES = 4;
const LAST_TRY_MS = 200;

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
import { HOUR_MS } from "../show/parts.ts";
import { Store } from "../watch/store.ts";
import { type Change, Target } from "./watch_target.ts";
import { serveWatch, type Watch } from "../watch/web.ts";
import { readWatchFile, type WatchFile } from "../watch_plan.ts";

/** Watches until SIGINT or SIGTERM; SIGHUP reads the file again. */
export async function runWatch(
  plan: WatchPlan,
  out: LineWriter,
): Promise<void> {
  const { path, history } = plan;
  const read = async () => {
    const file = await readWatchFile(path, plan.engine);
    if (!Array.isArray(file)) return file;
    for (const mistake of file) complain("client", `${path}: ${mistake}`);
    return undefined;
  };
  const file = await read();
  if (file === undefined) {
    throw new Error(`--watch ${path}: nothing is watched`);
  }
  const store = await openStore(history, file.keepDays);
  const watch: Watch = { file, targets: new Map(), store };
  const stopping = new AbortController();
  const { promise: stopped, resolve: stop } = Promise.withResolvers<void>();
  let server: Deno.HttpServer;
  try {
    server = await serveWatch(watch, stopping.signal);
  } catch (error) {
    throw bindError(error, file.listen);
  }
  const tell = (line: string, type: string, facts: object, isBad = false) => {
    if (plan.isStream) out.write(json({ type, time: new Date(), ...facts }));
    else if (isBad) complain("client", line);
    else note(`client: ${line}`);
  };
  const report = (target: string, { type, ...facts }: Change) => {
    const isBad = type === "down" || type === "missed";
    const words = wordsOf({ type, ...facts } as Change);
    tell(`${target} ${words}`, type, { target, ...facts }, isBad);
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
      const { intervalMs = 1000, timeoutMs } = watched.plan.options;
      const least = Math.ceil(timeoutMs / intervalMs) + 2;
      const share = Math.floor(MAX_SOCKETS / wanted.size);
      const maxSockets = Math.min(256, Math.max(least, share));
      const from = Date.now() - HOUR_MS;
      const past = store?.read(name, from) ?? { parts: [], outages: [] };
      const listener = {
        onChange: (change: Change) => report(name, change),
        onPart: store?.addPart.bind(store, name),
        onOutage: store?.addOutage.bind(store, name),
      };
      watch.targets.set(name, new Target(watched, maxSockets, listener, past));
    }
  };
  const reload = async () => {
    const next = await read();
    if (next === undefined) return;
    const fixed = ({ listen, keepDays }: WatchFile) =>
      formatAddress(listen) + keepDays;
    if (fixed(next) !== fixed(file)) {
      complain("client", `${path}: 'listen' and 'keepDays' need a restart`);
    }
    await follow(next);
    tell(`watches ${countOf(next)}, by ${path} as it is now`, "reloaded", {
      targets: next.targets.length,
    });
  };
  let reloading = Promise.resolve();
  const forget = onStop(out, stop, () => {
    reloading = reloading.then(reload)
      .catch((error) => complain("client", `${path}: ${errorMessage(error)}`));
  });
  const timer = setInterval(() => keep(store), WRITE_MS);
  await follow(file);
  const url = `http://${formatAddress(server.addr as Deno.NetAddr)}/`;
  const facts = { url, targets: file.targets.length };
  tell(`watches ${countOf(file)}, see ${url}`, "watching", facts);
  await stopped;
  clearInterval(timer);
  await reloading;
  await follow({ ...file, targets: [] });
  stopping.abort();
  keep(store);
  store?.close();
  await server.finished;
  await out.flush();
  forget();
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
      return `is up again: ${lost} datagrams missing in ${
        seconds.toFixed(1)
      } s, ${why}`;
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

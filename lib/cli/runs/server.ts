/**
 * The server of `server.ts`, in the main thread or in a worker, and its lines.
 *
 * @module
 */
import { formatAddress, type UdpAddress } from "../../address.ts";
import { errorMessage } from "../../base/errors.ts";
import { guardLimits } from "../../server/guard.ts";
import { echo, fixedReply } from "../../server/responders.ts";
import { chooseEngine } from "../../socket/runtime.ts";
import { serve } from "../../server/serve.ts";
import { type Handler, traitsOf, withTraits } from "../../server/handler.ts";
import { stampReflector } from "../../stamp/reflector.ts";
import type { ServerPlan } from "../server_flags.ts";
import { clockText, json } from "../show/format.ts";
import { keyOf } from "../key_file.ts";
import * as show from "../show/server.ts";

/** The sink of a server's lines. */
export interface ServerOutput {
  /** A line, or several, for stdout; returns false if they are left out. */
  line(text: string): boolean;
  /** A warning, of a kind that may be frequent. */
  log(kind: string, message: string): void;
  /** The server is bound. */
  listening(addr: UdpAddress): void;
}

/** A running server, in one thread or in many. */
export interface RunningServer {
  /** Resolves when it has closed. */
  readonly finished: Promise<void>;
  counts(): Promise<show.ServerCounts>;
}

/** Starts the server of a plan in this thread, until `stopping` is aborted. */
export function startServer(
  plan: ServerPlan,
  output: ServerOutput,
  stopping: AbortSignal,
): RunningServer {
  const { hostname, port, groups, guard, engine, maxReplies } = plan;
  const { why } = chooseEngine(engine);
  if (why !== undefined) output.log("engine", why);
  const reflector = plan.mode === "stamp"
    ? stampReflector({
      stateless: plan.stateless,
      ssids: plan.ssids,
      key: plan.keys && keyOf(plan.keys),
      engine,
    })
    : undefined;
  const answer = reflector ??
    (plan.mode === "reply" ? fixedReply(plan.reply) : echo());
  const lines = reflector ? show.packetLine : show.exchangeLines;
  let eventsDropped = 0;
  const shown: Handler = (data, info) => {
    // The reply first: a reflector measures its own time.
    const reply = answer(data, info);
    const isWritten = output.line(outputText(
      plan,
      () => show.exchangeJson(data, info.remoteAddr, new Date()),
      () => lines(data, info.remoteAddr),
    ));
    if (!isWritten) eventsDropped++;
    return reply;
  };
  withTraits(shown, traitsOf(answer));
  const server = serve({
    hostname,
    port,
    groups,
    interface: plan.interface,
    // A group may have many receivers on one machine.
    reuseAddress: groups.length > 0,
    guard,
    engine,
    reusePort: plan.workers > 1,
    // A reflector returns the TTL.
    packetInfo: reflector !== undefined,
    // The pool reports the sum of its workers.
    telemetry: plan.workers === 1,
    maxReplies,
    onListen: (addr) => {
      output.listening(addr);
      const { state } = Deno.permissions.querySync({ name: "net" });
      if (state !== "granted") output.log("net", SOME_PEERS);
    },
    onRefuse: (reason, { remoteAddr }) =>
      output.log(reason, show.refusalLine(reason, remoteAddr)),
    onOverload: ({ remoteAddr }) =>
      output.log("overload", show.overloadLine(remoteAddr)),
    onError: (error, info) => {
      const peer = info && `${formatAddress(info.remoteAddr)}: `;
      output.log("error", (peer ?? "") + errorMessage(error));
    },
  }, plan.quiet ? answer : shown);
  // Its end is awaited as `finished`.
  const shutdown = () => void server.shutdown().catch(() => {});
  if (stopping.aborted) shutdown();
  stopping.addEventListener("abort", shutdown);
  return {
    finished: server.finished,
    counts: () => {
      const { pushed: _, ...stats } = server.stats();
      const counts = { server: stats, reflector: reflector?.stats() };
      return Promise.resolve({ ...counts, eventsDropped });
    },
  };
}

/** An object, or lines; with `--timestamps` each has the time before it. */
export function outputText(
  { json: isJson, timestamps }: ServerPlan,
  object: () => Record<string, unknown>,
  lines: () => string,
): string {
  if (isJson) return json(object());
  if (!timestamps) return lines();
  const time = clockText(Date.now());
  return lines().split("\n").map((line) => `${time} ${line}`).join("\n");
}

export function listeningText(plan: ServerPlan, addr: UdpAddress): string {
  const limits = guardLimits(plan.guard, addr);
  const { engine } = chooseEngine(plan.engine);
  return outputText(
    plan,
    () => ({ type: "listening", time: new Date(), ...addr, ...limits, engine }),
    () => show.listeningLine(addr, limits, engine),
  );
}

const SOME_PEERS =
  "replies go only to peers that --allow-net grants: a client " +
  "has any port, so grant its address without one, or everything";

/**
 * What `server.ts` runs, in its own thread or in workers: a plan that can be
 * sent to a worker, and the lines that come of it.
 *
 * @module
 */
import { formatAddress, type UdpAddress } from "../../address.ts";
import { errorMessage } from "../../base/errors.ts";
import { guardLimits, type GuardOptions } from "../../server/guard.ts";
import { echo, fixedReply } from "../../server/responders.ts";
import { chooseEngine, type Engine } from "../../socket/runtime.ts";
import { serve } from "../../server/serve.ts";
import { type Handler, standFor } from "../../server/handler.ts";
import { stampReflector } from "../../stamp/reflector.ts";
import { clockText, json } from "../show/format.ts";
import { keyOf, type Keys } from "../key_file.ts";
import {
  exchangeJson,
  exchangeLines,
  listeningLine,
  overloadLine,
  packetLine,
  refusalLine,
  type ServerCounts,
} from "../show/server.ts";

/** What to serve, and where; nothing but data. */
export interface ServerPlan {
  hostname: string;
  port: number;
  groups: string[];
  interface: string | undefined;
  answer: "reply" | "echo" | "stamp";
  reply: string;
  stateless: boolean;
  /** The sessions that there are; undefined for all. */
  ssids: number[] | undefined;
  /** Keys by whom they are for; none for plain packets. */
  keys?: Keys | undefined;
  guard: GuardOptions;
  engine: Engine;
  workers: number;
  maxReplies: number | undefined;
  quiet: boolean;
  json: boolean;
  timestamps: boolean;
}

/** Where the lines go. */
export interface ServerOutput {
  /** A line, or two, for stdout. */
  line(text: string): void;
  /** A complaint, of a kind that may come often. */
  log(kind: string, message: string): void;
  /** The server is bound. */
  listening(addr: UdpAddress): void;
}

/** A server at work, in one thread or in many. */
export interface RunningServer {
  /** Resolves when it has closed. */
  readonly finished: Promise<void>;
  /** All that was counted so far. */
  counts(): Promise<ServerCounts>;
}

/**
 * Starts the server of a plan in this thread.
 *
 * @param plan What to serve.
 * @param output Where the lines go.
 * @param stopping Shuts the server down when aborted; its handlers finish.
 */
export function startServer(
  plan: ServerPlan,
  output: ServerOutput,
  stopping: AbortSignal,
): RunningServer {
  const { hostname, port, guard, engine, workers, maxReplies } = plan;
  const { why } = chooseEngine(engine);
  if (why !== undefined) output.log("engine", why);
  const reflector = plan.answer === "stamp"
    ? stampReflector({
      stateless: plan.stateless,
      ssids: plan.ssids,
      engine,
      key: plan.keys && keyOf(plan.keys),
    })
    : undefined;
  const answer = reflector ??
    (plan.answer === "echo" ? echo() : fixedReply(plan.reply));
  const lines = plan.answer === "stamp" ? packetLine : exchangeLines;
  const shown: Handler = (data, info) => {
    // The reply first: a reflector states how long it took.
    const reply = answer(data, info);
    output.line(
      plan.json
        ? json(exchangeJson(data, info.remoteAddr, new Date()))
        : stamped(plan, lines(data, info.remoteAddr)),
    );
    return reply;
  };
  standFor(shown, answer);
  const server = serve({
    hostname,
    port,
    groups: plan.groups,
    interface: plan.interface,
    // As many as like may hear a group.
    reuseAddress: plan.groups.length > 0,
    guard,
    engine,
    reusePort: workers > 1,
    // So that a reflector returns the TTL.
    packetInfo: plan.answer === "stamp",
    // Of workers the counts are added up first.
    telemetry: workers === 1,
    maxReplies,
    onListen: (addr) => output.listening(addr),
    onRefuse: (reason, { remoteAddr }) =>
      output.log(reason, refusalLine(reason, remoteAddr)),
    onOverload: ({ remoteAddr }) =>
      output.log("overload", overloadLine(remoteAddr)),
    onError: (error, info) => {
      const peer = info === undefined
        ? ""
        : `${formatAddress(info.remoteAddr)}: `;
      output.log("error", peer + errorMessage(error));
    },
  }, plan.quiet ? answer : shown);
  if (stopping.aborted) server.shutdown();
  stopping.addEventListener("abort", () => server.shutdown());
  return {
    finished: server.finished,
    counts: () => {
      const { pushed: _, ...stats } = server.stats();
      return Promise.resolve({ server: stats, reflector: reflector?.stats() });
    },
  };
}

/** Lines, each with the time before it if that was asked for. */
export function stamped(plan: ServerPlan, lines: string): string {
  if (!plan.timestamps) return lines;
  const time = clockText(Date.now());
  return lines.split("\n").map((line) => `${time} ${line}`).join("\n");
}

/** The line about a bound server. */
export function listeningText(plan: ServerPlan, addr: UdpAddress): string {
  const limits = guardLimits(plan.guard, addr);
  const { engine } = chooseEngine(plan.engine);
  return plan.json
    ? json({ type: "listening", time: new Date(), ...addr, ...limits, engine })
    : stamped(plan, listeningLine(addr, limits, engine));
}

/**
 * The server of `server.ts`, in the main thread or in workers: its plan, which
 * can be sent to a worker, and its lines.
 *
 * @module
 */
import { formatAddress, type UdpAddress } from "../../address.ts";
import { errorMessage } from "../../base/errors.ts";
import { guardLimits, type GuardOptions } from "../../server/guard.ts";
import { echo, fixedReply } from "../../server/responders.ts";
import { chooseEngine, type Engine } from "../../socket/runtime.ts";
import { serve } from "../../server/serve.ts";
import { type Handler, traitsOf, withTraits } from "../../server/handler.ts";
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

/** The plan of a server: data only. */
export interface ServerPlan {
  hostname: string;
  port: number;
  groups: string[];
  interface: string | undefined;
  answer: "reply" | "echo" | "stamp";
  reply: string;
  stateless: boolean;
  /** The provisioned sessions; undefined for all. */
  ssids: number[] | undefined;
  keyFile: string | undefined;
  /** The keys in `keyFile`; undefined for plain packets. */
  keys?: Keys | undefined;
  guard: GuardOptions;
  engine: Engine;
  workers: number;
  maxReplies: number | undefined;
  quiet: boolean;
  json: boolean;
  timestamps: boolean;
  /** The length of an interval; undefined for no intervals. */
  reportMs: number | undefined;
}

/** The sink of a server's lines. */
export interface ServerOutput {
  /** A line, or two, for stdout. */
  line(text: string): void;
  /** A warning, of a kind that may be frequent. */
  log(kind: string, message: string): void;
  /** The server is bound. */
  listening(addr: UdpAddress): void;
}

/** A running server, in one thread or in many. */
export interface RunningServer {
  /** Resolves when it has closed. */
  readonly finished: Promise<void>;
  /** All counts so far. */
  counts(): Promise<ServerCounts>;
}

/**
 * Starts the server of a plan in this thread.
 *
 * @param plan The plan.
 * @param output The sink of its lines.
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
    // The reply first: a reflector measures its own time.
    const reply = answer(data, info);
    output.line(
      plan.json
        ? json(exchangeJson(data, info.remoteAddr, new Date()))
        : stamped(plan, lines(data, info.remoteAddr)),
    );
    return reply;
  };
  withTraits(shown, traitsOf(answer));
  const server = serve({
    hostname,
    port,
    groups: plan.groups,
    interface: plan.interface,
    // A group may have many receivers on one machine.
    reuseAddress: plan.groups.length > 0,
    guard,
    engine,
    reusePort: workers > 1,
    // A reflector returns the TTL.
    packetInfo: plan.answer === "stamp",
    // The pool reports the sum of its workers.
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

/** Lines, with `--timestamps` each with the time before it. */
export function stamped(plan: ServerPlan, lines: string): string {
  if (!plan.timestamps) return lines;
  const time = clockText(Date.now());
  return lines.split("\n").map((line) => `${time} ${line}`).join("\n");
}

/** The line of a bound server. */
export function listeningText(plan: ServerPlan, addr: UdpAddress): string {
  const limits = guardLimits(plan.guard, addr);
  const { engine } = chooseEngine(plan.engine);
  return plan.json
    ? json({ type: "listening", time: new Date(), ...addr, ...limits, engine })
    : stamped(plan, listeningLine(addr, limits, engine));
}

/**
 * What `server.ts` runs, in its own thread or in workers: a plan that can be
 * sent to a worker, and the lines that come of it.
 *
 * @module
 */
import { formatAddress, type UdpAddress } from "../address.ts";
import { errorMessage } from "../errors.ts";
import { guardLimits, type GuardOptions } from "../guard.ts";
import { noLoops } from "../loop_watch.ts";
import { echo, fixedReply } from "../responders.ts";
import { chooseEngine, type Engine } from "../runtime.ts";
import { serve } from "../serve.ts";
import {
  borrowers,
  type Handler,
  type ServerStats,
  withholding,
} from "../server.ts";
import { type ReflectorStats, stampReflector } from "../stamp/reflector.ts";
import { json } from "./format.ts";
import {
  exchangeJson,
  exchangeLines,
  listeningLine,
  overloadLine,
  packetLine,
  refusalLine,
} from "./server_lines.ts";

/** What to serve, and where; nothing but data. */
export interface ServerPlan {
  hostname: string;
  port: number;
  groups: string[];
  interface: string | undefined;
  answer: "reply" | "echo" | "stamp";
  reply: string;
  stateless: boolean;
  guard: GuardOptions;
  engine: Engine;
  workers: number;
  maxReplies: number | undefined;
  quiet: boolean;
  json: boolean;
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

/** All that a server has counted; it sends nothing unasked. */
export interface ServerCounts {
  server: Omit<ServerStats, "pushed">;
  reflector?: ReflectorStats | undefined;
}

/** A server at work, in one thread or in many. */
export interface RunningServer {
  /** Resolves when it has closed. */
  readonly finished: Promise<void>;
  counts(): ServerCounts;
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
    ? stampReflector({ stateless: plan.stateless })
    : undefined;
  const answer = reflector ??
    (plan.answer === "echo" ? echo() : fixedReply(plan.reply));
  const lines = plan.answer === "stamp" ? packetLine : exchangeLines;
  const shown: Handler = (data, info) => {
    // The reply first: a reflector states how long it took.
    const reply = answer(data, info);
    output.line(
      plan.json
        ? json(exchangeJson(data, info.remoteAddr))
        : lines(data, info.remoteAddr),
    );
    return reply;
  };
  const isNoLoop = noLoops.get(answer);
  if (isNoLoop !== undefined) noLoops.set(shown, isNoLoop);
  const onWithheld = withholding.get(answer);
  if (onWithheld !== undefined) withholding.set(shown, onWithheld);
  borrowers.add(shown);
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
      return { server: stats, reflector: reflector?.stats() };
    },
  };
}

/** The line about a bound server. */
export function listeningText(plan: ServerPlan, addr: UdpAddress): string {
  const limits = guardLimits(plan.guard, addr);
  const { engine } = chooseEngine(plan.engine);
  return plan.json
    ? json({ type: "listening", ...addr, ...limits, engine })
    : listeningLine(addr, limits, engine);
}

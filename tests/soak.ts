/**
 * `deno task soak`: valid and malformed load on a server, for a minute or
 * `--minutes`. Exits with 1 if memory grows, or if an answer is missing without
 * a counted reason.
 */
// deno-lint-ignore-file no-console -- it is a program
import { formatAddress } from "../lib/address.ts";
import { encode } from "../lib/encoding.ts";
import { decimal, SHARED_FLAGS } from "../lib/cli/flags.ts";
import { statsLine } from "../lib/cli/show/server.ts";
import { request } from "../lib/client/request.ts";
import { serve } from "../lib/server/serve.ts";
import type { UdpServer } from "../lib/server/udp_server.ts";
import { type Engine, runtimeFor } from "../lib/socket/runtime.ts";
import { toolFlags } from "./tool_flags.ts";

/** The result of a soak. */
export interface SoakReport {
  lines: string[];
  /** The faults that were found. */
  faults: string[];
}

/** Runs mixed load for this many milliseconds. */
export async function soak(
  ms: number,
  engine: Engine = "deno",
): Promise<SoakReport> {
  const server = serve({
    quiet: true,
    engine,
    hostname: "127.0.0.1",
    maxDatagramBytes: 4000,
    maxInFlight: 64,
    handlerTimeoutMs: 100,
    guard: { rateLimit: 1_000_000_000 },
  }, answer);
  const start = performance.now();
  const warm = start + ms / 5;
  const end = start + ms;
  const load = Promise.all([
    ...Array.from({ length: 4 }, (_, i) => goodClient(server, i, end, engine)),
    badClient(server, end, engine),
  ]);
  await until(warm);
  const before = memory();
  const [badSent, good] = await load.then((results) => {
    const sent = results.pop() as number;
    return [sent, results as GoodCounts[]] as const;
  });
  const after = memory();
  await server.shutdown();
  return report(server, good, badSent, { ms, before, after });
}

/** Answers most datagrams, and fails in every possible way. */
function answer(data: Uint8Array) {
  switch (data[0]) {
    case KIND.throw:
      throw new Error("handler");
    case KIND.reject:
      return Promise.reject(new Error("handler"));
    case KIND.stuck:
      return new Promise<undefined>(() => {});
    case KIND.silent:
      return;
    case KIND.amplify:
      return new Uint8Array(3000);
    case KIND.slow:
      return Promise.resolve(data);
    default:
      return data;
  }
}

const KIND = {
  good: 0,
  throw: 1,
  reject: 2,
  stuck: 3,
  silent: 4,
  amplify: 5,
  slow: 6,
};

interface GoodCounts {
  asked: number;
  answered: number;
  resent: number;
  wrong: number;
}

/** Sends requests one after another, and checks each answer. */
async function goodClient(
  server: UdpServer,
  id: number,
  end: number,
  engine: Engine,
): Promise<GoodCounts> {
  const counts = { asked: 0, answered: 0, resent: 0, wrong: 0 };
  while (performance.now() < end) {
    const payload = encode(`\0${id} ${counts.asked++}`);
    try {
      const options = { timeoutMs: 1000, retries: 2, engine };
      const { data, attempts } = await request(server.addr, payload, options);
      counts.answered++;
      counts.resent += attempts - 1;
      if (data.toHex() !== payload.toHex()) counts.wrong++;
    } catch {
      // Counted as the difference of both numbers.
    }
  }
  return counts;
}

/** Sends malformed datagrams; returns their number. */
async function badClient(
  server: UdpServer,
  end: number,
  engine: Engine,
): Promise<number> {
  const socket = runtimeFor(engine).open({
    hostname: "127.0.0.1",
    port: 0,
    maxDatagramBytes: 65_507,
  });
  const done = socket.start({ onDatagram: (reply) => socket.release(reply) });
  const kinds = Object.values(KIND);
  let sent = 0;
  while (performance.now() < end) {
    for (let i = 0; i < 32; i++) {
      const size = [0, 1, 100, 3999, 4001, 9000][sent % 6]!;
      const payload = new Uint8Array(size).fill(sent % 251);
      payload[0] = kinds[sent % kinds.length]!;
      await socket.send(payload, server.addr);
      sent++;
    }
    // Waits for the server, so that the kernel drops nothing.
    const { received } = server.stats();
    await until(performance.now() + 5);
    if (server.stats().received === received) {
      await until(performance.now() + 20);
    }
  }
  socket.close();
  await done;
  return sent;
}

function report(
  server: UdpServer,
  good: GoodCounts[],
  badSent: number,
  { ms, before, after }: { ms: number; before: number; after: number },
): SoakReport {
  const sum = (key: keyof GoodCounts) =>
    good.reduce((total, counts) => total + counts[key], 0);
  const stats = server.stats();
  const total = (counts: Record<string, number>) =>
    Object.values(counts).reduce((a, b) => a + b);
  const outcomes = stats.replied + stats.unanswered + total(stats.dropped) +
    total(stats.refused) + stats.errors.send;
  const sent = sum("asked") + sum("resent") + badSent;
  const missing = sum("asked") - sum("answered");
  const faults: string[] = [];
  if (missing > 0) faults.push(`${missing} good requests got no answer`);
  if (sum("wrong") > 0) faults.push(`${sum("wrong")} answers were wrong`);
  if (outcomes !== stats.received) {
    faults.push(`${stats.received} received, but ${outcomes} outcomes counted`);
  }
  // A valid request is retransmitted for one of three reasons: too many in
  // flight, a port so regular that it resembles a loop, or no room in the
  // receive buffer. The first two are counted, the third follows from the
  // datagrams not received.
  const explained = stats.dropped.overload + stats.dropped.closing +
    stats.refused.loop + (stats.kernelDrops ?? sent - stats.received);
  if (sum("resent") > explained) {
    faults.push(`${sum("resent")} resent, but ${explained} dropped`);
  }
  if (after > before * 1.25 + 64) {
    faults.push(`memory grew from ${before} to ${after} MB`);
  }
  const rate = Math.round(stats.received / (ms / 1000));
  return {
    lines: [
      `${formatAddress(server.addr)}, ${
        ms / 1000
      } s: ${sent} sent, ${rate} a second`,
      `good clients: ${sum("asked")} asked, ${sum("answered")} answered, ${
        sum("resent")
      } resent, ${sum("wrong")} wrong`,
      `server: ${statsLine({ server: stats, eventsDropped: 0 })}`,
      `memory: ${before} MB at the start, ${after} MB at the end`,
    ],
    faults,
  };
}

/** Resident memory in MB, after a garbage collection if possible. */
function memory(): number {
  (globalThis as { gc?: () => void }).gc?.();
  return Math.round(Deno.memoryUsage().rss / 1e6);
}

function until(time: number): Promise<void> {
  return new Promise((resolve) =>
    setTimeout(resolve, time - performance.now())
  );
}

if (import.meta.main) {
  const given = await toolFlags(
    "soak",
    "Applies mixed load, valid and malformed.",
    {
      engine: SHARED_FLAGS.engine,
      minutes: { kind: decimal(0, 10_000), default: 1, help: "its length" },
    },
  );
  const { lines, faults } = await soak(
    60_000 * given.minutes,
    given.engine,
  );
  for (const line of lines) console.log(line);
  for (const fault of faults) console.error(`fault: ${fault}`);
  Deno.exit(faults.length > 0 ? 1 : 0);
}

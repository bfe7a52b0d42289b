/** The goals, and the pair of programs behind each. */
import type { Goal, Measured } from "./goals.ts";
import { loadOn, output, pinned, start, startOf, stop } from "./process.ts";
import * as programs from "./programs.ts";

/** Both programs of a goal, ready to be measured in turn. */
export interface Pair extends AsyncDisposable {
  ours: () => Promise<Measured>;
  theirs: () => Promise<Measured>;
}

/** A goal with its programs. */
export interface Case extends Goal {
  open: () => Promise<Pair>;
}

/** The goals, whose programs are compiled into a folder. */
export function cases(out: string, seconds: number): Case[] {
  const named = (list: programs.Peer[], name: string) =>
    list.find((peer) => peer.name === name)!.command;
  const peer = (name: string) => named(programs.peers(out), name);
  const client = (name: string) => named(programs.clients(out), name);
  const started = (name: string) => named(programs.STARTS, name);
  const wall = { figure: "speed", by: "wall clock" } as const;
  const flow = { window: 32, size: 16, flows: 1 };
  const load = { out, seconds };
  // Just-in-time compilers need some of the time of a client.
  const longer = 3 * seconds;

  /** Two servers on one load. */
  const servers = (
    ours: string[],
    theirs: string[],
    scenario: Partial<typeof flow>,
  ) =>
  () => serverPair([ours, theirs], { ...load, ...flow, ...scenario });

  /** Two clients of one server in C. */
  const clientsOfC = (ours: string, theirs: string, window: number) => () =>
    clientPair([peer("C"), peer("C")], [client(ours), client(theirs)], {
      WINDOW: window,
      SECONDS: longer,
    });

  return [
    {
      name: "start of client.ts to the first answer, beside a bare script",
      ...{ figure: "cost", by: "wall clock", limit: 1.5 },
      open: () => startPair(peer("C"), started("client.ts"), started(BARE)),
    },
    {
      name: "connect(), linux engine, 256 in flight, beside C",
      ...{ ...wall, limit: 0.6 },
      open: clientsOfC("connect linux", "C", 256),
    },
    {
      name: "connect(), deno engine, 64 in flight, beside Node",
      ...{ ...wall, limit: 0.9 },
      open: clientsOfC("connect deno", "Node", 64),
    },
    ...[32, 256].map((window) => ({
      name: `server, deno engine, window ${window}, beside a bare loop`,
      ...{ ...wall, limit: 0.97 },
      open: servers(peer("roundtrip deno"), peer("bare Deno"), { window }),
    })),
    ...[32, 256].map((window) => ({
      name: `server, linux engine, window ${window}, beside C`,
      ...{ ...wall, limit: 0.97 },
      open: servers(peer("roundtrip linux"), peer("C"), { window }),
    })),
    {
      name: "server, linux engine, one segmented flow, beside C with GRO",
      ...{ ...wall, limit: 0.65 },
      open: servers(peer("roundtrip linux"), peer("C with GRO"), {
        ...{ window: 1024, flows: 0 },
      }),
    },
    {
      name: "HTTP beside a loaded server, linux engine, beside the deno engine",
      ...{ ...wall, limit: 1 },
      open: () => httpPair({ ...load, ...flow, seconds: longer }),
    },
    ...(["linux", "deno"] as const).map((engine): Case => ({
      name: `series at 1 ms, ${engine} engine, beside STAMP at 1 ms`,
      figure: "cost",
      by: "processor time",
      limit: SERIES_LIMITS[engine],
      open: () => pacedPair(peer("C"), engine, Math.ceil(longer)),
    })),
    {
      name: "server --workers 2 beside one, by its busiest thread",
      ...{ figure: "speed", by: "processor time", limit: 1.8 },
      open: () =>
        workerPair({ out, seconds: longer, window: 512, size: 16, flows: 512 }),
    },
  ];
}

type Load = Parameters<typeof loadOn>[1];

/** Two servers on the first processor, the load on the last one. */
async function serverPair(
  commands: [string[], string[]],
  load: Load,
): Promise<Pair> {
  const [ours, theirs] = await startBoth(commands, load);
  return {
    ours: () => loadOn(ours, load),
    theirs: () => loadOn(theirs, load),
    [Symbol.asyncDispose]: () => stopAll([ours, theirs]),
  };
}

/** Two clients on the last processor, each of its server on the first one. */
async function clientPair(
  serverCommands: [string[], string[]],
  commands: [string[], string[]],
  values: Record<string, number>,
): Promise<Pair> {
  const running = await Promise.all(
    serverCommands.map((command, i) => start(command, PORT + i)),
  );
  // Servers in Deno need their time.
  await new Promise((resolve) => setTimeout(resolve, 1000));
  const measure = (i: 0 | 1) => async () =>
    await measured(
      programs.filled(commands[i], { ...values, PORT: PORT + i }),
    );
  return {
    ours: measure(0),
    theirs: measure(1),
    [Symbol.asyncDispose]: () => stopAll(running),
  };
}

/** A series, and a measurement, each with its server. */
function pacedPair(
  echo: string[],
  engine: string,
  seconds: number,
): Promise<Pair> {
  const client = (kind: string) =>
    programs.script("clients/paced.ts", "PORT", "SECONDS", kind, engine);
  return clientPair(
    [echo, programs.server("--stamp")],
    [client("series"), client("stamp")],
    { SECONDS: seconds },
  );
}

/** Two programs from their start to the first byte that they print. */
async function startPair(
  serverCommand: string[],
  ours: string[],
  theirs: string[],
): Promise<Pair> {
  const running = await start(serverCommand, PORT);
  const measure = (command: string[]) => async () => {
    const one = await startOf(programs.filled(command, { PORT }));
    if (one === undefined) throw new Error(`no reply: ${command.join(" ")}`);
    return one;
  };
  return {
    ours: measure(ours),
    theirs: measure(theirs),
    [Symbol.asyncDispose]: () => stopAll([running]),
  };
}

/** HTTP requests to a process with a loaded server on either engine. */
async function httpPair(load: Load): Promise<Pair> {
  const commands = ["linux", "deno"].map((engine) =>
    programs.script("peers/http.ts", "PORT", engine)
  ) as [string[], string[]];
  const [ours, theirs] = await startBoth(commands, load);
  const measure = (running: typeof ours) => async () => {
    const { port } = running;
    const values = { PORT: port, SECONDS: load.seconds };
    const command = programs.script("clients/http.ts", "PORT", "SECONDS");
    // The load begins first, and ends last.
    const loading = loadOn(running, { ...load, seconds: load.seconds + 0.5 });
    const asked = await measured(programs.filled(command, values));
    await loading;
    return asked;
  };
  return {
    ours: measure(ours),
    theirs: measure(theirs),
    [Symbol.asyncDispose]: () => stopAll([ours, theirs]),
  };
}

/**
 * Two workers and one, by the processor time of the busiest thread: with a
 * processor for each thread it limits the rate.
 */
async function workerPair(load: Load): Promise<Pair> {
  const one = programs.server("--echo", "--engine", "linux");
  const two = [...one, "--workers", "2"];
  const [ours, theirs] = await startBoth([two, one], load);
  const measure = (running: typeof ours) => async () => {
    const before = await threadMs(running.pid);
    const found = await loadOn(running, load);
    const replies = found.repliesPerSecond * load.seconds;
    const usedMs = [...await threadMs(running.pid)]
      .map(([thread, ms]) => ms - (before.get(thread) ?? 0));
    return { ...found, cpuUs: 1000 * Math.max(...usedMs) / replies };
  };
  return {
    ours: measure(ours),
    theirs: measure(theirs),
    [Symbol.asyncDispose]: () => stopAll([ours, theirs]),
  };
}

/** The processor time of each thread, from proc(5), in steps of 10 ms. */
async function threadMs(pid: number): Promise<Map<string, number>> {
  const script = `cat /proc/${pid}/task/*/stat`;
  const lines = (await output("sh", "-c", script)).split("\n");
  return new Map(lines.map((line) => {
    const [thread] = line.split(" ", 1);
    const fields = line.slice(line.lastIndexOf(")") + 2).split(" ");
    return [thread!, 10 * (Number(fields[11]) + Number(fields[12]))];
  }));
}

type Running = Awaited<ReturnType<typeof start>>;

/** Starts two servers, and waits for an answer of each. */
async function startBoth(
  commands: [string[], string[]],
  load: Load,
): Promise<[Running, Running]> {
  const running = await Promise.all(
    commands.map((command, i) => start(command, PORT + i)),
  ) as [Running, Running];
  for (const one of running) {
    let tries = 0;
    const short = { ...load, seconds: 0.1 };
    while ((await loadOn(one, short)).repliesPerSecond === 0) {
      if (++tries < 100) continue;
      await stopAll(running);
      throw new Error(`no answer: ${one.command.join(" ")}`);
    }
  }
  return running;
}

async function stopAll(running: Running[]): Promise<void> {
  await Promise.all(running.map(stop));
}

/** The figures that a client prints. */
async function measured(command: string[]): Promise<Measured> {
  const last = navigator.hardwareConcurrency - 1;
  const { success, stdout } = await pinned(last, command, "piped").output();
  if (!success) throw new Error(`failed: ${command.join(" ")}`);
  return JSON.parse(new TextDecoder().decode(stdout));
}

const BARE = "bare script";
const PORT = 21_080;
/** Half of the ratios of 2026-11-28: 1.16 and 0.28. */
const SERIES_LIMITS = { linux: 0.58, deno: 0.14 };

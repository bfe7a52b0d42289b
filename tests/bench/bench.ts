/**
 * `deno task bench`: the server beside its peers, all in one run. Every
 * installed peer is started once, on the first processor; the load runs on the
 * last one. Rounds are interleaved, so that other work of the machine affects
 * all peers alike; ratios are of the same round. Linux only. `--clients`
 * compares clients instead, on one server in C: under load, and by their start, the
 * time from the start of the process to the first byte that it prints.
 */
// deno-lint-ignore-file no-console -- it is a program
import { decimal, integer, text } from "../../lib/cli/flags.ts";
import { summarize } from "../../lib/stats/statistics.ts";
import { toolFlags } from "../tool_flags.ts";

/** A program to compare; `build` compiles it, in one attempt. */
interface Peer {
  name: string;
  build?: string[];
  command: string[];
}

interface Scenario {
  name: string;
  window: number;
  size: number;
  /** The number of flows, or 0 for one segmented flow. */
  flows: number;
}

interface Measured {
  repliesPerSecond: number;
  lost: number;
  wrong: number;
  medianUs: number | null;
}

const here = (path: string) => new URL(path, import.meta.url).pathname;
const GIVEN = await toolFlags(
  "bench",
  "Compares the server with its peers, or the clients.",
  {
    seconds: {
      kind: decimal(0, 60),
      default: 0.5,
      help: "length of each measurement",
    },
    rounds: { kind: integer(1, 100), default: 5, help: "rounds of each" },
    only: {
      kind: text(),
      default: "",
      help: "the scenarios that have this in their names",
    },
    json: { kind: text("FILE"), help: "write all results to this file" },
    clients: { help: "compare clients, on one server in C" },
  },
);
const out = await Deno.makeTempDir();
const DENO = Deno.execPath();
const SERVER = here("../../server.ts");
const CLIENT = here("../../client.ts");
const OURS = ["run", "--allow-net", "--allow-ffi", SERVER, "--echo", "--quiet"];

const PEERS: Peer[] = [
  {
    name: "roundtrip linux",
    command: [DENO, ...OURS, "--engine", "linux", "-p"],
  },
  { name: "roundtrip deno", command: [DENO, ...OURS, "-p"] },
  {
    name: "C",
    build: ["cc", "-O2", "-o", `${out}/echo`, here("peers/echo.c")],
    command: [`${out}/echo`],
  },
  { name: "C with GRO", command: [`${out}/echo`, "PORT", "gro"] },
  {
    name: "Go",
    build: ["go", "build", "-o", `${out}/go`, here("peers/echo.go")],
    command: [`${out}/go`],
  },
  { name: "Bun", command: ["bun", here("peers/echo_bun.mjs")] },
  { name: "Node", command: ["node", here("peers/echo_node.mjs")] },
  { name: "Python", command: ["python3", here("peers/echo.py")] },
  { name: "asyncio", command: ["python3", here("peers/echo_asyncio.py")] },
];

const ours = (kind: string, engine: string): Peer => ({
  name: `${kind} ${engine}`,
  command: [
    DENO,
    ...["run", "--unstable-net", "--allow-net", "--allow-ffi"],
    ...[here("clients/ours.ts"), "PORT", "WINDOW", "SECONDS", kind, engine],
  ],
});

/**
 * Arguments are a port, a window and seconds; the output is that of `load.c`.
 */
const CLIENTS: Peer[] = [
  {
    name: "C",
    command: [`${out}/load`, "PORT", "WINDOW", "16", "1", "SECONDS"],
  },
  {
    name: "Go",
    build: ["go", "build", "-o", `${out}/go_client`, here("clients/client.go")],
    command: [`${out}/go_client`, "PORT", "WINDOW", "SECONDS"],
  },
  ...["node", "bun"].map((runtime) => ({
    name: runtime === "node" ? "Node" : "Bun",
    command: [
      ...[runtime, here("clients/node.mjs"), "PORT", "WINDOW", "SECONDS"],
    ],
  })),
  ...["deno", "linux"].flatMap((engine) =>
    ["connect", "request", "requestMany", "load"].map((kind) =>
      ours(kind, engine)
    )
  ),
];

/** Programs that send one datagram, and print the reply. */
const STARTS: Peer[] = [
  { name: "bare script", args: [here("clients/bare.ts"), "PORT"] },
  { name: "client.ts", args: [CLIENT, "127.0.0.1", "PORT"] },
  {
    name: "client.ts linux",
    args: ["--allow-ffi", CLIENT, "127.0.0.1", "PORT", "--engine", "linux"],
  },
].map(({ name, args }) => ({
  name,
  command: [DENO, "run", "--unstable-net", "--allow-net", ...args],
}));

const SCENARIOS: Scenario[] = [
  { name: "1 flow, window 1, 16 B", window: 1, size: 16, flows: 1 },
  { name: "1 flow, window 32, 16 B", window: 32, size: 16, flows: 1 },
  { name: "1 flow, window 256, 16 B", window: 256, size: 16, flows: 1 },
  { name: "1 flow, window 32, 512 B", window: 32, size: 512, flows: 1 },
  { name: "1 flow, window 32, 1400 B", window: 32, size: 1400, flows: 1 },
  { name: "32 flows, 16 B", window: 32, size: 16, flows: 32 },
  { name: "256 flows, 16 B", window: 256, size: 16, flows: 256 },
  { name: "1 flow, segmented, 16 B", window: 1024, size: 16, flows: 0 },
];

async function main(): Promise<number> {
  const { seconds, rounds, only } = GIVEN;
  if (!await ran(["cc", "-O2", "-o", `${out}/load`, here("load.c")])) {
    console.error("bench: needs a C compiler, cc, for its load generator");
    return 2;
  }
  for (const peer of PEERS) {
    if (peer.build !== undefined) await ran(peer.build);
  }
  const facts = await describe();
  console.log(
    `${
      Object.values(facts).join(", ")
    }; median, range, and the median of the ` +
      "ratios of each round",
  );
  const raw: Record<string, Record<string, Measured[]>> = {};
  if (GIVEN.clients) {
    await ran(["cc", "-O2", "-o", `${out}/echo`, here("peers/echo.c")]);
    for (const peer of CLIENTS) {
      if (peer.build !== undefined) await ran(peer.build);
    }
    for (const window of [1, 32, 256]) {
      const name = `${window} in flight, 16 B`;
      if (!name.includes(only)) continue;
      const results = await clientSide(window, seconds, rounds);
      raw[name] = Object.fromEntries(results);
      const ours = { linux: "connect linux", deno: "connect deno" };
      show({ name, window }, results, ours);
    }
    const name = "start of a lone request";
    if (name.includes(only)) {
      const results = await starts(rounds);
      raw[name] = Object.fromEntries(results);
      show({ name, window: 1 }, results, {
        linux: "client.ts linux",
        deno: "client.ts",
      });
    }
  } else {for (const scenario of SCENARIOS) {
      if (!scenario.name.includes(only)) continue;
      // Started for each load: some peers do not survive a load that ends.
      const running = await startAll();
      const results = await measureAll(running, scenario, seconds, rounds);
      await Promise.all(running.map(stop));
      raw[scenario.name] = Object.fromEntries(results);
      const ours = { linux: "roundtrip linux", deno: "roundtrip deno" };
      show(scenario, results, ours);
    }}
  if (GIVEN.json !== undefined) {
    const run = { ...facts, results: raw };
    await Deno.writeTextFile(GIVEN.json, JSON.stringify(run, null, 1) + "\n");
  }
  await Deno.remove(out, { recursive: true });
  const wrong = Object.values(raw)
    .flatMap((peers) => Object.values(peers).flat())
    .reduce((sum, measured) => sum + measured.wrong, 0);
  if (wrong > 0) console.error(`bench: ${wrong} replies were wrong`);
  return wrong > 0 ? 1 : 0;
}

interface Running {
  peer: Peer;
  port: number;
  process: Deno.ChildProcess;
}

/** Starts all peers, except those that are missing or fail to start. */
async function startAll(): Promise<Running[]> {
  const started = PEERS.flatMap((peer, i) => {
    const port = 21_100 + i;
    const [command, ...args] = peer.command.includes("PORT")
      ? peer.command.map((arg) => arg === "PORT" ? `${port}` : arg)
      : [...peer.command, `${port}`];
    return [{ peer, port, process: pinned(0, [command!, ...args]).spawn() }];
  });
  const ended = new Set<Running>();
  for (const running of started) {
    running.process.status.then(() => ended.add(running));
  }
  await new Promise<void>((resolve) => setTimeout(resolve, 1500));
  return started.filter((running) => !ended.has(running));
}

async function stop({ process }: Running): Promise<void> {
  try {
    process.kill("SIGKILL");
  } catch {
    // The process has already ended.
  }
  await process.status;
}

async function measureAll(
  running: Running[],
  scenario: Scenario,
  seconds: number,
  rounds: number,
): Promise<Map<string, Measured[]>> {
  const results = new Map<string, Measured[]>();
  for (let round = -1; round < rounds; round++) {
    for (const { peer, port } of running) {
      const measured = await load(port, scenario, seconds);
      // The first round warms up just-in-time compilers.
      if (round < 0) results.set(peer.name, []);
      else results.get(peer.name)!.push(measured);
    }
  }
  return results;
}

async function load(
  port: number,
  { window, size, flows }: Scenario,
  seconds: number,
): Promise<Measured> {
  const args = [port, window, size, flows, seconds].map(String);
  const last = navigator.hardwareConcurrency - 1;
  const { stdout } = await pinned(last, [`${out}/load`, ...args], "piped")
    .output();
  return JSON.parse(new TextDecoder().decode(stdout));
}

/** Every client in turn, on one server in C. */
async function clientSide(
  window: number,
  seconds: number,
  rounds: number,
): Promise<Map<string, Measured[]>> {
  const port = 21_099;
  const server = pinned(0, [`${out}/echo`, `${port}`]).spawn();
  const results = new Map<string, Measured[]>();
  for (let round = 0; round < rounds; round++) {
    for (const { name, command } of CLIENTS) {
      // A series has one datagram in flight.
      if (name.startsWith("requestMany") && window > 1) continue;
      const values = { PORT: port, WINDOW: window, SECONDS: seconds };
      const args = command.map((arg) =>
        `${values[arg as keyof typeof values] ?? arg}`
      );
      const last = navigator.hardwareConcurrency - 1;
      const { success, stdout } = await pinned(last, args, "piped").output();
      if (!success) continue;
      const measured = JSON.parse(new TextDecoder().decode(stdout));
      results.set(name, [...results.get(name) ?? [], measured]);
    }
  }
  server.kill("SIGKILL");
  await server.status;
  return results;
}

/** The start of each program in turn; the first round fills Deno's caches. */
async function starts(rounds: number): Promise<Map<string, Measured[]>> {
  const port = 21_099;
  const server = pinned(0, [`${out}/echo`, `${port}`]).spawn();
  const results = new Map<string, Measured[]>();
  for (let round = -1; round < rounds; round++) {
    for (const { name, command } of STARTS) {
      const [program, ...args] = command.map((arg) =>
        arg === "PORT" ? `${port}` : arg
      );
      const startedAt = performance.now();
      const process = new Deno.Command(program!, {
        args,
        stdin: "null",
        stdout: "piped",
        stderr: "null",
      }).spawn();
      const reader = process.stdout.getReader();
      const { value = new Uint8Array() } = await reader.read();
      const medianUs = (performance.now() - startedAt) * 1000;
      await reader.cancel();
      await process.status;
      const text = new TextDecoder().decode(value);
      // Without permission for FFI, or another failure: nothing to compare.
      if (round < 0 && text === "") console.error(`bench: no reply: ${name}`);
      if (round < 0 || text === "") continue;
      const wrong = text.includes("Hello UDP Server") ? 0 : 1;
      const measured = { repliesPerSecond: 0, lost: 0, wrong, medianUs };
      results.set(name, [...results.get(name) ?? [], measured]);
    }
  }
  server.kill("SIGKILL");
  await server.status;
  return results;
}

/** Medians with their range, and our ratio to each peer, round by round. */
function show(
  scenario: Pick<Scenario, "name" | "window">,
  results: Map<string, Measured[]>,
  { linux, deno: onDeno }: { linux: string; deno: string },
): void {
  console.log(`\n${scenario.name}`);
  const isLatency = scenario.window === 1;
  const value = ({ medianUs, repliesPerSecond }: Measured) =>
    isLatency ? medianUs! : repliesPerSecond / 1000;
  const ours = results.get(linux) ?? results.get(onDeno)!;
  const deno = results.get(onDeno)!;
  for (const [name, rounds] of results) {
    const { min, median, max } = summarize(rounds.map(value))!;
    const ratio = (own: Measured[]) =>
      summarize(own.map((one, i) => value(one) / value(rounds[i]!)))!.median;
    const lost = rounds.reduce((sum, one) => sum + one.lost, 0);
    const wrong = rounds.reduce((sum, one) => sum + one.wrong, 0);
    console.log(
      [
        name.padEnd(16),
        median.toFixed(1).padStart(9),
        isLatency ? "us" : "k/s",
        `${min.toFixed(1)} … ${max.toFixed(1)}`.padStart(20),
        `linux/it ${shown(ratio(ours))}`.padStart(15),
        `deno/it ${shown(ratio(deno))}`.padStart(14),
        ...(lost > 0 ? [`${lost} lost`] : []),
        ...(wrong > 0 ? [`${wrong} WRONG`] : []),
      ].join("  "),
    );
  }
}

/** A peer without replies has no ratio. */
function shown(ratio: number): string {
  return Number.isFinite(ratio) ? ratio.toFixed(2) : "n/a";
}

/** Date, machine and command of this run. */
async function describe(): Promise<Record<string, string>> {
  const model = await output("grep", "-m1", "model name", "/proc/cpuinfo");
  const { hardwareConcurrency } = navigator;
  return {
    date: new Date().toISOString().slice(0, 10),
    deno: `Deno ${Deno.version.deno}`,
    system: await output("uname", "-sr"),
    machine: `${hardwareConcurrency} processors ${model.replace(/.*:\s*/, "")}`,
    command: `deno task bench ${Deno.args.join(" ")}`.trim(),
  };
}

async function output(command: string, ...args: string[]): Promise<string> {
  const { stdout } = await new Deno.Command(command, { args }).output();
  return new TextDecoder().decode(stdout).trim();
}

function pinned(
  processor: number,
  [command, ...args]: string[],
  stdout: "null" | "piped" = "null",
): Deno.Command {
  return new Deno.Command("taskset", {
    args: ["-c", `${processor}`, command!, ...args],
    stdin: "null",
    stdout,
    stderr: "null",
  });
}

async function ran([command, ...args]: string[]): Promise<boolean> {
  try {
    const { success } = await new Deno.Command(command!, {
      args,
      stdout: "null",
      stderr: "null",
    }).output();
    return success;
  } catch {
    return false;
  }
}

if (import.meta.main) Deno.exit(await main());

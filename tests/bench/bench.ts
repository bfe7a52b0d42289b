/**
 * `deno task bench`: the goals, one line of verdict each. Both programs of a goal
 * are measured in turn, each on one processor, so that other work of the machine
 * affects both alike; ratios are of neighbours. `--servers` compares the server with
 * its peers, on the first processor, the load on the last one, and `--clients`
 * clients of one server in C: under load, and by their start, the time from the
 * start of the process to the first byte that it prints. Linux only.
 */
// deno-lint-ignore-file no-console -- it is a program
import { errorMessage } from "../../lib/base/errors.ts";
import { decimal, integer, text } from "../../lib/cli/flags.ts";
import { summarize } from "../../lib/stats/statistics.ts";
import { toolFlags } from "../tool_flags.ts";
import { cases, type Pair } from "./cases.ts";
import {
  comparison,
  judge,
  type Measured,
  type Outcome,
  type Rounds,
  verdictLine,
} from "./goals.ts";
import {
  describe,
  type Load,
  loadAverage,
  loadOn,
  pinned,
  type Running,
  start,
  startOf,
  stop,
} from "./process.ts";
import * as programs from "./programs.ts";

type Scenario = { name: string } & Pick<Load, "window" | "size" | "flows">;

const GIVEN = await toolFlags(
  "bench",
  "Judges the goals, or compares the server with its peers, or the clients.",
  {
    seconds: {
      kind: decimal(0, 60),
      default: 0.5,
      help: "length of each measurement",
    },
    rounds: { kind: integer(1, 100), default: 9, help: "rounds of each" },
    only: {
      kind: text(),
      default: "",
      help: "the goals or scenarios that have this in their names",
    },
    json: { kind: text("FILE"), help: "write all results to this file" },
    compare: {
      kind: text("FILE"),
      help: "compare the ratios with those of an earlier --json FILE",
    },
    servers: { help: "compare the server with its peers" },
    clients: { help: "compare clients, on one server in C" },
  },
);
const out = await Deno.makeTempDir();
const PEERS = programs.peers(out);
const CLIENTS = programs.clients(out);

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
  let earlier: Outcome[] | undefined;
  try {
    earlier = await earlierGoals();
  } catch (error) {
    console.error(`bench: --compare ${GIVEN.compare}: ${errorMessage(error)}`);
    return 2;
  }
  const facts = await describe();
  if (!await programs.buildLoad(out)) {
    console.error("bench: needs a C compiler, cc, for its load generator");
    return 2;
  }
  await programs.build([...PEERS, ...(GIVEN.clients ? CLIENTS : [])]);
  const compares = GIVEN.servers || GIVEN.clients;
  const shown = compares
    ? "median, range, and the median of the ratios of each round"
    : "median of the ratios of neighbours, and its confidence interval of 95 %";
  console.log(`${Object.values(facts).join(", ")}; ${shown}`);
  const found = compares
    ? { results: await (GIVEN.clients ? compareClients : compareServers)() }
    : { goals: await judgeAll(earlier) };
  const loadAfter = await loadAverage();
  console.log(`\n${loadAfter} at the end`);
  if (GIVEN.json !== undefined) {
    const run = { ...facts, loadAfter, ...found };
    await Deno.writeTextFile(GIVEN.json, JSON.stringify(run, null, 1) + "\n");
  }
  await Deno.remove(out, { recursive: true });
  const rounds = found.goals === undefined
    ? Object.values(found.results).flatMap((peers) => Object.values(peers))
    : found.goals.flatMap(({ rounds }) => [rounds.ours, rounds.theirs]);
  const wrong = rounds.flat()
    .reduce((sum, measured) => sum + measured.wrong, 0);
  if (wrong > 0) console.error(`bench: ${wrong} replies were wrong`);
  const isBad = found.goals?.some(({ verdict, isChanged }) =>
    verdict === "not met" || isChanged
  );
  return wrong > 0 || isBad ? 1 : 0;
}

/** The outcomes of an earlier run; undefined if there is none to compare with. */
async function earlierGoals(): Promise<Outcome[] | undefined> {
  if (GIVEN.compare === undefined) return undefined;
  const { goals } = JSON.parse(await Deno.readTextFile(GIVEN.compare));
  if (!Array.isArray(goals)) throw new Error("it has no goals");
  return goals;
}

/** Judges each goal; `isChanged`: its ratio is not that of the earlier run. */
async function judgeAll(
  earlier: Outcome[] | undefined,
): Promise<Array<Outcome & { isChanged: boolean }>> {
  const outcomes = [];
  for (const { open, ...goal } of cases(out, GIVEN.seconds)) {
    if (!goal.name.includes(GIVEN.only)) continue;
    let rounds: Rounds;
    try {
      await using pair = await open();
      rounds = await roundsOf(pair);
    } catch (error) {
      // A program is not installed, or has not the permissions it needs.
      console.log(`not measured: ${goal.name}: ${errorMessage(error)}`);
      continue;
    }
    const outcome = judge(goal, rounds);
    console.log(verdictLine(outcome));
    const before = earlier?.find(({ name }) => name === goal.name);
    const { line, isChanged } = comparison(outcome, before);
    if (earlier !== undefined) console.log(`  ${line}`);
    outcomes.push({ ...outcome, isChanged });
  }
  return outcomes;
}

/** Measures both in turn; the first is another one in each round. */
async function roundsOf({ ours, theirs }: Pair): Promise<Rounds> {
  const rounds: Rounds = { ours: [], theirs: [] };
  // Warms up just-in-time compilers, and caches of programs.
  await ours();
  await theirs();
  for (let round = 0; round < GIVEN.rounds; round++) {
    if (round % 2 === 0) rounds.ours.push(await ours());
    rounds.theirs.push(await theirs());
    if (round % 2 === 1) rounds.ours.push(await ours());
  }
  return rounds;
}

type Results = Record<string, Record<string, Measured[]>>;

async function compareClients(): Promise<Results> {
  const { seconds, rounds, only } = GIVEN;
  const raw: Results = {};
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
  return raw;
}

async function compareServers(): Promise<Results> {
  const raw: Results = {};
  for (const scenario of SCENARIOS) {
    if (!scenario.name.includes(GIVEN.only)) continue;
    // Started for each load: some peers do not survive a load that ends.
    const running = await startAll();
    const results = await measureAll(running, scenario);
    await Promise.all(running.map(stop));
    raw[scenario.name] = Object.fromEntries(results);
    const ours = { linux: "roundtrip linux", deno: "roundtrip deno" };
    show(scenario, results, ours);
  }
  return raw;
}

type Started = Running & { name: string };

/** Starts all peers, except those that are missing or fail to start. */
async function startAll(): Promise<Started[]> {
  const started = PEERS.map(({ name, command }, i) => ({
    ...start(command, 21_100 + i),
    name,
  }));
  const ended = new Set<Running>();
  for (const running of started) {
    running.process.status.then(() => ended.add(running));
  }
  await new Promise<void>((resolve) => setTimeout(resolve, 1500));
  return started.filter((running) => !ended.has(running));
}

async function measureAll(
  running: Started[],
  scenario: Scenario,
): Promise<Map<string, Measured[]>> {
  const { seconds, rounds } = GIVEN;
  const results = new Map<string, Measured[]>();
  for (let round = -1; round < rounds; round++) {
    for (const peer of running) {
      const measured = await loadOn(peer, { ...scenario, seconds, out });
      // The first round warms up just-in-time compilers.
      if (round < 0) results.set(peer.name, []);
      else results.get(peer.name)!.push(measured);
    }
  }
  return results;
}

/** Every client in turn, on one server in C. */
async function clientSide(
  window: number,
  seconds: number,
  rounds: number,
): Promise<Map<string, Measured[]>> {
  const port = 21_099;
  const server = start([`${out}/echo`, "PORT"], port);
  const results = new Map<string, Measured[]>();
  for (let round = 0; round < rounds; round++) {
    for (const { name, command } of CLIENTS) {
      // A series has one datagram in flight.
      if (name.startsWith("requestMany") && window > 1) continue;
      const values = { PORT: port, WINDOW: window, SECONDS: seconds };
      const args = programs.filled(command, values);
      const last = navigator.hardwareConcurrency - 1;
      const { success, stdout } = await pinned(last, args, "piped").output();
      if (!success) continue;
      const measured = JSON.parse(new TextDecoder().decode(stdout));
      results.set(name, [...results.get(name) ?? [], measured]);
    }
  }
  await stop(server);
  return results;
}

/** The start of each program in turn; the first round fills Deno's caches. */
async function starts(rounds: number): Promise<Map<string, Measured[]>> {
  const port = 21_099;
  const server = start([`${out}/echo`, "PORT"], port);
  const results = new Map<string, Measured[]>();
  for (let round = -1; round < rounds; round++) {
    for (const { name, command } of programs.STARTS) {
      const one = await startOf(programs.filled(command, { PORT: port }));
      // Without permission for FFI, or another failure: nothing to compare.
      if (round < 0 && !one) console.error(`bench: no reply: ${name}`);
      if (round < 0 || !one) continue;
      results.set(name, [...results.get(name) ?? [], one]);
    }
  }
  await stop(server);
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

if (import.meta.main) Deno.exit(await main());

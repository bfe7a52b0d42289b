/**
 * The memory of long work, sampled after a garbage collection, in ten parts:
 *
 *     deno run -A --v8-flags=--expose-gc tests/bench/memory.ts CASE [AMOUNT]
 *
 * `requests`: requests on one `connect()`; `series`: datagrams of a series at 1,000
 * a second, 360,000 as of an hour at 100; `peers`: minutes of a server with 10,000
 * peers, each in a network of its own; `watch`: minutes of `client --watch` with
 * 1,000 targets. The name with `-linux` is the same on the linux engine. The other
 * end is a process of its own. Linux only. Exits with 1 if memory has grown since the
 * third part.
 */
// deno-lint-ignore-file no-console -- it is a program
import { connect, type Engine, requestMany, serve } from "../../lib/mod.ts";
import { here, output, pinned } from "./process.ts";

/** The memory at the end of a part, in MB. */
interface Sampled {
  rss: number;
  heap: number | undefined;
}

type Case = (amount: number, sample: () => Promise<void>) => Promise<unknown>;

const PARTS = 10;
const PEERS = 10_000;
const TARGETS = 1000;
const [name = "", given] = Deno.args;
const engine: Engine = name.endsWith("-linux") ? "linux" : "deno";
const dir = await Deno.makeTempDir();
/** The process whose memory is sampled. */
let pid = Deno.pid;

/** The cases, each with its usual amount. */
const CASES: Record<string, [Case, amount: number]> = {
  requests: [requests, 10_000_000],
  series: [series, 360_000],
  peers: [peers, 5],
  watch: [watch, 8],
};

/** Requests on one `connect()`, 64 in flight. */
async function requests(count: number, sample: () => Promise<void>) {
  const port = 21_097;
  const server = await echo(port);
  const address = { hostname: "127.0.0.1", port };
  const key = (data: Uint8Array) =>
    data[0]! << 24 | data[1]! << 16 | data[2]! << 8 | data[3]!;
  const retries = 5;
  const client = await connect(address, { engine, key, retries });
  let sequence = 0;
  for (let part = 1; part <= PARTS; part++) {
    const end = Math.floor(count * part / PARTS);
    await Promise.all(Array.from({ length: 64 }, async () => {
      while (sequence < end) {
        const payload = new Uint8Array(16);
        new DataView(payload.buffer).setUint32(0, sequence++);
        await client.request(payload);
      }
    }));
    await sample();
  }
  const { answered, retransmissions } = client.stats();
  await client.close();
  server.kill("SIGKILL");
  await server.status;
  return `${answered} answered, ${retransmissions} retransmissions`;
}

/** An endless series at 1,000 a second, with a port for each datagram. */
async function series(count: number, sample: () => Promise<void>) {
  const port = 21_098;
  const server = await echo(port);
  const run = requestMany({ hostname: "127.0.0.1", port }, "ping", {
    engine,
    count: Infinity,
    intervalMs: 1,
  });
  const ended = (async () => {
    for await (const _ of run);
  })();
  for (let part = 1; part <= PARTS; part++) {
    await pause(count / PARTS);
    await sample();
  }
  run.stop();
  await ended;
  const { sent, lost } = run.summary();
  server.kill("SIGKILL");
  await server.status;
  return `${sent} sent, ${lost} lost`;
}

/** A server under load from 10,000 addresses, each in a network of its own. */
async function peers(minutes: number, sample: () => Promise<void>) {
  const server = serve({
    hostname: "0.0.0.0",
    engine,
    quiet: true,
    guard: { maxAmplification: 3, rateLimit: 1_000_000 },
  }, (data) => data);
  const load = `${dir}/load`;
  await output("cc", "-O2", "-o", load, here("load.c"));
  const args = [server.addr.port, PEERS, 16, PEERS, minutes * 60].map(String);
  const last = navigator.hardwareConcurrency - 1;
  const loading = pinned(last, [load, ...args]).output();
  for (let part = 1; part <= PARTS; part++) {
    await pause(minutes * 60_000 / PARTS);
    await sample();
  }
  await loading;
  const { received, replied } = server.stats();
  await server.shutdown();
  return `${received} received, ${replied} answered`;
}

/** `client --watch` with targets at a second each, on one server. */
async function watch(minutes: number, sample: () => Promise<void>) {
  const port = 21_096;
  const server = await echo(port);
  const file = {
    listen: "127.0.0.1:0",
    maxRate: TARGETS,
    targets: Array.from({ length: TARGETS }, (_, i) => ({
      name: `target ${i}`,
      address: `127.0.0.1:${port}`,
      interval: "1s",
    })),
  };
  await Deno.writeTextFile(`${dir}/watch.json`, JSON.stringify(file));
  const watching = new Deno.Command(Deno.execPath(), {
    args: [
      ...["run", "-A", here("../../client.ts"), "--engine", engine],
      ...["--watch", `${dir}/watch.json`],
    ],
    stdout: "null",
    stderr: "inherit",
  }).spawn();
  pid = watching.pid;
  for (let part = 1; part <= PARTS; part++) {
    await pause(minutes * 60_000 / PARTS);
    await sample();
  }
  watching.kill("SIGINT");
  const { code } = await watching.status;
  server.kill("SIGKILL");
  await server.status;
  return `exit code ${code}`;
}

async function echo(port: number): Promise<Deno.ChildProcess> {
  const program = `${dir}/echo`;
  await output("cc", "-O2", "-o", program, here("peers/echo.c"));
  const server = pinned(0, [program, `${port}`]).spawn();
  await pause(300);
  return server;
}

function pause(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}

/** The memory of the process, after a garbage collection of our own. */
async function memory(): Promise<Sampled> {
  const isOwn = pid === Deno.pid;
  if (isOwn) {
    // Twice: the first collection runs finalizers.
    const { gc } = globalThis as { gc?: () => void };
    gc?.();
    await pause(0);
    gc?.();
  }
  const status = await output("grep", "VmRSS", `/proc/${pid}/status`);
  return {
    rss: Number(/\d+/.exec(status)) / 1000,
    heap: isOwn ? Deno.memoryUsage().heapUsed / 1e6 : undefined,
  };
}

/** Whether the last three parts have no more than the third to the fifth. */
function isFlat(values: number[]): boolean {
  const of = (from: number) => Math.max(...values.slice(from, from + 3));
  return of(PARTS - 3) <= of(2) * 1.05 + 1;
}

const found = CASES[name.replace("-linux", "")];
if (found === undefined) {
  console.error(`memory: CASE is one of ${Object.keys(CASES).join(", ")}`);
  Deno.exit(2);
}
const [run, usual] = found;
const amount = Number(given ?? usual);
const samples = [await memory()];
const sample = async () => {
  samples.push(await memory());
  const { rss, heap } = samples.at(-1)!;
  const part = `${samples.length - 1}/${PARTS}`.padStart(5);
  const onHeap = heap === undefined ? "" : `, heap ${heap.toFixed(1)} MB`;
  console.log(`${part}: resident ${rss.toFixed(1)} MB${onHeap}`);
};
console.log(
  `${
    new Date().toISOString().slice(0, 10)
  }, Deno ${Deno.version.deno}, ${name}, ${amount}`,
);
const startedAt = performance.now();
const result = await run(amount, sample);
const seconds = Math.round((performance.now() - startedAt) / 1000);
const heaps = samples.slice(1).flatMap(({ heap }) => heap ?? []);
const flat = isFlat(samples.slice(1).map(({ rss }) => rss)) &&
  (heaps.length === 0 || isFlat(heaps));
console.log(`${result}, ${seconds} s: ${flat ? "flat" : "NOT FLAT"}`);
await Deno.remove(dir, { recursive: true });
Deno.exit(flat ? 0 : 1);

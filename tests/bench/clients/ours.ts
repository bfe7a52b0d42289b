/**
 * A client of ours for `deno task bench --clients`: PORT WINDOW SECONDS KIND
 * ENGINE. Every reply is compared with its request.
 */
// deno-lint-ignore-file no-console -- it is a program
import process from "node:process";
import {
  connect,
  type Engine,
  request,
  requestMany,
  type UdpReply,
} from "../../../lib/mod.ts";
import { Distribution } from "../../../lib/stats/distribution.ts";
import { load } from "../../../lib/client/load.ts";

const [port, window, seconds, kind, engine] = Deno.args as [
  string,
  string,
  string,
  string,
  Engine,
];
const server = { hostname: "127.0.0.1", port: Number(port) };
const SLAB_PAYLOADS = 4096;
const durationMs = 1000 * Number(seconds);
let before = process.cpuUsage();
let rtts = new Distribution();
let replies = 0;
let wrong = 0;
let lost = 0;
let sequence = 0;

let slab = new Uint8Array(0);

/**
 * A request: its number, and bytes derived from the number. A view of a larger buffer
 * takes a tenth of the time of an array of its own.
 */
function payload(): Uint8Array<ArrayBuffer> {
  const at = 16 * (sequence % SLAB_PAYLOADS);
  if (at === 0) slab = new Uint8Array(16 * SLAB_PAYLOADS);
  const bytes = slab.subarray(at, at + 16).fill(sequence & 0xff, 4);
  for (let i = 0; i < 4; i++) bytes[i] = sequence >>> (24 - 8 * i);
  sequence++;
  return bytes;
}

function isSame(a: Uint8Array, b: Uint8Array): boolean {
  let i = 0;
  while (i < 16 && a[i] === b[i]) i++;
  return i === 16 && a.length === 16;
}

/** Requests in flight; those of a first part warm up compilers, uncounted. */
async function inFlight(
  ask: (payload: Uint8Array) => Promise<UdpReply>,
): Promise<number> {
  await askUntil(performance.now() + durationMs / 3, ask);
  replies = wrong = lost = 0;
  rtts = new Distribution();
  before = process.cpuUsage();
  const start = performance.now();
  await askUntil(start + durationMs, ask);
  return performance.now() - start;
}

/** `window` loops of sequential requests, until the end. */
async function askUntil(
  end: number,
  ask: (payload: Uint8Array) => Promise<UdpReply>,
): Promise<void> {
  await Promise.all(Array.from({ length: Number(window) }, async () => {
    while (performance.now() < end) {
      const sent = payload();
      try {
        const { data, rttMs } = await ask(sent);
        if (rttMs !== undefined) rtts.add(rttMs);
        replies++;
        if (!isSame(data, sent)) wrong++;
      } catch {
        lost++;
      }
    }
  }));
}

async function run(): Promise<number> {
  if (kind === "request") {
    return await inFlight((sent) => request(server, sent, { engine }));
  }
  if (kind === "connect") {
    const key = (data: Uint8Array) =>
      data[0]! << 24 | data[1]! << 16 | data[2]! << 8 | data[3]!;
    await using client = await connect(server, {
      key,
      engine,
      maxInFlight: Number(window),
    });
    return await inFlight((sent) => client.request(sent));
  }
  if (kind === "requestMany") {
    const options = { count: 1_000_000, intervalMs: 0, engine };
    const series = requestMany(server, payload, options);
    const start = performance.now();
    for await (const event of series) {
      if (event.type === "reply") {
        replies++;
        rtts.add(event.reply.rttMs ?? 0);
      } else lost++;
      if (performance.now() - start > durationMs) break;
    }
    return performance.now() - start;
  }
  const options = { window: Number(window), durationMs, size: 16, engine };
  const loaded = load(server, options);
  for await (const _ of loaded);
  const result = loaded.summary();
  replies = result.received;
  lost = result.lost;
  wrong = result.foreign;
  if (result.rttMs !== undefined) rtts.add(result.rttMs.median);
  return result.durationMs;
}

const tookMs = await run();
const { user, system } = process.cpuUsage(before);
console.log(JSON.stringify({
  repliesPerSecond: replies / tookMs * 1000,
  lost,
  wrong,
  cpuUs: (user + system) / replies,
  medianUs: (rtts.summary()?.median ?? NaN) * 1000,
}));

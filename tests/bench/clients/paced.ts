/**
 * Datagrams at 1 ms: PORT SECONDS KIND ENGINE, a `series` or a `stamp`
 * measurement.
 */
// deno-lint-ignore-file no-console -- it is a program
import process from "node:process";
import { type Engine, requestMany } from "../../../lib/mod.ts";
import { measure } from "../../../lib/stamp/mod.ts";

const [port, seconds, kind, engine] = Deno.args as [
  string,
  string,
  string,
  Engine,
];
const server = { hostname: "127.0.0.1", port: Number(port) };
const options = { count: 1000 * Number(seconds), intervalMs: 1, engine };
const before = process.cpuUsage();
const start = performance.now();
const run = kind === "series"
  ? requestMany(server, new Uint8Array(44), options)
  : measure(server, { ...options, mayBlock: true });
for await (const _ of run);
const tookMs = performance.now() - start;
const { user, system } = process.cpuUsage(before);
const { received, lost, rttMs } = run.summary();
console.log(JSON.stringify({
  repliesPerSecond: received / tookMs * 1000,
  lost,
  wrong: 0,
  cpuUs: (user + system) / received,
  medianUs: rttMs === undefined ? null : 1000 * rttMs.median,
}));

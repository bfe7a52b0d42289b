/** Processes of the benchmarks, each on one processor. */
import type { Measured } from "./goals.ts";

/** A file of this folder. */
export function here(path: string): string {
  return new URL(path, import.meta.url).pathname;
}

/** A command on one processor. */
export function pinned(
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

/** The text that a command prints. */
export async function output(
  command: string,
  ...args: string[]
): Promise<string> {
  const { stdout } = await new Deno.Command(command, { args }).output();
  return new TextDecoder().decode(stdout).trim();
}

/** Whether a command succeeds. */
export async function ran([command, ...args]: string[]): Promise<boolean> {
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

/** Date, machine and command of this run. */
export async function describe(): Promise<Record<string, string>> {
  const model = await output("grep", "-m1", "model name", "/proc/cpuinfo");
  const { hardwareConcurrency } = navigator;
  return {
    date: new Date().toISOString().slice(0, 10),
    deno: `Deno ${Deno.version.deno}`,
    system: await output("uname", "-sr"),
    machine: `${hardwareConcurrency} processors ${model.replace(/.*:\s*/, "")}`,
    load: await loadAverage(),
    command: `deno task bench ${Deno.args.join(" ")}`.trim(),
  };
}

/** The load average of the last minute. */
export async function loadAverage(): Promise<string> {
  const [minute] = (await output("cat", "/proc/loadavg")).split(" ");
  return `load average ${minute}`;
}

/** A server on the first processor. */
export interface Running {
  command: string[];
  port: number;
  pid: number;
  process: Deno.ChildProcess;
}

/** Starts a server. */
export function start(command: string[], port: number): Running {
  const filled = command.map((arg) => arg === "PORT" ? `${port}` : arg);
  const process = pinned(0, filled).spawn();
  return { command, port, pid: process.pid, process };
}

/** Kills a server. */
export async function stop({ process }: { process: Deno.ChildProcess }) {
  try {
    process.kill("SIGKILL");
  } catch {
    // The process has already ended.
  }
  await process.status;
}

/** A load by `load.c`. */
export interface Load {
  /** The folder of the compiled program. */
  out: string;
  seconds: number;
  window: number;
  size: number;
  /** The number of flows, or 0 for one segmented flow. */
  flows: number;
}

/** Loads a server from the last processor; `cpuUs` is the server's. */
export async function loadOn(
  { port, pid }: Pick<Running, "port" | "pid">,
  { out, seconds, window, size, flows }: Load,
): Promise<Measured> {
  const args = [port, window, size, flows, seconds, pid].map(String);
  const last = navigator.hardwareConcurrency - 1;
  const { stdout } = await pinned(last, [`${out}/load`, ...args], "piped")
    .output();
  return JSON.parse(new TextDecoder().decode(stdout));
}

/**
 * A program from its start to the first byte of a reply that it prints; undefined
 * without a reply.
 */
export async function startOf(
  command: string[],
): Promise<Measured | undefined> {
  const startedAt = performance.now();
  const process = new Deno.Command("bash", {
    args: [
      "-c",
      'TIMEFORMAT="%3U %3S"; time "$@" 2>/dev/null',
      "bash",
      ...command,
    ],
    stdin: "null",
    stdout: "piped",
    stderr: "piped",
  }).spawn();
  const reader = process.stdout.getReader();
  const { value = new Uint8Array() } = await reader.read();
  const medianUs = (performance.now() - startedAt) * 1000;
  await reader.cancel();
  const times = await process.stderr.text();
  await process.status;
  const text = new TextDecoder().decode(value);
  if (text === "") return undefined;
  const [user = NaN, system = NaN] = times.trim().split(" ").map(Number);
  return {
    repliesPerSecond: 1e6 / medianUs,
    lost: 0,
    wrong: text.includes("Hello UDP Server") ? 0 : 1,
    medianUs,
    cpuUs: 1e6 * (user + system),
  };
}

/**
 * How a program runs and ends: exit codes, errors, signals.
 *
 * @module
 */
import config from "../../deno.json" with { type: "json" };
import { errorMessage } from "../base/errors.ts";
import { type Flags, fullUsage, usage, UsageError } from "./flags.ts";
import { complain, flushNotes, type LineWriter } from "./output.ts";

/** Answered, and all that was asked for holds. */
export const EXIT_OK = 0;
/** No answer, a wrong answer, or more loss than allowed. */
export const EXIT_UNANSWERED = 1;
/** A mistake in the usage, or anything else. */
export const EXIT_ERROR = 2;
/** Ended at once by a second signal, as a shell reports SIGINT. */
const EXIT_INTERRUPTED = 130;

/** `roundtrip` and its version. */
export const VERSION_LINE = `roundtrip ${config.version}`;

/**
 * Runs a program to its end: what `main` resolves to is the exit code, and an
 * error ends it with one line on stderr.
 */
export async function runMain(
  program: string,
  main: (args: string[]) => Promise<number>,
): Promise<never> {
  let code: number;
  try {
    requireDeno(Deno.version.deno);
    code = await main(Deno.args);
  } catch (error) {
    const hint = error instanceof UsageError ? " (see --help)" : "";
    complain(program, errorMessage(error) + hint);
    code = EXIT_ERROR;
  }
  await flushNotes();
  Deno.exit(code);
}

/** What `--help` says of a program. */
export interface Help {
  flags: Flags;
  intro: string;
  /** Only behind `--help all`. */
  notes: string;
}

/** Prints what `--help`, `--help all` or `--version` asks for. */
export async function showHelp(
  { flags, intro, notes }: Help,
  isVersion: boolean,
  positionals: string[],
  out: LineWriter,
): Promise<number> {
  const text = isVersion
    ? VERSION_LINE
    : positionals.includes("all")
    ? fullUsage(flags, intro, notes)
    : usage(flags, intro);
  out.writeResult(text);
  await out.flush();
  return EXIT_OK;
}

/**
 * Calls back on the first SIGINT or SIGTERM, or when nobody reads `out` any
 * more; a second signal ends the process at once.
 *
 * @returns Takes it back.
 */
export function onStop(out: LineWriter, callback: () => void): () => void {
  let interrupted = false;
  const listener = () => {
    if (interrupted) Deno.exit(EXIT_INTERRUPTED);
    interrupted = true;
    callback();
  };
  const signals: Deno.Signal[] = Deno.build.os === "windows"
    ? ["SIGINT", "SIGBREAK"]
    : ["SIGINT", "SIGTERM"];
  for (const signal of signals) Deno.addSignalListener(signal, listener);
  const { onFailure } = out;
  out.onFailure = (error) => {
    onFailure(error);
    callback();
  };
  return () => {
    for (const signal of signals) Deno.removeSignalListener(signal, listener);
  };
}

/**
 * Calls back on each SIGUSR2 or SIGUSR1, by which somebody asks how things stand,
 * or SIGINFO (Ctrl-T) where there is one; Windows has none. SIGUSR1 is what `dd`
 * has, but since 2.9.2 it also makes Deno open its debugger's port on loopback,
 * which a program cannot prevent.
 *
 * @returns Takes it back.
 */
export function onAsk(callback: () => void): () => void {
  const { os } = Deno.build;
  const signals: Deno.Signal[] = os === "windows"
    ? []
    : os === "darwin"
    ? ["SIGUSR1", "SIGUSR2", "SIGINFO"]
    : ["SIGUSR1", "SIGUSR2"];
  for (const signal of signals) Deno.addSignalListener(signal, callback);
  return () => {
    for (const signal of signals) Deno.removeSignalListener(signal, callback);
  };
}

/** Checks the version that Deno says it has. */
export function requireDeno(version: string): void {
  const [major, minor] = version.split(".").map(Number) as [number, number];
  if (major < 2 || (major === 2 && minor < 9)) {
    throw new Error(`roundtrip needs Deno 2.9 or newer: this is ${version}`);
  }
}

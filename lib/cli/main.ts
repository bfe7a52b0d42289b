/**
 * How a program runs and ends: exit codes, errors, signals.
 *
 * @module
 */
import { errorMessage } from "../base/errors.ts";
import { isText, type Text, UsageError } from "./flags.ts";
import { complain, flushNotes, LineWriter } from "./output.ts";

/** Answered, and every condition holds. */
export const EXIT_OK = 0;
/** No answer, a wrong answer, or a missed threshold. */
export const EXIT_UNANSWERED = 1;
/** A usage error, or any other. */
const EXIT_ERROR = 2;
/** Ended at once by a second signal, as a shell reports SIGINT. */
const EXIT_INTERRUPTED = 130;

/**
 * Runs a program to its end: `planOf` makes the plan of the arguments, or the
 * text that they ask for; `main` carries it out, and gives the exit code. An error
 * ends it with one line on stderr.
 */
export async function runMain<Plan extends object>(
  program: string,
  planOf: (args: string[]) => Plan | Text,
  main: (plan: Plan, out: LineWriter) => Promise<number>,
): Promise<never> {
  const out = new LineWriter(Deno.stdout);
  let code = EXIT_OK;
  const [first, ...args] = Deno.args;
  const isInstalled = first === INSTALLED;
  const asStarted = (text: string) => startedText(text, program, isInstalled);
  try {
    requireDeno(Deno.version.deno);
    const plan = planOf(isInstalled ? args : Deno.args);
    if (isText(plan)) {
      out.writeResult(asStarted(await plan));
      await out.flush();
    } else code = await main(plan, out);
  } catch (error) {
    const hint = error instanceof UsageError ? " (see --help)" : "";
    complain(program, asStarted(errorMessage(error)) + hint);
    code = EXIT_ERROR;
  }
  await flushNotes();
  Deno.exit(code);
}

/**
 * The text of a program as it was started: by a task, or installed. It then names
 * itself, and the way to more permissions.
 */
export function startedText(
  text: string,
  program: string,
  isInstalled: boolean,
  granted = grantedFlags,
): string {
  if (!isInstalled) {
    const task = `run 'deno task ${program}-linux', or add $1`;
    return text
      .replace(/run with (--allow-(?:ffi|read)\b(?!=))/, task)
      .replace(
        /run with (--allow-\S+)/,
        `run 'deno run --allow-net $1 ${program}.ts'`,
      );
  }
  return text
    // An installation replaces the one before, with its permissions.
    .replaceAll(
      /run with (--allow-\S+)/g,
      (_, flag) =>
        `run 'deno task install ${
          [...granted(), flag].join(" ")
        }' in the clone`,
    )
    .replaceAll(
      /'deno task \w+-linux' has/g,
      "'deno task install --allow-ffi' gives",
    )
    .replaceAll(/deno task (server|client)\b/g, "roundtrip-$1");
}

/** The flags of what an installation may have been granted beyond the network. */
function grantedFlags(): string[] {
  return (["ffi", "read", "write"] as const)
    .filter((name) => Deno.permissions.querySync({ name }).state === "granted")
    .map((name) => `--allow-${name}`);
}

/** The first argument of a program that `deno task install` installed. */
const INSTALLED = "--installed";

/**
 * Calls back on the first SIGINT or SIGTERM, when the terminal closes (SIGHUP), or when
 * `out` has lost its reader; a second SIGINT or SIGTERM, later than
 * {@linkcode SAME_SIGNAL_MS}, ends the process at once. Gives a function that removes
 * the signal handlers. With `onHangup` SIGHUP is no end, as of services.
 */
export function onStop(
  out: LineWriter,
  callback: () => void,
  onHangup?: () => void,
): () => void {
  let interruptedAt: number | undefined;
  const { onFailure } = out;
  out.onFailure = (error) => {
    onFailure(error);
    callback();
  };
  const stop = () => {
    interruptedAt ??= performance.now();
    callback();
  };
  const isWindows = Deno.build.os === "windows";
  const forget = onSignals(
    ["SIGINT", isWindows ? "SIGBREAK" : "SIGTERM"],
    () => {
      if (interruptedAt === undefined) return stop();
      const sinceMs = performance.now() - interruptedAt;
      if (sinceMs > SAME_SIGNAL_MS) Deno.exit(EXIT_INTERRUPTED);
    },
  );
  // A closing terminal may send it twice: by the kernel, and by the shell.
  const forgetHangup = onSignals(isWindows ? [] : ["SIGHUP"], onHangup ?? stop);
  return () => {
    forget();
    forgetHangup();
  };
}

/**
 * Calls back on each SIGUSR2 or SIGUSR1, which request the status, or SIGINFO
 * (Ctrl-T) where there is one; Windows has none. `dd` uses SIGUSR1, but since
 * 2.9.2 it also makes Deno open its debugger's port on loopback; a program cannot
 * prevent that. Gives a function that removes the signal handlers.
 */
export function onAsk(callback: () => void): () => void {
  const { os } = Deno.build;
  const signals: Deno.Signal[] = ["SIGUSR1", "SIGUSR2"];
  if (os === "darwin") signals.push("SIGINFO");
  return onSignals(os === "windows" ? [] : signals, callback);
}

/**
 * The time in which a second signal counts as the first one. One Ctrl-C arrives twice
 * under `deno task`: from the terminal, and passed on by the task.
 */
const SAME_SIGNAL_MS = 300;

function onSignals(signals: Deno.Signal[], listener: () => void): () => void {
  for (const signal of signals) Deno.addSignalListener(signal, listener);
  return () => {
    for (const signal of signals) Deno.removeSignalListener(signal, listener);
  };
}

export function requireDeno(version: string): void {
  const [major, minor] = version.split(".").map(Number) as [number, number];
  if (major < 2 || (major === 2 && minor < 9)) {
    throw new Error(`roundtrip needs Deno 2.9 or newer: this is ${version}`);
  }
}

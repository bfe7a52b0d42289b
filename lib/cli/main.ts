/**
 * What the two command lines share beside their flags: exit codes, signals, and
 * lines on stdout.
 *
 * @module
 */
import { bold, red } from "@std/fmt/colors";
import config from "../../deno.json" with { type: "json" };
import { UsageError } from "./flags.ts";
import { errorMessage } from "./series_lines.ts";

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
 * Runs a program to its end: its exit code is the process's, and an error ends
 * it with one line on stderr.
 */
export async function run(
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
  Deno.exit(code);
}

/** Writes one line on stderr. */
export function complain(program: string, message: string): void {
  const head = `${program}:`;
  note(`${Deno.stderr.isTerminal() ? bold(red(head)) : head} ${message}`);
}

/** Writes one line on stderr, as it is. */
export function note(line: string): void {
  try {
    Deno.stderr.writeSync(new TextEncoder().encode(`${line}\n`));
  } catch {
    // Nobody reads stderr any more: there is no better place to say so.
  }
}

/**
 * Complaints that may come by the thousand: each kind is written once a second
 * at most, with how many more there were in the meantime.
 */
export class Throttle {
  readonly #write: (message: string) => void;
  readonly #now: () => number;
  readonly #kinds = new Map<string, { at: number; more: number }>();

  constructor(
    write: (message: string) => void,
    now: () => number = () => performance.now(),
  ) {
    this.#write = write;
    this.#now = now;
  }

  /** Writes the message, unless one of its kind was written just now. */
  say(kind: string, message: string): void {
    const last = this.#kinds.get(kind);
    const now = this.#now();
    if (last !== undefined && now - last.at < 1000) {
      last.more++;
      return;
    }
    const more = last?.more ?? 0;
    this.#write(more === 0 ? message : `${message} (and ${more} more)`);
    this.#kinds.set(kind, { at: now, more: 0 });
  }
}

/**
 * Calls back on the first SIGINT or SIGTERM; a second one ends the process at
 * once.
 *
 * @returns Takes it back.
 */
export function onInterrupt(callback: () => void): () => void {
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
  return () => {
    for (const signal of signals) Deno.removeSignalListener(signal, listener);
  };
}

/**
 * Lines on their way to stdout. A reader that is too slow, such as a paused
 * terminal, never holds up the program: lines beyond a mebibyte of waiting
 * ones are left out, and how many is said on stderr.
 */
export class LineWriter {
  readonly #sink: Sink;
  readonly #onError: (error: unknown) => void;
  #waiting = "";
  /** The status line that should show, and the one that does. */
  #status = "";
  #shown = "";
  #leftOut = 0;
  #writing: Promise<void> | undefined;

  constructor(
    sink: Sink = Deno.stdout,
    onError: (error: unknown) => void = exitUnread,
  ) {
    this.#sink = sink;
    this.#onError = onError;
  }

  /** Writes a line, or several with line feeds between them. */
  write(line: string): void {
    if (this.#waiting.length + line.length > MAX_WAITING) {
      this.#leftOut++;
      return;
    }
    this.#waiting += `${line}\n`;
    this.#writing ??= this.#drain();
  }

  /** Shows a line below all others, on a terminal only; "" takes it away. */
  status(line: string): void {
    if (!this.#sink.isTerminal?.()) return;
    this.#status = line;
    this.#writing ??= this.#drain();
  }

  /** Resolves when all that was written is out. */
  async flush(): Promise<void> {
    await this.#writing;
  }

  async #drain(): Promise<void> {
    try {
      while (this.#waiting !== "" || this.#status !== this.#shown) {
        const erase = this.#shown === "" ? "" : "\r\x1b[K";
        let bytes = new TextEncoder().encode(
          erase + this.#waiting + this.#status,
        );
        this.#waiting = "";
        this.#shown = this.#status;
        while (bytes.length > 0) {
          bytes = bytes.subarray(await this.#sink.write(bytes));
        }
      }
    } catch (error) {
      this.#onError(error);
    }
    this.#writing = undefined;
    if (this.#leftOut > 0) {
      note(`${this.#leftOut} lines left out: stdout is read too slowly`);
      this.#leftOut = 0;
    }
  }
}

type Sink =
  & Pick<typeof Deno.stdout, "write">
  & Partial<Pick<typeof Deno.stdout, "isTerminal">>;

/** A reader that went away is no error, as for `cat` before `head`. */
function exitUnread(error: unknown): void {
  if (error instanceof Deno.errors.BrokenPipe) Deno.exit(EXIT_OK);
  note(`stdout: ${errorMessage(error)}`);
  Deno.exit(EXIT_ERROR);
}

/** Checks the version that Deno says it has. */
export function requireDeno(version: string): void {
  const [major, minor] = version.split(".").map(Number) as [number, number];
  if (major < 2 || (major === 2 && minor < 9)) {
    throw new Error(`roundtrip needs Deno 2.9 or newer: this is ${version}`);
  }
}

const MAX_WAITING = 1 << 20;

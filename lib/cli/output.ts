/**
 * Lines for stdout and stderr. A reader that is slow, or that went away, never
 * holds up the program.
 *
 * @module
 */
import { bold, red } from "@std/fmt/colors";
import { printable } from "../encoding.ts";
import { errorMessage } from "../base/errors.ts";
import { lightTimer } from "../base/light_timer.ts";
import { COLUMNS } from "./show/format.ts";

/** Where lines go, such as `Deno.stdout`. */
export type Sink =
  & Pick<typeof Deno.stdout, "write">
  & Partial<Pick<typeof Deno.stdout, "isTerminal">>;

/**
 * Lines for a sink. Passing lines beyond a mebibyte of waiting ones are left out,
 * and their number is reported on stderr; results are always written.
 */
export class LineWriter {
  /** Called once if the sink fails or its reader goes away. */
  onFailure: (error: unknown) => void = () => {};
  readonly #sink: Sink;
  readonly #name: string;
  #waiting: string[] = [];
  #waitingChars = 0;
  /** The status line that should show, and the one that does. */
  #status = "";
  #shown = "";
  #leftOut = 0;
  #writing: Promise<void> | undefined;
  #failure: unknown;

  /** Makes a writer; `name` is that of the sink in messages. */
  constructor(sink: Sink, name = "stdout") {
    this.#sink = sink;
    this.#name = name;
  }

  /**
   * Writes a passing line, or several with line feeds between them; returns whether
   * there was room.
   */
  write(line: string): boolean {
    const hasRoom = this.#waitingChars + line.length <= MAX_WAITING_CHARS;
    if (hasRoom) this.writeResult(line);
    else this.#leftOut++;
    return hasRoom;
  }

  /** Writes a line, or several, however much waits. */
  writeResult(line: string): void {
    this.#waiting.push(line);
    this.#waitingChars += line.length;
    this.#drain();
  }

  /** Whether a person may be looking at the lines. */
  get isTerminal(): boolean {
    return this.#sink.isTerminal?.() ?? false;
  }

  /** The width of the terminal, 80 where there is none or it is unknown. */
  get columns(): number {
    try {
      return this.isTerminal && Deno.consoleSize().columns || COLUMNS;
    } catch {
      return COLUMNS;
    }
  }

  /** Whether the sink failed or its reader went away. */
  get hasFailed(): boolean {
    return this.#failure !== undefined;
  }

  /**
   * Shows a line below all others, on a terminal that can erase it; "" takes it
   * away.
   */
  status(line: string): void {
    if (!this.isTerminal || isDumb()) return;
    this.#status = line;
    this.#drain();
  }

  /**
   * Resolves when all that was written is out, or its reader has gone away;
   * rejects if the sink failed otherwise.
   */
  async flush(): Promise<void> {
    while (this.#writing !== undefined) await this.#writing;
    const failure = this.#failure;
    if (failure === undefined || failure instanceof Deno.errors.BrokenPipe) {
      return;
    }
    throw new Error(`Cannot write the results: ${errorMessage(failure)}`);
  }

  get #hasWork(): boolean {
    return this.#waiting.length > 0 || this.#status !== this.#shown;
  }

  #drain(): void {
    this.#writing ??= this.#writeAll().finally(() => {
      this.#writing = undefined;
      // Lines may have been added since the last check.
      if (this.#hasWork) this.#drain();
    });
  }

  async #writeAll(): Promise<void> {
    // Lines of one turn are written together.
    await Promise.resolve();
    while (this.#hasWork) {
      if (this.#leftOut > 0 && this.#failure === undefined) {
        const lines = this.#leftOut === 1 ? "1 line" : `${this.#leftOut} lines`;
        this.#leftOut = 0;
        note(`${lines} left out: ${this.#name} is read too slowly`);
      }
      const erase = this.#shown === "" ? "" : "\r\x1b[K";
      const lines = this.#waiting.map((line) => `${line}\n`).join("");
      this.#waiting = [];
      this.#waitingChars = 0;
      this.#shown = this.#status;
      if (this.#failure !== undefined) continue;
      try {
        await this.#writeBytes(ENCODER.encode(erase + lines + this.#status));
      } catch (error) {
        this.#failure = error;
        this.onFailure(error);
      }
    }
  }

  async #writeBytes(bytes: Uint8Array): Promise<void> {
    while (bytes.length > 0) {
      try {
        bytes = bytes.subarray(await this.#sink.write(bytes));
      } catch (error) {
        // A pipe or terminal that another program made non-blocking is full.
        if (!(error instanceof Deno.errors.WouldBlock)) throw error;
        await new Promise((resolve) => setTimeout(resolve, RETRY_MS));
      }
    }
  }
}

/** Lines for stderr, where stdout has another use. */
export const stderr: LineWriter = new LineWriter(Deno.stderr, "stderr");

/** Writes one line on stderr, after the program's name. */
export function complain(program: string, message: string): void {
  const head = `${program}:`;
  const hasColors = Deno.stderr.isTerminal() && !isDumb();
  const shown = hasColors ? bold(red(head)) : head;
  stderr.write(`${shown} ${printable(message)}`);
}

/** Whether the terminal shows plain text only, as far as can be known. */
function isDumb(): boolean {
  const mayAsk = Deno.permissions.querySync({ name: "env", variable: "TERM" });
  return mayAsk.state === "granted" && Deno.env.get("TERM") === "dumb";
}

/** Writes one line on stderr. */
export function note(line: string): void {
  stderr.write(printable(line));
}

/** Resolves when stderr has taken all, or nobody has read it for a while. */
export async function flushNotes(): Promise<void> {
  await Promise.race([
    stderr.flush().catch(() => {}), // There is no better place to say so.
    new Promise<void>((resolve) => lightTimer(MAX_FLUSH_MS, resolve)),
  ]);
}

const ENCODER = new TextEncoder();
const MAX_WAITING_CHARS = 1 << 20;
const MAX_FLUSH_MS = 1000;
const RETRY_MS = 10;

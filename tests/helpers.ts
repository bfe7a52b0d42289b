/** Helpers of tests with real sockets and real programs. */
import type { Engine } from "../lib/socket/runtime.ts";
import "../lib/socket/linux_engine.ts";
import { libcMissing } from "../lib/socket/linux/libc.ts";
import { type Plan, SimulatedNetwork } from "../lib/testing/mod.ts";
import { assertEquals } from "@std/assert";
import { TextLineStream } from "./cli/text_lines.ts";

const [net, run, read] = await Promise.all(
  (["net", "run", "read"] as const).map(async (name) =>
    (await Deno.permissions.query({ name })).state === "granted"
  ),
);

/** The reason for ignored tests, if there are any. */
export const IGNORED_NOTE = net && run && read ? undefined : "Ignored: " +
  "all tests that use the network, files or programs.\n" +
  "`deno task test` or `deno test -A` runs them, and `deno task test-linux` " +
  "those of the linux engine.";

/** The engine that all real sockets use: `deno test … -- --engine linux`. */
export const ENGINE: Engine =
  Deno.args[0] === "--engine" && Deno.args[1] === "linux" ? "linux" : "deno";

// The C library stays loaded: loaded here, it is no leak of the first test.
if (ENGINE === "linux") libcMissing();

type TestFn = (t: Deno.TestContext) => void | Promise<void>;

/** A test on real sockets, on loopback only. */
export function netTest(name: string, fn: TestFn): void {
  Deno.test({ name, ignore: !net, fn });
}

/** A test that reads the project's files. */
export function readTest(name: string, fn: TestFn): void {
  Deno.test({ name, ignore: !read, fn });
}

/** A test of the linux engine alone, ignored on the other engine. */
export function linuxTest(name: string, fn: TestFn): void {
  Deno.test({ name: `${name} (linux engine)`, ignore: ENGINE !== "linux", fn });
}

/** A test that runs programs; ignored if one of `needs` is missing. */
export function programTest(
  name: string,
  fn: TestFn,
  needs: string[] = [],
): void {
  const allowed = net && run && read;
  const missing = allowed ? needs.filter((program) => !isThere(program)) : [];
  const suffix = missing.length > 0 ? ` (needs ${missing.join(", ")})` : "";
  Deno.test({
    name: name + suffix,
    ignore: !allowed || missing.length > 0,
    fn,
  });
}

/**
 * A test that runs programs as a Unix shell does, or sends one a signal:
 * Windows has neither.
 */
export const signalTest: typeof programTest = Deno.build.os === "windows"
  ? (name, fn) => Deno.test({ name, ignore: true, fn })
  : programTest;

/** Whether a program can be run, or a file exists. */
function isThere(program: string): boolean {
  try {
    if (program.startsWith("/")) return !Deno.statSync(program).isDirectory;
    // Any exit code will do: not all programs have this flag.
    new Deno.Command(program, {
      args: ["--version"],
      stdout: "null",
      stderr: "null",
    }).outputSync();
    return true;
  } catch {
    return false;
  }
}

/** A temporary folder, removed at disposal. */
export async function tempFolder(): Promise<
  AsyncDisposable & { path: string }
> {
  const { stdout } = await new Deno.Command("mktemp", { args: ["-d"] })
    .output();
  const path = new TextDecoder().decode(stdout).trim();
  return {
    path,
    async [Symbol.asyncDispose]() {
      await new Deno.Command("rm", { args: ["-rf", path] }).output();
    },
  };
}

export const ROOT = new URL("../", import.meta.url);

/** The files below a folder with this ending, by path, without lib/std/. */
export async function textsBelow(
  folder: string,
  ending = ".ts",
): Promise<Map<string, string>> {
  const found = new Map<string, string>();
  const entries = Deno.readDir(new URL(folder, ROOT));
  for await (const { name, isDirectory } of entries) {
    const path = folder + name;
    if (path === "lib/std") continue;
    if (isDirectory) {
      for (const entry of await textsBelow(`${path}/`, ending)) {
        found.set(...entry);
      }
    } else if (name.endsWith(ending)) {
      found.set(path, await Deno.readTextFile(new URL(path, ROOT)));
    }
  }
  return found;
}

export interface Ended {
  code: number;
  stdout: string;
  stderr: string;
}

/** A running program; its output is read as it is written. */
export class Program implements AsyncDisposable {
  readonly #process: Deno.ChildProcess;
  readonly #lines: ReadableStreamDefaultReader<string>;
  readonly #stderr: Promise<string>;
  #stdout = "";

  constructor(
    command: string,
    args: string[],
    options: Deno.CommandOptions = {},
  ) {
    this.#process = new Deno.Command(command, {
      args,
      cwd: ROOT,
      env: { NO_COLOR: "1" },
      stdin: "null",
      stdout: "piped",
      stderr: "piped",
      ...options,
    }).spawn();
    this.#lines = this.#process.stdout.pipeThrough(new TextLineStream())
      .getReader();
    this.#stderr = new Response(this.#process.stderr).text();
  }

  /** The next line of stdout. */
  async line(): Promise<string> {
    const { value, done } = await this.#lines.read();
    if (done) {
      throw new Error(`stdout has ended; stderr: ${await this.#stderr}`);
    }
    this.#stdout += `${value}\n`;
    return value;
  }

  get status(): Promise<Deno.CommandStatus> {
    return this.#process.status;
  }

  kill(signal: Deno.Signal): void {
    this.#process.kill(signal);
  }

  /** Stops reading stdout, as `head` does after its lines. */
  async closeStdout(): Promise<void> {
    await this.#lines.cancel();
  }

  async ended(): Promise<Ended> {
    while (true) {
      const { value, done } = await this.#lines.read();
      if (done) break;
      this.#stdout += `${value}\n`;
    }
    const { code } = await this.#process.status;
    return { code, stdout: this.#stdout, stderr: await this.#stderr };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    try {
      this.#process.kill("SIGKILL");
    } catch {
      // The process has already ended.
    }
    await this.#lines.cancel();
    await this.#stderr;
    await this.#process.status;
  }
}

const PERMISSIONS = [
  "--allow-net",
  "--no-prompt",
  ...(ENGINE === "linux" ? ["--allow-ffi", "--allow-read"] : []),
];
const ENGINE_ARGS = ENGINE === "linux" ? ["--engine", "linux"] : [];

/** The server as its users start it. */
export function server(args: string[], permissions = PERMISSIONS): Program {
  return new Program(Deno.execPath(), [
    "run",
    ...permissions,
    "server.ts",
    ...ENGINE_ARGS,
    ...args,
  ]);
}

/** The client as its users start it, with `stdin` if there is any. */
export async function client(
  args: string[],
  { stdin, permissions = PERMISSIONS }: {
    stdin?: string;
    permissions?: string[];
  } = {},
): Promise<Ended> {
  const process = new Deno.Command(Deno.execPath(), {
    args: ["run", ...permissions, "client.ts", ...ENGINE_ARGS, ...args],
    cwd: ROOT,
    env: { NO_COLOR: "1" },
    stdin: stdin === undefined ? "null" : "piped",
    stdout: "piped",
    stderr: "piped",
  }).spawn();
  if (stdin !== undefined) {
    const writer = process.stdin.getWriter();
    // A client that refuses its input may end before all of stdin is written.
    await writer.write(new TextEncoder().encode(stdin)).catch(() => {});
    await writer.close().catch(() => {});
  }
  const { code, stdout, stderr } = await process.output();
  return {
    code,
    stdout: new TextDecoder().decode(stdout),
    stderr: new TextDecoder().decode(stderr),
  };
}

/** The port in the first line that a server of ours, or of the seed, prints. */
export async function portOf(program: Program): Promise<number> {
  const line = await program.line();
  return Number((/"port":(\d+)/.exec(line) ?? /(\d+)\D*$/.exec(line))![1]);
}

/**
 * Networks of one file's tests: at the end of each test no timer may be left,
 * and no datagram that was not released.
 *
 * @returns A function that makes a checked network.
 */
export function restfulNetworks(): (plan?: Plan) => SimulatedNetwork {
  const networks: SimulatedNetwork[] = [];
  Deno.test.afterEach(() => {
    for (const network of networks.splice(0)) {
      assertEquals([network.timers, network.held], [0, 0], "nothing is left");
    }
  });
  return (plan) => {
    // Handlers of tests often wait for the tests themselves.
    const network = new SimulatedNetwork(plan, { patienceMs: 0 });
    networks.push(network);
    return network;
  };
}

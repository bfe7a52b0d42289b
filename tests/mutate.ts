/**
 * Changes the library in one small place at a time and runs the tests: a
 * surviving change shows code without a test. Prints the surviving changes.
 *
 * `deno task mutate --seed 1 --count 100 --seconds 600 --only
 * lib/server/guard.ts`
 */
// deno-lint-ignore-file no-console no-sync-fn-in-async-fn -- a program that has all the time there is
import { integer, text as textKind } from "../lib/cli/flags.ts";
import { toolFlags } from "./tool_flags.ts";

/** A change at one place of a file. */
interface Mutant {
  file: string;
  line: number;
  from: string;
  to: string;
  text: string;
}

const root = new URL("../", import.meta.url);

/**
 * Replacements of operators; the spaces around them keep types and arrows
 * unchanged.
 */
const OPERATORS: ReadonlyArray<[RegExp, (found: string) => string]> = [
  [/ (===|!==|<=|>=|<|>) /g, (op) => ` ${OPPOSITE[op.trim()]} `],
  [/ (&&|\|\|) /g, (op) => op.trim() === "&&" ? " || " : " && "],
  [/ (\+|-|\*|\/|%) /g, (op) => ` ${OPPOSITE[op.trim()]} `],
  [/ (\+=|-=) /g, (op) => op.trim() === "+=" ? " -= " : " += "],
  [/(\+\+|--)/g, (op) => op === "++" ? "--" : "++"],
  [/\b(true|false)\b/g, (word) => word === "true" ? "false" : "true"],
  [/(?<=[ (\[,])\d[\d_]*(?=[,;)\] ])/g, (digits) => `${digits} + 1`],
  [/\bMath\.(min|max)\b/g, (f) => f === "Math.min" ? "Math.max" : "Math.min"],
  [/(?<=\bif \()(?=[^)]*\) )/g, () => "!!0 && "],
  // A call whose result is not used is deleted.
  [
    /(?<=^ +)(?!return|throw|await|yield|super|import|export)[\w.#?!]+\([^;{}]*\);$/gm,
    () => ";",
  ],
];

const OPPOSITE: Record<string, string> = {
  "===": "!==",
  "!==": "===",
  "<": "<=",
  "<=": "<",
  ">": ">=",
  ">=": ">",
  "+": "-",
  "-": "+",
  "*": "/",
  "/": "*",
  "%": "*",
};

/**
 * The text with comments, strings and imports blanked out, of the same length.
 */
function codeOf(text: string): string {
  const blank = (found: string) => found.replace(/[^\n]/g, "_");
  return text
    .replace(
      /\/\*[\s\S]*?\*\/|\/\/.*|"(?:[^"\\\n]|\\.)*"|`(?:[^`\\]|\\.)*`|(?<=[(,=:[] ?)\/(?:[^/\\\n]|\\.)+\/[a-z]*/g,
      blank,
    )
    .replace(/^(?:import|export) (?:type )?[{*][^;]*;$/gm, blank)
    .replace(/^(?:export )?interface [\s\S]*?^\}$/gm, blank)
    .replace(/^(?:export )?type [^;]*;$/gm, blank);
}

function* mutantsOf(file: string, text: string): Generator<Mutant> {
  const code = codeOf(text);
  for (const [pattern, change] of OPERATORS) {
    for (const { 0: found, index } of code.matchAll(pattern)) {
      const to = change(found);
      const line = text.slice(0, index).split("\n").length;
      const end = index + found.length;
      const mutated = text.slice(0, index) + to + text.slice(end);
      yield { file, line, from: text.slice(index, end), to, text: mutated };
    }
  }
}

/** A random sequence, repeatable by its seed (mulberry32). */
function random(seed: number): () => number {
  return () => {
    seed = (seed + 0x6d2b79f5) | 0;
    let x = Math.imul(seed ^ seed >>> 15, seed | 1);
    x ^= x + Math.imul(x ^ x >>> 7, x | 61);
    return ((x ^ x >>> 14) >>> 0) / 2 ** 32;
  };
}

/** Files that only the linux engine runs. */
const LINUX_FILES_REGEXP = /^lib\/(socket\/(linux\/|runtime)|cli\/)/;
const UNIT = ["--allow-net", "--allow-read"];
const ALL = [...UNIT, "--allow-run"];
const LINUX = [
  ...ALL,
  "--allow-ffi",
  ...[
    "round_trip",
    "socket/linux/linux",
    "stamp/measure",
    "client/connect",
    "client/load",
    "socket/open_socket",
    "socket/netns",
  ]
    .map((name) => `tests/${name}_test.ts`),
  "--",
  "--engine",
  "linux",
];

/** Whether the tests fail, or do not end, on a copy of the project. */
async function isKilled(copy: string, file: string): Promise<boolean> {
  const near = nearest(file);
  if (near.length > 0 && await fails(copy, [...UNIT, ...near])) return true;
  if (await failsTwice(copy, ALL)) return true;
  return LINUX_FILES_REGEXP.test(file) && await failsTwice(copy, LINUX);
}

/** Failures by load alone do not count. */
async function failsTwice(copy: string, args: string[]): Promise<boolean> {
  return await fails(copy, args) && await fails(copy, args);
}

async function fails(copy: string, args: string[]): Promise<boolean> {
  if (isStopped) return true;
  const tests = new Deno.Command(Deno.execPath(), {
    args: ["test", "--no-check", "--fail-fast", "--quiet", ...args],
    cwd: copy,
    stdin: "null",
    stdout: "null",
    stderr: "null",
    // A separate process group can be ended as a whole.
    detached: true,
  }).spawn();
  running.add(tests.pid);
  const timer = setTimeout(() => endGroup(tests.pid), MAX_TEST_MS);
  const { success } = await tests.status;
  clearTimeout(timer);
  // Programs of the tests that a mutant prevents from ending.
  endGroup(tests.pid);
  running.delete(tests.pid);
  return !success;
}

/** The running process groups; signals to this program do not reach them. */
const running = new Set<number>();
let isStopped = false;

function stop(): void {
  isStopped = true;
  for (const pid of running) endGroup(pid);
}

function endGroup(pid: number): void {
  try {
    Deno.kill(-pid, "SIGKILL");
  } catch {
    // All processes of the group have ended.
  }
}

const testFiles = [...walk(new URL("tests/", root))]
  .filter((name) => name.endsWith("_test.ts"))
  .map((name) => ({
    name: `tests/${name}`,
    text: Deno.readTextFileSync(new URL(`tests/${name}`, root)),
  }));

/** The tests that import the file, the likeliest to fail. */
function nearest(file: string): string[] {
  return testFiles
    .filter(({ text }) => text.includes(`../${file}"`))
    .map(({ name }) => name);
}

/** All files below a folder, except hidden ones. */
function* walk(folder: URL, below = ""): Generator<string> {
  for (const { name, isDirectory } of Deno.readDirSync(folder)) {
    if (name.startsWith(".") || name === "node_modules") continue;
    const path = `${below}${name}`;
    if (isDirectory) yield* walk(new URL(`${name}/`, folder), `${path}/`);
    else yield path;
  }
}

async function main(): Promise<void> {
  const about =
    "Changes the library in one place at a time, and runs the tests.";
  const { seed, count, seconds, jobs, only } = await toolFlags(
    "mutate",
    about,
    {
      seed: {
        kind: integer(0, 2 ** 31),
        default: 1,
        help: "the choice of places",
      },
      count: {
        kind: integer(1, 100_000),
        default: 100,
        help: "changes to try",
      },
      seconds: {
        kind: integer(1, 86_400),
        default: 600,
        help: "the longest run",
      },
      jobs: {
        kind: integer(1, 64),
        default: 2,
        help: "tests that run at once",
      },
      only: {
        kind: textKind("PATH"),
        default: "lib/",
        help: "files to change",
      },
    },
  );
  const mutants: Mutant[] = [];
  for (const name of walk(new URL("lib/", root))) {
    const file = `lib/${name}`;
    if (!file.startsWith(only) || file.startsWith("lib/std/")) continue;
    const text = Deno.readTextFileSync(new URL(file, root));
    mutants.push(...mutantsOf(file, text));
  }
  console.log(`${mutants.length} places, seed ${seed}`);
  const next = random(seed);
  const chosen: Mutant[] = [];
  while (chosen.length < count && mutants.length > 0) {
    const at = Math.floor(next() * mutants.length);
    chosen.push(...mutants.splice(at, 1));
  }
  for (const signal of ["SIGINT", "SIGTERM"] as const) {
    Deno.addSignalListener(signal, stop);
  }
  const until = performance.now() + 1000 * seconds;
  let killed = 0, tried = 0;
  const work = async () => {
    const copy = Deno.makeTempDirSync({ prefix: "mutate-" });
    try {
      for (const name of walk(root)) {
        Deno.mkdirSync(`${copy}/${name}`.replace(/\/[^/]*$/, ""), {
          recursive: true,
        });
        Deno.copyFileSync(new URL(name, root), `${copy}/${name}`);
      }
      const isBroken = await fails(copy, ALL);
      if (isStopped) return;
      if (isBroken) throw new Error("The tests fail as it is");
      while (!isStopped && chosen.length > 0 && performance.now() < until) {
        const { file, line, from, to, text } = chosen.pop()!;
        const original = Deno.readTextFileSync(`${copy}/${file}`);
        Deno.writeTextFileSync(`${copy}/${file}`, text);
        const isDead = await isKilled(copy, file);
        Deno.writeTextFileSync(`${copy}/${file}`, original);
        if (isStopped) return;
        tried++;
        if (isDead) killed++;
        else console.log(`lives: ${file}:${line} '${from}' -> '${to}'`);
      }
    } finally {
      Deno.removeSync(copy, { recursive: true });
    }
  };
  await Promise.all(Array.from({ length: jobs }, work));
  const share = tried === 0 ? 0 : Math.round(1000 * killed / tried) / 10;
  console.log(`${killed} of ${tried} killed (${share} %)`);
}

/** The time-out detects a change that makes the tests wait for ever. */
const MAX_TEST_MS = 300_000;

if (import.meta.main) await main();

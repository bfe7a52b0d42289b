/**
 * Rules of the source tree: imports between folders, and access to the system.
 */
import { assert, assertEquals } from "@std/assert";
import { readTest, ROOT, textsBelow } from "./helpers.ts";

/**
 * The folders from the bottom to the top. A file imports from its own folder
 * and from lower ones; folders of one floor do not import each other.
 */
const FLOORS: ReadonlyArray<readonly string[]> = [
  ["base"],
  ["stats"],
  ["socket"],
  ["server", "client"],
  ["stamp"],
  ["testing"],
  ["cli"],
];

/** Doors that every folder may use: pure text helpers without imports upwards. */
const HELPERS = ["lib/address.ts", "lib/encoding.ts"];

async function sources(): Promise<Map<string, string>> {
  const found = await textsBelow("lib/");
  for (const path of ["server.ts", "client.ts"]) {
    found.set(path, await Deno.readTextFile(new URL(path, ROOT)));
  }
  return found;
}

/** The source without its comments, which may name anything. */
function codeOf(source: string): string {
  return source.replaceAll(/\/\*[^]*?\*\//g, "").replaceAll(
    /^\s*\/\/.*$/gm,
    "",
  );
}

function importsOf(path: string, code: string): string[] {
  const matches = code.matchAll(
    /(?:from|import|import\(|URL\()\s*"(\.[^"]+)"/g,
  );
  return [...matches].map(([, specifier]) =>
    new URL(specifier!, `file:///${path}`).pathname.slice(1)
  );
}

/** The floor of a file: its folder's, above all of them for doors and programs. */
function floorOf(path: string): number {
  if (HELPERS.includes(path)) return -1;
  const folder = /^lib\/(\w+)\//.exec(path)?.[1];
  if (folder === undefined) return FLOORS.length;
  const floor = FLOORS.findIndex((folders) => folders.includes(folder));
  assert(floor !== -1, `${path} lies in no folder of the house`);
  return floor;
}

const folderOf = (path: string) => /^lib\/(\w+)\//.exec(path)?.[1];

readTest("lib/: folders import downwards only", async () => {
  let seen = 0;
  for (const [path, source] of await sources()) {
    for (const imported of importsOf(path, codeOf(source))) {
      if (!imported.startsWith("lib/")) continue;
      seen++;
      const isInside = folderOf(path) === folderOf(imported);
      assert(
        isInside || floorOf(imported) < floorOf(path),
        `${path} imports ${imported}, which is not below it`,
      );
    }
  }
  assert(seen > 100, `${seen} imports found`);
});

readTest("lib/: imports form no circle", async () => {
  const found = await sources();
  const done = new Set<string>();
  const visit = (path: string, from: string[]) => {
    assert(!from.includes(path), `circle: ${[...from, path].join(" -> ")}`);
    if (done.has(path)) return;
    for (const imported of importsOf(path, codeOf(found.get(path) ?? ""))) {
      // The pool starts the worker by its address, and shares its messages.
      if (path.endsWith("worker_pool.ts") && imported.endsWith("worker.ts")) {
        continue;
      }
      visit(imported, [...from, path]);
    }
    done.add(path);
  };
  for (const path of found.keys()) visit(path, []);
  assert(done.size > 80, `${done.size} files visited`);
});

readTest(
  "lib/: a folder has at most 17 files, and a long file gives a reason",
  async () => {
    const found = await sources();
    const count = new Map<string, number>();
    for (const [path, source] of found) {
      const folder = path.slice(0, path.lastIndexOf("/"));
      count.set(folder, (count.get(folder) ?? 0) + 1);
      const lines = source.split("\n").length;
      const reason = /^ \* Longer than 500 lines/m;
      assert(
        lines <= 500 || reason.test(source),
        `${path} has ${lines} lines, and no reason for it at its top`,
      );
    }
    for (const [folder, files] of count) {
      assert(files <= 17, `${folder} has ${files} files`);
    }
  },
);

readTest("docs/architecture.md: lists every folder", async () => {
  const page = await Deno.readTextFile(new URL("docs/architecture.md", ROOT));
  const named = [...page.matchAll(/^\| `lib\/([\w/]+)\/` +\|/gm)].map(
    ([, name]) => name!,
  );
  const folders = new Set<string>();
  for (const path of (await sources()).keys()) {
    const folder = /^lib\/(.+)\/[^/]+$/.exec(path)?.[1];
    if (folder !== undefined) folders.add(folder);
  }
  assertEquals(
    named.filter((name) => name !== "std").sort(),
    [
      ...folders,
    ].sort(),
  );
});

/** Fenced identifiers, and the files that may use them. */
const FENCES: Array<[RegExp, (path: string) => boolean]> = [
  [
    /Deno\.(dlopen|Unsafe\w+|Pointer\w+)/,
    (path) => path === "lib/socket/linux/libc.ts",
  ],
  [
    /Deno\.(listenDatagram|DatagramConn)/,
    (path) => /^lib\/socket\/deno_(socket|groups)\.ts$/.test(path),
  ],
  [
    /Deno\.(args|exit|stdin|stdout|stderr|addSignalListener)|import\.meta\.main/,
    (path) =>
      path.startsWith("lib/cli/") || !path.startsWith("lib/") ||
      path === "lib/base/warn.ts",
  ],
  [/\bconsole\./, () => false],
  [/Deno\.exit/, (path) => path === "lib/cli/main.ts"],
  [/Deno\.env/, (path) => path === "lib/cli/output.ts"],
  [/Deno\.(writeTextFile|Command)/, () => false],
];

readTest("lib/: only the intended files use the system", async () => {
  const used = new Set<RegExp>();
  for (const [path, source] of await sources()) {
    const code = codeOf(source);
    for (const [fenced, isAllowed] of FENCES) {
      if (!fenced.test(code)) continue;
      used.add(fenced);
      assert(isAllowed(path), `${path} uses ${fenced.exec(code)![0]}`);
    }
  }
  // Each fence with an exception has a use.
  assertEquals(used.size, 5);
});

readTest("server.ts, client.ts: at most 120 lines each", async () => {
  for (const path of ["server.ts", "client.ts"]) {
    const lines = (await sources()).get(path)!.split("\n").length;
    assert(lines <= 120, `${path} has ${lines} lines`);
  }
});

readTest(
  "deno.json: test-linux runs every file with tests that need the linux engine",
  async () => {
    const { tasks } = JSON.parse(
      await Deno.readTextFile(new URL("deno.json", ROOT)),
    );
    const listed = tasks["test-linux"].command.split(" ");
    const needing = [...await textsBelow("tests/")]
      .filter(([path, text]) =>
        path.endsWith("_test.ts") && /\blinuxTest\(|\bENGINE\b/.test(text)
      )
      .map(([path]) => path);
    const left = needing.filter((path) =>
      !listed.some((one: string) => path === one || path.startsWith(`${one}/`))
    );
    assertEquals(left, []);
  },
);

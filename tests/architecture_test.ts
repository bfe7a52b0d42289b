/** The house holds: who may import whom, and who may touch the system. */
import { assert, assertEquals } from "@std/assert";
import { readTest, ROOT } from "./helpers.ts";

/** All files, from the bottom to the top, as docs/architecture.md lists them. */
async function rooms(): Promise<string[]> {
  const page = await Deno.readTextFile(new URL("docs/architecture.md", ROOT));
  const list = page.split("```text\n")[1]!.split("```")[0]!;
  return list.trim().split("\n").map((line) => line.split(" ")[0]!);
}

async function sources(): Promise<Map<string, string>> {
  const found = new Map<string, string>();
  const visit = async (folder: string) => {
    for await (
      const { name, isDirectory } of Deno.readDir(new URL(folder, ROOT))
    ) {
      const path = folder + name;
      if (isDirectory) await visit(`${path}/`);
      else found.set(path, await Deno.readTextFile(new URL(path, ROOT)));
    }
  };
  await visit("lib/");
  for (const path of ["server.ts", "client.ts"]) {
    found.set(path, await Deno.readTextFile(new URL(path, ROOT)));
  }
  for (const path of found.keys()) {
    if (path.startsWith("lib/std/")) found.delete(path);
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

readTest("docs/architecture.md lists every file once", async () => {
  const listed = await rooms();
  assertEquals([...listed].sort(), [...(await sources()).keys()].sort());
  assertEquals(new Set(listed).size, listed.length);
});

readTest(
  "imports point upwards in the list, so there are no circles",
  async () => {
    const listed = await rooms();
    let seen = 0;
    for (const [path, source] of await sources()) {
      for (const imported of importsOf(path, codeOf(source))) {
        seen++;
        if (imported === "deno.json") continue;
        // The pool starts the worker by its address, and shares its messages.
        if (path.endsWith("worker_pool.ts") && imported.endsWith("worker.ts")) {
          continue;
        }
        assert(
          listed.indexOf(imported) !== -1 &&
            listed.indexOf(imported) < listed.indexOf(path),
          `${path} imports ${imported}, which is not above it`,
        );
      }
    }
    assert(seen > 100, `${seen} imports found`);
  },
);

/** What only some may use. */
const FENCES: Array<[RegExp, (path: string) => boolean]> = [
  [
    /Deno\.(dlopen|Unsafe\w+|Pointer\w+)/,
    (path) => path === "lib/socket/linux/libc.ts",
  ],
  [
    /Deno\.(listenDatagram|DatagramConn)/,
    (path) => path === "lib/socket/deno_socket.ts",
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

readTest("only the files meant for it touch the system", async () => {
  const used = new Set<RegExp>();
  for (const [path, source] of await sources()) {
    const code = codeOf(source);
    for (const [fenced, isAllowed] of FENCES) {
      if (!fenced.test(code)) continue;
      used.add(fenced);
      assert(isAllowed(path), `${path} uses ${fenced.exec(code)![0]}`);
    }
  }
  // The fences that have a gate are not fences around nothing.
  assertEquals(used.size, 5);
});

readTest("the programs are short", async () => {
  for (const path of ["server.ts", "client.ts"]) {
    const lines = (await sources()).get(path)!.split("\n").length;
    assert(lines <= 120, `${path} has ${lines} lines`);
  }
});

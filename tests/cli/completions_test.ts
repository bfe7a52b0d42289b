/** Completions for shells, and the manual page: from the table of flags. */
import { assert, assertEquals, assertMatch } from "@std/assert";
import { CLIENT } from "../../lib/cli/client_flags.ts";
import { completions } from "../../lib/cli/completions.ts";
import type { Described } from "../../lib/cli/usage.ts";
import { manPage } from "../../lib/cli/man.ts";
import { SERVER } from "../../lib/cli/server_flags.ts";
import { client, signalTest, tempFolder } from "../helpers.ts";

const PROGRAMS: Described[] = [CLIENT, SERVER];
const SHELLS = ["bash", "zsh", "fish"] as const;

/** The lines of a program that reads `stdin`. */
async function linesOf(command: string, args: string[], stdin = "") {
  const process = new Deno.Command(command, {
    args,
    stdin: "piped",
    stdout: "piped",
    stderr: "piped",
  }).spawn();
  const writer = process.stdin.getWriter();
  await writer.write(new TextEncoder().encode(stdin));
  await writer.close();
  const { code, stdout, stderr } = await process.output();
  const [shown, errors] = [stdout, stderr]
    .map((bytes) => new TextDecoder().decode(bytes).trimEnd());
  assertEquals([code, errors], [0, ""], `${command} ${args}`);
  return shown!.split("\n");
}

/** The words that bash completes the last of `words` to. */
function inBash(program: Described, ...words: string[]): Promise<string[]> {
  const command = `roundtrip-${program.name}`;
  const run = `
COMP_WORDS=(${command} "$@"); COMP_CWORD=$#
_${command}
printf '%s\\n' "\${COMPREPLY[@]}"`;
  const script = completions(program, "bash") + run;
  return linesOf("bash", ["-c", script, "bash", ...words]);
}

signalTest(
  "client --completions bash: flags, and values where they are known",
  async () => {
    const cases: Array<[string[], string[]]> = [
      [["--json"], ["--json", "--json-stream"]],
      [["-c", "3", "--eng"], ["--engine"]],
      [["--engine", ""], ["deno", "linux", "auto"]],
      [["--engine", "l"], ["linux"]],
      // Bash has --engine=a as three words.
      [["--engine", "=", "a"], ["auto"]],
      [["--engine", "="], ["deno", "linux", "auto"]],
      [["--help", ""], ["all", "man"]],
      [["-h", "m"], ["man"]],
      [["--extensions", "f"], ["follow-up"]],
      // Any text, and any number.
      [["-m", "-"], [""]],
      [["--count", ""], [""]],
    ];
    for (const [words, expected] of cases) {
      assertEquals(await inBash(CLIENT, ...words), expected, words.join(" "));
    }
    const all = await inBash(CLIENT, "--");
    assertEquals(all, Object.keys(CLIENT.flags).map((name) => `--${name}`));
    assertEquals(await inBash(SERVER, "x"), [""]);
    await using folder = await tempFolder();
    const name = `${folder.path}/two words`;
    await linesOf("touch", [name]);
    assertEquals(await inBash(CLIENT, "--csv", folder.path + "/t"), [name]);
  },
  ["bash"],
);

signalTest(
  "client --completions fish: flags, and values where they are known",
  async () => {
    const complete = (line: string) =>
      linesOf("fish", [
        "--no-config",
        "-c",
        `${completions(CLIENT, "fish")}
complete -C ${JSON.stringify(`roundtrip-client ${line}`)}`,
      ]);
    assertEquals((await complete("--json")).map((line) => line.split("\t")), [
      ["--json", CLIENT.flags.json.help],
      ["--json-stream", CLIENT.flags["json-stream"].help],
    ]);
    const engines = await complete("--engine ");
    assertEquals(engines.map((line) => line.split("\t")[0]).sort(), [
      ...["auto", "deno", "linux"],
    ]);
  },
  ["fish"],
);

for (const shell of SHELLS) {
  signalTest(
    `--completions ${shell}: a script with every flag, valid for the shell`,
    async () => {
      for (const program of PROGRAMS) {
        const script = completions(program, shell);
        for (const name of Object.keys(program.flags)) {
          assert(
            script.includes(shell === "fish" ? `-l ${name}` : `--${name}`),
          );
        }
        assertEquals(await linesOf(shell, ["-n"], script), [""]);
      }
    },
    [shell],
  );
}

signalTest(
  "client --completions zsh: flags with their help, and values",
  async () => {
    // In zsh completions need a terminal; _arguments is replaced by its arguments.
    const script = completions(CLIENT, "zsh") + "\n_roundtrip-client";
    const stub = "compdef() {}; _arguments() { print -rl -- $@ }\n";
    const specs = await linesOf("zsh", ["-f", "-c", stub + script]);
    for (
      const spec of [
        "(--json-stream --json)--json-stream[print one JSON object a line]",
        "(--clock)--clock=[clock for RTTs\\: auto, kernel, program (auto)]:NAME:(auto kernel program)",
        "(--ptp)--ptp[timestamps in PTP's format]",
        "*:HOST:_hosts",
      ]
    ) assert(specs.includes(spec), `${spec}\n${specs.join("\n")}`);
  },
  ["zsh"],
);

signalTest(
  "--help man: a page that mandoc accepts, with all flags, exit codes and examples",
  async () => {
    for (const program of PROGRAMS) {
      const page = manPage(program);
      await linesOf("mandoc", ["-T", "lint", "-W", "error"], page);
      const shown = await linesOf("mandoc", ["-T", "ascii"], page);
      const text = shown.join("\n").replaceAll(/.[\b]/g, "");
      for (const [name, { help }] of Object.entries(program.flags)) {
        assert(text.includes(`--${name}`), name);
        const [word] = help.split(" ");
        assert(text.includes(word!), help);
      }
      const ends = Object.values(program.exits);
      for (const part of [...ends, ...Object.values(program.examples)]) {
        assert(text.includes(part), part);
      }
    }
  },
  ["mandoc"],
);

Deno.test("manPage(): text that roff would read as a request is escaped", () => {
  const program = {
    ...SERVER,
    flags: { x: { group: "A", help: ".so \\x - 'y" } },
    examples: { A: "'z" },
  };
  const lines = manPage(program).split("\n");
  assert(lines.includes("\\&.so \\ex \\- 'y"), lines.join("\n"));
  assertEquals(lines.filter((line) => /^[.'](?!\w\w? ?)/.test(line)), []);
});

signalTest(
  "client --completions, --help man: print and exit with 0",
  async () => {
    const script = await client(["--completions", "bash"]);
    assertEquals(script, {
      code: 0,
      stdout: `${completions(CLIENT, "bash")}\n`,
      stderr: "",
    });
    const page = await client(["--help", "man"]);
    assertEquals([page.code, page.stderr], [0, ""]);
    assertMatch(page.stdout, /^\.TH ROUNDTRIP\\-CLIENT 1 /);
    const wrong = await client(["--completions", "tcsh"]);
    assertEquals(wrong.code, 2);
    assertMatch(
      wrong.stderr,
      /--completions: 'tcsh' is not one of bash, zsh, /,
    );
  },
);

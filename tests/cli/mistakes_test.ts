/** Natural mistakes on the command line, and the remedy in their one line. */
import { assert, assertEquals, assertThrows } from "@std/assert";
import { isText, UsageError } from "../../lib/cli/flags.ts";
import { startedText } from "../../lib/cli/main.ts";
import { CLIENT_FLAGS } from "../../lib/cli/client_flags.ts";
import { planClient } from "../../lib/cli/client_plan.ts";
import { planServer, SERVER_FLAGS } from "../../lib/cli/server_flags.ts";
import { client, Program, programTest } from "../helpers.ts";
import { started } from "./peers.ts";

const CLIENT: Array<[string, string]> = [
  ["--cuont 3", "unknown flag --cuont: did you mean --count?"],
  ["--cont=3", "unknown flag --cont: did you mean --count?"],
  ["--Count 3", "unknown flag --Count: did you mean --count?"],
  ["--counts 3", "unknown flag --counts: did you mean --count?"],
  ["--max_loss 5", "unknown flag --max_loss: did you mean --max-loss?"],
  ["--maxloss 5", "unknown flag --maxloss: did you mean --max-loss?"],
  ["--max 5", "unknown flag --max: did you mean --max-loss or --max-rtt?"],
  ["--time 5", "did you mean --timeout or --timestamps?"],
  ["--mesage x", "unknown flag --mesage: did you mean --message?"],
  ["--retry 1", "unknown flag --retry: did you mean --retries?"],
  ["--josn", "unknown flag --josn: did you mean --json?"],
  ["-count 3", "unknown flag -count: did you mean --count?"],
  ["-size=3", "unknown flag -size: did you mean --size?"],
  ["-C 3", "unknown flag -C: did you mean -c?"],
  ["-n 3", "unknown flag -n: -c N sends N datagrams"],
  [
    "--host 127.0.0.1",
    "unknown flag --host: the server's address stands alone",
  ],
  ["--data hi", "unknown flag --data: --message TEXT"],
  ["--timeout 25h", "to a day, such as 0.5, 200ms, 1s, 1m or 1h"],
  ["-u", "unknown flag -u: it always uses UDP"],
  ["-i 0.2", "--interval needs --count with plain requests: add --count N"],
  ["-4 -6", "--ipv6 and --ipv4 exclude each other"],
  ["22003", "'22003' is a port: write 127.0.0.1:22003"],
  ["udp://h:1", "'udp://h:1' is a URL: write h:1"],
  ["udp://h:1/path", "'udp://h:1/path' is a URL: write h:1"],
  ["--max-loss 101%", "--max-loss: '101' is not a number from 0 to 100"],
];

const SERVER: Array<[string, string]> = [
  ["22003", "Unexpected argument '22003': a port goes behind --port"],
  ["--listen :7", "unknown flag --listen: --host ADDRESS and --port N"],
  ["-d", "unknown flag -d: it stays in the foreground"],
  ["0.0.0.0:7", "'0.0.0.0:7': write --host 0.0.0.0 --port 7"],
  ["[::1]:7", "'[::1]:7': write --host ::1 --port 7"],
  ["::1", "Unexpected argument '::1': the address goes behind --host"],
  ["0.0.0.0", "the address goes behind --host"],
  ["--ecko", "unknown flag --ecko: did you mean --echo?"],
  ["-4", "unknown flag -4: --host 0.0.0.0 takes IPv4"],
  ["-6", "unknown flag -6: --host :: takes IPv6"],
  ["-P 7", "unknown flag -P: did you mean -p?"],
];

for (
  const [program, planOf, table] of [
    ["client", planClient, CLIENT],
    ["server", planServer, SERVER],
  ] as const
) {
  Deno.test(`${program}: a mistake gets its remedy`, () => {
    for (const [line, message] of table) {
      const { message: found } = assertThrows(
        () => planOf(line.split(" ")),
        UsageError,
        message,
        line,
      );
      assert(!found.includes("\n"), found);
    }
  });

  Deno.test(`${program}: a letter that is missing, doubled, wrong or swapped is found`, () => {
    const names = Object.keys(
      program === "client" ? CLIENT_FLAGS : SERVER_FLAGS,
    );
    for (const name of names.filter((name) => name.length > 3)) {
      for (let i = 1; i < name.length - 1; i++) {
        const [head, letter, tail] = [
          name.slice(0, i),
          name[i]!,
          name.slice(i + 1),
        ];
        const wrong = [
          head + tail,
          head + letter + letter + tail,
          `${head}x${tail}`,
          head + tail[0] + letter + tail.slice(1),
        ];
        for (const text of wrong.filter((text) => !names.includes(text))) {
          const { message } = assertThrows(
            () => planOf([`--${text}`]),
            UsageError,
            "did you mean --",
            text,
          );
          assert(message.includes(`--${name}`), `${text}: ${message}`);
        }
      }
    }
  });

  Deno.test(`${program}: nothing is guessed for a flag that is unlike all`, () => {
    for (const flag of ["--nope", "--frobnicate", "-x", "-7"]) {
      const { message } = assertThrows(() => planOf([flag]), UsageError);
      assertEquals(message, `unknown flag ${flag}`);
    }
  });

  Deno.test(`${program}: help is asked for in several ways`, async () => {
    const helpOf = async (...args: string[]) => await planOf(args);
    const full = await helpOf("--help", "all");
    for (const args of [["--help=all"], ["help", "all"]]) {
      assertEquals(await helpOf(...args), full);
    }
    const short = await helpOf("--help");
    for (const arg of ["help", "-h"]) assertEquals(await helpOf(arg), short);
    assert(full !== short);
  });
}

Deno.test("startedText(): names the way to a permission that there is", () => {
  const table: Array<[string, string, string]> = [
    [
      "run with --allow-ffi",
      "run 'deno task server-linux', or add --allow-ffi",
      "run 'deno task install --allow-ffi' in the clone",
    ],
    [
      "run with --allow-read",
      "run 'deno task server-linux', or add --allow-read",
      "run 'deno task install --allow-read' in the clone",
    ],
    [
      "run with --allow-read=keys",
      "run 'deno run --allow-net --allow-read=keys server.ts'",
      "run 'deno task install --allow-read=keys' in the clone",
    ],
    [
      "which 'deno task client-linux' has",
      "which 'deno task client-linux' has",
      "which 'deno task install --allow-ffi' gives",
    ],
    [
      "Usage: deno task server [flags]",
      "Usage: deno task server [flags]",
      "Usage: roundtrip-server [flags]",
    ],
  ];
  for (const [text, asTask, installed] of table) {
    assertEquals(startedText(text, "server", false), asTask);
    assertEquals(startedText(text, "server", true, () => []), installed);
  }
  // A new installation replaces the one before.
  assertEquals(
    startedText("run with --allow-read", "server", true, () => ["--allow-ffi"]),
    "run 'deno task install --allow-ffi --allow-read' in the clone",
  );
});

Deno.test("client --max-loss: takes a percent sign", () => {
  const maxLoss = (text: string) => {
    const plan = planClient(["--max-loss", text]);
    return isText(plan) || plan.mode === "watch" ? plan : plan.maxLoss;
  };
  assertEquals(["5", "5%", "0.5%"].map(maxLoss), [5, 5, 0.5]);
});

Deno.test("client HOST: 'help' is a host behind a flag or with a port", () => {
  for (const args of [["-q", "help"], ["help:1"]]) {
    const plan = planClient(args);
    assert(!isText(plan) && plan.mode !== "watch");
    assertEquals(plan.targets[0]!.hostname, "help");
  }
});

programTest(
  "deno task bench, fuzz, mutate, soak: explain their flags, or a mistake in one line",
  async () => {
    for (const tool of ["bench/bench", "fuzz", "mutate", "soak"]) {
      const run = async (flag: string) => {
        const args = [
          "run",
          "--no-prompt",
          "--allow-read",
          `tests/${tool}.ts`,
          flag,
        ];
        await using program = new Program(Deno.execPath(), args);
        return await program.ended();
      };
      const help = await run("--help");
      const name = tool.split("/").at(-1)!;
      assertEquals([help.code, help.stderr], [0, ""], tool);
      assert(help.stdout.includes(`Usage: deno task ${name} [flags]`), tool);
      assertEquals(await run("--frobnicate"), {
        code: 2,
        stdout: "",
        stderr: `${name}: unknown flag --frobnicate (see --help)\n`,
      });
    }
  },
);

programTest("client -4, -6: choose the address of a name", async () => {
  await using s = await started(["--echo", "-q"]);
  const args = [`localhost:${s.port}`, "-W", "100ms", "--retries", "0"];
  const { code, stdout } = await client([...args, "-4"]);
  assertEquals([code, stdout.length > 0], [0, true]);
  // The server has IPv4 alone.
  const other = await client([...args, "-6"]);
  assertEquals([other.code > 0, other.stdout], [true, ""]);
  assert(other.stderr.includes(`[::1]:${s.port}`), other.stderr);
});

/** The documentation has the flags, keys and defaults of the code. */
import { assert, assertEquals } from "@std/assert";
import type { AnyTable } from "../lib/base/options.ts";
import { COUNTERS, GAUGES } from "../lib/base/telemetry.ts";
import { CONNECT } from "../lib/client/connect.ts";
import { GATHER } from "../lib/client/gather.ts";
import { LOAD } from "../lib/client/load_options.ts";
import { REQUEST } from "../lib/client/exchange.ts";
import { REPLIES } from "../lib/client/replies.ts";
import { SERIES } from "../lib/client/series.ts";
import { ORIGIN } from "../lib/client/target.ts";
import { GUARD, REFUSALS } from "../lib/server/guard.ts";
import { SERVE } from "../lib/server/serve.ts";
import { SESSIONS } from "../lib/server/sessions.ts";
import { BIND } from "../lib/socket/bind_options.ts";
import { GROUP_SEND_OPTIONS, SEND_OPTIONS } from "../lib/socket/contract.ts";
import { SOCKET } from "../lib/socket/open_socket.ts";
import { RUNTIME } from "../lib/socket/runtime.ts";
import { MEASURE } from "../lib/stamp/measure_options.ts";
import {
  readingsOf,
  REFLECTOR,
  stampReflector,
} from "../lib/stamp/reflector.ts";
import { noStats } from "../lib/server/udp_server.ts";
import {
  type Column,
  type EventColumns,
  EVENTS,
} from "../lib/cli/show/columns.ts";
import { LOAD_COLUMNS } from "../lib/cli/show/load.ts";
import {
  GATHER_COLUMNS,
  GATHER_EVENTS,
  SERIES_COLUMNS,
  SERIES_EVENTS,
} from "../lib/cli/show/series.ts";
import {
  SERVER_EVENTS,
  type ServerCounts,
  statsJson,
  statsLine,
} from "../lib/cli/show/server.ts";
import { STAMP_COLUMNS, STAMP_EVENTS } from "../lib/cli/show/stamp.ts";
import { exported, withTables } from "./json_tables.ts";
import {
  client,
  programTest,
  readTest,
  ROOT,
  server,
  signalTest,
} from "./helpers.ts";

const read = (path: string) => Deno.readTextFile(new URL(path, ROOT));

programTest(
  "server --help, client --help: have at most 30 lines",
  async () => {
    await using asked = server(["--help"]);
    for (
      const { stdout } of [await asked.ended(), await client(["--help"])]
    ) assert(stdout.split("\n").length <= 31, stdout);
  },
);

/** The objects of a stream. */
function parsed(stdout: string): Array<Record<string, unknown>> {
  return stdout.trim().split("\n").map((line) => JSON.parse(line));
}

const without = (keys: string[], ...left: string[]) =>
  keys.filter((key) => !left.includes(key));

/** The keys of an object, except `time`. */
const keysOf = (object: Record<string, unknown>) =>
  without(Object.keys(object), "time");

/** The keys of columns without a condition. */
const keysIn = (columns: object) =>
  Object.entries(columns as Record<string, Column>)
    .filter(([, { optional }]) => !optional).map(([key]) => key);

programTest(
  "docs/json.md: has the tables that `deno task tables` writes",
  async () => {
    const page = await read("docs/json.md");
    assertEquals(page, await withTables(page), "run: deno task tables");
  },
);

signalTest(
  "client --json, server --json: print the keys of their columns",
  async () => {
    await using s = server(["-p", "0", "--stamp", "--json"]);
    await using plain = server(["-p", "0", "--echo", "--json"]);
    const targets = await Promise.all(
      [plain, s].map(async (program) =>
        `127.0.0.1:${JSON.parse(await program.line()).port}`
      ),
    );
    const runs = [
      [["--hex", "ff", "-i", "0"], "replies", SERIES_COLUMNS, SERIES_EVENTS],
      [["--stamp", "-i", "5ms"], "samples", STAMP_COLUMNS, STAMP_EVENTS],
      [["--rate", "100"], "intervals", LOAD_COLUMNS, EVENTS],
      [["--all"], "replies", GATHER_COLUMNS, GATHER_EVENTS],
    ] as const;
    for (const [args, list, result, events] of runs) {
      const target = targets[list === "samples" ? 1 : 0]!;
      const count = args[0] === "--all" ? [] : ["-c", "2"];
      const common = [target, "-W", "5s", ...count, ...args];
      const { stdout } = await client([...common, "--json"]);
      const document = JSON.parse(stdout);
      assertEquals(Object.keys(document), [list, ...keysIn(result)]);
      const streamed = await client([...common, "--json-stream"]);
      const [event, ...rest] = parsed(streamed.stdout);
      const type = list === "intervals" ? "interval" : "reply";
      assertEquals(event!.type, type);
      const columns = (events as EventColumns)[type]!;
      assertEquals(without(keysOf(event!), "text", "hex"), [
        "type",
        ...keysIn(columns),
      ]);
      assertEquals(keysOf(rest.at(-1)!), ["type", ...keysIn(result)]);
    }
    const silent = ["127.0.0.1:9", "-W", "10ms", "--retries", "0"];
    const [lost] = parsed((await client([...silent, "--json-stream"])).stdout);
    assertEquals(keysOf(lost!), ["type", ...keysIn(SERIES_EVENTS.lost!)]);
    s.kill("SIGTERM");
    const { stdout } = await s.ended();
    const objects = parsed(stdout);
    for (const type of ["listening", "request", "summary"]) {
      const object = objects.find((object) => object.type === type)!;
      assertEquals(without(keysOf(object), "hex", "text", "stamp"), [
        "type",
        ...keysIn(SERVER_EVENTS[type]!),
      ]);
    }
  },
);

readTest(
  "server: every count is in the closing line, in JSON and in docs/json.md",
  async () => {
    const page = await read("docs/json.md");
    const { pushed: _, ...stats } = { ...noStats(), kernelDrops: 0 };
    const counts = {
      server: stats,
      reflector: stampReflector().stats(),
    } as unknown as ServerCounts;
    // Each count has a unique value, by which it is found.
    let next = 1000;
    const names: Array<[string, number]> = [];
    const number = (object: object, prefix: string) => {
      for (const [key, value] of Object.entries(object)) {
        const name = `${prefix}${key}`;
        if (typeof value === "object") number(value, `${name}.`);
        else {
          names.push([name, ++next]);
          (object as Record<string, number>)[key] = next;
        }
      }
    };
    number(counts.server, "");
    number(counts.reflector!, "stamp.");
    assert(names.length > 25, `${names.length} counts`);
    const line = statsLine(counts);
    const text = JSON.stringify(statsJson("summary", counts, new Date(0)));
    const silent = /^(bytes|stamp\.(reflected|sessions))/;
    for (const [name, value] of names) {
      const [, last] = name.split(".");
      assert(
        silent.test(name) || line.includes(`${value} `),
        `${name}: ${line}`,
      );
      assert(text.includes(`"${last ?? name}":${value}`), `${name}: ${text}`);
      assert(page.includes(`| \`${name}\` `), `${name} is not in the page`);
    }
  },
);

readTest(
  "docs/operations.md: names every outcome of a reflector's packets",
  async () => {
    const page = await read("docs/operations.md");
    const row = /^\| `roundtrip\.reflector\.packets`.*$/m.exec(page)![0];
    const { counts } = readingsOf(stampReflector().stats());
    const outcomes = counts.map(({ attributes }) =>
      `\`${attributes!["roundtrip.outcome"]}\``
    );
    assert(row.includes(`\`roundtrip.outcome\`: ${outcomes.join(", ")}`), row);
  },
);

programTest(
  "docs: every named function is exported, or a method of an exported type",
  async () => {
    const types = await exported();
    const known = new Set(types.keys());
    for (const { def } of types.values()) {
      const members = [...def?.methods ?? [], ...def?.properties ?? []];
      for (const { name } of members) known.add(name);
    }
    let seen = 0;
    for (
      const path of [
        "README.md",
        "CHANGELOG.md",
        ...[
          "json",
          "library",
          "measuring",
          "operations",
          "recipes",
          "stamp",
          "architecture",
        ]
          .map((name) => `docs/${name}.md`),
      ]
    ) {
      const prose = (await read(path)).replaceAll(/^```[^]*?^```/gm, "");
      for (const [, name] of prose.matchAll(/`(?:\w+\.)*(\w+)\(/g)) {
        assert(known.has(name!), `${path}: ${name}()`);
        seen++;
      }
    }
    assert(seen > 20, `${seen} names found`);
  },
);

readTest("docs/operations.md: explains every reason to refuse", async () => {
  const page = await read("docs/operations.md");
  const section = page.split("## Why a datagram is refused\n")[1]!
    .split("\n## ")[0]!;
  const listed = [...section.matchAll(/^\| `(\w+)`/gm)].map(([, name]) => name);
  assertEquals(listed, [...REFUSALS]);
});

/** Each interface of options: its file, its name and its table. */
const TABLES: Array<[string, string, AnyTable]> = [
  ["lib/socket/runtime.ts", "RuntimeOptions", RUNTIME],
  ["lib/socket/contract.ts", "SendOptions", SEND_OPTIONS],
  ["lib/socket/contract.ts", "GroupSendOptions", GROUP_SEND_OPTIONS],
  ["lib/socket/bind_options.ts", "BindOptions", BIND],
  ["lib/socket/open_socket.ts", "SocketOptions", SOCKET],
  ["lib/server/serve.ts", "ServeOptions", SERVE],
  ["lib/server/udp_server.ts", "Hooks", SERVE],
  ["lib/server/sessions.ts", "SessionsOptions", SESSIONS],
  ["lib/server/guard.ts", "GuardOptions", GUARD],
  ["lib/client/target.ts", "OriginOptions", ORIGIN],
  ["lib/client/exchange.ts", "RequestOptions", REQUEST],
  ["lib/client/replies.ts", "RepliesOptions", REPLIES],
  ["lib/client/series.ts", "RequestManyOptions", SERIES],
  ["lib/client/gather.ts", "GatherOptions", GATHER],
  ["lib/client/connect.ts", "ConnectOptions", CONNECT],
  ["lib/client/load_options.ts", "LoadOptions", LOAD],
  ["lib/stamp/measure_options.ts", "MeasureOptions", MEASURE],
  ["lib/stamp/reflector.ts", "ReflectorOptions", REFLECTOR],
];

readTest(
  "docstrings: options have the ranges and defaults of their tables",
  async () => {
    const seen = { options: 0, ranges: 0, defaults: 0 };
    for (const [path, name, table] of TABLES) {
      const source = await read(path);
      const [, rest] = source.split(new RegExp(`export interface ${name}\\b`));
      const documented = rest!.split("\n}\n")[0]!.matchAll(
        /\/\*\*((?:(?!\*\/)[^])*)\*\/\n {2}(\w+)\??:/g,
      );
      for (const [, comment, key] of documented) {
        const place = `${path}: ${key}`;
        const option = table[key!];
        assert(option !== undefined, place);
        seen.options++;
        const doc = comment!.replaceAll(/\s*\n\s*\* ?/g, " ");
        const { min, max, default: byDefault } = option;
        if (min !== undefined && max !== undefined) {
          const [least, most] = [min, max].map((n) =>
            n.toLocaleString("en-US")
          );
          assert(doc.includes(`${least} to ${most}`), place);
          seen.ranges++;
        }
        if (
          byDefault === undefined || byDefault === Infinity ||
          typeof byDefault === "function"
        ) continue;
        const [, text] = /@default \{(.*)\}/.exec(doc)!;
        const shown = text!.split(",")[0]!;
        assertEquals(shown, JSON.stringify(byDefault), place);
        seen.defaults++;
      }
    }
    assert(seen.options > 70, JSON.stringify(seen));
    assert(seen.ranges > 25 && seen.defaults > 40, JSON.stringify(seen));
  },
);

readTest(
  "docs/operations.md: lists every metric, and the dashboard shows no others",
  async () => {
    const page = await read("docs/operations.md");
    const rows = [
      ...page.matchAll(/^\| `(roundtrip\.[\w.]+)` +\| (\w+) +\| `([^`]+)`/gm),
    ]
      .map(([, name, kind, unit]) => [name!, kind!, unit!] as const);
    const listed = Object.fromEntries(
      rows.map(([name, kind, unit]) => [name, `${kind} ${unit}`]),
    );
    const of = (
      kind: string,
      metrics: Record<string, readonly [string, string]>,
    ) =>
      Object.entries(metrics).map((
        [name, [unit]],
      ) => [name, `${kind} ${unit}`]);
    assertEquals(
      listed,
      Object.fromEntries([
        ...of("counter", COUNTERS),
        ...of("gauge", GAUGES),
        ["roundtrip.client.rtt", "histogram s"],
      ]),
    );
    // Names in Prometheus end with the unit and the kind.
    const known = new Set(rows.map(([name, kind, unit]) =>
      [
        name.replaceAll(".", "_"),
        ...{ By: ["bytes"], s: ["seconds"] }[unit] ?? [],
        ...{ counter: ["total"], histogram: ["bucket"] }[kind] ?? [],
      ].join("_")
    ));
    let seen = 0;
    for (const file of ["grafana.json", "alerts.yml", "alerts_test.yml"]) {
      const text = await read(`docs/watch/${file}`);
      if (file.endsWith("json")) JSON.parse(text);
      for (const [name] of text.matchAll(/roundtrip_[a-z_]+(?=[{[)\s",}])/g)) {
        if (/^roundtrip_(outcome|reason|direction)$/.test(name)) continue;
        assert(known.has(name), `${file} has ${name}`);
        seen++;
      }
    }
    assert(seen > 10, `${seen} names found`);
  },
);

readTest("docs/testing.md: its example has 20 lines, and passes", async () => {
  const page = await read("docs/testing.md");
  const [, code] = /<!-- loss.ts -->\n\n```ts\n([^]*?)```/.exec(page)!;
  const statements = code!.trim().split("\n").filter((line) =>
    !/^(import|$)/.test(line)
  );
  assert(statements.length <= 20, `${statements.length} lines`);
  await import(`data:application/typescript,${encodeURIComponent(code!)}`);
});

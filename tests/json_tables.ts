/**
 * `deno task tables`: writes the tables of docs/json.md. The keys are those of
 * the programs' columns, the definitions those of the library's types.
 */
import {
  type EventColumns,
  EVENTS,
  FIGURES,
  type Rows,
} from "../lib/cli/show/columns.ts";
import { RATE_COLUMNS } from "../lib/cli/runs/loaded.ts";
import { LOAD_COLUMNS } from "../lib/cli/show/load.ts";
import { LOADED_COLUMNS, STEP_EVENTS } from "../lib/cli/show/loaded.ts";
import {
  GATHER_COLUMNS,
  GATHER_EVENTS,
  SERIES_COLUMNS,
  SERIES_EVENTS,
} from "../lib/cli/show/series.ts";
import { SERVER_EVENTS } from "../lib/cli/show/server.ts";
import { STAMP_COLUMNS, STAMP_EVENTS } from "../lib/cli/show/stamp.ts";
import { TRACE_COLUMNS, TRACE_EVENTS } from "../lib/cli/show/trace.ts";

/**
 * A symbol, a property or a type of `deno doc --json`, reduced to the keys used
 * here.
 */
interface Node {
  name: string;
  jsDoc?: { doc?: string };
  kind: string;
  tsType?: Node;
  // deno-lint-ignore no-explicit-any
  value?: any;
  def?: {
    properties?: Node[];
    methods?: Node[];
    extends?: Node[];
    tsType?: Node;
  };
}

/** All exports of the library, by name. */
export async function exported(): Promise<Map<string, Node>> {
  const doors = ["mod", "stamp/mod", "testing/mod", "address", "encoding"]
    .map((door) => new URL(`../lib/${door}.ts`, import.meta.url).href);
  const { stdout } = await new Deno.Command(Deno.execPath(), {
    args: ["doc", "--json", ...doors],
    stderr: "inherit",
  }).output();
  const { nodes } = JSON.parse(new TextDecoder().decode(stdout)) as {
    nodes: Record<
      string,
      { symbols: Array<{ name: string; declarations: Node[] }> }
    >;
  };
  return new Map(
    Object.values(nodes).flatMap(({ symbols }) =>
      symbols.map(({ name, declarations }) => [name, declarations[0]!] as const)
        .filter(([, { kind }]) => kind !== "reference")
    ),
  );
}

type Row = [key: string, meaning: string];

/** The page with regenerated tables. */
export async function withTables(page: string): Promise<string> {
  const types = await exported();

  /** The properties of a type, if it is an object with known ones. */
  const propertiesOf = (type: Node | undefined): Node[] => {
    switch (type?.kind) {
      case "interface":
        return [
          ...type.def!.properties ?? [],
          ...(type.def!.extends ?? []).flatMap(propertiesOf),
        ];
      case "class":
        return type.def!.properties ?? [];
      case "typeAlias":
        return propertiesOf(type.def!.tsType);
      case "typeLiteral":
        return type.value.properties;
      case "union":
      case "intersection":
        return type.value.flatMap(propertiesOf);
      case "typeOperator":
        return propertiesOf(type.value.tsType);
      case "array":
        return propertiesOf(type.value);
      case "typeRef":
        return propertiesOf(types.get(type.value.typeName));
      default:
        return [];
    }
  };
  const isSummary = (type: Node | undefined): boolean =>
    type?.kind === "union"
      ? type.value.some(isSummary)
      : /Summary$/.test(type?.value?.typeName ?? "");

  /** The types whose keys have been listed. */
  const listed = new Set<Node>();
  const rowsOf = (columns: Rows, known: Node[], prefix = ""): Row[] =>
    Object.entries(columns).flatMap(([key, column]): Row[] => {
      const found = known.find(({ name }) => name === key);
      const docs = column.docs ?? prose(found?.jsDoc?.doc);
      if (docs === undefined) throw new Error(`No definition of '${key}'`);
      const name = `${prefix}${key}`;
      // A value that is written in another form has none of its type's keys.
      if (column.docs && column.json && !column.columns) return [[name, docs]];
      if (isSummary(found?.tsType)) return [[name, `a summary: ${docs}`]];
      const parts = propertiesOf(found?.tsType);
      if (parts.length > 0 && listed.has(parts[0]!)) return [[name, docs]];
      if (parts.length > 0) listed.add(parts[0]!);
      const nested: Rows = column.columns ??
        Object.fromEntries(parts.map(({ name }) => [name, {}]));
      const isDocumented = column.columns !== undefined ||
        parts.length > 0 && parts.every(({ jsDoc }) => jsDoc !== undefined);
      if (isDocumented) {
        const inner = parts.length === 0 ? known : parts;
        return [[name, docs], ...rowsOf(nested, inner, `${name}.`)];
      }
      const keys = Object.keys(nested).map((key) => `\`${key}\``).join(", ");
      return [[name, keys === "" ? docs : `${docs}: ${keys}`]];
    });

  const columns = (columns: object, ...names: string[]) =>
    table(
      "key",
      "meaning",
      rowsOf(
        columns as Rows,
        names.flatMap((name) => propertiesOf(types.get(name))),
      ).map(([key, meaning]) => [`\`${key}\``, meaning]),
    );
  /** The keys of each type of event, and then each key once. */
  const events = (events: EventColumns, ...names: string[]) => {
    const { interval: _, ...others } = events;
    const keys = Object.entries(events).map(([type, columns]): Row => [
      `\`${type}\``,
      type === "interval"
        ? "as in [Intervals](#intervals)"
        : Object.keys(columns).map((key) => `\`${key}\``).join(", "),
    ]);
    const all = Object.assign({}, ...Object.values(others).reverse());
    const ordered = Object.fromEntries(
      Object.values(others).flatMap(Object.keys).map((key) => [key, all[key]]),
    );
    return `${table("type", "keys", keys)}\n\n${columns(ordered, ...names)}`;
  };

  const figures = Object.fromEntries(
    Object.values(FIGURES).map((key) => [key, {}]),
  );
  const { summary, interval: _, ...server } = SERVER_EVENTS;
  const tables: Record<string, string> = {
    figures: columns(figures, "TailSummary"),
    interval: columns(EVENTS.interval, "Interval"),
    series: columns(SERIES_COLUMNS, "SeriesSummary"),
    "series events": events(SERIES_EVENTS, "UdpReply", "TimeoutError"),
    stamp: columns(STAMP_COLUMNS, "MeasureResult"),
    "stamp events": events(STAMP_EVENTS, "StampSample"),
    load: columns(LOAD_COLUMNS, "LoadResult"),
    loaded: columns(LOADED_COLUMNS),
    "find rate": columns(RATE_COLUMNS, "LoadResult"),
    steps: events(STEP_EVENTS, "LoadResult"),
    trace: columns(TRACE_COLUMNS),
    "trace events": events(TRACE_EVENTS),
    gather: columns(GATHER_COLUMNS, "GatherSummary"),
    "gather events": events(GATHER_EVENTS, "UdpReply"),
    "server events": events(server),
    server: columns(
      { ...summary },
      "ServerStats",
      "ReflectorStats",
    ),
  };
  return page.replaceAll(
    /<!-- table: ([\w ]+) -->\n[^]*?<!-- end -->/g,
    (_, name) => `<!-- table: ${name} -->\n\n${tables[name]}\n\n<!-- end -->`,
  );
}

/** A docstring as the meaning of a JSON key. */
function prose(doc: string | undefined): string | undefined {
  return doc?.replaceAll("\n", " ").replace(/\.$/, "")
    .replaceAll(/\{@linkcode ([\w.]+)\}/g, "`$1`")
    .replaceAll(/\bundefined\b/gi, "`null`")
    .replace(/^[A-Z](?![A-Z])/, (letter) => letter.toLowerCase());
}

function table(first: string, second: string, rows: Row[]): string {
  const [left, right] = [0, 1].map((i) =>
    Math.max(...[[first, second], ...rows].map((row) => row[i]!.length))
  ) as [number, number];
  return [
    [first.padEnd(left), second.padEnd(right)],
    ["-".repeat(left), "-".repeat(right)],
    ...rows.map(([key, meaning]) => [key.padEnd(left), meaning.padEnd(right)]),
  ].map((cells) => `| ${cells.join(" | ")} |`).join("\n");
}

if (import.meta.main) {
  const page = new URL("../docs/json.md", import.meta.url);
  const text = await Deno.readTextFile(page);
  await Deno.writeTextFile(page, await withTables(text));
}

/**
 * Tables of columns: each figure of a result is one entry, from which its key in
 * JSON, its part of the lines for people, and its row in docs/json.md are made.
 * The definitions in that page are those of the library's types. Pure.
 *
 * @module
 */
import { textOrHex } from "../../encoding.ts";
import { errorMessage } from "../../base/errors.ts";
import type { Interval } from "../../stats/books.ts";
import { lossPercentOf, type RunCounts } from "../../stats/counts.ts";
import type { TailSummary } from "../../stats/distribution.ts";
import { lossText, milliseconds, rounded } from "./format.ts";

/** One figure, of type `V`, of a result `R`; `{}` for one that only JSON has. */
export interface Column<V = unknown, R = unknown> {
  /** The part of a line of counts; undefined for none. */
  text?(value: V, result: R, key: string): string | undefined;
  /** The name of a summary of times that has a line or row of its own. */
  label?: string;
  /** The value in JSON, where it is not the value itself. */
  json?(value: V): unknown;
  /** Whether JSON leaves the key out where there is no value; else it is `null`. */
  optional?: true;
  /** The columns of a value that is an object, where the line has parts of it. */
  columns?: Rows;
  /** The definition, where no type of the library has it. */
  docs?: string;
}

/** The columns of `R`, in the order of JSON and of the line of counts. */
export type Columns<R> = { readonly [K in keyof R]-?: Column<R[K], R> };

export type Rows = Readonly<Record<string, Column>>;

export type EventColumns = Readonly<Record<string, Rows>>;

/** Each key with its column and its value. */
function cellsOf<R>(columns: Columns<R>, result: R) {
  const values = result as Record<string, unknown>;
  return Object.entries(columns as unknown as Rows)
    .map(([key, column]) => ({ key, column, value: values[key] }));
}

/** A result as JSON has it. */
export function objectOf<R>(columns: Columns<R>, result: R) {
  const object: Record<string, unknown> = {};
  for (const { key, column, value } of cellsOf(columns, result)) {
    if (value === undefined && column.optional) continue;
    const isKnown = value !== undefined && column.json !== undefined;
    object[key] = plain(isKnown ? column.json!(value) : value);
  }
  return object;
}

export function countsOf<R>(columns: Columns<R>, result: R): string {
  return cellsOf(columns, result).map(({ key, column, value }) =>
    column.columns !== undefined && value !== undefined
      ? countsOf(column.columns, value as Record<string, unknown>)
      : column.text?.(value, result, key)
  ).filter(Boolean).join(", ");
}

/** The closing lines that all results have: a head, and the counts. */
export function closingLines<R>(head: string, columns: Columns<R>, result: R) {
  return `--- ${head} ---\n${countsOf(columns, result)}`;
}

/** The summaries of times that a result has, by their labels. */
export function timesOf<R>(columns: Columns<R>, result: R) {
  return cellsOf(columns, result).flatMap(({ column: { label }, value }) =>
    label === undefined || value === undefined
      ? []
      : [{ label, summary: value as Partial<TailSummary> }]
  );
}

/** Numbers rounded, and `null` for unknown values, at any depth. */
function plain(value: unknown): unknown {
  if (typeof value === "number") return rounded(value);
  if (typeof value !== "object" || value === null) return value ?? null;
  if (Array.isArray(value)) return value.map(plain);
  return Object.fromEntries(
    Object.entries(value).map(([key, part]) => [key, plain(part)]),
  );
}

/** A count that every line has: `2 sent`. */
export const COUNT: Column = { text: (value, _, key) => `${value} ${key}` };

/** A count that lines leave out if it is 0 or unknown. */
export function rare(word?: string): Column {
  return {
    text: (value, _, key) => value ? `${value} ${word ?? key}` : undefined,
  };
}

export const RARE = rare();

/** Figures that only JSON has. */
export function only<K extends string>(...keys: K[]): Record<K, Column> {
  return Object.fromEntries(keys.map((key) => [key, {}])) as Record<K, Column>;
}

// Columns that several results share.

export const TARGET = { docs: "address of the server, `HOST:PORT`" };
/** Drops beyond the missing, such as those of copies; another line has the rest. */
export const KERNEL_DROPS: Column<
  number | undefined,
  Pick<RunCounts, "lost" | "rejected">
> = {
  text: (drops, { lost, rejected }) =>
    drops && drops > lost - rejected
      ? `${drops} dropped by this machine`
      : undefined,
};
export const DROPPED = rare("events left out");
export const LOST: Column<number, Settled> = {
  text: (lost, counts) => {
    const { unsent } = counts;
    const missing = unsent === 0
      ? `${lost} lost`
      : `${lost} lost and ${unsent} unsent`;
    return `${missing} (${lossText(lossPercentOf(counts))})`;
  },
};
type Settled = Parameters<typeof lossPercentOf>[0];
export const DURATION: Column<number> = {
  text: (value) => `time ${Math.round(value)} ms`,
};

/** The figures of a summary of times: their keys by their names in text. */
export const FIGURES = {
  min: "min",
  mean: "mean",
  median: "median",
  p90: "p90",
  p99: "p99",
  "p99.9": "p999",
  max: "max",
  stddev: "stddev",
} as const satisfies Record<string, keyof TailSummary>;

/** The figures of `summary` by name: all of them, but for some. */
export function figuresOf(
  summary: Partial<TailSummary>,
  ...without: string[]
): Array<[string, number]> {
  return Object.entries(FIGURES).flatMap(([name, key]) => {
    const value = summary[key];
    return value === undefined || without.includes(name) ? [] : [[name, value]];
  });
}

/** Figures in one line: `min/max = 1.000/2.000 ms`. */
export function figuresText(figures: Array<[string, number]>): string {
  const values = figures.map(([, value]) => milliseconds(value));
  return `${figures.map(([name]) => name).join("/")} = ${values.join("/")} ms`;
}

/** The figures that `ping` shows, by its names for them. */
export function pingFigures(
  { min, mean, max }: Pick<TailSummary, "min" | "mean" | "max">,
  ...others: Array<[string, number]>
): Array<[string, number]> {
  return [["min", min], ["avg", mean], ["max", max], ...others];
}

/** The columns of a run's counts that only JSON has, or that are rarely not 0. */
export const RUN_COUNTS = {
  pending: RARE,
  foreign: RARE,
  retransmissions: RARE,
  ...only("rejected", "skipped", "stalls", "stalledMs"),
} satisfies Partial<Columns<RunCounts>>;

/** The columns of loss and of standstills that have lines of their own. */
export const LOSS_COLUMNS = {
  ...only("lossPeriods", "longestLossPeriod", "outageCount", "outageMs"),
  outages: {},
  reasons: {},
  startedAt: {
    json: (unixMs) => unixMs && new Date(unixMs).toISOString(),
    docs: "the first send, by the wall clock (RFC 3339)",
  } as Column<number | undefined>,
  longestStall: {},
} satisfies Partial<Columns<RunCounts>>;

const INTERVAL: Columns<Omit<Interval, "type">> = {
  ...only("fromMs", "toMs"),
  sent: COUNT,
  received: COUNT,
  lost: LOST,
  unsent: {},
  duplicates: RARE,
  late: RARE,
  foreign: RARE,
  retransmissions: RARE,
  ...only("rejected", "skipped", "stalls", "stalledMs"),
  rttMs: { text: (rtt) => rtt && `rtt ${figuresText(INTERVAL_RTTS(rtt))}` },
};

const INTERVAL_RTTS = (
  { min, median, max }: Pick<TailSummary, "min" | "median" | "max">,
): Array<[string, number]> => [["min", min], ["median", median], ["max", max]];

export function intervalLine(interval: Omit<Interval, "type">): string {
  const { fromMs, toMs } = interval;
  const [from, to] = [fromMs, toMs].map((ms) => (ms / 1000).toFixed(1));
  return `${from} to ${to} s: ${countsOf(INTERVAL, interval)}`;
}

export const SEQ: Column<number> = { docs: "number of the datagram, from 0" };

/** The columns of events that all runs have. */
export const EVENTS = {
  late: { seq: SEQ },
  duplicate: { seq: SEQ },
  error: { seq: SEQ, error: { json: errorMessage, docs: "the message" } },
  interval: INTERVAL,
};

/** A payload as JSON has it. */
export interface Payload {
  size: number;
  text?: string | undefined;
  hex?: string | undefined;
}

export const PAYLOAD: Columns<Payload> = {
  size: { docs: "bytes of the payload" },
  text: { docs: "the payload, if it is valid UTF-8", optional: true },
  hex: { docs: "the payload, if it is not, or on request", optional: true },
};

/** A payload as text, or as hex if it is no text or `hasHex` is set. */
export function payloadOf(data: Uint8Array, hasHex = false): Payload {
  const hex = hasHex ? { hex: data.toHex() } : {};
  return { size: data.length, ...hex, ...textOrHex(data) };
}

/**
 * Latency under load, and the search for a rate: columns, lines, and the rules by which
 * a load grows. Pure.
 *
 * @module
 */
import type { LoadResult } from "../../client/load.ts";
import type { SeriesSummary } from "../../client/series.ts";
import type { MeasureResult } from "../../stamp/session_result.ts";
import type { Interval } from "../../stats/books.ts";
import type { Distribution } from "../../stats/distribution.ts";
import { aboveMinimum, type Summary } from "../../stats/statistics.ts";
import * as column from "./columns.ts";
import {
  lossText,
  milliseconds,
  present,
  tableLines,
  timeText,
} from "./format.ts";
import { LOAD_COLUMNS, type LoadRow, loadWarnings, rateText } from "./load.ts";
import { silenceLine } from "./loss.ts";
import type { View } from "./reporter.ts";
import { SERIES_COLUMNS } from "./series.ts";
import { STAMP_COLUMNS } from "./stamp.ts";

/** The probes of one phase. */
export type Probed = { target: string } & (SeriesSummary | MeasureResult);

/** Figures of the idle path, under load, and the difference: what the queue adds. */
type Compared = Record<"idle" | "loaded" | "added", Figures | undefined>;
type Figures = Pick<Summary, "median" | "p99">;

/** The load as it was asked for. */
type Asked = Pick<LoadRow, "target" | "rate" | "window"> & { size: number };

/** Latency of the idle path and under load. */
export interface LoadedResult extends Asked {
  rttMs: Compared;
  forwardPdvMs: Compared | undefined;
  backwardPdvMs: Compared | undefined;
  sendErrorMs: Summary | undefined;
  idle: Probed | undefined;
  loaded: Probed | undefined;
  load: LoadRow | undefined;
  isEcho: boolean;
}

const PROBED: column.Column<Probed | undefined> = {
  json: (probed) =>
    probed &&
    ("seenMs" in probed
      ? column.objectOf(STAMP_COLUMNS, probed)
      : column.objectOf(SERIES_COLUMNS, { ...probed, unexpected: 0 })),
};
const WAY = "with `--stamp`, delays less the least of both phases";

export const LOADED_COLUMNS: column.Columns<LoadedResult> = {
  target: column.TARGET,
  rate: { docs: "`--rate`, of the load" },
  window: { docs: "datagrams of the load in flight, without `--rate`" },
  size: { docs: "bytes of a datagram of the load" },
  rttMs: {
    docs: "RTTs of the probes: `idle`, `loaded` and, as the difference, " +
      "`added`, each with `median` and `p99`",
  },
  forwardPdvMs: { docs: `${WAY}, as \`rttMs\`, to the server` },
  backwardPdvMs: { docs: `${WAY}, as \`rttMs\`, of the way back` },
  sendErrorMs: {
    docs: "a summary: delays of the probes under load after they were due",
  },
  idle: {
    ...PROBED,
    docs:
      "the probes before the load, with the keys of a series or of `--stamp`",
  },
  loaded: { ...PROBED, docs: "the probes during the load" },
  load: {
    json: (load) => load && column.objectOf(LOAD_COLUMNS, load),
    docs: "the load, with the keys of `--window`",
  },
  isEcho: { docs: "whether the server returned the probes" },
};

/** One try of a load. */
export interface Step extends LoadResult {
  type: "step";
  rate?: number;
  window?: number;
  /** Why the rate is too high. */
  why?: string | undefined;
}

export const STEP_EVENTS: column.EventColumns = {
  step: {
    rate: { docs: "datagrams a second asked for", optional: true },
    window: { docs: "datagrams in flight", optional: true },
    ...column.only("sent", "received", "lossPercent", "sentPerSecond"),
    ...column.only("receivedPerSecond", "receivedBitsPerSecond", "rttMs"),
    why: { docs: "why the rate is too high", optional: true },
  },
};

export const LOADED_VIEW: View<Step, LoadedResult> = {
  list: "steps",
  events: STEP_EVENTS,
  result: LOADED_COLUMNS,
  line: stepLine,
  lines: loadedLines,
  warnings: loadedWarnings,
  silence: ({ idle }) => idle && silenceLine(idle),
};

/** A try in a line. */
export function stepLine({ rate, window, why, ...load }: Step): string {
  const { receivedPerSecond, receivedBitsPerSecond, rttMs } = load;
  return present([
    `${rate === undefined ? `${window} in flight` : `${rate} a second`}: ` +
    `received ${rateText(receivedPerSecond, receivedBitsPerSecond)}`,
    `${lossText(load.lossPercent)} loss`,
    rttMs && `median rtt ${timeText(rttMs.median)}`,
    why,
  ]).join(", ");
}

/** The runs of a phase, as far as they have come. */
export interface Phase {
  probed: Probed;
  forward: Distribution;
  backward: Distribution;
  lateness: Distribution;
  isEcho: boolean;
}

/** Compares the phases. One-way delays are less the least of both, without a clock's step. */
export function loadedResult(
  asked: Asked,
  idle: Phase | undefined,
  loaded: Phase | undefined,
  load: LoadResult | undefined,
): LoadedResult {
  const oneWay = (way: "forward" | "backward") => {
    const all = [idle, loaded].map((phase) => phase?.[way].summary());
    const least = Math.min(...all.map((each) => each?.min ?? Infinity));
    return least < Infinity && isOneClock([idle, loaded])
      ? compared(...all.map((each) => aboveMinimum(each, least)))
      : undefined;
  };
  return {
    ...asked,
    rttMs: compared(idle?.probed.rttMs, loaded?.probed.rttMs),
    forwardPdvMs: oneWay("forward"),
    backwardPdvMs: oneWay("backward"),
    sendErrorMs: loaded?.lateness.summary(),
    idle: idle?.probed,
    loaded: loaded?.probed,
    load: load && { ...asked, ...load },
    isEcho: idle?.isEcho ?? true,
  };
}

function compared(idle?: Figures, loaded?: Figures): Compared {
  const figures = (each?: Figures) =>
    each && { median: each.median, p99: each.p99 };
  const added = idle && loaded && {
    median: loaded.median - idle.median,
    p99: loaded.p99 - idle.p99,
  };
  return { idle: figures(idle), loaded: figures(loaded), added };
}

/** Whether the bounds of a clock's offset in both phases agree. */
function isOneClock(phases: Array<Phase | undefined>): boolean {
  const all = phases.flatMap((phase): Partial<MeasureResult>[] =>
    phase === undefined ? [] : [phase.probed]
  );
  const offsets = all.flatMap(({ clockOffsetMs }) => clockOffsetMs ?? []);
  const low = Math.max(...offsets.map((one) => one.estimate - one.error));
  const high = Math.min(...offsets.map((one) => one.estimate + one.error));
  return low <= high + CLOCK_MS && all.every((one) => !one.clockSteps);
}

/** The line about a load before anything is sent. */
export function announcement(asked: Asked, idleMs: number, loadMs: number) {
  const { target, rate, window, size } = asked;
  const [idle, load] = [idleMs, loadMs].map((ms) => (ms / 1000).toFixed(1));
  const how = rate !== undefined
    ? `datagrams of ${size} bytes, ${rateText(rate, 8 * size * rate)},`
    : window !== undefined
    ? `${window} datagrams of ${size} bytes in flight`
    : `${FIRST_WINDOW} datagrams of ${size} bytes in flight, doubled up to ` +
      `${MAX_WINDOW} while more gets through,`;
  return `client: after ${idle} s of probes fills the path to ${target} with ${how} for ${load} s`;
}

const COUNTS = {
  sent: column.COUNT,
  received: column.COUNT,
  lost: column.LOST as column.Column,
  late: column.RARE,
  pending: column.RARE,
};

function loadedLines(result: LoadedResult, columns?: number): string {
  const { target, idle, loaded, load } = result;
  const { rate, window, size } = result;
  const asked = rate === undefined
    ? `${window} x ${size} bytes in flight`
    : `${size} bytes, ${rateText(rate, 8 * size * rate)}`;
  const head = load === undefined ? "no load" : asked;
  const parts = Object.entries({ idle, loaded, load })
    .flatMap(([name, part]) => {
      if (part === undefined) return [];
      const { lostUp, lostDown }: Partial<MeasureResult> = part;
      const ways = part.lost > 0 && lostUp !== undefined
        ? `, up ${lostUp}, down ${lostDown}`
        : "";
      return [`${name}: ${column.countsOf<object>(COUNTS, part)}${ways}`];
    });
  const rateOf = (way: "sent" | "received") =>
    `${way} ${
      rateText(load![`${way}PerSecond`], load![`${way}BitsPerSecond`])
    }`;
  return present([
    `--- ${target} latency under load, ${head} ---`,
    ...parts,
    load && `load ${rateOf("sent")}, ${rateOf("received")}`,
    ...timeLines(result, columns),
    loaded && load?.window !== undefined && load.received > 0 &&
    (load.lost === 0
      ? "the load lost nothing: the queue may hold more than it added here"
      : "the load lost datagrams: a queue or a limit on replies was full"),
  ]).join("\n");
}

function timeLines(result: LoadedResult, columns?: number): string[] {
  const load = result.load?.rttMs;
  const rows: Array<[string, Partial<Compared> | undefined]> = [
    ["rtt", result.rttMs.idle && result.rttMs],
    ["pdv forward", result.forwardPdvMs],
    ["pdv backward", result.backwardPdvMs],
    ["rtt of load", load && { loaded: load }],
  ];
  const lines = rows.flatMap(([label, times]) => {
    if (times === undefined) return [];
    const cells = (key: keyof Figures) =>
      (["idle", "loaded", "added"] as const).map((phase) =>
        times[phase] === undefined ? "-" : milliseconds(times[phase][key])
      );
    return [[label, ...cells("median"), ...cells("p99")]];
  });
  if (lines.length === 0) return [];
  const head = [
    ...["ms", "median idle", "loaded", "added"],
    ...["p99 idle", "loaded", "added"],
  ];
  return tableLines([head, ...lines], columns);
}

/** Warnings about figures that are not those of the path. */
function loadedWarnings(result: LoadedResult): string[] {
  const { idle, isEcho, load, rttMs, sendErrorMs } = result;
  const lateMs = sendErrorMs?.p99 ?? 0;
  return present([
    idle && !isEcho &&
    "the replies are no echoes: --loaded needs a server that echoes (server --echo), or with --stamp a reflector",
    ...load ? loadWarnings(load) : [],
    load?.received === 0 && load.foreign === 0 &&
    `no datagram of the load was answered: is ${load.size} bytes too long?`,
    lateMs > Math.max(BUSY_MS, (rttMs.added?.p99 ?? 0) / 4) &&
    `this machine was busy: probes left up to ${
      timeText(lateMs)
    } late (p99), so their RTTs may be its own`,
  ]);
}

/**
 * Doubles the window of a load until that gets no quarter more through: the path is
 * full. The last window is the one to keep.
 */
export async function* growWindow(
  tryOne: (window: number) => Promise<Step>,
): AsyncGenerator<Step> {
  let before = 0;
  for (let window = FIRST_WINDOW; window <= MAX_WINDOW; window *= 2) {
    const step = await tryOne(window);
    yield step;
    // Of tries of one length; a rate from the first echo to the last hides pauses.
    if (step.received <= MIN_GAIN * before) return;
    before = step.received;
  }
}

/**
 * Searches for the largest rate up to `max` that is not too high, to 2 %: doubled
 * from a low one, then by bisection, with the rate of the replies as the first guess.
 */
export async function* searchRate(
  max: number,
  tryOne: (rate: number) => Promise<Step>,
): AsyncGenerator<Step> {
  let [low, high] = [0, Infinity];
  let [next, isGuess] = [Math.min(FIRST_RATE, max), false];
  for (let tries = 0; tries < MAX_TRIES; tries++) {
    const step = await tryOne(next);
    yield step;
    const { why, receivedPerSecond = 0 } = step;
    if (why === undefined) low = next;
    else high = next;
    if (low >= max || low >= high * (1 - PRECISION) || high < 1) return;
    const guess = why === undefined
      ? isGuess ? low / (1 - PRECISION) : 0
      : receivedPerSecond;
    isGuess = why !== undefined && guess > low && guess < high;
    const middle = high === Infinity ? 2 * low : (low + high) / 2;
    next = guess > low && guess < high ? guess : middle;
    // Whole numbers, as far as there are some between both.
    if (high - low > 2) next = Math.ceil(next);
    next = Math.min(next, max);
  }
}

/**
 * Why a rate is too high, if it is: by loss, or by a queue that grew from the first to
 * the last quarter of the try, and was not seen to be full.
 */
export function tooHigh(
  { lossPercent = 0, kernelDrops = 0, sentPerSecond, rate }:
    & Pick<LoadResult, "lossPercent" | "kernelDrops" | "sentPerSecond">
    & { rate: number },
  quarters: Array<Pick<Interval, "rttMs">>,
  maxLoss: number,
): string | undefined {
  if (sentPerSecond !== undefined && sentPerSecond < MIN_REACHED * rate) {
    return `too high: this machine sent ${Math.round(sentPerSecond)} a second`;
  }
  if (lossPercent > maxLoss) {
    const place = kernelDrops > 0 ? ` (${kernelDrops} in this machine)` : "";
    return `too high: more than ${maxLoss}% is lost${place}`;
  }
  const [first, , , last] = quarters;
  const grownMs = (last?.rttMs?.median ?? 0) - (first?.rttMs?.median ?? 0);
  return grownMs > GROWN_MS
    ? `too high: the queue grew by ${timeText(grownMs)}`
    : undefined;
}

/** The first rate of a search. */
export const FIRST_RATE = 100;
const PRECISION = 0.02;
const MAX_TRIES = 24;
const MIN_REACHED = 0.98;
/** Growth of the median in three quarters of a try that is no jitter. */
const GROWN_MS = 10;
const FIRST_WINDOW = 16;
const MAX_WINDOW = 4096;
const MIN_GAIN = 1.25;
/** The error of offsets whose bounds are of two phases. */
const CLOCK_MS = 1;
/** Lateness of probes that is no timer's. */
const BUSY_MS = 5;

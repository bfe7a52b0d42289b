/**
 * Latency under load: columns, lines, and the rule by which a load grows. Pure.
 *
 * @module
 */
import type { LoadResult } from "../../client/load.ts";
import type { SeriesSummary } from "../../client/series.ts";
import type { MeasureResult } from "../../stamp/session_result.ts";
import type { Distribution } from "../../stats/distribution.ts";
import { aboveMinimum, type Summary } from "../../stats/statistics.ts";
import * as column from "./columns.ts";
import {
  durationText,
  lossText,
  milliseconds,
  present,
  tableLines,
  timeText,
} from "./format.ts";
import { LOAD_COLUMNS, type LoadRow, loadWarnings, rateText } from "./load.ts";
import { lossLines, silenceLine } from "./loss.ts";
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
  bestPerSecond: number;
  isEcho: boolean | undefined;
  isStopped: boolean;
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
  bestPerSecond: { docs: "the most echoes a second of a try, 0 without one" },
  isEcho: { docs: "whether the server returned the probes, if it answered" },
  isStopped: { docs: "whether a signal ended the run" },
};

/** One try of a load. */
export interface Step extends LoadResult {
  type: "step";
  rate?: number;
  window?: number;
  /** Why the rate is too high. */
  why?: string | undefined;
  /** Echoes a second in the last quarter of the try: no saved tokens are in it. */
  lastPerSecond?: number | undefined;
}

export const STEP_EVENTS: column.EventColumns = {
  step: {
    rate: { docs: "datagrams a second asked for", optional: true },
    window: { docs: "datagrams in flight", optional: true },
    ...column.only("sent", "received", "lossPercent", "sentPerSecond"),
    ...column.only("receivedPerSecond", "receivedBitsPerSecond", "rttMs"),
    ...column.only("durationMs"),
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
    (rate === undefined
      ? `${window} in flight: `
      : `${rate} a second for ${durationText(load.durationMs)}: `) +
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
  more: Partial<LoadedResult> = {},
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
    isEcho: idle?.probed.received ? idle.isEcho : undefined,
    ...{ bestPerSecond: 0, isStopped: false },
    ...more,
  };
}

/** The time-out of a load after a try: a lost datagram takes its place in the window. */
export function loadTimeoutMs({ rttMs }: Step, mostMs: number): number {
  const wantedMs = Math.max(MIN_TIMEOUT_MS, 4 * (rttMs?.p99 ?? Infinity));
  return Math.min(mostMs, wantedMs);
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

/** The lines about a load before anything is sent. */
export function announcement(asked: Asked, idleMs: number, loadMs: number) {
  const { target, rate, window, size } = asked;
  const [idle, load] = [idleMs, loadMs].map((ms) =>
    `${Number((ms / 1000).toPrecision(2))} s`
  );
  const how = rate !== undefined
    ? `${rateText(rate, 8 * size * rate)} of ${size} bytes`
    : window !== undefined
    ? `${window} datagrams of ${size} bytes in flight`
    : `datagrams of ${size} bytes, ${FIRST_WINDOW} in flight, ` +
      `doubled until loss begins, at most ${MAX_WINDOW}`;
  return `client: probes ${target} for ${idle}, then fills the path for ${load}:\n  ${how}`;
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
    ...loaded && loaded.outageCount > 0 ? lossLines(loaded) : [],
    loaded && !!load?.received && !isSilent(result) && queueLine(result),
  ]).join("\n");
}

/** What the loss of the load shows of the queue. */
function queueLine({ load, idle }: LoadedResult): string {
  const { lost, late, lossPercent = 0 } = load!;
  if (lost === 0) {
    return "the load lost no datagram: the queue was not full, and adds at least this";
  }
  const usual = idle?.lossPercent ?? 0;
  const arrived = late > 0 ? ` (${late} arrived late)` : "";
  const why = late > lost / 2
    ? ": the queue is longer than the time-out"
    : lossPercent > usualLoss(usual)
    ? ": a queue was full, or replies are limited (server --rate-limit)"
    : usual > 0
    ? ": the path loses datagrams while idle too"
    : "";
  return `the load lost ${lossText(lossPercent)}${arrived}, ` +
    `the idle probes ${lossText(usual)}${why}`;
}

/** The loss up to which a load loses as much as the idle path, by few probes. */
export function usualLoss(idlePercent = 0): number {
  return 2 * idlePercent + 1;
}

/** Whether the server did not answer at the end of the load. */
export function isSilent({ loaded }: LoadedResult): boolean {
  const outage = loaded?.outages.at(-1);
  return outage !== undefined && outage.toMs === undefined;
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
  const { isEcho, loaded, load, rttMs, sendErrorMs, bestPerSecond } = result;
  const lateMs = sendErrorMs?.p99 ?? 0;
  const ownMs = (load?.received && rttMs.loaded?.median || 0) -
    (load?.rttMs?.median ?? Infinity);
  const { receivedPerSecond = Infinity, outages = [] } = load ?? {};
  const pauses = outages.map(({ fromMs, toMs = load!.durationMs }) =>
    toMs - fromMs
  );
  const pauseMs = Math.max(0, ...pauses);
  const paused = pauseMs > MAX_PAUSE_MS;
  const [reached, best] = [receivedPerSecond, bestPerSecond].map(Math.round);
  return present([
    isEcho === false &&
    "the replies are no echoes: --loaded needs a server that echoes (server --echo), or with --stamp a reflector",
    ...load ? loadWarnings(load) : [],
    !!load?.kernelDrops &&
    `${load.kernelDrops} echoes are lost in this machine, not on the path: it was too slow to read them`,
    isSilent(result)
      ? `the server no longer answered at the end${
        loaded!.reasons.length > 0 ? `: ${loaded!.reasons[0]!.reason}` : ""
      }`
      : load && load.received > 0 &&
        (paused || receivedPerSecond < bestPerSecond / 2) &&
        `the path was not full, so the added time is too small: the load ${
          paused
            ? `had no echo for ${durationText(pauseMs)}`
            : `got ${reached} a second through, its best try ${best}`
        } (replies are limited? server --rate-limit 0 does not)`,
    load?.received === 0 && load.foreign === 0 && !!loaded?.received &&
    `no datagram of the load was answered: is ${load.size} bytes too long?`,
    ownMs > Math.max(1, (load?.rttMs?.median ?? 0) / 2) &&
    "this client is the limit, not the path: its probes took longer than its load",
    lateMs > Math.max(BUSY_MS, (rttMs.added?.p99 ?? 0) / 4) &&
    `this machine was busy: probes left up to ${
      timeText(lateMs)
    } late (p99), so their RTTs may be its own`,
  ]);
}

/**
 * Doubles the window of a load until that gets no quarter more through, and more is
 * lost than usual: the queue is full. The last window is the one to keep.
 */
export async function* growWindow(
  tryOne: (window: number) => Promise<Step>,
  usualPercent = 0,
): AsyncGenerator<Step> {
  let before = 0;
  for (let window = FIRST_WINDOW; window <= MAX_WINDOW; window *= 2) {
    const step = await tryOne(window);
    yield step;
    // Of tries of one length; a rate from the first echo to the last hides pauses.
    const { received, lossPercent = 0 } = step;
    const isFull = received <= MIN_GAIN * before && lossPercent > usualPercent;
    if (received === 0 || isFull) return;
    before = step.received;
  }
}

const FIRST_WINDOW = 16;
const MAX_WINDOW = 4096;
const MIN_GAIN = 1.25;
const MIN_TIMEOUT_MS = 100;
/** The longest outage of a load that fills the path. */
const MAX_PAUSE_MS = 500;
/** The error of offsets whose bounds are of two phases. */
const CLOCK_MS = 1;
/** Lateness of probes that is no timer's. */
const BUSY_MS = 5;

/**
 * `client --loaded`: the latency of a path while it is idle, and under load; and
 * `client --find-rate`: the largest rate at which nearly all datagrams are echoed.
 *
 * @module
 */
import { formatAddress, type UdpAddress } from "../../address.ts";
import { type Load, load as loadOf } from "../../client/load.ts";
import { requestMany, type SeriesEvent } from "../../client/series.ts";
import type { OriginOptions } from "../../client/target.ts";
import { encode } from "../../encoding.ts";
import { echo } from "../../server/responders.ts";
import type { Interval } from "../../stats/books.ts";
import { measure } from "../../stamp/measure.ts";
import { stampReflector } from "../../stamp/reflector.ts";
import type { MeasureEvent } from "../../stamp/session_result.ts";
import { Distribution } from "../../stats/distribution.ts";
import type { Sample } from "../../stats/sample.ts";
import { LOADED_DEFAULTS } from "../client_flags.ts";
import { type LineWriter, note } from "../output.ts";
import * as column from "../show/columns.ts";
import { durationText } from "../show/format.ts";
import { rateText } from "../show/load.ts";
import {
  noRate,
  searchBounds,
  searchMs,
  type SearchPlan,
  searchRate,
  tooHigh,
} from "../show/find_rate.ts";
import {
  announcement,
  growWindow,
  isSilent,
  LOADED_VIEW,
  loadedResult,
  loadTimeoutMs,
  type Phase,
  type Probed,
  type Step,
  STEP_EVENTS,
  stepLine,
  usualLoss,
} from "../show/loaded.ts";
import { silenceLine } from "../show/loss.ts";
import { type ReportOptions, showRun, type View } from "../show/reporter.ts";
import type { RunOutcome } from "../thresholds.ts";
import { type Counts, Parts } from "../parts.ts";
import { warmUp } from "./warm_up.ts";

/** The load, and the probes before and beside it. */
export interface LoadedOptions extends OriginOptions {
  /** Of the load; without both the window grows. */
  rate?: number | undefined;
  window?: number | undefined;
  /** The bytes of a datagram of the load. */
  size?: number | undefined;
  /** The length of both phases: a third is idle. */
  durationMs: number;
  /** From one probe to the next. */
  intervalMs: number;
  /** Whether probes are STAMP packets, else datagrams for an echo. */
  isStamp: boolean;
  timeoutMs: number;
}

export async function runLoaded(
  target: UdpAddress,
  options: LoadedOptions,
  report: ReportOptions,
  out: LineWriter,
): Promise<RunOutcome> {
  const { rate, window, size = LOADED_DEFAULTS.size, ...others } = options;
  const { durationMs, intervalMs, isStamp, ...shared } = others;
  const [idleMs, loadMs] = [durationMs / 3, durationMs * 2 / 3];
  const load = { rate, window, size };
  note(
    announcement({ target: formatAddress(target), ...load }, idleMs, loadMs),
  );
  await warmUp(
    async (server) => {
      const { engine } = shared;
      const brief = { engine, timeoutMs: 100, telemetry: false };
      const few = { ...brief, intervalMs: 0.5, count: 20 };
      await new Probes(server, isStamp, few).complete(new Parts());
      await Array.fromAsync(loadOf(server, { ...brief, size, ...WARM_UP }));
    },
    isStamp ? stampReflector() : echo(),
    { engine: shared.engine, guard: false, quiet: true },
  );
  const parts = new Parts();
  const onSample = inOneRun(report.onSample);
  let [idle, loaded]: Array<Probes | undefined> = [];
  let main: Load | undefined;
  const newProbes = (ms: number, base = 0) =>
    new Probes(parts.target ?? target, isStamp, {
      ...shared,
      intervalMs,
      count: Math.max(1, Math.floor(ms / intervalMs)),
      onSample: (sample) => onSample(sample, base),
    });
  let { timeoutMs } = shared;
  let bestPerSecond = 0;
  const newLoad = (durationMs: number) =>
    loadOf(parts.target!, { ...shared, ...load, durationMs, timeoutMs });
  const tryWindow = async (window: number): Promise<Step> => {
    load.window = window;
    const durationMs = Math.max(MIN_STEP_MS, loadMs / STEPS);
    const tried = newLoad(durationMs);
    await parts.complete(tried);
    const step: Step = { type: "step", window, ...tried.summary() };
    timeoutMs = loadTimeoutMs(step, shared.timeoutMs);
    // Few echoes that arrive together are no rate.
    const most = 1000 * step.received / durationMs;
    const { receivedPerSecond: reached = most } = step;
    bestPerSecond = Math.max(bestPerSecond, Math.min(reached, most));
    return step;
  };

  const run = parts.handle<Step>(async function* () {
    idle = newProbes(idleMs);
    await idle.complete(parts);
    if (!idle.isAnswered || parts.isStopped) return;
    const endsAt = performance.now() + loadMs;
    const { lossPercent } = idle.probed;
    const steps = rate !== undefined
      ? []
      : window !== undefined
      ? [tryWindow(window)]
      : growWindow(tryWindow, usualLoss(lossPercent));
    for await (const step of steps) {
      yield step;
      // Each lost datagram of a try takes the time-out.
      if (performance.now() > endsAt - loadMs / 3) break;
    }
    const leftMs = Math.max(loadMs / 3, endsAt - performance.now());
    main = newLoad(leftMs);
    const loading = parts.complete(main);
    const rampMs = Math.min(MAX_RAMP_MS, leftMs / 4);
    await Promise.race([loading, parts.pause(rampMs)]);
    if (parts.isStopped) return await loading;
    loaded = newProbes(leftMs - rampMs, idle.run.sent);
    await Promise.all([loading, loaded.complete(parts)]);
  });
  const result = (target: string) => ({
    ...loadedResult({ target, ...load }, idle, loaded, main?.summary(), {
      bestPerSecond,
      isStopped: parts.isStopped,
    }),
    ...parts.counts(),
  });
  const ended = await showRun(run, target, result, LOADED_VIEW, report, out);
  const { sent, received, lossPercent } = ended.loaded ?? ended.idle!;
  const isRight = ended.isEcho && ended.load?.received !== 0 &&
    !isSilent(ended);
  // Without a load there is no RTT under load.
  const { rttMs } = ended.loaded ?? {};
  return { sent, received: isRight ? received : 0, lossPercent, rttMs };
}

/** The probes of a phase: a series for an echo, or a measurement. */
class Probes implements Phase {
  readonly run;
  readonly forward = new Distribution({ isRelative: true });
  readonly backward = new Distribution({ isRelative: true });
  readonly lateness = new Distribution();
  isEcho = true;

  constructor(
    readonly target: UdpAddress,
    isStamp: boolean,
    { onSample, ...options }: OriginOptions & {
      count: number;
      intervalMs: number;
      timeoutMs: number;
      onSample?: (sample: Sample) => void;
    },
  ) {
    const all = {
      ...options,
      onSample: (sample: Sample) => {
        this.lateness.add(sample.sentMs - sample.dueMs);
        onSample?.(sample);
      },
    };
    this.run = isStamp
      // The kernel's time of a send would leave out the queue of this machine.
      ? measure(target, { ...all, clock: "program" })
      : requestMany(target, PROBE, { ...all, retries: 0 });
  }

  /** Whether there is a reply, and all are right. */
  get isAnswered(): boolean {
    return this.isEcho && this.run.summary().received > 0;
  }

  get probed(): Probed {
    const { target } = this;
    return { target: formatAddress(target), ...this.run.summary() };
  }

  complete(parts: Parts): Promise<void> {
    return parts.complete<SeriesEvent | MeasureEvent>(this.run, (event) => {
      if (event.type !== "reply") return;
      if ("reply" in event) {
        this.isEcho &&= event.reply.data.toHex() === PROBE.toHex();
        return;
      }
      const { forwardMs, backwardMs } = event.sample;
      if (forwardMs === undefined || backwardMs === undefined) return;
      this.forward.add(forwardMs);
      this.backward.add(backwardMs);
    });
  }
}

/** Passes on the samples of both phases as those of one run. */
function inOneRun(
  onSample: ReportOptions["onSample"],
): (sample: Sample, base: number) => void {
  let firstAt: number | undefined;
  return (sample, base) => {
    const { seq, sentMs, dueMs, sentAt } = sample;
    const startedAt = sentAt - sentMs;
    firstAt ??= startedAt;
    const ms = startedAt - firstAt;
    const times = { sentMs: sentMs + ms, dueMs: dueMs + ms };
    onSample?.({ ...sample, seq: seq + base, ...times });
  };
}

const PROBE = encode("roundtrip probe");
const WARM_UP = { window: 64, count: 20_000 };
/** The time of the load that is left out: its first datagrams fill the path. */
const MAX_RAMP_MS = 500;
/** A window is tried for this part of the load's time. */
const STEPS = 24;
const MIN_STEP_MS = 50;

/** The tries of a search. */
export interface FindRateOptions extends OriginOptions, SearchPlan {
  size?: number | undefined;
  timeoutMs: number;
}

/** The outcome of a search. */
interface RateResult extends Counts {
  target: string;
  size: number;
  maxLoss: number;
  /** The largest rate that was not too high; undefined if all were. */
  rate: number | undefined;
  bitsPerSecond: number | undefined;
  heldMs: number | undefined;
  /** Whether no larger rate was tried. */
  isBound: boolean;
  isStopped: boolean;
  why: string | undefined;
}

export const RATE_COLUMNS = {
  target: column.TARGET,
  size: { docs: "bytes of each datagram" },
  maxLoss: { docs: "`--max-loss`, in percent" },
  rate: { docs: "the largest rate that was not too high, if any" },
  bitsPerSecond: { docs: "bits of its payload" },
  heldMs: { docs: "the length of the try at that rate, without the wait" },
  isBound: { docs: "whether it is `--rate`, beyond which none was tried" },
  isStopped: { docs: "whether a signal ended the search" },
  why: { docs: "why there is no rate" },
  ...column.only("sent", "received", "lost", "foreign", "reasons"),
} satisfies column.Columns<RateResult>;

const RATE_VIEW: View<Step, RateResult> = {
  list: "steps",
  events: STEP_EVENTS,
  result: RATE_COLUMNS,
  line: stepLine,
  silence: silenceLine,
  lines({ target, size, maxLoss, rate, why, ...result }) {
    if (why !== undefined) return `${target}: ${why}`;
    const { bitsPerSecond, heldMs, isBound, isStopped } = result;
    if (rate === undefined) {
      return isStopped ? `${target}: stopped before a rate was found` : "";
    }
    const head = isStopped ? "stopped; at least" : isBound ? "at least" : "";
    const found = `${rateText(rate, bitsPerSecond)} of ${size} bytes`;
    return `${target}: ${head || "largest rate"} ${found}, ` +
      `with at most ${maxLoss}% lost in ${durationText(heldMs!)}`;
  },
};

/** Finds the rate, shows each try, and gives the result. */
export async function runRate(
  target: UdpAddress,
  options: FindRateOptions,
  report: ReportOptions,
  out: LineWriter,
): Promise<RunOutcome> {
  const { size = LOADED_DEFAULTS.size, ...others } = options;
  const { maxRate, stepMs, maxLoss, ...shared } = others;
  const { first: least } = searchBounds(others);
  const most = 8 * size * maxRate;
  const totalMs = searchMs(others, shared.timeoutMs);
  note(
    `client: loads ${formatAddress(target)} in tries of ${stepMs / 1000} s ` +
      `or more, ${durationText(totalMs)} at most:\n  datagrams of ${size} ` +
      `bytes, ${least} to at most ${rateText(maxRate, most)}`,
  );
  await warmUp(
    async (server) => {
      const { engine } = shared;
      const brief = { engine, size, timeoutMs: 100, telemetry: false };
      await Array.fromAsync(loadOf(server, { ...brief, ...RATE_WARM_UP }));
    },
    echo(),
    { engine: shared.engine, guard: false, quiet: true },
  );
  const parts = new Parts();
  const first = loadOf(target, { ...shared, size, window: 1, count: FIRST });
  let best: Step | undefined;
  let last: Step | undefined;
  const tryRate = async (rate: number, durationMs: number): Promise<Step> => {
    const reportMs = Math.max(1, durationMs / QUARTERS);
    const pace = { rate, durationMs, reportMs };
    const once = { ...shared, size, ...pace, mayBlock: true };
    const run = loadOf(parts.target!, once);
    const quarters: Interval[] = [];
    await parts.complete(run, (interval) => quarters.push(interval));
    const result = run.summary();
    const why = tooHigh({ ...result, rate }, quarters, maxLoss);
    const { received = 0 } = quarters[QUARTERS - 1] ?? {};
    const lastPerSecond = 1000 * received / reportMs;
    return { type: "step", ...result, rate, why, lastPerSecond };
  };
  const run = parts.handle<Step>(async function* () {
    await parts.complete(first);
    if (first.summary().received === 0) return;
    for await (const step of searchRate(others, tryRate)) {
      if (parts.isStopped) return;
      if (step.why === undefined) best = step;
      else if (step.rate! <= (best?.rate ?? 0)) best = undefined;
      last = step;
      yield step;
    }
  });
  const result = (target: string) => {
    const { isStopped } = parts;
    const why = isStopped || last?.why === undefined ? undefined : noRate(last);
    const { rate, durationMs } = why === undefined && best || {};
    return {
      ...{ target, size, maxLoss, rate, heldMs: durationMs },
      bitsPerSecond: rate && 8 * size * rate,
      isBound: rate === maxRate,
      ...{ isStopped, why },
      ...parts.counts(),
    };
  };
  const ended = await showRun(run, target, result, RATE_VIEW, report, out);
  const { sent, rate } = ended;
  return { sent, received: rate === undefined ? 0 : best!.received };
}

const RATE_WARM_UP = { rate: 20_000, count: 2000 };
/** The number of datagrams that show whether there is an echo. */
const FIRST = 3;
const QUARTERS = 4;

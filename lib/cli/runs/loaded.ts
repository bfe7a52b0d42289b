/**
 * `client --loaded`: the latency of a path while it is idle, and under load.
 *
 * @module
 */
import { formatAddress, type UdpAddress } from "../../address.ts";
import { type Load, load as loadOf } from "../../client/load.ts";
import { requestMany, type SeriesEvent } from "../../client/series.ts";
import type { OriginOptions } from "../../client/target.ts";
import { encode } from "../../encoding.ts";
import { echo } from "../../server/responders.ts";
import { measure } from "../../stamp/measure.ts";
import { stampReflector } from "../../stamp/reflector.ts";
import type { MeasureEvent } from "../../stamp/session_result.ts";
import { Distribution } from "../../stats/distribution.ts";
import type { Sample } from "../../stats/sample.ts";
import { LOADED_DEFAULTS } from "../client_flags.ts";
import { type LineWriter, note } from "../output.ts";
import {
  announcement,
  growWindow,
  LOADED_VIEW,
  loadedResult,
  type Phase,
  type Probed,
  type Step,
} from "../show/loaded.ts";
import { type ReportOptions, showRun } from "../show/reporter.ts";
import type { RunOutcome } from "../thresholds.ts";
import { Parts } from "../parts.ts";
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
  const newLoad = (durationMs: number) =>
    loadOf(parts.target!, { ...shared, ...load, durationMs });
  const tryWindow = async (window: number): Promise<Step> => {
    load.window = window;
    const tried = newLoad(Math.max(MIN_STEP_MS, loadMs / STEPS));
    await parts.complete(tried);
    return { type: "step", window, ...tried.summary() };
  };

  const run = parts.handle<Step>(async function* () {
    idle = newProbes(idleMs);
    await idle.complete(parts);
    if (!idle.isAnswered || parts.isStopped) return;
    const endsAt = performance.now() + loadMs;
    const isOpen = rate === undefined && window === undefined;
    for await (const step of isOpen ? growWindow(tryWindow) : []) {
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
    ...loadedResult({ target, ...load }, idle, loaded, main?.summary()),
    ...parts.counts(),
  });
  const ended = await showRun(run, target, result, LOADED_VIEW, report, out);
  const { sent, received, lossPercent, rttMs } = ended.loaded ?? ended.idle!;
  const isRight = ended.isEcho && ended.load?.received !== 0;
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

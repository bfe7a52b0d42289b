/**
 * One target of `--watch`: an endless run, begun anew after an error or a change of
 * address, its state, and its last hour.
 *
 * @module
 */
import { formatAddress, ipVersion, type UdpAddress } from "../../address.ts";
import { errorMessage } from "../../base/errors.ts";
import { RTT_BOUNDS_S } from "../../base/telemetry.ts";
import { seriesOf } from "../../client/series.ts";
import type { ClientFigures } from "../../client/telemetry.ts";
import { repeatTo } from "../../encoding.ts";
import {
  addressesOf,
  denoRuntime,
  type Runtime,
} from "../../socket/runtime.ts";
import { measurementOf } from "../../stamp/measure.ts";
import { CoarseHistogram, coarseValues } from "../../stats/coarse_histogram.ts";
import { lossPercentOf, NO_COUNTS, type Reason } from "../../stats/counts.ts";
import { Distribution } from "../../stats/distribution.ts";
import type { Outage } from "../../stats/loss_periods.ts";
import type { Sample } from "../../stats/sample.ts";
import { addressed, boundedRuntime, keyFor, resolveOrigin } from "./ends.ts";
import { missedBounds } from "../thresholds.ts";
import type { TargetPlan, WatchTarget } from "../watch_plan.ts";
import type { Row } from "../show/row.ts";
import { type Change, type TargetOutage, WatchState } from "../watch_state.ts";
import {
  HOUR_MS,
  KEPT,
  MINUTE_MS,
  type Part,
  partOf,
} from "../show/history.ts";

/** The listeners of a target. */
export interface TargetListener {
  onChange(change: Change): void;
  onPart?: ((part: Part) => void) | undefined;
  onOutage?: ((outage: TargetOutage) => void) | undefined;
}

/** The place of an RTT among the telemetry's bounds. */
export function bucketOf(rttMs: number): number {
  const bucket = RTT_BOUNDS_S.findIndex((bound) => rttMs <= 1000 * bound);
  return bucket < 0 ? RTT_BOUNDS_S.length : bucket;
}

/** The run of a plan. */
export async function runOf(
  plan: TargetPlan,
  target: UdpAddress,
  options: {
    count: number;
    maxSockets?: number;
    reportMs?: number;
    deadlineMs?: number;
    onSample?: (sample: Sample) => void;
  },
  runtime: Runtime = boundedRuntime(plan.options.engine ?? "deno"),
) {
  const size = plan.sizes[0];
  await requirePermission(target, runtime);
  if (plan.mode === "stamp") {
    const { maxSockets: _, ...own } = options;
    const key = await keyFor(plan, target);
    const origin = resolveOrigin(plan.options, target);
    const all = { ...origin, ...own, runtime, size, key, mayBlock: false };
    return measurementOf(target, all, false);
  }
  const { options: given, report: { expected } } = plan;
  const payload = plan.payload as Uint8Array;
  const bytes = size === undefined ? payload : repeatTo(payload, size);
  return seriesOf(target, bytes, {
    ...resolveOrigin(given, target),
    retries: given.retries ?? 0,
    ...options,
    runtime,
    maxDatagramBytes: MAX_REPLY_BYTES,
    match: (data) => expected?.holds(data) ?? true,
  });
}

/** Throws where Deno would ask the user, who holds up all targets meanwhile. */
async function requirePermission(
  { hostname, port }: UdpAddress,
  runtime: Runtime,
): Promise<void> {
  const addresses = await addressesOf(hostname, runtime);
  if (addresses.some((one) => runtime.isPermitted({ hostname: one, port }))) {
    return;
  }
  const asked = formatAddress({ hostname: addresses[0]!, port });
  throw new Deno.errors.NotCapable(
    `Deno may not send to it, run with --allow-net=${asked}`,
  );
}

type WatchRun = Awaited<ReturnType<typeof runOf>>;

/** A target, watched until it is stopped. */
export class Target {
  readonly state: WatchState;
  /** The parts of the last hour that have ended. */
  #parts: Part[] = [];
  #outages: TargetOutage[] = [];
  /** Numbers of RTTs up to each of the telemetry's bounds, and above; and their sum. */
  readonly buckets = new Float64Array(RTT_BOUNDS_S.length + 1);
  rttSumMs = 0;
  readonly #finished: Promise<void>;
  #run: WatchRun | undefined;
  #isStopped = false;
  readonly #stopping = Promise.withResolvers<undefined>();
  #wake = () => {};
  /** The counts of the runs that have ended. */
  readonly #ended = new Map<string, number>();
  #checkedAt = 0;
  /** The figures at the last reply. */
  #before: ReturnType<Target["figures"]> = {};
  /** Datagrams of the lasting outage in runs that have ended. */
  #missingBefore = 0;
  /** The RTTs of the current part. */
  readonly #rtts = new CoarseHistogram();
  /** The last minute: RTTs, -1 for unknown ones, NaN for missing replies. */
  readonly #recent: Float64Array;
  #settled = 0;
  #hour: Pick<Row, "lossHour" | "medianMs" | "p99Ms"> | undefined;
  #version = 0;
  /** The figures at the end of the last part. */
  #counted: ClientFigures = {};
  readonly #createdAt = denoRuntime.now();

  constructor(
    readonly watched: WatchTarget,
    readonly maxSockets: number,
    readonly listener: TargetListener,
    history: { parts: Part[]; outages: TargetOutage[] },
  ) {
    this.state = new WatchState(denoRuntime.now(), watched.holdMs, {
      onChange: (change) =>
        listener.onChange(
          change.type === "down"
            ? { ...change, since: unixOf(change.since) }
            : change,
        ),
      onOutage: (outage) => {
        const dated = datedOutage(outage);
        this.#outages = [...this.#outages, dated].slice(-MAX_OUTAGES);
        this.#missingBefore = 0;
        listener.onOutage?.(dated);
      },
    });
    this.#parts = history.parts;
    this.#outages = history.outages;
    if (this.#parts.length > 0) this.#readHour();
    const { intervalMs = 1000 } = watched.plan.options;
    const perMinute = Math.round(MINUTE_MS / intervalMs);
    this.#recent = new Float64Array(Math.min(600, Math.max(10, perMinute)));
    this.#finished = this.#watch(Math.min(intervalMs, MAX_PHASE_MS));
  }

  /** Ends it, and resolves when all of it is reported. */
  stop(): Promise<void> {
    this.#isStopped = true;
    this.#stopping.resolve(undefined);
    this.#run?.end();
    this.#wake();
    return this.#finished;
  }

  /** The figures since the start; levels are those of the current run. */
  figures(): ClientFigures & { reasons?: readonly Reason[] } {
    const figures: Record<string, unknown> = {
      ...NO_COUNTS,
      ...this.#run?.figures(),
    };
    for (const [name, value] of this.#ended) {
      figures[name] = value + Number(figures[name] ?? 0);
    }
    const { outageCount } = this.state;
    const outageMs = this.state.outageMs(denoRuntime.now());
    return { ...figures, outageCount, outageMs };
  }

  /** The parts of the last hour, and the current one. */
  get parts(): Part[] {
    const [figures, counted] = [this.figures(), this.#counted];
    const counts = KEPT.map((name) =>
      [name, (figures[name] ?? 0) - (counted[name] ?? 0)] as const
    );
    const now = Date.now();
    const current = {
      at: now - now % MINUTE_MS,
      ...Object.fromEntries(counts),
      rtts: this.#rtts.text,
    } as Part;
    return [...this.#parts, current];
  }

  /** A number that grows with each minute; in the first one in steps. */
  get version(): number {
    const ageMs = denoRuntime.now() - this.#createdAt;
    const step = Math.min(99, Math.floor(ageMs / STEP_MS));
    return this.#version === 0 ? step : this.#version * 100;
  }

  /** The latest outages, by the wall clock; the last one may last. */
  get outages(): TargetOutage[] {
    const { lasting } = this.state;
    return lasting ? [...this.#outages, datedOutage(lasting)] : this.#outages;
  }

  /** The row of the page. */
  row(): Row {
    const { name, labels, plan } = this.watched;
    const { state, since, why, missed } = this.state;
    const { lossPercent = null, rtts } = this.#recentFigures();
    const rttMs = rtts.summary();
    const outage = this.outages.at(-1);
    // Without a run there is no last minute.
    const lossNow = this.#run === undefined ? null : lossPercent;
    return {
      ...{ name, labels, state, missed: [...missed], lossNow, why },
      address: formatAddress(this.#run?.target ?? plan.targets[0]!),
      since: unixOf(since),
      lossHour: lossNow,
      medianMs: rttMs?.median ?? null,
      p99Ms: rttMs?.p99 ?? null,
      // Known after the first minute.
      ...this.#hour,
      lastOutage: outage === undefined ? null : {
        at: outage.fromMs,
        seconds: outage.toMs === undefined
          ? null
          : (outage.toMs - outage.fromMs) / 1000,
        datagrams: outage.datagrams,
      },
      version: this.version,
    };
  }

  async #watch(phaseMs: number): Promise<void> {
    await this.#pause(Math.random() * phaseMs);
    while (!this.#isStopped) {
      try {
        await this.#runOnce();
        await this.#pause(0);
      } catch (error) {
        const now = denoRuntime.now();
        this.state.goDown(now, errorMessage(error), this.#missingBefore);
        this.state.look(now, []);
        const { holdMs } = this.watched;
        await this.#pause(Math.min(RETRY_MS, Math.max(holdMs, MIN_RETRY_MS)));
      }
    }
    this.state.end(denoRuntime.now());
  }

  /** One run, to its end. */
  async #runOnce(): Promise<void> {
    // A look-up cannot be cancelled, but the end does not wait for it.
    const run = await Promise.race([this.#makeRun(), this.#stopping.promise]);
    if (run === undefined || this.#isStopped) return;
    this.#run = run;
    this.#before = this.figures();
    run.workload.books!.onOutage = (outage) => this.#endOutage(run, outage);
    try {
      for await (const event of run) {
        if (event.type === "interval") this.#endPart(run, partOf(event));
        if (event.type === "reply") this.#before = this.figures();
        this.#look(run);
      }
    } finally {
      const figures: Record<string, unknown> = { ...run.figures() };
      this.#run = undefined;
      for (const name of SUMMED) {
        const value = figures[name];
        if (typeof value === "number") this.#count(name, value);
      }
      this.#missingBefore = this.state.lasting?.datagrams ?? 0;
    }
  }

  async #makeRun(): Promise<WatchRun> {
    const { plan } = this.watched;
    const runtime = boundedRuntime(plan.options.engine ?? "deno");
    const target = await addressed(plan.targets[0]!, plan.version, runtime);
    return await runOf(plan, target, {
      count: Infinity,
      maxSockets: this.maxSockets,
      reportMs: MINUTE_MS,
      onSample: (sample) => this.#add(sample),
    }, runtime);
  }

  /** Adds to a figure of all runs. */
  #count(name: string, value: number): void {
    this.#ended.set(name, (this.#ended.get(name) ?? 0) + value);
  }

  #pause(ms: number): Promise<void> {
    return new Promise((resolve) => {
      const timer = setTimeout(resolve, this.#isStopped ? 0 : ms);
      this.#wake = () => {
        clearTimeout(timer);
        resolve();
      };
    });
  }

  #add({ outcome, rttMs }: Sample): void {
    if (outcome === "pending") return;
    const unknown = outcome === "received" ? -1 : NaN;
    this.#recent[this.#settled++ % this.#recent.length] = rttMs ?? unknown;
    if (rttMs === undefined) return;
    this.#rtts.add(rttMs);
    this.rttSumMs += rttMs;
    this.buckets[bucketOf(rttMs)]!++;
  }

  /** The loss and the RTTs of about the last minute. */
  #recentFigures() {
    const known = this.#recent.subarray(0, this.#settled);
    const rtts = new Distribution();
    for (const rttMs of known) if (rttMs >= 0) rtts.add(rttMs);
    const lost = known.reduce((sum, ms) => sum + (Number.isNaN(ms) ? 1 : 0), 0);
    const received = known.length - lost;
    return { lossPercent: lossPercentOf({ received, lost, unsent: 0 }), rtts };
  }

  /** Follows the state of the run after an event. */
  #look(run: WatchRun): void {
    const { state, watched: { plan: { maxLoss, maxRtt, options } } } = this;
    const books = run.workload.books!;
    const outage = books.latestOutage;
    const now = denoRuntime.now();
    if (outage !== undefined && outage.toMs === undefined) {
      const datagrams = this.#missingBefore + outage.datagrams;
      state.goDown(run.startedAt + outage.fromMs, this.#reason(), datagrams);
      const isBound = options.localHostname !== undefined;
      const isUnsent = outage.unsent === outage.datagrams;
      // The address of an interface may have changed.
      if (isBound && isUnsent && outage.unsent >= MAX_UNSENT) run.end();
    } else if (books.received > 0) state.goUp(now);
    if (now - this.#checkedAt < CHECK_MS) return;
    this.#checkedAt = now;
    const hasBounds = maxLoss !== undefined || maxRtt !== undefined;
    state.look(now, hasBounds ? this.#missedBounds() : []);
  }

  #missedBounds(): string[] {
    const { maxLoss, maxRtt } = this.watched.plan;
    const { lossPercent, rtts } = this.#recentFigures();
    const found = { lossPercent, rttMs: rtts.summary() };
    return missedBounds(maxLoss, maxRtt, found);
  }

  /** An outage of a run has ended; it may be known only now. */
  #endOutage(run: WatchRun, { fromMs, toMs, datagrams }: Outage): void {
    const missing = this.#missingBefore + datagrams;
    this.state.goDown(run.startedAt + fromMs, this.#reason(), missing);
    this.state.goUp(run.startedAt + toMs!);
  }

  /** The report that grew most since the last reply. */
  #reason(): string {
    const { reasons = [], foreign = 0 } = this.figures();
    const grown = reasons.map(({ reason, count }) => {
      const before = this.#before.reasons?.find((one) => one.reason === reason);
      return { reason, by: count - (before?.count ?? 0) };
    }).toSorted((a, b) => b.by - a.by)[0];
    if (grown !== undefined && grown.by > 0) return grown.reason;
    return foreign > (this.#before.foreign ?? 0)
      ? "no reply is as expected"
      : "no answer";
  }

  #endPart(run: WatchRun, counts: Omit<Part, "rtts">): void {
    const part = { ...counts, rtts: this.#rtts.take() };
    this.#parts.push(part);
    this.#counted = this.figures();
    this.#readHour();
    this.listener.onPart?.(part);
    const { hostname } = this.watched.plan.targets[0]!;
    const isDue = this.#version % LOOKUP_PARTS === 0;
    if (isDue && ipVersion(hostname) === undefined) {
      this.#lookUp(run, hostname);
    }
  }

  /** Begins anew if a name has other addresses by now; an error changes nothing. */
  #lookUp(run: WatchRun, hostname: string): void {
    addressesOf(hostname, boundedRuntime("deno")).then((found) => {
      if (!found.includes(run.target?.hostname ?? "")) run.end();
    }, () => {});
  }

  #readHour(): void {
    const now = Date.now();
    this.#parts = this.#parts
      .filter(({ at }) => at > now - HOUR_MS && at <= now);
    const counts = { received: 0, lost: 0, unsent: 0 };
    for (const part of this.#parts) {
      counts.received += part.received;
      counts.lost += part.lost;
      counts.unsent += part.unsent;
    }
    const rtts = new Distribution();
    for (const part of this.#parts) {
      for (const [ms, count] of coarseValues(part.rtts)) rtts.add(ms, count);
    }
    const rttMs = rtts.summary();
    this.#version++;
    this.#hour = {
      lossHour: lossPercentOf(counts) ?? null,
      medianMs: rttMs?.median ?? null,
      p99Ms: rttMs?.p99 ?? null,
    };
  }
}

/** A time of the monotonic clock by the wall clock as it is now. */
function unixOf(at: number): number {
  return Math.round(Date.now() - (denoRuntime.now() - at));
}

function datedOutage({ fromMs, toMs, datagrams }: TargetOutage): TargetOutage {
  const from = unixOf(fromMs);
  const to = toMs === undefined ? undefined : from + Math.round(toMs - fromMs);
  return { fromMs: from, toMs: to, datagrams };
}

/** The memory of each of thousands of sockets. */
const MAX_REPLY_BYTES = 16_384;
/** The figures of a target that are sums over all of its runs. */
const SUMMED = [
  ...Object.keys(NO_COUNTS),
  ...["lostUp", "lostDown", "lostUnattributed"],
];
/** The largest random wait before the first datagram. */
const MAX_PHASE_MS = 10_000;
const MIN_RETRY_MS = 1000;
const RETRY_MS = 10_000;
const CHECK_MS = 100;
const STEP_MS = 5000;
/** Datagrams in a row that cannot be sent, before the ends are looked up again. */
const MAX_UNSENT = 10;
/** The parts after which a name is looked up. */
const LOOKUP_PARTS = 5;
const MAX_OUTAGES = 100;

/**
 * `client --find-rate`: the largest rate at which nearly all datagrams are echoed.
 *
 * @module
 */
import { formatAddress, type UdpAddress } from "../../address.ts";
import { load } from "../../client/load.ts";
import type { OriginOptions } from "../../client/target.ts";
import { echo } from "../../server/responders.ts";
import type { Interval } from "../../stats/books.ts";
import { LOADED_DEFAULTS } from "../client_flags.ts";
import { type LineWriter, note } from "../output.ts";
import * as column from "../show/columns.ts";
import { rateText } from "../show/load.ts";
import {
  FIRST_RATE,
  searchRate,
  type Step,
  STEP_EVENTS,
  stepLine,
  tooHigh,
} from "../show/loaded.ts";
import { silenceLine } from "../show/loss.ts";
import { type ReportOptions, showRun, type View } from "../show/reporter.ts";
import type { RunOutcome } from "../thresholds.ts";
import { type Counts, Parts } from "../parts.ts";
import { warmUp } from "./warm_up.ts";

/** The tries of a search. */
export interface FindRateOptions extends OriginOptions {
  size?: number | undefined;
  /** The bound of the rates. */
  maxRate: number;
  /** The length of each try. */
  stepMs: number;
  /** The percentage of loss that is no reason to try less. */
  maxLoss: number;
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
  /** Whether no larger rate was tried. */
  isBound: boolean;
  isStopped: boolean;
}

export const RATE_COLUMNS = {
  target: column.TARGET,
  size: { docs: "bytes of each datagram" },
  maxLoss: { docs: "`--max-loss`, in percent" },
  rate: { docs: "the largest rate that was not too high, if any" },
  bitsPerSecond: { docs: "bits of its payload" },
  isBound: { docs: "whether it is `--rate`, beyond which none was tried" },
  isStopped: { docs: "whether a signal ended the search" },
  ...column.only("sent", "received", "lost", "foreign", "reasons"),
} satisfies column.Columns<RateResult>;

const RATE_VIEW: View<Step, RateResult> = {
  list: "steps",
  events: STEP_EVENTS,
  result: RATE_COLUMNS,
  line: stepLine,
  silence: silenceLine,
  lines({ target, size, maxLoss, rate, received, ...result }) {
    const { bitsPerSecond, isBound, isStopped } = result;
    if (rate === undefined) {
      const hasNone = received > 0 && !isStopped;
      return hasNone ? `${target}: each rate was too high` : "";
    }
    const why = isStopped ? "stopped; at least" : isBound ? "at least" : "";
    const found = `${rateText(rate, bitsPerSecond)} of ${size} bytes`;
    return `${target}: ${
      why || "largest rate"
    } ${found}, with at most ${maxLoss}% lost`;
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
  const least = Math.min(FIRST_RATE, maxRate);
  const most = rateText(maxRate, 8 * size * maxRate);
  note(
    `client: loads ${formatAddress(target)} for ${
      stepMs / 1000
    } s at a time with ` +
      `datagrams of ${size} bytes, ${least} to at most ${most}`,
  );
  await warmUp(
    async (server) => {
      const { engine } = shared;
      const brief = { engine, size, timeoutMs: 100, telemetry: false };
      await Array.fromAsync(load(server, { ...brief, ...WARM_UP }));
    },
    echo(),
    { engine: shared.engine, guard: false, quiet: true },
  );
  const parts = new Parts();
  const first = load(target, { ...shared, size, window: 1, count: FIRST });
  let best: Step | undefined;
  const tryRate = async (rate: number): Promise<Step> => {
    const pace = { rate, durationMs: stepMs, reportMs: stepMs / QUARTERS };
    const once = { ...shared, size, ...pace, mayBlock: true };
    const run = load(parts.target!, once);
    const quarters: Interval[] = [];
    await parts.complete(run, (interval) => quarters.push(interval));
    const result = run.summary();
    const why = tooHigh({ ...result, rate }, quarters, maxLoss);
    return { type: "step", ...result, rate, why };
  };
  const run = parts.handle<Step>(async function* () {
    await parts.complete(first);
    if (first.summary().received === 0) return;
    for await (const step of searchRate(maxRate, tryRate)) {
      if (step.why === undefined && !parts.isStopped) best = step;
      yield step;
    }
  });
  const result = (target: string) => {
    const rate = best?.rate;
    return {
      ...{ target, size, maxLoss, rate },
      bitsPerSecond: rate && 8 * size * rate,
      isBound: rate === maxRate,
      isStopped: parts.isStopped,
      ...parts.counts(),
    };
  };
  const ended = await showRun(run, target, result, RATE_VIEW, report, out);
  return { sent: ended.sent, received: best?.received ?? 0 };
}

const WARM_UP = { rate: 20_000, count: 2000 };
/** The number of datagrams that show whether there is an echo. */
const FIRST = 3;
const QUARTERS = 4;

/**
 * Thresholds for the exit code: `--max-loss` and `--max-rtt`. Pure.
 *
 * @module
 */
import type { Summary } from "../stats/statistics.ts";
import { duration, type Kind, oneOf } from "./flags.ts";
import { FIGURES } from "./show/columns.ts";
import { milliseconds, percent } from "./show/format.ts";

/** The figures by their names on the command line. */
const NAMES = { ...FIGURES, p50: "median" } as const;

export const MAX_RTT_FIGURES = Object.keys(NAMES) as Array<keyof typeof NAMES>;

export interface MaxRtt {
  figure: keyof typeof NAMES;
  ms: number;
}

/** The figures of a run that decide the exit code. */
export interface RunOutcome {
  sent: number;
  received: number;
  lossPercent?: number | undefined;
  rttMs?: (Summary & { p999?: number }) | undefined;
  /** Replies that fail an expectation. */
  unexpected?: number;
}

/** `TIME`, which bounds the largest RTT, or `FIGURE=TIME`. */
export const MAX_RTT: Kind<MaxRtt> = {
  value: "[FIGURE=]TIME",
  parse(text) {
    const [time = "", name = "max"] = text.split("=", 2).reverse();
    const figure = oneOf(MAX_RTT_FIGURES).parse(name);
    return { figure, ms: duration(0).parse(time) };
  },
};

/** A line for each threshold that was missed, with the excess. */
export function missedBounds(
  maxLoss: number | undefined,
  maxRtt: MaxRtt | undefined,
  { lossPercent, rttMs }: Pick<RunOutcome, "lossPercent" | "rttMs">,
): string[] {
  const missed: string[] = [];
  const lost = lossPercent ?? 0;
  if (maxLoss !== undefined && lost > maxLoss) {
    const [loss, excess] = excessOf(lost, maxLoss, percent, 2);
    missed.push(`--max-loss ${maxLoss}: ${loss} is lost, ${excess} too much`);
  }
  if (maxRtt === undefined) return missed;
  const { figure, ms } = maxRtt;
  const flag = `--max-rtt ${figure}=${ms}ms`;
  const found = rttMs?.[NAMES[figure]];
  if (found === undefined) missed.push(`${flag}: no such RTT is known`);
  else if (found > ms) {
    const [rtt, excess] = excessOf(found, ms, milliseconds, 3);
    missed.push(`${flag}: it is ${rtt} ms, ${excess} ms too long`);
  }
  return missed;
}

/** A figure above its bound, and the difference, with digits enough to see it. */
function excessOf(
  value: number,
  bound: number,
  text: (value: number, digits: number) => string,
  minDigits: number,
): [string, string] {
  const excess = value - bound;
  const isSeen = (digits: number) =>
    Number(value.toFixed(digits)) > bound && Number(excess.toFixed(digits)) > 0;
  let digits = minDigits;
  while (digits < MAX_DIGITS && !isSeen(digits)) digits++;
  return [text(value, digits), text(excess, digits)];
}

const MAX_DIGITS = 20;

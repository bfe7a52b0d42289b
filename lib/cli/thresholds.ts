/**
 * What a run must keep to: `--max-loss` and `--max-rtt`. Pure.
 *
 * @module
 */
import type { Summary } from "../stats/statistics.ts";
import { duration } from "./flags.ts";
import { milliseconds, percent } from "./show/format.ts";

/** A bound for one figure of the RTTs. */
export interface MaxRtt {
  figure: keyof typeof FIGURES;
  ms: number;
}

/** What came of a run, as far as there are bounds for it. */
export interface Judged {
  lossPercent?: number | undefined;
  rttMs?: (Summary & { p999?: number }) | undefined;
}

/** What decides the exit code. */
export interface Outcome extends Judged {
  received: number;
  /** Replies that are not what was expected. */
  unexpected: number;
}

/**
 * Reads `TIME`, which bounds the largest RTT, or `FIGURE=TIME`.
 *
 * @throws {SyntaxError} If it is neither.
 */
export function parseMaxRtt(text: string): MaxRtt {
  const [name = "max", time = ""] = text.includes("=")
    ? text.split("=", 2)
    : ["max", text];
  if (!Object.hasOwn(FIGURES, name)) {
    throw new SyntaxError(
      `'${name}' is not one of ${Object.keys(FIGURES).join(", ")}`,
    );
  }
  return { figure: name as MaxRtt["figure"], ms: duration(0)(time) };
}

/** Which bounds were missed, and by how much: a line for each. */
export function missedBounds(
  maxLoss: number | undefined,
  maxRtt: MaxRtt | undefined,
  { lossPercent, rttMs }: Judged,
): string[] {
  const missed: string[] = [];
  if (
    maxLoss !== undefined && lossPercent !== undefined && lossPercent > maxLoss
  ) {
    const excess = percent(lossPercent - maxLoss);
    missed.push(
      `--max-loss ${maxLoss}: ${
        percent(lossPercent)
      } is lost, ${excess} too much`,
    );
  }
  if (maxRtt === undefined) return missed;
  const { figure, ms } = maxRtt;
  const flag = `--max-rtt ${figure}=${ms}ms`;
  const found = rttMs?.[FIGURES[figure]];
  if (found === undefined) missed.push(`${flag}: no such RTT is known`);
  else if (found > ms) {
    missed.push(
      `${flag}: it is ${milliseconds(found)} ms, ${
        milliseconds(found - ms)
      } ms too long`,
    );
  }
  return missed;
}

/** The figures by the names that they have on the command line. */
const FIGURES = {
  min: "min",
  mean: "mean",
  median: "median",
  p50: "median",
  p90: "p90",
  p99: "p99",
  "p99.9": "p999",
  max: "max",
} as const;

import { assert, assertEquals } from "@std/assert";
import {
  comparison,
  type Goal,
  judge,
  type Measured,
  rankOf,
  verdictLine,
} from "./goals.ts";

const GOAL: Goal = {
  name: "ours beside theirs",
  figure: "speed",
  by: "wall clock",
  limit: 0.97,
};

/** One round: replies a second, and processor time. */
function measured(repliesPerSecond: number, cpuUs?: number): Measured {
  const none = { lost: 0, wrong: 0, medianUs: null };
  return { repliesPerSecond, ...none, ...cpuUs === undefined ? {} : { cpuUs } };
}

/** The outcome of rounds whose ratios of speeds are these. */
function outcomeOf(ratios: number[], goal: Partial<Goal> = {}) {
  return judge({ ...GOAL, ...goal }, {
    ours: ratios.map((ratio) => measured(1000 * ratio)),
    theirs: ratios.map(() => measured(1000)),
  });
}

Deno.test("judge(): the verdict is of the interval, not of the median", () => {
  const near = [0.99, 1, 1, 1.01, 1.01, 1.02];
  assertEquals(outcomeOf(near).verdict, "met");
  assertEquals(outcomeOf(near, { limit: 1.05 }).verdict, "not met");
  const wide = [0.8, 1, 1, 1.01, 1.01, 1.02];
  assertEquals(outcomeOf(wide).verdict, "too noisy to tell");
});

Deno.test("judge(): a cost is met below its limit", () => {
  const costs = [2, 2, 2, 2, 2, 2].map((cost) => 1 / cost);
  const goal = { figure: "cost", limit: 1.5 } as const;
  assertEquals(outcomeOf(costs, goal).verdict, "not met");
  assertEquals(outcomeOf(costs, { ...goal, limit: 2.1 }).verdict, "met");
});

Deno.test("judge(): ratios are of neighbours", () => {
  const rounds = [100, 1000, 10_000];
  const { median, low, high } = judge(GOAL, {
    ours: rounds.map((rate) => measured(2 * rate)),
    theirs: rounds.map((rate) => measured(rate)),
  });
  assertEquals([median, low, high], [2, 2, 2]);
});

Deno.test("judge(): the other clock is reported where it is known", () => {
  const { other } = judge(GOAL, {
    ours: [measured(1000, 4)],
    theirs: [measured(1000, 2)],
  });
  assertEquals(other?.median, 0.5);
  assertEquals(outcomeOf([1]).other, null);
});

Deno.test("judge(): a program without replies meets no goal", () => {
  assertEquals(outcomeOf([0, 0, 0, 0, 0, 0]).verdict, "not met");
  assertEquals(outcomeOf([]).verdict, "too noisy to tell");
});

Deno.test("rankOf(): the interval holds 95 %, or is the whole range", () => {
  assertEquals([1, 5, 6, 8, 9, 11, 12, 15, 20].map(rankOf), [
    ...[0, 0, 0, 0, 1, 1, 2, 3, 5],
  ]);
});

Deno.test("verdictLine(): has verdict, name, ratio with its range, and goal", () => {
  assertEquals(
    verdictLine(outcomeOf([0.9, 1, 1.1])),
    "too noisy to tell: ours beside theirs: speed 1.00 (0.90 … 1.10) by wall clock; goal at least 0.97",
  );
});

Deno.test("comparison(): confirmed, changed, or too noisy to tell", () => {
  const [one, near, other, wide] = [
    ...[[0.99, 1, 1.01], [1.04, 1.05, 1.06], [1.4, 1.5, 1.6], [0.9, 1.5, 2]],
  ].map((ratios) => outcomeOf(ratios));
  assert(comparison(near!, one).line.endsWith("+5 %: confirmed"));
  assertEquals(comparison(other!, one).isChanged, true);
  assert(comparison(wide!, one).line.endsWith("+50 %: too noisy to tell"));
  assertEquals(comparison(wide!, one).isChanged, false);
  assertEquals(comparison(one!, undefined).isChanged, false);
});

import { assertEquals } from "@std/assert";
import {
  type Change,
  type TargetOutage,
  WatchState,
} from "../../lib/cli/watch_state.ts";

/** A state with a hold time, and all that it reported. */
function stateWith(holdMs: number) {
  const changes: Change[] = [];
  const outages: TargetOutage[] = [];
  const state = new WatchState(0, holdMs, {
    onChange: (change) => changes.push(change),
    onOutage: (outage) => outages.push(outage),
  });
  return { state, changes, outages };
}

Deno.test("WatchState: an outage is reported after the hold time, and its end", () => {
  const { state, changes, outages } = stateWith(1000);
  state.goUp(10);
  state.goDown(5000, "no answer", 2);
  state.look(5999, []);
  assertEquals(changes, []);
  state.look(6000, []);
  state.goDown(5000, "closed port", 4);
  state.look(7000, []);
  assertEquals(changes, [{ type: "down", since: 5000, why: "no answer" }]);
  assertEquals(state.lasting, { fromMs: 5000, toMs: undefined, datagrams: 4 });
  assertEquals([state.outageCount, state.outageMs(8000)], [1, 3000]);
  state.goUp(9000);
  const up = { type: "up", seconds: 4, lost: 4, why: "closed port" } as const;
  assertEquals(changes.slice(1), [up]);
  assertEquals(outages, [{ fromMs: 5000, toMs: 9000, datagrams: 4 }]);
  assertEquals([state.state, state.since, state.why], ["up", 9000, ""]);
  assertEquals([state.outageCount, state.outageMs(20_000)], [1, 4000]);
});

Deno.test("WatchState: an outage that is known only at its end is counted, and reported if long", () => {
  for (const [holdMs, types] of [[2000, ["down", "up"]], [2001, []]] as const) {
    const { state, changes, outages } = stateWith(holdMs);
    state.goUp(10);
    state.goDown(5000, "no answer", 3);
    state.goUp(7000);
    assertEquals(`${changes.map(({ type }) => type)}`, `${types}`);
    assertEquals(outages, [{ fromMs: 5000, toMs: 7000, datagrams: 3 }]);
    assertEquals([state.outageCount, state.outageMs(9000)], [1, 2000]);
  }
});

Deno.test("WatchState: end() counts an outage that lasts, without a message", () => {
  const { state, changes, outages } = stateWith(0);
  state.end(50);
  state.goDown(100, "no answer", 1);
  state.end(300);
  assertEquals(outages, [{ fromMs: 100, toMs: 300, datagrams: 1 }]);
  assertEquals(changes, []);
});

Deno.test("WatchState: thresholds are missed, and met, after the hold time", () => {
  const { state, changes } = stateWith(100);
  state.goUp(0);
  state.look(1000, ["loss"]);
  assertEquals([state.missed, changes], [["loss"], []]);
  state.look(1050, []);
  state.look(1100, ["loss"]);
  state.look(1199, ["loss"]);
  assertEquals(changes, [], "it was met in between");
  state.look(1200, ["loss"]);
  assertEquals(changes.map(({ type }) => type), ["missed"]);
  state.goDown(1210, "no answer", 2);
  state.look(1211, []);
  assertEquals(changes.length, 1, "in an outage there is no other message");
  state.goUp(1250);
  state.look(1300, []);
  state.look(1350, []);
  state.look(1401, []);
  assertEquals(changes.at(-1), { type: "met" });
});

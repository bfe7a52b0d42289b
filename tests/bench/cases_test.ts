import { assert, assertEquals } from "@std/assert";
import { programTest } from "../helpers.ts";
import { cases } from "./cases.ts";

programTest("cases(): a goal has a name of its own, and a limit", () => {
  const goals = cases("/tmp", 0.5);
  assertEquals(new Set(goals.map(({ name }) => name)).size, goals.length);
  for (const { name, limit } of goals) assert(limit > 0, name);
});

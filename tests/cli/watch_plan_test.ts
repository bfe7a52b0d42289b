import { assert, assertEquals, assertThrows } from "@std/assert";
import { parseWatchFile } from "../../lib/cli/watch_plan.ts";

const TARGET = { address: "192.0.2.1:7" };

/** A file's plan, or its mistakes. */
const read = (file: object) => parseWatchFile(JSON.stringify(file), "deno");

Deno.test("parseWatchFile(): a target has the flags of the client, and those of its module", () => {
  const file = read({
    modules: {
      ping: { message: "ping", expect: "pong", interval: "5s" },
      dns: { port: 53, ipv6: true, count: 3, retries: 0 },
    },
    targets: [
      { ...TARGET, module: "ping", interval: "2s", labels: { site: "a" } },
      { name: "b", address: "[2001:db8::1]", stamp: true, hold: "1m" },
    ],
  });
  assert(!Array.isArray(file));
  const [first, second] = file.targets;
  assertEquals(first!.name, "192.0.2.1:7");
  assertEquals([first!.labels, first!.holdMs], [{ site: "a" }, 10_000]);
  assertEquals(first!.plan.options.intervalMs, 2000);
  assertEquals(first!.plan.report.expected?.flag, '--expect b"pong"');
  const { mode, targets, options } = second!.plan;
  assertEquals([mode, options.count, second!.holdMs], [
    "stamp",
    Infinity,
    60_000,
  ]);
  assertEquals(targets, [{ hostname: "2001:db8::1", port: 862 }]);
  assertEquals(file.listen, { hostname: "127.0.0.1", port: 9320 });
  assertEquals(file.probe, {
    networks: [],
    ports: [],
    atOnce: 10,
    perSecond: 10,
  });
});

Deno.test("parseWatchFile(): each mistake has its place", () => {
  const mistakes = read({
    listen: "127.0.0.1:99999",
    probe: { networks: ["10.0.0.0/99"] },
    modules: { bad: { "max-loss": "x" }, none: { count: 0 } },
    targets: [
      {},
      { address: "192.0.2.1:x" },
      { ...TARGET, interval: "-1" },
      { ...TARGET, message: "-" },
      { ...TARGET, plot: "f.svg" },
      { ...TARGET, message: ["a"] },
      { ...TARGET, module: "other" },
      { ...TARGET, message: true },
      { ...TARGET, labels: { le: "1" } },
      { ...TARGET, labels: { site: 1 } },
      { ...TARGET, hold: "never" },
      { ...TARGET, interval: "10ms", timeout: "1m" },
      { ...TARGET, name: "one" },
      { ...TARGET, name: "one" },
    ],
  });
  assert(Array.isArray(mistakes));
  const expected: Array<[place: string, part: string]> = [
    ["listen", "99999"],
    ["probe", "'10.0.0.0/99' is no network"],
    ["modules.bad", "--max-loss: 'x' is not a number"],
    ["modules.none", "'count' must be an integer from 1"],
    ["targets[0]", "it has no 'address'"],
    ["targets[1]", "HOST[:PORT]"],
    ["targets[2]", "--interval: '-1' is not a time"],
    ["targets[3]", "stdin"],
    ["targets[4]", "Cannot use option 'plot' of a target"],
    ["targets[5]", "must be a string, a number or true"],
    ["targets[6]", "there is no module 'other'"],
    ["targets[7]", "'message' needs a value"],
    ["targets[8]", "'le' cannot be the name of a label"],
    ["targets[9]", "the value of 'site' must be a string"],
    ["targets[10]", "'never' is not a time"],
    ["targets[11]", "'timeout' must be at most 250 times 'interval'"],
    ["targets[13]", "'one' is the name of targets[12] too"],
  ];
  assertEquals(
    mistakes.map((mistake) => mistake.split(": ")[0]),
    expected.map(([place]) => place),
  );
  for (const [i, [, part]] of expected.entries()) {
    assert(mistakes[i]!.includes(part), mistakes[i]);
    assert(!mistakes[i]!.includes("\n"), mistakes[i]);
  }
});

Deno.test("parseWatchFile(): a mistake in the outline is the only one", () => {
  const cases: Array<[string, string]> = [
    ["{", "JSON"],
    ["[]", "'targets' is empty"],
    ['{"target": []}', "did you mean 'targets'?"],
    ['{"targets": {}}', "'targets' must be an array"],
    ['{"targets": [1]}', "each element an object"],
    ['{"maxRate": "all"}', "'maxRate' must be a number"],
  ];
  for (const [text, part] of cases) {
    const message = (() => {
      try {
        const file = parseWatchFile(text, "deno");
        return Array.isArray(file) ? file.join() : "accepted";
      } catch (error) {
        return (error as Error).message;
      }
    })();
    assert(message.includes(part), `${text}: ${message}`);
  }
  assertThrows(() => parseWatchFile("{", "deno"), SyntaxError);
});

Deno.test("parseWatchFile(): a total rate above 100 a second must be asked for", () => {
  const targets = Array.from({ length: 101 }, (_, i) => ({
    ...TARGET,
    name: `${i}`,
  }));
  assertEquals(read({ targets }), [
    "targets: they send 101 datagrams a second together: " +
    "'maxRate', now 100, must allow that",
  ]);
  assert(!Array.isArray(read({ targets, maxRate: 101 })));
  assert(!Array.isArray(read({ targets: targets.slice(1) })));
});

/** The files of docs/watch/ for `client --watch`, held to the code. */
import { assert, assertEquals } from "@std/assert";
import { RTT_BOUNDS_S } from "../../../lib/base/telemetry.ts";
import { metricsText } from "../../../lib/cli/watch/metrics.ts";
import { parseWatchFile, TARGET } from "../../../lib/cli/watch_plan.ts";
import { NO_COUNTS } from "../../../lib/stats/counts.ts";
import { programTest, readTest, ROOT } from "../../helpers.ts";

const FOLDER = new URL("docs/watch/", ROOT);

function read(name: string): Promise<string> {
  return Deno.readTextFile(new URL(name, FOLDER));
}

/** The metrics of a target with every figure. */
const METRICS = [...metricsText([{
  labels: { target: "made up" },
  figures: {
    ...NO_COUNTS,
    outageCount: 1,
    outageMs: 1,
    lostUp: 1,
    lostDown: 1,
    lostUnattributed: 1,
    forwardJitterMs: 1,
    backwardJitterMs: 1,
    clockOffsetMs: { estimate: 1 },
  },
  isUp: true,
  buckets: new Float64Array(RTT_BOUNDS_S.length + 1),
  rttSumMs: 0,
}], false)].join("");

/** Asserts that /metrics has the metrics and labels of a file, but for a server's. */
function assertMeasured(file: string, text: string): void {
  const names = text.matchAll(/\broundtrip_(?:client|stamp)_\w+/g);
  const known = new Set(METRICS.match(/^roundtrip_\w+/gm));
  const found = new Set([...names].map(([name]) => name));
  for (const name of found) assert(known.has(name), `${file}: ${name}`);
  assert(found.size >= 5, `${file} has ${[...found]}`);
  const labels = text.matchAll(
    /roundtrip_(?:client|stamp)_\w+\{[^}]*?(roundtrip_\w+)=~?\\?"([\w|]+)/g,
  );
  let seen = 0;
  for (const [, label, values] of labels) {
    for (const value of values!.split("|")) {
      assert(METRICS.includes(`${label}="${value}"`), `${file}: ${value}`);
      seen++;
    }
  }
  assert(seen >= 5, `${file}: ${seen} values of labels found`);
}

readTest("docs/watch/watch.json: is accepted, with all it shows", async () => {
  const file = parseWatchFile(await read("watch.json"), "deno");
  assert(!Array.isArray(file), `${file}`);
  const modes = new Set(file.targets.map(({ plan }) => plan.mode));
  assertEquals(modes, new Set(["request", "stamp"]));
  const [{ plan }] = file.targets as [typeof file.targets[0]];
  assertEquals(plan.targets, [{ hostname: "localhost", port: 20001 }]);
  assertEquals([plan.maxLoss, plan.maxRtt], [1, { figure: "p99", ms: 20 }]);
});

readTest(
  "docs/watch/: rules and dashboard have metrics of /metrics",
  async () => {
    assertMeasured("alerts.yml", await read("alerts.yml"));
    const text = await read("dashboard.json");
    assertMeasured("dashboard.json", text);
    assert(!text.includes("roundtrip_server_"), "metrics of a server");
    const { panels } = JSON.parse(text) as { panels: { id: number }[] };
    const ids = new Set(panels.map(({ id }) => id));
    assertEquals(ids.size, panels.length, "each panel has a number of its own");
  },
);

readTest(
  "docs/watch/prometheus.yml: scrapes the example's page and module",
  async () => {
    const file = parseWatchFile(await read("watch.json"), "deno");
    assert(!Array.isArray(file));
    const text = await read("prometheus.yml");
    const { hostname, port } = file.listen;
    const address = `${hostname}:${port}`;
    assert(text.includes(`targets: ["${address}"]`), address);
    assert(text.includes(`replacement: ${address}`), address);
    const [, module] = /module: \[(\w+)\]/.exec(text)!;
    assert(Object.hasOwn(file.modules, module!), module);
    const rules = await read("alerts.yml");
    const jobs = [...rules.matchAll(/job="([^"]*)"/g)].map(([, job]) => job);
    for (const job of jobs) assert(text.includes(`job_name: ${job}\n`), job);
  },
);

readTest(
  "docs/watch/roundtrip-watch.service: grants each file that it names",
  async () => {
    const text = await read("roundtrip-watch.service");
    const [, grants, args] = /^ExecStart=.* run (.*) client\.ts (.*)$/m
      .exec(text)!;
    const [, file, history] = /^--watch (\S+) --history (\S+)$/.exec(args!)!;
    assert(grants!.includes(`--allow-read=${file},${history} `), grants);
    assert(grants!.includes(`--allow-write=${history}`), grants);
    const [, state] = /^StateDirectory=(\S+)$/m.exec(text)!;
    assert(history!.startsWith(`/var/lib/${state}/`), history);
  },
);

readTest(
  "docs/operations.md: names every flag and metric of a watch",
  async () => {
    const page = await Deno.readTextFile(new URL("docs/operations.md", ROOT));
    const section = /^## Watching\n([^]*?)^## /m.exec(page)![1]!;
    const members = Object.keys(TARGET);
    assert(members.length > 25, `${members}`);
    const metrics = METRICS.match(/(?<=^# TYPE )\w+/gm)!
      .filter((name) => METRICS.includes(`\n${name}`));
    assert(metrics.length >= 9, `${metrics}`);
    for (const name of [...members, ...metrics]) {
      assert(section.includes(`\`${name}\``), name);
    }
  },
);

for (
  const args of [
    ["check", "config", "prometheus.yml"],
    ["check", "rules", "alerts.yml"],
    ["test", "rules", "alerts_test.yml"],
  ]
) {
  programTest(
    `docs/watch/: promtool ${args.join(" ")} finds no fault`,
    async () => {
      const { code, stdout, stderr } = await new Deno.Command("promtool", {
        args,
        cwd: FOLDER,
      }).output();
      const text = [stdout, stderr].map((one) => new TextDecoder().decode(one));
      assertEquals(code, 0, text.join(""));
    },
    ["promtool"],
  );
}

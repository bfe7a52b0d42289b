/** The look-ups of names of a watch, by a name server that a test replaces. */
import { assertEquals } from "@std/assert";
import { boundedRuntime } from "../../../lib/cli/runs/ends.ts";
import { runOf } from "../../../lib/cli/runs/watch_target.ts";
import { Prober } from "../../../lib/cli/watch/probe.ts";
import { planOfModule, type WatchFile } from "../../../lib/cli/watch_plan.ts";
import { serve } from "../../../lib/server/serve.ts";
import { addressesOf, denoRuntime } from "../../../lib/socket/runtime.ts";
import { netTest } from "../../helpers.ts";

/** Replaces the system's look-up until its disposal. */
function replaced(resolve: (hostname: string) => Promise<string[]>) {
  const before = denoRuntime.resolve;
  denoRuntime.resolve = resolve;
  return { [Symbol.dispose]: () => void (denoRuntime.resolve = before) };
}

netTest("runOf(): looks a name up once", async () => {
  await using server = serve({ telemetry: false }, () => "pong");
  const asked: string[] = [];
  using _ = replaced((hostname) => {
    asked.push(hostname);
    return Promise.resolve(["127.0.0.1"]);
  });
  const target = { hostname: "server.example", port: server.addr.port };
  for (const stamp of [false, true]) {
    const plan = planOfModule(
      stamp ? { stamp, timeout: "1ms" } : {},
      `server.example:${target.port}`,
      "deno",
    );
    const run = await runOf(plan, target, { count: 1 });
    for await (const _ of run);
  }
  assertEquals(asked, ["server.example", "server.example"]);
});

Deno.test("Prober: probes of names that do not resolve hold up no look-up of a target", async () => {
  const silence = Promise.withResolvers<string[]>();
  using _ = replaced((hostname) =>
    hostname === "target.example"
      ? Promise.resolve(["192.0.2.1"])
      : silence.promise
  );
  const file: WatchFile = {
    listen: { hostname: "127.0.0.1", port: 0 },
    keepDays: 1,
    engine: "deno",
    targets: [],
    modules: { ping: {} },
    probe: {
      networks: ["192.0.2.0/24"],
      ports: [],
      perSecond: 1,
      atOnce: 1,
    },
  };
  // Each prober begins one at once.
  const probes = Array.from({ length: 10 }, (_, i) => {
    const query = `target=${i}.example:7&module=ping`;
    return new Prober().answer(
      new Request(`http://[::1]/probe?${query}`),
      file,
    );
  });
  assertEquals(
    await addressesOf("target.example", boundedRuntime("deno")),
    ["192.0.2.1"],
  );
  silence.resolve([]);
  await Promise.all(probes);
});

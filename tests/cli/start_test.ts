/** The start of the client: the code that a lone request loads. */
import { assert, assertEquals, assertMatch } from "@std/assert";
import { Program, programTest, ROOT, tempFolder } from "../helpers.ts";
import { started } from "./peers.ts";

/** The modules of a lone request on the default engine. */
const LONE = `
client.ts
lib/address.ts
lib/base/errors.ts
lib/base/event_queue.ts
lib/base/light_timer.ts
lib/base/options.ts
lib/base/payload.ts
lib/base/recent_map.ts
lib/base/telemetry.ts
lib/base/wall_clock.ts
lib/base/warn.ts
lib/cli/client_flags.ts
lib/cli/client_plan.ts
lib/cli/expect.ts
lib/cli/flags.ts
lib/cli/main.ts
lib/cli/near_miss.ts
lib/cli/output.ts
lib/cli/runs/client.ts
lib/cli/runs/ends.ts
lib/cli/runs/series.ts
lib/cli/show/columns.ts
lib/cli/show/format.ts
lib/cli/show/loss.ts
lib/cli/show/reporter.ts
lib/cli/show/series.ts
lib/cli/show/silence.ts
lib/cli/thresholds.ts
lib/client/exchange.ts
lib/client/load_options.ts
lib/client/pacer.ts
lib/client/reply.ts
lib/client/run.ts
lib/client/run_options.ts
lib/client/series.ts
lib/client/target.ts
lib/client/telemetry.ts
lib/encoding.ts
lib/socket/contract.ts
lib/socket/datagram.ts
lib/socket/deno_groups.ts
lib/socket/deno_socket.ts
lib/socket/kernel_drops.ts
lib/socket/net_access.ts
lib/socket/runtime.ts
lib/stamp/measure_options.ts
lib/stamp/tlv.ts
lib/stats/books.ts
lib/stats/counts.ts
lib/stats/distribution.ts
lib/stats/histogram.ts
lib/stats/loss_periods.ts
lib/stats/statistics.ts
`.trim().split("\n");

programTest(
  "client: loads for a lone request no code of other modes",
  async () => {
    await using s = await started(["-q"]);
    await using folder = await tempFolder();
    const args = ["--log-level=debug", "--allow-net", "client.ts"];
    await using asked = new Program(
      Deno.execPath(),
      ["run", ...args, s.target],
      {
        // Deno writes a file for each module that it has run.
        env: { NO_COLOR: "1", DENO_COVERAGE_DIR: folder.path },
      },
    );
    const { code, stdout, stderr } = await asked.ended();
    assertEquals([code, stdout], [
      0,
      'Message from Server b"Hello UDP Client"\n',
    ]);
    const loaded = new Set<string>();
    for await (const { name } of Deno.readDir(folder.path)) {
      const text = await Deno.readTextFile(`${folder.path}/${name}`);
      const { url } = JSON.parse(text) as { url: string };
      const path = url.startsWith(ROOT.href) ? url.slice(ROOT.href.length) : "";
      if (/^(client\.ts|lib\/(?!std\/))/.test(path)) loaded.add(path);
    }
    const more = [...loaded].filter((path) => !LONE.includes(path));
    const remedy =
      "what only other modes need belongs behind import(), all else into LONE";
    assert(more.length === 0, `${more.join(", ")}: ${remedy}`);
    assertEquals(LONE.filter((path) => !loaded.has(path)), []);
    // A first setTimeout loads them too: there is lightTimer().
    assertMatch(stderr, /ES module: file:/, "Deno logs its modules otherwise");
    const builtIn = [...stderr.matchAll(/ES module: (node:\w+)/g)];
    assertEquals(builtIn.map(([, name]) => name), []);
  },
);

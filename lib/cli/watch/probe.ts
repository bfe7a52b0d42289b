/**
 * `/probe?target=HOST:PORT&module=NAME`: one run on demand, by the contract of
 * Prometheus' blackbox exporter. Targets are those of the file's networks only.
 *
 * @module
 */
import {
  ipVersion,
  isInNetwork,
  isMulticast,
  parseNetwork,
} from "../../address.ts";
import { errorMessage } from "../../base/errors.ts";
import { RTT_BOUNDS_S } from "../../base/telemetry.ts";
import { addressesOf } from "../../socket/runtime.ts";
import { boundedRuntime } from "../runs/ends.ts";
import { planOfModule, type WatchFile } from "../watch_plan.ts";
import { metricsText } from "./metrics.ts";
import { bucketOf, runOf } from "../runs/watch_target.ts";

/** The answers to probes, of which few run at a time. */
export class Prober {
  #inFlight = 0;
  /** The probes that may begin now, and when that was counted. */
  #tokens = 1;
  #countedAt = performance.now();

  /** The answer to a request; its body is the text of metrics, or the refusal. */
  async answer(request: Request, file: WatchFile): Promise<Response> {
    const { atOnce, perSecond } = file.probe;
    // A page of another site could have a browser send probes.
    if (
      /^(cross|same)-site$/.test(request.headers.get("sec-fetch-site") ?? "")
    ) {
      return refusal(403, "it is asked by another site");
    }
    const now = performance.now();
    const gained = (now - this.#countedAt) / 1000 * perSecond;
    this.#tokens = Math.min(Math.max(1, perSecond), this.#tokens + gained);
    this.#countedAt = now;
    if (this.#inFlight >= atOnce || this.#tokens < 1) {
      return refusal(429, "too many probes: see 'atOnce' and 'perSecond'");
    }
    this.#tokens--;
    this.#inFlight++;
    try {
      return await probe(request, file);
    } catch (error) {
      return refusal(400, errorMessage(error));
    } finally {
      this.#inFlight--;
    }
  }
}

async function probe(request: Request, file: WatchFile): Promise<Response> {
  const { searchParams } = new URL(request.url);
  const [named, module = ""] = ["target", "module"].map((name) =>
    searchParams.get(name) ?? undefined
  );
  if (named === undefined) return refusal(400, "'target' is missing");
  if (!Object.hasOwn(file.modules, module)) {
    const known = Object.keys(file.modules).join(", ") || "none in the file";
    return refusal(400, `'module' must be one of: ${known}`);
  }
  const plan = planOfModule(file.modules[module]!, named, file.engine);
  const { hostname, port } = plan.targets[0]!;
  const { networks, ports } = file.probe;
  if (networks.length === 0) return refusal(403, "the file has no 'networks'");
  if (ports.length > 0 && !ports.includes(port)) {
    return refusal(403, `port ${port} is none of the file's 'ports'`);
  }
  const begun = performance.now();
  const deadlineMs = deadlineOf(request);
  const late = Promise.withResolvers<string[]>();
  const timer = setTimeout(late.resolve, deadlineMs, []);
  // The address that was checked is the one that is probed.
  const found = await Promise.race([
    addressesOf(hostname, boundedRuntime("deno", "probe")).catch(
      (): string[] => [],
    ),
    late.promise,
  ]);
  clearTimeout(timer);
  const resolvedMs = performance.now() - begun;
  const address = found.find((one) =>
    (plan.version ?? ipVersion(one)) === ipVersion(one)
  );
  const isAllowed = address === undefined || !isMulticast(address) &&
      networks.map(parseNetwork).some((one) => isInNetwork(one, address));
  if (!isAllowed) return refusal(403, "it is in none of the file's 'networks'");
  const buckets = new Float64Array(RTT_BOUNDS_S.length + 1);
  let [received, rttSumMs, sent, figures] = [0, 0, 0, {}];
  if (address !== undefined) {
    const run = await runOf(plan, { hostname: address, port }, {
      count: plan.options.count!,
      deadlineMs: Math.max(MIN_PROBE_MS, deadlineMs - resolvedMs),
      onSample({ rttMs }) {
        if (rttMs === undefined) return;
        rttSumMs += rttMs;
        buckets[bucketOf(rttMs)]!++;
      },
    });
    try {
      for await (const _ of run);
    } catch {
      // A failure to send is a failed probe.
    }
    figures = run.figures();
    ({ received, next: sent } = run.workload.books!);
  }
  const isUp = received > 0 && received === sent;
  const tookMs = performance.now() - begun;
  const version = address === undefined ? 0 : ipVersion(address)!;
  const facts: Array<[name: string, help: string, value: number]> = [
    ["success", "1 if all datagrams were answered as expected", Number(isUp)],
    ["duration_seconds", "Duration of the probe", tookMs / 1000],
    ["dns_lookup_time_seconds", "Time for the name", resolvedMs / 1000],
    ["ip_protocol", "IP version of the address", version],
  ];
  const measured = { labels: {}, figures, isUp, buckets, rttSumMs };
  const lines = facts.map(([name, help, value]) =>
    `# HELP probe_${name} ${help}\n# TYPE probe_${name} gauge\n` +
    `probe_${name} ${value}\n`
  );
  return new Response([...lines, ...metricsText([measured], false)].join(""), {
    headers: { "content-type": "text/plain; version=0.0.4; charset=utf-8" },
  });
}

/** The time for a probe: half a second less than the scrape's time-out. */
function deadlineOf({ headers }: Request): number {
  const seconds = Number(headers.get("x-prometheus-scrape-timeout-seconds"));
  const timeoutMs = seconds > 0 ? 1000 * seconds : MAX_PROBE_MS;
  return Math.min(MAX_PROBE_MS, Math.max(MIN_PROBE_MS, timeoutMs - 500));
}

/** The answer to a request that is refused. */
export function refusal(status: number, reason: string): Response {
  return new Response(`${reason}\n`, { status });
}

const MAX_PROBE_MS = 10_000;
const MIN_PROBE_MS = 100;

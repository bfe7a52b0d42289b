/**
 * The HTTP server of `--watch`: the page and its events, pictures, metrics, probes.
 *
 * @module
 */
import { errorMessage } from "../../base/errors.ts";
import { ipVersion, isLocalhost, isLoopback } from "../../address.ts";
import { plotSvg, sparkSvg } from "../show/plot.ts";
import type { WatchFile } from "../watch_plan.ts";
import { metricsText } from "./metrics.ts";
import type { Row, Update } from "../show/row.ts";
import { pageOf } from "./page.ts";
import { HOUR_MS, MINUTE_MS, pictureRunOf } from "../show/history.ts";
import { Prober, refusal } from "./probe.ts";
import type { Store } from "./store.ts";
import type { Target } from "../runs/watch_target.ts";

/** What the server shows. */
export interface Watch {
  file: WatchFile;
  targets: Map<string, Target>;
  store: Store | undefined;
}

/** The spans of pictures, and the length of their parts. */
const SPANS = {
  hour: [HOUR_MS, MINUTE_MS],
  day: [24 * HOUR_MS, 10 * MINUTE_MS],
  month: [31 * 24 * HOUR_MS, 6 * HOUR_MS],
} as const;

type Route = (request: Request) => Response | Promise<Response>;

/** Makes the function that serves until it is aborted, and again after a failure. */
export async function webOf(
  watch: Watch,
  signal: AbortSignal,
): Promise<() => Deno.HttpServer> {
  const page = await pageOf(watch.store !== undefined);
  const prober = new Prober();
  const metrics = new Metrics(watch);
  const pictures = new Map<string, string>();
  const streams = new Streams(watch, signal);
  const headers = {
    "content-type": "text/html; charset=utf-8",
    "content-security-policy": page.policy,
  };
  const routes: Record<string, Route> = {
    "/": () => new Response(page.html, { headers }),
    "/events": () => streams.open(),
    "/plot.svg": (request) => picture(watch, new URL(request.url), pictures),
    "/metrics": (request) => metrics.answer(request),
    "/probe": (request) => prober.answer(request, watch.file),
  };
  const { listen } = watch.file;
  const isLocal = isLocalhost(listen.hostname) || isLoopback(listen.hostname);
  const options = {
    ...listen,
    signal,
    onListen() {},
    onError: (error: unknown) => refusal(500, errorMessage(error)),
    handler(request: Request) {
      if (!URL.canParse(request.url)) return refusal(400, "no such URL");
      if (isLocal && !isOfMachine(new URL(request.url))) {
        return refusal(403, "the Host is not this machine");
      }
      const route = routes[new URL(request.url).pathname];
      if (route === undefined) return refusal(404, "not found");
      const isRead = ["GET", "HEAD"].includes(request.method);
      return isRead ? route(request) : refusal(405, "only GET");
    },
  };
  return () => {
    const server = Deno.serve(options);
    // Any free port is the same one again.
    options.port = server.addr.port;
    return server;
  };
}

/** Whether a URL has an IP address or `localhost`: a page of another name has not. */
function isOfMachine({ hostname }: URL): boolean {
  const host = hostname.replace(/^\[|\]$/g, "");
  return isLocalhost(host) || ipVersion(host) !== undefined;
}

/** Makes one text at a time, for all that ask meanwhile. */
class Metrics {
  readonly #making = new Map<boolean, Promise<Uint8Array<ArrayBuffer>>>();

  constructor(readonly watch: Watch) {}

  async answer({ headers }: Request): Promise<Response> {
    const isOpen = headers.get("accept")?.includes("openmetrics-text") ?? false;
    let making = this.#making.get(isOpen);
    if (!making) this.#making.set(isOpen, making = this.#make(isOpen));
    const type = isOpen
      ? "application/openmetrics-text; version=1.0.0; charset=utf-8"
      : "text/plain; version=0.0.4; charset=utf-8";
    return new Response(await making, { headers: { "content-type": type } });
  }

  async #make(isOpen: boolean): Promise<Uint8Array<ArrayBuffer>> {
    const measured = [...this.watch.targets.values()].map((target) => ({
      labels: { target: target.watched.name, ...target.watched.labels },
      figures: target.figures(),
      isUp: { waiting: undefined, up: true, down: false }[target.state.state],
      buckets: target.buckets.slice(),
      rttSumMs: target.rttSumMs,
    }));
    try {
      const all = inTurns(metricsText(measured, isOpen));
      return ENCODER.encode((await Array.fromAsync(all)).join(""));
    } finally {
      this.#making.delete(isOpen);
    }
  }
}

/** Joins parts; between two the event loop has a turn, as datagrams wait for it. */
async function* inTurns(parts: Iterable<string>): AsyncGenerator<string> {
  let text = "";
  for (const part of parts) {
    text += part;
    if (text.length < PART_CHARS) continue;
    yield text;
    text = "";
    await new Promise((resolve) => setTimeout(resolve));
  }
  yield text;
}

function picture(
  { targets, store }: Watch,
  { searchParams: asked }: URL,
  drawn: Map<string, string>,
): Response {
  const target = targets.get(asked.get("target") ?? "");
  const span = asked.get("span") ?? "hour";
  if (target === undefined || !Object.hasOwn(SPANS, span)) {
    return refusal(404, "no such target, or span");
  }
  const [lengthMs, stepMs] = SPANS[span as keyof typeof SPANS];
  const now = Date.now();
  const to = now - now % stepMs + stepMs;
  const axis = { from: to - lengthMs, to, stepMs };
  const { name } = target.watched;
  const isSmall = asked.has("small");
  const key = JSON.stringify([name, span, isSmall, target.version]);
  let svg = drawn.get(key);
  if (svg === undefined) {
    const { parts, outages } = span === "hour" || store === undefined
      ? target
      : store.read(name, axis.from);
    const lasting = target.outages.filter(({ toMs }) => toMs === undefined);
    const ended = outages.filter(({ toMs = 0 }) => toMs > axis.from);
    const run = pictureRunOf(name, parts, [...ended, ...lasting], axis);
    svg = isSmall ? sparkSvg(run, axis) : plotSvg([run], axis);
    drawn.set(key, svg);
    if (drawn.size > MAX_DRAWN) drawn.delete(drawn.keys().next().value!);
  }
  return new Response(svg, { headers: SVG_HEADERS });
}

/** The streams of events: all rows at first, then those that have changed. */
class Streams {
  readonly #open = new Set<ReadableStreamDefaultController<Uint8Array>>();
  #shown = new Map<string, string>();

  constructor(readonly watch: Watch, signal: AbortSignal) {
    const timer = setInterval(() => this.#send(), UPDATE_MS);
    signal.addEventListener("abort", () => {
      clearInterval(timer);
      for (const stream of this.#open) stream.close();
    });
  }

  open(): Response {
    if (this.#open.size >= MAX_STREAMS) {
      return refusal(503, "too many streams");
    }
    let own: ReadableStreamDefaultController<Uint8Array>;
    const body = new ReadableStream<Uint8Array>({
      start: (controller) => {
        this.#open.add(own = controller);
        controller.enqueue(updateOf(this.#rows(), true));
      },
      cancel: () => void this.#open.delete(own),
    }, new ByteLengthQueuingStrategy({ highWaterMark: MAX_WAITING_BYTES }));
    return new Response(body, {
      headers: {
        "content-type": "text/event-stream",
        "cache-control": "no-store",
      },
    });
  }

  #rows(): Row[] {
    return [...this.watch.targets.values()].map((target) => target.row());
  }

  #send(): void {
    if (this.#open.size === 0) return;
    const rows = this.#rows();
    const shown = new Map(rows.map((row) => [row.name, JSON.stringify(row)]));
    const changed = rows.filter(({ name }) =>
      shown.get(name) !== this.#shown.get(name)
    );
    const gone = [...this.#shown.keys()].filter((name) => !shown.has(name));
    this.#shown = shown;
    const update = updateOf(changed, false, gone);
    for (const stream of this.#open) {
      // A reader that is slow begins anew, by the browser's own retry.
      if (stream.desiredSize! > 0) stream.enqueue(update);
      else {
        this.#open.delete(stream);
        stream.error(new Error("read too slowly"));
      }
    }
  }
}

function updateOf(targets: Row[], isAll: boolean, gone: string[] = []) {
  const update: Update = { now: Date.now(), isAll, targets, gone };
  return ENCODER.encode(`data: ${JSON.stringify(update)}\n\n`);
}

const SVG_HEADERS = {
  "content-type": "image/svg+xml",
  "content-security-policy": "default-src 'none'; style-src 'unsafe-inline'",
  "cache-control": "max-age=60",
};
const MAX_DRAWN = 2000;
const ENCODER = new TextEncoder();
/** The characters of metrics in a turn of the event loop. */
const PART_CHARS = 100_000;
const UPDATE_MS = 2000;
const MAX_STREAMS = 50;
const MAX_WAITING_BYTES = 4 << 20;

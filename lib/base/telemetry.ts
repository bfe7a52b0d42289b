/**
 * OpenTelemetry, where Deno runs with it (`OTEL_DENO=true`): counts, RTTs and
 * spans. Elsewhere nothing happens.
 *
 * Counts are read each second, and once more at the end. Observable instruments,
 * read by each export, would be simpler; but Deno does not read them when a
 * process ends, so that their last counts would be lost.
 *
 * @module
 */
import { errorName } from "./errors.ts";

/** Attributes of a metric or a span. */
export type Attributes = Record<string, string | number>;

/** The current value of a number that only grows. */
export interface Count {
  name: keyof typeof COUNTERS;
  attributes?: Attributes;
  value: number | undefined;
}

/** The current value of a number that goes up and down. */
export interface Level {
  name: keyof typeof GAUGES;
  attributes?: Attributes;
  value: number | undefined;
}

/** The values of one reading. */
export interface Readings {
  counts: Count[];
  levels?: Level[];
}

/** The part of OpenTelemetry's API that is used here. */
interface Meter {
  createCounter(name: string, options: object): Counter;
  createHistogram(name: string, options: object): Recorder;
  createGauge(name: string, options: object): Recorder;
}
interface Counter {
  add(value: number, attributes: Attributes): void;
}
interface Recorder {
  record(value: number, attributes?: Attributes): void;
}
interface Span {
  setAttribute(name: string, value: string | number): void;
  setStatus(status: { code: number; message?: string }): void;
  end(): void;
}
interface Tracer {
  startSpan(name: string, options: object): Span;
}

/** Numbers that only grow: units and descriptions. */
export const COUNTERS = {
  "roundtrip.server.datagrams": ["{datagram}", "Datagrams by outcome"],
  "roundtrip.server.io": ["By", "Payload bytes received and replied"],
  "roundtrip.server.pushed": ["{datagram}", "Datagrams sent beside replies"],
  "roundtrip.server.errors": ["{error}", "Errors of handlers and the system"],
  "roundtrip.server.kernel_drops": [
    "{datagram}",
    "Datagrams that the system dropped as its buffer was full",
  ],
  "roundtrip.reflector.packets": ["{packet}", "STAMP packets"],
  "roundtrip.client.sent": ["{datagram}", "Datagrams sent"],
  "roundtrip.client.datagrams": ["{datagram}", "Datagrams by outcome"],
  "roundtrip.client.outages": ["{outage}", "Outages"],
  "roundtrip.client.outage_time": ["s", "Duration of outages"],
  "roundtrip.client.stall_time": ["s", "Standstills of this program"],
} as const;

/** Numbers that go up and down: units and descriptions. */
export const GAUGES = {
  "roundtrip.server.in_flight": ["{datagram}", "Datagrams in handlers"],
  "roundtrip.reflector.sessions": ["{session}", "Sessions of STAMP senders"],
  "roundtrip.client.up": [
    "{target}",
    "1 if the target answers, 0 in an outage",
  ],
  "roundtrip.stamp.lost": ["{packet}", "Packets lost, by direction"],
  "roundtrip.stamp.jitter": ["s", "Interarrival jitter, by direction"],
  "roundtrip.stamp.clock_offset": ["s", "Lead of the reflector's clock"],
} as const;

/** Distributions: units and descriptions. */
export const HISTOGRAMS = {
  "roundtrip.client.rtt": ["s", "Round-trip times"],
} as const;

/** The bounds of histograms of RTTs, in seconds: from 10 us to 10 s. */
export const RTT_BOUNDS_S: readonly number[] = [-5, -4, -3, -2, -1, 0].flatMap((
  power,
) => [1, 2, 5].map((factor) => factor * 10 ** power)).concat(10);

/** All instruments, made at their first use. */
class Instruments {
  readonly rtts: Recorder;
  readonly #counters: Map<string, Counter>;
  readonly #gauges: Map<string, Recorder>;
  readonly sources = new Set<Source>();

  constructor(meter: Meter) {
    this.#counters = all(COUNTERS, (...args) => meter.createCounter(...args));
    this.#gauges = all(GAUGES, (...args) => meter.createGauge(...args));
    const [unit, description] = HISTOGRAMS["roundtrip.client.rtt"];
    this.rtts = meter.createHistogram("roundtrip.client.rtt", {
      unit,
      description,
      advice: { explicitBucketBoundaries: RTT_BOUNDS_S },
    });
    const timer = setInterval(() => {
      for (const source of this.sources) source.read();
    }, READ_MS);
    Deno.unrefTimer(timer as unknown as number);
  }

  set({ name, attributes = {}, value }: Level): void {
    if (value !== undefined) this.#gauges.get(name)!.record(value, attributes);
  }

  add({ name, attributes = {} }: Count, value: number): void {
    if (value > 0) this.#counters.get(name)!.add(value, attributes);
  }
}

/** The instruments of a table, by their names. */
function all<Instrument>(
  table: Readonly<Record<string, readonly [unit: string, text: string]>>,
  create: (name: string, options: object) => Instrument,
): Map<string, Instrument> {
  return new Map(
    Object.entries(table).map(([name, [unit, description]]) =>
      [name, create(name, { unit, description })] as const
    ),
  );
}

/** A source of counts. */
class Source {
  readonly #reported = new Map<string, number>();

  constructor(
    readonly instruments: Instruments,
    readonly attributes: Attributes,
    readonly readings: () => Readings | Promise<Readings>,
  ) {}

  /** Adds the growth since the last reading. */
  read(): void {
    const readings = this.readings();
    // A worker that fails to report its counts is left out.
    if (readings instanceof Promise) {
      readings.then((all) => this.#add(all), () => {});
    } else this.#add(readings);
  }

  #add({ counts, levels = [] }: Readings): void {
    for (const { name, attributes, value } of counts) {
      if (value === undefined) continue;
      const all = { ...this.attributes, ...attributes };
      const key = `${name} ${JSON.stringify(all)}`;
      const more = value - (this.#reported.get(key) ?? 0);
      // A count that falls is not added again.
      if (more <= 0) continue;
      this.#reported.set(key, value);
      this.instruments.add({ name, attributes: all, value }, more);
    }
    for (const level of levels) {
      const attributes = { ...this.attributes, ...level.attributes };
      this.instruments.set({ ...level, attributes });
    }
  }
}

let instruments: Instruments | null | undefined;

function instrumentsIfOn(): Instruments | null {
  if (instruments !== undefined) return instruments;
  try {
    // Throws where OpenTelemetry is off.
    const meter = Deno.telemetry.meterProvider.getMeter(SCOPE) as Meter;
    instruments = new Instruments(meter);
  } catch {
    instruments = null;
  }
  return instruments;
}

/** Reads counts each second; the function that it returns reads them a last time. */
export function follow(
  attributes: Attributes,
  readings: () => Readings | Promise<Readings>,
): () => void {
  const all = instrumentsIfOn();
  if (all === null) return () => {};
  const source = new Source(all, attributes, readings);
  all.sources.add(source);
  return () => {
    all.sources.delete(source);
    source.read();
  };
}

/** Adds to counts at once. */
export function count(...counts: Count[]): void {
  const all = instrumentsIfOn();
  if (all === null) return;
  for (const one of counts) {
    const attributes = { ...UDP, ...one.attributes };
    all.add({ ...one, attributes }, one.value ?? 0);
  }
}

/** Adds a round-trip time, in milliseconds. */
export function recordRtt(rttMs: number): void {
  if (instruments === null) return;
  instrumentsIfOn()?.rtts.record(rttMs / 1000);
}

/** A span that has begun; does nothing where OpenTelemetry is off. */
export interface RunningSpan {
  set(name: string, value: string | number): void;
  /** Ends it, as failed if there is an error. */
  end(failure?: { error: unknown }): void;
}

let tracer: Tracer | null | undefined;

/** Begins a span of a client or a server. */
export function beginSpan(
  name: string,
  kind: "client" | "server",
): RunningSpan {
  if (tracer === undefined) {
    tracer = instrumentsIfOn() === null
      ? null
      : Deno.telemetry.tracerProvider.getTracer(SCOPE) as Tracer;
  }
  if (tracer === null) return NO_SPAN;
  const span = tracer.startSpan(name, { kind: SPAN_KINDS[kind] });
  span.setAttribute("network.transport", "udp");
  return {
    set: (name, value) => span.setAttribute(name, value),
    end(failure) {
      if (failure !== undefined) {
        span.setAttribute("error.type", errorName(failure.error));
        span.setStatus({ code: STATUS_ERROR });
      }
      span.end();
    },
  };
}

/** Attributes of all metrics. */
export const UDP: Attributes = { "network.transport": "udp" };

/** Does nothing. */
const NO_SPAN: RunningSpan = { set() {}, end() {} };
const SCOPE = "roundtrip";
const READ_MS = 1000;
/** As OpenTelemetry numbers them. */
const SPAN_KINDS = { server: 1, client: 2 };
const STATUS_ERROR = 2;

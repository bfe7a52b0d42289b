/** Every number among the options: its bounds, and what is no number at all. */
import { assertRejects, assertThrows } from "@std/assert";
import { connect } from "../../lib/client/connect.ts";
import { request } from "../../lib/client/request.ts";
import { requestMany } from "../../lib/client/series.ts";
import { echo } from "../../lib/server/responders.ts";
import { serve } from "../../lib/server/serve.ts";
import { measure } from "../../lib/stamp/measure.ts";
import { stampReflector } from "../../lib/stamp/reflector.ts";
import { gather } from "../../lib/client/gather.ts";
import { load, type LoadOptions } from "../../lib/client/load.ts";
import { openSocket } from "../../lib/socket/open_socket.ts";
import { SimulatedNetwork } from "../../lib/testing/mod.ts";

const DAY = 86_400_000;
const TARGET = { hostname: "192.0.2.1", port: 7 };

type Call = (options: Record<string, unknown>) => unknown;

/** Each is called with one option; what runs only when iterated does not run. */
const CALLS: Record<string, Call> = {
  serve: (options) => {
    const { runtime } = new SimulatedNetwork();
    const given = { hostname: "192.0.2.2", runtime, ...options };
    return serve(given, echo()).shutdown();
  },
  guard: (guard) => CALLS.serve!({ guard }),
  requestMany: (options) => requestMany(TARGET, "x", options),
  measure: (options) => measure(TARGET, options),
  load: ({ rate, window, ...options }) => {
    const how = rate === undefined && window === undefined
      ? { window: 1 }
      : { rate, window };
    load(TARGET, { ...how, ...options } as LoadOptions);
  },
  // What is returned could be awaited, which would send.
  gather: (options) => void gather(TARGET, "x", options),
  openSocket: (options) => {
    const { runtime } = new SimulatedNetwork();
    const given = { hostname: "192.0.2.2", runtime, ...options };
    return openSocket(given, () => {}).close();
  },
  groups: (options) => {
    const groups = ["239.1.2.3"];
    return CALLS.serve!({ groups, hostname: undefined, ...options });
  },
  stampReflector: (options) => stampReflector(options),
};

Deno.test("connect() says of each option what it must be", async () => {
  const { runtime } = new SimulatedNetwork();
  const wrong: Array<[Record<string, unknown>, typeof Error, string]> = [
    [{ maxInFlight: 0 }, RangeError, "'maxInFlight'"],
    [{ maxInFlight: 65_537 }, RangeError, "'maxInFlight'"],
    [{ maxInFlight: "1" }, TypeError, "'maxInFlight'"],
    [{ key: "id" }, TypeError, "'key' must be"],
    [{ signal: {} }, TypeError, "'signal' must be"],
    [{ timeoutMs: 0 }, RangeError, "'timeoutMs'"],
    [{ retries: -1 }, RangeError, "'retries'"],
  ];
  for (const [options, kind, message] of wrong) {
    const call = () => connect(TARGET, { runtime, ...options });
    await assertRejects(call, kind, message);
  }
  for (const maxInFlight of [1, 65_536]) {
    await (await connect(TARGET, { runtime, maxInFlight })).close();
  }
});

/** Of each option: the least, the most, and whether it may have a fraction. */
const BOUNDS: Array<[string, string, number, number, boolean?]> = [
  ["serve", "port", 0, 65_535],
  ["serve", "maxDatagramBytes", 1, 65_527],
  ["serve", "maxInFlight", 1, 65_536],
  ["serve", "handlerTimeoutMs", 1, DAY, true],
  ["serve", "maxReplies", 1, 1_000_000_000],
  ["guard", "maxAmplification", 0, 1000, true],
  ["guard", "rateLimit", 0, 1_000_000_000],
  ["groups", "groupDelayMs", 0, DAY, true],
  ["gather", "timeoutMs", 1, DAY, true],
  ["gather", "retries", 0, 100],
  ["gather", "maxReplies", 1, 1_000_000],
  ["gather", "multicastTtl", 0, 255],
  ["openSocket", "port", 0, 65_535],
  ["openSocket", "maxDatagramBytes", 1, 65_527],
  ["openSocket", "receiveBufferBytes", 4096, 2 ** 30],
  ["openSocket", "ttl", 1, 255],
  ["gather", "ttl", 1, 255],
  ["gather", "trafficClass", 0, 255],
  ["measure", "ttl", 1, 255],
  ["measure", "trafficClass", 0, 255],
  ["requestMany", "ttl", 1, 255],
  ["requestMany", "localPort", 0, 65_535],
  ["load", "rate", 0.001, 10_000_000, true],
  ["load", "window", 1, 65_536],
  ["load", "count", 1, 1_000_000_000],
  ["load", "durationMs", 1, DAY, true],
  ["load", "timeoutMs", 1, DAY, true],
  ["load", "reportMs", 1, DAY, true],
  ["openSocket", "trafficClass", 0, 255],
  ["openSocket", "multicastTtl", 0, 255],
  ["requestMany", "timeoutMs", 1, DAY, true],
  ["requestMany", "retries", 0, 100],
  ["requestMany", "maxDatagramBytes", 1, 65_527],
  ["requestMany", "count", 1, 1_000_000_000],
  ["requestMany", "intervalMs", 0, DAY, true],
  ["requestMany", "deadlineMs", 1, DAY, true],
  ["measure", "count", 1, 2 ** 32 - 1],
  ["measure", "intervalMs", 0.01, DAY, true],
  ["measure", "size", 44, 65_507],
  ["measure", "timeoutMs", 1, DAY, true],
  ["measure", "deadlineMs", 1, DAY, true],
  ["measure", "replyDscp", 0, 63],
  ["measure", "ssid", 0, 65_535],
  ["stampReflector", "maxSessions", 2, 1_000_000],
  ["stampReflector", "sessionTimeoutMs", 1, DAY, true],
];

for (const [name, option, min, max, isReal = false] of BOUNDS) {
  Deno.test(`${name}() takes '${option}' from ${min} to ${max}, and nothing else`, async () => {
    const call = CALLS[name]!;
    for (const value of [min, max, undefined]) await call({ [option]: value });
    const step = isReal ? 1e-6 : 1;
    const tooMuch = isReal ? max * (1 + 1e-15) : max + 1;
    const outside = [min - step, tooMuch, NaN, -Infinity];
    if (!isReal) outside.push(min + 0.5);
    for (const value of outside) {
      assertThrows(
        () => call({ [option]: value }),
        RangeError,
        `'${option}' must be`,
      );
    }
    for (const value of [`${min}`, null, true, {}, [min], BigInt(max)]) {
      assertThrows(
        () => call({ [option]: value }),
        TypeError,
        `'${option}' must be a number`,
      );
    }
  });
}

/** What is of a wrong type, whichever function it is given to. */
const MISTYPED: Array<[string, string, unknown[]]> = [
  ["serve", "hostname", [7, null, {}, ["127.0.0.1"]]],
  ["serve", "reusePort", [1, "true", null]],
  ["serve", "lend", [1, "true", null]],
  ["serve", "quiet", [1, "true", null]],
  ["serve", "telemetry", [1, "true", null]],
  ["serve", "trace", [1, "true", null]],
  ["serve", "onOverload", [5, null, true]],
  ["load", "mayBlock", [1, "true", null]],
  ["load", "onSample", [5, null, {}]],
  ["load", "telemetry", [1, "true", null]],
  ["load", "signal", [{}, null]],
  ["requestMany", "telemetry", [1, "true", null]],
  ["requestMany", "dontFragment", [1, "true", null]],
  ["requestMany", "device", [1, true, null]],
  ["openSocket", "reuseAddress", [1, "true", null]],
  ["openSocket", "hostname", [7, null]],
  ["openSocket", "packetInfo", [1, "true", null]],
  ["openSocket", "onError", [5, null]],
  ["openSocket", "signal", [{}, null]],
  ["openSocket", "interface", [7, null]],
  ["serve", "packetInfo", [1, "true", null]],
  ["groups", "reuseAddress", [1, "true", null]],
  ["guard", "answerOffLink", [1, "true", null]],
  ["gather", "every", [1, "true", null]],
  ["gather", "loopback", [1, "true", null]],
  ["gather", "interface", [1, true, null]],
  ["serve", "signal", [{}, null, "abort", new AbortController()]],
  ["serve", "onListen", [5, null, "f"]],
  ["serve", "onError", [5, null, {}]],
  ["serve", "onRefuse", [5, null, true]],
  ["serve", "guard", ["off", true, null, 3]],
  ["serve", "engine", ["lniux", 1, null, "DENO"]],
  ["requestMany", "match", ["x", null, /x/]],
  ["requestMany", "signal", [{}, null, 1]],
  ["requestMany", "engine", ["node", 0]],
  ["requestMany", "localHostname", [7, null, {}]],
  ["measure", "signal", [{}, null]],
  ["measure", "engine", ["", {}]],
  ["measure", "clock", ["hardware", 1, null, Symbol()]],
  ["measure", "needsSsid", [1, "no"]],
  ["measure", "ptp", [1, "no", null]],
  ["measure", "mayBlock", [1, "no", null]],
  ["measure", "key", [1, "00", null]],
  ["measure", "telemetry", [1, "true", null]],
  ["stampReflector", "stateless", [1, "no", null]],
  ["measure", "extensions", ["location", ["nowhere"], [1], {}]],
  ["stampReflector", "ssids", [7, "7", {}]],
  ["stampReflector", "permitsDscp", [46, [46]]],
  ["stampReflector", "tellsLocation", [0, "no"]],
  ["measure", "localHostname", [true, [], ""]],
];

for (const [name, option, values] of MISTYPED) {
  Deno.test(`${name}() says of '${option}' what it must be`, () => {
    for (const value of values) {
      assertThrows(
        () => CALLS[name]!({ [option]: value }),
        TypeError,
        `'${option}' must be`,
      );
    }
  });
}

Deno.test("options are an object, for every function that has some", async () => {
  for (const options of [null, 7, "port", true, Symbol()] as never[]) {
    const calls: Array<() => unknown> = [
      () => serve(options, echo()),
      () => requestMany(TARGET, "x", options),
      () => measure(TARGET, options),
      () => stampReflector(options),
    ];
    const message = "'options' must be an object";
    for (const call of calls) assertThrows(call, TypeError, message);
    await assertRejects(
      () => request(TARGET, "x", options),
      TypeError,
      message,
    );
  }
});

Deno.test("what is no function, no address or no payload is a TypeError", async () => {
  for (const handler of [undefined, null, {}, "echo"]) {
    assertThrows(
      () => serve({}, handler as never),
      TypeError,
      "'handler' must be a function",
    );
  }
  for (const target of [null, {}, { port: 7 }, 7]) {
    assertThrows(() => requestMany(target as never, "x"), TypeError);
    await assertRejects(() => request(target as never, "x"), TypeError);
  }
  for (const signal of [null, {}, "abort"] as never[]) {
    await assertRejects(
      () => request(TARGET, "x", { signal }),
      TypeError,
      "'signal' must be an AbortSignal",
    );
  }
});

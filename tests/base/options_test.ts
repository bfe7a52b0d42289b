/** Every option of every function, by its table: kind, range, name and default. */
import {
  assert,
  assertEquals,
  assertRejects,
  assertStringIncludes,
  assertThrows,
} from "@std/assert";
import {
  type AnyTable,
  integer,
  type Option,
  readAll,
} from "../../lib/base/options.ts";
import { CONNECT, connect } from "../../lib/client/connect.ts";
import { CLIENT_REQUEST } from "../../lib/client/udp_client.ts";
import { GATHER, gather } from "../../lib/client/gather.ts";
import { load } from "../../lib/client/load.ts";
import { LOAD, type LoadOptions } from "../../lib/client/load_options.ts";
import { request, REQUEST_OPTIONS } from "../../lib/client/request.ts";
import { requestMany, SERIES } from "../../lib/client/series.ts";
import { GUARD } from "../../lib/server/guard.ts";
import { echo } from "../../lib/server/responders.ts";
import { SERVE, serve } from "../../lib/server/serve.ts";
import { openSocket, SOCKET } from "../../lib/socket/open_socket.ts";
import { measure } from "../../lib/stamp/measure.ts";
import { MEASURE } from "../../lib/stamp/measure_options.ts";
import { REFLECTOR, stampReflector } from "../../lib/stamp/reflector.ts";
import { SimulatedNetwork } from "../../lib/testing/mod.ts";

const TARGET = { hostname: "192.0.2.1", port: 7 };
const { runtime } = new SimulatedNetwork();
/** The options are checked before this ends the call. */
const signal = AbortSignal.abort("aborted by the test");

type Options = Record<string, unknown>;

interface Call {
  table: AnyTable;
  /** Options of every call: the required ones. */
  base: Options;
  call: (options: Options) => unknown;
}

/** All functions with options; some are only started. */
const CALLS: Record<string, Call> = {
  serve: {
    table: SERVE,
    base: { runtime, groups: ["239.1.2.3"] },
    call: (options) => serve(options, echo()).shutdown(),
  },
  guard: {
    table: GUARD,
    base: {},
    call: (guard) => serve({ runtime, guard }, echo()).shutdown(),
  },
  openSocket: {
    table: SOCKET,
    base: { runtime, groups: ["239.1.2.3"] },
    call: (options) => openSocket(options, () => {}).close(),
  },
  request: {
    table: REQUEST_OPTIONS,
    base: { runtime, signal },
    call: (options) => request(TARGET, "x", options),
  },
  connect: {
    table: CONNECT,
    base: { runtime, signal },
    call: (options) => connect(TARGET, options),
  },
  "UdpClient.request": {
    table: CLIENT_REQUEST,
    base: { signal },
    call: async (options) => {
      await using client = await connect(TARGET, { runtime });
      await client.request("x", options);
    },
  },
  requestMany: {
    table: SERIES,
    base: { runtime },
    call: (options) => requestMany(TARGET, "x", options),
  },
  gather: {
    table: GATHER,
    base: { runtime },
    // An awaited gather sends.
    call: (options) => void gather(TARGET, "x", options),
  },
  load: {
    table: LOAD,
    base: { runtime, window: 1 },
    call: ({ rate, window, ...options }) => {
      const pace = rate === undefined ? { window } : { rate };
      load("[2001:db8::1]:7", { ...pace, ...options } as LoadOptions);
    },
  },
  measure: {
    table: MEASURE,
    base: { runtime },
    call: (options) => measure(TARGET, options),
  },
  stampReflector: {
    table: REFLECTOR,
    base: { runtime },
    call: (options) => stampReflector(options),
  },
};

/** Checks that a call throws or rejects. */
async function refuses(
  call: () => unknown,
  kind: ErrorConstructor,
  message: string,
): Promise<void> {
  const error = await assertRejects(async () => await call(), kind, message);
  assertEquals(error.message.split("\n").length, 1);
}

/** Checks that a call fails at most by the test's own signal. */
async function takes(call: () => unknown): Promise<void> {
  try {
    await call();
  } catch (error) {
    if (error !== signal.reason) throw error;
  }
}

/** Values of a wrong type, by the kind of the option. */
const MISTYPED: Record<string, unknown[]> = {
  integer: ["1", null, true, {}, [1], 1n, Symbol("one")],
  number: ["1", null, true, {}, [1], 1n, Symbol("one")],
  boolean: [1, "true", null, 0n, {}, Symbol("true")],
  string: [7, null, true, {}, ["eth0"], 7n, Symbol("eth0")],
  function: [5, "f", null, {}, /f/, 5n, Symbol("f")],
  name: ["lniux", "DENO", "", 1, null, ["deno"], 1n, Symbol("deno")],
  list: [7, "7", null, {}, true, 7n, [Symbol("x")], [null], [{}], [,]],
  object: ["x", 7, null, true, 7n, Symbol("x")],
  bytes: ["00", 7, null, [1], {}, 7n, Symbol("x")],
  AbortSignal: [{}, null, "abort", 1n, Symbol("x"), new AbortController()],
  custom: [7, true, null, [7], 7n, Symbol("x")],
};

/** Values out of range; none for a name, a list and others without a range. */
function outsideOf({ kind, min, max, words }: Option<unknown>): unknown[] {
  if (min === undefined || max === undefined) return [];
  if (kind === "bytes") return [min - 1, max + 1].map((n) => new Uint8Array(n));
  const [step, fraction] = kind === "integer" ? [1, min + 0.5] : [1e-6, NaN];
  const tooMuch = kind === "integer" ? max + 1 : max * (1 + 1e-15);
  return [
    ...[min - step, tooMuch, fraction, NaN, -Infinity],
    ...words.includes("Infinity") ? [] : [Infinity],
    ...min > 0 ? [-0] : [],
  ];
}

/** The limits of an option's range. */
function insideOf({ kind, min, max, words }: Option<unknown>): unknown[] {
  if (min === undefined || max === undefined) return [undefined];
  if (kind === "bytes") return [min, max].map((n) => new Uint8Array(n));
  return [
    ...[min, max, undefined],
    ...words.includes("Infinity") ? [Infinity] : [],
    ...words.includes("function") ? [() => true] : [],
    ...min <= 0 ? [-0] : [],
  ];
}

for (const [name, { table, base, call }] of Object.entries(CALLS)) {
  for (const [key, option] of Object.entries(table)) {
    Deno.test(`${name}: '${key}' is ${option.words}, and nothing else`, async () => {
      const given = (value: unknown) => () => call({ ...base, [key]: value });
      const message = `'${key}' must be ${option.words}: current value is `;
      const mistyped = MISTYPED[option.kind]!.filter((value) =>
        // An interface may have any name, and a guard is an object.
        !(option.words.includes("false") && typeof value === "object" && value)
      );
      for (const value of mistyped) {
        await refuses(given(value), TypeError, message);
      }
      for (const value of outsideOf(option)) {
        await refuses(given(value), RangeError, message);
      }
      for (const value of insideOf(option)) {
        // Without a signal a request would wait for its reply.
        if (key in base && value === undefined) continue;
        await takes(given(value));
      }
    });
  }

  Deno.test(`${name}: an unknown option is an error that names it`, async () => {
    const known = Object.keys(table);
    for (const key of ["nonsense", "x-y", "constructor", "0"]) {
      await refuses(
        () => call({ ...base, [key]: undefined }),
        TypeError,
        `Cannot use option '${key}' of ${name}: there are ${known.join(", ")}`,
      );
    }
    for (const key of known) {
      const [first, second, ...rest] = key;
      const misspelled = [
        key.slice(0, -1),
        `${key}s`,
        key.toUpperCase(),
        // A short name with two letters exchanged is no likely misspelling.
        ...key.length > 3 ? [[second, first, ...rest].join("")] : [],
      ];
      for (const wrong of misspelled) {
        if (known.includes(wrong)) continue;
        const error = await assertRejects(
          async () => await call({ ...base, [wrong]: 1 }),
          TypeError,
          `Cannot use option '${wrong}' of ${name}: did you mean '`,
        );
        if (wrong === `${key}s`) assertStringIncludes(error.message, key);
      }
    }
  });

  Deno.test(`${name}: options are any object, and each is read once`, async () => {
    for (const wrong of [null, 7, "port", true, Symbol("x"), () => {}]) {
      if (name === "load") continue; // Its call here makes an object.
      const message = name === "guard"
        ? "'guard' must be an object"
        : "'options' must be an object: current value is ";
      await refuses(() => call(wrong as never), TypeError, message);
    }
    const reads = new Map<string, number>();
    const counted = Object.create(null);
    for (const key of Object.keys(table)) {
      Object.defineProperty(counted, key, {
        enumerable: true,
        get: () => {
          reads.set(key, (reads.get(key) ?? 0) + 1);
          return base[key];
        },
      });
    }
    if (name !== "load") {
      await takes(() => call(counted));
      assertEquals(
        [...reads].filter(([, count]) => count !== 1),
        [],
      );
      assertEquals(reads.size, Object.keys(table).length);
      await takes(() => call(Object.create(base)));
      await refuses(
        () => call(Object.create({ ...base, nonsense: 1 })),
        TypeError,
        "Cannot use option 'nonsense'",
      );
    }
  });
}

Deno.test("options: messages name the option, its range and the value", async () => {
  const wrong: Array<[string, Options, string]> = [
    [
      "serve",
      { host: "::" },
      "Cannot use option 'host' of serve: did you mean 'hostname'?",
    ],
    [
      "serve",
      { Port: 7 },
      "Cannot use option 'Port' of serve: did you mean 'port'?",
    ],
    [
      "serve",
      { port: "80" },
      `'port' must be an integer from 0 to 65535: current value is "80"`,
    ],
    [
      "serve",
      { port: 65_536 },
      "'port' must be an integer from 0 to 65535: current value is 65536",
    ],
    [
      "serve",
      { port: 7n },
      "'port' must be an integer from 0 to 65535: current value is 7n",
    ],
    [
      "serve",
      { quiet: Symbol("x") },
      "'quiet' must be a boolean: current value is Symbol(x)",
    ],
    [
      "serve",
      { maxReplies: 0 },
      "'maxReplies' must be an integer from 1 to 1000000000 or Infinity: current value is 0",
    ],
    [
      "serve",
      { guard: "off" },
      `'guard' must be an object or false: current value is "off"`,
    ],
    [
      "serve",
      { engine: "lniux" },
      `'engine' must be one of deno, linux, auto: current value is "lniux"`,
    ],
    [
      "serve",
      { signal: {} },
      "'signal' must be an AbortSignal: current value is object",
    ],
    [
      "guard",
      { maxAmplification: NaN },
      "'maxAmplification' must be a number from 0 to 1000: current value is NaN",
    ],
    [
      "guard",
      { rate: 5 },
      "Cannot use option 'rate' of guard: did you mean 'rateLimit'?",
    ],
    [
      "request",
      { timeout: 5 },
      "Cannot use option 'timeout' of request: did you mean 'timeoutMs'?",
    ],
    [
      "connect",
      { timeoutMs: 0 },
      "'timeoutMs' must be a number from 1 to 86400000 ms: current value is 0",
    ],
    [
      "connect",
      { key: null },
      "'key' must be a function: current value is null",
    ],
    [
      "measure",
      { key: "secret" },
      "'key' must be a Uint8Array of 16 to 1024 bytes: current value is string",
    ],
    ["measure", { extensions: ["nowhere"] }, 'current value is ["nowhere"]'],
    [
      "measure",
      { localHostname: "" },
      `'localHostname' must be an IP address or a name, without a port: current value is ""`,
    ],
    [
      "serve",
      { hostname: "127.0.0.1:22401" },
      `'hostname' must be an IP address or a name, without a port: current value is "127.0.0.1:22401"`,
    ],
    ...["0x7f000001", "127.1", "0x7f.0.0.1", "host:1", "[::1]", "a b", ""].map(
      (hostname): [string, Options, string] => [
        "serve",
        { hostname },
        "'hostname' must be an IP address or a name, without a port",
      ],
    ),
    [
      "requestMany",
      { device: "a b" },
      `'device' must be the name of an interface, such as eth0: current value is "a b"`,
    ],
    [
      "stampReflector",
      { ssids: [7, 65_536] },
      "'ssids' must be an array, each element an integer from 0 to 65535: current value is [7,65536]",
    ],
  ];
  for (const [name, options, message] of wrong) {
    const { base, call } = CALLS[name]!;
    const error = await assertRejects(
      async () => await call({ ...base, ...options }),
      Error,
    );
    assertStringIncludes(error.message, message);
  }
});

Deno.test("options: the tables have the defaults that are documented", () => {
  const { hostname, port, maxInFlight, handlerTimeoutMs } = SERVE;
  assertEquals(
    [hostname, port, maxInFlight, handlerTimeoutMs].map((o) => o.default),
    ["127.0.0.1", 0, 256, 10_000],
  );
  assertEquals([
    REQUEST_OPTIONS.timeoutMs.default,
    REQUEST_OPTIONS.retries.default,
  ], [1000, 2]);
  assertEquals([GATHER.retries.default, SERIES.count.default], [0, 1]);
  assertEquals([LOAD.durationMs.default, MEASURE.count.default], [10_000, 10]);
});

Deno.test("serve(), openSocket(): accept a function only", () => {
  for (const wrong of [undefined, null, {}, "echo"] as never[]) {
    assertThrows(
      () => serve({ runtime }, wrong),
      TypeError,
      "'handler' must be a function",
    );
    if (wrong === undefined) continue;
    assertThrows(
      () => openSocket({ runtime }, wrong),
      TypeError,
      "'onDatagram' must be a function",
    );
  }
});

Deno.test("request(), requestMany(): an invalid address is a TypeError", async () => {
  for (const target of [null, {}, { port: 7 }, 7] as never[]) {
    assertThrows(() => requestMany(target, "x"), TypeError);
    await assertRejects(() => request(target, "x"), TypeError);
  }
  for (const port of [0, 65_536, 1.5, NaN]) {
    const target = { hostname: "192.0.2.1", port };
    assertThrows(() => requestMany(target, "x"), RangeError, "'port' must be");
  }
  assert(requestMany({ hostname: "192.0.2.1", port: 65_535 }, "x"));
});

Deno.test("readAll(): a property added to all objects is no option", () => {
  const everywhere = Object.prototype as Record<string, unknown>;
  everywhere.polluted = 1;
  try {
    assertEquals(readAll("f", { port: integer(0, 9, 3) }, {}), { port: 3 });
  } finally {
    delete everywhere.polluted;
  }
});

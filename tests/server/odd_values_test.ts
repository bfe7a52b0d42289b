/** Handlers and callbacks that throw and return odd values, on each network. */
import { assert, assertEquals, assertRejects } from "@std/assert";
import { Buffer } from "node:buffer";
import type { UdpAddress } from "../../lib/address.ts";
import { TimeoutError } from "../../lib/client/reply.ts";
import { request } from "../../lib/client/request.ts";
import type { DatagramInfo, Handler } from "../../lib/server/handler.ts";
import { serve, type ServeOptions } from "../../lib/server/serve.ts";
import { type Runtime, runtimeFor } from "../../lib/socket/runtime.ts";
import { SimulatedNetwork } from "../../lib/testing/mod.ts";
import { ENGINE, netTest } from "../helpers.ts";
import { makeNetwork, SERVER, start } from "./serving.ts";

/** An error with other properties, as tools and libraries make them. */
const errorWith = (properties: PropertyDescriptorMap) =>
  Object.defineProperties(new Error("odd"), properties);

const fails = {
  get() {
    throw new Error("from a getter");
  },
};

function revoked(): object {
  const { proxy, revoke } = Proxy.revocable({}, {});
  revoke();
  return proxy;
}

/** Values that a handler throws. */
const THROWN: Record<string, () => unknown> = {
  "an error whose stack is a number": () => errorWith({ stack: { value: 1 } }),
  "an error whose stack is a list": () => errorWith({ stack: { value: [1] } }),
  "an error without a stack": () => errorWith({ stack: { value: undefined } }),
  "an error whose stack throws": () => errorWith({ stack: fails }),
  "an error whose message is a symbol": () =>
    errorWith({ stack: { value: 1 }, message: { value: Symbol() } }),
  "an error whose message throws": () =>
    errorWith({ stack: { value: 1 }, message: fails }),
  "an error whose name is a symbol": () =>
    errorWith({ name: { value: Symbol("name") } }),
  "an error whose name throws": () => errorWith({ name: fails }),
  "a frozen error": () => Object.freeze(new Error("frozen")),
  "a revoked proxy": revoked,
  "a proxy that throws": () =>
    new Proxy(new Error("odd"), { get: fails.get, getPrototypeOf: fails.get }),
  "an object without a prototype": () => Object.create(null),
  "an object whose text throws": () => ({ toString: fails.get }),
  "a symbol": () => Symbol("thrown"),
  "null": () => null,
  "undefined": () => undefined,
  "a function": () => () => {},
  "bytes": () => new Uint8Array(3),
};

/** Values that a handler returns and that are no replies. */
const WRONG: Record<string, () => unknown> = {
  "a revoked proxy": revoked,
  "a proxy of bytes": () => new Proxy(new Uint8Array(3), {}),
  "an object that inherits from bytes": () =>
    Object.create(Uint8Array.prototype),
  "an object that is called bytes": () => ({
    [Symbol.toStringTag]: "Uint8Array",
    length: 1,
  }),
  "an object whose length throws": () =>
    Object.defineProperty({}, "length", fails),
  "an object whose then throws": () => Object.defineProperty({}, "then", fails),
  "a thenable that throws": () => ({ then: fails.get }),
  "a thenable that rejects with a revoked proxy": () => ({
    then: (_: unknown, reject: (error: unknown) => void) => reject(revoked()),
  }),
  "a thenable that never settles": () => ({ then() {} }),
  "a promise whose constructor throws": () =>
    Object.defineProperty(Promise.resolve("x"), "constructor", fails),
  "a number": () => 5,
  "a symbol": () => Symbol("returned"),
  "a function": () => () => {},
  "a list of numbers": () => [1, 2],
  "a proxy of a buffer": () => new Proxy(new ArrayBuffer(1), {}),
  "an object that inherits from a buffer": () =>
    Object.create(ArrayBuffer.prototype),
  "a shared buffer": () => new SharedArrayBuffer(1),
  "transferred wider numbers": () => {
    const numbers = new Float64Array(1);
    structuredClone(numbers, { transfer: [numbers.buffer] });
    return numbers;
  },
  "a transferred buffer": () => {
    const buffer = new ArrayBuffer(1);
    structuredClone(buffer, { transfer: [buffer] });
    return buffer;
  },
  "transferred bytes": () => {
    const bytes = new Uint8Array(3);
    structuredClone(bytes, { transfer: [bytes.buffer] });
    return bytes;
  },
  "a transferred Buffer": () => {
    const bytes = Buffer.from(new ArrayBuffer(3));
    structuredClone(0, { transfer: [bytes.buffer as ArrayBuffer] });
    return bytes;
  },
  "bytes beyond their buffer": () => {
    const buffer = new ArrayBuffer(4, { maxByteLength: 8 });
    const bytes = new Uint8Array(buffer, 2, 2);
    buffer.resize(1);
    return bytes;
  },
};

/** Values that are replies, made of the two bytes of the request. */
const RIGHT: Record<string, (id: number[]) => unknown> = {
  "a Buffer": (id) => Buffer.from(id),
  "a buffer": (id) => new Uint8Array(id).buffer,
  "wider numbers": (id) => new Uint16Array(new Uint8Array(id).buffer),
  "a part of a buffer": (id) =>
    new DataView(new Uint8Array([9, ...id, 9]).buffer, 1, 2),
  "bytes whose length is wrong": (id) =>
    Object.defineProperty(new Uint8Array(id), "length", { value: 9999 }),
  "bytes whose length throws": (id) =>
    Object.defineProperty(new Uint8Array(id), "length", fails),
  "bytes of a class with other methods": (id) =>
    new (class extends Uint8Array {
      override get length(): number {
        throw new Error("length");
      }
      override subarray(): never {
        throw new Error("subarray");
      }
      static get [Symbol.species](): never {
        throw new Error("species");
      }
    })(id),
  "bytes without a prototype": (id) =>
    Object.setPrototypeOf(new Uint8Array(id), null),
  "bytes of a resizable buffer": (id) => {
    const bytes = new Uint8Array(new ArrayBuffer(2, { maxByteLength: 8 }));
    bytes.set(id);
    return bytes;
  },
  "bytes of a shared buffer": (id) => {
    const bytes = new Uint8Array(new SharedArrayBuffer(2));
    bytes.set(id);
    return bytes;
  },
  "a thenable that resolves twice": (id) => ({
    then(resolve: (value: unknown) => void) {
      resolve(new Uint8Array(id));
      resolve(revoked());
      throw new Error("after all");
    },
  }),
};

const CASES = [
  ...Object.entries(THROWN).map(([name, make]) => ({
    name: `throws ${name}`,
    isError: true,
    run(): unknown {
      throw make();
    },
  })),
  ...Object.entries(WRONG).map(([name, make]) => ({
    name: `returns ${name}`,
    isError: true,
    run: make,
  })),
  ...Object.entries(RIGHT).map(([name, run]) => ({
    name: `returns ${name}`,
    isError: false,
    run,
  })),
];

/** The number of a case whose reply is refused. */
const REFUSED = 255;

/** Runs the case of the first byte, asynchronously if the second one is 1. */
const HANDLER = ((data) => {
  const id = [...data];
  const run = () =>
    id[0] === REFUSED ? new Uint8Array(200) : CASES[id[0]!]!.run(id);
  return id[1] === 1 ? Promise.resolve().then(run) : run();
}) as Handler;

const badHook = (make: () => unknown) => ({
  onError: make as () => undefined,
  onRefuse: make as () => undefined,
  onOverload: make as () => undefined,
});

/** Callbacks, none of which may change an outcome. */
const HOOKS: Record<string, ServeOptions> = {
  "no callbacks": {},
  "callbacks that throw": badHook(() => {
    throw errorWith({ name: fails, stack: { value: 1 } });
  }),
  "callbacks that reject": badHook(() => Promise.reject(revoked())),
  "callbacks that return a revoked proxy": badHook(revoked),
  "callbacks that return a thenable that throws": badHook(() => ({
    then: fails.get,
  })),
};

/** Sends all cases twice, and compares replies and counts. */
async function check(
  runtime: Runtime,
  address: UdpAddress,
  hooks: ServeOptions,
  run: <T>(promise: Promise<T>) => Promise<T>,
): Promise<void> {
  const lines: string[] = [];
  const server = serve({
    ...address,
    ...hooks,
    runtime: Object.create(runtime, {
      warn: { value: (line: string) => lines.push(line) },
    }),
    handlerTimeoutMs: 100,
    guard: { maxAmplification: 1 },
  }, HANDLER);
  const replies: string[] = [];
  const allIn = Promise.withResolvers<void>();
  const right = CASES.filter(({ isError }) => !isError).length;
  const client = runtime.open({
    ...address,
    port: 0,
    maxDatagramBytes: 1000,
  });
  const closed = client.start({
    onDatagram(datagram) {
      replies.push([...datagram.data].join());
      client.release(datagram);
      if (replies.length === 2 * right) allIn.resolve();
    },
  });
  for (const index of [REFUSED, ...CASES.keys()]) {
    for (const isAsync of [0, 1]) {
      await run(client.send(new Uint8Array([index, isAsync]), server.addr));
    }
  }
  // The last datagram has a reply, so that all others have been received by then;
  // shutdown() waits for the time-outs.
  await run(allIn.promise);
  await run(server.shutdown());
  client.close();
  await closed;
  const expected = CASES.flatMap(({ isError }, index) =>
    isError ? [] : [`${index},0`, `${index},1`]
  );
  assertEquals(replies.toSorted(), expected.toSorted());
  const { received, replied, unanswered, refused, errors, inFlight } = server
    .stats();
  const wrong = 2 * (CASES.length - right);
  const seen = { received, replied, unanswered, errors, inFlight };
  assertEquals(seen, {
    received: 2 * CASES.length + 2,
    replied: 2 * right,
    unanswered: wrong,
    errors: { handler: wrong, send: 0, receive: 0 },
    inFlight: 0,
  });
  assertEquals(refused.amplification, 2);
  assertEquals(lines.length > 0, hooks.onError === undefined);
}

Deno.test("serve(): survives forty handlers that throw and return odd values", async () => {
  assert(CASES.length >= 40);
  for (const hooks of Object.values(HOOKS)) {
    const network = makeNetwork();
    await check(network.runtime, SERVER, hooks, (p) => network.run(p));
  }
});

netTest("serve(): survives the same handlers on real sockets", async () => {
  const local = { hostname: "127.0.0.1", port: 0 };
  for (const hooks of Object.values(HOOKS)) {
    await check(runtimeFor(ENGINE), local, hooks, (promise) => promise);
  }
});

Deno.test("onOverload: may misbehave", async () => {
  for (const hooks of Object.values(HOOKS)) {
    const { network, server, ask, settle } = start(
      () => new Promise(() => {}),
      { ...hooks, maxInFlight: 1, handlerTimeoutMs: 50 },
    );
    for (const text of ["at work", "dropped"]) ask(text);
    await settle();
    ask("dropped");
    await network.run(server.shutdown());
    assertEquals(server.stats().dropped.overload, 2);
  }
});

Deno.test("serve(): what a handler writes to its info is not used by the server", async () => {
  const network = new SimulatedNetwork();
  const { runtime } = network;
  const lines: string[] = [];
  const address = { hostname: "192.0.2.9", port: 7 };
  const wrote: Array<(info: DatagramInfo) => unknown> = [
    (info) => Object.assign(info, { remoteAddr: { hostname: "x", port: 1 } }),
    (info) => Object.assign(info, { remoteAddr: undefined, localAddr: 1 }),
    (info) => Object.setPrototypeOf(info, null),
    (info) => {
      Object.assign(info, { remoteAddr: undefined });
      throw new Error("mine");
    },
  ];
  const server = serve({
    ...address,
    runtime: { ...runtime, warn: (text) => void lines.push(text) },
  }, (data, info) => {
    wrote[data[0]!]?.(info);
    return data;
  });
  const ask = (kind: number) =>
    network.run(
      request(address, new Uint8Array([kind]), { runtime, retries: 0 }),
    );
  for (const kind of [0, 1, 2, 4]) {
    assertEquals((await ask(kind)).data, new Uint8Array([kind]));
  }
  await assertRejects(() => ask(3), TimeoutError);
  assertEquals(server.stats().errors.handler, 1);
  assertEquals(lines.length, 1);
  await network.run(server.shutdown());
});

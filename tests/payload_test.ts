/** The payloads that every function takes, and refuses in the same words. */
import { assert, assertEquals } from "@std/assert";
import { Buffer } from "node:buffer";
import type { UdpAddress } from "../lib/address.ts";
import type { PayloadInit } from "../lib/base/payload.ts";
import { connect } from "../lib/client/connect.ts";
import { gather } from "../lib/client/gather.ts";
import { request } from "../lib/client/request.ts";
import { requestMany } from "../lib/client/series.ts";
import { fixedReply } from "../lib/server/responders.ts";
import { serve } from "../lib/server/serve.ts";
import { openSocket } from "../lib/socket/open_socket.ts";
import type { SimulatedNetwork } from "../lib/testing/mod.ts";
import { restfulNetworks } from "./helpers.ts";

const makeNetwork = restfulNetworks();

const SERVER: UdpAddress = { hostname: "198.51.100.1", port: 20001 };
const PEER: UdpAddress = { hostname: "198.51.100.2", port: 20002 };

/** Sends a payload by one function; its rejection is the error of the caller. */
type Send = (payload: PayloadInit, network: SimulatedNetwork) => unknown;

const SHORT = { timeoutMs: 50, retries: 0 };

/** Each function by its name in messages, with the datagrams that it sends. */
const FUNCTIONS: Record<string, Send> = {
  "payload of request()": (payload, { runtime }) =>
    request(PEER, payload, { runtime, ...SHORT }),
  "payload's function of request()": (payload, { runtime }) =>
    request(PEER, () => payload, { runtime, ...SHORT }),
  "payload of requestMany()": (payload, { runtime }) =>
    first(requestMany(PEER, payload, { runtime, ...SHORT })),
  "payload's function of requestMany()": (payload, { runtime }) =>
    first(requestMany(PEER, () => payload, { runtime, ...SHORT })),
  "payload of gather()": (payload, { runtime }) =>
    Promise.resolve(gather([PEER], payload, { runtime, ...SHORT })),
  "payload's function of gather()": (payload, { runtime }) =>
    Promise.resolve(gather([PEER], () => payload, { runtime, ...SHORT })),
  "payload of request() of a client": async (payload, { runtime }) => {
    await using client = await connect(PEER, { runtime, ...SHORT });
    await client.request(payload);
  },
  "payload's function of request() of a client": async (
    payload,
    { runtime },
  ) => {
    await using client = await connect(PEER, { runtime, ...SHORT });
    await client.request(() => payload);
  },
  "payload of send() of a client": async (payload, { runtime }) => {
    await using client = await connect(PEER, { runtime, ...SHORT });
    await client.send(payload);
  },
  "payload of send()": (payload, { runtime }) =>
    serve({ ...SERVER, runtime, quiet: true }, () => {}).send(payload, PEER),
  "payload of sendMany()": (payload, { runtime }) =>
    serve({ ...SERVER, runtime, quiet: true }, () => {})
      .sendMany(payload, [PEER]),
  "payload of send() of a socket": (payload, { runtime }) =>
    openSocket({ ...SERVER, runtime, onError() {} }, () => {})
      .send(payload, PEER),
  "payload of sendBatch()": async (payload, { runtime }) => {
    const errors: Error[] = [];
    const onError = (error: unknown) => void errors.push(error as Error);
    const socket = openSocket({ ...SERVER, runtime, onError }, () => {});
    await socket.sendBatch([{ payload, to: PEER }]);
    for (const { cause } of errors) throw cause;
  },
  "payload of reply()": (payload, network) =>
    answered(network, (_, { reply }) => void reply(payload)),
  "payload of fixedReply()": (payload, network) =>
    answered(network, fixedReply(payload)),
  "handler": (payload, network) => answered(network, () => payload),
};

/** Rejects with the error of the first event of a series. */
async function first(series: ReturnType<typeof requestMany>): Promise<void> {
  for await (const event of series) {
    if (event.type === "error") throw event.error;
  }
}

/** Sends a request to a handler; rejects with the handler's error. */
async function answered(
  { runtime }: SimulatedNetwork,
  handler: Parameters<typeof serve>[1] & object,
): Promise<void> {
  const errors: unknown[] = [];
  const onError = (error: unknown) => void errors.push(error);
  const options = { ...SERVER, runtime, onError, guard: false as const };
  await using _server = serve(options, handler);
  await request(SERVER, "ask", { runtime, ...SHORT }).catch(() => {});
  for (const error of errors) throw error;
}

/** The error of one function, or the bytes of the datagram that it sent. */
async function outcome(send: Send, payload: unknown): Promise<unknown> {
  const network = makeNetwork();
  let error: unknown;
  await network.run((async () => {
    try {
      await send(payload as PayloadInit, network);
    } catch (thrown) {
      if (!(thrown instanceof Error && thrown.name === "TimeoutError")) {
        error = thrown;
      }
    }
  })());
  if (error !== undefined) return error;
  return network.sent.map(({ data }) => new TextDecoder().decode(data))
    .find((text) => text !== "ask");
}

const WRONG: Record<string, () => unknown> = {
  undefined: () => undefined,
  null: () => null,
  number: () => 8,
  boolean: () => true,
  bigint: () => 8n,
  symbol: () => Symbol("payload"),
  Array: () => [104, 105],
  Object: () => ({ length: 8 }),
  Promise: () => Promise.resolve("later"),
  SharedArrayBuffer: () => new SharedArrayBuffer(8),
  "Uint16Array, transferred or resized": () => {
    const numbers = new Uint16Array(4);
    structuredClone(numbers, { transfer: [numbers.buffer] });
    return numbers;
  },
  "a value that cannot be shown": () => {
    const { proxy, revoke } = Proxy.revocable({}, {});
    revoke();
    return proxy;
  },
};

/** Silence, a promise of an answer, and a value whose `then` throws. */
const OF_HANDLERS = new Set([
  ...["undefined", "null", "Promise", "a value that cannot be shown"],
]);

/** Values whose bytes are the text "hi there". */
const bytes = () => new TextEncoder().encode("hi there");
const padded = () => new TextEncoder().encode("....hi there....").buffer;
const RIGHT: Record<string, () => unknown> = {
  "text": () => "hi there",
  "bytes": bytes,
  "a Buffer": () => Buffer.from("hi there"),
  "a part of an array": () => new Uint8Array(padded(), 4, 8),
  "an ArrayBuffer": () => bytes().buffer,
  "a resizable ArrayBuffer": () => {
    const buffer = new ArrayBuffer(8, { maxByteLength: 16 });
    new Uint8Array(buffer).set(bytes());
    return buffer;
  },
  "a DataView": () => new DataView(padded(), 4, 8),
  "clamped bytes": () => new Uint8ClampedArray(padded(), 4, 8),
  "wider numbers": () => new Uint16Array(padded(), 4, 4),
  "large numbers": () => new BigInt64Array(bytes().buffer),
  "a view of a SharedArrayBuffer": () => {
    const shared = new Int8Array(new SharedArrayBuffer(8));
    shared.set(bytes());
    return shared;
  },
};

for (const [name, send] of Object.entries(FUNCTIONS)) {
  Deno.test(`${name}: takes text and every kind of bytes`, async () => {
    for (const [kind, make] of Object.entries(RIGHT)) {
      assertEquals(await outcome(send, make()), "hi there", kind);
    }
  });

  Deno.test(`${name}: any other value is a TypeError that names both`, async () => {
    const subject = name.replace(/ of a \w+$/, "");
    for (const [kind, make] of Object.entries(WRONG)) {
      if (name === "handler" && OF_HANDLERS.has(kind)) continue;
      const error = await outcome(send, make());
      assert(error instanceof TypeError, `${kind}: ${error}`);
      const verb = /function|handler/.test(name) ? "return" : "be";
      const others = name === "handler" ? ", null or undefined" : "";
      const message =
        `The ${subject} must ${verb} a string, a typed array, a DataView or an ArrayBuffer${others}: current value is ${kind}`;
      assert(error.message.endsWith(message), error.message);
      assert(!error.message.includes("\n"));
    }
  });
}

Deno.test("send(), sendBatch(): a wrong address or datagram is an error that names it, and stops no other", async () => {
  const network = makeNetwork();
  const { runtime } = network;
  const errors: Error[] = [];
  const onError = (error: unknown) => void errors.push(error as Error);
  const socket = openSocket({ ...SERVER, runtime, onError }, () => {});
  const wrong = [undefined, null, 5, {}] as never[];
  for (const to of wrong) await socket.send("x", to).catch(() => {});
  const right = { payload: "x", to: PEER };
  assertEquals(await socket.sendBatch([...wrong, right]), 1);
  assertEquals(errors.length, 2 * wrong.length);
  for (const { message } of errors) {
    assert(message.startsWith("'hostname' must be"), message);
  }
  await socket.close();
  assertEquals(network.sockets.size, 0);
});

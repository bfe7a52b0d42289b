/**
 * The types of the public functions, checked by `deno check`: what is accepted, what
 * is refused, and the type of each result.
 */
import { assertEquals } from "@std/assert";
import {
  connect,
  fixedReply,
  gather,
  type Gathering,
  type Handler,
  load,
  openSocket,
  type Payload,
  type PayloadInit,
  request,
  requestMany,
  type RequestOptions,
  serve,
  TimeoutError,
  type UdpClient,
  type UdpReply,
  type UdpServer,
  type UdpSocket,
} from "../lib/mod.ts";

/** Whether two types are the same. */
type Same<A, B> = (<T>() => T extends A ? 1 : 2) extends
  (<T>() => T extends B ? 1 : 2) ? true : false;

/** Accepts a type argument that is true. */
function check<_Truth extends true>(): void {}

const HOST = "192.0.2.1:5000";

/** Decodes every datagram. */
const always = (data: Uint8Array) => data.length;
/** Decodes some, and refuses others. */
const sometimes = (data: Uint8Array) => data[0] === 1 && data.length;
const orUndefined = (data: Uint8Array) => data[0] === 1 ? "one" : undefined;
/** Accepts or refuses, without a value. */
const yesOrNo = (data: Uint8Array) => data.length > 3;

/** The calls are checked, never made. */
const checks: Record<string, (...args: never[]) => unknown> = {
  async "request(): value is what match decodes"() {
    const plain = await request(HOST, "x");
    check<Same<typeof plain.value, undefined>>();
    const decoded = await request(HOST, "x", { match: always });
    check<Same<typeof decoded.value, number>>();
    const some = await request(HOST, "x", { match: sometimes });
    check<Same<typeof some.value, number>>();
    const text = await request(HOST, "x", { match: orUndefined });
    check<Same<typeof text.value, "one">>();
    const tested = await request(HOST, "x", { match: yesOrNo, retries: 0 });
    check<Same<typeof tested.value, undefined>>();
    const inline = await request(HOST, "x", {
      match: (data, info) => data[0] === 1 && { port: info.remoteAddr.port },
    });
    check<Same<typeof inline.value, { port: number }>>();
    const literal = await request(HOST, "x", { match: () => true });
    check<Same<typeof literal.value, undefined>>();
    const either = await request(HOST, "x", {
      match: (data): number | true => data.length > 1 ? data.length : true,
    });
    check<Same<typeof either.value, number | undefined>>();
    const options: RequestOptions = { match: yesOrNo };
    const unknown = await request(HOST, "x", options);
    check<Same<typeof unknown.value, unknown>>();
    const any: UdpReply = decoded;
    // @ts-expect-error: the value is a number.
    const wrong: UdpReply<string> = decoded;
    return [any, wrong];
  },

  async "request(): the number of replies decides about the result"(
    maybe?: number,
  ) {
    const two = await request(HOST, "x", { replies: 2 });
    check<Same<typeof two, UdpReply<undefined>[]>>();
    const decoded = await request(HOST, "x", { match: always, replies: 2 });
    check<Same<typeof decoded, UdpReply<number>[]>>();
    const inline = await request(HOST, "x", {
      match: (data, { ttl }) => ({ length: data.length, ttl }),
      replies: ({ value, text }) => value.length > 3 && text() !== "",
      missing: (received) => `${received.map(({ value }) => value.length)}`,
    });
    check<
      Same<
        typeof inline,
        UdpReply<{ length: number; ttl: number | undefined }>[]
      >
    >();
    const open = await request(HOST, "x", { match: always, replies: maybe });
    check<Same<typeof open, UdpReply<number> | UdpReply<number>[]>>();
    const none = await request(HOST, "x", { replies: undefined });
    check<
      Same<typeof none, UdpReply<undefined> | UdpReply<undefined>[]>
    >();
    // @ts-expect-error: neither a number nor a function.
    await request(HOST, "x", { replies: "2" });
    // @ts-expect-error: no such option.
    await request(HOST, "x", { reply: 2 });
    // @ts-expect-error: a reply has no such member.
    await request(HOST, "x", { replies: (reply) => reply.size > 2 });
  },

  async "connect(): requests are as those of request()"(maybe?: number) {
    const client: UdpClient = await connect(HOST, { key: (data) => data[0] });
    const plain = await client.request("x");
    check<Same<typeof plain.value, undefined>>();
    const decoded = await client.request("x", { match: sometimes });
    check<Same<typeof decoded.value, number>>();
    const parts = await client.request("x", {
      match: (data) => data[0],
      replies: ({ value }) => value === 7,
      missing: (received) => new Uint8Array(received.map((r) => r.value)),
    });
    check<Same<typeof parts, UdpReply<number>[]>>();
    const open = await client.request("x", { match: always, replies: maybe });
    check<Same<typeof open, UdpReply<number> | UdpReply<number>[]>>();
    // @ts-expect-error: an option of connect(), not of its requests.
    await client.request("x", { localPort: 5000 });
    // @ts-expect-error: a match is of each request.
    await connect(HOST, { match: always });
    for await (const { data } of client) check<Same<typeof data[0], number>>();
  },

  async "requestMany(): events have the value"() {
    const series = requestMany(HOST, (seq, attempt) => `${seq} ${attempt}`, {
      match: orUndefined,
    });
    for await (const event of series) {
      if (event.type === "reply") {
        check<Same<typeof event.reply.value, "one">>();
      } else if (event.type === "lost") {
        check<Same<typeof event.error, TimeoutError>>();
      }
    }
    for await (const event of requestMany(HOST, "x")) {
      if (event.type !== "reply") continue;
      check<Same<typeof event.reply.value, undefined>>();
    }
    // @ts-expect-error: one reply each.
    requestMany(HOST, "x", { replies: 2 });
  },

  async "gather(): replies have the value, awaited or iterated"() {
    const gathering: Gathering<number> = gather([HOST], "x", { match: always });
    const replies = await gathering;
    check<Same<typeof replies, UdpReply<number>[]>>();
    for await (const { value } of gather(HOST, "x", { match: yesOrNo })) {
      check<Same<typeof value, undefined>>();
    }
    // @ts-expect-error: gathers until `maxReplies`.
    gather(HOST, "x", { replies: 2 });
  },

  "payloads: text, views and buffers, or a function that makes them"(
    server: UdpServer,
    socket: UdpSocket,
    client: UdpClient,
  ) {
    const all: PayloadInit[] = [
      "x",
      new Uint8Array(1),
      new Float32Array(1),
      new DataView(new ArrayBuffer(1)),
      new ArrayBuffer(1),
    ];
    const made: Payload = (attempt: number) => all[attempt]!;
    // @ts-expect-error: shared memory.
    request(HOST, new SharedArrayBuffer(1));
    // @ts-expect-error: a list of numbers.
    request(HOST, [1]);
    // @ts-expect-error: a payload of a promise.
    request(HOST, () => Promise.resolve("x"));
    // @ts-expect-error: only requests take functions.
    client.send(made);
    // @ts-expect-error: no number.
    server.send(5, HOST);
    // @ts-expect-error: no number.
    server.sendMany(5, [HOST]);
    // @ts-expect-error: no payload.
    socket.send(undefined, HOST);
    // @ts-expect-error: no payload.
    socket.sendBatch([{ to: HOST }]);
    // @ts-expect-error: no function.
    fixedReply(() => "x");
    // @ts-expect-error: no payload of one's own.
    load(HOST, { rate: 1, payload: "x" });
    return [
      ...all.map((one) => [request(HOST, one), client.request(one)]),
      all.map((one) => [client.send(one), server.send(one, HOST)]),
      all.map((payload) => socket.sendBatch([{ payload, to: HOST }])),
      all.map(fixedReply),
      gather(HOST, made),
    ];
  },

  "handlers: return a payload or nothing, or a promise of it"() {
    const right: Handler[] = [
      () => {},
      () => null,
      () => "x",
      (data) => data.buffer,
      async (data) => await new DataView(data.buffer),
      (_, { reply }) => void reply(new Uint16Array(1)),
    ];
    // @ts-expect-error: a number is no reply.
    serve(() => 5);
    // @ts-expect-error: nor is shared memory.
    serve(() => new SharedArrayBuffer(1));
    // @ts-expect-error: a datagram, and no payload.
    openSocket({}, (payload) => payload.length);
    return right;
  },

  "TimeoutError: has the replies received"(error: TimeoutError) {
    check<Same<typeof error.replies, readonly UdpReply[]>>();
    // @ts-expect-error: not to be changed.
    error.replies.push();
  },
};

Deno.test("lib/mod.ts: its types are checked, and its errors have their members", () => {
  assertEquals(Object.keys(checks).length, 8);
  const { attempts, foreign, replies } = new TimeoutError("No reply", {
    attempts: 1,
    foreign: 0,
  });
  assertEquals([attempts, foreign, replies], [1, 0, []]);
});

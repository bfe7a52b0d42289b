/** How the linux engine meets each error of the system, on a C library that the test owns. */
import { assert, assertEquals, assertRejects, assertThrows } from "@std/assert";
import { request } from "../lib/request.ts";
import { echo } from "../lib/responders.ts";
import { type Handler, serve, type ServeOptions } from "../lib/serve.ts";
import { UDP_GRO, UDP_SEGMENT } from "../lib/linux/layout.ts";
import { FakeLibc } from "./fake_libc.ts";

const EPERM = 1, EINTR = 4, EIO = 5, EAGAIN = 11, ENOMEM = 12, EINVAL = 22;
const EMFILE = 24, EMSGSIZE = 90, EADDRINUSE = 98, ENOBUFS = 105;
const ECONNREFUSED = 111;

/** A server, an echo if nothing else is given, on a fake C library, and the errors that it reports. */
function started(options: ServeOptions = {}, handler: Handler = echo()) {
  const libc = new FakeLibc();
  const errors: string[] = [];
  const server = serve({
    runtime: libc.runtime,
    guard: false,
    onError: (error) => void errors.push((error as Error).message),
    ...options,
  }, handler);
  return { libc, server, errors };
}

/** Lets everything happen that can happen. */
async function idle(): Promise<void> {
  for (let i = 0; i < 20; i++) {
    await new Promise<void>((resolve) => setImmediate(() => resolve()));
  }
}

const one = (payload: string, port = 9) => ({ port, payloads: [payload] });
const payloads = ({ sent }: FakeLibc) => sent.map(({ payload }) => payload);

Deno.test("replies go out in one call, and one message for what came as one", async () => {
  const { libc, server } = started();
  libc.arrive(one("a", 1), { port: 2, payloads: ["bb", "cc", "d"] });
  await idle();
  const to = (port: number) => ({ hostname: "127.0.0.2", port });
  assertEquals(libc.sent, [
    { to: to(1), payload: "a", segmentBytes: 0 },
    { to: to(2), payload: "bbccd", segmentBytes: 2 },
  ]);
  const { received, replied } = server.stats();
  assertEquals([received, replied], [4, 4]);
  await server.shutdown();
  assertEquals(libc.closed, [7]);
});

for (const [name, errno] of Object.entries({ EIO, EINVAL })) {
  Deno.test(`${name} turns segmentation off, says so once, and loses nothing`, async () => {
    const { libc, server, errors } = started();
    libc.sends = [-errno];
    libc.arrive({ payloads: ["aa", "bb", "c"] }, one("dd"));
    await idle();
    assertEquals(payloads(libc), ["aa", "bb", "c", "dd"]);
    assertEquals(errors.length, 1);
    assert(errors[0]!.startsWith("Replies go out one by one from now on"));
    libc.arrive({ payloads: ["ee", "ff"] });
    await idle();
    assertEquals(payloads(libc).slice(4), ["ee", "ff"]);
    assertEquals(
      libc.sent.every(({ segmentBytes }) => segmentBytes === 0),
      true,
    );
    assertEquals([server.stats().replied, errors.length], [6, 1]);
    await server.shutdown();
  });
}

Deno.test("EMSGSIZE for segments sends them one by one, to that peer alone", async () => {
  const { libc, server, errors } = started();
  libc.sends = [-EMSGSIZE];
  libc.arrive({ port: 1, payloads: ["aa", "bb"] }, {
    port: 2,
    payloads: ["cc", "dd"],
  });
  await idle();
  assertEquals(
    libc.sent.map(({ payload, segmentBytes }) => [payload, segmentBytes]),
    [["aa", 0], ["bb", 0], ["ccdd", 2]],
  );
  assertEquals([server.stats().replied, errors], [4, []]);
  await server.shutdown();
});

Deno.test("what fails one by one is counted one by one", async () => {
  const { libc, server, errors } = started();
  libc.sends = [-EIO, 1, -ENOBUFS, 1];
  libc.arrive({ payloads: ["aa", "bb", "cc"] });
  await idle();
  assertEquals(payloads(libc), ["aa", "cc"]);
  const { replied, errors: { send } } = server.stats();
  assertEquals([replied, send], [2, 1]);
  assert(errors.includes("No buffer space available (os error 105)"));
  await server.shutdown();
});

const SEND_ERRORS = { EAGAIN, ENOBUFS, EPERM, EMSGSIZE, EIO };
for (const [name, errno] of Object.entries(SEND_ERRORS)) {
  Deno.test(`${name} in the middle of a batch costs its own reply only`, async () => {
    const { libc, server, errors } = started();
    libc.sends = [1, -errno];
    libc.arrive(one("a"), one("b"), one("c"), one("d"));
    await idle();
    assertEquals(payloads(libc), ["a", "c", "d"]);
    const { received, replied, errors: { send } } = server.stats();
    assertEquals([received, replied, send], [4, 3, 1]);
    assertEquals(errors.length, 1);
    assert(errors[0]!.endsWith(`(os error ${errno})`));
    await server.shutdown();
  });
}

Deno.test("a sendmmsg that takes a part is called for the rest", async () => {
  const { libc, server, errors } = started();
  libc.sends = [2, 1];
  libc.arrive(...["a", "b", "c", "d", "e"].map((text) => one(text)));
  await idle();
  assertEquals(payloads(libc), ["a", "b", "c", "d", "e"]);
  assertEquals([server.stats().replied, errors], [5, []]);
  await server.shutdown();
});

Deno.test("EINTR is no error: the call is made again", async () => {
  const { libc, server, errors } = started();
  libc.sends = [-EINTR];
  libc.receives = [-EINTR];
  libc.arrive(one("a"));
  await idle();
  assertEquals([payloads(libc), errors], [["a"], []]);
  await server.shutdown();
});

Deno.test("ECONNREFUSED is about an earlier datagram: this one is sent", async () => {
  const { libc, server, errors } = started();
  libc.sends = [1, -ECONNREFUSED];
  libc.arrive(one("a"), one("b"), one("c"));
  await idle();
  assertEquals(payloads(libc), ["a", "b", "c"]);
  const { replied, errors: { send, receive } } = server.stats();
  assertEquals([replied, send, receive], [3, 0, 1]);
  assertEquals(errors, ["Connection refused (os error 111)"]);
  await server.shutdown();
});

Deno.test("a reply counts as sent when the system has taken it, not before", async () => {
  const { libc, server } = started({ maxReplies: 2 });
  libc.sends = [-ENOBUFS];
  libc.arrive(one("a"));
  await idle();
  assertEquals(server.stats().replied, 0);
  libc.arrive(one("b"), one("c"), one("d"));
  await server.finished;
  assertEquals(payloads(libc), ["b", "c"]);
  const { received, replied, errors, dropped } = server.stats();
  assertEquals([received, replied, errors.send], [4, 2, 1]);
  assertEquals(dropped.closing, 1);
});

Deno.test("more than maxInFlight at once are answered where handlers are synchronous", async () => {
  const { libc, server } = started({ maxInFlight: 2 });
  libc.arrive({ payloads: Array(30).fill("xx") }, one("y"));
  await idle();
  const { received, replied } = server.stats();
  assertEquals([received, replied], [31, 31]);
  await server.shutdown();
});

Deno.test("receiving goes on after an error, and ends after 16 in a row", async () => {
  const { libc, server, errors } = started();
  libc.receives = Array(15).fill(-ENOMEM);
  libc.arrive(one("a"));
  await idle();
  assertEquals([payloads(libc), errors.length], [["a"], 15]);
  libc.receives = Array(16).fill(-ENOMEM);
  libc.arrive(one("b"));
  await assertRejects(() => server.finished, Error, "os error 12");
  assertEquals(libc.closed, [7]);
});

Deno.test("a kernel without GRO and segmentation serves datagrams one by one", async () => {
  const libc = new FakeLibc();
  libc.unknownOptions = [UDP_GRO, UDP_SEGMENT];
  const server = serve({ runtime: libc.runtime }, echo());
  libc.arrive(one("a"), one("b"));
  await idle();
  assertEquals(
    libc.sent.map(({ payload, segmentBytes }) => [payload, segmentBytes]),
    [["a", 0], ["b", 0]],
  );
  await server.shutdown();
});

Deno.test("a socket that cannot be set up leaves no descriptor", () => {
  const cases = [
    [{ socket: -EMFILE }, "Too many open files", []],
    [{ bind: -EADDRINUSE }, "Address already in use", [7]],
  ] as const;
  for (const [setUp, message, closed] of cases) {
    const libc = new FakeLibc();
    libc.setUp = setUp;
    const { runtime } = libc;
    assertThrows(() => serve({ runtime }, echo()), Error, message);
    assertEquals(libc.closed, [...closed]);
  }
});

Deno.test("a client's send fails with the system's error, and closes its socket", async () => {
  const target = { hostname: "127.0.0.2", port: 9 };
  for (const errno of [EPERM, ENOBUFS]) {
    const libc = new FakeLibc();
    libc.sends = [-errno];
    const asked = request(target, "x", { runtime: libc.runtime });
    await assertRejects(() => asked, Error, `os error ${errno}`);
    assertEquals(libc.closed, [7]);
  }
});

Deno.test("a client hears of a closed port at once", async () => {
  const target = { hostname: "127.0.0.2", port: 9 };
  const libc = new FakeLibc();
  libc.receives = [-ECONNREFUSED];
  const asked = request(target, "x", { runtime: libc.runtime });
  const error = await assertRejects(() => asked, Error, "closed port");
  assert((error as Error).cause instanceof Deno.errors.ConnectionRefused);
  assertEquals(libc.sent, [
    { to: undefined, payload: "x", segmentBytes: 0 },
  ]);
});

Deno.test("a reply that fits no datagram is refused as the system would", async () => {
  const { libc, server, errors } = started(
    {},
    (data) => new Uint8Array(data[0] === 0x61 ? 2_000_000 : 1),
  );
  libc.arrive(one("a"), one("b"));
  await idle();
  const { replied, errors: { send } } = server.stats();
  assertEquals([replied, send], [1, 1]);
  assertEquals(errors, ["Message too long (os error 90)"]);
  await server.shutdown();
});

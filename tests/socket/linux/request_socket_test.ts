import { assertEquals, assertRejects } from "@std/assert";
import type { Datagram, Receiver } from "../../../lib/socket/contract.ts";
import { EAGAIN } from "../../../lib/socket/linux/errno.ts";
import { MSG_ERRQUEUE } from "../../../lib/socket/linux/layout.ts";
import { RequestSet } from "../../../lib/socket/linux/request_set.ts";
import { RequestSocket } from "../../../lib/socket/linux/request_socket.ts";
import { FakeLibc, FD } from "./fake_libc.ts";

const PEER = { hostname: "127.0.0.2", port: 9 };
const decode = (bytes: Uint8Array) => new TextDecoder().decode(bytes);
const encode = (text: string) => new TextEncoder().encode(text);
const turn = () => new Promise<void>((resolve) => setImmediate(resolve));

/** A socket whose set counts the waits of the other thread. */
function make(receiver: Partial<Receiver> = {}, maxDatagramBytes = 100) {
  const libc = new FakeLibc();
  const { epollWait } = FakeLibc.prototype;
  const threads = { waits: 0 };
  libc.epollWait = function () {
    threads.waits++;
    return epollWait.call(libc);
  };
  const close = (fd: number) => void libc.closed.push(fd);
  const own = (fd: number) => ({ fd, close: () => close(fd) });
  const set = new RequestSet(libc, own, () => libc.now);
  const bound = { ...own(FD), family: libc.family };
  const options = { maxDatagramBytes };
  const socket = new RequestSocket(libc, set, bound, options, undefined);
  const got: string[] = [];
  const finished = socket.start({
    onDatagram(datagram) {
      got.push(decode(datagram.data));
      socket.release(datagram);
    },
    ...receiver,
  });
  const end = async () => {
    socket.close();
    await finished;
    assertEquals(libc.closed, [FD]);
  };
  return { libc, socket, got, threads, end };
}

Deno.test("RequestSocket: a prompt reply needs no other thread", async () => {
  const { libc, socket, got, threads, end } = make();
  await socket.send(encode("a"), PEER);
  libc.arrive({ payloads: ["b"] });
  await turn();
  assertEquals(got, ["b"]);
  assertEquals([threads.waits, libc.waits.length], [0, 1]);
  assertEquals(libc.sent.map(({ to, payload }) => [to, payload]), [[
    PEER,
    "a",
  ]]);
  await end();
});

Deno.test("RequestSocket: a slow reply is waited for by the other thread", async () => {
  const { libc, socket, got, threads, end } = make();
  await socket.send(encode("a"), PEER);
  await turn();
  assertEquals([got, threads.waits], [[], 1]);
  libc.arrive({ payloads: ["b"] });
  await turn();
  await turn();
  assertEquals(got, ["b"]);
  // Nothing is expected: the other thread waits only after a while.
  assertEquals(threads.waits, 1);
  await end();
});

Deno.test("RequestSocket: after two slow replies this thread does not wait for a while", async () => {
  const { libc, socket, end } = make();
  for (const waits of [1, 2, 2]) {
    await socket.send(encode("a"), PEER);
    await turn();
    assertEquals(libc.waits.length, waits);
  }
  libc.now += 21;
  await socket.send(encode("a"), PEER);
  await turn();
  assertEquals(libc.waits.length, 3);
  await end();
});

Deno.test("RequestSocket: looks for reports before each send but the first", async () => {
  const { libc, socket, end } = make();
  const { recvmmsg } = libc;
  let looks = 0;
  libc.recvmmsg = (fd, headers, count, flags) => {
    if (flags & MSG_ERRQUEUE) looks++;
    return recvmmsg.call(libc, fd, headers, count, flags);
  };
  await socket.send(encode("a"), PEER);
  assertEquals(looks, 0);
  await socket.send(encode("a"), PEER);
  assertEquals(looks, 1);
  await end();
});

Deno.test("RequestSocket: datagrams that wait for room leave in order, or fail at the close", async () => {
  const { libc, socket, end } = make();
  libc.sends = [-EAGAIN, -EAGAIN];
  await Promise.all(
    ["a", "b", "c"].map((text) => socket.send(encode(text), PEER)),
  );
  assertEquals(libc.sent.map(({ payload }) => payload), ["a", "b", "c"]);
  libc.sends = [-EAGAIN];
  const failed = assertRejects(
    () => socket.send(encode("d"), PEER),
    Deno.errors.BadResource,
  );
  await end();
  await failed;
});

Deno.test("RequestSocket: a datagram that is held keeps its bytes", async () => {
  const held: Datagram[] = [];
  const onDatagram = (datagram: Datagram) => void held.push(datagram);
  const { libc, socket, end } = make({ onDatagram });
  for (const text of ["one", "two"]) {
    await socket.send(encode("a"), PEER);
    libc.arrive({ payloads: [text] });
    await turn();
  }
  assertEquals(held.map(({ data }) => decode(data)), ["one", "two"]);
  await end();
});

Deno.test("RequestSocket: a datagram that is too long is counted, and dropped", async () => {
  let tooLong = 0;
  const { libc, socket, got, end } = make({ onTooLong: () => tooLong++ }, 3);
  await socket.send(encode("a"), PEER);
  libc.arrive({ payloads: ["four"] }, { payloads: ["two"] });
  await turn();
  assertEquals([got, tooLong], [["two"], 1]);
  await end();
});

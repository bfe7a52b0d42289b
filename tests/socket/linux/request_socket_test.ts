import { assertEquals } from "@std/assert";
import type { UdpAddress } from "../../../lib/address.ts";
import type { Conn } from "../../../lib/socket/deno_socket.ts";
import { AF_INET } from "../../../lib/socket/linux/layout.ts";
import { RequestSocket } from "../../../lib/socket/linux/request_socket.ts";
import { FakeLibc } from "./fake_libc.ts";

const PEER = { hostname: "192.0.2.1", port: 7 };
const REQUEST = new Uint8Array(1);

/** A socket with a peer, on a connection that receives what a test gives it. */
function make() {
  const libc = new FakeLibc();
  let receive = (_from: UdpAddress) => {};
  const conn = {
    addr: { transport: "udp", hostname: "0.0.0.0", port: 4242 },
    receive: (buffer: Uint8Array) =>
      new Promise((resolve) => {
        receive = (from) =>
          resolve([buffer.subarray(0, 1), { transport: "udp", ...from }]);
      }),
    send: () => Promise.resolve(1),
    close() {},
  } as unknown as Conn;
  const bound = { fd: 3, family: AF_INET, conn, close() {} };
  const socket = new RequestSocket(libc, bound, PEER, 100, undefined);
  socket.start({ onDatagram: (datagram) => socket.release(datagram) });
  return {
    libc,
    socket,
    async deliver(from: UdpAddress) {
      receive(from);
      for (let i = 0; i < 8; i++) await null;
    },
  };
}

/** Runs with timers that never fire; gives the number of those that are set. */
async function withTimers(
  body: (count: () => number) => Promise<void>,
): Promise<void> {
  const { setTimeout, clearTimeout } = globalThis;
  const timers = new Set<number>();
  let next = 1;
  const own = {
    setTimeout: () => (timers.add(next), next++),
    clearTimeout: (timer: number) => timers.delete(timer),
  };
  Object.assign(globalThis, own);
  try {
    await body(() => timers.size);
  } finally {
    Object.assign(globalThis, { setTimeout, clearTimeout });
  }
}

Deno.test("RequestSocket: looks for reports until its peer has answered each datagram", async () => {
  await withTimers(async (count) => {
    const { socket, deliver } = make();
    await socket.send(REQUEST, PEER);
    assertEquals(count(), 1);
    await deliver({ ...PEER, port: 8 });
    await deliver({ ...PEER, hostname: "192.0.2.2" });
    assertEquals(count(), 1);
    await deliver(PEER);
    assertEquals(count(), 0);
    await socket.send(REQUEST, PEER);
    await socket.send(REQUEST, PEER);
    await deliver(PEER);
    assertEquals(count(), 1);
    await deliver(PEER);
    assertEquals(count(), 0);
    socket.close();
  });
});

Deno.test("RequestSocket: looks for reports before each send but the first", async () => {
  await withTimers(async () => {
    const { libc, socket } = make();
    let looks = 0;
    libc.recvmmsg = () => {
      looks++;
      return -1;
    };
    await socket.send(REQUEST, PEER);
    assertEquals(looks, 0);
    await socket.send(REQUEST, PEER);
    assertEquals(looks, 1);
    socket.close();
  });
});

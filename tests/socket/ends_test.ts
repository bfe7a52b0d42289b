/** The end of a socket: its last datagrams, and no callbacks after its close. */
import { assert, assertEquals } from "@std/assert";
import { libcMissing } from "../../lib/socket/linux/libc.ts";
import type { DatagramSocket } from "../../lib/socket/contract.ts";
import { openSocket } from "../../lib/socket/open_socket.ts";
import { type Engine, runtimeFor } from "../../lib/socket/runtime.ts";
import { serve } from "../../lib/server/serve.ts";
import { netTest } from "../helpers.ts";

const ENGINES: Engine[] = libcMissing() === undefined
  ? ["deno", "linux"]
  : ["deno"];

const open = (engine: Engine): DatagramSocket =>
  runtimeFor(engine).open({
    hostname: "127.0.0.1",
    port: 0,
    maxDatagramBytes: 1500,
    isBusy: true,
  });

/** Sends datagrams of one byte, which loopback delivers within the call. */
async function sendAll(
  from: DatagramSocket,
  to: DatagramSocket["addr"],
  count: number,
): Promise<void> {
  for (let i = 0; i < count; i++) await from.send(new Uint8Array([i]), to);
}

for (const engine of ENGINES) {
  for (const count of [1, 100]) {
    netTest(
      `drain(): delivers ${count} that the system had received (${engine} engine)`,
      async () => {
        const [socket, peer] = [open(engine), open(engine)];
        await sendAll(peer, socket.addr, count);
        const seen: number[] = [];
        const closed = socket.start({
          onDatagram(datagram) {
            seen.push(datagram.data[0]!);
            socket.release(datagram);
          },
        });
        await Promise.all([socket.drain!(), socket.drain!()]);
        socket.close();
        assertEquals(seen, Array.from({ length: count }, (_, i) => i));
        peer.close();
        await closed;
        await socket.drain!();
      },
    );

    netTest(
      `shutdown(): answers ${count} that the system had received (${engine} engine)`,
      async () => {
        const replies = Promise.withResolvers<void>();
        let received = 0;
        await using peer = openSocket({ hostname: "127.0.0.1" }, () => {
          if (++received === count) replies.resolve();
        });
        const server = serve({ engine }, (data) => data);
        const to = server.addr;
        await peer.sendBatch(
          Array.from({ length: count }, () => ({ payload: "x", to })),
        );
        await server.shutdown();
        const stats = server.stats();
        assertEquals([stats.received, stats.replied], [count, count]);
        await replies.promise;
      },
    );
  }

  netTest(
    `drain(): ends while further datagrams arrive (${engine} engine)`,
    async () => {
      const socket = open(engine);
      const onSendError = () => {};
      let received = 0;
      // Each datagram has the socket send itself the next one.
      const closed = socket.start({
        onDatagram(datagram) {
          received++;
          socket.release(datagram);
          socket.post(new Uint8Array(1), socket.addr, { onSendError });
        },
      });
      await sendAll(socket, socket.addr, 10);
      await socket.drain!();
      assert(received >= 10, `${received}`);
      socket.close();
      await closed;
    },
  );

  netTest(
    `DatagramSocket: delivers nothing after its close (${engine} engine)`,
    async () => {
      const [socket, peer] = [open(engine), open(engine)];
      await sendAll(peer, socket.addr, 10);
      let calls = 0;
      await socket.start({
        onDatagram(datagram) {
          calls++;
          socket.release(datagram);
          socket.close();
        },
        onTooLong: () => calls++,
        onReceiveError: () => calls++,
      });
      assertEquals(calls, 1);
      peer.close();
    },
  );
}

const PROC = "/proc/net/udp";

/** Whether Deno reads the table: for that it wants all permissions. */
function maySeeDrops(): boolean {
  const { state } = Deno.permissions.querySync({ name: "read", path: PROC });
  try {
    return state === "granted" && Deno.readTextFileSync(PROC) !== "";
  } catch {
    return false;
  }
}

Deno.test({
  name:
    "kernelDrops(): the system's table is read once in a turn, never at a close",
  ignore: !maySeeDrops(),
  async fn() {
    const read = Deno.readTextFileSync;
    let reads = 0;
    Deno.readTextFileSync = (path) => {
      if (path === PROC) reads++;
      return read(path);
    };
    try {
      const sockets = Array.from({ length: 5 }, () => open("deno"));
      const drops = sockets.map((socket) => socket.kernelDrops());
      assertEquals([drops, reads], [[0, 0, 0, 0, 0], 1]);
      await new Promise<void>((resolve) => setImmediate(() => resolve()));
      assertEquals(sockets[0]!.kernelDrops(), 0);
      assert(reads === 2);
      await new Promise<void>((resolve) => setImmediate(() => resolve()));
      for (const socket of sockets) socket.close();
      assertEquals([sockets[0]!.kernelDrops(), reads], [0, 2]);
    } finally {
      Deno.readTextFileSync = read;
    }
  },
});

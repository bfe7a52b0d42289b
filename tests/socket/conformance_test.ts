/**
 * The contract of every DatagramSocket: both engines, and the simulated
 * network.
 */
import { assert, assertEquals } from "@std/assert";
import type { UdpAddress } from "../../lib/address.ts";
import type { DatagramSocket } from "../../lib/socket/contract.ts";
import { type Runtime, runtimeFor } from "../../lib/socket/runtime.ts";
import { SimulatedNetwork } from "../../lib/testing/mod.ts";
import { ENGINE, netTest } from "../helpers.ts";

type Settle = <T>(promise: Promise<T>) => Promise<T>;

/** Runs a test on the engine's sockets, and on those of a simulated network. */
function contractTest(
  name: string,
  fn: (runtime: Runtime, settle: Settle) => Promise<void>,
): void {
  Deno.test(`${name} (network in memory)`, async () => {
    const network = new SimulatedNetwork();
    await fn(network.runtime, (promise) => network.run(promise));
  });
  netTest(`${name} (engine)`, () => fn(runtimeFor(ENGINE), (all) => all));
}

const open = (runtime: Runtime, hostname: string): DatagramSocket =>
  runtime.open({ hostname, port: 0, maxDatagramBytes: 1500, isBusy: true });

contractTest(
  "DatagramSocket: datagrams of one peer that follow each other have one address",
  async (runtime, settle) => {
    for (const hostname of ["127.0.0.1", "::1"]) {
      const socket = open(runtime, hostname);
      const peers = [open(runtime, hostname), open(runtime, hostname)];
      const seen: UdpAddress[] = [];
      let arrived = () => {};
      const closed = socket.start({
        onDatagram(datagram) {
          seen.push(datagram.remoteAddr);
          socket.release(datagram);
          arrived();
        },
      });
      for (const peer of [0, 0, 1, 1, 0]) {
        const arrival = new Promise<void>((resolve) => arrived = resolve);
        await settle(peers[peer]!.send(new Uint8Array(1), socket.addr));
        await settle(arrival);
      }
      const { port } = peers[0]!.addr;
      assertEquals([seen[0]!.hostname, seen[0]!.port], [hostname, port]);
      assert(seen[0] === seen[1] && seen[2] === seen[3], hostname);
      assert(seen[1] !== seen[2] && Object.isFrozen(seen[0]), hostname);
      assertEquals(seen[4], seen[0]);
      for (const each of [socket, ...peers]) each.close();
      await settle(closed);
    }
  },
);

contractTest(
  "DatagramSocket: datagrams leave in the order of the calls",
  async (runtime, settle) => {
    const socket = open(runtime, "127.0.0.1");
    const peer = open(runtime, "127.0.0.1");
    const all = Array.from({ length: 60 }, (_, i) => i);
    const seen: number[] = [];
    const received = Promise.withResolvers<void>();
    const closed = peer.start({
      onDatagram(datagram) {
        seen.push(datagram.data[0]!);
        peer.release(datagram);
        if (seen.length === all.length) received.resolve();
      },
    });
    // The first turn of its life, and all kinds of sends.
    const errors: unknown[] = [];
    const onSendError = (error: unknown) => errors.push(error);
    for (const i of all) {
      const payload = new Uint8Array([i]);
      if (i % 2 === 0) socket.send(payload, peer.addr).catch(onSendError);
      else socket.post(payload, peer.addr, { onSendError });
    }
    await settle(received.promise);
    assertEquals([seen, errors], [all, []]);
    for (const each of [socket, peer]) each.close();
    await settle(closed);
  },
);

netTest(
  "DatagramSocket: kernelDrops() after close() is the number until then",
  async () => {
    const [socket, peer] = [
      open(runtimeFor(ENGINE), "127.0.0.1"),
      open(runtimeFor(ENGINE), "127.0.0.1"),
    ];
    // More than any receive buffer holds, without a reader.
    const payload = new Uint8Array(1400);
    for (let i = 0; i < 40; i++) {
      await Promise.all(
        Array.from({ length: 200 }, () => peer.send(payload, socket.addr)),
      );
    }
    const drops = socket.kernelDrops();
    assert(drops === undefined || drops > 0, `${drops}`);
    socket.close();
    assertEquals(socket.kernelDrops(), drops);
    // The first look at this count is after the close.
    const unasked = open(runtimeFor(ENGINE), "127.0.0.1");
    unasked.close();
    assertEquals(unasked.kernelDrops(), drops === undefined ? drops : 0);
    peer.close();
  },
);

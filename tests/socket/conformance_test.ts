/**
 * The conformance suite of a socket: each promise of `DatagramSocket` once, on both
 * engines and on the network in memory. Promises about routes, links and ICMP are in
 * `conformance_netns_test.ts`.
 */
import { assert, assertEquals, assertRejects } from "@std/assert";
import type { UdpAddress } from "../../lib/address.ts";
import type {
  Datagram,
  DatagramSocket,
  OpenOptions,
  Receiver,
} from "../../lib/socket/contract.ts";
import { libcMissing } from "../../lib/socket/linux/libc.ts";
import { type Runtime, runtimeFor } from "../../lib/socket/runtime.ts";
import { SimulatedNetwork, SimulatedSocket } from "../../lib/testing/mod.ts";
import { IGNORED_NOTE, Program, programTest, ROOT } from "../helpers.ts";

/** The kinds of sockets that keep the contract. */
type Kind = "deno engine" | "linux engine" | "network in memory";
const KINDS: Kind[] = ["deno engine", "linux engine", "network in memory"];

/** The kinds that cannot keep a promise, each with its reason. */
type Cannot = Partial<Record<Kind, string>>;

// Looked up here, the C library is no leak of the first test.
const NO_LINUX = libcMissing();

/** The sockets of one kind in one test. */
class Bench {
  readonly #network: SimulatedNetwork | undefined;
  readonly #runtime: Runtime;
  readonly #ends: Array<{ socket: DatagramSocket; closed?: Promise<void> }> =
    [];

  constructor(
    readonly kind: Kind,
    /** Whether the kind keeps the promise in full. */
    readonly can: boolean,
  ) {
    if (kind === "network in memory") this.#network = new SimulatedNetwork();
    if (this.#network !== undefined) this.#network.icmp = true;
    this.#runtime = this.#network?.runtime ??
      runtimeFor(kind === "linux engine" ? "linux" : "deno");
  }

  open(options: Partial<OpenOptions> = {}): DatagramSocket {
    const socket = this.#runtime.open({
      hostname: "127.0.0.1",
      port: 0,
      maxDatagramBytes: 1500,
      isBusy: true,
      ...options,
    });
    this.#ends.push({ socket });
    return socket;
  }

  /** Starts a socket; all that it reports is in the inbox. */
  start(socket: DatagramSocket, receiver: Partial<Receiver> = {}): Inbox {
    const inbox = new Inbox((datagram) => socket.release(datagram), receiver);
    const end = this.#ends.find((one) => one.socket === socket)!;
    end.closed = socket.start(inbox);
    return inbox;
  }

  /** Waits, while the time of a network in memory passes. */
  settle<T>(promise: Promise<T>): Promise<T> {
    if (this.#network !== undefined) return this.#network.run(promise);
    const late = Promise.withResolvers<never>();
    const fail = () => late.reject(new Error("Nothing happens"));
    const timer = setTimeout(fail, 10_000);
    return Promise.race([promise, late.promise]).finally(() =>
      clearTimeout(timer)
    );
  }

  /** Resolves when as many datagrams as an inbox wants have been received. */
  received(inbox: Inbox, count: number): Promise<void> {
    return this.settle(inbox.received(count));
  }

  /** Sends a datagram, after which all that was sent before has arrived. */
  async probe(from: DatagramSocket, to: UdpAddress, inbox: Inbox) {
    const before = inbox.got.length;
    await this.settle(from.send(new Uint8Array([255]), to));
    await this.settle(
      inbox.until(() =>
        inbox.got.slice(before).some((data) =>
          data.length === 1 && data[0] === 255
        )
      ),
    );
  }

  /** Closes a socket that was started. */
  async close(socket: DatagramSocket): Promise<void> {
    socket.close();
    await this.settle(
      this.#ends.find((one) => one.socket === socket)!.closed!,
    );
  }

  async end(): Promise<void> {
    for (const { socket } of this.#ends) socket.close();
    await this.settle(Promise.all(this.#ends.map(({ closed }) => closed)));
  }
}

/** A receiver that keeps copies, and hands each datagram back. */
class Inbox implements Receiver {
  readonly got: Uint8Array[] = [];
  readonly from: UdpAddress[] = [];
  readonly errors: unknown[] = [];
  tooLong = 0;
  #changed = Promise.withResolvers<void>();
  readonly #release: (datagram: Datagram) => void;
  readonly #others: Partial<Receiver>;

  constructor(
    release: (datagram: Datagram) => void,
    others: Partial<Receiver>,
  ) {
    this.#release = release;
    this.#others = others;
  }

  /** Resolves when a condition is met, looked at after each callback. */
  async until(isMet: () => boolean): Promise<void> {
    while (!isMet()) await this.#changed.promise;
  }

  received(count: number): Promise<void> {
    return this.until(() => this.got.length >= count);
  }

  #change(): void {
    this.#changed.resolve();
    this.#changed = Promise.withResolvers();
  }

  onDatagram(datagram: Datagram): void {
    this.got.push(datagram.data.slice());
    this.from.push(datagram.remoteAddr);
    const { onDatagram = this.#release } = this.#others;
    onDatagram(datagram);
    this.#change();
  }

  onTooLong(): void {
    this.tooLong++;
    this.#change();
  }

  onReplied(count: number, bytes: number): void {
    this.#others.onReplied?.(count, bytes);
    this.#change();
  }

  onReceiveError(error: unknown): void {
    this.errors.push(error);
    this.#change();
  }
}

/** Tests a promise on each kind of socket. */
function promise(
  name: string,
  fn: (bench: Bench) => Promise<void>,
  cannot: Cannot = {},
): void {
  for (const kind of KINDS) {
    const why = cannot[kind];
    const isReal = kind !== "network in memory";
    Deno.test({
      name: `DatagramSocket: ${name} (${kind}${why ? ` cannot: ${why}` : ""})`,
      ignore: isReal && IGNORED_NOTE !== undefined ||
        kind === "linux engine" && NO_LINUX !== undefined,
      async fn() {
        const bench = new Bench(kind, why === undefined);
        try {
          await fn(bench);
        } finally {
          await bench.end();
        }
      },
    });
  }
}

const bytes = (...all: number[]) => new Uint8Array(all);

/** A payload whose bytes depend on its number and their places. */
const filled = (length: number, seed = 1) =>
  Uint8Array.from({ length }, (_, i) => (i * 31 + seed) & 255);

promise(
  "datagrams of one peer that follow each other have one address",
  async (bench) => {
    for (const hostname of ["127.0.0.1", "::1"]) {
      const socket = bench.open({ hostname });
      const peers = [bench.open({ hostname }), bench.open({ hostname })];
      const inbox = bench.start(socket);
      for (const [i, peer] of [0, 0, 1, 1, 0].entries()) {
        await bench.settle(peers[peer]!.send(bytes(1), socket.addr));
        await bench.received(inbox, i + 1);
      }
      const seen = inbox.from;
      const { port } = peers[0]!.addr;
      assertEquals([seen[0]!.hostname, seen[0]!.port], [hostname, port]);
      assert(seen[0] === seen[1] && seen[2] === seen[3], hostname);
      assert(seen[1] !== seen[2] && Object.isFrozen(seen[0]), hostname);
      assertEquals(seen[4], seen[0]);
    }
  },
);

promise("datagrams leave in the order of the calls", async (bench) => {
  const [socket, peer] = [bench.open(), bench.open()];
  const all = Array.from({ length: 60 }, (_, i) => i);
  const inbox = bench.start(peer);
  // The first turn of its life, and all kinds of sends.
  const errors: unknown[] = [];
  const onSendError = (error: unknown) => errors.push(error);
  for (const i of all) {
    if (i % 2 === 0) socket.send(bytes(i), peer.addr).catch(onSendError);
    else socket.post(bytes(i), peer.addr, { onSendError });
  }
  await bench.received(inbox, all.length);
  assertEquals([inbox.got.map(([i]) => i), errors], [all, []]);
});

promise(
  "datagrams of no bytes and of the most, arrive unchanged",
  async (bench) => {
    for (const [hostname, most] of [["127.0.0.1", 65_507], ["::1", 65_527]]) {
      const options = {
        hostname: hostname as string,
        maxDatagramBytes: 65_527,
      };
      const [socket, peer] = [bench.open(options), bench.open(options)];
      const echoed: number[] = [];
      const inbox = bench.start(socket, {
        onDatagram(datagram) {
          // A part of its own data, and all of it.
          const { data } = datagram;
          socket.reply(datagram, data.length === 3 ? data.subarray(1) : data);
        },
        onReplied: (count) => echoed.push(count),
      });
      const replies = bench.start(peer);
      const sent = [0, 1, 3, 1500, most as number].map((n) => filled(n, n));
      for (const [i, payload] of sent.entries()) {
        const before = payload.slice();
        await bench.settle(peer.send(payload, socket.addr));
        await bench.received(replies, i + 1);
        assertEquals(payload, before);
      }
      assertEquals(inbox.got, sent);
      assertEquals(
        replies.got,
        sent.map((data) => data.length === 3 ? data.subarray(1) : data),
      );
      await bench.settle(
        inbox.until(() => echoed.reduce((sum, n) => sum + n, 0) === 5),
      );
    }
  },
);

promise(
  "a payload of more than a datagram carries is an error",
  async (bench) => {
    const [socket, peer] = [bench.open(), bench.open()];
    const inbox = bench.start(peer);
    const sent = bench.settle(socket.send(filled(65_508), peer.addr));
    await assertRejects(() => sent, Error, "Message too long");
    await bench.probe(socket, peer.addr, inbox);
    assertEquals(inbox.got, [bytes(255)]);
  },
);

promise(
  "a datagram that is too long is dropped whole, and counted",
  async (bench) => {
    const [socket, peer] = [bench.open({ maxDatagramBytes: 3 }), bench.open()];
    const inbox = bench.start(socket);
    for (const length of [3, 4, 1400, 2]) {
      await bench.settle(peer.send(filled(length), socket.addr));
    }
    await bench.settle(
      inbox.until(() => inbox.got.length + inbox.tooLong === 4),
    );
    assertEquals(inbox.got, [filled(3), filled(2)]);
    assertEquals(inbox.tooLong, 2);
  },
);

promise(
  "a datagram keeps its bytes until it is released, and for good if it is abandoned",
  async (bench) => {
    const [socket, peer] = [bench.open(), bench.open()];
    const held: Datagram[] = [];
    const inbox = bench.start(socket, {
      onDatagram(datagram) {
        if (held.length < 3) held.push(datagram);
        else socket.release(datagram);
      },
    });
    const send = async (from: number, to: number) => {
      for (let i = from; i < to; i++) {
        await bench.settle(peer.send(filled(100, i), socket.addr));
        await bench.received(inbox, i + 1);
      }
    };
    await send(0, 100);
    const kept = held.map(({ data }) => data);
    assertEquals(kept, [0, 1, 2].map((i) => filled(100, i)));
    socket.abandon(held[1]!);
    socket.reply(held[0]!, held[0]!.data);
    socket.release(held[2]!);
    await send(100, 200);
    assertEquals(kept[1], filled(100, 1));
    assertEquals(
      inbox.got,
      Array.from({ length: 200 }, (_, i) => filled(100, i)),
    );
  },
);

promise(
  "a reply may change at once where the socket copies it, and else when it is counted",
  async (bench) => {
    const [socket, peer] = [bench.open(), bench.open()];
    const payload = bytes(1, 2, 3);
    const inbox = bench.start(socket, {
      onDatagram(datagram) {
        socket.reply(datagram, payload);
        if (socket.copiesReplies) payload.fill(0);
      },
      onReplied: () => payload.fill(0),
    });
    const replies = bench.start(peer);
    await bench.settle(peer.send(bytes(9), socket.addr));
    await bench.received(replies, 1);
    await bench.settle(inbox.until(() => payload[0] === 0));
    assertEquals(replies.got, [bytes(1, 2, 3)]);
  },
);

promise("a reply leaves after it was completed", async (bench) => {
  const [socket, peer] = [bench.open(), bench.open()];
  bench.start(socket, {
    onDatagram(datagram) {
      const complete = (payload: Uint8Array) => void (payload[1] = 7);
      socket.reply(datagram, bytes(1, 2, 3), { complete });
    },
  });
  const replies = bench.start(peer);
  await bench.settle(peer.send(bytes(9), socket.addr));
  await bench.received(replies, 1);
  assertEquals(replies.got, [bytes(1, 7, 3)]);
});

promise(
  "close() ends it once, also while it sends and receives",
  async (bench) => {
    const [socket, peer, other] = [bench.open(), bench.open(), bench.open()];
    const closes: DatagramSocket[] = [];
    const late: Array<Promise<unknown>> = [];
    const start = (socket: DatagramSocket) =>
      bench.start(socket, {
        onDatagram(datagram) {
          socket.release(datagram);
          socket.close();
          socket.close();
          closes.push(socket);
          const failed = Promise.withResolvers<unknown>();
          socket.post(bytes(6), peer.addr, { onSendError: failed.resolve });
          const sent = socket.send(bytes(6), peer.addr).then(() => "sent");
          late.push(failed.promise, sent.catch((error) => error));
        },
      });
    const inbox = start(socket);
    const peers = bench.start(peer);
    // It was sent before the close, and leaves.
    const sent = [1, 2, 3].map((i) => other.send(bytes(i), peer.addr));
    other.close();
    other.close();
    await bench.settle(Promise.all(sent));
    await bench.received(peers, 3);
    const leaving = peers.got.map(([i]) => i!);
    assertEquals(bench.can ? leaving : leaving.sort(), [1, 2, 3]);
    await bench.settle(peer.send(bytes(1), socket.addr));
    await bench.received(inbox, 1);
    // Neither is received, nor sent, any more.
    await bench.settle(peer.send(bytes(2), socket.addr).catch(() => {}));
    await bench.close(socket);
    for (const error of await bench.settle(Promise.all(late))) {
      assert(error instanceof Error, `${error}`);
    }
    // It may get the descriptor of the closed one.
    bench.open();
    await assertRejects(
      () => bench.settle(socket.send(bytes(3), peer.addr)),
      Deno.errors.BadResource,
    );
    const failed = Promise.withResolvers<unknown>();
    const listener = { onSendError: failed.resolve };
    socket.post(bytes(4), peer.addr, listener);
    assert(await bench.settle(failed.promise) instanceof Error);
    await bench.probe(peer, peer.addr, peers);
    assertEquals([inbox.got.length, peers.got.length], [1, 4]);
    assertEquals(closes, [socket]);
  },
  { "deno engine": "the order of the last sends is not kept" },
);

promise(
  "an error of one datagram is its own, and no other's",
  async (bench) => {
    const [socket, peer] = [bench.open(), bench.open()];
    const inbox = bench.start(peer);
    const { port } = peer.addr;
    const wrong = [
      { hostname: "127.0.0.1", port: 0 },
      { hostname: "::1", port },
    ];
    for (const [i, to] of wrong.entries()) {
      await assertRejects(
        () => bench.settle(socket.send(bytes(0), to)),
        Error,
      );
      const failed = Promise.withResolvers<unknown>();
      socket.post(bytes(0), to, { onSendError: failed.resolve });
      socket.post(bytes(i), peer.addr, { onSendError: failed.reject });
      assert(await bench.settle(failed.promise) instanceof Error);
      await bench.received(inbox, i + 1);
    }
    assertEquals(inbox.got, [bytes(0), bytes(1)]);
  },
);

promise(
  "an IPv6 wildcard reaches IPv4 hosts, whose addresses are IPv4",
  async (bench) => {
    const hostname = bench.can ? "::" : "127.0.0.1";
    const [socket, peer] = [bench.open({ hostname }), bench.open()];
    const inbox = bench.start(socket, {
      onDatagram: (datagram) => socket.reply(datagram, bytes(2)),
    });
    const replies = bench.start(peer);
    const to = { hostname: "127.0.0.1", port: socket.addr.port };
    await bench.settle(peer.send(bytes(1), to));
    await bench.received(replies, 1);
    const { hostname: host, port } = inbox.from[0]!;
    assertEquals({ hostname: host, port }, peer.addr);
    await bench.settle(socket.send(bytes(3), inbox.from[0]!));
    await bench.received(replies, 2);
    assertEquals(replies.got, [bytes(2), bytes(3)]);
    assertEquals(replies.from.map(({ port }) => port), [to.port, to.port]);
  },
  { "network in memory": "its wildcard is one address" },
);

for (const isBusy of [false, true]) {
  promise(
    `${
      isBusy ? "of many requests" : "of one request"
    }: a datagram of another address than the peer's has its source`,
    async (bench) => {
      const [peer, other] = [bench.open(), bench.open()];
      const socket = bench.open({ isBusy, peer: peer.addr });
      const inbox = bench.start(socket);
      await bench.settle(other.send(bytes(1), socket.addr));
      await bench.settle(peer.send(bytes(2), socket.addr));
      await bench.received(inbox, bench.can ? 2 : 1);
      const both = [[1, other.addr.port], [2, peer.addr.port]];
      assertEquals(
        inbox.got.map(([i], n) => [i, inbox.from[n]!.port]),
        bench.can ? both : both.slice(1),
      );
    },
    isBusy
      ? { "linux engine": "for its speed it is connected to its peer" }
      : {},
  );

  promise(
    `${
      isBusy ? "of many requests" : "of one request"
    }: a closed port is reported, and does not end it`,
    async (bench) => {
      const gone = bench.open();
      const { addr } = gone;
      bench.start(gone);
      await bench.close(gone);
      const socket = bench.open({ isBusy, peer: addr });
      assertEquals(socket.reportsClosedPort, bench.can);
      const inbox = bench.start(socket);
      for (let i = 1; i <= 20; i++) {
        await bench.settle(socket.send(bytes(0), addr));
        if (bench.can) {
          await bench.settle(inbox.until(() => inbox.errors.length >= i));
        }
      }
      const errors = inbox.errors.map((error) => (error as Error).name);
      assertEquals(
        new Set(errors),
        new Set(bench.can ? ["ConnectionRefused"] : []),
      );
      const back = bench.open({ port: addr.port });
      await bench.settle(back.send(bytes(7), socket.addr));
      await bench.received(inbox, 1);
      const replies = bench.start(back);
      await bench.settle(socket.send(bytes(8), addr));
      await bench.received(replies, 1);
      assertEquals([inbox.got, replies.got], [[bytes(7)], [bytes(8)]]);
    },
    { "deno engine": "Deno reports no ICMP messages" },
  );
}

promise(
  "kernelDrops() after close() is the number until then",
  async (bench) => {
    const [socket, peer] = [bench.open(), bench.open()];
    const inbox = bench.start(peer);
    // More than any receive buffer holds, without a reader.
    const payload = new Uint8Array(1400);
    if (socket instanceof SimulatedSocket) socket.pause();
    for (let i = 0; i < 40; i++) {
      await bench.settle(Promise.all(
        Array.from({ length: 200 }, () => peer.send(payload, socket.addr)),
      ));
    }
    // All has arrived.
    if (bench.kind === "network in memory") {
      await bench.probe(peer, peer.addr, inbox);
    }
    const drops = socket.kernelDrops();
    if (bench.can) assert(drops! > 0);
    assert(drops === undefined || drops > 0, `${drops}`);
    socket.close();
    assertEquals(socket.kernelDrops(), drops);
    // The first look at this count is after the close: not known on the deno engine.
    const unasked = bench.open();
    unasked.close();
    const known = bench.can ? 0 : undefined;
    assertEquals(unasked.kernelDrops(), known);
  },
  {
    "deno engine": "Deno has no count, and Linux's file needs all permissions",
  },
);

for (const engine of ["deno", "linux"]) {
  const needs = engine === "linux" && NO_LINUX !== undefined ? [NO_LINUX] : [];
  programTest(
    `DatagramSocket: unref() lets the process end, and ref() keeps it (${engine} engine)`,
    async () => {
      for (const isBusy of [false, true]) {
        // Without the ref() it would end within the time of the timer.
        const code = `import "./lib/socket/linux_engine.ts";
      import { runtimeFor } from "./lib/socket/runtime.ts";
        const socket = runtimeFor("${engine}").open({ hostname: "127.0.0.1",
          port: 0, maxDatagramBytes: 9, isBusy: ${isBusy} });
        socket.start({
          onDatagram(datagram) {
            console.log("received", datagram.data[0]);
            socket.unref();
            socket.release(datagram);
          },
        });
        socket.unref();
        socket.ref();
        Deno.unrefTimer(setTimeout(() => console.log(socket.addr.port), 600));`;
        await using program = new Program(Deno.execPath(), ["eval", code]);
        const port = Number(await program.line());
        const transport = "udp";
        const hostname = "127.0.0.1";
        const peer = Deno.listenDatagram({ transport, hostname, port: 0 });
        await peer.send(bytes(5), { transport, hostname, port });
        peer.close();
        assertEquals(await program.line(), "received 5");
        const { code: exitCode, stderr } = await program.ended();
        assertEquals([exitCode, stderr], [0, ""]);
      }
    },
    needs,
  );

  programTest(
    `DatagramSocket: a send to a peer that is not granted is an error, and no question (${engine} engine)`,
    async () => {
      const code = `import "./lib/socket/linux_engine.ts";
      import { runtimeFor } from "./lib/socket/runtime.ts";
      const options = { hostname: "127.0.0.1", port: 0, maxDatagramBytes: 9 };
      for (const isBusy of [false, true]) {
        const socket = runtimeFor("${engine}").open({ ...options, isBusy });
        const to = { hostname: "127.0.0.2", port: 9 };
        const print = (error) => console.log(error.name);
        await socket.send(new Uint8Array(1), to).catch(print);
        await new Promise((resolve) => socket.post(new Uint8Array(1), to,
          { onSendError: (error) => resolve(print(error)) }));
        await socket.send(new Uint8Array(1), socket.addr);
        console.log("sent");
        socket.close();
      }`;
      const file = `data:application/typescript,${
        encodeURIComponent(
          code.replaceAll("./lib/", `${ROOT}lib/`),
        )
      }`;
      const flags = ["--unstable-net", "--allow-net=127.0.0.1", "--no-check"];
      if (engine === "linux") flags.push("--allow-ffi");
      const args = [Deno.execPath(), "run", ...flags, file];
      await using program = new Program("python3", [
        "tests/peers/prompt.py",
        ...args,
      ]);
      const { stdout, stderr } = await program.ended();
      const each = "NotCapable\nNotCapable\nsent\n";
      assertEquals([stdout, stderr], [each + each, ""]);
    },
    [...needs, "python3"],
  );
}

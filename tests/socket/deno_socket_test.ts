import { limitedNet, type NetAccess } from "../../lib/socket/net_access.ts";
import { assert, assertEquals, assertRejects, assertThrows } from "@std/assert";
import type { UdpAddress } from "../../lib/address.ts";
import { decode, encode } from "../../lib/encoding.ts";
import type { Datagram, Receiver } from "../../lib/socket/contract.ts";
import { denoRuntime } from "../../lib/socket/runtime.ts";
import {
  type Conn,
  DenoSocket,
  openDenoSocket,
} from "../../lib/socket/deno_socket.ts";
import { dropsKey, parseDrops } from "../../lib/socket/kernel_drops.ts";
import { IGNORED_NOTE, netTest } from "../helpers.ts";

type Result = [Uint8Array<ArrayBuffer>, Deno.Addr];

/** A connection whose receives and sends the test settles. */
class FakeConn
  implements Pick<Deno.DatagramConn, "receive" | "send" | "close"> {
  readonly addr: Deno.NetAddr;
  readonly sent: Array<[string | undefined, Deno.NetAddr]> = [];
  closed = 0;
  pending = 0;
  mostPending = 0;
  mostUnsettled = 0;
  sendError: Error | undefined;
  #unsettled = 0;
  #next = Promise.withResolvers<(buffer: Uint8Array) => Result>();

  constructor(hostname = "127.0.0.1") {
    this.addr = { transport: "udp", hostname, port: 1 };
  }

  async receive(buffer: Uint8Array<ArrayBuffer>): Promise<Result> {
    this.mostPending = Math.max(this.mostPending, ++this.pending);
    try {
      return (await this.#next.promise)(buffer);
    } finally {
      this.pending--;
      this.#next = Promise.withResolvers();
    }
  }

  async send(payload: Uint8Array, to: Deno.Addr): Promise<number> {
    this.mostUnsettled = Math.max(this.mostUnsettled, ++this.#unsettled);
    await Promise.resolve();
    this.#unsettled--;
    if (this.sendError !== undefined) throw this.sendError;
    this.sent.push([decode(payload), to as Deno.NetAddr]);
    return payload.length;
  }

  close(): void {
    this.closed++;
    if (this.pending === 0) return;
    this.#next.reject(new Deno.errors.Interrupted("closed"));
  }

  /** Receives a datagram, truncated to the buffer as by Deno. */
  async arrive(
    text: string,
    hostname = "127.0.0.1",
    port = 9,
  ): Promise<void> {
    this.#next.resolve((buffer) => {
      const bytes = encode(text).subarray(0, buffer.length);
      buffer.set(bytes);
      const from = { transport: "udp" as const, hostname, port };
      return [buffer.subarray(0, bytes.length) as Result[0], from];
    });
    await settled();
  }

  async fail(error: Error): Promise<void> {
    this.#next.reject(error);
    await settled();
  }
}

/** Runs all pending callbacks of settled promises. */
async function settled(): Promise<void> {
  for (let i = 0; i < 20; i++) await Promise.resolve();
}

/** A socket, and a list of its reports. */
function start(
  conn: FakeConn,
  maxDatagramBytes = 10,
  access?: NetAccess | undefined,
) {
  const socket = new DenoSocket(
    conn as unknown as Conn,
    maxDatagramBytes,
    access,
  );
  const got: Datagram[] = [];
  const heard: unknown[] = [];
  const receiver: Receiver = {
    onDatagram: (datagram) => got.push(datagram),
    onTooLong: () => heard.push("too long"),
    onReplied: () => heard.push("replied"),
    onReplyError: (error) => heard.push(error),
    onReceiveError: (error) => heard.push(error),
  };
  return { socket, got, heard, finished: socket.start(receiver) };
}

Deno.test("DenoSocket: delivers datagrams, with one receive at a time", async () => {
  const conn = new FakeConn();
  const { socket, got, finished } = start(conn);
  await conn.arrive("one");
  await conn.arrive("two");
  assertEquals(got.map(({ data }) => decode(data)), ["one", "two"]);
  assertEquals(got[0]!.remoteAddr.port, 9);
  assertEquals(conn.mostPending, 1);
  socket.close();
  socket.close();
  await finished;
  assertEquals(conn.closed, 1);
});

Deno.test("DenoSocket: uses a buffer again once it is released, not before", async () => {
  const conn = new FakeConn();
  const { socket, got, finished } = start(conn);
  await conn.arrive("one");
  await conn.arrive("two");
  assert(got[0]!.data.buffer !== got[1]!.data.buffer);
  assertEquals(decode(got[0]!.data), "one");
  const { buffer } = got[0]!.data;
  socket.release(got[0]!);
  // One receive is already pending, on a third buffer.
  await conn.arrive("three");
  await conn.arrive("four");
  assert(got[3]!.data.buffer === buffer);
  socket.close();
  await finished;
});

Deno.test("DenoSocket: drops a datagram that does not fit whole", async () => {
  const conn = new FakeConn();
  const { socket, got, heard, finished } = start(conn, 3);
  await conn.arrive("four");
  await conn.arrive("abc");
  assertEquals(got.map(({ data }) => decode(data)), ["abc"]);
  assertEquals(heard, ["too long"]);
  socket.close();
  await finished;
});

Deno.test("DenoSocket: replies to the source of a datagram", async () => {
  const conn = new FakeConn();
  const { socket, got, heard, finished } = start(conn);
  await conn.arrive("ping");
  socket.reply(got[0]!, encode("pong"));
  await settled();
  assertEquals(conn.sent, [
    ["pong", { transport: "udp", hostname: "127.0.0.1", port: 9 }],
  ]);
  assertEquals(heard, ["replied"]);
  conn.sendError = Object.assign(new Error("ENOBUFS"), { code: "ENOBUFS" });
  await conn.arrive("ping");
  socket.reply(got[1]!, encode("pong"));
  await settled();
  assertEquals(heard, ["replied", conn.sendError]);
  socket.close();
  await finished;
});

Deno.test("DenoSocket: peers that differ in host or port have different addresses", async () => {
  const conn = new FakeConn("::");
  const { socket, got, finished } = start(conn);
  const peers = [["::1", 1], ["::1", 2], ["::2", 2], ["::ffff:1.2.3.4", 2]];
  for (const [hostname, port] of peers) {
    for (const text of ["a", "b"]) {
      await conn.arrive(text, hostname as string, port as number);
    }
  }
  const remotes = got.map(({ remoteAddr }) => remoteAddr);
  for (let i = 0; i < 8; i += 2) {
    assert(remotes[i] === remotes[i + 1] && Object.isFrozen(remotes[i]));
  }
  assertEquals(
    remotes.map(({ hostname, port }) => `${hostname} ${port}`),
    ["::1 1", "::1 2", "::2 2", "1.2.3.4 2"].flatMap((peer) => [peer, peer]),
  );
  for (const datagram of got) {
    socket.reply(datagram, encode("c"));
    await settled();
  }
  assertEquals(
    conn.sent.map(([, { hostname, port }]) => [hostname, port]),
    peers.flatMap((peer) => [peer, peer]),
  );
  socket.close();
  await finished;
});

Deno.test("DenoSocket: shows IPv4 on an IPv6 socket as IPv4, and sends it as IPv6", async () => {
  const conn = new FakeConn("::");
  const { socket, got, finished } = start(conn);
  await conn.arrive("ping", "::ffff:192.0.2.1");
  assertEquals(got[0]!.remoteAddr, { hostname: "192.0.2.1", port: 9 });
  await socket.send(encode("a"), got[0]!.remoteAddr);
  socket.reply(got[0]!, encode("b"));
  await settled();
  const to = { transport: "udp", hostname: "::ffff:192.0.2.1", port: 9 };
  assertEquals(conn.sent, [["a", to], ["b", to]] as typeof conn.sent);
  socket.close();
  await finished;
});

Deno.test("DenoSocket: continues after a failed receive", async () => {
  const conn = new FakeConn();
  const { socket, got, heard, finished } = start(conn);
  const reset = new Deno.errors.ConnectionReset("reset");
  for (let i = 0; i < 100; i++) {
    await conn.fail(reset);
    await conn.arrive(`${i}`);
  }
  assertEquals(got.length, 100);
  assertEquals(heard, Array(100).fill(reset));
  socket.close();
  await finished;
});

Deno.test("DenoSocket: ends after a row of failed receives", async () => {
  const conn = new FakeConn();
  const { heard, finished } = start(conn);
  const gone = new Error("interface gone");
  const rejected = assertRejects(() => finished, Error);
  for (let i = 0; i < 16; i++) await conn.fail(gone);
  assert(await rejected === gone);
  assertEquals(heard.length, 15);
  assertEquals([conn.closed, conn.pending], [1, 0]);
});

Deno.test("parseDrops(): reads the counts of all sockets in the tables of Linux", () => {
  const table =
    `   sl  local_address rem_address   st tx rx tr tm retr uid timeout inode ref pointer drops
  518: 0100007F:801E 00000000:0000 07 00000000:00000000 00:00000000 00000000 0 0 38834 2 0000 17
  519: 0100007F:00A1 00000000:0000 07 00000000:00000000 00:00000000 00000000 0 0 38835 2 0000 4
`;
  const drops = (hostname: string, port: number) =>
    parseDrops(table).get(dropsKey({ hostname, port }));
  assertEquals(drops("127.0.0.1", 0x801e), 17);
  assertEquals(drops("127.0.0.1", 0xa1), 4);
  assertEquals(drops("127.0.0.2", 0xa1), undefined);
  const table6 =
    ` 6911: B80D0120000000000000000001000000:9917 00000000000000000000000000000000:0000 07 0:0 0:0 0 0 0 1 2 0 5`;
  const address = { hostname: "2001:db8::1", port: 0x9917 };
  assertEquals(parseDrops(table6).get(dropsKey(address)), 5);
});

Deno.test("DenoSocket: posts leave in order, each once the one before is settled", async () => {
  const conn = new FakeConn();
  const { socket } = start(conn);
  const failed: string[] = [];
  const to = { hostname: "127.0.0.1", port: 2 };
  const texts = Array.from({ length: 100 }, (_, i) => `${i}`);
  for (const text of texts) {
    socket.post(encode(text), to, {
      onSendError: (error) => failed.push((error as Error).message),
    });
  }
  for (let i = 0; i < 100; i++) await settled();
  assertEquals(conn.sent.map(([text]) => text), texts);
  assertEquals(conn.mostUnsettled, 1);
  conn.sendError = new Error("no route");
  socket.post(encode("x"), to, {
    onSendError: (error) => failed.push((error as Error).message),
  });
  await settled();
  assertEquals(failed, ["no route"]);
  socket.close();
});

Deno.test("DenoSocket: replaces a buffer that was transferred", async () => {
  const conn = new FakeConn();
  const { socket, got, finished } = start(conn);
  await conn.arrive("one");
  await conn.arrive("two");
  got[0]!.data.buffer.transfer();
  socket.release(got[0]!);
  // One receive is already pending, on a third buffer.
  await conn.arrive("three");
  await conn.arrive("four");
  assertEquals(got.slice(2).map(({ data }) => decode(data)), ["three", "four"]);
  socket.close();
  await finished;
});

netTest(
  "ownsAddress(): an address is this machine's if it can be bound",
  () => {
    assertEquals(denoRuntime.ownsAddress("127.0.0.1"), true);
    assertEquals(denoRuntime.ownsAddress("192.0.2.1"), false);
  },
);

Deno.test("DenoSocket: what was sent before a close is given to the system", async () => {
  const conn = new FakeConn();
  const { socket, finished } = start(conn);
  const to = { hostname: "127.0.0.1", port: 2 };
  const sent = ["a", "b", "c"].map((text) => socket.send(encode(text), to));
  socket.close();
  await Promise.all([...sent, finished]);
  assertEquals(conn.sent.map(([text]) => text), ["a", "b", "c"]);
});

Deno.test({
  name: "DenoSocket: a peer that is not granted is an error, not a prompt",
  permissions: { net: ["192.0.2.1"] },
  ignore: IGNORED_NOTE !== undefined,
  async fn() {
    const conn = new FakeConn();
    const { socket, got, heard, finished } = start(conn, 10, limitedNet());
    const [granted, other] = ["192.0.2.1", "192.0.2.2"]
      .map((hostname) => ({ hostname, port: 9 })) as [UdpAddress, UdpAddress];
    await socket.send(encode("a"), granted);
    const refused = await assertRejects(
      () => socket.send(encode("b"), other),
      Deno.errors.NotCapable,
      'Requires net access to "192.0.2.2:9"',
    );
    const failed: unknown[] = [];
    const onSendError = (error: unknown) => failed.push(error);
    socket.post(encode("c"), other, { onSendError });
    await conn.arrive("d", other.hostname);
    socket.reply(got[0]!, encode("e"));
    await settled();
    assertEquals(
      [...heard, ...failed].map(String),
      Array(2).fill(`${refused}`),
    );
    assertEquals(conn.sent.map(([text]) => text), ["a"]);
    socket.close();
    await finished;
  },
});

const BOUND = { hostname: "127.0.0.1", port: 0, maxDatagramBytes: 10 };
/** An interface that does not exist. */
const memberships = [{ group: "239.1.2.3", address: "192.0.2.1", index: 0 }];

netTest(
  "DenoSocket: a group that cannot be joined ends it, by an error with its name",
  async () => {
    const socket = openDenoSocket({ ...BOUND, memberships });
    const sent = socket.send(encode("x"), { hostname: "127.0.0.1", port: 9 });
    const message = "Cannot join the group 239.1.2.3: ";
    await assertRejects(() => sent, Error, message);
    await assertRejects(
      () => socket.start({ onDatagram: () => {} }),
      Error,
      message,
    );
  },
);

netTest(
  "DenoSocket: ends without an error when it is closed while it joins groups",
  async () => {
    const socket = openDenoSocket({ ...BOUND, memberships });
    const ended = socket.start({ onDatagram: () => {} });
    socket.close();
    await ended;
  },
);

netTest(
  "DenoSocket: sets multicastTtl for IPv4, and refuses it for IPv6",
  async () => {
    const multicastTtl = 3;
    const socket = openDenoSocket({ ...BOUND, multicastTtl });
    const ended = socket.start({ onDatagram: () => {} });
    await socket.send(encode("x"), socket.addr);
    socket.close();
    await ended;
    assertThrows(
      () => openDenoSocket({ ...BOUND, hostname: "::1", multicastTtl }),
      Deno.errors.NotSupported,
      "'multicastTtl' needs engine 'linux'",
    );
  },
);

/** A client with many requests on the linux engine, on a fake C library. */
import { assert, assertEquals, assertRejects } from "@std/assert";
import { connect, type ConnectOptions } from "../../../lib/client/connect.ts";
import { TimeoutError } from "../../../lib/client/reply.ts";
import type { UdpClient } from "../../../lib/client/udp_client.ts";
import { FakeLibc, idle } from "./fake_libc.ts";

const REFUSED = "Cannot send to 127.0.0.2:9: " +
  "a filter of this machine refuses it: check the firewall";
const EPERM = 1, EAGAIN = 11, EMSGSIZE = 90, ENETUNREACH = 101;
const ECONNREFUSED = 111, EHOSTUNREACH = 113;

const SERVER = { hostname: "127.0.0.2", port: 9 };
async function connected(options: ConnectOptions = {}, room?: number) {
  const libc = new FakeLibc();
  libc.room = room ?? libc.room;
  const client = await connect(SERVER, {
    runtime: libc.runtime,
    key: (data) => data[0],
    retries: 0,
    ...options,
  });
  await idle();
  return { libc, client };
}

/** The outcome of a request: its reply, or the message of its error. */
const ask = (client: UdpClient, payload: string) =>
  client.request(payload).then(
    (reply) => reply.text(),
    ({ message }) => message as string,
  );

const sent = ({ sent }: FakeLibc) =>
  sent.map(({ payload, segmentBytes }) => `${payload} ${segmentBytes}`);

Deno.test("connect(): requests of one turn and size are one message, and each gets its reply", async () => {
  const { libc, client } = await connected();
  const replies = ["a1", "b2", "c", "dd", "ee"].map((one) => ask(client, one));
  await idle();
  // Only the last segment of a message may be shorter.
  assertEquals(sent(libc), ["a1b2c 2", "ddee 2"]);
  // A connected socket needs no address.
  assertEquals(libc.sent.map(({ to }) => to), [undefined, undefined]);
  libc.arrive({ payloads: ["a!", "c!", "d!"] }, { payloads: ["e!"] }, {
    payloads: ["b!"],
  });
  assertEquals(await Promise.all(replies), ["a!", "b!", "c!", "d!", "e!"]);
  assertEquals(client.stats().answered, 5);
  await client.close();
});

Deno.test("Turns: a client's turns wait for no other thread", async () => {
  let workMs = 0;
  const { libc, client } = await connected({
    key(data) {
      libc.now += workMs;
      return data[0];
    },
  });
  // A turn is due after two milliseconds of work.
  workMs = 3;
  for (const text of ["a", "b"]) {
    const reply = ask(client, text);
    await idle();
    libc.arrive({ payloads: [text] });
    assertEquals(await reply, text);
    await idle();
  }
  assertEquals(libc.looks, 0);
  await client.close();
});

Deno.test("connect(): a request that follows a reply leaves before the next wait", async () => {
  const { libc, client } = await connected();
  const second = (async () => {
    await client.request("a");
    return await client.request("b");
  })();
  await idle();
  libc.arrive({ payloads: ["a"] });
  await idle();
  assertEquals(sent(libc), ["a 0", "b 0"]);
  libc.arrive({ payloads: ["b"] });
  assertEquals((await second).text(), "b");
  await client.close();
});

Deno.test("connect(): a failure in the middle of a message rejects its own request", async () => {
  const { libc, client } = await connected();
  // The message is refused, and then the second of its three requests alone.
  libc.sends = [-EMSGSIZE, 1, -EPERM, 1];
  const outcomes = ["a1", "b2", "c3"].map((one) => ask(client, one));
  await idle();
  assertEquals(sent(libc), ["a1 0", "c3 0"]);
  libc.arrive({ payloads: ["c!"] }, { payloads: ["a!"] });
  const [a, b, c] = await Promise.all(outcomes);
  assertEquals([a, c], ["a!", "c!"]);
  assertEquals(b, REFUSED);
  await client.close();
});

Deno.test("connect(): a refused message fails all its requests, and no others", async () => {
  const { libc, client } = await connected();
  // The message is refused, and then each request alone.
  libc.sends = [-EPERM, -EPERM, -EPERM];
  const outcomes = ["a1", "b2", "cc3"].map((one) => ask(client, one));
  await idle();
  assertEquals(sent(libc), ["cc3 0"]);
  libc.arrive({ payloads: ["c!"] });
  assertEquals(await Promise.all(outcomes), [REFUSED, REFUSED, "c!"]);
  await client.close();
});

Deno.test("connect(): a send that reports a closed port is retried, and not failed by it", async () => {
  const { libc, client } = await connected();
  const first = ask(client, "a");
  await idle();
  libc.sends = [-ECONNREFUSED];
  const second = ask(client, "b");
  await idle();
  assertEquals(sent(libc), ["a 0", "b 0"]);
  assert((await first).includes("the system reports a closed port"));
  // The second request had not left at the report.
  libc.arrive({ payloads: ["b"] });
  assertEquals(await second, "b");
  await client.close();
});

Deno.test("connect(): a closed port makes room for waiting requests", async () => {
  const { libc, client } = await connected({ maxInFlight: 1 });
  const [first, second] = ["a", "b"].map((one) => ask(client, one));
  await idle();
  assertEquals(sent(libc), ["a 0"]);
  libc.receives = [-ECONNREFUSED];
  libc.arrive();
  assert((await first!).includes("the system reports a closed port"));
  await idle();
  assertEquals(sent(libc), ["a 0", "b 0"]);
  libc.arrive({ payloads: ["b"] });
  assertEquals(await second, "b");
  await client.close();
});

Deno.test("connect(): the last report of the network is a time-out's cause", async () => {
  const { libc, client } = await connected({ timeoutMs: 200 });
  const asked = assertRejects(() => client.request("a"), TimeoutError);
  await idle();
  libc.receives = [-EHOSTUNREACH];
  libc.arrive();
  const { message, cause } = await asked;
  const why = "No route to host (os error 113)";
  assertEquals((cause as Error).message, why);
  assert(message.endsWith(`to 1 datagram: ${why}`), message);
  await client.close();
});

Deno.test("connect(): reports of the network do not end the client", async () => {
  const { libc, client } = await connected();
  for (let i = 0; i < 20; i++) {
    libc.receives = [-EHOSTUNREACH, -ENETUNREACH, -ECONNREFUSED];
    libc.arrive({ payloads: ["?"] });
    await idle();
  }
  const asked = ask(client, "a");
  await idle();
  libc.arrive({ payloads: ["a"] });
  assertEquals(await asked, "a");
  assertEquals(client.stats().unmatched, 20);
  await client.close();
});

Deno.test("connect(): requests wait for room in the send buffer, and fail beyond it", async () => {
  const { libc, client } = await connected({ maxInFlight: 200 });
  libc.hasRoom = false;
  libc.sends = [-EAGAIN];
  // Each of 66 growing sizes is a message, and 64 messages fit.
  const outcomes = Array.from(
    { length: 66 },
    (_, i) =>
      client.request(new Uint8Array(i + 1).fill(i)).then(
        ({ data }) => data[0],
        ({ message }) => message as string,
      ),
  );
  await idle();
  assertEquals(libc.sent, []);
  const full =
    "Cannot send to 127.0.0.2:9: The send buffer is full, and so is the queue to it";
  assertEquals([await outcomes[64], await outcomes[65]], [full, full]);
  libc.hasRoom = true;
  await idle();
  assertEquals(libc.sent.length, 64);
  libc.arrive({ payloads: ["\u0000"] }, { payloads: ["?"] });
  assertEquals([await outcomes[0], await outcomes[63]], [0, 63]);
  await client.close();
  for (const outcome of outcomes) await outcome;
});

Deno.test("connect(): a closed client sends nothing more, and its requests fail", async () => {
  const { libc, client } = await connected();
  const asked = client.request("a");
  const closing = client.close();
  await assertRejects(() => asked, Deno.errors.Interrupted);
  await closing;
  await assertRejects(() => client.request("b"), Deno.errors.Interrupted);
  assert(libc.sent.length <= 1);
});

Deno.test("LinuxSocket: a client takes little memory until it needs more, and then any size", async () => {
  const { libc, client } = await connected({ maxInFlight: 100 }, 1);
  const few = libc.allocatedBytes;
  assert(few < 100_000, `${few}`);
  // Any number of requests one at a time needs no more memory.
  for (const one of ["a", "b", "c"]) {
    const reply = ask(client, one);
    await idle();
    libc.arrive({ payloads: [one] });
    assertEquals(await reply, one);
  }
  assertEquals(libc.allocatedBytes, few);
  const letters = Array.from(
    { length: 90 },
    (_, i) => String.fromCharCode(33 + i),
  );
  // Two rounds, the second with enough room.
  for (let round = 0; round < 2; round++) {
    const outcomes = letters.map((one) => ask(client, one.padEnd(500)));
    await idle();
    libc.arrive(...letters.map((one) => ({ payloads: [one] })));
    assertEquals(await Promise.all(outcomes), letters);
  }
  const more = libc.allocatedBytes;
  assert(more > few + 10 * 65_536, `${more}`);
  const large = client.request(new Uint8Array(60_000).fill(33));
  await idle();
  assertEquals(libc.sent.at(-1)!.payload.length, 60_000);
  libc.arrive({ payloads: ["!"] });
  assertEquals((await large).text(), "!");
  await client.close();
});

Deno.test("connect(): a silent peer is connected anew each second, for another route", async () => {
  const { libc, client } = await connected({ retries: 0 });
  const ofOpening = libc.connects;
  const connects = async (now: number) => {
    libc.now = now;
    await client.send("?");
    await idle();
    return (libc.connects - ofOpening) / 2;
  };
  const start = libc.now;
  assertEquals(await connects(start + 999), 0);
  // The connection is ended, and begun anew.
  assertEquals(await connects(start + 1000), 1);
  assertEquals(await connects(start + 1999), 1);
  assertEquals(await connects(start + 2000), 2);
  libc.now = start + 2500;
  libc.arrive({ payloads: ["!"] });
  await idle();
  assertEquals(await connects(start + 3400), 2);
  await client.close();
});

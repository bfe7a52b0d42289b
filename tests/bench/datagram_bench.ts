/**
 * `deno bench`: the code that runs for each datagram. `datagram_bench_test.ts`
 * bounds the memory that it allocates.
 */
import { connect } from "../../lib/client/connect.ts";
import { bytesLiteral } from "../../lib/encoding.ts";
import { Guard } from "../../lib/server/guard.ts";
import { LoopWatch } from "../../lib/server/loop_watch.ts";
import { serve, type ServeOptions } from "../../lib/server/serve.ts";
import { type Conn, DenoSocket } from "../../lib/socket/deno_socket.ts";
import { denoRuntime, type Runtime } from "../../lib/socket/runtime.ts";
import { stampReflector } from "../../lib/stamp/reflector.ts";
import { decodeSender, encodeSender } from "../../lib/stamp/packet.ts";
import { Books } from "../../lib/stats/books.ts";
import { Distribution } from "../../lib/stats/distribution.ts";
import { summarize } from "../../lib/stats/statistics.ts";
import { infoOf } from "../../lib/testing/mod.ts";
import { StubConn, StubLibc, StubSocket } from "./stub_socket.ts";

/** A unit of work. */
export interface Unit {
  /** Works on a number of datagrams. */
  run: (count: number) => void | Promise<void>;
  /** The bytes that one may allocate, as measured and a little more. */
  maxBytes: number;
}

const LOCAL = { hostname: "198.51.100.1", port: 20001 };
const payload = new Uint8Array(16).fill(0x41);
const peers = Array.from({ length: 50_000 }, (_, i) => ({
  hostname: `10.${i >> 16}.${(i >> 8) & 255}.${i & 255}`,
  port: 1024 + i,
}));
const datagram = {
  data: payload,
  remoteAddr: peers[0]!,
  localAddr: LOCAL,
  receivedAt: 0,
};
const packet = {
  sequence: 1,
  timestamp: { seconds: 1_700_000_000, nanoseconds: 123_456_789 },
  errorEstimate: { synchronized: false, ptp: false, scale: 22, multiplier: 2 },
  ssid: 0,
};
const sent = encodeSender(packet);
const info = infoOf(peers[0]!);
const reflector = stampReflector();
const sample = Array.from({ length: 10_000 }, (_, i) => (i * 7919) % 10_007);
const distribution = new Distribution();
/** An address. */
const OBJECT_BYTES = 40;
let next = 0;

/** The units, by name. */
export const UNITS: Record<string, Unit> = {
  "server, echo of borrowed data": unit(870, serving({ lend: true })),
  "server, echo of a copy": unit(985, serving({})),
  "server, from 50,000 sources": unit(1575, serving({}, 50_000)),
  "server, deno engine": served(937, new StubConn(payload)),
  "server, linux engine": served(654, new StubLibc()),
  "connect(), request and reply": unit(1240, await requesting()),
  "books, a datagram and its sample": unit(248, booking()),
  "Distribution.add": unit(8, () => distribution.add(0.5)),
  "bytesLiteral of 16 bytes": unit(544, () => bytesLiteral(payload)),
  encodeSender: unit(340, () => encodeSender(packet)),
  decodeSender: unit(264, () => decodeSender(sent)),
  stampReflector: unit(872, () => reflector(sent, info)),
};
for (const sources of [1, 50_000]) {
  for (const rateLimit of [0, 1_000_000]) {
    const rate = rateLimit === 0 ? "" : " and a rate limit";
    const name = `guard, ${sources} sources${rate}`;
    const maxBytes = rateLimit === 0 ? 8 : 144;
    UNITS[name] = unit(maxBytes, guarding(sources, rateLimit));
  }
}
// With 50,000 sources the tables are renewed again and again.
for (const [sources, maxBytes] of [[1, 8], [4000, 8], [50_000, 770]] as const) {
  for (const isSame of [true, false]) {
    const kind = isSame ? "" : ", an object each time";
    const name = `loop watch, ${sources} sources${kind}`;
    const all = maxBytes + (isSame ? 0 : OBJECT_BYTES);
    UNITS[name] = unit(all, watching(sources, isSame));
  }
}
for (const [name, { run }] of Object.entries(UNITS)) {
  Deno.bench(name, () => run(1));
}
Deno.bench("summarize 10,000 values", () => void summarize(sample));

/** A unit by a function for one datagram. */
function unit(maxBytes: number, one: () => unknown): Unit {
  return {
    maxBytes,
    run: (count) => {
      for (let i = 0; i < count; i++) one();
    },
  };
}

/** A server on a socket without an engine, away from loopback. */
function serving(options: ServeOptions, sources = 1): () => void {
  const socket = new StubSocket();
  const { runtime } = socket;
  serve({ ...options, runtime, quiet: true }, (data) => data);
  return () => {
    datagram.remoteAddr = peers[next++ % sources]!;
    datagram.receivedAt = next;
    socket.receiver.onDatagram(datagram);
  };
}

/** An engine, and a server that borrows its data. */
function served(maxBytes: number, system: StubConn | StubLibc): Unit {
  const runtime: Runtime = system instanceof StubLibc ? system.runtime : {
    ...denoRuntime,
    open: () => new DenoSocket(system as unknown as Conn, 1500, undefined),
  };
  serve({ runtime, lend: true, quiet: true }, (data) => data);
  return { maxBytes, run: (count) => system.run(count) };
}

/** A client, whose requests are answered at once. */
async function requesting(): Promise<() => void> {
  const socket = new StubSocket();
  const bytes = new DataView(payload.buffer);
  const client = await connect(LOCAL, {
    runtime: socket.runtime,
    key: (data) => data[0]! << 24 | data[1]! << 16 | data[2]! << 8 | data[3]!,
  });
  return () => {
    bytes.setUint32(0, next++);
    client.request(payload);
    datagram.remoteAddr = LOCAL;
    socket.receiver.onDatagram(datagram);
  };
}

/** The books of a run. */
function booking(): () => void {
  const onSample = () => {};
  const books = new Books({
    ...{ capacity: 4096, timeoutMs: 1000, size: 16, onSample },
  });
  books.begin(0, 0, LOCAL);
  return () => {
    const seq = books.add(next, next);
    books.taken(seq);
    books.replied(seq);
    books.measured(seq, 0.5);
    next++;
  };
}

function guarding(sources: number, rateLimit: number): () => void {
  const guard = new Guard(
    { maxAmplification: 3, rateLimit },
    LOCAL,
    { now: () => performance.now(), ownsAddress: () => false },
  );
  return () => {
    const peer = peers[next++ % sources]!;
    guard.admit(peer);
    guard.permit(peer, payload, payload);
  };
}

function watching(sources: number, isSame: boolean): () => void {
  const loops = new LoopWatch();
  return () => {
    const peer = peers[next++ % sources]!;
    const remote = isSame ? peer : { ...peer };
    loops.isLoop(remote, next);
    loops.isProbeDue(remote, next, payload);
  };
}

/**
 * `deno task fuzz`: random, truncated and mutated input for every decoder and
 * for a live server on loopback, which must still answer valid requests. A
 * failure prints the seed that repeats it.
 */
// deno-lint-ignore-file no-console -- it is a program
import { assert, assertEquals } from "@std/assert";
import {
  canonicalHostname,
  formatAddress,
  ipVersion,
  parseAddress,
  parsePort,
} from "../lib/address.ts";
import {
  bytesLiteral,
  decode,
  encode,
  parseHex,
  textOrHex,
} from "../lib/encoding.ts";
import {
  decimal,
  duration,
  type Flags,
  HOST,
  integer,
  parseFlags,
  SHARED_FLAGS,
  text as textKind,
  UsageError,
} from "../lib/cli/flags.ts";
import { Guard, networkOf } from "../lib/server/guard.ts";
import { stampReflector } from "../lib/stamp/reflector.ts";
import { request } from "../lib/client/request.ts";
import { serve } from "../lib/server/serve.ts";
import { toolFlags } from "./tool_flags.ts";
import { SenderSession } from "../lib/stamp/sender_session.ts";
import {
  decodeReflector,
  decodeSender,
  encodeReflector,
  encodeSender,
  ERROR_ESTIMATE,
} from "../lib/stamp/packet.ts";
import { type Engine, runtimeFor } from "../lib/socket/runtime.ts";
import { infoOf, seededRandom } from "../lib/testing/mod.ts";

export interface FuzzOptions {
  seed: number;
  /** The largest number of inputs for each decoder, and for the server. */
  count: number;
  /** The longest duration, in milliseconds. */
  ms: number;
  engine?: Engine;
}

/** Runs all targets; throws at the first input that fails. */
export async function fuzz(
  { seed, count, ms, engine = "deno" }: FuzzOptions,
): Promise<string> {
  const random = new Random(seed);
  // Half of the time is for the decoders, half for the server.
  const start = performance.now();
  const half = start + ms / 2;
  const end = start + ms;
  let inputs = 0;
  for (; inputs < count && performance.now() < half; inputs++) {
    for (const [name, target] of Object.entries(DECODERS)) {
      const input = random.mutation(CORPUS);
      try {
        target(input, random);
      } catch (cause) {
        const shown = bytesLiteral(input);
        throw new Error(`${name} fails on ${shown}, seed ${seed}`, { cause });
      }
    }
  }
  const served = await fuzzServer(random, count, end, engine);
  return `${inputs} inputs for each of ${Object.keys(DECODERS).length} ` +
    `decoders, ${served} datagrams for the server, seed ${seed}`;
}

/** Sends invalid datagrams, and valid requests in between. */
async function fuzzServer(
  random: Random,
  count: number,
  end: number,
  engine: Engine,
): Promise<number> {
  await using server = serve({
    quiet: true,
    engine,
    maxDatagramBytes: 2000,
    maxInFlight: 16,
    handlerTimeoutMs: 50,
    guard: { rateLimit: 1_000_000 },
  }, (data) => {
    switch (data.at(-1)! % 8) {
      case 0:
        throw new Error("handler");
      case 1:
        return Promise.reject(new Error("handler"));
      case 2:
        return data.fill(0);
      case 3:
        return new Promise(() => {});
      case 4:
        return { not: "a reply" } as unknown as string;
      default:
        return data;
    }
  });
  const socket = runtimeFor(engine).open({
    hostname: "127.0.0.1",
    port: 0,
    maxDatagramBytes: 65_527,
  });
  const done = socket.start({ onDatagram: (reply) => socket.release(reply) });
  let sent = 0;
  while (sent < count && performance.now() < end) {
    // No more than fits a receive buffer: dropped datagrams test nothing.
    for (let i = 0; i < 20; i++, sent++) {
      const size = random.integer(10) === 0 ? random.integer(5000) : 64;
      await socket.send(random.bytes(random.integer(size + 1)), server.addr);
    }
    const good = encode(`good client ${sent}\xff`);
    const options = { timeoutMs: 200, retries: 5, engine };
    const { data } = await request(server.addr, good, options);
    assertEquals(data, good);
  }
  socket.close();
  await done;
  await server.shutdown();
  const { received, replied, unanswered, dropped, refused, errors } = server
    .stats();
  const refusals = Object.values(refused).reduce((a, b) => a + b);
  const drops = Object.values(dropped).reduce((a, b) => a + b);
  assertEquals(
    received,
    replied + unanswered + drops + refusals + errors.send,
    "every datagram has an outcome",
  );
  return sent;
}

/** The invariant of each decoder for any input. */
const DECODERS: Record<string, (input: Uint8Array, random: Random) => void> = {
  parseAddress: (input) =>
    orSyntaxError(() => {
      const address = parseAddress(text(input), 1);
      assertEquals(parseAddress(formatAddress(address)), address);
    }),
  parsePort: (input) =>
    orSyntaxError(() => {
      const port = parsePort(text(input));
      assert(Number.isInteger(port) && port >= 0 && port <= 65_535);
    }),
  canonicalHostname: (input) => {
    const once = canonicalHostname(text(input));
    assertEquals(canonicalHostname(once), once);
  },
  parseHex: (input) =>
    orSyntaxError(() => {
      const bytes = parseHex(text(input));
      assertEquals(parseHex(bytes.toHex()), bytes);
    }),
  textOrHex: (input) => {
    const shown = textOrHex(input);
    const back = "text" in shown ? encode(shown.text) : parseHex(shown.hex);
    assertEquals(back, input);
  },
  decode: (input) => {
    const decoded = decode(input);
    if (decoded !== undefined) assertEquals(encode(decoded), input);
  },
  bytesLiteral(input) {
    // JSON writes \xNN as \u00NN, and has the other escapes.
    const json = bytesLiteral(input).slice(1).replaceAll(
      /\\(x|.)/g,
      (escape, char) => char === "x" ? "\\u00" : escape,
    );
    const back = Uint8Array.from(
      JSON.parse(json),
      (c: string) => c.charCodeAt(0),
    );
    assertEquals(back, input);
  },
  decodeSender(input) {
    const packet = decodeSender(input);
    if (packet === undefined) return;
    const again = encodeSender(packet);
    assertEquals(again.subarray(0, 14), input.subarray(0, 14));
  },
  decodeReflector(input, random) {
    const packet = decodeReflector(input);
    if (packet === undefined) return;
    const request = random.bytes(random.integer(100));
    const again = decodeReflector(encodeReflector(packet, request));
    assertEquals(again, { ...packet });
  },
  stampReflector(input) {
    const remoteAddr = { hostname: "192.0.2.1", port: input.length };
    const reply = REFLECTOR(Uint8Array.from(input), infoOf(remoteAddr));
    if (reply === undefined) return;
    assertEquals((reply as Uint8Array).length, Math.max(44, input.length));
  },
  session(input, random) {
    const session = new SenderSession(0, {
      capacity: 100,
      timeoutMs: 1000,
      size: PACKET.length,
    });
    for (let seq = 0; seq < 3; seq++) session.onSent(PACKET, seq, seq);
    const remote = { hostname: "192.0.2.2", port: random.integer(60_000) };
    const reply = REFLECTOR(PACKET.slice(), infoOf(remote)) as Uint8Array;
    const at = random.integer(reply.length + 1);
    const mutated = new Uint8Array([...reply.subarray(0, at), ...input]);
    session.onReceived(mutated, 5);
    const { received, duplicates, foreign, late } = session.result();
    assertEquals(received + duplicates + foreign + late, 1);
  },
  values: (input) => {
    for (const kind of [integer(0, 10), decimal(0, 100), duration(0), HOST]) {
      orSyntaxError(() => kind.parse(text(input)));
    }
  },
  parseFlags(input) {
    const flags = {
      port: { short: "p", kind: integer(0, 65_535), help: "" },
      text: { short: "t", kind: textKind(), help: "" },
      quiet: { short: "q", help: "" },
    } satisfies Flags;
    try {
      const { given, positionals } = parseFlags(flags, text(input).split(" "));
      assert(typeof given.quiet === "boolean");
      assert(positionals.every((positional) => typeof positional === "string"));
    } catch (error) {
      if (!(error instanceof UsageError)) throw error;
    }
  },
  guard(input, random) {
    const hostname = text(input);
    const guard = new Guard(
      { maxAmplification: 3, rateLimit: 1 },
      { hostname: "127.0.0.1", port: 1 },
      { now: () => random.integer(10_000), ownsAddress: () => false },
    );
    const remote = { hostname, port: random.integer(65_536) };
    guard.admit(remote);
    guard.permit(remote, input, random.bytes(20));
    if (ipVersion(hostname) === 6) {
      const groups = networkOf(canonicalHostname(hostname)).split(/[:.]/);
      assert(groups.length === 4 || groups.length === 3);
    }
  },
};

const REFLECTOR = stampReflector();
const PACKET = encodeSender({
  sequence: 0,
  timestamp: { seconds: 1, nanoseconds: 1 },
  errorEstimate: ERROR_ESTIMATE,
  ssid: 1,
});

/** The corpus to mutate. */
const CORPUS = [
  "127.0.0.1:20001",
  "[2001:db8::1%eth0]:53",
  "::ffff:192.0.2.1",
  "localhost:65535",
  "0x00 ff 7f:80",
  "-qp 20001 --text=a=b --quiet -- -x",
  "--port 1 -t - --no-quiet",
  "1.5s 200ms 1m .5 1e3 ∞",
  'b"\\x00\\"\\\\\t\r\n"',
  "Hello UDP Server é 🙂 \uFEFF",
].map((text) => encode(text)).concat(PACKET);

class Random {
  readonly #next: () => number;

  constructor(seed: number) {
    this.#next = seededRandom(seed);
  }

  /** An integer from 0 to `below` - 1. */
  integer(below: number): number {
    return Math.floor(this.#next() * below);
  }

  bytes(length: number): Uint8Array {
    return Uint8Array.from({ length }, () => this.integer(256));
  }

  /** A piece of the corpus, truncated, spliced or changed; or noise. */
  mutation(corpus: Uint8Array[]): Uint8Array {
    if (this.integer(5) === 0) return this.bytes(this.integer(60));
    let bytes = [...corpus[this.integer(corpus.length)]!];
    for (let times = this.integer(4); times > 0; times--) {
      const at = this.integer(bytes.length + 1);
      switch (this.integer(5)) {
        case 0:
          bytes = bytes.slice(0, at);
          break;
        case 1:
          bytes = bytes.slice(at);
          break;
        case 2:
          bytes.splice(at, 1, this.integer(256));
          break;
        case 3:
          bytes.splice(at, 0, ...this.bytes(this.integer(4)));
          break;
        default:
          bytes.push(...bytes.slice(at));
      }
    }
    return Uint8Array.from(bytes);
  }
}

function text(input: Uint8Array): string {
  return new TextDecoder().decode(input);
}

function orSyntaxError(decode: () => void): void {
  try {
    decode();
  } catch (error) {
    if (!(error instanceof SyntaxError)) throw error;
  }
}

if (import.meta.main) {
  const about = "Feeds random input to every decoder and a live server.";
  const given = await toolFlags("fuzz", about, {
    seed: { kind: integer(0, 2 ** 31), usual: "any", help: "the random input" },
    count: {
      kind: integer(1, 1_000_000_000),
      default: 100_000,
      help: "inputs for each decoder, and datagrams",
    },
    engine: SHARED_FLAGS.engine,
    seconds: { kind: integer(1, 3600), default: 60, help: "the longest run" },
  });
  const seed = given.seed ?? Math.floor(Math.random() * 2 ** 31);
  const { count } = given;
  const ms = 1000 * given.seconds;
  console.log(await fuzz({ seed, count, ms, engine: given.engine }));
}

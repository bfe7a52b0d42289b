/** Two servers set against each other by a datagram with a forged source. */
import { assert, assertEquals } from "@std/assert";
import { encode } from "../lib/encoding.ts";
import { stampReflector } from "../lib/stamp/reflector.ts";
import { echo, fixedReply } from "../lib/responders.ts";
import { type Handler, serve, type ServeOptions } from "../lib/serve.ts";
import {
  encodeSender,
  ERROR_ESTIMATE,
  timestampOf,
} from "../lib/stamp/packet.ts";
import { SimulatedNetwork } from "./simulated_network.ts";

const A = { hostname: "198.51.100.1", port: 20001 };
const B = { hostname: "198.51.100.2", port: 20002 };

/** What the servers of a pair may do. */
const MODES: Record<string, () => Handler> = {
  "echo": echo,
  "the default reply": () => fixedReply("Hello UDP Client"),
  "another reply": () => fixedReply("x"),
  "an empty reply": () => fixedReply(""),
  "an asynchronous echo": () => (data) => Promise.resolve(data),
  "a handler of its own": () => () => "text",
  "a STAMP reflector": () => stampReflector(),
  "a stateless reflector": () => stampReflector({ stateless: true }),
};

/** Runs a pair for two seconds; when the last datagram was sent, of how many. */
async function collide(a: Handler, b: Handler, options: ServeOptions) {
  const network = new SimulatedNetwork(() => {
    lastAt = network.now;
    return [0.2];
  });
  let lastAt = 0;
  const { runtime } = network;
  const servers = [
    serve({ ...A, runtime, ...options }, a),
    serve({ ...B, runtime, ...options }, b),
  ];
  // A request to a reflector, and as good as any to the others.
  const { timeOrigin } = runtime;
  network.pass(
    B,
    A,
    encodeSender({
      sequence: 0,
      timestamp: timestampOf(timeOrigin),
      errorEstimate: ERROR_ESTIMATE,
      ssid: 0,
    }),
  );
  await network.runFor(2000);
  const sent = network.sent.length;
  await Promise.all(servers.map((server) => server.shutdown()));
  return { lastAt, sent };
}

// Without a limit on the rate, as on loopback: the limit would slow it down.
const guard = { rateLimit: 0 };

for (const [nameA, a] of Object.entries(MODES)) {
  for (const [nameB, b] of Object.entries(MODES)) {
    Deno.test(`a pair comes to rest: ${nameA} against ${nameB}`, async () => {
      const { lastAt, sent } = await collide(a(), b(), { guard });
      assert(sent >= 2, `${sent} datagrams`);
      assert(lastAt < 1000, `still going after ${lastAt} ms`);
    });
  }
}

Deno.test("two servers with the default reply stop at its first return", async () => {
  const reply = MODES["the default reply"]!;
  const { sent } = await collide(reply(), reply(), { guard });
  assertEquals(sent, 2);
});

Deno.test("without the guard a pair never comes to rest", async () => {
  const { lastAt } = await collide(echo(), echo(), { guard: false });
  assert(lastAt > 1999);
});

Deno.test("a server does not answer itself", async () => {
  const network = new SimulatedNetwork(() => [0.2]);
  const server = serve({ ...A, runtime: network.runtime }, echo());
  network.pass(A, A, encode("forged"));
  await network.runFor(100);
  assertEquals(network.sent.length, 1);
  await server.shutdown();
  assertEquals(server.stats().refused.self, 1);
});

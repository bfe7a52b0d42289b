import { assertEquals } from "@std/assert";
import { type GateOptions, Gates } from "../../lib/server/gates.ts";
import { Guard, type GuardOptions } from "../../lib/server/guard.ts";
import { Incoming } from "../../lib/server/incoming.ts";
import { LoopProbe } from "../../lib/server/loop_probe.ts";
import type { Links } from "../../lib/socket/multicast.ts";

const LOCAL = { hostname: "0.0.0.0", port: 7777 };
const PEER = { hostname: "192.0.2.7", port: 40_000 };
const SERVER = { maxReplyBytes: () => Infinity, pushReply: () => false };
const OPEN = { maxAmplification: 0, rateLimit: 0 };

/** A datagram of a peer whose address is the same object each time. */
function asked(text = "ping", remoteAddr = PEER): Incoming {
  const data = new TextEncoder().encode(text);
  const localAddr = { hostname: "0.0.0.0", port: 7777 };
  const datagram = { data, remoteAddr, localAddr, receivedAt: 1 };
  return new Incoming(SERVER, datagram, data);
}

function gates(guard: GuardOptions, options: Partial<GateOptions> = {}): Gates {
  const system = { now: () => now, ownsAddress: () => true };
  return new Gates({
    guard: new Guard(guard, LOCAL, system),
    ...{ links: undefined, loops: undefined, traits: {}, holdsGroups: false },
    ...options,
  });
}

let now = 0;
const PONG = new TextEncoder().encode("pong");

/** The verdicts on an answer to each of these datagrams of the peer. */
function verdicts(tested: Gates, ...texts: string[]): string[] {
  return texts.map((text) => tested.judge(asked(text), PONG, false));
}

Deno.test("Gates: limits hold for each datagram of a peer", () => {
  const limited = gates({ ...OPEN, rateLimit: 1 });
  assertEquals(verdicts(limited, "ping", "ping"), ["send", "rate"]);
  const small = gates({ ...OPEN, maxAmplification: 1 });
  assertEquals(verdicts(small, "ping", "", "ping"), [
    ...["send", "amplification", "send"],
  ]);
});

Deno.test("Gates: a peer with the server's port is judged each time", () => {
  const tested = gates(OPEN);
  const judge = (hostname: string) =>
    tested.judge(asked("ping", peers[hostname]), PONG, false);
  const peers: Record<string, typeof LOCAL> = {};
  for (const hostname of ["192.0.2.8", "192.0.2.9"]) {
    peers[hostname] = { hostname, port: LOCAL.port };
  }
  // The system is asked about one address in 10 ms.
  now = 0;
  assertEquals(judge("192.0.2.8"), "self");
  assertEquals(judge("192.0.2.9"), "send");
  now = 20;
  assertEquals(judge("192.0.2.9"), "self");
});

Deno.test("Gates: a peer is judged anew once a group is joined", () => {
  const tested = gates(OPEN);
  assertEquals(verdicts(tested, "ping"), ["send"]);
  tested.links = { has: () => false } as unknown as Links;
  assertEquals(verdicts(tested, "ping"), ["offLink"]);
});

Deno.test("Gates: each answer to a group is held", () => {
  const tested = gates(OPEN, { holdsGroups: true });
  assertEquals(verdicts(tested, "ping", "ping"), ["hold", "hold"]);
});

Deno.test("Gates: each datagram is compared with the fixed reply", () => {
  const tested = gates(OPEN, { traits: { fixedReply: PONG } });
  assertEquals(verdicts(tested, "ping", "pong"), ["send", "ownReply"]);
});

Deno.test("Gates: requests that cannot be part of a loop are not counted", () => {
  const loops = Object.create(LoopProbe.prototype) as LoopProbe;
  let answers = 0;
  loops.isLoop = () => false;
  loops.onAnswer = () => answers++;
  const isNoLoop = (data: Uint8Array) => data.length === 4;
  const traits = { isNoLoop };
  const all = ["ping", "ping", "other", "other"];
  verdicts(gates(OPEN, { loops, traits }), ...all);
  assertEquals(answers, 2);
  verdicts(gates(OPEN, { loops }), ...all);
  assertEquals(answers, 6);
});

import { assert, assertEquals, assertThrows } from "@std/assert";
import type { UdpAddress } from "../../lib/address.ts";
import {
  type SessionEnd,
  Sessions,
  type SessionsOptions,
} from "../../lib/server/sessions.ts";
import { restfulNetworks } from "../helpers.ts";

const makeNetwork = restfulNetworks();

/** A peer by its number. */
const peer = (port: number, hostname = "192.0.2.7"): UdpAddress => ({
  hostname,
  port,
});

/** Sessions with the peer's port as their value, on a simulated clock. */
function made(options: SessionsOptions<number> = {}) {
  const network = makeNetwork();
  const ends: Array<[number, SessionEnd]> = [];
  const sessions = new Sessions(({ port }) => port, {
    runtime: network.runtime,
    onEnd: (value, why) => void ends.push([value, why]),
    ...options,
  });
  return { network, sessions, ends };
}

Deno.test("Sessions: a peer is its address and its port, and has one value", () => {
  const network = makeNetwork();
  let count = 0;
  const sessions = new Sessions((remoteAddr) => ({ remoteAddr, n: ++count }), {
    runtime: network.runtime,
  });
  const peers = [peer(1), peer(2), peer(1, "192.0.2.8"), peer(1, "::1")];
  for (const one of peers) assertEquals(sessions.get(one), undefined);
  const values = peers.map((one) => sessions.open(one)!);
  assertEquals(values.map(({ n }) => n), [1, 2, 3, 4]);
  for (const [i, one] of peers.entries()) {
    // Another object for the same address.
    assert(sessions.open({ ...one }) === values[i]);
    assert(sessions.get({ ...one }) === values[i]);
  }
  assertEquals([...sessions], peers.map((one, i) => [one, values[i]!]));
  assertEquals([sessions.size, count], [4, 4]);
  sessions.close();
});

Deno.test("idleMs: a session ends this time after its last datagram, by one timer", async () => {
  const { network, sessions, ends } = made({ idleMs: 1000 });
  for (let i = 1; i <= 50; i++) {
    sessions.open(peer(i));
    await network.runFor(10);
  }
  assertEquals(network.timers, 1);
  // At 500 ms the seventh is active, and at 1,205 ms by get().
  sessions.open(peer(7));
  await network.runFor(499);
  assertEquals(ends, []);
  await network.runFor(1);
  assertEquals(ends, [[1, "idle"]]);
  await network.runFor(205);
  assertEquals(ends.length, 20);
  assertEquals(sessions.get(peer(7)), 7);
  await network.runFor(999);
  assertEquals([sessions.size, ends.length], [1, 49]);
  await network.runFor(2);
  assertEquals([sessions.size, ends.at(-1)], [0, [7, "idle"]]);
  assertEquals(network.timers, 0);
  sessions.open(peer(1));
  await network.runFor(1001);
  assertEquals(ends.length, 51);
});

Deno.test("max: a new peer replaces the least recently active newcomer", () => {
  const { sessions, ends } = made({ max: 3 });
  for (const port of [1, 2, 3]) sessions.open(peer(port));
  sessions.open(peer(1));
  sessions.get(peer(2));
  sessions.open(peer(4));
  sessions.open(peer(5));
  assertEquals(ends, [[3, "replaced"], [1, "replaced"]]);
  assertEquals([...sessions].map(([, value]) => value), [2, 4, 5]);
  sessions.close();
});

Deno.test("max: a flood of new peers ends no session of an active one, and is refused where all are", async () => {
  const { network, sessions, ends } = made({ max: 10 });
  const active = [1, 2, 3, 4, 5, 6, 7, 8, 9];
  for (const port of active) sessions.open(peer(port));
  await network.runFor(1000);
  for (const port of active) sessions.open(peer(port));
  for (let i = 0; i < 10_000; i++) sessions.open(peer(10_000 + i));
  assertEquals(ends.length, 9999);
  for (const port of active) assertEquals(sessions.get(peer(port)), port);
  // The last newcomer stays for a second: nobody else is let in.
  await network.runFor(1000);
  assertEquals(sessions.open(peer(19_999)), 19_999);
  assertEquals(sessions.open(peer(20_000)), undefined);
  assertEquals([sessions.size, ends.length], [10, 9999]);
  // A place is free again once one of them ends.
  sessions.end(peer(5));
  assertEquals(sessions.open(peer(20_000)), 20_000);
  sessions.close();
});

Deno.test("end(), close(): end sessions at once, and leave no timer", async () => {
  const { network, sessions, ends } = made();
  for (const port of [1, 2, 3]) sessions.open(peer(port));
  sessions.end(peer(2));
  sessions.end(peer(2));
  assertEquals(ends, [[2, "ended"]]);
  assertEquals(sessions.get(peer(2)), undefined);
  sessions.close();
  assertEquals(ends.slice(1), [[1, "ended"], [3, "ended"]]);
  assertEquals([sessions.size, network.timers], [0, 0]);
  // A closed table is an empty one.
  sessions.open(peer(4));
  await network.runFor(60_000);
  assertEquals(ends.at(-1), [4, "idle"]);
});

Deno.test("onEnd: may begin and end other sessions", async () => {
  const network = makeNetwork();
  const ends: Array<[number, SessionEnd]> = [];
  const sessions: Sessions<number> = new Sessions(({ port }) => port, {
    runtime: network.runtime,
    idleMs: 1000,
    onEnd: (value, why) => {
      ends.push([value, why]);
      if (value !== 1) return;
      sessions.end(peer(2));
      sessions.open(peer(3));
    },
  });
  for (const port of [1, 2]) sessions.open(peer(port));
  await network.runFor(1000);
  assertEquals(ends, [[1, "idle"], [2, "ended"]]);
  await network.runFor(1000);
  assertEquals(ends.at(-1), [3, "idle"]);
});

Deno.test("onEnd: what it opens is within the bound, and outlives close()", () => {
  const opened = new Set<number>();
  const peers = new Sessions(({ port }) => port, {
    max: 2,
    runtime: makeNetwork().runtime,
    onEnd: (port) => {
      if (opened.has(port)) return;
      opened.add(port);
      peers.open(peer(port));
    },
  });
  for (let port = 1; port <= 9; port++) {
    peers.open(peer(port));
    assert(peers.size <= 2, `${peers.size} sessions`);
  }
  peers.close();
  assert(peers.size <= 2, `${peers.size} sessions after the close`);
  peers.close();
  assertEquals(peers.size, 0);
});

Deno.test("make, onEnd: their errors leave the table as it is", async () => {
  const network = makeNetwork();
  const { runtime } = network;
  let isBad = true;
  const sessions = new Sessions(({ port }) => {
    if (isBad) throw new Error("no room");
    return port;
  }, {
    runtime,
    onEnd: (value) => {
      if (value === 1) throw new Error("thrown");
      return Promise.reject(new Error("rejected"));
    },
  });
  assertThrows(() => sessions.open(peer(1)), Error, "no room");
  assertEquals([sessions.size, network.timers], [0, 0]);
  isBad = false;
  for (const port of [1, 2]) assertEquals(sessions.open(peer(port)), port);
  await network.runFor(60_000);
  assertEquals(sessions.size, 0);
  const { warnings } = network;
  assertEquals(warnings.length, 2);
  assert(warnings[0]!.includes("Sessions: Error: thrown"), warnings[0]);
  assert(warnings[1]!.includes("Sessions: Error: rejected"), warnings[1]);
});

Deno.test("Sessions: refuses wrong options, and a value that is no function", () => {
  const wrong: Array<[SessionsOptions<number>, typeof Error, string]> = [
    [{ idleMs: 0 }, RangeError, "'idleMs' must be"],
    [{ idleMs: 86_400_001 }, RangeError, "'idleMs' must be"],
    [{ max: 0 }, RangeError, "'max' must be"],
    [{ max: 1.5 }, RangeError, "'max' must be"],
    [{ onEnd: 1 as never }, TypeError, "'onEnd' must be"],
    [{ maximum: 1 } as never, TypeError, "'maximum' of Sessions"],
  ];
  for (const [options, ErrorClass, message] of wrong) {
    assertThrows(() => new Sessions(() => 0, options), ErrorClass, message);
  }
  assertThrows(() => new Sessions(1 as never), TypeError, "'make' must be");
});

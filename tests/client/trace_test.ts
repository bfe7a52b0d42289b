/** Tests of the search for hops on made-up answers, by a clock of their own. */
import { assert, assertEquals } from "@std/assert";
import { addressOf, type Path, pathsOf } from "../../lib/client/trace/paths.ts";
import {
  Hop,
  HopPace,
  type Probe,
  type ProbeEvent,
  Search,
  type SearchOptions,
} from "../../lib/client/trace/search.ts";
import type { Answer } from "../../lib/socket/probe_sockets.ts";

const TARGET = "192.0.2.9";
const OPTIONS: SearchOptions = {
  sourcePort: 4000,
  target: TARGET,
  maxTtl: 30,
  count: 3,
  timeoutMs: 1000,
  size: 32,
  headers: 28,
  token: 7,
};

type Reaction = Partial<Answer> & { afterMs?: number };
/** The answer of a network to a probe at a time; undefined if it is lost. */
type Network = (
  probe: Probe,
  now: number,
  flow: number,
) => Reaction | undefined;

/** Routers 10.0.0.1, 10.0.0.2 … before a target with a closed port. */
function chain(routers: number): Network {
  return ({ ttl }) =>
    ttl <= routers
      ? { kind: "expired", from: `10.0.0.${ttl}` }
      : { kind: "closed", from: TARGET };
}

/** Runs searches to their end, or until a time, and gives their probes with the times of the sends. */
function run(
  network: Network,
  options: Partial<SearchOptions> = {},
  { flows = 1, intervalMs = 0, untilMs = Infinity } = {},
) {
  const pace = new HopPace(intervalMs);
  const rules = { ...OPTIONS, ...options };
  const searches = Array.from(
    { length: flows },
    (_, i) => new Search({ ...rules, sourcePort: 4000 + i }, pace),
  );
  const probes: Array<Probe & { flow: number; inFlight: number }> = [];
  const events: ProbeEvent[] = [];
  let arriving: Array<{ flow: number; at: number; answer: Answer }> = [];
  let now = 0;
  for (; now < untilMs && searches.some(({ isOver }) => !isOver); now++) {
    assert(now < 100_000, "the search ends");
    for (const { flow, answer } of arriving.filter(({ at }) => at <= now)) {
      const event = searches[flow]!.answer(answer, now);
      if (event !== undefined) events.push(event);
    }
    arriving = arriving.filter(({ at }) => at > now);
    for (const search of searches) events.push(...search.expire(now));
    const first = Math.min(...searches.map(({ round }) => round));
    for (let round = first; round < first + 5 && round < rules.count; round++) {
      for (const [flow, search] of searches.entries()) {
        let probe;
        while ((probe = search.take(now, round))) {
          probe.wallAt = now;
          probes.push({ ...probe, flow, inFlight: arriving.length });
          const reaction = network(probe, now, flow);
          if (reaction === undefined) continue;
          const { afterMs = 10, ...facts } = reaction;
          const at = now + afterMs;
          const usual = { kind: "expired", from: TARGET, at } as const;
          const data = probe.payload.slice();
          arriving.push({ flow, at, answer: { ...usual, data, ...facts } });
        }
      }
    }
  }
  return { search: searches[0]!, searches, probes, events, tookMs: now };
}

const addresses = ({ hops }: Search) => hops.map((hop) => addressOf(hop));
const losses = ({ hops }: Search) =>
  hops.map(({ sent, received }) => `${sent - received}/${sent}`);

Deno.test("Search: lists the hops up to the target, each probed as often as asked", () => {
  const { search, probes, tookMs } = run(chain(3));
  assertEquals(addresses(search), [
    ...["10.0.0.1", "10.0.0.2", "10.0.0.3", TARGET],
  ]);
  assertEquals(losses(search), ["0/3", "0/3", "0/3", "0/3"]);
  assertEquals(search.hops.map(({ rtts }) => rtts.summary()?.median), [
    ...[10, 10, 10, 10],
  ]);
  assert(search.isReached);
  // None went beyond the target, and nothing waited for a time-out.
  assertEquals(Math.max(...probes.map(({ ttl }) => ttl)), 4);
  assert(tookMs < 100, `${tookMs}`);
});

Deno.test("Search: a far target gets few probes with a larger TTL than it needs", () => {
  const far: Network = (probe) => ({ ...chain(3)(probe, 0, 0), afterMs: 300 });
  const { search, probes } = run(far);
  assertEquals(addresses(search).length, 4);
  const beyond = probes.filter(({ ttl }) => ttl > 4);
  assert(beyond.length > 0 && beyond.length <= 4, `${beyond.length}`);
});

Deno.test("Search: ends five silent hops behind the last that answers", () => {
  const { search } = run((probe) =>
    probe.ttl <= 2 ? chain(2)(probe, 0, 0) : undefined
  );
  assertEquals(addresses(search).length, 7);
  assertEquals(losses(search).slice(2), Array(5).fill("3/3"));
  assertEquals(search.isReached, false);
});

Deno.test("Search: silent hops before one that answers are hops", () => {
  const { search } = run((probe) =>
    probe.ttl === 2 || probe.ttl === 3 ? undefined : chain(4)(probe, 0, 0)
  );
  assertEquals(addresses(search), [
    ...["10.0.0.1", undefined, undefined, "10.0.0.4", TARGET],
  ]);
});

Deno.test("Search: the largest TTL ends it", () => {
  const { search } = run(chain(9), { maxTtl: 3 });
  assertEquals(addresses(search).length, 3);
  assertEquals(search.isReached, false);
});

Deno.test("Search: a lost answer of the target makes no further hop of it", () => {
  let isFirst = true;
  const { search } = run((probe) => {
    const isLost = probe.ttl === 3 && isFirst;
    if (isLost) isFirst = false;
    return isLost ? undefined : chain(2)(probe, 0, 0);
  });
  assertEquals(losses(search), ["0/3", "0/3", "1/3"]);
});

Deno.test("Search: a router's refusal ends the path, and is no answer of the target", () => {
  const { search, events } = run((probe) =>
    probe.ttl < 3
      ? chain(2)(probe, 0, 0)
      : { kind: "unreachable", mark: "!X", from: "10.0.0.2" }
  );
  assertEquals(search.hops.length, 3);
  assertEquals([...search.hops[2]!.marks], ["!X"]);
  assertEquals(search.isReached, false);
  assertEquals(events.filter(({ mark }) => mark === "!X").length, 3);
});

Deno.test("Search: a late answer is loss, and shows the address", () => {
  let isFirst = true;
  const network: Network = (probe, now) => {
    if (probe.ttl !== 2) return chain(2)(probe, now, 0);
    const answer = isFirst ? chain(2)(probe, now, 0) : undefined;
    isFirst = false;
    return answer && { ...answer, afterMs: 1500 };
  };
  const { search, events } = run(network, { count: 8 }, { intervalMs: 500 });
  assertEquals(addresses(search), ["10.0.0.1", "10.0.0.2", TARGET]);
  assertEquals(losses(search), ["0/8", "8/8", "0/8"]);
  const ofHop = events.filter(({ ttl }) => ttl === 2);
  assertEquals(ofHop.map(({ outcome }) => outcome), Array(8).fill("lost"));
});

/** A network whose routers quote nothing of the payload. */
const brief = (network: Network): Network => (probe, now, flow) => {
  const reaction = network(probe, now, flow);
  return reaction && { ...reaction, data: new Uint8Array(0) };
};

Deno.test("Search: answers without the number belong to the only TTL in flight that they can be of", () => {
  // Different delays, so that a wrong attribution shows.
  const network: Network = (probe, now) => ({
    ...chain(4)(probe, now, 0),
    afterMs: 10 * probe.ttl,
  });
  const { search } = run(brief(network));
  assertEquals(addresses(search), [
    ...["10.0.0.1", "10.0.0.2", "10.0.0.3", "10.0.0.4", TARGET],
  ]);
  const rtts = search.hops.map(({ rtts }) => rtts.summary());
  assertEquals(rtts.map((rtt) => [rtt?.min, rtt?.max]), [
    ...[[10, 10], [20, 20], [30, 30], [40, 40], [50, 50]],
  ]);
  assertEquals(losses(search), Array(5).fill("0/3"));
});

Deno.test("Search: where numbers are missing and TTLs mix, one probe at a time is in flight", () => {
  const far: Network = (probe) => ({ ...chain(3)(probe, 0, 0), afterMs: 200 });
  const { search, probes } = run(brief(far));
  assertEquals(addresses(search).length, 4);
  assertEquals(losses(search), Array(4).fill("0/3"));
  const last = probes.slice(-12);
  assertEquals(last.map(({ inFlight }) => inFlight), Array(12).fill(0));
});

Deno.test("Search: a server's own reply is the target's", () => {
  const { search, tookMs } = run((probe) =>
    probe.ttl <= 2
      ? chain(2)(probe, 0, 0)
      : { kind: "reply", data: new Uint8Array([72, 105]) }
  );
  assertEquals(addresses(search), ["10.0.0.1", "10.0.0.2", TARGET]);
  assertEquals([...search.hops[2]!.kinds], ["reply"]);
  assertEquals(losses(search), ["0/3", "0/3", "0/3"]);
  assert(tookMs < 100, `${tookMs}`);
});

Deno.test("Search: the user's payload is sent as it is, one at a time", () => {
  const payload = new Uint8Array([1, 2, 3]);
  const { search, probes } = run(chain(2), { payload });
  assertEquals(probes[0]!.payload, payload);
  assertEquals(addresses(search).length, 3);
  assert(probes.every(({ inFlight }) => inFlight === 0));
});

Deno.test("Search: a report about another program's datagram is ignored", () => {
  const stale = new Uint8Array(32).fill(9);
  const { search, events } = run((probe) =>
    probe.ttl === 1
      ? { kind: "expired", from: "10.9.9.9", data: stale }
      : chain(2)(probe, 0, 0)
  );
  assertEquals(addresses(search), [undefined, "10.0.0.2", TARGET]);
  assert(events.every(({ from }) => from !== "10.9.9.9"));
});

Deno.test("Search: probes too big for a link are sent again, smaller", () => {
  const { search, events } = run(
    (probe) =>
      probe.ttl > 1 && probe.payload.length > 1272
        ? { kind: "too-big", mtu: 1300, from: "10.0.0.1" }
        : chain(2)(probe, 0, 0),
    { size: 1472 },
  );
  assertEquals(addresses(search), ["10.0.0.1", "10.0.0.2", TARGET]);
  assertEquals(losses(search), ["0/3", "0/3", "0/3"]);
  assertEquals(search.mtuReports, [{ mtu: 1300, from: "10.0.0.1" }]);
  assert(
    events.some(({ outcome, mtu }) => outcome === "too-big" && mtu === 1300),
  );
});

Deno.test("Search: a router that finds each probe too big does not keep it from ending", () => {
  const { search } = run((probe) =>
    probe.ttl > 1
      ? { kind: "too-big", mtu: 1300, from: "10.0.0.1" }
      : chain(2)(probe, 0, 0)
  );
  assertEquals(losses(search)[1], "3/3");
});

Deno.test("Search: an RTT is that of the kernel's stamp, unless the wall clock was set", () => {
  const stamped = (at: number) =>
    run((probe, now) => ({ ...chain(0)(probe, now, 0), at: now + at }), {
      count: 1,
    }).search.hops[0]!.rtts.summary()?.max;
  assertEquals(stamped(4), 4);
  assertEquals(stamped(-5000), 10);
  assertEquals(stamped(5000), 10);
});

Deno.test("HopPace: a hop gets five probes of all flows at once, and then one an interval", () => {
  const { searches, probes } = run(chain(1), { count: 4 }, {
    flows: 3,
    intervalMs: 1000,
  });
  for (const search of searches) assertEquals(losses(search), ["0/4", "0/4"]);
  for (const ttl of [1, 2]) {
    const times = probes.filter((probe) => probe.ttl === ttl)
      .map(({ sentAt }) => sentAt);
    assertEquals(times.length, 12);
    times.slice(5).forEach((time, i) => {
      // In no span of n intervals are there more than five and n.
      for (const [j, before] of times.slice(0, i + 5).entries()) {
        const probes = i + 6 - j;
        assert(time - before >= (probes - 6) * 1000 - 1, `${times}`);
      }
    });
    // The first round of all flows is before the second one's waits.
    const firsts = probes.filter((probe) => probe.ttl === ttl).slice(0, 3);
    assertEquals(firsts.map(({ flow }) => flow).sort(), [0, 1, 2]);
  }
});

Deno.test("Search: beyond another flow's end a flow tries five hops, once it is silent there", () => {
  const network: Network = (probe, now, flow) =>
    flow === 1 && probe.ttl >= 3 ? undefined : chain(2)(probe, now, flow);
  const { searches, probes } = run(network, {}, { flows: 2 });
  assertEquals(searches.map(({ hops }) => hops.length), [3, 7]);
  assertEquals(searches.map(({ isReached }) => isReached), [true, false]);
  const sentTo = (ttl: number) =>
    probes.find((probe) => probe.flow === 1 && probe.ttl === ttl)!.sentAt;
  assert(sentTo(4) >= sentTo(3) + OPTIONS.timeoutMs);
});

Deno.test("Search: a path with silent hops is traced beyond the end of a shorter one", () => {
  const network: Network = (probe, now, flow) => {
    if (flow === 0) return chain(3)(probe, now, flow);
    const isSilent = probe.ttl === 3 || probe.ttl === 4;
    return isSilent ? undefined : chain(5)(probe, now, flow);
  };
  const { searches } = run(network, {}, { flows: 2 });
  assertEquals(searches.map(({ hops }) => hops.length), [4, 6]);
  assert(searches.every(({ isReached }) => isReached));
});

Deno.test("Search: at an early end a traced flow has the right hops, and others are not traced", () => {
  const { searches, probes } = run(chain(3), {}, {
    flows: 20,
    intervalMs: 1000,
    untilMs: 4000,
  });
  const traced = searches.filter(({ isTraced }) => isTraced);
  assert(traced.length >= 5 && traced.length < 20, `${traced.length}`);
  for (const { hops } of traced) assertEquals(hops.length, 4);
  // No probe leaves for a hop whose predecessor still waits for its first one.
  assertEquals(Math.max(...probes.map(({ ttl }) => ttl)), 4);
  for (const search of searches) {
    for (const { sent } of search.hops) assert(sent > 0);
  }
});

Deno.test("Search: a probe in flight at the end is no loss", () => {
  const far: Network = (probe) => ({ ...chain(1)(probe, 0, 0), afterMs: 200 });
  const { search } = run(far, {}, { untilMs: 100 });
  assert(search.hops.length > 0);
  for (const { sent, settled, lossPercent } of search.hops) {
    assertEquals([sent > 0, settled, lossPercent], [true, 0, undefined]);
  }
  assertEquals(search.isTraced, false);
});

Deno.test("Search: a path that becomes longer has its new hops, and loss by the target's answers", () => {
  let sent = 0;
  const network: Network = (probe, now) =>
    chain(sent++ < 60 ? 2 : 4)(probe, now, 0);
  const { search } = run(network, { count: 40 });
  assertEquals(addresses(search).slice(3), ["10.0.0.4", TARGET]);
  assert(search.isReached);
  assertEquals(search.hops[4]!.pathLossPercent, 0);
  // New hops begin with a few probes, not with all that the others had.
  const [old, , , fresh] = search.hops;
  assertEquals(old!.sent, 40);
  assert(fresh!.sent > 0 && fresh!.sent < 35, `${fresh!.sent}`);
});

Deno.test("Search: a refusal among answers ends no path", () => {
  for (const ttl of [2, 3]) {
    let toHop = 0;
    const { search } = run(
      (probe, now) =>
        probe.ttl === ttl && toHop++ % 10 === 0
          ? { kind: "unreachable", mark: "!X", from: "10.0.0.1" }
          : chain(2)(probe, now, 0),
      { count: 20 },
    );
    assertEquals(search.hops.length, 3);
    assert(search.isReached);
    assertEquals(search.hops[2]!.lossPercent, 0);
    assertEquals(addresses(search), ["10.0.0.1", "10.0.0.2", TARGET]);
    // A refused probe did not reach the target.
    assertEquals(search.hops[2]!.pathLossPercent, ttl === 3 ? 10 : 0);
  }
});

Deno.test("Search: the target's answer ends a path, not an earlier refusal", () => {
  const { search } = run(
    (probe, now) =>
      probe.ttl === 2
        ? { kind: "unreachable", mark: "!X", from: "10.0.0.1", afterMs: 80 }
        : chain(2)(probe, now, 0),
    { count: 1 },
  );
  assertEquals(addresses(search), ["10.0.0.1", "10.0.0.1", TARGET]);
  assert(search.isReached);
});

Deno.test("Search: without numbers a late answer of a known hop makes a path no longer", () => {
  let toSecond = 0;
  const { search } = run((probe, now) => ({
    ...chain(2)(probe, now, 0),
    afterMs: probe.ttl === 2 && ++toSecond === 2 ? 1005 : 10,
  }), { payload: new Uint8Array([1, 2, 3]) });
  assertEquals(addresses(search), ["10.0.0.1", "10.0.0.2", TARGET]);
  assertEquals(losses(search), ["0/3", "1/3", "0/3"]);
});

Deno.test("Search: is not traced while a hop before the end has no outcome", () => {
  const slow: Network = (probe, now) => ({
    ...chain(2)(probe, now, 0),
    afterMs: probe.ttl === 2 ? 500 : 10,
  });
  const { search } = run(slow, {}, { untilMs: 100 });
  assert(search.isReached);
  assertEquals([search.hops.length, search.isTraced], [3, false]);
});

Deno.test("Search: a late report of the MTU makes a lost probe one that is sent again", () => {
  const { search } = run(
    (probe, now) =>
      probe.ttl > 1 && probe.payload.length > 1272
        ? { kind: "too-big", mtu: 1300, from: "10.0.0.1", afterMs: 1500 }
        : chain(1)(probe, now, 0),
    { size: 1472, count: 5 },
    { intervalMs: 1000 },
  );
  for (const { sent, settled } of search.hops) assertEquals(settled, sent);
});

Deno.test("Search: without numbers a loop of routers shows their addresses", () => {
  const payload = new Uint8Array([1, 2, 3]);
  const { search } = run(
    ({ ttl }) => ({ kind: "expired", from: `10.0.0.${1 + ttl % 2}` }),
    { payload, maxTtl: 6 },
  );
  const [one, two] = ["10.0.0.1", "10.0.0.2"];
  assertEquals(addresses(search), [two, one, two, one, two, one]);
  assertEquals(losses(search), Array(6).fill("0/3"));
});

Deno.test("Search: without numbers a router that reports by the target's address is a hop", () => {
  const network = brief(({ ttl }) => ({
    kind: ttl < 4 ? "expired" : "closed",
    from: ttl === 2 || ttl === 4 ? TARGET : `10.0.0.${ttl}`,
  }));
  for (const options of [{}, { payload: new Uint8Array([1]) }]) {
    const { search } = run(network, options);
    assertEquals(addresses(search), ["10.0.0.1", TARGET, "10.0.0.3", TARGET]);
    assertEquals(losses(search), Array(4).fill("0/3"));
  }
});

Deno.test("Search: without numbers a late answer excludes no later ones", () => {
  let isFirst = true;
  const network: Network = (probe, now) => {
    const isLate = probe.ttl === 2 && isFirst;
    if (isLate) isFirst = false;
    const answer = chain(3)(probe, now, 0);
    return isLate ? { ...answer, afterMs: 1005 } : answer;
  };
  const payload = new Uint8Array([1, 2, 3]);
  const { search } = run(network, { payload, count: 6 });
  const [, second] = search.hops;
  assert(second!.received >= 4, `${second!.received}`);
  assert(second!.addresses.has("10.0.0.2"));
});

Deno.test("HopPace: probes beyond the target count as probes to it", () => {
  const far: Network = (probe) => ({
    ...chain(3)(probe, 0, 0),
    afterMs: 300,
  });
  const { search, probes } = run(far, {}, { intervalMs: 1000 });
  assertEquals(losses(search), Array(4).fill("0/3"));
  const early = probes.filter(({ ttl, sentAt }) => ttl >= 4 && sentAt < 900);
  assert(early.length <= 5, `${early.length}`);
});

Deno.test("Search: a numbered answer to a probe that was sent again counts as one more", () => {
  // The first two routers quote the payload, and are slow.
  const mixed: Network = (probe, now, flow) => {
    const answer = chain(4)(probe, now, flow);
    return probe.ttl <= 2
      ? { ...answer, afterMs: 400 }
      : { ...answer, afterMs: 50, data: new Uint8Array(0) };
  };
  const { search } = run(mixed);
  assertEquals(addresses(search).length, 5);
  for (const { sent, received } of search.hops) assertEquals(sent, received);
});

/** A path of one flow whose hops have these addresses, "" for a silent one. */
function flow(port: number, addresses: string[], isReached = true): Path {
  const hops = addresses.map((address) => {
    const hop = new Hop();
    hop.sent = 3;
    if (address !== "") {
      hop.addresses.add(address);
      hop.received = 3;
      hop.rtts.add(port);
    }
    return hop;
  });
  const rest = { mtuReports: [], mtu: undefined };
  return { sourcePorts: [port], hops, isReached, ...rest };
}

const ports = (paths: Path[]) => paths.map(({ sourcePorts }) => sourcePorts);

Deno.test("pathsOf(): flows with the same hops are one path, whose figures add up", () => {
  const flows = [
    flow(1, ["a", "b", "t"]),
    flow(2, ["a", "c", "t"]),
    flow(3, ["a", "b", "t"]),
  ];
  const paths = pathsOf(flows);
  assertEquals(ports(paths), [[1, 3], [2]]);
  const [{ sent, received, rtts }] = paths[0]!.hops as [Hop];
  assertEquals([sent, received, rtts.summary()?.max], [6, 6, 3]);
  // The flows themselves stay as they are.
  assertEquals(flows[0]!.hops[0]!.sent, 3);
});

Deno.test("pathsOf(): a silent hop may be any, another length is another path", () => {
  assertEquals(
    ports(pathsOf([
      flow(1, ["a", "", "t"]),
      flow(2, ["a", "b", "t"]),
      flow(3, ["a", "c", "t"]),
      flow(4, ["a", "", "c", "t"]),
    ])),
    [[1, 2], [3], [4]],
  );
  assertEquals(
    ports(pathsOf([flow(5, ["a", "t"]), flow(6, ["a", "", "t"])])),
    [[5], [6]],
  );
});

Deno.test("pathsOf(): a path without the target ends at the last hop that answers", () => {
  const flows = [
    flow(1, ["a", "b", "t"]),
    flow(2, ["a", "", "", "", ""], false),
    flow(3, ["a", "b", "", "", ""], false),
    flow(4, ["a", "", "", "", ""], false),
    flow(5, ["a", "b", ""], false),
    // The target itself refuses it.
    flow(6, ["a", "b", "t"], false),
  ];
  assertEquals(ports(pathsOf(flows)), [[1], [2, 4], [3, 5], [6]]);
});

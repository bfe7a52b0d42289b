import { assert, assertEquals } from "@std/assert";
import { measure } from "../../lib/stamp/measure.ts";
import { encodeSender, timestampOf } from "../../lib/stamp/packet.ts";
import { stampReflector } from "../../lib/stamp/reflector.ts";
import { serve } from "../../lib/server/serve.ts";
import {
  type Passing,
  seededRandom,
  SimulatedNetwork,
  TIME_ORIGIN,
} from "../../lib/testing/mod.ts";

const SERVER = { hostname: "198.51.100.1", port: 862 };
const isUp = ({ to }: Passing) => to.port === SERVER.port;
const sequenceOf = (passing: Passing) =>
  new DataView(passing.data.buffer).getUint32(isUp(passing) ? 0 : 24);

/** A request as the network carries it. */
function packet(sequence: number, ssid: number, now: number) {
  const errorEstimate = {
    synchronized: false,
    ptp: false,
    scale: 0,
    multiplier: 1,
  };
  const timestamp = timestampOf(TIME_ORIGIN + now);
  return encodeSender({ sequence, timestamp, errorEstimate, ssid }, 44);
}

/** What can happen on the way of a run, by the probability of each. */
interface Mix {
  up: number;
  down: number;
  evictions: number;
  copiesUp: number;
  copiesDown: number;
  /** How much later than others a datagram may be, in milliseconds. */
  laterMs: number;
  extensions: boolean;
  stateless: boolean;
}

/** A measurement whose session is evicted at random times, and the truth. */
async function run(seed: number, mix: Mix, count = 30) {
  const random = seededRandom(seed);
  const network = new SimulatedNetwork();
  const { runtime } = network;
  const { stateless } = mix;
  const reflector = stampReflector({ runtime, maxSessions: 2, stateless });
  const server = serve({ ...SERVER, runtime, guard: false }, reflector);
  const neighbor = { hostname: "192.0.2.99", port: 4000 };
  let [evictions, isCopied] = [0, false];
  const [there, back] = [new Set<number>(), new Set<number>()];
  const numbers = new Map<number, Set<number>>();
  const evict = () => {
    evictions++;
    for (const ssid of [1, 2, 3]) {
      for (const sequence of [0, 1, 2]) {
        network.pass(neighbor, SERVER, packet(sequence, ssid, network.now));
      }
    }
  };
  network.plan = (passing) => {
    const { from, to } = passing;
    if (from.port === neighbor.port) return [0];
    if (to.port === neighbor.port) return [];
    const sequence = sequenceOf(passing);
    const isThere = isUp(passing);
    if (random() < (isThere ? mix.up : mix.down)) return [];
    (isThere ? there : back).add(sequence);
    const view = new DataView(passing.data.buffer);
    if (!isThere) {
      const seen = numbers.get(sequence) ?? new Set();
      numbers.set(sequence, seen.add(view.getUint32(0)));
    }
    const later = () => random() < 0.2 ? random() * mix.laterMs : 0;
    const delays = [1 + later()];
    const copies = isThere ? mix.copiesUp : mix.copiesDown;
    if (random() < copies) {
      if (isThere) isCopied = true;
      delays.push(1.5 + later());
    }
    return delays;
  };
  for (let at = 0; at < count * 10; at += 10) {
    // More often early on, when little is known of the numbers.
    const likely = at < 50 ? 3 * mix.evictions : mix.evictions;
    if (random() < likely) runtime.after(at + random() * 10, evict);
  }
  const measurement = measure(SERVER, {
    runtime,
    count,
    intervalMs: 10,
    timeoutMs: 150,
    extensions: mix.extensions ? ["direct-measurement"] : [],
  });
  await network.run((async () => {
    for await (const _ of measurement);
  })());
  await network.run(server.shutdown());
  const truth = { up: 0, down: 0 };
  for (let seq = 0; seq < count; seq++) {
    if (!there.has(seq)) truth.up++;
    else if (!back.has(seq)) truth.down++;
  }
  // A copy whose reply was lost as well is not seen by anybody.
  const areCopiesSeen = !isCopied ||
    [...numbers].some(([seq, all]) => seq < count && all.size > 1);
  const { lost, lostUp, lostDown, lostUnattributed } = measurement.summary();
  assertEquals(lost, truth.up + truth.down);
  const figures = `seed ${seed}, ${evictions} evictions: ${lostUp} up, ` +
    `${lostDown} down, ${lostUnattributed} unattributed ` +
    `of ${truth.up} and ${truth.down}, ${JSON.stringify(mix)}`;
  return {
    evictions,
    areCopiesSeen,
    figures,
    isRight: lostUp === undefined ||
      lostUp <= truth.up && lostDown! <= truth.down,
    known: (lostUp ?? 0) + (lostDown ?? 0),
    lost,
  };
}

Deno.test("measure(): figures by direction are right or unknown, whatever is evicted, lost, copied or reordered", async () => {
  const total = { lost: 0, known: 0, evictions: 0 };
  for (let seed = 0; seed < 300; seed++) {
    const random = seededRandom(7 * seed + 1);
    const pick = (...of: number[]) => of[Math.floor(random() * of.length)]!;
    const mix = {
      up: pick(0, 0.05, 0.3, 0.6),
      down: pick(0, 0.05, 0.3, 0.6),
      evictions: pick(0, 0.02, 0.1, 0.3),
      copiesUp: pick(0, 0, 0.1, 0.3),
      copiesDown: pick(0, 0, 0.3),
      laterMs: pick(0, 0, 15, 60),
      extensions: random() < 0.3,
      stateless: random() < 0.2,
    };
    const { figures, areCopiesSeen, isRight, ...counts } = await run(seed, mix);
    assert(isRight || !areCopiesSeen, figures);
    total.lost += counts.lost;
    total.known += counts.known;
    total.evictions += counts.evictions;
  }
  // Enough of them say something, and enough are disturbed.
  const { lost, known, evictions } = total;
  assert(known > lost / 10 && evictions > 1000, JSON.stringify(total));
});

Deno.test("measure(): 13,000 SSIDs of one address mislead no other sender", async () => {
  const network = new SimulatedNetwork();
  const { runtime } = network;
  const reflector = stampReflector({ runtime });
  const guard = { rateLimit: 0 };
  const server = serve({ ...SERVER, runtime, guard }, reflector);
  // The replies to the first two requests are lost; then the flood arrives.
  const flooder = { hostname: "203.0.113.9", port: 4000 };
  network.plan = (passing) => {
    if (passing.to.port === flooder.port) return [];
    return !isUp(passing) && sequenceOf(passing) < 2 ? [] : [1];
  };
  runtime.after(150, () => {
    for (let ssid = 1; ssid <= 13_000; ssid++) {
      network.pass(flooder, SERVER, packet(0, ssid, 150));
    }
  });
  const senders = ["192.0.2.1", "203.0.113.7"].map((localHostname) =>
    measure(SERVER, {
      runtime,
      localHostname,
      count: 6,
      intervalMs: 100,
      timeoutMs: 50,
    })
  );
  await network.run(Promise.all(senders.map(async (sender) => {
    for await (const _ of sender);
  })));
  assertEquals(reflector.stats().sessions, 10_000);
  for (const sender of senders) {
    const { received, lostUp, lostDown } = sender.summary();
    assertEquals([received, lostUp ?? 0], [4, 0], `${lostDown} down`);
  }
  const replies = network.sent.filter(({ from, to }) =>
    from.port === SERVER.port && to.hostname === "192.0.2.1"
  );
  assertEquals(
    replies.slice(0, 6).map(({ data }) =>
      new DataView(data.buffer).getUint32(0)
    ),
    [0, 1, 2, 3, 4, 5],
    "numbered on, as if nothing had been",
  );
  await network.run(server.shutdown());
});

/**
 * `deno bench`: the code that runs for each datagram. A test runs each
 * benchmark once.
 */
import { infoOf } from "../../lib/testing/mod.ts";
import { bytesLiteral } from "../../lib/encoding.ts";
import { Guard } from "../../lib/server/guard.ts";
import { LoopWatch } from "../../lib/server/loop_watch.ts";
import { stampReflector } from "../../lib/stamp/reflector.ts";
import { decodeSender, encodeSender } from "../../lib/stamp/packet.ts";
import { Distribution } from "../../lib/stats/distribution.ts";
import { summarize } from "../../lib/stats/statistics.ts";

const LOCAL = { hostname: "198.51.100.1", port: 20001 };
const payload = new Uint8Array(16).fill(0x41);
const peers = Array.from({ length: 50_000 }, (_, i) => ({
  hostname: `10.${i >> 16}.${(i >> 8) & 255}.${i & 255}`,
  port: 1024 + i,
}));
const packet = {
  sequence: 1,
  timestamp: { seconds: 1_700_000_000, nanoseconds: 123_456_789 },
  errorEstimate: { synchronized: false, ptp: false, scale: 22, multiplier: 2 },
  ssid: 0,
};
const request = encodeSender(packet);
const info = infoOf(peers[0]!);
const reflector = stampReflector();
const sample = Array.from({ length: 10_000 }, (_, i) => (i * 7919) % 10_007);
const distribution = new Distribution();
let next = 0;

/** The timed functions, by name. */
export const BENCHES: Record<string, () => void> = {
  "bytesLiteral of 16 bytes": () => void bytesLiteral(payload),
  encodeSender: () => void encodeSender(packet),
  decodeSender: () => void decodeSender(request),
  stampReflector: () => void reflector(request, info),
  "summarize 10,000 values": () => void summarize(sample),
  "Distribution.add": () => distribution.add(0.5),
};
for (const sources of [1, 50_000]) {
  for (const rateLimit of [0, 1_000_000]) {
    const guard = new Guard(
      { maxAmplification: 3, rateLimit },
      LOCAL,
      { now: () => performance.now(), ownsAddress: () => false },
    );
    const rate = rateLimit === 0 ? "" : " and a rate limit";
    BENCHES[`guard, ${sources} sources${rate}`] = () => {
      const peer = peers[next++ % sources]!;
      guard.admit(peer);
      guard.permit(peer, payload, payload);
    };
  }
}
for (const sources of [1, 4000, 50_000]) {
  for (const isSame of [true, false]) {
    const loops = new LoopWatch();
    const kind = isSame ? "" : ", an object each time";
    BENCHES[`loop watch, ${sources} sources${kind}`] = () => {
      const peer = peers[next++ % sources]!;
      const remote = isSame ? peer : { ...peer };
      loops.isLoop(remote, next);
      loops.isProbeDue(remote, next, payload);
    };
  }
}
for (const [name, fn] of Object.entries(BENCHES)) Deno.bench(name, fn);

/** `deno bench`: what runs for each datagram. */
import { bytesLiteral } from "../../lib/encoding.ts";
import { Guard } from "../../lib/guard.ts";
import { stampReflector } from "../../lib/stamp/reflector.ts";
import { decodeSender, encodeSender } from "../../lib/stamp/packet.ts";
import { Distribution } from "../../lib/distribution.ts";
import { summarize } from "../../lib/statistics.ts";

const LOCAL = { hostname: "198.51.100.1", port: 20001 };
const limits = { maxAmplification: 3, rateLimit: 0 };
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
const info = { remoteAddr: peers[0]! };
const reflector = stampReflector();
const sample = Array.from({ length: 10_000 }, (_, i) => (i * 7919) % 10_007);
let next = 0;

for (const sources of [1, 50_000]) {
  const quiet = new Guard(limits, LOCAL, () => performance.now());
  Deno.bench(`guard, ${sources} sources`, { group: "guard" }, () => {
    const peer = peers[next++ % sources]!;
    quiet.admit(peer, payload);
    quiet.permit(peer, payload, payload);
  });
  const limited = new Guard(
    { ...limits, rateLimit: 1_000_000 },
    LOCAL,
    () => performance.now(),
  );
  Deno.bench(
    `guard with a rate, ${sources} sources`,
    { group: "guard" },
    () => {
      const peer = peers[next++ % sources]!;
      limited.admit(peer, payload);
      limited.permit(peer, payload, payload);
    },
  );
}

Deno.bench("bytesLiteral of 16 bytes", () => void bytesLiteral(payload));
Deno.bench("encodeSender", () => void encodeSender(packet));
Deno.bench("decodeSender", () => void decodeSender(request));
Deno.bench("stampReflector", () => void reflector(request, info));
Deno.bench("summarize 10,000 values", () => void summarize(sample));

const distribution = new Distribution();
Deno.bench("Distribution.add", () => distribution.add(0.5));

import { assert, assertEquals, assertMatch, assertThrows } from "@std/assert";
import { keyOf, parseKeys } from "../../lib/cli/key_file.ts";
import { serve } from "../../lib/server/serve.ts";
import { seal, statedSsid, unseal } from "../../lib/stamp/auth.ts";
import { measure } from "../../lib/stamp/measure.ts";
import type { MeasureOptions } from "../../lib/stamp/measure_options.ts";
import { encodeReflector, encodeSender } from "../../lib/stamp/packet.ts";
import { stampReflector } from "../../lib/stamp/reflector.ts";
import { SimulatedNetwork } from "../../lib/testing/mod.ts";
import { client, portOf, programTest, server, tempFolder } from "../helpers.ts";

const KEY = Uint8Array.from({ length: 16 }, (_, i) => i);
const SERVER = { hostname: "198.51.100.1", port: 862 };
const hex = (text: string) => Uint8Array.fromHex(text.replaceAll(/\s/g, ""));

const ESTIMATE = { synchronized: false, ptp: false, scale: 22, multiplier: 2 };
// NTP's 0xe0000001 is so many seconds after 1970.
const SECONDS = 0xe0000001 - 2_208_988_800;
const PLAIN = {
  sequence: 7,
  timestamp: { seconds: SECONDS, nanoseconds: 500_000_000 },
  errorEstimate: ESTIMATE,
  ssid: 9,
};

// Both were made by another program, with another implementation of HMAC.
const SENDER = hex(`
  00000007 000000000000000000000000 e000000180000000 1602 0009 00000000
  0000000000000000 0000000000000000 00000000 000000000000000000000000
  0000000000000000 0000 000000000000 00 000000000000000000000000000000
  ea9d2078cebfcac5b66e9916c04fd4d9`);
const REFLECTOR = hex(`
  00000003 000000000000000000000000 e000000240000000 9605 0009 00000000
  e000000220000000 0000000000000000 00000007 000000000000000000000000
  e000000180000000 1602 000000000000 3d 000000000000000000000000000000
  b7e99e6d0912af91c485e583c9c7f1a2`);

Deno.test("seal(): authenticated packets are those of RFC 8762, byte by byte", () => {
  const request = encodeSender(PLAIN);
  assertEquals(seal(request, KEY), SENDER);
  const reply = encodeReflector({
    sequence: 3,
    timestamp: { seconds: SECONDS + 1, nanoseconds: 250_000_000 },
    errorEstimate: { ...ESTIMATE, synchronized: true, multiplier: 5 },
    ssid: 9,
    receiveTimestamp: { seconds: SECONDS + 1, nanoseconds: 125_000_000 },
    senderSequence: 7,
    senderTimestamp: PLAIN.timestamp,
    senderErrorEstimate: ESTIMATE,
    senderTtl: 61,
  }, request);
  assertEquals(seal(reply, KEY), REFLECTOR);
  assertEquals(unseal(SENDER, KEY), request);
  assertEquals(unseal(REFLECTOR, KEY), reply);
  assertEquals(statedSsid(SENDER), 9);
});

Deno.test("unseal(): a packet with one changed bit is not authentic", () => {
  for (let bit = 0; bit < 8 * SENDER.length; bit++) {
    const wrong = SENDER.slice();
    wrong[bit >> 3]! ^= 1 << (bit & 7);
    assertEquals(unseal(wrong, KEY), undefined, `bit ${bit}`);
  }
  assertEquals(unseal(SENDER, KEY.slice().reverse()), undefined);
  assertEquals(unseal(SENDER.subarray(0, 111), KEY), undefined);
  // What follows the HMAC is not under it (RFC 8972 has another one for that).
  const longer = new Uint8Array([...SENDER, 1, 2]);
  assertEquals(unseal(longer, KEY)?.subarray(44), new Uint8Array([1, 2]));
});

async function measured(
  reflectorKey: Parameters<typeof stampReflector>[0],
  options: MeasureOptions,
) {
  const network = new SimulatedNetwork();
  const { runtime } = network;
  const reflector = stampReflector({ runtime, ...reflectorKey });
  const running = serve({ ...SERVER, runtime }, reflector);
  const measurement = measure(SERVER, {
    runtime,
    count: 5,
    intervalMs: 20,
    timeoutMs: 50,
    ...options,
  });
  const sizes = new Set<number>();
  const { plan } = network;
  network.plan = (passing) => {
    sizes.add(passing.data.length);
    return plan(passing);
  };
  await network.run((async () => {
    for await (const _ of measurement);
  })());
  await network.run(running.shutdown());
  const { received, lost, foreign } = measurement.summary();
  return { received, lost, foreign, sizes, stats: reflector.stats() };
}

Deno.test("stampReflector(): only senders with its key are answered", async () => {
  const right = await measured({ key: KEY }, { key: KEY });
  assertEquals([right.received, right.stats.reflected], [5, 5]);
  assertEquals([...right.sizes], [112]);
  const padded = await measured({ key: KEY }, { key: KEY, size: 300 });
  assertEquals([padded.received, ...padded.sizes], [5, 300]);
  const other = KEY.slice().fill(9);
  for (
    const [theirs, ours] of [[KEY, other], [KEY, undefined], [undefined, KEY]]
  ) {
    const { received, lost, stats } = await measured(
      { key: theirs },
      { key: ours },
    );
    assertEquals([received, lost], [0, 5]);
    if (theirs !== undefined) {
      assertEquals([stats.unauthentic, stats.sessions], [5, 0]);
    }
  }
});

Deno.test("stampReflector(): a function gives the key of each sender", async () => {
  // Of two bytes that differ.
  const keys = new Map([[0x0302, KEY]]);
  const asked: string[] = [];
  const key = (
    { ssid, remoteAddr }: { ssid: number; remoteAddr: { hostname: string } },
  ) => {
    asked.push(`${ssid} ${remoteAddr.hostname}`);
    return keys.get(ssid);
  };
  const known = await measured({ key }, { key: KEY, ssid: 0x0302 });
  assertEquals(known.received, 5);
  assertMatch(asked[0]!, /^770 \d/);
  assertEquals((await measured({ key }, { key: KEY, ssid: 4 })).received, 0);
});

Deno.test("measure(): keys are 16 to 1,024 bytes, and packets have room for the HMAC", () => {
  for (const length of [0, 15, 1025]) {
    const key = new Uint8Array(length);
    assertThrows(() => measure(SERVER, { key }), RangeError, "'key'");
    assertThrows(() => stampReflector({ key }), RangeError, "'key'");
  }
  for (const length of [16, 1024]) {
    measure(SERVER, { key: new Uint8Array(length), size: 112 });
  }
  assertThrows(
    () => measure(SERVER, { key: KEY, size: 111 }),
    RangeError,
    "'size' must be an integer from 112",
  );
  const key = "00".repeat(16) as unknown as Uint8Array;
  assertThrows(() => measure(SERVER, { key }), TypeError, "'key'");
});

Deno.test("parseKeys(): a key is for all sessions, an SSID or an address", () => {
  const [a, b, c] = ["aa", "bb", "cc"]
    .map((byte) => byte.repeat(16)) as [string, string, string];
  const keys = keyOf(parseKeys(
    `# ours\n${a}\n\n 007  ${b} # one session\n2001:DB8::1 ${c}\n`,
  ));
  const of = (ssid: number, hostname = "192.0.2.1") =>
    (keys({ ssid, remoteAddr: { hostname, port: 1 } }) as Uint8Array).toHex();
  assertEquals([of(0), of(7), of(7, "2001:db8::1")], [a, b, c]);
  const wrong: Array<[string, RegExp]> = [
    ["", /the file has no key/],
    ["# none", /the file has no key/],
    [`${a}\nabc`, /^SyntaxError: line 2: the key is not pairs of hex digits$/],
    [`${a.slice(1)}g`, /^SyntaxError: line 1: the key is not pairs of hex/],
    [`${b.slice(1)} ${a}`, /line 1: before the key is no SSID \(0 to 65535\)/],
    [`65536 ${a}`, /line 1: before the key is no SSID/],
    [`host.example ${a}`, /line 1: before the key is no SSID/],
    ["00ff", /line 1: a key needs at least 16 bytes/],
    [`1 2 ${a}`, /line 1: more than two words/],
  ];
  for (const [text, message] of wrong) {
    const error = assertThrows(() => parseKeys(text), SyntaxError);
    assertMatch(`${error}`, message);
    assert(!/[ab]{15}/.test(error.message), "a key is in the message");
  }
});

programTest(
  "client --key-file, server --key-file: authenticate, and need a file of its owner",
  async () => {
    await using folder = await tempFolder();
    const write = async (name: string, mode: string, byte: string) => {
      const file = `${folder.path}/${name}`;
      const script = 'printf %s "$1" > "$2" && chmod "$3" "$2"';
      const args = ["-c", script, "sh", byte.repeat(16), file, mode];
      await new Deno.Command("sh", { args }).output();
      return file;
    };
    const ours = await write("ours", "600", "0f");
    const theirs = await write("theirs", "600", "f0");
    const open = await write("open", "644", "0f");
    const permissions = ["--allow-net", "--allow-read", "--allow-ffi"];
    await using s = server(
      ["--stamp", "-p", "0", "-q", "--key-file", ours],
      permissions,
    );
    const target = `127.0.0.1:${await portOf(s)}`;
    const ask = (file: string, timeout = "5s") =>
      client(
        ["--stamp", target, "-c", "2", "-i", "20ms", "-W", timeout, "-q"]
          .concat("--key-file", file),
        { permissions },
      );
    assertEquals((await ask(ours)).code, 0);
    assertEquals((await ask(theirs, "100ms")).code, 1);
    const refused = await ask(open);
    assertEquals(refused.code, 2);
    assertMatch(
      refused.stderr,
      /^client: --key-file \S+: other users can read it: run chmod 600\n$/,
    );
    const missing = await ask(`${ours}.none`);
    assertEquals([missing.code, missing.stdout], [2, ""]);
    assert(missing.stderr.split("\n").length === 2, missing.stderr);
    if (Deno.build.os !== "windows") s.kill("SIGTERM");
    assertMatch((await s.ended()).stderr, /unauthentic/);
  },
  ["/bin/sh"],
);

/** The programs with `--stamp`. */
import { assertEquals, assertMatch } from "@std/assert";
import { closedPort, started } from "./peers.ts";
import { client, ENGINE, programTest, server, signalTest } from "../helpers.ts";

programTest("client --stamp: measures, and prints a summary", async () => {
  await using s = await started(["--stamp", "-q"]);
  const args = ["--stamp", s.target, "-c", "5", "-i", "5ms"];
  const asked = await client([...args, "--histogram"]);
  assertEquals([asked.code, asked.stderr], [0, ""]);
  const lines = asked.stdout.trim().split("\n");
  // Requests of the same moment may be reordered.
  lines.splice(0, 5, ...lines.slice(0, 5).sort());
  for (const seq of [0, 1, 2, 3, 4]) {
    assertMatch(
      lines[seq]!,
      new RegExp(`^seq=${seq} rtt=[\\d.]+ ms reflector=[\\d.]+ ms`),
    );
  }
  assertEquals(lines[5], `--- ${s.target} STAMP statistics ---`);
  assertMatch(
    lines[6]!,
    /^5 sent, 5 received, 0 lost \(0%\), 0 duplicates, 0 reordered, 0 late, time \d+ ms$/,
  );
  assertMatch(
    lines[7]!,
    /^ms \(exact\) +min +mean +median +p90 +p99 +max +stddev$/,
  );
  assertMatch(lines[8]!, /^rtt( +[\d.]+){7}$/);
  assertEquals(lines.filter((line) => / ms +\d+( #+)?$/.test(line)).length, 12);
  const quiet = await client([...args, "-q"]);
  assertMatch(quiet.stdout, /^--- /);
});

programTest(
  "client --stamp --json: prints every figure, --json-stream each sample",
  async () => {
    await using s = await started(["--stamp", "-q"]);
    const args = ["--stamp", s.target, "-c", "3", "-i", "5ms"];
    const { samples, ...document } = JSON.parse(
      (await client([...args, "--json"])).stdout,
    );
    assertEquals(Object.keys(document), [
      "target",
      "sent",
      "received",
      "lost",
      "unsent",
      "lossPercent",
      "lostUp",
      "lostDown",
      "lostUnattributed",
      "duplicates",
      "duplicatesUp",
      "duplicatesDown",
      "reordered",
      "reorderedUp",
      "reorderedDown",
      "reorderingExtent",
      "late",
      "pending",
      "foreign",
      "retransmissions",
      "rejected",
      "skipped",
      "stalls",
      "stalledMs",
      "kernelDrops",
      "eventsDropped",
      "durationMs",
      "exact",
      "kernelTimed",
      "rttMs",
      "seenMs",
      "reflectorMs",
      "ipdvMs",
      "pdvMs",
      "forwardPdvMs",
      "backwardPdvMs",
      "forwardDelayMs",
      "backwardDelayMs",
      "sendErrorMs",
      "forwardJitterMs",
      "backwardJitterMs",
      "oneWayErrorMs",
      "impossibleTimestamps",
      "clockSteps",
      "clockOffsetMs",
      "clockDriftPpm",
      "returnsSsid",
      "reported",
      "lossPeriods",
      "longestLossPeriod",
      "outageCount",
      "outageMs",
      "outages",
      "reasons",
      "startedAt",
      "longestStall",
    ]);
    assertEquals([document.sent, document.received, samples.length], [3, 3, 3]);
    const streamed = (await client([...args, "--json-stream"])).stdout.trim()
      .split("\n").map((line) => JSON.parse(line));
    assertEquals(streamed.map(({ type }) => type), [
      "reply",
      "reply",
      "reply",
      "summary",
    ]);
    assertEquals(Object.keys(streamed[0]), Object.keys(samples[0]));
    assertEquals(samples[0].type, "reply");
  },
);

programTest(
  "client --stamp: exits with 1 without a reflector, and reports no figures",
  async () => {
    const target = await closedPort();
    const args = ["--stamp", target, "-c", "2", "-i", "5ms", "-W", "200ms"];
    const asked = await client([...args, "--json"]);
    const { lost, lossPercent, rttMs, clockOffsetMs, reasons } = JSON.parse(
      asked.stdout,
    );
    assertEquals(reasons.length > 0, ENGINE === "linux");
    assertEquals([asked.code, lost, lossPercent, rttMs, clockOffsetMs], [
      1,
      2,
      100,
      null,
      null,
    ]);
    await using s = await started(["--stamp"]);
    assertEquals(
      (await client(["--stamp", s.target, "-c", "1", "--max-loss", "0"])).code,
      0,
    );
  },
);

signalTest(
  "server --stamp: answers its sessions, with the requested extensions",
  async () => {
    await using s = server(["-p", "0", "--stamp", "--json", "--ssid", "7,9"]);
    const target = `127.0.0.1:${JSON.parse(await s.line()).port}`;
    const asking = ["--stamp", target, "-c", "1", "--extensions", "location"];
    const { stdout, code } = await client([...asking, "--ssid", "9"]);
    assertEquals(code, 0);
    assertMatch(
      stdout,
      new RegExp(
        `^seen by the reflector as 127.0.0.1:\\d+, received at ${target}$`,
        "m",
      ),
    );
    const other = [...asking, "--ssid", "8", "-W", "50ms"];
    assertEquals((await client(other)).code, 1);
    s.kill("SIGTERM");
    const ended = (await s.ended()).stdout.trim().split("\n").at(-1)!;
    const { stamp } = JSON.parse(ended);
    assertEquals([stamp.reflected, stamp.unprovisioned], [1, 1]);
  },
);

signalTest("server --stamp: counts malformed packets", async () => {
  await using s = server(["-p", "0", "--stamp", "--json"]);
  const target = `127.0.0.1:${JSON.parse(await s.line()).port}`;
  await client([target, "-m", "short", "-W", "20ms", "--retries", "0"]);
  await client(["--stamp", target, "-c", "1"]);
  s.kill("SIGTERM");
  const { stdout } = await s.ended();
  const { stamp, unanswered } = JSON.parse(stdout.trim().split("\n").at(-1)!);
  const counts = {
    malformed: 1,
    corrupt: 0,
    unauthentic: 0,
    unprovisioned: 0,
    returned: 0,
  };
  assertEquals(stamp, { reflected: 1, ...counts, sessions: 1 });
  assertEquals(unanswered, 1);
});

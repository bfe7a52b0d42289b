/** The picture of several runs, its axes and marks, and the rows of the CSV. */
import { assert, assertEquals, assertMatch } from "@std/assert";
import { plotSvg, plotText } from "../../lib/cli/show/plot.ts";
import {
  csvOf,
  type RecordedRun,
  Samples,
} from "../../lib/cli/show/samples.ts";
import type { Sample } from "../../lib/stats/sample.ts";
import { client, programTest, tempFolder } from "../helpers.ts";
import { closedPort, started } from "./peers.ts";

type Fact = Partial<Sample> | number;

const START = Date.UTC(2026, 10, 28, 9, 45, 18);

/** A run with a datagram each `stepMs`: an RTT, or other facts of its sample. */
function runOf(
  label: string,
  stepMs: number,
  facts: Fact[],
  startedAt = START,
): RecordedRun {
  const samples = new Samples();
  for (const [seq, fact] of facts.entries()) {
    samples.add(sampleOf(seq, stepMs * seq, fact, startedAt));
  }
  return { label, samples };
}

function sampleOf(
  seq: number,
  sentMs: number,
  fact: Fact,
  startedAt = START,
): Sample {
  const own = typeof fact === "number" ? { rttMs: fact } : fact;
  return {
    ...{ seq, outcome: "received", dueMs: sentMs, sentMs, rttMs: undefined },
    ...{ sentAt: startedAt + sentMs, clock: "program", attempts: 1, size: 16 },
    ...{ target: { hostname: "192.0.2.1", port: 7 }, localPort: 50_000 },
    ...own,
  };
}

const LOST: Fact = { outcome: "lost" };
const REJECTED: Fact = { outcome: "rejected", error: new Error("closed port") };
const UNSENT: Fact = { outcome: "unsent", error: new Error("no route") };
const PENDING: Fact = { outcome: "pending" };
/** Received after a retransmission: the RTT is not known (Karn). */
const RETRIED: Fact = { attempts: 2 };

function many(count: number, fact: Fact): Fact[] {
  return new Array<Fact>(count).fill(fact);
}

/** The commands of the first path of a kind. */
function pathOf(svg: string, kind: string): string {
  return RegExp(`<path class="${kind}" d="([^"]*)"`).exec(svg)![1]!;
}

/** The number of marks in the first path of a kind. */
function marksOf(svg: string, kind: string): number {
  return pathOf(svg, kind).split("M").length - 1;
}

/** Each text with the box that it fills, about, in its panel. */
function textsOf(svg: string) {
  const tags = svg.matchAll(/<text x="([\d.]+)" y="([\d.]+)"(.*?)>(.*?)</g);
  return [...tags].filter(([, , , kind]) => !kind!.includes("rotate"))
    .map(([, x, y, kind, text]) => {
      const isTitle = kind!.includes("title");
      const shown = text!.replaceAll(/&#\d+;/g, "x");
      const width = shown.length * (isTitle ? 8.6 : 6.6);
      const share = kind!.includes("middle")
        ? 0.5
        : kind!.includes("end")
        ? 1
        : 0;
      const left = Number(x) - share * width;
      const top = Number(y) - (isTitle ? 14 : 11);
      return { text: text!, left, right: left + width, top, bottom: Number(y) };
    });
}

Deno.test("plotSvg(): an outage is shaded from its first datagram to the next answered one", () => {
  const facts = [...many(20, 1), ...many(30, LOST), ...many(50, 2)];
  // A single loss is none.
  facts[80] = LOST;
  const svg = plotSvg([runOf("192.0.2.1:7", 100, facts)]);
  const outages = [
    ...svg.matchAll(/class="outage" d="M([\d.]+) [^"]*"><title>(.*?)</g),
  ];
  assertEquals(outages.map(([, , title]) => title), [
    "outage from 2026-11-28T09:45:20.000Z to 2026-11-28T09:45:23.000Z (3 s): 30 datagrams",
  ]);
  const [from, to] = [...outages[0]![0].matchAll(/[MH]([\d.]+)/g)]
    .map(([, x]) => Number(x));
  // 640 wide, from 0 to 9.9 s.
  assert(Math.abs(from! - (76 + 640 * 2 / 9.9)) < 1, `${from}`);
  assert(Math.abs(to! - (76 + 640 * 5 / 9.9)) < 1, `${to}`);
  assertMatch(svg, /69 received, 31 lost \(31%\), 1 outages</);
});

Deno.test("plotSvg(): rejected and unsent datagrams are an outage too", () => {
  for (const fact of [REJECTED, UNSENT]) {
    const svg = plotSvg([runOf("a:7", 10, [1, ...many(10, fact), 1])]);
    assertMatch(svg, /class="outage"[^]*\(0\.1 s\): 10 datagrams/);
  }
});

Deno.test("plotSvg(): an outage until the end ends with its own run", () => {
  const svg = plotSvg([
    runOf("192.0.2.1:7", 100, many(50, LOST)),
    runOf("192.0.2.2:7", 100, many(99, 1)),
  ]);
  const d = /class="outage" d="([^"]*)"/.exec(svg)![1]!;
  assertMatch(d, /^M76 .*H396V/);
});

Deno.test("plotSvg(): lost, rejected and unsent have marks of their own; pending, and replies without an RTT, have none", () => {
  const facts = [
    ...[1, LOST, 2, LOST, REJECTED, REJECTED, REJECTED, 1],
    ...[UNSENT, RETRIED, RETRIED, 2, PENDING],
  ];
  const svg = plotSvg([runOf("192.0.2.1:7", 100, facts)]);
  const kinds = ["rtt", "lost", "rejected", "unsent"];
  assertEquals(kinds.map((kind) => marksOf(svg, kind)), [4, 2, 3, 1]);
  const shapes = kinds.map((kind) =>
    /[mlhvz]+/g.exec(pathOf(svg, kind).replaceAll(/[^a-z]/g, ""))?.[0]
  );
  assertEquals(new Set(shapes).size, 4);
  assertMatch(
    svg,
    />2026-11-28T09:45:18\.000Z, 6 received, 5 lost and 1 unsent \(50%\), 3 rejected, 1 pending, 2 without an RTT</,
  );
  // Kinds that do not occur have no row.
  const quiet = plotSvg([runOf("192.0.2.1:7", 100, [1, 2, LOST])]);
  assertMatch(quiet, />lost</);
  assert(!/>(rejected|unsent)</.test(quiet));
});

Deno.test("plotSvg(): lines at p50 and p99, with labels that do not overlap", () => {
  const spread = plotSvg([
    runOf("192.0.2.1:7", 100, [...many(90, 10), ...many(10, 40)]),
  ]);
  const texts = textsOf(spread);
  const labels = ["p50 10", "p99 40"].map((label) =>
    texts.find(({ text }) => text === label)!
  );
  const lines = [...pathOf(spread, "percentile").matchAll(/M76 ([\d.]+)H716/g)]
    .map(([, y]) => Number(y));
  assertEquals(lines, labels.map(({ bottom }) => bottom - 4));
  // 42 ms at the top, 70; 0 at the bottom, 370.
  assertEquals(lines.map(Math.round), [299, 84]);
});

Deno.test("plotSvg(): round ticks since the start, and the wall clock's time", () => {
  const axisOf = (stepMs: number) => {
    const texts = textsOf(plotSvg([runOf("a:7", stepMs, many(100, 1))]));
    const axis = texts.filter(({ text }) =>
      /^\d+(\.\d+)? (s|min|h|d)$/.test(text)
    );
    const clocks = texts.filter(({ text }) => /^\d\d:\d\d:/.test(text));
    assertEquals(axis.length, clocks.length);
    return [axis, clocks].map((row) => row.map(({ text }) => text));
  };
  assertEquals(axisOf(0.01), [["0 s"], ["09:45:18.000"]]);
  assertEquals(axisOf(10), [
    ["0 s", "0.2 s", "0.4 s", "0.6 s", "0.8 s"],
    ["18.000", "18.200", "18.400", "18.600", "18.800"].map((s) => `09:45:${s}`),
  ]);
  const seconds = (stepMs: number) => axisOf(stepMs)[0]!.join(", ");
  assertEquals(seconds(50), "0 s, 1 s, 2 s, 3 s, 4 s");
  assertEquals(seconds(100), "0 s, 2 s, 4 s, 6 s, 8 s");
  assertEquals(seconds(300), "0 s, 5 s, 10 s, 15 s, 20 s, 25 s");
  assertEquals(axisOf(1000), [
    ["0 s", "30 s", "60 s", "90 s"],
    ["09:45:18", "09:45:48", "09:46:18", "09:46:48"],
  ]);
  assertEquals(axisOf(10_000)[0], ["0 min", "5 min", "10 min", "15 min"]);
  assertEquals(axisOf(600_000), [
    ["0 h", "6 h", "12 h"],
    ["09:45:18", "15:45:18", "21:45:18"],
  ]);
  assertEquals(axisOf(86_400_000)[0], ["0 d", "20 d", "40 d", "60 d", "80 d"]);
});

Deno.test("plotSvg(): a panel for each run, of the same scale and time", () => {
  const svg = plotSvg([
    runOf("192.0.2.1:7", 100, many(100, 1)),
    runOf("192.0.2.2:7", 100, many(50, 400), START + 5000),
    runOf("nobody.example:7", 100, []),
  ]);
  const panels = svg.split("<g ").slice(1);
  assertEquals(panels.length, 3);
  const axes = panels.map((panel) =>
    textsOf(panel).map(({ text }) => text)
      .filter((text) => /^[\d.]+( s)?$|^09:/.test(text))
  );
  assert(axes[0]!.length > 10, axes[0]!.join());
  assertEquals([axes[1], axes[2]], [axes[0], axes[0]]);
  assertMatch(panels[0]!, />RTT of 192\.0\.2\.1:7<[^]*, 100 received/);
  assertMatch(panels[1]!, />RTT of 192\.0\.2\.2:7<[^]*, 50 received/);
  assertMatch(panels[2]!, />0 received, 0 lost \(n\/a\)<[^]*no RTT is known/);
  assertEquals(
    panels.map((panel) => /translate\(0 (\d+)\)/.exec(panel)![1]),
    ["0", "290", "580"],
  );
  assertMatch(svg, /viewBox="0 0 960 870"/);
  for (const panel of panels.slice(0, 2)) {
    const ys = [...pathOf(panel, "rtt").matchAll(/ ([\d.]+)V([\d.]+)/g)];
    assert(ys.length > 0);
    for (const [, y] of ys) assert(Number(y) >= 70 && Number(y) <= 230, y);
  }
  // The second run began in the middle.
  const firsts = panels.slice(0, 2).map((panel) =>
    Number(/^M([\d.]+)/.exec(pathOf(panel, "rtt"))![1])
  );
  assert(firsts[0]! < 78 && firsts[1]! > 395 && firsts[1]! < 405, `${firsts}`);
});

Deno.test("plotSvg(): no texts overlap or leave the picture, however long names are", () => {
  const facts = Array.from(
    { length: 600 },
    (_, i): Fact =>
      i % 7 === 3
        ? LOST
        : i % 11 === 5
        ? UNSENT
        : i % 13 === 7
        ? RETRIED
        : 1 + i % 3,
  );
  const host = `${"a".repeat(60)}.${"b".repeat(60)}.${"c".repeat(60)}`;
  const runs = [
    runOf(`${host}:20001`, 10, facts),
    runOf("[2001:db8:1:2:3:4:5:6]:65000", 10, [...facts, 900, REJECTED]),
    runOf("<&>\x1b:7", 10, [0.001]),
  ];
  for (const shown of [runs.slice(0, 1), runs]) {
    const svg = plotSvg(shown);
    // deno-lint-ignore no-control-regex
    assert(!/[\x00-\x08\x0b-\x1f]/.test(svg));
    let seen = 0;
    for (const panel of svg.split("<g ").slice(1)) {
      const texts = textsOf(panel);
      for (const [i, one] of texts.entries()) {
        assert(one.left >= 0 && one.right <= 960, one.text);
        for (const other of texts.slice(i + 1)) {
          seen++;
          const apart = one.right < other.left || other.right < one.left ||
            one.bottom <= other.top || other.bottom <= one.top;
          assert(apart, `'${one.text}' overlaps '${other.text}'`);
        }
      }
    }
    assert(seen > 100);
  }
  assertMatch(plotSvg(runs), />RTT of a{31}…c{25}:20001</);
  assertMatch(plotSvg(runs), /RTT of &#60;&#38;&#62;\\u001b:7</);
});

Deno.test("plotText(): all of it within the width, one run after the other", () => {
  const facts = [...many(40, 1), ...many(20, LOST), ...many(20, 3), REJECTED];
  const runs = [
    runOf(`${"name".repeat(60)}.example:7`, 500, facts),
    runOf("192.0.2.2:7", 500, [...many(60, 2), UNSENT, RETRIED]),
  ];
  for (const width of [40, 80, 200]) {
    for (const ms of [0.1, 7, 500, 3_600_000]) {
      const short = plotText([runOf("a:7", ms, many(50, 1))], width);
      for (const line of short.split("\n")) {
        assert(line.length <= width, `${width}: ${line}`);
      }
    }
    const text = plotText(runs, width);
    const lines = text.split("\n");
    for (const line of lines) assert(line.length <= width, `${width}: ${line}`);
    const [first, second] = text.split("\n\n");
    assertMatch(first!, /^name.*….*\.example:7\n/);
    assertMatch(second!, /^192\.0\.2\.2:7\n/);
    assertMatch(
      first!,
      /\n {3}outage {10,}x+\n {5}lost +x[x ]*\n rejected +x\n/,
    );
    assertMatch(
      second!,
      /\n {3}unsent +x\n {10}0 s +\d+ s.*\n {6}UTC 09:45:18 +09:45/,
    );
    assertMatch(
      first!.replaceAll("\n", " "),
      /60 received, 21 lost \(25\.93%\)/,
    );
    assertMatch(second!, /without( |\n)an( |\n)RTT/);
    assertMatch(second!, /\n {2}p50 p99 [•┄]+ +█/);
    assert(!/outage|lost +x/.test(second!.split("UTC")[0]!));
  }
  // Six ticks at most: 80 columns have those of each 10 s.
  assertMatch(plotText(runs, 80), /\n {10}0 s +10 s +20 s +30 s +40 s\n/);
});

Deno.test("Samples, csvOf(): rows in the order of the numbers, whatever was settled first", () => {
  const samples = new Samples(10_000);
  for (const seq of [9000, 2, 0, 10_000, 1, 9999]) {
    samples.add(sampleOf(seq, seq, seq === 2 ? LOST : 1));
  }
  assertEquals([samples.length, samples.leftOut], [5, 1]);
  const rows = [...csvOf([{ label: 'a "b",c', samples }])].join("").trim();
  const [head, ...others] = rows.split("\n");
  assertEquals(head, "run,seq,at_ms,rtt_ms,time,outcome,attempts,why");
  assertEquals(others.map((row) => row.slice(0, 24)), [
    '"a ""b"",c",0,0.000000,1',
    '"a ""b"",c",1,1.000000,1',
    '"a ""b"",c",2,2.000000,,',
    '"a ""b"",c",9000,9000.00',
    '"a ""b"",c",9999,9999.00',
  ]);
});

programTest("client --csv -: stdout has the rows alone", async () => {
  await using s = await started(["--echo", "-q"]);
  const [closed, series] = [await closedPort(), [
    "-c",
    "3",
    "-i",
    "5ms",
    "-W",
    "1s",
  ]];
  const modes: Array<[string[], number]> = [
    [[s.target], 1],
    [[s.target, ...series], 3],
    [[s.target, closed, ...series], 6],
    [[s.target, "-s", "10..12", ...series], 9],
    [[s.target, "--rate", "100", "-c", "4"], 4],
  ];
  for (const [args, count] of modes) {
    const { stdout, stderr } = await client([...args, "--csv", "-"]);
    const [head, ...rows] = stdout.trimEnd().split("\n");
    assertEquals(head, "run,seq,at_ms,rtt_ms,time,outcome,attempts,why");
    assertEquals(rows.length, count, stdout);
    for (const row of rows) {
      assertMatch(row, /^(127\.0\.0\.1:\d+|\d+ bytes),\d,[\d.]+,/);
    }
    assertMatch(stderr, /Message from Server|received/);
  }
});

programTest(
  "client --plot: draws all targets, on the terminal and in a file",
  async () => {
    await using s = await started(["--echo", "-q"]);
    await using folder = await tempFolder();
    const closed = await closedPort();
    const path = `${folder.path}/a.svg`;
    const args = [s.target, closed, "-c", "3", "-i", "5ms", "-W", "1s"];
    const permissions = [
      ...["--allow-net", "--allow-ffi", "--allow-read"],
      `--allow-write=${folder.path}`,
    ];
    const { stdout } = await client([...args, "-q", "--plot", "-"]);
    await client([...args, "-q", "--plot", path], { permissions });
    for (const picture of [stdout, await Deno.readTextFile(path)]) {
      for (const target of [s.target, closed]) {
        assertMatch(picture, RegExp(`(^|RTT of )${target}(<|$)`, "m"));
      }
      assertMatch(picture, /, 3 received, 0 lost/);
      assertMatch(picture, /, 0 received, 3 lost/);
    }
  },
  ["/bin/sh"],
);

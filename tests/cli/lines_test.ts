import { assert, assertEquals, assertMatch } from "@std/assert";
import { encode } from "../../lib/encoding.ts";
import { errorMessage } from "../../lib/base/errors.ts";
import { TimeoutError } from "../../lib/client/reply.ts";
import {
  exchangeJson,
  exchangeLines,
  listeningLine,
  overloadLine,
  packetLine,
  refusalLine,
  since,
  statsLine,
} from "../../lib/cli/show/server.ts";
import { objectOf } from "../../lib/cli/show/columns.ts";
import {
  replyLine,
  SERIES_COLUMNS,
  type SeriesResult,
  seriesView,
} from "../../lib/cli/show/series.ts";
import type { View } from "../../lib/cli/show/reporter.ts";
import {
  durationText,
  json,
  payloadText,
  tableLines,
  wrap,
} from "../../lib/cli/show/format.ts";
import { STAMP_COLUMNS, stampView } from "../../lib/cli/show/stamp.ts";
import { summarize } from "../../lib/stats/statistics.ts";
import { measure } from "../../lib/stamp/measure.ts";
import type { MeasureEvent } from "../../lib/stamp/session_result.ts";
import { type Refusal, REFUSALS } from "../../lib/server/guard.ts";
import type { ServerStats } from "../../lib/server/udp_server.ts";
import { requestMany, type SeriesEvent } from "../../lib/client/series.ts";

const PEER = { hostname: "127.0.0.1", port: 51696 };
const TARGET = { hostname: "::1", port: 20001 };

/** An event as JSON. */
function jsonOf<E extends { type: string }, R>(view: View<E, R>, event: E) {
  const facts = view.facts?.(event) ?? event;
  return objectOf<object>(view.events[event.type]!, facts);
}

const SERIES_VIEW = seriesView();
const { line: eventLine, lines: summaryLines } = SERIES_VIEW;
const { line: measureLine, lines: resultLines } = stampView();

const RTT = { ...summarize([0.1, 0.2, 0.3])!, p999: 0.3 };

const SUMMARY: SeriesResult = {
  ...requestMany(TARGET, "").summary(),
  target: "[::1]:20001",
  unexpected: 0,
  sent: 4,
  received: 3,
  lost: 1,
  lossPercent: 25,
  lossPeriods: 1,
  longestLossPeriod: 1,
  startedAt: 1000,
  durationMs: 3012.3456789,
  rttMs: RTT,
};

const REST = {
  localAddr: TARGET,
  sentAt: 1,
  receivedAt: 2,
  value: undefined,
  text: () => "",
};
const EVENTS: SeriesEvent[] = [
  {
    type: "reply",
    seq: 0,
    reply: {
      data: encode("hi"),
      remoteAddr: TARGET,
      rttMs: 0.12345678,
      attempts: 1,
      ...REST,
    },
  },
  {
    type: "reply",
    seq: 1,
    reply: {
      data: new Uint8Array([0xff]),
      remoteAddr: TARGET,
      rttMs: undefined,
      ...REST,
      attempts: 2,
    },
  },
  {
    type: "lost",
    seq: 2,
    error: new TimeoutError("No", { attempts: 3, foreign: 0 }),
  },
  { type: "late", seq: 2 },
  { type: "duplicate", seq: 0 },
  { type: "error", seq: 3, error: new Error("No\nroute") },
];

Deno.test("durationText(): one unit, with a place below 10", () => {
  const seconds = [-1, 0.04, 1.26, 35.2, 119, 120, 5400, 7200, 9000, 172_800];
  assertEquals(
    seconds.map((value) => durationText(1000 * value)).join(", "),
    "0 s, 0 s, 1.3 s, 35 s, 119 s, 2 min, 90 min, 2 h, 2.5 h, 2 d",
  );
});

Deno.test("wrap(): no line beyond the width, numbers with their words, an indent", () => {
  const text = "12 sent, 10 received, 2 lost (16.7%), time 99 ms\n" +
    "rtt min/avg/max = 1.000/2.000/3.000 ms\nshort";
  assertEquals(wrap(text, 80), text);
  for (let columns = 22; columns < 50; columns++) {
    const lines = wrap(text, columns).split("\n");
    assert(lines.every((line) => line.length <= columns), `${columns}`);
    const lone = /\d$|^ *[=(]/;
    assertEquals(lines.find((line) => lone.test(line)), undefined);
    assertEquals(
      lines.join(" ").replaceAll(/ +/g, " "),
      text.replaceAll("\n", " "),
    );
  }
  assertEquals(wrap(text, 40).split("\n"), [
    "12 sent, 10 received, 2 lost (16.7%),",
    "  time 99 ms",
    "rtt min/avg/max = 1.000/2.000/3.000 ms",
    "short",
  ]);
  assertEquals(wrap(text, 30).split("\n").slice(2, 4), [
    "rtt min/avg/max =",
    "  1.000/2.000/3.000 ms",
  ]);
});

Deno.test("tableLines(): columns that do not fit follow below, with the labels", () => {
  const rows = [["ms", "min", "median", "max"], ["rtt", "1", "22.5", "1000"]];
  assertEquals(tableLines(rows, 22), [
    "ms   min  median   max",
    "rtt    1    22.5  1000",
  ]);
  assertEquals(tableLines(rows, 21), [
    "ms   min  median",
    "rtt    1    22.5",
    "ms    max",
    "rtt  1000",
  ]);
  // Narrower than any column.
  assertEquals(tableLines(rows, 1).length, 6);
});

Deno.test("exchangeLines(), replyLine(): the lines of the seed", () => {
  assertEquals(
    exchangeLines(encode("Hello UDP Server"), PEER),
    'Message from Client:b"Hello UDP Server"\nClient IP Address:("127.0.0.1", 51696)',
  );
  assertEquals(
    replyLine(encode("Hello UDP Client")),
    'Message from Server b"Hello UDP Client"',
  );
});

Deno.test("payloadText(): about 1 KiB of text, and the number of bytes left out", () => {
  const zeros = new Uint8Array(65_507);
  const letters = zeros.map(() => 0x61);
  for (
    const [text, shown, more] of [
      [payloadText(letters), `b"${"a".repeat(1024)}"`, 64_483],
      [payloadText(zeros), `b"${"\\x00".repeat(256)}"`, 65_251],
      [payloadText(zeros, true), "00".repeat(512), 64_995],
    ] as const
  ) assertEquals(text, `${shown} and ${more} more bytes`);
  const whole = letters.subarray(0, 1024);
  assertEquals(payloadText(whole), `b"${"a".repeat(1024)}"`);
});

Deno.test("seriesView: a line for each event", () => {
  assertEquals(EVENTS.map(eventLine), [
    'Message from Server b"hi" seq=0 time=0.123 ms',
    'Message from Server b"\\xff" seq=1 time=n/a attempts=2',
    "seq=2 lost attempts=3",
    "seq=2 late",
    "seq=0 duplicate",
    "seq=3 error: No route",
  ]);
});

Deno.test("seriesView: an object for each event, null for unknown figures", () => {
  assertEquals(EVENTS.map((event) => jsonOf(SERIES_VIEW, event)), [
    {
      seq: 0,
      rttMs: 0.123457,
      attempts: 1,
      size: 2,
      text: "hi",
    },
    { seq: 1, rttMs: null, attempts: 2, size: 1, hex: "ff" },
    {
      seq: 2,
      attempts: 3,
      portClosed: false,
      rejection: null,
    },
    { seq: 2 },
    { seq: 0 },
    { seq: 3, error: "No route" },
  ]);
});

Deno.test("seriesView: a lost datagram has the report of the network", () => {
  const cause = new Deno.errors.ConnectionRefused("refused");
  const error = new TimeoutError("No", { attempts: 1, foreign: 0, cause });
  const event: SeriesEvent = { type: "lost", seq: 4, error };
  assertEquals(eventLine(event), "seq=4 lost attempts=1 (closed port)");
  assertEquals(jsonOf(SERIES_VIEW, event).portClosed, true);
  const rejected = new TimeoutError("No", {
    attempts: 1,
    foreign: 0,
    cause: new Error("192.0.2.1 reports: a filter prohibits it"),
  });
  const other: SeriesEvent = { type: "lost", seq: 4, error: rejected };
  const said = "192.0.2.1 reports: a filter prohibits it";
  assertEquals(eventLine(other), `seq=4 lost attempts=1 (${said})`);
  const { portClosed, rejection } = jsonOf(SERIES_VIEW, other);
  assertEquals([portClosed, rejection], [false, said]);
});

Deno.test("seriesView: hex if it is asked for, and text beside it", () => {
  const [hi, ff] = EVENTS.map((event) => jsonOf(seriesView(true), event));
  assertEquals([hi!.hex, hi!.text], ["6869", "hi"]);
  assertEquals([ff!.hex, ff!.text], ["ff", undefined]);
});

Deno.test("exchangeJson(): text, or hex where there is no text", () => {
  const NOW = new Date(0);
  const peer = {
    type: "request",
    time: NOW,
    hostname: "127.0.0.1",
    port: 51696,
  };
  assertEquals(exchangeJson(encode("hi"), PEER, NOW), {
    ...peer,
    size: 2,
    text: "hi",
  });
  assertEquals(exchangeJson(new Uint8Array([0xff]), PEER, NOW), {
    ...peer,
    size: 1,
    hex: "ff",
  });
});

Deno.test("seriesView: closing lines are laid out as those of ping", () => {
  assertEquals(summaryLines(SUMMARY).split("\n"), [
    "--- [::1]:20001 statistics ---",
    "4 sent, 3 received, 0 duplicates, 0 late, 25% loss, time 3012 ms",
    "1 missing: 1 unanswered; in one loss period",
    "rtt min/avg/max/mdev = 0.100/0.200/0.300/0.082 ms",
    "rtt median/p90/p99/p99.9 = 0.200/0.300/0.300/0.300 ms",
  ]);
});

Deno.test("seriesView: closing lines name unusual counts, and leave out unknown figures", () => {
  const unusual: SeriesResult = {
    ...SUMMARY,
    received: 0,
    lost: 0,
    pending: 4,
    lossPercent: undefined,
    retransmissions: 5,
    foreign: 6,
    rttMs: undefined,
  };
  assertEquals(summaryLines(unusual).split("\n").slice(1), [
    "4 sent, 0 received, 0 duplicates, 0 late, 4 pending, 6 foreign, " +
    "5 retransmissions, n/a of exchanges failed, time 3012 ms",
  ]);
});

Deno.test("seriesView: the loss is 0% and 100% only if it is exactly that", () => {
  const shown = (lossPercent: number) =>
    / (\S+) loss/.exec(summaryLines({ ...SUMMARY, lossPercent }))![1];
  assertEquals(
    [0, 0.0001, 33.3333, 99.9999, 100].map(shown),
    ["0%", "0.01%", "33.33%", "99.99%", "100%"],
  );
});

Deno.test("SERIES: every key, null for unknown figures", () => {
  assertEquals(objectOf(SERIES_COLUMNS, SUMMARY), {
    target: "[::1]:20001",
    sent: 4,
    received: 3,
    lost: 1,
    pending: 0,
    lossPercent: 25,
    duplicates: 0,
    late: 0,
    retransmissions: 0,
    foreign: 0,
    eventsDropped: 0,
    rejected: 0,
    unsent: 0,
    skipped: 0,
    stalls: 0,
    stalledMs: 0,
    longestStall: null,
    heldBack: 0,
    unexpected: 0,
    durationMs: 3012.345679,
    rttMs: { ...RTT, mean: 0.2, stddev: 0.08165 },
    lossPeriods: 1,
    longestLossPeriod: 1,
    outageCount: 0,
    outageMs: 0,
    outages: [],
    reasons: [],
    startedAt: "1970-01-01T00:00:01.000Z",
  });
  const { lossPercent, rttMs } = objectOf(SERIES_COLUMNS, {
    ...SUMMARY,
    lossPercent: undefined,
    rttMs: undefined,
  });
  assertEquals([lossPercent, rttMs], [null, null]);
  const before = objectOf(SERIES_COLUMNS, {
    ...SUMMARY,
    startedAt: undefined,
  });
  assertEquals(before.startedAt, null);
});

Deno.test("listeningLine(): a limit where there is one, and an unusual engine", () => {
  assertEquals(
    listeningLine(TARGET, { maxAmplification: 3, rateLimit: 0 }, "deno"),
    "UDP server up and listening on [::1]:20001",
  );
  assertEquals(
    listeningLine({ hostname: "0.0.0.0", port: 1 }, {
      maxAmplification: 3,
      rateLimit: 100,
    }, "linux"),
    "UDP server up and listening on 0.0.0.0:1, at most 100 answers a second to a /24 or /56 (linux engine)",
  );
});

Deno.test("refusalLine(): words for every reason", () => {
  const lines = REFUSALS.map((reason: Refusal) => refusalLine(reason, PEER));
  assertEquals(new Set(lines).size, REFUSALS.length);
  assertEquals(
    lines[0],
    "refused 127.0.0.1:51696: the answer is too large for its request (--max-amplification)",
  );
});

Deno.test("overloadLine(): the peer whose datagram was dropped", () => {
  assertEquals(
    overloadLine(PEER),
    "dropped a datagram from 127.0.0.1:51696: more arrive than are answered",
  );
});

Deno.test("statsLine(): unusual counts only if they are not 0", () => {
  const dropped = { tooLong: 0, overload: 0, closing: 0 };
  const errors = { handler: 0, send: 0, receive: 0 };
  const refused = Object.fromEntries(
    REFUSALS.map((reason) => [reason, 0]),
  ) as ServerStats["refused"];
  const stats: Omit<ServerStats, "pushed"> = {
    received: 2,
    replied: 2,
    unanswered: 0,
    dropped,
    kernelDrops: undefined,
    refused,
    bytes: { received: 0, replied: 0 },
    inFlight: 0,
    errors,
  };
  assertEquals(
    statsLine({ server: stats, eventsDropped: 0 }),
    "2 received, 2 replied",
  );
  assertEquals(
    statsLine({
      server: {
        ...stats,
        received: 9,
        replied: 1,
        unanswered: 2,
        dropped: { tooLong: 3, overload: 4, closing: 5 },
        refused: { ...refused, rate: 9, loop: 1 },
        errors: { handler: 6, send: 7, receive: 8 },
      },
      eventsDropped: 9,
    }),
    "9 received, 1 replied, 2 unanswered, 3 dropped as too long, " +
      "4 dropped in overload, 5 dropped while closing, 9 refused (rate), " +
      "1 refused (loop), 6 handler errors, 7 send errors, 8 receive errors, " +
      "9 events left out",
  );
});

Deno.test("errorMessage(): one line, whatever was thrown", () => {
  assertEquals(errorMessage(new Error("a\n  b")), "a b");
  assertEquals(errorMessage("text"), "text");
});

Deno.test("packetLine(): the sender and the size of a STAMP packet", () => {
  assertEquals(
    packetLine(new Uint8Array(44), TARGET),
    "STAMP request from [::1]:20001, 44 bytes",
  );
});

Deno.test("seriesView, stampView: events without figures have the same lines", () => {
  const alike: Array<SeriesEvent & MeasureEvent> = [
    { type: "late", seq: 2 },
    { type: "duplicate", seq: 0 },
    { type: "error", seq: 3, error: new Error("No route") },
  ];
  assertEquals(
    alike.map(measureLine),
    alike.map(eventLine),
  );
  assertEquals(measureLine({ type: "lost", seq: 2 }), "seq=2 lost");
});

Deno.test("json(): escapes characters that act on a terminal, for the same value", () => {
  const text = "a\x1b[2J\x7f\x9b31m\u2028\u202e\u2066\u061cé漢😀";
  const shown = json({ text });
  assertEquals(JSON.parse(shown), { text });
  assertEquals(
    shown,
    '{"text":"a\\u001b[2J\\u007f\\u009b31m\\u2028\\u202e\\u2066\\u061cé漢😀"}',
  );
});

Deno.test("stampView: closing lines have the counts and the table", () => {
  const rttMs = {
    ...summarize([0.1])!,
    ...{ min: 0.1, mean: 0.25, median: 0.2, p90: 12, p99: 345.6, max: 1000.5 },
    stddev: 0.5,
  };
  const nothing = measure(TARGET).summary();
  const some = { ...nothing, sent: 9, received: 6, lost: 2, lossPercent: 25 };
  const result = {
    target: "[::1]:20001",
    ...some,
    ...{ pending: 1, duplicates: 3, reordered: 4, late: 5, durationMs: 99.6 },
    ...{ lostUp: 2, lostDown: 0, lostUnattributed: undefined },
    ...{ duplicatesUp: 1, duplicatesDown: 2 },
    ...{ rttMs, pdvMs: { ...rttMs, min: 0 }, exact: true, lossPeriods: 1 },
    ...{ forwardJitterMs: 0.5, backwardJitterMs: 0.75 },
    clockOffsetMs: { estimate: -2.5, error: 0.125 },
  };
  assertEquals(resultLines(result).split("\n"), [
    "--- [::1]:20001 STAMP statistics ---",
    "9 sent, 6 received, 2 lost (25%), 3 duplicates, 4 reordered, 5 late, 1 pending, time 100 ms",
    "lost up 2, down 0, unattributed n/a",
    "2 missing: 2 unanswered; in one loss period",
    "duplicates up 1, down 2",
    "ms (exact)    min   mean  median     p90      p99       max  stddev",
    "rtt         0.100  0.250   0.200  12.000  345.600  1000.500   0.500",
    "pdv         0.000  0.250   0.200  12.000  345.600  1000.500   0.500",
    "jitter forward 0.500 ms, backward 0.750 ms",
    "one-way delay n/a: the clocks are not known to be synchronized; the reflector's is -2.500 ms ahead, within 0.125 ms",
  ]);
  const [, counts, head] = resultLines({
    target: "[::1]:20001",
    ...nothing,
    ...{ foreign: 1, pending: 2, kernelDrops: 4, rttMs },
    exact: false,
  }).split("\n");
  assertEquals(
    counts,
    "0 sent, 0 received, 0 lost (n/a), 0 duplicates, 0 reordered, 0 late, " +
      "2 pending, 1 foreign, 4 dropped by this machine, time 0 ms",
  );
  assertMatch(head!, /^ms \(to 0\.1 %\) .* stddev$/);
  const json = objectOf(STAMP_COLUMNS, result);
  assertEquals(json.clockOffsetMs, { estimate: -2.5, error: 0.125 });
  assertEquals([json.lostUp, json.lostUnattributed, json.reported], [
    2,
    null,
    null,
  ]);
  assertEquals([json.clockDriftPpm, json.forwardJitterMs], [null, 0.5]);
});

Deno.test("stampView: a histogram has a bar for each bin, the longest 40 wide", () => {
  const bins = [
    { from: 0, to: 0.5, count: 80 },
    { from: 0.5, to: 1, count: 1 },
    { from: 1, to: 1000, count: 0 },
  ];
  const nothing = measure(TARGET).summary();
  const lines = stampView(() => bins).lines({ target: "", ...nothing });
  assertEquals(lines.split("\n").slice(2), [
    `     0.000 -     0.500 ms       80 ${"#".repeat(40)}`,
    "     0.500 -     1.000 ms        1 #",
    "     1.000 -  1000.000 ms        0",
  ]);
  const narrow = stampView(() => bins).lines({ target: "", ...nothing }, 60);
  const widths = narrow.split("\n").slice(-3).map((line) => line.length);
  assertEquals(widths, [60, 36, 34]);
});

Deno.test("stampView: closing lines have the reports of the reflector", () => {
  const nothing = measure(TARGET).summary();
  const lines = (given: Partial<typeof nothing>) =>
    resultLines({
      target: "[::1]:20001",
      ...nothing,
      ...given,
    }).split("\n").slice(2);
  assertEquals(lines({}), []);
  assertEquals(lines({ clockDriftPpm: { estimate: 3, error: 2 } }), []);
  assertEquals(lines({ oneWayErrorMs: 1.5, kernelTimed: 3, received: 3 }), [
    "rtt by the kernel's clock (all of 3)",
    "one-way delays within 1.500 ms, by both clocks' own estimates",
  ]);
  assertEquals(
    lines({ impossibleTimestamps: 2, received: 3, clockSteps: 1 }),
    [
      "the reflector's timestamps are impossible: in 2 of 3 replies one is 0, or their difference no part of the round trip",
      "the reflector's clock was set (steps: 1); its offset and drift are those since the last step",
    ],
  );
  const reorderingExtent = { max: 5, mean: 1.5 };
  assertEquals(lines({ reorderedUp: 3, reorderedDown: 4, reorderingExtent }), [
    "reordered up 3, down 4, by 5 replies at most",
  ]);
  const unknown = { duplicatesUp: undefined, reorderedUp: undefined };
  assertEquals(lines({ ...unknown, duplicates: 3, reorderingExtent }), [
    "reordered up n/a, down 0, by 5 replies at most",
  ]);
  assertEquals(lines({ kernelTimed: 2, received: 3 }), [
    "rtt by the kernel's clock (2 of 3)",
  ]);
  const reported: NonNullable<typeof nothing.reported> = {
    location: { remoteAddr: PEER, localAddr: TARGET },
    timestampInfo: {
      synchronizedBy: "PTP",
      receiveStampedBy: "hardware",
      sendStampedBy: "software",
    },
    directMeasurement: { sent: 9, received: 8, transmitted: 7 },
    followUp: {
      sequence: 6,
      timestamp: { seconds: 1_700_000_000, nanoseconds: 5000 },
      stampedBy: "hardware",
    },
    classOfService: { dscp: 46, ecn: 1, isPermitted: false, replyDscp: 0 },
    unsupported: [],
    discarded: [],
  };
  assertEquals(
    lines({
      clockDriftPpm: { estimate: -12.5, error: 0.25 },
      returnsSsid: false,
      reported,
    }),
    [
      "the reflector's clock gains -12.500 ppm, within 0.250 ppm; pdv forward and backward are corrected for it",
      "the reflector does not return the SSID: it does not know RFC 8972",
      "seen by the reflector as 127.0.0.1:51696, received at [::1]:20001",
      "the reflector's clock is synchronized by PTP; T2 is taken by hardware, T3 by software",
      "by the reflector's counts 8 of 9 requests arrived, 7 were answered",
      "requests arrived with DSCP 46 and ECN 1, replies with DSCP 0, since the reflector refused another",
      "reply 6 left at 2023-11-14T22:13:20.000005000Z by hardware",
    ],
  );
  assertEquals(
    lines({
      reported: { unsupported: ["location"], discarded: ["follow-up"] },
    }),
    [
      "not supported by the reflector: location",
      "discarded, as not intact: follow-up",
    ],
  );
  const shown =
    objectOf(STAMP_COLUMNS, { target: "", ...nothing, reported }).reported;
  assertEquals(shown, {
    ...reported,
    location: { remoteAddr: "127.0.0.1:51696", localAddr: "[::1]:20001" },
    followUp: {
      ...reported.followUp,
      timestamp: "2023-11-14T22:13:20.000005000Z",
    },
  });
});

Deno.test("since(): counts are differences, levels are as they are", () => {
  const before = { received: 4, inFlight: 2, refused: { rate: 1, loop: 0 } };
  const now = { received: 9, inFlight: 1, refused: { rate: 3, loop: 0 } };
  assertEquals(since(now, before), {
    received: 5,
    inFlight: 1,
    refused: { rate: 2, loop: 0 },
  });
  const unknown: { drops: number | undefined } = { drops: undefined };
  assertEquals(since({ drops: 3 }, unknown as { drops: number }), { drops: 3 });
  assertEquals(since(unknown, { drops: 3 }), unknown);
});

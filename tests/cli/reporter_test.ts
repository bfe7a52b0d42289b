import { assert, assertEquals, assertMatch, assertRejects } from "@std/assert";
import { flushNotes, LineWriter } from "../../lib/cli/output.ts";
import {
  type Columns,
  COUNT,
  EVENTS,
  intervalLine,
} from "../../lib/cli/show/columns.ts";
import type { Interval } from "../../lib/stats/books.ts";
import { NO_COUNTS } from "../../lib/stats/counts.ts";
import {
  REPORTERS,
  type ReportOptions,
  type RunEvent,
  showRun,
  type View,
} from "../../lib/cli/show/reporter.ts";

/** The columns of an event that has one. */
const A: Columns<{ a: number }> = { a: {} };
const TARGET = { hostname: "192.0.2.1", port: 7 };

interface Result {
  received: number;
}

/** A view that shows events by their type, except "late" ones. */
const VIEW: View<RunEvent, Result> = {
  list: "replies",
  events: {
    ...EVENTS,
    ...Object.fromEntries(["reply", "late", "lost"].map((type) => [type, A])),
  },
  result: { received: COUNT },
  facts: () => ({ a: 1 }),
  line: (event) =>
    event.type === "interval"
      ? intervalLine(event as Interval)
      : event.type === "late"
      ? undefined
      : `line ${event.type}`,
  lines: () => "the end",
};

/** A list of the written lines, and their writer. */
function written(isTerminal = false) {
  let text = "";
  const out = new LineWriter({
    isTerminal: () => isTerminal,
    write(bytes: Uint8Array) {
      text += new TextDecoder().decode(bytes);
      return Promise.resolve(bytes.length);
    },
  });
  const shown = async () => {
    await out.flush();
    return text.replaceAll(/"time":"20[^"]*",?/g, "");
  };
  return { out, shown };
}

/** A run of these events; with `error` it fails at its end. */
function runOf(events: RunEvent[], error?: Error) {
  return {
    target: TARGET,
    sent: events.length,
    stop() {},
    async *[Symbol.asyncIterator]() {
      yield* events;
      await Promise.resolve();
      if (error !== undefined) throw error;
    },
  };
}

const RESULT = () => ({ received: 1 });

/** The output for three events and the end. */
async function reported(report: ReportOptions): Promise<string> {
  const { out, shown } = written();
  const run = runOf(["reply", "late", "lost"].map((type) => ({ type })));
  await showRun(run, TARGET, RESULT, VIEW, report, out);
  return await shown();
}

Deno.test("showRun(): a report has its events, unless it is quiet, and always its end", async () => {
  const cases = [
    ["text", "line reply\nline lost\n", "the end\n"],
    ["json", '{"replies":[\n{"a":1}\n],"received":1}\n', '{"received":1}\n'],
    [
      "json-stream",
      ["reply", "late", "lost"].map((type) => `{"type":"${type}","a":1}\n`)
        .join(""),
      '{"type":"summary","received":1}\n',
    ],
  ] as const;
  for (const [format, events, end] of cases) {
    const whole = format === "json" ? events : events + end;
    assertEquals(await reported({ format, quiet: false }), whole);
    assertEquals(await reported({ format, quiet: true }), end);
  }
});

/** Light timers that fire only at `tick()`, the last one that was begun. */
function stoppedTimers(): Disposable & { tick(): Promise<void> } {
  const { waitAsync } = Atomics;
  const begin = () => Promise.withResolvers<"timed-out">();
  let begun = begin();
  Atomics.waitAsync = () => {
    begun = begin();
    return { async: true, value: begun.promise };
  };
  return {
    async tick() {
      const { promise, resolve } = begun;
      resolve("timed-out");
      await promise;
    },
    [Symbol.dispose]() {
      Atomics.waitAsync = waitAsync;
    },
  };
}

/**
 * The output on a terminal of a run whose status timer fires after one event.
 */
async function looked(
  list: typeof VIEW.list,
  event: RunEvent,
  report: Partial<ReportOptions>,
): Promise<string> {
  const { out, shown } = written(true);
  using timers = stoppedTimers();
  const run = {
    ...runOf([]),
    async *[Symbol.asyncIterator]() {
      yield event;
      await timers.tick();
      await out.flush();
    },
  };
  const options = { format: "text", quiet: true, ...report } as const;
  await showRun(run, TARGET, RESULT, { ...VIEW, list }, options, out);
  return await shown();
}

Deno.test("showRun(): no status line follows the closing lines", async () => {
  const { out, shown } = written(true);
  using timers = stoppedTimers();
  const flush = out.flush.bind(out);
  out.flush = async () => {
    // The output is slow, so that the timer would fire meanwhile.
    await timers.tick();
    await flush();
  };
  const run = runOf([{ type: "reply", seq: 0 }]);
  const options = { format: "text", quiet: true } as const;
  const view = { ...VIEW, list: "samples" } as const;
  await showRun(run, TARGET, RESULT, view, options, out);
  assertEquals(await shown(), "the end\n");
});

Deno.test("showRun(): text has a status line on a terminal, for one run of several datagrams", async () => {
  const reply = { type: "reply", seq: 0 };
  const status = "1 received\r\x1b[K";
  assertEquals(await looked("samples", reply, {}), `${status}the end\n`);
  assertEquals(await looked("replies", reply, {}), "the end\n");
  const series = await looked("replies", reply, { isSeries: true });
  assertEquals(series, `${status}the end\n`);
  assertEquals(
    await looked("samples", reply, { format: "json" }),
    '{"received":1}\n',
  );
  const interval = { type: "interval", fromMs: 0, toMs: 1000, ...NO_COUNTS };
  assertEquals(await looked("intervals", interval, {}), `${status}the end\n`);
});

Deno.test("showRun(): throws the error if no datagram could be sent", async () => {
  const error = new Error("no route");
  const run = (received: number) =>
    showRun(
      runOf([{ type: "error", error }]),
      TARGET,
      () => ({ received }),
      VIEW,
      { format: "text", quiet: true },
      written().out,
    );
  await assertRejects(() => run(0), Error, "no route");
  assertEquals(await run(1), { received: 1 });
});

Deno.test("showRun(): a run of which nothing could be sent has its end once, with the error", async () => {
  const failed = '{"received":0,"error":"no route"}';
  for (
    const [format, expected] of [
      ["text", "the end\n"],
      ["json", `${failed}\n`],
      ["json-stream", failed.replace("{", '{"type":"summary",') + "\n"],
    ] as const
  ) {
    const { out, shown } = written();
    const run = runOf([{ type: "error", error: new Error("no route") }]);
    const result = () => ({ received: 0 });
    const report = { format, quiet: true };
    const ended = () => showRun(run, TARGET, result, VIEW, report, out);
    await assertRejects(ended, Error, "no route");
    assertEquals(await shown(), expected);
  }
});

Deno.test("REPORTERS: intervals have the format of the report, and are not among the replies", async () => {
  const counts = { received: 1, lost: 1, unsent: 1 };
  const rest = { ...NO_COUNTS, ...counts, rttMs: undefined };
  const intervals = async (format: ReportOptions["format"]) => {
    const { out, shown } = written();
    const report = { format, quiet: true, reportMs: 100 };
    const reporter = REPORTERS[format](VIEW, report, out);
    const [one, two] = [[0, 100, 3], [100, 250, 2]].map((
      [fromMs, toMs, sent],
    ) => ({ ...rest, fromMs: fromMs!, toMs: toMs!, sent: sent! }));
    reporter.event({ type: "interval", ...one! });
    reporter.event({ type: "interval", ...two! });
    reporter.result("summary", RESULT());
    return await shown();
  };
  const others = ["foreign", "retransmissions", "rejected", "skipped"];
  const zeros = Object.fromEntries(
    [...others, "stalls", "stalledMs"].map((name) => [name, 0]),
  );
  const common = { received: 1, lost: 1, unsent: 1, duplicates: 0, late: 0 };
  const json = JSON.stringify({ ...common, ...zeros, rttMs: null }).slice(1);
  const [first, second] = [
    `"fromMs":0,"toMs":100,"sent":3,${json}`,
    `"fromMs":100,"toMs":250,"sent":2,${json}`,
  ];
  assertEquals(
    await intervals("text"),
    "0.0 to 0.1 s: 3 sent, 1 received, 1 lost and 1 unsent (66.67%)\n" +
      "0.1 to 0.3 s: 2 sent, 1 received, 1 lost and 1 unsent (66.67%)\nthe end\n",
  );
  assertEquals(
    await intervals("json-stream"),
    `{"type":"interval",${first}\n{"type":"interval",${second}\n` +
      '{"type":"summary","received":1}\n',
  );
  assertEquals(
    await intervals("json"),
    `{"received":1,"intervals":[{${first},{${second}]}\n`,
  );
});

/** The notes on stderr, if 12 s pass before each of these numbers of replies. */
async function notesOn(counts: number[]): Promise<string[]> {
  const [{ now }, { write }] = [performance, Deno.stderr];
  using timers = stoppedTimers();
  let [ms, text, received] = [0, "", 0];
  performance.now = () => ms;
  Deno.stderr.write = (bytes) => {
    text += new TextDecoder().decode(bytes);
    return Promise.resolve(bytes.length);
  };
  try {
    const run = {
      ...runOf([]),
      async *[Symbol.asyncIterator]() {
        for (const count of counts) {
          await timers.tick();
          await Promise.resolve();
          ms += 12_000;
          received = count;
          yield { type: "reply" };
        }
        await timers.tick();
      },
    };
    const report = { format: "json", quiet: true } as const;
    const result = () => ({ received });
    await showRun(run, TARGET, result, VIEW, report, written().out);
    await flushNotes();
  } finally {
    performance.now = now;
    Deno.stderr.write = write;
  }
  return text.split("\n").filter((line) => line !== "");
}

Deno.test("showRun(): a run is silent if no reply is counted for 10 s", async () => {
  assertEquals(await notesOn([5, 10, 15]), []);
  assertEquals(await notesOn([5, 5, 5, 10]), [
    "client: no reply for 10 s",
    "client: a reply again, after 36 s",
  ]);
});

Deno.test("showRun(): one of several runs has its label, and no document of its own", async () => {
  const documents: unknown[] = [];
  const label = {
    text: "run 1",
    facts: { run: 1 },
    hasLines: false,
    collect: (document: unknown) => documents.push(document),
  };
  const labelled = (format: ReportOptions["format"]) =>
    reported({ format, quiet: false, label });
  assertEquals(await labelled("text"), "run 1: line reply\nrun 1: line lost\n");
  assertMatch(
    await labelled("json-stream"),
    /^({"type":"\w+","run":1,.*\n){4}$/,
  );
  assertEquals(documents, []);
  assertEquals(await labelled("json"), "");
  const [document] = documents as [{ replies: Array<{ a: number }> }];
  assertEquals(document.replies.map(({ a }) => a), [1]);
  assertEquals(Object.keys(document), ["run", "replies", "received"]);
});

Deno.test("showRun(): a begun document is completed at every end of the run", async () => {
  for (const type of ["reply", "lost"]) {
    const { out, shown } = written();
    const run = runOf([{ type }], new Error("broken"));
    const report = { format: "json", quiet: false } as const;
    await assertRejects(
      () => showRun(run, TARGET, RESULT, VIEW, report, out),
      Error,
      "broken",
    );
    const listed = type === "reply" ? '[\n{"a":1}\n]' : "[]";
    const end = '"received":1,"error":"broken"}\n';
    assertEquals(await shown(), `{"replies":${listed},${end}`);
  }
});

Deno.test("REPORTERS: an interim result is shown, but not within a document", async () => {
  for (
    const [format, expected] of [
      ["text", "the end\n"],
      ["json-stream", '{"type":"interim","received":1}\n'],
    ] as const
  ) {
    const { out, shown } = written();
    REPORTERS[format](VIEW, { format, quiet: true }, out)
      .result("interim", RESULT());
    assertEquals(await shown(), expected);
  }
});

Deno.test("showRun(): counts the events that a stuck reader leaves out, in valid JSON", async () => {
  const data = new Uint8Array(1000).fill(0x61);
  const view: View<RunEvent, { eventsDropped: number }> = {
    list: "replies",
    result: { eventsDropped: {} },
    events: { ...EVENTS, reply: { text: {} } },
    facts: () => ({ text: "a".repeat(1000) }),
    line: () => "a".repeat(1000),
    lines: ({ eventsDropped }) => `${eventsDropped} left out`,
  };
  const reply = { rttMs: 1, data, remoteAddr: TARGET };
  for (const format of ["json", "json-stream", "text"] as const) {
    const { promise: ready, resolve } = Promise.withResolvers<void>();
    let text = "";
    const out = new LineWriter({
      async write(bytes: Uint8Array) {
        await ready;
        text += new TextDecoder().decode(bytes);
        return bytes.length;
      },
    });
    const run = {
      ...runOf([]),
      async *[Symbol.asyncIterator]() {
        for (let i = 0; i < 3000; i++) yield { type: "reply", reply };
        // Read from here on.
        resolve();
      },
    };
    const ended = await showRun(
      run,
      TARGET,
      () => ({ received: 3000, eventsDropped: 0 }),
      view,
      { format, quiet: false },
      out,
    );
    await flushNotes();
    const shown = text.match(/a{1000}/g)!.length;
    assert(shown > 900 && shown < 2100, `${format}: ${shown} events`);
    assertEquals(ended.eventsDropped, 3000 - shown, format);
    const last = text.trim().split("\n").at(-1)!;
    if (format === "text") assertEquals(last, `${3000 - shown} left out`);
    else {
      const { eventsDropped } = JSON.parse(format === "json" ? text : last);
      assertEquals(eventsDropped, 3000 - shown, format);
    }
  }
});

Deno.test("showRun(): an interval that finds no room is part of the next one", async () => {
  const taken: Array<{ received: number; fromMs: number; rttMs: unknown }> = [];
  let lines = 0;
  const { out } = written();
  out.write = (line) => {
    const hasRoom = ++lines > 1;
    if (hasRoom) taken.push(JSON.parse(line));
    return hasRoom;
  };
  const rttMs = undefined;
  const part = { ...NO_COUNTS, type: "interval", received: 1, rttMs } as const;
  const intervals: Interval[] = [
    { ...part, fromMs: 0, toMs: 10 },
    { ...part, fromMs: 10, toMs: 20 },
    { ...part, fromMs: 20, toMs: 30 },
  ];
  const report = { format: "json-stream", quiet: true, reportMs: 5 } as const;
  await showRun(runOf(intervals), TARGET, RESULT, VIEW, report, out);
  const shown = taken.map(({ received, fromMs }) => [received, fromMs]);
  assertEquals(shown, [[2, 0], [1, 20]]);
});

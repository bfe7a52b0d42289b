import { assertEquals, assertRejects } from "@std/assert";
import { LineWriter } from "../../lib/cli/output.ts";
import { Samples } from "../../lib/cli/show/samples.ts";
import {
  follow,
  makeReporter,
  type View,
} from "../../lib/cli/show/reporter.ts";

const TARGET = { hostname: "192.0.2.1", port: 7 };

interface Event {
  type: string;
  error?: unknown;
}

/** A view that shows events by their type, and nothing of "late" ones. */
const VIEW: View<Event, { received: number }> = {
  line: ({ type }) => type === "late" ? undefined : `line ${type}`,
  json: () => ({ a: 1 }),
  isListed: ({ type }) => type === "reply",
  listKey: "replies",
  rttOf: () => undefined,
  status: () => "status",
  lines: () => "the end",
  resultJson: (_, result) => ({ ...result }),
};

/** What a reporter writes for three events and the end. */
async function written(
  format: "text" | "json" | "json-stream",
  quiet: boolean,
  isTerminal = false,
): Promise<string> {
  let text = "";
  const out = new LineWriter({
    isTerminal: () => isTerminal,
    write(bytes: Uint8Array) {
      text += new TextDecoder().decode(bytes);
      return Promise.resolve(bytes.length);
    },
  });
  const reporter = makeReporter(VIEW, { format, quiet }, out);
  for (const type of ["reply", "late", "lost"]) reporter.event({ type });
  reporter.status(3);
  await out.flush();
  reporter.end(TARGET, { received: 1 });
  await out.flush();
  return text.replaceAll(/"time":"20[^"]*",?/g, "");
}

Deno.test("a report has its events, unless it is quiet, and always its end", async () => {
  assertEquals(
    await written("text", false),
    "line reply\nline lost\nthe end\n",
  );
  assertEquals(await written("text", true), "the end\n");
  assertEquals(
    await written("json", false),
    '{"replies":[\n{"a":1}\n],"received":1}\n',
  );
  assertEquals(await written("json", true), '{"received":1}\n');
  assertEquals(
    await written("json-stream", false),
    ["reply", "late", "lost"].map((type) => `{"type":"${type}","a":1}\n`)
      .join("") +
      '{"type":"summary","received":1}\n',
  );
  assertEquals(
    await written("json-stream", true),
    '{"type":"summary","received":1}\n',
  );
});

Deno.test("a report as text has a status line on a terminal, also if it is quiet", async () => {
  const erase = "\r\x1b[K";
  assertEquals(
    await written("text", false, true),
    `line reply\nline lost\nstatus${erase}the end\n`,
  );
  assertEquals(await written("text", true, true), `status${erase}the end\n`);
  assertEquals(
    await written("json", false, true),
    await written("json", false),
  );
});

Deno.test("follow() throws what kept everything from being sent", async () => {
  const error = new Error("no route");
  const out = new LineWriter({
    write: ({ length }) => Promise.resolve(length),
  });
  const run = (received: number) =>
    follow(
      {
        target: undefined,
        sent: 1,
        stop() {},
        async *[Symbol.asyncIterator]() {
          await Promise.resolve();
          yield { type: "error", error };
        },
      },
      TARGET,
      () => ({ received }),
      makeReporter(VIEW, { format: "text", quiet: true }, out),
      out,
    );
  await assertRejects(() => run(0), Error, "no route");
  assertEquals(await run(1), { received: 1 });
});

/** A reporter over a list of what is written, and what it counts. */
function reporterOf(report: Parameters<typeof makeReporter>[1]) {
  let text = "";
  const out = new LineWriter({
    write(bytes: Uint8Array) {
      text += new TextDecoder().decode(bytes);
      return Promise.resolve(bytes.length);
    },
  });
  const reporter = makeReporter(VIEW, report, out);
  const shown = async () => {
    await out.flush();
    return text.replaceAll(/"time":"20[^"]*",?/g, "");
  };
  return { reporter, out, shown };
}

Deno.test("intervals add up, and are shown in the form of the report", async () => {
  const intervals = async (format: "text" | "json" | "json-stream") => {
    const { reporter, shown } = reporterOf({
      format,
      quiet: true,
      reportMs: 100,
    });
    assertEquals(reporter.hasPart(0), false);
    reporter.event({ type: "reply" });
    reporter.event({ type: "lost" });
    assertEquals(reporter.hasPart(0), true);
    reporter.interval(100, 3);
    assertEquals([reporter.hasPart(3), reporter.hasPart(4)], [false, true]);
    reporter.interval(250, 5);
    reporter.end(TARGET, { received: 1 });
    return await shown();
  };
  const rest = '"duplicates":0,"late":0,"errors":0,"rttMs":null}';
  const [first, second] = [
    `"fromMs":0,"toMs":100,"sent":3,"received":1,"lost":1,${rest}`,
    `"fromMs":100,"toMs":250,"sent":2,"received":0,"lost":0,${rest}`,
  ];
  assertEquals(
    await intervals("text"),
    "0.0 to 0.1 s: 3 sent, 1 received, 50% loss\n" +
      "0.1 to 0.3 s: 2 sent, 0 received, n/a loss\nthe end\n",
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

Deno.test("one of many runs has its label, and no document of its own", async () => {
  const written = async (format: "text" | "json" | "json-stream") => {
    const documents: unknown[] = [];
    const label = {
      text: "run 1",
      facts: { run: 1 },
      hasLines: false,
      collect: (document: unknown) => documents.push(document),
    };
    const { reporter, shown } = reporterOf({ format, quiet: false, label });
    reporter.event({ type: "reply" });
    reporter.status(1);
    assertEquals(reporter.hasBegun, false);
    reporter.end(TARGET, { received: 1 });
    return [await shown(), documents.length];
  };
  assertEquals(await written("text"), ["run 1: line reply\n", 0]);
  assertEquals(await written("json"), ["", 1]);
  assertEquals(await written("json-stream"), [
    '{"type":"reply","run":1,"a":1}\n{"type":"summary","run":1,"received":1}\n',
    0,
  ]);
});

Deno.test("a document that has begun is ended, whatever ends the run", async () => {
  const { reporter, out, shown } = reporterOf({ format: "json", quiet: false });
  assertEquals(reporter.hasBegun, false);
  const run = {
    target: TARGET,
    sent: 1,
    stop() {},
    async *[Symbol.asyncIterator]() {
      yield { type: "reply" };
      await Promise.reject(new Error("broken"));
    },
  };
  const result = () => ({ received: 1 });
  await assertRejects(
    () => follow(run, TARGET, result, reporter, out),
    Error,
    "broken",
  );
  assertEquals(JSON.parse(await shown()), { replies: [{ a: 1 }], received: 1 });
});

Deno.test("how things stand is told on the way, but not within a document", async () => {
  for (
    const [format, expected] of [
      ["text", "the end\n"],
      ["json-stream", '{"type":"interim","received":1}\n'],
    ] as const
  ) {
    const { reporter, shown } = reporterOf({ format, quiet: true });
    reporter.soFar(TARGET, { received: 1 });
    assertEquals(await shown(), expected);
  }
});

Deno.test("samples are kept of a run that is quiet, too", () => {
  const samples = new Samples(10);
  const { reporter } = reporterOf({ format: "text", quiet: true, samples });
  reporter.event({ type: "reply", seq: 0 } as Event);
  reporter.event({ type: "lost", seq: 1 } as Event);
  // A reply whose RTT is unknown is none.
  assertEquals([...samples].length, 1);
});

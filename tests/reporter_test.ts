import { assertEquals, assertRejects } from "@std/assert";
import { LineWriter } from "../lib/cli/output.ts";
import { follow, makeReporter, type View } from "../lib/cli/reporter.ts";

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

import { assert, assertEquals, assertRejects } from "@std/assert";
import { flushNotes, LineWriter } from "../../lib/cli/output.ts";
import { throttle } from "../../lib/base/warn.ts";

/** A sink that keeps its input, and accepts it when `ready` resolves. */
function sink({ isTerminal = false, ready = Promise.resolve() } = {}) {
  const decoder = new TextDecoder();
  return {
    text: "",
    isTerminal: () => isTerminal,
    async write(bytes: Uint8Array) {
      await ready;
      this.text += decoder.decode(bytes);
      return bytes.length;
    },
  };
}

Deno.test("throttle(): writes each kind once a second, and counts the rest", () => {
  const written: string[] = [];
  let now = 0;
  const log = throttle((message) => written.push(message), () => now);
  for (let i = 0; i < 2500; i++) {
    log("a", `a${i}`);
    if (i % 1000 === 500) log("b", `b${i}`);
    now++;
  }
  assertEquals(written, [
    "a0",
    "b500",
    "a1000 (and 999 more)",
    "b1500",
    "a2000 (and 999 more)",
  ]);
});

Deno.test("LineWriter: writes all lines in order, through partial writes", async () => {
  let written = "";
  const out = new LineWriter({
    write(bytes: Uint8Array) {
      const part = bytes.subarray(0, 3);
      written += new TextDecoder().decode(part);
      return Promise.resolve(part.length);
    },
  });
  out.write("first");
  out.write("second\nand third");
  await out.flush();
  out.write("last");
  await out.flush();
  assertEquals(written, "first\nsecond\nand third\nlast\n");
});

Deno.test("LineWriter: keeps a status line below the others, on a terminal", async () => {
  const written = async (isTerminal: boolean) => {
    let all = "";
    const out = new LineWriter({
      isTerminal: () => isTerminal,
      write(bytes: Uint8Array) {
        all += new TextDecoder().decode(bytes);
        return Promise.resolve(bytes.length);
      },
    });
    for (const step of ["a", "b"]) {
      out.status(`status ${step}`);
      await out.flush();
      out.write(`line ${step}`);
      await out.flush();
    }
    out.status("");
    await out.flush();
    return all;
  };
  const erase = "\r\x1b[K";
  assertEquals(
    await written(true),
    `status a${erase}line a\nstatus a${erase}status b${erase}line b\nstatus b${erase}`,
  );
  assertEquals(await written(false), "line a\nline b\n");
});

Deno.test("LineWriter: continues after an empty status line", async () => {
  const to = sink({ isTerminal: true });
  const out = new LineWriter(to);
  out.status("");
  await out.flush();
  out.writeResult("result");
  await out.flush();
  assertEquals(to.text, "result\n");
});

Deno.test("LineWriter: drops event lines instead of waiting for ever, but no result", async () => {
  const { promise: ready, resolve } = Promise.withResolvers<void>();
  const to = sink({ ready });
  const out = new LineWriter(to);
  const line = "x".repeat(999);
  for (let i = 0; i < 2000; i++) out.write(line);
  out.writeResult("y".repeat(2_000_000));
  resolve();
  await out.flush();
  const [results, lines] = [to.text.match(/y/g)!, to.text.match(/x{999}\n/g)!];
  assertEquals(results.length, 2_000_000);
  assert(lines.length > 1000 && lines.length < 1100, `${lines.length}`);
  // The number of dropped lines is on stderr before the test ends.
  await flushNotes();
});

Deno.test("LineWriter: retries writes to a full non-blocking sink", async () => {
  const to = sink();
  let fails = 2;
  const out = new LineWriter({
    write: (bytes) =>
      fails-- > 0
        ? Promise.reject(new Deno.errors.WouldBlock("full"))
        : to.write(bytes),
  });
  out.write("line");
  await out.flush();
  assertEquals([to.text, fails], ["line\n", -1]);
});

Deno.test("LineWriter: reports a broken pipe once, and writes nothing more", async () => {
  const errors: unknown[] = [];
  const closed = new Deno.errors.BrokenPipe("closed");
  const out = new LineWriter({ write: () => Promise.reject(closed) });
  out.onFailure = (error) => errors.push(error);
  for (let i = 0; i < 2; i++) {
    out.write("line");
    await out.flush();
  }
  assertEquals(errors, [closed]);
});

Deno.test("LineWriter: rejects if results cannot be written", async () => {
  const full = new Error("No space left on device");
  const out = new LineWriter({ write: () => Promise.reject(full) });
  out.writeResult("result");
  await assertRejects(
    () => out.flush(),
    Error,
    "Cannot write the results: No space",
  );
});

Deno.test("LineWriter: writes a line that is added at the end of the last write", async () => {
  // At every number of microtasks after the first line.
  for (let moment = 0; moment < 30; moment++) {
    let text = "";
    const out = new LineWriter({
      write(bytes: Uint8Array) {
        text += new TextDecoder().decode(bytes);
        return Promise.resolve(bytes.length);
      },
    });
    out.write("first");
    for (let i = 0; i < moment; i++) await null;
    out.write("second");
    await out.flush();
    assertEquals(text, "first\nsecond\n", `after ${moment}`);
  }
});

/** A process whose intrinsics other code has changed. */
import { assertEquals } from "@std/assert";
import { ENGINE, Program, programTest, ROOT } from "./helpers.ts";

const REALMS: Record<string, string> = {
  "with polluted prototypes": `
    Object.assign(Object.prototype, { foo: "bar", value: 7, get: () => 1 });
    Array.prototype.extra = 5;
    Function.prototype.extra = 5;`,
  // Without that of Error: Deno's own classes cannot be constructed then.
  "with frozen intrinsics": `
    for (const name of Object.getOwnPropertyNames(globalThis)) {
      if (name === "Error" || !/^[A-Z]/.test(name)) continue;
      const intrinsic = globalThis[name];
      if (typeof intrinsic !== "function") continue;
      Object.freeze(intrinsic.prototype);
      Object.freeze(intrinsic);
    }`,
};

const USES = `
  const engine = "${ENGINE}";
  await using server = lib.serve({ engine, telemetry: false }, lib.echo());
  const { addr } = server;
  const reply = await lib.request(addr, "a", { engine });
  const series = lib.requestMany(addr, "b", { engine, count: 3, intervalMs: 1 });
  for await (const event of series);
  await using client = await lib.connect(addr, { engine, key: (data) => data[0] });
  await client.request("c");
  const gathered = await lib.gather([addr], "d", { engine });
  const load = lib.load(addr, { engine, window: 2, count: 9 });
  for await (const interval of load);
  await using reflector = lib.serve({ engine }, stamp.stampReflector());
  const measured = stamp.measure(reflector.addr, { engine, count: 3, intervalMs: 2 });
  for await (const event of measured);
  const counts = [series, load, measured].map((run) => run.summary().received);
  console.log(reply.text(), gathered.length, ...counts);`;

for (const [realm, code] of Object.entries(REALMS)) {
  programTest(
    `lib/: works in a process ${realm}`,
    async () => {
      const lib = new URL("lib/", ROOT);
      const script = `const lib = await import("${lib}mod.ts");
        const stamp = await import("${lib}stamp/mod.ts");
        ${code}
        ${USES}`;
      await using program = new Program(Deno.execPath(), ["eval", script]);
      const { stdout, stderr } = await program.ended();
      assertEquals([stdout, stderr], ["a 1 3 9 3\n", ""]);
    },
  );
}

programTest(
  "TimeoutError: can be made where Error.prototype is frozen",
  async () => {
    const script = `Object.freeze(Error.prototype);
    const { TimeoutError } = await import("${new URL("lib/mod.ts", ROOT)}");
    const { name, message } = new TimeoutError("No", { attempts: 1, foreign: 0 });
    console.log(name, message);`;
    await using program = new Program(Deno.execPath(), ["eval", script]);
    const { stdout, stderr } = await program.ended();
    assertEquals([stdout, stderr], ["TimeoutError No\n", ""]);
  },
);

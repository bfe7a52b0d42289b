import { assert, assertEquals, assertThrows } from "@std/assert";
import { decode, encode } from "../lib/encoding.ts";
import { request } from "../lib/request.ts";
import { echo } from "../lib/responders.ts";
import { runtimeFor } from "../lib/runtime.ts";
import { serve } from "../lib/serve.ts";
import {
  AF_INET,
  AF_INET6,
  decodeSockaddr,
  encodeSockaddr,
  findControl,
  localControl,
} from "../lib/linux/socket.ts";
import {
  client,
  ENGINE,
  linuxTest,
  netTest,
  Program,
  programTest,
  server,
} from "./helpers.ts";

const hex = (text: string) => Uint8Array.fromHex(text.replaceAll(/\s/g, ""));

const SOCKADDRS: Array<[number, string, number, string]> = [
  [AF_INET, "127.0.0.1", 20001, "0200 4e21 7f000001 0000000000000000"],
  [AF_INET, "255.254.253.252", 65535, "0200 ffff fffefdfc 0000000000000000"],
  [
    AF_INET6,
    "2001:db8::1",
    53,
    "0a00 0035 00000000 20010db8000000000000000000000001 00000000",
  ],
  [AF_INET6, "::", 0, `0a00 0000 00000000 ${"00".repeat(16)} 00000000`],
  [
    AF_INET6,
    "fe80::1%3",
    1,
    "0a00 0001 00000000 fe800000000000000000000000000001 03000000",
  ],
  [
    AF_INET6,
    "192.0.2.1",
    1,
    "0a00 0001 00000000 00000000000000000000ffffc0000201 00000000",
  ],
];

Deno.test("a sockaddr is its bytes, in both directions", () => {
  for (const [family, hostname, port, text] of SOCKADDRS) {
    const bytes = new Uint8Array(32).fill(0xee);
    const length = encodeSockaddr({ hostname, port }, family, bytes);
    assertEquals(bytes.subarray(0, length), hex(text), hostname);
    assertEquals(decodeSockaddr(bytes), { hostname, port });
    // Not only at the start of a batch.
    const batch = new Uint8Array([...new Uint8Array(32), ...bytes]);
    assertEquals(decodeSockaddr(batch, 32), { hostname, port });
  }
});

Deno.test("an IPv4 socket has no IPv6 peers", () => {
  const bytes = new Uint8Array(32);
  assertThrows(
    () => encodeSockaddr({ hostname: "::1", port: 1 }, AF_INET, bytes),
    Error,
    "Address family",
  );
});

// cmsg_len, cmsg_level, cmsg_type, then the data, padded to 8 bytes.
const GRO = "1400000000000000 11000000 68000000 10000000 00000000";
const PKTINFO =
  "1c00000000000000 00000000 08000000 02000000 7f000002 7f000003 00000000";
const PKTINFO6 = "2400000000000000 29000000 32000000 " +
  "20010db8000000000000000000000001 02000000 00000000";

Deno.test("findControl() finds a control message among others", () => {
  const control = hex(PKTINFO + GRO);
  assertEquals(findControl(control, 0, 8), 16);
  assertEquals(findControl(control, 17, 104), 48);
  assertEquals(findControl(control, 17, 103), undefined);
  assertEquals(findControl(new Uint8Array(0), 0, 8), undefined);
  assertEquals(
    findControl(new Uint8Array(40), 0, 0),
    undefined,
    "of no length",
  );
  assertEquals(findControl(control.subarray(0, 15), 0, 8), undefined);
});

Deno.test("localControl() keeps the address asked, and leaves the interface open", () => {
  const v4 = localControl(hex(GRO + PKTINFO))!;
  assertEquals(
    v4,
    hex(PKTINFO.replace("02000000 7f000002", "00000000 7f000002")),
  );
  const v6 = localControl(hex(PKTINFO6))!;
  assertEquals(
    v6,
    hex(PKTINFO6.replace("02000000 00000000", "00000000 00000000")),
  );
  const linkLocal = PKTINFO6.replace("20010db8", "fe800000");
  assertEquals(localControl(hex(linkLocal)), hex(linkLocal));
  assertEquals(localControl(hex(GRO)), undefined);
});

linuxTest(
  "a wildcard server answers from the address that was asked",
  async () => {
    for (const hostname of ["0.0.0.0", "::"]) {
      await using running = serve({ hostname, engine: "linux" }, echo());
      const { port } = running.addr;
      // A client only takes a reply from the address that it asked.
      for (const asked of ["127.0.0.1", "127.0.0.2", "127.1.2.3"]) {
        const { data } = await request({ hostname: asked, port }, "x");
        assertEquals(decode(data), "x");
      }
    }
  },
);

linuxTest(
  "datagrams of one flow, put together or not, stay what they are",
  async () => {
    // Asynchronous for some, so that buffers are kept while others come.
    await using running = serve({ engine: "linux" }, (data) => {
      if (data.length % 3 !== 0) return data;
      return new Promise((resolve) => setTimeout(() => resolve(data), 1));
    });
    const socket = runtimeFor("linux").open({
      hostname: "127.0.0.1",
      port: 0,
      maxDatagramBytes: 65_507,
    });
    const want = new Map<string, number>();
    let missing = 0;
    const all = Promise.withResolvers<void>();
    const done = socket.start({
      onDatagram(datagram) {
        const text = decode(datagram.data)!;
        want.set(text, want.get(text)! - 1);
        socket.release(datagram);
        if (--missing === 0) all.resolve();
      },
    });
    for (let i = 0; i < 200; i++) {
      const text = `${i} `.padEnd(i % 7 === 0 ? 1000 + i : 16, "x");
      want.set(text, 1);
      missing++;
      await socket.send(encode(text), running.addr);
    }
    await all.promise;
    assertEquals([...want.values()].filter((count) => count !== 0), []);
    socket.close();
    await done;
    await running.shutdown();
    const { received, replied } = running.stats();
    assertEquals([received, replied], [200, 200]);
  },
);

if (ENGINE === "linux") {
  programTest(
    "datagrams that came as one are handed out as they were sent",
    async () => {
      // Every third is kept while others come, every third answered later.
      const gate = Promise.withResolvers<void>();
      await using running = serve({ engine: "linux" }, (data) => {
        const seq = Number(decode(data)!.slice(0, 4));
        if (seq % 3 === 0) return gate.promise.then(() => data);
        if (seq === 40) gate.resolve();
        return seq % 3 === 1 ? data : Promise.resolve(data);
      });
      for (const size of [16, 1400]) {
        const args = [`${running.addr.port}`, "41", `${size}`];
        await using peer = new Program("python3", [
          "tests/peers/segmented.py",
          ...args,
        ]);
        const { stdout, stderr } = await peer.ended();
        assertEquals([stdout, stderr], ["alike\n", ""]);
      }
    },
    ["python3"],
  );
}

linuxTest(
  "timers, async handlers and aborts go on beside a busy server",
  async () => {
    const controller = new AbortController();
    const running = serve(
      { engine: "linux", signal: controller.signal },
      echo(),
    );
    const socket = runtimeFor("linux").open({
      hostname: "127.0.0.1",
      port: 0,
      maxDatagramBytes: 100,
    });
    const done = socket.start({
      onDatagram(datagram) {
        socket.send(datagram.data, running.addr).catch(() => {});
        socket.release(datagram);
      },
    });
    // One datagram goes round and round; its payload differs for the guard.
    await socket.send(encode("go"), running.addr);
    let ticks = 0;
    const timer = setInterval(() => {
      if (++ticks === 20) controller.abort();
    }, 1);
    await running.finished;
    clearInterval(timer);
    socket.close();
    await done;
    assert(running.stats().replied > 0);
  },
);

programTest(
  "unref() lets the process end while a server is running",
  async () => {
    const code = `import { echo, serve } from "./lib/mod.ts";
    const server = serve({ engine: "${ENGINE}" }, echo());
    setTimeout(() => server.unref(), 20);`;
    await using program = new Program(Deno.execPath(), ["eval", code]);
    const { code: exitCode, stderr } = await program.ended();
    assertEquals([exitCode, stderr], [0, ""]);
  },
);

netTest(
  "a server answers whether or not it keeps the process alive",
  async () => {
    await using running = serve({ engine: ENGINE }, echo());
    for (const change of ["unref", "ref"] as const) {
      running[change]();
      const { data } = await request(running.addr, change);
      assertEquals(decode(data), change);
    }
  },
);

linuxTest(
  "--workers answer on one port, and add up what they counted",
  async () => {
    await using s = server(["-p", "0", "--workers", "2", "--json"]);
    const target = `127.0.0.1:${JSON.parse(await s.line()).port}`;
    const args = [target, "-c", "40", "-i", "0", "--json"];
    const { received } = JSON.parse((await client(args)).stdout);
    assertEquals(received, 40);
    s.kill("SIGTERM");
    const { code, stdout } = await s.ended();
    assertEquals(code, 0);
    const summary = JSON.parse(stdout.trim().split("\n").at(-1)!);
    assertEquals([summary.received, summary.replied], [40, 40]);
  },
);

linuxTest("--workers says what does not go with it", async () => {
  const cases: Array<[string[], string]> = [
    [["--engine", "deno"], "--workers needs --engine linux"],
    [["--count", "1"], "--workers and --count exclude each other"],
    [["--host", "192.0.2.1"], "Cannot bind 192.0.2.1:20001"],
  ];
  for (const [args, message] of cases) {
    await using s = server(["--workers", "2", ...args]);
    const { code, stderr } = await s.ended();
    assertEquals(code, 2);
    assert(stderr.includes(message) && stderr.split("\n").length === 2, stderr);
  }
});

import { assert, assertEquals, assertRejects } from "@std/assert";
import type { UdpAddress } from "../../../lib/address.ts";
import { decode, encode } from "../../../lib/encoding.ts";
import { TimeoutError } from "../../../lib/client/reply.ts";
import { request } from "../../../lib/client/request.ts";
import { echo } from "../../../lib/server/responders.ts";
import { runtimeFor } from "../../../lib/socket/runtime.ts";
import { serve } from "../../../lib/server/serve.ts";
import {
  client,
  ENGINE,
  linuxTest,
  netTest,
  Program,
  programTest,
  ROOT,
  server,
} from "../../helpers.ts";

linuxTest(
  "serve(): a wildcard server answers from the address asked",
  async () => {
    for (const hostname of ["0.0.0.0", "::"]) {
      await using running = serve({ hostname, engine: "linux" }, echo());
      const { port } = running.addr;
      // A client only accepts a reply from the target's address.
      for (const asked of ["127.0.0.1", "127.0.0.2", "127.1.2.3"]) {
        const { data } = await request({ hostname: asked, port }, "x");
        assertEquals(decode(data), "x");
      }
    }
  },
);

linuxTest("serve(): a handler may transfer its data", async () => {
  const { port1, port2 } = new MessageChannel();
  await using running = serve({ engine: "linux" }, (data) => {
    if (data[0] === 0x74) data.buffer.transfer();
    else if (data[0] === 0x70) port1.postMessage(data, [data.buffer]);
    else return data;
  });
  for (let i = 0; i < 70; i++) {
    const options = { timeoutMs: 2, retries: 0 };
    const payload = i % 2 === 0 ? "transfer" : "post";
    await assertRejects(
      () => request(running.addr, payload, options),
      TimeoutError,
    );
  }
  assertEquals(decode((await request(running.addr, "next")).data), "next");
  port1.close();
  port2.close();
});

if (ENGINE === "linux") {
  programTest(
    "LinuxSocket: a terminated worker leaves nothing open",
    async () => {
      let port = 0;
      for (let i = 0; i < 3; i++) {
        const code = `
        import { echo, serve } from "${new URL("lib/mod.ts", ROOT)}";
        const server = serve({ engine: "linux", port: ${port} }, echo());
        postMessage(server.addr.port);`;
        const worker = new Worker(
          `data:application/typescript,${encodeURIComponent(code)}`,
          { type: "module" },
        );
        port = await new Promise<number>((resolve) =>
          worker.onmessage = ({ data }) => resolve(data)
        );
        const { data } = await request({ hostname: "127.0.0.1", port }, "x");
        assertEquals(decode(data), "x");
        worker.terminate();
        // Its port is free again: the next one binds it.
      }
    },
  );
}

linuxTest(
  "serve(): datagrams of one flow are unchanged, coalesced or not",
  async () => {
    // Some answers are asynchronous, so that buffers are held while datagrams
    // arrive.
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
    "Delivery: splits coalesced datagrams as they were sent",
    async () => {
      // Every third datagram is held while others arrive, every third answered
      // later.
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
  "serve(): timers, asynchronous handlers and aborts run beside a busy server",
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
    // One datagram circulates; its payload changes, for the guard.
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

netTest(
  "serve(): answers whether or not it keeps the process alive",
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
  "server --workers: answer on one port, and add up their counts",
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

linuxTest("server --workers: names the flags that exclude it", async () => {
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

linuxTest(
  "server --workers: reports that it must read its own code",
  async () => {
    const flags = ["run", "--allow-net", "--allow-ffi", "server.ts"];
    await using s = new Program(Deno.execPath(), [
      ...flags,
      ...["-p", "0", "--workers", "2"],
    ]);
    const { code, stderr } = await s.ended();
    assertEquals([code, stderr], [
      2,
      "server: Cannot start workers: run 'deno task server-linux', or add --allow-read\n",
    ]);
  },
);

linuxTest("server --workers: report their counts while they run", async () => {
  const args = ["-p", "0", "--workers", "2", "--json", "-q"];
  await using s = server([...args, "--report", "100ms"]);
  const { port } = JSON.parse(await s.line());
  for (let i = 0; i < 4; i++) await client([`127.0.0.1:${port}`]);
  let received = 0;
  while (received < 4) {
    const { type, ...interval } = JSON.parse(await s.line());
    assertEquals(type, "interval");
    received += interval.received;
  }
  s.kill("SIGUSR2");
  // Both workers answer.
  for (let i = 0; i < 3; i++) await s.line();
  s.kill("SIGTERM");
  const { stdout, stderr } = await s.ended();
  assertEquals(stderr, "4 received, 4 replied\n");
  assertEquals(JSON.parse(stdout.trim().split("\n").at(-1)!).received, 4);
});

linuxTest(
  "server --workers: can be stopped as soon as they report that they listen",
  async () => {
    for (let i = 0; i < 5; i++) {
      await using s = server(["-p", "0", "--workers", "3", "-q"]);
      await s.line();
      s.kill("SIGTERM");
      const { code, stderr } = await s.ended();
      assertEquals([code, stderr], [0, "0 received, 0 replied\n"]);
    }
  },
);

linuxTest("server --workers: have no rate limit on localhost", async () => {
  const args = ["-p", "0", "--workers", "2", "--json", "-q"];
  await using s = server([...args, "--host", "localhost"]);
  const address = JSON.parse(await s.line());
  const socket = runtimeFor("linux").open({
    hostname: address.hostname,
    port: 0,
    maxDatagramBytes: 100,
  });
  // More at once than the limit elsewhere lets through.
  for (let i = 0; i < 3000; i++) {
    await socket.send(encode("x"), address);
    // At most the capacity of the receive buffers.
    if (i % 100 === 0) await request(address, "y", { retries: 9 });
  }
  socket.close();
  s.kill("SIGTERM");
  const { stdout } = await s.ended();
  const summary = JSON.parse(stdout.trim().split("\n").at(-1)!);
  assert(summary.replied > 1000, JSON.stringify(summary));
  assertEquals(summary.refused.rate, 0);
});

linuxTest(
  "server --engine: names the engine, and the reason where it is not linux",
  async () => {
    await using named = server(["-p", "0", "-q"]);
    assert((await named.line()).endsWith(" (linux engine)"));
    const permissions = ["--allow-net", "--no-prompt"];
    const args = ["-p", "0", "--json", "-c", "1", "--engine", "auto"];
    await using s = server(args, permissions);
    const { engine, port } = JSON.parse(await s.line());
    assertEquals(engine, "deno");
    await client([`127.0.0.1:${port}`]);
    const { code, stderr } = await s.ended();
    const why = "server: no linux engine: it needs permission to use FFI: " +
      "run with --allow-ffi\n";
    assertEquals([code, stderr], [0, why]);
  },
);

linuxTest(
  "LinuxSocket: does not bypass --allow-net and --deny-net",
  async () => {
    const free = serve({}, echo());
    const { port } = free.addr;
    await free.shutdown();
    const ffi = ["--allow-ffi", "--no-prompt"];
    const here = `127.0.0.1:${port}`;
    const refused: Array<[string, string[]]> = [
      ["localhost", ["--allow-net", "--deny-net=127.0.0.1"]],
      ["127.0.0.1", ["--allow-net=127.0.0.2"]],
      ["127.0.0.1", [`--allow-net=127.0.0.1:${port - 1}`]],
    ];
    for (const [host, permissions] of refused) {
      const args = ["--host", host, "-p", `${port}`];
      await using s = server(args, [...permissions, ...ffi]);
      const { code, stderr } = await s.ended();
      assertEquals(code, 2);
      assert(stderr.includes("Requires net access"), stderr);
    }
    for (const host of ["127.0.0.1", "localhost"]) {
      const granted = `${host}:${port},127.0.0.1`;
      const permissions = [`--allow-net=${granted}`, ...ffi];
      const args = ["--host", host, "-p", `${port}`, "-c", "1", "-q"];
      await using s = server(args, permissions);
      await s.line();
      assertEquals((await client([here])).code, 0);
      assertEquals((await s.ended()).code, 0);
    }
    const permissions = ["--allow-net", `--deny-net=${here}`, ...ffi];
    const { code, stderr } = await client([here], { permissions });
    assertEquals(code, 2);
    assert(stderr.includes("Requires net access"), stderr);
  },
);

linuxTest(
  "server --workers: keep their counts if stdout is not read",
  async () => {
    await using s = server(["-p", "0", "--workers", "2", "--json"]);
    const address = JSON.parse(await s.line());
    const socket = runtimeFor("linux").open({
      hostname: "127.0.0.1",
      port: 0,
      maxDatagramBytes: 100,
    });
    let replies = 0;
    const enough = Promise.withResolvers<void>();
    const done = socket.start({
      onDatagram(datagram) {
        socket.release(datagram);
        if (++replies === 20_000) enough.resolve();
      },
    });
    for (let i = 0; replies < 20_000; i++) {
      await socket.send(encode("some text for the line"), address);
      if (i % 20 === 0) await new Promise((turn) => setTimeout(turn));
    }
    await enough.promise;
    socket.close();
    await done;
    s.kill("SIGTERM");
    const { code, stdout, stderr } = await s.ended();
    const { type, received, replied } = JSON.parse(
      stdout.trim().split("\n").at(-1)!,
    );
    assertEquals([code, type], [0, "summary"]);
    assert(received >= replied && replied >= 20_000, `${received}, ${replied}`);
    assert(stderr.includes("left out"), stderr);
  },
);

linuxTest(
  "LinuxSocket: a failed send does not affect the next one",
  async () => {
    const heard: string[] = [];
    const all = Promise.withResolvers<void>();
    await using running = serve((data) => {
      heard.push(decode(data)!);
      if (heard.length === 2) all.resolve();
    });
    const socket = runtimeFor("linux").open({
      hostname: "127.0.0.1",
      port: 0,
      maxDatagramBytes: 100,
      isBusy: true,
    });
    const to = running.addr;
    await socket.send(encode("first"), to);
    const wrong: Array<[Uint8Array, UdpAddress, string]> = [
      [new Uint8Array(65_528), to, "Message too long"],
      [new Uint8Array(65_508), to, "Message too long"],
      [encode("x"), { ...to, hostname: "localhost" }, "it is no IP address"],
      [encode("x"), { ...to, hostname: "::1" }, "Address family not supported"],
    ];
    for (const [payload, address, message] of wrong) {
      await assertRejects(() => socket.send(payload, address), Error, message);
    }
    await socket.send(encode("second"), to);
    await all.promise;
    assertEquals(heard, ["first", "second"]);
    socket.close();
    await assertRejects(
      () => socket.send(encode("x"), to),
      Deno.errors.BadResource,
    );
  },
);

linuxTest(
  "receiveBufferBytes: a larger buffer drops less, and drops are counted",
  async () => {
    const dropsWith = async (receiveBufferBytes: number) => {
      await using server = serve(
        { engine: "linux", receiveBufferBytes, quiet: true },
        (data) => data.length > 1 ? data : undefined,
      );
      await using sender = serve({ engine: "linux" }, () => {});
      await sender.sendMany("x", Array(3000).fill(server.addr));
      // Answered when all earlier datagrams were received or dropped.
      await request(server.addr, "end", { retries: 9 });
      return server.stats().kernelDrops!;
    };
    const [small, large] = [await dropsWith(4096), await dropsWith(8 << 20)];
    assert(small > 0 && large < small, `${small} ${large}`);
  },
);

linuxTest(
  "LinuxSocket: closes while another socket is busy and waits for it",
  async () => {
    const closing = serve({ engine: "linux" }, () => {});
    let closed: Promise<void> | undefined;
    await using busy = serve({ engine: "linux" }, async () => {
      closed ??= closing.shutdown();
      await null;
      return "closing";
    });
    await request(busy.addr, "x");
    await closed;
    assertEquals(closing.stats().received, 0);
  },
);

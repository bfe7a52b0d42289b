/**
 * The conformance suite of a socket, and of the clients on it, in namespaces: routes,
 * links, addresses and ICMP messages, on both engines.
 */
import { assertEquals } from "@std/assert";
import { Program } from "../helpers.ts";
import {
  ANSWERING,
  ASKING,
  cabled,
  inHost,
  ip,
  namespaceTest,
  run,
  SERVER,
} from "../namespaces.ts";

namespaceTest(
  "request(): a zone is the name of an interface, or its number",
  async () => {
    await using _cable = await cabled();
    await using server = run(ANSWERING, SERVER);
    const port = await server.line();
    await using client = run(
      ASKING,
      `import { request } from "./lib/mod.ts";
    for (const zone of ["wire0", "2"]) {
      const address = "[fe80::2%" + zone + "]:${port}";
      const options = { engine: "linux", timeoutMs: 5000 };
      console.log((await request(address, "x", options)).attempts);
    }`,
    );
    const { stdout, stderr } = await client.ended();
    assertEquals([stdout, stderr], ["1\n1\n", ""]);
  },
);

namespaceTest(
  "openSocket(), serve(): a zone of a push is the name of an interface",
  async () => {
    await using _cable = await cabled();
    // The other interface that groups could leave by is the first one.
    await using receiver = run(
      ANSWERING,
      `import { openSocket } from "./lib/mod.ts";
      openSocket({ hostname: "::", port: 5000, groups: ["ff02::123"],
        interface: "wire1" },
        ({ data }) => console.log(new TextDecoder().decode(data)));
      console.log("listening");`,
    );
    await receiver.line();
    const other = ["a0", "type", "veth", "peer", "name", "a1"];
    await ip("-n", ASKING, "link", "add", ...other);
    await ip("-n", ASKING, "link", "set", "a0", "up");
    await using client = run(
      ASKING,
      `import { connect, openSocket, request, serve } from "./lib/mod.ts";
      for (const engine of ["deno", "linux"]) {
        const socket = openSocket({ hostname: "::", engine, onError() {} },
          () => {});
        const server = serve({ hostname: "::", engine }, () => {});
        for (const zone of ["wire0", "2"]) {
          for (const host of ["ff02::123", "fe80::2"]) {
            await socket.send("socket", "[" + host + "%" + zone + "]:5000");
            await server.send("server", "[" + host + "%" + zone + "]:5000");
          }
        }
        await socket.send("?", "[fe80::2%no]:5000")
          .catch(({ message }) => console.log(message));
        await socket.close();
        await server.shutdown();
      }
      const options = { engine: "linux" };
      for (const ask of [request, connect]) {
        await ask("[fe80::2]:5000", ask === connect ? options : "?", options)
          .catch(({ message }) => console.log(message));
      }`,
    );
    const { stdout, stderr } = await client.ended();
    const needed =
      "Cannot send to [fe80::2]:5000: a link-local address needs a zone, such as fe80::2%eth0\n";
    assertEquals(
      stdout.split("\n").slice(1).join("\n"),
      `There is no interface 'no'\n${needed}${needed}`,
    );
    assertEquals(stderr, "");
    for (let i = 0; i < 16; i++) {
      assertEquals(await receiver.line(), i % 2 === 0 ? "socket" : "server");
    }
  },
);

namespaceTest(
  "serve(): answers a datagram to a group from an address of this machine",
  async () => {
    await using _cable = await cabled();
    await using server = run(
      ANSWERING,
      `import { echo, serve } from "./lib/mod.ts";
      const server = serve({ groups: ["ff02::1"], interface: "wire1",
        engine: "linux" }, echo());
      console.log(server.addr.port);`,
    );
    const port = await server.line();
    const groups = ["10.0.0.255", "255.255.255.255", "ff02::1%wire0"];
    await using client = run(
      ASKING,
      `setTimeout(() => Deno.exit(3), 10_000);
    for (const group of ${JSON.stringify(groups)}) {
      const hostname = group.includes(":") ? "::" : "10.0.0.1";
      const socket = Deno.listenDatagram({ transport: "udp", hostname, port: 0 });
      const to = { transport: "udp", hostname: group, port: ${port} };
      await socket.send(new Uint8Array(1), to);
      console.log((await socket.receive())[1].hostname);
      socket.close();
    }
    Deno.exit();`,
    );
    const { stdout, stderr } = await client.ended();
    assertEquals([stdout, stderr], ["10.0.0.2\n10.0.0.2\nfe80::2\n", ""]);
  },
);

namespaceTest(
  "gather(): receives replies of a group's members, and of a broadcast's receivers",
  async () => {
    await using _cable = await cabled();
    await using member = run(
      ANSWERING,
      `import { serve } from "./lib/mod.ts";
      serve({ port: 5000, groups: ["239.1.2.3"], interface: "wire1" }, (d) => d);
      serve({ port: 5001, engine: "linux", groups: ["239.1.2.3", "ff02::123"],
        interface: "wire1" }, (d) => d);
      console.log("listening");`,
    );
    await member.line();
    await using asking = run(
      ASKING,
      `import { gather } from "./lib/mod.ts";
      for (const engine of ["deno", "linux"]) {
        const options = { engine, maxReplies: 1, timeoutMs: 5000 };
        for (const host of ["239.1.2.3", "10.0.0.255", "255.255.255.255"]) {
          for (const port of [5000, 5001]) {
            const [reply] = await gather(host + ":" + port, host, {
              ...options, localHostname: "10.0.0.1" });
            console.log(reply.text(), reply.remoteAddr.hostname);
          }
        }
        const group = "[ff02::123%wire0]:5001";
        const [reply] = await gather(group, "six", options);
        console.log(reply.text(), reply.remoteAddr.hostname.split("%")[0]);
      }`,
    );
    const { stdout, stderr } = await asking.ended();
    const heard = ["239.1.2.3", "10.0.0.255", "255.255.255.255"]
      .map((host) => `${host} 10.0.0.2\n`.repeat(2)).join("") +
      "six fe80::2\n";
    assertEquals([stdout, stderr], [heard + heard, ""]);
  },
);

namespaceTest(
  "gather(): leaves by an interface, reaches its own machine or not, and crosses no router",
  async () => {
    await using _cable = await cabled();
    const member = `import { openSocket, serve } from "./lib/mod.ts";
      for (const [engine, port] of [["deno", 5000], ["linux", 5001]]) {
        serve({ port, engine, groups: ["239.1.2.3", "ff02::123"],
          interface: NAME, groupDelayMs: 5 }, (_, { reply }) => {
            reply("beside");
            return NAME;
          });
      }
      // As a router would see it.
      openSocket({ port: 6000, engine: "linux", packetInfo: true,
        groups: ["239.1.2.3"], interface: NAME },
        ({ ttl, data }) => console.log("ttl", ttl, data[0]));
      console.log("listening");`;
    await using there = run(ANSWERING, `const NAME = "wire1";${member}`);
    await there.line();
    await using here = run(ASKING, `const NAME = "wire0";${member}`);
    await here.line();
    await using asking = run(
      ASKING,
      `import { gather, openSocket } from "./lib/mod.ts";
      for (const engine of ["deno", "linux"]) {
        const options = { engine, interface: "wire0" };
        for (const loopback of [true, false]) {
          for (const group of ["239.1.2.3", "[ff02::123]"]) {
            const port = engine === "deno" ? 5000 : 5001;
            // All four responders, or those of the other host and no others.
            const until = loopback
              ? { maxReplies: 4, timeoutMs: 9000 }
              : { timeoutMs: 1000 };
            const replies = await gather(group + ":" + port, "who?",
              { ...options, ...until, loopback, every: true });
            console.log(replies.map((reply) => reply.text()).sort().join());
          }
        }
        for (const multicastTtl of [undefined, 9]) {
          const to = "239.1.2.3:6000";
          await gather(to, new Uint8Array([multicastTtl ?? 0]),
            { ...options, multicastTtl, loopback: false, timeoutMs: 50 });
        }
      }
      const heard = Promise.withResolvers();
      const group = { port: 6001, groups: ["239.1.2.3"], interface: "wire0" };
      const hearing = openSocket(group, ({ data }) => heard.resolve(data[0]));
      const how = { groups: ["239.9.9.9"], interface: "wire0", engine: "linux" };
      for (const loopback of [false, true]) {
        const socket = openSocket({ ...how, loopback }, () => {});
        await socket.send(new Uint8Array([loopback]), "239.1.2.3:6001");
        await socket.close();
      }
      console.log("heard", await heard.promise);
      await hearing.close();
      for (const dontFragment of [false, true]) {
        const socket = openSocket({ dontFragment, engine: "linux" }, () => {});
        const sent = socket.send(new Uint8Array(1473), "10.0.0.2:9");
        console.log(await sent.then(() => "sent", ({ message }) => message));
        await socket.close();
      }`,
    );
    const { stdout, stderr } = await asking.ended();
    const both = "beside,beside,wire0,wire1\n";
    const one = "beside,wire1\n";
    assertEquals(
      [stdout, stderr],
      [
        (both + both + one + one).repeat(2) + "heard 1\n" +
        "sent\nMessage too long (os error 90)\n",
        "UDP socket: Error: Cannot send to 10.0.0.2:9: " +
        "Message too long (os error 90)\n",
      ],
    );
    const ttls = [];
    while (ttls.length < 4) ttls.push(await there.line());
    assertEquals(ttls, ["ttl 1 0", "ttl 9 9", "ttl 1 0", "ttl 9 9"]);
  },
);

/** ICMP messages: type, code, and the number in the header. */
const ICMP = [
  ...Array.from(
    { length: 16 },
    (_, code) => `3 ${code} ${code === 4 ? 1400 : 0}`,
  ),
  ...["4 0 9", "11 0 0", "11 1 0", "12 0 0"],
];
const ICMPV6 = [
  ...Array.from({ length: 7 }, (_, code) => `1 ${code} 0`),
  ...["2 0 1400", "3 0 0", "3 1 0", "4 0 0", "4 1 0", "4 2 0"],
];
const CLOSED_PORT = ["3 3 0", "1 4 0"];
/** Source quench and a time-out of fragments, reported to no socket by Linux. */
const UNREPORTED = ["4 0 9", "11 1 0"];

namespaceTest(
  "DatagramSocket: no ICMP message ends a socket; a closed port ends a request, and others are its cause",
  async () => {
    await using _cable = await cabled();
    const peers = ["10.0.0.2", "fd00::2"].map((host) =>
      inHost(ANSWERING, "python3", "tests/peers/icmp.py", host, "5000")
    );
    await using _one = peers[0]!;
    await using _two = peers[1]!;
    for (const peer of peers) await peer.line();
    await using client = run(
      ASKING,
      `import { connect, openSocket, request } from "./lib/mod.ts";
      const outcome = ({ attempts, cause, message }) =>
        cause === undefined ? attempts + " " + message.slice(-13)
          : attempts + " " + cause.message;
      for (const engine of ["deno", "linux"]) {
        for (const [host, kinds] of ${
        JSON.stringify([["10.0.0.2", ICMP], ["[fd00::2]", ICMPV6]])
      }) {
          const to = host + ":5000";
          const options = { engine, retries: 1, timeoutMs: 30 };
          const client = await connect(to, options);
          const heard = Promise.withResolvers();
          const socket = openSocket({ hostname: "::", engine },
            ({ data }) => heard.resolve(new TextDecoder().decode(data)));
          for (const kind of kinds) {
            for (let i = 0; i < 20; i++) {
              await socket.send(kind, to);
              await client.send(kind);
            }
            const asked = [request(to, kind, options), client.request(kind)];
            const all = await Promise.all(asked.map((one) =>
              one.catch(outcome)));
            console.log(engine, kind, "|", all.join(" | "));
          }
          await socket.send("socket", to);
          const echo = await client.request("client", { timeoutMs: 5000 });
          const again = await request(to, "request", { engine });
          console.log(await heard.promise, echo.text(), again.text());
          await client.close();
          await socket.close();
        }
      }`,
    );
    const { stdout, stderr } = await client.ended();
    assertEquals(stderr, "");
    const lines = stdout.trimEnd().split("\n");
    for (const engine of ["deno", "linux"]) {
      for (const kinds of [ICMP, ICMPV6]) {
        for (const kind of kinds) {
          const [name, ...outcomes] = lines.shift()!.split(" | ");
          assertEquals(name, `${engine} ${kind}`);
          const [type, code] = kind.split(" ");
          const wanted = engine === "deno" || UNREPORTED.includes(kind)
            ? "2 wall, or loss"
            : CLOSED_PORT.includes(kind)
            ? "1 Connection refused (os error 111)"
            : `2 (ICMP type ${type}, code ${code}`;
          for (const outcome of outcomes) {
            const [attempts, icmp] = [outcome[0], /\(ICMP [^,]*, code \d+/];
            const found = icmp.exec(outcome)?.[0];
            assertEquals(
              found ? `${attempts} ${found}` : outcome,
              wanted,
              kind,
            );
          }
          assertEquals(outcomes.length, 2);
        }
        assertEquals(lines.shift(), "socket client request");
      }
    }
    assertEquals(lines, []);
  },
  "python3",
);

namespaceTest(
  "request(), requestMany(), connect(): survive a moment without a route, a filter, and a full queue",
  async () => {
    await using _cable = await cabled();
    await using server = run(ANSWERING, SERVER);
    const port = await server.line();
    const target = JSON.stringify(`10.0.0.2:${port}`);
    await using client = run(
      ASKING,
      `import { connect, request, requestMany } from "./lib/mod.ts";
      const down = "ip link set wire0 down";
      const up = "ip link set wire0 up; ip route replace default dev wire0";
      const drop = "nft 'table ip f { chain o { type filter hook output " +
        "priority 0; udp dport ${port} drop; }; }'";
      const full = "tc qdisc add dev wire0 root tbf rate 1kbit burst 10 limit 10";
      for (const engine of ["deno", "linux"]) {
        const options = { engine, timeoutMs: 200, retries: 6 };
        const client = await connect(${target}, options);
        const troubles = [[down, up], [drop, "nft delete table ip f"]];
        // Deno's own socket is not informed of a full queue.
        if (engine === "linux") troubles.push([full, "tc qdisc del dev wire0 root"]);
        for (const [fail, heal] of troubles) {
          const text = ({ attempts }) => attempts > 1 ? "healed" : "?";
          sh(fail);
          const all = Promise.all([request(${target}, "x", options),
            client.request("y")]);
          const events = [];
          const series = requestMany(${target}, "z",
            { engine, count: 1000, intervalMs: 20, timeoutMs: 2000 });
          for await (const { type } of series) {
            events.push(type);
            if (events.length === 2) sh(heal);
            if (type === "reply") break;
          }
          const ends = [...events.slice(0, 2), events.at(-1)];
          console.log(engine, (await all).map(text).join(), ends.join());
        }
        await client.close();
      }`,
    );
    const { stdout, stderr } = await client.ended();
    const lines = ["deno", "linux"].map((engine) =>
      `${engine} healed,healed error,error,reply\n`.repeat(
        engine === "deno" ? 2 : 3,
      )
    );
    assertEquals([stdout, stderr], [lines.join(""), ""]);
  },
  "nft",
);

const CHANGE = `ip addr add 10.0.0.3/32 dev wire0
  ip addr del 10.0.0.1/24 dev wire0
  ip route replace default dev wire0`;
const RESTORE = `ip addr add 10.0.0.1/24 dev wire0
  ip addr del 10.0.0.3/32 dev wire0
  ip route replace default dev wire0`;
const DOWN = "ip link set wire0 down";
const UP = "ip link set wire0 up; ip route replace default dev wire0";

namespaceTest(
  "connect(), load(), measure(), requestMany(), request(): continue over a link flap and a change of this machine's address",
  async () => {
    await using _cable = await cabled();
    await using server = run(ANSWERING, SERVER);
    const port = await server.line();
    await using reflector = run(
      ANSWERING,
      `import { serve } from "./lib/mod.ts";
      import { stampReflector } from "./lib/stamp/mod.ts";
      serve({ hostname: "0.0.0.0", port: 5862 }, stampReflector());
      console.log("listening");`,
    );
    await reflector.line();
    await using client = run(
      ASKING,
      `import { connect, load, request, requestMany } from "./lib/mod.ts";
      import { measure } from "./lib/stamp/mod.ts";
      const to = "10.0.0.2:${port}";
      const troubles = ${JSON.stringify([[CHANGE, RESTORE], [DOWN, UP]])};
      // Ten replies after the trouble are more than were in flight before.
      const follow = async (run, isGood) => {
        let good = 0;
        for await (const event of run) {
          if (!isGood(event)) continue;
          if (++good === 1) {
            sh(trouble);
            if (trouble === down) setTimeout(() => sh(heal), 100);
          } else if (good > 10) run.stop();
        }
        if (trouble !== down) sh(heal);
        return good > 10;
      };
      const down = ${JSON.stringify(DOWN)};
      let trouble, heal;
      for (const engine of ["deno", "linux"]) {
        for ([trouble, heal] of troubles) {
          const client = await connect(to, { engine, timeoutMs: 200, retries: 9 });
          const all = [(await client.request("a")).text()];
          let replies = 0;
          const change = (attempt) => {
            if (attempt === 2) sh(trouble);
            if (attempt === 3 && trouble === down) sh(heal);
            return "c";
          };
          // The first reply is ignored, so that there is a second attempt.
          const match = () => replies++ > 0;
          await request(to, change, { engine, timeoutMs: 100, retries: 9, match });
          all.push((await client.request("b")).text());
          await client.close();
          if (trouble !== down) sh(heal);
          all.push(await follow(
            requestMany(to, "x", { engine, count: 500, intervalMs: 20,
              timeoutMs: 100 }),
            ({ type }) => type === "reply"));
          all.push(await follow(
            load(to, { engine, rate: 200, reportMs: 40, timeoutMs: 100,
              durationMs: 9000 }),
            ({ received }) => received > 0));
          all.push(await follow(
            measure("10.0.0.2:5862", { engine, count: 500, intervalMs: 20,
              timeoutMs: 100 }),
            ({ type }) => type === "reply"));
          console.log(engine, all.join());
        }
      }`,
    );
    const { stdout, stderr } = await client.ended();
    const lines = ["deno", "linux"].map((engine) =>
      `${engine} a,b,true,true,true\n`.repeat(2)
    );
    assertEquals([stdout, stderr], [lines.join(""), ""]);
  },
);

namespaceTest(
  "request(), connect(): a socket that was opened without a route reports a closed port later",
  async () => {
    await using _cable = await cabled();
    await using client = run(
      ASKING,
      `import { connect, request } from "./lib/mod.ts";
      const options = { engine: "linux", timeoutMs: 50, retries: 9 };
      sh("ip link set wire0 down");
      const client = await connect("10.0.0.2:5999", options);
      const up = (attempt) => {
        if (attempt === 2) sh("ip link set wire0 up; ip route replace default dev wire0");
        return "x";
      };
      const asked = [request("10.0.0.2:5999", up, options), client.request("y")]
        .map((one) => one.catch(({ cause, attempts }) =>
          cause.name + " " + (attempts < 10)));
      for (const outcome of await Promise.all(asked)) console.log(outcome);
      await client.close();`,
    );
    const { stdout, stderr } = await client.ended();
    assertEquals([stdout, stderr], ["ConnectionRefused true\n".repeat(2), ""]);
  },
);

namespaceTest(
  "connect(): a machine whose only IPv6 address is link-local is no obstacle",
  async () => {
    await using _cable = await cabled();
    await using server = run(ANSWERING, SERVER);
    const port = await server.line();
    await ip("-n", ASKING, "addr", "del", "fd00::1/64", "dev", "wire0");
    await ip("-n", ASKING, "route", "add", "fd00::/64", "dev", "wire0");
    await using client = run(
      ASKING,
      `import { connect, request } from "./lib/mod.ts";
      for (const engine of ["deno", "linux"]) {
        const to = "[fd00::2]:${port}";
        const client = await connect(to, { engine, timeoutMs: 5000 });
        console.log((await client.request("connected")).text());
        await client.close();
        console.log((await request(to, "alone", { engine })).text());
      }`,
    );
    const { stdout, stderr } = await client.ended();
    assertEquals([stdout, stderr], ["connected\nalone\n".repeat(2), ""]);
  },
);

namespaceTest(
  "DatagramSocket: datagrams leave in the order of the calls while the send buffer is full",
  async () => {
    await using _cable = await cabled();
    await using client = run(
      ASKING,
      `import "./lib/socket/linux_engine.ts";
      import { runtimeFor } from "./lib/socket/runtime.ts";
      sh("tc qdisc add dev lo root tbf rate 40mbit burst 64k limit 100m");
      for (const engine of ["deno", "linux"]) {
        const options = { hostname: "127.0.0.1", port: 0, isBusy: true,
          maxDatagramBytes: 1500 };
        const runtime = runtimeFor(engine);
        const [socket, peer] = [runtime.open(options), runtime.open(options)];
        const seen = [];
        const all = Promise.withResolvers();
        peer.start({
          onDatagram(datagram) {
            const { data } = datagram;
            if (data.length === 0) all.resolve();
            else seen.push(data[0] * 256 + data[1]);
            peer.release(datagram);
          },
        });
        for (let i = 0; i < 600; i += 60) {
          await Promise.all(Array.from({ length: 60 }, (_, n) => {
            const payload = new Uint8Array(1400);
            payload.set([i + n >> 8, i + n & 255]);
            return socket.send(payload, peer.addr);
          }));
        }
        // The receive buffer of a busy machine may be full, too.
        const end = () => socket.send(new Uint8Array(0), peer.addr);
        const ending = setInterval(end, 20);
        await all.promise;
        clearInterval(ending);
        console.log(engine, seen.length > 60,
          seen.every((seq, i) => i === 0 || seq > seen[i - 1]));
        socket.close();
        peer.close();
      }`,
    );
    const { stdout, stderr } = await client.ended();
    assertEquals([stdout, stderr], ["deno true true\nlinux true true\n", ""]);
  },
  "tc",
);

namespaceTest(
  "client --find-mtu: finds the path's MTU, and sends with the given options",
  async () => {
    await using _cable = await cabled();
    await using server = run(ANSWERING, SERVER);
    const port = await server.line();
    await using receiver = run(
      ANSWERING,
      `import { openSocket } from "./lib/mod.ts";
      openSocket({ port: 6000, engine: "linux", packetInfo: true },
        ({ ttl, trafficClass, remoteAddr }) =>
          console.log(ttl, trafficClass, remoteAddr.hostname, remoteAddr.port));
      console.log("listening");`,
    );
    await receiver.line();
    const client = async (...args: string[]) => {
      await using program = new Program("ip", [
        ...["netns", "exec", ASKING, Deno.execPath(), "run", "--allow-net"],
        ...["--allow-ffi", "--allow-sys=networkInterfaces", "client.ts"],
        ...["--engine", "linux", ...args],
      ]);
      return await program.ended();
    };
    // Only the forward path has a small MTU, known from the system's routes.
    await ip("-n", ASKING, "link", "set", "wire0", "mtu", "1400");
    await ip(
      ...["-n", ASKING, "route", "add", "10.0.0.2", "dev", "wire0"],
      ...["src", "10.0.0.1", "mtu", "600"],
    );
    const target = `10.0.0.2:${port}`;
    const found = await client(target, "--find-mtu", "--json", "-q");
    assertEquals(JSON.parse(found.stdout), {
      target,
      payloadBytes: 572,
      mtu: 600,
      mtuAtLeast: 600,
      isEcho: true,
      isStopped: false,
    });
    const sweep = ["--size", "472..672:100", "--dont-fragment", "-q"];
    const swept = await client(target, ...sweep, "--json");
    const { runs } = JSON.parse(swept.stdout);
    assertEquals(
      runs.map(({ size, received, unsent }: Record<string, unknown>) => [
        size,
        received,
        unsent,
      ]),
      [[472, 1, 0], [572, 1, 0], [672, 0, 1]],
    );
    assertEquals(
      runs[2].error,
      `Cannot send to ${target}: Message too long: ` +
        "the path takes datagrams of at most 600 bytes with headers",
    );
    assertEquals(swept.code, 1);
    const cut = await client(target, "--size", "672", "-q");
    assertEquals(cut.code, 0, cut.stderr);
    const leaving = [
      ["-B", "wire0", "--ttl", "9", "--dscp", "EF", "--source-port", "7000"],
      ["-B", "10.0.0.1:7001", "--interface", "wire0"],
    ];
    for (const args of leaving) {
      await client("10.0.0.2:6000", "-W", "50ms", "--retries", "0", ...args);
    }
    assertEquals([await receiver.line(), await receiver.line()], [
      "9 184 10.0.0.1 7000",
      "64 0 10.0.0.1 7001",
    ]);
    const wrong = await client(target, "--interface", "lo");
    assertEquals(wrong.code, 1);
  },
);

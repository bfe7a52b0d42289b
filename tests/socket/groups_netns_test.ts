/**
 * Tests of groups and source addresses on a machine with two links: two network
 * namespaces with two cables, for which they need root on Linux, with `ip`.
 */
import { assertEquals } from "@std/assert";
import { ENGINE, type Program } from "../helpers.ts";
import { inHost, ip, namespaceTest } from "../namespaces.ts";

const [ASKING, ANSWERING] = ["asking", "answering"].map((name) =>
  `roundtrip-groups-${Deno.pid}-${name}`
) as [string, string];

/** A cable from `a0` to `b0`, 10.1.0.1 and .2, and the like for `a1`, `b1`, 10.2. */
async function addCable(i: number): Promise<void> {
  await ip(
    ...["link", "add", `a${i}`, "netns", ASKING, "type", "veth"],
    ...["peer", "name", `b${i}`, "netns", ANSWERING],
  );
  for (const [n, host] of [ASKING, ANSWERING].entries()) {
    const device = ["dev", `${"ab"[n]}${i}`];
    // Without duplicate address detection, so that there is no wait.
    for (const to of [`10.${i + 1}.0.${n + 1}/24`, `fe80::${n + 1}/64`]) {
      const nodad = to.includes(":") ? ["nodad"] : ["brd", "+"];
      await ip("-n", host, "addr", "add", to, ...device, ...nodad);
    }
    // The kernel adds no link-local address beside that one.
    await ip("-n", host, "link", "set", ...device, "addrgenmode", "none");
    await ip("-n", host, "link", "set", ...device, "up");
  }
  // Until the kernel has noticed that both ends are up, it drops what is sent.
  for (const [n, host] of [ASKING, ANSWERING].entries()) {
    const show = ["-n", host, "link", "show", "dev", `${"ab"[n]}${i}`];
    for (let tries = 0; !(await ip(...show)).includes("state UP"); tries++) {
      if (tries === 1000) throw new Error(`${show.join(" ")}: not up`);
    }
  }
}

async function cabled(): Promise<AsyncDisposable> {
  for (const host of [ASKING, ANSWERING]) {
    await ip("netns", "add", host);
    await ip("-n", host, "link", "set", "lo", "up");
  }
  await addCable(0);
  await addCable(1);
  return {
    async [Symbol.asyncDispose]() {
      for (const host of [ASKING, ANSWERING]) await ip("netns", "del", host);
    },
  };
}

/** Runs a program on one of the hosts, half a minute at most. */
function run(host: string, code: string): Program {
  const limited = `setTimeout(() => Deno.exit(3), 30_000);\n${code}`;
  return inHost(host, Deno.execPath(), "eval", "--unstable-net", limited);
}

const needs = ENGINE === "linux" ? [] : ["--engine linux"];

/** Has `send(link, group, text)` send to a group by one of the links. */
const SENDING = `import { openSocket } from "./lib/mod.ts";
  const sockets = [1, 2].map((net) =>
    openSocket({ hostname: "10." + net + ".0.1" }, () => {}));
  const six = openSocket({ hostname: "::" }, () => {});
  const send = (link, group, text, port = 5000) => group.includes(":")
    ? six.send(text, "[" + group + "%a" + link + "]:" + port)
    : sockets[link].send(text, group + ":" + port);`;

namespaceTest(
  "openSocket({ groups }): hears its groups on the links on which it has joined them, and no others",
  async () => {
    await using _cables = await cabled();
    await using receiver = run(
      ANSWERING,
      `import { openSocket } from "./lib/mod.ts";
      const options = { hostname: "::", reuseAddress: true, engine: "linux" };
      const listen = (name, port, more) =>
        openSocket({ ...options, port, ...more }, ({ data }) =>
          console.log(name, new TextDecoder().decode(data)));
      for (const name of ["b0", "b1"]) {
        const groups = ["239.1.2.3", "ff02::123"];
        listen(name, 5000, { groups, interface: name });
      }
      listen("none", 5001);
      console.log("listening");`,
    );
    await receiver.line();
    await using sender = run(
      ASKING,
      `${SENDING}
      for (const group of ["239.1.2.3", "ff02::123"]) {
        for (const link of [0, 1]) {
          await send(link, group, "to 5000 by a" + link);
          await send(link, group, "to 5001 by a" + link, 5001);
        }
      }
      for (const link of [0, 1]) await send(link, "239.1.2.3", "end");
      await sockets[0].send("end", "10.1.0.2:5001");
      Deno.exit();`,
    );
    const lines: string[] = [];
    for (let ends = 0; ends < 3;) {
      const line = await receiver.line();
      if (line.endsWith("end")) ends++;
      lines.push(line);
    }
    const heard = ["b0 end", "b0 to 5000 by a0", "b0 to 5000 by a0"];
    assertEquals(lines.sort(), [
      ...heard,
      "b1 end",
      "b1 to 5000 by a1",
      "b1 to 5000 by a1",
      "none end",
    ]);
    assertEquals((await sender.ended()).stderr, "");
  },
  ...needs,
);

namespaceTest(
  "serve(), gather(): `::` is IPv4 too where net.ipv6.bindv6only is 1",
  async () => {
    await using _cables = await cabled();
    for (const host of [ASKING, ANSWERING]) {
      const set = "echo 1 >/proc/sys/net/ipv6/bindv6only";
      await ip("netns", "exec", host, "sh", "-c", set);
    }
    await using server = run(
      ANSWERING,
      `import { echo, serve } from "./lib/mod.ts";
      serve({ hostname: "::", port: 5000, engine: "linux" }, echo());
      console.log("listening");`,
    );
    await server.line();
    await using client = run(
      ASKING,
      `import { gather } from "./lib/mod.ts";
      const replies = await gather(["10.1.0.2:5000", "[fe80::2%a0]:5000"], "x",
        { engine: "linux", timeoutMs: 10_000 });
      console.log(replies.map((one) => one.remoteAddr.hostname).sort().join());
      Deno.exit();`,
    );
    const { stdout, stderr } = await client.ended();
    assertEquals([stdout.replace(/%\d+/, ""), stderr], [
      "10.1.0.2,fe80::2\n",
      "",
    ]);
  },
  ...needs,
);

namespaceTest(
  "server.send(), sendMany(), openSocket().send(), sendBatch(): leave from the address that the peer sent to last, or from the one given",
  async () => {
    await using _cables = await cabled();
    for (const more of ["10.1.0.7/24", "fd00::7/64", "fd00::8/64"]) {
      const nodad = more.includes(":") ? ["nodad"] : [];
      await ip("-n", ANSWERING, "addr", "add", more, "dev", "b0", ...nodad);
    }
    const own = ["fd00::1/64", "dev", "a0", "nodad"];
    await ip("-n", ASKING, "addr", "add", ...own);
    await using server = run(
      ANSWERING,
      `import { openSocket, serve } from "./lib/mod.ts";
      const shared = { hostname: "::", engine: "linux", onError() {} };
      const all = ["fd00::7", "10.1.0.2", "10.1.0.7"];
      // Each text names a push and, if it has one, the source that it is given.
      const push = async (to, text, send, sendAll) => {
        const host = text.slice(5);
        const options = host === "" ? {} : { from: { hostname: host } };
        try {
          await (text.startsWith("many:") ? sendAll : send)(text, to, options);
        } catch (error) {
          await send(error.name + " " + error.message, to);
        }
      };
      const server = serve({ ...shared, port: 5000 }, (data, { remoteAddr }) => {
        push({ ...remoteAddr }, new TextDecoder().decode(data),
          (text, to, options) => server.send(text, to, options),
          (text, to, options) => server.sendMany(text, [to], options));
      });
      const socket = openSocket({ ...shared, port: 5001 }, ({ data, remoteAddr }) => {
        push(remoteAddr, new TextDecoder().decode(data),
          (text, to, options) => socket.send(text, to, options),
          (payload, to, options) => socket.sendBatch([{ payload, to, ...options }]));
      });
      console.log("listening");`,
    );
    await server.line();
    await using client = run(
      ASKING,
      `import { openSocket } from "./lib/mod.ts";
      let heard;
      const socket = openSocket({ hostname: "::" }, ({ data, remoteAddr }) =>
        heard(remoteAddr.hostname + " " + new TextDecoder().decode(data)));
      const ask = async (to, text) => {
        for (const port of [5000, 5001]) {
          const reply = new Promise((resolve) => heard = resolve);
          await socket.send(text, to + ":" + port);
          console.log(await reply);
        }
      };
      for (const to of ["10.1.0.7", "10.1.0.2", "10.1.0.7", "[fd00::7]",
        "[fd00::8]", "10.1.0.255"]) {
        await ask(to, "send:");
        await ask(to, "many:");
      }
      await ask("10.1.0.2", "send:10.1.0.7");
      await ask("10.1.0.2", "many:10.1.0.7");
      await ask("10.1.0.2", "send:10.1.0.255");
      await ask("10.1.0.2", "send:239.1.2.3");
      await ask("10.1.0.2", "send:0.0.0.0");
      await ask("[fd00::8]", "many:fd00::7");
      await ask("10.1.0.7", "send:10.9.9.9");
      await ask("10.1.0.7", "send:fd00::7");
      Deno.exit();`,
    );
    const { stdout, stderr } = await client.ended();
    const twice = (line: string) => [line, line];
    const broadcast = "10.1.0.2";
    assertEquals(stdout.trimEnd().split("\n"), [
      ...["10.1.0.7", "10.1.0.2", "10.1.0.7", "fd00::7", "fd00::8", broadcast]
        .flatMap((host) =>
          ["send:", "many:"].flatMap((text) => twice(`${host} ${text}`))
        ),
      ...twice("10.1.0.7 send:10.1.0.7"),
      ...twice("10.1.0.7 many:10.1.0.7"),
      ...twice("10.1.0.2 send:10.1.0.255"),
      ...twice("10.1.0.2 send:239.1.2.3"),
      ...twice("10.1.0.2 send:0.0.0.0"),
      ...twice("fd00::7 many:fd00::7"),
      ...twice(
        "10.1.0.7 AddrNotAvailable Cannot send from 10.9.9.9: it is not an address of this machine, or has no route to the peer",
      ),
      ...twice(
        "10.1.0.7 TypeError Cannot send to 10.1.0.1 from 'fd00::7': both must be IPv4 addresses, or both IPv6",
      ),
    ]);
    assertEquals(stderr, "");
  },
  ...needs,
);

/**
 * Member of the groups given at port 5000: it keeps what arrives, and obeys `join`,
 * `leave` and `heard`, to which it replies.
 */
const member = (options: Record<string, unknown>) =>
  run(
    ANSWERING,
    `import { openSocket } from "./lib/mod.ts";
    let heard = [];
    const options = { port: 5000, ...${JSON.stringify(options)} };
    const socket = openSocket(options, async ({ data, remoteAddr }) => {
      const [command, ...rest] = new TextDecoder().decode(data).split(" ");
      let reply = "done";
      if (command === "heard") [reply, heard] = [heard.sort().join(), []];
      else if (command === "join" || command === "leave") {
        await socket[command](...rest)
          .catch((error) => reply = error.name + ": " + error.message);
      } else return heard.push(command);
      await socket.send(reply, remoteAddr);
    });
    console.log("listening");`,
  );

/** Has `ask(text)` give the member's reply, and `hear` the groups that it hears. */
const DRIVING = `${SENDING}
  let replied;
  const driver = openSocket({ hostname: "10.1.0.1" }, ({ data }) =>
    replied(new TextDecoder().decode(data)));
  const ask = async (text) => {
    const reply = new Promise((resolve) => replied = resolve);
    await driver.send(text, "10.1.0.2:5000");
    return await reply;
  };
  const hear = async (...groups) => {
    for (const group of groups) {
      for (const link of [0, 1]) await send(link, group, group + "%" + link);
    }
    console.log(await ask("heard"));
  };`;

for (const engine of ["linux", "deno"]) {
  namespaceTest(
    `openSocket({ groups }), join(), leave(): by several links, while it is open (${engine} engine)`,
    async () => {
      await using _cables = await cabled();
      const groups = ["239.1.2.3%b0", "239.1.2.3%b1", "ff02::123%b1"];
      await using receiver = member({ hostname: "::", engine, groups });
      await receiver.line();
      await using driver = run(
        ASKING,
        `${DRIVING}
        await hear("239.1.2.3", "ff02::123", "239.2.2.2", "ff02::222");
        for (const group of ["239.2.2.2%b1", "ff02::222%b0", "ff02::222%b0"]) {
          console.log(await ask("join " + group));
        }
        await hear("239.2.2.2", "ff02::222");
        for (const group of ["239.1.2.3%b0", "ff02::123%b1", "239.2.2.2%b1"]) {
          console.log(await ask("leave " + group));
        }
        await hear("239.1.2.3", "ff02::123", "239.2.2.2", "ff02::222");
        for (const command of ["leave 239.9.9.9", "join 10.0.0.1",
          "join 239.9.9.9%b9"]) {
          console.log(await ask(command));
        }
        Deno.exit();`,
      );
      const { stdout, stderr } = await driver.ended();
      assertEquals(stdout.trimEnd().split("\n"), [
        "239.1.2.3%0,239.1.2.3%1,ff02::123%1",
        ...["done", "done", "done"],
        "239.2.2.2%1,ff02::222%0",
        ...["done", "done", "done"],
        "239.1.2.3%1,ff02::222%0",
        "TypeError: Cannot leave '239.9.9.9': joined are 239.1.2.3%b1, ff02::222%b0",
        "TypeError: '10.0.0.1' is no multicast group: these are 224.0.0.0 to 239.255.255.255, and ff00::/8 of IPv6",
        "NotFound: There is no interface 'b9' with IPv4: there are lo, b0, b1",
      ]);
      assertEquals(stderr, "");
    },
    ...needs,
  );
}

namespaceTest(
  "openSocket({ groups }), join(), leave(): from a single source",
  async () => {
    await using _cables = await cabled();
    await ip("-n", ASKING, "addr", "add", "10.1.0.9/24", "dev", "a0");
    const groups = ["10.1.0.1@232.1.2.3%b0"];
    await using receiver = member({ hostname: "::", engine: "linux", groups });
    await receiver.line();
    await using driver = run(
      ASKING,
      `${DRIVING}
      const other = openSocket({ hostname: "10.1.0.9" }, () => {});
      const both = async (group) => {
        await other.send("other", group + ":5000");
        await hear(group);
      };
      await both("232.1.2.3");
      console.log(await ask("join 10.1.0.9@232.1.2.3%b0"));
      await both("232.1.2.3");
      console.log(await ask("leave 10.1.0.1@232.1.2.3%b0"));
      await both("232.1.2.3");
      for (const source of ["fe80::9", "fe80::1"]) {
        console.log(await ask("join " + source + "@ff32::123%b1"));
        await hear("ff32::123");
      }
      Deno.exit();`,
    );
    const { stdout, stderr } = await driver.ended();
    assertEquals(stdout.split("\n"), [
      "232.1.2.3%0",
      "done",
      "232.1.2.3%0,other",
      "done",
      "other",
      ...["done", "", "done", "ff32::123%1"],
      "",
    ]);
    assertEquals(stderr, "");
  },
  ...needs,
);

for (const engine of ["linux", "deno"]) {
  namespaceTest(
    `openSocket({ groups }): joins again on an interface that was away (${engine} engine)`,
    async () => {
      await using _cables = await cabled();
      const groups = ["239.1.2.3", "ff02::123", "239.2.2.2%b1"];
      const options = { hostname: "::", engine, groups, interface: "b1" };
      await using receiver = member(options);
      await receiver.line();
      const both = `${DRIVING}
        const all = "239.1.2.3%1,239.2.2.2%1,ff02::123%1";
        let heard = "";
        do {
          for (const group of ["239.1.2.3", "239.2.2.2", "ff02::123"]) {
            await send(1, group, group + "%1").catch(() => {});
          }
          heard = await ask("heard");
        } while (![...new Set(heard.split(","))].join().includes(all));
        console.log(all);
        Deno.exit();`;
      await using before = run(ASKING, both);
      const all = "239.1.2.3%1,239.2.2.2%1,ff02::123%1\n";
      assertEquals((await before.ended()).stdout, all);
      // Both ends of the cable go, and another one comes.
      await ip("-n", ANSWERING, "link", "del", "b1");
      await addCable(1);
      await using after = run(ASKING, both);
      assertEquals((await after.ended()).stdout, all);
    },
    ...needs,
  );
}

namespaceTest(
  "serve({ multicastTtl }): sends to groups cross the routers given",
  async () => {
    await using _cables = await cabled();
    const route = ["route", "add", "239.0.0.0/8", "dev", "b0"];
    await ip("-n", ANSWERING, ...route);
    await using receiver = run(
      ASKING,
      `import { openSocket } from "./lib/mod.ts";
      openSocket({ port: 5000, groups: ["239.1.2.3"], interface: "a0",
        engine: "linux", packetInfo: true }, ({ data, ttl }) =>
          console.log(new TextDecoder().decode(data), ttl));
      console.log("listening");`,
    );
    await receiver.line();
    await using server = run(
      ANSWERING,
      `import { serve } from "./lib/mod.ts";
      for (const engine of ["linux", "deno"]) {
        const options = { hostname: "0.0.0.0", engine, multicastTtl: 7 };
        const server = serve(options, () => {});
        await server.send(engine, "239.1.2.3:5000");
        await server.shutdown();
      }
      Deno.exit();`,
    );
    assertEquals((await server.ended()).stderr, "");
    for (const engine of ["linux", "deno"]) {
      assertEquals(await receiver.line(), `${engine} 7`);
    }
  },
  ...needs,
);

namespaceTest(
  "gather(): receives the replies to a broadcast address of any mask",
  async () => {
    await using _cables = await cabled();
    for (const [n, host] of [ASKING, ANSWERING].entries()) {
      const own = [`10.3.0.${n + 1}/26`, "brd", "+", "dev", `${"ab"[n]}0`];
      await ip("-n", host, "addr", "add", ...own);
    }
    await using server = run(
      ANSWERING,
      `import { echo, serve } from "./lib/mod.ts";
      serve({ hostname: "0.0.0.0", port: 5000 }, echo());
      console.log("listening");`,
    );
    await server.line();
    await using client = run(
      ASKING,
      `import { gather } from "./lib/mod.ts";
      for (const engine of ["deno", "linux"]) {
        const [reply] = await gather("10.3.0.63:5000", engine,
          { engine, maxReplies: 1, timeoutMs: 10_000 });
        console.log(reply.text(), reply.remoteAddr.hostname);
      }
      Deno.exit();`,
    );
    const { stdout, stderr } = await client.ended();
    assertEquals([stdout, stderr], ["deno 10.3.0.2\nlinux 10.3.0.2\n", ""]);
  },
  ...needs,
);

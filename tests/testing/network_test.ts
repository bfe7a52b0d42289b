import { assert, assertEquals, assertRejects, assertThrows } from "@std/assert";
import { Buffer } from "node:buffer";
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import { formatAddress } from "../../lib/address.ts";
import { decode } from "../../lib/encoding.ts";
import { openSocket } from "../../lib/socket/open_socket.ts";
import { infoOf, type Plan, SimulatedNetwork } from "../../lib/testing/mod.ts";
import { Program, programTest } from "../helpers.ts";
import { seededRun } from "./seeded_run.ts";

Deno.test("SimulatedNetwork: the same plan and seed give the same run", async () => {
  const one = await seededRun();
  assert(one.length > 0);
  assertEquals(await seededRun(), one);
  assert(await seededRun(2) !== one, "another seed gives another run");
});

Deno.test("SimulatedNetwork: keeps copies of what is sent, of Buffers too", async () => {
  const network = new SimulatedNetwork();
  const { runtime } = network;
  const got: string[] = [];
  const one = openSocket(
    { hostname: "192.0.2.1", runtime },
    ({ data }) => void got.push(decode(data)!),
  );
  const two = openSocket({ hostname: "192.0.2.2", runtime }, () => {});
  const buffer = Buffer.from("first");
  await network.run(two.send(buffer, one.addr));
  buffer.write("other");
  await network.runFor(100);
  assertEquals([got, decode(network.sent[0]!.data)], [["first"], "first"]);
  await network.run(Promise.all([one.close(), two.close()]));
});

programTest(
  "SimulatedNetwork: a run is the same in another process",
  async () => {
    const args = ["run", "tests/testing/seeded_run.ts"];
    await using program = new Program(Deno.execPath(), args);
    const { stdout } = await program.ended();
    assertEquals(stdout.trim(), await seededRun());
  },
);

Deno.test("SimulatedSocket: delivers nothing after its close, also of a datagram to its group", async () => {
  const network = new SimulatedNetwork();
  const group = { hostname: "239.1.2.3", port: 5000 };
  let received = 0;
  const members = ["192.0.2.11", "192.0.2.12"].map((hostname) => {
    const memberships = [{
      group: group.hostname,
      address: hostname,
      index: 0,
    }];
    const socket = network.runtime.open(
      { hostname, port: group.port, maxDatagramBytes: 9, memberships },
    );
    socket.start({
      onDatagram(datagram) {
        received++;
        socket.release(datagram);
        for (const member of members) member.close();
      },
    });
    return socket;
  });
  network.pass({ hostname: "192.0.2.1", port: 1 }, group, new Uint8Array(1));
  await network.runFor(10);
  assertEquals([received, network.held], [1, 0]);
});

Deno.test("SimulatedNetwork: keeps no closed socket, but counts its datagrams as held", async () => {
  const network = new SimulatedNetwork(undefined, { patienceMs: 0 });
  const { runtime } = network;
  const openAndClose = (isReleased: boolean) => {
    const socket = runtime.open(
      { hostname: "192.0.2.1", port: 0, maxDatagramBytes: 9 },
    );
    socket.start({
      onDatagram: (datagram) => isReleased && socket.release(datagram),
    });
    network.sockets.get(formatAddress(socket.addr))!
      .arrive(new Uint8Array(1), { hostname: "192.0.2.2", port: 1 });
    socket.close();
    return new WeakRef(socket);
  };
  const closed = Array.from({ length: 100 }, () => openAndClose(true));
  openAndClose(false);
  assertEquals([network.sockets.size, network.held], [0, 1]);
  await network.runFor(10);
  setFlagsFromString("--expose-gc");
  runInNewContext("gc")();
  // The latest may still lie on the stack.
  const kept = closed.filter((one) => one.deref() !== undefined).length;
  assert(kept <= 1, `${kept} closed sockets are kept`);
});

Deno.test("SimulatedNetwork: a wrong argument is named, with its value and the right one", async () => {
  const wrong = (value: unknown) => value as never;
  const network = new SimulatedNetwork(() => [1]);
  const address = { hostname: "192.0.2.1", port: 1 };
  const payload = new Uint8Array(1);
  const open = { hostname: "192.0.2.1", port: 0, maxDatagramBytes: 9 };
  const socket = network.sockets.get(
    formatAddress(network.runtime.open(open).addr),
  )!;
  const noAddress = "must be an object with hostname and port: current value";
  const cases: Array<[() => unknown, string]> = [
    [
      () => new SimulatedNetwork(wrong([5])),
      "'plan' must be a function: current value is [5]",
    ],
    [
      () => new SimulatedNetwork(undefined, { seed: wrong("x") }),
      `'seed' must be a number from -9007199254740991 to 9007199254740991: current value is "x"`,
    ],
    [
      () => new SimulatedNetwork(undefined, wrong({ seeds: 1 })),
      "Cannot use option 'seeds' of SimulatedNetwork: did you mean 'seed'?",
    ],
    [
      () => network.runFor(wrong("1s")),
      `'ms' must be a number from 0 to 9007199254740991 ms: current value is "1s"`,
    ],
    [
      () => network.restart(wrong(5)),
      "'hostname' must be a string: current value is 5",
    ],
    [
      () => network.partition("192.0.2.1", wrong(undefined)),
      "'hosts' must be an array, each element a string: " +
      'current value is ["192.0.2.1",undefined]',
    ],
    [() => network.heal("a", wrong(1)), "'hosts' must be"],
    [
      () => network.pass(wrong("192.0.2.1:7"), address, payload),
      `'from' ${noAddress} is "192.0.2.1:7"`,
    ],
    [
      () => network.pass(address, wrong({}), payload),
      `'to' ${noAddress} is object`,
    ],
    [
      () => network.pass(address, address, wrong(5)),
      "The payload of pass() must be a string, a typed array",
    ],
    [
      () => socket.arrive(wrong(null), address),
      "The payload of arrive() must be",
    ],
    [
      () => socket.arrive(payload, wrong(undefined)),
      `'remoteAddr' ${noAddress} is undefined`,
    ],
    [() => infoOf(wrong(null)), `'remoteAddr' ${noAddress} is null`],
  ];
  for (const [call, message] of cases) assertThrows(call, TypeError, message);
  await assertRejects(
    () => network.run(wrong(() => {})),
    TypeError,
    "'promise' must be a promise: current value is function",
  );
  for (const delays of [5, [5, NaN], ["5"], [-1]]) {
    network.plan = (() => delays) as unknown as Plan;
    assertThrows(
      () => network.pass(address, address, payload),
      Error,
      "'value of the plan' must be an array, each element a number from 0",
    );
  }
  network.plan = () => [Infinity];
  network.pass(address, address, payload);
  network.crash("a name");
});

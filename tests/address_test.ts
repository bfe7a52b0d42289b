import { assertEquals, assertThrows } from "@std/assert";
import {
  addressBytes,
  addressFromBytes,
  canonicalHostname,
  formatAddress,
  ipVersion,
  isInNetwork,
  isLoopback,
  isWildcard,
  parseAddress,
  parseNetwork,
  parsePort,
} from "../lib/address.ts";

Deno.test("parseAddress(): reads every form of HOST and PORT", () => {
  const cases: Array<[string, string, number]> = [
    ["127.0.0.1:20001", "127.0.0.1", 20001],
    ["127.0.0.1", "127.0.0.1", 7],
    ["localhost:1", "localhost", 1],
    ["Example.ORG:65535", "example.org", 65535],
    ["[::1]:20001", "::1", 20001],
    ["[::1]", "::1", 7],
    ["::1", "::1", 7],
    ["2001:db8:0:0::1", "2001:db8::1", 7],
    ["[::ffff:192.0.2.1]:9", "192.0.2.1", 9],
    ["fe80::1%eth0", "fe80::1%eth0", 7],
    ["0x7f.example", "0x7f.example", 7],
    ["7f", "7f", 7],
  ];
  for (const [text, hostname, port] of cases) {
    assertEquals(parseAddress(text, 7), { hostname, port }, text);
  }
});

Deno.test("parseAddress(): an error names the fault", () => {
  const cases: Array<[string, string]> = [
    ["", "no host"],
    [":1", "no host"],
    ["host:", "port ''"],
    ["host:port", "port 'port'"],
    ["host:65536", "from 0 to 65535"],
    ["host:-1", "port '-1'"],
    ["host:1e3", "port '1e3'"],
    ["host:0x1", "port '0x1'"],
    ["host:1:2", "more than one colon"],
    ["[::1", "[IPV6]:PORT"],
    ["[::1]1", "[IPV6]:PORT"],
    ["[127.0.0.1]:1", "[IPV6]:PORT"],
    ["[localhost]:1", "[IPV6]:PORT"],
    ["a b:1", "HOST[:PORT]"],
    ["a/b", "HOST[:PORT]"],
    ["user@host", "HOST[:PORT]"],
    ["a]:1", "HOST[:PORT]"],
    ["127.1", "no IP address"],
    ["0x7f000001", "no IP address"],
    ["127.0.0.0X1.", "no IP address"],
    ["0x:1", "no IP address"],
  ];
  for (const [text, message] of cases) {
    assertThrows(() => parseAddress(text, 7), SyntaxError, message, text);
  }
  assertThrows(() => parseAddress("host"), SyntaxError, "no port");
});

Deno.test("lib/address.ts: a value of another type is named, with the right one", () => {
  const wrong = (value: unknown) => value as never;
  const cases: Array<[() => unknown, string]> = [
    [
      () => parseAddress(wrong(5)),
      "'text' must be a string, such as localhost:53: current value is 5",
    ],
    [
      () => parseAddress(wrong({ hostname: "::1", port: 7 })),
      "'text' must be a string, such as localhost:53: current value is object",
    ],
    [
      () => parseAddress("localhost", wrong("53")),
      "'defaultPort' must be an integer: current value is \"53\"",
    ],
    [
      () => formatAddress(wrong("localhost:53")),
      "'address' must be an object with hostname and port: current value is \"localhost:53\"",
    ],
    [
      () => formatAddress(wrong(null)),
      "'address' must be an object with hostname and port: current value is null",
    ],
    [
      () => isLoopback(wrong(undefined)),
      "'hostname' must be a string, an IP address: current value is undefined",
    ],
    ...[canonicalHostname, addressBytes, ipVersion].map((
      one,
    ): [() => unknown, string] => [
      () => one(wrong(Symbol("x"))),
      "'hostname' must be a string, without brackets: current value is Symbol(x)",
    ]),
  ];
  for (const [call, message] of cases) assertThrows(call, TypeError, message);
  for (const port of [1.5, NaN]) {
    assertThrows(() => parseAddress("localhost", port), TypeError, `${port}`);
  }
});

Deno.test("parsePort(): accepts only 0 to 65535 in digits", () => {
  assertEquals(["0", "1", "65535"].map(parsePort), [0, 1, 65535]);
  for (const text of ["", " 1", "1 ", "+1", "-0", "1.0", "65536", "999999"]) {
    assertThrows(() => parsePort(text), SyntaxError, "0 to 65535", text);
  }
});

Deno.test("formatAddress(): parseAddress() reads the result", () => {
  for (const text of ["127.0.0.1:1", "[::1]:20001", "localhost:53"]) {
    assertEquals(formatAddress(parseAddress(text)), text);
  }
});

Deno.test("canonicalHostname(): returns one spelling for each address", () => {
  const cases: Array<[string, string]> = [
    ["::FFFF:127.0.0.1", "127.0.0.1"],
    ["::ffff:7f00:1", "127.0.0.1"],
    ["0:0:0:0:0:ffff:c000:0201", "192.0.2.1"],
    ["::ffff:0:0", "0.0.0.0"],
    ["2001:0DB8::0001", "2001:db8::1"],
    ["0:0:0:0:0:0:0:0", "::"],
    ["127.0.0.1", "127.0.0.1"],
    ["LocalHost", "localhost"],
  ];
  for (const [hostname, canonical] of cases) {
    assertEquals(canonicalHostname(hostname), canonical);
  }
});

Deno.test("ipVersion(): distinguishes addresses and names", () => {
  for (const text of ["0.0.0.0", "127.0.0.1", "255.255.255.255"]) {
    assertEquals(ipVersion(text), 4, text);
  }
  for (const text of ["::", "::1", "fe80::1%lo", "::ffff:1.2.3.4"]) {
    assertEquals(ipVersion(text), 6, text);
  }
  const names = [
    "",
    "1",
    "1.2.3",
    "1.2.3.256",
    "01.2.3.4",
    "1.2.3.4.",
    "a",
    ":",
  ];
  for (
    const text of [
      ...names,
      "1.2.3.4.5",
      ":::",
      "1::2::3",
      "a@b#:",
      "::1/x",
      "g::",
    ]
  ) {
    assertEquals(ipVersion(text), undefined, text);
  }
});

Deno.test("isLoopback(), isWildcard(): recognise their addresses", () => {
  for (const host of ["127.0.0.1", "127.255.0.9", "::1"]) {
    assertEquals([isLoopback(host), isWildcard(host)], [true, false], host);
  }
  for (const host of ["0.0.0.0", "::"]) {
    assertEquals([isLoopback(host), isWildcard(host)], [false, true], host);
  }
  for (const host of ["128.0.0.1", "127.example", "::2", "localhost"]) {
    assertEquals([isLoopback(host), isWildcard(host)], [false, false], host);
  }
});

Deno.test("parseAddress(): refuses numbers that only look like a host", () => {
  for (
    const host of ["20001", "1.2.3", "256.0.0.1", "1.2.3.4.5", "a.7", "a.7."]
  ) {
    assertThrows(() => parseAddress(host, 1), SyntaxError, "no IP address");
  }
  for (const host of ["1.2.3.4", "7a", "a7", "7.example"]) {
    assertEquals(parseAddress(host, 1), { hostname: host, port: 1 });
  }
});

Deno.test("canonicalHostname(): a name in other letters becomes an ASCII domain name", () => {
  assertEquals(canonicalHostname("BÜCHER.example"), "xn--bcher-kva.example");
  assertEquals(canonicalHostname("[ü"), "[ü");
});

Deno.test("isInNetwork(): compares the bits of the network's prefix", () => {
  const cases: Array<[string, string, boolean]> = [
    ["10.0.0.0/8", "10.255.0.1", true],
    ["10.0.0.0/8", "11.0.0.1", false],
    ["192.0.2.128/25", "192.0.2.200", true],
    ["192.0.2.128/25", "192.0.2.127", false],
    ["172.16.0.0/12", "172.31.255.255", true],
    ["172.16.0.0/12", "172.32.0.0", false],
    ["192.0.2.1", "192.0.2.1", true],
    ["192.0.2.1", "192.0.2.2", false],
    ["0.0.0.0/0", "203.0.113.9", true],
    ["0.0.0.0/0", "2001:db8::1", false],
    ["::/0", "203.0.113.9", false],
    ["fe80::/10", "febf::1%eth0", true],
    ["fe80::/10", "fec0::1", false],
    ["2001:db8::/33", "2001:db8:7fff::", true],
    ["2001:db8::/33", "2001:db8:8000::", false],
    ["::1", "::1", true],
    ["::1", "::2", false],
    ["::ffff:10.0.0.0/104", "10.9.9.9", true],
    ["::ffff:10.0.0.0/104", "11.0.0.1", false],
  ];
  for (const [network, hostname, isIn] of cases) {
    const parsed = parseNetwork(network);
    assertEquals(isInNetwork(parsed, hostname), isIn, `${network} ${hostname}`);
  }
});

Deno.test("parseNetwork(): an error shows the form of a network", () => {
  const wrong = [
    "",
    "/8",
    "10.0.0.0/",
    "10.0.0.0/33",
    "::/129",
    "::ffff:10.0.0.0/8",
    "10.0.0.0/8/8",
  ];
  for (const text of [...wrong, "example.org/8", "fe80::1%eth0/64", "::/-1"]) {
    assertThrows(
      () => parseNetwork(text),
      SyntaxError,
      `'${text}' is no network: write ADDRESS/BITS`,
    );
  }
});

Deno.test("addressBytes(), addressFromBytes(): 4 or 16 bytes in the order of the network, and back", () => {
  const cases: Array<[string, string, string]> = [
    ["192.0.2.1", "c0000201", "192.0.2.1"],
    ["0.0.0.0", "00000000", "0.0.0.0"],
    ["255.255.255.255", "ffffffff", "255.255.255.255"],
    ["::ffff:192.0.2.1", "c0000201", "192.0.2.1"],
    ["::", "0".repeat(32), "::"],
    ["::1", "1".padStart(32, "0"), "::1"],
    [
      "2001:DB8:0:0:1:0:0:1",
      "20010db8000000000001000000000001",
      "2001:db8::1:0:0:1",
    ],
    ["fe80::1%eth0", "fe80".padEnd(31, "0") + "1", "fe80::1"],
    ["::192.0.2.1", "c0000201".padStart(32, "0"), "::c000:201"],
    ["1:2:3:4:5:6:7:8", "00010002000300040005000600070008", "1:2:3:4:5:6:7:8"],
  ];
  for (const [hostname, hex, canonical] of cases) {
    const bytes = addressBytes(hostname);
    assertEquals(bytes.toHex(), hex, hostname);
    // Bytes within a larger buffer, as a packet has them.
    const packet = new Uint8Array([9, ...bytes, 9]);
    assertEquals(addressFromBytes(packet.subarray(1, -1)), canonical);
  }
  const mapped = Uint8Array.fromHex("00000000000000000000ffffc0000201");
  assertEquals(addressFromBytes(mapped), "192.0.2.1");
});

Deno.test("addressBytes(), addressFromBytes(): refuse names, and other numbers of bytes", () => {
  for (const name of ["localhost", "", "[::1]", "1.2.3"]) {
    assertThrows(
      () => addressBytes(name),
      SyntaxError,
      `'${name}' is no IP address: resolve a name first`,
    );
  }
  for (const size of [0, 3, 5, 15, 17]) {
    assertThrows(
      () => addressFromBytes(new Uint8Array(size)),
      RangeError,
      `An IP address has 4 or 16 bytes: there are ${size}`,
    );
  }
});

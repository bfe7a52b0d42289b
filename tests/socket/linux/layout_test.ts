import { assert, assertEquals, assertThrows } from "@std/assert";
import * as layout from "../../../lib/socket/linux/layout.ts";
import { Program, programTest } from "../../helpers.ts";
import {
  AF_INET,
  AF_INET6,
  decodeSockaddr,
  encodeSockaddr,
  findControl,
  localControl,
} from "../../../lib/socket/linux/layout.ts";

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

Deno.test("what the kernel is told of how datagrams leave is as it wants it", () => {
  const { segmentControl, trafficClassControl } = layout;
  assertEquals(
    segmentControl(1200).subarray(0, 18),
    hex("1200000000000000 11000000 67000000 b004"),
  );
  assertEquals(
    trafficClassControl(184, "192.0.2.1"),
    hex("1400000000000000 00000000 01000000 b8000000"),
  );
  assertEquals(
    trafficClassControl(184, "::1"),
    hex("1400000000000000 29000000 43000000 b8000000"),
  );
});

Deno.test("where a datagram was sent to is shown with its interface where that matters", () => {
  const { destinationHostname } = layout;
  assertEquals(destinationHostname(hex("7f000002")), "127.0.0.2");
  const address = (start: string) =>
    hex(`${start}000000000000000000000001 03000000`);
  assertEquals(destinationHostname(address("ab010db8")), "ab01:db8::1");
  assertEquals(destinationHostname(address("fe800000")), "fe80::1%3");
});

Deno.test("stampMs() reads seconds of 64 bits, and nanoseconds", () => {
  const words = new Uint32Array([9, 9, 5, 1, 250_000, 0]);
  assertEquals(layout.stampMs(words, 2), (2 ** 32 + 5) * 1000 + 0.25);
});

Deno.test("sourceControl() has a reply leave from an address, and by its interface", () => {
  const { AF_INET, AF_INET6, sourceControl } = layout;
  assertEquals(
    sourceControl("127.0.0.2", AF_INET),
    hex("1c00000000000000 00000000 08000000 00000000 7f000002 00000000"),
  );
  const v6 = "2400000000000000 29000000 32000000 ";
  assertEquals(
    sourceControl("2001:db8::1", AF_INET6),
    hex(`${v6} 20010db8000000000000000000000001 00000000`),
  );
  assertEquals(
    sourceControl("fe80::1%3", AF_INET6),
    hex(`${v6} fe800000000000000000000000000001 03000000`),
  );
  assertEquals(
    sourceControl("127.0.0.2", AF_INET6),
    hex(`${v6} 00000000000000000000ffff7f000002 00000000`),
  );
});

programTest(
  "the layouts and numbers are those of the system's own headers",
  async () => {
    const sizes: Record<string, string> = {
      MMSGHDR_BYTES: "sizeof(struct mmsghdr)",
      MMSGHDR_NAME: "offsetof(struct msghdr, msg_name)",
      MMSGHDR_NAME_LENGTH: "offsetof(struct msghdr, msg_namelen)",
      MMSGHDR_IOVEC: "offsetof(struct msghdr, msg_iov)",
      MMSGHDR_IOVEC_COUNT: "offsetof(struct msghdr, msg_iovlen)",
      MMSGHDR_CONTROL: "offsetof(struct msghdr, msg_control)",
      MMSGHDR_CONTROL_LENGTH: "offsetof(struct msghdr, msg_controllen)",
      MMSGHDR_LENGTH: "offsetof(struct mmsghdr, msg_len)",
      IOVEC_BYTES: "sizeof(struct iovec)",
      IOVEC_LENGTH: "offsetof(struct iovec, iov_len)",
      SEGMENT_CONTROL_BYTES: "CMSG_SPACE(sizeof(uint16_t))",
      SEND_CONTROL_BYTES: "CMSG_SPACE(sizeof(struct in6_pktinfo)) + " +
        "CMSG_SPACE(sizeof(uint16_t))",
      CONTROL_BYTES: "CMSG_SPACE(sizeof(struct in6_pktinfo)) + " +
        "3 * CMSG_SPACE(sizeof(int)) + CMSG_SPACE(sizeof(struct timespec))",
      PMTUDISC_DO: "IP_PMTUDISC_DO",
      MEMINFO_BYTES: "4 * SK_MEMINFO_VARS",
      MEMINFO_DROPS: "SK_MEMINFO_DROPS",
      POLLFD_BYTES: "sizeof(struct pollfd)",
      TIMEX_BYTES: "sizeof(struct timex)",
      TIMEX_MAX_ERROR: "offsetof(struct timex, maxerror)",
      TIMESPEC_BYTES: "sizeof(struct timespec)",
      EPOLL_EVENT_WORDS: "sizeof(struct epoll_event) / 4",
      EPOLL_DATA_WORD: "offsetof(struct epoll_event, data) / 4",
    };
    // Ours to choose: as large as any address, and how many events at once.
    const own = ["NAME_BYTES", "MAX_EPOLL_EVENTS"];
    const names = Object.entries(layout)
      .filter(([name, value]) =>
        typeof value === "number" && !own.includes(name)
      )
      .map(([name]) => name);
    const code = `
    #define _GNU_SOURCE
    #include <linux/sock_diag.h>
    #include <netinet/in.h>
    #include <netinet/udp.h>
    #include <poll.h>
    #include <stddef.h>
    #include <stdint.h>
    #include <stdio.h>
    #include <sys/epoll.h>
    #include <sys/socket.h>
    #include <sys/timex.h>
    #include <time.h>
    #include <linux/errqueue.h>
    #include <linux/net_tstamp.h>
    int main(void) {
      ${
      names.map((name) =>
        `printf("${name} %u\\n", (unsigned)(${sizes[name] ?? name}));`
      ).join("\n")
    }
    }`;
    const script =
      'f=$(mktemp) && printf %s "$1" | cc -x c -o "$f" - && "$f"; ' +
      'code=$?; rm -f "$f"; exit $code';
    await using program = new Program("sh", ["-c", script, "sh", code]);
    const { stdout, stderr } = await program.ended();
    assertEquals(stderr, "");
    const found = Object.fromEntries(
      stdout.trim().split("\n").map((line) => line.split(" ")),
    );
    const ours = Object.entries(layout).filter(([name]) =>
      names.includes(name)
    );
    assertEquals(
      found,
      Object.fromEntries(ours.map(([name, value]) => [name, `${value}`])),
    );
    assert(layout.NAME_BYTES >= 28);
  },
  ["cc"],
);

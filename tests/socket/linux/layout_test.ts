import { assert, assertEquals, assertThrows } from "@std/assert";
import { canonicalHostname } from "../../../lib/address.ts";
import { seededRandom } from "../../../lib/testing/mod.ts";
import * as cmsg from "../../../lib/socket/linux/cmsg.ts";
import * as layout from "../../../lib/socket/linux/layout.ts";
import { Program, programTest } from "../../helpers.ts";
import {
  AF_INET,
  AF_INET6,
  decodeSockaddr,
  encodeSockaddr,
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

Deno.test("encodeSockaddr(): a sockaddr is its bytes, in both directions", () => {
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

Deno.test("decodeIPv6(): gives the canonical form of every address", () => {
  const groups = ["0", "0", "0", "ffff", "fe80", "a", "0db8"];
  const random = seededRandom(7);
  for (let i = 0; i < 2000; i++) {
    const address = Array.from(
      { length: 8 },
      (_, at) =>
        i % 8 === 0 && at < 6
          ? at === 5 ? "ffff" : "0"
          : groups[Math.floor(random() * groups.length)]!,
    );
    const bytes = hex(address.map((group) => group.padStart(4, "0")).join(""));
    const zoned = new Uint8Array([...bytes, 0, 0, 0, 0]);
    const text = address.join(":");
    assertEquals(
      layout.decodeIPv6(zoned, 0),
      canonicalHostname(text),
      text,
    );
  }
});

Deno.test("encodeSockaddr(): an IPv4 socket has no IPv6 peers", () => {
  const bytes = new Uint8Array(32);
  assertThrows(
    () => encodeSockaddr({ hostname: "::1", port: 1 }, AF_INET, bytes),
    Error,
    "Address family",
  );
});

Deno.test("stampMs(): reads seconds of 64 bits, and nanoseconds", () => {
  const words = new Uint32Array([9, 9, 5, 1, 250_000, 0]);
  assertEquals(layout.stampMs(words, 2), (2 ** 32 + 5) * 1000 + 0.25);
});

programTest(
  "layout.ts: layouts and numbers are those of the system's headers",
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
      NAME_ZONE: "offsetof(struct sockaddr_in6, sin6_scope_id)",
      SEGMENT_CONTROL_BYTES: "CMSG_SPACE(sizeof(uint16_t))",
      SEND_CONTROL_BYTES: "CMSG_SPACE(sizeof(struct in6_pktinfo)) + " +
        "CMSG_SPACE(sizeof(uint16_t))",
      GROUP_SOURCE_REQ_BYTES: "sizeof(struct group_source_req)",
      GROUP_REQ_GROUP: "offsetof(struct group_source_req, gsr_group)",
      GROUP_REQ_SOURCE: "offsetof(struct group_source_req, gsr_source)",
      PMTUDISC_DONT: "IP_PMTUDISC_DONT",
      PMTUDISC_DO: "IP_PMTUDISC_DO",
      PMTUDISC_PROBE: "IP_PMTUDISC_PROBE",
      MEMINFO_BYTES: "4 * SK_MEMINFO_VARS",
      MEMINFO_RECEIVED: "SK_MEMINFO_RMEM_ALLOC",
      MEMINFO_DROPS: "SK_MEMINFO_DROPS",
      POLLFD_BYTES: "sizeof(struct pollfd)",
      TIMEX_BYTES: "sizeof(struct timex)",
      TIMEX_MAX_ERROR: "offsetof(struct timex, maxerror)",
      TIMESPEC_BYTES: "sizeof(struct timespec)",
      EPOLL_EVENT_WORDS: "sizeof(struct epoll_event) / 4",
      EPOLL_DATA_WORD: "offsetof(struct epoll_event, data) / 4",
    };
    // Free choices: the size of the largest address, the number of events at
    // once, and room for all control messages.
    const own = ["NAME_BYTES", "MAX_EPOLL_EVENTS", "CONTROL_BYTES"];
    const numbers = { ...layout, ...cmsg };
    const names = Object.entries(numbers)
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
    const ours = Object.entries(numbers).filter(([name]) =>
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

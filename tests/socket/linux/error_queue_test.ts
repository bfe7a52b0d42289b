import { assert, assertEquals } from "@std/assert";
import {
  errorIn,
  keepErrors,
  keepStamps,
  stampIn,
  takeEntries,
  takeErrors,
} from "../../../lib/socket/linux/error_queue.ts";
import {
  AF_INET,
  AF_INET6,
  encodeSockaddr,
  IP_RECVERR,
  IPPROTO_IP,
  IPPROTO_IPV6,
  IPV6_RECVERR,
} from "../../../lib/socket/linux/layout.ts";
import { FakeLibc, stamped } from "./fake_libc.ts";

/** A control message as the kernel makes it. */
function rejected(
  hostname: string,
  { errno, origin, type, code, info = 0 }: Record<string, number>,
): Uint8Array {
  const isIPv6 = hostname.includes(":");
  const bytes = new Uint8Array(64);
  const view = new DataView(bytes.buffer);
  view.setUint32(0, bytes.length, true);
  view.setInt32(8, isIPv6 ? IPPROTO_IPV6 : IPPROTO_IP, true);
  view.setInt32(12, isIPv6 ? IPV6_RECVERR : IP_RECVERR, true);
  view.setUint32(16, errno!, true);
  bytes.set([origin!, type!, code!], 20);
  view.setUint32(24, info, true);
  const name = bytes.subarray(32);
  const family = isIPv6 ? AF_INET6 : AF_INET;
  if (hostname !== "") encodeSockaddr({ hostname, port: 0 }, family, name);
  return bytes;
}

Deno.test("errorIn(): has the meaning of the ICMP message, and its sender", () => {
  const cases: Array<[string, Record<string, number>, string]> = [
    [
      "192.0.2.1",
      { errno: 113, origin: 2, type: 3, code: 13 },
      "192.0.2.1 reports: a filter prohibits it (ICMP type 3, code 13)",
    ],
    [
      "192.0.2.1",
      { errno: 90, origin: 2, type: 3, code: 4, info: 1400 },
      "192.0.2.1 reports: a datagram would have to be fragmented, and must not be " +
      "(ICMP type 3, code 4, at most 1400 bytes with headers)",
    ],
    [
      "192.0.2.1",
      { errno: 113, origin: 2, type: 3, code: 1, info: 1400 },
      "192.0.2.1 reports: the host cannot be reached (ICMP type 3, code 1)",
    ],
    [
      "192.0.2.1",
      { errno: 90, origin: 2, type: 3, code: 4 },
      "192.0.2.1 reports: a datagram would have to be fragmented, and must not be " +
      "(ICMP type 3, code 4)",
    ],
    [
      "2001:db8::1",
      { errno: 90, origin: 3, type: 2, code: 0, info: 1280 },
      "2001:db8::1 reports: a datagram is too big " +
      "(ICMP type 2, code 0, at most 1280 bytes with headers)",
    ],
    [
      "2001:db8::1",
      { errno: 13, origin: 3, type: 1, code: 1 },
      "2001:db8::1 reports: a filter prohibits it (ICMP type 1, code 1)",
    ],
    [
      "",
      { errno: 113, origin: 2, type: 3, code: 99 },
      "the network reports: No route to host (os error 113) (ICMP type 3, code 99)",
    ],
    [
      "",
      { errno: 113, origin: 1, type: 0, code: 0 },
      "No route to host (os error 113)",
    ],
    [
      "",
      { errno: 90, origin: 1, type: 0, code: 0, info: 600 },
      "Message too long: the path takes datagrams of at most 600 bytes with headers",
    ],
  ];
  for (const [hostname, facts, message] of cases) {
    const isOwn = facts["origin"] === 1;
    const entry = rejected(hostname, facts);
    assertEquals(errorIn(entry, isOwn)?.message, message);
    assertEquals(errorIn(entry, !isOwn), undefined);
  }
});

Deno.test("errorIn(): a closed port is ConnectionRefused, and other entries are none", () => {
  const closed = { errno: 111, origin: 2, type: 3, code: 3 };
  const error = errorIn(rejected("192.0.2.1", closed), false);
  assert(error instanceof Deno.errors.ConnectionRefused);
  assertEquals(errorIn(new Uint8Array(0), false), undefined);
  const other = rejected("192.0.2.1", closed);
  other[12] = 1;
  assertEquals(errorIn(other, false), undefined);
});

const FD = 7;
const socket = (family: number) => ({ fd: FD, family, close() {} });

Deno.test("keepErrors(): queues errors for IPv4, and on an IPv6 socket for both, in order", () => {
  const libc = new FakeLibc();
  const on = [1, 0, 0, 0];
  keepErrors(libc, socket(AF_INET));
  assertEquals(libc.options.splice(0), [[0, 11, on]]);
  keepErrors(libc, socket(AF_INET6));
  assertEquals(libc.options, [[0, 11, on], [41, 25, on]]);
  const filtered = { errno: 113, origin: 2, type: 3, code: 13 };
  const cut = { errno: 90, origin: 2, type: 3, code: 4, info: 1400 };
  libc.errorQueue.push(
    rejected("192.0.2.1", filtered),
    rejected("192.0.2.2", cut),
  );
  const [first, second, ...none] = takeErrors(libc, FD);
  assert(
    first!.message.startsWith("192.0.2.1 reports: a filter"),
    first!.message,
  );
  assertEquals("mtu" in first!, false);
  assertEquals([(second as { mtu?: number }).mtu, none], [1400, []]);
});

Deno.test("stampIn(): has a datagram's number and time, and nothing of other entries", () => {
  assertEquals(stampIn(stamped(7, 12)), { index: 7, stampMs: 12_000.5 });
  assertEquals(stampIn(stamped(7, 12, 2)), undefined);
  assertEquals(stampIn(stamped(7, 12).subarray(0, 64)), undefined);
  const closed = { errno: 111, origin: 2, type: 3, code: 3 };
  assertEquals(stampIn(rejected("192.0.2.1", closed)), undefined);
});

Deno.test("takeEntries(): takes all stamps and reports from the queue, up to a number", () => {
  const libc = new FakeLibc();
  assertEquals(keepStamps(libc, socket(AF_INET)), true);
  // SOF_TIMESTAMPING_TX_SOFTWARE, _SOFTWARE, _OPT_ID and _OPT_TSONLY.
  const flags = 1 << 1 | 1 << 4 | 1 << 7 | 1 << 11;
  const bytes = [flags & 0xff, flags >> 8, 0, 0];
  assertEquals(libc.options, [[1, 37, bytes]]);
  const closed = { errno: 111, origin: 2, type: 3, code: 3 };
  libc.errorQueue.push(
    stamped(0, 1),
    rejected("192.0.2.1", closed),
    stamped(1, 2),
  );
  const [first, report, last] = takeEntries(libc, FD);
  assertEquals([first!.stamp, last!.stamp], [
    { index: 0, stampMs: 1000.5 },
    { index: 1, stampMs: 2000.5 },
  ]);
  assert(report!.error instanceof Deno.errors.ConnectionRefused);
  // A stamp is no report.
  libc.errorQueue.push(stamped(0, 1));
  assertEquals(takeErrors(libc, FD), []);
  for (let i = 0; i < 1030; i++) libc.errorQueue.push(stamped(i, 1));
  assertEquals(takeEntries(libc, FD).length, 1024);
  assertEquals(libc.errorQueue.length, 6);
});

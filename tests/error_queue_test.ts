import { assert, assertEquals } from "@std/assert";
import { errorIn } from "../lib/linux/error_queue.ts";
import {
  AF_INET,
  AF_INET6,
  encodeSockaddr,
  IP_RECVERR,
  IPPROTO_IP,
  IPPROTO_IPV6,
  IPV6_RECVERR,
} from "../lib/linux/layout.ts";

/** A control message as the kernel makes it. */
function told(
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

Deno.test("errorIn() says what ICMP says, and who", () => {
  const cases: Array<[string, Record<string, number>, string]> = [
    [
      "192.0.2.1",
      { errno: 113, origin: 2, type: 3, code: 13 },
      "192.0.2.1 says: a filter prohibits it (ICMP type 3, code 13)",
    ],
    [
      "192.0.2.1",
      { errno: 90, origin: 2, type: 3, code: 4, info: 1400 },
      "192.0.2.1 says: a datagram would have to be fragmented, and must not be " +
      "(ICMP type 3, code 4, at most 1400 bytes with headers)",
    ],
    [
      "2001:db8::1",
      { errno: 13, origin: 3, type: 1, code: 1 },
      "2001:db8::1 says: a filter prohibits it (ICMP type 1, code 1)",
    ],
    [
      "",
      { errno: 113, origin: 2, type: 3, code: 99 },
      "the network says: No route to host (os error 113) (ICMP type 3, code 99)",
    ],
    [
      "",
      { errno: 113, origin: 1, type: 0, code: 0 },
      "No route to host (os error 113)",
    ],
  ];
  for (const [hostname, facts, message] of cases) {
    assertEquals(errorIn(told(hostname, facts))?.message, message);
  }
});

Deno.test("errorIn() leaves a closed port what it is, and knows nothing of others", () => {
  const closed = { errno: 111, origin: 2, type: 3, code: 3 };
  const error = errorIn(told("192.0.2.1", closed));
  assert(error instanceof Deno.errors.ConnectionRefused);
  assertEquals(errorIn(new Uint8Array(0)), undefined);
  const other = told("192.0.2.1", closed);
  other[12] = 1;
  assertEquals(errorIn(other), undefined);
});

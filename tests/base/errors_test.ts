import { assert, assertEquals } from "@std/assert";
import { bindError, errorMessage, sendError } from "../../lib/base/errors.ts";

const coded = (code: string) => Object.assign(new Error("?"), { code });

Deno.test("bindError(): names the address, and the remedy for a host without IPv6", () => {
  const refused = coded("EAFNOSUPPORT");
  const error = bindError(refused, { hostname: "::", port: 53 }) as Error;
  assertEquals(
    error.message,
    "Cannot bind [::]:53: this machine has no IPv6: use an IPv4 address, such as 0.0.0.0",
  );
  assertEquals((error as { code?: string }).code, "EAFNOSUPPORT");
  assert(error.cause === refused);
});

Deno.test("bindError(), sendError(): a zone that is no interface is named", () => {
  const to = { hostname: "fe80::1%no", port: 53 };
  const unresolved = new Error("failed to lookup address information: ?");
  for (
    const [explain, verb] of [[bindError, "bind"], [
      sendError,
      "send to",
    ]] as const
  ) {
    const error = explain(unresolved, to);
    assert(error instanceof Deno.errors.NotFound);
    const reason = "there is no interface 'no'";
    assertEquals(error.message, `Cannot ${verb} [fe80::1%no]:53: ${reason}`);
  }
});

Deno.test("sendError(): the address, the name and the reason, in one line", () => {
  const to = { hostname: "192.0.2.1", port: 53 };
  const table: Array<[Error, string]> = [
    [coded("EPERM"), "a filter of this machine refuses it: check the firewall"],
    [coded("ENETDOWN"), "the network interface is down"],
    [coded("EOTHER"), "?"],
    [new Error("two\nlines"), "two lines"],
  ];
  for (const [error, reason] of table) {
    const { message } = sendError(error, to, "a.example") as Error;
    assertEquals(message, `Cannot send to 192.0.2.1:53 (a.example): ${reason}`);
  }
  const unzoned = sendError(coded("EINVAL"), { hostname: "fe80::1", port: 5 });
  assert(unzoned instanceof TypeError);
  assertEquals(
    unzoned.message,
    "Cannot send to [fe80::1]:5: a link-local address needs a zone, such as fe80::1%eth0",
  );
  const mtu = Object.assign(coded("EMSGSIZE"), { mtu: 1280 });
  assertEquals((sendError(mtu, to) as { mtu?: number }).mtu, 1280);
  assertEquals(sendError("thrown", to), "thrown");
});

Deno.test("bindError(): ports below 1024 are a remedy for these alone", () => {
  const refused = new Deno.errors.PermissionDenied("Operation not permitted");
  const reason = (port: number) =>
    errorMessage(bindError(refused, { hostname: "192.0.2.1", port }));
  const low = "the system does not allow it: ports below 1024 need more rights";
  const any =
    "the system does not allow it: check its filters, and the sandbox";
  assertEquals([1, 1023, 0, 1024].map(reason), [
    `Cannot bind 192.0.2.1:1: ${low}`,
    `Cannot bind 192.0.2.1:1023: ${low}`,
    `Cannot bind 192.0.2.1:0: ${any}`,
    `Cannot bind 192.0.2.1:1024: ${any}`,
  ]);
});

import { assertEquals } from "@std/assert";
import { bindError, errorMessage } from "../../lib/base/errors.ts";

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

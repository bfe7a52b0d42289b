/**
 * Errors, in words that name the remedy.
 *
 * @module
 */
import {
  formatAddress,
  isLinkLocal,
  type UdpAddress,
  zoneOf,
} from "../address.ts";

/**
 * The error of binding a socket, with its address and the remedy in the
 * message. The class and the `code` stay those of the system's error, so that
 * `instanceof Deno.errors.AddrInUse` still works, and a name that does not
 * resolve is `Deno.errors.NotFound`; the system's error is the `cause`.
 */
export function bindError(error: unknown, address: UdpAddress): unknown {
  if (!(error instanceof Error)) return error;
  const isName = isUnresolved(error);
  const reason = isName
    ? missingZone(address) ??
      "the name does not resolve: check its spelling, or give an IP address"
    : BIND_REASONS.find(([matches]) => matches(error, address))?.[1];
  if (reason === undefined) return error;
  const message = `Cannot bind ${formatAddress(address)}: ${reason}`;
  return explained(error, message, isName ? Deno.errors.NotFound : undefined);
}

/**
 * The error of sending to an address, with it and the remedy in the message; the
 * rest is as with {@linkcode bindError}.
 *
 * @param name The name that was resolved to the address, if there was one.
 */
export function sendError(
  error: unknown,
  to: UdpAddress,
  name: string = to.hostname,
): unknown {
  if (!(error instanceof Error)) return error;
  const { hostname } = to;
  const code = (error as { code?: unknown }).code;
  const isUnzoned = code === "EINVAL" && isLinkLocal(hostname);
  const zone = isUnresolved(error) ? missingZone(to) : undefined;
  const reason = isUnzoned
    ? zoneNeeded(hostname)
    : zone ?? SEND_REASONS.get(code) ?? errorMessage(error);
  const shown = formatAddress(to) + (name === hostname ? "" : ` (${name})`);
  const ErrorClass = isUnzoned
    ? TypeError
    : zone === undefined
    ? undefined
    : Deno.errors.NotFound;
  return explained(error, `Cannot send to ${shown}: ${reason}`, ErrorClass);
}

/** The remedy for a link-local address without a zone. */
export function zoneNeeded(hostname: string): string {
  return `a link-local address needs a zone, such as ${hostname}%eth0`;
}

/** Whether the system's resolver failed, which Deno uses for zones too. */
function isUnresolved(error: Error): boolean {
  return /lookup address|No such host/i.test(error.message);
}

/** The reason why an address with a zone does not resolve. */
function missingZone({ hostname }: UdpAddress): string | undefined {
  const zone = zoneOf(hostname);
  return zone === undefined ? undefined : `there is no interface '${zone}'`;
}

/** An error with another message, of the same class and with the same properties. */
function explained(
  error: Error,
  message: string,
  ErrorClass: new (message: string, options: ErrorOptions) => Error = error
    .constructor as ErrorConstructor,
): Error {
  const { code } = error as { code?: unknown };
  return Object.assign(
    new ErrorClass(message, { cause: error }),
    error,
    code !== undefined && { code },
  );
}

/** The error of joining a group, with the group in its message. */
export function joinError(error: unknown, group: string): Error {
  return new Error(
    `Cannot join the group ${group}: ${
      errorMessage(error)
    } (is there such an interface, and has it multicast?)`,
    { cause: error },
  );
}

/** Whether an error is the system's report that the peer's port is closed. */
export function isPortClosed(error: unknown): boolean {
  // Windows reports the ICMP message of an earlier send as a reset.
  return error instanceof Deno.errors.ConnectionRefused ||
    error instanceof Deno.errors.ConnectionReset;
}

/**
 * Whether an error is the system's report of an ICMP message about an earlier
 * datagram, which never ends a socket (RFC 8085, section 5.2).
 */
export function isReport(error: unknown): boolean {
  return isPortClosed(error) ||
    REPORT_CODES.has((error as { code?: unknown } | null)?.code);
}

/** Whether an error is about a datagram that is longer than its path, or UDP, takes. */
export function isTooLong(error: unknown): boolean {
  return (error as { code?: unknown } | null)?.code === "EMSGSIZE";
}

/**
 * Whether a send that failed with an error may work later: without a route or
 * room, or refused by a filter.
 */
export function mayPass(error: unknown): boolean {
  const code = (error as { code?: unknown } | null)?.code;
  const isUnsent = code === "EADDRNOTAVAIL" || code === "ENETDOWN" ||
    code === "ENOBUFS" || code === "EPERM" || code === "EINVAL";
  return isUnsent || !isTooLong(error) && isReport(error);
}

/** The message of an error, in one line; never throws, whatever was thrown. */
export function errorMessage(error: unknown): string {
  const message = () => error instanceof Error ? error.message : error;
  return textOf(message).replace(/\s*\n\s*/g, " ");
}

/** The name of an error's class, or the type of another value; never throws. */
export function errorName(error: unknown): string {
  return textOf(() => error instanceof Error ? error.name : typeof error);
}

/** The text of a value whose getters and methods may be anything. */
export function textOf(value: () => unknown): string {
  try {
    return String(value());
  } catch {
    return "a value that cannot be shown";
  }
}

/** An error of this library's, without the stack: that is no help to its user. */
export function oneLine<E extends Error>(error: E): E {
  error.stack = `${error.name}: ${error.message}`;
  return error;
}

/** The errors that Linux makes of ICMP messages. */
const REPORT_CODES: ReadonlySet<unknown> = new Set([
  ...["EACCES", "EHOSTDOWN", "EHOSTUNREACH", "EMSGSIZE", "ENETUNREACH"],
  ...["ENONET", "ENOPROTOOPT", "EOPNOTSUPP", "EPROTO"],
]);

const BIND_REASONS: ReadonlyArray<
  [(error: Error, address: UdpAddress) => boolean, string]
> = [
  [
    (error) => error instanceof Deno.errors.AddrInUse,
    "the port is in use: stop its owner, or choose another port (0 takes any that is free)",
  ],
  [
    (error) => error instanceof Deno.errors.AddrNotAvailable,
    "it is not an address of this machine",
  ],
  [
    (error) => (error as { code?: unknown }).code === "EAFNOSUPPORT",
    "this machine has no IPv6: use an IPv4 address, such as 0.0.0.0",
  ],
  [
    (error, { port }) =>
      error instanceof Deno.errors.PermissionDenied && port > 0 && port < 1024,
    "the system does not allow it: ports below 1024 need more rights",
  ],
  [
    (error) => error instanceof Deno.errors.PermissionDenied,
    "the system does not allow it: check its filters, and the sandbox",
  ],
];

/** The reasons of sends that the system refused, by the codes of its errors. */
const SEND_REASONS: ReadonlyMap<unknown, string> = new Map([
  ["EACCES", "a route or filter prohibits it, or it is a broadcast address"],
  [
    "EADDRNOTAVAIL",
    "this machine has no address of that IP version to send from",
  ],
  ["EAFNOSUPPORT", "this machine has no IPv6"],
  [
    "EHOSTUNREACH",
    "the host cannot be reached: is it up, and on this network?",
  ],
  ["ENETDOWN", "the network interface is down"],
  [
    "ENETUNREACH",
    "no route to it: connect its network, or name another address",
  ],
  [
    "ENOBUFS",
    "the link dropped it: its queue is full, or its next hop has a smaller MTU",
  ],
  ["EINVAL", "a route discards it, or no datagram can be sent to it"],
  ["EPERM", "a filter of this machine refuses it: check the firewall"],
]);

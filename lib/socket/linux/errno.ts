/**
 * The system's errors by number, as Deno throws them. Pure.
 *
 * @module
 */

/** A call was interrupted by a signal, and did nothing. */
export const EINTR = 4;
/** A network device failed, for instance to segment a message. */
export const EIO = 5;
/** There is no such descriptor. */
export const EBADF = 9;
/** The call would have to wait. */
export const EAGAIN = 11;
/** An argument is unknown, for instance to an older kernel. */
export const EINVAL = 22;
/** A datagram is longer than the path, or UDP, can carry. */
export const EMSGSIZE = 90;
/** An address is of another IP version than the socket. */
export const EAFNOSUPPORT = 97;
/** A network, or a host, is unreachable. */
export const ENETUNREACH = 101;
export const EHOSTUNREACH = 113;
/** The peer's port is closed. */
export const ECONNREFUSED = 111;

/** The error of an errno, of the class and with the `code` that Deno uses. */
export function errorOf(errno: number): Error {
  const [code, ErrorClass, text] = ERRORS[errno] ??
    [`E${errno}`, Error, "System error"];
  const error = new ErrorClass(`${text} (os error ${errno})`);
  return Object.assign(error, { code });
}

/** Whether a connected socket cannot reach its peer from its address any more. */
export function hasMoved(error: unknown): boolean {
  return MOVED_CODES.includes((error as { code: string }).code);
}

const MOVED_CODES = ["EINVAL", "EDESTADDRREQ", "EADDRNOTAVAIL", "ENETUNREACH"];

const ERRORS: Record<
  number,
  [string, new (message: string) => Error, string]
> = {
  1: ["EPERM", Deno.errors.PermissionDenied, "Operation not permitted"],
  5: ["EIO", Error, "Input/output error"],
  9: ["EBADF", Deno.errors.BadResource, "Bad file descriptor"],
  11: ["EAGAIN", Deno.errors.WouldBlock, "Resource temporarily unavailable"],
  12: ["ENOMEM", Error, "Cannot allocate memory"],
  13: ["EACCES", Deno.errors.PermissionDenied, "Permission denied"],
  19: ["ENODEV", Error, "No such device"],
  22: ["EINVAL", Error, "Invalid argument"],
  23: ["ENFILE", Error, "Too many open files in system"],
  24: ["EMFILE", Error, "Too many open files"],
  64: ["ENONET", Error, "Machine is not on the network"],
  71: ["EPROTO", Error, "Protocol error"],
  89: ["EDESTADDRREQ", Error, "Destination address required"],
  90: ["EMSGSIZE", Error, "Message too long"],
  92: ["ENOPROTOOPT", Error, "Protocol not available"],
  95: ["EOPNOTSUPP", Error, "Operation not supported"],
  97: ["EAFNOSUPPORT", Error, "Address family not supported by protocol"],
  98: ["EADDRINUSE", Deno.errors.AddrInUse, "Address already in use"],
  99: [
    "EADDRNOTAVAIL",
    Deno.errors.AddrNotAvailable,
    "Cannot assign requested address",
  ],
  100: ["ENETDOWN", Error, "Network is down"],
  101: [
    "ENETUNREACH",
    Deno.errors.NetworkUnreachable,
    "Network is unreachable",
  ],
  105: ["ENOBUFS", Error, "No buffer space available"],
  111: ["ECONNREFUSED", Deno.errors.ConnectionRefused, "Connection refused"],
  112: ["EHOSTDOWN", Error, "Host is down"],
  113: ["EHOSTUNREACH", Error, "No route to host"],
};

/**
 * What can go wrong, in words that say what would be right.
 *
 * @module
 */
import { formatAddress, type UdpAddress } from "./address.ts";

/** What is known when a request goes unanswered. */
export interface TimeoutErrorOptions extends ErrorOptions {
  /** How many times the datagram was sent. */
  attempts: number;
  /** Datagrams from other addresses that came in and were ignored. */
  foreign: number;
}

/**
 * No reply came in time. UDP cannot tell a lost request from a lost reply, a
 * closed port or a server that chose to be silent. Where the system did say
 * that the port is closed, that error is the `cause`.
 *
 * @example
 * ```ts
 * import { TimeoutError } from "@roundtrip/udp";
 * import { assertEquals } from "@std/assert";
 *
 * const error = new TimeoutError("No reply", { attempts: 3, foreign: 0 });
 * assertEquals(error.attempts, 3);
 * ```
 */
export class TimeoutError extends Error {
  /** How many times the datagram was sent. */
  readonly attempts: number;
  /** Datagrams from other addresses that came in and were ignored. */
  readonly foreign: number;

  /**
   * Makes the error.
   *
   * @param message What happened.
   * @param options What is known.
   */
  constructor(message: string, options: TimeoutErrorOptions) {
    super(message, options);
    this.name = "TimeoutError";
    this.attempts = options.attempts;
    this.foreign = options.foreign;
  }
}

/**
 * The error of binding a socket, told with its address and the remedy. The
 * class and the `code` stay those of the system's error, so that `instanceof
 * Deno.errors.AddrInUse` goes on working; that error is the `cause`.
 */
export function bindError(error: unknown, address: UdpAddress): unknown {
  if (!(error instanceof Error)) return error;
  const reason = BIND_REASONS.find(([matches]) => matches(error))?.[1];
  if (reason === undefined) return error;
  const ErrorClass = error.constructor as ErrorConstructor;
  const told = new ErrorClass(
    `Cannot bind ${formatAddress(address)}: ${reason}`,
    { cause: error },
  );
  return "code" in error ? Object.assign(told, { code: error.code }) : told;
}

/** Whether the system says by this error that the peer's port is closed. */
export function isRefusal(error: unknown): boolean {
  // Windows reports the ICMP message of an earlier send as a reset.
  return error instanceof Deno.errors.ConnectionRefused ||
    error instanceof Deno.errors.ConnectionReset;
}

/**
 * Checks a number among the options before any work is done.
 *
 * @throws {RangeError} If it is not an integer from `min` to `max`.
 */
export function requireInteger(
  name: string,
  value: number,
  min: number,
  max: number,
): void {
  if (!Number.isInteger(value) || value < min || value > max) {
    throw new RangeError(
      `'${name}' must be an integer from ${min} to ${max}: current value is ${value}`,
    );
  }
}

/**
 * Checks a time among the options before any work is done.
 *
 * @throws {RangeError} If it is not a number from `min` to one day.
 */
export function requireMs(name: string, value: number, min = 0): void {
  if (!(value >= min && value <= MAX_MS)) {
    throw new RangeError(
      `'${name}' must be from ${min} to ${MAX_MS} ms: current value is ${value}`,
    );
  }
}

/** A day: far from the 24.8 days at which timers overflow. */
export const MAX_MS = 86_400_000;

const BIND_REASONS: ReadonlyArray<[(error: Error) => boolean, string]> = [
  [
    (error) => error instanceof Deno.errors.AddrInUse,
    "the port is in use: stop its owner, or choose another port (0 takes any that is free)",
  ],
  [
    (error) => error instanceof Deno.errors.AddrNotAvailable,
    "it is not an address of this machine",
  ],
  [
    (error) => error instanceof Deno.errors.PermissionDenied,
    "the system does not allow it: ports below 1024 need more rights",
  ],
  [
    (error) => /lookup address|No such host/i.test(error.message),
    "the name does not resolve: check its spelling, or give an IP address",
  ],
];

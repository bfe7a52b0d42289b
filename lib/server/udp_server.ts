/**
 * The interface of a server to its owner: methods, counts and callbacks.
 *
 * @module
 */
import type { UdpAddress } from "../address.ts";
import type { PayloadInit } from "../base/payload.ts";
import type { Endpoint, PushOptions } from "../socket/outbox.ts";
import { type Refusal, REFUSALS } from "./guard.ts";
import type { DatagramInfo, Reply } from "./handler.ts";

/**
 * The counts of a server. `received` is the sum of `replied`,
 * `unanswered`, all of `dropped` and `refused`, `errors.send`, and `inFlight`.
 */
export interface ServerStats {
  /** Datagrams received. */
  received: number;
  /** Replies of handlers that were sent. */
  replied: number;
  /** Datagrams whose handler gave no reply, by choice or by failing. */
  unanswered: number;
  /** Dropped datagrams, by reason. */
  dropped: {
    /** Longer than `maxDatagramBytes`. */
    tooLong: number;
    /** More than `maxInFlight` at once. */
    overload: number;
    /** Received after the shutdown began, or still with its handler at the close. */
    closing: number;
  };
  /**
   * Datagrams that the system dropped before the server saw them, since the
   * receive buffer was full; in no other count. Undefined where that is not
   * known: on the deno engine, but for Linux with `--allow-all`.
   */
  kernelDrops: number | undefined;
  /** Answers that the guard withheld, by reason. */
  refused: Record<Refusal, number>;
  /** Datagrams of `info.reply()`, `send()` and `sendMany()`. */
  pushed: {
    /** Taken by the system. */
    sent: number;
    /** Refused by the guard. */
    refused: number;
    /**
     * Not sent: refused by the system, of a wrong address or payload, with too many
     * others in flight, or after the close.
     */
    unsent: number;
  };
  /** Bytes of payload. */
  bytes: {
    /** Of all received datagrams. */
    received: number;
    /** Of all replies that were sent. */
    replied: number;
  };
  /** Datagrams with their handlers, and replies being sent. */
  inFlight: number;
  /** Failures that the server survived. */
  errors: {
    /** Handlers that threw, rejected, took too long, or returned no reply. */
    handler: number;
    /** Replies that could not be sent. */
    send: number;
    /** Receives that failed. */
    receive: number;
  };
}

/** A running server. */
export interface UdpServer extends Endpoint {
  /**
   * Sends the same datagram to many, as {@linkcode Endpoint.send} does to one,
   * no faster than the system takes them. An address that is wrong, or that the
   * system cannot send to, is counted and reported to `onError`; all others are
   * sent to.
   *
   * @param payload As for `send`.
   * @param addresses Where to, each as for `send`.
   * @param options The address that all leave from.
   * @returns The number of addresses that it was sent to.
   */
  sendMany(
    payload: PayloadInit,
    addresses: Iterable<UdpAddress | string>,
    options?: PushOptions,
  ): Promise<number>;
  /**
   * Takes the datagrams that the system has received, then no more, waits for the
   * handlers at work and their replies, and closes. Every call returns the same
   * promise, except that of a handler before its first `await`: it resolves at once,
   * as the shutdown waits for that handler. Later a handler must not wait for it.
   */
  shutdown(): Promise<void>;
  /** A snapshot of the counts. */
  stats(): ServerStats;
}

/** Callbacks, each in place of a line on stderr. */
export interface Hooks {
  /**
   * Called for each failure that does not end the server: a handler
   * that throws or rejects or returns something that is no reply, a reply that
   * cannot be sent, and, without `info`, a failed receive, a fast path that the
   * system refuses and that is turned off, or a datagram that `send` or `sendMany`
   * cannot send. For a handler that throws or rejects, its return value is the reply.
   *
   * @default {prints the error on stderr, each kind at most once a second}
   */
  onError?:
    | ((
      error: unknown,
      info?: Pick<DatagramInfo, "remoteAddr">,
    ) => Reply | Promise<Reply>)
    | undefined;
  /**
   * Called for each answer that the guard refuses, with the reason.
   *
   * @default {prints the first of each reason on stderr}
   */
  onRefuse?: ((reason: Refusal, info: DatagramInfo) => void) | undefined;
  /**
   * Called for each datagram that is dropped since `maxInFlight` are at work.
   *
   * @default {prints the first on stderr}
   */
  onOverload?: ((info: DatagramInfo) => void) | undefined;
  /**
   * Whether to print nothing on stderr; the counts and the callbacks remain.
   *
   * @default {false}
   */
  quiet?: boolean | undefined;
}

/** The counts of a new server. */
export function noStats(): ServerStats {
  return {
    received: 0,
    replied: 0,
    unanswered: 0,
    dropped: { tooLong: 0, overload: 0, closing: 0 },
    kernelDrops: undefined,
    refused: Object.fromEntries(
      REFUSALS.map((reason) => [reason, 0]),
    ) as Record<Refusal, number>,
    pushed: { sent: 0, refused: 0, unsent: 0 },
    bytes: { received: 0, replied: 0 },
    inFlight: 0,
    errors: { handler: 0, send: 0, receive: 0 },
  };
}

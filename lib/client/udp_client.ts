/**
 * The contract of a client: one socket to one server, and any number of requests in
 * flight on it.
 *
 * @module
 */
import type { UdpAddress } from "../address.ts";
import * as option from "../base/options.ts";
import type { PayloadInit } from "../base/payload.ts";
import type { Datagram } from "../socket/datagram.ts";
import { type Payload, REQUEST, type RequestOptions } from "./exchange.ts";
import {
  type OptionalReplies,
  REPLIES,
  type RepliesOptions,
} from "./replies.ts";
import type { UdpReply } from "./reply.ts";

/** The key that a reply shares with its request, and with no other. */
export type Key = number | string;

/** Options of a request on a {@linkcode UdpClient}. */
export type ClientRequestOptions<Decoded = unknown> = Pick<
  RequestOptions<Decoded>,
  "timeoutMs" | "retries" | "match" | "signal"
>;

/** The table of all options of a request; the client has the defaults. */
export const CLIENT_REQUEST = {
  timeoutMs: option.dependent(REQUEST.timeoutMs),
  retries: option.dependent(REQUEST.retries),
  match: option.dependent(REQUEST.match),
  signal: REQUEST.signal,
  ...REPLIES,
} satisfies option.Table<ClientRequestOptions & OptionalReplies>;

/** A datagram that no request was waiting for. */
export type Unclaimed = Datagram;

/** The counts of a client. */
export interface ClientStats {
  /** Requests made. */
  requests: number;
  /** Requests answered. */
  answered: number;
  /** Requests that timed out, or whose port was reported closed. */
  lost: number;
  /** Requests that failed or were aborted, and failed calls of `send`. */
  errors: number;
  /** Datagrams sent, those of `send` and retransmissions included. */
  sent: number;
  /** Datagrams retransmitted. */
  retransmissions: number;
  /** Replies to requests that had timed out or failed. */
  late: number;
  /** Further replies to requests that had been answered. */
  duplicates: number;
  /** Datagrams from the server that no request waited for. */
  unmatched: number;
  /** Unmatched datagrams received while 16 MiB of others were unread. */
  dropped: number;
  /** Datagrams from other addresses. */
  foreign: number;
}

/** One socket, and the requests on it. */
export interface UdpClient extends AsyncDisposable, AsyncIterable<Unclaimed> {
  /** The local address. */
  readonly addr: UdpAddress;
  /** The server's address. */
  readonly remoteAddr: UdpAddress;
  /**
   * Sends a request and gives several replies, all with its key.
   *
   * @param payload The payload.
   * @param options The number of replies or their end, beside all others.
   * @returns The replies. Rejects as with a single one; the `replies` of a
   * {@linkcode TimeoutError} are those received.
   */
  request<Decoded = undefined>(
    payload: Payload,
    options: ClientRequestOptions<Decoded> & RepliesOptions<Decoded>,
  ): Promise<UdpReply<Decoded>[]>;
  /**
   * Sends a request and gives its reply, as the function {@linkcode request}
   * does; time-outs and retries count from the first send.
   *
   * @param payload The payload.
   * @param options Time-out, retransmissions, `match` and signal.
   * @returns The reply. Rejects with a {@linkcode TimeoutError} if none arrives,
   * with the system's error if sending fails, and with `Deno.errors.Interrupted`
   * if the client is closed.
   */
  request<Decoded = undefined>(
    payload: Payload,
    options?: ClientRequestOptions<Decoded>,
  ): Promise<UdpReply<Decoded>>;
  /** Sends a request and gives the reply, or several where `replies` is given. */
  request<Decoded = undefined>(
    payload: Payload,
    options: ClientRequestOptions<Decoded> & OptionalReplies<Decoded>,
  ): Promise<UdpReply<Decoded> | UdpReply<Decoded>[]>;
  /**
   * Sends a datagram without waiting for a reply. A failure is counted among
   * `errors`, so that a rejection that nobody handles does not end the process.
   *
   * @returns Resolves when the system has taken it; rejects with its error.
   */
  send(payload: PayloadInit): Promise<void>;
  /** A snapshot of the counts. */
  stats(): ClientStats;
  /** Closes the socket, and rejects all requests in flight or waiting. */
  close(): Promise<void>;
}

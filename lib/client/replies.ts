/**
 * Answers of several datagrams to one request.
 *
 * @module
 */
import { formatAddress, type UdpAddress } from "../address.ts";
import * as option from "../base/options.ts";
import type { PayloadInit } from "../base/payload.ts";
import { TimeoutError, type UdpReply } from "./reply.ts";

/** The options of a {@linkcode request} with several replies. */
export interface RepliesOptions<Decoded = unknown> {
  /**
   * The number of replies, 1 to 65,536, or a function that gets each reply as it
   * arrives and returns whether it is the last one. After the first reply each
   * further one may take `timeoutMs`; nothing is retransmitted without `missing`.
   */
  replies: number | ((reply: UdpReply<Decoded>) => boolean);
  /**
   * Makes the payload of each retransmission after the first reply, to request
   * those that are missing. A part that may then arrive twice is for `match` to
   * refuse.
   *
   * @param received The replies received.
   */
  missing?:
    | ((received: readonly UdpReply<Decoded>[]) => PayloadInit)
    | undefined;
}

/** {@linkcode RepliesOptions} of a request that may have a single reply. */
export type OptionalReplies<Decoded = unknown> = {
  [Name in keyof RepliesOptions]?: RepliesOptions<Decoded>[Name] | undefined;
};

const COUNT = option.integer(1, 65_536);

/** The table of {@linkcode RepliesOptions}. */
export const REPLIES = {
  replies: option.custom<RepliesOptions["replies"]>(
    `${COUNT.words} or a function`,
    (value) => typeof value === "function" ? undefined : COUNT.judge(value),
    undefined,
    COUNT,
  ),
  missing: option.callback(),
} satisfies option.Table<OptionalReplies>;

/** Throws a TypeError if there is `missing` without `replies`. */
export function checkReplies(options: option.Values<typeof REPLIES>): void {
  if (options.missing === undefined || options.replies !== undefined) return;
  throw new TypeError("'missing' needs 'replies', their number or their end");
}

/** Whether the last reply completes the answer. */
export function isWhole(
  replies: readonly UdpReply[],
  wanted: RepliesOptions["replies"],
): boolean {
  const { length } = replies;
  if (typeof wanted === "number") return length >= wanted;
  if (wanted(replies[length - 1]!)) return true;
  if (length < COUNT.max!) return false;
  throw new Error(
    `${length} replies received, and 'replies()' took none as the last`,
  );
}

/** The error of a time-out after these replies. */
export function incomplete(
  error: TimeoutError,
  replies: readonly UdpReply[] = [],
  wanted: RepliesOptions["replies"] | undefined,
  target: UdpAddress,
): TimeoutError {
  const { length } = replies;
  if (length === 0) return error;
  const { attempts, foreign, cause } = error;
  const received = typeof wanted === "number"
    ? `${length} of ${wanted}`
    : length;
  return new TimeoutError(
    `Replies received from ${
      formatAddress(target)
    }: ${received}, and no other in time`,
    { attempts, foreign, replies, cause },
  );
}

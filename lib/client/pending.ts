/**
 * A request of a client that `connect()` opened, until it is settled.
 *
 * @module
 */
import type * as option from "../base/options.ts";
import { type PayloadInit, payloadOf } from "../base/payload.ts";
import type { SendListener } from "../socket/contract.ts";
import type { RequestPlan } from "./exchange.ts";
import { isWhole, type REPLIES } from "./replies.ts";
import type { UdpReply } from "./reply.ts";
import type { Key } from "./udp_client.ts";

/** The client of a request: it takes the failures of its sends. */
interface SendFailures {
  sendFailed(pending: Pending, error: unknown): void;
}

/** The options of a request, or those of the client. */
export type PendingPlan =
  & Pick<RequestPlan, "timeoutMs" | "retries" | "match">
  & Partial<option.Values<typeof REPLIES>>;

/** A request until it is settled. */
export class Pending implements SendListener {
  attempts = 0;
  isSettled = false;
  key: Key | undefined;
  sentAt = 0;
  /** The last report of the system or the network about a sent datagram. */
  report: unknown;
  /** The time at which it is retransmitted or times out. */
  deadline = Infinity;
  /** The replies received, if several are wanted. */
  replies: UdpReply[] | undefined;

  constructor(
    readonly client: SendFailures,
    /** The bytes, or the function that makes them for each attempt. */
    readonly payload: Uint8Array | ((attempt: number) => PayloadInit),
    readonly plan: PendingPlan,
    readonly resolve: (reply: UdpReply | UdpReply[]) => void,
    readonly reject: (error: unknown) => void,
  ) {}

  onSendError(error: unknown): void {
    this.client.sendFailed(this, error);
  }

  /** Whether it may be sent again. */
  get isRetried(): boolean {
    const { retries, missing } = this.plan;
    const mayBe = this.replies === undefined || missing !== undefined;
    return mayBe && this.attempts <= retries;
  }

  /** The bytes of the current attempt. */
  bytes(): Uint8Array {
    const { payload, replies, plan: { missing } } = this;
    if (replies === undefined && typeof payload !== "function") return payload;
    const made = replies === undefined
      ? (payload as (attempt: number) => PayloadInit)(this.attempts)
      : missing!(replies);
    return payloadOf(made, "request()", "return");
  }

  /** Takes a reply; returns whether it is the last one. */
  completes(reply: UdpReply): boolean {
    const { replies } = this.plan;
    if (replies === undefined) return true;
    this.replies ??= [];
    this.replies.push(reply);
    return isWhole(this.replies, replies);
  }
}

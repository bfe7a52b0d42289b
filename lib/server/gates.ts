/**
 * The gates on an answer's way out: source, link, loop, own reply, size, rate,
 * and the random delay of answers to a group. All but the last may refuse it.
 *
 * @module
 */
import type { UdpAddress } from "../address.ts";
import { equalBytes } from "../encoding.ts";
import { type Links, mayBeGroup } from "../socket/multicast.ts";
import type { Guard, Refusal } from "./guard.ts";
import type { HandlerTraits } from "./handler.ts";
import { Incoming } from "./incoming.ts";
import type { LoopProbe } from "./loop_probe.ts";

/** The outcome for an answer: it leaves now, is held, or is refused for a reason. */
export type Verdict = "send" | "hold" | Refusal;

/** The gates that a server has; one that is undefined stops nothing. */
export interface GateOptions {
  /** Judges source, size and rate. */
  guard: Guard | undefined;
  /** The links whose members are answered when they ask a group. */
  links: Links | undefined;
  /** Finds loops. */
  loops: LoopProbe | undefined;
  /** The traits of the handler that makes the answers. */
  traits: HandlerTraits;
  /** Whether answers to a group wait for a random time. */
  holdsGroups: boolean;
}

/** The gates of one server. */
export class Gates {
  /** The links whose members are answered when they ask a group; undefined: all. */
  links: Links | undefined;
  readonly #options: GateOptions;
  /** Whether each answer is judged by its peer alone. */
  readonly #judgesPeers: boolean;
  /** The latest peer that gets any answer unless it is in a loop. */
  #openTo: UdpAddress | undefined;
  #isDraining = false;

  constructor(options: GateOptions) {
    const { links, traits, holdsGroups } = options;
    this.#options = options;
    this.links = links;
    this.#judgesPeers = !holdsGroups && traits.fixedReply === undefined &&
      traits.isNoLoop === undefined;
  }

  /** Holds no answer from now on, and sends no probe. */
  drain(): void {
    this.#isDraining = true;
    this.#options.loops?.close();
  }

  /** Judges an answer; one that may leave is counted. */
  judge(
    incoming: Incoming,
    payload: Uint8Array,
    isOneOfSeveral: boolean,
  ): Verdict {
    const { guard, loops, traits, holdsGroups } = this.#options;
    const remoteAddr = Incoming.source(incoming);
    const localAddr = Incoming.destination(incoming);
    const receivedAt = Incoming.receivedAt(incoming);
    if (remoteAddr === this.#openTo && this.links === undefined) {
      // Most datagrams of a train are judged here.
      if (loops?.isLoop(remoteAddr, receivedAt)) return "loop";
    } else {
      const refusal = this.#refusal(incoming, payload);
      if (refusal !== undefined) return refusal;
      if (this.#judgesPeers && guard?.isOpenTo(remoteAddr) !== false) {
        this.#openTo = remoteAddr;
      }
    }
    if (loops && !traits.isNoLoop?.(Incoming.data(incoming))) {
      loops.onAnswer(
        remoteAddr,
        localAddr,
        receivedAt,
        payload,
        isOneOfSeveral,
      );
    }
    const isHeld = holdsGroups && !this.#isDraining && mayBeGroup(localAddr);
    return isHeld ? "hold" : "send";
  }

  /** The largest size of an answer, in bytes; see `DatagramInfo`. */
  maxReplyBytes(incoming: Incoming): number {
    const { guard } = this.#options;
    if (guard === undefined) return Infinity;
    if (this.#judgePeer(incoming) !== undefined) return 0;
    return Math.max(
      0,
      guard.maxReplyBytes(
        Incoming.source(incoming),
        Incoming.size(incoming),
        Incoming.spent(incoming),
      ),
    );
  }

  /** Judges an answer by its peer and its payload. */
  #refusal(incoming: Incoming, payload: Uint8Array): Refusal | undefined {
    const { guard, traits } = this.#options;
    const refusal = this.#judgePeer(incoming);
    if (refusal !== undefined) return refusal;
    const data = Incoming.data(incoming);
    if (guard && payload === traits.fixedReply && equalBytes(payload, data)) {
      return "ownReply";
    }
    return guard?.permit(
      Incoming.source(incoming),
      data,
      payload,
      Incoming.spent(incoming),
    );
  }

  /** Judges the peer, whatever the answer. */
  #judgePeer(incoming: Incoming): Refusal | undefined {
    const { guard, loops, traits } = this.#options;
    const { links } = this;
    const remoteAddr = Incoming.source(incoming);
    const localAddr = Incoming.destination(incoming);
    const receivedAt = Incoming.receivedAt(incoming);
    const data = Incoming.data(incoming);
    const refusal = guard?.admit(remoteAddr);
    if (refusal !== undefined) return refusal;
    if (links && mayBeGroup(localAddr) && !links.has(remoteAddr.hostname)) {
      return "offLink";
    }
    const isLoop = loops?.isLoop(remoteAddr, receivedAt) &&
      !traits.isNoLoop?.(data);
    return isLoop ? "loop" : undefined;
  }
}

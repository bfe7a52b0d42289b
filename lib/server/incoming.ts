/**
 * One datagram while a server works on it.
 *
 * @module
 */
import { headersOf } from "./guard.ts";
import type { DatagramInfo } from "./handler.ts";
import { copyFacts, type DatagramFacts } from "../socket/datagram.ts";
import { type PayloadInit, payloadOf } from "../base/payload.ts";
import type { Datagram } from "../socket/contract.ts";

/** The server that received the datagram. */
export interface AnsweringServer {
  /** The largest size of an answer, in bytes; see {@linkcode DatagramInfo}. */
  maxReplyBytes(incoming: Incoming): number;
  /** Sends an answer beside the one that is returned. */
  pushReply(incoming: Incoming, payload: Uint8Array): boolean;
}

/** The facts of the datagram; a class that extends them is measurably slower. */
export interface Incoming extends DatagramFacts {}

/** A datagram that a server works on, as its handler sees it. */
export class Incoming implements DatagramInfo {
  readonly #server: AnsweringServer;
  readonly #data: Uint8Array;
  /** Undefined once the handler has settled or timed out. */
  #datagram: Datagram | undefined;
  /**
   * The bytes of its answers, with their headers; -Infinity for a validated
   * peer.
   */
  #spent = 0;

  constructor(server: AnsweringServer, datagram: Datagram, data: Uint8Array) {
    copyFacts(datagram, this);
    this.#server = server;
    this.#datagram = datagram;
    this.#data = data;
  }

  get maxReplyBytes(): number {
    return this.isSettled ? 0 : this.#server.maxReplyBytes(this);
  }

  /** A function of its own, so that it can be taken out of the object. */
  get reply(): (payload: PayloadInit) => boolean {
    return (payload) => {
      if (this.#datagram === undefined) {
        throw new TypeError("Cannot reply as the handler has settled");
      }
      const bytes = payloadOf(payload, "reply()");
      return this.#server.pushReply(this, bytes);
    };
  }

  /** A function of its own, so that it can be taken out of the object. */
  get validated(): () => void {
    return () => {
      this.#spent = -Infinity;
    };
  }

  get data(): Uint8Array {
    return this.#data;
  }

  get spent(): number {
    return this.#spent;
  }

  spend(bytes: number): void {
    this.#spent += bytes + headersOf(this.remoteAddr);
  }

  get isSettled(): boolean {
    return this.#datagram === undefined;
  }

  /** The handler has no more to say; gives the datagram, the first time. */
  settle(): Datagram | undefined {
    const datagram = this.#datagram;
    this.#datagram = undefined;
    return datagram;
  }
}

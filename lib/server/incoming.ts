/**
 * One datagram while a server works on it.
 *
 * @module
 */
import type { UdpAddress } from "../address.ts";
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

/**
 * A datagram that a server works on, as its handler sees it. The handler may write to
 * it, or to its prototype: the server reads the private fields, by static methods.
 */
export class Incoming implements DatagramInfo {
  readonly #server: AnsweringServer;
  readonly #data: Uint8Array;
  readonly #size: number;
  readonly #source: UdpAddress;
  readonly #destination: UdpAddress;
  readonly #receivedAt: number;
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
    this.#size = data.length;
    this.#source = datagram.remoteAddr;
    this.#destination = datagram.localAddr;
    this.#receivedAt = datagram.receivedAt;
  }

  get maxReplyBytes(): number {
    return Incoming.isSettled(this) ? 0 : this.#server.maxReplyBytes(this);
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

  static data(incoming: Incoming): Uint8Array {
    return incoming.#data;
  }

  static size(incoming: Incoming): number {
    return incoming.#size;
  }

  static source(incoming: Incoming): UdpAddress {
    return incoming.#source;
  }

  static destination(incoming: Incoming): UdpAddress {
    return incoming.#destination;
  }

  static receivedAt(incoming: Incoming): number {
    return incoming.#receivedAt;
  }

  static spent(incoming: Incoming): number {
    return incoming.#spent;
  }

  static spend(incoming: Incoming, bytes: number): void {
    incoming.#spent += bytes + headersOf(incoming.#source);
  }

  static isSettled(incoming: Incoming): boolean {
    return incoming.#datagram === undefined;
  }

  /** The handler has no more to say; gives the datagram, the first time. */
  static settle(incoming: Incoming): Datagram | undefined {
    const datagram = incoming.#datagram;
    incoming.#datagram = undefined;
    return datagram;
  }
}

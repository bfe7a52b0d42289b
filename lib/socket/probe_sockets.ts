/**
 * The sockets of a trace, by the C library: a connected one for each flow, and a raw
 * one for ICMP where the process may have it, since only that quotes headers.
 *
 * @module
 */
import { ipVersion, type UdpAddress, withoutZone } from "../address.ts";
import { isReport, sendError } from "../base/errors.ts";
import type { SendOptions } from "./contract.ts";
import { type AnswerKind, meaningOf, quoteIn } from "./icmp.ts";
import { controlFacts } from "./linux/cmsg.ts";
import * as descriptor from "./linux/descriptor.ts";
import { errorOf } from "./linux/errno.ts";
import * as queue from "./linux/error_queue.ts";
import * as sys from "./linux/layout.ts";
import { type Libc, libcMissing, loadLibc } from "./linux/libc.ts";
import { SendBatch } from "./linux/send_batch.ts";
import { requireNet } from "./net_access.ts";

/** A reply, or a report of the network, to one of the probes of a flow. */
export interface Answer {
  kind: AnswerKind;
  mark?: string;
  mtu?: number;
  /** The address of the host that sent it. */
  from: string;
  /** The time at which the kernel received it, by the wall clock, in milliseconds. */
  at: number;
  /**
   * The first bytes of the reply, or of the payload that the report quotes; empty if
   * the router quotes only headers, as RFC 792 has it.
   */
  data: Uint8Array;
  /** The traffic class that is quoted, where headers are visible. */
  trafficClass?: number;
}

/** The sockets of the flows to one target. */
export class ProbeSockets {
  /** The local port of each flow. */
  readonly ports: number[] = [];
  /** Whether reports have the quoted traffic class. */
  readonly seesHeaders: boolean;
  readonly #libc: Libc;
  readonly #target: UdpAddress;
  readonly #isIPv6: boolean;
  readonly #options: typeof OPTIONS_IPV4;
  readonly #sockets: descriptor.SocketDescriptor[] = [];
  readonly #raw: descriptor.Descriptor | undefined;
  readonly #batch: SendBatch;
  readonly #room;
  /** Answers that were read and not yet taken. */
  #answers: Array<{ flow: number; answer: Answer }> = [];

  /** Opens a socket for each local port, 0 for any; throws the system's error. */
  constructor(
    target: UdpAddress,
    local: { hostname: string } & SendOptions,
    ports: readonly number[],
  ) {
    const missing = libcMissing();
    if (missing !== undefined) {
      const message = `Cannot use the linux engine: ${missing}`;
      throw new Deno.errors.NotSupported(message);
    }
    requireNet(target);
    const libc = this.#libc = loadLibc();
    this.#target = target;
    this.#isIPv6 = ipVersion(target.hostname) === 6;
    this.#options = this.#isIPv6 ? OPTIONS_IPV6 : OPTIONS_IPV4;
    this.#batch = new SendBatch(libc, MAX_SEND_BYTES, false);
    this.#room = libc.allocate(sys.IOVEC_BYTES + QUOTE_BYTES);
    // One that takes both versions is of no use here.
    const isBoth = local.hostname === "::" && !this.#isIPv6;
    const hostname = isBoth ? "0.0.0.0" : local.hostname;
    try {
      for (const port of ports) {
        const bound = descriptor.bindDescriptor(libc, { hostname, port });
        this.#sockets.push(bound);
        this.#prepare(bound, local);
        this.ports.push(descriptor.addressOf(libc, bound.fd).port);
      }
      this.#raw = openRaw(libc, this.#isIPv6, hostname);
    } catch (error) {
      this.close();
      throw error;
    }
    this.seesHeaders = this.#raw !== undefined;
  }

  #prepare(bound: descriptor.SocketDescriptor, local: SendOptions): void {
    const libc = this.#libc;
    const { fd } = bound;
    const { trafficClass, device } = local;
    descriptor.setSendOptions(libc, bound, { trafficClass, device });
    queue.keepErrors(libc, bound);
    descriptor.setOption(libc, fd, sys.SOL_SOCKET, sys.SO_TIMESTAMPNS, 1);
    // Don't-fragment, without the MTU that the system remembers of the path.
    const { level, discovery } = this.#options;
    descriptor.setOption(libc, fd, level, discovery, sys.PMTUDISC_PROBE);
    // Then a broadcast address is an error.
    descriptor.setOption(libc, fd, sys.SOL_SOCKET, sys.SO_BROADCAST, 0);
    bound.peer = descriptor.numberZone(libc, this.#target);
    const errno = descriptor.reconnect(libc, bound, false);
    if (errno !== 0) throw sendError(errorOf(errno), this.#target);
  }

  /**
   * Sends a probe, and gives the time by the wall clock, in milliseconds; throws the
   * system's error, one about the size with the link's `mtu`.
   */
  send(flow: number, payload: Uint8Array, ttl: number): number {
    const libc = this.#libc;
    const { fd } = this.#sockets[flow]!;
    const { level, hops } = this.#options;
    descriptor.setOption(libc, fd, level, hops, ttl);
    this.#batch.clear();
    this.#batch.hasRoom(payload.length);
    this.#batch.add(payload, 0, 0, this.#target);
    for (let tries = 0;; tries++) {
      const at = libc.realtimeMs();
      if (this.#batch.send(fd, 0, 1) === 1) return at;
      const error = errorOf(libc.errno());
      const own = this.#readReports(flow);
      // A report about an earlier probe, which this send delivers, and then no more.
      if (own === undefined && isReport(error) && tries < MAX_REPORTS) continue;
      if (own !== undefined) {
        error.message =
          `Message too long: the link takes at most ${own.mtu} bytes with headers`;
      }
      throw Object.assign(sendError(error, this.#target) as Error, own);
    }
  }

  /** Takes the answers that have arrived, with their flows. */
  take(): Array<{ flow: number; answer: Answer }> {
    for (const [flow, { fd }] of this.#sockets.entries()) {
      this.#readReports(flow);
      for (const { control, data } of this.#read(fd, 0)) {
        const from = this.#target.hostname;
        this.#add(flow, control, { kind: "reply", from, data });
      }
    }
    if (this.#raw !== undefined) this.#readQuotes(this.#raw.fd);
    return this.#answers.splice(0);
  }

  /** Closes all sockets. */
  close(): void {
    for (const socket of [...this.#sockets, this.#raw]) socket?.close();
  }

  #read(fd: number, flags: number) {
    return queue.takeMessages(this.#libc, fd, flags, this.#room);
  }

  #add(
    flow: number,
    control: Uint8Array,
    answer: Omit<Answer, "at">,
  ): void {
    const at = controlFacts(control).stampMs ?? this.#libc.realtimeMs();
    const data = answer.data.slice();
    let { from } = answer;
    const { hostname } = this.#target;
    // The system numbers zones, the target's address may name one.
    if (withoutZone(from) === withoutZone(hostname)) from = hostname;
    this.#answers.push({ flow, answer: { ...answer, from, at, data } });
  }

  /** Reads the error queue, and gives the MTU of an error of this machine's own. */
  #readReports(flow: number): { mtu: number } | undefined {
    const { fd } = this.#sockets[flow]!;
    let own: { mtu: number } | undefined;
    for (const { control, data } of this.#read(fd, sys.MSG_ERRQUEUE)) {
      const error = queue.queuedErrorIn(control);
      if (error === undefined) continue;
      const { origin, type, code, info, from } = error;
      if (origin !== queue.FROM_ICMP && origin !== queue.FROM_ICMPV6) {
        if (info > 0) own = { mtu: info };
        continue;
      }
      // The raw socket has the same reports, with more of them.
      if (this.seesHeaders || from === undefined) continue;
      const isIPv6 = origin === queue.FROM_ICMPV6;
      const meaning = meaningOf(isIPv6, type, code, info);
      if (meaning) this.#add(flow, control, { ...meaning, from, data });
    }
    return own;
  }

  #readQuotes(fd: number): void {
    const { hostname, port } = this.#target;
    for (const { control, data, name } of this.#read(fd, 0)) {
      const quote = quoteIn(data, this.#isIPv6);
      if (quote === undefined) continue;
      const flow = this.ports.indexOf(quote.sourcePort);
      const isOurs = quote.port === port && quote.to === withoutZone(hostname);
      if (!isOurs || flow === -1) continue;
      const { to: _, sourcePort: __, port: ___, ...report } = quote;
      const from = quote.from ?? sys.decodeSockaddr(name).hostname;
      this.#add(flow, control, { ...report, from });
    }
  }
}

/** A raw socket for ICMP; undefined without the right (CAP_NET_RAW). */
function openRaw(
  libc: Libc,
  isIPv6: boolean,
  hostname: string,
): descriptor.Descriptor | undefined {
  const family = isIPv6 ? sys.AF_INET6 : sys.AF_INET;
  const protocol = isIPv6 ? sys.IPPROTO_ICMPV6 : sys.IPPROTO_ICMP;
  const type = sys.SOCK_RAW | sys.SOCK_CLOEXEC | sys.SOCK_NONBLOCK;
  const fd = libc.socket(family, type, protocol);
  if (fd < 0) return undefined;
  const raw = descriptor.own(libc, fd, hostname);
  descriptor.trySet(libc, raw.fd, sys.SOL_SOCKET, sys.SO_TIMESTAMPNS, 1);
  return raw;
}

const OPTIONS_IPV4 = {
  level: sys.IPPROTO_IP as number,
  hops: sys.IP_TTL as number,
  discovery: sys.IP_MTU_DISCOVER as number,
};
const OPTIONS_IPV6: typeof OPTIONS_IPV4 = {
  level: sys.IPPROTO_IPV6,
  hops: sys.IPV6_UNICAST_HOPS,
  discovery: sys.IPV6_MTU_DISCOVER,
};
/** An ICMPv6 message has 1,280 bytes at most (RFC 4443, section 3). */
const QUOTE_BYTES = 1280;
const MAX_SEND_BYTES = 1 << 17;
const MAX_REPORTS = 64;

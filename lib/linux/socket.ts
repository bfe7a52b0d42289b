/**
 * {@linkcode DatagramSocket} over recvmmsg and sendmmsg: Linux on x86-64 and
 * arm64, where the caller asks for it.
 *
 * One call moves up to 64 messages, and with UDP_GRO and UDP_SEGMENT each of
 * them up to 64 datagrams of one flow.
 *
 * @module
 */
import {
  canonicalHostname,
  formatAddress,
  ipVersion,
  isWildcard,
  type UdpAddress,
} from "../address.ts";
import { bindError } from "../errors.ts";
import {
  type Datagram,
  type DatagramSocket,
  MAX_PAYLOAD,
  type OpenOptions,
  type Receiver,
} from "../socket.ts";
import { openDenoSocket } from "../socket_deno.ts";
import { ReceiveBatch, SendBatch } from "./batch.ts";
import {
  EAGAIN,
  ECONNREFUSED,
  EINTR,
  EINVAL,
  EIO,
  EMSGSIZE,
  errorOf,
} from "./errno.ts";
import {
  AF_INET,
  AF_INET6,
  decodeSockaddr,
  encodeSockaddr,
  HEADER_BYTES,
  IP_PKTINFO,
  IPPROTO_IP,
  IPPROTO_IPV6,
  IPV6_RECVPKTINFO,
  IPV6_V6ONLY,
  MSG_DONTWAIT,
  MSG_WAITFORONE,
  NAME_BYTES,
  SO_BROADCAST,
  SO_RCVBUF,
  SO_RCVTIMEO,
  SO_REUSEPORT,
  SO_SNDBUF,
  SOCK_CLOEXEC,
  SOCK_DGRAM,
  SOL_SOCKET,
  SOL_UDP,
  UDP_GRO,
  UDP_SEGMENT,
} from "./layout.ts";
import { type Libc, libcMissing, loadLibc } from "./libc.ts";
import { Poller } from "./poller.ts";

/**
 * Binds a socket, and connects it if `peer` is given.
 *
 * @throws {Deno.errors.NotSupported} Where {@linkcode libcMissing} gives a
 * reason.
 * @throws {Deno.errors.NotCapable} Without permission to use the address.
 * @throws {Deno.errors.AddrInUse} If the port is taken.
 * @throws {Deno.errors.AddrNotAvailable} If it is not this machine's address.
 */
export function openLinuxSocket(options: OpenOptions): DatagramSocket {
  const missing = libcMissing();
  if (missing !== undefined) {
    throw new Deno.errors.NotSupported(
      `Cannot use the linux engine: ${missing}`,
    );
  }
  const { hostname, port, peer } = options;
  // FFI goes past Deno's own check.
  for (const address of [options, ...(peer === undefined ? [] : [peer])]) {
    requireNet(address);
  }
  try {
    const local = { ...options, hostname: resolveLocal(hostname) };
    const libc = loadLibc();
    return new LinuxSocket(local, libc, sharedPoller ??= new Poller(libc));
  } catch (error) {
    throw bindError(error, { hostname, port });
  }
}

let sharedPoller: Poller | undefined;

function requireNet(address: UdpAddress): void {
  const host = formatAddress(address);
  if (Deno.permissions.querySync({ name: "net", host }).state !== "granted") {
    throw new Deno.errors.NotCapable(
      `Requires net access to "${host}", run again with the --allow-net flag`,
    );
  }
}

/** A name's address, as Deno's own socket resolves it. */
function resolveLocal(hostname: string): string {
  const canonical = canonicalHostname(hostname);
  if (ipVersion(canonical) !== undefined) return canonical;
  try {
    const probe = openDenoSocket({ hostname, port: 0, maxDatagramBytes: 1 });
    probe.close();
    return probe.addr.hostname;
  } catch (error) {
    // The system's own error: the caller adds the port that was asked for.
    throw (error as Error).cause ?? error;
  }
}

/** A socket whose system calls are those of `libc`. */
export class LinuxSocket implements DatagramSocket {
  readonly addr: UdpAddress;
  readonly isConnected: boolean;
  readonly copiesReplies = true;
  readonly #libc: Libc;
  readonly #poller: Poller;
  readonly #fd: number;
  readonly #maxDatagramBytes: number;
  readonly #family: number;
  readonly #batch: number;
  readonly #in: ReceiveBatch;
  readonly #out: SendBatch;
  #receiver: Receiver = { onDatagram: (datagram) => this.release(datagram) };
  /** The datagram that the receiver is working on, and may answer now. */
  #current: BatchDatagram | undefined;
  /** The message in the receive batch that it came in. */
  #message = 0;
  /** When the batch came that is being handed out. */
  #receivedAt = 0;
  /** How many datagrams the receiver kept for longer than its call. */
  #kept = 0;
  #started = false;
  #closed = false;
  #keepsAlive = true;

  constructor(options: OpenOptions, libc: Libc, poller: Poller) {
    const { hostname, port, peer, isServer = false } = options;
    this.#libc = libc;
    this.#poller = poller;
    this.#maxDatagramBytes = options.maxDatagramBytes;
    this.#batch = isServer ? SERVER_BATCH : 1;
    this.#family = ipVersion(hostname) === 6 ? AF_INET6 : AF_INET;
    this.isConnected = peer !== undefined;
    this.#fd = this.#check(
      libc.socket(this.#family, SOCK_DGRAM | SOCK_CLOEXEC, 0),
    );
    try {
      this.#configure(options);
      const name = libc.allocate(NAME_BYTES);
      const encode = (address: UdpAddress) =>
        encodeSockaddr(address, this.#family, name.u8);
      this.#check(libc.bind(this.#fd, name, encode({ hostname, port })));
      if (peer !== undefined) {
        this.#check(libc.connect(this.#fd, name, encode(peer)));
      }
      const length = libc.allocate(4);
      length.u32[0] = NAME_BYTES;
      this.#check(libc.getsockname(this.#fd, name, length));
      this.addr = Object.freeze(decodeSockaddr(name.u8));
    } catch (error) {
      libc.close(this.#fd);
      throw error;
    }
    // A wildcard socket answers from the address that was asked.
    const knowsLocal = isServer && isWildcard(hostname) &&
      (this.#family === AF_INET
        ? this.#trySet(IPPROTO_IP, IP_PKTINFO, 1)
        : this.#trySet(IPPROTO_IPV6, IPV6_RECVPKTINFO, 1));
    const coalesces = isServer && this.#trySet(SOL_UDP, UDP_GRO, 1);
    const segments = isServer && this.#trySet(SOL_UDP, UDP_SEGMENT, 0);
    this.#in = new ReceiveBatch(
      libc,
      this.#batch,
      coalesces ? MAX_COALESCED_BYTES : this.#maxDatagramBytes + 1,
      knowsLocal || coalesces,
    );
    this.#out = new SendBatch(
      libc,
      this.#batch,
      isServer ? SEND_BYTES : MAX_PAYLOAD,
      segments,
    );
  }

  async start(receiver: Receiver): Promise<void> {
    this.#receiver = receiver;
    this.#started = true;
    try {
      await this.#receive();
    } finally {
      this.#closed = true;
      await this.#poller.cancel(this.#fd);
      this.#libc.close(this.#fd);
    }
  }

  // deno-lint-ignore require-await -- so that what it throws is a rejection
  async send(payload: Uint8Array, to: UdpAddress): Promise<void> {
    if (this.#closed) throw new Deno.errors.BadResource("Socket is closed");
    if (payload.length > MAX_PAYLOAD) throw errorOf(EMSGSIZE);
    this.#flush();
    const out = this.#out;
    const name = this.isConnected
      ? 0
      : encodeSockaddr(to, this.#family, out.nextName);
    out.add(payload, out.nextNamePointer, name, to);
    const outcome = this.#transmit();
    this.#reportAsides(outcome);
    for (const { error } of outcome.failures) throw error;
  }

  reply(datagram: Datagram, payload: Uint8Array): void {
    const answered = datagram as BatchDatagram;
    const out = this.#out;
    if (payload.length > MAX_PAYLOAD) {
      this.release(datagram);
      const error = errorOf(EMSGSIZE);
      return this.#receiver.onReplyError?.(error, datagram.remoteAddr, 1);
    }
    // What is answered while a batch is handed out goes with that batch.
    const isNow = answered === this.#current;
    if (!out.hasBytes(payload.length)) this.#flush();
    if (!isNow || !out.extend(payload, this.#message, answered.remoteAddr)) {
      if (!out.hasRoom(payload.length)) this.#flush();
      if (isNow) this.#addNow(answered, payload);
      else this.#addLater(answered, payload);
    }
    // The batch has a copy of the payload, so the datagram is free again.
    this.release(answered);
    if (this.#current === undefined) this.#flush();
  }

  release(datagram: Datagram): void {
    const released = datagram as BatchDatagram;
    released.isHandedOut = false;
    if (!released.isKept) return;
    released.isKept = false;
    this.#kept--;
  }

  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#flush();
    if (!this.#started) this.#libc.close(this.#fd);
    // Else the loop closes the descriptor, when no poll uses it any more.
    else this.#poller.cancel(this.#fd);
  }

  ref(): void {
    this.#keepsAlive = true;
  }

  unref(): void {
    this.#keepsAlive = false;
    // A poll under way would keep the process alive until something comes.
    if (this.#started) this.#poller.cancel(this.#fd);
  }

  /**
   * While datagrams come fast, waits for them within the system call, a few
   * milliseconds at most, which is as fast as C; the event loop has its turn
   * each millisecond. When they come slowly, or handlers are at work that need
   * the event loop, a thread polls instead: an idle socket costs nothing.
   */
  async #receive(): Promise<void> {
    let [turnAt, streakAt, streak, failures] = [performance.now(), 0, 0, 0];
    let isFast = false;
    while (!this.#closed) {
      const waits = isFast && this.#kept === 0 && this.#keepsAlive;
      this.#in.prepare();
      const count = this.#libc.recvmmsg(
        this.#fd,
        this.#in.headers,
        this.#batch,
        waits ? MSG_WAITFORONE : MSG_DONTWAIT,
      );
      if (count > 0) {
        failures = 0;
        this.#receivedAt = performance.now();
        this.#handOut(count);
        this.#flush();
        const now = performance.now();
        if (++streak === STREAK) {
          isFast = this.#batch > 1 && now - streakAt < STREAK_MS;
          streakAt = now;
          streak = 0;
        }
        if (this.#kept > 0 || now - turnAt > TURN_MS) {
          turnAt = now;
          await nextTurn();
        }
        continue;
      }
      const code = this.#libc.errno();
      if (code === EAGAIN || code === EINTR) {
        if (waits) isFast = false;
        await this.#readable();
        continue;
      }
      const error = errorOf(code);
      if (++failures >= MAX_RECEIVE_FAILURES) throw error;
      this.#receiver.onReceiveError?.(error);
    }
  }

  /** Until something is there to receive, or the socket is being closed. */
  async #readable(): Promise<void> {
    if (this.#keepsAlive) return await this.#poller.readable(this.#fd);
    // A thread would keep the process alive; a timer need not.
    await new Promise<void>((resolve) => {
      Deno.unrefTimer(setTimeout(resolve, UNREF_MS) as unknown as number);
    });
  }

  #handOut(count: number): void {
    for (let message = 0; message < count && !this.#closed; message++) {
      const batch = this.#in;
      const length = batch.length(message);
      const from = batch.address(message);
      const segment = batch.segmentBytes(message) || length;
      this.#message = message;
      if (segment > this.#maxDatagramBytes) {
        const dropped = Math.max(1, Math.ceil(length / segment));
        for (let i = 0; i < dropped; i++) this.#receiver.onTooLong?.();
        continue;
      }
      // Of this buffer, also when a handler keeps a part of it and the batch
      // goes on with another.
      const buffer = batch.buffer(message);
      const views = batch.views(message, segment);
      // An empty datagram is one too.
      for (let i = 0, at = 0; i === 0 || at < length; i++, at += segment) {
        const size = Math.min(segment, length - at);
        const data = size === segment
          ? views[i] ??= new Uint8Array(buffer, at, size)
          : new Uint8Array(buffer, at, size);
        const isKept = this.#handOutOne(data, from, message);
        if (isKept && batch.buffer(message) === buffer) batch.retire(message);
        if (this.#closed) break;
      }
    }
    this.#current = undefined;
  }

  /** Whether the receiver keeps the datagram for longer than the call. */
  #handOutOne(
    data: Uint8Array<ArrayBuffer>,
    remoteAddr: UdpAddress,
    message: number,
  ): boolean {
    const datagram = this.#current ??= new BatchDatagram();
    datagram.data = data;
    datagram.receivedAt = this.#receivedAt;
    if (datagram.remoteAddr !== remoteAddr) datagram.remoteAddr = remoteAddr;
    datagram.isHandedOut = true;
    this.#receiver.onDatagram(datagram);
    if (!datagram.isHandedOut) return false;
    datagram.isKept = true;
    datagram.local = this.#in.local(message)?.slice();
    this.#kept++;
    this.#current = undefined;
    return true;
  }

  /** Queues the answer to a datagram of the batch that is being handed out. */
  #addNow({ remoteAddr }: BatchDatagram, payload: Uint8Array): void {
    const message = this.#message;
    this.#out.add(
      payload,
      this.#in.namePointer(message),
      this.#in.nameLength(message),
      remoteAddr,
      message,
    );
    const local = this.#in.local(message);
    if (local !== undefined) this.#out.addControl(local);
  }

  /** Queues the answer to a datagram of an earlier batch. */
  #addLater({ remoteAddr, local }: BatchDatagram, payload: Uint8Array): void {
    const out = this.#out;
    const length = encodeSockaddr(remoteAddr, this.#family, out.nextName);
    out.add(payload, out.nextNamePointer, length, remoteAddr);
    if (local !== undefined) out.addControl(local);
  }

  /** Sends the replies that wait to go out together, and reports them. */
  #flush(): void {
    if (this.#out.count === 0) return;
    const outcome = this.#transmit();
    this.#reportAsides(outcome);
    if (outcome.sent > 0) this.#receiver.onReplied?.(outcome.sent);
    for (const { error, to, count } of outcome.failures) {
      this.#receiver.onReplyError?.(error, to, count);
    }
  }

  /** Sends all that is queued, and empties the batch. */
  #transmit(): Outcome {
    const out = this.#out;
    const outcome: Outcome = { sent: 0, failures: [] };
    let triedAgain = -1;
    for (let message = 0; message < out.count;) {
      const result = this.#libc.sendmmsg(
        this.#fd,
        out.headers,
        message * HEADER_BYTES,
        out.count - message,
      );
      if (result > 0) {
        const end = message + result;
        while (message < end) outcome.sent += out.datagramsOf(message++);
        continue;
      }
      const code = this.#libc.errno();
      if (code === EINTR) continue;
      if (code === ECONNREFUSED && triedAgain !== message) {
        // About an earlier datagram: this one has not been tried yet.
        triedAgain = message;
        outcome.closedPort = errorOf(code);
        continue;
      }
      this.#recover(message, code, outcome);
      message++;
    }
    out.clear();
    return outcome;
  }

  /** Makes the best of a message that the kernel refused as it was. */
  #recover(message: number, code: number, outcome: Outcome): void {
    const out = this.#out;
    const to = out.addressOf(message);
    const count = out.datagramsOf(message);
    // A device that cannot cut messages says EIO or EINVAL; EMSGSIZE says that
    // the datagrams do not fit this path, where the network can cut them.
    if (count === 1 || ![EIO, EINVAL, EMSGSIZE].includes(code)) {
      outcome.failures.push({ error: errorOf(code), to, count });
      return;
    }
    if (code !== EMSGSIZE && out.segments) {
      out.segments = false;
      outcome.notice = new Error(
        "Replies go out one by one from now on, which is slower: the system " +
          `refuses to cut messages (UDP_SEGMENT, ${errorOf(code).message})`,
      );
    }
    for (const _ of out.cutByHand(message)) {
      const offset = message * HEADER_BYTES;
      const libc = this.#libc;
      if (libc.sendmmsg(this.#fd, out.headers, offset, 1) > 0) outcome.sent++;
      else {
        const error = errorOf(libc.errno());
        outcome.failures.push({ error, to, count: 1 });
      }
    }
  }

  /** Reports what else came up; the batch is empty again by then. */
  #reportAsides({ closedPort, notice }: Outcome): void {
    if (closedPort !== undefined) this.#receiver.onReceiveError?.(closedPort);
    if (notice !== undefined) this.#receiver.onNotice?.(notice);
  }

  #configure({ reusePort, hostname }: OpenOptions): void {
    if (reusePort) this.#set(SOL_SOCKET, SO_REUSEPORT, 1);
    this.#set(SOL_SOCKET, SO_BROADCAST, 1);
    if (this.#family === AF_INET6) {
      this.#set(IPPROTO_IPV6, IPV6_V6ONLY, isWildcard(hostname) ? 0 : 1);
    }
    this.#trySet(SOL_SOCKET, SO_RCVBUF, BUFFER_BYTES);
    this.#trySet(SOL_SOCKET, SO_SNDBUF, BUFFER_BYTES);
    // struct timeval: seconds and microseconds, 8 bytes each.
    const wait = this.#libc.allocate(16);
    wait.u32[2] = WAIT_US;
    this.#check(
      this.#libc.setsockopt(this.#fd, SOL_SOCKET, SO_RCVTIMEO, wait, 16),
    );
  }

  #set(level: number, option: number, value: number): void {
    const memory = this.#libc.allocate(4);
    memory.u32[0] = value;
    this.#check(this.#libc.setsockopt(this.#fd, level, option, memory, 4));
  }

  /** Whether the kernel knows the option. */
  #trySet(level: number, option: number, value: number): boolean {
    try {
      this.#set(level, option, value);
      return true;
    } catch {
      return false;
    }
  }

  #check(result: number): number {
    if (result < 0) throw errorOf(this.#libc.errno());
    return result;
  }
}

/** What became of the datagrams of a batch. */
interface Outcome {
  sent: number;
  failures: Array<{ error: Error; to: UdpAddress; count: number }>;
  /** The peer's port is closed, an earlier datagram says. */
  closedPort?: Error;
  /** A fast path was turned off. */
  notice?: Error;
}

/**
 * A datagram that the receiver works on. One object serves all that are
 * answered or released before the receiver's call returns.
 */
class BatchDatagram implements Datagram {
  data: Uint8Array<ArrayBuffer> = NOTHING;
  remoteAddr: UdpAddress = { hostname: "", port: 0 };
  receivedAt = 0;
  isHandedOut = false;
  /** For longer than the call. */
  isKept = false;
  /** The control message that sends a reply from the address asked. */
  local: Uint8Array | undefined;
}

/** One turn of the event loop: timers, signals, and what else waits. */
function nextTurn(): Promise<void> {
  return new Promise((resolve) => setImmediate(() => resolve()));
}

const SERVER_BATCH = 64;
const MAX_COALESCED_BYTES = 65_536;
const SEND_BYTES = 1 << 20;
const BUFFER_BYTES = 4 << 20;
const MAX_RECEIVE_FAILURES = 16;
const WAIT_US = 2000;
const TURN_MS = 1;
/** So many receives within so long make a socket a fast one. */
const STREAK = 8;
const STREAK_MS = 3;
const UNREF_MS = 5;

const NOTHING = new Uint8Array(0);

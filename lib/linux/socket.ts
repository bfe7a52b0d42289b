/**
 * The linux engine: Linux on x86-64 and arm64, where the caller asks for it.
 *
 * A server's socket is a {@linkcode DatagramSocket} over recvmmsg and sendmmsg:
 * one call moves up to 64 messages, and with UDP_GRO and UDP_SEGMENT each of
 * them up to 64 datagrams of one flow. A client's socket is that of the default
 * engine, connected, so that the system tells it of a closed port.
 *
 * @module
 */
import {
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
import { DenoSocket } from "../socket_deno.ts";
import { ReceiveBatch, SendBatch } from "./batch.ts";
import { ConnectedSocket } from "./connected_socket.ts";
import {
  addressOf,
  bindDescriptor,
  bindOwned,
  connect,
  own,
  setOption,
  type SocketDescriptor,
} from "./descriptor.ts";
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
  encodeSockaddr,
  HEADER_BYTES,
  IP_PKTINFO,
  IPPROTO_IP,
  IPPROTO_IPV6,
  IPV6_RECVPKTINFO,
  MSG_DONTWAIT,
  POLLFD_BYTES,
  POLLIN,
  SO_RCVBUF,
  SO_SNDBUF,
  SOL_SOCKET,
  SOL_UDP,
  TIMESPEC_BYTES,
  UDP_GRO,
  UDP_SEGMENT,
} from "./layout.ts";
import { type Libc, libcMissing, loadLibc, type Memory } from "./libc.ts";
import { Pace } from "./pace.ts";
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
  const libc = loadLibc();
  return options.isServer
    ? openServer(libc, options)
    : openClient(libc, options);
}

function openServer(libc: Libc, options: OpenOptions): LinuxSocket {
  const { reusePort = false } = options;
  // Deno checks the address that it binds, which is another one at first.
  if (reusePort) requireNet(options);
  try {
    const bound = bindOwned(libc, options, reusePort);
    try {
      const { hostname } = addressOf(libc, bound.fd);
      poller ??= new Poller(libc, (fd) => own(libc, fd, hostname));
      return new LinuxSocket(bound, options, libc, poller);
    } catch (error) {
      bound.close();
      throw error;
    }
  } catch (error) {
    throw bindError(error, options);
  }
}

function openClient(libc: Libc, options: OpenOptions): DenoSocket {
  const { peer, maxDatagramBytes } = options;
  const bound = bindDescriptor(libc, options);
  try {
    growBuffers(libc, bound.fd);
    if (peer === undefined) return new DenoSocket(bound.conn, maxDatagramBytes);
    connect(libc, bound, peer);
    return new ConnectedSocket(libc, bound, maxDatagramBytes);
  } catch (error) {
    bound.close();
    throw error;
  }
}

function growBuffers(libc: Libc, fd: number): void {
  trySet(libc, fd, SOL_SOCKET, SO_RCVBUF, BUFFER_BYTES);
  trySet(libc, fd, SOL_SOCKET, SO_SNDBUF, BUFFER_BYTES);
}

/** One for all servers of this thread. */
let poller: Poller | undefined;

/** FFI goes past Deno's own check. */
function requireNet(address: UdpAddress): void {
  const host = formatAddress(address);
  if (Deno.permissions.querySync({ name: "net", host }).state !== "granted") {
    throw new Deno.errors.NotCapable(
      `Requires net access to "${host}", run again with the --allow-net flag`,
    );
  }
}

/** Whether the kernel knows the option. */
function trySet(
  libc: Libc,
  fd: number,
  level: number,
  option: number,
  value: number,
): boolean {
  try {
    setOption(libc, fd, level, option, value);
    return true;
  } catch {
    return false;
  }
}

/** A server's socket, whose system calls are those of `libc`. */
export class LinuxSocket implements DatagramSocket {
  readonly addr: UdpAddress;
  readonly isConnected = false;
  readonly copiesReplies = true;
  readonly #libc: Libc;
  readonly #poller: Poller;
  readonly #now: () => number;
  readonly #bound: SocketDescriptor;
  readonly #maxDatagramBytes: number;
  readonly #in: ReceiveBatch;
  readonly #out: SendBatch;
  readonly #pace = new Pace();
  readonly #pollfd: Memory;
  readonly #wait: Memory;
  #receiver: Receiver = { onDatagram: (datagram) => this.release(datagram) };
  /** The object for all datagrams that are handed back within the call. */
  #reusable = new BatchDatagram();
  /** The datagram that the receiver is working on, and may answer now. */
  #current: BatchDatagram | undefined;
  /** Of the batch that is being handed out: how many messages it has. */
  #count = 0;
  /** Which of them is being handed out, from which byte on. */
  #message = 0;
  #at = 0;
  /** What that message was received into, and the views into it. */
  #buffer: Memory;
  #views: Uint8Array<ArrayBuffer>[] = [];
  /** Whether it is several datagrams that the kernel put together. */
  #isCoalesced = false;
  #receivedAt = 0;
  /** The event loop had its last turn then, and timers their last round. */
  #turnAt = 0;
  #roundAt = 0;
  /** How many datagrams are handed out between two looks at the clock. */
  #stride = 1;
  #untilLook = 1;
  #lookedAt = 0;
  /** How many datagrams the receiver kept for longer than its call. */
  #kept = 0;
  /** Whether replies wait for room in the send buffer. */
  #isBlocked = false;
  #willFlush = false;
  #started = false;
  #closed = false;
  #released: Promise<void> | undefined;
  #keepsAlive = true;

  constructor(
    bound: SocketDescriptor,
    { maxDatagramBytes }: Pick<OpenOptions, "maxDatagramBytes">,
    libc: Libc,
    poller: Poller,
    now: () => number = () => performance.now(),
  ) {
    this.#libc = libc;
    this.#poller = poller;
    this.#now = now;
    this.#bound = bound;
    const { fd, family } = bound;
    this.#maxDatagramBytes = maxDatagramBytes;
    this.addr = Object.freeze(addressOf(libc, fd));
    growBuffers(libc, fd);
    // A wildcard socket answers from the address that was asked.
    const knowsLocal = isWildcard(this.addr.hostname) &&
      (family === AF_INET
        ? trySet(libc, fd, IPPROTO_IP, IP_PKTINFO, 1)
        : trySet(libc, fd, IPPROTO_IPV6, IPV6_RECVPKTINFO, 1));
    const coalesces = trySet(libc, fd, SOL_UDP, UDP_GRO, 1);
    const segments = trySet(libc, fd, SOL_UDP, UDP_SEGMENT, 0);
    this.#in = new ReceiveBatch(
      libc,
      BATCH,
      coalesces ? MAX_COALESCED_BYTES : maxDatagramBytes + 1,
      knowsLocal || coalesces,
    );
    this.#out = new SendBatch(libc, BATCH, SEND_BYTES, segments);
    this.#buffer = this.#in.buffer(0);
    this.#pollfd = libc.allocate(POLLFD_BYTES);
    this.#pollfd.u32.set([fd, POLLIN]);
    this.#wait = libc.allocate(TIMESPEC_BYTES);
    this.#wait.u32[2] = WAIT_US * 1000;
    poller.add(fd, () => this.#keepsAlive);
  }

  async start(receiver: Receiver): Promise<void> {
    this.#receiver = receiver;
    this.#started = true;
    try {
      // Whoever starts it gets to know of it before its first datagram.
      await null;
      this.#turnAt = this.#roundAt = this.#now();
      await this.#receive();
    } finally {
      this.#closed = true;
      await this.#release();
    }
  }

  // deno-lint-ignore require-await -- so that what it throws is a rejection
  async send(payload: Uint8Array, to: UdpAddress): Promise<void> {
    if (this.#closed) throw new Deno.errors.BadResource("Socket is closed");
    if (ipVersion(to.hostname) === undefined) {
      throw new TypeError(
        `Cannot send to '${to.hostname}': it is no IP address`,
      );
    }
    requireNet(to);
    if (payload.length > MAX_PAYLOAD) throw errorOf(EMSGSIZE);
    const out = this.#out;
    this.#flush();
    if (out.count > 0) throw new Error(SEND_BUFFER_FULL);
    const bytes = encodeSockaddr(to, this.#bound.family, out.nextName);
    out.add(payload, out.nextNamePointer, bytes, to);
    const outcome = this.#transmit();
    if (out.count > 0) this.#waitForRoom();
    const [failure] = outcome.failures.splice(0);
    this.#report({ ...outcome, sent: 0 });
    if (failure !== undefined) throw failure.error;
  }

  reply(datagram: Datagram, payload: Uint8Array): void {
    const answered = datagram as BatchDatagram;
    if (answered === this.#current) this.#replyNow(answered, payload);
    else this.#replyLater(answered, payload);
    this.release(answered);
  }

  release(datagram: Datagram): void {
    const released = datagram as BatchDatagram;
    released.isHandedOut = false;
    if (!released.isKept) return;
    released.isKept = false;
    this.#kept--;
  }

  abandon(datagram: Datagram): void {
    // Its buffer has left the batch.
    this.release(datagram);
  }

  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#flush();
    if (this.#started) this.#poller.wake(this.#bound.fd);
    else this.#release();
  }

  ref(): void {
    this.#keepsAlive = true;
    this.#poller.refresh(this.#bound.fd);
  }

  unref(): void {
    this.#keepsAlive = false;
    this.#poller.refresh(this.#bound.fd);
  }

  /**
   * Takes what is there, without waiting. When nothing is, waits by the
   * {@linkcode Poller}, on another thread; or, while datagrams come fast and
   * nothing else is at work, for a moment in this one. After each millisecond of
   * work the event loop has a turn, which lets all else in that waits.
   */
  async #receive(): Promise<void> {
    let failures = 0;
    while (!this.#closed) {
      this.#in.prepare();
      const count = this.#libc.recvmmsg(
        this.#bound.fd,
        this.#in.headers,
        BATCH,
        MSG_DONTWAIT,
      );
      if (count > 0) {
        failures = 0;
        this.#in.received(count);
        this.#receivedAt = this.#now();
        this.#pace.onBatch(this.#receivedAt);
        this.#begin(count);
        while (!this.#handOut()) {
          this.#flush();
          await (this.#isTurnDue() ? this.#shortTurn() : this.#round());
        }
        this.#flush();
        const now = this.#now();
        if (now - this.#turnAt > this.#pace.turnMs(now)) await this.#turn();
        // Timers, handlers at work, and what waits for a microtask.
        else if (this.#kept > 0 || now - this.#roundAt > TURN_MS) {
          await this.#round();
        }
        continue;
      }
      const code = this.#libc.errno();
      if (code === EAGAIN) {
        if (!this.#isReadableSoon()) await this.#turn();
      } else if (code !== EINTR) {
        const error = errorOf(code);
        if (++failures >= MAX_RECEIVE_FAILURES) throw error;
        this.#receiver.onReceiveError?.(error);
        await this.#pause(Math.min(2 ** failures, MAX_PAUSE_MS));
      }
    }
  }

  #isTurnDue(): boolean {
    return this.#now() - this.#turnAt > TURN_MS;
  }

  /** Lets timers run, and all settle that waits for nothing but microtasks. */
  async #round(): Promise<void> {
    await new Promise<void>((resolve) => setImmediate(() => resolve()));
    this.#roundAt = this.#now();
  }

  /** Lets the event loop go round, until there is something to receive. */
  async #turn(): Promise<void> {
    // It may have been closed while microtasks ran.
    if (this.#closed) return;
    const isFast = this.#pace.isFast;
    const before = isFast ? this.#libc.threadMs() : 0;
    await this.#poller.readable(this.#bound.fd);
    this.#turnAt = this.#roundAt = this.#now();
    if (isFast) {
      this.#pace.onTurn(this.#turnAt, this.#libc.threadMs() - before);
    }
  }

  /** Lets the event loop go round once, in the middle of a batch. */
  async #shortTurn(): Promise<void> {
    // By the thread, since a turn by setImmediate lets no input in.
    if (this.#isBlocked) await this.#pause(0);
    else await this.#poller.writable(this.#bound.fd);
    this.#turnAt = this.#roundAt = this.#now();
  }

  /** Waits in this thread, where that is good for all. */
  #isReadableSoon(): boolean {
    const now = this.#now();
    // Who is at work needs the event loop, and so does who waits to send.
    if (this.#kept > 0 || this.#isBlocked || !this.#pace.mayWait(now)) {
      return false;
    }
    const ready = this.#libc.ppoll(this.#pollfd, 1, this.#wait);
    this.#pace.onWait(this.#now(), ready === 0);
    return ready > 0 && !this.#isTurnDue();
  }

  async #pause(ms: number): Promise<void> {
    await new Promise<void>((resolve) => {
      const timer = setTimeout(resolve, ms) as unknown as number;
      if (!this.#keepsAlive) Deno.unrefTimer(timer);
    });
  }

  #begin(count: number): void {
    this.#count = count;
    this.#message = 0;
    this.#lookedAt = this.#receivedAt;
    this.#open();
  }

  /** Makes ready to hand out the next message of the batch. */
  #open(): void {
    this.#at = 0;
    if (this.#message < this.#count) {
      this.#buffer = this.#in.buffer(this.#message);
    }
  }

  /**
   * Hands out the batch from where it was left off.
   *
   * @returns Whether all is handed out; else the event loop is to have a turn,
   * or what waits for nothing but a microtask is to settle.
   */
  #handOut(): boolean {
    const batch = this.#in;
    for (; this.#message < this.#count; this.#message++, this.#open()) {
      const message = this.#message;
      const length = batch.length(message);
      const from = batch.address(message);
      const coalesced = batch.segmentBytes(message);
      const segment = coalesced || length;
      this.#isCoalesced = coalesced !== 0;
      this.#views = batch.views(message, segment);
      // An empty datagram is one too.
      do {
        const size = Math.min(segment, length - this.#at);
        const mayGoOn = this.#handOutOne(from, size, segment);
        this.#at += size;
        if (mayGoOn) continue;
        if (this.#at >= length) {
          this.#message++;
          this.#open();
        }
        return this.#message >= this.#count;
      } while (this.#at < length);
    }
    return true;
  }

  /** Hands out a datagram; returns whether the next one may follow at once. */
  #handOutOne(from: UdpAddress, size: number, segment: number): boolean {
    if (size > this.#maxDatagramBytes) {
      this.#receiver.onTooLong?.();
      return true;
    }
    const whole = this.#buffer.u8;
    // A buffer that was transferred has no length any more.
    if (whole.length === 0) {
      this.#receiver.onReceiveError?.(new Error(TRANSFERRED));
      return true;
    }
    const data = size === segment && size > 0
      ? this.#views[this.#at / segment] ??= view(whole, this.#at, size)
      : view(whole, this.#at, size);
    const datagram = this.#reusable;
    datagram.data = data;
    datagram.receivedAt = this.#receivedAt;
    if (datagram.remoteAddr !== from) datagram.remoteAddr = from;
    datagram.isHandedOut = true;
    this.#current = datagram;
    this.#receiver.onDatagram(datagram);
    this.#current = undefined;
    if (datagram.isHandedOut) {
      this.#keep(datagram);
      if (this.#receiver.isFull?.()) return false;
    }
    return --this.#untilLook > 0 || this.#look();
  }

  /** The receiver keeps a datagram for longer than the call. */
  #keep(datagram: BatchDatagram): void {
    datagram.isKept = true;
    datagram.local = this.#in.local(this.#message)?.slice();
    this.#kept++;
    this.#reusable = new BatchDatagram();
    // The next receive goes into another buffer.
    if (this.#in.buffer(this.#message) === this.#buffer) {
      this.#in.retire(this.#message);
    }
  }

  /** Looks at the clock; returns whether there is time for more. */
  #look(): boolean {
    const now = this.#now();
    const eachMs = (now - this.#lookedAt) / this.#stride;
    this.#stride = Math.max(
      1,
      Math.min(2 * this.#stride, MAX_STRIDE, Math.floor(LOOK_MS / eachMs)),
    );
    this.#untilLook = this.#stride;
    this.#lookedAt = now;
    return now - this.#roundAt <= TURN_MS;
  }

  /** Queues the answer to the datagram that is being handed out. */
  #replyNow({ remoteAddr, data }: BatchDatagram, payload: Uint8Array): void {
    const out = this.#out;
    const { length } = payload;
    // An echo stays where it was received, unless it may have to wait there.
    const address = payload === data && !this.#isBlocked && this.#isCoalesced
      ? this.#buffer.address + this.#at
      : 0;
    const message = this.#message;
    if (out.extend(payload, address, message, remoteAddr)) return;
    if (!this.#hasRoom(address === 0 ? length : 0, remoteAddr, length)) return;
    const name = this.#in.namePointer(message);
    const bytes = this.#in.nameLength(message);
    if (address === 0) out.add(payload, name, bytes, remoteAddr, message);
    else out.addInPlace(address, length, name, bytes, remoteAddr, message);
    const local = this.#in.local(message);
    if (local !== undefined) out.addControl(local);
  }

  /** Queues the answer to a datagram that was kept. */
  #replyLater(answered: BatchDatagram, payload: Uint8Array): void {
    const { remoteAddr, local } = answered;
    const { length } = payload;
    if (!this.#hasRoom(length, remoteAddr, length)) return;
    const out = this.#out;
    const { family } = this.#bound;
    const bytes = encodeSockaddr(remoteAddr, family, out.nextName);
    out.add(payload, out.nextNamePointer, bytes, remoteAddr);
    if (local !== undefined) out.addControl(local);
    if (this.#willFlush) return;
    // Answers of one turn go out together.
    this.#willFlush = true;
    queueMicrotask(() => {
      this.#willFlush = false;
      this.#flush();
    });
  }

  /**
   * Whether there is room for another answer, of which so many bytes are to be
   * copied. If there is none, its fate is told.
   */
  #hasRoom(copied: number, to: UdpAddress, length: number): boolean {
    if (length > MAX_PAYLOAD) {
      this.#receiver.onReplyError?.(errorOf(EMSGSIZE), to, 1);
      return false;
    }
    if (!this.#out.hasRoom(copied)) this.#flush();
    if (this.#out.hasRoom(copied)) return true;
    this.#receiver.onReplyError?.(new Error(SEND_BUFFER_FULL), to, 1);
    return false;
  }

  /** Sends the replies that wait to go out together, and reports them. */
  #flush(): void {
    if (this.#out.count === 0 || this.#isBlocked) return;
    const outcome = this.#transmit();
    if (this.#out.count > 0) this.#waitForRoom();
    this.#report(outcome);
  }

  #report({ sent, failures, closedPort, notice }: Outcome): void {
    if (closedPort !== undefined) this.#receiver.onReceiveError?.(closedPort);
    if (notice !== undefined) this.#receiver.onNotice?.(notice);
    if (sent > 0) this.#receiver.onReplied?.(sent);
    for (const { error, to, count } of failures) {
      this.#receiver.onReplyError?.(error, to, count);
    }
  }

  /** The send buffer is full: the rest waits, and what comes is received. */
  async #waitForRoom(): Promise<void> {
    this.#isBlocked = true;
    // Into what an echo still lies in must nothing be received.
    for (let message = this.#out.first; message < this.#out.count; message++) {
      const place = this.#out.placeOf(message);
      if (place !== -1) this.#in.retire(place);
    }
    await this.#poller.writable(this.#bound.fd);
    this.#isBlocked = false;
    if (!this.#closed) this.#flush();
  }

  /** Closes the descriptor, once, when no wait uses it any more. */
  #release(): Promise<void> {
    return this.#released ??= (async () => {
      this.#giveUp();
      await this.#poller.remove(this.#bound.fd);
      this.#bound.close();
    })();
  }

  /** The socket is about to be closed: what still waits is not sent. */
  #giveUp(): void {
    const failures: Outcome["failures"] = [];
    for (let message = this.#out.first; message < this.#out.count; message++) {
      failures.push({
        error: new Error(SEND_BUFFER_FULL),
        to: this.#out.addressOf(message),
        count: this.#out.datagramsOf(message),
      });
    }
    this.#out.clear();
    this.#report({ sent: 0, failures });
  }

  /** Sends what is queued, as far as there is room in the send buffer. */
  #transmit(): Outcome {
    const out = this.#out;
    const outcome: Outcome = { sent: 0, failures: [] };
    let triedAgain = -1;
    while (out.first < out.count) {
      const result = this.#libc.sendmmsg(
        this.#bound.fd,
        out.headers,
        out.first * HEADER_BYTES,
        out.count - out.first,
        MSG_DONTWAIT,
      );
      if (result > 0) {
        const end = out.first + result;
        while (out.first < end) outcome.sent += out.datagramsOf(out.first++);
        continue;
      }
      const code = this.#libc.errno();
      if (code === EINTR) continue;
      if (code === EAGAIN) return outcome;
      if (code === ECONNREFUSED && triedAgain !== out.first) {
        // About an earlier datagram: this one has not been tried yet.
        triedAgain = out.first;
        outcome.closedPort = errorOf(code);
        continue;
      }
      this.#recover(out.first, code, outcome);
      out.first++;
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
      // What was sent to a group cannot be answered from its address: then the
      // kernel chooses.
      if (count === 1 && out.dropControls(message) && this.#sendOne(message)) {
        outcome.sent++;
      } else outcome.failures.push({ error: errorOf(code), to, count });
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
      if (this.#sendOne(message)) outcome.sent++;
      else {
        const error = errorOf(this.#libc.errno());
        outcome.failures.push({ error, to, count: 1 });
      }
    }
  }

  #sendOne(message: number): boolean {
    const { headers } = this.#out;
    const offset = message * HEADER_BYTES;
    const { fd } = this.#bound;
    return this.#libc.sendmmsg(fd, headers, offset, 1, MSG_DONTWAIT) > 0;
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

/** A datagram that the receiver works on. */
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

function view(
  { buffer }: Uint8Array<ArrayBuffer>,
  at: number,
  size: number,
): Uint8Array<ArrayBuffer> {
  return new Uint8Array(buffer, at, size);
}

const BATCH = 64;
const MAX_COALESCED_BYTES = 65_536;
const SEND_BYTES = 1 << 20;
const BUFFER_BYTES = 4 << 20;
const MAX_RECEIVE_FAILURES = 16;
const MAX_PAUSE_MS = 32;
/** The longest wait in the thread itself. */
const WAIT_US = 200;
/** The longest work without a turn of the event loop. */
const TURN_MS = 1;
const MAX_STRIDE = 32;
const LOOK_MS = 0.25;

const SEND_BUFFER_FULL = "The send buffer is full, and so is the queue to it";
const TRANSFERRED =
  "A datagram is lost: a handler transferred the buffer that it came in " +
  "(copy with slice() what is to be transferred)";

const NOTHING = new Uint8Array(0);

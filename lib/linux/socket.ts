/**
 * {@linkcode DatagramSocket} over recvmmsg and sendmmsg, through FFI: Linux on
 * x86-64 and arm64, opt-in.
 *
 * One call moves up to 64 datagrams, or with UDP_GRO and UDP_SEGMENT up to 64
 * times as many of one flow. All of the project's FFI, pointers and struct
 * layouts are in this file; it is longer than the others for that.
 *
 * @module
 */
import {
  canonicalHostname,
  ipVersion,
  isWildcard,
  type UdpAddress,
} from "../address.ts";
import { bindError } from "../errors.ts";
import type {
  Datagram,
  DatagramSocket,
  OpenOptions,
  Receiver,
} from "../socket.ts";
import { openDenoSocket } from "../socket_deno.ts";

/** Why there is no Linux engine here; undefined if there is one. */
export function linuxEngineMissing(): string | undefined {
  const { os, arch } = Deno.build;
  if (os !== "linux") return `it needs Linux: this is ${os}`;
  if (arch !== "x86_64" && arch !== "aarch64") {
    return `it knows x86-64 and arm64: this is ${arch}`;
  }
  // Without a path, since the permission is for all of FFI or for none.
  if (Deno.permissions.querySync({ name: "ffi" }).state !== "granted") {
    return "it needs permission to use FFI: run with --allow-ffi";
  }
  try {
    loadLibc();
  } catch (error) {
    return `it needs the C library: ${(error as Error).message}`;
  }
}

/**
 * Binds a socket, and connects it if `peer` is given.
 *
 * @throws {Deno.errors.NotSupported} Where {@linkcode linuxEngineMissing} says.
 * @throws {Deno.errors.NotCapable} Without permission to use the address.
 * @throws {Deno.errors.AddrInUse} If the port is taken.
 * @throws {Deno.errors.AddrNotAvailable} If it is not this machine's address.
 */
export function openLinuxSocket(options: OpenOptions): DatagramSocket {
  const missing = linuxEngineMissing();
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
    return new LinuxSocket({ ...options, hostname: resolveLocal(hostname) });
  } catch (error) {
    throw bindError(error, { hostname, port });
  }
}

function requireNet({ hostname, port }: UdpAddress): void {
  const host = `${
    ipVersion(hostname) === 6 ? `[${hostname}]` : hostname
  }:${port}`;
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
    // The system's own, to be told with the port that was asked for.
    throw (error as Error).cause ?? error;
  }
}

class LinuxSocket implements DatagramSocket {
  readonly addr: UdpAddress;
  readonly isConnected: boolean;
  readonly #libc = loadLibc();
  readonly #fd: number;
  readonly #maxDatagramBytes: number;
  readonly #family: number;
  readonly #batch: number;
  readonly #in: ReceiveBatch;
  readonly #out: SendBatch;
  #receiver: Receiver = { onDatagram: (datagram) => this.release(datagram) };
  /** The datagram that the receiver is being told of, and may answer now. */
  #current: LentDatagram | undefined;
  /** The message in the receive batch that it came in. */
  #message = 0;
  /** Lent for longer than the call that told of them. */
  #retained = 0;
  #started = false;
  #closed = false;
  #keepsAlive = true;

  constructor(options: OpenOptions) {
    const { hostname, port, peer } = options;
    this.#maxDatagramBytes = options.maxDatagramBytes;
    this.#batch = options.isServer ? SERVER_BATCH : 1;
    this.#family = ipVersion(hostname) === 6 ? AF_INET6 : AF_INET;
    this.isConnected = peer !== undefined;
    const { symbols } = this.#libc;
    this.#fd = this.#check(
      symbols.socket(this.#family, SOCK_DGRAM | SOCK_CLOEXEC, 0),
    );
    try {
      this.#configure(options);
      const name = new Memory(NAME_BYTES);
      const bindLength = encodeSockaddr(
        { hostname, port },
        this.#family,
        name.u8,
      );
      this.#check(symbols.bind(this.#fd, name.pointer, bindLength));
      if (peer !== undefined) {
        const length = encodeSockaddr(peer, this.#family, name.u8);
        this.#check(symbols.connect(this.#fd, name.pointer, length));
      }
      const size = new Memory(4);
      size.u32[0] = NAME_BYTES;
      this.#check(symbols.getsockname(this.#fd, name.pointer, size.pointer));
      this.addr = decodeSockaddr(name.u8);
    } catch (error) {
      this.#closeFd();
      throw error;
    }
    // A wildcard socket answers from the address that was asked.
    const tellsLocal = options.isServer === true && isWildcard(hostname) &&
      this.#trySet(
        this.#family === AF_INET ? IPPROTO_IP : IPPROTO_IPV6,
        this.#family === AF_INET ? IP_PKTINFO : IPV6_RECVPKTINFO,
        1,
      );
    const coalesces = options.isServer === true &&
      this.#trySet(SOL_UDP, UDP_GRO, 1);
    const segments = options.isServer === true &&
      this.#trySet(SOL_UDP, UDP_SEGMENT, 0);
    this.#in = new ReceiveBatch(
      this.#batch,
      coalesces ? MAX_COALESCED_BYTES : this.#maxDatagramBytes + 1,
      tellsLocal || coalesces,
    );
    this.#out = new SendBatch(this.#batch, segments);
  }

  async start(receiver: Receiver): Promise<void> {
    this.#receiver = receiver;
    this.#started = true;
    try {
      await this.#run();
    } finally {
      this.#closed = true;
      await poller().cancel(this.#fd);
      this.#closeFd();
    }
  }

  // deno-lint-ignore require-await -- so that what it throws is a rejection
  async send(payload: Uint8Array, to: UdpAddress): Promise<void> {
    if (this.#closed) throw new Deno.errors.BadResource("Socket is closed");
    this.#flush();
    const name = this.isConnected
      ? 0
      : encodeSockaddr(to, this.#family, this.#out.name(0));
    this.#out.add(payload, this.#out.namePointer(0), name, to);
    const failure = this.#sendAll();
    if (failure !== undefined) throw failure;
  }

  reply(datagram: Datagram, payload: Uint8Array): void {
    const lent = datagram as LentDatagram;
    const isNow = lent === this.#current;
    const out = this.#out;
    if (out.isFull(payload.length)) this.#flush();
    if (isNow) {
      const message = this.#message;
      if (!out.extend(payload, message, lent.remoteAddr)) {
        if (out.count === this.#batch) this.#flush();
        out.add(
          payload,
          this.#in.namePointer(message),
          this.#in.nameLength(message),
          lent.remoteAddr,
          message,
        );
        this.#in.copyLocal(message, out);
      }
    } else {
      if (out.count === this.#batch) this.#flush();
      const at = out.count;
      const length = encodeSockaddr(
        lent.remoteAddr,
        this.#family,
        out.name(at),
      );
      out.add(payload, out.namePointer(at), length, lent.remoteAddr);
      if (lent.local !== undefined) out.setLocal(lent.local);
    }
    this.#settle(lent);
    this.#receiver.onReplied?.(lent);
    // What is answered while a batch is handed out goes with that batch.
    if (this.#current === undefined) this.#flush();
  }

  release(datagram: Datagram): void {
    this.#settle(datagram as LentDatagram);
  }

  close(): void {
    if (this.#closed) return;
    this.#flush();
    this.#closed = true;
    if (!this.#started) return this.#closeFd();
    // The loop closes the descriptor itself, when no poll uses it any more.
    poller().cancel(this.#fd);
  }

  ref(): void {
    this.#keepsAlive = true;
  }

  unref(): void {
    this.#keepsAlive = false;
    // A poll under way would keep the process alive until something comes.
    if (this.#started) poller().cancel(this.#fd);
  }

  /**
   * While datagrams come fast, waits for them within the system call, a few
   * milliseconds at most, which is as fast as C; the event loop has its turn
   * each millisecond. When they come slowly, or handlers are at work that need
   * the event loop, a thread polls instead: an idle socket costs nothing.
   */
  async #run(): Promise<void> {
    const { recvmmsg } = this.#libc.symbols;
    const { pointer } = this.#in.headers;
    let [turnAt, streakAt, streak, failures] = [performance.now(), 0, 0, 0];
    let isFast = false;
    while (!this.#closed) {
      const waits = isFast && this.#retained === 0 && this.#keepsAlive;
      this.#in.prepare();
      const count = recvmmsg(
        this.#fd,
        pointer,
        this.#batch,
        waits ? MSG_WAITFORONE : MSG_DONTWAIT,
        null,
      );
      if (count > 0) {
        failures = 0;
        this.#handOut(count);
        this.#flush();
        const now = performance.now();
        if (++streak === STREAK) {
          isFast = this.#batch > 1 && now - streakAt < STREAK_MS;
          streakAt = now;
          streak = 0;
        }
        if (this.#retained > 0 || now - turnAt > TURN_MS) {
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
    if (this.#keepsAlive) return await poller().readable(this.#fd);
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
    const datagram = this.#current ??= new LentDatagram();
    datagram.data = data;
    if (datagram.remoteAddr !== remoteAddr) datagram.remoteAddr = remoteAddr;
    datagram.isLent = true;
    this.#receiver.onDatagram(datagram);
    if (!datagram.isLent) return false;
    datagram.isRetained = true;
    datagram.local = this.#in.local(message);
    this.#retained++;
    this.#current = undefined;
    return true;
  }

  #settle(datagram: LentDatagram): void {
    datagram.isLent = false;
    if (!datagram.isRetained) return;
    datagram.isRetained = false;
    this.#retained--;
  }

  /** Sends what is queued; what fails has been told as replied already. */
  #flush(): void {
    if (this.#out.count > 0) this.#sendAll();
  }

  /** Sends all that is queued, and gives the last error. */
  #sendAll(): unknown {
    const out = this.#out;
    let failure: unknown;
    let isRefused = false;
    for (let sent = 0; sent < out.count;) {
      const result = this.#libc.symbols.sendmmsg(
        this.#fd,
        out.headerPointer(sent),
        out.count - sent,
        0,
      );
      if (result > 0) {
        sent += result;
        continue;
      }
      const code = this.#libc.errno();
      if (code === EINTR) continue;
      if (code === ECONNREFUSED && !isRefused) {
        // About an earlier datagram: this one has not been tried yet.
        isRefused = true;
        this.#receiver.onReceiveError?.(errorOf(code));
        continue;
      }
      const count = out.repliesOf(sent);
      if (count > 1 && (code === EIO || code === EINVAL)) {
        // The telling errors of a device that cannot segment.
        out.segments = false;
        failure = this.#sendOneByOne(sent) ?? failure;
      } else {
        failure = errorOf(code);
        this.#receiver.onUnsent?.(failure, out.addressOf(sent), count);
      }
      sent++;
    }
    out.clear();
    return failure;
  }

  /** Sends the datagrams of a segmented message each by itself. */
  #sendOneByOne(message: number): unknown {
    const { sendmmsg } = this.#libc.symbols;
    const out = this.#out;
    let failure: unknown;
    for (const _ of out.datagramsOf(message)) {
      if (sendmmsg(this.#fd, out.headerPointer(message), 1, 0) > 0) continue;
      failure = errorOf(this.#libc.errno());
      this.#receiver.onUnsent?.(failure, out.addressOf(message), 1);
    }
    return failure;
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
    const wait = new Memory(16);
    wait.u32[2] = WAIT_US;
    const { setsockopt } = this.#libc.symbols;
    this.#check(
      setsockopt(this.#fd, SOL_SOCKET, SO_RCVTIMEO, wait.pointer, 16),
    );
  }

  #set(level: number, option: number, value: number): void {
    const memory = new Memory(4);
    memory.u32[0] = value;
    const { setsockopt } = this.#libc.symbols;
    this.#check(setsockopt(this.#fd, level, option, memory.pointer, 4));
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

  #closeFd(): void {
    this.#libc.symbols.close(this.#fd);
  }
}

/**
 * One thread of Deno's pool that polls for all sockets with nothing to do: the
 * pool is small, and clients have many sockets.
 */
class Poller {
  readonly #libc = loadLibc();
  readonly #waiting = new Map<number, () => void>();
  readonly #wakeFd: number;
  readonly #counter = new Memory(8);
  /** The poll under way, and of what; there is none while nothing waits. */
  #round: Promise<unknown> | undefined;
  #polled: number[] = [];

  constructor() {
    const { eventfd } = this.#libc.symbols;
    this.#wakeFd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  }

  /** Until there is something to receive, or the wait is cancelled. */
  readable(fd: number): Promise<void> {
    return new Promise((resolve) => {
      this.#waiting.set(fd, resolve);
      if (this.#round === undefined) this.#poll();
      else this.#wake();
    });
  }

  /** Ends a wait; resolves when the descriptor is in no poll any more. */
  async cancel(fd: number): Promise<void> {
    this.#waiting.get(fd)?.();
    this.#waiting.delete(fd);
    if (!this.#polled.includes(fd)) return;
    this.#wake();
    await this.#round;
  }

  async #poll(): Promise<void> {
    while (this.#waiting.size > 0) {
      const fds = [this.#wakeFd, ...this.#waiting.keys()];
      const pollfds = new Memory(fds.length * POLLFD_BYTES);
      fds.forEach((fd, i) => pollfds.u32.set([fd, POLLIN], 2 * i));
      // Safety: `pollfds` is used after the call, so it outlives the call.
      this.#round = this.#libc.symbols.poll(
        pollfds.pointer,
        BigInt(fds.length),
        -1,
      );
      this.#polled = fds;
      await this.#round;
      this.#polled = [];
      const { read } = this.#libc.symbols;
      read(this.#wakeFd, this.#counter.pointer, 8n);
      fds.forEach((fd, i) => {
        const isReady = pollfds.u32[2 * i + 1]! >>> 16 !== 0;
        if (!isReady || i === 0) return;
        this.#waiting.get(fd)?.();
        this.#waiting.delete(fd);
      });
    }
    this.#round = undefined;
  }

  #wake(): void {
    this.#counter.u32.set([1, 0]);
    this.#libc.symbols.write(this.#wakeFd, this.#counter.pointer, 8n);
  }
}

let sharedPoller: Poller | undefined;

function poller(): Poller {
  return sharedPoller ??= new Poller();
}

/** A datagram on loan. One object serves all that are settled at once. */
class LentDatagram implements Datagram {
  data: Uint8Array<ArrayBuffer> = NOTHING;
  remoteAddr: UdpAddress = { hostname: "", port: 0 };
  isLent = false;
  isRetained = false;
  /** The control message that sends a reply from the address asked. */
  local: Uint8Array | undefined;
}

/**
 * Memory that the kernel sees. Safety: made as an ArrayBuffer, which stays
 * where it is and lives as long as this object; a small typed array made by its
 * length lives on V8's heap, and can move.
 */
class Memory {
  readonly buffer: ArrayBuffer;
  readonly u8: Uint8Array<ArrayBuffer>;
  readonly u32: Uint32Array<ArrayBuffer>;
  readonly pointer: Deno.PointerObject;
  /** As a number, which is exact: user space ends below 2 ** 48. */
  readonly address: number;

  constructor(bytes: number) {
    this.buffer = new ArrayBuffer(Math.ceil(bytes / 8) * 8);
    this.u8 = new Uint8Array(this.buffer);
    this.u32 = new Uint32Array(this.buffer);
    this.pointer = Deno.UnsafePointer.of(this.u8)!;
    this.address = Number(Deno.UnsafePointer.value(this.pointer));
  }

  /** Writes an address of other memory. */
  setPointer(at: number, address: number): void {
    this.u32[at / 4] = address;
    this.u32[at / 4 + 1] = address / 2 ** 32;
  }
}

/** Headers, addresses and buffers for one recvmmsg. */
class ReceiveBatch {
  readonly headers: Memory;
  readonly #names: Memory;
  readonly #iovecs: Memory;
  readonly #controls: Memory | undefined;
  readonly #buffers: Memory[];
  readonly #views: Array<{ size: number; list: Uint8Array<ArrayBuffer>[] }>;
  readonly #bufferBytes: number;
  readonly #addresses = new AddressCache();

  constructor(batch: number, bufferBytes: number, hasControl: boolean) {
    this.headers = new Memory(batch * HEADER_BYTES);
    this.#names = new Memory(batch * NAME_BYTES);
    this.#iovecs = new Memory(batch * IOVEC_BYTES);
    this.#controls = hasControl ? new Memory(batch * CONTROL_BYTES) : undefined;
    this.#bufferBytes = bufferBytes;
    this.#buffers = [];
    this.#views = [];
    for (let i = 0; i < batch; i++) {
      this.headers.setPointer(
        i * HEADER_BYTES,
        this.#names.address + i * NAME_BYTES,
      );
      this.headers.setPointer(
        i * HEADER_BYTES + 16,
        this.#iovecs.address + i * IOVEC_BYTES,
      );
      this.headers.u32[i * HEADER_WORDS + 6] = 1;
      if (this.#controls !== undefined) {
        this.headers.setPointer(
          i * HEADER_BYTES + 32,
          this.#controls.address + i * CONTROL_BYTES,
        );
      }
      this.retire(i);
    }
  }

  /** The kernel writes how much it used: says again how much there is. */
  prepare(): void {
    const words = this.headers.u32;
    const control = this.#controls === undefined ? 0 : CONTROL_BYTES;
    for (let i = 2; i < words.length; i += HEADER_WORDS) {
      words[i] = NAME_BYTES;
      words[i + 8] = control;
    }
  }

  /** Gives a message another buffer; its old one stays with who has it. */
  retire(message: number): void {
    const buffer = new Memory(this.#bufferBytes);
    this.#buffers[message] = buffer;
    this.#views[message] = { size: -1, list: [] };
    this.#iovecs.setPointer(message * IOVEC_BYTES, buffer.address);
    this.#iovecs.u32[message * 4 + 2] = this.#bufferBytes;
  }

  length(message: number): number {
    return this.headers.u32[message * HEADER_WORDS + 14]!;
  }

  nameLength(message: number): number {
    return this.headers.u32[message * HEADER_WORDS + 2]!;
  }

  namePointer(message: number): number {
    return this.#names.address + message * NAME_BYTES;
  }

  address(message: number): UdpAddress {
    return this.#addresses.get(this.#names.u8, message * NAME_BYTES);
  }

  /** What a message was received into. */
  buffer(message: number): ArrayBuffer {
    return this.#buffers[message]!.buffer;
  }

  /** Where the views of one size are kept, which are made once for a buffer. */
  views(message: number, size: number): Uint8Array<ArrayBuffer>[] {
    const views = this.#views[message]!;
    if (views.size !== size) {
      views.size = size;
      views.list = [];
    }
    return views.list;
  }

  /** The size of the datagrams that the kernel put together; 0 if it did not. */
  segmentBytes(message: number): number {
    const control = this.#control(message);
    const at = control && findControl(control, SOL_UDP, UDP_GRO);
    return at === undefined
      ? 0
      : new DataView(control!.buffer, control!.byteOffset)
        .getUint32(at, true);
  }

  /** A copy of the control message that tells the local address. */
  local(message: number): Uint8Array | undefined {
    const control = this.#control(message);
    return control && localControl(control)?.slice();
  }

  copyLocal(message: number, out: SendBatch): void {
    const control = this.#control(message);
    const local = control && localControl(control);
    if (local !== undefined) out.setLocal(local);
  }

  #control(message: number): Uint8Array | undefined {
    const length = this.headers.u32[message * HEADER_WORDS + 10]!;
    return length === 0 ? undefined : this.#controls!.u8.subarray(
      message * CONTROL_BYTES,
      message * CONTROL_BYTES + length,
    );
  }
}

/** Headers and a copy of the payloads for one sendmmsg. */
class SendBatch {
  /** How many messages are queued. */
  count = 0;
  readonly #headers: Memory;
  readonly #names: Memory;
  readonly #iovecs: Memory;
  readonly #controls: Memory;
  readonly #payloads: Memory;
  readonly #pointers: Deno.PointerObject[];
  readonly #to: UdpAddress[] = [];
  readonly #replies: number[] = [];
  readonly #starts: number[] = [];
  #used = 0;
  /** What the last message may be extended by: the same size, from the same. */
  #source = -1;
  #segmentBytes = 0;
  #lastBytes = 0;

  constructor(batch: number, public segments: boolean) {
    this.#headers = new Memory(batch * HEADER_BYTES);
    this.#names = new Memory(batch * NAME_BYTES);
    this.#iovecs = new Memory(batch * IOVEC_BYTES);
    this.#controls = new Memory(batch * CONTROL_BYTES);
    this.#payloads = new Memory(batch === 1 ? MAX_COALESCED_BYTES : SEND_BYTES);
    for (let i = 0; i < batch; i++) {
      this.#headers.setPointer(
        i * HEADER_BYTES + 16,
        this.#iovecs.address + i * IOVEC_BYTES,
      );
      this.#headers.u32[i * HEADER_WORDS + 6] = 1;
    }
    this.#pointers = Array.from(
      { length: batch },
      (_, i) =>
        Deno.UnsafePointer.create(
          BigInt(this.#headers.address + i * HEADER_BYTES),
        )!,
    );
  }

  isFull(bytes: number): boolean {
    return this.#used + bytes > this.#payloads.u8.length;
  }

  name(message: number): Uint8Array {
    return this.#names.u8.subarray(
      message * NAME_BYTES,
      (message + 1) * NAME_BYTES,
    );
  }

  namePointer(message: number): number {
    return this.#names.address + message * NAME_BYTES;
  }

  headerPointer(message: number): Deno.PointerObject {
    return this.#pointers[message]!;
  }

  addressOf(message: number): UdpAddress {
    return this.#to[message]!;
  }

  repliesOf(message: number): number {
    return this.#replies[message]!;
  }

  /** Queues a message; `source` is the received one that it answers. */
  add(
    payload: Uint8Array,
    name: number,
    nameLength: number,
    to: UdpAddress,
    source = -1,
  ): void {
    const message = this.count++;
    const words = message * HEADER_WORDS;
    const start = this.#used;
    this.#payloads.u8.set(payload, start);
    this.#used += payload.length;
    this.#headers.setPointer(
      message * HEADER_BYTES,
      nameLength === 0 ? 0 : name,
    );
    this.#headers.u32[words + 2] = nameLength;
    this.#headers.setPointer(message * HEADER_BYTES + 32, 0);
    this.#headers.u32[words + 10] = 0;
    this.#iovecs.setPointer(
      message * IOVEC_BYTES,
      this.#payloads.address + start,
    );
    this.#iovecs.u32[message * 4 + 2] = payload.length;
    this.#to[message] = to;
    this.#replies[message] = 1;
    this.#starts[message] = start;
    this.#source = payload.length === 0 ? -1 : source;
    this.#segmentBytes = payload.length;
    this.#lastBytes = payload.length;
  }

  /**
   * Lets the kernel cut one message into datagrams (UDP_SEGMENT): all of one
   * size, but for the last, which may be shorter.
   */
  extend(payload: Uint8Array, source: number, to: UdpAddress): boolean {
    const message = this.count - 1;
    const { length } = payload;
    if (
      !this.segments || source !== this.#source || message < 0 ||
      length === 0 || length > this.#segmentBytes ||
      this.#lastBytes !== this.#segmentBytes || this.#to[message] !== to ||
      this.#replies[message]! >= MAX_SEGMENTS ||
      this.#used - this.#starts[message]! + length > MAX_SEGMENTED_BYTES
    ) return false;
    const payloads = this.#payloads.u8;
    const used = this.#used;
    // For a few bytes the call of set() takes longer than the copy.
    if (length <= SMALL_BYTES) {
      for (let i = 0; i < length; i++) payloads[used + i] = payload[i]!;
    } else payloads.set(payload, used);
    this.#used = used + length;
    this.#iovecs.u32[message * 4 + 2]! += length;
    if (++this.#replies[message]! === 2) this.#setSegment(message);
    this.#lastBytes = length;
    return true;
  }

  /** Sends the last message from the address that its control message tells. */
  setLocal(local: Uint8Array): void {
    this.#appendControl(this.count - 1, local);
  }

  /** Makes a segmented message each of its datagrams in turn. */
  *datagramsOf(message: number): Generator<void> {
    const bytes = this.#iovecs.u32[message * 4 + 2]!;
    const size = this.#sizeOfSegments(message);
    // The control message that segments is the last one.
    this.#headers.u32[message * HEADER_WORDS + 10]! -= SEGMENT_CONTROL_BYTES;
    const start = this.#payloads.address + this.#starts[message]!;
    for (let at = 0; at < bytes; at += size) {
      this.#iovecs.setPointer(message * IOVEC_BYTES, start + at);
      this.#iovecs.u32[message * 4 + 2] = Math.min(size, bytes - at);
      yield;
    }
  }

  clear(): void {
    this.count = 0;
    this.#used = 0;
    this.#source = -1;
  }

  #sizeOfSegments(message: number): number {
    const control = this.#controls.u8.subarray(message * CONTROL_BYTES);
    const at = findControl(control, SOL_UDP, UDP_SEGMENT)!;
    return new DataView(control.buffer, control.byteOffset).getUint16(at, true);
  }

  #setSegment(message: number): void {
    const control = new Uint8Array(SEGMENT_CONTROL_BYTES);
    const view = new DataView(control.buffer);
    view.setUint32(0, 18, true);
    view.setInt32(8, SOL_UDP, true);
    view.setInt32(12, UDP_SEGMENT, true);
    view.setUint16(16, this.#segmentBytes, true);
    this.#appendControl(message, control);
  }

  #appendControl(message: number, control: Uint8Array): void {
    const words = message * HEADER_WORDS;
    const used = this.#headers.u32[words + 10]!;
    const at = message * CONTROL_BYTES + used;
    this.#controls.u8.set(control, at);
    this.#headers.setPointer(
      message * HEADER_BYTES + 32,
      this.#controls.address + message * CONTROL_BYTES,
    );
    this.#headers.u32[words + 10] = used + Math.ceil(control.length / 8) * 8;
  }
}

/**
 * Addresses that were decoded before, so that a datagram of a known peer makes
 * no strings. Direct-mapped: bounded, and as fast with any number of peers.
 */
class AddressCache {
  readonly #keys = new Uint32Array(2 * CACHED_ADDRESSES);
  readonly #addresses: UdpAddress[] = [];

  get(names: Uint8Array, at: number): UdpAddress {
    const family = names[at]! | names[at + 1]! << 8;
    if (family !== AF_INET) return decodeSockaddr(names, at);
    const port = names[at + 2]! << 8 | names[at + 3]!;
    const host =
      (names[at + 4]! << 24 | names[at + 5]! << 16 | names[at + 6]! << 8 |
        names[at + 7]!) >>> 0;
    const index = (Math.imul(host ^ port << 16 ^ port, 0x9e3779b1) >>> 16) &
      CACHED_ADDRESSES - 1;
    const known = this.#addresses[index];
    if (
      known !== undefined && this.#keys[2 * index] === host &&
      this.#keys[2 * index + 1] === port
    ) return known;
    const address = decodeSockaddr(names, at);
    this.#keys[2 * index] = host;
    this.#keys[2 * index + 1] = port;
    this.#addresses[index] = address;
    return address;
  }
}

/** Reads a struct sockaddr_in or sockaddr_in6. */
export function decodeSockaddr(bytes: Uint8Array, at = 0): UdpAddress {
  const view = new DataView(bytes.buffer, bytes.byteOffset + at);
  const port = view.getUint16(2);
  if (view.getUint16(0, true) === AF_INET) {
    return { hostname: bytes.subarray(at + 4, at + 8).join("."), port };
  }
  const groups = Array.from(
    { length: 8 },
    (_, i) => view.getUint16(8 + 2 * i).toString(16),
  );
  const scope = view.getUint32(24, true);
  const hostname = canonicalHostname(groups.join(":"));
  const isLinkLocal = (view.getUint16(8) & 0xffc0) === 0xfe80;
  return {
    hostname: isLinkLocal && scope !== 0 ? `${hostname}%${scope}` : hostname,
    port,
  };
}

/** Writes a struct sockaddr of a family, and gives its length. */
export function encodeSockaddr(
  { hostname, port }: UdpAddress,
  family: number,
  bytes: Uint8Array,
): number {
  const view = new DataView(bytes.buffer, bytes.byteOffset);
  bytes.fill(0, 0, NAME_BYTES);
  view.setUint16(0, family, true);
  view.setUint16(2, port);
  const [address, scope] = hostname.split("%") as [string, string?];
  const isIPv4 = ipVersion(address) === 4;
  if (family === AF_INET) {
    if (!isIPv4) throw errorOf(EAFNOSUPPORT);
    bytes.set(address.split(".").map(Number), 4);
    return 16;
  }
  if (isIPv4) {
    view.setUint16(18, 0xffff);
    bytes.set(address.split(".").map(Number), 20);
    return 28;
  }
  groupsOf(address).forEach((group, i) => view.setUint16(8 + 2 * i, group));
  view.setUint32(24, Number(scope ?? 0), true);
  return 28;
}

/** The eight groups of an IPv6 address in canonical form. */
function groupsOf(address: string): number[] {
  const [head = "", tail = ""] = address.split("::");
  const before = head === "" ? [] : head.split(":");
  const after = tail === "" ? [] : tail.split(":");
  const zeros = Array(8 - before.length - after.length).fill("0");
  return [...before, ...zeros, ...after].map((group) => parseInt(group, 16));
}

/** Where the data of a control message is; undefined if there is none such. */
export function findControl(
  control: Uint8Array,
  level: number,
  type: number,
): number | undefined {
  const view = new DataView(
    control.buffer,
    control.byteOffset,
    control.byteLength,
  );
  for (let at = 0; at + 16 <= control.length;) {
    const length = view.getUint32(at, true);
    if (length < 16) return undefined;
    if (
      view.getInt32(at + 8, true) === level &&
      view.getInt32(at + 12, true) === type
    ) {
      return at + 16;
    }
    at += Math.ceil(length / 8) * 8;
  }
}

/**
 * The control message that makes a reply leave from where its request went, out
 * of those that came with the request. The interface is the kernel's choice,
 * but for link-local addresses.
 */
export function localControl(control: Uint8Array): Uint8Array | undefined {
  const v4 = findControl(control, IPPROTO_IP, IP_PKTINFO);
  if (v4 !== undefined) {
    control.fill(0, v4, v4 + 4);
    return control.subarray(v4 - 16, v4 + 16);
  }
  const v6 = findControl(control, IPPROTO_IPV6, IPV6_PKTINFO);
  if (v6 === undefined) return undefined;
  if (control[v6] !== 0xfe) control.fill(0, v6 + 16, v6 + 20);
  return control.subarray(v6 - 16, v6 + 24);
}

/** One turn of the event loop: timers, signals, and what else waits. */
function nextTurn(): Promise<void> {
  return new Promise((resolve) => setImmediate(() => resolve()));
}

/** The error of an errno, of the class that Deno uses for it. */
function errorOf(errno: number): Error {
  const [code, ErrorClass, text] = ERRORS[errno] ??
    [`E${errno}`, Error, "System error"];
  const error = new ErrorClass(`${text} (os error ${errno})`);
  return Object.assign(error, { code });
}

type Libc = ReturnType<typeof dlopen> & { errno(): number };

let libc: Libc | undefined;

function loadLibc(): Libc {
  if (libc !== undefined) return libc;
  const musl = `libc.musl-${Deno.build.arch}.so.1`;
  let library: ReturnType<typeof dlopen>;
  try {
    library = dlopen("libc.so.6");
  } catch {
    library = dlopen(musl);
  }
  // Safety: the place belongs to this thread, and stays as long as it does.
  // Nothing that sets errno runs between a call and this read of it.
  const place = new Deno.UnsafePointerView(library.symbols.errnoPlace()!);
  return libc = Object.assign(library, { errno: () => place.getInt32() });
}

function dlopen(path: string) {
  return Deno.dlopen(path, SYMBOLS);
}

const SYMBOLS = {
  // int socket(int domain, int type, int protocol)
  socket: { parameters: ["i32", "i32", "i32"], result: "i32" },
  // int bind(int fd, const struct sockaddr *, socklen_t)
  bind: { parameters: ["i32", "pointer", "u32"], result: "i32" },
  // int connect(int fd, const struct sockaddr *, socklen_t)
  connect: { parameters: ["i32", "pointer", "u32"], result: "i32" },
  // int getsockname(int fd, struct sockaddr *, socklen_t *)
  getsockname: { parameters: ["i32", "pointer", "pointer"], result: "i32" },
  // int setsockopt(int fd, int level, int name, const void *, socklen_t)
  setsockopt: {
    parameters: ["i32", "i32", "i32", "pointer", "u32"],
    result: "i32",
  },
  // int recvmmsg(int fd, struct mmsghdr *, unsigned, int, struct timespec *)
  recvmmsg: {
    parameters: ["i32", "pointer", "u32", "i32", "pointer"],
    result: "i32",
  },
  // int sendmmsg(int fd, struct mmsghdr *, unsigned, int)
  sendmmsg: { parameters: ["i32", "pointer", "u32", "i32"], result: "i32" },
  // int poll(struct pollfd *, nfds_t, int): on a thread of Deno's pool
  poll: {
    parameters: ["pointer", "u64", "i32"],
    result: "i32",
    nonblocking: true,
  },
  // int eventfd(unsigned, int)
  eventfd: { parameters: ["u32", "i32"], result: "i32" },
  // ssize_t read(int fd, void *, size_t)
  read: { parameters: ["i32", "pointer", "u64"], result: "i64" },
  // ssize_t write(int fd, const void *, size_t)
  write: { parameters: ["i32", "pointer", "u64"], result: "i64" },
  // int close(int fd)
  close: { parameters: ["i32"], result: "i32" },
  // int *__errno_location(void)
  errnoPlace: { name: "__errno_location", parameters: [], result: "pointer" },
} as const satisfies Deno.ForeignLibraryInterface;

// Safety: these layouts and numbers are those of Linux on x86-64 and arm64,
// with glibc and with musl (little-endian, 64 bits), which
// `linuxEngineMissing` makes sure of.

/** struct mmsghdr: a struct msghdr of 56 bytes, the length, 4 of padding. */
const HEADER_BYTES = 64;
const HEADER_WORDS = 16;
/** struct sockaddr_in6 is 28. */
const NAME_BYTES = 32;
const IOVEC_BYTES = 16;
/** CMSG_SPACE of an int, and of a struct in6_pktinfo. */
const CONTROL_BYTES = 64;
/** CMSG_SPACE of the 16 bits of UDP_SEGMENT. */
const SEGMENT_CONTROL_BYTES = 24;
const POLLFD_BYTES = 8;

export const AF_INET = 2;
export const AF_INET6 = 10;
const SOCK_DGRAM = 2;
const SOCK_CLOEXEC = 0o2000000;
const EFD_CLOEXEC = 0o2000000;
const EFD_NONBLOCK = 0o4000;
const SOL_SOCKET = 1;
const SO_BROADCAST = 6;
const SO_SNDBUF = 7;
const SO_RCVBUF = 8;
const SO_REUSEPORT = 15;
const SO_RCVTIMEO = 20;
const IPPROTO_IP = 0;
const IP_PKTINFO = 8;
const IPPROTO_IPV6 = 41;
const IPV6_V6ONLY = 26;
const IPV6_RECVPKTINFO = 49;
const IPV6_PKTINFO = 50;
const SOL_UDP = 17;
const UDP_SEGMENT = 103;
const UDP_GRO = 104;
const MSG_DONTWAIT = 0x40;
const MSG_WAITFORONE = 0x10000;
/** events is the lower half of the second word, revents the upper. */
const POLLIN = 1;

const EINTR = 4;
const EIO = 5;
const EAGAIN = 11;
const EINVAL = 22;
const EAFNOSUPPORT = 97;
const ECONNREFUSED = 111;

const ERRORS: Record<
  number,
  [string, new (message: string) => Error, string]
> = {
  1: ["EPERM", Deno.errors.PermissionDenied, "Operation not permitted"],
  13: ["EACCES", Deno.errors.PermissionDenied, "Permission denied"],
  22: ["EINVAL", Error, "Invalid argument"],
  24: ["EMFILE", Error, "Too many open files"],
  90: ["EMSGSIZE", Error, "Message too long"],
  97: ["EAFNOSUPPORT", Error, "Address family not supported by protocol"],
  98: ["EADDRINUSE", Deno.errors.AddrInUse, "Address already in use"],
  99: [
    "EADDRNOTAVAIL",
    Deno.errors.AddrNotAvailable,
    "Cannot assign requested address",
  ],
  100: ["ENETDOWN", Error, "Network is down"],
  101: [
    "ENETUNREACH",
    Deno.errors.NetworkUnreachable,
    "Network is unreachable",
  ],
  105: ["ENOBUFS", Error, "No buffer space available"],
  111: ["ECONNREFUSED", Deno.errors.ConnectionRefused, "Connection refused"],
  113: ["EHOSTUNREACH", Error, "No route to host"],
};

const SERVER_BATCH = 64;
const SMALL_BYTES = 32;
const MAX_COALESCED_BYTES = 65_536;
const SEND_BYTES = 1 << 20;
/** UDP_MAX_SEGMENTS of older kernels. */
const MAX_SEGMENTS = 64;
const MAX_SEGMENTED_BYTES = 65_000;
const CACHED_ADDRESSES = 1 << 16;
const BUFFER_BYTES = 4 << 20;
const MAX_RECEIVE_FAILURES = 16;
const WAIT_US = 2000;
const TURN_MS = 1;
/** So many receives within so long make a socket a fast one. */
const STREAK = 8;
const STREAK_MS = 3;
const UNREF_MS = 5;

const NOTHING = new Uint8Array(0);

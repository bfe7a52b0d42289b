/**
 * The C library, through FFI. All of the project's dlopen, pointers and memory
 * that the kernel sees are in this file.
 *
 * Safety: the signatures are those of Linux on x86-64 and arm64, with glibc and
 * with musl, which {@linkcode libcMissing} makes sure of.
 *
 * @module
 */
import { EBADF, EINTR } from "./errno.ts";
import * as sys from "./layout.ts";

/** Memory that the kernel reads and writes. */
export interface Memory {
  readonly u8: Uint8Array<ArrayBuffer>;
  readonly u32: Uint32Array<ArrayBuffer>;
  /** Where it is. A number is exact: user space ends below 2 ** 48. */
  readonly address: number;
}

/**
 * The part of the C library that the engine uses. Calls return the values of
 * C's; a negative one is a failure, whose number `errno()` gives. Tests replace it.
 */
export interface Libc {
  /**
   * Zeroed memory for calls that are over when they return. It stays where it
   * is for as long as the object lives, unless a script detaches its buffer.
   */
  allocate(bytes: number): Memory;
  /** The error number of the call before. */
  errno(): number;
  socket(family: number, type: number, protocol: number): number;
  bind(fd: number, name: Memory, length: number): number;
  connect(fd: number, name: Memory, length: number): number;
  getsockname(fd: number, name: Memory, length: Memory): number;
  getsockopt(
    fd: number,
    level: number,
    option: number,
    value: Memory,
    length: Memory,
  ): number;
  setsockopt(
    fd: number,
    level: number,
    option: number,
    value: Memory,
    length: number,
  ): number;
  recvmmsg(fd: number, headers: Memory, count: number, flags: number): number;
  /** Sends the messages whose headers begin `offset` bytes into `headers`. */
  sendmmsg(
    fd: number,
    headers: Memory,
    offset: number,
    count: number,
    flags: number,
  ): number;
  /** Waits in this thread, at most for `timeout`, a struct timespec. */
  ppoll(fds: Memory, count: number, timeout: Memory): number;
  epollCreate(flags: number): number;
  epollControl(epoll: number, op: number, fd: number, event: Memory): number;
  /**
   * Waits on a thread of Deno's pool, in memory that is not the script's, since
   * the thread may outlive it; gives the events.
   */
  epollWait(epoll: number, timeoutMs: number): Promise<EpollEvent[]>;
  /** Ends the waits of this thread on time, not up to 50 us later. */
  endWaitsOnTime(): void;
  /** Resolves when another thread has run, which does nothing. */
  otherThread(): Promise<unknown>;
  /** The processor time of this thread, in milliseconds. */
  threadMs(): number;
  /** The wall clock, in milliseconds since 1970, to a fraction of a microsecond. */
  realtimeMs(): number;
  /** Reads, or sets, the kernel's state of the wall clock. */
  adjtimex(timex: Memory): number;
  /** The index of a network interface; 0 if there is none of this name. */
  interfaceIndex(name: string): number;
  /** Makes `to` a descriptor of the file of `from`. */
  dup(from: number, to: number): number;
  close(fd: number): number;
}

/** The events of a descriptor, as bits such as EPOLLIN. */
export interface EpollEvent {
  fd: number;
  events: number;
}

/** Why the C library cannot be used here; undefined if it can. */
export function libcMissing(): string | undefined {
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
    return (whatIsRefused ??= refused(loadLibc())) || undefined;
  } catch (error) {
    return `it needs the C library: ${(error as Error).message}`;
  }
}

/** The first call of the engine that a sandbox refuses; "" for none. */
export function refused(libc: Libc): string {
  const nothing = libc.allocate(8);
  const calls: Array<[string, () => number]> = [
    ["recvmmsg", () => libc.recvmmsg(-1, nothing, 0, 0)],
    ["sendmmsg", () => libc.sendmmsg(-1, nothing, 0, 0, 0)],
    ["ppoll", () => libc.ppoll(nothing, 0, libc.allocate(16))],
    ["epoll_ctl", () => libc.epollControl(-1, 0, -1, libc.allocate(16))],
  ];
  for (const [name, call] of calls) {
    if (call() >= 0) continue;
    // An allowed call reports that -1 is no descriptor, or is interrupted.
    const errno = libc.errno();
    if (errno !== EBADF && errno !== EINTR) {
      return `the system refuses ${name} (os error ${errno})`;
    }
  }
  return "";
}

let whatIsRefused: string | undefined;
let loaded: Libc | undefined;

/** The C library of this system, loaded once. */
export function loadLibc(): Libc {
  return loaded ??= bindLibc();
}

class KernelMemory implements Memory {
  readonly u8: Uint8Array<ArrayBuffer>;
  readonly u32: Uint32Array<ArrayBuffer>;
  readonly pointer: Deno.PointerObject;
  readonly address: number;

  constructor(bytes: number) {
    // Safety: an ArrayBuffer stays where it is and lives as long as this
    // object, unless it is detached, for which its users look; a small typed
    // array made by its length lives on V8's heap, and can move.
    const buffer = new ArrayBuffer(Math.ceil(bytes / 8) * 8);
    this.u8 = new Uint8Array(buffer);
    this.u32 = new Uint32Array(buffer);
    this.pointer = Deno.UnsafePointer.of(this.u8)!;
    this.address = Number(Deno.UnsafePointer.value(this.pointer));
  }
}

function bindLibc(): Libc {
  const { symbols } = openLibrary();
  // Safety: the place belongs to this thread, and stays as long as it does.
  // Nothing that sets errno runs between a call and the read of it.
  const errno = new Deno.UnsafePointerView(symbols.errnoPlace()!);
  const pointer = (memory: Memory) => (memory as KernelMemory).pointer;
  const time = new KernelMemory(sys.TIMESPEC_BYTES);
  const clockMs = (clock: number) => {
    symbols.clock_gettime(clock, time.pointer);
    return sys.stampMs(time.u32, 0);
  };
  // Safety: never freed, since a thread may write into it at any time, also
  // when the worker that asked for it is gone.
  const bytes = 4 * sys.MAX_EPOLL_EVENTS * sys.EPOLL_EVENT_WORDS;
  const events = symbols.calloc(1n, BigInt(bytes));
  if (events === null) throw new Error("out of memory");
  const found = new Uint32Array(
    Deno.UnsafePointerView.getArrayBuffer(events, bytes),
  );
  return {
    allocate: (bytes) => new KernelMemory(bytes),
    errno: () => errno.getInt32(),
    socket: symbols.socket,
    bind: (fd, name, length) => symbols.bind(fd, pointer(name), length),
    connect: (fd, name, length) => symbols.connect(fd, pointer(name), length),
    getsockname: (fd, name, length) =>
      symbols.getsockname(fd, pointer(name), pointer(length)),
    getsockopt: (fd, level, option, value, length) =>
      symbols.getsockopt(fd, level, option, pointer(value), pointer(length)),
    setsockopt: (fd, level, option, value, length) =>
      symbols.setsockopt(fd, level, option, pointer(value), length),
    recvmmsg: (fd, headers, count, flags) =>
      symbols.recvmmsg(fd, pointer(headers), count, flags, null),
    sendmmsg: (fd, headers, offset, count, flags) => {
      const first = offset === 0
        ? pointer(headers)
        : Deno.UnsafePointer.create(BigInt(headers.address + offset));
      return symbols.sendmmsg(fd, first, count, flags);
    },
    ppoll: (fds, count, timeout) =>
      symbols.ppoll(pointer(fds), BigInt(count), pointer(timeout), null),
    epollCreate: symbols.epoll_create1,
    epollControl: (epoll, op, fd, event) =>
      symbols.epoll_ctl(epoll, op, fd, pointer(event)),
    epollWait: async (epoll, timeoutMs) => {
      const most = sys.MAX_EPOLL_EVENTS;
      const length = await symbols.epoll_wait(epoll, events, most, timeoutMs);
      return Array.from({ length: Math.max(length, 0) }, (_, i) => ({
        fd: found[i * sys.EPOLL_EVENT_WORDS + sys.EPOLL_DATA_WORD]!,
        events: found[i * sys.EPOLL_EVENT_WORDS]!,
      }));
    },
    realtimeMs: () => clockMs(CLOCK_REALTIME),
    threadMs: () => clockMs(CLOCK_THREAD_CPUTIME_ID),
    endWaitsOnTime: () => symbols.prctl(PR_SET_TIMERSLACK, 1n, 0n, 0n, 0n),
    adjtimex: (timex) => symbols.adjtimex(pointer(timex)),
    interfaceIndex: (name) =>
      symbols.if_nametoindex(new TextEncoder().encode(`${name}\0`)),
    otherThread: symbols.sched_yield,
    dup: (from, to) => symbols.dup3(from, to, O_CLOEXEC),
    close: symbols.close,
  };
}

function openLibrary() {
  try {
    return Deno.dlopen("libc.so.6", SYMBOLS);
  } catch {
    return Deno.dlopen(`libc.musl-${Deno.build.arch}.so.1`, SYMBOLS);
  }
}

const CLOCK_REALTIME = 0;
const CLOCK_THREAD_CPUTIME_ID = 3;
const PR_SET_TIMERSLACK = 29;
const O_CLOEXEC = 0o2000000;

/** A function that returns an int. */
function int<T extends readonly Deno.NativeType[]>(...parameters: T) {
  return { parameters, result: "i32" } as const;
}

const SYMBOLS = {
  // int socket(int domain, int type, int protocol)
  socket: int("i32", "i32", "i32"),
  // int bind(int fd, const struct sockaddr *, socklen_t)
  bind: int("i32", "pointer", "u32"),
  // int connect(int fd, const struct sockaddr *, socklen_t)
  connect: int("i32", "pointer", "u32"),
  // int getsockname(int fd, struct sockaddr *, socklen_t *)
  getsockname: int("i32", "pointer", "pointer"),
  // int getsockopt(int fd, int level, int name, void *, socklen_t *)
  getsockopt: int("i32", "i32", "i32", "pointer", "pointer"),
  // int setsockopt(int fd, int level, int name, const void *, socklen_t)
  setsockopt: int("i32", "i32", "i32", "pointer", "u32"),
  // int recvmmsg(int fd, struct mmsghdr *, unsigned, int, struct timespec *)
  recvmmsg: int("i32", "pointer", "u32", "i32", "pointer"),
  // int sendmmsg(int fd, struct mmsghdr *, unsigned, int)
  sendmmsg: int("i32", "pointer", "u32", "i32"),
  // int ppoll(struct pollfd *, nfds_t, const struct timespec *, sigset_t *)
  ppoll: int("pointer", "u64", "pointer", "pointer"),
  // int epoll_create1(int)
  epoll_create1: int("i32"),
  // int epoll_ctl(int epoll, int op, int fd, struct epoll_event *)
  epoll_ctl: int("i32", "i32", "i32", "pointer"),
  // int epoll_wait(int, struct epoll_event *, int, int): on Deno's pool
  epoll_wait: { ...int("i32", "pointer", "i32", "i32"), nonblocking: true },
  // int clock_gettime(clockid_t, struct timespec *)
  clock_gettime: int("i32", "pointer"),
  // int prctl(int, unsigned long, unsigned long, unsigned long, unsigned long)
  prctl: int("i32", "u64", "u64", "u64", "u64"),
  // int adjtimex(struct timex *)
  adjtimex: int("pointer"),
  // void *calloc(size_t, size_t)
  calloc: { parameters: ["usize", "usize"], result: "pointer" },
  // unsigned if_nametoindex(const char *)
  if_nametoindex: { parameters: ["buffer"], result: "u32" },
  // int dup3(int from, int to, int flags)
  dup3: int("i32", "i32", "i32"),
  // int sched_yield(void): on Deno's pool
  sched_yield: { ...int(), nonblocking: true },
  // int close(int fd)
  close: int("i32"),
  // int *__errno_location(void)
  errnoPlace: { name: "__errno_location", parameters: [], result: "pointer" },
} as const satisfies Deno.ForeignLibraryInterface;

/**
 * The C library, through FFI. All of the project's dlopen, pointers and memory
 * that the kernel sees are in this file.
 *
 * Safety: the signatures are those of Linux on x86-64 and arm64, with glibc and
 * with musl, which {@linkcode libcMissing} makes sure of.
 *
 * @module
 */

/** Memory that the kernel reads and writes. */
export interface Memory {
  readonly u8: Uint8Array<ArrayBuffer>;
  readonly u32: Uint32Array<ArrayBuffer>;
  /** Where it is. A number is exact: user space ends below 2 ** 48. */
  readonly address: number;
}

/**
 * What the engine needs of the C library. Calls return what C's return; a
 * negative number is a failure, and `errno()` says which. Tests put their own
 * in its place.
 */
export interface Libc {
  /** Zeroed memory, which stays where it is for as long as the object lives. */
  allocate(bytes: number): Memory;
  /** The error number of the call before. */
  errno(): number;
  socket(family: number, type: number, protocol: number): number;
  bind(fd: number, name: Memory, length: number): number;
  connect(fd: number, name: Memory, length: number): number;
  getsockname(fd: number, name: Memory, length: Memory): number;
  setsockopt(
    fd: number,
    level: number,
    option: number,
    value: Memory,
    length: number,
  ): number;
  recvmmsg(fd: number, headers: Memory, count: number, flags: number): number;
  /** Sends the messages whose headers begin `offset` bytes into `headers`. */
  sendmmsg(fd: number, headers: Memory, offset: number, count: number): number;
  /** On a thread of its own. */
  poll(fds: Memory, count: number, timeoutMs: number): Promise<number>;
  eventfd(initial: number, flags: number): number;
  /** Reads 8 bytes, which is what an eventfd has. */
  readCounter(fd: number, counter: Memory): void;
  /** Writes 8 bytes. */
  writeCounter(fd: number, counter: Memory): void;
  close(fd: number): number;
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
    loadLibc();
  } catch (error) {
    return `it needs the C library: ${(error as Error).message}`;
  }
}

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
    // object; a small typed array made by its length lives on V8's heap, and
    // can move.
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
  return {
    allocate: (bytes) => new KernelMemory(bytes),
    errno: () => errno.getInt32(),
    socket: symbols.socket,
    bind: (fd, name, length) => symbols.bind(fd, pointer(name), length),
    connect: (fd, name, length) => symbols.connect(fd, pointer(name), length),
    getsockname: (fd, name, length) =>
      symbols.getsockname(fd, pointer(name), pointer(length)),
    setsockopt: (fd, level, option, value, length) =>
      symbols.setsockopt(fd, level, option, pointer(value), length),
    recvmmsg: (fd, headers, count, flags) =>
      symbols.recvmmsg(fd, pointer(headers), count, flags, null),
    sendmmsg: (fd, headers, offset, count) => {
      const first = offset === 0
        ? pointer(headers)
        : Deno.UnsafePointer.create(BigInt(headers.address + offset));
      return symbols.sendmmsg(fd, first, count, 0);
    },
    // Safety: the caller keeps `fds`, which the thread uses until it is done.
    poll: (fds, count, timeoutMs) =>
      symbols.poll(pointer(fds), BigInt(count), timeoutMs),
    eventfd: symbols.eventfd,
    readCounter: (fd, counter) => void symbols.read(fd, pointer(counter), 8n),
    writeCounter: (fd, counter) => void symbols.write(fd, pointer(counter), 8n),
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

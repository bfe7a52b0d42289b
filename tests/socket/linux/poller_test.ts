/** The waits of sockets for input and for room, on a fake C library. */
import { assertEquals, assertThrows } from "@std/assert";
import { Poller } from "../../../lib/socket/linux/poller.ts";
import { FakeLibc, idle, one } from "./fake_libc.ts";

/** The socket of the fake C library, and the descriptor that it has for epoll. */
const FD = 7, EPOLL_FD = 8;

function made() {
  const libc = new FakeLibc();
  const owned: number[] = [];
  const poller = new Poller(libc, (fd) => {
    owned.push(fd);
    return { fd, close: () => libc.closed.push(fd) };
  });
  return { libc, owned, poller };
}

/** Whether a promise has resolved by now. */
async function isOver(promise: Promise<void>): Promise<boolean> {
  let over = false;
  promise.then(() => over = true);
  await idle();
  return over;
}

Deno.test("Poller: ends all waits for one socket", async () => {
  const { libc, poller } = made();
  poller.add(FD, () => true);
  libc.hasRoom = false;
  const [first, second] = [poller.readable(FD), poller.readable(FD)];
  const room = poller.writable(FD);
  assertEquals(await isOver(first), false);
  libc.arrive(one("a"));
  await Promise.all([first, second]);
  assertEquals(await isOver(room), false);
  const more = poller.writable(FD);
  libc.hasRoom = true;
  await Promise.all([room, more]);
  await poller.remove(FD);
});

Deno.test("Poller: endReadable() ends waits for datagrams, not for room", async () => {
  const { libc, poller } = made();
  poller.add(FD, () => true);
  libc.hasRoom = false;
  const [input, room] = [poller.readable(FD), poller.writable(FD)];
  poller.endReadable(FD);
  await input;
  assertEquals(await isOver(room), false);
  libc.hasRoom = true;
  await room;
  await poller.remove(FD);
});

Deno.test("Poller: ends the waits for a socket that is removed", async () => {
  const { libc, owned, poller } = made();
  poller.add(FD, () => true);
  const waiting = poller.readable(FD);
  await poller.remove(FD);
  await waiting;
  assertEquals([owned, libc.closed], [[EPOLL_FD], [EPOLL_FD]]);
  await poller.readable(FD);
  await poller.writable(FD);
  for (const call of ["endReadable", "wake", "refresh"] as const) {
    poller[call](FD);
  }
  await poller.remove(FD);
  assertEquals(libc.closed, [EPOLL_FD]);
  // The next one gets a new epoll instance.
  poller.add(FD, () => true);
  assertEquals(owned, [EPOLL_FD, EPOLL_FD]);
  await poller.remove(FD);
});

Deno.test("Poller: adds no socket where there is no epoll", () => {
  const { libc, poller } = made();
  libc.epollCreate = () => -1;
  libc.errno = () => 24;
  assertThrows(() => poller.add(FD, () => true), Error, "os error 24");
});

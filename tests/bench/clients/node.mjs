// Node's dgram as a client, and Bun's: PORT WINDOW SECONDS.
// deno-lint-ignore-file no-console -- it is a program
import dgram from "node:dgram";
import process from "node:process";

const [port, window, seconds] = process.argv.slice(2).map(Number);
const socket = dgram.createSocket("udp4");
await new Promise((resolve) => socket.bind(0, "127.0.0.1", resolve));
await new Promise((resolve) => socket.connect(port, "127.0.0.1", resolve));
const waiting = new Map();
const times = [];
let sequence = 0;
let replies = 0;
let wrong = 0;
socket.on("message", (data) => {
  const resolve = waiting.get(data.readUInt32BE(0));
  if (resolve === undefined) return;
  waiting.delete(data.readUInt32BE(0));
  resolve(data);
});
async function loop(end) {
  while (performance.now() < end) {
    const sent = new Uint8Array(16).fill(sequence & 0xff, 4);
    for (let i = 0; i < 4; i++) sent[i] = sequence >>> (24 - 8 * i);
    const sentAt = performance.now();
    const data = await new Promise((resolve) => {
      waiting.set(sequence++, resolve);
      socket.send(sent);
    });
    if (times.length < 100_000) times.push(performance.now() - sentAt);
    replies++;
    let i = 0;
    while (i < 16 && data[i] === sent[i]) i++;
    if (i < 16 || data.length !== 16) wrong++;
  }
}
/** What is lost stays lost: it ends when its time is over. */
async function run(ms) {
  const end = performance.now() + ms;
  await Promise.race([
    Promise.all(Array.from({ length: window }, () => loop(end))),
    new Promise((resolve) => setTimeout(resolve, ms + 100)),
  ]);
}
// A first part warms up compilers, uncounted.
await run(1000 * seconds / 3);
waiting.clear();
times.length = replies = wrong = 0;
const before = process.cpuUsage();
const start = performance.now();
await run(1000 * seconds);
const tookMs = performance.now() - start;
const { user, system } = process.cpuUsage(before);
times.sort((a, b) => a - b);
console.log(JSON.stringify({
  repliesPerSecond: replies / tookMs * 1000,
  lost: waiting.size,
  wrong,
  cpuUs: (user + system) / replies,
  medianUs: 1000 * times[times.length >> 1],
}));
process.exit();

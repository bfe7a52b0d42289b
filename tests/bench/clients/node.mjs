// Node's dgram as a client, and Bun's: PORT WINDOW SECONDS.
// deno-lint-ignore-file no-console -- it is a program
import dgram from "node:dgram";

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
const start = performance.now();
const end = start + 1000 * seconds;
async function loop() {
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
// What is lost stays lost: the run ends when its time is over.
await Promise.race([
  Promise.all(Array.from({ length: window }, loop)),
  new Promise((resolve) => setTimeout(resolve, 1000 * seconds + 100)),
]);
const tookMs = performance.now() - start;
times.sort((a, b) => a - b);
console.log(JSON.stringify({
  repliesPerSecond: replies / tookMs * 1000,
  lost: waiting.size,
  wrong,
  medianUs: 1000 * times[times.length >> 1],
}));
process.exit();

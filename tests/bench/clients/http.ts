/** HTTP requests one after another, on one connection: PORT SECONDS. */
// deno-lint-ignore-file no-console -- it is a program
const [port, seconds] = Deno.args.map(Number);
const url = `http://127.0.0.1:${port}/`;
let replies = 0;
let wrong = 0;
const start = performance.now();
const end = start + 1000 * seconds!;
while (performance.now() < end) {
  if (await (await fetch(url)).text() !== "pong") wrong++;
  replies++;
}
const tookMs = performance.now() - start;
console.log(JSON.stringify({
  repliesPerSecond: replies / tookMs * 1000,
  lost: 0,
  wrong,
  medianUs: null,
}));
Deno.exit();
